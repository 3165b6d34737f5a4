
/*
 * What the files of the admin interface share.
 *
 * A call is a row of a table, as that in ngx_http_keygate_admin.c, and a
 * handler.  A handler checks what the caller sent, asks Redis step by step,
 * and answers.  It and every step return
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


#define NGX_HTTP_KEYGATE_ADMIN_PARAMS    3      /* in the path of a call */
#define NGX_HTTP_KEYGATE_ADMIN_PAGE      50     /* entries, unless told */
#define NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX  100
#define NGX_HTTP_KEYGATE_ADMIN_TRIES     8      /* against other writers */
#define NGX_HTTP_KEYGATE_ADMIN_TIMEOUT   1000   /* ms of a command, at least */


typedef struct ngx_http_keygate_admin_s       ngx_http_keygate_admin_t;
typedef struct ngx_http_keygate_admin_part_s  ngx_http_keygate_admin_part_t;
typedef struct ngx_http_keygate_self_s        ngx_http_keygate_self_t;

typedef ngx_int_t (*ngx_http_keygate_admin_pt)(
    ngx_http_keygate_admin_t *admin);
typedef ngx_int_t (*ngx_http_keygate_admin_step_pt)(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);


/* What the body of a call is. */
typedef enum {
    NGX_HTTP_KEYGATE_ADMIN_NO_BODY = 0,
    NGX_HTTP_KEYGATE_ADMIN_OBJECT,  /* a JSON object, in admin->body */
    NGX_HTTP_KEYGATE_ADMIN_SECRET,  /* text, in admin->text, to be wiped */
    NGX_HTTP_KEYGATE_ADMIN_LINES    /* large: left where nginx put it */
} ngx_http_keygate_admin_body_t;


