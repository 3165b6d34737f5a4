
/*
 * The admin interface's new keys: made with a token, or known by the SHA-256
 * of a token that a partner has already.
 *
 *     organisation may have it? ─▶ id leads to digest ─▶ organisation's list
 *                                  ─▶ record ─▶ organisation still there?
 *
 * The record, which alone lets anyone in, is written last: a making that is
 * cut off leaves an id of no key.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_admin_begin_key(
    ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_pt next);
static ngx_int_t ngx_http_keygate_admin_check_key(
    ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields);
static ngx_int_t ngx_http_keygate_admin_make(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_check_sha256(
    ngx_http_keygate_admin_t *admin, ngx_str_t *field, json_t *value);
static ngx_int_t ngx_http_keygate_admin_adopt(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_adopt_new(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_make_record(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_write_list(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_write_record(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_look_again(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_issued(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_taken_back(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_taken(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_made(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_show_made(
    ngx_http_keygate_admin_t *admin);


#define ngx_http_keygate_admin_new_key                                        \
    { "mode", ngx_http_keygate_admin_check_mode, 1, 1 },                      \
    { "scopes", ngx_http_keygate_admin_check_scopes, 1, 1 },                  \
    { "name", ngx_http_keygate_admin_check_name, 0, 0 },                      \
    { "limits", ngx_http_keygate_admin_check_limits, 0, 0 },                  \
    { "allow", ngx_http_keygate_admin_check_allow, 0, 0 },                    \
    { "notBefore", ngx_http_keygate_admin_check_date, 0, 0 },                 \
    { "expiresAt", ngx_http_keygate_admin_check_expiry, 0, 0 }


static const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_new_key_fields[] =
{
    ngx_http_keygate_admin_new_key,
    { NULL, NULL, 0, 0 }
};


static const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_old_key_fields[] =
{
    { "sha256", ngx_http_keygate_admin_check_sha256, 1, 1 },
    ngx_http_keygate_admin_new_key,
    { NULL, NULL, 0, 0 }
};


ngx_int_t
ngx_http_keygate_admin_key_create(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_begin_key(admin,
                                        ngx_http_keygate_admin_new_key_fields,
                                        ngx_http_keygate_admin_make);
}


ngx_int_t
ngx_http_keygate_admin_key_import(ngx_http_keygate_admin_t *admin)
{
    if (!admin->mcf->legacy) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "Keys known by their SHA-256 "
                                             "are not taken here: "
                                             "\"keygate_keys\" has no "
                                             "\"legacy=sha256\"");
    }

    return ngx_http_keygate_admin_begin_key(admin,
                                        ngx_http_keygate_admin_old_key_fields,
                                        ngx_http_keygate_admin_adopt);
}


static ngx_int_t
ngx_http_keygate_admin_begin_key(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_pt next)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_param(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_check_key(admin, fields);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_ORG, &admin->org);
    }

    return (rc == NGX_OK) ? ngx_http_keygate_admin_fetch(admin, next) : rc;
}


static ngx_int_t
ngx_http_keygate_admin_check_key(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields)
{
    ngx_int_t  rc;
    ngx_str_t  mode;

    rc = ngx_http_keygate_admin_check(admin, fields,
                                      NGX_HTTP_KEYGATE_ADMIN_REPLACE);
    if (rc != NGX_OK) {
        return rc;
    }

    mode = ngx_http_keygate_admin_member(admin->body, "mode");

    if (kg_mode_parse(ngx_http_keygate_kg(&mode), &admin->mode) != KG_OK) {
        return NGX_ERROR;
    }

    if (admin->mode == KG_MODE_LIVE
        && admin->role < NGX_HTTP_KEYGATE_ROLE_OPERATOR)
    {
        return ngx_http_keygate_admin_test_only(admin, "create");
    }

    return ngx_http_keygate_admin_check_span(admin, admin->body);
}


/* The record at hand is the organisation's and becomes the key's. */

