
/*
 * Records for tests: the members of a typical one (an object may open and go
 * on around them), a key with everything, and packing what must be accepted.
 */

#ifndef KG_TEST_RECORD_H
#define KG_TEST_RECORD_H

#include "kg_test.h"

#include "kg_record.h"


#define KG_KEY                                                                \
    "\"v\":1,\"id\":\"key_0123456789abcdefghij\",\"org\":\"acme\","           \
    "\"mode\":\"test\",\"scopes\":[\"loads:read\",\"loads:write\"]"

#define KG_ORG  "\"v\":1,\"access\":\"test\""

#define KG_FULL_KEY                                                           \
    "{\"v\":1,\"id\":\"key_1\",\"org\":\"A-b_9\",\"mode\":\"live\","          \
    "\"scopes\":[\"loads:*\",\"tracking:read\"],"                             \
    "\"name\":\"UAT \xc3\xa9\",\"hint\":\"tf_test_...Ab3d\","                 \
    "\"pepper\":\"0a1b2c3d\",\"createdAt\":\"2026-11-22T00:00:00Z\","         \
    "\"notBefore\":\"2026-11-22T10:20:30Z\","                                 \
    "\"expiresAt\":\"2027-01-01T01:00:00+01:00\","                            \
    "\"revokedAt\":\"2026-12-01T00:00:00.5Z\","                               \
    "\"limits\":{\"default\":\"120r/m\",\"poll\":\"1r/s\"},"                  \
    "\"allow\":[\"203.0.113.0/24\",\"2001:db8::/32\"],"                       \
    "\"future\":{\"deep\":[1,2,{\"v\":9}]}}"


typedef kg_rc_t (*kg_pack_pt)(const kg_str_t *json, unsigned char *buf,
    size_t cap, size_t *len, const char **why);


/* Packs what must be accepted into buf; a view of it. */
static inline kg_str_t
kg_pack(kg_pack_pt packer, const char *json, unsigned char *buf, size_t cap)
{
    kg_str_t     text, packed;
    const char  *why;

    text = kg_exact(json);
    packed.data = buf;
    why = "no reason given";

    if (packer(&text, buf, cap, &packed.len, &why) != KG_OK) {
        fail_msg("%s: %s", json, why);
    }

    free(text.data);

    return packed;
}

#endif