typedef struct {
    const char                      *method;    /* "GET": HEAD too */
    const char                      *path;      /* "orgs/:/keys" */
    ngx_uint_t                       role;      /* the least that may */
    ngx_http_keygate_admin_body_t    body;
    const char                      *action;    /* audited; NULL: it looks */
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


/* One of several commands that are asked together; in admin->pool. */
struct ngx_http_keygate_admin_part_s {
    ngx_http_keygate_admin_t        *admin;
    ngx_http_keygate_admin_part_t   *next;
    kg_redis_op_t                   *op;
    int                              want;      /* REDIS_REPLY_... or nil */

    /* the write of a record, which the zone then forgets */
    unsigned                         writes:1;
    kg_zone_kind_t                   kind;
    ngx_str_t                        zone_name;

    /* the reply */
    ngx_str_t                        text;      /* a string; data NULL: nil */
    int64_t                          integer;   /* ... ; a status is 1 */
};


typedef struct {
    ngx_str_t                        id;        /* key's or organisation's */
    ngx_str_t                        digest;    /* a key's, in hex */
    ngx_http_keygate_admin_part_t   *found;     /* the digest of the id */
    ngx_http_keygate_admin_part_t   *stored;    /* the record, or NULL */
    ngx_http_keygate_admin_part_t   *seen;      /* when the key was used */
    unsigned                         kept:1;    /* by a deletion */
} ngx_http_keygate_admin_item_t;


/* A page of organisations by id, or of an organisation's keys, newest first. */
typedef struct {
    kg_zone_kind_t                   kind;
    ngx_str_t                        org;       /* whose keys */
    ngx_str_t                        cursor;    /* the last id before it */
    ngx_uint_t                       limit;
    unsigned                         want_seen:1;

    ngx_http_keygate_admin_item_t   *items;     /* in admin->pool */
    ngx_uint_t                       nitems;
    unsigned                         more:1;    /* after the last item */
    unsigned                         lost:1;    /* the cursor is of no key */

    ngx_uint_t                       tries;
    ngx_http_keygate_admin_pt        next;
} ngx_http_keygate_admin_page_t;


/*
 * A walk over every organisation and key, a page at a time.  Each visit is
 * told of admin->page and returns NGX_OK, or how the call ends.
 */
typedef struct {
    ngx_http_keygate_admin_pt        orgs;      /* a page; NULL: none asked */
    ngx_http_keygate_admin_pt        keys;      /* a page of one of them */
    ngx_int_t                      (*pause)(ngx_http_keygate_admin_t *admin,
                                            ngx_http_keygate_admin_pt next);
    ngx_http_keygate_admin_pt        done;
} ngx_http_keygate_admin_visit_t;

typedef struct ngx_http_keygate_admin_walk_s  ngx_http_keygate_admin_walk_t;


struct ngx_http_keygate_admin_s {
    ngx_http_request_t              *request;
    ngx_http_keygate_ctx_t          *ctx;
    ngx_http_keygate_main_conf_t    *mcf;
    ngx_uint_t                       role;      /* of who calls */
    const ngx_http_keygate_admin_call_t  *calls;
    const ngx_http_keygate_admin_call_t  *call;
    ngx_http_keygate_admin_pt        prepare;   /* before it; NULL: nothing */
    ngx_http_keygate_self_t         *self;      /* keygate_self, or NULL */

    ngx_str_t                        param[NGX_HTTP_KEYGATE_ADMIN_PARAMS];
    ngx_uint_t                       nparams;
    json_t                          *body;      /* released with the request */
    ngx_str_t                        text;
    ngx_str_t                        actor;     /* empty: nobody said */
    unsigned                         claimed:1; /* ... by the caller itself */

    /* What a step allocates from: the request's, or the page's at hand. */
    ngx_pool_t                      *pool;
    ngx_pool_t                      *turned;    /* that page's, or NULL */

    /* Redis was asked, for one thing or for parts */
    kg_redis_op_t                   *op;
    ngx_http_keygate_admin_step_pt   step;
    unsigned                         writes:1;  /* the record below */
    unsigned                         alters:1;  /* what the zone has not */
    ngx_http_keygate_admin_part_t   *parts;
    ngx_uint_t                       pending;
    ngx_int_t                        failed;    /* of a part; or 0 */
    unsigned                         unsure:1;  /* a write may have been done */
    ngx_http_keygate_admin_pt        doubt;     /* ... then, or NULL: a 503 */
    ngx_http_keygate_admin_pt        gathered;
    ngx_event_t                      later;

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
    json_t                          *before;    /* NULL: there was none */
    unsigned                         created:1;
    unsigned                         changed:1; /* Redis has acknowledged */

    /* The audit trail */
    kg_redis_op_t                   *audit;
    ngx_http_keygate_admin_pt        audited;
    const char                      *outcome;   /* NULL: all was done */
    unsigned                         noted:1;

    ngx_str_t                        org;
    ngx_str_t                        key_id;
    ngx_str_t                        digest;    /* 32 bytes */
    kg_mode_t                        mode;      /* of a key that is made */
    ngx_str_t                        seen;      /* of the key of the path */
    ngx_str_t                        token;     /* wiped with the request */
    json_t                          *made;      /* a new key's record */

    ngx_http_keygate_admin_page_t    page;
    ngx_http_keygate_admin_walk_t   *walk;
    void                            *data;      /* the call's own */
};


/* ngx_http_keygate_admin.c */

/*
 * The content handler of a location: finds the call in a table, whose last
 * row has no method, and runs it.  enter is asked first whether whoever calls
 * may: it sets what the call needs to know of them and returns NGX_OK, or how
 * the call ends.
 */
ngx_int_t ngx_http_keygate_admin_serve(ngx_http_request_t *r,
    const ngx_http_keygate_admin_call_t *calls,
    ngx_http_keygate_admin_pt enter);

/* What a handler or a step has returned; nothing of the request after it. */
void ngx_http_keygate_admin_finish(ngx_http_keygate_admin_t *admin,
    ngx_int_t rc);

/* The call's state; the request must be one. */
ngx_http_keygate_admin_t *ngx_http_keygate_admin_of(ngx_http_request_t *r);

/*
 * A page of a long call begins: what the one before it took from admin->pool
 * is given back.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_admin_turn(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_body.c */

/* Reads what the call takes: NGX_OK, NGX_ERROR or the refusal's status. */
ngx_int_t ngx_http_keygate_admin_read_body(ngx_http_keygate_admin_t *admin);

/* Wipes what nginx keeps of a body in memory. */
void ngx_http_keygate_admin_wipe_body(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_ask.c: Redis */

/*
 * Asks Redis; step runs with its reply.  NGX_AGAIN, or NGX_ERROR for no
 * memory.  slot is what is in the braces of the key's name.  An outage is
 * answered 503 and no step runs.
 */
ngx_int_t ngx_http_keygate_admin_ask(ngx_http_keygate_admin_t *admin,
    ngx_str_t *argv, ngx_uint_t argc, ngx_str_t *slot,
    ngx_http_keygate_admin_step_pt step);

/*
 * The same for any command, of which script, nkeys, argc, argv and slot are
 * the caller's, and for any use of Redis.
 */
ngx_int_t ngx_http_keygate_admin_submit(ngx_http_keygate_admin_t *admin,
    ngx_uint_t use, kg_redis_cmd_t *cmd,
    ngx_http_keygate_admin_step_pt step);

/* As ..._ask(), for the write of the record at hand: the zone forgets it. */
ngx_int_t ngx_http_keygate_admin_write(ngx_http_keygate_admin_t *admin,
    ngx_str_t *argv, ngx_uint_t argc, ngx_http_keygate_admin_step_pt step);

/* The same by cas.lua: text, empty to delete, in place of what was stored. */
ngx_int_t ngx_http_keygate_admin_swap(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text, ngx_http_keygate_admin_step_pt step);

/* A record was written, or may have been: nobody must use the old one. */
void ngx_http_keygate_admin_forget(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *zone_name);

void ngx_http_keygate_admin_log_no_answer(ngx_http_keygate_admin_t *admin,
    const kg_redis_op_t *op);

/* "<ns>:<kind>:{<slot>}" in admin->pool; data NULL for no memory. */
ngx_str_t ngx_http_keygate_admin_name(ngx_http_keygate_admin_t *admin,
    const char *kind, ngx_str_t *slot);

/* "<ns>:<index>", of what is one for all organisations; the same. */
ngx_str_t ngx_http_keygate_admin_index(ngx_http_keygate_admin_t *admin,
    const char *index);


/* ngx_http_keygate_admin_gather.c: several commands in one write */

/*
 * Asks Redis, by the connection for large values, for a reply of the type
 * want or nil.  The part, or NULL for no memory.  script, nkeys, argc, argv
 * and slot of cmd are the caller's.
 */
ngx_http_keygate_admin_part_t *ngx_http_keygate_admin_part(
    ngx_http_keygate_admin_t *admin, kg_redis_cmd_t *cmd, int want);

/* The same for a plain command about one name. */
ngx_http_keygate_admin_part_t *ngx_http_keygate_admin_command(
    ngx_http_keygate_admin_t *admin, ngx_str_t *argv, ngx_uint_t argc,
    ngx_str_t *slot, int want);

/* The same for GET <ns>:<kind>:{<slot>}. */
ngx_http_keygate_admin_part_t *ngx_http_keygate_admin_get(
    ngx_http_keygate_admin_t *admin, const char *kind, ngx_str_t *slot);

/* The same for the field "at" of <ns>:seen:{<key id>}. */
ngx_http_keygate_admin_part_t *ngx_http_keygate_admin_get_seen(
    ngx_http_keygate_admin_t *admin, ngx_str_t *key_id);

/*
 * Goes on with next when all parts are answered; with none it does so in the
 * next turn of the event loop, so that no call keeps others waiting.
 */
ngx_int_t ngx_http_keygate_admin_gather(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next);


/* ngx_http_keygate_admin_record.c: reading and editing a record */

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
 * then may be made, when there is none), writes it when it has changed and
 * nobody else has changed it meanwhile, else begins again, and goes on with
 * done; admin->changed then says whether it was written, admin->before what it
 * was.  change returns NGX_OK; NGX_DECLINED, when the record is as it should
 * be; or the status of its refusal.
 */
ngx_int_t ngx_http_keygate_admin_edit(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt change, ngx_http_keygate_admin_pt done);

/* 409, when the tries are used up. */
ngx_int_t ngx_http_keygate_admin_outrun(ngx_http_keygate_admin_t *admin);

/*
 * The text that admin->record has in Redis, in the request's pool: it was
 * checked to be a record that can be read again.  NGX_OK; NGX_ERROR; or the
 * status of a refusal.
 */
ngx_int_t ngx_http_keygate_admin_encode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *text);

