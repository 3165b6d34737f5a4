
/*
 * The audit trail: who changed what, in a stream of Redis.
 *
 * An entry is written after the record it is about and is sent again until
 * Redis has acknowledged it, so that no change stays untold because of a lost
 * connection.  A call whose outcome is not known has an entry that says so.
 */

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_AUDIT_KEPT     "100000"    /* entries, about */
#define NGX_HTTP_KEYGATE_AUDIT_PERSIST  600000      /* ms */
#define NGX_HTTP_KEYGATE_ACTOR_MAX      128
#define NGX_HTTP_KEYGATE_AUDIT_ARGS     (3 + 2 * 11)
#define NGX_HTTP_KEYGATE_STREAM_ID_MAX  41          /* two 64-bit numbers */


typedef struct {
    ngx_str_t                        argv[NGX_HTTP_KEYGATE_AUDIT_ARGS];
    ngx_uint_t                       argc;
} ngx_http_keygate_admin_entry_t;


static ngx_int_t ngx_http_keygate_admin_who_claims(
    ngx_http_keygate_admin_t *admin);
static kg_redis_op_t *ngx_http_keygate_admin_audit_send(
    ngx_http_keygate_admin_t *admin, json_t *changes, const char *outcome,
    kg_redis_handler_pt handler);
static void ngx_http_keygate_admin_audit_field(
    ngx_http_keygate_admin_entry_t *entry, const char *name,
    const ngx_str_t *value);
static void ngx_http_keygate_admin_audit_answered(kg_redis_op_t *op);
static ngx_int_t ngx_http_keygate_admin_change(json_t *changes,
    const char *member, json_t *from, json_t *to);
static ngx_int_t ngx_http_keygate_admin_audit_listed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static json_t *ngx_http_keygate_admin_audit_view(const redisReply *reply);
static ngx_uint_t ngx_http_keygate_admin_stream_id(ngx_str_t *text);


/* The order of the trail's entries as they are shown. */
static const char  *ngx_http_keygate_admin_audit_fields[] = {
    "at", "actor", "claimed", "action", "outcome", "org", "key", "mode",
    "changes", "requestId", NULL
};


ngx_int_t
ngx_http_keygate_admin_who(ngx_http_keygate_admin_t *admin)
{
    size_t                        i;
    ngx_str_t                     value;
    ngx_http_request_t           *r;
    ngx_http_keygate_loc_conf_t  *lcf;

    r = admin->request;
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    if (lcf->actor == NULL) {
        return ngx_http_keygate_admin_who_claims(admin);
    }

    if (ngx_http_complex_value(r, lcf->actor, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return ngx_http_keygate_admin_who_claims(admin);
    }

    /* A certificate's subject may have anything in it. */

    admin->actor.len = ngx_min(value.len, NGX_HTTP_KEYGATE_ACTOR_MAX);

    admin->actor.data = ngx_pnalloc(r->pool, admin->actor.len);
    if (admin->actor.data == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < admin->actor.len; i++) {
        admin->actor.data[i] = (value.data[i] < 0x20 || value.data[i] > 0x7e)
                               ? '?' : value.data[i];
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_who_claims(ngx_http_keygate_admin_t *admin)
{
    size_t            i;
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    static ngx_str_t  name = ngx_string("Keygate-Actor");

    h = ngx_http_keygate_header_in(admin->request, &name, &n);

    if (h == NULL || h->value.len == 0) {
        return NGX_OK;
    }

    if (n > 1) {
        return ngx_http_keygate_admin_wrong(admin, &name, "is there twice");
    }

    for (i = 0; i < h->value.len; i++) {
        if (h->value.data[i] < 0x20 || h->value.data[i] > 0x7e) {
            break;
        }
    }

    if (i < h->value.len || i > NGX_HTTP_KEYGATE_ACTOR_MAX) {
        return ngx_http_keygate_admin_wrong(admin, &name, "must be at most "
                                            "128 bytes of printable ASCII");
    }

    admin->actor = h->value;
    admin->claimed = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_audit(ngx_http_keygate_admin_t *admin, json_t *changes,
    ngx_http_keygate_admin_pt next)
{
    admin->audited = next;
    admin->audit = ngx_http_keygate_admin_audit_send(admin, changes,
                                       admin->outcome,
                                       ngx_http_keygate_admin_audit_answered);

    return admin->audit ? NGX_AGAIN : next(admin);
}


void
ngx_http_keygate_admin_audit_broken(ngx_http_keygate_admin_t *admin,
    const char *outcome)
{
    (void) ngx_http_keygate_admin_audit_send(admin, json_object(), outcome,
                                             NULL);
}


/* The operation; NULL, after a line in the log, for no memory. */

static kg_redis_op_t *
ngx_http_keygate_admin_audit_send(ngx_http_keygate_admin_t *admin,
    json_t *changes, const char *outcome, kg_redis_handler_pt handler)
{
    u_char                          date[KG_TIME_LEN];
    ngx_str_t                       value;
    ngx_log_t                      *log;
    kg_redis_op_t                  *op;
    kg_redis_cmd_t                  cmd;
    ngx_http_keygate_admin_entry_t  entry;

    log = admin->request->connection->log;

    /* Whatever comes of it, one entry was made. */

    admin->noted = 1;

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "keygate: %s, organisation \"%V\" key \"%V\", by \"%V\"%s%s",
                  admin->call->action, &admin->org, &admin->key_id,
                  &admin->actor, outcome ? ": the outcome is " : "",
                  outcome ? outcome : "");

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));
    ngx_memzero(&entry, sizeof(ngx_http_keygate_admin_entry_t));

    entry.argv[0] = ngx_http_keygate_admin_index(admin, "audit");
    ngx_str_set(&entry.argv[1], NGX_HTTP_KEYGATE_AUDIT_KEPT);
    entry.argv[2] = admin->ctx->request_id;
    entry.argc = 3;

    value.data = date;
    value.len = kg_time_format(ngx_time(), date) - date;
    ngx_http_keygate_admin_audit_field(&entry, "at", &value);

    ngx_http_keygate_admin_audit_field(&entry, "actor", &admin->actor);

    if (admin->claimed) {
        ngx_str_set(&value, "true");
        ngx_http_keygate_admin_audit_field(&entry, "claimed", &value);
    }

    value.data = (u_char *) admin->call->action;
    value.len = ngx_strlen(value.data);
    ngx_http_keygate_admin_audit_field(&entry, "action", &value);

    if (outcome) {
        value.data = (u_char *) outcome;
        value.len = ngx_strlen(outcome);
        ngx_http_keygate_admin_audit_field(&entry, "outcome", &value);
    }

    ngx_http_keygate_admin_audit_field(&entry, "org", &admin->org);
    ngx_http_keygate_admin_audit_field(&entry, "key", &admin->key_id);

    if (admin->key_id.len) {
        value = *ngx_http_keygate_ngx(kg_mode_name(admin->mode));
        ngx_http_keygate_admin_audit_field(&entry, "mode", &value);
    }

    value = ngx_http_keygate_admin_dump(admin->pool, changes);
    json_decref(changes);
    ngx_http_keygate_admin_audit_field(&entry, "changes", &value);

    ngx_http_keygate_admin_audit_field(&entry, "requestId",
                                       &admin->ctx->request_id);

    cmd.script = KG_SCRIPT_AUDIT;
    cmd.nkeys = 1;
    cmd.argc = entry.argc;
    cmd.argv = entry.argv;
    cmd.slot = entry.argv[0];
    cmd.persist = NGX_HTTP_KEYGATE_AUDIT_PERSIST;
    cmd.timeout = NGX_HTTP_KEYGATE_ADMIN_TIMEOUT;
    cmd.handler = handler;
    cmd.data = admin;

    op = entry.argv[0].data
         ? kg_redis_submit(admin->mcf->client[NGX_HTTP_KEYGATE_RECORDS], &cmd)
         : NULL;

    if (op == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "keygate: no memory for an entry "
                      "of the audit trail");
    }

    return op;
}


