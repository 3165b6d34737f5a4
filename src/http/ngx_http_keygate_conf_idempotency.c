
/*
 * What keygate_idempotency takes, and a route in its place.  A route may stand
 * before the directive, so what it leaves unset is filled in when the whole of
 * http {} was read.
 */

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_STATUSES      600      /* one more than the last */

#define NGX_HTTP_KEYGATE_RESPONSE_MIN  1024
#define NGX_HTTP_KEYGATE_RESPONSE_MAX  (8 * 1024 * 1024)
#define NGX_HTTP_KEYGATE_REPLICAS_MAX  16


typedef struct {
    ngx_str_t    name;
    ngx_uint_t   value;
} ngx_http_keygate_choice_t;


static ngx_int_t ngx_http_keygate_conf_retention(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param);
static ngx_int_t ngx_http_keygate_conf_choice(ngx_conf_t *cf,
    ngx_str_t *param, const ngx_http_keygate_choice_t *choices,
    ngx_uint_t *slot);
static ngx_int_t ngx_http_keygate_conf_max_response(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param);
static ngx_int_t ngx_http_keygate_conf_durable(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param);
static ngx_int_t ngx_http_keygate_conf_outcomes(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param,
    ngx_http_keygate_outcome_t outcome);
static char *ngx_http_keygate_conf_write(ngx_conf_t *cf,
    const ngx_http_keygate_idem_conf_t *from, ngx_http_keygate_route_t *route);


static const ngx_http_keygate_choice_t  ngx_http_keygate_on_unknown[] = {
    { ngx_string("on_unknown=refuse"), 0 },
    { ngx_string("on_unknown=forward"), 1 },
    { ngx_null_string, 0 }
};

static const ngx_http_keygate_choice_t  ngx_http_keygate_conflicts[] = {
    { ngx_string("conflict=409"), NGX_HTTP_CONFLICT },
    { ngx_string("conflict=422"), 422 },
    { ngx_null_string, 0 }
};

static const ngx_http_keygate_choice_t  ngx_http_keygate_evictions[] = {
    { ngx_string("eviction=refuse"), 0 },
    { ngx_string("eviction=accept"), 1 },
    { ngx_null_string, 0 }
};


void
ngx_http_keygate_conf_idem_init(ngx_http_keygate_idem_conf_t *idem)
{
    idem->retention = NGX_CONF_UNSET_MSEC;
    idem->lease = NGX_CONF_UNSET_MSEC;
    idem->max_response = NGX_CONF_UNSET_SIZE;
    idem->forward = NGX_CONF_UNSET_UINT;
    idem->conflict = NGX_CONF_UNSET_UINT;
    idem->durable = NGX_CONF_UNSET_UINT;
    idem->outcomes = NULL;
}


