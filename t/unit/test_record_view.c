
/*
 * Views of packed records: no damage is followed out of the bytes, and what
 * the parts of a key mean: scopes, names, words.
 */

#include <arpa/inet.h>

#include "kg_test_record.h"


/* Whatever a view accepts must be walkable to its end without an overrun. */

static void
walk(const kg_str_t *packed)
{
    kg_key_t       key;
    kg_org_t       org;
    kg_str_t       policy = kg_string("nobody"), scope = kg_string("x:y");
    kg_rate_t      rate;
    unsigned char  addr[16];

    memset(addr, 0x7f, sizeof(addr));

    if (kg_key_view(packed, &key) == KG_OK) {
        assert_in_range(key.id.len, 1, KG_KEY_ID_MAX);
        assert_in_range(key.org.len, 1, KG_ORG_MAX);
        assert_in_range(key.mode, KG_MODE_TEST, KG_MODE_LIVE);

        (void) kg_limits_find(&key.limits, &policy, &rate);
        (void) kg_allow_match(&key.allow, addr, 16);
        (void) kg_allow_match(&key.allow, addr, 4);
        (void) kg_scopes_hold(&key.scopes, &scope);
    }

    if (kg_org_view(packed, &org) == KG_OK) {
        assert_in_range(org.access, KG_ACCESS_NOT_ENABLED,
                        KG_ACCESS_DISABLED);
        (void) kg_limits_find(&org.limits, &policy, &rate);
    }
}


static void
test_damage(void **state)
{
    int             c;
    size_t          i, j, len;
    kg_key_t        key;
    kg_org_t        org;
    kg_str_t        packed, copy;
    unsigned char   buf[KG_RECORD_MAX], saved;

    (void) state;

    for (i = 0; i < 2; i++) {
        packed = (i == 0)
                 ? kg_pack(kg_key_pack, KG_FULL_KEY, buf, sizeof(buf))
                 : kg_pack(kg_org_pack,
                        "{" KG_ORG ",\"plan\":\"gold\","
                        "\"limits\":{\"org\":\"3000r/m\"}}",
                        buf, sizeof(buf));

        /* cut at any length, in memory that ends there */

        for (len = 0; len < packed.len; len++) {
            copy.len = len;
            copy.data = malloc(len + (len == 0));
            assert_non_null(copy.data);
            memcpy(copy.data, packed.data, len);

            assert_int_equal(kg_key_view(&copy, &key), KG_INVALID);
            assert_int_equal(kg_org_view(&copy, &org), KG_INVALID);

            free(copy.data);
        }

        /* longer than it says */

        packed.data[packed.len] = 0;
        copy.data = packed.data;
        copy.len = packed.len + 1;
        assert_int_equal(kg_key_view(&copy, &key), KG_INVALID);
        assert_int_equal(kg_org_view(&copy, &org), KG_INVALID);

        /* any byte anything */

        copy.len = packed.len;
        copy.data = malloc(copy.len);
        assert_non_null(copy.data);
        memcpy(copy.data, packed.data, copy.len);

        for (j = 0; j < copy.len; j++) {
            saved = copy.data[j];

            for (c = 0; c < 256; c++) {
                copy.data[j] = (unsigned char) c;
                walk(&copy);
            }

            copy.data[j] = saved;
        }

        free(copy.data);
    }
}


/*
 * Lengths that add up but cannot be: the full key's 5, 5, 21, 25 and 24 bytes
 * shared out anew between id, org and scopes.
 */

static void
test_impossible_lengths(void **state)
{
    size_t         i;
    kg_key_t       key;
    kg_str_t       packed;
    unsigned char  buf[KG_RECORD_MAX];

    static const struct {
        unsigned char  id;
        unsigned char  org;
        unsigned char  scopes;
        kg_rc_t        rc;
    } cases[] = {
        { 5, 5, 70, KG_OK },
        { 64, 16, 0, KG_OK },
        { 16, 64, 0, KG_OK },
        { 0, 10, 70, KG_INVALID },
        { 10, 0, 70, KG_INVALID },
        { 65, 5, 10, KG_INVALID },
        { 5, 65, 10, KG_INVALID }
    };

    (void) state;

    packed = kg_pack(kg_key_pack, KG_FULL_KEY, buf, sizeof(buf));

    for (i = 0; i < kg_count(cases); i++) {
        buf[2] = cases[i].id;
        buf[3] = cases[i].org;
        buf[4] = cases[i].scopes;
        memset(buf + 5, 0, 5);

        assert_int_equal(kg_key_view(&packed, &key), cases[i].rc);
    }
}


