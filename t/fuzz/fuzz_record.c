
/*
 * Fuzzing records, both ways in: the input as the JSON of Redis, packed and
 * viewed, and the input as packed bytes found in shared memory.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_record.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
fuzz_limits(const kg_str_t *limits)
{
    size_t                 i;
    kg_rate_t              rate;
    static const kg_str_t  policies[] = {
        kg_string("default"), kg_string("org"), kg_string("a"), kg_string("")
    };

    for (i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {

        if (kg_limits_find(limits, &policies[i], &rate) == KG_OK
            && (rate.requests == 0 || rate.window == 0))
        {
            abort();
        }
    }
}


/* Touches every byte a view gives out; 1 when it is a key's or org's. */

static int
fuzz_view(const kg_str_t *packed)
{
    int                    viewed;
    size_t                 times;
    kg_key_t               key;
    kg_org_t               org;
    unsigned char          addr[16];
    static const kg_str_t  scope = kg_string("loads:read");

    viewed = 0;
    memset(addr, 0x20, sizeof(addr));

    if (kg_key_view(packed, &key) == KG_OK) {
        viewed = 1;

        /* up to three times of 8 bytes end it, a zero among them perhaps */

        times = packed->data + packed->len - (key.allow.data + key.allow.len);

        if (key.id.data + key.id.len != key.org.data
            || key.org.data + key.org.len != key.scopes.data
            || key.scopes.data + key.scopes.len != key.limits.data
            || key.limits.data + key.limits.len != key.allow.data
            || times % 8 != 0
            || times > 24
            || times / 8 < (size_t) (!!key.not_before + !!key.expires_at
                                     + !!key.revoked_at))
        {
            abort();
        }

        (void) kg_scopes_hold(&key.scopes, &scope);
        (void) kg_allow_match(&key.allow, addr, 4);
        (void) kg_allow_match(&key.allow, addr, 16);
        fuzz_limits(&key.limits);
    }

    if (kg_org_view(packed, &org) == KG_OK) {
        viewed = 1;

        if (org.plan.data + org.plan.len != org.limits.data
            || org.limits.data + org.limits.len
               != packed->data + packed->len)
        {
            abort();
        }

        fuzz_limits(&org.limits);
    }

    return viewed;
}


static void
fuzz_pack(const kg_str_t *text,
    kg_rc_t (*packer)(const kg_str_t *json, unsigned char *buf, size_t cap,
        size_t *len, const char **why))
{
    size_t          len;
    kg_rc_t         rc;
    kg_str_t        packed;
    const char     *why;
    unsigned char   buf[KG_RECORD_MAX], *exact;

    why = NULL;
    rc = packer(text, buf, sizeof(buf), &len, &why);

    if (rc == KG_INVALID && why == NULL) {
        abort();
    }

    /* what fits in a record's bytes fits packed: KG_FULL cannot be */

    if (rc == KG_FULL) {
        abort();
    }

    if (rc != KG_OK) {
        return;
    }

    exact = malloc(len);
    if (exact == NULL) {
        return;
    }

    packed.data = exact;

    if (packer(text, exact, len, &packed.len, &why) != KG_OK
        || packed.len != len
        || memcmp(exact, buf, len) != 0
        || !fuzz_view(&packed))
    {
        abort();
    }

    free(exact);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kg_str_t  text;

    text.len = size;
    text.data = malloc(size ? size : 1);

    if (text.data == NULL) {
        return 0;
    }

    if (size) {
        memcpy(text.data, data, size);
    }

    (void) fuzz_view(&text);
    fuzz_pack(&text, kg_key_pack);
    fuzz_pack(&text, kg_org_pack);

    free(text.data);

    return 0;
}
