
/*
 * What the files of the admin interface share.
 *
 * A call is a row of the table in ngx_http_keygate_admin.c and a handler.  A
 * handler checks what the caller sent, asks Redis step by step, and answers.
 * It and every step return
 *
 *     NGX_AGAIN   Redis was asked; the next step runs with its reply
 *     otherwise   the answer's outcome: the request is finalized with it
 *
 * so that a call reads from top to bottom as the steps it takes.  A call that
 * has begun runs to its end, whether or not its client is still there.
 */

#ifndef NGX_HTTP_KEYGATE_ADMIN_H
#define NGX_HTTP_KEYGATE_ADMIN_H

#include <jansson.h>

#include "ngx_http_keygate.h"


#define NGX_HTTP_KEYGATE_ADMIN_PARAMS  3    /* in the path of a call */


typedef struct ngx_http_keygate_admin_s  ngx_http_keygate_admin_t;

typedef ngx_int_t (*ngx_http_keygate_admin_pt)(
    ngx_http_keygate_admin_t *admin);
typedef ngx_int_t (*ngx_http_keygate_admin_step_pt)(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);


typedef struct {
    const char                      *method;    /* "GET": HEAD too */
    const char                      *path;      /* "orgs/:/keys" */
    ngx_uint_t                       role;      /* the least that may */
    unsigned                         body:1;    /* is a JSON object */
    ngx_http_keygate_admin_pt        handler;
} ngx_http_keygate_admin_call_t;


/* A member that a caller may send. */
typedef struct {
    const char                      *name;      /* NULL ends a table */
    ngx_int_t                      (*check)(ngx_http_keygate_admin_t *admin,
                                            ngx_str_t *field, json_t *value);
    unsigned                         required:1;
    unsigned                         fixed:1;   /* null does not remove it */
} ngx_http_keygate_admin_field_t;


typedef enum {
    NGX_HTTP_KEYGATE_ADMIN_REPLACE = 0, /* what is not named is removed */
    NGX_HTTP_KEYGATE_ADMIN_MERGE        /* JSON merge patch, RFC 7396 */
} ngx_http_keygate_admin_how_t;


struct ngx_http_keygate_admin_s {
    ngx_http_request_t              *request;
    ngx_http_keygate_ctx_t          *ctx;
    ngx_http_keygate_main_conf_t    *mcf;
    ngx_uint_t                       role;      /* the location's */
    const ngx_http_keygate_admin_call_t  *call;

    ngx_str_t                        param[NGX_HTTP_KEYGATE_ADMIN_PARAMS];
    ngx_uint_t                       nparams;
    json_t                          *body;      /* released with the request */

    /* Redis was asked */
    kg_redis_op_t                   *op;
    ngx_http_keygate_admin_step_pt   step;
    unsigned                         writes:1;  /* the record below */

    /*
     * The record at hand.  The same members name it in Redis (by its slot, the
     * digest in hex or the organisation's id) and in the zone.
     */
    kg_zone_kind_t                   kind;
    ngx_str_t                        zone_name;
    ngx_str_t                        slot;
    ngx_str_t                        name;      /* in Redis */
    ngx_str_t                        stored;    /* its text in Redis */
    json_t                          *record;    /* NULL: absent */
    ngx_http_keygate_admin_pt        next;      /* after a fetch */

    /* An edit of it */
    ngx_http_keygate_admin_pt        change;
    ngx_http_keygate_admin_pt        done;
    ngx_uint_t                       tries;
    unsigned                         created:1;

    ngx_str_t                        org;
    ngx_str_t                        key_id;
    ngx_str_t                        digest;    /* 32 bytes */
    ngx_str_t                        token;     /* wiped with the request */
};


/* ngx_http_keygate_admin.c */

/* What a handler or a step has returned; nothing of the request after it. */
void ngx_http_keygate_admin_finish(ngx_http_keygate_admin_t *admin,
    ngx_int_t rc);


/* ngx_http_keygate_admin_ask.c: Redis */

/*
 * Asks Redis; step runs with its reply.  NGX_AGAIN, or NGX_ERROR for no
 * memory.  slot is what is in the braces of the key's name.  An outage is
 * answered 503 and no step runs.
 */
ngx_int_t ngx_http_keygate_admin_ask(ngx_http_keygate_admin_t *admin,
    ngx_str_t *argv, ngx_uint_t argc, ngx_str_t *slot,
    ngx_http_keygate_admin_step_pt step);

