
/*
 * Limits: from what the node knows, else from Redis.
 *
 * What a lease covers, or a denial that is remembered, is decided here and
 * now.  The rest asks Redis: the requests of a worker that are limited alike
 * share an ask.  One is under way at a time; those that arrive meanwhile go
 * together in the next, at the end of an event-loop turn, and what is granted
 * is theirs in the order of their arrival.  The claims of writes may go along
 * (ngx_http_keygate_together.c).
 *
 * An ask belongs to the worker.  A request that leaves takes nothing with it;
 * what was granted to it is the next one's, or stays spent.
 */

#include "ngx_http_keygate_idempotency.h"
#include "ngx_http_keygate_limit.h"


#define NGX_HTTP_KEYGATE_ASKS  256      /* buckets of those there are */


static ngx_uint_t ngx_http_keygate_limit_known(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits,
    ngx_uint_t counted, ngx_uint_t *renew);
static ngx_int_t ngx_http_keygate_asking_join(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits);
static ngx_http_keygate_asking_t *ngx_http_keygate_asking_find(
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits);
static void ngx_http_keygate_asking_post(ngx_http_keygate_asking_t *asking);
static void ngx_http_keygate_asking_turn(ngx_event_t *ev);
static void ngx_http_keygate_asking_look(ngx_http_keygate_asking_t *asking);
static void ngx_http_keygate_asking_send(ngx_http_keygate_asking_t *asking);
static void ngx_http_keygate_asking_over(ngx_http_keygate_asking_t *asking);
static void ngx_http_keygate_asking_free(ngx_http_keygate_asking_t *asking);
static void ngx_http_keygate_renew_lease(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits);


ngx_int_t
ngx_http_keygate_limit(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                     renew;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    renew = 0;

    if (!ngx_http_keygate_limit_known(ctx, mcf, &ctx->limits, 0, &renew)) {
        return ngx_http_keygate_asking_join(ctx, mcf, &ctx->limits);
    }

    if (renew) {
        ngx_http_keygate_renew_lease(ctx, mcf, &ctx->limits);
    }

    return NGX_OK;
}


/* 1 when what the node knows decides; a lease to be asked for sets renew. */

static ngx_uint_t
ngx_http_keygate_limit_known(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits,
    ngx_uint_t counted, ngx_uint_t *renew)
{
    ngx_uint_t                i;
    kg_zone_limits_known_t    known;
    kg_zone_limits_verdict_t  verdict;

    if (limits->n > KG_ZONE_LIMITS_POLICIES) {
        return 0;
    }

    verdict = kg_zone_limits_take(mcf->zone, limits,
                                  ngx_http_keygate_monotonic(), counted,
                                  &known);

    if (verdict == KG_ZONE_LIMITS_ASK) {
        return 0;
    }

    /* Its claim, if it was to go with the limits, is asked for alone. */

    ctx->together = 0;

    for (i = 0; i < limits->n; i++) {
        ngx_http_keygate_limit_stands(&ctx->applied[i], &known.stand[i]);
    }

    if (verdict == KG_ZONE_LIMITS_DENIED) {
        ngx_http_keygate_limit_refused(ctx, known.refusing, known.relief);

    } else if (known.renew) {
        *renew = 1;
    }

    return 1;
}


uint64_t
ngx_http_keygate_monotonic(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


ngx_int_t
ngx_http_keygate_limit_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_uint_t  i;

    mcf->asks_busy = ngx_palloc(cycle->pool,
                                NGX_HTTP_KEYGATE_ASKS * sizeof(ngx_queue_t));
    if (mcf->asks_busy == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_KEYGATE_ASKS; i++) {
        ngx_queue_init(&mcf->asks_busy[i]);
    }

    ngx_queue_init(&mcf->asks_free);
    ngx_queue_init(&mcf->asks_ready);

    mcf->asks_event.handler = ngx_http_keygate_asking_turn;
    mcf->asks_event.data = mcf;
    mcf->asks_event.log = cycle->log;

    return NGX_OK;
}


void
ngx_http_keygate_limit_leave(ngx_http_keygate_ctx_t *ctx)
{
    if (ctx->asking == NULL) {
        return;
    }

    /*
     * Its claim is released behind the answer: Redis may not have the script,
     * and then makes the claim after what is sent now.
     */

    if (ctx->claim && ctx->claim->place) {
        ctx->asking->left |= 1u << (ctx->claim->place - 1);
        ngx_http_keygate_together_apart(ctx);
    }

    ngx_queue_remove(&ctx->queue);
    ctx->asking = NULL;
}


