
/*
 * The admin interface's calls about a key that exists: look at it, change it,
 * revoke it.  A key is named by its public id, which leads to its digest,
 * which its record is stored under; neither digest nor pepper is ever shown.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_admin_key_found(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_edit(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_merge(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_merged(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_end(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_expire(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_changed(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_show(
    ngx_http_keygate_admin_t *admin);


const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_key_fields[] =
{
    { "scopes", ngx_http_keygate_admin_check_scopes, 0, 1 },
    { "name", ngx_http_keygate_admin_check_name, 0, 0 },
    { "limits", ngx_http_keygate_admin_check_limits, 0, 0 },
    { "allow", ngx_http_keygate_admin_check_allow, 0, 0 },
    { "notBefore", ngx_http_keygate_admin_check_date, 0, 0 },
    { "expiresAt", ngx_http_keygate_admin_check_expiry, 0, 0 },
    { NULL, NULL, 0, 0 }
};


static const ngx_http_keygate_admin_member_t
    ngx_http_keygate_admin_key_members[] =
{
    { "id", JSON_NULL },
    { "org", JSON_NULL },
    { "mode", JSON_NULL },
    { "scopes", JSON_ARRAY },
    { "name", JSON_NULL },
    { "limits", JSON_OBJECT },
    { "allow", JSON_ARRAY },
    { "createdAt", JSON_NULL },
    { "notBefore", JSON_NULL },
    { "expiresAt", JSON_NULL },
    { "revokedAt", JSON_NULL },
    { "hint", JSON_NULL },
    { NULL, JSON_NULL }
};


json_t *
ngx_http_keygate_admin_key_view(const json_t *record, const ngx_str_t *seen)
{
    json_t   *view, *at;
    int64_t   seconds;

    view = ngx_http_keygate_admin_view(record,
                                       ngx_http_keygate_admin_key_members);

    at = (kg_time_parse(ngx_http_keygate_kg(seen), &seconds) == KG_OK)
         ? ngx_http_keygate_admin_date(seconds) : json_null();

    if (json_object_set_new(view, "lastUsedAt", at) != 0) {
        json_decref(view);
        return NULL;
    }

    return view;
}


ngx_int_t
ngx_http_keygate_admin_key_begin(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_http_keygate_admin_item_t  *item;

    admin->key_id = admin->param[0];

    if (!kg_key_id_valid(ngx_http_keygate_kg(&admin->key_id))) {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    item = ngx_pcalloc(admin->request->pool,
                       sizeof(ngx_http_keygate_admin_item_t));
    if (item == NULL) {
        return NGX_ERROR;
    }

    item->found = ngx_http_keygate_admin_get(admin, "id", &admin->key_id);
    item->seen = ngx_http_keygate_admin_get_seen(admin, &admin->key_id);

    if (item->found == NULL || item->seen == NULL) {
        return NGX_ERROR;
    }

    admin->page.items = item;
    admin->next = next;

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_key_found);
}


static ngx_int_t
ngx_http_keygate_admin_key_found(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                       rc;
    ngx_http_keygate_admin_item_t  *item;

    item = admin->page.items;

    admin->seen = item->seen->text;

    if (item->found->text.data == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    rc = ngx_http_keygate_admin_unhex(admin, &item->found->text,
                                      &admin->digest);

    if (rc != NGX_OK
        || ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return admin->next(admin);
}


ngx_int_t
ngx_http_keygate_admin_unhex(ngx_http_keygate_admin_t *admin, ngx_str_t *hex,
    ngx_str_t *digest)
{
    u_char     *p;
    ngx_str_t   low;
    u_char      digits[KG_DIGEST_HEX];

    if (hex->len != KG_DIGEST_HEX) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(admin->pool, KG_DIGEST_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* People's tools write a SHA-256 in either case. */

    ngx_strlow(digits, hex->data, KG_DIGEST_HEX);

    low.data = digits;
    low.len = KG_DIGEST_HEX;

    if (kg_unhex(p, KG_DIGEST_LEN, ngx_http_keygate_kg(&low)) != KG_OK) {
        return NGX_DECLINED;
    }

    digest->data = p;
    digest->len = KG_DIGEST_LEN;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_key_get(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_key_begin(admin,
                                            ngx_http_keygate_admin_key_read);
}


static ngx_int_t
ngx_http_keygate_admin_key_read(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_key_show);
}