/* The same for the write of the record at hand, which the zone then forgets. */
ngx_int_t ngx_http_keygate_admin_write(ngx_http_keygate_admin_t *admin,
    ngx_str_t *argv, ngx_uint_t argc, ngx_http_keygate_admin_step_pt step);

/*
 * Makes a record the one at hand: name is the organisation's id or the digest
 * of a key.  NGX_OK or NGX_ERROR for no memory.
 */
ngx_int_t ngx_http_keygate_admin_select(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *name);

/* Reads the record at hand into admin->record and goes on with next. */
ngx_int_t ngx_http_keygate_admin_fetch(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next);

/*
 * Reads the record at hand, has change edit admin->record (which is NULL, and
 * then may be made, when there is none), writes it when nobody else has
 * changed it meanwhile, else begins again, and goes on with done.  change
 * returns NGX_OK; NGX_DECLINED, when the record is as it should be; or the
 * status of its refusal.
 */
ngx_int_t ngx_http_keygate_admin_edit(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt change, ngx_http_keygate_admin_pt done);

/*
 * The text that admin->record has in Redis, in the request's pool: it was
 * checked to be a record that can be read again.  NGX_OK; NGX_ERROR; or the
 * status of a refusal.
 */
ngx_int_t ngx_http_keygate_admin_encode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text);


/* ngx_http_keygate_admin_answer.c */

/*
 * Refuses the call; returns the status.  field is what the caller sent wrong,
 * or NULL; fmt is the message for people, of nginx's formats.
 */
ngx_int_t ngx_http_keygate_admin_refuse(ngx_http_keygate_admin_t *admin,
    kg_error_code_t code, const ngx_str_t *field, const char *fmt, ...);

/* 404: what is "organisation" or "key". */
ngx_int_t ngx_http_keygate_admin_unknown(ngx_http_keygate_admin_t *admin,
    const char *what, ngx_str_t *id);

/* 503: nothing is known to have happened, the same call may succeed. */
ngx_int_t ngx_http_keygate_admin_unavailable(ngx_http_keygate_admin_t *admin);

/*
 * Answers with a JSON object, which it releases; NULL is no memory.  With
 * admin->token it gets the member "token" as well.
 */
ngx_int_t ngx_http_keygate_admin_answer(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, json_t *object);


/* ngx_http_keygate_admin_field.c: what a caller may send */

/* NGX_OK, or the status of the refusal of the first field that is wrong. */
ngx_int_t ngx_http_keygate_admin_check(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_how_t how);

/* What was checked, into admin->record.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_apply(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_how_t how);

/* Checks of a field's value that is not null; as ..._admin_check(). */
ngx_int_t ngx_http_keygate_admin_check_access(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_mode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_name(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_plan(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_limits(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_scopes(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_allow(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);

/* Of a date the value becomes what is stored: UTC, whole seconds. */
ngx_int_t ngx_http_keygate_admin_check_date(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);
ngx_int_t ngx_http_keygate_admin_check_expiry(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value);


/* ngx_http_keygate_admin_json.c: between jansson, nginx and the core */

/* The string of a value; empty, with data NULL, when it is none. */
ngx_str_t ngx_http_keygate_admin_text(const json_t *value);

/* A date, KG_TIME_LEN bytes, as a string; NULL for no memory. */
json_t *ngx_http_keygate_admin_date(time_t seconds);

/* The compact text of a value in the pool; data NULL for no memory. */
ngx_str_t ngx_http_keygate_admin_dump(ngx_pool_t *pool, const json_t *value);

typedef struct {
    const char                      *name;      /* NULL ends a table */
    json_type                        absent;    /* what is shown in its place */
} ngx_http_keygate_admin_member_t;

/* The members named, of a record, in an object; NULL for no memory. */
json_t *ngx_http_keygate_admin_view(const json_t *record,
    const ngx_http_keygate_admin_member_t *members);


/* ngx_http_keygate_admin_org.c */

/* The organisation of the path, into admin->org: NGX_OK or the refusal. */
ngx_int_t ngx_http_keygate_admin_org_param(ngx_http_keygate_admin_t *admin);

ngx_int_t ngx_http_keygate_admin_org_put(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_org_patch(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_org_get(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_key.c */

/* The record as it may be shown: neither digest nor pepper. */
json_t *ngx_http_keygate_admin_key_view(const json_t *record);

ngx_int_t ngx_http_keygate_admin_key_get(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_revoke(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_issue.c: new keys */

ngx_int_t ngx_http_keygate_admin_key_create(ngx_http_keygate_admin_t *admin);

#endif
