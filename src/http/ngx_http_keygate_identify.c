
/*
 * Identify: who is calling.  Runs in PREACCESS, before nginx's own limit_conn
 * and limit_req, which may therefore use $keygate_key_id.  It only finds out;
 * ACCESS refuses.
 *
 *     route by method and raw path ─▶ token ─▶ digest ─▶ key's record
 *                                                     ─▶ organisation's record
 *
 * A token's checksum is looked at only when the zone has no record of it: that
 * it spares Redis is all it is for.
 *
 * Where the records come from is ngx_http_keygate_lookup.c.
 */

#include "ngx_http_keygate.h"


/* The longest token of before Keygate that is looked up, bytes. */
#define NGX_HTTP_KEYGATE_LEGACY_MAX  512


static void ngx_http_keygate_redirected(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_refused_page(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_route(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_loc_conf_t *lcf);
static ngx_int_t ngx_http_keygate_find_token(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_loc_conf_t *lcf);
static void ngx_http_keygate_hide_token(ngx_http_request_t *r,
    const ngx_str_t *token);
static void ngx_http_keygate_bearer(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_find_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_want_key(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_http_keygate_main_conf_t *mcf);
static ngx_int_t ngx_http_keygate_find_org(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static ngx_int_t ngx_http_keygate_unknown(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);
static kg_rc_t ngx_http_keygate_token_shape(ngx_http_keygate_main_conf_t *mcf,
    ngx_str_t *token, kg_mode_t *mode);
static ngx_uint_t ngx_http_keygate_maybe_legacy(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf);


ngx_int_t
ngx_http_keygate_identify_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_keygate_ctx_t       *ctx;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (r->internal && r == r->main) {
        ngx_http_keygate_redirected(r);
    }

    if (lcf->mode == NGX_HTTP_KEYGATE_OFF || lcf->role || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_keygate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_keygate_page(r, ctx)) {
        return ngx_http_keygate_refused_page(r, ctx);
    }

    if (ctx->waits) {
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


/*
 * nginx keeps no trace of "error_page 502 = @backup" under
 * recursive_error_pages.  But phases run once more after a refusal, or after an
 * upstream that did not ask for it, only for a page.
 */

static void
ngx_http_keygate_redirected(ngx_http_request_t *r)
{
    ngx_http_upstream_t     *u;
    ngx_http_keygate_ctx_t  *ctx;

    ctx = ngx_http_keygate_ctx(r);

    if (ctx == NULL) {
        return;
    }

    u = r->upstream;

    if (ctx->error || (u && u->headers_in.x_accel_redirect == NULL)) {
        ctx->page = 1;
        return;
    }

    /*
     * Nor did it where X-Accel-Redirect is ignored, or came with an error that
     * is intercepted; the latter may be followed all the same, by which who is
     * not decided must not become a page.
     */

    if (u && ctx->admitted
        && ((u->conf->ignore_headers & NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT)
            || (u->conf->intercept_errors
                && u->headers_in.status_n >= NGX_HTTP_SPECIAL_RESPONSE)))
    {
        ctx->page = 1;
    }
}


/*
 * A page for a refusal of ours may say what it likes.  A named location is no
 * page: it keeps path, method and body, so that "error_page 404 = @app" would
 * hand over to an upstream what the gate refused, whatever status its answer
 * then has.
 */

static ngx_int_t
ngx_http_keygate_refused_page(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (ctx->error == NULL || !ngx_http_keygate_hands_on(r)) {
        return NGX_DECLINED;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "keygate: error_page would pass a refused request on to "
                  "\"%V\": it stays refused", &clcf->name);

    /* Under recursive_error_pages nginx would come back with it. */

    r->error_page = 1;

    return ctx->error->status;
}


static ngx_int_t
ngx_http_keygate_route(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_loc_conf_t *lcf)
{
    u_char            *end;
    ngx_str_t          path, allow;
    const kg_route_t  *route;
    u_char             methods[KG_ROUTE_ALLOW_MAX];

    path = r->unparsed_uri;
    allow.data = methods;

    end = ngx_strlchr(path.data, path.data + path.len, '?');
    if (end) {
        path.len = end - path.data;
    }

    route = kg_routes_match(lcf->table->routes,
                            ngx_http_keygate_kg(&r->method_name),
                            ngx_http_keygate_kg(&path),
                            ngx_http_keygate_kg(&allow));

    if (route) {
        ctx->route = route->data;
        return NGX_OK;
    }

    if (allow.len) {
        ctx->allow.data = ngx_pstrdup(r->pool, &allow);
        if (ctx->allow.data == NULL) {
            return NGX_ERROR;
        }

        ctx->allow.len = allow.len;
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

            if (lcf->mode == NGX_HTTP_KEYGATE_ON) {
                ngx_http_keygate_hide_token(r, &value);
            }
        }
    }

    return NGX_OK;
}


/*
 * The header that holds nothing but the key goes on without it, wherever the
 * configuration proxies to; Authorization is for keygate_proxy_params.
 */

static void
ngx_http_keygate_hide_token(ngx_http_request_t *r, const ngx_str_t *token)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->value.len == token->len
            && ngx_memcmp(h->value.data, token->data, token->len) == 0)
        {
            h->value.len = 0;
        }
    }
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

    if (value.len < sizeof("Bearer ") - 1) {
        return;
    }

    /* Nearly all write it so, which costs two instructions. */

    if (ngx_memcmp(value.data, "Bearer ", sizeof("Bearer ") - 1) != 0
        && ngx_strncasecmp(value.data, (u_char *) "Bearer ",
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
    ngx_int_t                      rc;
    kg_mode_t                      mode;
    ngx_http_keygate_main_conf_t  *mcf;

    if (ctx->found) {
        return NGX_OK;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    mode = KG_MODE_TEST;

    if (!ctx->sent_key) {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }

    if (!ctx->legacy
        && ngx_http_keygate_token_shape(mcf, &ctx->token, &mode) != KG_OK
        && !ngx_http_keygate_maybe_legacy(ctx, mcf))
    {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }

    for ( ;; ) {

        rc = ctx->fetched ? NGX_OK : ngx_http_keygate_want_key(r, ctx, mcf);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        /* What the zone knows is sound; of what is not nobody is asked. */

        if (rc == NGX_DECLINED && !ctx->legacy
            && !kg_token_sound(ngx_http_keygate_kg(&ctx->token)))
        {
            if (!ngx_http_keygate_maybe_legacy(ctx, mcf)) {
                return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
            }

            ctx->nwanted = 0;
            continue;
        }

        rc = ngx_http_keygate_fetch(r, ctx);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc != NGX_DECLINED || ctx->denied) {
            ngx_http_keygate_guess_end(ctx, 0);
            break;
        }

        if (ctx->legacy || ctx->pepper == mcf->peppers.nelts) {
            return ngx_http_keygate_unknown(r, ctx);
        }
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (kg_key_view(ngx_http_keygate_kg(&ctx->packed), &ctx->key) != KG_OK) {
        ngx_memzero(&ctx->key, sizeof(kg_key_t));
        return NGX_ERROR;
    }

    /* A token of ours says its mode itself; any other has its record's. */

    if (!ctx->legacy && ctx->key.mode != mode) {
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }

    rc = ngx_http_keygate_key_valid(ctx);

    if (rc == NGX_OK) {
        ctx->found = 1;
    }

    return rc;
}


ngx_int_t
ngx_http_keygate_key_valid(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_keygate_module);

    switch (kg_key_validity(&ctx->key, ngx_time(), mcf->tolerance / 1000)) {

    case KG_KEY_VALID:
        return NGX_OK;

    case KG_KEY_REVOKED:
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED,
                                     "The API key has been revoked");

    case KG_KEY_EXPIRED:
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED,
                                     "The API key has expired");

    default: /* KG_KEY_NOT_YET */
        return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
    }
}


/*
 * Wants the records the key may have: under each pepper that was not tried, in
 * their order, up to one that the zone has.  NGX_OK: it has; NGX_DECLINED: it
 * has none; NGX_ERROR.
 */

static ngx_int_t
ngx_http_keygate_want_key(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_int_t  rc;
    ngx_str_t  name;

    name.len = KG_DIGEST_LEN;
    name.data = ctx->digest;

    do {
        if (ngx_http_keygate_digest(r, ctx) != KG_OK) {
            return NGX_ERROR;
        }

        rc = ngx_http_keygate_want(r, ctx, KG_ZONE_KEY, &name);

        ctx->pepper++;

    } while (rc == NGX_DECLINED && !ctx->legacy
             && ctx->pepper < mcf->peppers.nelts);

    return rc;
}


/* A key whose organisation has no record has one with no access. */

static ngx_int_t
ngx_http_keygate_find_org(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (!ctx->fetched
        && ngx_http_keygate_want(r, ctx, KG_ZONE_ORG,
                                 ngx_http_keygate_ngx(&ctx->key.org))
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_keygate_fetch(r, ctx);

    if (rc == NGX_DECLINED && !ctx->denied) {
        ctx->org.access = KG_ACCESS_NOT_ENABLED;
        return NGX_OK;
    }

    if (rc == NGX_OK
        && kg_org_view(ngx_http_keygate_kg(&ctx->packed), &ctx->org)
           != KG_OK)
    {
        return NGX_ERROR;
    }

    return rc;
}


static ngx_int_t
ngx_http_keygate_unknown(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    if (ngx_http_keygate_failures_unknown(r, ctx)) {
        return ngx_http_keygate_deny(ctx, KG_ERR_TOO_MANY_FAILURES, NULL);
    }

    return ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);
}


ngx_int_t
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
ngx_http_keygate_token_shape(ngx_http_keygate_main_conf_t *mcf,
    ngx_str_t *token, kg_mode_t *mode)
{
    ngx_str_t   *prefixes;
    ngx_uint_t   i;

    prefixes = mcf->prefixes.elts;

    for (i = 0; i < mcf->prefixes.nelts; i++) {
        if (kg_token_shape(ngx_http_keygate_kg(token),
                           ngx_http_keygate_kg(&prefixes[i]), mode)
            == KG_OK)
        {
            return KG_OK;
        }
    }

    return KG_INVALID;
}


/* What is no token of ours may be one of before: that is looked up as it is. */

static ngx_uint_t
ngx_http_keygate_maybe_legacy(ngx_http_keygate_ctx_t *ctx,
    ngx_http_keygate_main_conf_t *mcf)
{
    if (!mcf->legacy || ctx->token.len > NGX_HTTP_KEYGATE_LEGACY_MAX) {
        return 0;
    }

    ctx->legacy = 1;

    return 1;
}
