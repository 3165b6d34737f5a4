
/*
 * A write that happens once, from the hash of its body to the outcome of its
 * claim: what the files of it share, and what they are to the others.
 */

#ifndef NGX_HTTP_KEYGATE_IDEMPOTENCY_H
#define NGX_HTTP_KEYGATE_IDEMPOTENCY_H

#include "ngx_http_keygate.h"


/* Answers longer than this go by the connection for large values, bytes. */
#define NGX_HTTP_KEYGATE_BULK           16384

/* claim.lua has so many arguments; numbers among them are text. */
#define NGX_HTTP_KEYGATE_CLAIM_ARGS     8

typedef struct {
    u_char                       lease[NGX_INT64_LEN];
    u_char                       retention[NGX_INT64_LEN];
    u_char                       inline_max[NGX_INT32_LEN];
} ngx_http_keygate_claim_text_t;


/*
 * So many claims at most go together, with the limits of their requests, and
 * of so many requests: a place among them has two bytes.
 */
#define NGX_HTTP_KEYGATE_TOGETHER       16
#define NGX_HTTP_KEYGATE_TOGETHER_LAST  65535
#define NGX_HTTP_KEYGATE_TOGETHER_ARGS                                        \
    (NGX_HTTP_KEYGATE_TOGETHER * (1 + NGX_HTTP_KEYGATE_CLAIM_ARGS) + 1)

typedef struct {
    ngx_str_t                     *names;       /* of as many records */
    ngx_str_t                     *args;        /* of each, and one more */
    u_char                         whose[2 * NGX_HTTP_KEYGATE_TOGETHER];
    ngx_http_keygate_claim_text_t  text[NGX_HTTP_KEYGATE_TOGETHER];
} ngx_http_keygate_together_t;


/* ngx_http_keygate_idempotency.c and beside it */

/*
 * Before the body is read: what arrives is hashed from now on.  NGX_OK, also
 * when it was read already, or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_fingerprint_start(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* The hash of the request, whose body was read, into its claim. */
