
/*
 * GET /export: every organisation and key as JSON lines.
 *
 *     {"type":"org","id":"acme","record":{…}}
 *     {"type":"key","digest":"<hex>","record":{…}}
 *
 * A page goes out, and the client has taken it, before the next one is read,
 * so that a slow client costs no memory.  What breaks off ends the connection
 * without the last chunk: an export that is not whole is seen to be so.  Before
 * HTTP/1.1 there are no chunks, and the end of the connection is that of any
 * answer.
 */

#include "ngx_http_keygate_admin_calls.h"


typedef struct {
    ngx_array_t                      lines;     /* ngx_str_t, of a page */
    size_t                           size;      /* of them, with newlines */
    ngx_buf_t                       *buf;       /* filters remember it */
    ngx_http_keygate_admin_pt        next;      /* once it went out */
} ngx_http_keygate_admin_export_t;


static ngx_int_t ngx_http_keygate_admin_export_page(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_export_line(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_item_t *item,
    json_t *record);
static ngx_int_t ngx_http_keygate_admin_export_join(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_export_send(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_pt next);
static ngx_int_t ngx_http_keygate_admin_export_wait(
    ngx_http_keygate_admin_t *admin);
static void ngx_http_keygate_admin_export_writer(ngx_http_request_t *r);
static ngx_int_t ngx_http_keygate_admin_exported(
    ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_admin_export(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_export_t  *export;

    static const ngx_http_keygate_admin_visit_t  visit = {
        ngx_http_keygate_admin_export_page,
        ngx_http_keygate_admin_export_page,
        ngx_http_keygate_admin_export_send,
        ngx_http_keygate_admin_exported
    };

    if (admin->request->http_version < NGX_HTTP_VERSION_11) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "An export needs HTTP/1.1: "
                                             "before it, one that breaks off "
                                             "looks whole");
    }

    export = ngx_pcalloc(admin->request->pool,
                         sizeof(ngx_http_keygate_admin_export_t));
    if (export == NULL) {
        return NGX_ERROR;
    }

    export->buf = ngx_calloc_buf(admin->request->pool);
    if (export->buf == NULL) {
        return NGX_ERROR;
    }

    admin->data = export;

    return ngx_http_keygate_admin_visit(admin, &visit);
}


static ngx_int_t
ngx_http_keygate_admin_export_page(ngx_http_keygate_admin_t *admin)
{
    json_t                           *record;
    ngx_int_t                         rc;
    ngx_uint_t                        i;
    ngx_http_keygate_admin_item_t    *item;
    ngx_http_keygate_admin_export_t  *export;

    export = admin->data;
    export->size = 0;

    if (ngx_array_init(&export->lines, admin->pool,
                       NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < admin->page.nitems; i++) {
        item = &admin->page.items[i];

        rc = ngx_http_keygate_admin_item(admin, item, &record);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc == NGX_OK) {
            rc = ngx_http_keygate_admin_export_line(admin, item, record);
            json_decref(record);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_export_line(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_item_t *item, json_t *record)
{
    json_t                           *object;
    ngx_str_t                        *line, *name;
    ngx_http_keygate_admin_export_t  *export;

    export = admin->data;

    line = ngx_array_push(&export->lines);
    if (line == NULL) {
        return NGX_ERROR;
    }

    name = item->digest.len ? &item->digest : &item->id;

    object = json_pack("{s:s, s:s%, s:O}",
                       "type", item->digest.len ? "key" : "org",
                       item->digest.len ? "digest" : "id",
                       name->data, name->len, "record", record);

    *line = ngx_http_keygate_admin_dump(admin->pool, object);
    json_decref(object);

    export->size += line->len + 1;

    return line->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_export_send(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_int_t                         rc;
    ngx_chain_t                       out;
    ngx_http_request_t               *r;
    ngx_http_keygate_admin_export_t  *export;

    static ngx_str_t  type = ngx_string("application/x-ndjson");

    r = admin->request;
    export = admin->data;

    /* Only now: what fails before has an answer of its own. */

    if (!r->header_sent) {
        rc = ngx_http_keygate_admin_send_header(admin, NGX_HTTP_OK, &type, -1);

        if (rc != NGX_OK || r->header_only) {
            return rc;
        }
    }

    if (export->size == 0) {
        return next(admin);
    }

    if (ngx_http_keygate_admin_export_join(admin) != NGX_OK) {
        return NGX_ERROR;
    }

    export->next = next;

    out.buf = export->buf;
    out.next = NULL;

    if (ngx_http_output_filter(r, &out) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_export_wait(admin);
}


/* The page's lines, in one piece of its pool. */

static ngx_int_t
ngx_http_keygate_admin_export_join(ngx_http_keygate_admin_t *admin)
{
    u_char                           *p;
    ngx_buf_t                        *b;
    ngx_str_t                        *line;
    ngx_uint_t                        i;
    ngx_http_keygate_admin_export_t  *export;

    export = admin->data;
    line = export->lines.elts;
    b = export->buf;

    p = ngx_pnalloc(admin->pool, export->size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    b->start = p;
    b->pos = p;

    for (i = 0; i < export->lines.nelts; i++) {
        p = ngx_cpymem(p, line[i].data, line[i].len);
        *p++ = LF;
    }

    b->last = p;
    b->end = p;
    b->temporary = 1;
    b->flush = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_export_wait(ngx_http_keygate_admin_t *admin)
{
    ngx_event_t                      *wev;
    ngx_http_request_t               *r;
    ngx_http_core_loc_conf_t         *clcf;
    ngx_http_keygate_admin_export_t  *export;

    r = admin->request;
    wev = r->connection->write;
    export = admin->data;

    if (!r->buffered && !r->connection->buffered) {

        if (wev->timer_set) {
            ngx_del_timer(wev);
        }

        r->write_event_handler = ngx_http_request_empty_handler;

        return export->next(admin);
    }

    r->write_event_handler = ngx_http_keygate_admin_export_writer;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


static void
ngx_http_keygate_admin_export_writer(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_http_keygate_admin_t  *admin;

    admin = ngx_http_keygate_admin_of(r);
    wev = r->connection->write;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                      "client timed out");
        r->connection->timedout = 1;

        ngx_http_keygate_admin_finish(admin, NGX_ERROR);
        return;
    }

    rc = NGX_OK;

    if (!wev->delayed) {
        rc = ngx_http_output_filter(r, NULL);
    }

    if (rc != NGX_ERROR) {
        rc = ngx_http_keygate_admin_export_wait(admin);
    }

    ngx_http_keygate_admin_finish(admin, rc);
}


static ngx_int_t
ngx_http_keygate_admin_exported(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_send_special(admin->request, NGX_HTTP_LAST);

    return ngx_http_keygate_admin_sent(rc);
}
