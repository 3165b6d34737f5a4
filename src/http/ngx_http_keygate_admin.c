
/*
 * The admin interface: JSON calls that manage organisations and keys, in a
 * location with keygate_admin.  Here is which calls there are, who may make
 * them, and how a table of calls is served; what they do is in the files
 * beside.
 */

#include "ngx_http_keygate_admin_calls.h"


#define NGX_HTTP_KEYGATE_ADMIN_ALLOW_MAX  64
#define NGX_HTTP_KEYGATE_ADMIN_POOL       16384


static ngx_int_t ngx_http_keygate_admin_enter(
    ngx_http_keygate_admin_t *admin);
static ngx_http_keygate_admin_t *ngx_http_keygate_admin_create(
    ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx);
static void ngx_http_keygate_admin_cleanup(void *data);
static ngx_str_t ngx_http_keygate_admin_raw(ngx_http_request_t *r);
static ngx_str_t ngx_http_keygate_admin_path(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_admin_route(ngx_http_keygate_admin_t *admin,
    ngx_str_t *path);
static ngx_uint_t ngx_http_keygate_admin_match(ngx_http_keygate_admin_t *admin,
    const char *pattern, ngx_str_t *path);
static ngx_int_t ngx_http_keygate_admin_wrong_method(
    ngx_http_keygate_admin_t *admin, ngx_str_t *path);
static void ngx_http_keygate_admin_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_admin_run(ngx_http_keygate_admin_t *admin);


static const ngx_http_keygate_admin_call_t  ngx_http_keygate_admin_calls[] = {

    { "GET", "orgs", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_org_list },

    { "GET", "orgs/:", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_org_get },

    { "PUT", "orgs/:", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "org.set",
      ngx_http_keygate_admin_org_put },

    { "PATCH", "orgs/:", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "org.set",
      ngx_http_keygate_admin_org_patch },

    { "DELETE", "orgs/:", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, "org.delete",
      ngx_http_keygate_admin_org_delete },

    { "GET", "orgs/:/keys", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_key_list },

    { "POST", "orgs/:/keys", NGX_HTTP_KEYGATE_ROLE_PORTAL,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.create",
      ngx_http_keygate_admin_key_create },

    { "POST", "orgs/:/keys/import", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.import",
      ngx_http_keygate_admin_key_import },

    { "POST", "keys/find", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_SECRET, NULL,
      ngx_http_keygate_admin_key_find },

    { "GET", "keys/:", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_key_get },

    { "PATCH", "keys/:", NGX_HTTP_KEYGATE_ROLE_PORTAL,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.set",
      ngx_http_keygate_admin_key_patch },

    { "DELETE", "keys/:", NGX_HTTP_KEYGATE_ROLE_PORTAL,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, "key.revoke",
      ngx_http_keygate_admin_key_revoke },

    { "POST", "keys/:/rotate", NGX_HTTP_KEYGATE_ROLE_PORTAL,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.rotate",
      ngx_http_keygate_admin_key_rotate },

    { "GET", "keys/:/usage", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_usage },

    { "GET", "orgs/:/idempotency/:", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_claim_get },

    { "GET", "orgs/:/idempotency/:/:", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_claim_get },

    { "DELETE", "orgs/:/idempotency/:", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, "idempotency.resolve",
      ngx_http_keygate_admin_claim_resolve },

    { "DELETE", "orgs/:/idempotency/:/:", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, "idempotency.resolve",
      ngx_http_keygate_admin_claim_resolve },

    { "GET", "peppers", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_peppers },

    { "GET", "audit", NGX_HTTP_KEYGATE_ROLE_READ,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_audit_get },

    { "GET", "export", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_export },

    { "POST", "import", NGX_HTTP_KEYGATE_ROLE_OPERATOR,
      NGX_HTTP_KEYGATE_ADMIN_LINES, "import",
      ngx_http_keygate_admin_import },

    { NULL, NULL, 0, NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL, NULL }
};


ngx_int_t
ngx_http_keygate_admin_handler(ngx_http_request_t *r)
{
    return ngx_http_keygate_admin_serve(r, ngx_http_keygate_admin_calls,
                                        ngx_http_keygate_admin_enter);
}


static ngx_int_t
ngx_http_keygate_admin_enter(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                     rc;
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  reason = ngx_string("{\"reason\":\"role\"}");

    lcf = ngx_http_get_module_loc_conf(admin->request,
                                       ngx_http_keygate_module);
    admin->role = lcf->role;

    if (admin->role < admin->call->role) {
        ngx_str_set(&admin->ctx->message,
                    "The role of this address does not allow this");
        return ngx_http_keygate_refuse(admin->request, admin->ctx,
                                       KG_ERR_FORBIDDEN, &reason);
    }

    if (admin->call->action == NULL) {
        return NGX_OK;
    }

    rc = ngx_http_keygate_admin_from_here(admin);

    return (rc == NGX_OK) ? ngx_http_keygate_admin_who(admin) : rc;
}


ngx_int_t
ngx_http_keygate_admin_serve(ngx_http_request_t *r,
    const ngx_http_keygate_admin_call_t *calls,
    ngx_http_keygate_admin_pt enter)
{
    ngx_int_t                  rc;
    ngx_str_t                  path;
    ngx_http_keygate_ctx_t    *ctx;
    ngx_http_keygate_admin_t  *admin;

    /* A mirror or an include of a page must not change who has access. */

    if (r != r->main) {
        return NGX_HTTP_NOT_FOUND;
    }

    ctx = ngx_http_keygate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin = ngx_http_keygate_admin_create(r, ctx);
    if (admin == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin->calls = calls;

    path = ngx_http_keygate_admin_path(r);

    rc = ngx_http_keygate_admin_route(admin, &path);

    if (rc == NGX_OK) {
        rc = enter(admin);
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (admin->call->body != NGX_HTTP_KEYGATE_ADMIN_NO_BODY) {

        rc = ngx_http_read_client_request_body(r,
                                        ngx_http_keygate_admin_body_handler);

        return (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? rc : NGX_DONE;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    r->main->count++;

    ngx_http_keygate_admin_finish(admin, ngx_http_keygate_admin_run(admin));

    return NGX_DONE;
}


void
ngx_http_keygate_admin_finish(ngx_http_keygate_admin_t *admin, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = admin->request;

    if (rc == NGX_AGAIN) {
        return;
    }

    if (!admin->noted && (admin->changed || admin->unsure)) {
        ngx_http_keygate_admin_audit_broken(admin, admin->changed ? "partial"
                                                                  : "unknown");
    }

    /* A retry must not make another key beside one that nobody has. */

    if (admin->self) {
        admin->ctx->executed = (admin->changed || admin->unsure);
    }

    /* What breaks off in the midst of its answer ends the connection. */

    if (r->header_sent) {
        rc = (rc >= NGX_HTTP_SPECIAL_RESPONSE) ? NGX_ERROR : rc;

    } else if (rc == NGX_ERROR) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_finalize_request(r, rc);
}


ngx_http_keygate_admin_t *
ngx_http_keygate_admin_of(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = r->pool->cleanup;
         cln->handler != ngx_http_keygate_admin_cleanup;
         cln = cln->next)
    {
        /* void */
    }

    return cln->data;
}


ngx_int_t
ngx_http_keygate_admin_turn(ngx_http_keygate_admin_t *admin)
{
    if (admin->turned) {
        ngx_destroy_pool(admin->turned);
    }

    admin->turned = ngx_create_pool(NGX_HTTP_KEYGATE_ADMIN_POOL,
                                    admin->request->connection->log);

    admin->pool = admin->turned ? admin->turned : admin->request->pool;

    return admin->turned ? NGX_OK : NGX_ERROR;
}


static ngx_http_keygate_admin_t *
ngx_http_keygate_admin_create(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_keygate_admin_t  *admin;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_keygate_admin_t));
    if (cln == NULL) {
        return NULL;
    }

    admin = cln->data;
    ngx_memzero(admin, sizeof(ngx_http_keygate_admin_t));

    cln->handler = ngx_http_keygate_admin_cleanup;

    admin->request = r;
    admin->pool = r->pool;
    admin->ctx = ctx;
    admin->mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    return admin;
}


static void
ngx_http_keygate_admin_cleanup(void *data)
{
    ngx_http_keygate_admin_t  *admin = data;

    ngx_http_keygate_admin_part_t  *part;

    if (admin->op) {
        kg_redis_abandon(admin->op);
    }

    if (admin->audit) {
        kg_redis_abandon(admin->audit);
    }

    for (part = admin->parts; part; part = part->next) {
        if (part->op) {
            kg_redis_abandon(part->op);
        }
    }

    if (admin->later.posted) {
        ngx_delete_posted_event(&admin->later);
    }

    json_decref(admin->body);
    json_decref(admin->record);
    json_decref(admin->before);
    json_decref(admin->made);

    if (admin->token.len) {
        ngx_explicit_memzero(admin->token.data, admin->token.len);
    }

    if (admin->turned) {
        ngx_destroy_pool(admin->turned);
    }
}


/*
 * The path as it was sent, when it ends in "idempotency/MODE/KEY", else empty.
 * nginx's own has "%2F" decoded and dot segments resolved, so that a partner's
 * key "../.." would make another call of this one.
 */

static ngx_str_t
ngx_http_keygate_admin_raw(ngx_http_request_t *r)
{
    u_char      *p, *slash[3];
    ngx_str_t    path, part;
    ngx_uint_t   n;

    static ngx_str_t  name = ngx_string("idempotency");

    path = r->unparsed_uri;

    p = ngx_strlchr(path.data, path.data + path.len, '?');
    if (p) {
        path.len = p - path.data;
    }

    n = 0;

    for (p = path.data + path.len; p > path.data && n < 3; p--) {
        if (p[-1] == '/') {
            slash[n++] = p - 1;
        }
    }

    if (n == 3) {
        part.data = slash[2] + 1;
        part.len = slash[1] - part.data;

        if (part.len == name.len
            && ngx_memcmp(part.data, name.data, name.len) == 0)
        {
            return path;
        }
    }

    ngx_str_null(&path);

    return path;
}


/*
 * What follows the location's prefix, without slashes before it.  "location
 * /admin" also gets /administrator, which is none of its paths and stays as it
 * is: no call begins with a slash.
 */

static ngx_str_t
ngx_http_keygate_admin_path(ngx_http_request_t *r)
{
    ngx_str_t                  path;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    path = ngx_http_keygate_admin_raw(r);

    if (path.len == 0) {
        path = r->uri;
    }

    if (clcf->name.len
        && clcf->name.len <= path.len
        && ngx_strncmp(path.data, clcf->name.data, clcf->name.len) == 0)
    {
        path.data += clcf->name.len;
        path.len -= clcf->name.len;

        if (path.len && *path.data != '/' && path.data[-1] != '/') {
            return r->uri;
        }
    }

    while (path.len && *path.data == '/') {
        path.data++;
        path.len--;
    }

    return path;
}


/* NGX_OK and admin->call, or the status of the refusal. */

static ngx_int_t
ngx_http_keygate_admin_route(ngx_http_keygate_admin_t *admin, ngx_str_t *path)
{
    ngx_str_t                             method;
    ngx_http_request_t                   *r;
    const ngx_http_keygate_admin_call_t  *call;

    static ngx_str_t  get = ngx_string("GET");

    r = admin->request;
    method = (r->method == NGX_HTTP_HEAD) ? get : r->method_name;

    for (call = admin->calls; call->method; call++) {

        if (ngx_strlen(call->method) == method.len
            && ngx_strncmp(call->method, method.data, method.len) == 0
            && ngx_http_keygate_admin_match(admin, call->path, path))
        {
            break;
        }
    }

    if (call->method == NULL) {
        return ngx_http_keygate_admin_wrong_method(admin, path);
    }

    admin->call = call;

    return NGX_OK;
}


/* 1 when the path is the pattern's, with what stands for ":" as parameters. */

static ngx_uint_t
ngx_http_keygate_admin_match(ngx_http_keygate_admin_t *admin,
    const char *pattern, ngx_str_t *path)
{
    u_char     *p, *end;
    ngx_str_t  *param;

    p = path->data;
    end = path->data + path->len;
    admin->nparams = 0;

    for ( /* void */ ; *pattern; pattern++) {

        if (*pattern != ':') {
            if (p == end || *p++ != (u_char) *pattern) {
                return 0;
            }

            continue;
        }

        param = &admin->param[admin->nparams++];
        param->data = p;

        while (p < end && *p != '/') {
            p++;
        }

        param->len = p - param->data;

        if (param->len == 0) {
            return 0;
        }
    }

    return p == end;
}


/* 405 with the methods that the path has, or 404 when it has none. */

static ngx_int_t
ngx_http_keygate_admin_wrong_method(ngx_http_keygate_admin_t *admin,
    ngx_str_t *path)
{
    u_char                               *p, *last;
    ngx_str_t                             allow;
    ngx_http_request_t                   *r;
    const ngx_http_keygate_admin_call_t  *call;

    r = admin->request;

    allow.data = ngx_pnalloc(r->pool, NGX_HTTP_KEYGATE_ADMIN_ALLOW_MAX);
    if (allow.data == NULL) {
        return NGX_ERROR;
    }

    p = allow.data;
    last = allow.data + NGX_HTTP_KEYGATE_ADMIN_ALLOW_MAX;

    for (call = admin->calls; call->method; call++) {

        if (ngx_http_keygate_admin_match(admin, call->path, path)) {
            p = ngx_slprintf(p, last, "%s%s%s",
                             p == allow.data ? "" : ", ", call->method,
                             ngx_strcmp(call->method, "GET") == 0
                             ? ", HEAD" : "");
        }
    }

    allow.len = p - allow.data;

    if (allow.len == 0) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_NOT_FOUND, NULL,
                                             "There is no such call");
    }

    admin->ctx->allow = allow;

    return ngx_http_keygate_refuse(r, admin->ctx, KG_ERR_METHOD_NOT_ALLOWED,
                                   NULL);
}


static void
ngx_http_keygate_admin_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_keygate_admin_t  *admin;

    admin = ngx_http_keygate_admin_of(r);

    rc = ngx_http_keygate_admin_read_body(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_run(admin);
    }

    ngx_http_keygate_admin_finish(admin, rc);
}


static ngx_int_t
ngx_http_keygate_admin_run(ngx_http_keygate_admin_t *admin)
{
    return admin->prepare ? admin->prepare(admin) : admin->call->handler(admin);
}