static ngx_int_t
ngx_http_keygate_asking_join(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits)
{
    ngx_http_keygate_asking_t  *asking;

    asking = ngx_http_keygate_asking_find(mcf, limits);
    if (asking == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&asking->waiting, &ctx->queue);
    ctx->asking = asking;

    if (!asking->busy) {
        ngx_http_keygate_asking_post(asking);
    }

    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


/* The ask of those who are limited alike, or a new one. */

static ngx_http_keygate_asking_t *
ngx_http_keygate_asking_find(ngx_http_keygate_main_conf_t *mcf,
    const kg_zone_limits_t *limits)
{
    uint32_t                    hash;
    ngx_queue_t                *bucket, *q;
    ngx_http_keygate_asking_t  *asking;

    ngx_memcpy(&hash, limits->name, sizeof(hash));
    bucket = &mcf->asks_busy[hash % NGX_HTTP_KEYGATE_ASKS];

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        asking = ngx_queue_data(q, ngx_http_keygate_asking_t, queue);

        if (asking->limits.cost == limits->cost
            && asking->limits.rates == limits->rates
            && asking->limits.life == limits->life
            && ngx_memcmp(asking->limits.name, limits->name,
                          KG_ZONE_LIMITS_NAME)
               == 0)
        {
            return asking;
        }
    }

    if (ngx_queue_empty(&mcf->asks_free)) {
        asking = ngx_palloc(ngx_cycle->pool,
                            sizeof(ngx_http_keygate_asking_t));
        if (asking == NULL) {
            return NULL;
        }

    } else {
        q = ngx_queue_head(&mcf->asks_free);
        ngx_queue_remove(q);
        asking = ngx_queue_data(q, ngx_http_keygate_asking_t, queue);
    }

    ngx_memzero(asking, sizeof(ngx_http_keygate_asking_t));

    asking->conf = mcf;
    asking->limits = *limits;
    ngx_queue_init(&asking->ready);
    ngx_queue_init(&asking->waiting);
    ngx_queue_init(&asking->asked);

    ngx_queue_insert_tail(bucket, &asking->queue);

    return asking;
}


/* Its ready link is alone while it is in no list. */

static void
ngx_http_keygate_asking_post(ngx_http_keygate_asking_t *asking)
{
    if (!ngx_queue_empty(&asking->ready)) {
        return;
    }

    ngx_queue_insert_tail(&asking->conf->asks_ready, &asking->ready);
    ngx_post_event(&asking->conf->asks_event, &ngx_posted_events);
}


static void
ngx_http_keygate_asking_turn(ngx_event_t *ev)
{
    ngx_queue_t                   *q;
    ngx_http_keygate_asking_t     *asking;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ev->data;

    while (!ngx_queue_empty(&mcf->asks_ready)) {
        q = ngx_queue_head(&mcf->asks_ready);
        ngx_queue_remove(q);
        ngx_queue_init(q);

        asking = ngx_queue_data(q, ngx_http_keygate_asking_t, ready);

        if (asking->look) {
            ngx_http_keygate_asking_look(asking);

        } else {
            ngx_http_keygate_asking_send(asking);
        }
    }
}


/*
 * Who waited for an answer looks first at the lease or the denial it brought.
 * To ask Redis would be to be refused for what the node itself holds, or once
 * more.
 */

static void
ngx_http_keygate_asking_look(ngx_http_keygate_asking_t *asking)
{
    ngx_uint_t                     renew;
    ngx_queue_t                    known, *q;
    kg_zone_limits_t               limits;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_main_conf_t  *mcf;

    asking->look = 0;

    mcf = asking->conf;
    limits = asking->limits;
    renew = 0;
    ngx_queue_init(&known);

    while (!ngx_queue_empty(&asking->waiting)) {
        q = ngx_queue_head(&asking->waiting);
        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);

        if (!ngx_http_keygate_limit_known(ctx, mcf, &limits, 1, &renew)) {
            break;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&known, q);
    }

    /* Those who still wait ask for a lease, too; without them it is freed. */

    renew = renew && ngx_queue_empty(&asking->waiting);

    ngx_http_keygate_asking_send(asking);

    if (renew && !ngx_queue_empty(&known)) {
        q = ngx_queue_last(&known);
        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);

        ngx_http_keygate_renew_lease(ctx, mcf, &limits);
    }

    /* A request that goes on may end others of them. */

    while (!ngx_queue_empty(&known)) {
        q = ngx_queue_head(&known);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        ctx->asking = NULL;

        ngx_http_keygate_continue(ctx);
    }
}


/*
 * All who wait, in one command.  A claim that has no place in it, or that would
 * be forgotten where it is made, its request asks for by itself.
 */

