
/*
 * The bodies of the admin interface's calls: JSON objects and secrets, which
 * are small and come in one piece, and lines, which are left where nginx has
 * put them.
 */

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_ADMIN_BODY_MAX  65536


static ngx_int_t ngx_http_keygate_admin_copy_body(
    ngx_http_keygate_admin_t *admin, ngx_str_t *text);
static ngx_int_t ngx_http_keygate_admin_parse_body(
    ngx_http_keygate_admin_t *admin, ngx_str_t *text);


ngx_int_t
ngx_http_keygate_admin_read_body(ngx_http_keygate_admin_t *admin)
{
    off_t                           size;
    ngx_int_t                       rc;
    ngx_chain_t                    *cl;
    ngx_http_request_t             *r;
    ngx_http_keygate_admin_body_t   kind;

    r = admin->request;
    kind = admin->call->body;
    size = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        size += ngx_buf_size(cl->buf);
    }

    if (kind == NGX_HTTP_KEYGATE_ADMIN_LINES) {

        if (size > NGX_HTTP_KEYGATE_ADMIN_MAX) {
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST,
                                                 NULL,
                                                 "The body is over 64 MiB");
        }

        return NGX_OK;
    }

    if (size > NGX_HTTP_KEYGATE_ADMIN_BODY_MAX) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "The body is over 64 KiB");
    }

    admin->text.len = size;

    rc = ngx_http_keygate_admin_copy_body(admin, &admin->text);

    if (rc == NGX_OK && kind == NGX_HTTP_KEYGATE_ADMIN_OBJECT) {
        rc = ngx_http_keygate_admin_parse_body(admin, &admin->text);
    }

    return rc;
}


/* What nginx read, in memory or in a file, in one piece of the pool. */

static ngx_int_t
ngx_http_keygate_admin_copy_body(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text)
{
    u_char              *p;
    size_t               size;
    ssize_t              n;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = admin->request;

    p = ngx_pnalloc(r->pool, text->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->data = p;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, b->last - b->pos);
            continue;
        }

        if (!b->in_file) {
            continue;
        }

        size = b->file_last - b->file_pos;

        n = ngx_read_file(b->file, p, size, b->file_pos);
        if (n != (ssize_t) size) {
            return NGX_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_parse_body(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text)
{
    json_error_t  error;

    admin->body = json_loadb((char *) text->data, text->len,
                             JSON_REJECT_DUPLICATES|JSON_DECODE_ANY, &error);

    if (admin->body == NULL) {

        switch (json_error_code(&error)) {

        case json_error_out_of_memory:
            return NGX_ERROR;

        case json_error_duplicate_key:
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST,
                                                 NULL, "The body names a "
                                                 "field twice, line %d",
                                                 error.line);
        default:
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST,
                                                 NULL, "The body is not JSON, "
                                                 "line %d column %d",
                                                 error.line, error.column);
        }
    }

    if (!json_is_object(admin->body)) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "The body is not a JSON object");
    }

    return NGX_OK;
}


void
ngx_http_keygate_admin_wipe_body(ngx_http_keygate_admin_t *admin)
{
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = admin->request;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            ngx_explicit_memzero(b->pos, b->last - b->pos);
        }
    }

    ngx_explicit_memzero(admin->text.data, admin->text.len);
}