ngx_int_t ngx_http_keygate_fingerprint(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

void ngx_http_keygate_fingerprint_init(void);

/* ngx_http_keygate_claim.c */

/*
 * The request's claim, named and with an owner: NGX_OK; NGX_DECLINED: it asks
 * for none; NGX_ABORT: it is to be refused with *code; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_claim_make(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_error_code_t *code);

/*
 * Reads the body and hashes the request into its claim: NGX_OK, it is done
 * (ctx->hashed); NGX_DONE: the phases run again with the body, call again;
 * or a status.
 */
ngx_int_t ngx_http_keygate_claim_body(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * claim.lua's arguments into argv: owner, fingerprint, lease, retention, id,
 * route, on_unknown, and how long an answer may be that comes by the connection
 * of all the others.  They point into the request and text.  How many.
 */
ngx_uint_t ngx_http_keygate_claim_args(ngx_http_keygate_ctx_t *ctx,
    ngx_str_t *argv, ngx_http_keygate_claim_text_t *text);

/* Asks for the claim alone: NGX_AGAIN, or NGX_ERROR. */
ngx_int_t ngx_http_keygate_claim(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * Takes in what Redis says of the claim.  reply is claim.lua's; without an
 * answer op->status says why.
 */
void ngx_http_keygate_claim_told(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op, const redisReply *reply);


/* ngx_http_keygate_together.c: limits and claim in one round trip */

/*
 * Before a request is charged: NGX_OK, its claim is ready and goes with its
 * limits (ctx->together), or it goes apart; NGX_DONE: its body is being read,
 * call again when the phases run again; or a status.
 */
ngx_int_t ngx_http_keygate_together(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * The claims of those in an ask's queue who go together, as admit.lua has them:
 * their names, their arguments, and behind these whose they are.  How many args
 * there are; the claims are asked for from here on.
 */
ngx_uint_t ngx_http_keygate_together_args(ngx_queue_t *queue,
    ngx_http_keygate_together_t *together);

/* Nothing was asked: the claim is asked for by itself. */
void ngx_http_keygate_together_apart(ngx_http_keygate_ctx_t *ctx);

/*
 * Takes in what admit.lua says of a request's claim, if that went along; answer
 * is NULL when there is none, or one of another shape.
 */
void ngx_http_keygate_together_told(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op, const redisReply *answer);

/*
 * Releases the claims whose requests left while Redis had them, a bit of left
 * for each place; n is how many states come before their names; answer as
 * above.
 */
void ngx_http_keygate_together_left(uint32_t left, ngx_uint_t n,
    kg_redis_op_t *op, const redisReply *answer);


/*
 * What of an answer is stored for nginx's filters alone: the charset that the
 * upstream asks for, and that they are to make a whole URL of Location.
 */
extern ngx_str_t  ngx_http_keygate_accel_charset;
extern ngx_str_t  ngx_http_keygate_accel_location;

/* Answers with what is stored: what the phase handler returns. */
ngx_int_t ngx_http_keygate_replay(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* Refuses and names the request that ran, for the partner's support. */
ngx_int_t ngx_http_keygate_refuse_first(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_error_code_t code);


/* ngx_http_keygate_guard.c: does Redis keep what it acknowledged */

/* In init_process, with the clients of Redis there. */
ngx_int_t ngx_http_keygate_guard_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);

/*
 * Before a claim is asked for: asks Redis what it is set to, where that is not
 * known; its answer comes before the claim's.  NGX_DECLINED: it is known to
 * forget claims, none is to be made.
 */
ngx_int_t ngx_http_keygate_guard(ngx_http_keygate_guard_t *guard);

/* When a claim was granted: 1 when Redis will not forget it. */
ngx_uint_t ngx_http_keygate_guarded(ngx_http_keygate_guard_t *guard);


/* ngx_http_keygate_durable.c: claims that replicas have */

/* In init_process and exit_process. */
ngx_int_t ngx_http_keygate_durable_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);
void ngx_http_keygate_durable_exit(ngx_http_keygate_main_conf_t *mcf);

/*
 * Of a phase handler whose claim was granted: NGX_AGAIN.  Then the phases run
 * again, with the claim durable, or given back and the request unclaimable.
 */
ngx_int_t ngx_http_keygate_durable(ngx_http_keygate_ctx_t *ctx);

/* From the pool cleanup: the request waits no more. */
void ngx_http_keygate_durable_leave(ngx_http_keygate_claim_t *claim);


/* ngx_http_keygate_outcome.c */

/*
 * What the request came to, by what was sent to upstreams and what they said;
 * of any request, claimed or not.
 */
ngx_http_keygate_outcome_t ngx_http_keygate_outcome(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* 1 when the write, sent again unchanged, would be let through. */
ngx_uint_t ngx_http_keygate_again(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * error_page takes over: from now on the request is that of a page, and what
 * came of the write is what is known at this moment.
 */
void ngx_http_keygate_freeze(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_settle.c: the answer of a claimed write */

/* 1 when there is a claim of this request that is not settled. */
ngx_uint_t ngx_http_keygate_claimed(ngx_http_keygate_ctx_t *ctx);

/* The claim's lease is prolonged as long as its write runs. */
void ngx_http_keygate_renew(ngx_http_keygate_ctx_t *ctx);

/*
 * Tells Redis the outcome of the claim: the answer that is held, or that it
 * was too large to keep, that the key is free again, or that nobody knows.
 * With wait, NGX_AGAIN, and ngx_http_keygate_resume() is called once Redis
 * answered or the command timed out; else, or when Redis could not even be
 * asked, NGX_OK.
 */
ngx_int_t ngx_http_keygate_settle(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t wait);

/*
 * Prolongs the lease once; handler (data: the claim) may be NULL.  Returns the
 * operation, or NULL for no memory.
 */
kg_redis_op_t *ngx_http_keygate_prolong(ngx_http_keygate_claim_t *claim,
    kg_redis_t *client, kg_redis_handler_pt handler);

/* A claim that was granted is freed: the write is refused, not executed. */
void ngx_http_keygate_give_back(ngx_http_keygate_ctx_t *ctx);

/* Frees a claim of which it is not even known whether Redis granted it. */
void ngx_http_keygate_release(ngx_http_keygate_ctx_t *ctx);

/* The same for a claim whose request has gone; what is passed is copied. */
void ngx_http_keygate_release_left(kg_redis_t *client, const ngx_str_t *name,
    const ngx_str_t *owner);

/* From the pool cleanup: settles what nothing else has. */
void ngx_http_keygate_settle_abandoned(ngx_http_keygate_ctx_t *ctx);

#endif
