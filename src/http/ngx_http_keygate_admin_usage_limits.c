
/*
 * What is told of a key's usage: where its limits stand.
 * Those are looked at that some location or route has, and of those that count
 * by route the states of the routes where the key was; looking spends nothing.
 */

#include "ngx_http_keygate_admin_usage.h"


#define NGX_HTTP_KEYGATE_USAGE_RATE  16     /* bytes of a rate */

/* More than any limit: limit.lua only says how they stand. */
#define NGX_HTTP_KEYGATE_USAGE_COST  "4294967296"


static void ngx_http_keygate_admin_usage_apply(
    ngx_http_keygate_admin_t *admin, ngx_array_t *limits);
static ngx_int_t ngx_http_keygate_admin_usage_peek(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_stand(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);


ngx_int_t
ngx_http_keygate_admin_usage_limits(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_usage_apply(admin, admin->mcf->default_limits);
    ngx_http_keygate_admin_usage_apply(admin, &admin->mcf->limits);

    return ngx_http_keygate_admin_usage_peek(admin);
}


/* Adds what of these limits is not there yet, as far as there is room. */

static void
ngx_http_keygate_admin_usage_apply(ngx_http_keygate_admin_t *admin,
    ngx_array_t *limits)
{
    ngx_str_t                        *route;
    ngx_uint_t                        i, j, n;
    ngx_http_keygate_limit_t        **limit;
    ngx_http_keygate_policy_t        *policy;
    ngx_http_keygate_usage_limit_t   *applied;
    ngx_http_keygate_admin_usage_t   *usage;

    usage = admin->data;
    limit = limits->elts;
    route = usage->routes.elts;

    for (i = 0; i < limits->nelts; i++) {
        policy = limit[i]->policy;

        for (j = 0; j < usage->nlimits; j++) {
            if (usage->limits[j].policy == policy) {
                break;
            }
        }

        if (j < usage->nlimits) {
            continue;
        }

        n = (policy->by & NGX_HTTP_KEYGATE_BY_ROUTE) ? usage->routes.nelts : 1;

        for (j = 0; j < n; j++) {

            if (usage->nlimits == NGX_HTTP_KEYGATE_USAGE_LIMITS) {
                return;
            }

            applied = &usage->limits[usage->nlimits++];
            applied->policy = policy;

            if (policy->by & NGX_HTTP_KEYGATE_BY_ROUTE) {
                applied->route = route[j];
            }

            ngx_http_keygate_rate(admin->mcf, &usage->key, &usage->org, policy,
                                  &applied->rate);
        }
    }
}


static ngx_int_t
ngx_http_keygate_admin_usage_peek(ngx_http_keygate_admin_t *admin)
{
    u_char                          *p;
    ngx_str_t                       *argv, *number;
    ngx_uint_t                       i, n;
    kg_redis_cmd_t                   cmd;
    ngx_http_keygate_usage_limit_t  *limit;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;
    n = usage->nlimits;

    argv = ngx_palloc(admin->pool, (3 * n + 1) * sizeof(ngx_str_t));
    p = ngx_pnalloc(admin->pool, (2 * n + 1) * NGX_INT32_LEN);

    if (argv == NULL || p == NULL) {
        return NGX_ERROR;
    }

    number = &argv[n];

    ngx_str_set(number, NGX_HTTP_KEYGATE_USAGE_COST);
    number++;

    for (i = 0; i < n; i++) {
        limit = &usage->limits[i];

        argv[i] = ngx_http_keygate_state(admin->pool, admin->mcf, &usage->key,
                                         &limit->route, limit->policy,
                                         &limit->rate);
        if (argv[i].data == NULL) {
            return NGX_ERROR;
        }

        number->data = p;
        p = ngx_sprintf(p, "%uD", limit->rate.requests);
        number->len = p - number->data;
        number++;

        number->data = p;
        p = ngx_sprintf(p, "%uD", limit->rate.window);
        number->len = p - number->data;
        number++;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_LIMIT;
    cmd.nkeys = n;
    cmd.argc = number - argv;
    cmd.argv = argv;
    cmd.slot = admin->org;

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_LIMITS, &cmd,
                                         ngx_http_keygate_admin_usage_stand);
}


/* limit.lua: granted, policy, relief, (remaining, reset in ms) of each */

static ngx_int_t
ngx_http_keygate_admin_usage_stand(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    u_char                           rate[NGX_HTTP_KEYGATE_USAGE_RATE];
    size_t                           len;
    json_t                          *entry, *route;
    ngx_uint_t                       i;
    redisReply                     **stand;
    ngx_http_keygate_usage_limit_t  *limit;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 3 + 2 * usage->nlimits)) {
        return NGX_ERROR;
    }

    for (i = 0; i < usage->nlimits; i++) {
        limit = &usage->limits[i];
        stand = &reply->element[3 + 2 * i];

        if (!kg_redis_is(stand[0], REDIS_REPLY_INTEGER, 0)
            || !kg_redis_is(stand[1], REDIS_REPLY_INTEGER, 0))
        {
            return NGX_ERROR;
        }

        len = kg_rate_format(&limit->rate, rate) - rate;

        route = limit->route.len
                ? json_stringn((char *) limit->route.data, limit->route.len)
                : json_null();

        entry = json_pack("{s:s%,s:o,s:s%,s:I,s:I}",
                          "policy", limit->policy->name.data,
                          limit->policy->name.len, "route", route,
                          "rate", rate, len,
                          "remaining", (json_int_t) stand[0]->integer,
                          "reset",
                          (json_int_t) (stand[1]->integer + 999) / 1000);

        if (json_array_append_new(json_object_get(usage->answer, "limits"),
                                  entry)
            != 0)
        {
            return NGX_ERROR;
        }
    }

    return usage->done(admin);
}