/* NGX_OK when text is a record; NGX_DECLINED and *why; NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_pack(kg_zone_kind_t kind, ngx_str_t *text,
    const char **why);

/*
 * The packed form of a record's text, in the request's pool.  NGX_OK, or
 * NGX_ERROR when it is none.
 */
ngx_int_t ngx_http_keygate_admin_packed(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *text, ngx_str_t *packed);

/*
 * The record of a text of Redis, which the caller releases.  NGX_OK;
 * NGX_DECLINED after a line in the log, when it is none; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_admin_load(ngx_http_keygate_admin_t *admin,
    kg_zone_kind_t kind, ngx_str_t *id, ngx_str_t *text, json_t **record);


/* ngx_http_keygate_admin_answer.c */

/*
 * Refuses the call; returns the status.  field is what the caller sent wrong,
 * or NULL; fmt is the message for people, of nginx's formats.
 */
ngx_int_t ngx_http_keygate_admin_refuse(ngx_http_keygate_admin_t *admin,
    kg_error_code_t code, const ngx_str_t *field, const char *fmt, ...);

/* 403 with the details, a JSON object. */
ngx_int_t ngx_http_keygate_admin_forbid(ngx_http_keygate_admin_t *admin,
    ngx_str_t *details, const char *fmt, ...);

/* 404: what is "organisation" or "key". */
ngx_int_t ngx_http_keygate_admin_unknown(ngx_http_keygate_admin_t *admin,
    const char *what, ngx_str_t *id);

