
/*
 * The lines of a large body, which lies in memory and in a file as nginx has
 * read it: one at a time, so that an import takes no more memory than a line.
 */

#include "ngx_http_keygate_admin_lines.h"


static ngx_int_t ngx_http_keygate_admin_lines_fill(
    ngx_http_keygate_admin_lines_t *lines);


ngx_http_keygate_admin_lines_t *
ngx_http_keygate_admin_lines_create(ngx_http_request_t *r)
{
    ngx_http_keygate_admin_lines_t  *lines;

    lines = ngx_pcalloc(r->pool, sizeof(ngx_http_keygate_admin_lines_t));
    if (lines == NULL) {
        return NULL;
    }

    lines->block = ngx_palloc(r->pool, NGX_HTTP_KEYGATE_ADMIN_BLOCK);
    lines->line = ngx_palloc(r->pool, NGX_HTTP_KEYGATE_ADMIN_LINE_MAX);

    if (lines->block == NULL || lines->line == NULL) {
        return NULL;
    }

    lines->body = r->request_body ? r->request_body->bufs : NULL;

    ngx_http_keygate_admin_lines_rewind(lines);

    return lines;
}


void
ngx_http_keygate_admin_lines_rewind(ngx_http_keygate_admin_lines_t *lines)
{
    lines->at = lines->body;
    lines->offset = 0;
    lines->pos = lines->block;
    lines->last = lines->block;
    lines->number = 0;
}


ngx_int_t
ngx_http_keygate_admin_lines_next(ngx_http_keygate_admin_lines_t *lines,
    ngx_str_t *line)
{
    size_t      len, n;
    u_char     *end;
    ngx_int_t   rc;

    len = 0;
    lines->number++;

    for ( ;; ) {

        if (lines->pos == lines->last) {
            rc = ngx_http_keygate_admin_lines_fill(lines);

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }

            if (rc == NGX_DONE) {

                if (len == 0) {
                    return NGX_DONE;
                }

                break;
            }
        }

        end = ngx_strlchr(lines->pos, lines->last, LF);
        n = (end ? end : lines->last) - lines->pos;

        /* What is too long is counted, not kept. */

        if (len + n <= NGX_HTTP_KEYGATE_ADMIN_LINE_MAX) {
            ngx_memcpy(lines->line + len, lines->pos, n);
        }

        len += n;
        lines->pos += n;

        if (end) {
            lines->pos++;
            break;
        }
    }

    line->data = lines->line;
    line->len = len;

    return (len <= NGX_HTTP_KEYGATE_ADMIN_LINE_MAX) ? NGX_OK : NGX_DECLINED;
}


/* NGX_OK, NGX_DONE at the end of the body, or NGX_ERROR. */

static ngx_int_t
ngx_http_keygate_admin_lines_fill(ngx_http_keygate_admin_lines_t *lines)
{
    off_t       left;
    size_t      size;
    ssize_t     n;
    ngx_buf_t  *b;

    for ( ;; ) {

        if (lines->at == NULL) {
            return NGX_DONE;
        }

        b = lines->at->buf;
        left = ngx_buf_size(b) - lines->offset;

        if (left > 0) {
            break;
        }

        lines->at = lines->at->next;
        lines->offset = 0;
    }

    size = (size_t) ngx_min(left, NGX_HTTP_KEYGATE_ADMIN_BLOCK);

    if (ngx_buf_in_memory(b)) {
        ngx_memcpy(lines->block, b->pos + lines->offset, size);

    } else {
        n = ngx_read_file(b->file, lines->block, size,
                          b->file_pos + lines->offset);

        if (n != (ssize_t) size) {
            return NGX_ERROR;
        }
    }

    lines->offset += size;
    lines->pos = lines->block;
    lines->last = lines->block + size;

    return NGX_OK;
}
