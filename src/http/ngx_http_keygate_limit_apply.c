
/*
 * Limits: which policies apply to a request, at which rates, and what each
 * counts together.
 *
 * Every policy counts within an organisation; its state is the string
 * "<ns>:limit:{<org>}:<policy>:<window>", of a bucket "b" in place of the
 * window, and then, as by= says, ":k=<key id>", ":m=<mode>", ":a=<address>",
 * ":v=<hash of variables>", ":r=<route>".
 */

#include "ngx_http_keygate.h"
#include "kg_decimal.h"
#include "kg_limit_bytes.h"
#include "kg_zone_failures.h"


/* Bytes of the SHA-256 of variables' values that are in a name, in hex. */
#define NGX_HTTP_KEYGATE_BY_HASH  16


static void ngx_http_keygate_rate_inherited(ngx_http_keygate_main_conf_t *mcf,
    const kg_org_t *org, const ngx_http_keygate_policy_t *policy,
    kg_rate_t *rate);
static void ngx_http_keygate_rate_within(
    const ngx_http_keygate_policy_t *policy, kg_rate_t *rate);
static ngx_int_t ngx_http_keygate_apply_list(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_array_t *limits);
static ngx_int_t ngx_http_keygate_by_variables(ngx_http_request_t *r,
    const ngx_array_t *variables, u_char *digest);


ngx_int_t
ngx_http_keygate_apply(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_uint_t                       n;
    ngx_array_t                     *own;
    const ngx_http_keygate_route_t  *route;
    ngx_http_keygate_loc_conf_t     *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);
    route = ctx->route;

    own = lcf->self ? lcf->self_limits : lcf->limits;

    if (route->limit_set && !route->limit_add) {
        own = NULL;
    }

    n = (own ? own->nelts : 0) + (route->limits ? route->limits->nelts : 0);

    if (n == 0) {
        return NGX_OK;
    }

    ctx->applied = ngx_pcalloc(r->pool,
                               n * sizeof(ngx_http_keygate_applied_t));
    if (ctx->applied == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_keygate_apply_list(r, ctx, own) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_apply_list(r, ctx, route->limits);
}


