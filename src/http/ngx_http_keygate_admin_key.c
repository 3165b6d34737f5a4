
/*
 * The admin interface's calls about a key that exists: look at it, revoke it.
 * A key is named by its public id, which leads to its digest, which its record
 * is stored under; neither digest nor pepper is ever shown.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_key_find(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_step_pt step);
static ngx_int_t ngx_http_keygate_admin_key_found(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_key_read(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_key_edit(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_key_check(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_mark(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_marked(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_key_show(
    ngx_http_keygate_admin_t *admin);


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
ngx_http_keygate_admin_key_view(const json_t *record)
{
    return ngx_http_keygate_admin_view(record,
                                       ngx_http_keygate_admin_key_members);
}


ngx_int_t
ngx_http_keygate_admin_key_get(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_key_find(admin,
                                           ngx_http_keygate_admin_key_read);
}


ngx_int_t
ngx_http_keygate_admin_key_revoke(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_key_find(admin,
                                           ngx_http_keygate_admin_key_edit);
}


/* Asks for the digest of the key of the path. */

static ngx_int_t
ngx_http_keygate_admin_key_find(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_step_pt step)
{
    ngx_str_t  argv[2];

    admin->key_id = admin->param[0];

    if (!kg_key_id_valid(ngx_http_keygate_kg(&admin->key_id))) {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    ngx_str_set(&argv[0], "GET");
    argv[1] = ngx_http_keygate_name(admin->request->pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  "id", &admin->key_id, NULL);
    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->key_id, step);
}


/* Takes the digest in and makes its record the one at hand. */

static ngx_int_t
ngx_http_keygate_admin_key_found(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    u_char     *p;
    ngx_int_t   octet;
    ngx_uint_t  i;

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)
        || reply->len != KG_DIGEST_HEX)
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(admin->request->pool, KG_DIGEST_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < KG_DIGEST_LEN; i++) {
        octet = ngx_hextoi((u_char *) reply->str + 2 * i, 2);

        if (octet == NGX_ERROR) {
            return NGX_ERROR;
        }

        p[i] = (u_char) octet;
    }

    admin->digest.data = p;
    admin->digest.len = KG_DIGEST_LEN;

    return ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest);
}


static ngx_int_t
ngx_http_keygate_admin_key_read(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_found(admin, reply);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_key_show);
}


static ngx_int_t
ngx_http_keygate_admin_key_edit(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_found(admin, reply);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_key_mark,
                                       ngx_http_keygate_admin_key_marked);
}


/*
 * An id whose record was never written (the making of the key was cut off), or
 * is another key's, is the id of no key.
 */

static ngx_int_t
ngx_http_keygate_admin_key_check(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  id, org;

    id = ngx_http_keygate_admin_text(json_object_get(admin->record, "id"));

    if (!kg_str_eq(ngx_http_keygate_kg(&id),
                   ngx_http_keygate_kg(&admin->key_id)))
    {
        return ngx_http_keygate_admin_unknown(admin, "key", &admin->key_id);
    }

    /* A copy: the record is released when an edit begins anew. */

    org = ngx_http_keygate_admin_text(json_object_get(admin->record, "org"));

    admin->org.len = org.len;
    admin->org.data = ngx_pstrdup(admin->request->pool, &org);

    return admin->org.data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_key_mark(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t   rc;
    ngx_str_t   mode;
    json_t     *revoked;

    rc = ngx_http_keygate_admin_key_check(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    mode = ngx_http_keygate_admin_text(json_object_get(admin->record, "mode"));

    if (admin->role < NGX_HTTP_KEYGATE_ROLE_OPERATOR
        && !kg_str_eq(ngx_http_keygate_kg(&mode),
                      kg_mode_name(KG_MODE_TEST)))
    {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_FORBIDDEN, NULL,
                                             "The role of this address may "
                                             "revoke test keys only");
    }

    revoked = json_object_get(admin->record, "revokedAt");

    if (revoked && !json_is_null(revoked)) {
        return NGX_DECLINED;
    }

    return json_object_set_new(admin->record, "revokedAt",
                               ngx_http_keygate_admin_date(ngx_time()))
           == 0 ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_key_marked(ngx_http_keygate_admin_t *admin)
{
    ngx_log_error(NGX_LOG_NOTICE, admin->request->connection->log, 0,
                  "keygate: key \"%V\" of organisation \"%V\" is revoked",
                  &admin->key_id, &admin->org);

    return ngx_http_keygate_admin_key_show(admin);
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
                               ngx_http_keygate_admin_key_view(admin->record));
}
