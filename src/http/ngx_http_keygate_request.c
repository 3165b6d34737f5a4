
/*
 * The state of a request, and what every feature does with it: ask Redis and
 * wait, refuse, set a header.
 */

#include "ngx_http_keygate_answer.h"
#include "ngx_http_keygate_idempotency.h"


static void ngx_http_keygate_ctx_cleanup(void *data);
static void ngx_http_keygate_answered(kg_redis_op_t *op);


ngx_http_keygate_ctx_t *
ngx_http_keygate_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_keygate_ctx_t  *ctx;

    r = r->main;
    ctx = ngx_http_get_module_ctx(r, ngx_http_keygate_module);

    if (ctx || (!r->internal && !r->filter_finalize)) {
        return ctx;
    }

    /* error_page or an internal redirect has zeroed r->ctx. */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_keygate_ctx_cleanup) {
            ctx = cln->data;
            ngx_http_set_ctx(r, ctx, ngx_http_keygate_module);
            return ctx;
        }
    }

    return NULL;
}


ngx_http_keygate_ctx_t *
ngx_http_keygate_ctx_create(ngx_http_request_t *r)
{
    uint64_t                       now;
    ngx_time_t                    *tp;
    ngx_pool_cleanup_t            *cln;
    ngx_http_keygate_ctx_t        *ctx;
    ngx_http_keygate_main_conf_t  *mcf;

    ctx = ngx_http_keygate_ctx(r);
    if (ctx) {
        return ctx;
    }

    r = r->main;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_keygate_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_keygate_ctx_t));

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    tp = ngx_timeofday();
    now = (uint64_t) tp->sec * 1000 + tp->msec;

    if (kg_request_id(&mcf->entropy, now, ctx->id) != KG_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "keygate: no randomness for a request id");
        return NULL;
    }

    ctx->request = r;
    ctx->method = r->method;
    ctx->request_id.data = ctx->id;
    ctx->request_id.len = KG_REQUEST_ID_LEN;

    cln->handler = ngx_http_keygate_ctx_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_keygate_module);

    return ctx;
}


static void
ngx_http_keygate_ctx_cleanup(void *data)
{
    ngx_http_keygate_ctx_t  *ctx = data;

    if (ctx->op) {
        kg_redis_abandon(ctx->op);
        ctx->op = NULL;
    }

    ngx_http_keygate_guess_leave(ctx);
    ngx_http_keygate_lookup_leave(ctx);
    ngx_http_keygate_limit_leave(ctx);
    ngx_http_keygate_patience_end(ctx);

    kg_sha_free(ctx->sha);

    ngx_http_keygate_settle_abandoned(ctx);
}


ngx_int_t
ngx_http_keygate_ask(ngx_http_keygate_ctx_t *ctx, ngx_uint_t use,
    kg_redis_cmd_t *cmd, ngx_http_keygate_reply_pt reply)
{
    ngx_http_request_t            *r;
    ngx_http_keygate_main_conf_t  *mcf;

    r = ctx->request;
    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);

    cmd->handler = ngx_http_keygate_answered;
    cmd->data = ctx;

    ctx->op = kg_redis_submit(mcf->client[use], cmd);
    if (ctx->op == NULL) {
        return NGX_ERROR;
    }

    ctx->reply = reply;
    ngx_http_keygate_wait(ctx);

    return NGX_AGAIN;
}


void
ngx_http_keygate_wait(ngx_http_keygate_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ctx->waits = 1;
    ctx->read_handler = r->read_event_handler;
    r->read_event_handler = ngx_http_test_reading;
}


void
ngx_http_keygate_continue(ngx_http_keygate_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ctx->waits = 0;
    r->read_event_handler = ctx->read_handler;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


/* Runs from a posted event of the client. */

static void
ngx_http_keygate_answered(kg_redis_op_t *op)
{
    ngx_http_keygate_ctx_t  *ctx;

    ctx = op->data;
    ctx->op = NULL;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "keygate redis answered: %s \"%V\"",
                   kg_redis_reason(op), &ctx->request->uri);

    ctx->reply(ctx, op);

    ngx_http_keygate_continue(ctx);
}


ngx_int_t
ngx_http_keygate_refuse(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    kg_error_code_t code, ngx_str_t *details)
{
    return ngx_http_keygate_refuse_as(r, ctx, kg_error_get(code), details);
}


ngx_int_t
ngx_http_keygate_refuse_as(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx,
    const kg_error_t *error, ngx_str_t *details)
{
    ngx_str_t                     policy;
    const char                   *by, *quote;
    ngx_http_keygate_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    by = ctx->policy ? " by policy \"" : "";
    quote = ctx->policy ? "\"" : "";
    ngx_str_null(&policy);

    if (ctx->policy) {
        policy = ctx->policy->name;
    }

    ctx->verdict = *ngx_http_keygate_ngx(&error->code);

    if (lcf->role) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "keygate admin answers %ui %V", error->status,
                      &error->code);

    } else if (lcf->mode == NGX_HTTP_KEYGATE_DRY_RUN) {
        ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                      "keygate would answer %ui %V to key \"%V\" of \"%V\""
                      "%s%V%s (dry_run)", error->status, &error->code,
                      &ctx->key.id, &ctx->key.org, by, &policy, quote);
        return NGX_DECLINED;

    } else {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "keygate answers %ui %V to key \"%V\" of \"%V\""
                      "%s%V%s", error->status, &error->code, &ctx->key.id,
                      &ctx->key.org, by, &policy, quote);
    }

    ctx->error = error;

    if (details) {
        ctx->details = *details;
    }

    return error->status;
}


