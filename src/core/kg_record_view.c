
/*
 * Reading packed records.
 *
 * They lie in memory that every worker writes, where a killed one may have
 * left half a record: no length that is read here is trusted to end inside the
 * bytes given.
 */

#include <string.h>

#include "kg_record.h"
#include "kg_record_packed.h"


static void kg_view_take(unsigned char **pos, kg_str_t *part, size_t len);
static int64_t kg_view_time(unsigned char **pos, unsigned there);


kg_rc_t
kg_key_view(const kg_str_t *packed, kg_key_t *key)
{
    size_t          id, org, scopes, limits, allow, times;
    unsigned char  *p;
    unsigned char   flags;

    p = packed->data;

    if (packed->len < KG_PACKED_KEY_HEAD || p[0] != KG_PACKED_KEY
        || (p[1] & ~KG_PACKED_FLAGS))
    {
        return KG_INVALID;
    }

    flags = p[1];
    times = !!(flags & KG_PACKED_NOT_BEFORE)
            + !!(flags & KG_PACKED_EXPIRES_AT)
            + !!(flags & KG_PACKED_REVOKED_AT);

    id = p[2];
    org = p[3];
    scopes = kg_get_le(p + 4, 2);
    limits = kg_get_le(p + 6, 2);
    allow = kg_get_le(p + 8, 2);

    if (id == 0 || id > KG_KEY_ID_MAX
        || org == 0 || org > KG_ORG_MAX
        || packed->len != KG_PACKED_KEY_HEAD + id + org + scopes + limits
                          + allow + times * 8)
    {
        return KG_INVALID;
    }

    key->mode = (kg_mode_t) (flags & KG_PACKED_MODE);
    key->ceilings = !!(flags & KG_PACKED_CEILINGS);

    p += KG_PACKED_KEY_HEAD;

    kg_view_take(&p, &key->id, id);
    kg_view_take(&p, &key->org, org);
    kg_view_take(&p, &key->scopes, scopes);
    kg_view_take(&p, &key->limits, limits);
    kg_view_take(&p, &key->allow, allow);

    key->not_before = kg_view_time(&p, flags & KG_PACKED_NOT_BEFORE);
    key->expires_at = kg_view_time(&p, flags & KG_PACKED_EXPIRES_AT);
    key->revoked_at = kg_view_time(&p, flags & KG_PACKED_REVOKED_AT);

    return KG_OK;
}


kg_rc_t
kg_org_view(const kg_str_t *packed, kg_org_t *org)
{
    size_t          plan, limits;
    unsigned char  *p;

    p = packed->data;

    if (packed->len < KG_PACKED_ORG_HEAD || p[0] != KG_PACKED_ORG
        || p[1] > KG_ACCESS_DISABLED)
    {
        return KG_INVALID;
    }

    plan = p[2];
    limits = kg_get_le(p + 3, 2);

    if (plan > KG_POLICY_MAX
        || packed->len != KG_PACKED_ORG_HEAD + plan + limits)
    {
        return KG_INVALID;
    }

    org->access = (kg_access_t) p[1];

    p += KG_PACKED_ORG_HEAD;

    kg_view_take(&p, &org->plan, plan);
    kg_view_take(&p, &org->limits, limits);

    return KG_OK;
}


kg_key_validity_t
kg_key_validity(const kg_key_t *key, int64_t now, int64_t tolerance)
{
    if (key->not_before && key->not_before > now + tolerance) {
        return KG_KEY_NOT_YET;
    }

    if (key->revoked_at) {
        return KG_KEY_REVOKED;
    }

    if (key->expires_at && key->expires_at <= now - tolerance) {
        return KG_KEY_EXPIRED;
    }

    return KG_KEY_VALID;
}


int
kg_scopes_hold(const kg_str_t *scopes, const kg_str_t *scope)
{
    size_t          len;
    unsigned char  *p, *end, *space;

    if (scope->len == 0) {
        return 0;
    }

    p = scopes->data;
    end = p + scopes->len;

    while (p < end) {
        space = memchr(p, ' ', end - p);
        if (space == NULL) {
            space = end;
        }

        len = space - p;

        if (len == scope->len && memcmp(p, scope->data, len) == 0) {
            return 1;
        }

        if (len == 1 && p[0] == '*') {
            return 1;
        }

        /* what stands before the star, its colon too, begins the scope */

        if (len > 2 && p[len - 1] == '*' && p[len - 2] == ':'
            && scope->len > len - 1
            && memcmp(p, scope->data, len - 1) == 0)
        {
            return 1;
        }

        p = (space == end) ? end : space + 1;
    }

    return 0;
}


kg_rc_t
kg_limits_find(const kg_str_t *limits, const kg_str_t *policy, kg_rate_t *rate)
{
    size_t          left, name, text;
    kg_str_t        value;
    unsigned char  *p;

    if (policy->len == 0) {
        return KG_INVALID;
    }

    p = limits->data;
    left = limits->len;

    while (left >= 2) {
        name = p[0];
        text = p[1];

        p += 2;
        left -= 2;

        if (name + text > left) {
            return KG_INVALID;
        }

        if (name == policy->len && memcmp(p, policy->data, name) == 0) {
            value.data = p + name;
            value.len = text;

            return kg_rate_parse(&value, rate);
        }

        p += name + text;
        left -= name + text;
    }

    return KG_INVALID;
}


int
kg_allow_match(const kg_str_t *allow, const unsigned char *addr, size_t len)
{
    size_t          left, size;
    kg_cidr_t       cidr;
    unsigned char  *p;

    if (allow->len == 0) {
        return 1;
    }

    p = allow->data;
    left = allow->len;

    while (left >= 2) {
        cidr.family = p[0];
        cidr.bits = p[1];

        if (cidr.family != 4 && cidr.family != 6) {
            return 0;
        }

        size = (cidr.family == 4) ? 4 : 16;

        if (cidr.bits > size * 8 || size > left - 2) {
            return 0;
        }

        memcpy(cidr.addr, p + 2, size);

        if (kg_cidr_match(&cidr, addr, len)) {
            return 1;
        }

        p += 2 + size;
        left -= 2 + size;
    }

    return 0;
}


static void
kg_view_take(unsigned char **pos, kg_str_t *part, size_t len)
{
    part->data = *pos;
    part->len = len;

    *pos += len;
}


/* The next time, or 0 where there is none. */

static int64_t
kg_view_time(unsigned char **pos, unsigned there)
{
    int64_t  at;

    if (!there) {
        return 0;
    }

    at = (int64_t) kg_get_le(*pos, 8);
    *pos += 8;

    return at;
}
