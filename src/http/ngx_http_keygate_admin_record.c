
/*
 * The admin interface and a record: reading one, and editing one so that
 * concurrent writers do not lose each other's changes.
 *
 * An edit is a compare-and-set: what was read is sent along with what is to
 * stand in its place, and where Redis meanwhile has another text the edit
 * begins again from the read.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_fetched(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_edit_fetched(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_edit_written(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static kg_rc_t ngx_http_keygate_admin_pack_into(kg_zone_kind_t kind,
    ngx_str_t *text, u_char *buf, size_t *len, const char **why);


ngx_int_t
ngx_http_keygate_admin_select(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *name)
{
    const char  *records;
    ngx_pool_t  *pool;

    pool = admin->request->pool;

    admin->kind = kind;
    admin->zone_name = *name;
    admin->slot = *name;
    records = "org";

    if (kind == KG_ZONE_KEY) {
        admin->slot.len = KG_DIGEST_HEX;
        admin->slot.data = ngx_pnalloc(pool, KG_DIGEST_HEX);
        if (admin->slot.data == NULL) {
            return NGX_ERROR;
        }

        kg_hex(admin->slot.data, name->data, KG_DIGEST_LEN);
        records = "key";
    }

    admin->name = ngx_http_keygate_name(pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  records, &admin->slot, NULL);

    return admin->name.data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_fetch(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_str_t  argv[2];

    admin->next = next;

    ngx_str_set(&argv[0], "GET");
    argv[1] = admin->name;

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->slot,
                                      ngx_http_keygate_admin_fetched);
}


static ngx_int_t
ngx_http_keygate_admin_fetched(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_int_t   rc;
    ngx_str_t   text;
    ngx_str_t  *id;

    json_decref(admin->record);
    admin->record = NULL;
    ngx_str_set(&admin->stored, "");

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        return admin->next(admin);
    }

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return NGX_ERROR;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;
    id = (admin->kind == KG_ZONE_KEY) ? &admin->key_id : &admin->org;

    rc = ngx_http_keygate_admin_load(admin, admin->kind, id, &text,
                                     &admin->record);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_broken(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->stored.data = ngx_pstrdup(admin->request->pool, &text);
    admin->stored.len = text.len;

    return admin->stored.data ? admin->next(admin) : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_load(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *id, ngx_str_t *text, json_t **record)
{
    ngx_int_t    rc;
    const char  *why;

    rc = ngx_http_keygate_admin_pack(kind, text, &why);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "keygate: the record of %s \"%V\" in Redis is not "
                      "valid: %s", kind == KG_ZONE_KEY ? "key"
                                                       : "organisation",
                      id, why);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    *record = json_loadb((char *) text->data, text->len, 0, NULL);

    return *record ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_edit(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt change, ngx_http_keygate_admin_pt done)
{
    admin->change = change;
    admin->done = done;
    admin->tries = NGX_HTTP_KEYGATE_ADMIN_TRIES;

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_edit_fetched);
}


static ngx_int_t
ngx_http_keygate_admin_edit_fetched(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;
    ngx_str_t  text;

    admin->created = (admin->record == NULL);

    json_decref(admin->before);
    admin->before = json_deep_copy(admin->record);

    if (admin->record && admin->before == NULL) {
        return NGX_ERROR;
    }

    rc = admin->change(admin);

    if (rc == NGX_DECLINED
        || (rc == NGX_OK && json_equal(admin->before, admin->record)))
    {
        return admin->done(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_keygate_admin_encode(admin, &text);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_swap(admin, &text,
                                       ngx_http_keygate_admin_edit_written);
}


static ngx_int_t
ngx_http_keygate_admin_edit_written(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    if (reply->integer == 1) {
        admin->changed = 1;
        return admin->done(admin);
    }

    if (--admin->tries == 0) {
        return ngx_http_keygate_admin_outrun(admin);
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_edit_fetched);
}


ngx_int_t
ngx_http_keygate_admin_outrun(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                         "Others keep changing the same "
                                         "record, try again");
}


ngx_int_t
ngx_http_keygate_admin_encode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text)
{
    ngx_int_t    rc;
    const char  *why;

    *text = ngx_http_keygate_admin_dump(admin->request->pool, admin->record);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_keygate_admin_pack(admin->kind, text, &why);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "This cannot be stored: %s",
                                             why);
    }

    return rc;
}


ngx_int_t
ngx_http_keygate_admin_pack(kg_zone_kind_t kind, ngx_str_t *text,
    const char **why)
{
    size_t  len;
    u_char  packed[KG_RECORD_MAX];

    switch (ngx_http_keygate_admin_pack_into(kind, text, packed, &len, why)) {

    case KG_OK:
        return NGX_OK;

    case KG_FULL:
        *why = "the record is too long";
        return NGX_DECLINED;

    case KG_INVALID:
        return NGX_DECLINED;

    default: /* KG_ERROR */
        return NGX_ERROR;
    }
}


ngx_int_t
ngx_http_keygate_admin_packed(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *text, ngx_str_t *packed)
{
    const char  *why;

    packed->data = ngx_palloc(admin->request->pool, KG_RECORD_MAX);
    if (packed->data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_pack_into(kind, text, packed->data,
                                            &packed->len, &why)
           == KG_OK ? NGX_OK : NGX_ERROR;
}


static kg_rc_t
ngx_http_keygate_admin_pack_into(kg_zone_kind_t kind, ngx_str_t *text,
    u_char *buf, size_t *len, const char **why)
{
    kg_str_t  *json;

    json = ngx_http_keygate_kg(text);

    return (kind == KG_ZONE_KEY)
           ? kg_key_pack(json, buf, KG_RECORD_MAX, len, why)
           : kg_org_pack(json, buf, KG_RECORD_MAX, len, why);
}
