
/*
 * Variables: who called and what was decided, for logs, for the upstream and
 * for nginx's own modules.
 */

#include "ngx_http_keygate.h"


typedef ngx_str_t (*ngx_http_keygate_value_pt)(ngx_http_keygate_ctx_t *ctx);


static ngx_int_t ngx_http_keygate_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_keygate_variable_request_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_keygate_variable_client_request_id(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_keygate_variable_error(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_keygate_variable_authorization(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_keygate_variable_headers(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_keygate_value(ngx_http_variable_value_t *v,
    ngx_str_t *value);

static ngx_str_t ngx_http_keygate_value_org(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_key_id(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_mode(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_scopes(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_route(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_verdict(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_policy(ngx_http_keygate_ctx_t *ctx);
static ngx_str_t ngx_http_keygate_value_idempotency(
    ngx_http_keygate_ctx_t *ctx);


static const struct {
    ngx_str_t                  name;
    ngx_http_keygate_value_pt  value;
    ngx_uint_t                 identity;
} ngx_http_keygate_vars[] = {
    { ngx_string("keygate_org"), ngx_http_keygate_value_org, 1 },
    { ngx_string("keygate_key_id"), ngx_http_keygate_value_key_id, 1 },
    { ngx_string("keygate_mode"), ngx_http_keygate_value_mode, 1 },
    { ngx_string("keygate_scopes"), ngx_http_keygate_value_scopes, 1 },
    { ngx_string("keygate_route"), ngx_http_keygate_value_route, 0 },
    { ngx_string("keygate_verdict"), ngx_http_keygate_value_verdict, 0 },
    { ngx_string("keygate_policy"), ngx_http_keygate_value_policy, 0 },
    { ngx_string("keygate_idempotency"), ngx_http_keygate_value_idempotency, 0 }
};


ngx_int_t
ngx_http_keygate_variables(ngx_conf_t *cf)
{
    ngx_str_t             name;
    ngx_uint_t            i;
    ngx_http_variable_t  *v;

    for (i = 0; i < sizeof(ngx_http_keygate_vars)
                    / sizeof(ngx_http_keygate_vars[0]); i++)
    {
        name = ngx_http_keygate_vars[i].name;

        v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (v == NULL) {
            return NGX_ERROR;
        }

        v->get_handler = ngx_http_keygate_variable;
        v->data = i;
    }

    ngx_str_set(&name, "keygate_request_id");

    v = ngx_http_add_variable(cf, &name, 0);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_keygate_variable_request_id;

    ngx_str_set(&name, "keygate_client_request_id");

    v = ngx_http_add_variable(cf, &name, 0);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_keygate_variable_client_request_id;

    ngx_str_set(&name, "keygate_error");

    v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_keygate_variable_error;

    ngx_str_set(&name, "keygate_upstream_authorization");

    v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_keygate_variable_authorization;

    ngx_str_set(&name, "keygate_upstream_headers");

    v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = ngx_http_keygate_variable_headers;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t                value;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ngx_http_keygate_ctx(r);

    if (ctx == NULL
        || (ngx_http_keygate_vars[data].identity
            && ngx_http_keygate_hides(r, ctx)))
    {
        v->not_found = 1;
        return NGX_OK;
    }

    value = ngx_http_keygate_vars[data].value(ctx);
    ngx_http_keygate_value(v, &value);

    /* So that a log has "-", as for nginx's own. */

    v->not_found = (value.len == 0);

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_variable_request_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_keygate_ctx_t  *ctx;

    (void) data;

    ctx = ngx_http_keygate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_http_keygate_value(v, &ctx->request_id);

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_variable_client_request_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  value;

    (void) data;

    value = ngx_http_keygate_client_request_id(r);
    ngx_http_keygate_value(v, &value);

    v->not_found = (value.len == 0);

    return NGX_OK;
}


/*
 * The code of the answer, whoever erred, and of what nginx ends without one:
 * for the log, where the same request may have been admitted.
 */

static ngx_int_t
ngx_http_keygate_variable_error(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                value;
    ngx_uint_t               status;
    ngx_http_keygate_ctx_t  *ctx;

    (void) data;

    r = r->main;
    ctx = ngx_http_keygate_ctx(r);
    status = r->err_status ? r->err_status : r->headers_out.status;

    ngx_str_null(&value);

    /* An upstream may have answered with such a status. */

    if (status == NGX_HTTP_CLOSE && !r->header_sent) {
        ngx_str_set(&value, "no_response");

    } else if (status == NGX_HTTP_CLIENT_CLOSED_REQUEST && !r->header_sent) {
        ngx_str_set(&value, "client_closed_request");

    } else if (ctx && ctx->code.len) {
        value = ctx->code;

    } else if (ctx && ctx->error && ctx->error->status == status) {
        value = *ngx_http_keygate_ngx(&ctx->error->code);

    } else if (status >= NGX_HTTP_BAD_REQUEST) {
        value = *ngx_http_keygate_ngx(&kg_error_of_status(status)->code);
    }

    ngx_http_keygate_value(v, &value);

    v->not_found = (value.len == 0);

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_variable_authorization(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  value;

    (void) data;

    value = ngx_http_keygate_upstream_authorization(r);
    ngx_http_keygate_value(v, &value);

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_variable_headers(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  value;

    (void) data;

    if (ngx_http_keygate_upstream_headers(r, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_keygate_value(v, &value);

    return NGX_OK;
}


static void
ngx_http_keygate_value(ngx_http_variable_value_t *v, ngx_str_t *value)
{
    v->len = value->len;
    v->data = value->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}


static ngx_str_t
ngx_http_keygate_value_org(ngx_http_keygate_ctx_t *ctx)
{
    return *ngx_http_keygate_ngx(&ctx->key.org);
}


static ngx_str_t
ngx_http_keygate_value_key_id(ngx_http_keygate_ctx_t *ctx)
{
    return *ngx_http_keygate_ngx(&ctx->key.id);
}


static ngx_str_t
ngx_http_keygate_value_mode(ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t  none = ngx_null_string;

    if (ctx->key.id.len == 0) {
        return none;
    }

    return *ngx_http_keygate_ngx(kg_mode_name(ctx->key.mode));
}


static ngx_str_t
ngx_http_keygate_value_scopes(ngx_http_keygate_ctx_t *ctx)
{
    return *ngx_http_keygate_ngx(&ctx->key.scopes);
}


static ngx_str_t
ngx_http_keygate_value_route(ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t  none = ngx_null_string;

    return ctx->route ? ctx->route->name : none;
}


static ngx_str_t
ngx_http_keygate_value_verdict(ngx_http_keygate_ctx_t *ctx)
{
    return ctx->verdict;
}


static ngx_str_t
ngx_http_keygate_value_policy(ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t  none = ngx_null_string;

    return ctx->policy ? ctx->policy->name : none;
}


static ngx_str_t
ngx_http_keygate_value_idempotency(ngx_http_keygate_ctx_t *ctx)
{
    return ctx->outcome;
}
