
/*
 * What goes over a connection of the Redis client: commands out, many in one
 * write, and replies in, in the same order; and the silence of a Redis that
 * owes some.
 *
 * AUTH and SELECT go first.  Commands wait until Redis has accepted them: a
 * SELECT that fails would let them run in another database.
 */

#include "kg_redis_int.h"


static ngx_err_t kg_redis_conn_test(ngx_connection_t *c);
static void kg_redis_conn_greet(kg_redis_conn_t *conn);
static size_t kg_redis_conn_gather(kg_redis_conn_t *conn, u_char **data);
static void kg_redis_conn_written(kg_redis_conn_t *conn, size_t n);
static ngx_int_t kg_redis_conn_head(redisReader *reader);
static ngx_int_t kg_redis_conn_parse(kg_redis_conn_t *conn, size_t n);
static ngx_int_t kg_redis_conn_reply(kg_redis_conn_t *conn,
    redisReply *reply);
static ngx_int_t kg_redis_conn_setup(kg_redis_conn_t *conn,
    redisReply *reply);
static void kg_redis_conn_silent(kg_redis_conn_t *conn);
static ngx_uint_t kg_redis_conn_busy(kg_redis_conn_t *conn);


static ngx_err_t
kg_redis_conn_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    /* Where a pending error is reported in errno, getsockopt() returns -1. */

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    return err;
}


void
kg_redis_conn_write(ngx_event_t *wev)
{
    ngx_err_t          err;
    kg_redis_conn_t   *conn;
    ngx_connection_t  *c;

    c = wev->data;
    conn = c->data;

    if (!conn->connected) {

        err = kg_redis_conn_test(c);

        if (err) {
            kg_redis_conn_next(conn, err, "connect() failed");
            return;
        }

        conn->connected = 1;

        if (c->tcp_nodelay == NGX_TCP_NODELAY_UNSET
            && ngx_tcp_nodelay(c) != NGX_OK)
        {
            kg_redis_conn_next(conn, 0, "setsockopt() failed");
            return;
        }

        /* What came with the connection was left unread until now. */

        if (c->read->ready) {
            ngx_post_event(c->read, &ngx_posted_events);
        }
    }

    if (conn->up) {
        kg_redis_conn_send(conn);

    } else {
        kg_redis_conn_greet(conn);
    }
}


static void
kg_redis_conn_greet(kg_redis_conn_t *conn)
{
    ssize_t            n;
    ngx_str_t         *setup;
    ngx_connection_t  *c;

    c = conn->peer.connection;
    setup = &conn->redis->setup;

    while (conn->greeted < setup->len && c->write->ready) {

        n = c->send(c, setup->data + conn->greeted,
                    setup->len - conn->greeted);

        if (n == NGX_ERROR) {
            kg_redis_conn_next(conn, ngx_socket_errno, "send() failed");
            return;
        }

        if (n > 0) {
            conn->greeted += n;
        }
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        kg_redis_conn_next(conn, 0, "no event could be set");
    }
}


void
kg_redis_conn_send(kg_redis_conn_t *conn)
{
    u_char            *data;
    size_t             size;
    ssize_t            n;
    ngx_connection_t  *c;

    c = conn->peer.connection;

    if (ngx_queue_empty(&conn->sent)) {
        conn->heard = ngx_current_msec;
    }

    while (!ngx_queue_empty(&conn->unsent) && c->write->ready) {

        size = kg_redis_conn_gather(conn, &data);

        n = c->send(c, data, size);

        if (n == NGX_ERROR) {
            kg_redis_conn_lost(conn, "a write failed");
            return;
        }

        if (n > 0) {
            kg_redis_conn_written(conn, n);
        }
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        kg_redis_conn_lost(conn, "no event could be set");
        return;
    }

    kg_redis_conn_mark(conn);
}


/* Small commands go out together, a large one from where it is. */

static size_t
kg_redis_conn_gather(kg_redis_conn_t *conn, u_char **data)
{
    u_char          *p, *last;
    size_t           len;
    ngx_queue_t     *q;
    kg_redis_job_t  *job;

    q = ngx_queue_head(&conn->unsent);
    job = ngx_queue_data(q, kg_redis_job_t, queue);

    *data = job->wire.data + conn->offset;
    len = job->wire.len - conn->offset;

    q = ngx_queue_next(q);

    if (len >= KG_REDIS_BUFFER || q == ngx_queue_sentinel(&conn->unsent)) {
        return len;
    }

    p = ngx_cpymem(conn->redis->buffer, *data, len);
    last = conn->redis->buffer + KG_REDIS_BUFFER;

    for ( /* void */ ;
         q != ngx_queue_sentinel(&conn->unsent);
         q = ngx_queue_next(q))
    {
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        if (job->wire.len > (size_t) (last - p)) {
            break;
        }

        p = ngx_cpymem(p, job->wire.data, job->wire.len);
    }

    *data = conn->redis->buffer;

    return p - conn->redis->buffer;
}


