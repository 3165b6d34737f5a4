
/*
 * Packing records: the JSON of Redis to what the zone holds.
 */

#include <string.h>

#include "kg_record.h"
#include "kg_record_members.h"
#include "kg_record_packed.h"


#define KG_RECORD_VERSION  1


static kg_rc_t kg_record_time(kg_draft_t *draft, unsigned field,
    unsigned char flag, unsigned char *flags);
static kg_rc_t kg_record_load(const kg_str_t *text, json_t **record,
    const char **why);
static kg_rc_t kg_record_check_version(const json_t *record,
    const char **why);
static kg_rc_t kg_record_read(const kg_str_t *text,
    const kg_member_t *members, kg_draft_t *draft, const char **why);


kg_rc_t
kg_key_pack(const kg_str_t *json, unsigned char *buf, size_t cap, size_t *len,
    const char **why)
{
    kg_rc_t         rc;
    kg_draft_t      draft;
    unsigned char  *p;
    unsigned char   flags;

    if (cap < KG_PACKED_KEY_HEAD) {
        return KG_FULL;
    }

    memset(&draft, 0, sizeof(kg_draft_t));
    draft.pos = buf + KG_PACKED_KEY_HEAD;
    draft.end = buf + cap;

    rc = kg_record_read(json, kg_key_members, &draft, why);
    if (rc != KG_OK) {
        return rc;
    }

    flags = (unsigned char) draft.field[KG_FIELD_MODE];

    if (kg_record_time(&draft, KG_FIELD_NOT_BEFORE, KG_PACKED_NOT_BEFORE,
                       &flags)
        != KG_OK
        || kg_record_time(&draft, KG_FIELD_EXPIRES_AT, KG_PACKED_EXPIRES_AT,
                          &flags)
           != KG_OK
        || kg_record_time(&draft, KG_FIELD_REVOKED_AT, KG_PACKED_REVOKED_AT,
                          &flags)
           != KG_OK)
    {
        return KG_FULL;
    }

    if (draft.field[KG_FIELD_CEILINGS]) {
        flags |= KG_PACKED_CEILINGS;
    }

    p = buf;
    *p++ = KG_PACKED_KEY;
    *p++ = flags;
    *p++ = (unsigned char) draft.field[KG_FIELD_ID];
    *p++ = (unsigned char) draft.field[KG_FIELD_ORG];
    p = kg_put_le(p, draft.field[KG_FIELD_SCOPES], 2);
    p = kg_put_le(p, draft.field[KG_FIELD_LIMITS], 2);
    kg_put_le(p, draft.field[KG_FIELD_ALLOW], 2);

    *len = draft.pos - buf;

    return KG_OK;
}


kg_rc_t
kg_org_pack(const kg_str_t *json, unsigned char *buf, size_t cap, size_t *len,
    const char **why)
{
    kg_rc_t         rc;
    kg_draft_t      draft;
    unsigned char  *p;

    if (cap < KG_PACKED_ORG_HEAD) {
        return KG_FULL;
    }

    memset(&draft, 0, sizeof(kg_draft_t));
    draft.pos = buf + KG_PACKED_ORG_HEAD;
    draft.end = buf + cap;

    rc = kg_record_read(json, kg_org_members, &draft, why);
    if (rc != KG_OK) {
        return rc;
    }

    p = buf;
    *p++ = KG_PACKED_ORG;
    *p++ = (unsigned char) draft.field[KG_FIELD_ACCESS];
    *p++ = (unsigned char) draft.field[KG_FIELD_PLAN];
    kg_put_le(p, draft.field[KG_FIELD_LIMITS], 2);

    *len = draft.pos - buf;

    return KG_OK;
}


/* Appends a time of the head, if there is one, and flags it; or KG_FULL. */

static kg_rc_t
kg_record_time(kg_draft_t *draft, unsigned field, unsigned char flag,
    unsigned char *flags)
{
    if (draft->field[field] == 0) {
        return KG_OK;
    }

    if (draft->end - draft->pos < 8) {
        return KG_FULL;
    }

    draft->pos = kg_put_le(draft->pos, draft->field[field], 8);
    *flags |= flag;

    return KG_OK;
}


/* KG_OK and an object the caller releases. */

static kg_rc_t
kg_record_load(const kg_str_t *text, json_t **record, const char **why)
{
    json_error_t  error;

    if (text->len > KG_RECORD_MAX) {
        *why = "the record is longer than 16384 bytes";
        return KG_INVALID;
    }

    if (text->len == 0) {
        *why = "the record is empty";
        return KG_INVALID;
    }

    *record = json_loadb((char *) text->data, text->len,
                         JSON_REJECT_DUPLICATES|JSON_DECODE_ANY, &error);

    if (*record == NULL) {

        switch (json_error_code(&error)) {

        case json_error_out_of_memory:
            return KG_ERROR;

        case json_error_duplicate_key:
            *why = "the record names a member twice";
            return KG_INVALID;

        default:
            *why = "the record is not JSON";
            return KG_INVALID;
        }
    }

    if (!json_is_object(*record)) {
        json_decref(*record);
        *why = "the record is not a JSON object";
        return KG_INVALID;
    }

    return KG_OK;
}


/* The version says what the others mean, so it comes before all of them. */

static kg_rc_t
kg_record_check_version(const json_t *record, const char **why)
{
    json_t      *value;
    json_int_t   version;

    value = json_object_get(record, "v");

    if (value == NULL || json_is_null(value)) {
        *why = "\"v\" is missing";
        return KG_INVALID;
    }

    version = json_integer_value(value);

    if (version > KG_RECORD_VERSION) {
        *why = "\"v\" is a later version than 1, the one known here";
        return KG_INVALID;
    }

    if (version != KG_RECORD_VERSION) {
        *why = "\"v\" is not the integer 1";
        return KG_INVALID;
    }

    return KG_OK;
}


static kg_rc_t
kg_record_read(const kg_str_t *text, const kg_member_t *members,
    kg_draft_t *draft, const char **why)
{
    json_t             *record, *value;
    kg_rc_t             rc;
    const kg_member_t  *member;

    rc = kg_record_load(text, &record, why);
    if (rc != KG_OK) {
        return rc;
    }

    rc = kg_record_check_version(record, why);

    for (member = members; rc == KG_OK && member->name != NULL; member++) {
        value = json_object_get(record, member->name);

        if (value == NULL || json_is_null(value)) {

            if (member->missing != NULL) {
                *why = member->missing;
                rc = KG_INVALID;
            }

            continue;
        }

        rc = member->read(draft, value, &draft->field[member->field]);

        if (rc == KG_INVALID) {
            *why = member->wrong;
        }
    }

    json_decref(record);

    return rc;
}
