
/*
 * The answer on its way out.
 *
 *     header ─▶ an error, or a claimed write? ─ no ─▶ PASSING
 *                       │ yes
 *                    HOLDING    header and body are kept, bounded, until the
 *                       │       last buffer: the upstream's error may have the
 *                       │       envelope, a stored answer is whole or not kept
 *                    shape
 *                       │
 *                    SETTLING   Redis is told of the claim's outcome
 *                       │
 *                     SENT      header and body went out in one piece
 *
 * A failed write to the client stops the filters, so what is stored must not
 * depend on the client's socket: that is why it is held, stored and then sent.
 * We stand before the copy filter, so buffers come in memory once asked for,
 * and ahead of headers, gzip and chunked.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static ngx_int_t ngx_http_keygate_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_keygate_begin_again(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_collect(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_chain_t *in);
static ngx_int_t ngx_http_keygate_append(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, u_char *data, size_t len);
static ngx_int_t ngx_http_keygate_too_large(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_chain_t *in);
static ngx_int_t ngx_http_keygate_broken_off(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_finish(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_send(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_consume(ngx_chain_t *in);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_int_t
ngx_http_keygate_header_filter(ngx_http_request_t *r)
{
    ngx_uint_t                    upstream;
    ngx_http_keygate_ctx_t       *ctx;
    ngx_http_keygate_loc_conf_t  *lcf;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);
    ctx = ngx_http_keygate_ctx(r);

    if (ctx == NULL) {
        if (!lcf->errors && !lcf->role
            && lcf->mode == NGX_HTTP_KEYGATE_OFF)
        {
            return ngx_http_next_header_filter(r);
        }

        /* What nginx refuses before any phase has no state yet. */

        ctx = ngx_http_keygate_ctx_create(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (!r->header_sent) {
        ngx_http_keygate_begin_again(r, ctx);
    }

    if (ctx->stage != NGX_HTTP_KEYGATE_FRESH) {
        return ngx_http_next_header_filter(r);
    }

    if (lcf->grpc) {
        ctx->as_it_is = 1;
    }

    ngx_http_keygate_restore_status(r);

    /* An upstream that has ended has left its answer to nginx's own pages. */

    upstream = (r->upstream && r->upstream->cleanup != NULL);

    if (upstream && ngx_http_keygate_no_answer(r)) {
        ngx_http_keygate_no_head(r, ctx, lcf->errors);
    }

    ctx->from_upstream = upstream;

#if (NGX_HTTP_CACHE)
    if (r->cached) {
        ctx->from_upstream = 1;
    }
#endif

    ctx->shape = (r->headers_out.status >= NGX_HTTP_BAD_REQUEST
                  && (lcf->errors || lcf->role) && !ctx->as_it_is);

    ctx->keep = (ngx_http_keygate_claimed(ctx) && !ctx->truncated
                 && ngx_http_keygate_outcome(r, ctx)
                    == NGX_HTTP_KEYGATE_FINAL);

    if (ctx->keep && !ctx->shape && ngx_http_keygate_is_stream(r)) {
        ctx->keep = 0;
        ctx->overflow = 1;
    }

    if (!ctx->shape && !ctx->keep) {
        ctx->stage = NGX_HTTP_KEYGATE_PASSING;

        if (ngx_http_keygate_claimed(ctx)) {
            (void) ngx_http_keygate_settle(r, ctx, 0);
        }

        if (ngx_http_keygate_add_headers(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_next_header_filter(r);
    }

    r->allow_ranges = 0;
    r->filter_need_in_memory = 1;

    if (ctx->keep || (ctx->from_upstream && !r->header_only)) {
        ctx->held_max = ctx->shape ? KG_ERROR_BODY_MAX
                                   : ctx->route->idem->max_response;
        ctx->stage = NGX_HTTP_KEYGATE_HOLDING;

        return ctx->shape ? ngx_http_keygate_patience(r, ctx) : NGX_OK;
    }

    return ngx_http_keygate_finish(r, ctx);
}


static ngx_int_t
ngx_http_keygate_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                rc;
    ngx_http_keygate_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_keygate_module);

    if (ctx == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    switch (ctx->stage) {

    case NGX_HTTP_KEYGATE_FRESH:
    case NGX_HTTP_KEYGATE_PASSING:
        return ngx_http_next_body_filter(r, in);

    case NGX_HTTP_KEYGATE_HOLDING:
        rc = ngx_http_keygate_collect(r, ctx, in);

        if (rc == NGX_DECLINED) {
            return ngx_http_keygate_too_large(r, ctx, in);
        }

        ngx_http_keygate_consume(in);

        if (rc == NGX_AGAIN) {
            return NGX_OK;
        }

        if (rc == NGX_ABORT) {
            return ngx_http_keygate_broken_off(r, ctx);
        }

        return (rc == NGX_OK) ? ngx_http_keygate_finish(r, ctx) : rc;

    case NGX_HTTP_KEYGATE_SETTLING:
        ngx_http_keygate_consume(in);
        return NGX_AGAIN;

    case NGX_HTTP_KEYGATE_READY:
        ngx_http_keygate_consume(in);
        return ngx_http_keygate_send(r, ctx);

    default: /* NGX_HTTP_KEYGATE_SENT */

        /* Behind the last buffer comes what a filter behind us adds to it. */

        if (ctx->whole) {
            return ngx_http_next_body_filter(r, in);
        }

        ngx_http_keygate_consume(in);
        return ngx_http_next_body_filter(r, NULL);
    }
}


/*
 * A filter behind us makes an error of what it got: 416 of a range, 415 of what
 * is no image.  An error that it got stays the error it was.
 */

static void
ngx_http_keygate_begin_again(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    if (ctx->stage == NGX_HTTP_KEYGATE_SENT && ctx->shape) {
        r->err_status = ctx->status;
        r->headers_out.status = ctx->status;
        r->headers_out.status_line.len = 0;

    } else if (ctx->stage != NGX_HTTP_KEYGATE_SENT
               && ctx->stage != NGX_HTTP_KEYGATE_PASSING)
    {
        return;
    }

    ctx->stage = NGX_HTTP_KEYGATE_FRESH;
    ctx->held = NULL;
    ctx->held_len = 0;
    ctx->held_size = 0;
    ctx->overflow = 0;
    ctx->whole = 0;
}


/*
 * Copies a chain into what is held.  NGX_OK: that was its end; NGX_AGAIN: more
 * is to come; NGX_DECLINED: it is longer than held_max, nothing was taken;
 * NGX_ABORT: the upstream broke off; NGX_ERROR.
 */

static ngx_int_t
ngx_http_keygate_collect(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_chain_t *in)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    size = 0;
    rc = NGX_AGAIN;

    for (cl = in; cl; cl = cl->next) {
        if (ngx_buf_in_memory(cl->buf)) {
            size += cl->buf->last - cl->buf->pos;
        }
    }

    if (size > ctx->held_max - ctx->held_len) {
        return NGX_DECLINED;
    }

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)
            && ngx_http_keygate_append(r, ctx, b->pos, b->last - b->pos)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (b->last_buf) {
            ctx->whole = 1;
            rc = NGX_OK;
        }

        /*
         * A bare flush after the upstream has ended: the answer was cut off,
         * and nginx ends the request after this.  (One also comes first when
         * the answer is not buffered; then the upstream is there still.)
         */

        if (b->flush && ngx_buf_special(b) && !b->last_buf
            && ctx->from_upstream && r->upstream
            && r->upstream->cleanup == NULL)
        {
            rc = NGX_ABORT;
        }
    }

    return rc;
}


