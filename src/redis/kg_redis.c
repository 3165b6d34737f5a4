
/*
 * The Redis client's operations: submission, timeouts, orphans, and the turn in
 * which handlers run.  What persists is in kg_redis_persist.c, connections are
 * in kg_redis_conn.c, the protocol in kg_redis_wire.c.
 */

#include "kg_redis_int.h"


static void kg_redis_job_timeout(ngx_event_t *ev);
static ngx_uint_t kg_redis_job_wanted(const kg_redis_job_t *job);
static ngx_uint_t kg_redis_job_has_late(kg_redis_job_t *job);
static void kg_redis_run(ngx_event_t *ev);
static void kg_redis_run_job(kg_redis_job_t *job);
static void kg_redis_log_refused(kg_redis_t *redis, kg_redis_job_t *job,
    const redisReply *reply);
static void kg_redis_free(kg_redis_t *redis);


kg_redis_t *
kg_redis_create(ngx_cycle_t *cycle, kg_redis_conf_t *conf)
{
    kg_redis_t  *redis;

    redis = ngx_calloc(sizeof(kg_redis_t), cycle->log);
    if (redis == NULL) {
        return NULL;
    }

    redis->conf = conf;
    redis->log = cycle->log;

    redis->quiet = *cycle->log;
    redis->quiet.log_level = NGX_LOG_ALERT;

    ngx_queue_init(&redis->ready);

    redis->run.data = redis;
    redis->run.handler = kg_redis_run;
    redis->run.log = redis->log;

    kg_redis_linger_init(redis, cycle);
    kg_redis_scripts_init();

    kg_redis_conn_init(&redis->conn, redis);
    kg_redis_conn_init(&redis->bulk, redis);

    if (kg_redis_setup(redis) != NGX_OK) {
        kg_redis_free(redis);
        return NULL;
    }

    return redis;
}


void
kg_redis_destroy(kg_redis_t *redis)
{
    ngx_queue_t     *q;
    kg_redis_job_t  *job;

    kg_redis_conn_destroy(&redis->conn);
    kg_redis_conn_destroy(&redis->bulk);

    while (!ngx_queue_empty(&redis->ready)) {
        q = ngx_queue_head(&redis->ready);
        job = ngx_queue_data(q, kg_redis_job_t, ready);
        kg_redis_job_free(job);
    }

    if (redis->run.posted) {
        ngx_delete_posted_event(&redis->run);
    }

    if (redis->linger.timer_set) {
        ngx_del_timer(&redis->linger);
    }

    kg_redis_free(redis);
}


static void
kg_redis_free(kg_redis_t *redis)
{
    if (redis->setup.data) {
        ngx_explicit_memzero(redis->setup.data, redis->setup.len);
        ngx_free(redis->setup.data);
    }

    ngx_free(redis);
}


const kg_redis_conf_t *
kg_redis_conf(const kg_redis_t *redis)
{
    return redis->conf;
}


ngx_uint_t
kg_redis_generation(const kg_redis_t *redis)
{
    return redis->generation;
}


ngx_uint_t
kg_redis_down(const kg_redis_t *redis)
{
    return redis->failures >= KG_REDIS_FAILURES;
}


