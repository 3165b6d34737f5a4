
/*
 * GET /peppers: how many keys that can still be used name each pepper, so that
 * an operator knows when an old one can go.
 */

#include "ngx_http_keygate_admin_calls.h"


typedef struct {
    ngx_uint_t                       others;    /* peppers not configured */
    ngx_uint_t                       legacy;
    ngx_uint_t                       keys[1];   /* of each that is */
} ngx_http_keygate_admin_count_t;


static ngx_int_t ngx_http_keygate_admin_peppers_count(
    ngx_http_keygate_admin_t *admin);
static void ngx_http_keygate_admin_pepper_count(
    ngx_http_keygate_admin_t *admin, const json_t *record);
static ngx_int_t ngx_http_keygate_admin_peppers_counted(
    ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_admin_peppers(ngx_http_keygate_admin_t *admin)
{
    static const ngx_http_keygate_admin_visit_t  visit = {
        NULL,
        ngx_http_keygate_admin_peppers_count,
        NULL,
        ngx_http_keygate_admin_peppers_counted
    };

    admin->data = ngx_pcalloc(admin->request->pool,
                              sizeof(ngx_http_keygate_admin_count_t)
                              + admin->mcf->peppers.nelts
                                * sizeof(ngx_uint_t));
    if (admin->data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_visit(admin, &visit);
}


static ngx_int_t
ngx_http_keygate_admin_peppers_count(ngx_http_keygate_admin_t *admin)
{
    json_t      *record;
    ngx_int_t    rc;
    ngx_uint_t   i;

    for (i = 0; i < admin->page.nitems; i++) {

        rc = ngx_http_keygate_admin_item(admin, &admin->page.items[i],
                                         &record);
        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        ngx_http_keygate_admin_pepper_count(admin, record);

        json_decref(record);
    }

    return NGX_OK;
}


static void
ngx_http_keygate_admin_pepper_count(ngx_http_keygate_admin_t *admin,
    const json_t *record)
{
    int64_t                           expires;
    ngx_str_t                         text;
    ngx_uint_t                        i;
    kg_pepper_t                     **peppers;
    ngx_http_keygate_admin_count_t   *count;

    count = admin->data;

    if (ngx_http_keygate_admin_has(record, "revokedAt")) {
        return;
    }

    text = ngx_http_keygate_admin_member(record, "expiresAt");

    if (text.len
        && kg_time_parse(ngx_http_keygate_kg(&text), &expires) == KG_OK
        && expires <= ngx_time())
    {
        return;
    }

    if (json_is_true(json_object_get(record, "legacy"))) {
        count->legacy++;
        return;
    }

    text = ngx_http_keygate_admin_member(record, "pepper");
    peppers = admin->mcf->peppers.elts;

    for (i = 0; i < admin->mcf->peppers.nelts; i++) {

        if (kg_str_eq(kg_pepper_id(peppers[i]), ngx_http_keygate_kg(&text))) {
            count->keys[i]++;
            return;
        }
    }

    count->others++;
}


static ngx_int_t
ngx_http_keygate_admin_peppers_counted(ngx_http_keygate_admin_t *admin)
{
    json_t                           *data, *pepper;
    ngx_uint_t                        i;
    const kg_str_t                   *id;
    kg_pepper_t                     **peppers;
    ngx_http_keygate_admin_count_t   *count;

    count = admin->data;
    peppers = admin->mcf->peppers.elts;
    data = json_array();

    for (i = 0; i < admin->mcf->peppers.nelts; i++) {
        id = kg_pepper_id(peppers[i]);

        pepper = json_pack("{s:s%, s:b, s:I}", "id", id->data, id->len,
                           "current", i == 0,
                           "keys", (json_int_t) count->keys[i]);

        if (json_array_append_new(data, pepper) != 0) {
            json_decref(data);
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_pack("{s:o, s:I, s:I}",
                                         "data", data,
                                         "legacy", (json_int_t) count->legacy,
                                         "others",
                                         (json_int_t) count->others));
}
