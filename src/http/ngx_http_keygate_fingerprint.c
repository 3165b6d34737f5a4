
/*
 * The fingerprint of a write: what makes two requests the same.  The body is
 * hashed from where nginx has read it to, memory or file.
 */

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_READ  65536    /* bytes of a body's file at a time */


static ngx_int_t ngx_http_keygate_hash_body(ngx_http_request_t *r,
    kg_sha_t *sha);
static ngx_int_t ngx_http_keygate_hash_file(ngx_http_request_t *r,
    kg_sha_t *sha, ngx_buf_t *b);


ngx_int_t
ngx_http_keygate_fingerprint(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    kg_sha_t                     *sha;
    ngx_uint_t                    count;
    ngx_table_elt_t              *type, *encoding;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("Content-Encoding");

    type = r->headers_in.content_type;
    encoding = ngx_http_keygate_header_in(r, &name, &count);

    sha = kg_idem_fingerprint(ngx_http_keygate_kg(&r->method_name),
                   ngx_http_keygate_kg(&r->unparsed_uri),
                   type ? ngx_http_keygate_kg(&type->value) : NULL,
                   encoding ? ngx_http_keygate_kg(&encoding->value) : NULL);
    if (sha == NULL) {
        return NGX_ERROR;
    }

    /* What keygate_self has answered, a token maybe, is its caller's alone. */

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if ((lcf->self
         && kg_sha_update(sha, ctx->key.id.data, ctx->key.id.len) != KG_OK)
        || ngx_http_keygate_hash_body(r, sha) != NGX_OK)
    {
        kg_sha_free(sha);
        return NGX_ERROR;
    }

    return kg_sha_final(sha, ctx->claim->fingerprint) == KG_OK ? NGX_OK
                                                               : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_hash_body(ngx_http_request_t *r, kg_sha_t *sha)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
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
