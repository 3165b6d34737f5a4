
/*
 * Limits: may they call now.  The policies of the location and of the route
 * are put to Redis together, in one script: all or nothing, so that a request
 * refused by one spends nothing on the others.
 */

#include "ngx_http_keygate_idempotency.h"


static ngx_int_t ngx_http_keygate_limit_admit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const ngx_http_keygate_loc_conf_t *lcf);
static ngx_uint_t ngx_http_keygate_limit_holds(
    const ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_refuse_limit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


ngx_int_t
ngx_http_keygate_limit_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_loc_conf_t   *lcf;
    ngx_http_keygate_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->mode == NGX_HTTP_KEYGATE_OFF || lcf->role || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keygate_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_keygate_page(r, ctx)) {
        return NGX_DECLINED;
    }

    if (ctx->waits) {
        return NGX_AGAIN;
    }

    rc = ngx_http_keygate_limit_admit(r, ctx, lcf);

    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }

    if (!ctx->admitted || ctx->route->public) {
        return NGX_DECLINED;
    }

    if (!ctx->charged) {

        if (ctx->applied == NULL) {
            if (ngx_http_keygate_apply(r, ctx) != NGX_OK) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            if (ctx->napplied == 0) {
                return NGX_DECLINED;
            }

            ngx_http_keygate_limits_name(ctx);
        }

        rc = ngx_http_keygate_together(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        ctx->charged = 1;

        rc = ngx_http_keygate_limit(r, ctx);

        if (rc != NGX_OK) {
            return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
        }
    }

    if (ctx->limit_down) {
        ctx->limit_down = 0;

        mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

        if (mcf->outage == NGX_HTTP_KEYGATE_ALLOW
            || (mcf->outage == NGX_HTTP_KEYGATE_DENY
                && !ngx_http_keygate_limit_holds(ctx)))
        {
            return NGX_DECLINED;
        }

        if (mcf->outage == NGX_HTTP_KEYGATE_DENY) {
            ctx->retry_after = 1;

            return ngx_http_keygate_refuse(r, ctx, KG_ERR_SERVICE_UNAVAILABLE,
                                           NULL);
        }

        if (ngx_http_keygate_limit_local(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (ctx->refused) {
        ctx->refused = 0;
        return ngx_http_keygate_refuse_limit(r, ctx);
    }

    return NGX_DECLINED;
}


/*
 * With "satisfy any" another module may have let in who is not decided, or
 * whom we refused; and dry_run what is redirected to where it does not hold.
 */

static ngx_int_t
ngx_http_keygate_limit_admit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const ngx_http_keygate_loc_conf_t *lcf)
{
    if (ctx->admitted) {
        return NGX_OK;
    }

    if (ctx->error) {
        return ctx->error->status;
    }

    if (ctx->decided && lcf->mode == NGX_HTTP_KEYGATE_DRY_RUN) {
        return NGX_OK;
    }

    return ngx_http_keygate_decide(r, ctx);
}


/* 1 when one of the policies may refuse, and does not only count. */

static ngx_uint_t
ngx_http_keygate_limit_holds(const ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t  i;

    for (i = 0; i < ctx->napplied; i++) {

        if (!ctx->applied[i].policy->dry_run) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_keygate_limit_stands(ngx_http_keygate_applied_t *applied,
    const kg_limit_stand_t *stand)
{
    applied->known = 1;
    applied->remaining = stand->left;
    applied->reset = ((ngx_uint_t) stand->reset + 999) / 1000;
}


void
ngx_http_keygate_limit_refused(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t refusing, uint32_t relief)
{
    ngx_http_keygate_applied_t  *applied;

    applied = &ctx->applied[refusing - 1];

    /* A cost over the limit never passes: the answer is a whole window. */

    ctx->retry_after = (relief != KG_LIMIT_NEVER && ctx->route->cost
                                                    <= applied->limit.limit)
                       ? ((ngx_uint_t) relief + 999) / 1000
                       : applied->rate.window;
    ctx->refused = 1;
    ctx->policy = applied->policy;

    applied->remaining = 0;
    applied->reset = ctx->retry_after;
}


void
ngx_http_keygate_limit_dry(ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_policy_t *policy)
{
    ngx_log_error(NGX_LOG_NOTICE, ctx->request->connection->log, 0,
                  "keygate would answer 429 rate_limited to key \"%V\" of "
                  "\"%V\" by policy \"%V\" (dry_run)", &ctx->key.id,
                  &ctx->key.org, &policy->name);
}


static ngx_int_t
ngx_http_keygate_refuse_limit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    u_char     *p;
    ngx_str_t   details;

    static ngx_str_t  before = ngx_string("{\"policy\":\"");
    static ngx_str_t  after = ngx_string("\"}");

    /* A policy's name has no character that JSON would escape. */

    details.len = before.len + ctx->policy->name.len + after.len;

    details.data = ngx_pnalloc(r->pool, details.len);
    if (details.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_cpymem(details.data, before.data, before.len);
    p = ngx_cpymem(p, ctx->policy->name.data, ctx->policy->name.len);
    ngx_memcpy(p, after.data, after.len);

    return ngx_http_keygate_refuse(r, ctx, KG_ERR_RATE_LIMITED, &details);
}
