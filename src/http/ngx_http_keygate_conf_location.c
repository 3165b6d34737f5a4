
/*
 * What the directives of a location take: which routes, where the key is, the
 * realm, the admin interface, keygate_self.
 */

#include "ngx_http_keygate.h"


/* Test keys of an organisation, for keygate_self. */
#define NGX_HTTP_KEYGATE_MAX_KEYS      100
#define NGX_HTTP_KEYGATE_MAX_KEYS_MAX  10000


static char *ngx_http_keygate_conf_serves(ngx_conf_t *cf,
    ngx_http_handler_pt handler);
static char *ngx_http_keygate_conf_role(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *lcf, ngx_str_t *param);
static char *ngx_http_keygate_conf_actor(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *lcf, ngx_str_t *param);


char *
ngx_http_keygate_conf_keygate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    ngx_str_t                     *value;
    ngx_http_keygate_use_t        *use;
    ngx_http_keygate_main_conf_t  *mcf;

    (void) cmd;

    if (lcf->mode != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        if (cf->args->nelts == 3) {
            return "takes nothing after \"off\"";
        }

        lcf->mode = NGX_HTTP_KEYGATE_OFF;
        return NGX_CONF_OK;
    }

    lcf->mode = NGX_HTTP_KEYGATE_ON;

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[2].data, "dry_run") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": after the name of "
                               "the routes only \"dry_run\" may come",
                               &value[2]);
            return NGX_CONF_ERROR;
        }

        lcf->mode = NGX_HTTP_KEYGATE_DRY_RUN;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);

    use = ngx_array_push(&mcf->uses);
    if (use == NULL) {
        return NGX_CONF_ERROR;
    }

    use->conf = lcf;
    use->name = value[1];
    use->file = cf->conf_file->file.name.data;
    use->line = cf->conf_file->line;

    ngx_http_keygate_conf_used(cf);

    return NGX_CONF_OK;
}


char *
ngx_http_keygate_conf_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    (void) cmd;

    if (lcf->tokens != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    lcf->tokens = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                   sizeof(ngx_http_complex_value_t));
    if (lcf->tokens == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        cv = ngx_array_push(lcf->tokens);
        if (cv == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cv, sizeof(ngx_http_complex_value_t));

        /* "bearer" is the Authorization header, its scheme taken off. */

        if (ngx_strcmp(value[i].data, "bearer") == 0) {
            continue;
        }

        if (ngx_http_script_variables_count(&value[i]) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\": it must be \"bearer\" or hold "
                               "a variable, as \"$http_x_api_key\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[i];
        ccv.complex_value = cv;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* RFC 9110, 11.5: a realm is a quoted-string. */

char *
ngx_http_keygate_conf_realm(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    size_t      i;
    ngx_str_t  *value;

    (void) cmd;

    if (lcf->realm.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 0; i < value[1].len; i++) {
        if (value[1].data[i] < 0x20 || value[1].data[i] > 0x7e
            || value[1].data[i] == '"' || value[1].data[i] == '\\')
        {
            return "must be of printable ASCII without quotes and backslashes";
        }
    }

    lcf->realm = value[1];

    return NGX_CONF_OK;
}


char *
ngx_http_keygate_conf_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    (void) cmd;

    if (lcf->role) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rv = ngx_http_keygate_conf_starts(&value[i], "actor=")
             ? ngx_http_keygate_conf_actor(cf, lcf, &value[i])
             : ngx_http_keygate_conf_role(cf, lcf, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (lcf->role == 0) {
        return "has no \"role=\": it must be \"role=operator\", "
               "\"role=portal\" or \"role=read\"";
    }

    return ngx_http_keygate_conf_serves(cf, ngx_http_keygate_admin_handler);
}


char *
ngx_http_keygate_conf_self(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    ngx_http_keygate_main_conf_t  *mcf;

    ngx_int_t   n;
    ngx_str_t  *value;

    static ngx_str_t  policy = ngx_string("self");

    (void) cmd;

    if (lcf->self) {
        return "is duplicate";
    }

    lcf->self = 1;
    lcf->max_keys = NGX_HTTP_KEYGATE_MAX_KEYS;

    value = cf->args->elts;

    if (cf->args->nelts == 2) {
        n = ngx_http_keygate_conf_starts(&value[1], "max_keys=")
            ? ngx_atoi(value[1].data + sizeof("max_keys=") - 1,
                       value[1].len - (sizeof("max_keys=") - 1))
            : NGX_ERROR;

        if (n < 1 || n > NGX_HTTP_KEYGATE_MAX_KEYS_MAX) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": it must be "
                               "\"max_keys=\" and a number from 1 to %d",
                               &value[1], NGX_HTTP_KEYGATE_MAX_KEYS_MAX);
            return NGX_CONF_ERROR;
        }

        lcf->max_keys = n;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);
    mcf->self = 1;

    if (ngx_http_keygate_conf_limit_add(cf, &lcf->self_limits, &policy)
        == NULL)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_keygate_conf_serves(cf, ngx_http_keygate_self_handler);
}


