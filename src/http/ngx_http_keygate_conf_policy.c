
/*
 * Policies and where they apply: keygate_policy, keygate_limit, limit= of a
 * route.
 */

#include "ngx_http_keygate.h"


static char *ngx_http_keygate_conf_by(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_policy_t *policy);
static ngx_http_keygate_policy_t *ngx_http_keygate_conf_built_in(
    ngx_conf_t *cf, ngx_http_keygate_main_conf_t *mcf, ngx_str_t *name);
static ngx_int_t ngx_http_keygate_conf_by_variable(ngx_conf_t *cf,
    u_char *name, size_t len, ngx_http_keygate_policy_t *policy);
static char *ngx_http_keygate_conf_burst(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_policy_t *policy);


static ngx_str_t  ngx_http_keygate_default = ngx_string("default");


char *
ngx_http_keygate_conf_policy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_keygate_policy_t   *policy, **where;

    (void) cmd;

    value = cf->args->elts;

    if (!kg_policy_name_valid(ngx_http_keygate_kg(&value[1]))
        || ngx_strcmp(value[1].data, "off") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of a policy: it must be "
                           "[a-z0-9_-]{1,32} and not \"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_keygate_policy(mcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate policy \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    policy = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_policy_t));
    where = ngx_array_push(&mcf->policies);

    if (policy == NULL || where == NULL) {
        return NGX_CONF_ERROR;
    }

    *where = policy;
    policy->name = value[1];

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_keygate_conf_starts(&value[i], "rate=")) {
            rv = ngx_http_keygate_conf_rate(cf, &value[i], 5, &policy->rate);

        } else if (ngx_http_keygate_conf_starts(&value[i], "min=")) {
            rv = ngx_http_keygate_conf_rate(cf, &value[i], 4, &policy->min);

        } else if (ngx_http_keygate_conf_starts(&value[i], "max=")) {
            rv = ngx_http_keygate_conf_rate(cf, &value[i], 4, &policy->max);

        } else if (ngx_http_keygate_conf_starts(&value[i], "by=")) {
            rv = ngx_http_keygate_conf_by(cf, &value[i], policy);

        } else if (ngx_http_keygate_conf_starts(&value[i], "burst=")) {
            rv = ngx_http_keygate_conf_burst(cf, &value[i], policy);

        } else if (ngx_strcmp(value[i].data, "exact") == 0) {
            if (policy->exact) {
                (void) ngx_http_keygate_conf_duplicate(cf, &value[i]);
                return NGX_CONF_ERROR;
            }

            policy->exact = 1;
            continue;

        } else if (ngx_strcmp(value[i].data, "dry_run") == 0) {
            if (policy->dry_run) {
                (void) ngx_http_keygate_conf_duplicate(cf, &value[i]);
                return NGX_CONF_ERROR;
            }

            policy->dry_run = 1;
            continue;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of a policy: it must "
                               "be \"rate=\", \"burst=\", \"min=\", \"max=\", "
                               "\"by=\", \"exact\" or \"dry_run\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (policy->rate.requests == 0) {
        return "has no \"rate=\", as \"rate=60r/m\"";
    }

    if (policy->by == 0) {
        return "has no \"by=\", as \"by=key\" or \"by=org,mode\"";
    }

    if (kg_limit_refill(&policy->rate, policy->burst) > KG_LIMIT_REFILL_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"burst=\" of policy \"%V\" takes more than 30 "
                           "days to fill at its rate: it must be at most %uL",
                           &policy->name,
                           (uint64_t) KG_LIMIT_REFILL_MAX
                           * policy->rate.requests / policy->rate.window);
        return NGX_CONF_ERROR;
    }

    if (!ngx_http_keygate_policy_takes(policy, &policy->rate)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the rate of policy \"%V\" is not from \"min=\" to "
                           "\"max=\"", &policy->name);
        return NGX_CONF_ERROR;
    }

    if (policy->min.requests
        && !ngx_http_keygate_policy_tops(policy, &policy->min))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"min=\" of policy \"%V\" is beyond its \"max=\", "
                           "which holds in its own time: it must be within, "
                           "as \"min=1r/m max=600r/m\"", &policy->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_by(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_policy_t *policy)
{
    u_char      *p, *end, *comma;
    size_t       len;
    ngx_uint_t   i;

    static const struct {
        ngx_str_t   name;
        ngx_uint_t  by;
    } all[] = {
        { ngx_string("key"), NGX_HTTP_KEYGATE_BY_KEY },
        { ngx_string("org"), NGX_HTTP_KEYGATE_BY_ORG },
        { ngx_string("mode"), NGX_HTTP_KEYGATE_BY_MODE },
        { ngx_string("route"), NGX_HTTP_KEYGATE_BY_ROUTE },
        { ngx_string("address"), NGX_HTTP_KEYGATE_BY_ADDRESS },
        { ngx_null_string, 0 }
    };

    if (policy->by) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate parameter \"%V\": separate by commas, "
                           "as \"by=org,mode\"", param);
        return NGX_CONF_ERROR;
    }

    p = param->data + sizeof("by=") - 1;
    end = param->data + param->len;

    for ( ;; ) {
        comma = ngx_strlchr(p, end, ',');
        len = (comma ? comma : end) - p;

        if (len > 1 && *p == '$') {
            if (ngx_http_keygate_conf_by_variable(cf, p + 1, len - 1, policy)
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }

            goto next;
        }

        for (i = 0; all[i].by; i++) {
            if (all[i].name.len == len
                && ngx_memcmp(all[i].name.data, p, len) == 0)
            {
                break;
            }
        }

        if (all[i].by == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\": it must be \"by=\" and one or "
                               "more of \"key\", \"org\", \"mode\", \"route\", "
                               "\"address\" and variables, separated by "
                               "commas", param);
            return NGX_CONF_ERROR;
        }

        if (policy->by & all[i].by) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate \"%V\" in \"%V\"", &all[i].name,
                               param);
            return NGX_CONF_ERROR;
        }

        policy->by |= all[i].by;

    next:

        if (comma == NULL) {
            return NGX_CONF_OK;
        }

        p = comma + 1;
    }
}


