
/*
 * The answer of a claimed write, to Redis: sealed and stored, or only what came
 * of it (ngx_http_keygate_outcome.c); and the lease, until then.
 *
 * An outcome is sent until Redis has acknowledged it, behind the request if
 * need be: settling twice is settling once.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


/* How long an outcome is sent again, ms. */
#define NGX_HTTP_KEYGATE_PERSIST  600000


static ngx_int_t ngx_http_keygate_send_outcome(ngx_http_keygate_ctx_t *ctx,
    const char *action, ngx_str_t *sealed, ngx_uint_t wait);
static ngx_int_t ngx_http_keygate_seal(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_str_t *sealed);
static ngx_int_t ngx_http_keygate_answer(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_answer_t *answer);
static void ngx_http_keygate_renewal(ngx_event_t *ev);
static void ngx_http_keygate_settled(kg_redis_op_t *op);


ngx_uint_t
ngx_http_keygate_claimed(ngx_http_keygate_ctx_t *ctx)
{
    return ctx->claim && ctx->claim->held && !ctx->claim->settled;
}


ngx_int_t
ngx_http_keygate_settle(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t wait)
{
    ngx_str_t  sealed;

    ctx->claim->settled = 1;

    if (ctx->keep && !ctx->truncated) {

        if (ngx_http_keygate_seal(r, ctx, &sealed) == NGX_OK) {
            return ngx_http_keygate_send_outcome(ctx, "complete", &sealed,
                                                 wait);
        }

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "keygate: an answer cannot be stored for replay");

        return ngx_http_keygate_send_outcome(ctx, "tombstone", NULL, wait);
    }

    switch (ngx_http_keygate_outcome(r, ctx)) {

    case NGX_HTTP_KEYGATE_RELEASE:
        return ngx_http_keygate_send_outcome(ctx, "release", NULL, wait);

    case NGX_HTTP_KEYGATE_UNKNOWN:
        return ngx_http_keygate_send_outcome(ctx, "unknown", NULL, wait);

    default: /* NGX_HTTP_KEYGATE_FINAL, not kept */
        return ngx_http_keygate_send_outcome(ctx, "tombstone", NULL, wait);
    }
}


void
ngx_http_keygate_release(ngx_http_keygate_ctx_t *ctx)
{
    ctx->claim->asked = 0;
    (void) ngx_http_keygate_send_outcome(ctx, "release", NULL, 0);
}


void
ngx_http_keygate_release_left(kg_redis_t *client, const ngx_str_t *name,
    const ngx_str_t *owner)
{
    ngx_str_t       argv[3];
    kg_redis_cmd_t  cmd;

    argv[0] = *name;
    ngx_str_set(&argv[1], "release");
    argv[2] = *owner;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_SETTLE;
    cmd.nkeys = 1;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.persist = NGX_HTTP_KEYGATE_PERSIST;

    if (kg_redis_submit(client, &cmd) == NULL) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keygate: no memory to settle a claim: its key stays "
                      "taken");
    }
}


void
ngx_http_keygate_give_back(ngx_http_keygate_ctx_t *ctx)
{
    ctx->claim->settled = 1;
    ctx->granted = NGX_HTTP_KEYGATE_NOT_ASKED;
    ctx->unclaimable = 1;

    ngx_http_keygate_release(ctx);
}


void
ngx_http_keygate_settle_abandoned(ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t  untouched;

    if (ctx->claim == NULL) {
        return;
    }

    ngx_http_keygate_durable_leave(ctx->claim);

    if (ctx->claim->renewal.timer_set) {
        ngx_del_timer(&ctx->claim->renewal);
    }

    if (ctx->claim->asked) {
        ngx_http_keygate_release(ctx);
        return;
    }

    if (!ngx_http_keygate_claimed(ctx)) {
        return;
    }

    /* The request was ended before an answer came through the filters. */

    ctx->claim->settled = 1;

    untouched = ctx->frozen
                ? ctx->outcome_was == NGX_HTTP_KEYGATE_RELEASE
                : !ctx->executed && ngx_http_keygate_untouched(ctx->request);

    (void) ngx_http_keygate_send_outcome(ctx,
                                         untouched ? "release" : "unknown",
                                         NULL, 0);
}


