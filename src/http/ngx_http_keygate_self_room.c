
/*
 * How many test keys an organisation may have before keygate_self makes no
 * more: keygate_self max_keys=.
 *
 * Those that have ended do not count, or who rotates would run out of keys.
 * The index has them too, and live ones: where it is shorter than the bound
 * all is well, else the records are read until the bound is reached.  Keys
 * that are made at the same moment do not see each other.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_self_counted(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_self_count(ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_self_counts(
    ngx_http_keygate_admin_t *admin, const json_t *record);
static ngx_int_t ngx_http_keygate_self_full(ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_self_issue(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt done)
{
    ngx_str_t                     argv[2];
    ngx_http_keygate_self_t      *self;
    ngx_http_keygate_loc_conf_t  *lcf;

    self = admin->self;

    if (self == NULL) {
        return ngx_http_keygate_admin_issue(admin, done);
    }

    lcf = ngx_http_get_module_loc_conf(admin->request,
                                       ngx_http_keygate_module);

    self->next = done;
    self->limit = lcf->max_keys;
    self->nkeys = 0;

    ngx_str_set(&argv[0], "ZCARD");
    argv[1] = ngx_http_keygate_admin_name(admin, "keys", &admin->org);

    if (argv[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->org,
                                      ngx_http_keygate_self_counted);
}


static ngx_int_t
ngx_http_keygate_self_counted(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_http_keygate_admin_page_t  *page;

    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    if (reply->integer < (int64_t) admin->self->limit) {
        return ngx_http_keygate_admin_issue(admin, admin->self->next);
    }

    page = &admin->page;

    ngx_memzero(page, sizeof(ngx_http_keygate_admin_page_t));

    page->kind = KG_ZONE_KEY;
    page->org = admin->org;
    page->limit = NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX;
    page->next = ngx_http_keygate_self_count;

    return ngx_http_keygate_admin_read_page(admin);
}


static ngx_int_t
ngx_http_keygate_self_count(ngx_http_keygate_admin_t *admin)
{
    json_t                         *record;
    ngx_int_t                       rc;
    ngx_uint_t                      i;
    ngx_http_keygate_self_t        *self;
    ngx_http_keygate_admin_page_t  *page;

    self = admin->self;
    page = &admin->page;

    /* The key that the walk had come to is gone: what is left is not known. */

    if (page->lost) {
        return ngx_http_keygate_admin_outrun(admin);
    }

    for (i = 0; i < page->nitems; i++) {
        rc = ngx_http_keygate_admin_item(admin, &page->items[i], &record);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        self->nkeys += ngx_http_keygate_self_counts(admin, record);
        json_decref(record);

        if (self->nkeys == self->limit) {
            return ngx_http_keygate_self_full(admin);
        }
    }

    if (!page->more) {
        return ngx_http_keygate_admin_issue(admin, self->next);
    }

    return ngx_http_keygate_self_read_on(admin);
}


static ngx_uint_t
ngx_http_keygate_self_counts(ngx_http_keygate_admin_t *admin,
    const json_t *record)
{
    int64_t    expires;
    ngx_str_t  text;

    if (!ngx_http_keygate_self_sees(admin, record)
        || ngx_http_keygate_admin_has(record, "revokedAt"))
    {
        return 0;
    }

    text = ngx_http_keygate_admin_member(record, "expiresAt");

    return text.len == 0
           || kg_time_parse(ngx_http_keygate_kg(&text), &expires) != KG_OK
           || expires > ngx_time();
}


static ngx_int_t
ngx_http_keygate_self_full(ngx_http_keygate_admin_t *admin)
{
    static ngx_str_t  details = ngx_string("{\"reason\":\"too_many_keys\"}");

    return ngx_http_keygate_admin_forbid(admin, &details,
                                         "The organisation has %ui test keys "
                                         "already: revoke one first",
                                         admin->self->limit);
}
