
/*
 * Pages of what the admin interface lists.
 *
 *     <ns>:orgs          sorted set of every organisation, all of score 0, so
 *                        that it is in the order of their ids
 *     <ns>:keys:{<org>}  sorted set of its keys by when they were made, ms
 *
 * A cursor is the last id of the page before.  Of organisations the page is
 * what comes after it in the order of ids, whatever was added meanwhile.  Of
 * keys it is what comes after that key: its rank is asked for first, and as
 * keys may be made before the range is read, the range begins with the key
 * itself, which is then looked for in it.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_read_orgs(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_orgs_listed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_read_keys(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_ranked(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_read_range(
    ngx_http_keygate_admin_t *admin, int64_t from, int64_t to);
static ngx_int_t ngx_http_keygate_admin_keys_listed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_take_items(
    ngx_http_keygate_admin_t *admin, redisReply **elements, size_t n);


ngx_int_t
ngx_http_keygate_admin_read_page(ngx_http_keygate_admin_t *admin)
{
    admin->page.more = 0;
    admin->page.lost = 0;
    admin->page.nitems = 0;
    admin->page.tries = NGX_HTTP_KEYGATE_ADMIN_TRIES;

    return (admin->page.kind == KG_ZONE_ORG)
           ? ngx_http_keygate_admin_read_orgs(admin)
           : ngx_http_keygate_admin_read_keys(admin);
}


static ngx_int_t
ngx_http_keygate_admin_read_orgs(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                       argv[8];
    u_char                          from[1 + KG_ORG_MAX], n[NGX_INT_T_LEN];
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    ngx_str_set(&argv[0], "ZRANGE");
    argv[1] = ngx_http_keygate_admin_index(admin, "orgs");
    ngx_str_set(&argv[2], "-");
    ngx_str_set(&argv[3], "+");
    ngx_str_set(&argv[4], "BYLEX");
    ngx_str_set(&argv[5], "LIMIT");
    ngx_str_set(&argv[6], "0");
    argv[7].data = n;
    argv[7].len = ngx_sprintf(n, "%ui", page->limit + 1) - n;

    if (page->cursor.len) {
        argv[2].data = from;
        argv[2].len = ngx_sprintf(from, "(%V", &page->cursor) - from;
    }

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 8, &argv[1],
                                      ngx_http_keygate_admin_orgs_listed);
}


static ngx_int_t
ngx_http_keygate_admin_orgs_listed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    size_t                          n;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_item_t  *item;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 0)) {
        return NGX_ERROR;
    }

    n = ngx_min(reply->elements, admin->page.limit);
    admin->page.more = (n < reply->elements);

    if (ngx_http_keygate_admin_take_items(admin, reply->element, n)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        item = &admin->page.items[i];

        item->stored = ngx_http_keygate_admin_get(admin, "org", &item->id);
        if (item->stored == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin, admin->page.next);
}


static ngx_int_t
ngx_http_keygate_admin_read_keys(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  argv[3];

    if (admin->page.cursor.len == 0) {
        return ngx_http_keygate_admin_read_range(admin, 0, admin->page.limit);
    }

    ngx_str_set(&argv[0], "ZREVRANK");
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->page.org);
    argv[2] = admin->page.cursor;

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 3, &admin->page.org,
                                      ngx_http_keygate_admin_ranked);
}


static ngx_int_t
ngx_http_keygate_admin_ranked(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    int64_t  rank;

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        admin->page.lost = 1;
        return ngx_http_keygate_admin_gather(admin, admin->page.next);
    }

    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    rank = reply->integer;

    return ngx_http_keygate_admin_read_range(admin, rank,
                                             rank + admin->page.limit + 1);
}


static ngx_int_t
ngx_http_keygate_admin_read_range(ngx_http_keygate_admin_t *admin,
    int64_t from, int64_t to)
{
    u_char     text[2][NGX_INT64_LEN];
    ngx_str_t  argv[5];

    ngx_str_set(&argv[0], "ZRANGE");
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->page.org);
    argv[2].data = text[0];
    argv[2].len = ngx_sprintf(text[0], "%L", from) - text[0];
    argv[3].data = text[1];
    argv[3].len = ngx_sprintf(text[1], "%L", to) - text[1];
    ngx_str_set(&argv[4], "REV");

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 5, &admin->page.org,
                                      ngx_http_keygate_admin_keys_listed);
}


static ngx_int_t
ngx_http_keygate_admin_keys_listed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    size_t                          n, skip;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_item_t  *item;
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 0)) {
        return NGX_ERROR;
    }

    n = reply->elements;
    skip = 0;

    if (page->cursor.len) {
        page->more = (n == page->limit + 2);

        while (skip < n
               && (!kg_redis_is(reply->element[skip], REDIS_REPLY_STRING, 0)
                   || (size_t) reply->element[skip]->len != page->cursor.len
                   || ngx_memcmp(reply->element[skip]->str, page->cursor.data,
                                 page->cursor.len)
                      != 0))
        {
            skip++;
        }

        if (skip == n) {

            if (--page->tries == 0) {
                return ngx_http_keygate_admin_outrun(admin);
            }

            return ngx_http_keygate_admin_read_keys(admin);
        }

        skip++;

    } else {
        page->more = (n == page->limit + 1);
    }

    n = ngx_min(n - skip, page->limit);

    if (ngx_http_keygate_admin_take_items(admin,
                                          n ? reply->element + skip : NULL, n)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        item = &page->items[i];

        item->found = ngx_http_keygate_admin_get(admin, "id", &item->id);
        if (item->found == NULL) {
            return NGX_ERROR;
        }

        if (!page->want_seen) {
            continue;
        }

        item->seen = ngx_http_keygate_admin_get_seen(admin, &item->id);
        if (item->seen == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_read_found);
}


/* Copies the ids; they are checked, for they become names and cursors. */

