
/*
 * The fingerprint of a write: what makes two requests the same.
 *
 * The body is hashed as it arrives, in a request body filter: of one that nginx
 * buffers to a file nothing is read again, and no worker stands still for the
 * whole of it at once.  A body that another module read first (mirror) is
 * hashed from where nginx has put it, memory or file.
 */

#include "ngx_http_keygate_idempotency.h"


#define NGX_HTTP_KEYGATE_READ  65536    /* bytes of a body's file at a time */


static ngx_int_t ngx_http_keygate_request_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static kg_sha_t *ngx_http_keygate_hash_head(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_joined(ngx_http_request_t *r,
    const ngx_str_t *name, ngx_str_t *value, kg_str_t **part);
static ngx_int_t ngx_http_keygate_hash_body(ngx_http_request_t *r,
    kg_sha_t *sha, ngx_chain_t *cl);
static ngx_int_t ngx_http_keygate_hash_file(ngx_http_request_t *r,
    kg_sha_t *sha, ngx_buf_t *b);


static ngx_http_request_body_filter_pt  ngx_http_next_request_body_filter;


ngx_int_t
ngx_http_keygate_fingerprint_start(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    if (r->request_body) {
        return NGX_OK;
    }

    ctx->sha = ngx_http_keygate_hash_head(r, ctx);

    return ctx->sha ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_fingerprint(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    kg_sha_t  *sha;

    sha = ctx->sha;

    if (sha == NULL) {
        sha = ngx_http_keygate_hash_head(r, ctx);
        if (sha == NULL) {
            return NGX_ERROR;
        }

        if (r->request_body
            && ngx_http_keygate_hash_body(r, sha, r->request_body->bufs)
               != NGX_OK)
        {
            kg_sha_free(sha);
            return NGX_ERROR;
        }
    }

    ctx->sha = NULL;

    return kg_sha_final(sha, ctx->claim->fingerprint) == KG_OK ? NGX_OK
                                                               : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_request_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_keygate_module);

    if (ctx && ctx->sha
        && ngx_http_keygate_hash_body(r, ctx->sha, in) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_next_request_body_filter(r, in);
}


void
ngx_http_keygate_fingerprint_init(void)
{
    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_keygate_request_body_filter;
}


static kg_sha_t *
ngx_http_keygate_hash_head(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    kg_sha_t                     *sha;
    kg_str_t                     *type, *encoding;
    ngx_str_t                     type_value, encoding_value;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  content_type = ngx_string("Content-Type");
    static ngx_str_t  content_encoding = ngx_string("Content-Encoding");

    if (ngx_http_keygate_joined(r, &content_type, &type_value, &type)
        != NGX_OK
        || ngx_http_keygate_joined(r, &content_encoding, &encoding_value,
                                   &encoding)
           != NGX_OK)
    {
        return NULL;
    }

    sha = kg_idem_fingerprint(ngx_http_keygate_kg(&r->method_name),
                              ngx_http_keygate_kg(&r->unparsed_uri), type,
                              encoding);
    if (sha == NULL) {
        return NULL;
    }

    /* What keygate_self has answered, a token maybe, is its caller's alone. */

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->self
        && kg_sha_update(sha, ctx->key.id.data, ctx->key.id.len) != KG_OK)
    {
        kg_sha_free(sha);
        return NULL;
    }

    return sha;
}


/*
 * The value of a header; of one that was sent twice, all of them with commas
 * between: nginx passes each on.  *part is NULL when there is none.
 */

static ngx_int_t
ngx_http_keygate_joined(ngx_http_request_t *r, const ngx_str_t *name,
    ngx_str_t *value, kg_str_t **part)
{
    size_t            len;
    u_char           *p;
    ngx_uint_t        i, count;
    ngx_list_part_t  *headers;
    ngx_table_elt_t  *h;

    *part = NULL;

    h = ngx_http_keygate_header_in(r, name, &count);
    if (h == NULL) {
        return NGX_OK;
    }

    *value = h->value;
    *part = ngx_http_keygate_kg(value);

    if (count == 1) {
        return NGX_OK;
    }

    for (len = 0, p = NULL; /* void */ ; len = 0) {
        headers = &r->headers_in.headers.part;
        i = 0;

        while ((h = ngx_http_keygate_next_header(&headers, &i)) != NULL) {

            if (h->key.len != name->len
                || ngx_strncasecmp(h->key.data, name->data, name->len) != 0)
            {
                continue;
            }

            if (p) {
                p = ngx_cpymem(p, h->value.data, h->value.len);
                *p++ = ',';
            }

            len += h->value.len + 1;
        }

        if (p) {
            value->len = len;
            return NGX_OK;
        }

        p = ngx_pnalloc(r->pool, len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value->data = p;
    }
}


static ngx_int_t
ngx_http_keygate_hash_body(ngx_http_request_t *r, kg_sha_t *sha,
    ngx_chain_t *cl)
{
    ngx_buf_t  *b;

    for ( /* void */ ; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            if (kg_sha_update(sha, b->pos, b->last - b->pos) != KG_OK) {
                return NGX_ERROR;
            }

        } else if (b->in_file
                   && ngx_http_keygate_hash_file(r, sha, b) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_hash_file(ngx_http_request_t *r, kg_sha_t *sha, ngx_buf_t *b)
{
    off_t     offset;
    size_t    size;
    ssize_t   n;
    u_char   *data;

    data = ngx_palloc(r->pool, NGX_HTTP_KEYGATE_READ);
    if (data == NULL) {
        return NGX_ERROR;
    }

    for (offset = b->file_pos; offset < b->file_last; offset += n) {
        size = ngx_min(b->file_last - offset, NGX_HTTP_KEYGATE_READ);
        n = ngx_read_file(b->file, data, size, offset);

        if (n <= 0 || kg_sha_update(sha, data, n) != KG_OK) {
            (void) ngx_pfree(r->pool, data);
            return NGX_ERROR;
        }
    }

    (void) ngx_pfree(r->pool, data);

    return NGX_OK;
}
