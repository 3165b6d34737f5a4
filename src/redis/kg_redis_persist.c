
/*
 * Commands of the Redis client that persist: they are sent again, behind who
 * asked for them, until Redis has acknowledged them, and a worker that is
 * exiting stays for them.
 *
 * That has an end, so that a reload is not held up for long by a Redis that is
 * away: nginx waits for timers that cannot be cancelled, and there is one for
 * all such commands of a client.
 */

#include "kg_redis_int.h"


static void kg_redis_linger(ngx_event_t *ev);


void
kg_redis_linger_init(kg_redis_t *redis, ngx_cycle_t *cycle)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    redis->patience = KG_REDIS_LINGER;

    if (ccf->shutdown_timeout) {
        redis->patience = ngx_min(ccf->shutdown_timeout, KG_REDIS_LINGER);
    }

    redis->linger.data = redis;
    redis->linger.handler = kg_redis_linger;
    redis->linger.log = redis->log;
}


/*
 * The rest of a command that persists happens behind its handler's back.  Its
 * own timer, ten minutes perhaps, does not keep a worker that is exiting.
 */

void
kg_redis_job_persist(kg_redis_job_t *job)
{
    ngx_msec_int_t  left;

    job->expired = 1;

    left = (ngx_msec_int_t) (job->until - ngx_current_msec);

    job->timer.cancelable = 1;
    ngx_add_timer(&job->timer, (ngx_msec_t) ngx_max(left, 1));

    kg_redis_job_lingers(job, 1);

    if (job->waits) {
        job->op.status = KG_REDIS_TIMEOUT;
        kg_redis_job_post(job);
    }
}


void
kg_redis_job_give_up(kg_redis_job_t *job)
{
    ngx_str_t    name;
    kg_redis_t  *redis;

    job->persist = 0;
    redis = job->op.redis;

    kg_redis_job_lingers(job, 0);

    if (job->state != KG_REDIS_QUEUED && job->state != KG_REDIS_PARKED) {
        return;
    }

    redis->ndropped++;

    if (redis->dropped != ngx_time()) {
        name = kg_redis_job_name(job);

        ngx_log_error(NGX_LOG_ERR, redis->log, 0,
                      "keygate: %V did not acknowledge %ui commands (%V) in "
                      "their time, they are given up",
                      &redis->conf->name, redis->ndropped, &name);

        redis->dropped = ngx_time();
        redis->ndropped = 0;
    }

    kg_redis_conn_remove(job);
    kg_redis_job_end(job, KG_REDIS_UNSENT);
}


void
kg_redis_job_refuse(kg_redis_job_t *job)
{
    if (!job->persist) {
        kg_redis_conn_remove(job);
        kg_redis_job_end(job, KG_REDIS_UNSENT);
        return;
    }

    if (!job->expired) {

        if (job->timer.timer_set) {
            ngx_del_timer(&job->timer);
        }

        kg_redis_job_persist(job);
    }
}


/*
 * What persists keeps a worker that is exiting by this timer, for a time: from
 * when the worker began to, or the last of its requests left something.
 */

void
kg_redis_job_lingers(kg_redis_job_t *job, ngx_uint_t lingers)
{
    kg_redis_t  *redis;

    if (job->lingers == lingers) {
        return;
    }

    redis = job->op.redis;
    job->lingers = lingers;

    if (!lingers) {

        if (--redis->lingering == 0 && redis->linger.timer_set) {
            ngx_del_timer(&redis->linger);
        }

        return;
    }

    redis->lingering++;
    redis->stays = 0;

    if (!redis->linger.timer_set) {
        ngx_add_timer(&redis->linger, KG_REDIS_LINGER_TICK);
    }
}


static void
kg_redis_linger(ngx_event_t *ev)
{
    kg_redis_t  *redis;

    redis = ev->data;

    if (ngx_exiting && !redis->stays) {
        redis->stays = 1;
        redis->since = ngx_current_msec;
    }

    if (!redis->stays || ngx_current_msec - redis->since < redis->patience) {
        ngx_add_timer(ev, KG_REDIS_LINGER_TICK);
    }
}


ngx_uint_t
kg_redis_error_passes(kg_redis_error_t error)
{
    switch (error) {

    case KG_REDIS_ERR_LOADING:
    case KG_REDIS_ERR_READONLY:
    case KG_REDIS_ERR_MASTERDOWN:
    case KG_REDIS_ERR_OOM:
    case KG_REDIS_ERR_MISCONF:
    case KG_REDIS_ERR_BUSY:
    case KG_REDIS_ERR_NOREPLICAS:
        return 1;

    default:
        return 0;
    }
}
