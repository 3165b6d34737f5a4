
/*
 * One lookup in Redis for all who want a record.
 *
 * Requests of a worker that miss on one record share one lookup.  A request
 * that came after the record was invalidated does not join a lookup that began
 * before: the shard's generation tells them apart, as it does for the fill.
 * A lookup belongs to the worker, so that it fills the zone also when everybody
 * who waited has left.
 *
 * When another worker asks already (kg_zone_ask()) the lookup waits for that
 * one, and looks every few milliseconds whether it is over.  What came is in
 * the zone then; where it is not, because the other failed or died, or took
 * longer than Redis may, this one asks itself and waits for nobody again.
 */

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_LOOKUPS  64    /* buckets of those under way */
#define NGX_HTTP_KEYGATE_LOOK     2     /* ms between looks at another's */


struct ngx_http_keygate_lookup_s {
    ngx_queue_t                    queue;       /* in its bucket, or free */
    ngx_queue_t                    waiting;     /* ..._wanted_t */
    ngx_event_t                    look;        /* timer: another asks */
    ngx_msec_t                     patience;    /* ms: ... until then */
    ngx_http_keygate_guess_t      *guess;       /* of who began it, or NULL */
    kg_zone_entry_t                entry;
    ngx_http_keygate_main_conf_t  *conf;
    unsigned                       absent:1;    /* Redis has no record */
    u_char                         name[255];
};


static ngx_queue_t *ngx_http_keygate_bucket(
    ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name);
static ngx_http_keygate_lookup_t *ngx_http_keygate_lookup_find(
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_entry_t *entry);
static ngx_http_keygate_lookup_t *ngx_http_keygate_lookup_create(
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_entry_t *entry);
static void ngx_http_keygate_lookup_free(ngx_http_keygate_lookup_t *lookup);
static ngx_int_t ngx_http_keygate_lookup_ask(
    ngx_http_keygate_lookup_t *lookup, ngx_pool_t *pool);
static void ngx_http_keygate_look(ngx_event_t *ev);
static void ngx_http_keygate_looked_up(kg_redis_op_t *op);
static void ngx_http_keygate_lookup_end(ngx_http_keygate_lookup_t *lookup,
    const ngx_http_keygate_result_t *result);
static void ngx_http_keygate_deliver_all(ngx_queue_t *waiting,
    const ngx_http_keygate_result_t *result);
static void ngx_http_keygate_record(ngx_http_keygate_lookup_t *lookup,
    redisReply *reply, ngx_http_keygate_result_t *result, u_char *buf);


ngx_int_t
ngx_http_keygate_lookup_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_uint_t  i;

    mcf->lookups_busy = ngx_palloc(cycle->pool, NGX_HTTP_KEYGATE_LOOKUPS
                                                * sizeof(ngx_queue_t));
    if (mcf->lookups_busy == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_KEYGATE_LOOKUPS; i++) {
        ngx_queue_init(&mcf->lookups_busy[i]);
    }

    ngx_queue_init(&mcf->lookups_free);

    return NGX_OK;
}


ngx_uint_t
ngx_http_keygate_lookup_begun(ngx_http_keygate_main_conf_t *mcf,
    const kg_zone_entry_t *entry)
{
    return entry->asked || ngx_http_keygate_lookup_find(mcf, entry) != NULL;
}


ngx_int_t
ngx_http_keygate_lookup_join(ngx_http_keygate_main_conf_t *mcf,
    ngx_http_keygate_wanted_t *wanted)
{
    ngx_msec_t                  bound;
    ngx_http_keygate_lookup_t  *lookup;

    lookup = ngx_http_keygate_lookup_find(mcf, &wanted->entry);

    if (lookup == NULL) {
        lookup = ngx_http_keygate_lookup_create(mcf, &wanted->entry);
        if (lookup == NULL) {
            return NGX_ERROR;
        }

        lookup->guess = wanted->ctx->guess;
        ngx_http_keygate_guess_asks(lookup->guess);

        bound = mcf->redis[NGX_HTTP_KEYGATE_RECORDS]->command;

        if (!kg_zone_ask(mcf->zone, &lookup->entry, ngx_current_msec, bound)) {
            lookup->patience = ngx_current_msec + bound;
            ngx_add_timer(&lookup->look, NGX_HTTP_KEYGATE_LOOK);

        } else if (ngx_http_keygate_lookup_ask(lookup,
                                               wanted->ctx->request->pool)
                   != NGX_OK)
        {
            ngx_http_keygate_lookup_free(lookup);
            return NGX_ERROR;
        }
    }

    wanted->lookup = lookup;
    ngx_queue_insert_tail(&lookup->waiting, &wanted->queue);

    return NGX_OK;
}


static ngx_queue_t *
ngx_http_keygate_bucket(ngx_http_keygate_main_conf_t *mcf,
    const ngx_str_t *name)
{
    uint32_t  hash;

    hash = ngx_murmur_hash2(name->data, name->len);

    return &mcf->lookups_busy[hash % NGX_HTTP_KEYGATE_LOOKUPS];
}