static void
kg_redis_conn_written(kg_redis_conn_t *conn, size_t n)
{
    size_t           left;
    ngx_queue_t     *q;
    kg_redis_job_t  *job;

    while (n) {
        q = ngx_queue_head(&conn->unsent);
        job = ngx_queue_data(q, kg_redis_job_t, queue);

        left = job->wire.len - conn->offset;

        if (n < left) {
            job->state = KG_REDIS_SENDING;
            conn->offset += n;
            return;
        }

        n -= left;
        conn->offset = 0;

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&conn->sent, q);
        job->state = KG_REDIS_SENT;
    }
}


void
kg_redis_conn_read(ngx_event_t *rev)
{
    ssize_t            n;
    ngx_err_t          err;
    kg_redis_conn_t   *conn;
    ngx_connection_t  *c;

    c = rev->data;
    conn = c->data;

    if (c->close) {
        kg_redis_conn_idle(conn);
        return;
    }

    if (rev->timedout) {
        rev->timedout = 0;
        kg_redis_conn_silent(conn);
        return;
    }

    if (!conn->connected) {

        err = kg_redis_conn_test(c);

        if (err) {
            kg_redis_conn_next(conn, err, "connect() failed");
        }

        return;
    }

    for ( ;; ) {
        n = c->recv(c, conn->redis->buffer, KG_REDIS_BUFFER);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            kg_redis_conn_lost(conn, n ? "a read failed" : "Redis closed it");
            return;
        }

        conn->heard = ngx_current_msec;

        if (kg_redis_conn_parse(conn, n) != NGX_OK) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        kg_redis_conn_lost(conn, "no event could be set");
        return;
    }

    kg_redis_conn_mark(conn);
}


/* NGX_ERROR: the connection is closed. */