char *
ngx_http_keygate_conf_idempotency(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    ngx_int_t    rc;
    ngx_str_t   *value;
    ngx_uint_t   i;

    (void) cmd;

    if (mcf->idem_file) {
        return "is duplicate";
    }

    mcf->idem_file = cf->conf_file->file.name.data;
    mcf->idem_line = cf->conf_file->line;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rc = ngx_http_keygate_conf_starts(&value[i], "eviction=")
             ? ngx_http_keygate_conf_choice(cf, &value[i],
                                            ngx_http_keygate_evictions,
                                            &mcf->eviction)
             : ngx_http_keygate_conf_idem(cf, &mcf->idem, &value[i]);

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": it must be "
                               "\"retention=TIME\", \"lease=TIME\", "
                               "\"max_response=SIZE\", "
                               "\"on_unknown=refuse\", "
                               "\"on_unknown=forward\", \"durable=N\", "
                               "\"conflict=409\", "
                               "\"conflict=422\", \"store=STATUS\", "
                               "\"release=STATUS\", \"unknown=STATUS\", "
                               "\"eviction=refuse\" or \"eviction=accept\"",
                               &value[i]);
        }

        if (rc != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_keygate_conf_idem(ngx_conf_t *cf, ngx_http_keygate_idem_conf_t *idem,
    ngx_str_t *param)
{
    if (ngx_http_keygate_conf_starts(param, "retention=")) {
        return ngx_http_keygate_conf_retention(cf, idem, param);
    }

    if (ngx_http_keygate_conf_starts(param, "lease=")) {
        return ngx_http_keygate_conf_time(cf, param, 6, 1000, 3600000,
                                          &idem->lease)
               == NGX_CONF_OK ? NGX_OK : NGX_ERROR;
    }

    if (ngx_http_keygate_conf_starts(param, "max_response=")) {
        return ngx_http_keygate_conf_max_response(cf, idem, param);
    }

    if (ngx_http_keygate_conf_starts(param, "on_unknown=")) {
        return ngx_http_keygate_conf_choice(cf, param,
                                            ngx_http_keygate_on_unknown,
                                            &idem->forward);
    }

    if (ngx_http_keygate_conf_starts(param, "conflict=")) {
        return ngx_http_keygate_conf_choice(cf, param,
                                            ngx_http_keygate_conflicts,
                                            &idem->conflict);
    }

    if (ngx_http_keygate_conf_starts(param, "durable=")) {
        return ngx_http_keygate_conf_durable(cf, idem, param);
    }

    if (ngx_http_keygate_conf_starts(param, "store=")) {
        return ngx_http_keygate_conf_outcomes(cf, idem, param,
                                              NGX_HTTP_KEYGATE_FINAL);
    }

    if (ngx_http_keygate_conf_starts(param, "release=")) {
        return ngx_http_keygate_conf_outcomes(cf, idem, param,
                                              NGX_HTTP_KEYGATE_RELEASE);
    }

    if (ngx_http_keygate_conf_starts(param, "unknown=")) {
        return ngx_http_keygate_conf_outcomes(cf, idem, param,
                                              NGX_HTTP_KEYGATE_UNKNOWN);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_keygate_conf_retention(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param)
{
    if (ngx_http_keygate_conf_time(cf, param, 10, 1000,
                                   (ngx_msec_t) 366 * 86400000,
                                   &idem->retention)
        != NGX_CONF_OK)
    {
        return NGX_ERROR;
    }

    if (idem->retention < 86400000) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\" is shorter than the 24h that partners are "
                           "promised", param);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_conf_choice(ngx_conf_t *cf, ngx_str_t *param,
    const ngx_http_keygate_choice_t *choices, ngx_uint_t *slot)
{
    ngx_uint_t  i;

    if (*slot != NGX_CONF_UNSET_UINT) {
        return ngx_http_keygate_conf_duplicate(cf, param);
    }

    for (i = 0; choices[i].name.len; i++) {
        if (ngx_strcmp(choices[i].name.data, param->data) == 0) {
            *slot = choices[i].value;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid \"%V\": it must be \"%V\" or \"%V\"", param,
                       &choices[0].name, &choices[1].name);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_conf_max_response(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param)
{
    ssize_t    size;
    ngx_str_t  text;

    if (idem->max_response != NGX_CONF_UNSET_SIZE) {
        return ngx_http_keygate_conf_duplicate(cf, param);
    }

    text.data = param->data + sizeof("max_response=") - 1;
    text.len = param->len - (sizeof("max_response=") - 1);

    size = ngx_parse_size(&text);

    if (size < NGX_HTTP_KEYGATE_RESPONSE_MIN
        || size > NGX_HTTP_KEYGATE_RESPONSE_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size in \"%V\": it must be from 1k to 8m",
                           param);
        return NGX_ERROR;
    }

    idem->max_response = size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_conf_durable(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param)
{
    size_t     prefix;
    ngx_int_t  n;

    if (idem->durable != NGX_CONF_UNSET_UINT) {
        return ngx_http_keygate_conf_duplicate(cf, param);
    }

    prefix = sizeof("durable=") - 1;
    n = ngx_atoi(param->data + prefix, param->len - prefix);

    if (n == NGX_ERROR || n > NGX_HTTP_KEYGATE_REPLICAS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must be a number of replicas "
                           "from 0 to %i", param,
                           (ngx_int_t) NGX_HTTP_KEYGATE_REPLICAS_MAX);
        return NGX_ERROR;
    }

    idem->durable = n;

    return NGX_OK;
}


/* store=429,503: a list of statuses that are not final by themselves, say. */

static ngx_int_t
ngx_http_keygate_conf_outcomes(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param,
    ngx_http_keygate_outcome_t outcome)
{
    u_char     *p, *end, *comma;
    ngx_int_t   status, first;

    /* What has succeeded was executed: its key cannot be free again. */

    first = (outcome == NGX_HTTP_KEYGATE_RELEASE) ? NGX_HTTP_BAD_REQUEST
                                                  : NGX_HTTP_OK;

    if (idem->outcomes == NULL) {
        idem->outcomes = ngx_pcalloc(cf->pool, NGX_HTTP_KEYGATE_STATUSES);
        if (idem->outcomes == NULL) {
            return NGX_ERROR;
        }
    }

    p = ngx_strlchr(param->data, param->data + param->len, '=') + 1;
    end = param->data + param->len;

    for ( ;; ) {
        comma = ngx_strlchr(p, end, ',');
        status = ngx_atoi(p, (comma ? comma : end) - p);

        if (status < first || status >= NGX_HTTP_KEYGATE_STATUSES) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\": it must be a list of statuses "
                               "from %i to 599, separated by commas", param,
                               first);
            return NGX_ERROR;
        }

        if (idem->outcomes[status]) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\": the status %i is given twice", param,
                               status);
            return NGX_ERROR;
        }

        idem->outcomes[status] = outcome + 1;

        if (comma == NULL) {
            return NGX_OK;
        }

        p = comma + 1;
    }
}