static ngx_http_keygate_lookup_t *
ngx_http_keygate_lookup_find(ngx_http_keygate_main_conf_t *mcf,
    const kg_zone_entry_t *entry)
{
    ngx_queue_t                *bucket, *q;
    ngx_http_keygate_lookup_t  *lookup;

    bucket = ngx_http_keygate_bucket(mcf, &entry->name);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        lookup = ngx_queue_data(q, ngx_http_keygate_lookup_t, queue);

        if (lookup->entry.kind == entry->kind
            && lookup->entry.generation == entry->generation
            && lookup->entry.name.len == entry->name.len
            && ngx_memcmp(lookup->entry.name.data, entry->name.data,
                          entry->name.len)
               == 0)
        {
            return lookup;
        }
    }

    return NULL;
}


static ngx_http_keygate_lookup_t *
ngx_http_keygate_lookup_create(ngx_http_keygate_main_conf_t *mcf,
    const kg_zone_entry_t *entry)
{
    ngx_queue_t                *q;
    ngx_http_keygate_lookup_t  *lookup;

    if (entry->name.len > sizeof(lookup->name)) {
        return NULL;
    }

    if (ngx_queue_empty(&mcf->lookups_free)) {
        lookup = ngx_palloc(ngx_cycle->pool,
                            sizeof(ngx_http_keygate_lookup_t));
        if (lookup == NULL) {
            return NULL;
        }

    } else {
        q = ngx_queue_head(&mcf->lookups_free);
        ngx_queue_remove(q);
        lookup = ngx_queue_data(q, ngx_http_keygate_lookup_t, queue);
    }

    ngx_memzero(lookup, sizeof(ngx_http_keygate_lookup_t));

    lookup->conf = mcf;
    lookup->entry = *entry;
    lookup->entry.name.data = lookup->name;
    ngx_memcpy(lookup->name, entry->name.data, entry->name.len);

    lookup->look.data = lookup;
    lookup->look.handler = ngx_http_keygate_look;
    lookup->look.log = ngx_cycle->log;

    ngx_queue_init(&lookup->waiting);
    ngx_queue_insert_tail(ngx_http_keygate_bucket(mcf, &entry->name),
                          &lookup->queue);

    return lookup;
}


/* Nobody waits for it, or those who do are not in its list. */

static void
ngx_http_keygate_lookup_free(ngx_http_keygate_lookup_t *lookup)
{
    ngx_http_keygate_guess_answered(lookup->guess, lookup->absent);

    ngx_queue_remove(&lookup->queue);
    ngx_queue_insert_head(&lookup->conf->lookups_free, &lookup->queue);
}


/* The pool is for the time of the call.  NGX_OK, or NGX_ERROR for no memory. */

static ngx_int_t
ngx_http_keygate_lookup_ask(ngx_http_keygate_lookup_t *lookup,
    ngx_pool_t *pool)
{
    ngx_str_t                      argv[2], slot;
    kg_redis_cmd_t                 cmd;
    kg_zone_entry_t               *entry;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         hex[KG_DIGEST_HEX];

    mcf = lookup->conf;
    entry = &lookup->entry;

    slot = entry->name;

    if (entry->kind == KG_ZONE_KEY) {
        kg_hex(hex, entry->name.data, KG_DIGEST_LEN);
        slot.len = KG_DIGEST_HEX;
        slot.data = hex;
    }

    ngx_str_set(&argv[0], "GET");
    argv[1] = ngx_http_keygate_name(pool,
                                    mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                    entry->kind == KG_ZONE_KEY ? "key" : "org",
                                    &slot, NULL);
    if (argv[1].data == NULL) {
        goto failed;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = 2;
    cmd.argv = argv;
    cmd.slot = slot;
    cmd.handler = ngx_http_keygate_looked_up;
    cmd.data = lookup;

    if (kg_redis_submit(mcf->client[NGX_HTTP_KEYGATE_RECORDS], &cmd)) {
        return NGX_OK;
    }

failed:

    kg_zone_answered(mcf->zone, entry);

    return NGX_ERROR;
}


/* Is the other's lookup over?  Runs from a timer. */

static void
ngx_http_keygate_look(ngx_event_t *ev)
{
    ngx_queue_t                   *q, *next, served;
    kg_zone_t                     *zone;
    ngx_pool_t                    *pool;
    kg_zone_entry_t               *entry;
    ngx_http_keygate_lookup_t     *lookup;
    ngx_http_keygate_wanted_t     *wanted;
    ngx_http_keygate_result_t      unknown;

    lookup = ev->data;
    zone = lookup->conf->zone;

    if (ngx_queue_empty(&lookup->waiting)) {
        ngx_http_keygate_lookup_free(lookup);
        return;
    }

    if ((ngx_msec_int_t) (lookup->patience - ngx_current_msec) > 0
        && kg_zone_asked(zone, &lookup->entry, ngx_current_msec))
    {
        ngx_add_timer(&lookup->look, NGX_HTTP_KEYGATE_LOOK);
        return;
    }

    pool = NULL;
    ngx_queue_init(&served);

    for (q = ngx_queue_head(&lookup->waiting);
         q != ngx_queue_sentinel(&lookup->waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        wanted = ngx_queue_data(q, ngx_http_keygate_wanted_t, queue);
        entry = &wanted->entry;

        if (kg_zone_lookup(zone, entry, ngx_current_msec,
                           wanted->ctx->request->pool)
            == NGX_OK
            && entry->found && entry->fresh)
        {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&served, q);
            continue;
        }

        /* Who comes now may join, who came before has seen no other. */

        lookup->entry.generation = entry->generation;
        pool = wanted->ctx->request->pool;
    }

    if (pool == NULL) {
        ngx_http_keygate_lookup_free(lookup);

    } else {
        (void) kg_zone_ask(zone, &lookup->entry, ngx_current_msec,
                     lookup->conf->redis[NGX_HTTP_KEYGATE_RECORDS]->command);

        if (ngx_http_keygate_lookup_ask(lookup, pool) != NGX_OK) {
            ngx_memzero(&unknown, sizeof(ngx_http_keygate_result_t));
            ngx_http_keygate_lookup_end(lookup, &unknown);
        }
    }

    ngx_http_keygate_deliver_all(&served, NULL);
}


static void
ngx_http_keygate_looked_up(kg_redis_op_t *op)
{
    ngx_http_keygate_lookup_t  *lookup;
    ngx_http_keygate_result_t   result;
    u_char                      buf[KG_RECORD_MAX];

    lookup = op->data;

    ngx_memzero(&result, sizeof(ngx_http_keygate_result_t));

    if (op->status == KG_REDIS_REPLY) {
        ngx_http_keygate_record(lookup, op->reply, &result, buf);

    } else if (op->status == KG_REDIS_REFUSED
               && op->error == KG_REDIS_ERR_WRONGTYPE)
    {
        /* Somebody wrote a value of another type under the record's name. */

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keygate: a record of %s is not a string in Redis",
                      lookup->entry.kind == KG_ZONE_KEY ? "a key"
                                                        : "an organisation");
        result.denied = 1;
        result.denial = KG_ERR_INTERNAL_ERROR;
    }

    kg_zone_answered(lookup->conf->zone, &lookup->entry);

    ngx_http_keygate_lookup_end(lookup, &result);
}


