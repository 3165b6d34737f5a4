
/*
 * The admin interface's GET /keys/{id}/usage: what a key did in the last 31
 * days, when and from where it was last used, and where its limits stand.
 *
 *     the key's record ─▶ its organisation's ─▶ what was counted ─▶ the limits
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_usage.h"


#define NGX_HTTP_KEYGATE_USAGE_SHOWN  31    /* days */


/* A count of a day; the strings are the reply's. */
typedef struct {
    ngx_str_t                   route;
    ngx_str_t                   outcome;
    ngx_int_t                   count;
} ngx_http_keygate_usage_count_t;


static void ngx_http_keygate_admin_usage_cleanup(void *data);
static ngx_int_t ngx_http_keygate_admin_usage_key(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_owner(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_answer(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_usage_show(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_usage_seen(json_t *answer,
    const redisReply *seen);
static int ngx_http_keygate_admin_usage_later(const void *one,
    const void *two);
static ngx_int_t ngx_http_keygate_admin_usage_day(
    ngx_http_keygate_admin_t *admin, json_t *days, uint32_t day,
    const redisReply *hash);
static ngx_uint_t ngx_http_keygate_admin_usage_split(redisReply *field,
    redisReply *value, ngx_http_keygate_usage_count_t *count);
static int ngx_http_keygate_admin_usage_before(const void *one,
    const void *two);
static ngx_int_t ngx_http_keygate_admin_usage_route(
    ngx_http_keygate_admin_t *admin, ngx_str_t *route);


ngx_int_t
ngx_http_keygate_admin_usage(ngx_http_keygate_admin_t *admin)
{
    if (ngx_http_keygate_admin_usage_create(admin,
                                          ngx_http_keygate_admin_usage_answer)
        == NULL)
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_key_begin(admin,
                                            ngx_http_keygate_admin_usage_key);
}


ngx_http_keygate_admin_usage_t *
ngx_http_keygate_admin_usage_create(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt done)
{
    ngx_pool_cleanup_t              *cln;
    ngx_http_keygate_admin_usage_t  *usage;

    cln = ngx_pool_cleanup_add(admin->request->pool,
                               sizeof(ngx_http_keygate_admin_usage_t));
    if (cln == NULL) {
        return NULL;
    }

    usage = cln->data;
    ngx_memzero(usage, sizeof(ngx_http_keygate_admin_usage_t));

    cln->handler = ngx_http_keygate_admin_usage_cleanup;

    if (ngx_array_init(&usage->routes, admin->request->pool, 16,
                       sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NULL;
    }

    usage->done = done;
    admin->data = usage;

    return usage;
}


static void
ngx_http_keygate_admin_usage_cleanup(void *data)
{
    ngx_http_keygate_admin_usage_t  *usage = data;

    json_decref(usage->answer);
}


static ngx_int_t
ngx_http_keygate_admin_usage_key(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_usage_owner);
}


static ngx_int_t
ngx_http_keygate_admin_usage_owner(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                        rc;
    ngx_str_t                        packed;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    rc = ngx_http_keygate_admin_key_check(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_keygate_admin_packed(admin, KG_ZONE_KEY, &admin->stored,
                                      &packed)
        != NGX_OK
        || kg_key_view(ngx_http_keygate_kg(&packed), &usage->key) != KG_OK
        || ngx_http_keygate_admin_select(admin, KG_ZONE_ORG, &admin->org)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_usage_read);
}


/* A key may have no organisation's record. */

static ngx_int_t
ngx_http_keygate_admin_usage_read(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t                        packed;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    if (admin->record
        && (ngx_http_keygate_admin_packed(admin, KG_ZONE_ORG, &admin->stored,
                                          &packed)
            != NGX_OK
            || kg_org_view(ngx_http_keygate_kg(&packed), &usage->org)
               != KG_OK))
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_usage_count(admin);
}


ngx_int_t
ngx_http_keygate_admin_usage_count(ngx_http_keygate_admin_t *admin)
{
    u_char                           text[1 + KG_DAY_LEN];
    uint32_t                         day;
    ngx_str_t                        rest;
    ngx_uint_t                       i;
    kg_redis_cmd_t                   cmd;
    ngx_http_keygate_admin_usage_t  *usage;
    ngx_str_t                        argv[1 + NGX_HTTP_KEYGATE_USAGE_SHOWN];

    usage = admin->data;

    usage->answer = json_pack("{s:s%,s:n,s:[],s:[],s:[]}", "id",
                              admin->key_id.data, admin->key_id.len,
                              "lastUsedAt", "addresses", "days", "limits");
    if (usage->answer == NULL) {
        return NGX_ERROR;
    }

    argv[0] = ngx_http_keygate_admin_name(admin, "seen", &admin->key_id);

    if (argv[0].data == NULL) {
        return NGX_ERROR;
    }

    day = kg_day(ngx_time());

    text[0] = ':';
    rest.data = text;
    rest.len = sizeof(text);

    for (i = 0; i < NGX_HTTP_KEYGATE_USAGE_SHOWN; i++) {
        (void) kg_day_format(day - i, text + 1);

        argv[1 + i] = ngx_http_keygate_name(admin->pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  "usage", &admin->key_id, &rest);
        if (argv[1 + i].data == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_HASHES;
    cmd.nkeys = 1 + NGX_HTTP_KEYGATE_USAGE_SHOWN;
    cmd.argc = cmd.nkeys;
    cmd.argv = argv;
    cmd.slot = admin->key_id;
    cmd.bulk = 1;

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_RECORDS, &cmd,
                                         ngx_http_keygate_admin_usage_show);
}


static ngx_int_t
ngx_http_keygate_admin_usage_show(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    json_t                          *days;
    uint32_t                         day;
    ngx_uint_t                       i;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY,
                     1 + NGX_HTTP_KEYGATE_USAGE_SHOWN)
        || ngx_http_keygate_admin_usage_seen(usage->answer, reply->element[0])
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    day = kg_day(ngx_time());
    days = json_object_get(usage->answer, "days");

    for (i = 0; i < NGX_HTTP_KEYGATE_USAGE_SHOWN; i++) {
        if (ngx_http_keygate_admin_usage_day(admin, days, day - i,
                                             reply->element[1 + i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_usage_limits(admin);
}


static ngx_int_t
ngx_http_keygate_admin_usage_answer(ngx_http_keygate_admin_t *admin)
{
    json_t                          *answer;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;

    answer = usage->answer;
    usage->answer = NULL;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK, answer);
}


/* usage.lua: "at", and "address:<address>" with its date */

static ngx_int_t
ngx_http_keygate_admin_usage_seen(json_t *answer, const redisReply *seen)
{
    size_t       i, n;
    json_t      *addresses, *sorted[16];
    redisReply  *field, *value;

    if (!kg_redis_is(seen, REDIS_REPLY_ARRAY, 0)) {
        return NGX_ERROR;
    }

    n = 0;

    for (i = 0; i + 1 < seen->elements; i += 2) {
        field = seen->element[i];
        value = seen->element[i + 1];

        if (!kg_redis_is(field, REDIS_REPLY_STRING, 0)
            || !kg_redis_is(value, REDIS_REPLY_STRING, 0))
        {
            return NGX_ERROR;
        }

        if (ngx_strcmp(field->str, "at") == 0) {
            (void) json_object_set_new(answer, "lastUsedAt",
                                       json_stringn(value->str, value->len));

        } else if (ngx_strncmp(field->str, "address:", 8) == 0
                   && n < sizeof(sorted) / sizeof(sorted[0]))
        {
            sorted[n] = json_pack("{s:s,s:s}", "address", field->str + 8,
                                  "at", value->str);
            n += (sorted[n] != NULL);
        }
    }

    ngx_qsort(sorted, n, sizeof(json_t *), ngx_http_keygate_admin_usage_later);

    addresses = json_object_get(answer, "addresses");

    for (i = 0; i < n; i++) {
        (void) json_array_append_new(addresses, sorted[i]);
    }

    return NGX_OK;
}


static int
ngx_http_keygate_admin_usage_later(const void *one, const void *two)
{
    const json_t *const  *a = one;
    const json_t *const  *b = two;

    return ngx_strcmp(json_string_value(json_object_get(*b, "at")),
                      json_string_value(json_object_get(*a, "at")));
}


static ngx_int_t
ngx_http_keygate_admin_usage_day(ngx_http_keygate_admin_t *admin, json_t *days,
    uint32_t day, const redisReply *hash)
{
    json_t                          *object, *counts, *entry;
    size_t                           i, n;
    u_char                           date[KG_TIME_LEN];
    json_int_t                       requests;
    ngx_http_keygate_usage_count_t  *count;

    if (!kg_redis_is(hash, REDIS_REPLY_ARRAY, 0)) {
        return NGX_ERROR;
    }

    if (hash->elements < 2) {
        return NGX_OK;
    }

    count = ngx_palloc(admin->pool, hash->elements / 2
                                    * sizeof(ngx_http_keygate_usage_count_t));
    if (count == NULL) {
        return NGX_ERROR;
    }

    n = 0;

    for (i = 0; i + 1 < hash->elements; i += 2) {
        n += ngx_http_keygate_admin_usage_split(hash->element[i],
                                                hash->element[i + 1],
                                                &count[n]);
    }

    ngx_qsort(count, n, sizeof(ngx_http_keygate_usage_count_t),
              ngx_http_keygate_admin_usage_before);

    (void) kg_time_format((int64_t) day * 86400, date);

    object = json_pack("{s:s%,s:i,s:[]}", "day", date,
                       sizeof("2027-01-01") - 1, "requests", 0, "counts");

    if (object == NULL || json_array_append_new(days, object) != 0) {
        return NGX_ERROR;
    }

    counts = json_object_get(object, "counts");
    requests = 0;

    for (i = 0; i < n; i++) {

        /* What is not UTF-8 cannot be shown. */

        entry = json_pack("{s:s%,s:s%,s:I}",
                          "route", count[i].route.data, count[i].route.len,
                          "outcome", count[i].outcome.data,
                          count[i].outcome.len,
                          "count", (json_int_t) count[i].count);
        if (entry == NULL) {
            continue;
        }

        if (json_array_append_new(counts, entry) != 0
            || ngx_http_keygate_admin_usage_route(admin, &count[i].route)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        requests += count[i].count;
    }

    return json_object_set_new(object, "requests", json_integer(requests))
           == 0 ? NGX_OK : NGX_ERROR;
}


/* "<route>|<outcome>": 1, or 0 for what is no count. */

static ngx_uint_t
ngx_http_keygate_admin_usage_split(redisReply *field, redisReply *value,
    ngx_http_keygate_usage_count_t *count)
{
    u_char  *p, *last;

    if (!kg_redis_is(field, REDIS_REPLY_STRING, 0)
        || !kg_redis_is(value, REDIS_REPLY_STRING, 0))
    {
        return 0;
    }

    p = (u_char *) field->str;
    last = p + field->len;

    while (last > p && last[-1] != '|') {
        last--;
    }

    if (last == p) {
        return 0;
    }

    count->route.data = p;
    count->route.len = last - 1 - p;
    count->outcome.data = last;
    count->outcome.len = p + field->len - last;

    count->count = ngx_atoi((u_char *) value->str, value->len);

    return count->count != NGX_ERROR;
}


static int
ngx_http_keygate_admin_usage_before(const void *one, const void *two)
{
    const ngx_http_keygate_usage_count_t  *a = one;
    const ngx_http_keygate_usage_count_t  *b = two;

    ngx_int_t  rc;

    rc = ngx_memn2cmp(a->route.data, b->route.data, a->route.len,
                      b->route.len);
    if (rc == 0) {
        rc = ngx_memn2cmp(a->outcome.data, b->outcome.data, a->outcome.len,
                          b->outcome.len);
    }

    return (int) rc;
}


/* Remembers each route once. */

static ngx_int_t
ngx_http_keygate_admin_usage_route(ngx_http_keygate_admin_t *admin,
    ngx_str_t *route)
{
    ngx_str_t                       *known;
    ngx_uint_t                       i;
    ngx_http_keygate_admin_usage_t  *usage;

    usage = admin->data;
    known = usage->routes.elts;

    for (i = 0; i < usage->routes.nelts; i++) {
        if (kg_str_eq(ngx_http_keygate_kg(&known[i]),
                      ngx_http_keygate_kg(route)))
        {
            return NGX_OK;
        }
    }

    known = ngx_array_push(&usage->routes);
    if (known == NULL) {
        return NGX_ERROR;
    }

    known->len = route->len;
    known->data = ngx_pstrdup(admin->request->pool, route);

    return known->data ? NGX_OK : NGX_ERROR;
}
