
/*
 * What is told of a key's usage: where its limits stand.
 * Those are looked at that some location or route has, and of those that count
 * by route the states of the routes where the key was; looking spends nothing.
 * What counts by address or by a variable has a state for each, and is left
 * out.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_usage.h"


#define NGX_HTTP_KEYGATE_USAGE_RATE  16     /* bytes of a rate */



static ngx_int_t ngx_http_keygate_admin_usage_apply(
    ngx_http_keygate_admin_t *admin, ngx_array_t *limits);
static ngx_int_t ngx_http_keygate_admin_usage_peek(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_stand(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);


ngx_int_t
ngx_http_keygate_admin_usage_limits(ngx_http_keygate_admin_t *admin)
{
    if (ngx_http_keygate_admin_usage_apply(admin, admin->mcf->default_limits)
        != NGX_OK
        || ngx_http_keygate_admin_usage_apply(admin, &admin->mcf->limits)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_usage_peek(admin);
}


/* Adds what of these limits is not there yet, as far as there is room. */

static ngx_int_t
ngx_http_keygate_admin_usage_apply(ngx_http_keygate_admin_t *admin,
    ngx_array_t *limits)
{
    ngx_str_t                        *route;
    ngx_uint_t                        i, j, n;
    ngx_http_keygate_limit_t        **limit;
    ngx_http_keygate_policy_t        *policy;
    ngx_http_keygate_usage_limit_t   *limited;
    ngx_http_keygate_admin_usage_t   *usage;

    usage = admin->data;
    limit = limits->elts;
    route = usage->routes.elts;

    for (i = 0; i < limits->nelts; i++) {
        policy = limit[i]->policy;

        for (j = 0; j < usage->nlimits; j++) {
            if (usage->limits[j].applied.policy == policy) {
                break;
            }
        }

        if (j < usage->nlimits
            || (policy->by & (NGX_HTTP_KEYGATE_BY_ADDRESS
                              |NGX_HTTP_KEYGATE_BY_VARIABLE)))
        {
            continue;
        }

        n = (policy->by & NGX_HTTP_KEYGATE_BY_ROUTE) ? usage->routes.nelts : 1;

        for (j = 0; j < n; j++) {

            if (usage->nlimits == NGX_HTTP_KEYGATE_USAGE_LIMITS) {
                return NGX_OK;
            }

            limited = &usage->limits[usage->nlimits];

            if (policy->by & NGX_HTTP_KEYGATE_BY_ROUTE) {
                limited->route = route[j];
            }

            if (ngx_http_keygate_apply_policy(admin->pool, admin->mcf, NULL,
                                              &usage->key, &usage->org,
                                              &limited->route, policy,
                                              &limited->applied)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            usage->nlimits++;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_usage_peek(ngx_http_keygate_admin_t *admin)
{
    u_char                          *p;
    ngx_str_t                       *argv;
    ngx_uint_t                       i, n;
    kg_limit_ask_t                   look;
    kg_redis_cmd_t                   cmd;
    kg_limit_policy_t               *policies;
    ngx_http_keygate_usage_limit_t  *limit;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;
    n = usage->nlimits;

    if (n == 0) {
        return usage->done(admin);
    }

    argv = ngx_palloc(admin->pool, (n + 2) * sizeof(ngx_str_t));
    policies = ngx_palloc(admin->pool, n * sizeof(kg_limit_policy_t));
    p = ngx_pnalloc(admin->pool, KG_LIMIT_ARG_LEN(n) + KG_LIMIT_MORE_MAX);

    if (argv == NULL || policies == NULL || p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        limit = &usage->limits[i];

        argv[i] = limit->applied.state;
        policies[i] = limit->applied.limit;
    }

    argv[n].data = p;
    argv[n].len = kg_limit_write_policies(p, 1, policies, n) - p;

    /* No request: limit.lua only says how they stand. */

    ngx_memzero(&look, sizeof(kg_limit_ask_t));
    look.cost = 1;

    p += argv[n].len;
    argv[n + 1].data = p;
    argv[n + 1].len = kg_limit_write_more(p, &look, n) - p;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_LIMIT;
    cmd.nkeys = n;
    cmd.argc = n + 2;
    cmd.argv = argv;
    cmd.slot = admin->org;

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_LIMITS, &cmd,
                                         ngx_http_keygate_admin_usage_stand);
}


static ngx_int_t
ngx_http_keygate_admin_usage_stand(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    u_char                           rate[NGX_HTTP_KEYGATE_USAGE_RATE];
    size_t                           len;
    json_t                          *entry, *route;
    kg_str_t                         text;
    ngx_uint_t                       i;
    kg_limit_stand_t                 stand;
    ngx_http_keygate_usage_limit_t  *limit;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return NGX_ERROR;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;

    for (i = 0; i < usage->nlimits; i++) {
        limit = &usage->limits[i];

        if (kg_limit_read_stand(&text, usage->nlimits, i, &stand) != KG_OK) {
            return NGX_ERROR;
        }

        len = kg_rate_format(&limit->applied.rate, rate) - rate;

        route = limit->route.len
                ? json_stringn((char *) limit->route.data, limit->route.len)
                : json_null();

        entry = json_pack("{s:s%,s:o,s:s%,s:I,s:I}",
                          "policy", limit->applied.policy->name.data,
                          limit->applied.policy->name.len, "route", route,
                          "rate", rate, len,
                          "remaining", (json_int_t) stand.left,
                          "reset", (json_int_t) (stand.reset + 999) / 1000);

        if (json_array_append_new(json_object_get(usage->answer, "limits"),
                                  entry)
            != 0)
        {
            return NGX_ERROR;
        }
    }

    return usage->done(admin);
}