/* The parts alone, damaged: no override, no address let in. */

static void
test_damaged_parts(void **state)
{
    size_t          len;
    kg_str_t        whole, part, policy = kg_string("poll");
    kg_key_t        key;
    kg_rate_t       rate;
    unsigned char   buf[KG_RECORD_MAX], addr[16];

    (void) state;

    whole = kg_pack(kg_key_pack, KG_FULL_KEY, buf, sizeof(buf));
    assert_int_equal(kg_key_view(&whole, &key), KG_OK);

    for (len = 0; len < key.limits.len; len++) {
        part.len = len;
        part.data = malloc(len + (len == 0));
        assert_non_null(part.data);
        memcpy(part.data, key.limits.data, len);

        assert_int_equal(kg_limits_find(&part, &policy, &rate), KG_INVALID);

        free(part.data);
    }

    inet_pton(AF_INET6, "2001:db8::1", addr);

    for (len = 1; len < key.allow.len; len++) {
        part.len = len;
        part.data = malloc(len);
        assert_non_null(part.data);
        memcpy(part.data, key.allow.data, len);

        assert_int_equal(kg_allow_match(&part, addr, 16), 0);

        free(part.data);
    }

    /* 200 bits of an IPv4 address, and a family that is none */

    part.data = buf;
    part.len = 6;

    memcpy(buf, "\x04\xc8\0\0\0\0", 6);
    assert_int_equal(kg_allow_match(&part, addr, 4), 0);
    memcpy(buf, "\x05\x00\0\0\0\0", 6);
    assert_int_equal(kg_allow_match(&part, addr, 4), 0);
}


