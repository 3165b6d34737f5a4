
/*
 * keygate_self: what the holder of a key is told of it, and the test keys of
 * its organisation, which a key with the scope keys:manage may look after.
 *
 * A request comes here identified and admitted like any other.  The records
 * of its key and organisation are then read again from Redis: what is told and
 * handed on is what holds now, not what a node has cached.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_usage.h"
#include "ngx_http_keygate_self.h"


/* What a call asks of its caller. */
#define NGX_HTTP_KEYGATE_SELF_ANY     NGX_HTTP_KEYGATE_ROLE_READ
#define NGX_HTTP_KEYGATE_SELF_MANAGE  NGX_HTTP_KEYGATE_ROLE_PORTAL


static ngx_int_t ngx_http_keygate_self_enter(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_create(
    ngx_http_keygate_admin_t *admin);
static void ngx_http_keygate_self_cleanup(void *data);
static ngx_int_t ngx_http_keygate_self_manages(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_read(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_known(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_take(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_get(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_show(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_key_create(
    ngx_http_keygate_admin_t *admin);


static kg_str_t  ngx_http_keygate_self_scope =
    kg_string(NGX_HTTP_KEYGATE_SELF_SCOPE);


static const ngx_http_keygate_admin_call_t  ngx_http_keygate_self_calls[] = {

    { "GET", "", NGX_HTTP_KEYGATE_SELF_ANY,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_self_get },

    { "GET", "keys", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_key_list },

    { "POST", "keys", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.create",
      ngx_http_keygate_self_key_create },

    { "GET", "keys/:", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_key_get },

    { "PATCH", "keys/:", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.set",
      ngx_http_keygate_admin_key_patch },

    { "DELETE", "keys/:", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, "key.revoke",
      ngx_http_keygate_admin_key_revoke },

    { "POST", "keys/:/rotate", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_OBJECT, "key.rotate",
      ngx_http_keygate_admin_key_rotate },

    { "GET", "keys/:/usage", NGX_HTTP_KEYGATE_SELF_MANAGE,
      NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL,
      ngx_http_keygate_admin_usage },

    { NULL, NULL, 0, NGX_HTTP_KEYGATE_ADMIN_NO_BODY, NULL, NULL }
};


ngx_int_t
ngx_http_keygate_self_handler(ngx_http_request_t *r)
{
    /* A page of error_page: whom it is for was decided before it. */

    if (ngx_http_keygate_error_page(r)) {
        return NGX_HTTP_NOT_FOUND;
    }

    return ngx_http_keygate_admin_serve(r, ngx_http_keygate_self_calls,
                                        ngx_http_keygate_self_enter);
}


static ngx_int_t
ngx_http_keygate_self_enter(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_ctx_t  *ctx;

    ctx = admin->ctx;

    /* A public route asks for no key. */

    if (!ctx->admitted || !ctx->found) {
        return ngx_http_keygate_refuse(admin->request, ctx,
                                       KG_ERR_UNAUTHORIZED, NULL);
    }

    if (ngx_http_keygate_self_create(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    admin->role = NGX_HTTP_KEYGATE_ROLE_PORTAL;
    admin->prepare = ngx_http_keygate_self_read;

    return ngx_http_keygate_self_manages(admin);
}


static ngx_int_t
ngx_http_keygate_self_create(ngx_http_keygate_admin_t *admin)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(admin->request->pool,
                               sizeof(ngx_http_keygate_self_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    admin->self = cln->data;
    ngx_memzero(admin->self, sizeof(ngx_http_keygate_self_t));

    cln->handler = ngx_http_keygate_self_cleanup;

    return NGX_OK;
}


static void
ngx_http_keygate_self_cleanup(void *data)
{
    ngx_http_keygate_self_t  *self = data;

    json_decref(self->record);
    json_decref(self->owner);
    json_decref(self->from);
    json_decref(self->to);
    json_decref(self->listed);
}


/* Whatever scope the route asks for, these calls ask for theirs. */

static ngx_int_t
ngx_http_keygate_self_manages(ngx_http_keygate_admin_t *admin)
{
    if (admin->call->role < NGX_HTTP_KEYGATE_SELF_MANAGE
        || kg_scopes_hold(&admin->ctx->key.scopes,
                          &ngx_http_keygate_self_scope))
    {
        return NGX_OK;
    }

    return ngx_http_keygate_refuse_scope(admin->request, admin->ctx,
                                         &ngx_http_keygate_self_scope);
}


static ngx_int_t
ngx_http_keygate_self_read(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                 digest;
    ngx_http_keygate_self_t  *self;

    self = admin->self;

    digest.data = admin->ctx->digest;
    digest.len = KG_DIGEST_LEN;

    if (ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &digest) != NGX_OK) {
        return NGX_ERROR;
    }

    self->slot = admin->slot;
    self->name = admin->name;

    self->key_part = ngx_http_keygate_admin_get(admin, "key", &self->slot);
    self->org_part = ngx_http_keygate_admin_get(admin, "org",
                                 ngx_http_keygate_ngx(&admin->ctx->key.org));

    if (self->key_part == NULL || self->org_part == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_gather(admin, ngx_http_keygate_self_known);
}


/* All that ACCESS has asked is asked again, of the records as they are. */

static ngx_int_t
ngx_http_keygate_self_known(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                 rc;
    ngx_http_keygate_ctx_t   *ctx;
    ngx_http_keygate_self_t  *self;

    self = admin->self;
    ctx = admin->ctx;

    rc = ngx_http_keygate_self_take(admin);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_broken(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (self->record == NULL
        || self->key.mode != ctx->key.mode
        || !kg_str_eq(&self->key.id, &ctx->key.id)
        || !kg_str_eq(&self->key.org, &ctx->key.org))
    {
        (void) ngx_http_keygate_deny(ctx, KG_ERR_UNAUTHORIZED, NULL);

    } else {
        ctx->key = self->key;
        ctx->org = self->org;

        (void) ngx_http_keygate_key_valid(ctx);
    }

    rc = ngx_http_keygate_decide(admin->request, ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_manages(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->actor = *ngx_http_keygate_ngx(&self->key.id);

    /* The organisation of the admin interface's path is the caller's own. */

    if (admin->nparams == 0) {
        admin->param[0] = *ngx_http_keygate_ngx(&self->key.org);
        admin->nparams = 1;
    }

    return admin->call->handler(admin);
}


/* NGX_OK; NGX_DECLINED, after a line in the log, for what is no record. */

static ngx_int_t
ngx_http_keygate_self_take(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                 rc;
    ngx_str_t                *text, packed;
    ngx_http_keygate_ctx_t   *ctx;
    ngx_http_keygate_self_t  *self;

    self = admin->self;
    ctx = admin->ctx;
    text = &self->key_part->text;

    if (text->data) {
        rc = ngx_http_keygate_admin_load(admin, KG_ZONE_KEY,
                                         ngx_http_keygate_ngx(&ctx->key.id),
                                         text, &self->record);
        if (rc != NGX_OK) {
            return rc;
        }

        if (ngx_http_keygate_admin_packed(admin, KG_ZONE_KEY, text, &packed)
            != NGX_OK
            || kg_key_view(ngx_http_keygate_kg(&packed), &self->key) != KG_OK)
        {
            return NGX_ERROR;
        }
    }

    self->stored = *text;
    text = &self->org_part->text;

    /* An organisation without a record has no access. */

    if (text->data == NULL) {
        return NGX_OK;
    }

    rc = ngx_http_keygate_admin_load(admin, KG_ZONE_ORG,
                                     ngx_http_keygate_ngx(&ctx->key.org),
                                     text, &self->owner);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_keygate_admin_packed(admin, KG_ZONE_ORG, text, &packed)
        != NGX_OK
        || kg_org_view(ngx_http_keygate_kg(&packed), &self->org) != KG_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* The holder's own. */

static ngx_int_t
ngx_http_keygate_self_get(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_self_t         *self;
    ngx_http_keygate_admin_usage_t  *usage;

    self = admin->self;

    usage = ngx_http_keygate_admin_usage_create(admin,
                                                ngx_http_keygate_self_show);
    if (usage == NULL) {
        return NGX_ERROR;
    }

    usage->key = self->key;
    usage->org = self->org;

    admin->key_id = *ngx_http_keygate_ngx(&self->key.id);
    admin->org = *ngx_http_keygate_ngx(&self->key.org);

    return ngx_http_keygate_admin_usage_count(admin);
}


static ngx_int_t
ngx_http_keygate_self_show(ngx_http_keygate_admin_t *admin)
{
    json_t                          *told, *answer;
    ngx_str_t                        seen;
    ngx_http_keygate_self_t         *self;
    ngx_http_keygate_admin_usage_t  *usage;

    self = admin->self;
    usage = admin->data;
    told = usage->answer;

    seen = ngx_http_keygate_admin_member(told, "lastUsedAt");

    answer = json_pack("{s:{s:s%, s:O?, s:O}, s:o, s:O, s:{s:O, s:O, s:O}}",
                       "organisation",
                       "id", admin->org.data, admin->org.len,
                       "name", json_object_get(self->owner, "name"),
                       "access", json_object_get(self->owner, "access"),
                       "key",
                       ngx_http_keygate_admin_key_view(self->record, &seen),
                       "limits", json_object_get(told, "limits"),
                       "usage",
                       "lastUsedAt", json_object_get(told, "lastUsedAt"),
                       "addresses", json_object_get(told, "addresses"),
                       "days", json_object_get(told, "days"));

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK, answer);
}


/* There is one mode to choose from, so it need not be named. */

static ngx_int_t
ngx_http_keygate_self_key_create(ngx_http_keygate_admin_t *admin)
{
    if (json_object_get(admin->body, "mode") == NULL
        && json_object_set_new(admin->body, "mode", json_string("test")) != 0)
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_key_create(admin);
}
