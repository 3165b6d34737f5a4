
/*
 * The admin interface's calls about an organisation: who it is and what access
 * it has.
 */

#include "ngx_http_keygate_admin_calls.h"


static ngx_int_t ngx_http_keygate_admin_org_replace(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_org_listed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_org_merge(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_org_written(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_org_show(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_org_count(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_org_counted(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);


static const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_org_fields[] =
{
    { "access", ngx_http_keygate_admin_check_access, 1, 1 },
    { "name", ngx_http_keygate_admin_check_name, 0, 0 },
    { "plan", ngx_http_keygate_admin_check_plan, 0, 0 },
    { "limits", ngx_http_keygate_admin_check_limits, 0, 0 },
    { NULL, NULL, 0, 0 }
};


static const ngx_http_keygate_admin_member_t
    ngx_http_keygate_admin_org_members[] =
{
    { "access", JSON_NULL },
    { "name", JSON_NULL },
    { "plan", JSON_NULL },
    { "limits", JSON_OBJECT },
    { "createdAt", JSON_NULL },
    { NULL, JSON_NULL }
};


ngx_int_t
ngx_http_keygate_admin_org_param(ngx_http_keygate_admin_t *admin)
{
    static ngx_str_t  field = ngx_string("org");

    admin->org = admin->param[0];

    if (!kg_org_id_valid(ngx_http_keygate_kg(&admin->org))) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, &field,
                                             "The organisation's id must be "
                                             "1 to 64 of A-Z a-z 0-9 _ -");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_org_begin(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_param(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_select(admin, KG_ZONE_ORG, &admin->org);
    }

    return rc;
}


/*
 * The index comes first: an organisation that is in it without a record is
 * nothing, one with a record that is in no list would be overlooked.
 */

ngx_int_t
ngx_http_keygate_admin_org_put(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;
    ngx_str_t  argv[4];

    rc = ngx_http_keygate_admin_org_begin(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_check(admin,
                                          ngx_http_keygate_admin_org_fields,
                                          NGX_HTTP_KEYGATE_ADMIN_REPLACE);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&argv[0], "ZADD");
    argv[1] = ngx_http_keygate_admin_index(admin, "orgs");
    ngx_str_set(&argv[2], "0");
    argv[3] = admin->org;

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 4, &argv[1],
                                      ngx_http_keygate_admin_org_listed);
}


static ngx_int_t
ngx_http_keygate_admin_org_listed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_org_replace,
                                       ngx_http_keygate_admin_org_written);
}


static ngx_int_t
ngx_http_keygate_admin_org_replace(ngx_http_keygate_admin_t *admin)
{
    if (admin->record == NULL) {
        admin->record = json_object();

        if (json_object_set_new(admin->record, "v", json_integer(1)) != 0
            || json_object_set_new(admin->record, "createdAt",
                                   ngx_http_keygate_admin_date(ngx_time()))
               != 0)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_apply(admin,
                                        ngx_http_keygate_admin_org_fields,
                                        NGX_HTTP_KEYGATE_ADMIN_REPLACE);
}


ngx_int_t
ngx_http_keygate_admin_org_patch(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_begin(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_check(admin,
                                          ngx_http_keygate_admin_org_fields,
                                          NGX_HTTP_KEYGATE_ADMIN_MERGE);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_org_merge,
                                       ngx_http_keygate_admin_org_written);
}


static ngx_int_t
ngx_http_keygate_admin_org_merge(ngx_http_keygate_admin_t *admin)
{
    if (admin->record == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    return ngx_http_keygate_admin_apply(admin,
                                        ngx_http_keygate_admin_org_fields,
                                        NGX_HTTP_KEYGATE_ADMIN_MERGE);
}


static ngx_int_t
ngx_http_keygate_admin_org_written(ngx_http_keygate_admin_t *admin)
{
    if (!admin->changed) {
        return ngx_http_keygate_admin_org_show(admin);
    }

    return ngx_http_keygate_admin_audit(admin,
                                 ngx_http_keygate_admin_changes(admin->before,
                                                                admin->record),
                                 ngx_http_keygate_admin_org_show);
}


static ngx_int_t
ngx_http_keygate_admin_org_show(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_answer(admin,
                                         admin->created ? NGX_HTTP_CREATED
                                                        : NGX_HTTP_OK,
                                 ngx_http_keygate_admin_org_view(&admin->org,
                                                              admin->record));
}


ngx_int_t
ngx_http_keygate_admin_org_get(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_begin(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_org_count);
}


static ngx_int_t
ngx_http_keygate_admin_org_count(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  argv[2];

    if (admin->record == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    ngx_str_set(&argv[0], "ZCARD");
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->org);
    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->org,
                                      ngx_http_keygate_admin_org_counted);
}


static ngx_int_t
ngx_http_keygate_admin_org_counted(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    json_t  *view;

    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    view = ngx_http_keygate_admin_org_view(&admin->org, admin->record);

    if (json_object_set_new(view, "keys", json_integer(reply->integer)) != 0) {
        json_decref(view);
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK, view);
}


json_t *
ngx_http_keygate_admin_org_view(const ngx_str_t *org, const json_t *record)
{
    json_t  *view, *rest;

    view = json_pack("{s:s%}", "id", org->data, org->len);
    rest = ngx_http_keygate_admin_view(record,
                                       ngx_http_keygate_admin_org_members);

    if (json_object_update(view, rest) != 0) {
        json_decref(view);
        view = NULL;
    }

    json_decref(rest);

    return view;
}
