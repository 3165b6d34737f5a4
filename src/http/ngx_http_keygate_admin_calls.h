
/*
 * The calls of the admin interface, by the files that answer them, and what of
 * an organisation's or a key's call others use as well.
 */

#ifndef NGX_HTTP_KEYGATE_ADMIN_CALLS_H
#define NGX_HTTP_KEYGATE_ADMIN_CALLS_H

#include "ngx_http_keygate_admin.h"


/* ngx_http_keygate_admin_list.c */

ngx_int_t ngx_http_keygate_admin_org_list(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_list(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_org.c */

/* The organisation of the path, into admin->org: NGX_OK or the refusal. */
ngx_int_t ngx_http_keygate_admin_org_param(ngx_http_keygate_admin_t *admin);

/* The same, and makes its record the one at hand. */
ngx_int_t ngx_http_keygate_admin_org_begin(ngx_http_keygate_admin_t *admin);

/* The record as it is shown; NULL for no memory. */
json_t *ngx_http_keygate_admin_org_view(const ngx_str_t *org,
    const json_t *record);

ngx_int_t ngx_http_keygate_admin_org_put(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_org_patch(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_org_get(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_delete.c */

ngx_int_t ngx_http_keygate_admin_org_delete(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_key.c */

/*
 * The record as it may be shown, neither digest nor pepper; seen is when the
 * key was last used, empty when nobody knows.  NULL for no memory.
 */
json_t *ngx_http_keygate_admin_key_view(const json_t *record,
    const ngx_str_t *seen);

/*
 * Finds the key of the path, makes its record the one at hand and goes on
 * with next.
 */
ngx_int_t ngx_http_keygate_admin_key_begin(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next);

/* NGX_OK when the record at hand is that key's, else the refusal. */
ngx_int_t ngx_http_keygate_admin_key_check(ngx_http_keygate_admin_t *admin);

/* The same, and the role may do with it what the verb says. */
ngx_int_t ngx_http_keygate_admin_key_may(ngx_http_keygate_admin_t *admin,
    const char *verb);

/* NGX_OK, or the refusal when the record at hand is revoked or has expired. */
ngx_int_t ngx_http_keygate_admin_key_ended(ngx_http_keygate_admin_t *admin);

/* 64 hex digits into 32 bytes of admin->pool: NGX_OK, _DECLINED, _ERROR. */
ngx_int_t ngx_http_keygate_admin_unhex(ngx_http_keygate_admin_t *admin,
    ngx_str_t *hex, ngx_str_t *digest);

/* What a caller may say of a key that exists. */
extern const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_key_fields[];

ngx_int_t ngx_http_keygate_admin_key_get(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_patch(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_revoke(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_issue.c: new keys */

ngx_int_t ngx_http_keygate_admin_key_create(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_import(ngx_http_keygate_admin_t *admin);

/*
 * With the record at hand the organisation's: NGX_OK when it may get a key of
 * admin->mode from this role, else the refusal.
 */
ngx_int_t ngx_http_keygate_admin_may_issue(ngx_http_keygate_admin_t *admin);

/* Draws admin->token, its digest and the key's id: NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_draw(ngx_http_keygate_admin_t *admin);

/* What the record of such a key says of its token: NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_mark(ngx_http_keygate_admin_t *admin,
    json_t *record);

/*
 * Stores admin->made, whose id and digest are those at hand, and goes on with
 * done.
 */
ngx_int_t ngx_http_keygate_admin_issue(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt done);

/*
 * The new key's record, which is the one at hand, goes again before anybody
 * had its token; step runs with DEL's reply.
 */
ngx_int_t ngx_http_keygate_admin_take_back(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_step_pt step);


/* One file each */

ngx_int_t ngx_http_keygate_admin_key_rotate(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_key_find(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_peppers(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_usage(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_claim_get(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_claim_resolve(
    ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_export(ngx_http_keygate_admin_t *admin);
ngx_int_t ngx_http_keygate_admin_import(ngx_http_keygate_admin_t *admin);

#endif
