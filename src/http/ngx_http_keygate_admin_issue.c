
/*
 * The admin interface's making of keys.
 *
 *     organisation may have it? ─▶ id leads to digest ─▶ organisation's list
 *                                                     ─▶ record
 *
 * The record, which alone lets anyone in, is written last: a making that is
 * cut off leaves an id of no key.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_check_key(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_issue(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_may_issue(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_make_token(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_make_record(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_write_id(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_write_list(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_write_record(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_issued(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_taken(
    ngx_http_keygate_admin_t *admin);
static kg_mode_t ngx_http_keygate_admin_mode(ngx_http_keygate_admin_t *admin);


static const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_new_key_fields[] =
{
    { "mode", ngx_http_keygate_admin_check_mode, 1, 1 },
    { "scopes", ngx_http_keygate_admin_check_scopes, 1, 1 },
    { "name", ngx_http_keygate_admin_check_name, 0, 0 },
    { "limits", ngx_http_keygate_admin_check_limits, 0, 0 },
    { "allow", ngx_http_keygate_admin_check_allow, 0, 0 },
    { "notBefore", ngx_http_keygate_admin_check_date, 0, 0 },
    { "expiresAt", ngx_http_keygate_admin_check_expiry, 0, 0 },
    { NULL, NULL, 0, 0 }
};


ngx_int_t
ngx_http_keygate_admin_key_create(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_param(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_check_key(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_ORG, &admin->org);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_fetch(admin, ngx_http_keygate_admin_issue);
}


static ngx_int_t
ngx_http_keygate_admin_check_key(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t   rc;
    ngx_str_t   before, expires;

    static ngx_str_t  field = ngx_string("expiresAt");

    rc = ngx_http_keygate_admin_check(admin,
                                      ngx_http_keygate_admin_new_key_fields,
                                      NGX_HTTP_KEYGATE_ADMIN_REPLACE);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_keygate_admin_mode(admin) == KG_MODE_LIVE
        && admin->role < NGX_HTTP_KEYGATE_ROLE_OPERATOR)
    {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_FORBIDDEN, NULL,
                                             "The role of this address may "
                                             "create test keys only");
    }

    before = ngx_http_keygate_admin_text(json_object_get(admin->body,
                                                         "notBefore"));
    expires = ngx_http_keygate_admin_text(json_object_get(admin->body,
                                                          "expiresAt"));

    /* Checked dates are all of one form, whose order is time's. */

    if (before.len && expires.len
        && ngx_memcmp(expires.data, before.data, KG_TIME_LEN) <= 0)
    {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, &field,
                                             "\"expiresAt\" is not after "
                                             "\"notBefore\"");
    }

    return NGX_OK;
}


/* The record at hand is the organisation's and becomes the key's. */

