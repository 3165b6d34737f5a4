
/*
 * The watch: see kg_redis_watch.h.  It is a client of its own (kg_redis.c)
 * with one connection, and what it has to say on it: who it is, what it wants
 * to be told, and that it is there.
 *
 * Handlers of its commands run from a posted event, and the connection may
 * have gone between the reply and that; it cannot have come back by then, as
 * this takes another turn.  So it is enough to ask whether it is up.
 */

#include "kg_redis_int.h"
#include "kg_redis_watch.h"


#define KG_REDIS_INVALIDATE  "__redis__:invalidate"

/* The longest text of a refusal that is kept. */
#define KG_REDIS_WHY         256


struct kg_redis_watch_s {
    kg_redis_t                       *redis;
    kg_redis_conf_t                   conf;
    const kg_redis_watch_handlers_t  *handlers;
    void                             *data;

    ngx_event_t                       beat;     /* timer */

    ngx_str_t                         why;      /* it does not tell all */
    u_char                            why_text[KG_REDIS_WHY];

    ngx_str_t                         keys;     /* prefixes of names */
    ngx_str_t                         orgs;
    ngx_str_t                         channel;  /* what our writers tell by */
    u_char                           *names;    /* the memory of these */

    kg_redis_tells_t                  tells;
    unsigned                          ready:1;  /* it is said what it tells */
    unsigned                          begun:1;  /* ... and a PING answered */
};


static ngx_int_t kg_redis_watch_names(kg_redis_watch_t *watch);
static u_char *kg_redis_watch_name(u_char *p, ngx_str_t *name,
    const ngx_str_t *ns, const char *rest);
static void kg_redis_watch_submit(kg_redis_watch_t *watch, ngx_str_t *argv,
    ngx_uint_t argc, kg_redis_handler_pt handler);
static void kg_redis_watch_ready(kg_redis_watch_t *watch,
    kg_redis_tells_t tells);
static void kg_redis_watch_beat(ngx_event_t *ev);
static void kg_redis_watch_ping(kg_redis_watch_t *watch);
static void kg_redis_watch_pong(kg_redis_op_t *op);
static void kg_redis_watch_track(kg_redis_op_t *op);
static void kg_redis_watch_tracked(kg_redis_op_t *op);
static void kg_redis_watch_refused(kg_redis_watch_t *watch,
    kg_redis_op_t *op);
static void kg_redis_watch_subscribe(kg_redis_watch_t *watch,
    ngx_str_t *channel, kg_redis_handler_pt handler);
static void kg_redis_watch_told_all(kg_redis_op_t *op);
static void kg_redis_watch_told_ours(kg_redis_op_t *op);
static ngx_uint_t kg_redis_watch_passes(kg_redis_watch_t *watch,
    const kg_redis_op_t *op);
static void kg_redis_watch_changed(kg_redis_watch_t *watch,
    const redisReply *name);


kg_redis_watch_t *
kg_redis_watch_create(ngx_cycle_t *cycle, const kg_redis_conf_t *conf,
    const kg_redis_watch_handlers_t *handlers, void *data)
{
    kg_redis_watch_t  *watch;

    watch = ngx_calloc(sizeof(kg_redis_watch_t), cycle->log);
    if (watch == NULL) {
        return NULL;
    }

    watch->conf = *conf;
    watch->conf.dead = ngx_min(conf->dead, KG_REDIS_WATCH_BOUND);
    watch->handlers = handlers;
    watch->data = data;

    watch->beat.data = watch;
    watch->beat.handler = kg_redis_watch_beat;
    watch->beat.log = cycle->log;
    watch->beat.cancelable = 1;

    watch->redis = kg_redis_create(cycle, &watch->conf);

    if (watch->redis == NULL || kg_redis_watch_names(watch) != NGX_OK) {
        kg_redis_watch_destroy(watch);
        return NULL;
    }

    watch->redis->watch = watch;

    kg_redis_conn_post(&watch->redis->conn);

    return watch;
}


void
kg_redis_watch_destroy(kg_redis_watch_t *watch)
{
    if (watch->beat.timer_set) {
        ngx_del_timer(&watch->beat);
    }

    if (watch->redis) {
        kg_redis_destroy(watch->redis);
    }

    if (watch->names) {
        ngx_free(watch->names);
    }

    ngx_free(watch);
}


