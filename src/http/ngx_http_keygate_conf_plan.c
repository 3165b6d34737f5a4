
/*
 * keygate_plan NAME POLICY=RATE ...: what an organisation on the plan gets in
 * place of the policies' own rates.  A key's own limits and the organisation's
 * come first.
 */

#include "ngx_http_keygate.h"


static char *ngx_http_keygate_conf_plan_limit(ngx_conf_t *cf,
    ngx_http_keygate_plan_t *plan, ngx_str_t *param);


char *
ngx_http_keygate_conf_plan(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_http_keygate_plan_t   *plan, **where;

    (void) cmd;

    value = cf->args->elts;

    if (!kg_policy_name_valid(ngx_http_keygate_kg(&value[1]))) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of a plan: it must be "
                           "[a-z0-9_-]{1,32}", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_keygate_plan(mcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate plan \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    plan = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_plan_t));
    where = ngx_array_push(&mcf->plans);

    if (plan == NULL || where == NULL
        || ngx_array_init(&plan->limits, cf->pool, cf->args->nelts,
                          sizeof(ngx_http_keygate_plan_limit_t))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *where = plan;
    plan->name = value[1];

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_keygate_conf_plan_limit(cf, plan, &value[i])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_plan_limit(ngx_conf_t *cf, ngx_http_keygate_plan_t *plan,
    ngx_str_t *param)
{
    u_char                         *equals, *end;
    kg_rate_t                       rate;
    ngx_str_t                       name, text;
    ngx_http_keygate_plan_limit_t  *limit;

    end = param->data + param->len;
    equals = ngx_strlchr(param->data, end, '=');

    name.data = param->data;
    name.len = (equals ? equals : end) - param->data;

    text.data = equals ? equals + 1 : end;
    text.len = end - text.data;

    if (kg_rate_parse(ngx_http_keygate_kg(&text), &rate) != KG_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\" of a plan: it must be a policy and "
                           "its rate, as \"default=300r/m\"", param);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_keygate_plan_rate(plan, &name, &rate) == KG_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "policy \"%V\" is named twice", &name);
        return NGX_CONF_ERROR;
    }

    limit = ngx_array_push(&plan->limits);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    limit->policy = name;
    limit->rate = rate;
    limit->file = cf->conf_file->file.name.data;
    limit->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


char *
ngx_http_keygate_conf_plans(ngx_conf_t *cf, ngx_http_keygate_main_conf_t *mcf)
{
    u_char                         *p;
    ngx_uint_t                      i, j;
    ngx_http_keygate_plan_t       **plans;
    ngx_http_keygate_policy_t      *policy;
    ngx_http_keygate_plan_limit_t  *limits;
    u_char                          rate[16];

    plans = mcf->plans.elts;

    for (i = 0; i < mcf->plans.nelts; i++) {
        limits = plans[i]->limits.elts;

        for (j = 0; j < plans[i]->limits.nelts; j++) {
            policy = ngx_http_keygate_policy(mcf, &limits[j].policy);

            if (policy == NULL) {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "no policy \"%V\" for plan \"%V\" in %s:%ui: "
                              "define it by \"keygate_policy\"",
                              &limits[j].policy, &plans[i]->name,
                              limits[j].file, limits[j].line);
                return NGX_CONF_ERROR;
            }

            if (!ngx_http_keygate_policy_takes(policy, &limits[j].rate)) {
                p = kg_rate_format(&limits[j].rate, rate);

                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "%*s of plan \"%V\" in %s:%ui is not from "
                              "\"min=\" to \"max=\" of policy \"%V\"",
                              (size_t) (p - rate), rate, &plans[i]->name,
                              limits[j].file, limits[j].line, &policy->name);
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


ngx_http_keygate_plan_t *
ngx_http_keygate_plan(ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_http_keygate_plan_t  **plans;

    plans = mcf->plans.elts;

    for (i = 0; i < mcf->plans.nelts; i++) {
        if (plans[i]->name.len == name->len
            && ngx_memcmp(plans[i]->name.data, name->data, name->len) == 0)
        {
            return plans[i];
        }
    }

    return NULL;
}


kg_rc_t
ngx_http_keygate_plan_rate(const ngx_http_keygate_plan_t *plan,
    const ngx_str_t *policy, kg_rate_t *rate)
{
    ngx_uint_t                      i;
    ngx_http_keygate_plan_limit_t  *limits;

    limits = plan->limits.elts;

    for (i = 0; i < plan->limits.nelts; i++) {
        if (limits[i].policy.len == policy->len
            && ngx_memcmp(limits[i].policy.data, policy->data, policy->len)
               == 0)
        {
            *rate = limits[i].rate;
            return KG_OK;
        }
    }

    return KG_INVALID;
}
