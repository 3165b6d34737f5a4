
/*
 * The replay: the first answer of a write again, from what was sealed of it.
 */

#include "ngx_http_keygate_idempotency.h"


static ngx_int_t ngx_http_keygate_open(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_answer_t *answer);
static ngx_int_t ngx_http_keygate_replay_headers(ngx_http_request_t *r,
    kg_answer_t *answer);
static void ngx_http_keygate_replay_type(ngx_http_request_t *r,
    ngx_str_t *value);


ngx_str_t  ngx_http_keygate_accel_charset = ngx_string("X-Accel-Charset");
ngx_str_t  ngx_http_keygate_accel_location = ngx_string("X-Accel-Location");


/* Returning NGX_OK or NGX_DECLINED here would still go on to the upstream. */

ngx_int_t
ngx_http_keygate_replay(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t   out;
    kg_answer_t   answer;

    rc = ngx_http_keygate_open(r, ctx, &answer);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_refuse_first(r, ctx,
                                     KG_ERR_IDEMPOTENCY_REPLAY_UNAVAILABLE);
    }

    if (rc != NGX_OK || ngx_http_discard_request_body(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->as_it_is = 1;
    ctx->replayed = ctx->first_id;
    ngx_str_set(&ctx->verdict, "replayed");

    /* The caller's conditions and ranges were the first request's. */

    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    r->headers_out.status = answer.status;
    r->headers_out.content_length_n = (answer.status == NGX_HTTP_NOT_MODIFIED)
                                      ? -1 : (off_t) answer.body.len;

    if (ngx_http_keygate_replay_headers(r, &answer) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    if (answer.body.len) {
        b->pos = answer.body.data;
        b->last = answer.body.data + answer.body.len;
        b->memory = 1;
    }

    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    ngx_http_finalize_request(r, ngx_http_output_filter(r, &out));
    return NGX_DONE;
}


/* NGX_OK, NGX_DECLINED when it cannot be opened, NGX_ERROR for no memory. */

static ngx_int_t
ngx_http_keygate_open(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_answer_t *answer)
{
    kg_rc_t                         rc;
    ngx_str_t                       plain;
    ngx_uint_t                      i;
    kg_pepper_t                   **peppers;
    ngx_http_keygate_main_conf_t   *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);
    peppers = mcf->peppers.elts;

    plain.len = 0;
    plain.data = ngx_pnalloc(r->pool, ctx->sealed.len);

    if (plain.data == NULL) {
        return NGX_ERROR;
    }

    rc = KG_INVALID;

    for (i = 0; i < mcf->peppers.nelts && rc == KG_INVALID; i++) {
        rc = kg_open(peppers[i], ngx_http_keygate_kg(&ctx->claim->name),
                     ngx_http_keygate_kg(&ctx->sealed), plain.data,
                     &plain.len);
    }

    if (rc == KG_OK
        && kg_answer_decode(ngx_http_keygate_kg(&plain), answer) == KG_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "keygate: a stored answer cannot be opened: was the pepper "
                  "it was sealed with taken away?");

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_keygate_replay_headers(ngx_http_request_t *r, kg_answer_t *answer)
{
    size_t      i;
    ngx_str_t  *name, *value, *charset;
    ngx_uint_t  whole;

    static ngx_str_t  type = ngx_string("Content-Type");

    whole = 0;

    for (i = 0; i < answer->nheaders; i++) {
        name = ngx_http_keygate_ngx(&answer->headers[i].name);
        value = ngx_http_keygate_ngx(&answer->headers[i].value);

        if (name->len == type.len
            && ngx_strncasecmp(name->data, type.data, type.len) == 0)
        {
            ngx_http_keygate_replay_type(r, value);
            continue;
        }

        if (name->len == ngx_http_keygate_accel_charset.len
            && ngx_strncmp(name->data, ngx_http_keygate_accel_charset.data,
                           name->len)
               == 0)
        {
            charset = ngx_palloc(r->pool, sizeof(ngx_str_t));
            if (charset == NULL) {
                return NGX_ERROR;
            }

            *charset = *value;
            r->headers_out.override_charset = charset;
            continue;
        }

        if (name->len == ngx_http_keygate_accel_location.len
            && ngx_strncmp(name->data, ngx_http_keygate_accel_location.data,
                           name->len)
               == 0)
        {
            whole = 1;
            continue;
        }

        if (ngx_http_keygate_push_header(r, name, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    /*
     * So that filters find them: gzip leaves alone what is encoded already, and
     * what changes a body takes back what was said of its bytes.
     */

    r->headers_out.content_encoding =
                         ngx_http_keygate_header_out(r, "Content-Encoding");
    r->headers_out.etag = ngx_http_keygate_header_out(r, "ETag");
    r->headers_out.last_modified =
                         ngx_http_keygate_header_out(r, "Last-Modified");

    if (whole) {
        r->headers_out.location = ngx_http_keygate_header_out(r, "Location");
    }

    return NGX_OK;
}


/*
 * As nginx takes it from an upstream, the type and its charset apart: by the
 * type alone gzip, sub and others decide whether an answer is theirs.
 */

static void
ngx_http_keygate_replay_type(ngx_http_request_t *r, ngx_str_t *value)
{
    u_char  *p, *type_end, *end;

    static ngx_str_t  charset = ngx_string("charset=");

    r->headers_out.content_type = *value;
    r->headers_out.content_type_len = value->len;
    r->headers_out.content_type_lowcase = NULL;

    end = value->data + value->len;

    for (p = value->data; p < end; p++) {

        if (*p != ';') {
            continue;
        }

        type_end = p;

        while (p + 1 < end && p[1] == ' ') {
            p++;
        }

        if ((size_t) (end - p - 1) < charset.len
            || ngx_strncasecmp(p + 1, charset.data, charset.len) != 0)
        {
            continue;
        }

        p += 1 + charset.len;

        if (p < end && *p == '"') {
            p++;
        }

        if (end > p && end[-1] == '"') {
            end--;
        }

        r->headers_out.content_type_len = type_end - value->data;
        r->headers_out.charset.data = p;
        r->headers_out.charset.len = end - p;

        return;
    }
}