ngx_int_t
ngx_http_keygate_admin_key_patch(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_check(admin,
                                      ngx_http_keygate_admin_key_fields,
                                      NGX_HTTP_KEYGATE_ADMIN_MERGE);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_key_begin(admin,
                                            ngx_http_keygate_admin_key_edit);
}


static ngx_int_t
ngx_http_keygate_admin_key_edit(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_key_merge,
                                       ngx_http_keygate_admin_key_merged);
}


static ngx_int_t
ngx_http_keygate_admin_key_merge(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_may(admin, "change");

    if (rc == NGX_OK && ngx_http_keygate_self_changed(admin)) {
        rc = ngx_http_keygate_self_meanwhile(admin);
    }

    /*
     * A partner's keys that have ended are not counted any more: one that came
     * back would be one more than keygate_self makes.
     */

    if (rc == NGX_OK && admin->self) {
        rc = ngx_http_keygate_admin_key_ended(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_covers(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_apply(admin,
                                          ngx_http_keygate_admin_key_fields,
                                          NGX_HTTP_KEYGATE_ADMIN_MERGE);
    }

    if (rc == NGX_OK && json_object_get(admin->body, "limits")) {
        rc = ngx_http_keygate_self_mark(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_keeps(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_check_span(admin, admin->record);
    }

    return (rc == NGX_OK) ? ngx_http_keygate_self_covers(admin) : rc;
}


static ngx_int_t
ngx_http_keygate_admin_key_merged(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_self_confirm(admin,
                                         ngx_http_keygate_admin_key_changed);
}


ngx_int_t
ngx_http_keygate_admin_key_revoke(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_key_begin(admin,
                                            ngx_http_keygate_admin_key_end);
}


static ngx_int_t
ngx_http_keygate_admin_key_end(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_key_expire,
                                       ngx_http_keygate_admin_key_changed);
}


static ngx_int_t
ngx_http_keygate_admin_key_expire(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_may(admin, "revoke");

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_keygate_admin_has(admin->record, "revokedAt")) {
        return NGX_DECLINED;
    }

    return json_object_set_new(admin->record, "revokedAt",
                               ngx_http_keygate_admin_date(ngx_time()))
           == 0 ? NGX_OK : NGX_ERROR;
}


/*
 * An id whose record was never written (the making of the key was cut off), or
 * is another key's, is the id of no key.
 */

ngx_int_t
ngx_http_keygate_admin_key_check(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  id, org, mode;

    id = ngx_http_keygate_admin_member(admin->record, "id");

    if (!kg_str_eq(ngx_http_keygate_kg(&id),
                   ngx_http_keygate_kg(&admin->key_id))
        || !ngx_http_keygate_self_sees(admin, admin->record))
    {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    mode = ngx_http_keygate_admin_member(admin->record, "mode");

    if (kg_mode_parse(ngx_http_keygate_kg(&mode), &admin->mode) != KG_OK) {
        return NGX_ERROR;
    }

    /* A copy: the record is released when an edit begins anew. */

    org = ngx_http_keygate_admin_member(admin->record, "org");

    admin->org.len = org.len;
    admin->org.data = ngx_pstrdup(admin->request->pool, &org);

    return admin->org.data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_key_may(ngx_http_keygate_admin_t *admin,
    const char *verb)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_check(admin);

    if (rc == NGX_OK
        && admin->role < NGX_HTTP_KEYGATE_ROLE_OPERATOR
        && admin->mode != KG_MODE_TEST)
    {
        return ngx_http_keygate_admin_test_only(admin, verb);
    }

    return rc;
}


ngx_int_t
ngx_http_keygate_admin_key_ended(ngx_http_keygate_admin_t *admin)
{
    int64_t    expires;
    ngx_str_t  text;

    if (ngx_http_keygate_admin_has(admin->record, "revokedAt")) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                             "The key is revoked");
    }

    text = ngx_http_keygate_admin_member(admin->record, "expiresAt");

    if (text.len
        && kg_time_parse(ngx_http_keygate_kg(&text), &expires) == KG_OK
        && expires <= ngx_time())
    {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                             "The key has expired");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_key_changed(ngx_http_keygate_admin_t *admin)
{
    if (!admin->changed) {
        return ngx_http_keygate_admin_key_show(admin);
    }

    return ngx_http_keygate_admin_audit(admin,
                                 ngx_http_keygate_admin_changes(admin->before,
                                                                admin->record),
                                 ngx_http_keygate_admin_key_show);
}


static ngx_int_t
ngx_http_keygate_admin_key_show(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_check(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                               ngx_http_keygate_admin_key_view(admin->record,
                                                               &admin->seen));
}