static ngx_int_t
ngx_http_keygate_append(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    u_char *data, size_t len)
{
    off_t    expected;
    size_t   size;
    u_char  *p;

    if (len == 0) {
        return NGX_OK;
    }

    if (ctx->held_len + len > ctx->held_size) {

        expected = r->headers_out.content_length_n;
        size = ngx_max(2 * ctx->held_size, ctx->held_len + len);

        if (expected > (off_t) size && expected <= (off_t) ctx->held_max) {
            size = expected;
        }

        p = ngx_palloc(r->pool, size);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (ctx->held) {
            ngx_memcpy(p, ctx->held, ctx->held_len);
            (void) ngx_pfree(r->pool, ctx->held);
        }

        ctx->held = p;
        ctx->held_size = size;
    }

    ngx_memcpy(ctx->held + ctx->held_len, data, len);
    ctx->held_len += len;

    return NGX_OK;
}


/* An error that is not looked at any more, or an answer not kept. */

static ngx_int_t
ngx_http_keygate_too_large(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_chain_t *in)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    ctx->overflow = 1;

    if (ctx->shape) {
        ngx_http_keygate_consume(in);
        ngx_http_keygate_read_enough(r);
        return ngx_http_keygate_finish(r, ctx);
    }

    ctx->keep = 0;
    ctx->stage = NGX_HTTP_KEYGATE_PASSING;

    (void) ngx_http_keygate_settle(r, ctx, 0);

    if (ngx_http_keygate_add_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (ctx->held_len == 0) {
        return ngx_http_next_body_filter(r, in);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->held;
    b->last = ctx->held + ctx->held_len;
    b->memory = 1;

    out.buf = b;
    out.next = in;

    return ngx_http_next_body_filter(r, &out);
}


/*
 * The request is ended by nginx right after this, so nothing can be waited
 * for: the claim's outcome is sent on its way and the client gets its 502.
 */

static ngx_int_t
ngx_http_keygate_broken_off(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ctx->truncated = 1;

    ngx_http_keygate_patience_end(ctx);

    if (ngx_http_keygate_claimed(ctx)) {
        (void) ngx_http_keygate_settle(r, ctx, 0);
    }

    r->headers_out.status = NGX_HTTP_BAD_GATEWAY;
    r->headers_out.status_line.len = 0;
    r->keepalive = 0;

    if (ngx_http_keygate_shape(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_send(r, ctx);
}


static ngx_int_t
ngx_http_keygate_finish(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_patience_end(ctx);

    if (ctx->shape && ngx_http_keygate_shape(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_keygate_claimed(ctx)
        && ngx_http_keygate_settle(r, ctx, 1) == NGX_AGAIN)
    {
        ctx->stage = NGX_HTTP_KEYGATE_SETTLING;
        r->buffered |= NGX_HTTP_KEYGATE_BUFFERED;
        return NGX_OK;
    }

    return ngx_http_keygate_send(r, ctx);
}


static ngx_int_t
ngx_http_keygate_send(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    ctx->stage = NGX_HTTP_KEYGATE_SENT;
    ctx->status = r->headers_out.status;

    if (r->headers_out.status != NGX_HTTP_NO_CONTENT
        && r->headers_out.status != NGX_HTTP_NOT_MODIFIED)
    {
        ngx_http_clear_content_length(r);
        r->headers_out.content_length_n = (ctx->shape && ctx->unseen)
                                          ? -1 : (off_t) ctx->held_len;
    }

    if (ngx_http_keygate_add_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    if (ctx->held_len) {
        b->pos = ctx->held;
        b->last = ctx->held + ctx->held_len;
        b->memory = 1;
    }

    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


void
ngx_http_keygate_resume(ngx_http_keygate_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ctx->stage = NGX_HTTP_KEYGATE_READY;
    r->buffered &= ~NGX_HTTP_KEYGATE_BUFFERED;

    if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);

    } else {
        /* nginx's writer, which waited for our bit, ends the request. */

        r->write_event_handler(r);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_keygate_consume(ngx_chain_t *in)
{
    ngx_buf_t  *b;

    for ( /* void */ ; in; in = in->next) {
        b = in->buf;
        b->pos = b->last;
        b->file_pos = b->file_last;
    }
}


void
ngx_http_keygate_filter_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_keygate_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_keygate_body_filter;
}