static ngx_int_t
kg_redis_conn_parse(kg_redis_conn_t *conn, size_t n)
{
    void       *reply;
    ngx_int_t   rc;

    if (redisReaderFeed(conn->reader, (char *) conn->redis->buffer, n)
        != REDIS_OK)
    {
        goto garbled;
    }

    for ( ;; ) {

        if (!conn->partial) {
            rc = kg_redis_conn_head(conn->reader);

            if (rc == NGX_AGAIN) {
                break;
            }

            if (rc == NGX_ERROR) {
                goto garbled;
            }
        }

        reply = NULL;

        if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
            goto garbled;
        }

        if (reply == NULL) {
            conn->partial = 1;
            break;
        }

        conn->partial = 0;

        if (kg_redis_conn_reply(conn, reply) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if ((size_t) conn->reader->len > KG_REDIS_MAX_REPLY) {
        kg_redis_conn_failed(conn, KG_REDIS_GARBLED, 0,
                             "it sent a reply longer than 64 MB", NULL);
        return NGX_ERROR;
    }

    return NGX_OK;

garbled:

    kg_redis_conn_failed(conn, KG_REDIS_GARBLED, 0,
                         "what it sends is not the Redis protocol", NULL);
    return NGX_ERROR;
}


/*
 * Looks at what a reply announces before hiredis does: of a length no reply of
 * ours has it would wait for ever, taking all later replies for its body.
 * NGX_OK, NGX_AGAIN for a line that is not whole, NGX_ERROR.
 */

static ngx_int_t
kg_redis_conn_head(redisReader *reader)
{
    char       *p, *end;
    size_t      n;
    ngx_int_t   announced;

    p = reader->buf + reader->pos;
    n = reader->len - reader->pos;

    if (n == 0) {
        return NGX_AGAIN;
    }

    if (*p != '$' && *p != '*') {
        return NGX_OK;
    }

    end = memchr(p, CR, ngx_min(n, KG_REDIS_MAX_HEAD));

    if (end == NULL) {
        return (n < KG_REDIS_MAX_HEAD) ? NGX_AGAIN : NGX_ERROR;
    }

    if (p[1] == '-') {
        return NGX_OK;
    }

    announced = ngx_atoi((u_char *) p + 1, end - p - 1);

    return (announced != NGX_ERROR
            && announced <= (*p == '$' ? KG_REDIS_MAX_REPLY
                                       : KG_REDIS_MAX_ELEMENTS))
           ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
kg_redis_conn_reply(kg_redis_conn_t *conn, redisReply *reply)
{
    ngx_queue_t     *q;
    kg_redis_job_t  *job;

    if (!conn->up) {
        return kg_redis_conn_setup(conn, reply);
    }

    if (conn->redis->watch
        && kg_redis_watch_message(conn->redis->watch, reply))
    {
        freeReplyObject(reply);
        return NGX_OK;
    }

    if (ngx_queue_empty(&conn->sent)) {
        freeReplyObject(reply);
        kg_redis_conn_failed(conn, KG_REDIS_GARBLED, 0,
                             "it sent a reply nobody had asked for", NULL);
        return NGX_ERROR;
    }

    q = ngx_queue_head(&conn->sent);
    job = ngx_queue_data(q, kg_redis_job_t, queue);

    kg_redis_conn_remove(job);
    kg_redis_job_reply(job, reply);

    return NGX_OK;
}


static ngx_int_t
kg_redis_conn_setup(kg_redis_conn_t *conn, redisReply *reply)
{
    ngx_str_t          text;
    ngx_uint_t         last;
    const char        *why;
    kg_redis_error_t   error;

    last = (conn->setup_left <= 1);
    error = kg_redis_error(reply);

    /*
     * A Redis that is loading, or does not let this user PING, is there; it
     * says so to the commands too.
     */

    if (reply->type != REDIS_REPLY_ERROR
        || (last
            && (error == KG_REDIS_ERR_LOADING
                || error == KG_REDIS_ERR_MASTERDOWN
                || error == KG_REDIS_ERR_BUSY
                || error == KG_REDIS_ERR_MISCONF
                || (error == KG_REDIS_ERR_NOPERM
                    && conn->redis->conf->database == 0))))
    {
        freeReplyObject(reply);

        if (last) {
            kg_redis_conn_up(conn);

        } else {
            conn->setup_left--;
        }

        return NGX_OK;
    }

    if (error == KG_REDIS_ERR_NOAUTH) {
        why = "it wants a password, name its file by password_file=";

    } else if (kg_redis_error_is(reply, "WRONGPASS")) {
        why = "it does not accept user= and the password of password_file=";

    } else if (last && conn->redis->conf->database) {
        why = "the database cannot be selected";

    } else {
        why = "it does not accept the connection";
    }

    text = kg_redis_error_text(reply);

    kg_redis_conn_failed(conn, KG_REDIS_REJECTS, 0, why, &text);

    freeReplyObject(reply);

    return NGX_ERROR;
}


/* The timer of the connection: nothing was heard of Redis for a time. */

static void
kg_redis_conn_silent(kg_redis_conn_t *conn)
{
    ngx_msec_t         dead, silent;
    ngx_connection_t  *c;

    c = conn->peer.connection;

    if (!conn->up) {
        kg_redis_conn_next(conn, NGX_ETIMEDOUT,
                           conn->connected ? "it does not answer"
                                           : "connect() failed");
        return;
    }

    if (!kg_redis_conn_busy(conn)) {
        return;
    }

    dead = conn->redis->conf->dead;
    silent = ngx_current_msec - conn->heard;

    if (silent < dead) {
        ngx_add_timer(c->read, dead - silent);
        return;
    }

    kg_redis_conn_failed(conn, KG_REDIS_UNREACHABLE, 0,
                         "it has not answered for the time of dead=", NULL);
}


/* Something is written, or to be written, that Redis has not answered. */

static ngx_uint_t
kg_redis_conn_busy(kg_redis_conn_t *conn)
{
    return !ngx_queue_empty(&conn->sent) || !ngx_queue_empty(&conn->unsent);
}


void
kg_redis_conn_mark(kg_redis_conn_t *conn)
{
    ngx_uint_t         busy;
    ngx_connection_t  *c;

    c = conn->peer.connection;
    busy = kg_redis_conn_busy(conn);

    c->idle = !busy || conn->redis->watch;

    if (!conn->up) {
        return;
    }

    /* A timer left over from before does not keep an idle worker. */
    c->read->cancelable = c->idle;

    if (busy && !c->read->timer_set) {
        ngx_add_timer(c->read, conn->redis->conf->dead);
    }
}
