
/*
 * The admin interface and Redis: asking for one thing and waiting.
 */

#include "ngx_http_keygate_admin.h"


static void ngx_http_keygate_admin_answered(kg_redis_op_t *op);
static ngx_int_t ngx_http_keygate_admin_outcome(
    ngx_http_keygate_admin_t *admin, kg_redis_op_t *op);


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

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_RECORDS,
                                         &cmd, step);
}


ngx_int_t
ngx_http_keygate_admin_write(ngx_http_keygate_admin_t *admin, ngx_str_t *argv,
    ngx_uint_t argc, ngx_http_keygate_admin_step_pt step)
{
    admin->writes = 1;

    return ngx_http_keygate_admin_ask(admin, argv, argc, &admin->slot, step);
}


ngx_int_t
ngx_http_keygate_admin_swap(ngx_http_keygate_admin_t *admin, ngx_str_t *text,
    ngx_http_keygate_admin_step_pt step)
{
    ngx_str_t       argv[3];
    kg_redis_cmd_t  cmd;

    argv[0] = admin->name;
    argv[1] = admin->stored;
    argv[2] = *text;

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_CAS;
    cmd.nkeys = 1;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.slot = admin->slot;

    admin->writes = 1;

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_RECORDS,
                                         &cmd, step);
}


ngx_int_t
ngx_http_keygate_admin_submit(ngx_http_keygate_admin_t *admin, ngx_uint_t use,
    kg_redis_cmd_t *cmd, ngx_http_keygate_admin_step_pt step)
{
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
    ngx_uint_t  wrote, altered;

    wrote = admin->writes;
    altered = wrote || admin->alters;

    admin->writes = 0;
    admin->alters = 0;

    /* Without an answer it may have been written as well. */

    if (wrote) {
        ngx_http_keygate_admin_forget(admin, admin->kind, &admin->zone_name);
    }

    if (op->status != KG_REDIS_REPLY) {
        ngx_http_keygate_admin_log_no_answer(admin, op);

        admin->unsure = altered && (op->status == KG_REDIS_TIMEOUT
                                    || op->status == KG_REDIS_LOST);

        if (admin->unsure && admin->doubt) {
            return admin->doubt(admin);
        }

        return ngx_http_keygate_admin_unavailable(admin);
    }

    return admin->step(admin, op->reply);
}


void
ngx_http_keygate_admin_forget(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *zone_name)
{
    ngx_http_keygate_changed(admin->mcf, admin->pool, kind, zone_name);
}


void
ngx_http_keygate_admin_log_no_answer(ngx_http_keygate_admin_t *admin,
    const kg_redis_op_t *op)
{
    ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                  "keygate: the admin interface has no answer of Redis: %s",
                  kg_redis_reason(op));
}


ngx_str_t
ngx_http_keygate_admin_name(ngx_http_keygate_admin_t *admin, const char *kind,
    ngx_str_t *slot)
{
    return ngx_http_keygate_name(admin->pool,
                                 admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS],
                                 kind, slot, NULL);
}


ngx_str_t
ngx_http_keygate_admin_index(ngx_http_keygate_admin_t *admin,
    const char *index)
{
    ngx_str_t         name;
    const ngx_str_t  *ns;

    ns = &admin->mcf->redis[NGX_HTTP_KEYGATE_RECORDS]->ns;

    name.len = ns->len + 1 + ngx_strlen(index);

    name.data = ngx_pnalloc(admin->pool, name.len);
    if (name.data == NULL) {
        name.len = 0;
        return name;
    }

    ngx_sprintf(name.data, "%V:%s", ns, index);

    return name;
}
