
/*
 * What a caller of the admin interface may send: the checks of each field, and
 * how what was checked gets into a record.  A refusal names the field.
 */

#include "ngx_http_keygate_admin.h"


static ngx_int_t ngx_http_keygate_admin_check_limit(
    ngx_http_keygate_admin_t *admin, ngx_str_t *field, ngx_str_t *policy,
    json_t *value);
static ngx_int_t ngx_http_keygate_admin_out_of_range(
    ngx_http_keygate_admin_t *admin, ngx_str_t *field,
    ngx_http_keygate_policy_t *policy);
static ngx_uint_t ngx_http_keygate_admin_has_control(ngx_str_t *text);
static ngx_int_t ngx_http_keygate_admin_parse_date(
    ngx_http_keygate_admin_t *admin, ngx_str_t *field, json_t *value,
    int64_t *seconds);
static ngx_int_t ngx_http_keygate_admin_merge(json_t *record,
    const char *name, json_t *value);


ngx_int_t
ngx_http_keygate_admin_check(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_how_t how)
{
    json_t                                *value;
    ngx_int_t                              rc;
    ngx_str_t                              name;
    const char                            *member;
    const ngx_http_keygate_admin_field_t  *field;

    json_object_foreach(admin->body, member, value) {

        for (field = fields; field->name; field++) {
            if (ngx_strcmp(field->name, member) == 0) {
                break;
            }
        }

        if (field->name == NULL) {
            name.data = (u_char *) member;
            name.len = ngx_strlen(member);

            return ngx_http_keygate_admin_wrong(admin, &name,
                                                "is no field of this call");
        }
    }

    for (field = fields; field->name; field++) {
        name.data = (u_char *) field->name;
        name.len = ngx_strlen(field->name);

        value = json_object_get(admin->body, field->name);

        if (value == NULL) {

            if (field->required && how == NGX_HTTP_KEYGATE_ADMIN_REPLACE) {
                return ngx_http_keygate_admin_wrong(admin, &name,
                                                    "is required");
            }

            continue;
        }

        if (json_is_null(value)) {

            if (field->fixed) {
                return ngx_http_keygate_admin_wrong(admin, &name,
                                                    "must not be null");
            }

            continue;
        }

        rc = field->check(admin, &name, value);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_wrong(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, const char *why)
{
    return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, field,
                                         "\"%V\" %s", field, why);
}


ngx_int_t
ngx_http_keygate_admin_check_access(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    ngx_str_t    text;
    kg_access_t  access;

    text = ngx_http_keygate_admin_text(value);

    if (kg_access_parse(ngx_http_keygate_kg(&text), &access) != KG_OK) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be "
                                            "not_enabled, test, live or "
                                            "disabled");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_mode(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    kg_mode_t  mode;
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    if (kg_mode_parse(ngx_http_keygate_kg(&text), &mode) != KG_OK) {
        return ngx_http_keygate_admin_wrong(admin, field,
                                            "must be test or live");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_name(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    if (text.data == NULL || text.len > KG_NAME_MAX
        || ngx_http_keygate_admin_has_control(&text))
    {
        return ngx_http_keygate_admin_wrong(admin, field, "must be a string "
                                            "of at most 255 bytes without "
                                            "control characters");
    }

    return NGX_OK;
}


/* jansson has seen to it that the text is UTF-8: C1 is C2 80 to C2 9F. */

static ngx_uint_t
ngx_http_keygate_admin_has_control(ngx_str_t *text)
{
    u_char  *p, *end;

    end = text->data + text->len;

    for (p = text->data; p < end; p++) {

        if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_keygate_admin_check_plan(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    ngx_str_t  name;

    name = ngx_http_keygate_admin_text(value);

    if (name.len == 0 || ngx_http_keygate_plan(admin->mcf, &name) == NULL) {
        return ngx_http_keygate_admin_wrong(admin, field, "names no plan that "
                                            "is configured");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_limits(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    json_t      *rate;
    ngx_int_t    rc;
    ngx_str_t    name, policy;
    const char  *member;

    if (!json_is_object(value) || json_object_size(value) > KG_LIMITS_MAX) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be an object "
                                            "of at most 16 policies and "
                                            "rates");
    }

    json_object_foreach(value, member, rate) {
        policy.data = (u_char *) member;
        policy.len = ngx_strlen(member);

        name.len = field->len + 1 + policy.len;

        name.data = ngx_pnalloc(admin->request->pool, name.len);
        if (name.data == NULL) {
            return NGX_ERROR;
        }

        ngx_sprintf(name.data, "%V.%V", field, &policy);

        rc = ngx_http_keygate_admin_check_limit(admin, &name, &policy, rate);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_check_limit(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, ngx_str_t *name, json_t *value)
{
    kg_rate_t                   rate;
    ngx_str_t                   text;
    ngx_http_keygate_policy_t  *policy;

    /* A merge removes it, also when the policy is configured no more. */

    if (json_is_null(value)) {
        return NGX_OK;
    }

    policy = ngx_http_keygate_policy(admin->mcf, name);
    if (policy == NULL) {
        return ngx_http_keygate_admin_wrong(admin, field, "names no policy "
                                            "that is configured");
    }

    text = ngx_http_keygate_admin_text(value);

    if (kg_rate_parse(ngx_http_keygate_kg(&text), &rate) != KG_OK) {
        return ngx_http_keygate_admin_wrong(admin, field,
                                            "must be a rate like \"120r/m\"");
    }

    if (!ngx_http_keygate_policy_takes(policy, &rate)) {
        return ngx_http_keygate_admin_out_of_range(admin, field, policy);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_out_of_range(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, ngx_http_keygate_policy_t *policy)
{
    u_char     text[2][16];
    ngx_str_t  min, max;

    min.data = text[0];
    min.len = kg_rate_format(&policy->min, min.data) - min.data;
    max.data = text[1];
    max.len = kg_rate_format(&policy->max, max.data) - max.data;

    if (policy->max.requests == 0) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, field,
                                             "\"%V\" must be at least %V",
                                             field, &min);
    }

    if (policy->min.requests == 0) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, field,
                                             "\"%V\" must be at most %V",
                                             field, &max);
    }

    return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, field,
                                         "\"%V\" must be from %V to %V",
                                         field, &min, &max);
}


ngx_int_t
ngx_http_keygate_admin_check_scopes(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    size_t     i, n;
    ngx_str_t  text;

    n = json_array_size(value);

    if (n == 0 || n > KG_SCOPES_MAX) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be an array "
                                            "of 1 to 64 scopes");
    }

    for (i = 0; i < n; i++) {
        text = ngx_http_keygate_admin_text(json_array_get(value, i));

        if (!kg_scope_valid(ngx_http_keygate_kg(&text))) {
            return ngx_http_keygate_admin_wrong(admin, field, "must be an "
                                                "array of scopes, each 1 to "
                                                "128 of a-z 0-9 _ . : * -");
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_allow(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    size_t     i;
    ngx_str_t  text;
    kg_cidr_t  cidr;

    if (!json_is_array(value) || json_array_size(value) > KG_ALLOW_MAX) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be an array "
                                            "of at most 64 addresses and "
                                            "blocks");
    }

    for (i = 0; i < json_array_size(value); i++) {
        text = ngx_http_keygate_admin_text(json_array_get(value, i));

        if (kg_cidr_parse(ngx_http_keygate_kg(&text), &cidr) != KG_OK) {
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST,
                                                 field, "\"%V\" has an entry, "
                                                 "number %uz, that is no "
                                                 "address and no block",
                                                 field, i + 1);
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_date(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    int64_t  seconds;

    return ngx_http_keygate_admin_parse_date(admin, field, value, &seconds);
}


ngx_int_t
ngx_http_keygate_admin_check_expiry(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    int64_t    seconds;
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_parse_date(admin, field, value, &seconds);

    if (rc == NGX_OK && seconds <= ngx_time()) {
        return ngx_http_keygate_admin_wrong(admin, field,
                                            "is not in the future");
    }

    return rc;
}


static ngx_int_t
ngx_http_keygate_admin_parse_date(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value, int64_t *seconds)
{
    u_char     date[KG_TIME_LEN];
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    if (kg_time_parse(ngx_http_keygate_kg(&text), seconds) != KG_OK) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be a date as "
                                            "in RFC 3339, like "
                                            "\"2027-01-01T00:00:00Z\"");
    }

    kg_time_format(*seconds, date);

    if (json_string_setn(value, (char *) date, KG_TIME_LEN) != 0) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_admin_check_span(ngx_http_keygate_admin_t *admin,
    const json_t *object)
{
    int64_t    from, to;
    ngx_str_t  before, expires;

    static ngx_str_t  field = ngx_string("expiresAt");

    before = ngx_http_keygate_admin_member(object, "notBefore");
    expires = ngx_http_keygate_admin_member(object, "expiresAt");

    /* A record that others have written may have dates of any form. */

    if (before.len == 0 || expires.len == 0
        || kg_time_parse(ngx_http_keygate_kg(&before), &from) != KG_OK
        || kg_time_parse(ngx_http_keygate_kg(&expires), &to) != KG_OK
        || from < to)
    {
        return NGX_OK;
    }

    return ngx_http_keygate_admin_wrong(admin, &field,
                                        "is not after \"notBefore\"");
}


ngx_int_t
ngx_http_keygate_admin_apply(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_admin_field_t *fields,
    ngx_http_keygate_admin_how_t how)
{
    json_t                                *value, *record;
    const ngx_http_keygate_admin_field_t  *field;

    record = admin->record;

    for (field = fields; field->name; field++) {
        value = json_object_get(admin->body, field->name);

        if (how == NGX_HTTP_KEYGATE_ADMIN_REPLACE) {
            (void) json_object_del(record, field->name);

        } else if (value == NULL) {
            continue;
        }

        if (ngx_http_keygate_admin_merge(record, field->name, value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * RFC 7396, without its depth: an object of a record holds no objects.  What
 * is put into the record is never the caller's own object, which is needed
 * again when the edit begins anew.
 */

static ngx_int_t
ngx_http_keygate_admin_merge(json_t *record, const char *name, json_t *value)
{
    json_t      *object, *member;
    const char  *key;

    if (value == NULL || json_is_null(value)) {
        (void) json_object_del(record, name);
        return NGX_OK;
    }

    if (!json_is_object(value)) {
        return json_object_set(record, name, value) == 0 ? NGX_OK : NGX_ERROR;
    }

    object = json_object_get(record, name);

    if (!json_is_object(object)) {
        object = json_object();

        if (json_object_set_new(record, name, object) != 0) {
            return NGX_ERROR;
        }
    }

    json_object_foreach(value, key, member) {

        if (json_is_null(member)) {
            (void) json_object_del(object, key);

        } else if (json_object_set(object, key, member) != 0) {
            return NGX_ERROR;
        }
    }

    if (json_object_size(object) == 0) {
        (void) json_object_del(record, name);
    }

    return NGX_OK;
}
