
/*
 * What the directives of http {} take.  A wrong value is refused with file,
 * line and what would be right.  Names of policies and routes are resolved
 * when the whole of http {} was read, so that the order of directives does
 * not matter.
 */

#include "ngx_http_keygate.h"


static char *ngx_http_keygate_conf_use(ngx_conf_t *cf, ngx_str_t *param,
    ngx_uint_t *mask);
static char *ngx_http_keygate_conf_missing(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf, const char *what, const char *right);
static char *ngx_http_keygate_conf_share(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_main_conf_t *mcf);


static ngx_str_t  ngx_http_keygate_uses[NGX_HTTP_KEYGATE_USES] = {
    ngx_string("records"),
    ngx_string("limits"),
    ngx_string("idempotency")
};


char *
ngx_http_keygate_conf_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    char             *rv;
    ngx_str_t        *value, *arg;
    ngx_uint_t        i, n, mask;
    ngx_array_t      *args, *all;
    kg_redis_conf_t  *redis;

    (void) cmd;

    value = cf->args->elts;
    mask = 0;

    args = ngx_array_create(cf->pool, cf->args->nelts, sizeof(ngx_str_t));
    redis = ngx_pcalloc(cf->pool, sizeof(kg_redis_conf_t));

    if (args == NULL || redis == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < cf->args->nelts; i++) {

        if (i && ngx_http_keygate_conf_starts(&value[i], "use=")) {
            if (ngx_http_keygate_conf_use(cf, &value[i], &mask)
                != NGX_CONF_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        arg = ngx_array_push(args);
        if (arg == NULL) {
            return NGX_CONF_ERROR;
        }

        *arg = value[i];
    }

    if (mask == 0) {
        mask = (1 << NGX_HTTP_KEYGATE_USES) - 1;
    }

    all = cf->args;
    cf->args = args;

    rv = kg_redis_conf_parse(cf, redis);

    cf->args = all;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    for (n = 0; n < NGX_HTTP_KEYGATE_USES; n++) {

        if (!(mask & (1 << n))) {
            continue;
        }

        if (mcf->redis[n]) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "there is a \"keygate_redis\" for %V already: "
                               "split them by \"use=\"",
                               &ngx_http_keygate_uses[n]);
            return NGX_CONF_ERROR;
        }

        mcf->redis[n] = redis;
    }

    return NGX_CONF_OK;
}


/* use=records,limits,idempotency into bits. */

static char *
ngx_http_keygate_conf_use(ngx_conf_t *cf, ngx_str_t *param, ngx_uint_t *mask)
{
    u_char      *p, *end, *comma;
    size_t       len;
    ngx_str_t   *use;
    ngx_uint_t   i;

    p = param->data + sizeof("use=") - 1;
    end = param->data + param->len;

    for ( ;; ) {
        comma = ngx_strlchr(p, end, ',');
        len = (comma ? comma : end) - p;

        for (i = 0; i < NGX_HTTP_KEYGATE_USES; i++) {
            use = &ngx_http_keygate_uses[i];

            if (use->len == len && ngx_memcmp(use->data, p, len) == 0) {
                break;
            }
        }

        if (i == NGX_HTTP_KEYGATE_USES) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\": it must be \"use=\" and one "
                               "or more of \"records\", \"limits\", "
                               "\"idempotency\", separated by commas", param);
            return NGX_CONF_ERROR;
        }

        *mask |= 1 << i;

        if (comma == NULL) {
            return NGX_CONF_OK;
        }

        p = comma + 1;
    }
}


