
/*
 * Identify: who is calling.  Runs in PREACCESS, before nginx's own limit_conn
 * and limit_req, which may therefore use $keygate_key_id.  It only finds out;
 * ACCESS refuses.
 *
 *     route by method and raw path ─▶ token ─▶ digest ─▶ key's record
 *                                                     ─▶ organisation's record
 *
 * A record comes from the zone when it is fresh, else from Redis.  When Redis
 * cannot be asked an older one serves for keygate_outage keys=stale:, and then
 * the answer is 503: an outage never looks like bad credentials.
 */

#include "ngx_http_keygate.h"


static ngx_int_t ngx_http_keygate_route(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_loc_conf_t *lcf);
static ngx_int_t ngx_http_keygate_find_token(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_loc_conf_t *lcf);
static void ngx_http_keygate_bearer(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_find_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_find_org(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_fetch(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_zone_kind_t kind, ngx_str_t *name);
static void ngx_http_keygate_fetched(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op);
static void ngx_http_keygate_record(ngx_http_keygate_ctx_t *ctx,
    ngx_str_t *json);
static void ngx_http_keygate_unreachable(ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_deny(ngx_http_keygate_ctx_t *ctx,
    kg_error_code_t code, const char *why);
static kg_rc_t ngx_http_keygate_token_check(ngx_http_keygate_main_conf_t *mcf,
    ngx_str_t *token, kg_mode_t *mode);


ngx_int_t
ngx_http_keygate_identify_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_keygate_ctx_t       *ctx;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->mode == NGX_HTTP_KEYGATE_OFF || lcf->role || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keygate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->op) {
        return NGX_AGAIN;
    }

    if (ctx->identified) {
        return NGX_DECLINED;
    }

    if (!ctx->routed) {
        if (ngx_http_keygate_route(r, ctx, lcf) != NGX_OK
            || ngx_http_keygate_find_token(r, ctx, lcf) != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->routed = 1;
    }

    if (ctx->route && ctx->route->public) {
        ctx->identified = 1;
        return NGX_DECLINED;
    }

    rc = ngx_http_keygate_find_key(r, ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_find_org(r, ctx);
    }

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->identified = 1;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "keygate identified key \"%V\" of \"%V\", denied %ui",
                   &ctx->key.id, &ctx->key.org,
                   (ngx_uint_t) ctx->denied);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_keygate_route(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_loc_conf_t *lcf)
{
    u_char            *end;
    ngx_str_t          path;
    const kg_route_t  *route;

    ctx->allow.data = ngx_pnalloc(r->pool, KG_ROUTE_ALLOW_MAX);
    if (ctx->allow.data == NULL) {
        return NGX_ERROR;
    }

    path = r->unparsed_uri;

    end = ngx_strlchr(path.data, path.data + path.len, '?');
    if (end) {
        path.len = end - path.data;
    }

    route = kg_routes_match(lcf->table->routes,
                            ngx_http_keygate_kg(&r->method_name),
                            ngx_http_keygate_kg(&path),
                            ngx_http_keygate_kg(&ctx->allow));

    if (route) {
        ctx->route = route->data;
    }

    return NGX_OK;
}


/* The token, where the configuration says it is; it stays the request's. */

static ngx_int_t
ngx_http_keygate_find_token(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_loc_conf_t *lcf)
{
    ngx_str_t                  value;
    ngx_uint_t                 i;
    ngx_http_complex_value_t  *cv;

    if (lcf->tokens == NULL) {
        ngx_http_keygate_bearer(r, ctx);
        return NGX_OK;
    }

    cv = lcf->tokens->elts;

    for (i = 0; i < lcf->tokens->nelts && !ctx->sent_key; i++) {

        /* keygate_token bearer */

        if (cv[i].value.data == NULL) {
            ngx_http_keygate_bearer(r, ctx);
            continue;
        }

        if (ngx_http_complex_value(r, &cv[i], &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len) {
            ctx->token = value;
            ctx->sent_key = 1;
        }
    }

    return NGX_OK;
}


/* RFC 6750, 2.1: "Bearer" 1*SP b64token, the scheme without case. */

static void
ngx_http_keygate_bearer(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_str_t         value;
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL) {
        return;
    }

    value = h->value;

    if (value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(value.data, (u_char *) "Bearer ",
                           sizeof("Bearer ") - 1)
           != 0)
    {
        return;
    }

    value.data += sizeof("Bearer ") - 1;
    value.len -= sizeof("Bearer ") - 1;

    while (value.len && *value.data == ' ') {
        value.data++;
        value.len--;
    }

    if (value.len) {
        ctx->token = value;
        ctx->sent_key = 1;
    }
}


/*
 * NGX_OK: ctx->key is the caller's usable key.  NGX_DECLINED: ctx->denied says
 * why not.  NGX_AGAIN, NGX_ERROR.
 */

static ngx_int_t
ngx_http_keygate_find_key(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    time_t                          now;
    ngx_int_t                       rc;
    kg_mode_t                       mode;
    ngx_str_t                       name;
    kg_pepper_t                   **peppers;
    ngx_http_keygate_main_conf_t   *mcf;

    if (ctx->found) {
        return NGX_OK;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    if (!ctx->sent_key
        || ngx_http_keygate_token_check(mcf, &ctx->token, &mode) != KG_OK)
    {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }

    peppers = mcf->peppers.elts;

    name.len = KG_DIGEST_LEN;
    name.data = ctx->digest;

    for ( ;; ) {

        if (!ctx->fetched
            && kg_pepper_digest(peppers[ctx->pepper],
                                ngx_http_keygate_kg(&ctx->token), ctx->digest)
               != KG_OK)
        {
            return NGX_ERROR;
        }

        rc = ngx_http_keygate_fetch(r, ctx, KG_ZONE_KEY, &name);

        if (rc != NGX_DECLINED || ctx->denied) {
            break;
        }

        if (++ctx->pepper == mcf->peppers.nelts) {
            return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
        }
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (kg_key_view(ngx_http_keygate_kg(&ctx->entry.packed), &ctx->key)
        != KG_OK)
    {
        ngx_memzero(&ctx->key, sizeof(kg_key_t));
        return NGX_ERROR;
    }

    now = ngx_time();

    if (ctx->key.mode != mode
        || (ctx->key.not_before && ctx->key.not_before > now))
    {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }

    if (ctx->key.revoked_at) {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED,
                                     "The API key has been revoked");
    }

    if (ctx->key.expires_at && ctx->key.expires_at <= now) {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED,
                                     "The API key has expired");
    }

    ctx->found = 1;

    return NGX_OK;
}


/* A key whose organisation has no record has one with no access. */

static ngx_int_t
ngx_http_keygate_find_org(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_fetch(r, ctx, KG_ZONE_ORG,
                                ngx_http_keygate_ngx(&ctx->key.org));

    if (rc == NGX_DECLINED && !ctx->denied) {
        ctx->org.access = KG_ACCESS_NOT_ENABLED;
        return NGX_OK;
    }

    if (rc == NGX_OK
        && kg_org_view(ngx_http_keygate_kg(&ctx->entry.packed), &ctx->org)
           != KG_OK)
    {
        return NGX_ERROR;
    }

    return rc;
}


/*
 * A record into ctx->entry.packed, from the zone or from Redis.  NGX_OK;
 * NGX_DECLINED: there is none, or ctx->denied says why it cannot be had;
 * NGX_AGAIN: Redis was asked, call again; NGX_ERROR.
 */

static ngx_int_t
ngx_http_keygate_fetch(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_zone_kind_t kind, ngx_str_t *name)
{
    ngx_str_t                      argv[2], slot;
    kg_redis_cmd_t                 cmd;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         hex[KG_DIGEST_HEX];

    if (ctx->fetched) {
        ctx->fetched = 0;
        return (ctx->entry.found && !ctx->entry.absent) ? NGX_OK
                                                        : NGX_DECLINED;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    ctx->entry.kind = kind;
    ctx->entry.name = *name;

    if (kg_zone_lookup(mcf->zone, &ctx->entry, ngx_current_msec, r->pool)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->entry.found && ctx->entry.fresh) {
        return ctx->entry.absent ? NGX_DECLINED : NGX_OK;
    }

    if (kind == KG_ZONE_KEY) {
        kg_hex(hex, name->data, KG_DIGEST_LEN);
        slot.len = KG_DIGEST_HEX;
        slot.data = hex;

    } else {
        slot = *name;
    }

    ngx_str_set(&argv[0], "GET");
    argv[1] = ngx_http_keygate_name(r->pool,
                                    mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                    kind == KG_ZONE_KEY ? "key" : "org",
                                    &slot, NULL);
    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = 2;
    cmd.argv = argv;
    cmd.slot = slot;

    return ngx_http_keygate_ask(ctx, NGX_HTTP_KEYGATE_RECORDS, &cmd,
                                ngx_http_keygate_fetched);
}


static void
ngx_http_keygate_fetched(ngx_http_keygate_ctx_t *ctx, kg_redis_op_t *op)
{
    ngx_str_t                      json;
    ngx_http_keygate_main_conf_t  *mcf;

    ctx->fetched = 1;

    if (op->status == KG_REDIS_REPLY
        && kg_redis_is(op->reply, REDIS_REPLY_STRING, 0))
    {
        json.data = (u_char *) op->reply->str;
        json.len = op->reply->len;

        ngx_http_keygate_record(ctx, &json);
        return;
    }

    if (op->status == KG_REDIS_REPLY
        && kg_redis_is(op->reply, REDIS_REPLY_NIL, 0))
    {
        mcf = ngx_http_get_module_main_conf(ctx->request,
                                            ngx_http_keygate_module);

        ctx->entry.found = 1;
        ctx->entry.absent = 1;

        kg_zone_fill(mcf->zone, &ctx->entry, NULL, ngx_current_msec);
        return;
    }

    /* Somebody wrote a value of another type under the record's name. */

    if (op->status == KG_REDIS_REFUSED
        && op->error == KG_REDIS_ERR_WRONGTYPE)
    {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "keygate: a record of %s is not a string in Redis",
                      ctx->entry.kind == KG_ZONE_KEY ? "a key"
                                                     : "an organisation");
        ctx->entry.found = 0;
        (void) ngx_http_keygate_deny(ctx, KG_ERR_INTERNAL_ERROR, NULL);
        return;
    }

    ngx_http_keygate_unreachable(ctx);
}


static void
ngx_http_keygate_record(ngx_http_keygate_ctx_t *ctx, ngx_str_t *json)
{
    size_t                         len;
    kg_rc_t                        rc;
    const char                    *why;
    ngx_str_t                      packed;
    ngx_http_request_t            *r;
    ngx_http_keygate_main_conf_t  *mcf;
    u_char                         buf[KG_RECORD_MAX];

    r = ctx->request;
    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);
    why = "it is too large";

    if (ctx->entry.kind == KG_ZONE_KEY) {
        rc = kg_key_pack(ngx_http_keygate_kg(json), buf, sizeof(buf), &len,
                         &why);
    } else {
        rc = kg_org_pack(ngx_http_keygate_kg(json), buf, sizeof(buf), &len,
                         &why);
    }

    ctx->entry.found = 0;
    ctx->entry.absent = 0;

    if (rc != KG_OK) {
        /* The name of a key's record is its digest, which no log has. */

        if (ctx->entry.kind == KG_ZONE_KEY) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "keygate: a key's record in Redis is not valid: %s",
                          why);
        } else {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "keygate: the record of organisation \"%V\" in "
                          "Redis is not valid: %s", &ctx->entry.name, why);
        }

        (void) ngx_http_keygate_deny(ctx, KG_ERR_INTERNAL_ERROR, NULL);
        return;
    }

    packed.data = ngx_pnalloc(r->pool, len);
    if (packed.data == NULL) {
        (void) ngx_http_keygate_deny(ctx, KG_ERR_INTERNAL_ERROR, NULL);
        return;
    }

    ngx_memcpy(packed.data, buf, len);
    packed.len = len;

    ctx->entry.found = 1;
    ctx->entry.packed = packed;

    kg_zone_fill(mcf->zone, &ctx->entry, &packed, ngx_current_msec);
}


