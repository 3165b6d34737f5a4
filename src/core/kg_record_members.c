
/*
 * The members of records: what each must be and how it is packed.
 *
 * Anyone may write a record, so all of it is checked, what is not packed too:
 * a slip in an optional member (a rate, an address) must not quietly give a
 * key more than was meant.
 */

#include <string.h>

#include "kg_cidr.h"
#include "kg_rate.h"
#include "kg_record.h"
#include "kg_record_members.h"
#include "kg_record_packed.h"
#include "kg_time.h"


#define KG_PEPPER_ID_LEN  8


static kg_rc_t kg_read_id(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_org(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_mode(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_access(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_scopes(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_limits(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_allow(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_plan(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_time(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_name(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_pepper(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_legacy(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_ceilings(kg_draft_t *draft, const json_t *value,
    uint64_t *field);
static kg_rc_t kg_read_successor(kg_draft_t *draft, const json_t *value,
    uint64_t *field);

static kg_rc_t kg_json_text(const json_t *value, kg_str_t *text);
static kg_rc_t kg_draft_add(kg_draft_t *draft, const void *data, size_t len);


const kg_member_t  kg_key_members[] = {

    { "id", KG_FIELD_ID, kg_read_id,
      "\"id\" is missing",
      "\"id\" is not \"key_\" and 1 to 60 letters and digits" },

    { "org", KG_FIELD_ORG, kg_read_org,
      "\"org\" is missing",
      "\"org\" is not 1 to 64 of A-Z a-z 0-9 _ -" },

    { "mode", KG_FIELD_MODE, kg_read_mode,
      "\"mode\" is missing",
      "\"mode\" is neither \"test\" nor \"live\"" },

    { "scopes", KG_FIELD_SCOPES, kg_read_scopes,
      "\"scopes\" is missing",
      "\"scopes\" is not an array of at most 64 scopes, each 1 to 128 of "
      "a-z 0-9 _ . : * -" },

    { "limits", KG_FIELD_LIMITS, kg_read_limits,
      NULL,
      "\"limits\" is not an object of at most 16 policy names and rates" },

    { "allow", KG_FIELD_ALLOW, kg_read_allow,
      NULL,
      "\"allow\" is not an array of at most 64 addresses and blocks" },

    { "notBefore", KG_FIELD_NOT_BEFORE, kg_read_time,
      NULL, "\"notBefore\" is not an RFC 3339 date" },

    { "expiresAt", KG_FIELD_EXPIRES_AT, kg_read_time,
      NULL, "\"expiresAt\" is not an RFC 3339 date" },

    { "revokedAt", KG_FIELD_REVOKED_AT, kg_read_time,
      NULL, "\"revokedAt\" is not an RFC 3339 date" },

    { "createdAt", KG_FIELD_UNPACKED, kg_read_time,
      NULL, "\"createdAt\" is not an RFC 3339 date" },

    { "name", KG_FIELD_UNPACKED, kg_read_name,
      NULL, "\"name\" is not a string of at most 255 bytes" },

    { "hint", KG_FIELD_UNPACKED, kg_read_name,
      NULL, "\"hint\" is not a string of at most 255 bytes" },

    { "pepper", KG_FIELD_UNPACKED, kg_read_pepper,
      NULL, "\"pepper\" is not 8 lowercase hex digits" },

    { "legacy", KG_FIELD_UNPACKED, kg_read_legacy,
      NULL, "\"legacy\" is neither true nor false" },

    { "ceilings", KG_FIELD_CEILINGS, kg_read_ceilings,
      NULL, "\"ceilings\" is neither true nor false" },

    { "rotatedTo", KG_FIELD_UNPACKED, kg_read_successor,
      NULL, "\"rotatedTo\" is not \"key_\" and 1 to 60 letters and digits" },

    { NULL, 0, NULL, NULL, NULL }
};

const kg_member_t  kg_org_members[] = {

    { "access", KG_FIELD_ACCESS, kg_read_access,
      "\"access\" is missing",
      "\"access\" is none of \"not_enabled\", \"test\", \"live\", "
      "\"disabled\"" },

    { "plan", KG_FIELD_PLAN, kg_read_plan,
      NULL, "\"plan\" is not 1 to 32 of a-z 0-9 _ -" },

    { "limits", KG_FIELD_LIMITS, kg_read_limits,
      NULL,
      "\"limits\" is not an object of at most 16 policy names and rates" },

    { "createdAt", KG_FIELD_UNPACKED, kg_read_time,
      NULL, "\"createdAt\" is not an RFC 3339 date" },

    { "name", KG_FIELD_UNPACKED, kg_read_name,
      NULL, "\"name\" is not a string of at most 255 bytes" },

    { NULL, 0, NULL, NULL, NULL }
};


static kg_rc_t
kg_read_id(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t  text;

    if (kg_json_text(value, &text) != KG_OK || !kg_key_id_valid(&text)) {
        return KG_INVALID;
    }

    *field = text.len;

    return kg_draft_add(draft, text.data, text.len);
}


static kg_rc_t
kg_read_org(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t  text;

    if (kg_json_text(value, &text) != KG_OK || !kg_org_id_valid(&text)) {
        return KG_INVALID;
    }

    *field = text.len;

    return kg_draft_add(draft, text.data, text.len);
}


static kg_rc_t
kg_read_mode(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t   text;
    kg_mode_t  mode;

    (void) draft;

    if (kg_json_text(value, &text) != KG_OK
        || kg_mode_parse(&text, &mode) != KG_OK)
    {
        return KG_INVALID;
    }

    *field = mode;

    return KG_OK;
}


static kg_rc_t
kg_read_access(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t     text;
    kg_access_t  access;

    (void) draft;

    if (kg_json_text(value, &text) != KG_OK
        || kg_access_parse(&text, &access) != KG_OK)
    {
        return KG_INVALID;
    }

    *field = access;

    return KG_OK;
}


/* An empty array is a key without rights, which is allowed. */

static kg_rc_t
kg_read_scopes(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    size_t          i;
    kg_rc_t         rc;
    kg_str_t        text;
    unsigned char  *start;

    if (!json_is_array(value) || json_array_size(value) > KG_SCOPES_MAX) {
        return KG_INVALID;
    }

    start = draft->pos;

    for (i = 0; i < json_array_size(value); i++) {

        if (kg_json_text(json_array_get(value, i), &text) != KG_OK
            || !kg_scope_valid(&text))
        {
            return KG_INVALID;
        }

        rc = (i == 0) ? KG_OK : kg_draft_add(draft, " ", 1);

        if (rc == KG_OK) {
            rc = kg_draft_add(draft, text.data, text.len);
        }

        if (rc != KG_OK) {
            return rc;
        }
    }

    *field = draft->pos - start;

    return KG_OK;
}


static kg_rc_t
kg_read_limits(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    void           *iter;
    json_t         *object;
    kg_str_t        name, text;
    kg_rate_t       rate;
    unsigned char  *start, lengths[2];

    if (!json_is_object(value) || json_object_size(value) > KG_LIMITS_MAX) {
        return KG_INVALID;
    }

    /* jansson has no iterator of a constant object, but changes nothing */
    object = (json_t *) value;
    start = draft->pos;

    for (iter = json_object_iter(object);
         iter != NULL;
         iter = json_object_iter_next(object, iter))
    {
        name.data = (unsigned char *) json_object_iter_key(iter);
        name.len = strlen((char *) name.data);

        if (!kg_policy_name_valid(&name)
            || kg_json_text(json_object_iter_value(iter), &text) != KG_OK
            || kg_rate_parse(&text, &rate) != KG_OK)
        {
            return KG_INVALID;
        }

        lengths[0] = (unsigned char) name.len;
        lengths[1] = (unsigned char) text.len;

        if (kg_draft_add(draft, lengths, 2) != KG_OK
            || kg_draft_add(draft, name.data, name.len) != KG_OK
            || kg_draft_add(draft, text.data, text.len) != KG_OK)
        {
            return KG_FULL;
        }
    }

    *field = draft->pos - start;

    return KG_OK;
}


static kg_rc_t
kg_read_allow(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    size_t          i;
    kg_str_t        text;
    kg_cidr_t       cidr;
    unsigned char  *start, head[2];

    if (!json_is_array(value) || json_array_size(value) > KG_ALLOW_MAX) {
        return KG_INVALID;
    }

    start = draft->pos;

    for (i = 0; i < json_array_size(value); i++) {

        if (kg_json_text(json_array_get(value, i), &text) != KG_OK
            || kg_cidr_parse(&text, &cidr) != KG_OK)
        {
            return KG_INVALID;
        }

        head[0] = cidr.family;
        head[1] = cidr.bits;

        if (kg_draft_add(draft, head, 2) != KG_OK
            || kg_draft_add(draft, cidr.addr, cidr.family == 4 ? 4 : 16)
               != KG_OK)
        {
            return KG_FULL;
        }
    }

    *field = draft->pos - start;

    return KG_OK;
}


static kg_rc_t
kg_read_plan(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t  text;

    if (kg_json_text(value, &text) != KG_OK || !kg_policy_name_valid(&text)) {
        return KG_INVALID;
    }

    *field = text.len;

    return kg_draft_add(draft, text.data, text.len);
}


static kg_rc_t
kg_read_time(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    int64_t   seconds;
    kg_str_t  text;

    (void) draft;

    if (kg_json_text(value, &text) != KG_OK
        || kg_time_parse(&text, &seconds) != KG_OK)
    {
        return KG_INVALID;
    }

    /* 0 means none: a key revoked at the epoch must stay revoked */
    *field = (seconds == 0) ? 1 : (uint64_t) seconds;

    return KG_OK;
}


static kg_rc_t
kg_read_name(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t  text;

    (void) draft;
    (void) field;

    if (kg_json_text(value, &text) != KG_OK || text.len > KG_NAME_MAX) {
        return KG_INVALID;
    }

    return KG_OK;
}


static kg_rc_t
kg_read_pepper(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    size_t    i;
    kg_str_t  text;

    (void) draft;
    (void) field;

    if (kg_json_text(value, &text) != KG_OK || text.len != KG_PEPPER_ID_LEN) {
        return KG_INVALID;
    }

    for (i = 0; i < text.len; i++) {

        if (!((text.data[i] >= '0' && text.data[i] <= '9')
              || (text.data[i] >= 'a' && text.data[i] <= 'f')))
        {
            return KG_INVALID;
        }
    }

    return KG_OK;
}


static kg_rc_t
kg_read_legacy(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    (void) draft;
    (void) field;

    return json_is_boolean(value) ? KG_OK : KG_INVALID;
}


static kg_rc_t
kg_read_ceilings(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    (void) draft;

    *field = json_is_true(value);

    return json_is_boolean(value) ? KG_OK : KG_INVALID;
}


static kg_rc_t
kg_read_successor(kg_draft_t *draft, const json_t *value, uint64_t *field)
{
    kg_str_t  text;

    (void) draft;
    (void) field;

    return (kg_json_text(value, &text) == KG_OK && kg_key_id_valid(&text))
           ? KG_OK : KG_INVALID;
}


/* KG_OK and the string, of the value's lifetime; KG_INVALID for another. */

static kg_rc_t
kg_json_text(const json_t *value, kg_str_t *text)
{
    if (!json_is_string(value)) {
        return KG_INVALID;
    }

    text->data = (unsigned char *) json_string_value(value);
    text->len = json_string_length(value);

    return KG_OK;
}


static kg_rc_t
kg_draft_add(kg_draft_t *draft, const void *data, size_t len)
{
    if (len > (size_t) (draft->end - draft->pos)) {
        return KG_FULL;
    }

    memcpy(draft->pos, data, len);
    draft->pos += len;

    return KG_OK;
}
