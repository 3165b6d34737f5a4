
/*
 * keygate_routes NAME { ... }: a table of the routes partners may call.
 *
 *     METHOD PATH SCOPE|public [limit=[+]NAME[,NAME...]|off]
 *                              [idempotency=required|optional [OPTION ...]];
 *     include FILE;
 */

#include "ngx_http_keygate.h"


static char *ngx_http_keygate_route_line(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf);
static char *ngx_http_keygate_route_cost(ngx_conf_t *cf,
    ngx_http_keygate_route_t *route, ngx_str_t *value);
static char *ngx_http_keygate_route_limit(ngx_conf_t *cf,
    ngx_http_keygate_route_t *route, ngx_str_t *value);
static char *ngx_http_keygate_route_idempotency(ngx_conf_t *cf,
    ngx_http_keygate_route_t *route, ngx_str_t *option);


char *
ngx_http_keygate_conf_routes(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t *mcf = conf;

    char                       *rv;
    ngx_str_t                  *value;
    ngx_conf_t                  save;
    ngx_http_keygate_table_t   *table, **where;

    (void) cmd;

    value = cf->args->elts;

    if (!kg_policy_name_valid(ngx_http_keygate_kg(&value[1]))
        || ngx_strcmp(value[1].data, "off") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of routes: it must be "
                           "[a-z0-9_-]{1,32} and not \"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_keygate_table(mcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate routes \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    table = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_table_t));
    where = ngx_array_push(&mcf->tables);

    if (table == NULL || where == NULL) {
        return NGX_CONF_ERROR;
    }

    *where = table;

    table->name = value[1];
    table->routes = kg_routes_create();

    if (table->routes == NULL) {
        return NGX_CONF_ERROR;
    }

    save = *cf;
    cf->handler = ngx_http_keygate_route_line;
    cf->handler_conf = (char *) table;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (table->nroutes == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no route in routes \"%V\": write one as "
                           "\"GET /v1/loads loads:read;\"", &table->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_route_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    u_char                    *p;
    char                      *rv;
    kg_rc_t                    rc;
    ngx_str_t                 *value, *option;
    ngx_int_t                  taken;
    ngx_uint_t                 i;
    const char                *why;
    ngx_http_keygate_route_t  *route;
    ngx_http_keygate_table_t  *table;

    ngx_http_keygate_limit_t     **limits;
    ngx_http_keygate_idem_conf_t   idem;

    table = conf;
    value = cf->args->elts;

    if (ngx_strcmp(value[0].data, "include") == 0) {
        if (cf->args->nelts != 2) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"include\": "
                               "write \"include FILE;\"");
            return NGX_CONF_ERROR;
        }

        return ngx_conf_include(cf, dummy, conf);
    }

    if (cf->args->nelts < 3) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid route: write it as "
                           "\"METHOD PATH SCOPE [limit=NAME] "
                           "[idempotency=required];\" or "
                           "\"METHOD PATH public;\"");
        return NGX_CONF_ERROR;
    }

    route = ngx_pcalloc(cf->pool, sizeof(ngx_http_keygate_route_t));
    if (route == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_strcmp(value[2].data, "public") == 0) {
        route->public = 1;

    } else if (ngx_strcmp(value[2].data, "any_key") == 0) {
        route->any_key = 1;

    } else if (kg_scope_valid(ngx_http_keygate_kg(&value[2]))
               && ngx_strlchr(value[2].data, value[2].data + value[2].len, '*')
                  == NULL)
    {
        route->scope = *ngx_http_keygate_kg(&value[2]);

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid scope \"%V\": it must be \"public\", "
                           "\"any_key\", or of [a-z0-9_.:-], as "
                           "\"loads:read\"", &value[2]);
        return NGX_CONF_ERROR;
    }

    route->file = cf->conf_file->file.name.data;
    route->line = cf->conf_file->line;

    option = NULL;
    ngx_http_keygate_conf_idem_init(&idem);

    for (i = 3; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "limit=", 6) == 0) {
            rv = ngx_http_keygate_route_limit(cf, route, &value[i]);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "cost=")) {
            rv = ngx_http_keygate_route_cost(cf, route, &value[i]);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "idempotency=")) {
            rv = ngx_http_keygate_route_idempotency(cf, route, &value[i]);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        taken = ngx_http_keygate_conf_idem(cf, &idem, &value[i]);

        if (taken == NGX_OK) {
            option = &value[i];
            continue;
        }

        if (taken == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of a route: it must "
                               "be \"limit=\", \"cost=\", "
                               "\"idempotency=required\", "
                               "\"idempotency=optional\", or what "
                               "\"keygate_idempotency\" has for routes",
                               &value[i]);
        }

        return NGX_CONF_ERROR;
    }

    if (option && route->idem == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is for routes with \"idempotency=\"",
                           option);
        return NGX_CONF_ERROR;
    }

    if (route->public
        && (route->idem || route->limit_set || route->cost))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a public route knows no caller, so it can have "
                           "none of \"limit=\", \"cost=\" and "
                           "\"idempotency=\"");
        return NGX_CONF_ERROR;
    }

    if (route->limit_set && route->limits == NULL && route->cost) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"cost=\" is for routes with a policy, not with "
                           "\"limit=off\"");
        return NGX_CONF_ERROR;
    }

    if (route->cost == 0) {
        route->cost = 1;
    }

    limits = route->limits ? route->limits->elts : NULL;

    for (i = 0; limits && i < route->limits->nelts; i++) {
        limits[i]->cost = route->cost;
    }

    if (route->idem
        && (ngx_strcmp(value[0].data, "GET") == 0
            || ngx_strcmp(value[0].data, "HEAD") == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"idempotency=\" is for writes, not for \"%V\"",
                           &value[0]);
        return NGX_CONF_ERROR;
    }

    if (route->idem) {
        *route->idem = idem;
    }

    route->name.len = value[0].len + 1 + value[1].len;
    route->name.data = ngx_pnalloc(cf->pool, route->name.len);

    if (route->name.data == NULL) {
        return NGX_CONF_ERROR;
    }

    p = ngx_cpymem(route->name.data, value[0].data, value[0].len);
    *p++ = ' ';
    ngx_memcpy(p, value[1].data, value[1].len);

    rc = kg_routes_add(table->routes, ngx_http_keygate_kg(&value[0]),
                       ngx_http_keygate_kg(&value[1]), route, &why);

    if (rc == KG_INVALID) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid route \"%V\": %s",
                           &route->name, why);
    }

    if (rc != KG_OK) {
        return NGX_CONF_ERROR;
    }

    table->nroutes++;

    if (route->idem) {
        table->idempotent = 1;

        if (ngx_strcmp(value[0].data, "POST") != 0
            && ngx_strcmp(value[0].data, "PATCH") != 0)
        {
            table->resent = 1;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_route_cost(ngx_conf_t *cf, ngx_http_keygate_route_t *route,
    ngx_str_t *value)
{
    ngx_int_t  cost;

    if (route->cost) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"cost=\" of a route");
        return NGX_CONF_ERROR;
    }

    cost = ngx_atoi(value->data + sizeof("cost=") - 1,
                    value->len - (sizeof("cost=") - 1));

    if (cost < 1 || cost > NGX_HTTP_KEYGATE_COST_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": it must be a number from 1 to %d, "
                           "as \"cost=5\"", value, NGX_HTTP_KEYGATE_COST_MAX);
        return NGX_CONF_ERROR;
    }

    route->cost = (uint32_t) cost;

    return NGX_CONF_OK;
}


