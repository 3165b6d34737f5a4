
/*
 * The admin interface's calls about a claim:
 *
 *     GET, DELETE /orgs/{org}/idempotency/{mode}/{key}
 *     GET, DELETE /orgs/{org}/idempotency/{mode}?key={key}
 *
 * A partner's write whose outcome nobody knows keeps its key until somebody has
 * looked at the upstream and resolves it.  A key is any visible ASCII and the
 * partner's to choose, so of the path it is taken as it was sent: nginx would
 * have made another call of ".." and "%2F".
 */

#include "ngx_http_keygate_admin_calls.h"


static void ngx_http_keygate_admin_claim_cleanup(void *data);
static ngx_int_t ngx_http_keygate_admin_claim_ask(
    ngx_http_keygate_admin_t *admin, const char *action,
    ngx_http_keygate_admin_step_pt step);
static ngx_int_t ngx_http_keygate_admin_claim_key(
    ngx_http_keygate_admin_t *admin, ngx_str_t *key);
static ngx_int_t ngx_http_keygate_admin_claim_shown(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_claim_resolved(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_claim_take(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_claim_audited(
    ngx_http_keygate_admin_t *admin);


typedef struct {
    ngx_str_t    key;
    json_t      *view;
} ngx_http_keygate_admin_claim_t;


ngx_int_t
ngx_http_keygate_admin_claim_get(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_claim_ask(admin, "show",
                                           ngx_http_keygate_admin_claim_shown);
}


ngx_int_t
ngx_http_keygate_admin_claim_resolve(ngx_http_keygate_admin_t *admin)
{
    admin->alters = 1;

    return ngx_http_keygate_admin_claim_ask(admin, "resolve",
                                        ngx_http_keygate_admin_claim_resolved);
}


static void
ngx_http_keygate_admin_claim_cleanup(void *data)
{
    ngx_http_keygate_admin_claim_t  *claim = data;

    json_decref(claim->view);
}


static ngx_int_t
ngx_http_keygate_admin_claim_ask(ngx_http_keygate_admin_t *admin,
    const char *action, ngx_http_keygate_admin_step_pt step)
{
    ngx_int_t                        rc;
    ngx_str_t                        argv[3], rest;
    ngx_uint_t                       i;
    kg_redis_cmd_t                   cmd;
    ngx_pool_cleanup_t              *cln;
    ngx_http_keygate_admin_claim_t  *claim;

    static ngx_str_t    field = ngx_string("mode");
    static const char  *kinds[] = { "idem", "freed" };

    rc = ngx_http_keygate_admin_org_param(admin);
    if (rc != NGX_OK) {
        return rc;
    }

    if (kg_mode_parse(ngx_http_keygate_kg(&admin->param[1]), &admin->mode)
        != KG_OK)
    {
        return ngx_http_keygate_admin_wrong(admin, &field,
                                            "must be test or live");
    }

    cln = ngx_pool_cleanup_add(admin->request->pool,
                               sizeof(ngx_http_keygate_admin_claim_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    claim = cln->data;
    claim->view = NULL;

    cln->handler = ngx_http_keygate_admin_claim_cleanup;
    admin->data = claim;

    rc = ngx_http_keygate_admin_claim_key(admin, &claim->key);
    if (rc != NGX_OK) {
        return rc;
    }

    rest.len = 1 + admin->param[1].len + 1 + claim->key.len;
    rest.data = ngx_pnalloc(admin->pool, rest.len);

    if (rest.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(rest.data, ":%V:%V", &admin->param[1], &claim->key);

    for (i = 0; i < 2; i++) {
        argv[i] = ngx_http_keygate_name(admin->pool,
                               admin->mcf->redis[NGX_HTTP_KEYGATE_IDEMPOTENCY],
                               kinds[i], &admin->org, &rest);
        if (argv[i].data == NULL) {
            return NGX_ERROR;
        }
    }

    argv[2].data = (u_char *) action;
    argv[2].len = ngx_strlen(action);

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_RESOLVE;
    cmd.nkeys = 2;
    cmd.argc = 3;
    cmd.argv = argv;
    cmd.slot = admin->org;

    return ngx_http_keygate_admin_submit(admin, NGX_HTTP_KEYGATE_IDEMPOTENCY,
                                         &cmd, step);
}


/* The key of the path, or else of the query, as it is within the record. */

static ngx_int_t
ngx_http_keygate_admin_claim_key(ngx_http_keygate_admin_t *admin,
    ngx_str_t *key)
{
    size_t      i;
    u_char     *src, *dst;
    ngx_int_t   rc;

    static ngx_str_t    field = ngx_string("key");
    static const char  *names[] = { "key", NULL };
    static const char  *none[] = { NULL };

    if (admin->nparams == 3) {
        rc = ngx_http_keygate_admin_args(admin, none, NULL);
        if (rc != NGX_OK) {
            return rc;
        }

        key->data = ngx_pnalloc(admin->request->pool, admin->param[2].len);
        if (key->data == NULL) {
            return NGX_ERROR;
        }

        src = admin->param[2].data;
        dst = key->data;

        ngx_unescape_uri(&dst, &src, admin->param[2].len, 0);

        key->len = dst - key->data;

    } else {
        rc = ngx_http_keygate_admin_args(admin, names, key);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (key->len && key->len <= KG_IDEM_KEY_MAX) {

        for (i = 0; i < key->len; i++) {
            if (key->data[i] < 0x21 || key->data[i] > 0x7e) {
                break;
            }
        }

        if (i == key->len) {
            return NGX_OK;
        }
    }

    return ngx_http_keygate_admin_wrong(admin, &field,
                                        "must be 1 to 255 bytes of visible "
                                        "ASCII, percent-encoded");
}


static ngx_int_t
ngx_http_keygate_admin_claim_shown(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_int_t                        rc;
    ngx_http_keygate_admin_claim_t  *claim;

    rc = ngx_http_keygate_admin_claim_take(admin, reply);
    if (rc != NGX_OK) {
        return rc;
    }

    claim = admin->data;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_incref(claim->view));
}


static ngx_int_t
ngx_http_keygate_admin_claim_resolved(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    json_t                          *changes;
    ngx_int_t                        rc;
    ngx_http_keygate_admin_claim_t  *claim;

    rc = ngx_http_keygate_admin_claim_take(admin, reply);
    if (rc != NGX_OK) {
        return rc;
    }

    if (reply->element[4]->integer != 1) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                             "The write of this key is still "
                                             "in progress");
    }

    admin->changed = 1;

    claim = admin->data;

    changes = json_pack("{s:{s:o, s:n}}", "idempotency",
                        "from", json_copy(claim->view), "to");

    if (json_object_set_new(claim->view, "resolved", json_true()) != 0) {
        json_decref(changes);
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_audit(admin, changes,
                                        ngx_http_keygate_admin_claim_audited);
}


static ngx_int_t
ngx_http_keygate_admin_claim_audited(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_claim_t  *claim;

    claim = admin->data;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                                         json_incref(claim->view));
}


/* resolve.lua's reply into claim->view: NGX_OK, NGX_ERROR or a refusal. */

static ngx_int_t
ngx_http_keygate_admin_claim_take(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    redisReply                     **elt;
    ngx_http_keygate_admin_claim_t  *claim;

    claim = admin->data;

    if (kg_redis_is(reply, REDIS_REPLY_ARRAY, 0) && reply->elements == 0) {
        return ngx_http_keygate_admin_unknown(admin, "idempotency key",
                                              &claim->key);
    }

    if (!kg_redis_is(reply, REDIS_REPLY_ARRAY, 5)) {
        return NGX_ERROR;
    }

    elt = reply->element;

    if (!kg_redis_is(elt[0], REDIS_REPLY_STRING, 0)
        || !kg_redis_is(elt[1], REDIS_REPLY_INTEGER, 0)
        || !kg_redis_is(elt[2], REDIS_REPLY_STRING, 0)
        || !kg_redis_is(elt[3], REDIS_REPLY_STRING, 0)
        || !kg_redis_is(elt[4], REDIS_REPLY_INTEGER, 0))
    {
        return NGX_ERROR;
    }

    claim->view = json_pack("{s:s%, s:s%, s:s%, s:s%, s:I, s:s%, s:s%}",
                            "org", admin->org.data, admin->org.len,
                            "mode", admin->param[1].data, admin->param[1].len,
                            "key", claim->key.data, claim->key.len,
                            "state", elt[0]->str, (size_t) elt[0]->len,
                            "age", (json_int_t) elt[1]->integer,
                            "route", elt[3]->str, (size_t) elt[3]->len,
                            "originalRequestId",
                            elt[2]->str, (size_t) elt[2]->len);

    return claim->view ? NGX_OK : NGX_ERROR;
}
