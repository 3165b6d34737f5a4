
/*
 * The life of a connection of the Redis client: when it is opened, what its
 * failures mean, when it is closed.  What goes over it is in kg_redis_io.c.
 *
 * It is opened when a command is queued, and by a timer after a failure, so
 * that no request has to find out that Redis is back.
 *
 * Nothing here runs a handler: outcomes are posted (kg_redis.c), so a
 * connection can be closed anywhere without its caller being called back.
 */

#include "kg_redis_int.h"


static ngx_uint_t kg_redis_conn_drop(ngx_queue_t *queue);
static void kg_redis_conn_flush(ngx_event_t *ev);
static void kg_redis_conn_retry(ngx_event_t *ev);
static void kg_redis_conn_again(ngx_event_t *ev);
static void kg_redis_conn_open(kg_redis_conn_t *conn);
static ngx_int_t kg_redis_conn_start(kg_redis_conn_t *conn);
static void kg_redis_conn_refuse(kg_redis_conn_t *conn);
static void kg_redis_conn_close(kg_redis_conn_t *conn, const char *why);
static ngx_msec_t kg_redis_backoff(ngx_uint_t failures);


void
kg_redis_conn_init(kg_redis_conn_t *conn, kg_redis_t *redis)
{
    conn->redis = redis;

    ngx_queue_init(&conn->unsent);
    ngx_queue_init(&conn->sent);
    ngx_queue_init(&conn->parked);

    conn->flush.data = conn;
    conn->flush.handler = kg_redis_conn_flush;
    conn->flush.log = redis->log;

    conn->retry.data = conn;
    conn->retry.handler = kg_redis_conn_retry;
    conn->retry.log = redis->log;
    conn->retry.cancelable = 1;

    conn->again.data = conn;
    conn->again.handler = kg_redis_conn_again;
    conn->again.log = redis->log;
    conn->again.cancelable = 1;
}


void
kg_redis_conn_destroy(kg_redis_conn_t *conn)
{
    ngx_uint_t  n;

    if (conn->peer.connection) {
        ngx_close_connection(conn->peer.connection);
        conn->peer.connection = NULL;
    }

    if (conn->reader) {
        redisReaderFree(conn->reader);
        conn->reader = NULL;
    }

    if (conn->flush.posted) {
        ngx_delete_posted_event(&conn->flush);
    }

    if (conn->retry.timer_set) {
        ngx_del_timer(&conn->retry);
    }

    if (conn->again.timer_set) {
        ngx_del_timer(&conn->again);
    }

    n = kg_redis_conn_drop(&conn->sent);
    n += kg_redis_conn_drop(&conn->unsent);
    n += kg_redis_conn_drop(&conn->parked);

    if (n) {
        ngx_log_error(NGX_LOG_WARN, conn->redis->log, 0,
                      "keygate: exiting before %V acknowledged %ui commands",
                      &conn->redis->conf->name, n);
    }
}


/* Returns how many of them were to persist. */

static ngx_uint_t
kg_redis_conn_drop(ngx_queue_t *queue)
{
    ngx_uint_t       n;
    ngx_queue_t     *q;
    kg_redis_job_t  *job;

    n = 0;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_queue_remove(q);

        job = ngx_queue_data(q, kg_redis_job_t, queue);
        n += job->persist;

        kg_redis_job_free(job);
    }

    return n;
}


void
kg_redis_conn_push(kg_redis_conn_t *conn, kg_redis_job_t *job)
{
    job->state = KG_REDIS_QUEUED;
    ngx_queue_insert_tail(&conn->unsent, &job->queue);

    if (conn->peer.connection) {
        conn->peer.connection->idle = (conn->redis->watch != NULL);
    }

    kg_redis_conn_post(conn);
}


void
kg_redis_conn_post(kg_redis_conn_t *conn)
{
    ngx_post_event(&conn->flush, &ngx_posted_events);
}


