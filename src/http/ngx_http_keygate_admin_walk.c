
/*
 * A walk of the admin interface over every organisation and key.
 *
 * It goes by pages, and what a page took is given back before the next one, so
 * that its memory does not grow with the number of keys; between two pages the
 * worker does other things.  What is added while it walks may be met or not;
 * what was there before is met.
 */

#include "ngx_http_keygate_admin.h"


struct ngx_http_keygate_admin_walk_s {
    ngx_http_keygate_admin_visit_t   visit;

    /* The organisations of a page, whose keys are still to be visited. */
    ngx_str_t                        orgs[NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX];
    u_char                           ids[NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX]
                                        [KG_ORG_MAX];
    ngx_uint_t                       norgs;
    ngx_uint_t                       org;           /* at hand */
    unsigned                         more:1;        /* organisations */

    u_char                           cursor[KG_KEY_ID_MAX];
    size_t                           cursor_len;    /* of the keys */
};


static ngx_int_t ngx_http_keygate_admin_walk_orgs(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_walk_orgs_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_walk_keys(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_walk_keys_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_walk_on(
    ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_admin_visit(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_visit_t *visit)
{
    admin->walk = ngx_pcalloc(admin->request->pool,
                              sizeof(ngx_http_keygate_admin_walk_t));
    if (admin->walk == NULL) {
        return NGX_ERROR;
    }

    admin->walk->visit = *visit;

    return ngx_http_keygate_admin_walk_orgs(admin);
}


static ngx_int_t
ngx_http_keygate_admin_walk_orgs(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_page_t  *page;
    ngx_http_keygate_admin_walk_t  *walk;

    walk = admin->walk;
    page = &admin->page;

    ngx_memzero(page, sizeof(ngx_http_keygate_admin_page_t));

    page->kind = KG_ZONE_ORG;
    page->limit = NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX;
    page->next = ngx_http_keygate_admin_walk_orgs_read;

    if (walk->norgs) {
        page->cursor = walk->orgs[walk->norgs - 1];
    }

    if (ngx_http_keygate_admin_turn(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_admin_walk_orgs_read(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                       rc;
    ngx_str_t                      *id;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_walk_t  *walk;

    walk = admin->walk;

    for (i = 0; i < admin->page.nitems; i++) {
        id = &admin->page.items[i].id;

        ngx_memcpy(walk->ids[i], id->data, id->len);
        walk->orgs[i].data = walk->ids[i];
        walk->orgs[i].len = id->len;
    }

    walk->norgs = admin->page.nitems;
    walk->more = admin->page.more;
    walk->org = 0;
    walk->cursor_len = 0;

    rc = walk->visit.orgs ? walk->visit.orgs(admin) : NGX_OK;

    return (rc == NGX_OK) ? ngx_http_keygate_admin_walk_on(admin) : rc;
}


static ngx_int_t
ngx_http_keygate_admin_walk_keys(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_page_t  *page;
    ngx_http_keygate_admin_walk_t  *walk;

    walk = admin->walk;
    page = &admin->page;

    if (walk->org == walk->norgs) {
        return walk->more ? ngx_http_keygate_admin_walk_orgs(admin)
                          : walk->visit.done(admin);
    }

    ngx_memzero(page, sizeof(ngx_http_keygate_admin_page_t));

    page->kind = KG_ZONE_KEY;
    page->org = walk->orgs[walk->org];
    page->limit = NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX;
    page->cursor.data = walk->cursor;
    page->cursor.len = walk->cursor_len;
    page->next = ngx_http_keygate_admin_walk_keys_read;

    if (ngx_http_keygate_admin_turn(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_admin_walk_keys_read(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                       rc;
    ngx_str_t                      *last;
    ngx_http_keygate_admin_page_t  *page;
    ngx_http_keygate_admin_walk_t  *walk;

    walk = admin->walk;
    page = &admin->page;

    if (page->nitems) {
        last = &page->items[page->nitems - 1].id;

        walk->cursor_len = last->len;
        ngx_memcpy(walk->cursor, last->data, last->len);
    }

    if (!page->more) {
        walk->org++;
        walk->cursor_len = 0;
    }

    rc = walk->visit.keys(admin);

    return (rc == NGX_OK) ? ngx_http_keygate_admin_walk_on(admin) : rc;
}


static ngx_int_t
ngx_http_keygate_admin_walk_on(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_walk_t  *walk;

    walk = admin->walk;

    return walk->visit.pause
           ? walk->visit.pause(admin, ngx_http_keygate_admin_walk_keys)
           : ngx_http_keygate_admin_walk_keys(admin);
}
