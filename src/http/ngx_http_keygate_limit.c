
/*
 * Limits: may they call now.  The policies of the location and of the route
 * are put to Redis together, in one script: all or nothing, so that a request
 * refused by one spends nothing on the others.
 */

#include "ngx_http_keygate.h"


static ngx_int_t ngx_http_keygate_charge(ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_charged(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op);
static void ngx_http_keygate_log_dry(ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_policy_t *policy);
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

    if (ngx_http_keygate_error_page(r)) {
        return NGX_DECLINED;
    }

    if (ctx->waits) {
        return NGX_AGAIN;
    }

    /* With "satisfy any" another module may have let the request in. */

    if (!ctx->decided) {
        rc = ngx_http_keygate_decide(r, ctx);

    } else if (!ctx->admitted && ctx->error && !r->internal) {
        rc = ctx->error->status;

    } else {
        rc = NGX_OK;
    }

    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }

    if (!ctx->admitted || ctx->route->public) {
        return NGX_DECLINED;
    }

    if (!ctx->charged) {
        ctx->charged = 1;

        if (ngx_http_keygate_apply(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (ctx->napplied == 0) {
            return NGX_DECLINED;
        }

        rc = ngx_http_keygate_charge(ctx);
        return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
    }

    if (ctx->limit_down) {
        ctx->limit_down = 0;

        mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

        if (mcf->outage == NGX_HTTP_KEYGATE_ALLOW) {
            return NGX_DECLINED;
        }

        ctx->retry_after = 1;

        return ngx_http_keygate_refuse(r, ctx, KG_ERR_SERVICE_UNAVAILABLE,
                                       NULL);
    }

    if (ctx->refused) {
        ctx->refused = 0;
        return ngx_http_keygate_refuse_limit(r, ctx);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_keygate_charge(ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                     i, n;
    kg_redis_cmd_t                 cmd;
    kg_limit_policy_t              policies[KG_LIMIT_POLICIES_MAX];
    ngx_str_t                      argv[KG_LIMIT_POLICIES_MAX + 1];
    u_char                         packed[KG_LIMIT_ARG_LEN(KG_LIMIT_POLICIES_MAX)];

    n = ctx->napplied;

    for (i = 0; i < n; i++) {
        argv[i] = ctx->applied[i].state;
        policies[i] = ctx->applied[i].limit;
    }

    argv[n].data = packed;
    argv[n].len = kg_limit_write_policies(packed, ctx->route->cost, policies,
                                          n)
                  - packed;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_LIMIT;
    cmd.nkeys = n;
    cmd.argc = n + 1;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);

    return ngx_http_keygate_ask(ctx, NGX_HTTP_KEYGATE_LIMITS, &cmd,
                                ngx_http_keygate_charged);
}


static void
ngx_http_keygate_charged(ngx_http_keygate_ctx_t *ctx, kg_redis_op_t *op)
{
    kg_str_t                     text;
    ngx_uint_t                   i, n;
    kg_limit_answer_t            answer;
    ngx_http_keygate_applied_t  *applied;

    n = ctx->napplied;

    if (op->status != KG_REDIS_REPLY) {
        goto down;
    }

    if (!kg_redis_is(op->reply, REDIS_REPLY_STRING, 0)) {
        goto malformed;
    }

    text.data = (u_char *) op->reply->str;
    text.len = op->reply->len;

    if (kg_limit_read_answer(&text, n, &answer) != KG_OK
        || (answer.granted == 0 && answer.refusing == 0))
    {
        goto malformed;
    }

    for (i = 0; i < n; i++) {
        applied = &ctx->applied[i];
        applied->known = 1;
        applied->remaining = answer.stand[i].left;
        applied->reset = (answer.stand[i].reset + 999) / 1000;

        if (answer.dry & (1u << i)) {
            ngx_http_keygate_log_dry(ctx, applied->policy);
        }
    }

    if (answer.granted) {
        return;
    }

    applied = &ctx->applied[answer.refusing - 1];

    /* A cost over the limit never passes: the answer is a whole window. */

    ctx->retry_after = (answer.relief != KG_LIMIT_NEVER)
                       ? ((ngx_uint_t) answer.relief + 999) / 1000
                       : applied->rate.window;
    ctx->refused = 1;
    ctx->policy = applied->policy;

    applied->remaining = 0;
    applied->reset = ctx->retry_after;

    return;

malformed:

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "keygate: Redis answered a limit with another shape");

down:

    if (op->status == KG_REDIS_REFUSED) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "keygate: Redis refused to count a limit: %s",
                      kg_redis_reason(op));
    }

    ctx->limit_down = 1;
}


/* A policy that is dry_run says what it would have done. */

static void
ngx_http_keygate_log_dry(ngx_http_keygate_ctx_t *ctx,
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
    ngx_str_t  details;

    /* A policy's name has no character that JSON would escape. */

    details.data = ngx_pnalloc(r->pool, sizeof("{\"policy\":\"\"}")
                                        + ctx->policy->name.len);
    if (details.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    details.len = ngx_sprintf(details.data, "{\"policy\":\"%V\"}",
                              &ctx->policy->name)
                  - details.data;

    return ngx_http_keygate_refuse(r, ctx, KG_ERR_RATE_LIMITED, &details);
}
