
/*
 * Commands of the admin interface that are asked together: they go out in one
 * write, each with the slot of its own name, and the call goes on when all are
 * answered.  They go by the connection for large values, so that no list or
 * export holds up the limits.
 */

#include "ngx_http_keygate_admin.h"


static void ngx_http_keygate_admin_part_answered(kg_redis_op_t *op);
static void ngx_http_keygate_admin_take(ngx_http_keygate_admin_part_t *part,
    kg_redis_op_t *op);
static void ngx_http_keygate_admin_later(ngx_event_t *ev);
static void ngx_http_keygate_admin_go_on(ngx_http_keygate_admin_t *admin);


ngx_http_keygate_admin_part_t *
ngx_http_keygate_admin_part(ngx_http_keygate_admin_t *admin,
    kg_redis_cmd_t *cmd, int want)
{
    ngx_uint_t                      use;
    ngx_http_keygate_admin_part_t  *part;

    part = ngx_pcalloc(admin->pool, sizeof(ngx_http_keygate_admin_part_t));
    if (part == NULL) {
        return NULL;
    }

    use = NGX_HTTP_KEYGATE_RECORDS;

    part->admin = admin;
    part->want = want;

    cmd->bulk = 1;
    cmd->timeout = ngx_max(admin->mcf->redis[use]->command,
                           NGX_HTTP_KEYGATE_ADMIN_TIMEOUT);
    cmd->handler = ngx_http_keygate_admin_part_answered;
    cmd->data = part;

    part->op = kg_redis_submit(admin->mcf->client[use], cmd);
    if (part->op == NULL) {
        return NULL;
    }

    part->next = admin->parts;
    admin->parts = part;
    admin->pending++;

    return part;
}


ngx_http_keygate_admin_part_t *
ngx_http_keygate_admin_command(ngx_http_keygate_admin_t *admin,
    ngx_str_t *argv, ngx_uint_t argc, ngx_str_t *slot, int want)
{
    kg_redis_cmd_t  cmd;

    if (argv[1].data == NULL) {
        return NULL;
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_NONE;
    cmd.argc = argc;
    cmd.argv = argv;
    cmd.slot = *slot;

    return ngx_http_keygate_admin_part(admin, &cmd, want);
}


ngx_http_keygate_admin_part_t *
ngx_http_keygate_admin_get(ngx_http_keygate_admin_t *admin, const char *kind,
    ngx_str_t *slot)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "GET");
    argv[1] = ngx_http_keygate_admin_name(admin, kind, slot);

    return ngx_http_keygate_admin_command(admin, argv, 2, slot,
                                          REDIS_REPLY_STRING);
}


ngx_http_keygate_admin_part_t *
ngx_http_keygate_admin_get_seen(ngx_http_keygate_admin_t *admin,
    ngx_str_t *key_id)
{
    ngx_str_t  argv[3];

    ngx_str_set(&argv[0], "HGET");
    argv[1] = ngx_http_keygate_admin_name(admin, "seen", key_id);
    ngx_str_set(&argv[2], "at");

    return ngx_http_keygate_admin_command(admin, argv, 3, key_id,
                                          REDIS_REPLY_STRING);
}


ngx_int_t
ngx_http_keygate_admin_gather(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    admin->gathered = next;

    if (admin->pending == 0) {
        admin->later.data = admin;
        admin->later.handler = ngx_http_keygate_admin_later;
        admin->later.log = admin->request->connection->log;

        ngx_post_event(&admin->later, &ngx_posted_next_events);
    }

    return NGX_AGAIN;
}


/* Runs from a posted event of the client. */

static void
ngx_http_keygate_admin_part_answered(kg_redis_op_t *op)
{
    ngx_http_keygate_admin_t       *admin;
    ngx_http_keygate_admin_part_t  *part;

    part = op->data;
    admin = part->admin;

    ngx_http_set_log_request(admin->request->connection->log, admin->request);

    part->op = NULL;

    ngx_http_keygate_admin_take(part, op);

    if (--admin->pending == 0) {
        ngx_http_keygate_admin_go_on(admin);
    }
}


static void
ngx_http_keygate_admin_take(ngx_http_keygate_admin_part_t *part,
    kg_redis_op_t *op)
{
    redisReply                *reply;
    ngx_http_keygate_admin_t  *admin;

    admin = part->admin;
    reply = op->reply;

    if (part->writes) {
        ngx_http_keygate_admin_forget(admin, part->kind, &part->zone_name);
    }

    if (op->status != KG_REDIS_REPLY) {

        /* One line for all of them. */

        if (admin->failed != NGX_HTTP_SERVICE_UNAVAILABLE) {
            ngx_http_keygate_admin_log_no_answer(admin, op);
            admin->failed = NGX_HTTP_SERVICE_UNAVAILABLE;
        }

        if (part->writes && (op->status == KG_REDIS_TIMEOUT
                             || op->status == KG_REDIS_LOST))
        {
            admin->unsure = 1;
        }

        return;
    }

    if (kg_redis_is(reply, REDIS_REPLY_NIL, 0)) {
        return;
    }

    if (!kg_redis_is(reply, part->want, 0)) {
        admin->failed = admin->failed ? admin->failed : NGX_ERROR;
        return;
    }

    switch (part->want) {

    case REDIS_REPLY_INTEGER:
        part->integer = reply->integer;
        break;

    case REDIS_REPLY_STATUS:
        part->integer = 1;
        break;

    default: /* REDIS_REPLY_STRING */
        part->text.len = reply->len;
        part->text.data = ngx_pnalloc(admin->pool, reply->len + 1);

        if (part->text.data == NULL) {
            admin->failed = NGX_ERROR;
            return;
        }

        ngx_memcpy(part->text.data, reply->str, reply->len);
    }
}


static void
ngx_http_keygate_admin_later(ngx_event_t *ev)
{
    ngx_http_keygate_admin_t  *admin;

    admin = ev->data;

    ngx_http_set_log_request(admin->request->connection->log, admin->request);

    ngx_http_keygate_admin_go_on(admin);
}


/* The parts are of a pool that the next step may give back. */

static void
ngx_http_keygate_admin_go_on(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = admin->request->connection;

    admin->parts = NULL;

    rc = admin->failed;
    admin->failed = 0;

    if (rc == NGX_OK) {
        rc = admin->gathered(admin);

    } else if (rc == NGX_HTTP_SERVICE_UNAVAILABLE) {
        rc = ngx_http_keygate_admin_unavailable(admin);
    }

    ngx_http_keygate_admin_finish(admin, rc);

    ngx_http_run_posted_requests(c);
}
