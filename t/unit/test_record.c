
/*
 * Records: what is accepted and what a view gives back of it, what is refused
 * and with which reason, each bound on both its sides.
 */

#include <arpa/inet.h>

#include "kg_test.h"

#include "kg_test_record.h"


typedef struct {
    const char  *json;
    const char  *member;        /* what the reason names */
} kg_refused_t;


static void
assert_refused(kg_pack_pt packer, const kg_refused_t *cases, size_t n)
{
    size_t          i, len;
    kg_rc_t         rc;
    kg_str_t        text;
    const char     *why;
    unsigned char   buf[KG_RECORD_MAX];

    for (i = 0; i < n; i++) {
        text = kg_exact(cases[i].json);
        why = NULL;

        rc = packer(&text, buf, sizeof(buf), &len, &why);

        if (rc != KG_INVALID) {
            fail_msg("accepted: %s", cases[i].json);
        }

        assert_non_null(why);

        if (strstr(why, cases[i].member) == NULL) {
            fail_msg("%s: %s", cases[i].json, why);
        }

        free(text.data);
    }
}


static void
test_typical_key(void **state)
{
    kg_key_t       key;
    kg_str_t       packed;
    kg_rate_t      rate;
    kg_str_t       policy = kg_string("default");
    unsigned char  buf[KG_RECORD_MAX];

    (void) state;

    packed = kg_pack(kg_key_pack,
                  "{\"v\":1,\"id\":\"key_0123456789abcdefghij\","
                  "\"org\":\"acme-inc\",\"mode\":\"test\","
                  "\"scopes\":[\"loads:read\",\"loads:write\"]}",
                  buf, sizeof(buf));

    /* in the zone with its name of 32 bytes: three blocks at most 88 */

    assert_int_equal(packed.len, 64);

    assert_int_equal(kg_key_view(&packed, &key), KG_OK);
    kg_assert_text(key.id, "key_0123456789abcdefghij");
    kg_assert_text(key.org, "acme-inc");
    kg_assert_text(key.scopes, "loads:read loads:write");
    assert_int_equal(key.mode, KG_MODE_TEST);
    assert_int_equal(key.not_before, 0);
    assert_int_equal(key.expires_at, 0);
    assert_int_equal(key.revoked_at, 0);

    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_INVALID);
    assert_int_equal(kg_allow_match(&key.allow, (unsigned char *) "abcd", 4),
                     1);
}


static void
test_full_key(void **state)
{
    kg_key_t       key;
    kg_str_t       packed, policy;
    kg_rate_t      rate;
    unsigned char  buf[KG_RECORD_MAX], addr[16];

    (void) state;

    packed = kg_pack(kg_key_pack, KG_FULL_KEY, buf, sizeof(buf));

    assert_int_equal(kg_key_view(&packed, &key), KG_OK);
    kg_assert_text(key.id, "key_1");
    kg_assert_text(key.org, "A-b_9");
    kg_assert_text(key.scopes, "loads:* tracking:read");
    assert_int_equal(key.mode, KG_MODE_LIVE);
    assert_int_equal(key.not_before, 1795342830);
    assert_int_equal(key.expires_at, 1798761600);
    assert_int_equal(key.revoked_at, 1796083200);

    policy = kg_text("default");
    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_OK);
    assert_int_equal(rate.requests, 120);
    assert_int_equal(rate.window, 60);

    policy = kg_text("poll");
    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_OK);
    assert_int_equal(rate.requests, 1);
    assert_int_equal(rate.window, 1);

    policy = kg_text("pol");
    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_INVALID);
    policy = kg_text("120r/m");
    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_INVALID);
    policy = kg_text("");
    assert_int_equal(kg_limits_find(&key.limits, &policy, &rate), KG_INVALID);

    inet_pton(AF_INET, "203.0.113.200", addr);
    assert_int_equal(kg_allow_match(&key.allow, addr, 4), 1);
    inet_pton(AF_INET, "203.0.114.200", addr);
    assert_int_equal(kg_allow_match(&key.allow, addr, 4), 0);
    inet_pton(AF_INET6, "2001:db8:1::1", addr);
    assert_int_equal(kg_allow_match(&key.allow, addr, 16), 1);
    inet_pton(AF_INET6, "2001:db9::1", addr);
    assert_int_equal(kg_allow_match(&key.allow, addr, 16), 0);
    inet_pton(AF_INET6, "::ffff:203.0.113.1", addr);
    assert_int_equal(kg_allow_match(&key.allow, addr, 16), 1);

    /* a unix socket's peer has no address: a list keeps it out */
    assert_int_equal(kg_allow_match(&key.allow, addr, 0), 0);
}


