
/*
 * Usage: each request of a key that was identified is counted in the zone when
 * it is logged.  How the counts get to Redis is in
 * ngx_http_keygate_usage_flush.c.
 */

#include "ngx_http_keygate.h"

#include "kg_zone_usage.h"


static kg_zone_outcome_t ngx_http_keygate_usage_outcome(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static u_char *ngx_http_keygate_usage_address(ngx_http_request_t *r,
    u_char *address);


ngx_int_t
ngx_http_keygate_usage_handler(ngx_http_request_t *r)
{
    u_char                         buf[16], *address;
    uint32_t                       route;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_main_conf_t  *mcf;

    if (r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_keygate_ctx(r);

    if (ctx == NULL || !ctx->found) {
        return NGX_OK;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    route = KG_ZONE_USAGE_NO_ROUTE;

    if (ctx->route) {
        if (ctx->route->usage == 0) {
            ctx->route->usage = 1 + kg_zone_usage_route(mcf->zone,
                                                        &ctx->route->name);
        }

        route = ctx->route->usage - 1;
    }

    address = ngx_http_keygate_usage_address(r, buf);

    kg_zone_usage_add(mcf->zone, ngx_http_keygate_ngx(&ctx->key.id), route,
                      ngx_http_keygate_usage_outcome(r, ctx), address,
                      ngx_time());

    if (ngx_exiting && mcf->usage) {
        ngx_http_keygate_usage_leave(mcf->usage);
    }

    return NGX_OK;
}


static kg_zone_outcome_t
ngx_http_keygate_usage_outcome(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t  status;

    if (ctx->replayed.len) {
        return KG_ZONE_REPLAYED;
    }

    if (ctx->error) {

        switch (ctx->error->status) {

        case NGX_HTTP_FORBIDDEN:
            return KG_ZONE_FORBIDDEN;

        case NGX_HTTP_CONFLICT:
        case 422:
            return KG_ZONE_CONFLICT;

        case NGX_HTTP_TOO_MANY_REQUESTS:
            return KG_ZONE_RATE_LIMITED;

        default:
            break;
        }
    }

    status = r->err_status ? r->err_status : r->headers_out.status;

    if (status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        return KG_ZONE_SERVER_ERROR;
    }

    /* nginx's own 499 and 444, and 0: the client left. */

    if (status >= NGX_HTTP_BAD_REQUEST || status == 0) {
        return KG_ZONE_CLIENT_ERROR;
    }

    return KG_ZONE_OK;
}


/* realip has put the client's own address into the connection. */

static u_char *
ngx_http_keygate_usage_address(ngx_http_request_t *r, u_char *address)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    switch (r->connection->sockaddr->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) r->connection->sockaddr;

        ngx_memzero(address, 10);
        ngx_memset(address + 10, 0xff, 2);
        ngx_memcpy(address + 12, &sin->sin_addr.s_addr, 4);
        return address;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) r->connection->sockaddr;

        ngx_memcpy(address, sin6->sin6_addr.s6_addr, 16);
        return address;
#endif

    default:
        return NULL;
    }
}