/* What was cached serves on for a while; an absence does not. */

static void
ngx_http_keygate_unreachable(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);

    if (ctx->entry.found && !ctx->entry.absent
        && ctx->entry.age < mcf->valid + mcf->stale)
    {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "keygate uses a record %M ms old", ctx->entry.age);
        return;
    }

    ctx->entry.found = 0;
    ctx->retry_after = 1;
    (void) ngx_http_keygate_deny(ctx, KG_ERR_SERVICE_UNAVAILABLE, NULL);
}


static ngx_int_t
ngx_http_keygate_deny(ngx_http_keygate_ctx_t *ctx, kg_error_code_t code,
    const char *why)
{
    ctx->denied = 1;
    ctx->denial = code;

    if (why) {
        ctx->message.len = ngx_strlen(why);
        ctx->message.data = (u_char *) why;
    }

    return NGX_DECLINED;
}


static kg_rc_t
ngx_http_keygate_token_check(ngx_http_keygate_main_conf_t *mcf,
    ngx_str_t *token, kg_mode_t *mode)
{
    ngx_str_t   *prefixes;
    ngx_uint_t   i;

    prefixes = mcf->prefixes.elts;

    for (i = 0; i < mcf->prefixes.nelts; i++) {
        if (kg_token_check(ngx_http_keygate_kg(token),
                           ngx_http_keygate_kg(&prefixes[i]), mode)
            == KG_OK)
        {
            return KG_OK;
        }
    }

    return KG_INVALID;
}
