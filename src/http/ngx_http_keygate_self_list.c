
/*
 * keygate_self's list of keys.
 *
 * The index of an organisation has its live keys too, which are nobody's
 * business here: their ids are no cursors, and no page ends at one.  So the
 * index is read on until a page is full, and one entry more, which says that
 * there is another page.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_self_cursor(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_read_list(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_page(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_seen(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t **record);
static ngx_int_t ngx_http_keygate_self_listed(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_lost(ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_self_key_list(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_item_t  *item;
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    admin->self->limit = page->limit;
    admin->self->listed = json_array();

    if (page->cursor.len == 0) {
        return ngx_http_keygate_self_read_list(admin);
    }

    item = ngx_pcalloc(admin->pool, sizeof(ngx_http_keygate_admin_item_t));
    if (item == NULL) {
        return NGX_ERROR;
    }

    item->id = page->cursor;
    item->found = ngx_http_keygate_admin_get(admin, "id", &item->id);

    if (item->found == NULL) {
        return NGX_ERROR;
    }

    page->items = item;
    page->nitems = 1;
    page->next = ngx_http_keygate_self_cursor;

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_read_found);
}


static ngx_int_t
ngx_http_keygate_self_cursor(ngx_http_keygate_admin_t *admin)
{
    json_t     *record;
    ngx_int_t   rc;

    rc = ngx_http_keygate_self_seen(admin, &admin->page.items[0], &record);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_self_lost(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    json_decref(record);

    return ngx_http_keygate_self_read_list(admin);
}


static ngx_int_t
ngx_http_keygate_self_read_list(ngx_http_keygate_admin_t *admin)
{
    admin->page.next = ngx_http_keygate_self_page;

    return ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_self_page(ngx_http_keygate_admin_t *admin)
{
    json_t                         *record, *view;
    ngx_int_t                       rc;
    ngx_uint_t                      i;
    ngx_http_keygate_self_t        *self;
    ngx_http_keygate_admin_item_t  *item;
    ngx_http_keygate_admin_page_t  *page;

    self = admin->self;
    page = &admin->page;

    if (page->lost) {
        return ngx_http_keygate_self_lost(admin);
    }

    for (i = 0; i < page->nitems; i++) {
        item = &page->items[i];

        rc = ngx_http_keygate_self_seen(admin, item, &record);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        view = ngx_http_keygate_admin_key_view(record, &item->seen->text);
        json_decref(record);

        if (json_array_append_new(self->listed, view) != 0) {
            return NGX_ERROR;
        }

        if (json_array_size(self->listed) > self->limit) {
            return ngx_http_keygate_self_listed(admin);
        }
    }

    if (!page->more) {
        return ngx_http_keygate_self_listed(admin);
    }

    return ngx_http_keygate_self_read_on(admin);
}


ngx_int_t
ngx_http_keygate_self_read_on(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                      *last;
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    if (page->nitems) {
        last = &page->items[page->nitems - 1].id;

        page->cursor.len = last->len;
        page->cursor.data = ngx_cpymem(admin->self->cursor, last->data,
                                       last->len)
                            - last->len;
    }

    return (ngx_http_keygate_admin_turn(admin) == NGX_OK)
           ? ngx_http_keygate_admin_read_page(admin) : NGX_ERROR;
}


/* As ngx_http_keygate_admin_item(), of what who calls may know of. */

static ngx_int_t
ngx_http_keygate_self_seen(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t **record)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_item(admin, item, record);

    if (rc == NGX_OK && !ngx_http_keygate_self_sees(admin, *record)) {
        json_decref(*record);
        return NGX_DECLINED;
    }

    return rc;
}


static ngx_int_t
ngx_http_keygate_self_listed(ngx_http_keygate_admin_t *admin)
{
    size_t                    n;
    json_t                   *cursor;
    ngx_http_keygate_self_t  *self;

    self = admin->self;
    n = json_array_size(self->listed);
    cursor = NULL;

    if (n > self->limit) {
        (void) json_array_remove(self->listed, --n);
        cursor = json_object_get(json_array_get(self->listed, n - 1), "id");
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_pack("{s:O, s:O?}",
                                                   "data", self->listed,
                                                   "nextCursor", cursor));
}


static ngx_int_t
ngx_http_keygate_self_lost(ngx_http_keygate_admin_t *admin)
{
    static ngx_str_t  field = ngx_string("cursor");

    return ngx_http_keygate_admin_wrong(admin, &field, "is none of this list");
}