kg_redis_op_t *
kg_redis_submit(kg_redis_t *redis, const kg_redis_cmd_t *cmd)
{
    ngx_msec_t        timeout;
    kg_redis_job_t   *job;
    kg_redis_conn_t  *conn;

    job = kg_redis_job_create(cmd);
    if (job == NULL) {
        return NULL;
    }

    conn = cmd->bulk ? &redis->bulk : &redis->conn;

    job->op.redis = redis;
    job->conn = conn;
    job->handler = cmd->handler;
    job->late = cmd->late;
    job->waits = (cmd->handler != NULL);

    conn->njobs++;
    conn->bytes += job->size;

    job->timer.data = job;
    job->timer.handler = kg_redis_job_timeout;
    job->timer.log = redis->log;
    job->timer.cancelable = (redis->watch != NULL);

    if (conn->njobs > KG_REDIS_MAX_JOBS || conn->bytes > KG_REDIS_MAX_BYTES) {

        /* What is not taken leaves its room to what is sent in its place. */

        conn->bytes -= job->size;
        job->size = 0;

        job->op.status = KG_REDIS_UNSENT;
        kg_redis_job_post(job);
        return &job->op;
    }

    timeout = cmd->timeout ? cmd->timeout : redis->conf->command;

    if (cmd->persist) {
        job->persist = 1;
        job->until = ngx_current_msec + ngx_max(cmd->persist, timeout);
    }

    if (kg_redis_down(redis)) {

        if (!job->persist) {
            job->op.status = KG_REDIS_UNSENT;
            kg_redis_job_post(job);
            return &job->op;
        }

        kg_redis_conn_push(conn, job);
        kg_redis_job_refuse(job);
        return &job->op;
    }

    ngx_add_timer(&job->timer, timeout);
    kg_redis_conn_push(conn, job);

    return &job->op;
}


void
kg_redis_abandon(kg_redis_op_t *op)
{
    kg_redis_job_t  *job;

    job = op->priv;

    job->waits = 0;
    op->data = NULL;

    if (job->posted || job->running) {
        return;
    }

    if (job->persist) {
        return;
    }

    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    if (job->state == KG_REDIS_QUEUED) {
        kg_redis_conn_remove(job);
        kg_redis_job_free(job);
    }
}


static void
kg_redis_job_timeout(ngx_event_t *ev)
{
    kg_redis_job_t  *job;

    job = ev->data;

    if (job->expired) {
        kg_redis_job_give_up(job);
        return;
    }

    job->expired = 1;

    if (job->persist) {
        kg_redis_job_persist(job);
        return;
    }

    if (job->state == KG_REDIS_QUEUED) {
        kg_redis_conn_remove(job);
        kg_redis_job_end(job, KG_REDIS_UNSENT);
        return;
    }

    if (job->waits) {
        job->op.status = KG_REDIS_TIMEOUT;
        kg_redis_job_post(job);
    }
}


/*
 * 1 while a command is still to be executed: one whose time is over, or that
 * was abandoned, is not.
 */

static ngx_uint_t
kg_redis_job_wanted(const kg_redis_job_t *job)
{
    if (job->persist) {
        return 1;
    }

    return job->handler ? (job->waits && !job->posted) : !job->expired;
}


void
kg_redis_job_reply(kg_redis_job_t *job, redisReply *reply)
{
    kg_redis_t     *redis;
    kg_redis_op_t  *op;

    op = &job->op;
    redis = op->redis;

    if (reply->type != REDIS_REPLY_ERROR) {
        op->reply = reply;
        kg_redis_job_end(job, KG_REDIS_REPLY);
        return;
    }

    if (job->script != KG_SCRIPT_NONE
        && kg_redis_job_wanted(job)
        && kg_redis_error_is(reply, "NOSCRIPT")
        && kg_redis_job_eval(job) == NGX_OK)
    {
        freeReplyObject(reply);
        kg_redis_conn_push(job->conn, job);
        return;
    }

    op->error = kg_redis_error(reply);

    kg_redis_log_refused(redis, job, reply);

    if (!job->persist || !kg_redis_error_passes(op->error)) {
        op->reply = reply;
        kg_redis_job_end(job, KG_REDIS_REFUSED);
        return;
    }

    kg_redis_conn_park(job->conn, job);

    if (job->waits) {
        op->status = KG_REDIS_REFUSED;
        op->reply = reply;
        kg_redis_job_post(job);
        return;
    }

    freeReplyObject(reply);
}


static void
kg_redis_log_refused(kg_redis_t *redis, kg_redis_job_t *job,
    const redisReply *reply)
{
    ngx_str_t   name, text;
    ngx_uint_t  level;

    level = NGX_LOG_INFO;

    if (redis->refused != ngx_time()) {
        redis->refused = ngx_time();
        level = NGX_LOG_ERR;
    }

    name = kg_redis_job_name(job);
    text = kg_redis_error_text(reply);

    ngx_log_error(level, redis->log, 0, "keygate: %V refused %V: %V",
                  &redis->conf->name, &name, &text);
}