static ngx_int_t
ngx_http_keygate_admin_issue(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_may_issue(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_make_token(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_make_record(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_encode(admin, &admin->stored);
    }

    return (rc == NGX_OK) ? ngx_http_keygate_admin_write_id(admin) : rc;
}


/* An organisation's admins help themselves once it has test access. */

static ngx_int_t
ngx_http_keygate_admin_may_issue(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t    text;
    const char  *needed;
    kg_access_t  access;

    if (admin->record == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    text = ngx_http_keygate_admin_text(json_object_get(admin->record,
                                                       "access"));

    if (kg_access_parse(ngx_http_keygate_kg(&text), &access) != KG_OK) {
        return NGX_ERROR;
    }

    if (access == KG_ACCESS_LIVE) {
        return NGX_OK;
    }

    if (ngx_http_keygate_admin_mode(admin) == KG_MODE_LIVE) {
        needed = "live access";

    } else if (admin->role < NGX_HTTP_KEYGATE_ROLE_OPERATOR
               && access != KG_ACCESS_TEST)
    {
        needed = "test access";

    } else {
        return NGX_OK;
    }

    return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                         "The organisation has no %s: its "
                                         "access is \"%V\"", needed, &text);
}


/* The token, its digest and the key's id. */

static ngx_int_t
ngx_http_keygate_admin_make_token(ngx_http_keygate_admin_t *admin)
{
    u_char        *p;
    ngx_str_t     *prefixes;
    kg_pepper_t  **peppers;

    prefixes = admin->mcf->prefixes.elts;
    peppers = admin->mcf->peppers.elts;

    p = ngx_pnalloc(admin->request->pool,
                    KG_TOKEN_MAX + KG_DIGEST_LEN + KG_KEY_ID_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    admin->token.data = p;
    admin->digest.data = p + KG_TOKEN_MAX;
    admin->digest.len = KG_DIGEST_LEN;
    admin->key_id.data = admin->digest.data + KG_DIGEST_LEN;
    admin->key_id.len = KG_KEY_ID_LEN;

    if (kg_token_make(ngx_http_keygate_kg(&prefixes[0]),
                      ngx_http_keygate_admin_mode(admin), admin->token.data,
                      &admin->token.len)
        != KG_OK
        || kg_pepper_digest(peppers[0], ngx_http_keygate_kg(&admin->token),
                            admin->digest.data)
           != KG_OK
        || kg_key_id_make(admin->key_id.data) != KG_OK)
    {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "keygate: OpenSSL makes no key");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_make_record(ngx_http_keygate_admin_t *admin)
{
    size_t           len;
    u_char           hint[KG_KEY_HINT_MAX];
    kg_pepper_t    **peppers;
    const kg_str_t  *pepper;

    peppers = admin->mcf->peppers.elts;
    pepper = kg_pepper_id(peppers[0]);
    len = kg_token_hint(ngx_http_keygate_kg(&admin->token), hint);

    json_decref(admin->record);

    admin->record = json_pack("{s:i, s:s%, s:s%, s:s%, s:s%, s:o}", "v", 1,
                              "id", admin->key_id.data, admin->key_id.len,
                              "org", admin->org.data, admin->org.len,
                              "hint", hint, len,
                              "pepper", pepper->data, pepper->len,
                              "createdAt",
                              ngx_http_keygate_admin_date(ngx_time()));

    if (admin->record == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_apply(admin,
                                        ngx_http_keygate_admin_new_key_fields,
                                        NGX_HTTP_KEYGATE_ADMIN_REPLACE);
}


static ngx_int_t
ngx_http_keygate_admin_write_id(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  argv[4];

    ngx_str_set(&argv[0], "SET");
    argv[1] = ngx_http_keygate_name(admin->request->pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  "id", &admin->key_id, NULL);
    argv[2] = admin->slot;
    ngx_str_set(&argv[3], "NX");

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 4, &admin->key_id,
                                      ngx_http_keygate_admin_write_list);
}


static ngx_int_t
ngx_http_keygate_admin_write_list(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_str_t    argv[4];
    ngx_time_t  *tp;
    u_char       score[NGX_INT64_LEN];

    if (!kg_redis_is(reply, REDIS_REPLY_STATUS, 0)) {
        return ngx_http_keygate_admin_taken(admin);
    }

    tp = ngx_timeofday();

    ngx_str_set(&argv[0], "ZADD");
    argv[1] = ngx_http_keygate_name(admin->request->pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  "keys", &admin->org, NULL);
    argv[2].data = score;
    argv[2].len = ngx_sprintf(score, "%L", (int64_t) tp->sec * 1000 + tp->msec)
                  - score;
    argv[3] = admin->key_id;

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 4, &admin->org,
                                      ngx_http_keygate_admin_write_record);
}


static ngx_int_t
ngx_http_keygate_admin_write_record(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_str_t  argv[4];

    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "SET");
    argv[1] = admin->name;
    argv[2] = admin->stored;
    ngx_str_set(&argv[3], "NX");

    return ngx_http_keygate_admin_write(admin, argv, 4,
                                        ngx_http_keygate_admin_issued);
}


static ngx_int_t
ngx_http_keygate_admin_issued(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_STATUS, 0)) {
        return ngx_http_keygate_admin_taken(admin);
    }

    ngx_log_error(NGX_LOG_NOTICE, admin->request->connection->log, 0,
                  "keygate: key \"%V\" of organisation \"%V\" was created",
                  &admin->key_id, &admin->org);

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_CREATED,
                               ngx_http_keygate_admin_key_view(admin->record));
}


/* What was drawn at random exists: nothing that is there is overwritten. */

static ngx_int_t
ngx_http_keygate_admin_taken(ngx_http_keygate_admin_t *admin)
{
    ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                  "keygate: a new key got the id or token of one that is "
                  "there; the random generator of this machine is broken");

    return NGX_ERROR;
}


static kg_mode_t
ngx_http_keygate_admin_mode(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  text;
    kg_mode_t  mode;

    text = ngx_http_keygate_admin_text(json_object_get(admin->body, "mode"));
    mode = KG_MODE_LIVE;

    (void) kg_mode_parse(ngx_http_keygate_kg(&text), &mode);

    return mode;
}