static ngx_int_t
ngx_http_keygate_conf_by_variable(ngx_conf_t *cf, u_char *name, size_t len,
    ngx_http_keygate_policy_t *policy)
{
    ngx_int_t  *index, *other;
    ngx_str_t   variable;

    policy->by |= NGX_HTTP_KEYGATE_BY_VARIABLE;

    if (policy->variables == NULL) {
        policy->variables = ngx_array_create(cf->pool, 2, sizeof(ngx_int_t));
        if (policy->variables == NULL) {
            return NGX_ERROR;
        }
    }

    index = ngx_array_push(policy->variables);
    if (index == NULL) {
        return NGX_ERROR;
    }

    variable.data = name;
    variable.len = len;

    *index = ngx_http_get_variable_index(cf, &variable);

    if (*index == NGX_ERROR) {
        return NGX_ERROR;
    }

    for (other = policy->variables->elts; other < index; other++) {
        if (*other == *index) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate \"$%V\" in \"by=\"", &variable);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static char *
ngx_http_keygate_conf_burst(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_policy_t *policy)
{
    ngx_int_t  burst;

    if (policy->burst) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate parameter \"%V\"", param);
        return NGX_CONF_ERROR;
    }

    burst = ngx_atoi(param->data + sizeof("burst=") - 1,
                     param->len - (sizeof("burst=") - 1));

    if (burst < 1 || burst > (ngx_int_t) KG_RATE_REQUESTS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must be a number from 1 to %uD, "
                           "as \"burst=20\"", param, KG_RATE_REQUESTS_MAX);
        return NGX_CONF_ERROR;
    }

    policy->burst = (uint32_t) burst;

    return NGX_CONF_OK;
}


char *
ngx_http_keygate_conf_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    (void) cmd;

    if (lcf->limits != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    lcf->limits = NULL;
    lcf->legacy = 0;
    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        return (cf->args->nelts == 2) ? NGX_CONF_OK
                                      : "takes nothing after \"off\"";
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "headers=legacy") == 0) {

            if (lcf->legacy) {
                (void) ngx_http_keygate_conf_duplicate(cf, &value[i]);
                return NGX_CONF_ERROR;
            }

            lcf->legacy = 1;
            continue;
        }

        if (ngx_http_keygate_conf_limit_add(cf, &lcf->limits, &value[i])
            == NULL)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (lcf->limits == NULL) {
        return "has no policy beside \"headers=legacy\"";
    }

    return NGX_CONF_OK;
}


ngx_http_keygate_limit_t *
ngx_http_keygate_conf_limit_add(ngx_conf_t *cf, ngx_array_t **limits,
    ngx_str_t *name)
{
    ngx_uint_t                      i;
    ngx_http_keygate_limit_t       *limit, **where;
    ngx_http_keygate_main_conf_t   *mcf;

    if (*limits == NULL) {
        *limits = ngx_array_create(cf->pool, 2,
                                   sizeof(ngx_http_keygate_limit_t *));
        if (*limits == NULL) {
            return NULL;
        }
    }

    where = (*limits)->elts;

    for (i = 0; i < (*limits)->nelts; i++) {
        if (where[i]->name.len == name->len
            && ngx_memcmp(where[i]->name.data, name->data, name->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "policy \"%V\" is named twice", name);
            return NULL;
        }
    }

    if ((*limits)->nelts == NGX_HTTP_KEYGATE_LIST_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "more than %d policies in one list",
                           NGX_HTTP_KEYGATE_LIST_MAX);
        return NULL;
    }

    limit = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_limit_t));
    if (limit == NULL) {
        return NULL;
    }

    limit->name = *name;
    limit->file = cf->conf_file->file.name.data;
    limit->line = cf->conf_file->line;

    where = ngx_array_push(*limits);
    if (where == NULL) {
        return NULL;
    }

    *where = limit;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);

    where = ngx_array_push(&mcf->limits);
    if (where == NULL) {
        return NULL;
    }

    *where = limit;

    return limit;
}


