
/*
 * Who on this node is told of changed records: one worker, which runs the
 * watch of kg_redis_watch.h and tells the zone.
 *
 * Each worker looks, some times a second, whether there is one, and becomes it
 * when there is none.  One that stops gives it up at once, so a reload has no
 * longer gap than that.  In a gap nothing is stale: records are revalidated.
 */

#include "ngx_http_keygate.h"
#include "kg_redis_watch.h"


#define NGX_HTTP_KEYGATE_WATCH_TICK  250    /* ms */


struct ngx_http_keygate_watch_s {
    kg_zone_t                     *zone;
    const kg_redis_conf_t         *conf;
    ngx_msec_t                     valid;

    kg_redis_watch_t              *redis;       /* NULL: another's turn */
    ngx_event_t                    tick;
    ngx_cycle_t                   *cycle;
};


static void ngx_http_keygate_watch_tick(ngx_event_t *ev);
static void ngx_http_keygate_watch_stop(ngx_http_keygate_watch_t *watch);
static void ngx_http_keygate_watch_begun(void *data, kg_redis_tells_t tells,
    const ngx_str_t *why);
static void ngx_http_keygate_watch_changed(void *data, const ngx_str_t *name);
static ngx_uint_t ngx_http_keygate_watch_slot(ngx_str_t *slot,
    const ngx_str_t *ns, const char *kind);
static void ngx_http_keygate_watch_flushed(void *data);
static void ngx_http_keygate_watch_alive(void *data, ngx_msec_t sent);
static void ngx_http_keygate_watch_lost(void *data, const char *why);


static const kg_redis_watch_handlers_t  ngx_http_keygate_watch_handlers = {
    ngx_http_keygate_watch_begun,
    ngx_http_keygate_watch_changed,
    ngx_http_keygate_watch_flushed,
    ngx_http_keygate_watch_alive,
    ngx_http_keygate_watch_lost
};


ngx_int_t
ngx_http_keygate_watch_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_http_keygate_watch_t  *watch;

    /* The cache manager runs init_process too, and exits without a word. */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    watch = ngx_pcalloc(cycle->pool, sizeof(ngx_http_keygate_watch_t));
    if (watch == NULL) {
        return NGX_ERROR;
    }

    watch->zone = mcf->zone;
    watch->conf = mcf->redis[NGX_HTTP_KEYGATE_RECORDS];
    watch->valid = mcf->valid;
    watch->cycle = cycle;

    watch->tick.data = watch;
    watch->tick.handler = ngx_http_keygate_watch_tick;
    watch->tick.log = cycle->log;
    watch->tick.cancelable = 1;

    mcf->watch = watch;

    ngx_add_timer(&watch->tick, 1);

    return NGX_OK;
}


void
ngx_http_keygate_watch_exit(ngx_http_keygate_main_conf_t *mcf)
{
    if (mcf->watch) {
        ngx_http_keygate_watch_stop(mcf->watch);
    }
}


void
ngx_http_keygate_changed(ngx_http_keygate_main_conf_t *mcf, ngx_pool_t *pool,
    kg_zone_kind_t kind, const ngx_str_t *zone_name)
{
    ngx_str_t  slot, name;
    u_char     hex[KG_DIGEST_HEX];

    kg_zone_invalidate(mcf->zone, kind, zone_name);

    slot = *zone_name;

    if (kind == KG_ZONE_KEY) {
        kg_hex(hex, zone_name->data, KG_DIGEST_LEN);
        slot.data = hex;
        slot.len = KG_DIGEST_HEX;
    }

    name = ngx_http_keygate_name(pool, mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                 kind == KG_ZONE_KEY ? "key" : "org", &slot,
                                 NULL);

    /* After valid= every node has asked for the record by itself. */

    if (name.data) {
        kg_redis_watch_publish(mcf->client[NGX_HTTP_KEYGATE_RECORDS], &name,
                               mcf->valid);
    }
}


static void
ngx_http_keygate_watch_tick(ngx_event_t *ev)
{
    ngx_http_keygate_watch_t  *watch;

    watch = ev->data;

    if (ngx_exiting || !kg_zone_watch_take(watch->zone, ngx_current_msec)) {
        ngx_http_keygate_watch_stop(watch);

    } else if (watch->redis == NULL) {
        watch->redis = kg_redis_watch_create(watch->cycle, watch->conf,
                                             &ngx_http_keygate_watch_handlers,
                                             watch);
    }

    if (!ngx_exiting) {
        ngx_add_timer(&watch->tick, NGX_HTTP_KEYGATE_WATCH_TICK);
    }
}


