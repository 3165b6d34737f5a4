
/*
 * The lines of a large body, between what reads them and the import.
 */

#ifndef NGX_HTTP_KEYGATE_ADMIN_LINES_H
#define NGX_HTTP_KEYGATE_ADMIN_LINES_H

#include "ngx_http_keygate_admin.h"


#define NGX_HTTP_KEYGATE_ADMIN_BLOCK     65536

/* A record at its longest, and what stands around it. */
#define NGX_HTTP_KEYGATE_ADMIN_LINE_MAX  (KG_RECORD_MAX + 512)


typedef struct {
    ngx_chain_t                     *body;

    ngx_chain_t                     *at;        /* what is read next */
    off_t                            offset;

    u_char                          *block;     /* what was read of it */
    u_char                          *pos;
    u_char                          *last;

    u_char                          *line;
    ngx_uint_t                       number;    /* of the line, from 1 */
} ngx_http_keygate_admin_lines_t;


/* In the request's pool, at the first line; NULL for no memory. */
ngx_http_keygate_admin_lines_t *ngx_http_keygate_admin_lines_create(
    ngx_http_request_t *r);

void ngx_http_keygate_admin_lines_rewind(
    ngx_http_keygate_admin_lines_t *lines);

/*
 * The next line, without its end, of which the last one may have none; it is
 * there until the one after it.  NGX_OK; NGX_DECLINED: it is too long;
 * NGX_DONE: there is none; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_admin_lines_next(
    ngx_http_keygate_admin_lines_t *lines, ngx_str_t *line);

#endif
