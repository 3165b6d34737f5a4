
/*
 * The guard: whether the Redis of claims keeps what it acknowledged.
 *
 * One that evicts when it is full forgets claims without a word, and a retried
 * write runs twice.  So each connection is asked for its maxmemory-policy, in
 * the same turn as the first claim and ahead of it: the answer is there before
 * the claim's, and costs no round trip.  A policy that is changed later is seen
 * when it is asked for again.
 *
 * The mark is a value in Redis that never changes.  One that a worker has seen
 * and that is gone, or another, says that Redis has lost its data: what the
 * claims up to then were about may be executed again, which nobody can undo
 * but an operator should know.
 */

#include "ngx_http_keygate_idempotency.h"


#define NGX_HTTP_KEYGATE_GUARD_EVERY  10000     /* ms, of one that keeps all */
#define NGX_HTTP_KEYGATE_GUARD_SOON   1000      /* ms, of one that does not */
#define NGX_HTTP_KEYGATE_MARK_LEN     32        /* hex */


typedef enum {
    NGX_HTTP_KEYGATE_UNASKED = 0,
    NGX_HTTP_KEYGATE_KEEPS,
    NGX_HTTP_KEYGATE_EVICTS,
    NGX_HTTP_KEYGATE_SILENT         /* it does not say */
} ngx_http_keygate_keeping_t;


struct ngx_http_keygate_guard_s {
    kg_redis_t                  *client;
    ngx_log_t                   *log;
    ngx_str_t                    name;          /* of the mark, in Redis */
    ngx_uint_t                   accept;        /* eviction=accept */

    ngx_http_keygate_keeping_t   keeping;
    ngx_http_keygate_keeping_t   said;          /* in the log */
    ngx_uint_t                   generation;    /* of the connection */
    ngx_msec_t                   asked;
    ngx_uint_t                   pending;       /* answers that are due */

    u_char                       mark[NGX_HTTP_KEYGATE_MARK_LEN];
    unsigned                     marked:1;
};


static void ngx_http_keygate_guard_ask(ngx_http_keygate_guard_t *guard);
static void ngx_http_keygate_guard_submit(ngx_http_keygate_guard_t *guard,
    ngx_str_t *argv, ngx_uint_t argc, kg_redis_handler_pt handler);
static void ngx_http_keygate_guard_told(kg_redis_op_t *op);
static ngx_str_t ngx_http_keygate_guard_field(const redisReply *reply,
    const char *name);
static void ngx_http_keygate_guard_set(ngx_http_keygate_guard_t *guard,
    ngx_http_keygate_keeping_t keeping, const ngx_str_t *policy);
static void ngx_http_keygate_guard_marked(kg_redis_op_t *op);
static void ngx_http_keygate_guard_mark(ngx_http_keygate_guard_t *guard);
static void ngx_http_keygate_guard_mark_set(kg_redis_op_t *op);
static void ngx_http_keygate_guard_lost(ngx_http_keygate_guard_t *guard);


ngx_int_t
ngx_http_keygate_guard_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_str_t                  slot;
    kg_redis_t                *client;
    ngx_http_keygate_guard_t  *guard;

    guard = ngx_pcalloc(cycle->pool, sizeof(ngx_http_keygate_guard_t));
    if (guard == NULL) {
        return NGX_ERROR;
    }

    client = mcf->client[NGX_HTTP_KEYGATE_IDEMPOTENCY];

    ngx_str_set(&slot, "idempotency");

    guard->name = ngx_http_keygate_name(cycle->pool, kg_redis_conf(client),
                                        "mark", &slot, NULL);
    if (guard->name.data == NULL) {
        return NGX_ERROR;
    }

    guard->client = client;
    guard->log = cycle->log;
    guard->accept = mcf->eviction;

    mcf->guard = guard;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_guard(ngx_http_keygate_guard_t *guard)
{
    ngx_msec_t  age;
    ngx_uint_t  known;

    age = ngx_current_msec - guard->asked;
    known = guard->keeping != NGX_HTTP_KEYGATE_UNASKED
            && guard->generation == kg_redis_generation(guard->client);

    if (guard->pending == 0
        && (!known
            || age >= (guard->keeping == NGX_HTTP_KEYGATE_KEEPS
                       ? NGX_HTTP_KEYGATE_GUARD_EVERY
                       : NGX_HTTP_KEYGATE_GUARD_SOON)))
    {
        ngx_http_keygate_guard_ask(guard);
    }

    return (known && guard->keeping != NGX_HTTP_KEYGATE_KEEPS
            && !guard->accept)
           ? NGX_DECLINED : NGX_OK;
}


