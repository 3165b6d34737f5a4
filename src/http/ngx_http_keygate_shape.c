
/*
 * One error contract, whoever erred: Keygate, nginx or the upstream.
 */

#include "ngx_http_keygate.h"
#include "kg_decimal.h"


static ngx_int_t ngx_http_keygate_envelope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe, int *retryable);
static ngx_int_t ngx_http_keygate_upstream_envelope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe, int *retryable);
static ngx_uint_t ngx_http_keygate_is_gzip(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_settled(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t safe);
static ngx_int_t ngx_http_keygate_retry_after(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t retryable);
static ngx_uint_t ngx_http_keygate_retry_seconds(const ngx_str_t *value);
static ngx_int_t ngx_http_keygate_allow(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_challenge(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static kg_format_t ngx_http_keygate_format(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_own(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_free(void *data);


/*
 * s: an upstream may ask for no longer a wait.  A client sleeps for as long as
 * it is told, and the same request is not the same after its idempotency key
 * has gone.
 */
#define NGX_HTTP_KEYGATE_RETRY_MAX  86400


/* What described the body that is replaced, and who may keep it. */

static ngx_str_t  ngx_http_keygate_body_headers[] = {
    ngx_string("Content-Encoding"),
    ngx_string("Content-Language"),
    ngx_string("Content-Location"),
    ngx_string("Content-Disposition"),
    ngx_string("Content-MD5"),
    ngx_string("Content-Digest"),
    ngx_string("Repr-Digest"),
    ngx_string("Digest"),
    ngx_string("Trailer"),
    ngx_string("Accept-Ranges"),
    ngx_string("ETag"),
    ngx_string("Last-Modified"),
    ngx_string("Expires"),
    ngx_string("Pragma"),
    ngx_string("CDN-Cache-Control"),
    ngx_string("Surrogate-Control"),
    ngx_null_string
};


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
ngx_http_keygate_shape(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    int         retryable;
    ngx_int_t   rc;
    ngx_uint_t  safe;

    static ngx_str_t  cache_control = ngx_string("Cache-Control");
    static ngx_str_t  no_store = ngx_string("no-store");

    /* error_page has made a GET of the write by now. */

    safe = (ctx->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
           || ngx_http_keygate_again(r, ctx);

    if (ctx->from_upstream && !ctx->truncated) {
        rc = ngx_http_keygate_upstream_envelope(r, ctx, safe, &retryable);

    } else {
        rc = ngx_http_keygate_envelope(r, ctx, safe, &retryable);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_keygate_drop_headers(r, ngx_http_keygate_body_headers);

    ngx_http_clear_accept_ranges(r);
    ngx_http_clear_last_modified(r);
    ngx_http_clear_etag(r);
    r->headers_out.content_encoding = NULL;

    if (ngx_http_keygate_format(r) == KG_FORMAT_PROBLEM) {
        ngx_str_set(&r->headers_out.content_type, "application/problem+json");

    } else {
        ngx_str_set(&r->headers_out.content_type, "application/json");
    }

    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.len = 0;
    r->headers_out.override_charset = NULL;

    if (ngx_http_keygate_set_header(r, &cache_control, &no_store) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_retry_after(r, ctx, retryable);
}


static ngx_int_t
ngx_http_keygate_envelope(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t safe, int *retryable)
{
    const kg_error_t             *error;
    kg_envelope_t                 envelope;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    ngx_memzero(&envelope, sizeof(kg_envelope_t));

    if (ngx_http_keygate_own(r, ctx)) {
        error = kg_catalogue_entry(lcf->catalogue, ctx->error);
        envelope.details = *ngx_http_keygate_kg(&ctx->details);
        envelope.message = *ngx_http_keygate_kg(&ctx->message);

    } else {
        error = kg_catalogue_of_status(lcf->catalogue,
                                       r->headers_out.status);
    }

    if (envelope.message.len == 0) {
        envelope.message = error->message;
    }

    *retryable = !ngx_http_keygate_settled(ctx, safe)
                 && kg_error_retryable(r->headers_out.status, &error->code,
                                       safe);

    envelope.format = ngx_http_keygate_format(r);
    envelope.status = r->headers_out.status;
    envelope.code = error->code;
    envelope.retryable = *retryable;
    envelope.request_id = *ngx_http_keygate_kg(&ctx->request_id);

    kg_catalogue_document(lcf->catalogue, &envelope);

    ctx->code = *ngx_http_keygate_ngx(&error->code);

    ctx->held_len = kg_envelope_write(&envelope, NULL);

    ctx->held = ngx_pnalloc(r->pool, ctx->held_len);
    if (ctx->held == NULL) {
        return NGX_ERROR;
    }

    kg_envelope_write(&envelope, ctx->held);

    return NGX_OK;
}


/* What an upstream says, or, where it is the page of a refusal, that. */

static ngx_int_t
ngx_http_keygate_upstream_envelope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe, int *retryable)
{
    kg_shaped_t                   out;
    ngx_pool_cleanup_t           *cln;
    kg_upstream_error_t           in;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&in, sizeof(kg_upstream_error_t));

    in.status = r->headers_out.status;
    in.format = ngx_http_keygate_format(r);
    in.catalogue = lcf->catalogue;
    in.body.data = ctx->held;
    in.body.len = ctx->held_len;
    in.whole = !ctx->overflow;
    in.gzip = ngx_http_keygate_is_gzip(r);
    in.safe = safe;
    in.settled = ngx_http_keygate_settled(ctx, safe);
    in.request_id = *ngx_http_keygate_kg(&ctx->request_id);

    if (kg_error_shape(&in, &out) != KG_OK) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_keygate_free;
    cln->data = out.text.data;

    if (!out.own && ngx_http_keygate_own(r, ctx)) {
        return ngx_http_keygate_envelope(r, ctx, safe, retryable);
    }

    ctx->held = out.text.data;
    ctx->held_len = out.text.len;
    *retryable = out.retryable;

    ctx->code.data = ngx_pnalloc(r->pool, out.code_len);
    if (ctx->code.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ctx->code.data, out.code, out.code_len);
    ctx->code.len = out.code_len;

    return NGX_OK;
}


/* RFC 9110, 8.4.1.3: x-gzip is gzip. */

static ngx_uint_t
ngx_http_keygate_is_gzip(ngx_http_request_t *r)
{
    ngx_str_t         coding;
    ngx_table_elt_t  *h;

    h = r->headers_out.content_encoding;

    if (h == NULL || h->hash == 0) {
        return 0;
    }

    coding = h->value;

    if (coding.len > 2
        && ngx_strncasecmp(coding.data, (u_char *) "x-", 2) == 0)
    {
        coding.data += 2;
        coding.len -= 2;
    }

    return coding.len == 4
           && ngx_strncasecmp(coding.data, (u_char *) "gzip", 4) == 0;
}


/*
 * 1 for a write that has its Idempotency-Key and does not give it back: a retry
 * gets this answer again or "outcome unknown", whatever its status and code
 * would say elsewhere.
 */

static ngx_uint_t
ngx_http_keygate_settled(ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe)
{
    return ctx->claim && ctx->claim->held && !safe;
}


/* The calls of the administration are always answered in the envelope. */

static kg_format_t
ngx_http_keygate_format(ngx_http_request_t *r)
{
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    return lcf->role ? KG_FORMAT_ENVELOPE : (kg_format_t) lcf->errors;
}


/* 1 when the answer is a refusal of ours, not what error_page made of it. */

static ngx_uint_t
ngx_http_keygate_own(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    return ctx->error && ctx->error->status == r->headers_out.status;
}


static void
ngx_http_keygate_free(void *data)
{
    free(data);
}


/* Retry-After is there exactly when the error is retryable. */

static ngx_int_t
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


ngx_uint_t
ngx_http_keygate_untouched(ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_upstream_t        *u;
    ngx_http_upstream_state_t  *state;

    u = r->upstream;

    /* nginx notes the bytes when it is done with a peer, not before. */

    if (u && u->cleanup && u->peer.connection && u->peer.connection->sent) {
        return 0;
    }

    if (r->upstream_states == NULL) {
        return 1;
    }

    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {
        if (state[i].bytes_sent) {
            return 0;
        }
    }

    return 1;
}


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

    if (own && ngx_http_keygate_challenge(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    /* With keygate_errors off nothing else has set it. */

    if (own && ctx->retry_after && !ctx->shape
        && ngx_http_keygate_retry_after(r, ctx, 1) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!own && ctx->shape && r->headers_out.status == NGX_HTTP_NOT_ALLOWED) {
        return ngx_http_keygate_allow(r, ctx);
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


/* RFC 6750, 3: a challenge with an error only when a key was sent. */

static ngx_int_t
ngx_http_keygate_challenge(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    u_char                       *p;
    ngx_str_t                     value, realm;
    const char                   *error;
    ngx_http_core_srv_conf_t     *cscf;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("WWW-Authenticate");

    if (ctx->error == kg_error_get(KG_ERR_UNAUTHORIZED)) {
        error = ctx->sent_key ? ", error=\"invalid_token\"" : "";

    } else if (ctx->error == kg_error_get(KG_ERR_FORBIDDEN)
               && ctx->needs_scope)
    {
        error = ", error=\"insufficient_scope\"";

    } else {
        return NGX_OK;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);
    realm = lcf->realm;

    if (realm.len == 0) {
        cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
        realm = cscf->server_name;
    }

    value.len = sizeof("Bearer realm=\"\"") - 1 + realm.len
                + ngx_strlen(error);

    if (ctx->needs_scope) {
        value.len += sizeof(", scope=\"\"") - 1 + ctx->needs_scope->len;
    }

    value.data = ngx_pnalloc(r->pool, value.len);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(value.data, "Bearer realm=\"%V\"%s", &realm, error);

    if (ctx->needs_scope) {
        ngx_sprintf(p, ", scope=\"%V\"", ctx->needs_scope);
    }

    return ngx_http_keygate_set_header(r, &name, &value);
}