char *
ngx_http_keygate_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    u_char      *colon;
    char        *rv;
    ssize_t      size;
    ngx_str_t   *value, name, text;
    ngx_uint_t   i;

    (void) cmd;

    if (mcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (mcf->zone == NULL
            && ngx_http_keygate_conf_starts(&value[i], "zone="))
        {

            name.data = value[i].data + 5;
            colon = (u_char *) ngx_strchr(name.data, ':');
            size = NGX_ERROR;

            if (colon && colon > name.data) {
                name.len = colon - name.data;
                text.data = colon + 1;
                text.len = value[i].data + value[i].len - text.data;
                size = ngx_parse_size(&text);
            }

            if (size == NGX_ERROR) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid \"%V\": it must be "
                                   "\"zone=NAME:SIZE\", as "
                                   "\"zone=keygate:64m\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            if (size < KG_ZONE_SIZE_MIN) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "zone \"%V\" is too small: give it at "
                                   "least 1m", &value[i]);
                return NGX_CONF_ERROR;
            }

            mcf->zone = kg_zone_add(cf, &name, size, &ngx_http_keygate_module);
            if (mcf->zone == NULL) {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "valid=")) {
            rv = ngx_http_keygate_conf_time(cf, &value[i], 6, 0, 86400000,
                                            &mcf->valid);

        } else if (ngx_http_keygate_conf_starts(&value[i], "negative=")) {
            rv = ngx_http_keygate_conf_time(cf, &value[i], 9, 0, 86400000,
                                            &mcf->negative);

        } else if (ngx_strcmp(value[i].data, "usage=off") == 0
                   && mcf->usage_flush == NGX_CONF_UNSET_MSEC)
        {
            mcf->usage_flush = 0;
            rv = NGX_CONF_OK;

        } else if (ngx_http_keygate_conf_starts(&value[i], "usage=")) {
            rv = ngx_http_keygate_conf_time(cf, &value[i], 6, 100, 3600000,
                                            &mcf->usage_flush);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": it must be "
                               "\"zone=NAME:SIZE\", \"valid=TIME\", "
                               "\"negative=TIME\" or \"usage=TIME\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (mcf->zone == NULL) {
        return "has no \"zone=NAME:SIZE\", as \"zone=keygate:64m\"";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_keygate_conf_outage(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i, outage;

    (void) cmd;

    if (mcf->stale != NGX_CONF_UNSET_MSEC
        || mcf->outage != NGX_CONF_UNSET_UINT
        || mcf->share != NGX_CONF_UNSET_UINT)
    {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_keygate_conf_starts(&value[i], "keys=stale:")) {
            rv = ngx_http_keygate_conf_time(cf, &value[i], 11, 0, 86400000,
                                            &mcf->stale);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "share=")) {
            rv = ngx_http_keygate_conf_share(cf, &value[i], mcf);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        outage = NGX_CONF_UNSET_UINT;

        if (ngx_strcmp(value[i].data, "limits=deny") == 0) {
            outage = NGX_HTTP_KEYGATE_DENY;

        } else if (ngx_strcmp(value[i].data, "limits=allow") == 0) {
            outage = NGX_HTTP_KEYGATE_ALLOW;

        } else if (ngx_strcmp(value[i].data, "limits=local") == 0) {
            outage = NGX_HTTP_KEYGATE_LOCAL;
        }

        if (outage != NGX_CONF_UNSET_UINT) {

            if (mcf->outage != NGX_CONF_UNSET_UINT) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate parameter \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            mcf->outage = outage;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"keys=stale:TIME\", \"limits=local\", "
                           "\"limits=deny\", \"limits=allow\" or "
                           "\"share=25%%\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (mcf->share != NGX_CONF_UNSET_UINT
        && mcf->outage != NGX_CONF_UNSET_UINT
        && mcf->outage != NGX_HTTP_KEYGATE_LOCAL)
    {
        return "has a \"share=\" that only \"limits=local\" has";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_share(ngx_conf_t *cf, ngx_str_t *param,
    ngx_http_keygate_main_conf_t *mcf)
{
    u_char     *p;
    size_t      len;
    ngx_int_t   share;

    if (mcf->share != NGX_CONF_UNSET_UINT) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate parameter \"%V\"", param);
        return NGX_CONF_ERROR;
    }

    p = param->data + sizeof("share=") - 1;
    len = param->len - (sizeof("share=") - 1);

    share = (len && p[len - 1] == '%') ? ngx_atoi(p, len - 1) : NGX_ERROR;

    if (share < 1 || share > 100) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must be from 1%% to 100%%, as "
                           "\"share=25%%\"", param);
        return NGX_CONF_ERROR;
    }

    mcf->share = (ngx_uint_t) share;

    return NGX_CONF_OK;
}


void
ngx_http_keygate_conf_used(ngx_conf_t *cf)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);

    if (!mcf->used) {
        mcf->used = 1;
        mcf->file = cf->conf_file->file.name.data;
        mcf->line = cf->conf_file->line;
    }
}