/* settle.lua: action, owner, fingerprint, retention, id, route, answer */

static ngx_int_t
ngx_http_keygate_send_outcome(ngx_http_keygate_ctx_t *ctx, const char *action,
    ngx_str_t *sealed, ngx_uint_t wait)
{
    ngx_uint_t                     n;
    ngx_str_t                      argv[9];
    kg_redis_op_t                 *op;
    kg_redis_cmd_t                 cmd;
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         retention[NGX_INT64_LEN];

    claim = ctx->claim;
    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);

    n = 0;
    argv[n++] = claim->name;
    argv[n++] = claim->freed;

    argv[n].data = (u_char *) action;
    argv[n++].len = ngx_strlen(action);

    argv[n].data = claim->owner;
    argv[n++].len = KG_IDEM_OWNER_LEN;

    argv[n].data = claim->fingerprint;
    argv[n++].len = KG_DIGEST_LEN;

    argv[n].data = retention;
    argv[n++].len = ngx_sprintf(retention, "%M",
                                ctx->route->idem->retention)
                    - retention;

    argv[n++] = ctx->request_id;
    argv[n++] = ctx->route->name;

    if (sealed) {
        argv[n++] = *sealed;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_SETTLE;
    cmd.nkeys = 2;
    cmd.argc = n;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);
    cmd.persist = NGX_HTTP_KEYGATE_PERSIST;

    /* By the connection of the claim, lest a release overtake it. */

    cmd.bulk = ctx->large || (sealed && sealed->len > NGX_HTTP_KEYGATE_BULK);

    if (wait) {
        cmd.handler = ngx_http_keygate_settled;
        cmd.data = ctx;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "keygate settles a claim: %s", action);

    op = kg_redis_submit(mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY], &cmd);

    if (op == NULL) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "keygate: no memory to settle a claim: its key stays "
                      "taken");
        return NGX_OK;
    }

    if (!wait) {
        return NGX_OK;
    }

    ctx->op = op;

    return NGX_AGAIN;
}


void
ngx_http_keygate_renew(ngx_http_keygate_ctx_t *ctx)
{
    ngx_event_t  *ev;

    ev = &ctx->claim->renewal;

    ev->handler = ngx_http_keygate_renewal;
    ev->data = ctx->claim;
    ev->log = ctx->request->connection->log;

    /* Two renewals may be lost before a lease is over. */

    ngx_add_timer(ev, ctx->route->idem->lease / 3);
}


static void
ngx_http_keygate_renewal(ngx_event_t *ev)
{
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_main_conf_t  *mcf;

    claim = ev->data;

    if (claim->settled) {
        return;
    }

    mcf = ngx_http_get_module_main_conf(claim->ctx->request,
                                        ngx_http_keygate_module);

    /* One that fails is made up for by the next. */

    (void) ngx_http_keygate_prolong(claim,
                                    mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY],
                                    NULL);

    ngx_add_timer(ev, claim->ctx->route->idem->lease / 3);
}


kg_redis_op_t *
ngx_http_keygate_prolong(ngx_http_keygate_claim_t *claim, kg_redis_t *client,
    kg_redis_handler_pt handler)
{
    ngx_str_t       argv[4];
    kg_redis_cmd_t  cmd;
    u_char          lease[NGX_INT64_LEN];

    argv[0] = claim->name;
    ngx_str_set(&argv[1], "renew");

    argv[2].data = claim->owner;
    argv[2].len = KG_IDEM_OWNER_LEN;

    argv[3].data = lease;
    argv[3].len = ngx_sprintf(lease, "%M", claim->ctx->route->idem->lease)
                  - lease;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_SETTLE;
    cmd.nkeys = 1;
    cmd.argc = 4;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&claim->ctx->key.org);
    cmd.handler = handler;
    cmd.data = claim;

    return kg_redis_submit(client, &cmd);
}


