
/*
 * Limits while Redis is away, keygate_outage limits=local: each node admits its
 * share of every limit by itself.  When Redis is back it is told what was
 * admitted meanwhile with the first ask, so that the gate does not open twice
 * over.
 */

#include "ngx_http_keygate.h"


static void ngx_http_keygate_limit_shares(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t share, kg_limit_policy_t *policies, ngx_str_t *names);


ngx_int_t
ngx_http_keygate_limit_local(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                     i;
    kg_limit_ask_t                 ask;
    kg_limit_answer_t              answer;
    kg_limit_policy_t              policies[KG_LIMIT_POLICIES_MAX];
    ngx_str_t                      names[KG_LIMIT_POLICIES_MAX];
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    ngx_http_keygate_limit_shares(ctx, mcf->share, policies, names);

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));

    ask.cost = ctx->route->cost;
    ask.n = 1;

    if (kg_zone_local_decide(mcf->zone, names, policies, ctx->napplied, &ask,
                             ngx_http_keygate_monotonic(), r->pool, &answer)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < ctx->napplied; i++) {
        ngx_http_keygate_limit_stands(&ctx->applied[i], &answer.stand[i]);

        if (answer.dry & (1u << i)) {
            ngx_http_keygate_limit_dry(ctx, ctx->applied[i].policy);
        }
    }

    if (answer.granted == 0) {
        ngx_http_keygate_limit_refused(ctx, answer.refusing, answer.relief);
    }

    return NGX_OK;
}


void
ngx_http_keygate_limit_owed(ngx_http_keygate_main_conf_t *mcf,
    ngx_http_keygate_ctx_t *ctx, kg_limit_ask_t *ask)
{
    uint64_t           now;
    ngx_uint_t         i;
    kg_limit_policy_t  policies[KG_LIMIT_POLICIES_MAX];
    ngx_str_t          names[KG_LIMIT_POLICIES_MAX];

    now = ngx_http_keygate_monotonic();

    if (mcf->outage != NGX_HTTP_KEYGATE_LOCAL
        || !kg_zone_local_used(mcf->zone, now))
    {
        return;
    }

    ngx_http_keygate_limit_shares(ctx, mcf->share, policies, names);

    /* Others may have had more than this one's share: all of it is owed. */

    for (i = 0; i < ctx->napplied; i++) {
        policies[i].limit = KG_RATE_REQUESTS_MAX;
    }

    ask->owes = kg_zone_local_owed(mcf->zone, names, policies, ctx->napplied,
                                   now, ctx->request->pool, ask->debt);
}


/*
 * The policies at the node's share, which has room for one request at least, of
 * any cost that the whole limit has room for.
 */

static void
ngx_http_keygate_limit_shares(ngx_http_keygate_ctx_t *ctx, ngx_uint_t share,
    kg_limit_policy_t *policies, ngx_str_t *names)
{
    uint32_t                     burst, least;
    kg_rate_t                    rate;
    ngx_uint_t                   i;
    ngx_http_keygate_applied_t  *applied;

    for (i = 0; i < ctx->napplied; i++) {
        applied = &ctx->applied[i];

        least = (uint32_t) ngx_min(ctx->route->cost, applied->limit.limit);

        rate = applied->rate;

        /* A bucket's pace may be less than one request in its unit of time. */

        if (applied->limit.bucket && rate.requests < 100) {
            rate.requests *= 100;
            rate.window *= 100;
        }

        rate.requests = (uint32_t) ((uint64_t) rate.requests * share / 100);

        burst = 0;

        if (applied->limit.bucket) {
            burst = (uint32_t) ((uint64_t) applied->limit.limit * share / 100);
            burst = ngx_max(burst, least);

        } else {
            rate.requests = ngx_max(rate.requests, least);
        }

        kg_limit_policy(&policies[i], &rate, burst);
        policies[i].dry = applied->limit.dry;

        /* A share of a slow bucket's pace may take longer than 30 days. */

        policies[i].limit = ngx_max(policies[i].limit, least);

        names[i] = applied->state;
    }
}
