
/*
 * Keys under way: those of an address that are being looked up, and that may
 * turn out to be guesses.
 *
 * Only the answer tells, so only the answer counts.  Up to then a key has a
 * place among those under way, and an address has no more of them than may
 * still fail: others wait, for a few ms as a rule, until it is known which of
 * those before them were guesses.  So many unknown keys at once are no way
 * around the rate, and many valid ones are never refused for it.
 *
 * A place belongs to the lookups and not to the request: a client that leaves
 * has its key counted as any other, if it was unknown.  The places of an
 * address are counted in the zone, for all workers.  Who waits is told of
 * places that come free in its own worker, and looks every few ms for others.
 */

#include "ngx_http_keygate.h"
#include "kg_zone_failures.h"


#define NGX_HTTP_KEYGATE_GUESS_LOOK  5          /* ms */


struct ngx_http_keygate_guess_s {
    ngx_queue_t                    queue;       /* when it is free */
    uint64_t                       address;
    ngx_uint_t                     asking;      /* lookups under way */
    ngx_http_keygate_main_conf_t  *conf;
    unsigned                       held:1;      /* by its request */
    unsigned                       absent:1;    /* some lookup found none */
    unsigned                       known:1;     /* some found one, or failed */
};


static ngx_int_t ngx_http_keygate_guess_begin(ngx_http_keygate_ctx_t *ctx,
    ngx_msec_t *wait);
static ngx_int_t ngx_http_keygate_guess_beyond(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t n, ngx_msec_t wait);
static ngx_int_t ngx_http_keygate_guess_wait(ngx_http_keygate_ctx_t *ctx);
static ngx_uint_t ngx_http_keygate_guess_late(
    const ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_guess_look(ngx_event_t *ev);
static void ngx_http_keygate_guess_over(ngx_http_keygate_guess_t *guess,
    ngx_uint_t unknown);
static ngx_msec_t ngx_http_keygate_guess_bound(
    const ngx_http_keygate_main_conf_t *mcf);


void
ngx_http_keygate_guess_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_queue_init(&mcf->guesses_free);
    ngx_queue_init(&mcf->guesses_waiting);

    mcf->guesses_event.data = mcf;
    mcf->guesses_event.handler = ngx_http_keygate_guess_look;
    mcf->guesses_event.log = cycle->log;
}


ngx_int_t
ngx_http_keygate_guess(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t n)
{
    ngx_int_t   rc;
    ngx_msec_t  wait;

    rc = ngx_http_keygate_guess_begin(ctx, &wait);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_guess_beyond(r, ctx, n, wait);
    }

    if (rc != NGX_AGAIN) {
        return rc;
    }

    if (!ngx_http_keygate_guess_late(ctx)) {
        return ngx_http_keygate_guess_wait(ctx);
    }

    ctx->retry_after = 1;

    return ngx_http_keygate_deny(ctx, KG_ERR_SERVICE_UNAVAILABLE, NULL);
}


/* A place for the request: as kg_zone_failures_begin(), or NGX_ERROR. */

static ngx_int_t
ngx_http_keygate_guess_begin(ngx_http_keygate_ctx_t *ctx,
    ngx_msec_t *wait)
{
    uint64_t                       address;
    ngx_int_t                      rc;
    ngx_queue_t                   *q;
    ngx_http_keygate_guess_t      *guess;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(ctx->request,
                                        ngx_http_keygate_module);
    address = kg_zone_failures_address(ctx->request->connection->sockaddr);

    if (address == 0 || mcf->failures_off || ctx->guess) {
        return NGX_OK;
    }

    if (ngx_queue_empty(&mcf->guesses_free)) {
        guess = ngx_palloc(ngx_cycle->pool, sizeof(ngx_http_keygate_guess_t));
        if (guess == NULL) {
            return NGX_ERROR;
        }

        ngx_queue_insert_head(&mcf->guesses_free, &guess->queue);
    }

    rc = kg_zone_failures_begin(mcf->zone, address, &mcf->failures,
                                ngx_http_keygate_guess_bound(mcf),
                                ngx_current_msec, wait);
    if (rc != NGX_OK) {
        return rc;
    }

    q = ngx_queue_head(&mcf->guesses_free);
    ngx_queue_remove(q);
    guess = ngx_queue_data(q, ngx_http_keygate_guess_t, queue);

    ngx_memzero(guess, sizeof(ngx_http_keygate_guess_t));

    guess->address = address;
    guess->conf = mcf;
    guess->held = 1;

    ctx->guess = guess;

    return NGX_OK;
}


/* The address has failed too often: what is left is what all of them share. */

