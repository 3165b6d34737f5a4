
/*
 * Looking a record up: in the zone, else in Redis.
 *
 * Requests of a worker that miss on one record share one lookup.  A request
 * that came after the record was invalidated does not join a lookup that began
 * before: the shard's generation tells them apart, as it does for the fill.
 * A lookup belongs to the worker, so that it fills the zone also when everybody
 * who waited has left.
 *
 * When Redis cannot be asked an older record serves for keygate_outage
 * keys=stale:, and then the answer is 503: an outage never looks like bad
 * credentials.
 */

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_LOOKUPS  64    /* buckets of those under way */


struct ngx_http_keygate_lookup_s {
    ngx_queue_t                    queue;       /* in its bucket, or free */
    ngx_queue_t                    waiting;     /* of ctx->queue */
    kg_zone_entry_t                entry;
    ngx_http_keygate_main_conf_t  *conf;
    u_char                         name[255];
};


/* What came of it, for everybody who waits. */
typedef struct {
    ngx_str_t                      packed;      /* empty: there is none */
    kg_error_code_t                denial;
    unsigned                       known:1;     /* Redis has said */
    unsigned                       denied:1;
} ngx_http_keygate_result_t;


static ngx_int_t ngx_http_keygate_join(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_main_conf_t *mcf);
static ngx_http_keygate_lookup_t *ngx_http_keygate_lookup_begin(
    ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, ngx_queue_t *bucket);
static ngx_queue_t *ngx_http_keygate_bucket(
    ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name);
static void ngx_http_keygate_looked_up(kg_redis_op_t *op);
static void ngx_http_keygate_record(ngx_http_keygate_lookup_t *lookup,
    redisReply *reply, ngx_http_keygate_result_t *result, u_char *buf);
static void ngx_http_keygate_deliver(ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_result_t *result);


