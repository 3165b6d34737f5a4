
/*
 * Changes that a browser was made to ask for.
 *
 * Who guards the admin interface by a password or a client certificate is not
 * asked for it again: the browser of somebody who is signed in sends it along
 * with what any other page tells it to send, and a form or a text needs no
 * leave of ours.  Such a page cannot read the answer, but an import of a key
 * whose token it knows would be enough.
 *
 * Browsers say where a request comes from, and scripts do not let a page say
 * something else.  What says nothing is no browser.
 */

#include "ngx_http_keygate_admin.h"


static ngx_uint_t ngx_http_keygate_admin_same_origin(ngx_http_request_t *r);
static ngx_uint_t ngx_http_keygate_admin_is_host(ngx_http_request_t *r,
    const ngx_str_t *origin);


ngx_int_t
ngx_http_keygate_admin_from_here(ngx_http_keygate_admin_t *admin)
{
    static ngx_str_t  reason = ngx_string("{\"reason\":\"origin\"}");

    if (ngx_http_keygate_admin_same_origin(admin->request)) {
        return NGX_OK;
    }

    return ngx_http_keygate_admin_forbid(admin, &reason, "This is a request "
                                         "of another site's page, made by a "
                                         "browser");
}


/* An older browser, and any without TLS, says no more than its Origin. */

static ngx_uint_t
ngx_http_keygate_admin_same_origin(ngx_http_request_t *r)
{
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    static ngx_str_t  fetch_site = ngx_string("Sec-Fetch-Site");
    static ngx_str_t  origin = ngx_string("Origin");

    h = ngx_http_keygate_header_in(r, &fetch_site, &n);

    if (h) {
        return n == 1
               && ((h->value.len == 11
                    && ngx_strncmp(h->value.data, "same-origin", 11) == 0)
                   || (h->value.len == 4
                       && ngx_strncmp(h->value.data, "none", 4) == 0));
    }

    h = ngx_http_keygate_header_in(r, &origin, &n);

    return h == NULL
           || (n == 1 && ngx_http_keygate_admin_is_host(r, &h->value));
}


/* SCHEME://HOST[:PORT], of which the Host header has what is behind "//". */

static ngx_uint_t
ngx_http_keygate_admin_is_host(ngx_http_request_t *r,
    const ngx_str_t *origin)
{
    size_t      len;
    u_char     *p, *end;
    ngx_str_t  *host;

    if (r->headers_in.host == NULL) {
        return 0;
    }

    host = &r->headers_in.host->value;
    end = origin->data + origin->len;

    p = ngx_strlchr(origin->data, end, ':');

    if (p == NULL || end - p < 3 || p[1] != '/' || p[2] != '/') {
        return 0;
    }

    p += 3;
    len = end - p;

    return len == host->len && ngx_strncasecmp(p, host->data, len) == 0;
}