static char *
ngx_http_keygate_route_idempotency(ngx_conf_t *cf,
    ngx_http_keygate_route_t *route, ngx_str_t *option)
{
    ngx_http_keygate_route_t      **write;
    ngx_http_keygate_main_conf_t   *mcf;

    if (ngx_strcmp(option->data, "idempotency=optional") == 0) {
        route->optional = 1;

    } else if (ngx_strcmp(option->data, "idempotency=required") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" of a route: it must be "
                           "\"idempotency=required\" or "
                           "\"idempotency=optional\"", option);
        return NGX_CONF_ERROR;
    }

    if (route->idem) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"idempotency=\" of a route");
        return NGX_CONF_ERROR;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_keygate_module);

    route->idem = ngx_palloc(cf->pool, sizeof(ngx_http_keygate_idem_conf_t));
    write = ngx_array_push(&mcf->writes);

    if (route->idem == NULL || write == NULL) {
        return NGX_CONF_ERROR;
    }

    *write = route;

    return NGX_CONF_OK;
}


/* limit=poll in place of the location's, limit=+poll besides them. */

static char *
ngx_http_keygate_route_limit(ngx_conf_t *cf, ngx_http_keygate_route_t *route,
    ngx_str_t *value)
{
    u_char     *p, *end, *comma;
    ngx_str_t   name;

    if (route->limit_set) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate \"limit=\" of a route: separate the "
                           "names by commas, as \"limit=+poll,daily\"");
        return NGX_CONF_ERROR;
    }

    route->limit_set = 1;

    p = value->data + sizeof("limit=") - 1;
    end = value->data + value->len;

    if (ngx_strcmp(p, "off") == 0) {
        return NGX_CONF_OK;
    }

    if (p < end && *p == '+') {
        route->limit_add = 1;
        p++;
    }

    for ( ;; ) {
        comma = ngx_strlchr(p, end, ',');

        name.data = p;
        name.len = (comma ? comma : end) - p;

        if (ngx_http_keygate_conf_limit_add(cf, &route->limits, &name)
            == NULL)
        {
            return NGX_CONF_ERROR;
        }

        if (comma == NULL) {
            return NGX_CONF_OK;
        }

        p = comma + 1;
    }
}


ngx_http_keygate_table_t *
ngx_http_keygate_table(ngx_http_keygate_main_conf_t *mcf,
    const ngx_str_t *name)
{
    ngx_uint_t                  i;
    ngx_http_keygate_table_t  **tables;

    tables = mcf->tables.elts;

    for (i = 0; i < mcf->tables.nelts; i++) {
        if (tables[i]->name.len == name->len
            && ngx_memcmp(tables[i]->name.data, name->data, name->len) == 0)
        {
            return tables[i];
        }
    }

    return NULL;
}
