
/*
 * durable=N: a claim is on N replicas before its write goes on, so that a
 * failover does not forget it.
 *
 * WAIT says how many replicas have what its own connection wrote before, and
 * holds that connection up.  So there is a client for it, and on it each
 * claim is written once more (its lease is prolonged, which only the owner can)
 * ahead of one WAIT for all: if the record is not there, the claim was granted
 * by a Redis that is not the master any more.
 *
 *     claims of a turn ─▶ gathering ─▶ flight: renew ... renew WAIT ─▶ go on
 *
 * While one WAIT is in flight the next batch gathers.  Too few replicas in the
 * time of command=: the claim is given back and the write refused.
 *
 * Each number of replicas that some route waits for has a client, and batches,
 * of its own: who waits for one replica does not wait for the second.
 */

#include "ngx_http_keygate_idempotency.h"


struct ngx_http_keygate_durable_s {
    ngx_http_keygate_durable_t  *next;

    kg_redis_t    *client;
    ngx_log_t     *log;
    ngx_queue_t    gathering;       /* claims */
    ngx_queue_t    flight;
    ngx_event_t    flush;           /* posted: the turn is over */
    ngx_uint_t     waiting;         /* a WAIT is in flight */
    ngx_uint_t     replicas;        /* N */
    time_t         said;            /* second of the last line in the log */
};


static ngx_int_t ngx_http_keygate_durable_add(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf, ngx_uint_t replicas);
static ngx_http_keygate_durable_t *ngx_http_keygate_durable_of(
    ngx_http_keygate_main_conf_t *mcf, ngx_uint_t replicas);
static void ngx_http_keygate_durable_flush(ngx_event_t *ev);
static ngx_int_t ngx_http_keygate_durable_wait(
    ngx_http_keygate_durable_t *durable);
static void ngx_http_keygate_durable_renewed(kg_redis_op_t *op);
static void ngx_http_keygate_durable_waited(kg_redis_op_t *op);
static ngx_uint_t ngx_http_keygate_durable_early(
    ngx_http_keygate_durable_t *durable);
static void ngx_http_keygate_durable_done(ngx_http_keygate_durable_t *durable,
    ngx_uint_t replicas);