static ngx_int_t
ngx_http_keygate_guess_beyond(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t n, ngx_msec_t wait)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    if (kg_zone_failures_lookup(mcf->zone, &mcf->lookups, n, ngx_current_msec))
    {
        return NGX_OK;
    }

    ctx->retry_after = (wait + 999) / 1000;

    return ngx_http_keygate_deny(ctx, KG_ERR_TOO_MANY_FAILURES, NULL);
}


static ngx_int_t
ngx_http_keygate_guess_wait(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(ctx->request,
                                        ngx_http_keygate_module);

    if (!ctx->guess_waited) {
        ctx->guess_waited = 1;
        ctx->guess_until = ngx_current_msec
                           + ngx_http_keygate_guess_bound(mcf);
    }

    ctx->guess_waits = 1;
    ngx_queue_insert_tail(&mcf->guesses_waiting, &ctx->guess_queue);

    if (!mcf->guesses_event.timer_set) {
        ngx_add_timer(&mcf->guesses_event, NGX_HTTP_KEYGATE_GUESS_LOOK);
    }

    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


/* Nothing takes that long but a Redis that does not answer. */

static ngx_uint_t
ngx_http_keygate_guess_late(const ngx_http_keygate_ctx_t *ctx)
{
    return ctx->guess_waited
           && (ngx_msec_int_t) (ngx_current_msec - ctx->guess_until) >= 0;
}


/*
 * Who waits no longer?  A request that goes on may end others that wait here,
 * or begin to wait again.
 */

static void
ngx_http_keygate_guess_look(ngx_event_t *ev)
{
    ngx_msec_t                     wait;
    ngx_queue_t                   *q, *next, served;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ev->data;

    ngx_queue_init(&served);

    for (q = ngx_queue_head(&mcf->guesses_waiting);
         q != ngx_queue_sentinel(&mcf->guesses_waiting);
         q = next)
    {
        next = ngx_queue_next(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, guess_queue);

        if (ngx_http_keygate_guess_begin(ctx, &wait) != NGX_AGAIN
            || ngx_http_keygate_guess_late(ctx))
        {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&served, q);
        }
    }

    while (!ngx_queue_empty(&served)) {
        q = ngx_queue_head(&served);
        ngx_queue_remove(q);

        ctx = ngx_queue_data(q, ngx_http_keygate_ctx_t, guess_queue);
        ctx->guess_waits = 0;

        ngx_http_keygate_continue(ctx);
    }

    if (ngx_queue_empty(&mcf->guesses_waiting)) {

        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

    } else if (!ev->timer_set) {
        ngx_add_timer(ev, NGX_HTTP_KEYGATE_GUESS_LOOK);
    }
}


void
ngx_http_keygate_guess_asks(ngx_http_keygate_guess_t *guess)
{
    if (guess) {
        guess->asking++;
    }
}


void
ngx_http_keygate_guess_answered(ngx_http_keygate_guess_t *guess,
    ngx_uint_t absent)
{
    if (guess == NULL) {
        return;
    }

    if (absent) {
        guess->absent = 1;

    } else {
        guess->known = 1;
    }

    guess->asking--;

    if (guess->asking == 0 && !guess->held) {
        ngx_http_keygate_guess_over(guess, guess->absent && !guess->known);
    }
}


void
ngx_http_keygate_guess_end(ngx_http_keygate_ctx_t *ctx, ngx_uint_t unknown)
{
    ngx_http_keygate_guess_t  *guess;

    guess = ctx->guess;

    /* All that it asked is answered, or it would still wait. */

    if (guess) {
        ctx->guess = NULL;
        ngx_http_keygate_guess_over(guess, unknown);
    }
}


void
ngx_http_keygate_guess_leave(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_guess_t  *guess;

    if (ctx->guess_waits) {
        ngx_queue_remove(&ctx->guess_queue);
        ctx->guess_waits = 0;
    }

    guess = ctx->guess;

    if (guess == NULL) {
        return;
    }

    ctx->guess = NULL;
    guess->held = 0;

    if (guess->asking == 0) {
        ngx_http_keygate_guess_over(guess, guess->absent && !guess->known);
    }
}


static void
ngx_http_keygate_guess_over(ngx_http_keygate_guess_t *guess,
    ngx_uint_t unknown)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = guess->conf;

    kg_zone_failures_end(mcf->zone, guess->address, &mcf->failures, unknown,
                         ngx_current_msec);

    ngx_queue_insert_head(&mcf->guesses_free, &guess->queue);

    if (!ngx_queue_empty(&mcf->guesses_waiting)) {
        ngx_post_event(&mcf->guesses_event, &ngx_posted_events);
    }
}


/* ms that a lookup takes at most: another's, which it waited for, and its. */

static ngx_msec_t
ngx_http_keygate_guess_bound(const ngx_http_keygate_main_conf_t *mcf)
{
    return 2 * mcf->redis[NGX_HTTP_KEYGATE_RECORDS]->command + 1000;
}
