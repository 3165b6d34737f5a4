
/*
 * Idempotency: did they already.  On a route that asks for it the body is read
 * and hashed, the key is claimed in Redis, and only whoever holds the claim
 * goes on to the upstream; everybody else gets the first answer again, or 409.
 *
 * Until Redis has acknowledged the claim a client that leaves ends its
 * request, and the key is released; from then on the write goes on, and
 * ngx_http_keygate_settle.c tells Redis how it ended.
 */

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_RETRY_MAX  30      /* s, of idempotency_in_progress */
#define NGX_HTTP_KEYGATE_LARGE_TIME 1000    /* ms, beside command= */


static ngx_int_t ngx_http_keygate_claimed_page(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_idempotency_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_body_read(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_claim(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_claim_answered(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op);
static ngx_int_t ngx_http_keygate_claim_verdict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_refuse_conflict(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


/* What claim.lua answers, and what a request without an answer has. */

static const struct {
    ngx_str_t                      name;
    ngx_http_keygate_granted_t     granted;
} ngx_http_keygate_answers[] = {
    { ngx_string("claimed"), NGX_HTTP_KEYGATE_CLAIMED },
    { ngx_string("conflict"), NGX_HTTP_KEYGATE_CONFLICT },
    { ngx_string("in_progress"), NGX_HTTP_KEYGATE_IN_PROGRESS },
    { ngx_string("unknown"), NGX_HTTP_KEYGATE_OUTCOME_UNKNOWN },
    { ngx_string("completed"), NGX_HTTP_KEYGATE_COMPLETED },
    { ngx_string("large"), NGX_HTTP_KEYGATE_LARGE },
    { ngx_string("unavailable"), NGX_HTTP_KEYGATE_NOT_KEPT },
    { ngx_null_string, NGX_HTTP_KEYGATE_NOT_ASKED }
};


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

    if (ctx && ngx_http_keygate_error_page(r)) {
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

    if (!ctx->body_read) {

        if (ngx_http_keygate_fingerprint_start(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        rc = ngx_http_read_client_request_body(r, ngx_http_keygate_body_read);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            return rc;
        }

        ngx_http_finalize_request(r, NGX_DONE);
        return NGX_DONE;
    }

    if (ctx->granted == NGX_HTTP_KEYGATE_NOT_ASKED && !ctx->unclaimable) {

        if (!ctx->hashed) {
            if (ngx_http_keygate_fingerprint(r, ctx) != NGX_OK) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            ctx->hashed = 1;
        }

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

    return NGX_HTTP_BAD_GATEWAY;
}


/* The header's checks, and the name of the claim. */

static ngx_int_t
ngx_http_keygate_idempotency_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    size_t                         len;
    u_char                        *p;
    kg_rc_t                        rc;
    ngx_str_t                      rest;
    ngx_uint_t                     count;
    const kg_str_t                *mode;
    ngx_table_elt_t               *h;
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         key[KG_IDEM_KEY_MAX];

    static ngx_str_t  name = ngx_string("Idempotency-Key");

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    len = 0;
    h = ngx_http_keygate_header_in(r, &name, &count);

    if (h == NULL && ctx->route->optional) {
        ctx->idempotency_done = 1;
        return NGX_DECLINED;
    }

    if (h == NULL) {
        rc = KG_FULL;

    } else if (count > 1) {
        rc = KG_INVALID;

    } else {
        rc = kg_idem_key_parse(ngx_http_keygate_kg(&h->value), key, &len);
    }

    if (rc != KG_OK) {
        ctx->idempotency_done = 1;
        ngx_str_set(&ctx->outcome, "refused");

        return ngx_http_keygate_refuse(r, ctx,
                                       rc == KG_FULL
                                       ? KG_ERR_MISSING_IDEMPOTENCY_KEY
                                       : KG_ERR_INVALID_IDEMPOTENCY_KEY, NULL);
    }

    claim = ngx_pcalloc(r->pool, sizeof(ngx_http_keygate_claim_t));
    if (claim == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* ":test:<key>" after the organisation: test and live never meet. */

    mode = kg_mode_name(ctx->key.mode);

    rest.len = 1 + mode->len + 1 + len;
    rest.data = ngx_pnalloc(r->pool, rest.len);

    if (rest.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(rest.data, ":%V:", mode);
    ngx_memcpy(p, key, len);

    claim->name = ngx_http_keygate_name(r->pool,
                                      mcf->redis[NGX_HTTP_KEYGATE_IDEMPOTENCY],
                                      "idem",
                                      ngx_http_keygate_ngx(&ctx->key.org),
                                      &rest);

    if (claim->name.data == NULL
        || kg_random(claim->owner, KG_IDEM_OWNER_LEN) != KG_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    claim->ctx = ctx;
    ctx->claim = claim;

    return NGX_OK;
}


/* May run within ngx_http_read_client_request_body(), as in mirror. */

static void
ngx_http_keygate_body_read(ngx_http_request_t *r)
{
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ngx_http_keygate_ctx(r);

    ctx->body_read = 1;

    r->preserve_body = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/*
 * claim.lua: owner, fingerprint, lease, retention, id, route, on_unknown, and
 * how long an answer may be that comes by the connection of all the others.
 */

static ngx_int_t
ngx_http_keygate_claim(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t                      argv[9];
    kg_redis_cmd_t                 cmd;
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_idem_conf_t  *idem;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         inline_max[NGX_INT32_LEN];
    u_char                         lease[NGX_INT64_LEN];
    u_char                         retention[NGX_INT64_LEN];

    claim = ctx->claim;
    idem = ctx->route->idem;
    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    argv[0] = claim->name;

    argv[1].data = claim->owner;
    argv[1].len = KG_IDEM_OWNER_LEN;

    argv[2].data = claim->fingerprint;
    argv[2].len = KG_DIGEST_LEN;

    argv[3].data = lease;
    argv[3].len = ngx_sprintf(lease, "%M", idem->lease) - lease;

    argv[4].data = retention;
    argv[4].len = ngx_sprintf(retention, "%M", idem->retention) - retention;

    argv[5] = ctx->request_id;
    argv[6] = ctx->route->name;

    if (idem->forward) {
        ngx_str_set(&argv[7], "forward");

    } else {
        ngx_str_set(&argv[7], "refuse");
    }

    argv[8].data = inline_max;
    argv[8].len = ngx_sprintf(inline_max, "%d",
                              ctx->large ? 0 : NGX_HTTP_KEYGATE_BULK)
                  - inline_max;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    if (ctx->large) {
        cmd.bulk = 1;
        cmd.timeout = kg_redis_conf(mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY])
                      ->command
                      + NGX_HTTP_KEYGATE_LARGE_TIME;
    }

    cmd.script = KG_SCRIPT_CLAIM;
    cmd.nkeys = 1;
    cmd.argc = 9;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);

    claim->asked = 1;

    return ngx_http_keygate_ask(ctx, NGX_HTTP_KEYGATE_IDEMPOTENCY, &cmd,
                                ngx_http_keygate_claim_answered);
}


static void
ngx_http_keygate_claim_answered(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op)
{
    ngx_uint_t                     i;
    redisReply                    *elt;
    ngx_http_request_t            *r;
    ngx_http_keygate_main_conf_t  *mcf;

    r = ctx->request;

    switch (op->status) {

    case KG_REDIS_REPLY:
        break;

    case KG_REDIS_LOST:

        /* It may be granted: the same owner may ask again, once. */

        if (!ctx->claim->repeated) {
            ctx->claim->repeated = 1;
            return;
        }

        /* fall through */

    case KG_REDIS_TIMEOUT:

        /* It may still be granted: what nobody waits for is given back. */

        ngx_http_keygate_release(ctx);
        ctx->unclaimable = 1;
        return;

    case KG_REDIS_REFUSED:
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "keygate: Redis refused a claim: %s",
                      kg_redis_reason(op));

        /* fall through */

    default: /* KG_REDIS_UNSENT */

        /* After a lost first try the claim may stand all the same. */

        if (ctx->claim->repeated) {
            ngx_http_keygate_release(ctx);
        }

        ctx->claim->asked = 0;
        ctx->unclaimable = 1;
        return;
    }

    ctx->claim->asked = 0;

    if (!kg_redis_is(op->reply, REDIS_REPLY_ARRAY, 1)
        || !kg_redis_is(op->reply->element[0], REDIS_REPLY_STRING, 0))
    {
        goto malformed;
    }

    elt = op->reply->element[0];

    for (i = 0; ngx_http_keygate_answers[i].name.len; i++) {
        if (ngx_http_keygate_answers[i].name.len == (size_t) elt->len
            && ngx_memcmp(ngx_http_keygate_answers[i].name.data, elt->str,
                          elt->len)
               == 0)
        {
            break;
        }
    }

    ctx->outcome = ngx_http_keygate_answers[i].name;

    switch (ngx_http_keygate_answers[i].granted) {

    case NGX_HTTP_KEYGATE_CLAIMED:
        mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

        if (!ngx_http_keygate_guarded(mcf->guard)) {
            ngx_http_keygate_release(ctx);
            ctx->unclaimable = 1;
            return;
        }

        ctx->claim->held = 1;
        ngx_http_keygate_renew(ctx);
        break;

    case NGX_HTTP_KEYGATE_CONFLICT:
        break;

    case NGX_HTTP_KEYGATE_IN_PROGRESS:
        if (!kg_redis_is(op->reply, REDIS_REPLY_ARRAY, 2)
            || !kg_redis_is(op->reply->element[1], REDIS_REPLY_INTEGER, 0))
        {
            goto malformed;
        }

        ctx->retry_after = ngx_max(op->reply->element[1]->integer, 0) / 1000;
        ctx->retry_after = ngx_max(ctx->retry_after, 1);
        ctx->retry_after = ngx_min(ctx->retry_after,
                                   NGX_HTTP_KEYGATE_RETRY_MAX);
        break;

    case NGX_HTTP_KEYGATE_LARGE:
        if (ctx->large) {
            goto malformed;
        }

        ctx->large = 1;
        return;

    case NGX_HTTP_KEYGATE_COMPLETED:
        if (!kg_redis_is(op->reply, REDIS_REPLY_ARRAY, 3)
            || ngx_http_keygate_copy(r->pool, op->reply->element[1],
                                     &ctx->sealed) != NGX_OK
            || ngx_http_keygate_copy(r->pool, op->reply->element[2],
                                     &ctx->first_id) != NGX_OK)
        {
            goto malformed;
        }

        break;

    case NGX_HTTP_KEYGATE_OUTCOME_UNKNOWN:
    case NGX_HTTP_KEYGATE_NOT_KEPT:
        if (!kg_redis_is(op->reply, REDIS_REPLY_ARRAY, 2)
            || ngx_http_keygate_copy(r->pool, op->reply->element[1],
                                     &ctx->first_id) != NGX_OK)
        {
            goto malformed;
        }

        break;

    default:
        goto malformed;
    }

    ctx->granted = ngx_http_keygate_answers[i].granted;

    return;

malformed:

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "keygate: Redis answered a claim with another shape");

    /* It may have been granted. */

    ngx_http_keygate_release(ctx);
    ctx->unclaimable = 1;
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
