
/*
 * DELETE /orgs/{org}.
 *
 *     a live key that is not revoked? ─ yes ─▶ 409
 *            │ no
 *     its record ─▶ its keys, test and revoked ones ─▶ the index
 *
 * Keys of an organisation without a record let nobody in, so the record goes
 * first, and the index, by which a deletion that was cut off can be repeated,
 * last.  A key that is being made meanwhile is in the list before its record
 * is written, and its maker looks for the organisation after that: either it
 * is met here, or it is taken back there.
 */

#include "ngx_http_keygate_admin_calls.h"


static ngx_int_t ngx_http_keygate_admin_delete_found(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_indexed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_delete_page(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_pt next);
static ngx_int_t ngx_http_keygate_admin_delete_check(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_record(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_recorded(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_delete_keys(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_ids(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_more(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_delete_id(
    ngx_http_keygate_admin_t *admin, ngx_str_t *id);
static ngx_int_t ngx_http_keygate_admin_delete_unlisted(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_deleted(
    ngx_http_keygate_admin_t *admin);


typedef struct {
    u_char                           cursor[KG_KEY_ID_MAX];
    size_t                           cursor_len;
    ngx_uint_t                       keys;      /* deleted */
} ngx_http_keygate_admin_delete_t;


ngx_int_t
ngx_http_keygate_admin_org_delete(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_org_begin(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    admin->data = ngx_pcalloc(admin->request->pool,
                              sizeof(ngx_http_keygate_admin_delete_t));
    if (admin->data == NULL) {
        return NGX_ERROR;
    }

    admin->tries = NGX_HTTP_KEYGATE_ADMIN_TRIES;

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_delete_found);
}


static ngx_int_t
ngx_http_keygate_admin_delete_found(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                         argv[3];
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;
    delete->cursor_len = 0;

    if (admin->record) {
        return ngx_http_keygate_admin_delete_page(admin,
                                          ngx_http_keygate_admin_delete_check);
    }

    ngx_str_set(&argv[0], "ZSCORE");
    argv[1] = ngx_http_keygate_admin_index(admin, "orgs");
    argv[2] = admin->org;

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 3, &argv[1],
                                      ngx_http_keygate_admin_delete_indexed);
}


static ngx_int_t
ngx_http_keygate_admin_delete_indexed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        return ngx_http_keygate_admin_unknown(admin, "organisation",
                                              &admin->org);
    }

    return ngx_http_keygate_admin_delete_page(admin,
                                          ngx_http_keygate_admin_delete_check);
}


static ngx_int_t
ngx_http_keygate_admin_delete_page(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_http_keygate_admin_page_t    *page;
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;
    page = &admin->page;

    ngx_memzero(page, sizeof(ngx_http_keygate_admin_page_t));

    page->kind = KG_ZONE_KEY;
    page->org = admin->org;
    page->cursor.data = delete->cursor;
    page->cursor.len = delete->cursor_len;
    page->limit = NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX;
    page->next = next;

    if (ngx_http_keygate_admin_turn(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_admin_delete_check(ngx_http_keygate_admin_t *admin)
{
    json_t                           *record;
    ngx_int_t                         rc;
    ngx_str_t                         mode;
    ngx_uint_t                        i, live;
    ngx_http_keygate_admin_item_t    *item;
    ngx_http_keygate_admin_page_t    *page;
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;
    page = &admin->page;

    for (i = 0; i < page->nitems; i++) {
        item = &page->items[i];

        rc = ngx_http_keygate_admin_item(admin, item, &record);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        mode = ngx_http_keygate_admin_member(record, "mode");

        live = kg_str_eq(ngx_http_keygate_kg(&mode),
                         kg_mode_name(KG_MODE_LIVE))
               && !ngx_http_keygate_admin_has(record, "revokedAt");

        json_decref(record);

        if (live) {
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                                 "The organisation has live "
                                                 "keys that are not revoked, "
                                                 "as \"%V\"", &item->id);
        }
    }

    if (page->more && page->nitems) {
        delete->cursor_len = page->items[page->nitems - 1].id.len;
        ngx_memcpy(delete->cursor, page->items[page->nitems - 1].id.data,
                   delete->cursor_len);

        return ngx_http_keygate_admin_delete_page(admin,
                                          ngx_http_keygate_admin_delete_check);
    }

    return ngx_http_keygate_admin_delete_record(admin);
}


static ngx_int_t
ngx_http_keygate_admin_delete_record(ngx_http_keygate_admin_t *admin)
{
    static ngx_str_t  nothing = ngx_string("");

    if (admin->record == NULL) {
        return ngx_http_keygate_admin_delete_keys(admin);
    }

    return ngx_http_keygate_admin_swap(admin, &nothing,
                                       ngx_http_keygate_admin_delete_recorded);
}


static ngx_int_t
ngx_http_keygate_admin_delete_recorded(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    if (reply->integer == 1) {
        admin->changed = 1;
        return ngx_http_keygate_admin_delete_keys(admin);
    }

    if (--admin->tries == 0) {
        return ngx_http_keygate_admin_outrun(admin);
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_delete_found);
}


/* Always the first page: what was deleted is in it no more. */

static ngx_int_t
ngx_http_keygate_admin_delete_keys(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;
    delete->cursor_len = 0;

    return ngx_http_keygate_admin_delete_page(admin,
                                            ngx_http_keygate_admin_delete_ids);
}


/* The records, before what leads to them. */

static ngx_int_t
ngx_http_keygate_admin_delete_ids(ngx_http_keygate_admin_t *admin)
{
    json_t                           *record;
    ngx_int_t                         rc;
    ngx_str_t                         argv[2];
    ngx_uint_t                        i;
    ngx_http_keygate_admin_item_t    *item;
    ngx_http_keygate_admin_part_t    *part;
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;

    ngx_str_set(&argv[0], "DEL");

    for (i = 0; i < admin->page.nitems; i++) {
        item = &admin->page.items[i];

        rc = ngx_http_keygate_admin_item(admin, item, &record);

        /* What a list has may be another organisation's. */

        if (rc == NGX_DECLINED) {
            item->kept = item->stored && item->stored->text.data;
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        json_decref(record);

        argv[1] = ngx_http_keygate_admin_name(admin, "key", &item->digest);

        part = ngx_http_keygate_admin_command(admin, argv, 2, &item->digest,
                                              REDIS_REPLY_INTEGER);
        if (part == NULL) {
            return NGX_ERROR;
        }

        part->writes = 1;
        part->kind = KG_ZONE_KEY;

        if (ngx_http_keygate_admin_unhex(admin, &item->digest,
                                         &part->zone_name)
            == NGX_ERROR)
        {
            return NGX_ERROR;
        }

        delete->keys++;
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_delete_more);
}


static ngx_int_t
ngx_http_keygate_admin_delete_more(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                       argv[3], *id;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    if (page->nitems == 0) {
        ngx_str_set(&argv[0], "ZREM");
        argv[1] = ngx_http_keygate_admin_index(admin, "orgs");
        argv[2] = admin->org;

        if (ngx_http_keygate_admin_command(admin, argv, 3, &argv[1],
                                           REDIS_REPLY_INTEGER)
            == NULL)
        {
            return NGX_ERROR;
        }

        return ngx_http_keygate_admin_gather(admin,
                                       ngx_http_keygate_admin_delete_unlisted);
    }

    for (i = 0; i < page->nitems; i++) {
        id = &page->items[i].id;

        if (!page->items[i].kept
            && ngx_http_keygate_admin_delete_id(admin, id) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_str_set(&argv[0], "ZREM");
        argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->org);
        argv[2] = *id;

        if (ngx_http_keygate_admin_command(admin, argv, 3, &admin->org,
                                           REDIS_REPLY_INTEGER)
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_delete_keys);
}


/* What leads to a key, and what is known of its use. */

static ngx_int_t
ngx_http_keygate_admin_delete_id(ngx_http_keygate_admin_t *admin,
    ngx_str_t *id)
{
    ngx_str_t   argv[2];
    ngx_uint_t  i;

    static const char  *kinds[] = { "id", "seen" };

    ngx_str_set(&argv[0], "DEL");

    for (i = 0; i < 2; i++) {
        argv[1] = ngx_http_keygate_admin_name(admin, kinds[i], id);

        if (ngx_http_keygate_admin_command(admin, argv, 2, id,
                                           REDIS_REPLY_INTEGER)
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_delete_unlisted(ngx_http_keygate_admin_t *admin)
{
    json_t  *changes;

    changes = ngx_http_keygate_admin_changes(admin->record, NULL);

    return ngx_http_keygate_admin_audit(admin, changes,
                                        ngx_http_keygate_admin_deleted);
}


static ngx_int_t
ngx_http_keygate_admin_deleted(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_delete_t  *delete;

    delete = admin->data;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_pack("{s:s%, s:b, s:I}",
                                             "id", admin->org.data,
                                             admin->org.len,
                                             "deleted", 1,
                                             "keys",
                                             (json_int_t) delete->keys));
}