void
ngx_http_keygate_conf_cost(ngx_conf_t *cf,
    const ngx_http_keygate_limit_t *limit)
{
    uint32_t                          most;
    const ngx_http_keygate_policy_t  *policy;

    policy = limit->policy;

    /* A record may raise a rate up to max=, and a burst not at all. */

    most = policy->burst ? policy->burst : policy->max.requests;

    if (most == 0 || limit->cost <= most || policy->dry_run) {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "no request of \"cost=%uD\" in %s:%ui is ever admitted by "
                  "policy \"%V\": its \"%s\" has room for %uD",
                  limit->cost, limit->file, limit->line, &policy->name,
                  policy->burst ? "burst=" : "max=", most);
}


char *
ngx_http_keygate_conf_default(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_http_keygate_limit_t   *limit, **place;
    ngx_http_keygate_policy_t  *policy;

    static ngx_str_t  self = ngx_string("self");

    policy = ngx_http_keygate_conf_built_in(cf, mcf,
                                            &ngx_http_keygate_default);
    if (policy == NULL
        || (mcf->self
            && ngx_http_keygate_conf_built_in(cf, mcf, &self) == NULL))
    {
        return NGX_CONF_ERROR;
    }

    mcf->default_limits = ngx_array_create(cf->pool, 1,
                                          sizeof(ngx_http_keygate_limit_t *));
    limit = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_limit_t));

    if (mcf->default_limits == NULL || limit == NULL) {
        return NGX_CONF_ERROR;
    }

    place = ngx_array_push(mcf->default_limits);
    *place = limit;

    limit->name = ngx_http_keygate_default;
    limit->policy = policy;

    return NGX_CONF_OK;
}


/* The contract's 60 requests a minute and key, unless the name is defined. */

static ngx_http_keygate_policy_t *
ngx_http_keygate_conf_built_in(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf, ngx_str_t *name)
{
    ngx_http_keygate_policy_t  *policy, **where;

    policy = ngx_http_keygate_policy(mcf, name);
    if (policy) {
        return policy;
    }

    policy = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_policy_t));
    where = ngx_array_push(&mcf->policies);

    if (policy == NULL || where == NULL) {
        return NULL;
    }

    *where = policy;

    policy->name = *name;
    policy->by = NGX_HTTP_KEYGATE_BY_KEY;
    policy->rate.requests = 60;
    policy->rate.window = 60;
    policy->min.requests = 1;
    policy->min.window = 60;
    policy->max.requests = 600;
    policy->max.window = 60;

    return policy;
}


ngx_uint_t
ngx_http_keygate_policy_takes(const ngx_http_keygate_policy_t *policy,
    const kg_rate_t *rate)
{
    return (policy->min.requests == 0 || kg_rate_cmp(rate, &policy->min) >= 0)
           && ngx_http_keygate_policy_tops(policy, rate);
}


ngx_uint_t
ngx_http_keygate_policy_tops(const ngx_http_keygate_policy_t *policy,
    const kg_rate_t *rate)
{
    if (policy->max.requests == 0) {
        return 1;
    }

    /* All that a window admits may come at once, a bucket keeps its pace. */

    return policy->burst ? kg_rate_cmp(rate, &policy->max) <= 0
                         : (ngx_uint_t) kg_rate_covers(&policy->max, rate);
}


ngx_http_keygate_policy_t *
ngx_http_keygate_policy(ngx_http_keygate_main_conf_t *mcf,
    const ngx_str_t *name)
{
    ngx_uint_t                   i;
    ngx_http_keygate_policy_t  **policies;

    policies = mcf->policies.elts;

    for (i = 0; i < mcf->policies.nelts; i++) {
        if (policies[i]->name.len == name->len
            && ngx_memcmp(policies[i]->name.data, name->data, name->len) == 0)
        {
            return policies[i];
        }
    }

    return NULL;
}


char *
ngx_http_keygate_conf_rate(ngx_conf_t *cf, ngx_str_t *param, size_t prefix,
    kg_rate_t *rate)
{
    ngx_str_t  text;

    text.data = param->data + prefix;
    text.len = param->len - prefix;

    if (rate->requests) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate parameter \"%V\"", param);
        return NGX_CONF_ERROR;
    }

    if (kg_rate_parse(ngx_http_keygate_kg(&text), rate) != KG_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate in \"%V\": it must be a number from "
                           "1 to %uD and \"r/s\", \"r/m\", \"r/h\" or "
                           "\"r/d\", as \"60r/m\"", param,
                           KG_RATE_REQUESTS_MAX);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
