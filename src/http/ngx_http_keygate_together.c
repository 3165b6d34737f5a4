
/*
 * Limits and claim in one round trip: admit.lua charges a request and, where it
 * is admitted, claims its idempotency key.
 *
 * For that the body has to be there before the limits are asked, so a request
 * over its limit would make us read a body in vain.  Therefore only where Redis
 * has to be asked for the limits at all (no lease covers the request, no denial
 * is remembered) and the body is known to fit client_body_buffer_size; not when
 * the client waits to hear whether to send it (Expect).
 *
 * Limits come first all the same: a claim is made of a request that is admitted
 * and of no other, and what the header has wrong is said after the limits, by
 * the handler of idempotency.  What an answer leaves open about a claim that
 * handler asks for.
 */

#include "ngx_http_keygate_idempotency.h"


static ngx_uint_t ngx_http_keygate_together_may(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


ngx_int_t
ngx_http_keygate_together(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t        rc;
    kg_error_code_t  code;

    if (!ctx->together) {

        if (!ngx_http_keygate_together_may(r, ctx)) {
            return NGX_OK;
        }

        rc = ngx_http_keygate_claim_make(r, ctx, &code);

        if (rc != NGX_OK) {
            return (rc == NGX_ERROR) ? NGX_HTTP_INTERNAL_SERVER_ERROR : NGX_OK;
        }

        ctx->together = 1;
    }

    return ngx_http_keygate_claim_body(r, ctx);
}


static ngx_uint_t
ngx_http_keygate_together_may(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_keygate_loc_conf_t   *lcf;
    ngx_http_keygate_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (ctx->route->idem == NULL || ctx->claim || ctx->idempotency_done
        || lcf->mode != NGX_HTTP_KEYGATE_ON || lcf->grpc)
    {
        return 0;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->headers_in.content_length_n < 0
        || r->headers_in.content_length_n
           > (off_t) clcf->client_body_buffer_size
        || r->headers_in.expect)
    {
        return 0;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    return mcf->client[NGX_HTTP_KEYGATE_LIMITS]
           == mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY]
           && (ctx->limits.n > KG_ZONE_LIMITS_POLICIES
               || kg_zone_limits_asks(mcf->zone, &ctx->limits,
                                      ngx_http_keygate_monotonic()));
}


ngx_uint_t
ngx_http_keygate_together_args(ngx_queue_t *queue,
    ngx_http_keygate_together_t *together)
{
    ngx_str_t               *args;
    ngx_uint_t               n, request;
    ngx_queue_t             *q;
    ngx_http_keygate_ctx_t  *ctx;

    n = 0;
    request = 0;
    args = together->args;

    for (q = ngx_queue_head(queue);
         q != ngx_queue_sentinel(queue);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        request++;

        if (!ctx->together) {
            continue;
        }

        together->names[n] = ctx->claim->name;
        args += ngx_http_keygate_claim_args(ctx, args, &together->text[n]);

        together->whose[2 * n] = (u_char) request;
        together->whose[2 * n + 1] = (u_char) (request >> 8);

        ctx->claim->place = ++n;
        ctx->claim->asked = 1;
    }

    args->data = together->whose;
    args->len = 2 * n;

    return args + 1 - together->args;
}


void
ngx_http_keygate_together_apart(ngx_http_keygate_ctx_t *ctx)
{
    ctx->together = 0;

    if (ctx->claim && ctx->claim->place) {
        ctx->claim->place = 0;
        ctx->claim->asked = 0;
    }
}


void
ngx_http_keygate_together_told(ngx_http_keygate_ctx_t *ctx, kg_redis_op_t *op,
    const redisReply *answer)
{
    ngx_uint_t         place;
    const redisReply  *reply;

    if (!ctx->together) {
        return;
    }

    place = ctx->claim->place;

    reply = answer ? answer->element[place] : NULL;

    /* Surely not made, or by an error that its own asking brings to light. */

    if (op->status == KG_REDIS_UNSENT || op->status == KG_REDIS_REFUSED
        || (reply && reply->type != REDIS_REPLY_ARRAY))
    {
        ngx_http_keygate_together_apart(ctx);
        return;
    }

    ctx->together = 0;
    ctx->claim->place = 0;

    ngx_http_keygate_claim_told(ctx, op, reply);
}


void
ngx_http_keygate_together_left(uint32_t left, ngx_uint_t n, kg_redis_op_t *op,
    const redisReply *answer)
{
    ngx_str_t   *names, *args;
    ngx_uint_t   i, claims;

    if (left == 0 || op->status == KG_REDIS_UNSENT
        || op->status == KG_REDIS_REFUSED)
    {
        return;
    }

    claims = op->argv[op->argc - 1].len / 2;
    names = &op->argv[n];
    args = &names[claims + 2];

    for (i = 0; i < claims; i++) {

        if ((left & (1u << i))
            && (answer == NULL
                || answer->element[1 + i]->type == REDIS_REPLY_ARRAY))
        {
            ngx_http_keygate_release_left(op->redis, &names[i],
                                    &args[NGX_HTTP_KEYGATE_CLAIM_ARGS * i]);
        }
    }
}
