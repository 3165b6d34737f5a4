
/*
 * Limits: what is put to Redis for an ask, and what it says, in time or too
 * late.  ngx_http_keygate_limit_ask.c has who asks, and when.
 */

#include "ngx_http_keygate_limit.h"
#include "kg_limit_bytes.h"


/* Where ARGV[2] has that something is owed, and the life of a lease. */
#define NGX_HTTP_KEYGATE_MORE_OWES  8
#define NGX_HTTP_KEYGATE_MORE_LIFE  28


static void ngx_http_keygate_asking_late(kg_redis_op_t *op);


ngx_int_t
ngx_http_keygate_asking_submit(ngx_http_keygate_asking_t *asking,
    ngx_http_keygate_ctx_t *ctx)
{
    u_char             *p;
    ngx_uint_t          i, n;
    kg_redis_cmd_t      cmd;
    kg_limit_policy_t   policies[KG_LIMIT_POLICIES_MAX];
    ngx_str_t           argv[KG_LIMIT_POLICIES_MAX + 2];
    u_char              packed[KG_LIMIT_ARG_LEN(KG_LIMIT_POLICIES_MAX)
                               + KG_LIMIT_MORE_MAX];

    n = asking->limits.n;

    for (i = 0; i < n; i++) {
        argv[i] = ctx->applied[i].state;
        policies[i] = ctx->applied[i].limit;
    }

    /* The life of a lease begins before Redis can have granted it. */

    asking->sent = ngx_http_keygate_monotonic();

    kg_zone_limits_ask(asking->conf->zone, &asking->limits, asking->sent,
                       &asking->ask);
    ngx_http_keygate_limit_owed(asking->conf, ctx, &asking->ask);

    p = kg_limit_write_policies(packed, asking->limits.cost, policies, n);

    argv[n].data = packed;
    argv[n].len = p - packed;

    argv[n + 1].data = p;
    argv[n + 1].len = kg_limit_write_more(p, &asking->ask, n) - p;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_LIMIT;
    cmd.nkeys = n;
    cmd.argc = n + (argv[n + 1].len ? 2 : 1);
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);
    cmd.handler = ngx_http_keygate_asking_answered;
    cmd.late = ngx_http_keygate_asking_late;
    cmd.data = asking;

    if (kg_redis_submit(asking->conf->client[NGX_HTTP_KEYGATE_LIMITS], &cmd)
        == NULL)
    {
        return NGX_ERROR;
    }

    asking->busy = 1;

    return NGX_OK;
}


ngx_uint_t
ngx_http_keygate_asking_read(ngx_http_keygate_asking_t *asking,
    kg_redis_op_t *op, kg_limit_answer_t *answer)
{
    kg_str_t  text;

    if (op->status == KG_REDIS_REFUSED) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keygate: Redis refused to count a limit: %s",
                      kg_redis_reason(op));
        return 0;
    }

    if (op->status != KG_REDIS_REPLY) {
        return 0;
    }

    if (kg_redis_is(op->reply, REDIS_REPLY_STRING, 0)) {
        text.data = (u_char *) op->reply->str;
        text.len = op->reply->len;

        if (kg_limit_read_answer(&text, asking->limits.n, answer) == KG_OK
            && answer->granted <= asking->ask.n
            && (answer->granted == asking->ask.n || answer->refusing))
        {
            kg_zone_limits_answer(asking->conf->zone, &asking->limits,
                                  asking->sent, ngx_http_keygate_monotonic(),
                                  &asking->ask, answer);
            return 1;
        }
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "keygate: Redis answered a limit with another shape");

    return 0;
}


/*
 * The answer came after the requests had gone on without it: what was leased
 * goes back, and what was granted with it, which has the same entry.
 */

static void
ngx_http_keygate_asking_late(kg_redis_op_t *op)
{
    u_char             *more;
    size_t              n;
    kg_str_t            text;
    ngx_str_t           argv[KG_LIMIT_POLICIES_MAX + 2];
    kg_redis_cmd_t      cmd;
    kg_limit_ask_t      ask;
    kg_limit_answer_t   answer;
    u_char              packed[KG_LIMIT_MORE_MAX];
    ngx_http_keygate_main_conf_t  *mcf;

    /* With no more than one request nothing was leased. */

    if (op->status != KG_REDIS_REPLY
        || !kg_redis_is(op->reply, REDIS_REPLY_STRING, 0)
        || op->argc < 3 || op->argc > KG_LIMIT_POLICIES_MAX + 2)
    {
        return;
    }

    n = op->argc - 2;
    more = op->argv[n + 1].data;

    text.data = (u_char *) op->reply->str;
    text.len = op->reply->len;

    if (kg_limit_read_answer(&text, n, &answer) != KG_OK) {
        return;
    }

    if (kg_get32(more + NGX_HTTP_KEYGATE_MORE_OWES)) {
        mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                                  ngx_http_keygate_module);
        ngx_http_keygate_asking_told(mcf->zone, op, 1);
    }

    if (answer.lease == 0) {
        return;
    }

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));

    ask.cost = kg_get32(op->argv[n].data);
    ask.back = answer.lease + answer.granted * ask.cost;
    ask.since = answer.moment;
    ask.lived = kg_get32(more + NGX_HTTP_KEYGATE_MORE_LIFE);

    ngx_memcpy(argv, op->argv, (n + 1) * sizeof(ngx_str_t));

    argv[n + 1].data = packed;
    argv[n + 1].len = kg_limit_write_more(packed, &ask, n) - packed;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_LIMIT;
    cmd.nkeys = n;
    cmd.argc = n + 2;
    cmd.argv = argv;

    (void) kg_redis_submit(op->redis, &cmd);
}


void
ngx_http_keygate_asking_told(kg_zone_t *zone, kg_redis_op_t *op,
    ngx_uint_t told)
{
    ngx_pool_t  *pool;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    /* What owes has both ARGV, behind the states' names. */

    kg_zone_local_told(zone, op->argv, op->argc - 2, told, pool);

    ngx_destroy_pool(pool);
}