static void
test_scopes_hold(void **state)
{
    size_t    i;
    kg_str_t  scopes, scope;

    static const struct {
        const char  *scopes;
        const char  *scope;
        int          hold;
    } cases[] = {
        { "loads:read", "loads:read", 1 },
        { "loads:read", "loads:write", 0 },
        { "loads:read", "loads:rea", 0 },
        { "loads:read", "loads:reader", 0 },
        { "loads:read loads:write", "loads:write", 1 },
        { "a loads:read b", "loads:read", 1 },
        { "a b", "a b", 0 },
        { "", "loads:read", 0 },
        { "loads:read", "", 0 },
        { "*", "", 0 },

        { "*", "loads:read", 1 },
        { "a *", "loads:read", 1 },
        { "loads:*", "loads:read", 1 },
        { "loads:*", "loads:read:own", 1 },
        { "loads:*", "loads", 0 },
        { "loads:*", "loads:", 0 },
        { ":*", ":read", 0 },
        { "loads:*", "loadsx:read", 0 },
        { "loads:*", "load:read", 0 },
        { "loads:*", "loads:*", 1 },
        { "loads:read:*", "loads:read", 0 },
        { "a:* loads:*", "loads:read", 1 },

        /* a star elsewhere is a letter */
        { "loads*", "loads:read", 0 },
        { "loads:r*", "loads:read", 0 },
        { "*:read", "loads:read", 0 },
        { "**", "loads:read", 0 },
        { "loads:read", "loads:*", 0 },
        { "loads:read", "*", 0 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        scopes = kg_exact(cases[i].scopes);
        scope = kg_exact(cases[i].scope);

        if (kg_scopes_hold(&scopes, &scope) != cases[i].hold) {
            fail_msg("\"%s\" for \"%s\"", cases[i].scopes, cases[i].scope);
        }

        free(scopes.data);
        free(scope.data);
    }
}


static void
test_names(void **state)
{
    int            c;
    kg_str_t       s;
    unsigned char  byte;

    (void) state;

    s.data = &byte;
    s.len = 1;

    for (c = 0; c < 256; c++) {
        byte = (unsigned char) c;

        assert_int_equal(kg_org_id_valid(&s),
            c && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789_-", c) != NULL);
        assert_int_equal(kg_scope_valid(&s),
            c && strchr("abcdefghijklmnopqrstuvwxyz0123456789_.:*-", c)
                 != NULL);
        assert_int_equal(kg_policy_name_valid(&s),
            c && strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", c)
                 != NULL);
    }

    s = kg_text("");
    assert_int_equal(kg_org_id_valid(&s), 0);
    assert_int_equal(kg_scope_valid(&s), 0);
    assert_int_equal(kg_policy_name_valid(&s), 0);
    assert_int_equal(kg_key_id_valid(&s), 0);

    s = kg_text("key_0aZ");
    assert_int_equal(kg_key_id_valid(&s), 1);
    s = kg_text("key_0_Z");
    assert_int_equal(kg_key_id_valid(&s), 0);
}


static void
test_words(void **state)
{
    size_t        i;
    kg_str_t      text;
    kg_mode_t     mode;
    kg_access_t   access;

    static const char  *words[] = {
        "not_enabled", "test", "live", "disabled"
    };

    (void) state;

    for (i = 0; i < kg_count(words); i++) {
        text = kg_text(words[i]);

        assert_int_equal(kg_access_parse(&text, &access), KG_OK);
        assert_int_equal(access, i);
        kg_assert_text(*kg_access_name((kg_access_t) i), words[i]);
    }

    text = kg_text("test");
    assert_int_equal(kg_mode_parse(&text, &mode), KG_OK);
    assert_int_equal(mode, KG_MODE_TEST);

    text = kg_text("live");
    assert_int_equal(kg_mode_parse(&text, &mode), KG_OK);
    assert_int_equal(mode, KG_MODE_LIVE);

    text = kg_text("liver");
    assert_int_equal(kg_mode_parse(&text, &mode), KG_INVALID);
    assert_int_equal(kg_access_parse(&text, &access), KG_INVALID);

    text = kg_text("");
    assert_int_equal(kg_mode_parse(&text, &mode), KG_INVALID);
    assert_int_equal(kg_access_parse(&text, &access), KG_INVALID);
}


/*
 * The seconds at which a key begins and ends to be valid, with clocks that are
 * right, and with a tolerance of 5 s.
 */

static void
test_validity(void **state)
{
    size_t    i;
    kg_key_t  key;

    static const struct {
        int64_t            not_before;
        int64_t            expires_at;
        int64_t            revoked_at;
        int64_t            now;
        kg_key_validity_t  exact;
        kg_key_validity_t  tolerant;
    } cases[] = {
        { 0, 0, 0, 1000, KG_KEY_VALID, KG_KEY_VALID },

        { 1000, 0, 0, 994, KG_KEY_NOT_YET, KG_KEY_NOT_YET },
        { 1000, 0, 0, 995, KG_KEY_NOT_YET, KG_KEY_VALID },
        { 1000, 0, 0, 999, KG_KEY_NOT_YET, KG_KEY_VALID },
        { 1000, 0, 0, 1000, KG_KEY_VALID, KG_KEY_VALID },

        { 0, 1000, 0, 999, KG_KEY_VALID, KG_KEY_VALID },
        { 0, 1000, 0, 1000, KG_KEY_EXPIRED, KG_KEY_VALID },
        { 0, 1000, 0, 1004, KG_KEY_EXPIRED, KG_KEY_VALID },
        { 0, 1000, 0, 1005, KG_KEY_EXPIRED, KG_KEY_EXPIRED },

        /* a revocation holds from anywhere, and says more than an expiry */

        { 0, 0, 1000, 1000, KG_KEY_REVOKED, KG_KEY_REVOKED },
        { 0, 0, 9000, 1000, KG_KEY_REVOKED, KG_KEY_REVOKED },
        { 0, 500, 900, 1000, KG_KEY_REVOKED, KG_KEY_REVOKED },

        /* a key nobody may know of yet says nothing */

        { 2000, 0, 900, 1000, KG_KEY_NOT_YET, KG_KEY_NOT_YET },

        /* what a damaged record may hold */

        { INT64_MAX, 0, 0, 1000, KG_KEY_NOT_YET, KG_KEY_NOT_YET },
        { INT64_MIN, INT64_MIN, 0, 1000, KG_KEY_EXPIRED, KG_KEY_EXPIRED },
        { 0, INT64_MAX, 0, 1000, KG_KEY_VALID, KG_KEY_VALID },
    };

    (void) state;

    memset(&key, 0, sizeof(kg_key_t));

    for (i = 0; i < kg_count(cases); i++) {
        key.not_before = cases[i].not_before;
        key.expires_at = cases[i].expires_at;
        key.revoked_at = cases[i].revoked_at;

        assert_int_equal(kg_key_validity(&key, cases[i].now, 0),
                         cases[i].exact);
        assert_int_equal(kg_key_validity(&key, cases[i].now, 5),
                         cases[i].tolerant);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_impossible_lengths),
        cmocka_unit_test(test_damaged_parts),
        cmocka_unit_test(test_scopes_hold),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_validity)
    };

    return cmocka_run_group_tests_name("record_view", tests, NULL, NULL);
}
