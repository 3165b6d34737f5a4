
/*
 * Limits: what is put to Redis for an ask, and what it says, in time or too
 * late.  ngx_http_keygate_limit_ask.c has who asks, and when.
 */

#include "ngx_http_keygate_idempotency.h"
#include "ngx_http_keygate_limit.h"
#include "kg_limit_bytes.h"


/* Where ARGV[2] has that something is owed, and the life of a lease. */
#define NGX_HTTP_KEYGATE_MORE_OWES  8
#define NGX_HTTP_KEYGATE_MORE_LIFE  28


static void ngx_http_keygate_asking_late(kg_redis_op_t *op);
static void ngx_http_keygate_asking_late_together(kg_redis_op_t *op);
static void ngx_http_keygate_asking_hand_back(kg_redis_op_t *op,
    const redisReply *reply, ngx_uint_t n, const ngx_str_t *args);


ngx_int_t
ngx_http_keygate_asking_submit(ngx_http_keygate_asking_t *asking,
    ngx_http_keygate_ctx_t *ctx)
{
    u_char                       *p;
    ngx_str_t                    *arg;
    ngx_uint_t                    i, n;
    kg_redis_cmd_t                cmd;
    kg_limit_policy_t             policies[KG_LIMIT_POLICIES_MAX];
    ngx_http_keygate_together_t   together;
    ngx_str_t                     argv[KG_LIMIT_POLICIES_MAX + 2
                                       + NGX_HTTP_KEYGATE_TOGETHER_ARGS];
    u_char                        packed[KG_LIMIT_ARG_LEN(KG_LIMIT_POLICIES_MAX)
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

    arg = &argv[n + asking->claims];

    arg[0].data = packed;
    arg[0].len = p - packed;

    arg[1].data = p;
    arg[1].len = kg_limit_write_more(p, &asking->ask, n) - p;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    if (asking->claims) {
        together.names = &argv[n];
        together.args = &arg[2];

        cmd.script = KG_SCRIPT_ADMIT;
        cmd.argc = &arg[2] - argv
                   + ngx_http_keygate_together_args(&asking->asked, &together);
        cmd.late = ngx_http_keygate_asking_late_together;

    } else {
        cmd.script = KG_SCRIPT_LIMIT;
        cmd.argc = n + (arg[1].len ? 2 : 1);

        /* With no more than one request nothing is leased. */

        cmd.late = arg[1].len ? ngx_http_keygate_asking_late : NULL;
    }

    cmd.nkeys = n + asking->claims;
    cmd.argv = argv;
    cmd.slot = *ngx_http_keygate_ngx(&ctx->key.org);
    cmd.handler = ngx_http_keygate_asking_answered;
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
    kg_str_t           text;
    const redisReply  *reply;

    /* What Redis refused is in the log already. */

    if (op->status != KG_REDIS_REPLY) {
        return 0;
    }

    reply = op->reply;

    if (asking->claims) {
        reply = kg_redis_is(reply, REDIS_REPLY_ARRAY, 1 + asking->claims)
                ? reply->element[0] : NULL;
    }

    if (kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        text.data = (u_char *) reply->str;
        text.len = reply->len;

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


static void
ngx_http_keygate_asking_late(kg_redis_op_t *op)
{
    if (op->status == KG_REDIS_REPLY) {
        ngx_http_keygate_asking_hand_back(op, op->reply, op->argc - 2,
                                         &op->argv[op->argc - 2]);
    }
}


static void
ngx_http_keygate_asking_late_together(kg_redis_op_t *op)
{
    ngx_uint_t  claims, others;

    /* Who waited has seen to the claims: they are released. */

    if (op->status != KG_REDIS_REPLY
        || !kg_redis_is(op->reply, REDIS_REPLY_ARRAY, 1))
    {
        return;
    }

    claims = op->argv[op->argc - 1].len / 2;
    others = 2 + claims * (1 + NGX_HTTP_KEYGATE_CLAIM_ARGS) + 1;

    ngx_http_keygate_asking_hand_back(op, op->reply->element[0],
                                     op->argc - others,
                                     &op->argv[op->argc - others + claims]);
}


/*
 * The answer came after the requests had gone on without it: what was leased
 * goes back, and what was granted with it, which has the same entry.  The first
 * n arguments are the states; args has both ARGV of limit.lua.
 */

static void
ngx_http_keygate_asking_hand_back(kg_redis_op_t *op, const redisReply *reply,
    ngx_uint_t n, const ngx_str_t *args)
{
    kg_str_t                       text;
    ngx_str_t                      argv[KG_LIMIT_POLICIES_MAX + 2];
    kg_redis_cmd_t                 cmd;
    kg_limit_ask_t                 ask;
    kg_limit_answer_t              answer;
    u_char                         packed[KG_LIMIT_MORE_MAX];
    ngx_http_keygate_main_conf_t  *mcf;

    if (n > KG_LIMIT_POLICIES_MAX || args[1].len == 0
        || !kg_redis_is(reply, REDIS_REPLY_STRING, 0))
    {
        return;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;

    if (kg_limit_read_answer(&text, n, &answer) != KG_OK) {
        return;
    }

    if (kg_get32(args[1].data + NGX_HTTP_KEYGATE_MORE_OWES)) {
        mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                                  ngx_http_keygate_module);
        ngx_http_keygate_asking_told(mcf->zone, op, n, 1);
    }

    if (answer.lease == 0) {
        return;
    }

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));

    ask.cost = kg_get32(args[0].data);
    ask.back = answer.lease + answer.granted * ask.cost;
    ask.since = answer.moment;
    ask.lived = kg_get32(args[1].data + NGX_HTTP_KEYGATE_MORE_LIFE);

    ngx_memcpy(argv, op->argv, n * sizeof(ngx_str_t));

    argv[n] = args[0];
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
ngx_http_keygate_asking_told(kg_zone_t *zone, kg_redis_op_t *op, ngx_uint_t n,
    ngx_uint_t told)
{
    ngx_pool_t  *pool;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    kg_zone_local_told(zone, op->argv, n, told, pool);

    ngx_destroy_pool(pool);
}
