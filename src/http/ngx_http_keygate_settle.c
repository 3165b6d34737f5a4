
/*
 * The answer of a claimed write: which outcome it is, and telling Redis.
 *
 *     untouched upstream, 401 403 425 429, 503 with Retry-After  ─▶ release
 *     408 502 503 504, broken off, timed out, nobody knows       ─▶ unknown
 *     everything else                                    ─▶ complete, stored
 *     ... too large to keep, or a stream                 ─▶ tombstone
 *
 * A route may choose otherwise by status (store=, release=, unknown=).
 *
 * An outcome is sent until Redis has acknowledged it, behind the request if
 * need be: settling twice is settling once.
 */

#include "ngx_http_keygate.h"


/* How long an outcome is sent again, ms. */
#define NGX_HTTP_KEYGATE_PERSIST  600000


static ngx_http_keygate_outcome_t ngx_http_keygate_usual(
    ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_later(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_answered_status(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_refused_only(ngx_http_request_t *r);
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
                : ngx_http_keygate_untouched(ctx->request);

    (void) ngx_http_keygate_send_outcome(ctx,
                                         untouched ? "release" : "unknown",
                                         NULL, 0);
}


ngx_http_keygate_outcome_t
ngx_http_keygate_outcome(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_outcome_t  outcome;

    if (ctx->truncated) {
        return NGX_HTTP_KEYGATE_UNKNOWN;
    }

    if (ctx->frozen) {
        return ctx->outcome_was;
    }

    if (ngx_http_keygate_untouched(r)) {

        /* nginx's own error runs nothing; another handler's answer counts. */

        return (r->headers_out.status >= NGX_HTTP_BAD_REQUEST
                || ngx_http_keygate_error_page(r))
               ? NGX_HTTP_KEYGATE_RELEASE : NGX_HTTP_KEYGATE_FINAL;
    }

    outcome = ngx_http_keygate_usual(r, ctx);

    if (outcome == NGX_HTTP_KEYGATE_RELEASE
        && !ngx_http_keygate_refused_only(r))
    {
        return NGX_HTTP_KEYGATE_UNKNOWN;
    }

    return outcome;
}


/*
 * What a status comes to: as the route says of one that the upstream itself
 * sent, else as the contract does.
 */

static ngx_http_keygate_outcome_t
ngx_http_keygate_usual(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    u_char      *outcomes;
    ngx_uint_t   status;

    status = ngx_http_keygate_answered_status(r);
    outcomes = (ctx->route && ctx->route->idem) ? ctx->route->idem->outcomes
                                                : NULL;

    /* A timeout is a 504 of nginx, of which the upstream knows nothing. */

    if (outcomes && status >= NGX_HTTP_OK && status < 600 && outcomes[status]
        && r->upstream && r->upstream->headers_in.status_n == status)
    {
        return outcomes[status] - 1;
    }

    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:
    case 425:
    case NGX_HTTP_TOO_MANY_REQUESTS:
        return NGX_HTTP_KEYGATE_RELEASE;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return ngx_http_keygate_later(r, ctx) ? NGX_HTTP_KEYGATE_RELEASE
                                              : NGX_HTTP_KEYGATE_UNKNOWN;

    case 0:
    case NGX_HTTP_REQUEST_TIME_OUT:
    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_GATEWAY_TIME_OUT:
        return NGX_HTTP_KEYGATE_UNKNOWN;

    default:
        return NGX_HTTP_KEYGATE_FINAL;
    }
}


ngx_uint_t
ngx_http_keygate_again(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    switch (ngx_http_keygate_outcome(r, ctx)) {

    case NGX_HTTP_KEYGATE_RELEASE:
        return 1;

    case NGX_HTTP_KEYGATE_UNKNOWN:
        return ctx->claim && ctx->claim->held && ctx->route->idem->forward;

    default: /* NGX_HTTP_KEYGATE_FINAL */
        return 0;
    }
}


void
ngx_http_keygate_freeze(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    if (ctx->frozen) {
        return;
    }

    (void) ngx_http_keygate_later(r, ctx);

    ctx->outcome_was = ngx_http_keygate_outcome(r, ctx);
    ctx->frozen = 1;
}


/*
 * 1 when the upstream said Retry-After, in an answer that is passing or in one
 * that proxy_intercept_errors has put aside; then it is kept.
 */

static ngx_uint_t
ngx_http_keygate_later(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("Retry-After");

    if (ctx->retry_was.len) {
        return 1;
    }

    if (ctx->from_upstream) {
        return ngx_http_keygate_header_out(r, "Retry-After") != NULL;
    }

    if (r->upstream == NULL || r->upstream->headers_in.headers.size == 0) {
        return 0;
    }

    part = &r->upstream->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->key.len == name.len && h->value.len
            && ngx_strncasecmp(h->key.data, name.data, name.len) == 0)
        {
            ctx->retry_was = h->value;
            return 1;
        }
    }

    return 0;
}


/*
 * What the upstream said, which error_page may have hidden; 0 when it was
 * spoken to and said nothing.
 */

static ngx_uint_t
ngx_http_keygate_answered_status(ngx_http_request_t *r)
{
    ngx_http_upstream_state_t  *state;

    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return r->headers_out.status;
    }

    state = r->upstream_states->elts;

    return state[r->upstream_states->nelts - 1].status;
}


/*
 * A refusal frees the key only when no attempt before it reached an upstream:
 * "executed, then refused" shows as 158, 0 bytes sent.
 */

static ngx_uint_t
ngx_http_keygate_refused_only(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state;

    state = r->upstream_states->elts;

    for (i = 0; i + 1 < r->upstream_states->nelts; i++) {
        if (state[i].bytes_sent) {
            return 0;
        }
    }

    return 1;
}


/* settle.lua: action, owner, fingerprint, retention, id, route, answer */

static ngx_int_t
ngx_http_keygate_send_outcome(ngx_http_keygate_ctx_t *ctx, const char *action,
    ngx_str_t *sealed, ngx_uint_t wait)
{
    ngx_uint_t                     n;
    ngx_str_t                      argv[8];
    kg_redis_op_t                 *op;
    kg_redis_cmd_t                 cmd;
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         retention[NGX_INT64_LEN];

    claim = ctx->claim;
    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);

    n = 0;
    argv[n++] = claim->name;

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
    cmd.nkeys = 1;
    cmd.argc = n;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);
    cmd.bulk = (sealed && sealed->len > NGX_HTTP_KEYGATE_BULK);
    cmd.persist = NGX_HTTP_KEYGATE_PERSIST;

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

    if (op->status != KG_REDIS_REPLY) {
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