ngx_uint_t
ngx_http_keygate_guarded(ngx_http_keygate_guard_t *guard)
{
    return guard->accept
           || (guard->keeping == NGX_HTTP_KEYGATE_KEEPS
               && guard->generation == kg_redis_generation(guard->client));
}


static void
ngx_http_keygate_guard_ask(ngx_http_keygate_guard_t *guard)
{
    ngx_str_t  argv[2];

    guard->asked = ngx_current_msec;

    ngx_str_set(&argv[0], "INFO");
    ngx_str_set(&argv[1], "memory");

    ngx_http_keygate_guard_submit(guard, argv, 2, ngx_http_keygate_guard_told);

    ngx_str_set(&argv[0], "GET");
    argv[1] = guard->name;

    ngx_http_keygate_guard_submit(guard, argv, 2,
                                  ngx_http_keygate_guard_marked);
}


static void
ngx_http_keygate_guard_submit(ngx_http_keygate_guard_t *guard,
    ngx_str_t *argv, ngx_uint_t argc, kg_redis_handler_pt handler)
{
    kg_redis_cmd_t  cmd;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = argc;
    cmd.argv = argv;
    ngx_str_set(&cmd.slot, "idempotency");
    cmd.handler = handler;
    cmd.data = guard;

    if (kg_redis_submit(guard->client, &cmd)) {
        guard->pending++;
    }
}


static void
ngx_http_keygate_guard_told(kg_redis_op_t *op)
{
    ngx_str_t                  maxmemory, policy;
    ngx_http_keygate_guard_t  *guard;

    guard = op->data;
    guard->pending--;

    switch (op->status) {

    case KG_REDIS_REPLY:
        break;

    case KG_REDIS_REFUSED:

        if (op->error == KG_REDIS_ERR_NOPERM
            || op->error == KG_REDIS_ERR_OTHER)
        {
            goto silent;
        }

        /* fall through */

    default:

        /* Says nothing: what is known of this connection goes on to hold. */

        return;
    }

    if (!kg_redis_is(op->reply, REDIS_REPLY_STRING, 0)) {
        goto silent;
    }

    maxmemory = ngx_http_keygate_guard_field(op->reply, "\nmaxmemory:");
    policy = ngx_http_keygate_guard_field(op->reply, "\nmaxmemory_policy:");

    if (maxmemory.len == 0 || policy.len == 0) {
        goto silent;
    }

    ngx_http_keygate_guard_set(guard,
                               (maxmemory.len == 1 && maxmemory.data[0] == '0')
                               || (policy.len == sizeof("noeviction") - 1
                                   && ngx_strncmp(policy.data, "noeviction",
                                                  policy.len) == 0)
                               ? NGX_HTTP_KEYGATE_KEEPS
                               : NGX_HTTP_KEYGATE_EVICTS, &policy);
    return;

silent:

    ngx_http_keygate_guard_set(guard, NGX_HTTP_KEYGATE_SILENT, NULL);
}


/* The value behind "\nname:", up to the end of its line; empty: none. */

static ngx_str_t
ngx_http_keygate_guard_field(const redisReply *reply, const char *name)
{
    u_char     *p, *end, *last;
    size_t      len;
    ngx_str_t   value;

    ngx_str_null(&value);

    len = ngx_strlen(name);
    end = (u_char *) reply->str + reply->len;

    p = ngx_strlcasestrn((u_char *) reply->str, end, (u_char *) name, len - 1);
    if (p == NULL) {
        return value;
    }

    value.data = p + len;
    last = ngx_strlchr(value.data, end, CR);
    value.len = (last ? last : end) - value.data;

    return value;
}