static ngx_int_t
ngx_http_keygate_apply_list(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_array_t *limits)
{
    ngx_uint_t                     i, j;
    ngx_http_keygate_limit_t     **limit;
    ngx_http_keygate_main_conf_t  *mcf;

    if (limits == NULL) {
        return NGX_OK;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    limit = limits->elts;

    for (i = 0; i < limits->nelts; i++) {

        for (j = 0; j < ctx->napplied; j++) {
            if (ctx->applied[j].policy == limit[i]->policy) {
                break;
            }
        }

        if (j < ctx->napplied) {
            continue;
        }

        if (ngx_http_keygate_apply_policy(r->pool, mcf, r, &ctx->key,
                                          &ctx->org, &ctx->route->name,
                                          limit[i]->policy,
                                          &ctx->applied[ctx->napplied])
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ctx->napplied++;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_apply_policy(ngx_pool_t *pool,
    ngx_http_keygate_main_conf_t *mcf, ngx_http_request_t *r,
    const kg_key_t *key, const kg_org_t *org, const ngx_str_t *route,
    ngx_http_keygate_policy_t *policy, ngx_http_keygate_applied_t *applied)
{
    u_char                 *p;
    const kg_redis_conf_t  *conf;
    u_char                  digest[KG_DIGEST_LEN];

    static const char  kind[] = "limit";

    conf = mcf->redis[NGX_HTTP_KEYGATE_LIMITS];

    applied->policy = policy;

    ngx_http_keygate_rate(mcf, key, org, policy, &applied->rate);

    kg_limit_policy(&applied->limit, &applied->rate, policy->burst);
    applied->limit.dry = policy->dry_run;

    p = ngx_pnalloc(pool, ngx_http_keygate_name_len(conf, kind,
                                             ngx_http_keygate_ngx(&key->org))
                          + sizeof("::") - 1 + policy->name.len
                          + NGX_INT32_LEN
                          + sizeof(":k=") - 1 + key->id.len
                          + sizeof(":m=live") - 1
                          + sizeof(":a=") - 1 + NGX_INT64_LEN
                          + sizeof(":v=") - 1 + 2 * NGX_HTTP_KEYGATE_BY_HASH
                          + sizeof(":r=") - 1 + route->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    applied->state.data = p;

    p = ngx_http_keygate_name_put(p, conf, kind,
                                  ngx_http_keygate_ngx(&key->org));
    *p++ = ':';
    p = ngx_cpymem(p, policy->name.data, policy->name.len);

    if (policy->burst) {
        p = ngx_cpymem(p, ":b", 2);

    } else {
        *p++ = ':';
        p = kg_put_decimal(p, applied->rate.window);
    }

    if (policy->by & NGX_HTTP_KEYGATE_BY_KEY) {
        p = ngx_cpymem(p, ":k=", 3);
        p = ngx_cpymem(p, key->id.data, key->id.len);
    }

    if (policy->by & NGX_HTTP_KEYGATE_BY_MODE) {
        p = ngx_sprintf(p, ":m=%V", kg_mode_name(key->mode));
    }

    if (policy->by & NGX_HTTP_KEYGATE_BY_ADDRESS) {
        p = ngx_sprintf(p, ":a=%016xL",
                        kg_zone_failures_address(r->connection->sockaddr));
    }

    if (policy->by & NGX_HTTP_KEYGATE_BY_VARIABLE) {
        if (ngx_http_keygate_by_variables(r, policy->variables, digest)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        p = ngx_cpymem(p, ":v=", 3);
        p = kg_hex(p, digest, NGX_HTTP_KEYGATE_BY_HASH);
    }

    if (policy->by & NGX_HTTP_KEYGATE_BY_ROUTE) {
        p = ngx_cpymem(p, ":r=", 3);
        p = ngx_cpymem(p, route->data, route->len);
    }

    applied->state.len = p - applied->state.data;

    return NGX_OK;
}


/* Overrides: the key's, the organisation's, its plan's, then the policy. */

void
ngx_http_keygate_rate(ngx_http_keygate_main_conf_t *mcf, const kg_key_t *key,
    const kg_org_t *org, const ngx_http_keygate_policy_t *policy,
    kg_rate_t *rate)
{
    kg_rate_t   own;
    ngx_uint_t  named;

    named = (kg_limits_find(&key->limits, ngx_http_keygate_kg(&policy->name),
                            &own)
             == KG_OK);

    if (named) {
        ngx_http_keygate_rate_within(policy, &own);
    }

    if (!named || key->ceilings) {
        ngx_http_keygate_rate_inherited(mcf, org, policy, rate);
    }

    /* Of two rates that do not compare the platform's holds. */

    if (named && (!key->ceilings || kg_rate_covers(rate, &own))) {
        *rate = own;
    }
}


/* What a key without limits of its own has. */

static void
ngx_http_keygate_rate_inherited(ngx_http_keygate_main_conf_t *mcf,
    const kg_org_t *org, const ngx_http_keygate_policy_t *policy,
    kg_rate_t *rate)
{
    ngx_http_keygate_plan_t  *plan;

    plan = org->plan.len
           ? ngx_http_keygate_plan(mcf, ngx_http_keygate_ngx(&org->plan))
           : NULL;

    if (kg_limits_find(&org->limits, ngx_http_keygate_kg(&policy->name), rate)
        != KG_OK
        && (plan == NULL
            || ngx_http_keygate_plan_rate(plan, &policy->name, rate) != KG_OK))
    {
        *rate = policy->rate;
        return;
    }

    ngx_http_keygate_rate_within(policy, rate);
}


static void
ngx_http_keygate_rate_within(const ngx_http_keygate_policy_t *policy,
    kg_rate_t *rate)
{
    if (!ngx_http_keygate_policy_tops(policy, rate)) {

        /* A quota of an hour must not become one of a minute that is more. */

        if (kg_rate_cmp(rate, &policy->max) >= 0) {
            *rate = policy->max;

        } else {
            rate->requests = policy->max.requests;
        }
    }

    /* The least is itself within the most, see keygate_policy. */

    if (policy->min.requests && kg_rate_cmp(rate, &policy->min) < 0) {
        *rate = policy->min;
    }
}


/*
 * Who spends from the same states, and at which rates.
 *
 * What is leased at one rate is not for who is held to another at the same
 * time: a key with a rate of its own for a limit that keys share has a place of
 * its own.  A rate that changes for all keeps the place, and the lease.
 */

void
ngx_http_keygate_limits_name(ngx_http_keygate_ctx_t *ctx)
{
    u_char                        *p;
    uint32_t                       life;
    kg_rate_t                      own;
    ngx_str_t                      rate;
    ngx_uint_t                     i;
    kg_zone_limits_t              *limits;
    ngx_http_keygate_applied_t    *applied;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         numbers[16];

    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);
    limits = &ctx->limits;

    limits->rates = 0;
    limits->n = ctx->napplied;
    limits->cost = ctx->route->cost;
    limits->life = 1000000;
    limits->shared = 0;

    kg_zone_limits_begin(mcf->zone, limits->name);

    for (i = 0; i < limits->n; i++) {
        applied = &ctx->applied[i];

        p = kg_put32(numbers, limits->rates);
        p = kg_put32(p, applied->limit.limit);
        p = kg_put32(p, applied->rate.requests << 1 | applied->limit.dry);
        p = kg_put32(p, applied->rate.window);

        limits->rates = ngx_murmur_hash2(numbers, p - numbers);

        kg_zone_limits_state(limits->name, &applied->state);

        life = applied->policy->exact ? 0 : kg_limit_life(&applied->limit);
        limits->life = ngx_min(limits->life, life);

        if (applied->policy->by & NGX_HTTP_KEYGATE_BY_KEY) {
            continue;
        }

        limits->shared = 1;

        if (kg_limits_find(&ctx->key.limits,
                           ngx_http_keygate_kg(&applied->policy->name), &own)
            == KG_OK)
        {
            /* The name of a bucket's state has no window. */

            p = kg_put32(numbers, applied->rate.requests);
            p = kg_put32(p, applied->rate.window);

            rate.data = numbers;
            rate.len = p - numbers;

            kg_zone_limits_state(limits->name, &rate);
        }
    }

    if (limits->n > KG_ZONE_LIMITS_POLICIES) {
        limits->life = 0;
    }
}


/*
 * One hash of all the values, each with its length before it, so that no value
 * can look like two.  A variable that is not there counts as an empty one.
 */

static ngx_int_t
ngx_http_keygate_by_variables(ngx_http_request_t *r,
    const ngx_array_t *variables, u_char *digest)
{
    kg_rc_t                     rc;
    uint32_t                    len;
    kg_sha_t                   *sha;
    ngx_int_t                  *index;
    ngx_uint_t                  i;
    ngx_http_variable_value_t  *value;

    sha = kg_sha_create();
    if (sha == NULL) {
        return NGX_ERROR;
    }

    rc = KG_OK;
    index = variables->elts;

    for (i = 0; i < variables->nelts && rc == KG_OK; i++) {
        value = ngx_http_get_indexed_variable(r, index[i]);

        len = (value && !value->not_found) ? value->len : 0;

        rc = kg_sha_update(sha, &len, sizeof(len));

        if (rc == KG_OK && len) {
            rc = kg_sha_update(sha, value->data, len);
        }
    }

    if (rc != KG_OK) {
        kg_sha_free(sha);
        return NGX_ERROR;
    }

    return (kg_sha_final(sha, digest) == KG_OK) ? NGX_OK : NGX_ERROR;
}