/*
 * keygate_self is for those who were let in, and what it tells is not what the
 * limits of others are for: it has its own, unless the location names some.
 */

char *
ngx_http_keygate_conf_self_merge(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *conf)
{
    const char                *right;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (conf->mode == NGX_HTTP_KEYGATE_OFF) {
        right = "needs \"keygate\" and the name of its routes";

    } else if (conf->mode == NGX_HTTP_KEYGATE_DRY_RUN) {
        right = "needs \"keygate\" without \"dry_run\": give it one of its "
                "own";

    } else if (clcf->handler != ngx_http_keygate_self_handler) {
        right = "answers itself: take the other directive that does away";

    } else {

        if (conf->limits != NGX_CONF_UNSET_PTR) {
            conf->self_limits = conf->limits;
        }

        conf->errors = conf->errors ? conf->errors : 1;

        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"keygate_self\" in location \"%V\" %s", &clcf->name,
                  right);

    return NGX_CONF_ERROR;
}


/* The location's requests are calls, by what follows its prefix. */

static char *
ngx_http_keygate_conf_serves(ngx_conf_t *cf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

#if (NGX_PCRE)
    if (clcf->regex) {
        return "cannot be in a location given by a regular expression: its "
               "paths are relative to the location's prefix";
    }
#endif

    if (clcf->named || clcf->noname || clcf->exact_match) {
        return "must be in a location given by a prefix, as \"location /\"";
    }

    if (clcf->handler) {
        return "is in a location that another directive answers already";
    }

    clcf->handler = handler;

    ngx_http_keygate_conf_used(cf);

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_role(ngx_conf_t *cf, ngx_http_keygate_loc_conf_t *lcf,
    ngx_str_t *param)
{
    ngx_uint_t  i;

    static const struct {
        const char  *param;
        ngx_uint_t   role;
    } roles[] = {
        { "role=read", NGX_HTTP_KEYGATE_ROLE_READ },
        { "role=portal", NGX_HTTP_KEYGATE_ROLE_PORTAL },
        { "role=operator", NGX_HTTP_KEYGATE_ROLE_OPERATOR },
        { NULL, 0 }
    };

    for (i = 0; roles[i].param; i++) {
        if (ngx_strcmp(param->data, roles[i].param) == 0) {
            break;
        }
    }

    if (roles[i].param == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must be \"role=operator\", "
                           "\"role=portal\" or \"role=read\"", param);
        return NGX_CONF_ERROR;
    }

    if (lcf->role) {
        return "has two \"role=\"";
    }

    lcf->role = roles[i].role;

    return NGX_CONF_OK;
}


/* A constant would name the same actor whoever called. */

static char *
ngx_http_keygate_conf_actor(ngx_conf_t *cf, ngx_http_keygate_loc_conf_t *lcf,
    ngx_str_t *param)
{
    ngx_str_t                          value;
    ngx_http_compile_complex_value_t   ccv;

    if (lcf->actor) {
        return "has two \"actor=\"";
    }

    value.data = param->data + sizeof("actor=") - 1;
    value.len = param->len - (sizeof("actor=") - 1);

    if (ngx_http_script_variables_count(&value) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must hold a variable that "
                           "nginx has checked, as \"actor=$remote_user\"",
                           param);
        return NGX_CONF_ERROR;
    }

    lcf->actor = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (lcf->actor == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value;
    ccv.complex_value = lcf->actor;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
}