static void
ngx_http_keygate_guard_set(ngx_http_keygate_guard_t *guard,
    ngx_http_keygate_keeping_t keeping, const ngx_str_t *policy)
{
    const ngx_str_t             *name;
    ngx_http_keygate_keeping_t   was;

    name = &kg_redis_conf(guard->client)->name;
    was = guard->said;

    guard->keeping = keeping;
    guard->generation = kg_redis_generation(guard->client);
    guard->said = keeping;

    if (keeping == was) {
        return;
    }

    switch (keeping) {

    case NGX_HTTP_KEYGATE_EVICTS:
        ngx_log_error(NGX_LOG_ERR, guard->log, 0,
                      "keygate: %V forgets claims when it is full, its "
                      "maxmemory-policy is \"%V\": writes on routes with "
                      "\"idempotency=\" %s", name, policy,
                      guard->accept ? "may be executed twice"
                                    : "are refused, set it to \"noeviction\"");
        break;

    case NGX_HTTP_KEYGATE_SILENT:
        ngx_log_error(NGX_LOG_ERR, guard->log, 0,
                      "keygate: %V does not tell its maxmemory-policy to "
                      "\"INFO memory\": writes on routes with "
                      "\"idempotency=\" %s", name,
                      guard->accept ? "may be executed twice"
                                    : "are refused, allow \"+info\"");
        break;

    default: /* NGX_HTTP_KEYGATE_KEEPS */
        if (was != NGX_HTTP_KEYGATE_UNASKED) {
            ngx_log_error(NGX_LOG_NOTICE, guard->log, 0,
                          "keygate: %V keeps claims from now on", name);
        }
    }
}


static void
ngx_http_keygate_guard_marked(kg_redis_op_t *op)
{
    ngx_http_keygate_guard_t  *guard;

    guard = op->data;
    guard->pending--;

    if (op->status != KG_REDIS_REPLY) {
        return;
    }

    if (op->reply->type == REDIS_REPLY_NIL) {

        if (guard->marked) {
            ngx_http_keygate_guard_lost(guard);
        }

        ngx_http_keygate_guard_mark(guard);
        return;
    }

    if (!kg_redis_is(op->reply, REDIS_REPLY_STRING, 0)
        || op->reply->len != NGX_HTTP_KEYGATE_MARK_LEN)
    {
        return;
    }

    if (guard->marked
        && ngx_memcmp(guard->mark, op->reply->str, NGX_HTTP_KEYGATE_MARK_LEN)
           != 0)
    {
        ngx_http_keygate_guard_lost(guard);
    }

    ngx_memcpy(guard->mark, op->reply->str, NGX_HTTP_KEYGATE_MARK_LEN);
    guard->marked = 1;
}


/* Of several that find none the first sets it, and all read which it is. */

static void
ngx_http_keygate_guard_mark(ngx_http_keygate_guard_t *guard)
{
    ngx_str_t  argv[4];
    u_char     random[NGX_HTTP_KEYGATE_MARK_LEN / 2];
    u_char     mark[NGX_HTTP_KEYGATE_MARK_LEN];

    if (kg_random(random, sizeof(random)) != KG_OK) {
        return;
    }

    ngx_hex_dump(mark, random, sizeof(random));

    ngx_str_set(&argv[0], "SET");
    argv[1] = guard->name;
    argv[2].data = mark;
    argv[2].len = sizeof(mark);
    ngx_str_set(&argv[3], "NX");

    ngx_http_keygate_guard_submit(guard, argv, 4,
                                  ngx_http_keygate_guard_mark_set);
}


/* Done or not: the one that stands is ours to know. */

static void
ngx_http_keygate_guard_mark_set(kg_redis_op_t *op)
{
    ngx_str_t                  argv[2];
    ngx_http_keygate_guard_t  *guard;

    guard = op->data;
    guard->pending--;

    if (op->status != KG_REDIS_REPLY) {
        return;
    }

    ngx_str_set(&argv[0], "GET");
    argv[1] = guard->name;

    ngx_http_keygate_guard_submit(guard, argv, 2,
                                  ngx_http_keygate_guard_marked);
}


static void
ngx_http_keygate_guard_lost(ngx_http_keygate_guard_t *guard)
{
    ngx_log_error(NGX_LOG_ERR, guard->log, 0,
                  "keygate: %V has lost its data: writes up to now are "
                  "executed again when they are retried",
                  &kg_redis_conf(guard->client)->name);

    guard->marked = 0;
}