static ngx_int_t
kg_redis_watch_names(kg_redis_watch_t *watch)
{
    u_char           *p;
    const ngx_str_t  *ns;

    ns = &watch->conf.ns;

    p = ngx_alloc(3 * (ns->len + sizeof(":changed")), ngx_cycle->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    watch->names = p;

    p = kg_redis_watch_name(p, &watch->keys, ns, ":key:");
    p = kg_redis_watch_name(p, &watch->orgs, ns, ":org:");
    (void) kg_redis_watch_name(p, &watch->channel, ns, ":changed");

    return NGX_OK;
}


static u_char *
kg_redis_watch_name(u_char *p, ngx_str_t *name, const ngx_str_t *ns,
    const char *rest)
{
    name->data = p;

    p = ngx_cpymem(p, ns->data, ns->len);
    p = ngx_cpymem(p, rest, ngx_strlen(rest));

    name->len = p - name->data;

    return p;
}


void
kg_redis_watch_publish(kg_redis_t *redis, const ngx_str_t *name,
    ngx_msec_t persist)
{
    ngx_str_t        argv[3];
    kg_redis_cmd_t   cmd;
    const ngx_str_t  *ns;

    ns = &redis->conf->ns;

    ngx_str_set(&argv[0], "PUBLISH");
    argv[2] = *name;

    argv[1].data = ngx_alloc(ns->len + sizeof(":changed"), redis->log);
    if (argv[1].data == NULL) {
        return;
    }

    (void) kg_redis_watch_name(argv[1].data, &argv[1], ns, ":changed");

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.persist = persist;

    (void) kg_redis_submit(redis, &cmd);

    ngx_free(argv[1].data);
}


static void
kg_redis_watch_submit(kg_redis_watch_t *watch, ngx_str_t *argv,
    ngx_uint_t argc, kg_redis_handler_pt handler)
{
    kg_redis_cmd_t  cmd;

    /* It would go out on the next connection, which has to begin anew. */

    if (!watch->redis->conn.up) {
        return;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = argc;
    cmd.argv = argv;
    cmd.handler = handler;

    /* When it was asked: before it is sent, so nothing is claimed too much. */
    cmd.data = (void *) (uintptr_t) ngx_current_msec;

    /* A connection that does not answer is closed before. */
    cmd.timeout = 2 * KG_REDIS_WATCH_BOUND;

    if (kg_redis_submit(watch->redis, &cmd) == NULL) {
        ngx_add_timer(&watch->beat, KG_REDIS_WATCH_PING);
    }
}


void
kg_redis_watch_up(kg_redis_watch_t *watch)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "ID");

    kg_redis_watch_submit(watch, argv, 2, kg_redis_watch_track);
}


void
kg_redis_watch_down(kg_redis_watch_t *watch, const char *why)
{
    if (watch->beat.timer_set) {
        ngx_del_timer(&watch->beat);
    }

    watch->ready = 0;

    if (watch->begun) {
        watch->begun = 0;
        watch->handlers->lost(watch->data, why);
    }
}


static void
kg_redis_watch_ready(kg_redis_watch_t *watch, kg_redis_tells_t tells)
{
    if (watch->redis->conn.up) {
        watch->tells = tells;
        watch->ready = 1;

        kg_redis_watch_ping(watch);
    }
}


/* The next PING; before there was one, the end of this try. */

static void
kg_redis_watch_beat(ngx_event_t *ev)
{
    kg_redis_watch_t  *watch;

    watch = ev->data;

    if (watch->ready) {
        kg_redis_watch_ping(watch);

    } else {
        kg_redis_conn_failed(&watch->redis->conn, KG_REDIS_UNREACHABLE, 0,
                             "it cannot say yet whether it tells of changes",
                             NULL);
    }
}


static void
kg_redis_watch_ping(kg_redis_watch_t *watch)
{
    ngx_str_t  argv[1];

    ngx_str_set(&argv[0], "PING");

    kg_redis_watch_submit(watch, argv, 1, kg_redis_watch_pong);

    ngx_add_timer(&watch->beat, KG_REDIS_WATCH_PING);
}


static void
kg_redis_watch_pong(kg_redis_op_t *op)
{
    kg_redis_watch_t  *watch;

    watch = op->redis->watch;

    if (!watch->ready || op->status != KG_REDIS_REPLY) {
        return;
    }

    if (!watch->begun) {
        watch->begun = 1;
        watch->handlers->begun(watch->data, watch->tells,
                               watch->tells == KG_REDIS_TELLS_ALL
                               ? NULL : &watch->why);
    }

    watch->handlers->alive(watch->data, (ngx_msec_t) (uintptr_t) op->data);
}