ngx_int_t
ngx_http_keygate_fetch(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_zone_kind_t kind, ngx_str_t *name)
{
    ngx_http_keygate_main_conf_t  *mcf;

    if (ctx->fetched) {
        ctx->fetched = 0;
        return (ctx->entry.found && !ctx->entry.absent) ? NGX_OK
                                                        : NGX_DECLINED;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    ctx->entry.kind = kind;
    ctx->entry.name = *name;

    if (kg_zone_lookup(mcf->zone, &ctx->entry, ngx_current_msec, r->pool)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->entry.found && ctx->entry.fresh) {
        return ctx->entry.absent ? NGX_DECLINED : NGX_OK;
    }

    /* A key the zone has had, or an organisation's record, is no guess. */

    if (kind == KG_ZONE_KEY && (!ctx->entry.found || ctx->entry.absent)
        && ngx_http_keygate_failures_many(r, ctx)
        && !ngx_http_keygate_failures_lookup(r))
    {
        return ngx_http_keygate_deny(ctx, KG_ERR_TOO_MANY_FAILURES, NULL);
    }

    ctx->retry_after = 0;

    return ngx_http_keygate_join(r, ctx, mcf);
}


/* Waits for a lookup of the record, begun when there is none. */

static ngx_int_t
ngx_http_keygate_join(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf)
{
    kg_zone_entry_t            *entry;
    ngx_queue_t                *bucket, *q;
    ngx_http_keygate_lookup_t  *lookup;

    bucket = ngx_http_keygate_bucket(mcf, &ctx->entry.name);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        lookup = ngx_queue_data(q, ngx_http_keygate_lookup_t, queue);
        entry = &lookup->entry;

        if (entry->kind == ctx->entry.kind
            && entry->generation == ctx->entry.generation
            && entry->name.len == ctx->entry.name.len
            && ngx_memcmp(entry->name.data, ctx->entry.name.data,
                          entry->name.len)
               == 0)
        {
            goto found;
        }
    }

    lookup = ngx_http_keygate_lookup_begin(r, ctx, mcf, bucket);

    if (lookup == NULL) {
        return NGX_ERROR;
    }

found:

    ngx_queue_insert_tail(&lookup->waiting, &ctx->queue);
    ctx->lookup = lookup;

    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


static ngx_http_keygate_lookup_t *
ngx_http_keygate_lookup_begin(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_main_conf_t *mcf,
    ngx_queue_t *bucket)
{
    ngx_str_t                   argv[2], slot;
    ngx_queue_t                *q;
    kg_redis_cmd_t              cmd;
    kg_zone_entry_t            *entry;
    ngx_http_keygate_lookup_t  *lookup;
    u_char                      hex[KG_DIGEST_HEX];

    entry = &ctx->entry;

    if (entry->name.len > sizeof(lookup->name)) {
        return NULL;
    }

    if (entry->kind == KG_ZONE_KEY) {
        kg_hex(hex, entry->name.data, KG_DIGEST_LEN);
        slot.len = KG_DIGEST_HEX;
        slot.data = hex;

    } else {
        slot = entry->name;
    }

    ngx_str_set(&argv[0], "GET");
    argv[1] = ngx_http_keygate_name(r->pool,
                                    mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                    entry->kind == KG_ZONE_KEY ? "key" : "org",
                                    &slot, NULL);
    if (argv[1].data == NULL) {
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

    lookup->conf = mcf;
    lookup->entry = *entry;
    lookup->entry.name.data = lookup->name;
    ngx_memcpy(lookup->name, entry->name.data, entry->name.len);
    ngx_queue_init(&lookup->waiting);

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = 2;
    cmd.argv = argv;
    cmd.slot = slot;
    cmd.handler = ngx_http_keygate_looked_up;
    cmd.data = lookup;

    if (kg_redis_submit(mcf->client[NGX_HTTP_KEYGATE_RECORDS], &cmd) == NULL) {
        ngx_queue_insert_head(&mcf->lookups_free, &lookup->queue);
        return NULL;
    }

    ngx_queue_insert_tail(bucket, &lookup->queue);

    return lookup;
}


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


void
ngx_http_keygate_lookup_leave(ngx_http_keygate_ctx_t *ctx)
{
    if (ctx->lookup) {
        ngx_queue_remove(&ctx->queue);
        ctx->lookup = NULL;
    }
}


static ngx_queue_t *
ngx_http_keygate_bucket(ngx_http_keygate_main_conf_t *mcf,
    const ngx_str_t *name)
{
    uint32_t  hash;

    hash = ngx_murmur_hash2(name->data, name->len);

    return &mcf->lookups_busy[hash % NGX_HTTP_KEYGATE_LOOKUPS];
}


static void
ngx_http_keygate_looked_up(kg_redis_op_t *op)
{
    ngx_queue_t                *q;
    ngx_http_keygate_ctx_t     *ctx;
    ngx_http_keygate_lookup_t  *lookup;
    ngx_http_keygate_result_t   result;
    u_char                      buf[KG_RECORD_MAX];

    lookup = op->data;

    ngx_queue_remove(&lookup->queue);

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

    /* A request that goes on may end others that wait here. */

    while (!ngx_queue_empty(&lookup->waiting)) {
        q = ngx_queue_head(&lookup->waiting);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        ctx->lookup = NULL;

        ngx_http_keygate_deliver(ctx, &result);
        ngx_http_keygate_continue(ctx);
    }

    ngx_queue_insert_head(&lookup->conf->lookups_free, &lookup->queue);
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


/* The result into the entry of a request that waited. */

static void
ngx_http_keygate_deliver(ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_result_t *result)
{
    kg_zone_entry_t               *entry;
    ngx_http_keygate_main_conf_t  *mcf;

    ctx->fetched = 1;
    entry = &ctx->entry;

    if (result->denied) {
        entry->found = 0;
        (void) ngx_http_keygate_deny(ctx, result->denial, NULL);
        return;
    }

    if (!result->known) {
        mcf = ngx_http_get_module_main_conf(ctx->request,
                                            ngx_http_keygate_module);

        /* What was cached serves on for a while; an absence does not. */

        if (entry->found && !entry->absent
            && entry->age < mcf->valid + mcf->stale)
        {
            ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log,
                           0, "keygate uses a record %M ms old", entry->age);
            return;
        }

        entry->found = 0;
        ctx->retry_after = 1;
        (void) ngx_http_keygate_deny(ctx, KG_ERR_SERVICE_UNAVAILABLE, NULL);
        return;
    }

    entry->found = 1;
    entry->absent = (result->packed.len == 0);

    if (entry->absent) {
        return;
    }

    entry->packed.len = result->packed.len;
    entry->packed.data = ngx_pnalloc(ctx->request->pool, result->packed.len);

    if (entry->packed.data == NULL) {
        entry->found = 0;
        (void) ngx_http_keygate_deny(ctx, KG_ERR_INTERNAL_ERROR, NULL);
        return;
    }

    ngx_memcpy(entry->packed.data, result->packed.data, result->packed.len);
}