static void
ngx_http_keygate_admin_audit_field(ngx_http_keygate_admin_entry_t *entry,
    const char *name, const ngx_str_t *value)
{
    if (value->len == 0) {
        return;
    }

    entry->argv[entry->argc].data = (u_char *) name;
    entry->argv[entry->argc++].len = ngx_strlen(name);
    entry->argv[entry->argc++] = *value;
}


/* Runs from a posted event of the client. */

static void
ngx_http_keygate_admin_audit_answered(kg_redis_op_t *op)
{
    ngx_connection_t          *c;
    ngx_http_keygate_admin_t  *admin;

    admin = op->data;
    c = admin->request->connection;

    ngx_http_set_log_request(c->log, admin->request);

    admin->audit = NULL;

    if (op->status != KG_REDIS_REPLY) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "keygate: an entry of the audit trail is not in Redis: "
                      "%s", kg_redis_reason(op));
    }

    ngx_http_keygate_admin_finish(admin, admin->audited(admin));

    ngx_http_run_posted_requests(c);
}


json_t *
ngx_http_keygate_admin_changes(const json_t *before, const json_t *after)
{
    json_t      *changes, *from, *to;
    const char  *member;

    changes = json_object();

    json_object_foreach((json_t *) after, member, to) {
        from = json_object_get(before, member);

        if (ngx_http_keygate_admin_change(changes, member, from, to)
            != NGX_OK)
        {
            json_decref(changes);
            return NULL;
        }
    }

    json_object_foreach((json_t *) before, member, from) {

        if (json_object_get(after, member) == NULL
            && ngx_http_keygate_admin_change(changes, member, from, NULL)
               != NGX_OK)
        {
            json_decref(changes);
            return NULL;
        }
    }

    return changes;
}


