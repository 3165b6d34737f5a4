
/*
 * The admin interface's answers: refusals, which the filter gives the
 * contract's envelope, and JSON objects.
 */

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_ADMIN_MESSAGE_MAX  512


static ngx_int_t ngx_http_keygate_admin_message(
    ngx_http_keygate_admin_t *admin, const char *fmt, va_list args);
static ngx_int_t ngx_http_keygate_admin_send(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, ngx_str_t *body);


ngx_int_t
ngx_http_keygate_admin_refuse(ngx_http_keygate_admin_t *admin,
    kg_error_code_t code, const ngx_str_t *field, const char *fmt, ...)
{
    json_t      *object;
    va_list      args;
    ngx_int_t    rc;
    ngx_str_t    details;
    ngx_pool_t  *pool;

    pool = admin->request->pool;

    va_start(args, fmt);
    rc = ngx_http_keygate_admin_message(admin, fmt, args);
    va_end(args);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (field == NULL) {
        return ngx_http_keygate_refuse(admin->request, admin->ctx, code, NULL);
    }

    object = json_pack("{s:s%}", "field", field->data, field->len);
    details = ngx_http_keygate_admin_dump(pool, object);
    json_decref(object);

    if (details.data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_refuse(admin->request, admin->ctx, code, &details);
}


ngx_int_t
ngx_http_keygate_admin_forbid(ngx_http_keygate_admin_t *admin,
    ngx_str_t *details, const char *fmt, ...)
{
    va_list    args;
    ngx_int_t  rc;

    va_start(args, fmt);
    rc = ngx_http_keygate_admin_message(admin, fmt, args);
    va_end(args);

    return (rc == NGX_OK)
           ? ngx_http_keygate_refuse(admin->request, admin->ctx,
                                     KG_ERR_FORBIDDEN, details)
           : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_message(ngx_http_keygate_admin_t *admin,
    const char *fmt, va_list args)
{
    u_char  *p, *last;

    p = ngx_pnalloc(admin->request->pool, NGX_HTTP_KEYGATE_ADMIN_MESSAGE_MAX);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_vslprintf(p, p + NGX_HTTP_KEYGATE_ADMIN_MESSAGE_MAX, fmt, args);

    admin->ctx->message.data = p;
    admin->ctx->message.len = last - p;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_unknown(ngx_http_keygate_admin_t *admin,
    const char *what, ngx_str_t *id)
{
    return ngx_http_keygate_admin_refuse(admin, KG_ERR_NOT_FOUND, NULL,
                                         "There is no %s \"%V\"", what, id);
}


ngx_int_t
ngx_http_keygate_admin_test_only(ngx_http_keygate_admin_t *admin,
    const char *verb)
{
    static ngx_str_t  reason = ngx_string("{\"reason\":\"test_keys_only\"}");

    return ngx_http_keygate_admin_forbid(admin, &reason, "%s may %s test keys "
                                         "only", admin->self
                                         ? "A key" : "The role of this address",
                                         verb);
}


ngx_int_t
ngx_http_keygate_admin_broken(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_refuse(admin, KG_ERR_INTERNAL_ERROR, NULL,
                                         "The record is not valid, see the "
                                         "error log");
}


/*
 * No upstream was asked, so the filter says that it may be tried again, which
 * is right for writes too: each may be made twice.  A key whose making was cut
 * off has a token that nobody knows.
 */

ngx_int_t
ngx_http_keygate_admin_unavailable(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_refuse(admin->request, admin->ctx,
                                   KG_ERR_SERVICE_UNAVAILABLE, NULL);
}


ngx_int_t
ngx_http_keygate_admin_answer(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, json_t *object)
{
    u_char      *p;
    ngx_str_t    text, body;
    ngx_pool_t  *pool;

    pool = admin->request->pool;

    /* To a partner we are the API, whose bodies name the request. */

    if (admin->self
        && json_object_set_new(object, "requestId",
                               json_stringn((char *) admin->ctx->id,
                                            KG_REQUEST_ID_LEN))
           != 0)
    {
        json_decref(object);
        return NGX_ERROR;
    }

    text = ngx_http_keygate_admin_dump(pool, object);
    json_decref(object);

    if (text.data == NULL) {
        return NGX_ERROR;
    }

    if (admin->token.len == 0) {
        return ngx_http_keygate_admin_send(admin, status, &text);
    }

    /*
     * The token goes into the text, not the object: jansson's copies of it
     * would be freed without being wiped.  It has no character to escape.
     */

    body.len = text.len + sizeof(",\"token\":\"\"") - 1 + admin->token.len;

    body.data = ngx_pnalloc(pool, body.len);
    if (body.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(body.data, text.data, text.len - 1);
    p = ngx_sprintf(p, ",\"token\":\"%V\"}", &admin->token);

    /* What is wiped with the request is this copy, once it was sent. */

    ngx_explicit_memzero(admin->token.data, admin->token.len);
    admin->token.data = p - 2 - admin->token.len;

    return ngx_http_keygate_admin_send(admin, status, &body);
}


static ngx_int_t
ngx_http_keygate_admin_send(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, ngx_str_t *body)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    static ngx_str_t  type = ngx_string("application/json");

    r = admin->request;

    rc = ngx_http_keygate_admin_send_header(admin, status, &type, body->len);

    if (rc != NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_keygate_admin_sent(ngx_http_output_filter(r, &out));
}


ngx_int_t
ngx_http_keygate_admin_sent(ngx_int_t rc)
{
    return (rc == NGX_AGAIN) ? NGX_OK : rc;
}


ngx_int_t
ngx_http_keygate_admin_send_header(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, ngx_str_t *type, off_t length)
{
    ngx_http_request_t  *r;

    static ngx_str_t  cache_control = ngx_string("Cache-Control");
    static ngx_str_t  no_store = ngx_string("no-store");

    r = admin->request;

    /* What was done cannot fail for a precondition any more. */

    r->disable_not_modified = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = length;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    if (ngx_http_keygate_set_header(r, &cache_control, &no_store) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_sent(ngx_http_send_header(r));
}