/* Optional members that are null, or empty, are as if they were absent. */

static void
test_null_is_absent(void **state)
{
    size_t         i;
    kg_key_t       key;
    kg_str_t       packed, plain;
    unsigned char  buf[KG_RECORD_MAX], other[KG_RECORD_MAX];

    static const char  *cases[] = {
        "{" KG_KEY ",\"name\":null,\"hint\":null,\"pepper\":null,"
        "\"createdAt\":null,\"notBefore\":null,\"expiresAt\":null,"
        "\"revokedAt\":null,\"limits\":null,\"allow\":null}",
        "{" KG_KEY ",\"limits\":{},\"allow\":[],\"name\":\"\"}",
        "{" KG_KEY ",\"unknown\":null,\"Limits\":7}",
        " \t\r\n{" KG_KEY "}\n"
    };

    (void) state;

    plain = kg_pack(kg_key_pack, "{" KG_KEY "}", buf, sizeof(buf));

    for (i = 0; i < kg_count(cases); i++) {
        packed = kg_pack(kg_key_pack, cases[i], other, sizeof(other));

        assert_int_equal(packed.len, plain.len);
        assert_memory_equal(packed.data, plain.data, plain.len);
        assert_int_equal(kg_key_view(&packed, &key), KG_OK);
    }
}


static void
test_key_without_rights(void **state)
{
    kg_key_t       key;
    kg_str_t       packed, scope = kg_string("loads:read");
    unsigned char  buf[KG_RECORD_MAX];

    (void) state;

    packed = kg_pack(kg_key_pack,
                  "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\","
                  "\"mode\":\"test\",\"scopes\":[]}", buf, sizeof(buf));

    assert_int_equal(kg_key_view(&packed, &key), KG_OK);
    assert_int_equal(key.scopes.len, 0);
    assert_int_equal(kg_scopes_hold(&key.scopes, &scope), 0);
}


/* 0 is "none" in a view, so the epoch itself must not become it. */

static void
test_epoch_is_a_date(void **state)
{
    kg_key_t       key;
    kg_str_t       packed;
    unsigned char  buf[KG_RECORD_MAX];

    (void) state;

    packed = kg_pack(kg_key_pack,
                  "{" KG_KEY ",\"revokedAt\":\"1970-01-01T00:00:00Z\","
                  "\"expiresAt\":\"1970-01-01T00:00:00Z\"}",
                  buf, sizeof(buf));

    assert_int_equal(kg_key_view(&packed, &key), KG_OK);
    assert_int_equal(key.revoked_at, 1);
    assert_int_equal(key.expires_at, 1);
    assert_int_equal(key.not_before, 0);
}