char *
ngx_http_keygate_conf_writes(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_uint_t                      i;
    ngx_http_keygate_route_t      **routes;
    ngx_http_keygate_idem_conf_t   *idem;

    idem = &mcf->idem;

    ngx_conf_init_msec_value(idem->retention, 24 * 60 * 60 * 1000);
    ngx_conf_init_msec_value(idem->lease, 30000);
    ngx_conf_init_size_value(idem->max_response, 256 * 1024);
    ngx_conf_init_uint_value(idem->forward, 0);
    ngx_conf_init_uint_value(idem->conflict, NGX_HTTP_CONFLICT);
    ngx_conf_init_uint_value(idem->durable, 0);

    ngx_conf_init_uint_value(mcf->eviction, 0);

    mcf->conflict = *kg_error_get(KG_ERR_IDEMPOTENCY_CONFLICT);
    mcf->conflict.status = 422;

    if (idem->retention < idem->lease) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"retention=\" of \"keygate_idempotency\" in %s:%ui "
                      "is shorter than \"lease=\": make it longer",
                      mcf->idem_file, mcf->idem_line);
        return NGX_CONF_ERROR;
    }

    routes = mcf->writes.elts;

    for (i = 0; i < mcf->writes.nelts; i++) {
        if (ngx_http_keygate_conf_write(cf, idem, routes[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        mcf->waits |= routes[i]->idem->durable;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_conf_write(ngx_conf_t *cf,
    const ngx_http_keygate_idem_conf_t *from, ngx_http_keygate_route_t *route)
{
    ngx_uint_t                     i;
    ngx_http_keygate_idem_conf_t  *idem;

    idem = route->idem;

    ngx_conf_init_msec_value(idem->retention, from->retention);
    ngx_conf_init_msec_value(idem->lease, from->lease);
    ngx_conf_init_size_value(idem->max_response, from->max_response);
    ngx_conf_init_uint_value(idem->forward, from->forward);
    ngx_conf_init_uint_value(idem->conflict, from->conflict);
    ngx_conf_init_uint_value(idem->durable, from->durable);

    if (idem->outcomes == NULL) {
        idem->outcomes = from->outcomes;

    } else if (from->outcomes) {

        for (i = 0; i < NGX_HTTP_KEYGATE_STATUSES; i++) {
            if (idem->outcomes[i] == 0) {
                idem->outcomes[i] = from->outcomes[i];
            }
        }
    }

    /* A claim that expires while its write runs would let it run again. */

    if (idem->retention < idem->lease) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"retention=\" of the route \"%V\" in %s:%ui is "
                      "shorter than its \"lease=\": make it longer",
                      &route->name, route->file, route->line);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