static void
ngx_http_keygate_watch_stop(ngx_http_keygate_watch_t *watch)
{
    kg_zone_watch_lost(watch->zone, 1);

    if (watch->redis) {
        kg_redis_watch_destroy(watch->redis);
        watch->redis = NULL;
    }
}


static void
ngx_http_keygate_watch_begun(void *data, kg_redis_tells_t tells,
    const ngx_str_t *why)
{
    ngx_http_keygate_watch_t  *watch = data;

    kg_zone_watch_begin(watch->zone,
                        tells == KG_REDIS_TELLS_ALL ? KG_ZONE_WATCHED
                                                    : KG_ZONE_UNTOLD);

    if (tells == KG_REDIS_TELLS_ALL) {
        ngx_log_error(NGX_LOG_NOTICE, watch->cycle->log, 0,
                      "keygate: %V tells of every change of a record",
                      &watch->conf->name);
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, watch->cycle->log, 0,
                  "keygate: %V refuses tracking (%V): changes by %s are seen "
                  "within the time of valid=, %M ms",
                  &watch->conf->name, why,
                  tells == KG_REDIS_TELLS_OURS
                  ? "other writers than the administration interface"
                  : "any writer on another node",
                  watch->valid);
}


/* <ns>:key:{<digest in hex>} or <ns>:org:{<id>}; anything else is not ours. */

static void
ngx_http_keygate_watch_changed(void *data, const ngx_str_t *name)
{
    ngx_http_keygate_watch_t  *watch = data;

    ngx_str_t  slot;
    u_char     digest[KG_DIGEST_LEN];

    slot = *name;

    if (ngx_http_keygate_watch_slot(&slot, &watch->conf->ns, ":key:{")) {

        if (kg_unhex(digest, KG_DIGEST_LEN, ngx_http_keygate_kg(&slot))
            == KG_OK)
        {
            slot.data = digest;
            slot.len = KG_DIGEST_LEN;
            kg_zone_invalidate(watch->zone, KG_ZONE_KEY, &slot);
        }

        return;
    }

    if (ngx_http_keygate_watch_slot(&slot, &watch->conf->ns, ":org:{")
        && kg_org_id_valid(ngx_http_keygate_kg(&slot)))
    {
        kg_zone_invalidate(watch->zone, KG_ZONE_ORG, &slot);
    }
}


/* 1 when the name is of that kind; then slot is what its braces hold. */

static ngx_uint_t
ngx_http_keygate_watch_slot(ngx_str_t *slot, const ngx_str_t *ns,
    const char *kind)
{
    size_t  len;

    len = ngx_strlen(kind);

    if (slot->len < ns->len + len + 1
        || ngx_strncmp(slot->data, ns->data, ns->len) != 0
        || ngx_strncmp(slot->data + ns->len, kind, len) != 0
        || slot->data[slot->len - 1] != '}')
    {
        return 0;
    }

    slot->data += ns->len + len;
    slot->len -= ns->len + len + 1;

    return 1;
}


static void
ngx_http_keygate_watch_flushed(void *data)
{
    ngx_http_keygate_watch_t  *watch = data;

    kg_zone_watch_flush(watch->zone);
}


static void
ngx_http_keygate_watch_alive(void *data, ngx_msec_t sent)
{
    ngx_http_keygate_watch_t  *watch = data;

    kg_zone_watch_trust(watch->zone, sent, sent + KG_REDIS_WATCH_BOUND);
}


/* A worker that leaves is replaced by another, and nothing needs be said. */

static void
ngx_http_keygate_watch_lost(void *data, const char *why)
{
    ngx_http_keygate_watch_t  *watch = data;

    kg_zone_watch_lost(watch->zone, ngx_exiting);

    if (!ngx_exiting) {
        ngx_log_error(NGX_LOG_NOTICE, watch->cycle->log, 0,
                      "keygate: %V does not tell of changes any more, %s: "
                      "records are asked for at each use",
                      &watch->conf->name, why);
    }
}
