
/*
 * What may stand in a location beside routes with idempotency=.  nginx and its
 * modules can run a write twice, or send what has to wait, and none of that
 * would be seen before it happens.
 */

#include "ngx_http_keygate.h"


static char *ngx_http_keygate_check_proxy(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *conf);
static const char *ngx_http_keygate_right(
    const ngx_http_keygate_loc_conf_t *conf,
    const ngx_http_upstream_conf_t *upstream);
static ngx_http_upstream_conf_t *ngx_http_keygate_conf_module(ngx_conf_t *cf,
    const char *name);
static char *ngx_http_keygate_conf_images(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *conf);


char *
ngx_http_keygate_conf_beside(ngx_conf_t *cf, ngx_http_keygate_loc_conf_t *conf)
{
    if (conf->mode != NGX_HTTP_KEYGATE_ON || !conf->table->idempotent) {
        return NGX_CONF_OK;
    }

    if (ngx_http_keygate_check_proxy(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_keygate_conf_images(cf, conf);
}


/*
 * Modules that proxy begin their configuration with that of the upstream, which
 * shows whether they are given here.  (Not when the address has variables.)
 */

ngx_http_upstream_conf_t *
ngx_http_keygate_conf_proxies(ngx_conf_t *cf, const char *name)
{
    ngx_http_upstream_conf_t  *conf;

    conf = ngx_http_keygate_conf_module(cf, name);

    return (conf && conf->upstream) ? conf : NULL;
}


static ngx_http_upstream_conf_t *
ngx_http_keygate_conf_module(ngx_conf_t *cf, const char *name)
{
    ngx_uint_t            i;
    ngx_module_t         *module;
    ngx_http_conf_ctx_t  *ctx;

    ctx = cf->ctx;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];

        if (module->type == NGX_HTTP_MODULE
            && ngx_strcmp(module->name, name) == 0)
        {
            return ctx->loc_conf[module->ctx_index];
        }
    }

    return NULL;
}


/*
 * nginx itself sends requests again, and stops them with their clients; a write
 * that is to happen once allows neither.  Where a handler shows no upstream the
 * address may have variables: then some module must be set right.
 */

static char *
ngx_http_keygate_check_proxy(ngx_conf_t *cf, ngx_http_keygate_loc_conf_t *conf)
{
    const char                 *right, *wanted, *module;
    ngx_uint_t                  i, set, shown;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_upstream_conf_t   *upstream;

    static const char  *modules[] = {
        "ngx_http_proxy_module", "ngx_http_fastcgi_module",
        "ngx_http_uwsgi_module", "ngx_http_scgi_module", NULL
    };

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    wanted = NULL;
    module = NULL;
    set = 0;
    shown = 0;

    for (i = 0; modules[i]; i++) {

        upstream = ngx_http_keygate_conf_module(cf, modules[i]);
        if (upstream == NULL) {
            continue;
        }

        right = ngx_http_keygate_right(conf, upstream);

        if (upstream->upstream) {
            wanted = right;
            module = modules[i];
            set = (right == NULL);
            shown = 1;
            break;
        }

        if (right == NULL) {
            set = 1;

        } else if (wanted == NULL) {
            wanted = right;
            module = modules[i];
        }
    }

    if (set || wanted == NULL
        || (!shown && (conf->self || conf->role || conf->grpc
                       || clcf->handler == NULL)))
    {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "location \"%V\" has routes \"%V\" with "
                  "\"idempotency=\", which need %s (or the like of %s): "
                  "see keygate_proxy_params", &clcf->name,
                  &conf->table->name, wanted, module);

    return NGX_CONF_ERROR;
}


static const char *
ngx_http_keygate_right(const ngx_http_keygate_loc_conf_t *conf,
    const ngx_http_upstream_conf_t *upstream)
{
    if (upstream->next_upstream & NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT) {
        return "\"proxy_next_upstream\" without \"non_idempotent\"";
    }

    if (conf->table->resent
        && !(upstream->next_upstream & NGX_HTTP_UPSTREAM_FT_OFF))
    {
        return "\"proxy_next_upstream off\", since one is of a method that "
               "nginx sends again";
    }

    if (!upstream->ignore_client_abort) {
        return "\"proxy_ignore_client_abort on\"";
    }

#if (NGX_HTTP_CACHE)

    /* A cached answer to a write would be that of another's. */

    if (upstream->cache && (upstream->cache_methods & NGX_HTTP_POST)) {
        return "\"proxy_cache_methods\" without \"POST\"";
    }

#endif

    return NULL;
}


/*
 * image_filter has the same bit of r->buffered as we, and would send what waits
 * for Redis.  Its configuration begins with what it does, 0: nothing.
 */

static char *
ngx_http_keygate_conf_images(ngx_conf_t *cf, ngx_http_keygate_loc_conf_t *conf)
{
    ngx_uint_t                 i, *filter;
    ngx_module_t              *module;
    ngx_http_conf_ctx_t       *ctx;
    ngx_http_core_loc_conf_t  *clcf;

    ctx = cf->ctx;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];

        if (module->type != NGX_HTTP_MODULE
            || ngx_strcmp(module->name, "ngx_http_image_filter_module") != 0)
        {
            continue;
        }

        filter = ctx->loc_conf[module->ctx_index];

        if (*filter == 0 || *filter == NGX_CONF_UNSET_UINT) {
            break;
        }

        clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "location \"%V\" has \"image_filter\" and routes \"%V\" "
                      "with \"idempotency=\": give the images a location with "
                      "other routes, or \"keygate off\"", &clcf->name,
                      &conf->table->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