void
kg_redis_conn_park(kg_redis_conn_t *conn, kg_redis_job_t *job)
{
    job->state = KG_REDIS_PARKED;
    ngx_queue_insert_tail(&conn->parked, &job->queue);

    if (!conn->again.timer_set) {
        ngx_add_timer(&conn->again, KG_REDIS_PARK);
    }
}


void
kg_redis_conn_remove(kg_redis_job_t *job)
{
    ngx_queue_remove(&job->queue);
    job->state = KG_REDIS_OFF;
}


static void
kg_redis_conn_flush(ngx_event_t *ev)
{
    kg_redis_conn_t  *conn;

    conn = ev->data;

    if (conn->peer.connection == NULL) {

        if (!conn->retry.timer_set
            && (!ngx_queue_empty(&conn->unsent) || conn->redis->watch))
        {
            kg_redis_conn_open(conn);
        }

        return;
    }

    if (conn->up) {
        kg_redis_conn_send(conn);
    }
}


static void
kg_redis_conn_retry(ngx_event_t *ev)
{
    kg_redis_conn_t  *conn;

    conn = ev->data;

    if (conn->peer.connection == NULL) {
        kg_redis_conn_open(conn);
    }
}


static void
kg_redis_conn_again(ngx_event_t *ev)
{
    ngx_queue_t      *q;
    kg_redis_conn_t  *conn;

    conn = ev->data;

    while (!ngx_queue_empty(&conn->parked)) {
        q = ngx_queue_head(&conn->parked);
        ngx_queue_remove(q);

        kg_redis_conn_push(conn, ngx_queue_data(q, kg_redis_job_t, queue));
    }
}


/* An attempt tries every address of the host, from the last one used on. */

static void
kg_redis_conn_open(kg_redis_conn_t *conn)
{
    conn->tried = 0;

    if (kg_redis_conn_start(conn) == NGX_DECLINED) {
        kg_redis_conn_next(conn, ngx_socket_errno, "connect() failed");
    }
}


/* NGX_OK: on its way, or failed for good; NGX_DECLINED: errno says why. */

