
/*
 * The module: directives and wiring only.  What a directive takes is parsed in
 * ngx_http_keygate_conf.c and ngx_http_keygate_routes.c.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static void *ngx_http_keygate_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_keygate_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_keygate_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_keygate_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_keygate_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_keygate_handler(ngx_conf_t *cf,
    ngx_http_phases phase, ngx_http_handler_pt handler);
static ngx_int_t ngx_http_keygate_init_process(ngx_cycle_t *cycle);
static void ngx_http_keygate_exit_process(ngx_cycle_t *cycle);
static void ngx_http_keygate_cleanup(void *data);


static ngx_command_t  ngx_http_keygate_commands[] = {

    { ngx_string("keygate_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_keygate_conf_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1234,
      ngx_http_keygate_conf_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_keys"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_keygate_conf_keys,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_policy"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_keygate_conf_policy,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_plan"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_keygate_conf_plan,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_idempotency"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_keygate_conf_idempotency,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_failures"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_keygate_conf_failures,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_outage"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_keygate_conf_outage,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_routes"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_keygate_conf_routes,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_keygate_conf_keygate,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_keygate_conf_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_token"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_keygate_conf_token,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_realm"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_keygate_conf_realm,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_errors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_keygate_conf_errors,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_keygate_conf_admin,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("keygate_self"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_keygate_conf_self,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_keygate_module_ctx = {
    ngx_http_keygate_variables,            /* preconfiguration */
    ngx_http_keygate_init,                 /* postconfiguration */

    ngx_http_keygate_create_main_conf,     /* create main configuration */
    ngx_http_keygate_init_main_conf,       /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_keygate_create_loc_conf,      /* create location configuration */
    ngx_http_keygate_merge_loc_conf        /* merge location configuration */
};


ngx_module_t  ngx_http_keygate_module = {
    NGX_MODULE_V1,
    &ngx_http_keygate_module_ctx,          /* module context */
    ngx_http_keygate_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_keygate_init_process,         /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_keygate_exit_process,         /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_keygate_create_main_conf(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_keygate_main_conf_t  *mcf;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_main_conf_t));

    if (cln == NULL || mcf == NULL) {
        return NULL;
    }

    mcf->valid = NGX_CONF_UNSET_MSEC;
    mcf->negative = NGX_CONF_UNSET_MSEC;
    mcf->usage_flush = NGX_CONF_UNSET_MSEC;
    mcf->tolerance = NGX_CONF_UNSET_MSEC;
    mcf->stale = NGX_CONF_UNSET_MSEC;
    mcf->outage = NGX_CONF_UNSET_UINT;
    mcf->share = NGX_CONF_UNSET_UINT;

    mcf->eviction = NGX_CONF_UNSET_UINT;

    ngx_http_keygate_conf_idem_init(&mcf->idem);

    if (ngx_array_init(&mcf->prefixes, cf->pool, 2, sizeof(ngx_str_t))
        != NGX_OK
        || ngx_array_init(&mcf->peppers, cf->pool, 2, sizeof(kg_pepper_t *))
           != NGX_OK
        || ngx_array_init(&mcf->policies, cf->pool, 4,
                          sizeof(ngx_http_keygate_policy_t *))
           != NGX_OK
        || ngx_array_init(&mcf->plans, cf->pool, 4,
                          sizeof(ngx_http_keygate_plan_t *))
           != NGX_OK
        || ngx_array_init(&mcf->tables, cf->pool, 2,
                          sizeof(ngx_http_keygate_table_t *))
           != NGX_OK
        || ngx_array_init(&mcf->writes, cf->pool, 8,
                          sizeof(ngx_http_keygate_route_t *))
           != NGX_OK
        || ngx_array_init(&mcf->limits, cf->pool, 8,
                          sizeof(ngx_http_keygate_limit_t *))
           != NGX_OK
        || ngx_array_init(&mcf->uses, cf->pool, 4,
                          sizeof(ngx_http_keygate_use_t))
           != NGX_OK)
    {
        return NULL;
    }

    cln->handler = ngx_http_keygate_cleanup;
    cln->data = mcf;

    return mcf;
}


/* Peppers and route tables are of src/core, which has no pools. */

static void
ngx_http_keygate_cleanup(void *data)
{
    ngx_http_keygate_main_conf_t  *mcf = data;

    ngx_uint_t                  i;
    kg_pepper_t               **peppers;
    ngx_http_keygate_table_t  **tables;

    peppers = mcf->peppers.elts;

    for (i = 0; i < mcf->peppers.nelts; i++) {
        kg_pepper_free(peppers[i]);
    }

    tables = mcf->tables.elts;

    for (i = 0; i < mcf->tables.nelts; i++) {
        kg_routes_free(tables[i]->routes);
    }
}


static char *
ngx_http_keygate_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    ngx_conf_init_msec_value(mcf->valid, 10000);
    ngx_conf_init_msec_value(mcf->negative, 2000);
    ngx_conf_init_msec_value(mcf->usage_flush, 5000);
    ngx_conf_init_msec_value(mcf->tolerance, 0);
    ngx_conf_init_msec_value(mcf->stale, 5 * 60 * 1000);
    ngx_conf_init_uint_value(mcf->outage, NGX_HTTP_KEYGATE_LOCAL);
    ngx_conf_init_uint_value(mcf->share, 25);

    if (mcf->failures.requests == 0) {
        mcf->failures.requests = 120;
        mcf->failures.window = 60;
    }

    if (mcf->lookups.requests == 0) {
        mcf->lookups.requests = 10;
        mcf->lookups.window = 1;
    }

    return ngx_http_keygate_conf_complete(cf, mcf);
}