ngx_int_t
ngx_http_keygate_durable_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_uint_t                  i, replicas;
    ngx_http_keygate_route_t  **routes;

    routes = mcf->writes.elts;

    for (i = 0; i < mcf->writes.nelts; i++) {
        replicas = routes[i]->idem->durable;

        if (replicas
            && ngx_http_keygate_durable_of(mcf, replicas) == NULL
            && ngx_http_keygate_durable_add(cycle, mcf, replicas) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_durable_add(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf, ngx_uint_t replicas)
{
    ngx_http_keygate_durable_t  *durable;

    durable = ngx_pcalloc(cycle->pool, sizeof(ngx_http_keygate_durable_t));
    if (durable == NULL) {
        return NGX_ERROR;
    }

    durable->client = kg_redis_create(cycle,
                                     mcf->redis[NGX_HTTP_KEYGATE_IDEMPOTENCY]);
    if (durable->client == NULL) {
        return NGX_ERROR;
    }

    durable->log = cycle->log;
    durable->replicas = replicas;

    ngx_queue_init(&durable->gathering);
    ngx_queue_init(&durable->flight);

    durable->flush.data = durable;
    durable->flush.handler = ngx_http_keygate_durable_flush;
    durable->flush.log = cycle->log;

    durable->next = mcf->durable;
    mcf->durable = durable;

    return NGX_OK;
}


/* NULL: there is none yet. */

static ngx_http_keygate_durable_t *
ngx_http_keygate_durable_of(ngx_http_keygate_main_conf_t *mcf,
    ngx_uint_t replicas)
{
    ngx_http_keygate_durable_t  *durable;

    for (durable = mcf->durable; durable; durable = durable->next) {

        if (durable->replicas == replicas) {
            break;
        }
    }

    return durable;
}


void
ngx_http_keygate_durable_exit(ngx_http_keygate_main_conf_t *mcf)
{
    ngx_http_keygate_durable_t  *durable;

    for (durable = mcf->durable; durable; durable = durable->next) {
        kg_redis_destroy(durable->client);

        if (durable->flush.posted) {
            ngx_delete_posted_event(&durable->flush);
        }
    }
}


ngx_int_t
ngx_http_keygate_durable(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_claim_t      *claim;
    ngx_http_keygate_durable_t    *durable;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);

    claim = ctx->claim;
    durable = ngx_http_keygate_durable_of(mcf, ctx->route->idem->durable);

    claim->gathered = 1;
    ngx_queue_insert_tail(&durable->gathering, &claim->queue);

    if (!durable->waiting) {
        ngx_post_event(&durable->flush, &ngx_posted_events);
    }

    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


void
ngx_http_keygate_durable_leave(ngx_http_keygate_claim_t *claim)
{
    if (claim->gathered) {
        claim->gathered = 0;
        ngx_queue_remove(&claim->queue);
    }
}


static void
ngx_http_keygate_durable_flush(ngx_event_t *ev)
{
    ngx_queue_t                 *q;
    ngx_http_keygate_claim_t    *claim;
    ngx_http_keygate_durable_t  *durable;

    durable = ev->data;

    if (durable->waiting || ngx_queue_empty(&durable->gathering)) {
        return;
    }

    while (!ngx_queue_empty(&durable->gathering)) {
        q = ngx_queue_head(&durable->gathering);
        ngx_queue_remove(q);
        ngx_queue_insert_tail(&durable->flight, q);

        claim = ngx_queue_data(q, ngx_http_keygate_claim_t, queue);

        claim->ctx->op = ngx_http_keygate_prolong(claim, durable->client,
                                            ngx_http_keygate_durable_renewed);
    }

    if (ngx_http_keygate_durable_wait(durable) != NGX_OK) {
        ngx_http_keygate_durable_done(durable, 0);
    }
}


static ngx_int_t
ngx_http_keygate_durable_wait(ngx_http_keygate_durable_t *durable)
{
    ngx_str_t               argv[3];
    ngx_msec_t              time;
    kg_redis_cmd_t          cmd;
    const kg_redis_conf_t  *conf;
    u_char                  replicas[NGX_INT_T_LEN], ms[NGX_INT64_LEN];

    conf = kg_redis_conf(durable->client);

    /* A connection that is silent for dead= would be closed. */

    time = ngx_max(ngx_min(conf->command, conf->dead / 4 * 3), 1);

    ngx_str_set(&argv[0], "WAIT");

    argv[1].data = replicas;
    argv[1].len = ngx_sprintf(replicas, "%ui", durable->replicas) - replicas;

    argv[2].data = ms;
    argv[2].len = ngx_sprintf(ms, "%M", time) - ms;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.timeout = time + conf->command;
    cmd.handler = ngx_http_keygate_durable_waited;
    cmd.data = durable;

    if (kg_redis_submit(durable->client, &cmd) == NULL) {
        return NGX_ERROR;
    }

    durable->waiting = 1;

    return NGX_OK;
}


/* 1: the record is there and is ours, and was written by this connection. */

static void
ngx_http_keygate_durable_renewed(kg_redis_op_t *op)
{
    ngx_http_keygate_claim_t  *claim;

    claim = op->data;
    claim->ctx->op = NULL;

    claim->written = op->status == KG_REDIS_REPLY
                     && kg_redis_is(op->reply, REDIS_REPLY_INTEGER, 0)
                     && op->reply->integer == 1;
}


static void
ngx_http_keygate_durable_waited(kg_redis_op_t *op)
{
    ngx_uint_t                   replicas;
    ngx_http_keygate_durable_t  *durable;

    durable = op->data;
    durable->waiting = 0;

    if (ngx_http_keygate_durable_early(durable)
        && ngx_http_keygate_durable_wait(durable) == NGX_OK)
    {
        return;
    }

    replicas = 0;

    if (op->status == KG_REDIS_REPLY
        && kg_redis_is(op->reply, REDIS_REPLY_INTEGER, 0))
    {
        replicas = ngx_max(op->reply->integer, 0);

        if (replicas < durable->replicas && durable->said != ngx_time()) {
            durable->said = ngx_time();

            ngx_log_error(NGX_LOG_ERR, durable->log, 0,
                          "keygate: only %ui of %ui replicas of %V had a "
                          "claim in time", replicas, durable->replicas,
                          &kg_redis_conf(durable->client)->name);
        }
    }

    ngx_http_keygate_durable_done(durable, replicas);
}


/*
 * 1 when some claim was not written before the WAIT: a Redis that does not know
 * the script is sent it, behind what is in the pipeline.
 */

static ngx_uint_t
ngx_http_keygate_durable_early(ngx_http_keygate_durable_t *durable)
{
    ngx_queue_t               *q;
    ngx_http_keygate_claim_t  *claim;

    for (q = ngx_queue_head(&durable->flight);
         q != ngx_queue_sentinel(&durable->flight);
         q = ngx_queue_next(q))
    {
        claim = ngx_queue_data(q, ngx_http_keygate_claim_t, queue);

        if (claim->ctx->op) {
            return 1;
        }
    }

    return 0;
}


/* Requests that go on may end others, which then leave the queue. */

static void
ngx_http_keygate_durable_done(ngx_http_keygate_durable_t *durable,
    ngx_uint_t replicas)
{
    ngx_queue_t                done, *q;
    ngx_http_keygate_ctx_t    *ctx;
    ngx_http_keygate_claim_t  *claim;

    ngx_queue_init(&done);

    if (!ngx_queue_empty(&durable->flight)) {
        ngx_queue_add(&done, &durable->flight);
        ngx_queue_init(&durable->flight);
    }

    if (!ngx_queue_empty(&durable->gathering)) {
        ngx_post_event(&durable->flush, &ngx_posted_events);
    }

    while (!ngx_queue_empty(&done)) {
        q = ngx_queue_head(&done);
        claim = ngx_queue_data(q, ngx_http_keygate_claim_t, queue);
        ctx = claim->ctx;

        ngx_http_keygate_durable_leave(claim);

        if (ctx->op) {
            kg_redis_abandon(ctx->op);
            ctx->op = NULL;
        }

        if (claim->written && replicas >= durable->replicas) {
            claim->durable = 1;

        } else {
            ngx_http_keygate_give_back(ctx);
        }

        ngx_http_keygate_continue(ctx);
    }
}