ngx_str_t
ngx_http_keygate_name(ngx_pool_t *pool, const kg_redis_conf_t *conf,
    const char *kind, const ngx_str_t *slot, const ngx_str_t *rest)
{
    u_char     *p;
    ngx_str_t   name;

    name.len = ngx_http_keygate_name_len(conf, kind, slot)
               + (rest ? rest->len : 0);

    name.data = ngx_pnalloc(pool, name.len);
    if (name.data == NULL) {
        name.len = 0;
        return name;
    }

    p = ngx_http_keygate_name_put(name.data, conf, kind, slot);

    if (rest) {
        ngx_memcpy(p, rest->data, rest->len);
    }

    return name;
}


size_t
ngx_http_keygate_name_len(const kg_redis_conf_t *conf, const char *kind,
    const ngx_str_t *slot)
{
    return conf->ns.len + sizeof("::{}") - 1 + ngx_strlen(kind) + slot->len;
}


/* Of every limited request: ngx_sprintf() would take four times as long. */

u_char *
ngx_http_keygate_name_put(u_char *p, const kg_redis_conf_t *conf,
    const char *kind, const ngx_str_t *slot)
{
    p = ngx_cpymem(p, conf->ns.data, conf->ns.len);
    *p++ = ':';
    p = ngx_cpymem(p, kind, ngx_strlen(kind));
    *p++ = ':';
    *p++ = '{';
    p = ngx_cpymem(p, slot->data, slot->len);
    *p++ = '}';

    return p;
}


ngx_table_elt_t *
ngx_http_keygate_next_header(ngx_list_part_t **part, ngx_uint_t *i)
{
    ngx_table_elt_t  *h;

    while (*i >= (*part)->nelts) {
        if ((*part)->next == NULL) {
            return NULL;
        }

        *part = (*part)->next;
        *i = 0;
    }

    h = (*part)->elts;

    return &h[(*i)++];
}


ngx_int_t
ngx_http_keygate_set_header(ngx_http_request_t *r, const ngx_str_t *name,
    const ngx_str_t *value)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    found = NULL;
    part = &r->headers_out.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->hash == 0
            || h->key.len != name->len
            || ngx_strncasecmp(h->key.data, name->data, name->len) != 0)
        {
            continue;
        }

        if (value == NULL || found) {
            h->hash = 0;
            continue;
        }

        found = h;
    }

    if (value == NULL) {
        return NGX_OK;
    }

    if (found == NULL) {
        return ngx_http_keygate_push_header(r, name, value);
    }

    found->key = *name;
    found->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_push_header(ngx_http_request_t *r, const ngx_str_t *name,
    const ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    /* Since 1.23 nginx follows h->next. */

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key = *name;
    h->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_copy(ngx_pool_t *pool, const redisReply *reply,
    ngx_str_t *copy)
{
    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return NGX_ERROR;
    }

    copy->len = reply->len;
    copy->data = ngx_pnalloc(pool, reply->len);

    if (copy->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(copy->data, reply->str, reply->len);

    return NGX_OK;
}


void
ngx_http_keygate_drop_headers(ngx_http_request_t *r, const ngx_str_t *names)
{
    ngx_uint_t        i;
    const ngx_str_t  *name;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_out.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        for (name = names; name->len; name++) {
            if (h->key.len == name->len
                && ngx_strncasecmp(h->key.data, name->data, name->len) == 0)
            {
                h->hash = 0;
                break;
            }
        }
    }
}


ngx_uint_t
ngx_http_keygate_error_page(ngx_http_request_t *r)
{
    ngx_http_keygate_ctx_t  *ctx;

    if (!r->internal) {
        return 0;
    }

    /* Under recursive_error_pages r->error_page is not set. */

    if (r->error_page || r->err_status) {
        return 1;
    }

    ctx = ngx_http_keygate_ctx(r);

    return ctx && ctx->page;
}


/*
 * "error_page 418 = @app" and "return 418" choose a location; and what nginx
 * refuses for itself must not get past the gate by it.
 */

ngx_uint_t
ngx_http_keygate_page(ngx_http_request_t *r, const ngx_http_keygate_ctx_t *ctx)
{
    return ngx_http_keygate_error_page(r)
           && (ctx->error || !ngx_http_keygate_hands_on(r));
}


ngx_uint_t
ngx_http_keygate_hands_on(ngx_http_request_t *r)
{
    ngx_uint_t                 named;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /*
     * An "if" or limit_except within it has its name but is not "named", and
     * the handler of what is around an "if" is the request's alone.
     */

    named = clcf->named
            || (clcf->noname && clcf->name.len && clcf->name.data[0] == '@');

    return named && r->content_handler;
}


ngx_table_elt_t *
ngx_http_keygate_header_out(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    part = &r->headers_out.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->hash && h->key.len == len
            && ngx_strncasecmp(h->key.data, (u_char *) name, len) == 0)
        {
            return h;
        }
    }

    return NULL;
}


ngx_table_elt_t *
ngx_http_keygate_header_said(ngx_http_request_t *r, const ngx_str_t *name)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->upstream == NULL || r->upstream->headers_in.headers.size == 0) {
        return NULL;
    }

    part = &r->upstream->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->key.len == name->len && h->value.len
            && ngx_strncasecmp(h->key.data, name->data, name->len) == 0)
        {
            return h;
        }
    }

    return NULL;
}


ngx_table_elt_t *
ngx_http_keygate_header_in(ngx_http_request_t *r, const ngx_str_t *name,
    ngx_uint_t *count)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *first;

    *count = 0;
    first = NULL;
    part = &r->headers_in.headers.part;
    i = 0;

    while ((h = ngx_http_keygate_next_header(&part, &i)) != NULL) {

        if (h->key.len == name->len
            && ngx_strncasecmp(h->key.data, name->data, name->len) == 0)
        {
            if (first == NULL) {
                first = h;
            }

            (*count)++;
        }
    }

    return first;
}