static void *
ngx_http_keygate_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_loc_conf_t));
    if (lcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc(): table, actor, catalogue, self_limits = NULL,
     * role, self, max_keys = 0
     */

    lcf->mode = NGX_CONF_UNSET_UINT;
    lcf->errors = NGX_CONF_UNSET_UINT;
    lcf->limits = NGX_CONF_UNSET_PTR;
    lcf->legacy = NGX_CONF_UNSET;
    lcf->tokens = NGX_CONF_UNSET_PTR;

    return lcf;
}


static char *
ngx_http_keygate_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_keygate_loc_conf_t  *prev = parent;
    ngx_http_keygate_loc_conf_t  *conf = child;

    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_keygate_main_conf_t  *mcf;

    if (conf->role) {

        /* The calls have bounds of their own, and bodies stay off the disk. */

        clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

        if (clcf->client_max_body_size
            && clcf->client_max_body_size < NGX_HTTP_KEYGATE_ADMIN_MAX)
        {
            clcf->client_max_body_size = NGX_HTTP_KEYGATE_ADMIN_MAX;
        }

        clcf->client_body_buffer_size = ngx_max(clcf->client_body_buffer_size,
                                               NGX_HTTP_KEYGATE_ADMIN_BUFFER);
    }

    if (conf->mode == NGX_CONF_UNSET_UINT) {
        conf->mode = (prev->mode == NGX_CONF_UNSET_UINT)
                     ? NGX_HTTP_KEYGATE_OFF : prev->mode;
        conf->table = prev->table;
    }

    if (conf->errors == NGX_CONF_UNSET_UINT) {
        conf->errors = (prev->errors == NGX_CONF_UNSET_UINT)
                       ? KG_FORMAT_OFF : prev->errors;
        conf->catalogue = prev->catalogue;
    }

    ngx_conf_merge_ptr_value(conf->tokens, prev->tokens, NULL);
    ngx_conf_merge_str_value(conf->realm, prev->realm, "");

    if (conf->self && ngx_http_keygate_conf_self_merge(cf, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->limits == NGX_CONF_UNSET_PTR) {

        if (prev->limits == NGX_CONF_UNSET_PTR) {
            mcf = ngx_http_conf_get_module_main_conf(cf,
                                                     ngx_http_keygate_module);
            prev->limits = mcf->default_limits;
        }

        conf->limits = prev->limits;
        conf->legacy = prev->legacy;
    }

    if ((conf->mode != NGX_HTTP_KEYGATE_OFF || conf->errors)
        && ngx_http_keygate_conf_proxies(cf, "ngx_http_grpc_module"))
    {
        conf->grpc = 1;

        clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "location \"%V\" has \"grpc_pass\": \"keygate_errors\" "
                      "and \"idempotency=\" do not apply there", &clcf->name);
    }

    return ngx_http_keygate_conf_beside(cf, conf);
}


/*
 * nginx runs the handlers of a phase in the reverse order of registration, so
 * the limits, registered last, come before idempotency.
 */

static ngx_int_t
ngx_http_keygate_init(ngx_conf_t *cf)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);

    ngx_http_keygate_filter_init();

    if (!mcf->used) {
        return NGX_OK;
    }

    ngx_http_keygate_fingerprint_init();

    if (ngx_http_keygate_handler(cf, NGX_HTTP_PREACCESS_PHASE,
                                 ngx_http_keygate_identify_handler) != NGX_OK
        || ngx_http_keygate_handler(cf, NGX_HTTP_ACCESS_PHASE,
                                    ngx_http_keygate_access_handler) != NGX_OK
        || ngx_http_keygate_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                    ngx_http_keygate_idempotency_handler)
           != NGX_OK
        || ngx_http_keygate_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                    ngx_http_keygate_limit_handler) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->usage_flush == 0) {
        return NGX_OK;
    }

    return ngx_http_keygate_handler(cf, NGX_HTTP_LOG_PHASE,
                                    ngx_http_keygate_usage_handler);
}


static ngx_int_t
ngx_http_keygate_handler(ngx_conf_t *cf, ngx_http_phases phase,
    ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i, j;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_keygate_module);

    if (mcf == NULL || !mcf->used) {
        return NGX_OK;
    }

    mcf->entropy.left = 0;

    kg_zone_recover(mcf->zone, cycle->log);

    ngx_http_keygate_guess_init(cycle, mcf);

    if (ngx_http_keygate_lookup_init(cycle, mcf) != NGX_OK
        || ngx_http_keygate_limit_init(cycle, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_KEYGATE_USES; i++) {

        /* Uses that share a line share its connections. */

        for (j = 0; j < i && mcf->redis[j] != mcf->redis[i]; j++) {
            /* void */
        }

        mcf->client[i] = (j < i) ? mcf->client[j]
                                 : kg_redis_create(cycle, mcf->redis[i]);

        if (mcf->client[i] == NULL) {
            return NGX_ERROR;
        }
    }

    if (mcf->writes.nelts
        && ngx_http_keygate_guard_init(cycle, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->waits && ngx_http_keygate_durable_init(cycle, mcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_keygate_watch_init(cycle, mcf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_usage_init(cycle, mcf);
}


static void
ngx_http_keygate_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i, j;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_keygate_module);

    if (mcf == NULL || !mcf->used) {
        return;
    }

    ngx_http_keygate_watch_exit(mcf);
    ngx_http_keygate_usage_exit(mcf);
    ngx_http_keygate_durable_exit(mcf);

    for (i = 0; i < NGX_HTTP_KEYGATE_USES; i++) {

        for (j = 0; j < i && mcf->client[j] != mcf->client[i]; j++) {
            /* void */
        }

        if (j == i && mcf->client[i]) {
            kg_redis_destroy(mcf->client[i]);
        }
    }
}
