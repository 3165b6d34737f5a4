
/*
 * The admin interface and Redis: asking and waiting, reading a record, and
 * editing one so that concurrent writers do not lose each other's changes.
 *
 * An edit is a compare-and-set: what was read is sent along with what is to
 * stand in its place, and where Redis meanwhile has another text the edit
 * begins again from the read.
 */

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_ADMIN_TIMEOUT  1000    /* ms, at least */
#define NGX_HTTP_KEYGATE_ADMIN_TRIES    8


static ngx_int_t ngx_http_keygate_admin_submit(
    ngx_http_keygate_admin_t *admin, kg_redis_cmd_t *cmd,
    ngx_http_keygate_admin_step_pt step);
static void ngx_http_keygate_admin_answered(kg_redis_op_t *op);
static ngx_int_t ngx_http_keygate_admin_outcome(
    ngx_http_keygate_admin_t *admin, kg_redis_op_t *op);
static ngx_int_t ngx_http_keygate_admin_fetched(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_edit_fetched(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_edit_written(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_pack(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text, const char **why);


ngx_int_t
ngx_http_keygate_admin_ask(ngx_http_keygate_admin_t *admin, ngx_str_t *argv,
    ngx_uint_t argc, ngx_str_t *slot, ngx_http_keygate_admin_step_pt step)
{
    kg_redis_cmd_t  cmd;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = argc;
    cmd.argv = argv;
    cmd.slot = *slot;

    return ngx_http_keygate_admin_submit(admin, &cmd, step);
}


ngx_int_t
ngx_http_keygate_admin_write(ngx_http_keygate_admin_t *admin, ngx_str_t *argv,
    ngx_uint_t argc, ngx_http_keygate_admin_step_pt step)
{
    admin->writes = 1;

    return ngx_http_keygate_admin_ask(admin, argv, argc, &admin->slot, step);
}


static ngx_int_t
ngx_http_keygate_admin_submit(ngx_http_keygate_admin_t *admin,
    kg_redis_cmd_t *cmd, ngx_http_keygate_admin_step_pt step)
{
    ngx_uint_t  use;

    use = NGX_HTTP_KEYGATE_RECORDS;

    cmd->timeout = ngx_max(admin->mcf->redis[use]->command,
                           NGX_HTTP_KEYGATE_ADMIN_TIMEOUT);
    cmd->handler = ngx_http_keygate_admin_answered;
    cmd->data = admin;

    admin->step = step;

    admin->op = kg_redis_submit(admin->mcf->client[use], cmd);

    return admin->op ? NGX_AGAIN : NGX_ERROR;
}


/* Runs from a posted event of the client. */

static void
ngx_http_keygate_admin_answered(kg_redis_op_t *op)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_keygate_admin_t  *admin;

    admin = op->data;
    r = admin->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    admin->op = NULL;

    ngx_http_keygate_admin_finish(admin,
                                  ngx_http_keygate_admin_outcome(admin, op));

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_keygate_admin_outcome(ngx_http_keygate_admin_t *admin,
    kg_redis_op_t *op)
{
    if (admin->writes) {
        admin->writes = 0;

        /* Without an answer it may have been written as well. */

        kg_zone_invalidate(admin->mcf->zone, admin->kind, &admin->zone_name);
    }

    if (op->status != KG_REDIS_REPLY) {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "keygate: the admin interface has no answer of Redis: "
                      "%s", kg_redis_reason(op));
        return ngx_http_keygate_admin_unavailable(admin);
    }

    return admin->step(admin, op->reply);
}


ngx_int_t
ngx_http_keygate_admin_select(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *name)
{
    const char  *records;
    ngx_pool_t  *pool;

    pool = admin->request->pool;

    admin->kind = kind;
    admin->zone_name = *name;
    admin->slot = *name;
    records = "org";

    if (kind == KG_ZONE_KEY) {
        admin->slot.len = KG_DIGEST_HEX;
        admin->slot.data = ngx_pnalloc(pool, KG_DIGEST_HEX);
        if (admin->slot.data == NULL) {
            return NGX_ERROR;
        }

        kg_hex(admin->slot.data, name->data, KG_DIGEST_LEN);
        records = "key";
    }

    admin->name = ngx_http_keygate_name(pool,
                                  admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                  records, &admin->slot, NULL);

    return admin->name.data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_keygate_admin_fetch(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_str_t  argv[2];

    admin->next = next;

    ngx_str_set(&argv[0], "GET");
    argv[1] = admin->name;

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->slot,
                                      ngx_http_keygate_admin_fetched);
}


static ngx_int_t
ngx_http_keygate_admin_fetched(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_int_t    rc;
    ngx_str_t    text;
    ngx_uint_t   is_key;
    const char  *why;

    json_decref(admin->record);
    admin->record = NULL;
    ngx_str_set(&admin->stored, "");

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        return admin->next(admin);
    }

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return NGX_ERROR;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;

    rc = ngx_http_keygate_admin_pack(admin, &text, &why);

    if (rc == NGX_DECLINED) {
        is_key = (admin->kind == KG_ZONE_KEY);

        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "keygate: the record of %s \"%V\" in Redis is not "
                      "valid: %s", is_key ? "key" : "organisation",
                      is_key ? &admin->key_id : &admin->org, why);
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_INTERNAL_ERROR,
                                             NULL, "The record is not valid, "
                                             "see the error log");
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->stored.data = ngx_pstrdup(admin->request->pool, &text);
    admin->stored.len = text.len;
    admin->record = json_loadb((char *) text.data, text.len, 0, NULL);

    if (admin->stored.data == NULL || admin->record == NULL) {
        return NGX_ERROR;
    }

    return admin->next(admin);
}


