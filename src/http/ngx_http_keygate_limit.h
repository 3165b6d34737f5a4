
/*
 * What the files that ask Redis about limits share.
 */

#ifndef NGX_HTTP_KEYGATE_LIMIT_H
#define NGX_HTTP_KEYGATE_LIMIT_H

#include "ngx_http_keygate.h"


/* What requests of a worker that are limited alike put to Redis together. */
struct ngx_http_keygate_asking_s {
    ngx_queue_t                    queue;       /* in its bucket, or free */
    ngx_queue_t                    ready;       /* to be sent this turn */
    ngx_queue_t                    waiting;     /* of ctx->queue */
    ngx_queue_t                    asked;       /* likewise */
    ngx_http_keygate_main_conf_t  *conf;
    kg_zone_limits_t               limits;
    kg_limit_ask_t                 ask;
    uint64_t                       sent;        /* us */
    ngx_uint_t                     claims;      /* that go along */
    uint32_t                       left;        /* ... nobody waits for: a bit
                                                 * for each place */
    unsigned                       busy:1;      /* Redis has it */
    unsigned                       look:1;      /* an answer came meanwhile */
};


/* ngx_http_keygate_limit_ask.c */

/* The handler of the command: Redis has answered, or has not. */
void ngx_http_keygate_asking_answered(kg_redis_op_t *op);


/* ngx_http_keygate_limit_command.c */

/*
 * Sends the ask, whose n, cost and claims are set, with what is to be leased,
 * what comes back and what is owed; ctx is of one of those who are limited
 * alike.
 * NGX_OK, and asking is busy until the handler; or NGX_ERROR for no memory.
 */
ngx_int_t ngx_http_keygate_asking_submit(ngx_http_keygate_asking_t *asking,
    ngx_http_keygate_ctx_t *ctx);

/* 1 when Redis has answered the ask; what it said is then in the zone too. */
ngx_uint_t ngx_http_keygate_asking_read(ngx_http_keygate_asking_t *asking,
    kg_redis_op_t *op, kg_limit_answer_t *answer);

/*
 * Redis was told what this node admitted alone by the states that are the
 * first n arguments, or is to be told again.
 */
void ngx_http_keygate_asking_told(kg_zone_t *zone, kg_redis_op_t *op,
    ngx_uint_t n, ngx_uint_t told);

#endif