static ngx_int_t
ngx_http_keygate_admin_change(json_t *changes, const char *member,
    json_t *from, json_t *to)
{
    ngx_uint_t  i;

    /* What the entry says itself, and what is nobody's to see. */

    static const char  *aside[] = {
        "v", "id", "org", "mode", "createdAt", "hint", "pepper", NULL
    };

    for (i = 0; aside[i]; i++) {
        if (ngx_strcmp(aside[i], member) == 0) {
            return NGX_OK;
        }
    }

    from = from ? from : json_null();
    to = to ? to : json_null();

    if (json_equal(from, to)) {
        return NGX_OK;
    }

    return json_object_set_new(changes, member,
                               json_pack("{s:O, s:O}", "from", from,
                                         "to", to))
           == 0 ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_audit_get(ngx_http_keygate_admin_t *admin)
{
    u_char      *p;
    ngx_int_t    rc;
    ngx_str_t    values[2], argv[6];

    static ngx_str_t    field = ngx_string("cursor");
    static const char  *names[] = { "cursor", "limit", NULL };

    rc = ngx_http_keygate_admin_args(admin, names, values);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_limit(admin, &values[1],
                                          &admin->page.limit);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&argv[0], "XREVRANGE");
    argv[1] = ngx_http_keygate_admin_index(admin, "audit");
    ngx_str_set(&argv[2], "+");
    ngx_str_set(&argv[3], "-");
    ngx_str_set(&argv[4], "COUNT");

    p = ngx_pnalloc(admin->pool,
                    NGX_INT_T_LEN + 1 + NGX_HTTP_KEYGATE_STREAM_ID_MAX);
    if (p == NULL || argv[1].data == NULL) {
        return NGX_ERROR;
    }

    argv[5].data = p;
    argv[5].len = ngx_sprintf(p, "%ui", admin->page.limit + 1) - p;

    if (values[0].len) {

        if (!ngx_http_keygate_admin_stream_id(&values[0])) {
            return ngx_http_keygate_admin_wrong(admin, &field,
                                                "is none of this trail");
        }

        argv[2].data = argv[5].data + argv[5].len;
        argv[2].len = ngx_sprintf(argv[2].data, "(%V", &values[0])
                      - argv[2].data;
    }

    return ngx_http_keygate_admin_ask(admin, argv, 6, &argv[1],
                                      ngx_http_keygate_admin_audit_listed);
}


static ngx_int_t
ngx_http_keygate_admin_audit_listed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    json_t      *answer, *data, *cursor;
    size_t       i, n;
    redisReply  *last;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 0)) {
        return NGX_ERROR;
    }

    n = ngx_min(reply->elements, admin->page.limit);
    data = json_array();
    cursor = NULL;

    for (i = 0; i < n; i++) {

        if (json_array_append_new(data,
                         ngx_http_keygate_admin_audit_view(reply->element[i]))
            != 0)
        {
            json_decref(data);
            return NGX_ERROR;
        }
    }

    if (n < reply->elements) {
        last = reply->element[n - 1]->element[0];
        cursor = json_stringn(last->str, last->len);
    }

    answer = json_pack("{s:o, s:o?}", "data", data, "nextCursor", cursor);

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK, answer);
}


/* One entry: [id, [name, value, name, value ...]]; NULL when it is not. */

static json_t *
ngx_http_keygate_admin_audit_view(const redisReply *reply)
{
    json_t        *view, *value;
    size_t         i;
    redisReply   **pair, *id, *fields;
    const char   **name;

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 2)
        || !kg_redis_is(reply->element[0], REDIS_REPLY_STRING, 0)
        || !kg_redis_is(reply->element[1], REDIS_REPLY_ARRAY, 0))
    {
        return NULL;
    }

    id = reply->element[0];
    fields = reply->element[1];

    view = json_pack("{s:s%}", "id", id->str, (size_t) id->len);

    for (name = ngx_http_keygate_admin_audit_fields; *name; name++) {
        value = NULL;

        for (i = 0; i + 1 < fields->elements; i += 2) {
            pair = &fields->element[i];

            if (kg_redis_is(pair[0], REDIS_REPLY_STRING, 0)
                && kg_redis_is(pair[1], REDIS_REPLY_STRING, 0)
                && ngx_strcmp(pair[0]->str, *name) == 0)
            {
                value = (ngx_strcmp(*name, "changes") == 0)
                        ? json_loadb(pair[1]->str, pair[1]->len, 0, NULL)
                        : json_stringn(pair[1]->str, pair[1]->len);
                break;
            }
        }

        if (ngx_strcmp(*name, "claimed") == 0) {
            json_decref(value);
            value = json_boolean(value != NULL);
        }

        if (json_object_set_new(view, *name, value ? value : json_null())
            != 0)
        {
            json_decref(view);
            return NULL;
        }
    }

    return view;
}


/* 1 when it is an id of a stream, "1700000000000-0". */

static ngx_uint_t
ngx_http_keygate_admin_stream_id(ngx_str_t *text)
{
    size_t   len;
    u_char  *sign;

    sign = ngx_strlchr(text->data, text->data + text->len, '-');

    if (sign == NULL) {
        return 0;
    }

    len = sign - text->data;

    /* Redis takes 64 bits of each; a trail has no numbers of more than 63. */

    return ngx_atoi(text->data, len) != NGX_ERROR
           && ngx_atoi(sign + 1, text->len - len - 1) != NGX_ERROR
           && text->len <= NGX_HTTP_KEYGATE_STREAM_ID_MAX;
}
