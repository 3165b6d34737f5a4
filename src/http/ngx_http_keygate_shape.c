
/*
 * One error contract, whoever erred: Keygate, nginx or the upstream.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static ngx_int_t ngx_http_keygate_envelope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe, int *retryable);
static ngx_int_t ngx_http_keygate_upstream_envelope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t safe, int *retryable);
static ngx_uint_t ngx_http_keygate_is_gzip(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_settled(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t safe);
static kg_format_t ngx_http_keygate_format(ngx_http_request_t *r);
static void ngx_http_keygate_free(void *data);


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


ngx_int_t
ngx_http_keygate_shape(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    int         retryable;
    ngx_int_t   rc;
    ngx_uint_t  safe;

    static ngx_str_t  cache_control = ngx_string("Cache-Control");
    static ngx_str_t  no_store = ngx_string("no-store");
    static ngx_str_t  content_range = ngx_string("Content-Range");

    /* There is none (RFC 9110, 15), but "return" takes any up to 999. */

    if (r->headers_out.status > 599) {
        r->err_status = NGX_HTTP_INTERNAL_SERVER_ERROR;
        r->headers_out.status = NGX_HTTP_INTERNAL_SERVER_ERROR;
        r->headers_out.status_line.len = 0;
    }

    /* error_page has made a GET of the write by now. */

    safe = (ctx->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
           || ngx_http_keygate_again(r, ctx);

    /* RFC 9110, 8.6: no length is better than one that GET has not. */

    ctx->unseen = (ctx->from_upstream && !ctx->truncated
                   && r->method == NGX_HTTP_HEAD && ctx->held_len == 0);

    if (ctx->from_upstream && !ctx->truncated) {
        rc = ngx_http_keygate_upstream_envelope(r, ctx, safe, &retryable);

    } else {
        rc = ngx_http_keygate_envelope(r, ctx, safe, &retryable);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_keygate_drop_headers(r, ngx_http_keygate_body_headers);

    /* RFC 9110, 14.4: of a 416 it says how long what there is would be. */

    if (r->headers_out.status != NGX_HTTP_RANGE_NOT_SATISFIABLE
        && ngx_http_keygate_set_header(r, &content_range, NULL) != NGX_OK)
    {
        return NGX_ERROR;
    }

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


ngx_uint_t
ngx_http_keygate_own(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    return ctx->error && ctx->error->status == r->headers_out.status;
}


static void
ngx_http_keygate_free(void *data)
{
    free(data);
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