static void
kg_redis_watch_track(kg_redis_op_t *op)
{
    u_char             id[NGX_INT64_LEN];
    ngx_str_t          argv[10];
    kg_redis_watch_t  *watch;

    watch = op->redis->watch;

    if (op->status != KG_REDIS_REPLY
        || !kg_redis_is(op->reply, REDIS_REPLY_INTEGER, 0))
    {
        kg_redis_watch_refused(watch, op);
        return;
    }

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "TRACKING");
    ngx_str_set(&argv[2], "ON");
    ngx_str_set(&argv[3], "REDIRECT");
    argv[4].data = id;
    argv[4].len = ngx_sprintf(id, "%L", (int64_t) op->reply->integer) - id;
    ngx_str_set(&argv[5], "BCAST");
    ngx_str_set(&argv[6], "PREFIX");
    argv[7] = watch->keys;
    ngx_str_set(&argv[8], "PREFIX");
    argv[9] = watch->orgs;

    kg_redis_watch_submit(watch, argv, 10, kg_redis_watch_tracked);
}


static void
kg_redis_watch_tracked(kg_redis_op_t *op)
{
    ngx_str_t          channel;
    kg_redis_watch_t  *watch;

    watch = op->redis->watch;

    if (op->status != KG_REDIS_REPLY) {
        kg_redis_watch_refused(watch, op);
        return;
    }

    ngx_str_set(&channel, KG_REDIS_INVALIDATE);

    kg_redis_watch_subscribe(watch, &channel, kg_redis_watch_told_all);
}


/* It does not tell all: what our own writers tell is the next best. */

static void
kg_redis_watch_refused(kg_redis_watch_t *watch, kg_redis_op_t *op)
{
    ngx_str_t  text;

    if (kg_redis_watch_passes(watch, op)) {
        return;
    }

    ngx_str_set(&text, "it answers in a way it should not");

    if (op->status == KG_REDIS_REFUSED) {
        text = kg_redis_error_text(op->reply);
    }

    watch->why.len = ngx_min(text.len, KG_REDIS_WHY);
    watch->why.data = watch->why_text;
    ngx_memcpy(watch->why_text, text.data, watch->why.len);

    kg_redis_watch_subscribe(watch, &watch->channel,
                             kg_redis_watch_told_ours);
}


static void
kg_redis_watch_subscribe(kg_redis_watch_t *watch, ngx_str_t *channel,
    kg_redis_handler_pt handler)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "SUBSCRIBE");
    argv[1] = *channel;

    kg_redis_watch_submit(watch, argv, 2, handler);
}


static void
kg_redis_watch_told_all(kg_redis_op_t *op)
{
    kg_redis_watch_t  *watch;

    watch = op->redis->watch;

    if (op->status != KG_REDIS_REPLY) {
        kg_redis_watch_refused(watch, op);
        return;
    }

    kg_redis_watch_ready(watch, KG_REDIS_TELLS_ALL);
}


static void
kg_redis_watch_told_ours(kg_redis_op_t *op)
{
    kg_redis_watch_t  *watch;

    watch = op->redis->watch;

    if (op->status == KG_REDIS_REPLY) {
        kg_redis_watch_ready(watch, KG_REDIS_TELLS_OURS);

    } else if (!kg_redis_watch_passes(watch, op)) {
        kg_redis_watch_ready(watch, KG_REDIS_TELLS_NOTHING);
    }
}


/* 1: this is no answer for good: a connection after this one is asked. */

static ngx_uint_t
kg_redis_watch_passes(kg_redis_watch_t *watch, const kg_redis_op_t *op)
{
    if (!watch->redis->conn.up) {
        return 1;
    }

    if (op->status == KG_REDIS_REPLY
        || (op->status == KG_REDIS_REFUSED
            && !kg_redis_error_passes(op->error)))
    {
        return 0;
    }

    ngx_add_timer(&watch->beat, KG_REDIS_WATCH_PING);

    return 1;
}


ngx_uint_t
kg_redis_watch_message(kg_redis_watch_t *watch, const redisReply *reply)
{
    size_t             i;
    const redisReply  *what;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 3)
        || !kg_redis_is(reply->element[0], REDIS_REPLY_STRING, 0)
        || ngx_strcmp(reply->element[0]->str, "message") != 0)
    {
        return 0;
    }

    what = reply->element[2];

    if (kg_redis_is(what, REDIS_REPLY_NIL, 0)) {
        watch->handlers->flushed(watch->data);
        return 1;
    }

    if (!kg_redis_is(what, REDIS_REPLY_ARRAY, 0)) {
        kg_redis_watch_changed(watch, what);
        return 1;
    }

    for (i = 0; i < what->elements; i++) {
        kg_redis_watch_changed(watch, what->element[i]);
    }

    return 1;
}


static void
kg_redis_watch_changed(kg_redis_watch_t *watch, const redisReply *name)
{
    ngx_str_t  text;

    if (!kg_redis_is(name, REDIS_REPLY_STRING, 0)) {
        return;
    }

    text.data = (u_char *) name->str;
    text.len = name->len;

    watch->handlers->changed(watch->data, &text);
}
