
/*
 * The admin interface's lists of organisations and of an organisation's keys.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_admin_page_args(
    ngx_http_keygate_admin_t *admin, const char **names, ngx_str_t *values);
static ngx_int_t ngx_http_keygate_admin_key_list_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_listed(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_add_item(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_item_t *item,
    json_t *data);


ngx_int_t
ngx_http_keygate_admin_org_list(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;
    ngx_str_t  values[2];

    static const char  *names[] = { "cursor", "limit", NULL };

    admin->page.kind = KG_ZONE_ORG;
    admin->page.next = ngx_http_keygate_admin_listed;

    rc = ngx_http_keygate_admin_page_args(admin, names, values);

    return (rc == NGX_OK) ? ngx_http_keygate_admin_read_page(admin) : rc;
}


ngx_int_t
ngx_http_keygate_admin_key_list(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t   rc;
    ngx_str_t   values[3], *pepper;

    static const char  *names[] = { "cursor", "limit", "pepper", NULL };
    static const char  *own_names[] = { "cursor", "limit", NULL };

    values[2].len = 0;

    admin->page.kind = KG_ZONE_KEY;
    admin->page.want_seen = 1;
    admin->page.next = ngx_http_keygate_admin_listed;

    rc = ngx_http_keygate_admin_org_begin(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_page_args(admin, admin->self ? own_names
                                                                 : names,
                                              values);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (values[2].len) {
        pepper = ngx_palloc(admin->request->pool, sizeof(ngx_str_t));
        if (pepper == NULL) {
            return NGX_ERROR;
        }

        *pepper = values[2];
        admin->data = pepper;
    }

    admin->page.org = admin->org;

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_key_list_read);
}


/* The first two are the cursor and the limit. */

static ngx_int_t
ngx_http_keygate_admin_page_args(ngx_http_keygate_admin_t *admin,
    const char **names, ngx_str_t *values)
{
    ngx_int_t  rc;
    kg_str_t  *cursor;

    static ngx_str_t  field = ngx_string("cursor");

    rc = ngx_http_keygate_admin_args(admin, names, values);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_limit(admin, &values[1],
                                          &admin->page.limit);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->page.cursor = values[0];
    cursor = ngx_http_keygate_kg(&values[0]);

    if (cursor->len
        && (admin->page.kind == KG_ZONE_ORG ? !kg_org_id_valid(cursor)
                                            : !kg_key_id_valid(cursor)))
    {
        return ngx_http_keygate_admin_wrong(admin, &field,
                                            "is none of this list");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_key_list_read(ngx_http_keygate_admin_t *admin)
{
    if (admin->record == NULL) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    return admin->self ? ngx_http_keygate_self_key_list(admin)
                       : ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_admin_listed(ngx_http_keygate_admin_t *admin)
{
    json_t                         *data, *cursor;
    ngx_str_t                      *last;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_page_t  *page;

    static ngx_str_t  field = ngx_string("cursor");

    page = &admin->page;

    if (page->lost) {
        return ngx_http_keygate_admin_wrong(admin, &field,
                                            "is none of this list");
    }

    data = json_array();

    for (i = 0; i < page->nitems; i++) {

        if (ngx_http_keygate_admin_add_item(admin, &page->items[i], data)
            != NGX_OK)
        {
            json_decref(data);
            return NGX_ERROR;
        }
    }

    cursor = NULL;

    /* A page that keys were made before while it was read may have none. */

    if (page->more) {
        last = page->nitems ? &page->items[page->nitems - 1].id
                            : &page->cursor;
        cursor = json_stringn((char *) last->data, last->len);
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_pack("{s:o, s:o?}",
                                                   "data", data,
                                                   "nextCursor", cursor));
}


static ngx_int_t
ngx_http_keygate_admin_add_item(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t *data)
{
    json_t     *record, *view;
    ngx_int_t   rc;
    ngx_str_t  *pepper, named;

    pepper = admin->data;

    rc = ngx_http_keygate_admin_item(admin, item, &record);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    if (admin->page.kind == KG_ZONE_ORG) {
        view = ngx_http_keygate_admin_org_view(&item->id, record);

    } else {
        named = ngx_http_keygate_admin_member(record, "pepper");

        if (pepper && !kg_str_eq(ngx_http_keygate_kg(&named),
                                 ngx_http_keygate_kg(pepper)))
        {
            json_decref(record);
            return NGX_OK;
        }

        view = ngx_http_keygate_admin_key_view(record, &item->seen->text);
    }

    json_decref(record);

    return json_array_append_new(data, view) == 0 ? NGX_OK : NGX_ERROR;
}