/* What goes on may begin a lookup, in this one's memory. */

static void
ngx_http_keygate_lookup_end(ngx_http_keygate_lookup_t *lookup,
    const ngx_http_keygate_result_t *result)
{
    ngx_queue_t  waiting;

    ngx_queue_init(&waiting);
    ngx_queue_add(&waiting, &lookup->waiting);
    ngx_queue_init(&lookup->waiting);

    lookup->absent = (result->known && result->packed.len == 0);

    ngx_http_keygate_lookup_free(lookup);

    ngx_http_keygate_deliver_all(&waiting, result);
}


/* A request that goes on may end others that wait here. */

static void
ngx_http_keygate_deliver_all(ngx_queue_t *waiting,
    const ngx_http_keygate_result_t *result)
{
    ngx_queue_t                *q;
    ngx_http_keygate_wanted_t  *wanted;

    while (!ngx_queue_empty(waiting)) {
        q = ngx_queue_head(waiting);

        wanted = ngx_queue_data(q, ngx_http_keygate_wanted_t, queue);

        ngx_http_keygate_deliver(wanted, result);
    }
}


/* The record packed into buf, of KG_RECORD_MAX bytes, and into the zone. */

static void
ngx_http_keygate_record(ngx_http_keygate_lookup_t *lookup, redisReply *reply,
    ngx_http_keygate_result_t *result, u_char *buf)
{
    size_t       len;
    kg_rc_t      rc;
    kg_str_t     json;
    const char  *why;

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        result->known = 1;
        kg_zone_fill(lookup->conf->zone, &lookup->entry, NULL,
                     ngx_current_msec);
        return;
    }

    /* A reply of another shape says nothing, as none would. */

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return;
    }

    json.data = (u_char *) reply->str;
    json.len = reply->len;

    why = "it is too large";

    if (lookup->entry.kind == KG_ZONE_KEY) {
        rc = kg_key_pack(&json, buf, KG_RECORD_MAX, &len, &why);

    } else {
        rc = kg_org_pack(&json, buf, KG_RECORD_MAX, &len, &why);
    }

    if (rc == KG_OK) {
        result->known = 1;
        result->packed.data = buf;
        result->packed.len = len;

        kg_zone_fill(lookup->conf->zone, &lookup->entry, &result->packed,
                     ngx_current_msec);
        return;
    }

    result->denied = 1;
    result->denial = KG_ERR_INTERNAL_ERROR;

    /* The name of a key's record is its digest, which no log has. */

    if (lookup->entry.kind == KG_ZONE_KEY) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keygate: a key's record in Redis is not valid: %s",
                      why);
    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keygate: the record of organisation \"%V\" in Redis "
                      "is not valid: %s", &lookup->entry.name, why);
    }
}
