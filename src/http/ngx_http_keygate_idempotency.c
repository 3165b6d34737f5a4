
/*
 * Idempotency: did they already.  On a route that asks for it the body is read
 * and hashed, the key is claimed in Redis (ngx_http_keygate_claim.c), and only
 * whoever holds the claim goes on to the upstream; everybody else gets the
 * first answer again, or 409.  Often all that has happened already when this
 * handler runs, together with the limits (ngx_http_keygate_together.c).
 *
 * Until Redis has acknowledged the claim a client that leaves ends its
 * request, and the key is released; from then on the write goes on, and
 * ngx_http_keygate_settle.c tells Redis how it ended.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static ngx_int_t ngx_http_keygate_claimed_page(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_idempotency_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_claim_verdict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_refuse_conflict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


ngx_int_t
ngx_http_keygate_idempotency_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_loc_conf_t   *lcf;
    ngx_http_keygate_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keygate_ctx(r);

    if (ctx && ngx_http_keygate_error_page(r)
        && (ngx_http_keygate_claimed(ctx) || ngx_http_keygate_page(r, ctx)))
    {
        return ngx_http_keygate_claimed_page(r, ctx);
    }

    if (lcf->mode != NGX_HTTP_KEYGATE_ON || lcf->role || lcf->grpc) {
        return NGX_DECLINED;
    }

    if (ctx == NULL || !ctx->admitted || ctx->route->idem == NULL
        || ctx->idempotency_done)
    {
        return NGX_DECLINED;
    }

    if (ctx->waits) {
        return NGX_AGAIN;
    }

    if (ctx->claim == NULL) {
        rc = ngx_http_keygate_idempotency_key(r, ctx);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (!ctx->hashed) {
        rc = ngx_http_keygate_claim_body(r, ctx);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->granted == NGX_HTTP_KEYGATE_NOT_ASKED && !ctx->unclaimable) {
        mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

        if (ngx_http_keygate_guard(mcf->guard) == NGX_OK) {
            rc = ngx_http_keygate_claim(r, ctx);
            return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
        }

        /* A first try whose reply was lost may stand. */

        if (ctx->claim->asked) {
            ngx_http_keygate_release(ctx);
        }
    }

    if (ctx->granted == NGX_HTTP_KEYGATE_CLAIMED && ctx->route->idem->durable
        && !ctx->claim->durable)
    {
        return ngx_http_keygate_durable(ctx);
    }

    ctx->idempotency_done = 1;

    return ngx_http_keygate_claim_verdict(r, ctx);
}


/*
 * A page, or a second try of the write?  A named location keeps method and
 * body, so "error_page 502 = @backup" runs the write again: it may where
 * nothing was executed, and then what comes of it is what counts.
 */

static ngx_int_t
ngx_http_keygate_claimed_page(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    if (!ngx_http_keygate_claimed(ctx)) {

        /* What the page's upstream has and says is not what came of it. */

        if (r->method != ctx->method
            || (ctx->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)))
        {
            ngx_http_keygate_freeze(r, ctx);
        }

        return NGX_DECLINED;
    }

    if (r->method == ctx->method && ngx_http_keygate_untouched(r)) {
        return NGX_DECLINED;
    }

    ngx_http_keygate_freeze(r, ctx);

    if (r->method != ctx->method) {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "keygate: error_page would execute a write again that an "
                  "upstream has had");

    /* Under recursive_error_pages nginx would come back with it. */

    r->error_page = 1;

    return NGX_HTTP_BAD_GATEWAY;
}


/* The claim, or the refusal of what came in place of a key. */

static ngx_int_t
ngx_http_keygate_idempotency_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t        rc;
    kg_error_code_t  code;

    rc = ngx_http_keygate_claim_make(r, ctx, &code);

    switch (rc) {

    case NGX_OK:
        return NGX_OK;

    case NGX_DECLINED:
        ctx->idempotency_done = 1;
        return NGX_DECLINED;

    case NGX_ABORT:
        ctx->idempotency_done = 1;
        ngx_str_set(&ctx->outcome, "refused");

        return ngx_http_keygate_refuse(r, ctx, code, NULL);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static ngx_int_t
ngx_http_keygate_claim_verdict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    switch (ctx->granted) {

    case NGX_HTTP_KEYGATE_CLAIMED:
        return NGX_DECLINED;

    case NGX_HTTP_KEYGATE_COMPLETED:
        return ngx_http_keygate_replay(r, ctx);

    case NGX_HTTP_KEYGATE_CONFLICT:
        return ngx_http_keygate_refuse_conflict(r, ctx);

    case NGX_HTTP_KEYGATE_IN_PROGRESS:
        return ngx_http_keygate_refuse(r, ctx, KG_ERR_IDEMPOTENCY_IN_PROGRESS,
                                       NULL);

    case NGX_HTTP_KEYGATE_OUTCOME_UNKNOWN:
        return ngx_http_keygate_refuse_first(r, ctx,
                                       KG_ERR_IDEMPOTENCY_OUTCOME_UNKNOWN);

    case NGX_HTTP_KEYGATE_NOT_KEPT:
        return ngx_http_keygate_refuse_first(r, ctx,
                                     KG_ERR_IDEMPOTENCY_REPLAY_UNAVAILABLE);

    default: /* NGX_HTTP_KEYGATE_NOT_ASKED: a write that cannot be claimed */
        ngx_str_set(&ctx->outcome, "unclaimable");
        ctx->retry_after = 1;

        return ngx_http_keygate_refuse(r, ctx, KG_ERR_SERVICE_UNAVAILABLE,
                                       NULL);
    }
}


/* 409, or 422 as the IETF draft of Idempotency-Key has it. */

static ngx_int_t
ngx_http_keygate_refuse_conflict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_main_conf_t  *mcf;

    if (ctx->route->idem->conflict == NGX_HTTP_CONFLICT) {
        return ngx_http_keygate_refuse(r, ctx, KG_ERR_IDEMPOTENCY_CONFLICT,
                                       NULL);
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    return ngx_http_keygate_refuse_as(r, ctx, &mcf->conflict, NULL);
}


/* The partner's support needs the id of the request that was executed. */

ngx_int_t
ngx_http_keygate_refuse_first(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_error_code_t code)
{
    ngx_str_t  details;

    if (!kg_request_id_valid(ngx_http_keygate_kg(&ctx->first_id))) {
        return ngx_http_keygate_refuse(r, ctx, code, NULL);
    }

    details.data = ngx_pnalloc(r->pool, sizeof("{\"originalRequestId\":\"\"}")
                                        + ctx->first_id.len);
    if (details.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    details.len = ngx_sprintf(details.data, "{\"originalRequestId\":\"%V\"}",
                              &ctx->first_id)
                  - details.data;

    return ngx_http_keygate_refuse(r, ctx, code, &details);
}
