
/*
 * Between jansson, whose memory is the heap's and counted, nginx, whose memory
 * is the request's, and the core.
 */

#include "ngx_http_keygate_admin.h"


ngx_str_t
ngx_http_keygate_admin_text(const json_t *value)
{
    ngx_str_t  text;

    text.len = json_string_length(value);
    text.data = (u_char *) json_string_value(value);

    return text;
}


ngx_str_t
ngx_http_keygate_admin_member(const json_t *object, const char *name)
{
    return ngx_http_keygate_admin_text(json_object_get(object, name));
}


ngx_uint_t
ngx_http_keygate_admin_has(const json_t *object, const char *name)
{
    json_t  *value;

    value = json_object_get(object, name);

    return value && !json_is_null(value);
}


json_t *
ngx_http_keygate_admin_date(time_t seconds)
{
    u_char  text[KG_TIME_LEN];

    kg_time_format(seconds, text);

    return json_stringn((char *) text, KG_TIME_LEN);
}


ngx_str_t
ngx_http_keygate_admin_dump(ngx_pool_t *pool, const json_t *value)
{
    ngx_str_t  text;

    text.len = json_dumpb(value, NULL, 0, JSON_COMPACT);

    text.data = text.len ? ngx_pnalloc(pool, text.len) : NULL;
    if (text.data == NULL) {
        text.len = 0;
        return text;
    }

    (void) json_dumpb(value, (char *) text.data, text.len, JSON_COMPACT);

    return text;
}


json_t *
ngx_http_keygate_admin_view(const json_t *record,
    const ngx_http_keygate_admin_member_t *members)
{
    json_t                                 *view, *value;
    const ngx_http_keygate_admin_member_t  *member;

    view = json_object();

    for (member = members; view && member->name; member++) {
        value = json_object_get(record, member->name);

        if (value && !json_is_null(value)) {
            json_incref(value);

        } else if (member->absent == JSON_OBJECT) {
            value = json_object();

        } else if (member->absent == JSON_ARRAY) {
            value = json_array();

        } else {
            value = json_null();
        }

        if (json_object_set_new(view, member->name, value) != 0) {
            json_decref(view);
            return NULL;
        }
    }

    return view;
}