/* 403: what a role may do with test keys only. */
ngx_int_t ngx_http_keygate_admin_test_only(ngx_http_keygate_admin_t *admin,
    const char *verb);

/* 500: the record that was read is none, as the log says. */
ngx_int_t ngx_http_keygate_admin_broken(ngx_http_keygate_admin_t *admin);

/* 503: nothing is known to have happened, the same call may succeed. */
ngx_int_t ngx_http_keygate_admin_unavailable(ngx_http_keygate_admin_t *admin);

/*
 * Answers with a JSON object, which it releases; NULL is no memory.  With
 * admin->token it gets the member "token" as well.
 */
ngx_int_t ngx_http_keygate_admin_answer(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, json_t *object);

/*
 * What the filters have returned, as a step returns it: NGX_AGAIN of theirs is
 * that the client has not taken all yet, which is nginx's to wait for.
 */
ngx_int_t ngx_http_keygate_admin_sent(ngx_int_t rc);

/* The header alone; length -1: not known.  NGX_OK, or how the call ends. */
ngx_int_t ngx_http_keygate_admin_send_header(ngx_http_keygate_admin_t *admin,
    ngx_uint_t status, ngx_str_t *type, off_t length);


/* ngx_http_keygate_admin_field.c: what a caller may send */

/* 400: the field, and what is wrong with it. */
ngx_int_t ngx_http_keygate_admin_wrong(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, const char *why);

/* NGX_OK, or the status of the refusal of the first field that is wrong. */
ngx_int_t ngx_http_keygate_admin_check(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_how_t how);

/* The same of what two dates are to each other: the body's or a record's. */
ngx_int_t ngx_http_keygate_admin_check_span(ngx_http_keygate_admin_t *admin,
    const json_t *object);

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


/* ngx_http_keygate_admin_args.c */

/*
 * The query's arguments, decoded, by their names, of which NULL is the last;
 * one not sent is empty.  NGX_OK, or the refusal of one of another name.
 */
ngx_int_t ngx_http_keygate_admin_args(ngx_http_keygate_admin_t *admin,
    const char **names, ngx_str_t *values);

/* The number of entries of a page; the same. */
ngx_int_t ngx_http_keygate_admin_limit(ngx_http_keygate_admin_t *admin,
    ngx_str_t *value, ngx_uint_t *limit);


/* ngx_http_keygate_admin_json.c: between jansson, nginx and the core */

/* The string of a value; empty, with data NULL, when it is none. */
ngx_str_t ngx_http_keygate_admin_text(const json_t *value);

/* The same of a member of an object. */
ngx_str_t ngx_http_keygate_admin_member(const json_t *object,
    const char *name);

/* 1 when an object has the member, and it is not null. */
ngx_uint_t ngx_http_keygate_admin_has(const json_t *object, const char *name);

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


/* ngx_http_keygate_admin_origin.c */

/*
 * NGX_OK, or the refusal of what a page of another site has a browser send:
 * docs/admin.md.
 */
ngx_int_t ngx_http_keygate_admin_from_here(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_audit.c */

/* Who calls, into admin->actor: NGX_OK, NGX_ERROR or the refusal. */
ngx_int_t ngx_http_keygate_admin_who(ngx_http_keygate_admin_t *admin);

/*
 * Adds the entry of this call to the trail, and a line to the log, and goes
 * on with next in any case: what was changed is changed.  changes is released;
 * NULL is no memory.
 */
ngx_int_t ngx_http_keygate_admin_audit(ngx_http_keygate_admin_t *admin,
    json_t *changes, ngx_http_keygate_admin_pt next);

/* The same of a call that ends halfway; nothing goes on after it. */
void ngx_http_keygate_admin_audit_broken(ngx_http_keygate_admin_t *admin,
    const char *outcome);

/* {"<member>":{"from":…,"to":…}}: what differs, secrets aside. */
json_t *ngx_http_keygate_admin_changes(const json_t *before,
    const json_t *after);

ngx_int_t ngx_http_keygate_admin_audit_get(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_page.c */

/*
 * Reads the page admin->page asks for and goes on with its next:
 * NGX_AGAIN, or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_admin_read_page(ngx_http_keygate_admin_t *admin);

/* Items whose "found" was gathered: reads their records, and goes on so too. */
ngx_int_t ngx_http_keygate_admin_read_found(ngx_http_keygate_admin_t *admin);

/*
 * The record of an item, which the caller releases.  NGX_OK; NGX_DECLINED:
 * there is none, or the log says why it cannot be read; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_admin_item(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t **record);


/* ngx_http_keygate_admin_walk.c */

/* Begins a walk; NGX_AGAIN, or NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_visit(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_visit_t *visit);

#endif
