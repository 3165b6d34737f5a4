
/*
 * What a caller of the admin interface may say in the query.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_arg(ngx_http_keygate_admin_t *admin,
    ngx_str_t *arg, const char **names, ngx_str_t *values);


ngx_int_t
ngx_http_keygate_admin_args(ngx_http_keygate_admin_t *admin,
    const char **names, ngx_str_t *values)
{
    u_char      *p, *end;
    ngx_int_t    rc;
    ngx_str_t    arg;
    ngx_uint_t   i;

    for (i = 0; names[i]; i++) {
        ngx_str_null(&values[i]);
    }

    if (admin->request->args.len == 0) {
        return NGX_OK;
    }

    p = admin->request->args.data;
    end = p + admin->request->args.len;

    while (p < end) {
        arg.data = p;

        while (p < end && *p != '&') {
            p++;
        }

        arg.len = p++ - arg.data;

        if (arg.len == 0) {
            continue;
        }

        rc = ngx_http_keygate_admin_arg(admin, &arg, names, values);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_arg(ngx_http_keygate_admin_t *admin, ngx_str_t *arg,
    const char **names, ngx_str_t *values)
{
    u_char      *sign, *src, *dst;
    ngx_str_t    name, value;
    ngx_uint_t   i;

    sign = ngx_strlchr(arg->data, arg->data + arg->len, '=');

    name.data = arg->data;
    name.len = (sign ? sign : arg->data + arg->len) - arg->data;

    for (i = 0; names[i]; i++) {
        if (ngx_strlen(names[i]) == name.len
            && ngx_strncmp(names[i], name.data, name.len) == 0)
        {
            break;
        }
    }

    if (names[i] == NULL) {
        return ngx_http_keygate_admin_wrong(admin, &name,
                                            "is no argument of this call");
    }

    if (values[i].data) {
        return ngx_http_keygate_admin_wrong(admin, &name, "is there twice");
    }

    value.len = sign ? arg->data + arg->len - sign - 1 : 0;

    value.data = ngx_pnalloc(admin->request->pool, value.len + 1);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    src = sign ? sign + 1 : NULL;
    dst = value.data;

    ngx_unescape_uri(&dst, &src, value.len, 0);

    values[i].data = value.data;
    values[i].len = dst - value.data;

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_limit(ngx_http_keygate_admin_t *admin,
    ngx_str_t *value, ngx_uint_t *limit)
{
    ngx_int_t  n;

    static ngx_str_t  field = ngx_string("limit");

    if (value->len == 0) {
        *limit = NGX_HTTP_KEYGATE_ADMIN_PAGE;
        return NGX_OK;
    }

    n = ngx_atoi(value->data, value->len);

    if (n < 1 || n > NGX_HTTP_KEYGATE_ADMIN_PAGE_MAX) {
        return ngx_http_keygate_admin_wrong(admin, &field,
                                            "must be from 1 to 100");
    }

    *limit = n;

    return NGX_OK;
}
