
/*
 * What the files of keygate_self share with each other, and with the calls of
 * the admin interface that a key's holder may make.
 */

#ifndef NGX_HTTP_KEYGATE_SELF_H
#define NGX_HTTP_KEYGATE_SELF_H

#include "ngx_http_keygate_admin_calls.h"


/* What a key needs to look after others. */
#define NGX_HTTP_KEYGATE_SELF_SCOPE  "keys:manage"


/* Who calls, as Redis has it when the call begins; in admin->self. */
struct ngx_http_keygate_self_s {
    kg_key_t                         key;
    kg_org_t                         org;
    json_t                          *record;        /* the key's */
    json_t                          *owner;         /* its organisation's */

    ngx_str_t                        slot;          /* of the key's record */
    ngx_str_t                        name;          /* ... in Redis */
    ngx_str_t                        stored;        /* ... its text there */

    ngx_http_keygate_admin_part_t   *key_part;
    ngx_http_keygate_admin_part_t   *org_part;

    /* A change that may have to be taken back */
    json_t                          *from;
    json_t                          *to;
    ngx_http_keygate_admin_pt        next;

    /* The list of its keys; see ngx_http_keygate_self_list.c. */
    json_t                          *listed;
    ngx_uint_t                       limit;         /* of entries, or keys */
    ngx_uint_t                       nkeys;         /* that count */
    u_char                           cursor[KG_KEY_ID_MAX];
};


/* ngx_http_keygate_self_rights.c; outside of keygate_self all may be done. */

/* 1 when who calls may know of the key with that record, else 0. */
ngx_uint_t ngx_http_keygate_self_sees(ngx_http_keygate_admin_t *admin,
    const json_t *record);

/*
 * A new key, admin->record, gets the bounds of who calls where it has none of
 * its own.  NGX_OK, NGX_ERROR, or the refusal of a record that may do more
 * than who calls.
 */
ngx_int_t ngx_http_keygate_self_hand_on(ngx_http_keygate_admin_t *admin);

/* The same of a key that exists: nothing is added to it. */
ngx_int_t ngx_http_keygate_self_covers(ngx_http_keygate_admin_t *admin);

/*
 * Limits that a key's holder names only lower: they are marked so, unless
 * record is the platform's to change, which takes the mark away.  To be called
 * where limits were named.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_self_mark(ngx_http_keygate_admin_t *admin);

/*
 * A key that rotates itself keeps keys:manage, so it has one successor, which
 * is found from its record, and not many that outlive it.  NGX_OK, or the
 * refusal when the record of who calls names one already.
 */
ngx_int_t ngx_http_keygate_self_succeeds(ngx_http_keygate_admin_t *admin);

/*
 * A key was changed, from admin->before to admin->record.  NGX_OK, NGX_ERROR,
 * or the refusal when it lost a limit that the record of who calls has too.
 */
ngx_int_t ngx_http_keygate_self_keeps(ngx_http_keygate_admin_t *admin);

/* 1 when the record at hand is of who calls, else 0. */
ngx_uint_t ngx_http_keygate_self_own(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_self_again.c */

/*
 * A new key was written: goes on with admin->done when the record of who calls
 * is still what the call began with, else takes the key back and refuses.
 */
ngx_int_t ngx_http_keygate_self_again(ngx_http_keygate_admin_t *admin);

/*
 * 1 when admin->record is of who calls and is no more what the call began
 * with, else 0.
 */
ngx_uint_t ngx_http_keygate_self_changed(ngx_http_keygate_admin_t *admin);

/* Deletes the new key, which admin has selected, and refuses. */
ngx_int_t ngx_http_keygate_self_take_back(ngx_http_keygate_admin_t *admin);

/*
 * A key was changed, if it was: goes on with next when the record of who calls
 * is still what the call began with, else takes the change back and refuses.
 */
ngx_int_t ngx_http_keygate_self_confirm(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next);

/* The refusal of a call whose caller was changed while it ran. */
ngx_int_t ngx_http_keygate_self_meanwhile(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_self_list.c */

/*
 * The list of keys that who calls may know of: as ..._admin_read_page(), which
 * it reads as many of as it takes, and answers.
 */
ngx_int_t ngx_http_keygate_self_key_list(ngx_http_keygate_admin_t *admin);

/*
 * Reads on behind the page at hand, whose memory is given back: keys that have
 * ended stay in the index, and a call may meet any number of them.
 */
ngx_int_t ngx_http_keygate_self_read_on(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_self_room.c */

/*
 * As ngx_http_keygate_admin_issue(), or refuses when the organisation of who
 * calls has as many test keys as keygate_self makes.
 */
ngx_int_t ngx_http_keygate_self_issue(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt done);

#endif
