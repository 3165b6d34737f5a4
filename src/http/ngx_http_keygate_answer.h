
/*
 * Answers on their way out: errors in one shape, headers that every answer
 * carries, what nginx would send otherwise, and what is held until it may go.
 */

#ifndef NGX_HTTP_KEYGATE_ANSWER_H
#define NGX_HTTP_KEYGATE_ANSWER_H

#include "ngx_http_keygate.h"


/* ngx_http_keygate_shape.c: errors */

/*
 * Puts the envelope in place of the body that is held and sets the headers
 * that belong to it.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_shape(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* 1 when the answer is a refusal of ours, not what error_page made of it. */
ngx_uint_t ngx_http_keygate_own(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * 1 when no upstream can have seen a byte of the request: none was asked, or
 * nothing was sent to any that was.
 */
ngx_uint_t ngx_http_keygate_untouched(ngx_http_request_t *r);


/* ngx_http_keygate_answer_headers.c */

/* X-Request-Id and what else every answer of the gate carries. */
ngx_int_t ngx_http_keygate_add_headers(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* Sets Retry-After, which is there exactly when an error is retryable. */
ngx_int_t ngx_http_keygate_retry_after(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t retryable);


/* ngx_http_keygate_amend.c: what nginx answers or passes on otherwise */

/*
 * nginx answers 400 where it found 494, an oversized header: alone of the
 * refusals of a request that was not read to its end it leaves lingering_close
 * set, so that the client gets to read the answer.
 */
void ngx_http_keygate_restore_status(ngx_http_request_t *r);

/*
 * 1 when what came is no answer to the request: one without a head, which nginx
 * takes for HTTP/0.9, one of 1xx, whose final answer nginx takes for a body, or
 * one of a status over 599, which clients take for a broken answer (RFC 9110,
 * 15: there is none).
 */
ngx_uint_t ngx_http_keygate_no_answer(ngx_http_request_t *r);

/*
 * Makes such an answer a 502 where errors are shaped: nginx would give it to
 * the client without a head as well.  Nobody knows what it says of a write.
 */
void ngx_http_keygate_no_head(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t errors);


/* ngx_http_keygate_patience.c: errors that do not end */

/*
 * An upstream's error is held from now on: ends it when it takes too long.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_patience(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* It is held no more. */
void ngx_http_keygate_patience_end(ngx_http_keygate_ctx_t *ctx);

/* Reads no more of the upstream, if there is one: it would be thrown away. */
void ngx_http_keygate_read_enough(ngx_http_request_t *r);

/* 1 for an answer that never ends, and so cannot be held. */
ngx_uint_t ngx_http_keygate_is_stream(ngx_http_request_t *r);


/* ngx_http_keygate_filter.c */

void ngx_http_keygate_filter_init(void);

/* Lets what is held go out, once the claim is settled. */
void ngx_http_keygate_resume(ngx_http_keygate_ctx_t *ctx);

#endif