char *
ngx_http_keygate_conf_complete(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_uint_t                   i;
    ngx_http_keygate_use_t      *use;
    ngx_http_keygate_limit_t   **limits;

    if (ngx_http_keygate_conf_default(cf, mcf) != NGX_CONF_OK
        || ngx_http_keygate_conf_plans(cf, mcf) != NGX_CONF_OK
        || ngx_http_keygate_conf_writes(cf, mcf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    use = mcf->uses.elts;

    for (i = 0; i < mcf->uses.nelts; i++) {
        use[i].conf->table = ngx_http_keygate_table(mcf, &use[i].name);

        if (use[i].conf->table == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "no routes \"%V\" for \"keygate\" in %s:%ui: define "
                          "them by \"keygate_routes %V { ... }\"",
                          &use[i].name, use[i].file, use[i].line,
                          &use[i].name);
            return NGX_CONF_ERROR;
        }
    }

    limits = mcf->limits.elts;

    for (i = 0; i < mcf->limits.nelts; i++) {
        limits[i]->policy = ngx_http_keygate_policy(mcf, &limits[i]->name);

        if (limits[i]->policy == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "no policy \"%V\" for the limit in %s:%ui: define "
                          "it by \"keygate_policy\"", &limits[i]->name,
                          limits[i]->file, limits[i]->line);
            return NGX_CONF_ERROR;
        }

        ngx_http_keygate_conf_cost(cf, limits[i]);
    }

    if (!mcf->used) {
        return NGX_CONF_OK;
    }

    for (i = 0; i < NGX_HTTP_KEYGATE_USES; i++) {
        if (mcf->redis[i] == NULL) {
            return ngx_http_keygate_conf_missing(cf, mcf, "keygate_redis",
                       "keygate_redis redis://127.0.0.1:6379");
        }
    }

    if (mcf->zone == NULL) {
        return ngx_http_keygate_conf_missing(cf, mcf, "keygate_zone",
                   "keygate_zone zone=keygate:64m");
    }

    kg_zone_times(mcf->zone, mcf->valid, mcf->negative);

    if (mcf->peppers.nelts == 0) {
        return ngx_http_keygate_conf_missing(cf, mcf, "keygate_keys",
                   "keygate_keys prefix=tf pepper=/etc/nginx/keygate.pepper");
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_missing(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf, const char *what, const char *right)
{
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"keygate\" needs \"%s\" in http {}: add \"%s;\" for "
                  "%s:%ui", what, right, mcf->file, mcf->line);

    return NGX_CONF_ERROR;
}


char *
ngx_http_keygate_conf_time(ngx_conf_t *cf, ngx_str_t *param, size_t prefix,
    ngx_msec_t min, ngx_msec_t max, ngx_msec_t *slot)
{
    ngx_str_t   text;
    ngx_msec_t  value;

    if (*slot != NGX_CONF_UNSET_MSEC) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate parameter \"%V\"", param);
        return NGX_CONF_ERROR;
    }

    text.data = param->data + prefix;
    text.len = param->len - prefix;

    value = ngx_parse_time(&text, 0);

    if (value == (ngx_msec_t) NGX_ERROR || value < min || value > max) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time in \"%V\": it must be from %M ms to "
                           "%M s, as \"10s\" or \"5m\"", param, min,
                           max / 1000);
        return NGX_CONF_ERROR;
    }

    *slot = value;

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_keygate_conf_starts(const ngx_str_t *param, const char *prefix)
{
    size_t  len;

    len = ngx_strlen(prefix);

    return param->len >= len && ngx_strncmp(param->data, prefix, len) == 0;
}


ngx_int_t
ngx_http_keygate_conf_duplicate(ngx_conf_t *cf, const ngx_str_t *param)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate parameter \"%V\"",
                       param);
    return NGX_ERROR;
}


ssize_t
ngx_http_keygate_conf_file(const ngx_str_t *name, u_char *buf, size_t size,
    ngx_file_info_t *fi)
{
    ssize_t   n;
    ngx_fd_t  fd;

    /* A FIFO nobody writes to must not hold up the start. */

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        return NGX_ERROR;
    }

    n = NGX_ERROR;

    if (ngx_fd_info(fd, fi) != NGX_FILE_ERROR) {
        n = ngx_is_file(fi) ? ngx_read_fd(fd, buf, size) : 0;
    }

    (void) ngx_close_file(fd);

    return n;
}