static ngx_int_t
kg_redis_conn_start(kg_redis_conn_t *conn)
{
    ngx_int_t               rc;
    kg_redis_t             *redis;
    ngx_addr_t             *addr;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *peer;

    redis = conn->redis;
    addr = &redis->conf->addrs[conn->addr];
    peer = &conn->peer;

    ngx_memzero(peer, sizeof(ngx_peer_connection_t));

    peer->sockaddr = addr->sockaddr;
    peer->socklen = addr->socklen;
    peer->name = &addr->name;
    peer->get = ngx_event_get_peer;
    peer->log = &redis->quiet;
    peer->log_error = NGX_ERROR_INFO;
    peer->so_keepalive = (addr->sockaddr->sa_family != AF_UNIX);

    ngx_set_socket_errno(0);

    rc = ngx_event_connect_peer(peer);

    if (rc == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (rc == NGX_ERROR) {
        kg_redis_conn_failed(conn, KG_REDIS_UNREACHABLE, 0,
                             "no connection could be made", NULL);
        return NGX_OK;
    }

    c = peer->connection;

    c->data = conn;
    c->log = redis->log;
    c->read->log = redis->log;
    c->write->log = redis->log;
    c->read->handler = kg_redis_conn_read;
    c->write->handler = kg_redis_conn_write;

    conn->connected = 0;
    conn->up = 0;
    conn->greeted = 0;
    conn->setup_left = redis->nsetup;

    kg_redis_conn_mark(conn);

    conn->partial = 0;
    conn->reader = redisReaderCreate();
    if (conn->reader == NULL) {
        kg_redis_conn_failed(conn, KG_REDIS_UNREACHABLE, 0, "no memory",
                             NULL);
        return NGX_OK;
    }

    /* Who waits has a timer of his own. */
    c->read->cancelable = 1;
    ngx_add_timer(c->read, redis->conf->connect);

    if (rc == NGX_OK) {
        kg_redis_conn_write(c->write);
    }

    return NGX_OK;
}


/* The worker is exiting; what is still in flight may need Redis again. */

void
kg_redis_conn_idle(kg_redis_conn_t *conn)
{
    kg_redis_conn_close(conn, "the worker is exiting");

    if (conn->redis->watch) {
        return;
    }

    if (kg_redis_down(conn->redis) && !conn->retry.timer_set) {
        ngx_add_timer(&conn->retry, kg_redis_backoff(conn->redis->failures));
    }

    /* worker_shutdown_timeout closes also what is not idle. */

    kg_redis_conn_post(conn);
}


void
kg_redis_conn_up(kg_redis_conn_t *conn)
{
    kg_redis_t        *redis;
    kg_redis_conn_t   *other;
    ngx_connection_t  *c;

    redis = conn->redis;
    c = conn->peer.connection;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (conn == &redis->conn) {
        redis->generation++;
    }

    conn->up = 1;
    conn->since = ngx_current_msec;
    conn->setup_left = 0;

    if (redis->trouble != KG_REDIS_FINE && redis->said) {
        ngx_log_error(NGX_LOG_NOTICE, redis->log, 0, "keygate: %V is back",
                      &redis->conf->name);
    }

    redis->trouble = KG_REDIS_FINE;
    redis->said = 0;
    redis->failures = 0;

    other = (conn == &redis->conn) ? &redis->bulk : &redis->conn;

    if (other->retry.timer_set) {
        ngx_del_timer(&other->retry);
        kg_redis_conn_post(other);
    }

    kg_redis_conn_post(conn);

    if (redis->watch) {
        kg_redis_watch_up(redis->watch);
    }
}


/* This address failed: the next one, or the attempt has failed. */

void
kg_redis_conn_next(kg_redis_conn_t *conn, ngx_err_t err, const char *why)
{
    kg_redis_t  *redis;

    redis = conn->redis;

    for ( ;; ) {
        kg_redis_conn_close(conn, why);

        ngx_log_error(NGX_LOG_INFO, redis->log, err, "keygate: %V at %V: %s",
                      &redis->conf->name,
                      &redis->conf->addrs[conn->addr].name, why);

        conn->addr = (conn->addr + 1) % redis->conf->naddrs;

        if (++conn->tried >= redis->conf->naddrs) {
            break;
        }

        if (kg_redis_conn_start(conn) == NGX_OK) {
            return;
        }

        err = ngx_socket_errno;
        why = "connect() failed";
    }

    kg_redis_conn_failed(conn, KG_REDIS_UNREACHABLE, err, why, NULL);
}


/* An open connection went away: a Redis that restarts, or that closes idle. */

void
kg_redis_conn_lost(kg_redis_conn_t *conn, const char *why)
{
    ngx_uint_t   level;
    kg_redis_t  *redis;

    redis = conn->redis;

    if (!conn->up) {
        kg_redis_conn_next(conn, 0, why);
        return;
    }

    if (ngx_current_msec - conn->since < KG_REDIS_SHORT_LIFE) {
        kg_redis_conn_failed(conn, KG_REDIS_UNREACHABLE, 0,
                             "its connections break as soon as they are made",
                             NULL);
        return;
    }

    level = (ngx_queue_empty(&conn->sent) || redis->watch) ? NGX_LOG_INFO
                                                           : NGX_LOG_WARN;

    ngx_log_error(level, redis->log, 0, "keygate: connection to %V lost, "
                  "%s", &redis->conf->name, why);

    kg_redis_conn_close(conn, why);
    kg_redis_conn_post(conn);
}


void
kg_redis_conn_failed(kg_redis_conn_t *conn, kg_redis_trouble_t trouble,
    ngx_err_t err, const char *why, const ngx_str_t *text)
{
    ngx_msec_t   delay;
    ngx_uint_t   level;
    ngx_str_t    none;
    kg_redis_t  *redis;

    redis = conn->redis;
    ngx_str_null(&none);

    kg_redis_conn_close(conn, why);

    redis->failures++;
    delay = kg_redis_backoff(redis->failures);

    level = NGX_LOG_INFO;

    if ((!redis->said || redis->trouble != trouble)
        && redis->last_said != ngx_time()
        && redis->watch == NULL)
    {
        level = NGX_LOG_ERR;
        redis->said = 1;
        redis->last_said = ngx_time();
    }

    redis->trouble = trouble;

    ngx_log_error(level, redis->log, err,
                  "keygate: %V %s: %s%s%V, next try in %M ms",
                  &redis->conf->name,
                  trouble == KG_REDIS_UNREACHABLE ? "is unreachable"
                                                  : "cannot be used",
                  why, text ? ": " : "", text ? text : &none, delay);

    if (redis->failures == KG_REDIS_FAILURES && redis->watch == NULL) {
        ngx_log_error(NGX_LOG_WARN, redis->log, 0, "keygate: no request waits "
                      "for %V until it is back", &redis->conf->name);
    }

    if (redis->failures >= KG_REDIS_FAILURES) {
        kg_redis_conn_refuse(&redis->conn);
        kg_redis_conn_refuse(&redis->bulk);
    }

    if (!conn->retry.timer_set) {
        ngx_add_timer(&conn->retry, delay);
    }
}


/* The breaker is open: who waits for this connection is told so. */

static void
kg_redis_conn_refuse(kg_redis_conn_t *conn)
{
    ngx_queue_t     *q, *next;
    kg_redis_job_t  *job;

    if (conn->up) {
        return;
    }

    for (q = ngx_queue_head(&conn->unsent);
         q != ngx_queue_sentinel(&conn->unsent);
         q = next)
    {
        next = ngx_queue_next(q);
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        kg_redis_job_refuse(job);
    }
}


/*
 * Closes the connection.  What was sent is lost, or sent again when it
 * persists.  A command of which a part was sent has surely not run: it goes
 * out again, unless its time is over.
 */

static void
kg_redis_conn_close(kg_redis_conn_t *conn, const char *why)
{
    ngx_queue_t     *q, *prev;
    kg_redis_job_t  *job;

    if (conn->up && conn->redis->watch) {
        kg_redis_watch_down(conn->redis->watch, why);
    }

    if (conn->up && conn == &conn->redis->conn) {
        conn->redis->generation++;
    }

    if (conn->peer.connection) {
        ngx_close_connection(conn->peer.connection);
        conn->peer.connection = NULL;
    }

    if (conn->reader) {
        redisReaderFree(conn->reader);
        conn->reader = NULL;
    }

    conn->connected = 0;
    conn->up = 0;

    if (conn->offset) {
        q = ngx_queue_head(&conn->unsent);
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        job->state = KG_REDIS_QUEUED;
        conn->offset = 0;

        if (!job->persist && !job->timer.timer_set) {
            kg_redis_conn_remove(job);
            kg_redis_job_end(job, KG_REDIS_UNSENT);
        }
    }

    for (q = ngx_queue_last(&conn->sent);
         q != ngx_queue_sentinel(&conn->sent);
         q = prev)
    {
        prev = ngx_queue_prev(q);
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        if (job->persist) {
            ngx_queue_remove(q);
            ngx_queue_insert_head(&conn->unsent, q);
            job->state = KG_REDIS_QUEUED;
        }
    }

    while (!ngx_queue_empty(&conn->sent)) {
        q = ngx_queue_head(&conn->sent);
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        kg_redis_conn_remove(job);
        kg_redis_job_end(job, KG_REDIS_LOST);
    }

    /* What a watch asks belongs to one connection. */

    if (conn->redis->watch) {
        kg_redis_conn_refuse(conn);
    }
}


static ngx_msec_t
kg_redis_backoff(ngx_uint_t failures)
{
    ngx_msec_t  delay;

    delay = KG_REDIS_BACKOFF_MAX;

    if (failures <= 5) {
        delay = KG_REDIS_BACKOFF_MIN << (failures - 1);
    }

    /* Workers and nodes that failed together come back apart. */

    return delay / 2 + ngx_random() % (delay / 2);
}