static ngx_int_t
ngx_http_keygate_admin_make(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_may_issue(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_draw(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_make_record(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_hand_on(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_mark(admin, admin->made);
    }

    return (rc == NGX_OK)
           ? ngx_http_keygate_self_issue(admin, ngx_http_keygate_admin_made)
           : rc;
}


static ngx_int_t
ngx_http_keygate_admin_check_sha256(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    ngx_int_t  rc;
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    rc = ngx_http_keygate_admin_unhex(admin, &text, &admin->digest);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be the 64 hex "
                                            "digits of a token's SHA-256");
    }

    return rc;
}


static ngx_int_t
ngx_http_keygate_admin_adopt(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_may_issue(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_make_record(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_adopt_new);
}


/* The record at hand is of the same token, if there is one. */

static ngx_int_t
ngx_http_keygate_admin_adopt_new(ngx_http_keygate_admin_t *admin)
{
    if (admin->record) {
        return ngx_http_keygate_admin_taken(admin);
    }

    if (json_object_set_new(admin->made, "legacy", json_true()) != 0) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_issue(admin, ngx_http_keygate_admin_made);
}


/* An organisation's admins help themselves once it has test access. */

ngx_int_t
ngx_http_keygate_admin_may_issue(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t    text;
    const char  *needed;
    kg_access_t  access;

    if (admin->record == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    text = ngx_http_keygate_admin_member(admin->record, "access");

    if (kg_access_parse(ngx_http_keygate_kg(&text), &access) != KG_OK) {
        return NGX_ERROR;
    }

    if (access == KG_ACCESS_LIVE) {
        return NGX_OK;
    }

    if (admin->mode == KG_MODE_LIVE) {
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


ngx_int_t
ngx_http_keygate_admin_draw(ngx_http_keygate_admin_t *admin)
{
    u_char        *p;
    ngx_str_t     *prefixes;
    kg_pepper_t  **peppers;

    prefixes = admin->mcf->prefixes.elts;
    peppers = admin->mcf->peppers.elts;

    p = ngx_pnalloc(admin->request->pool, KG_TOKEN_MAX + KG_DIGEST_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    admin->token.data = p;
    admin->digest.data = p + KG_TOKEN_MAX;
    admin->digest.len = KG_DIGEST_LEN;

    if (kg_token_make(ngx_http_keygate_kg(&prefixes[0]), admin->mode,
                      admin->token.data, &admin->token.len)
        != KG_OK
        || kg_pepper_digest(peppers[0], ngx_http_keygate_kg(&admin->token),
                            admin->digest.data)
           != KG_OK)
    {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "keygate: OpenSSL makes no key");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_mark(ngx_http_keygate_admin_t *admin, json_t *record)
{
    size_t           len;
    u_char           hint[KG_KEY_HINT_MAX];
    kg_pepper_t    **peppers;
    const kg_str_t  *pepper;

    peppers = admin->mcf->peppers.elts;
    pepper = kg_pepper_id(peppers[0]);
    len = kg_token_hint(ngx_http_keygate_kg(&admin->token), hint);

    if (json_object_set_new(record, "hint",
                            json_stringn((char *) hint, len)) != 0
        || json_object_set_new(record, "pepper",
                               json_stringn((char *) pepper->data,
                                            pepper->len))
           != 0)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* admin->made, as the body says, and what every new key has. */

static ngx_int_t
ngx_http_keygate_admin_make_record(ngx_http_keygate_admin_t *admin)
{
    admin->key_id.data = ngx_pnalloc(admin->request->pool, KG_KEY_ID_LEN);
    if (admin->key_id.data == NULL) {
        return NGX_ERROR;
    }

    if (kg_key_id_make(admin->key_id.data) != KG_OK) {
        return NGX_ERROR;
    }

    admin->key_id.len = KG_KEY_ID_LEN;

    json_decref(admin->record);

    admin->record = json_pack("{s:i, s:s%, s:s%, s:s, s:o}", "v", 1,
                              "id", admin->key_id.data, admin->key_id.len,
                              "org", admin->org.data, admin->org.len,
                              "mode", kg_mode_name(admin->mode)->data,
                              "createdAt",
                              ngx_http_keygate_admin_date(ngx_time()));

    if (admin->record == NULL
        || ngx_http_keygate_admin_apply(admin,
                                        ngx_http_keygate_admin_key_fields,
                                        NGX_HTTP_KEYGATE_ADMIN_REPLACE)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    admin->made = json_incref(admin->record);

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_issue(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt done)
{
    ngx_int_t  rc;
    ngx_str_t  argv[4];

    admin->done = done;

    if (admin->record != admin->made) {
        json_decref(admin->record);
        admin->record = json_incref(admin->made);
    }

    rc = ngx_http_keygate_admin_encode(admin, &admin->stored);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&argv[0], "SET");
    argv[1] = ngx_http_keygate_admin_name(admin, "id", &admin->key_id);
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
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->org);
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
                                        ngx_http_keygate_admin_look_again);
}


/*
 * The organisation may have been deleted since it was looked at.  What deletes
 * one looks for its keys after that: see there.
 */

static ngx_int_t
ngx_http_keygate_admin_look_again(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_str_t  argv[2];

    if (!kg_redis_is(reply, REDIS_REPLY_STATUS, 0)) {
        return ngx_http_keygate_admin_taken(admin);
    }

    admin->changed = 1;

    ngx_str_set(&argv[0], "EXISTS");
    argv[1] = ngx_http_keygate_admin_name(admin, "org", &admin->org);

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->org,
                                      ngx_http_keygate_admin_issued);
}


static ngx_int_t
ngx_http_keygate_admin_issued(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    if (reply->integer == 1) {
        return ngx_http_keygate_self_again(admin);
    }

    return ngx_http_keygate_admin_take_back(admin,
                                            ngx_http_keygate_admin_taken_back);
}


ngx_int_t
ngx_http_keygate_admin_take_back(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_step_pt step)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "DEL");
    argv[1] = admin->name;

    return ngx_http_keygate_admin_write(admin, argv, 2, step);
}


static ngx_int_t
ngx_http_keygate_admin_taken_back(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    admin->changed = 0;

    return ngx_http_keygate_admin_unknown(admin, "organisation", &admin->org);
}


/* What is there is not overwritten, be it by a key with the same token. */

static ngx_int_t
ngx_http_keygate_admin_taken(ngx_http_keygate_admin_t *admin)
{
    if (admin->token.len == 0) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                             "There is a key with this token "
                                             "already");
    }

    ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                  "keygate: a new key got the id or token of one that is "
                  "there; the random generator of this machine is broken");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_made(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_audit(admin,
                                  ngx_http_keygate_admin_changes(NULL,
                                                                 admin->made),
                                  ngx_http_keygate_admin_show_made);
}


static ngx_int_t
ngx_http_keygate_admin_show_made(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_CREATED,
                                 ngx_http_keygate_admin_key_view(admin->made,
                                                               &admin->seen));
}