void
kg_redis_job_end(kg_redis_job_t *job, kg_redis_status_t status)
{
    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    kg_redis_job_lingers(job, 0);

    job->op.status = status;

    if (job->posted) {
        return;
    }

    if (job->waits || kg_redis_job_has_late(job)) {
        kg_redis_job_post(job);
        return;
    }

    kg_redis_job_free(job);
}


/* What was never sent has nothing to be undone. */

static ngx_uint_t
kg_redis_job_has_late(kg_redis_job_t *job)
{
    return job->late != NULL
           && (job->op.status == KG_REDIS_REPLY
               || job->op.status == KG_REDIS_REFUSED
               || job->op.status == KG_REDIS_LOST);
}


void
kg_redis_job_post(kg_redis_job_t *job)
{
    kg_redis_t  *redis;

    redis = job->op.redis;

    if (!job->posted) {
        job->posted = 1;
        ngx_queue_insert_tail(&redis->ready, &job->ready);
    }

    ngx_post_event(&redis->run, &ngx_posted_events);
}


static void
kg_redis_run(ngx_event_t *ev)
{
    ngx_queue_t      now, *q;
    kg_redis_t      *redis;
    kg_redis_job_t  *job;

    redis = ev->data;

    if (ngx_queue_empty(&redis->ready)) {
        return;
    }

    /* What handlers submit is for the next round. */

    ngx_queue_init(&now);
    ngx_queue_add(&now, &redis->ready);
    ngx_queue_init(&redis->ready);

    while (!ngx_queue_empty(&now)) {
        q = ngx_queue_head(&now);
        job = ngx_queue_data(q, kg_redis_job_t, ready);

        ngx_queue_remove(q);
        job->posted = 0;

        kg_redis_run_job(job);
    }
}


static void
kg_redis_run_job(kg_redis_job_t *job)
{
    kg_redis_op_t  *op;

    op = &job->op;

    ngx_log_debug2(NGX_LOG_DEBUG_CORE, op->redis->log, 0,
                   "keygate redis op %p: %s", op, kg_redis_reason(op));

    job->running = 1;

    if (job->waits) {
        job->waits = 0;
        job->handler(op);

        /* What waited may be gone when a late reply comes. */
        op->data = NULL;

    } else if (kg_redis_job_has_late(job)) {
        job->late(op);
    }

    job->running = 0;

    if (op->reply) {
        freeReplyObject(op->reply);
        op->reply = NULL;
    }

    if (job->state == KG_REDIS_OFF) {
        kg_redis_job_free(job);
    }
}


void
kg_redis_job_free(kg_redis_job_t *job)
{
    if (job->timer.timer_set) {
        ngx_del_timer(&job->timer);
    }

    kg_redis_job_lingers(job, 0);

    if (job->posted) {
        ngx_queue_remove(&job->ready);
    }

    if (job->op.reply) {
        freeReplyObject(job->op.reply);
    }

    if (job->eval) {
        ngx_free(job->eval);
    }

    job->conn->njobs--;
    job->conn->bytes -= job->size;

    ngx_free(job);
}


ngx_uint_t
kg_redis_is(const redisReply *reply, int type, size_t n)
{
    if (reply == NULL || reply->type != type) {
        return 0;
    }

    return type != REDIS_REPLY_ARRAY || reply->elements >= n;
}


const char *
kg_redis_reason(const kg_redis_op_t *op)
{
    switch (op->status) {

    case KG_REDIS_REPLY:
        return "answered";

    case KG_REDIS_REFUSED:
        return "refused by Redis";

    case KG_REDIS_TIMEOUT:
        return "timed out";

    case KG_REDIS_LOST:
        return "connection lost";

    case KG_REDIS_UNSENT:
        return "Redis cannot be reached";
    }

    return "unknown";
}