static ngx_int_t
ngx_http_keygate_admin_take_items(ngx_http_keygate_admin_t *admin,
    redisReply **elements, size_t n)
{
    size_t                          i;
    kg_str_t                        id;
    ngx_http_keygate_admin_page_t  *page;

    page = &admin->page;

    page->items = ngx_pcalloc(admin->pool,
                              (n + 1) * sizeof(ngx_http_keygate_admin_item_t));
    if (page->items == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_keygate_copy(admin->pool, elements[i],
                                  &page->items[i].id)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        id = *ngx_http_keygate_kg(&page->items[i].id);

        if (page->kind == KG_ZONE_ORG ? !kg_org_id_valid(&id)
                                      : !kg_key_id_valid(&id))
        {
            ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                          "keygate: an index in Redis has an entry that is "
                          "no id");
            return NGX_ERROR;
        }
    }

    page->nitems = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_read_found(ngx_http_keygate_admin_t *admin)
{
    ngx_uint_t                      i;
    ngx_http_keygate_admin_item_t  *item;

    for (i = 0; i < admin->page.nitems; i++) {
        item = &admin->page.items[i];

        if (item->found->text.len != KG_DIGEST_HEX) {
            continue;
        }

        item->digest = item->found->text;

        item->stored = ngx_http_keygate_admin_get(admin, "key",
                                                  &item->digest);
        if (item->stored == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin, admin->page.next);
}


ngx_int_t
ngx_http_keygate_admin_item(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t **record)
{
    ngx_int_t  rc;
    ngx_str_t  id, org;

    if (item->stored == NULL || item->stored->text.data == NULL) {
        return NGX_DECLINED;
    }

    rc = ngx_http_keygate_admin_load(admin, admin->page.kind, &item->id,
                                     &item->stored->text, record);

    if (rc != NGX_OK || admin->page.kind == KG_ZONE_ORG) {
        return rc;
    }

    /* What the index says of a key may have become wrong. */

    id = ngx_http_keygate_admin_member(*record, "id");
    org = ngx_http_keygate_admin_member(*record, "org");

    if (!kg_str_eq(ngx_http_keygate_kg(&id), ngx_http_keygate_kg(&item->id))
        || !kg_str_eq(ngx_http_keygate_kg(&org),
                      ngx_http_keygate_kg(&admin->page.org)))
    {
        json_decref(*record);
        *record = NULL;
        return NGX_DECLINED;
    }

    return NGX_OK;
}