static void
ngx_http_keygate_settled(kg_redis_op_t *op)
{
    ngx_http_request_t      *r;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = op->data;
    ctx->op = NULL;
    r = ctx->request;

    ngx_http_set_log_request(r->connection->log, r);

    if (op->status == KG_REDIS_UNSENT && ctx->keep) {

        /* Too much waits for Redis: that it was executed has room still. */

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "keygate: an answer cannot be stored for replay");

        (void) ngx_http_keygate_send_outcome(ctx, "tombstone", NULL, 0);

    } else if (op->status == KG_REDIS_UNSENT
               || (op->status == KG_REDIS_REFUSED
                   && !kg_redis_error_passes(op->error)))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "keygate: the outcome of a claim is lost: %s",
                      kg_redis_reason(op));

    } else if (op->status != KG_REDIS_REPLY) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "keygate: the outcome of a claim is not in Redis yet: "
                      "%s", kg_redis_reason(op));

    } else if (!kg_redis_is(op->reply, REDIS_REPLY_INTEGER, 0)
               || op->reply->integer != 1)
    {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "keygate: a claim was settled by another before its "
                      "write came to an end");
    }

    ngx_http_keygate_resume(ctx);
}


static ngx_int_t
ngx_http_keygate_seal(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_str_t *sealed)
{
    size_t                          size;
    ngx_str_t                       plain;
    kg_answer_t                     answer;
    kg_pepper_t                   **peppers;
    ngx_http_keygate_main_conf_t   *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);
    peppers = mcf->peppers.elts;

    if (ngx_http_keygate_answer(r, ctx, &answer) != NGX_OK) {
        return NGX_ERROR;
    }

    size = kg_answer_size(&answer);

    plain.data = ngx_pnalloc(r->pool, size);
    sealed->data = ngx_pnalloc(r->pool, size + KG_SEAL_EXTRA);

    if (plain.data == NULL || sealed->data == NULL) {
        return NGX_ERROR;
    }

    plain.len = kg_answer_encode(&answer, plain.data) - plain.data;

    if (kg_seal(peppers[0], ngx_http_keygate_kg(&ctx->claim->name),
                ngx_http_keygate_kg(&plain), sealed->data, &sealed->len)
        != KG_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The answer as it stands before nginx adds its own headers.  Content-Type and
 * Location have members of their own in headers_out.
 */

static ngx_int_t
ngx_http_keygate_answer(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_answer_t *answer)
{
    ngx_uint_t        i;
    kg_header_t      *header;
    ngx_str_t        *type;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    ngx_memzero(answer, sizeof(kg_answer_t));

    answer->status = r->headers_out.status;
    answer->body.data = ctx->held;
    answer->body.len = ctx->held_len;

    type = &r->headers_out.content_type;

    if (type->len) {
        header = &answer->headers[answer->nheaders++];
        header->name = (kg_str_t) kg_string("Content-Type");
        header->value = *ngx_http_keygate_kg(type);

        if (r->headers_out.content_type_len == type->len
            && r->headers_out.charset.len)
        {
            header->value.len = type->len + sizeof("; charset=") - 1
                                + r->headers_out.charset.len;

            header->value.data = ngx_pnalloc(r->pool, header->value.len);
            if (header->value.data == NULL) {
                return NGX_ERROR;
            }

            ngx_sprintf(header->value.data, "%V; charset=%V", type,
                        &r->headers_out.charset);
        }
    }

    /* What the charset filter is to make of it, the upstream has said. */

    if (r->headers_out.override_charset) {
        header = &answer->headers[answer->nheaders++];
        header->name = *ngx_http_keygate_kg(&ngx_http_keygate_accel_charset);
        header->value = *ngx_http_keygate_kg(r->headers_out.override_charset);
    }

    /* Of what proxy_redirect has changed nginx makes a whole URL. */

    h = r->headers_out.location;

    if (h && h->hash && h->value.len && h->value.data[0] == '/') {
        header = &answer->headers[answer->nheaders++];
        header->name = *ngx_http_keygate_kg(&ngx_http_keygate_accel_location);
    }

    part = &r->headers_out.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->hash == 0
            || !kg_answer_keeps(ngx_http_keygate_kg(&h->key)))
        {
            continue;
        }

        if (answer->nheaders == KG_ANSWER_HEADERS_MAX) {
            return NGX_ERROR;
        }

        header = &answer->headers[answer->nheaders++];
        header->name = *ngx_http_keygate_kg(&h->key);
        header->value = *ngx_http_keygate_kg(&h->value);
    }

    return NGX_OK;
}
