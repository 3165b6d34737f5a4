
/*
 * What a write came to.
 *
 *     untouched upstream, 401 403 425 429, 503 with Retry-After  ─▶ release
 *     408 502 503 504, broken off, timed out, nobody knows       ─▶ unknown
 *     everything else                                            ─▶ final
 *
 * A route may choose otherwise by status (store=, release=, unknown=).
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static ngx_http_keygate_outcome_t ngx_http_keygate_usual(
    ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_later(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_answered_status(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_refused_only(ngx_http_request_t *r);


ngx_http_keygate_outcome_t
ngx_http_keygate_outcome(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_outcome_t  outcome;

    /* It was the page that broke off, then, not an answer to the write. */

    if (ctx->frozen && ctx->outcome_was == NGX_HTTP_KEYGATE_RELEASE) {
        return NGX_HTTP_KEYGATE_RELEASE;
    }

    if (ctx->truncated
        || (ctx->executed && r->headers_out.status >= NGX_HTTP_BAD_REQUEST))
    {
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
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("Retry-After");

    if (ctx->retry_was.len) {
        return 1;
    }

    if (ctx->from_upstream) {
        return ngx_http_keygate_header_out(r, "Retry-After") != NULL;
    }

    h = ngx_http_keygate_header_said(r, &name);

    if (h == NULL) {
        return 0;
    }

    ctx->retry_was = h->value;

    return 1;
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