static void
ngx_http_keygate_asking_send(ngx_http_keygate_asking_t *asking)
{
    ngx_queue_t             *q;
    ngx_http_keygate_ctx_t  *ctx;

    if (asking->busy) {
        return;
    }

    if (ngx_queue_empty(&asking->waiting)) {
        ngx_http_keygate_asking_free(asking);
        return;
    }

    ngx_memzero(&asking->ask, sizeof(kg_limit_ask_t));

    asking->ask.cost = asking->limits.cost;
    asking->claims = 0;
    asking->left = 0;

    while (!ngx_queue_empty(&asking->waiting)) {
        q = ngx_queue_head(&asking->waiting);
        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);

        if (ctx->together
            && (asking->claims == NGX_HTTP_KEYGATE_TOGETHER
                || asking->ask.n >= NGX_HTTP_KEYGATE_TOGETHER_LAST
                || ngx_http_keygate_guard(asking->conf->guard) != NGX_OK))
        {
            ctx->together = 0;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&asking->asked, q);
        asking->ask.n++;
        asking->claims += ctx->together;
    }

    q = ngx_queue_head(&asking->asked);
    ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);

    if (ngx_http_keygate_asking_submit(asking, ctx) == NGX_OK) {
        return;
    }

    /* No memory: as if Redis were away. */

    while (!ngx_queue_empty(&asking->asked)) {
        q = ngx_queue_head(&asking->asked);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        ctx->asking = NULL;
        ctx->limit_down = 1;

        ngx_http_keygate_together_apart(ctx);
        ngx_http_keygate_continue(ctx);
    }

    ngx_http_keygate_asking_over(asking);
}


void
ngx_http_keygate_asking_answered(kg_redis_op_t *op)
{
    ngx_uint_t                   i, granted, down;
    ngx_queue_t                 *q;
    kg_limit_answer_t            answer;
    ngx_http_keygate_ctx_t      *ctx;
    ngx_http_keygate_asking_t   *asking;
    ngx_http_keygate_applied_t  *applied;

    asking = op->data;

    down = !ngx_http_keygate_asking_read(asking, op, &answer);
    granted = down ? 0 : answer.granted;

    /*
     * What timed out is still there for Redis to take.  What was lost with its
     * connection may have been taken; twice is better than not at all.
     */

    if (asking->ask.owes && op->status != KG_REDIS_TIMEOUT) {
        ngx_http_keygate_asking_told(asking->conf->zone, op, asking->limits.n,
                                     !down);
    }

    /* A request that goes on may end others that wait here. */

    while (!ngx_queue_empty(&asking->asked)) {
        q = ngx_queue_head(&asking->asked);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        ctx->asking = NULL;

        ngx_http_keygate_together_told(ctx, op, down ? NULL : op->reply);

        if (down) {
            ctx->limit_down = 1;
            ngx_http_keygate_continue(ctx);
            continue;
        }

        for (i = 0; i < asking->limits.n; i++) {
            applied = &ctx->applied[i];

            ngx_http_keygate_limit_stands(applied, &answer.stand[i]);

            /* What others of the ask spend after this one is still there. */

            if (granted) {
                applied->remaining += answer.lease
                                      + (granted - 1) * asking->limits.cost;
            }

            if (answer.dry & (1u << i)) {
                ngx_http_keygate_limit_dry(ctx, applied->policy);
            }
        }

        if (granted) {
            granted--;

        } else {
            ngx_http_keygate_limit_refused(ctx, answer.refusing,
                                           answer.relief);
        }

        ngx_http_keygate_continue(ctx);
    }

    /* Without their claims all who still wait fit into one more command. */

    for (q = ngx_queue_head(&asking->waiting);
         down && q != ngx_queue_sentinel(&asking->waiting);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, queue);
        ngx_http_keygate_together_apart(ctx);
    }

    ngx_http_keygate_together_left(asking->left, asking->limits.n, op,
                                   down ? NULL : op->reply);

    ngx_http_keygate_asking_over(asking);
}


static void
ngx_http_keygate_asking_over(ngx_http_keygate_asking_t *asking)
{
    asking->busy = 0;

    if (ngx_queue_empty(&asking->waiting)) {
        ngx_http_keygate_asking_free(asking);

    } else {
        asking->look = 1;
        ngx_http_keygate_asking_post(asking);
    }
}


static void
ngx_http_keygate_asking_free(ngx_http_keygate_asking_t *asking)
{
    /* Who waited may have left before its turn came. */

    ngx_queue_remove(&asking->ready);

    ngx_queue_remove(&asking->queue);
    ngx_queue_insert_head(&asking->conf->asks_free, &asking->queue);
}


/*
 * A lease is running out: the next is asked for while nobody waits for it.
 * What waits in this worker, if anything, will ask for it anyway.
 */

static void
ngx_http_keygate_renew_lease(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf, const kg_zone_limits_t *limits)
{
    ngx_http_keygate_asking_t  *asking;

    asking = ngx_http_keygate_asking_find(mcf, limits);

    if (asking == NULL || asking->busy || !ngx_queue_empty(&asking->waiting)) {
        return;
    }

    ngx_memzero(&asking->ask, sizeof(kg_limit_ask_t));
    asking->ask.cost = limits->cost;
    asking->claims = 0;
    asking->left = 0;

    if (ngx_http_keygate_asking_submit(asking, ctx) != NGX_OK) {
        ngx_http_keygate_asking_free(asking);
    }
}
