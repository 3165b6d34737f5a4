
/*
 * Looking records up: in the zone, else in Redis.
 *
 * A request says what it wants, one record or, for a key, one under each
 * pepper, and what the zone lacks of that is asked for at once, in one write.
 * It goes on when the last answer is there, in whichever order they come, and
 * of several records the first wins: it is the same one whatever was cached.
 *
 * When Redis cannot be asked an older record serves for keygate_outage
 * keys=stale:, and then the answer is 503: an outage never looks like bad
 * credentials.
 *
 * Who asks, when many want the same, is ngx_http_keygate_lookup_redis.c.
 */

#include "ngx_http_keygate.h"


static ngx_int_t ngx_http_keygate_fetch_missing(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_fetch_first(ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_unreachable(ngx_http_keygate_wanted_t *wanted);


ngx_int_t
ngx_http_keygate_want(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_zone_kind_t kind, const ngx_str_t *name)
{
    ngx_http_keygate_wanted_t     *wanted;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    if (ctx->wanted == NULL) {
        ctx->wanted = ngx_palloc(r->pool, mcf->peppers.nelts
                                          * sizeof(ngx_http_keygate_wanted_t));
        if (ctx->wanted == NULL) {
            return NGX_ERROR;
        }
    }

    if (ctx->nwanted == mcf->peppers.nelts) {
        return NGX_ERROR;
    }

    wanted = &ctx->wanted[ctx->nwanted++];

    wanted->ctx = ctx;
    wanted->lookup = NULL;
    wanted->denied = 0;
    wanted->was_absent = 0;
    wanted->entry.kind = kind;
    wanted->entry.name = *name;

    if (kind == KG_ZONE_KEY) {
        ngx_memcpy(wanted->digest, name->data, KG_DIGEST_LEN);
        wanted->entry.name.data = wanted->digest;
    }

    if (kg_zone_lookup(mcf->zone, &wanted->entry, ngx_current_msec, r->pool)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    wanted->settled = (wanted->entry.found && wanted->entry.fresh);

    return (wanted->entry.found && !wanted->entry.absent) ? NGX_OK
                                                          : NGX_DECLINED;
}


ngx_int_t
ngx_http_keygate_fetch(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ctx->fetched ? NGX_OK : ngx_http_keygate_fetch_missing(r, ctx);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_fetch_first(ctx);
    }

    ctx->fetched = 0;
    ctx->nwanted = 0;

    return rc;
}


/* NGX_OK: nothing is missing.  NGX_DECLINED: it may not be asked for. */

static ngx_int_t
ngx_http_keygate_fetch_missing(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i, asks, known;
    ngx_http_keygate_wanted_t     *wanted;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    asks = 0;
    known = 0;

    for (i = 0; i < ctx->nwanted; i++) {
        wanted = &ctx->wanted[i];

        /* A key the zone has had, or an organisation's record, is no guess. */

        if (wanted->entry.kind != KG_ZONE_KEY
            || (wanted->entry.found && !wanted->entry.absent))
        {
            known = 1;
        }

        if (!wanted->settled
            && !ngx_http_keygate_lookup_begun(mcf, &wanted->entry))
        {
            asks++;
        }
    }

    if (asks && !known) {
        rc = ngx_http_keygate_guess(r, ctx, asks);

        if (rc == NGX_AGAIN) {

            /* By then the zone may have them: they are wanted anew. */

            ctx->pepper -= ctx->nwanted;
            ctx->nwanted = 0;
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    for (i = 0; i < ctx->nwanted; i++) {
        wanted = &ctx->wanted[i];

        if (wanted->settled) {
            continue;
        }

        if (ngx_http_keygate_lookup_join(mcf, wanted) != NGX_OK) {
            ngx_http_keygate_lookup_leave(ctx);
            return NGX_ERROR;
        }

        ctx->waiting++;
    }

    if (ctx->waiting == 0) {
        return NGX_OK;
    }

    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


/*
 * The first of what was wanted that there is.  One of which nothing could be
 * learned ends the search: what comes after it might not be the first.  But an
 * absence that nobody can confirm now does not hide a record under an older
 * pepper, which serves on as well.
 */

static ngx_int_t
ngx_http_keygate_fetch_first(ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_http_keygate_wanted_t  *wanted, *denied;

    denied = NULL;

    for (i = 0; i < ctx->nwanted; i++) {
        wanted = &ctx->wanted[i];

        if (wanted->denied) {
            denied = wanted;

            if (wanted->was_absent) {
                continue;
            }

            break;
        }

        if (!wanted->entry.absent) {
            ctx->packed = wanted->entry.packed;

            /* Of several names of a key the last one is there, not this. */

            if (i + 1 < ctx->nwanted) {
                ngx_memcpy(ctx->digest, wanted->digest, KG_DIGEST_LEN);
            }

            return NGX_OK;
        }
    }

    if (denied == NULL) {
        return NGX_DECLINED;
    }

    if (denied->denial == KG_ERR_SERVICE_UNAVAILABLE) {
        ctx->retry_after = 1;
    }

    return ngx_http_keygate_deny(ctx, denied->denial, NULL);
}


void
ngx_http_keygate_lookup_leave(ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_http_keygate_wanted_t  *wanted;

    for (i = 0; i < ctx->nwanted; i++) {
        wanted = &ctx->wanted[i];

        if (wanted->lookup) {
            ngx_queue_remove(&wanted->queue);
            wanted->lookup = NULL;
        }
    }

    ctx->waiting = 0;
}


void
ngx_http_keygate_deliver(ngx_http_keygate_wanted_t *wanted,
    const ngx_http_keygate_result_t *result)
{
    kg_zone_entry_t         *entry;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = wanted->ctx;
    entry = &wanted->entry;

    ngx_queue_remove(&wanted->queue);
    wanted->lookup = NULL;
    wanted->settled = 1;

    if (result == NULL) {
        /* It is in the entry. */

    } else if (result->denied) {
        wanted->denied = 1;
        wanted->denial = result->denial;

    } else if (!result->known) {
        ngx_http_keygate_unreachable(wanted);

    } else if (result->packed.len == 0) {
        entry->absent = 1;
        entry->packed.len = 0;

    } else {
        entry->absent = 0;
        entry->packed.len = result->packed.len;
        entry->packed.data = ngx_pnalloc(ctx->request->pool,
                                         result->packed.len);

        if (entry->packed.data == NULL) {
            wanted->denied = 1;
            wanted->denial = KG_ERR_INTERNAL_ERROR;

        } else {
            ngx_memcpy(entry->packed.data, result->packed.data,
                       result->packed.len);
        }
    }

    if (--ctx->waiting == 0) {
        ctx->fetched = 1;
        ngx_http_keygate_continue(ctx);
    }
}


/* A record that was cached serves on for a while; an absence alone does not. */

static void
ngx_http_keygate_unreachable(ngx_http_keygate_wanted_t *wanted)
{
    ngx_uint_t                     recent;
    kg_zone_entry_t               *entry;
    ngx_http_request_t            *r;
    ngx_http_keygate_main_conf_t  *mcf;

    entry = &wanted->entry;
    r = wanted->ctx->request;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    recent = (entry->found && entry->age < mcf->valid + mcf->stale);

    if (recent && !entry->absent) {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                       "keygate uses a record %M ms old", entry->age);
        return;
    }

    wanted->was_absent = recent;
    wanted->denied = 1;
    wanted->denial = KG_ERR_SERVICE_UNAVAILABLE;
}
