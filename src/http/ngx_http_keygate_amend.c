
/*
 * What nginx makes of an answer that is none, or of a request that it could not
 * read, and what it has to be for the contract.
 */

#include "ngx_http_keygate_answer.h"


void
ngx_http_keygate_restore_status(ngx_http_request_t *r)
{
    if (r->headers_out.status != NGX_HTTP_BAD_REQUEST
        || r->http_state != NGX_HTTP_READING_REQUEST_STATE
        || !r->lingering_close)
    {
        return;
    }

    /* The access log has the one, the client the other. */

    r->err_status = 431;
    r->headers_out.status = 431;
    ngx_str_set(&r->headers_out.status_line,
                "431 Request Header Fields Too Large");
}


ngx_uint_t
ngx_http_keygate_no_answer(ngx_http_request_t *r)
{
    ngx_uint_t  status;

    status = r->upstream->headers_in.status_n;

    /* Of 101 it is one only to a client that asked for it. */

    return status > 599
           || (status < NGX_HTTP_OK
               && (status != NGX_HTTP_SWITCHING_PROTOCOLS
                   || !r->upstream->upgrade));
}


void
ngx_http_keygate_no_head(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t errors)
{
    u_char  *p;

    ctx->truncated = 1;
    r->upstream->keepalive = 0;

    if (!errors) {
        return;
    }

    /* Its version was put in the place of the client's, "HTTP/1.1". */

    if (r->http_version == NGX_HTTP_VERSION_9
        && r->http_protocol.len >= sizeof("HTTP/1.1") - 1)
    {
        p = r->http_protocol.data + sizeof("HTTP/") - 1;
        r->http_version = (p[0] - '0') * 1000 + (p[2] - '0');
    }

#if (NGX_HTTP_CACHE)

    /* From the cache it would pass for an answer. */

    r->upstream->cacheable = 0;

#endif

    r->headers_out.status = NGX_HTTP_BAD_GATEWAY;
    r->headers_out.status_line.len = 0;
}