static void
test_key_refused(void **state)
{
    static const kg_refused_t  cases[] = {
        { "", "empty" },
        { " ", "not JSON" },
        { "{", "not JSON" },
        { "{" KG_KEY "} x", "not JSON" },
        { "{" KG_KEY ",}", "not JSON" },
        { "{" KG_KEY ",\"name\":\"\xff\"}", "not JSON" },
        { "{" KG_KEY ",\"name\":\"a\\u0000b\"}", "not JSON" },
        { "{" KG_KEY ",\"x\":1e999}", "not JSON" },
        { "[]", "object" },
        { "null", "object" },
        { "\"key\"", "object" },

        { "{" KG_KEY ",\"mode\":\"live\"}", "twice" },
        { "{" KG_KEY ",\"x\":{\"a\":1,\"a\":2}}", "twice" },
        { "{" KG_KEY ",\"limits\":{\"a\":\"1r/s\",\"a\":\"9r/s\"}}",
          "twice" },

        { "{}", "\"v\" is missing" },
        { "{\"v\":null}", "\"v\" is missing" },
        { "{\"v\":2}", "later version" },
        { "{\"v\":9223372036854775807}", "later version" },
        { "{\"v\":0}", "\"v\" is not the integer" },
        { "{\"v\":-1}", "\"v\" is not the integer" },
        { "{\"v\":1.0}", "\"v\" is not the integer" },
        { "{\"v\":\"1\"}", "\"v\" is not the integer" },
        { "{\"v\":true}", "\"v\" is not the integer" },

        { "{\"v\":1}", "\"id\" is missing" },
        { "{\"v\":1,\"id\":null}", "\"id\" is missing" },
        { "{\"v\":1,\"id\":7}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"\"}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"key_\"}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"Key_1\"}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"key_a-b\"}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"key_a b\"}", "\"id\" is not" },
        { "{\"v\":1,\"id\":\"key_" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" "\"}", "\"id\" is not" },

        { "{\"v\":1,\"id\":\"key_1\"}", "\"org\" is missing" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"\"}", "\"org\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a}b\"}", "\"org\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":[\"a\"]}", "\"org\" is not" },

        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\"}", "\"mode\" is missing" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"Live\"}",
          "\"mode\" is neither" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"tes\"}",
          "\"mode\" is neither" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":1}",
          "\"mode\" is neither" },

        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\"}",
          "\"scopes\" is missing" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":\"loads:read\"}", "\"scopes\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[\"\"]}", "\"scopes\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[\"loads:read tracking:read\"]}", "\"scopes\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[\"a\",null]}", "\"scopes\" is not" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[\"Loads:read\"]}", "\"scopes\" is not" },

        { "{" KG_KEY ",\"name\":1}", "\"name\"" },
        { "{" KG_KEY ",\"hint\":[]}", "\"hint\"" },
        { "{" KG_KEY ",\"pepper\":\"0a1b2c3\"}", "\"pepper\"" },
        { "{" KG_KEY ",\"pepper\":\"0A1B2C3D\"}", "\"pepper\"" },
        { "{" KG_KEY ",\"pepper\":11111111}", "\"pepper\"" },
        { "{" KG_KEY ",\"legacy\":\"yes\"}", "\"legacy\"" },
        { "{" KG_KEY ",\"legacy\":1}", "\"legacy\"" },
        { "{" KG_KEY ",\"createdAt\":\"yesterday\"}", "\"createdAt\"" },
        { "{" KG_KEY ",\"notBefore\":\"2026-11-22\"}", "\"notBefore\"" },
        { "{" KG_KEY ",\"expiresAt\":1795342830}", "\"expiresAt\"" },
        { "{" KG_KEY ",\"expiresAt\":\"\"}", "\"expiresAt\"" },
        { "{" KG_KEY ",\"revokedAt\":false}", "\"revokedAt\"" },
        { "{" KG_KEY ",\"revokedAt\":\"2023-02-29T00:00:00Z\"}",
          "\"revokedAt\"" },

        { "{" KG_KEY ",\"limits\":[]}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":{\"default\":120}}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":{\"default\":null}}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":{\"default\":\"120\"}}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":{\"\":\"1r/s\"}}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":{\"De\":\"1r/s\"}}", "\"limits\"" },
        { "{" KG_KEY ",\"limits\":"
          "{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":\"1r/s\"}}", "\"limits\"" },

        { "{" KG_KEY ",\"allow\":\"203.0.113.0/24\"}", "\"allow\"" },
        { "{" KG_KEY ",\"allow\":[\"203.0.113.7/24\"]}", "\"allow\"" },
        { "{" KG_KEY ",\"allow\":[\"203.0.113.7\",\"x\"]}", "\"allow\"" },
        { "{" KG_KEY ",\"allow\":[3405803783]}", "\"allow\"" }
    };

    (void) state;

    assert_refused(kg_key_pack, cases, kg_count(cases));
}


/*
 * Builds {<start>,"<member>":<open><n times item><close>}; "%" in the item is
 * replaced by a number, so that each differs.
 */
static char *
repeat(const char *start, const char *open, size_t n, const char *item,
    const char *close)
{
    char    *json, *p;
    size_t   i;

    json = malloc(65536);
    assert_non_null(json);

    p = json + sprintf(json, "{%s%s", start, open);

    for (i = 0; i < n; i++) {
        p += sprintf(p, "%s", i ? "," : "");
        p += sprintf(p, item, (int) i);
    }

    sprintf(p, "%s}", close);

    return json;
}


/* Each list at its bound and one beyond. */

static void
test_bounds(void **state)
{
    char           *json;
    size_t          i;
    kg_refused_t    refused;
    unsigned char   buf[KG_RECORD_MAX];

    static const struct {
        const char  *start;
        const char  *open;
        const char  *item;
        const char  *close;
        size_t       max;
        const char  *member;
    } cases[] = {
        { "\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\"",
          ",\"scopes\":[", "\"s%d\"", "]", KG_SCOPES_MAX, "\"scopes\"" },
        { KG_KEY, ",\"limits\":{", "\"p%d\":\"60r/m\"", "}", KG_LIMITS_MAX,
          "\"limits\"" },
        { KG_KEY, ",\"allow\":[", "\"2001:db8::%d\"", "]", KG_ALLOW_MAX,
          "\"allow\"" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        json = repeat(cases[i].start, cases[i].open, cases[i].max,
                      cases[i].item, cases[i].close);
        kg_pack(kg_key_pack, json, buf, sizeof(buf));
        free(json);

        json = repeat(cases[i].start, cases[i].open, cases[i].max + 1,
                      cases[i].item, cases[i].close);
        refused.json = json;
        refused.member = cases[i].member;
        assert_refused(kg_key_pack, &refused, 1);
        free(json);
    }
}


static void
test_text_bounds(void **state)
{
    char           *json, name[KG_NAME_MAX + 2];
    size_t          i, fill;
    kg_refused_t    refused;
    unsigned char   buf[KG_RECORD_MAX];

    static const struct {
        const char  *before;
        const char  *after;
        size_t       max;
        const char  *member;
    } cases[] = {
        { "{" KG_KEY ",\"name\":\"", "\"}", KG_NAME_MAX, "\"name\"" },
        { "{\"v\":1,\"id\":\"key_", "\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[]}", 60, "\"id\"" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"", "\",\"mode\":\"test\","
          "\"scopes\":[]}", KG_ORG_MAX, "\"org\"" },
        { "{\"v\":1,\"id\":\"key_1\",\"org\":\"a\",\"mode\":\"test\","
          "\"scopes\":[\"", "\"]}", KG_SCOPE_MAX, "\"scopes\"" },
        { "{" KG_KEY ",\"limits\":{\"", "\":\"1000000000r/d\"}}",
          KG_POLICY_MAX, "\"limits\"" }
    };

    (void) state;

    json = malloc(1024);
    assert_non_null(json);

    for (i = 0; i < kg_count(cases); i++) {

        for (fill = cases[i].max; fill <= cases[i].max + 1; fill++) {
            memset(name, 'a', fill);
            name[fill] = '\0';
            sprintf(json, "%s%s%s", cases[i].before, name, cases[i].after);

            if (fill == cases[i].max) {
                kg_pack(kg_key_pack, json, buf, sizeof(buf));

            } else {
                refused.json = json;
                refused.member = cases[i].member;
                assert_refused(kg_key_pack, &refused, 1);
            }
        }
    }

    free(json);
}


/* White space counts: the bound is on what Redis holds. */

static void
test_record_bound(void **state)
{
    char           *json;
    kg_refused_t    refused;
    unsigned char   buf[KG_RECORD_MAX];

    (void) state;

    json = malloc(KG_RECORD_MAX + 2);
    assert_non_null(json);

    memset(json, ' ', KG_RECORD_MAX + 1);
    memcpy(json, "{" KG_KEY "}", strlen("{" KG_KEY "}"));

    json[KG_RECORD_MAX] = '\0';
    kg_pack(kg_key_pack, json, buf, sizeof(buf));

    json[KG_RECORD_MAX] = ' ';
    json[KG_RECORD_MAX + 1] = '\0';
    refused.json = json;
    refused.member = "16384";
    assert_refused(kg_key_pack, &refused, 1);

    free(json);
}


static void
test_org(void **state)
{
    size_t         i;
    kg_org_t       org;
    kg_str_t       packed, policy = kg_string("org");
    kg_rate_t      rate;
    unsigned char  buf[KG_RECORD_MAX];

    static const struct {
        const char   *json;
        kg_access_t   access;
    } cases[] = {
        { "{\"v\":1,\"access\":\"not_enabled\"}", KG_ACCESS_NOT_ENABLED },
        { "{\"v\":1,\"access\":\"test\"}", KG_ACCESS_TEST },
        { "{\"v\":1,\"access\":\"live\",\"plan\":null}", KG_ACCESS_LIVE },
        { "{\"v\":1,\"access\":\"disabled\",\"x\":1}", KG_ACCESS_DISABLED }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        packed = kg_pack(kg_org_pack, cases[i].json, buf, sizeof(buf));

        assert_int_equal(kg_org_view(&packed, &org), KG_OK);
        assert_int_equal(org.access, cases[i].access);
        assert_int_equal(org.plan.len, 0);
        assert_int_equal(org.limits.len, 0);
    }

    packed = kg_pack(kg_org_pack,
                  "{\"v\":1,\"access\":\"live\",\"name\":\"Acme\","
                  "\"plan\":\"gold\",\"limits\":{\"org\":\"3000r/m\"},"
                  "\"createdAt\":\"2026-11-22T00:00:00Z\"}",
                  buf, sizeof(buf));

    assert_int_equal(kg_org_view(&packed, &org), KG_OK);
    assert_int_equal(org.access, KG_ACCESS_LIVE);
    kg_assert_text(org.plan, "gold");
    assert_int_equal(kg_limits_find(&org.limits, &policy, &rate), KG_OK);
    assert_int_equal(rate.requests, 3000);
    assert_int_equal(rate.window, 60);
}


static void
test_org_refused(void **state)
{
    static const kg_refused_t  cases[] = {
        { "7", "object" },
        { "{\"access\":\"test\"}", "\"v\" is missing" },
        { "{\"v\":2,\"access\":\"test\"}", "later version" },
        { "{\"v\":1}", "\"access\" is missing" },
        { "{\"v\":1,\"access\":null}", "\"access\" is missing" },
        { "{\"v\":1,\"access\":\"Test\"}", "\"access\" is none" },
        { "{\"v\":1,\"access\":\"\"}", "\"access\" is none" },
        { "{\"v\":1,\"access\":true}", "\"access\" is none" },
        { "{" KG_ORG ",\"access\":\"live\"}", "twice" },
        { "{" KG_ORG ",\"plan\":\"\"}", "\"plan\"" },
        { "{" KG_ORG ",\"plan\":\"Gold\"}", "\"plan\"" },
        { "{" KG_ORG ",\"plan\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
          "\"plan\"" },
        { "{" KG_ORG ",\"limits\":{\"org\":\"0r/m\"}}", "\"limits\"" },
        { "{" KG_ORG ",\"name\":{}}", "\"name\"" },
        { "{" KG_ORG ",\"createdAt\":1}", "\"createdAt\"" }
    };

    (void) state;

    assert_refused(kg_org_pack, cases, kg_count(cases));
}


/* Every buffer that is too small is said to be, and none is overrun. */

static void
test_full(void **state)
{
    size_t          i, cap, len, got;
    kg_str_t        text;
    const char     *why;
    unsigned char   whole[KG_RECORD_MAX], *buf;

    static const struct {
        kg_pack_pt   packer;
        const char  *json;
    } cases[] = {
        { kg_key_pack, KG_FULL_KEY },
        { kg_org_pack, "{" KG_ORG ",\"plan\":\"gold\","
                       "\"limits\":{\"org\":\"3000r/m\"}}" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].json);
        len = kg_pack(cases[i].packer, cases[i].json, whole, sizeof(whole)).len;

        for (cap = 0; cap <= len; cap++) {
            buf = malloc(cap + (cap == 0));
            assert_non_null(buf);

            assert_int_equal(cases[i].packer(&text, buf, cap, &got, &why),
                             cap < len ? KG_FULL : KG_OK);

            free(buf);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_typical_key),
        cmocka_unit_test(test_full_key),
        cmocka_unit_test(test_null_is_absent),
        cmocka_unit_test(test_key_without_rights),
        cmocka_unit_test(test_epoch_is_a_date),
        cmocka_unit_test(test_key_refused),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_text_bounds),
        cmocka_unit_test(test_record_bound),
        cmocka_unit_test(test_org),
        cmocka_unit_test(test_org_refused),
        cmocka_unit_test(test_full)
    };

    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
