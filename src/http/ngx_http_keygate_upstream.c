
/*
 * What the upstream is told of the request and its caller.
 *
 * Each of it is a variable.  But nginx's proxy works on every header that has
 * a variable for longer than all of these take here, so they are one variable
 * too: the value of X-Request-Id, and behind it the other headers, each a line.
 */

#include "ngx_http_keygate.h"


enum {
    NGX_HTTP_KEYGATE_LINE_ORG = 0,
    NGX_HTTP_KEYGATE_LINE_KEY_ID,
    NGX_HTTP_KEYGATE_LINE_MODE,
    NGX_HTTP_KEYGATE_LINE_SCOPES,
    NGX_HTTP_KEYGATE_LINE_ROUTE,
    NGX_HTTP_KEYGATE_LINE_CLIENT_ID,
    NGX_HTTP_KEYGATE_LINE_AUTHORIZATION,
    NGX_HTTP_KEYGATE_LINES
};


/* What stands before a value. */

static const ngx_str_t  ngx_http_keygate_lines[] = {
    ngx_string(CRLF "X-Keygate-Org: "),
    ngx_string(CRLF "X-Keygate-Key-Id: "),
    ngx_string(CRLF "X-Keygate-Mode: "),
    ngx_string(CRLF "X-Keygate-Scopes: "),
    ngx_string(CRLF "X-Keygate-Route: "),
    ngx_string(CRLF "X-Client-Request-Id: "),
    ngx_string(CRLF "Authorization: ")
};


ngx_int_t
ngx_http_keygate_upstream_headers(ngx_http_request_t *r, ngx_str_t *headers)
{
    size_t                   len;
    u_char                  *p;
    ngx_str_t                values[NGX_HTTP_KEYGATE_LINES];
    ngx_uint_t               i;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ngx_http_keygate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(values, sizeof(values));

    if (ctx->key.id.len && !ngx_http_keygate_hides(r, ctx)) {
        values[NGX_HTTP_KEYGATE_LINE_ORG]
                                      = *ngx_http_keygate_ngx(&ctx->key.org);
        values[NGX_HTTP_KEYGATE_LINE_KEY_ID]
                                      = *ngx_http_keygate_ngx(&ctx->key.id);
        values[NGX_HTTP_KEYGATE_LINE_MODE]
                        = *ngx_http_keygate_ngx(kg_mode_name(ctx->key.mode));
        values[NGX_HTTP_KEYGATE_LINE_SCOPES]
                                   = *ngx_http_keygate_ngx(&ctx->key.scopes);
    }

    if (ctx->route) {
        values[NGX_HTTP_KEYGATE_LINE_ROUTE] = ctx->route->name;
    }

    values[NGX_HTTP_KEYGATE_LINE_CLIENT_ID]
                                      = ngx_http_keygate_client_request_id(r);
    values[NGX_HTTP_KEYGATE_LINE_AUTHORIZATION]
                                 = ngx_http_keygate_upstream_authorization(r);

    len = ctx->request_id.len;

    for (i = 0; i < NGX_HTTP_KEYGATE_LINES; i++) {
        if (values[i].len) {
            len += ngx_http_keygate_lines[i].len + values[i].len;
        }
    }

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    headers->data = p;
    headers->len = len;

    p = ngx_cpymem(p, ctx->request_id.data, ctx->request_id.len);

    /*
     * No value holds the end of a line: records and the configuration were
     * checked for it, and a header that came in has none.
     */

    for (i = 0; i < NGX_HTTP_KEYGATE_LINES; i++) {
        if (values[i].len) {
            p = ngx_cpymem(p, ngx_http_keygate_lines[i].data,
                           ngx_http_keygate_lines[i].len);
            p = ngx_cpymem(p, values[i].data, values[i].len);
        }
    }

    return NGX_OK;
}


/*
 * In dry_run a key that would be refused must not become an identity, nor in
 * the location that such a request is redirected to.  What was refused has its
 * key in the log.
 */

ngx_uint_t
ngx_http_keygate_hides(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    return ctx->denied
           && (lcf->mode == NGX_HTTP_KEYGATE_DRY_RUN
               || (ctx->decided && ctx->error == NULL));
}


ngx_str_t
ngx_http_keygate_client_request_id(ngx_http_request_t *r)
{
    ngx_str_t         none = ngx_null_string;
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("X-Request-Id");

    h = ngx_http_keygate_header_in(r->main, &name, &n);

    if (n != 1 || !kg_request_id_valid(ngx_http_keygate_kg(&h->value))) {
        return none;
    }

    return h->value;
}


ngx_str_t
ngx_http_keygate_upstream_authorization(ngx_http_request_t *r)
{
    ngx_str_t                     none = ngx_null_string;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->mode == NGX_HTTP_KEYGATE_ON
        || r->headers_in.authorization == NULL)
    {
        return none;
    }

    return r->headers_in.authorization->value;
}
