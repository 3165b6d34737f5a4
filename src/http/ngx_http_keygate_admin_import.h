
/*
 * An import, between its passes and what is said of its lines.
 */

#ifndef NGX_HTTP_KEYGATE_ADMIN_IMPORT_H
#define NGX_HTTP_KEYGATE_ADMIN_IMPORT_H

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_admin_lines.h"


#define NGX_HTTP_KEYGATE_ADMIN_BATCH        50      /* lines */
#define NGX_HTTP_KEYGATE_ADMIN_REFUSED_MAX  100     /* ... and it stops */
#define NGX_HTTP_KEYGATE_ADMIN_CHANGES_MAX  1000    /* that are told */


typedef enum {
    NGX_HTTP_KEYGATE_ADMIN_CHECK = 0,
    NGX_HTTP_KEYGATE_ADMIN_LOWER,
    NGX_HTTP_KEYGATE_ADMIN_KEYS,
    NGX_HTTP_KEYGATE_ADMIN_RAISE
} ngx_http_keygate_admin_pass_t;


/* A line of the batch; all but the record is in admin->pool. */
typedef struct {
    ngx_uint_t                       line;      /* its number */
    kg_zone_kind_t                   kind;
    ngx_str_t                        name;      /* id, or digest in hex */
    ngx_str_t                        zone_name; /* id, or 32 bytes */
    ngx_str_t                        key_id;
    ngx_str_t                        org;       /* whose key */
    json_t                          *record;
    ngx_str_t                        text;      /* the record in Redis */

    ngx_http_keygate_admin_part_t   *stored;
    ngx_http_keygate_admin_part_t   *id;        /* what the key's id leads to */
    ngx_http_keygate_admin_part_t   *listed;    /* its id, as this key's */
    ngx_http_keygate_admin_part_t   *written;
    unsigned                         creates:1;
    unsigned                         writes:1;
} ngx_http_keygate_admin_import_entry_t;


typedef struct {
    ngx_http_keygate_admin_lines_t  *lines;
    ngx_http_keygate_admin_pass_t    pass;
    unsigned                         dry_run:1;
    unsigned                         ended:1;       /* the body, this pass */
    unsigned                         truncated:1;   /* not all is told */

    ngx_http_keygate_admin_import_entry_t
                                     entries[NGX_HTTP_KEYGATE_ADMIN_BATCH];
    ngx_uint_t                       nentries;
    ngx_uint_t                       tries;

    ngx_uint_t                       nvalid;
    ngx_uint_t                       ncreated;
    ngx_uint_t                       nchanged;
    ngx_uint_t                       nrefused;
    json_t                          *refused;       /* released with it */
    json_t                          *changes;
} ngx_http_keygate_admin_import_t;


/* ngx_http_keygate_admin_import.c */

/* Reads what Redis has of the batch, and goes on from there. */
ngx_int_t ngx_http_keygate_admin_import_read(ngx_http_keygate_admin_t *admin);

/* The next batch, pass, or the end. */
ngx_int_t ngx_http_keygate_admin_import_on(ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_import_write.c */

/* Writes what the batch says is to be written, and goes on. */
ngx_int_t ngx_http_keygate_admin_import_index(
    ngx_http_keygate_admin_t *admin);


/* ngx_http_keygate_admin_import_line.c */

/*
 * Takes a line apart.  NGX_OK; NGX_DECLINED with what is wrong in *why;
 * NGX_ERROR.  The entry's record is then to be released in any case.
 */
ngx_int_t ngx_http_keygate_admin_import_parse(ngx_http_keygate_admin_t *admin,
    ngx_str_t *line, ngx_http_keygate_admin_import_entry_t *entry,
    const char **why);

/* What forbids to put the line in the place of what is stored, or NULL. */
const char *ngx_http_keygate_admin_import_clash(
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored);

/* Counts a line that is refused, and says why.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_keygate_admin_import_refuse(
    ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const char *why);

/* Counts a line that is not, and says what it changes.  The same. */
ngx_int_t ngx_http_keygate_admin_import_note(
    ngx_http_keygate_admin_import_t *import,
    ngx_http_keygate_admin_import_entry_t *entry, const json_t *stored);

/* 400: nothing was written. */
ngx_int_t ngx_http_keygate_admin_import_refused(
    ngx_http_keygate_admin_t *admin);

ngx_int_t ngx_http_keygate_admin_import_answer(
    ngx_http_keygate_admin_t *admin);

#endif