ngx_int_t
ngx_http_keygate_admin_edit(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt change, ngx_http_keygate_admin_pt done)
{
    admin->change = change;
    admin->done = done;
    admin->tries = NGX_HTTP_KEYGATE_ADMIN_TRIES;

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_edit_fetched);
}


static ngx_int_t
ngx_http_keygate_admin_edit_fetched(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t       rc;
    ngx_str_t       argv[3];
    kg_redis_cmd_t  cmd;

    admin->created = (admin->record == NULL);

    rc = admin->change(admin);

    if (rc == NGX_DECLINED) {
        return admin->done(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    argv[0] = admin->name;
    argv[1] = admin->stored;

    rc = ngx_http_keygate_admin_encode(admin, &argv[2]);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_CAS;
    cmd.nkeys = 1;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.slot = admin->slot;

    admin->writes = 1;

    return ngx_http_keygate_admin_submit(admin, &cmd,
                                         ngx_http_keygate_admin_edit_written);
}


static ngx_int_t
ngx_http_keygate_admin_edit_written(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    if (reply->integer == 1) {
        return admin->done(admin);
    }

    if (--admin->tries == 0) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                             "Others keep changing the same "
                                             "record, try again");
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_edit_fetched);
}


ngx_int_t
ngx_http_keygate_admin_encode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text)
{
    ngx_int_t    rc;
    const char  *why;

    *text = ngx_http_keygate_admin_dump(admin->request->pool, admin->record);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_keygate_admin_pack(admin, text, &why);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "This cannot be stored: %s",
                                             why);
    }

    return rc;
}


/* NGX_OK when the text is a record; NGX_DECLINED and *why; NGX_ERROR. */

static ngx_int_t
ngx_http_keygate_admin_pack(ngx_http_keygate_admin_t *admin, ngx_str_t *text,
    const char **why)
{
    size_t    len;
    u_char   *packed;
    kg_rc_t   rc;

    packed = ngx_palloc(admin->request->pool, KG_RECORD_MAX);
    if (packed == NULL) {
        return NGX_ERROR;
    }

    if (admin->kind == KG_ZONE_KEY) {
        rc = kg_key_pack(ngx_http_keygate_kg(text), packed, KG_RECORD_MAX,
                         &len, why);
    } else {
        rc = kg_org_pack(ngx_http_keygate_kg(text), packed, KG_RECORD_MAX,
                         &len, why);
    }

    ngx_pfree(admin->request->pool, packed);

    switch (rc) {

    case KG_OK:
        return NGX_OK;

    case KG_FULL:
        *why = "the record is too long";
        /* fall through */

    case KG_INVALID:
        return NGX_DECLINED;

    default: /* KG_ERROR */
        return NGX_ERROR;
    }
}
