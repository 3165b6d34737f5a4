
/*
 * The headers of an answer: what every one of the gate carries, and what
 * belongs to an error (RFC 9110: Retry-After, Allow, a challenge), whoever
 * said it.
 */

#include "ngx_http_keygate_answer.h"
#include "kg_decimal.h"


/*
 * s: an upstream may ask for no longer a wait.  A client sleeps for as long as
 * it is told, and the same request is not the same after its idempotency key
 * has gone.
 */
#define NGX_HTTP_KEYGATE_RETRY_MAX  86400


static ngx_uint_t ngx_http_keygate_retry_seconds(const ngx_str_t *value);
static ngx_int_t ngx_http_keygate_allow(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_challenge(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t own);


/* What only the gate may say. */

static ngx_str_t  ngx_http_keygate_own_headers[] = {
    ngx_string("X-Request-Id"),
    ngx_string("Idempotent-Replayed"),
    ngx_string("Original-Request-Id"),
    ngx_string("RateLimit"),
    ngx_string("RateLimit-Policy"),
    ngx_null_string
};


ngx_int_t
ngx_http_keygate_add_headers(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                    own;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  request_id = ngx_string("X-Request-Id");
    static ngx_str_t  original = ngx_string("Original-Request-Id");
    static ngx_str_t  replayed = ngx_string("Idempotent-Replayed");
    static ngx_str_t  yes = ngx_string("true");
    static ngx_str_t  allow = ngx_string("Allow");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    ngx_http_keygate_drop_headers(r, ngx_http_keygate_own_headers);

    if (ngx_http_keygate_push_header(r, &request_id, &ctx->request_id)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->replayed.len
        && (ngx_http_keygate_push_header(r, &replayed, &yes) != NGX_OK
            || ngx_http_keygate_push_header(r, &original, &ctx->replayed)
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    if (ctx->napplied && lcf->mode != NGX_HTTP_KEYGATE_DRY_RUN
        && ngx_http_keygate_rate_limit(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    own = ngx_http_keygate_own(r, ctx);

    if (!own && ctx->shape) {

        if (r->headers_out.status == NGX_HTTP_UNAUTHORIZED) {
            return ngx_http_keygate_challenge(r, ctx, 0);
        }

        if (r->headers_out.status == NGX_HTTP_NOT_ALLOWED) {
            return ngx_http_keygate_allow(r, ctx);
        }
    }

    if (own && ngx_http_keygate_challenge(r, ctx, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* With keygate_errors off nothing else has set it. */

    if (own && ctx->retry_after && !ctx->shape
        && ngx_http_keygate_retry_after(r, ctx, 1) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->allow.len
        && ((own && r->headers_out.status == NGX_HTTP_NOT_ALLOWED)
            || (r->method == NGX_HTTP_OPTIONS && ctx->found
                && lcf->mode == NGX_HTTP_KEYGATE_ON
                && r->headers_out.status == NGX_HTTP_NO_CONTENT)))
    {
        return ngx_http_keygate_set_header(r, &allow, &ctx->allow);
    }

    return NGX_OK;
}


/*
 * RFC 9110, 15.5.6: a 405 has Allow.  nginx drops that of an answer which it
 * intercepts, and leaves it out of its own: of TRACE and CONNECT, that it takes
 * nowhere, and of what it serves itself.  What else is allowed only the one who
 * says 405 knows.
 */

static ngx_int_t
ngx_http_keygate_allow(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_table_elt_t            *h;
    ngx_http_phase_handler_t   *ph;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t  name = ngx_string("Allow");
    static ngx_str_t  server = ngx_string("GET, HEAD, POST, PUT, PATCH, "
                                          "DELETE, OPTIONS");
    static ngx_str_t  served = ngx_string("GET, HEAD");

    if (ctx->from_upstream || ngx_http_keygate_header_out(r, "Allow")) {
        return NGX_OK;
    }

    if (r->upstream) {
        h = r->upstream->headers_in.status_n == NGX_HTTP_NOT_ALLOWED
            ? ngx_http_keygate_header_said(r, &name) : NULL;

        return h ? ngx_http_keygate_push_header(r, &name, &h->value) : NGX_OK;
    }

    if (ngx_http_keygate_error_page(r)) {
        return NGX_OK;
    }

    if (ctx->method & (NGX_HTTP_TRACE|NGX_HTTP_CONNECT)) {
        return ngx_http_keygate_push_header(r, &name, &server);
    }

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ph = cmcf->phase_engine.handlers;

    if (ph[r->phase_handler].checker != ngx_http_core_content_phase
        || (ctx->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)))
    {
        return NGX_OK;
    }

    return ngx_http_keygate_push_header(r, &name, &served);
}


/*
 * RFC 6750, 3: a challenge with an error only when a key was sent.  RFC 9110,
 * 15.5.2: a 401 has one, whoever says it.  Behind keys it is ours where none
 * was given; elsewhere nobody knows what would be asked for.
 */

static ngx_int_t
ngx_http_keygate_challenge(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t own)
{
    u_char                       *p;
    ngx_str_t                     value, realm;
    const char                   *error;
    const kg_str_t               *scope;
    ngx_http_core_srv_conf_t     *cscf;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("WWW-Authenticate");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);
    scope = NULL;

    if (own && ctx->error == kg_error_get(KG_ERR_UNAUTHORIZED)) {
        error = ctx->sent_key ? ", error=\"invalid_token\"" : "";

    } else if (own && ctx->error == kg_error_get(KG_ERR_FORBIDDEN)
               && ctx->needs_scope)
    {
        error = ", error=\"insufficient_scope\"";
        scope = ctx->needs_scope;

    } else if (!own && lcf->mode == NGX_HTTP_KEYGATE_ON
               && ngx_http_keygate_header_out(r, "WWW-Authenticate") == NULL)
    {
        error = "";

    } else {
        return NGX_OK;
    }

    realm = lcf->realm;

    if (realm.len == 0) {
        cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
        realm = cscf->server_name;
    }

    value.len = sizeof("Bearer realm=\"\"") - 1 + realm.len
                + ngx_strlen(error);

    if (scope) {
        value.len += sizeof(", scope=\"\"") - 1 + scope->len;
    }

    value.data = ngx_pnalloc(r->pool, value.len);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(value.data, "Bearer realm=\"%V\"%s", &realm, error);

    if (scope) {
        ngx_sprintf(p, ", scope=\"%V\"", scope);
    }

    return ngx_http_keygate_set_header(r, &name, &value);
}


ngx_int_t
ngx_http_keygate_retry_after(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t retryable)
{
    ngx_str_t         value;
    ngx_uint_t        seconds;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("Retry-After");

    if (!retryable) {
        return ngx_http_keygate_set_header(r, &name, NULL);
    }

    seconds = ngx_http_keygate_own(r, ctx) ? ctx->retry_after : 0;

    if (seconds == 0) {
        h = ngx_http_keygate_header_out(r, "Retry-After");

        /* proxy_intercept_errors puts it aside with the answer. */

        if (h == NULL && !ctx->from_upstream) {
            h = ngx_http_keygate_header_said(r, &name);
        }

        value = h ? h->value : ctx->retry_was;
        seconds = ngx_http_keygate_retry_seconds(&value);

        if (seconds > NGX_HTTP_KEYGATE_RETRY_MAX) {
            seconds = NGX_HTTP_KEYGATE_RETRY_MAX;

        } else if (seconds) {
            return ngx_http_keygate_set_header(r, &name, &value);
        }
    }

    value.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = kg_put_decimal(value.data, ngx_max(seconds, 1)) - value.data;

    return ngx_http_keygate_set_header(r, &name, &value);
}


/*
 * RFC 9110, 10.2.3: the seconds, or those up to a date, of which none is left
 * when it is past.  0 for what is neither.
 */

static ngx_uint_t
ngx_http_keygate_retry_seconds(const ngx_str_t *value)
{
    size_t      i;
    time_t      date;
    ngx_int_t   seconds;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < '0' || value->data[i] > '9') {
            break;
        }
    }

    if (i == value->len) {
        seconds = ngx_atoi(value->data, value->len);

        /* more than a number has room for */

        return (seconds == NGX_ERROR && i) ? NGX_MAX_INT_T_VALUE
                                           : ngx_max(seconds, 0);
    }

    date = ngx_parse_http_time(value->data, value->len);

    return date > ngx_time() ? date - ngx_time() : 0;
}
