
/*
 * What is told of a key's usage, by GET /keys/{id}/usage and to its holder.
 */

#ifndef NGX_HTTP_KEYGATE_ADMIN_USAGE_H
#define NGX_HTTP_KEYGATE_ADMIN_USAGE_H

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_USAGE_LIMITS  64   /* looked at, at most */


typedef struct {
    ngx_http_keygate_applied_t  applied;
    ngx_str_t                   route;          /* by=route, or empty */
} ngx_http_keygate_usage_limit_t;


/* The call's own, in admin->data. */
typedef struct {
    ngx_http_keygate_admin_pt   done;
    kg_key_t                    key;
    kg_org_t                    org;
    json_t                     *answer;
    ngx_array_t                 routes;         /* ngx_str_t, copied */

    ngx_uint_t                  nlimits;
    ngx_http_keygate_usage_limit_t  limits[NGX_HTTP_KEYGATE_USAGE_LIMITS];
} ngx_http_keygate_admin_usage_t;


/*
 * Makes admin->data, for a call that goes on with done when all is told in
 * usage->answer, which done may take; NULL for no memory.
 */
ngx_http_keygate_admin_usage_t *ngx_http_keygate_admin_usage_create(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_pt done);

/* Asks what was counted of admin->key_id, and how usage->key's limits stand. */
ngx_int_t ngx_http_keygate_admin_usage_count(
    ngx_http_keygate_admin_t *admin);

/* Asks where the limits stand, and goes on with usage->done. */
ngx_int_t ngx_http_keygate_admin_usage_limits(
    ngx_http_keygate_admin_t *admin);

#endif
