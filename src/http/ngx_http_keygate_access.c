
/*
 * Access: refuse.  Everything is known by now; what is left is the contract's
 * order of answers, so that nobody without a valid key learns which routes
 * exist and one mistake is answered the same everywhere:
 *
 *     401 ─▶ 403 organisation ─▶ 403 address ─▶ 404 ─▶ 405 ─▶ 403 scope
 */

#include "ngx_http_keygate.h"


static ngx_int_t ngx_http_keygate_check_org(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_address_allowed(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


ngx_int_t
ngx_http_keygate_access_handler(ngx_http_request_t *r)
{
    ngx_http_keygate_ctx_t       *ctx;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->mode == NGX_HTTP_KEYGATE_OFF || lcf->role) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keygate_ctx(r);

    /* A page of error_page, or a redirect of what was admitted. */

    if (ctx == NULL || ctx->decided || ngx_http_keygate_page(r, ctx)) {
        return NGX_DECLINED;
    }

    return ngx_http_keygate_decide(r, ctx);
}


ngx_int_t
ngx_http_keygate_decide(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_str_t                     details;
    ngx_uint_t                    options;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    ctx->decided = 1;

    if (ctx->route && ctx->route->public) {
        ctx->admitted = 1;
        return NGX_OK;
    }

    /*
     * The same for every path, so that a browser's preflight works and a
     * stranger learns nothing.
     */

    options = (ctx->method == NGX_HTTP_OPTIONS
               && lcf->mode == NGX_HTTP_KEYGATE_ON);

    if (options && !ctx->sent_key) {
        return NGX_HTTP_NO_CONTENT;
    }

    if (ctx->denied) {
        return ngx_http_keygate_refuse(r, ctx, ctx->denial, NULL);
    }

    rc = ngx_http_keygate_check_org(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_keygate_address_allowed(r, ctx)) {
        ngx_str_set(&details, "{\"reason\":\"address_not_allowed\"}");
        return ngx_http_keygate_refuse(r, ctx, KG_ERR_FORBIDDEN, &details);
    }

    /* The filter adds Allow. */

    if (options && ctx->allow.len) {
        return NGX_HTTP_NO_CONTENT;
    }

    if (ctx->route == NULL) {
        return ngx_http_keygate_refuse(r, ctx,
                                       ctx->allow.len
                                       ? KG_ERR_METHOD_NOT_ALLOWED
                                       : KG_ERR_NOT_FOUND, NULL);
    }

    if (!ctx->route->any_key
        && !kg_scopes_hold(&ctx->key.scopes, &ctx->route->scope))
    {
        return ngx_http_keygate_refuse_scope(r, ctx, &ctx->route->scope);
    }

    ctx->admitted = 1;
    ngx_str_set(&ctx->verdict, "admitted");

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_check_org(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    switch (ctx->org.access) {

    case KG_ACCESS_LIVE:
        return NGX_OK;

    case KG_ACCESS_TEST:
        if (ctx->key.mode == KG_MODE_TEST) {
            return NGX_OK;
        }

        return ngx_http_keygate_refuse(r, ctx, KG_ERR_LIVE_ACCESS_NOT_ENABLED,
                                       NULL);

    case KG_ACCESS_DISABLED:
        return ngx_http_keygate_refuse(r, ctx, KG_ERR_PARTNER_ACCESS_DISABLED,
                                       NULL);

    default: /* KG_ACCESS_NOT_ENABLED */
        return ngx_http_keygate_refuse(r, ctx,
                                       KG_ERR_PARTNER_ACCESS_NOT_ENABLED,
                                       NULL);
    }
}


/* realip has put the client's own address into the connection by now. */

static ngx_uint_t
ngx_http_keygate_address_allowed(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    if (ctx->key.allow.len == 0) {
        return 1;
    }

    switch (r->connection->sockaddr->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) r->connection->sockaddr;
        return kg_allow_match(&ctx->key.allow,
                              (u_char *) &sin->sin_addr.s_addr, 4);

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) r->connection->sockaddr;
        return kg_allow_match(&ctx->key.allow, sin6->sin6_addr.s6_addr, 16);
#endif

    default:
        return 0;
    }
}


ngx_int_t
ngx_http_keygate_refuse_scope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const kg_str_t *scope)
{
    ngx_str_t  details;

    /* A scope has no character that JSON would escape. */

    details.data = ngx_pnalloc(r->pool, sizeof("{\"requiredScope\":\"\"}")
                                        + scope->len);
    if (details.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    details.len = ngx_sprintf(details.data, "{\"requiredScope\":\"%V\"}",
                              scope)
                  - details.data;

    ctx->needs_scope = scope;

    return ngx_http_keygate_refuse(r, ctx, KG_ERR_FORBIDDEN, &details);
}
