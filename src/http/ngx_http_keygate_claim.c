
/*
 * The claim of an idempotency key: its name, the body it is for, the command
 * that asks Redis for it, and what Redis says.  A claim may be asked for by
 * itself, here, or together with its request's limits; what is said of it is
 * taken in here either way.
 */

#include "ngx_http_keygate_idempotency.h"


#define NGX_HTTP_KEYGATE_RETRY_MAX  30      /* s, of idempotency_in_progress */
#define NGX_HTTP_KEYGATE_LARGE_TIME 1000    /* ms, beside command= */


static ngx_uint_t ngx_http_keygate_body_lost(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_body_read(ngx_http_request_t *r);
static void ngx_http_keygate_claim_answered(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op);


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
ngx_http_keygate_claim_make(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_error_code_t *code)
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
        *code = (rc == KG_FULL) ? KG_ERR_MISSING_IDEMPOTENCY_KEY
                                : KG_ERR_INVALID_IDEMPOTENCY_KEY;
        return NGX_ABORT;
    }

    claim = ngx_pcalloc(r->pool, sizeof(ngx_http_keygate_claim_t));
    if (claim == NULL) {
        return NGX_ERROR;
    }

    /* ":test:<key>" after the organisation: test and live never meet. */

    mode = kg_mode_name(ctx->key.mode);

    rest.len = 1 + mode->len + 1 + len;
    rest.data = ngx_pnalloc(r->pool, rest.len);

    if (rest.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(rest.data, ":%V:", mode);
    ngx_memcpy(p, key, len);

    claim->name = ngx_http_keygate_name(r->pool,
                                      mcf->redis[NGX_HTTP_KEYGATE_IDEMPOTENCY],
                                      "idem",
                                      ngx_http_keygate_ngx(&ctx->key.org),
                                      &rest);

    claim->freed = ngx_http_keygate_name(r->pool,
                                      mcf->redis[NGX_HTTP_KEYGATE_IDEMPOTENCY],
                                      "freed",
                                      ngx_http_keygate_ngx(&ctx->key.org),
                                      &rest);

    if (claim->name.data == NULL
        || claim->freed.data == NULL
        || kg_random_drawn(&mcf->entropy, claim->owner, KG_IDEM_OWNER_LEN)
           != KG_OK)
    {
        return NGX_ERROR;
    }

    claim->ctx = ctx;
    ctx->claim = claim;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_claim_body(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ngx_http_keygate_body_lost(r, ctx)) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "keygate: error_page would execute a write without its "
                      "body");

        /* Under recursive_error_pages nginx would come back with it. */

        r->error_page = 1;

        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    if (ctx->body_read) {
        if (ngx_http_keygate_fingerprint(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->hashed = 1;
        return NGX_OK;
    }

    if (ngx_http_keygate_fingerprint_start(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->body_asked = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_keygate_body_read);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);
    return NGX_DONE;
}


/*
 * 1 when there is a body that will not be had any more: "error_page 413 = @app"
 * hands on what nginx has thrown away, or has stopped to read half way.
 */

static ngx_uint_t
ngx_http_keygate_body_lost(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_chain_t  *cl;

    if (!ctx->body_read) {

#if (NGX_HTTP_V2)
        if (r->stream && r->stream->skip_data) {
            return 1;
        }
#endif

        return r->discard_body || ctx->body_asked;
    }

    cl = r->request_body ? r->request_body->bufs : NULL;

    while (cl && ngx_buf_size(cl->buf) == 0) {
        cl = cl->next;
    }

    /* What came with the header is thrown away without a trace. */

    return cl == NULL
           && r->headers_in.content_length
           && ngx_atoof(r->headers_in.content_length->value.data,
                        r->headers_in.content_length->value.len)
              > 0;
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


ngx_uint_t
ngx_http_keygate_claim_args(ngx_http_keygate_ctx_t *ctx, ngx_str_t *argv,
    ngx_http_keygate_claim_text_t *text)
{
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_idem_conf_t  *idem;

    claim = ctx->claim;
    idem = ctx->route->idem;

    argv[0].data = claim->owner;
    argv[0].len = KG_IDEM_OWNER_LEN;

    argv[1].data = claim->fingerprint;
    argv[1].len = KG_DIGEST_LEN;

    argv[2].data = text->lease;
    argv[2].len = ngx_sprintf(text->lease, "%M", idem->lease) - text->lease;

    argv[3].data = text->retention;
    argv[3].len = ngx_sprintf(text->retention, "%M", idem->retention)
                  - text->retention;

    argv[4] = ctx->request_id;
    argv[5] = ctx->route->name;

    if (idem->forward) {
        ngx_str_set(&argv[6], "forward");

    } else {
        ngx_str_set(&argv[6], "refuse");
    }

    argv[7].data = text->inline_max;
    argv[7].len = ngx_sprintf(text->inline_max, "%d",
                              ctx->large ? 0 : NGX_HTTP_KEYGATE_BULK)
                  - text->inline_max;

    return NGX_HTTP_KEYGATE_CLAIM_ARGS;
}


ngx_int_t
ngx_http_keygate_claim(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t                      argv[1 + NGX_HTTP_KEYGATE_CLAIM_ARGS];
    kg_redis_cmd_t                 cmd;
    ngx_http_keygate_main_conf_t  *mcf;
    ngx_http_keygate_claim_text_t  text;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    argv[0] = ctx->claim->name;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    if (ctx->large) {
        cmd.bulk = 1;
        cmd.timeout = kg_redis_conf(mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY])
                      ->command
                      + NGX_HTTP_KEYGATE_LARGE_TIME;
    }

    cmd.script = KG_SCRIPT_CLAIM;
    cmd.nkeys = 1;
    cmd.argc = 1 + ngx_http_keygate_claim_args(ctx, &argv[1], &text);
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);

    ctx->claim->asked = 1;

    return ngx_http_keygate_ask(ctx, NGX_HTTP_KEYGATE_IDEMPOTENCY, &cmd,
                                ngx_http_keygate_claim_answered);
}


static void
ngx_http_keygate_claim_answered(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op)
{
    ngx_http_keygate_claim_told(ctx, op, op->reply);
}


void
ngx_http_keygate_claim_told(ngx_http_keygate_ctx_t *ctx, kg_redis_op_t *op,
    const redisReply *reply)
{
    ngx_uint_t                     i;
    const redisReply              *elt;
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

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 1)
        || !kg_redis_is(reply->element[0], REDIS_REPLY_STRING, 0))
    {
        goto malformed;
    }

    elt = reply->element[0];

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
        if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 2)
            || !kg_redis_is(reply->element[1], REDIS_REPLY_INTEGER, 0))
        {
            goto malformed;
        }

        ctx->retry_after = ngx_max(reply->element[1]->integer, 0) / 1000;
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
        if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 3)
            || ngx_http_keygate_copy(r->pool, reply->element[1],
                                     &ctx->sealed) != NGX_OK
            || ngx_http_keygate_copy(r->pool, reply->element[2],
                                     &ctx->first_id) != NGX_OK)
        {
            goto malformed;
        }

        break;

    case NGX_HTTP_KEYGATE_OUTCOME_UNKNOWN:
    case NGX_HTTP_KEYGATE_NOT_KEPT:
        if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 2)
            || ngx_http_keygate_copy(r->pool, reply->element[1],
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
