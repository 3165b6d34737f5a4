
/*
 * An upstream that goes on for longer than its error is worth.
 *
 * An error is held until its end, to see whether it has the envelope, and an
 * upstream may take its time, or never end.  Its client waits for seconds at
 * most, not at all for what is a stream; then the error is what its status
 * says, and whatever else comes is thrown away with the connection.
 */

#include "ngx_http_keygate_answer.h"


#define NGX_HTTP_KEYGATE_PATIENCE  3000     /* ms, from the error's header */


static void ngx_http_keygate_patience_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_keygate_patience(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_event_t          *ev;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->cleanup == NULL) {
        return NGX_OK;
    }

    ev = ctx->patience;

    if (ev == NULL) {
        ev = ngx_pcalloc(r->pool, sizeof(ngx_event_t));
        if (ev == NULL) {
            return NGX_ERROR;
        }

        ev->handler = ngx_http_keygate_patience_handler;
        ev->data = ctx;
        ev->log = r->connection->log;

        ctx->patience = ev;
    }

    /* nginx is not ready for its end before it is done with the header. */

    ngx_add_timer(ev, ngx_http_keygate_is_stream(r)
                      ? 0 : NGX_HTTP_KEYGATE_PATIENCE);

    return NGX_OK;
}


void
ngx_http_keygate_patience_end(ngx_http_keygate_ctx_t *ctx)
{
    if (ctx->patience && ctx->patience->timer_set) {
        ngx_del_timer(ctx->patience);
    }
}


static void
ngx_http_keygate_patience_handler(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_upstream_t     *u;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;
    u = r->upstream;

    if (ctx->stage != NGX_HTTP_KEYGATE_HOLDING
        || u == NULL || u->cleanup == NULL || u->peer.connection == NULL)
    {
        return;
    }

    ngx_http_set_log_request(c->log, r);

    ngx_log_error(NGX_LOG_WARN, c->log, 0,
                  "keygate: an upstream's error has no end in sight, it is "
                  "not read on");

    ctx->overflow = 1;

    ngx_http_keygate_read_enough(r);

    /* Its reader ends the answer, and so what is held. */

    u->peer.connection->read->delayed = 0;
    u->read_event_handler(r, u);

    ngx_http_run_posted_requests(c);
}


void
ngx_http_keygate_read_enough(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->cleanup == NULL) {
        return;
    }

    u->keepalive = 0;
    u->length = 0;

    if (u->buffering && u->pipe) {
        u->pipe->upstream_done = 1;
    }

#if (NGX_HTTP_CACHE)

    /* What was read of it is not what it said. */

    u->cacheable = 0;

#endif
}


ngx_uint_t
ngx_http_keygate_is_stream(ngx_http_request_t *r)
{
    static ngx_str_t  type = ngx_string("text/event-stream");

    if (r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        return 1;
    }

    return r->headers_out.content_type.len >= type.len
           && ngx_strncasecmp(r->headers_out.content_type.data, type.data,
                              type.len)
              == 0;
}
