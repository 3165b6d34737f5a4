
/*
 * The Idempotency-Key header, and the fingerprint two requests share only when
 * they are the same request.
 */

#include "kg_test.h"

#include "kg_idem.h"


static char *
repeat(char c, size_t n, const char *before, const char *after)
{
    char    *text;
    size_t   len;

    len = strlen(before);
    text = malloc(len + n + strlen(after) + 1);
    assert_non_null(text);

    memcpy(text, before, len);
    memset(text + len, c, n);
    strcpy(text + len + n, after);

    return text;
}


/* Asserts what a value parses to; NULL with the code when to none. */
static void
expect(const char *value, kg_rc_t rc, const char *key)
{
    size_t          len;
    kg_str_t        s;
    unsigned char  *buf;

    s = kg_exact(value);
    buf = malloc(KG_IDEM_KEY_MAX);
    assert_non_null(buf);

    if (kg_idem_key_parse(&s, buf, &len) != rc) {
        fail_msg("\"%s\" is not answered with %d", value, rc);
    }

    if (key != NULL) {
        assert_int_equal(len, strlen(key));
        assert_memory_equal(buf, key, len);
    }

    free(buf);
    free(s.data);
}


static void
test_key(void **state)
{
    size_t  i;
    char    value[4];

    static const struct {
        const char  *value;
        kg_rc_t      rc;
        const char  *key;
    } cases[] = {
        { "abc", KG_OK, "abc" },
        { "\"abc\"", KG_OK, "abc" },
        { "  abc\t", KG_OK, "abc" },
        { " \"abc\" ", KG_OK, "abc" },
        { "~", KG_OK, "~" },
        { "!", KG_OK, "!" },
        { "8e03978e-40d5-43dd-bc93-6894a57f9324", KG_OK,
          "8e03978e-40d5-43dd-bc93-6894a57f9324" },
        { "a\"b", KG_OK, "a\"b" },
        { "abc\"", KG_OK, "abc\"" },
        { "a\\b", KG_OK, "a\\b" },
        { "\"a\\\"b\"", KG_OK, "a\"b" },
        { "\"a\\\\b\"", KG_OK, "a\\b" },
        { "\"\\\"\"", KG_OK, "\"" },

        { "", KG_FULL, NULL },
        { " ", KG_FULL, NULL },
        { " \t ", KG_FULL, NULL },
        { "\"\"", KG_FULL, NULL },

        { "\"", KG_INVALID, NULL },
        { "\"abc", KG_INVALID, NULL },
        { "\"abc\\\"", KG_INVALID, NULL },
        { "\"abc\\", KG_INVALID, NULL },
        { "\"a\\bc\"", KG_INVALID, NULL },
        { "\"abc\"d", KG_INVALID, NULL },
        { "\"abc\";a=1", KG_INVALID, NULL },
        { "\"abc\", \"def\"", KG_INVALID, NULL },
        { "\"abc\"\"", KG_INVALID, NULL },
        { "\"\"\"", KG_INVALID, NULL },
        { "\"a b\"", KG_INVALID, NULL },
        { "\" \"", KG_INVALID, NULL },
        { "a b", KG_INVALID, NULL },
        { "a\tb", KG_INVALID, NULL },
        { "abc, def", KG_INVALID, NULL },
        { "a\x7f", KG_INVALID, NULL },
        { "caf\xc3\xa9", KG_INVALID, NULL },
        { "\"\xff\"", KG_INVALID, NULL },
        { "a\nb", KG_INVALID, NULL }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        expect(cases[i].value, cases[i].rc, cases[i].key);
    }

    for (i = 1; i < 256; i++) {
        snprintf(value, sizeof(value), "x%cy", (char) i);
        expect(value, i > 0x20 && i < 0x7f ? KG_OK : KG_INVALID, NULL);
    }
}


static void
test_key_length(void **state)
{
    size_t  i, n;
    char   *value, *key;

    static const struct {
        char         c;
        size_t       n;
        const char  *before;
        const char  *after;
        kg_rc_t      rc;
    } cases[] = {
        { 'k', 255, "", "", KG_OK },
        { 'k', 256, "", "", KG_INVALID },
        { 'k', 255, " ", " ", KG_OK },
        { 'k', 255, "\"", "\"", KG_OK },
        { 'k', 256, "\"", "\"", KG_INVALID },
        { 'k', 255, "\"", "", KG_INVALID },
        { 'k', 254, "\"", "\\\"\"", KG_OK },
        { 'k', 255, "\"", "\\\"\"", KG_INVALID },
        { '\\', 510, "\"", "\"", KG_OK },
        { '\\', 512, "\"", "\"", KG_INVALID },
        { 'k', 70000, "", "", KG_INVALID },
        { ' ', 70000, "", "k", KG_OK }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        value = repeat(cases[i].c, cases[i].n, cases[i].before,
                       cases[i].after);
        expect(value, cases[i].rc, NULL);
        free(value);
    }

    for (n = 1; n <= KG_IDEM_KEY_MAX; n++) {
        key = repeat('k', n, "", "");
        value = repeat('k', n, "\"", "\"");
        expect(value, KG_OK, key);
        free(key);
        free(value);
    }
}


static void
fingerprint(const char *parts[4], const char *body,
    unsigned char out[KG_DIGEST_LEN])
{
    size_t     i;
    kg_sha_t  *sha;
    kg_str_t   s[4], *p[4];

    for (i = 0; i < 4; i++) {
        p[i] = NULL;

        if (parts[i] != NULL) {
            s[i] = kg_text(parts[i]);
            p[i] = &s[i];
        }
    }

    sha = kg_idem_fingerprint(p[0], p[1], p[2], p[3]);
    assert_non_null(sha);

    assert_int_equal(kg_sha_update(sha, body, strlen(body)), KG_OK);
    assert_int_equal(kg_sha_final(sha, out), KG_OK);
}


static void
test_fingerprint(void **state)
{
    size_t         i, j;
    unsigned char  digests[16][KG_DIGEST_LEN], again[KG_DIGEST_LEN];

    /* all different, though many are the same bytes when put together */

    static struct {
        const char  *parts[4];
        const char  *body;
    } requests[] = {
        { { "POST", "/v1/loads", "text/plain", NULL }, "body" },
        { { "PUT", "/v1/loads", "text/plain", NULL }, "body" },
        { { "POST", "/v1/loads?a", "text/plain", NULL }, "body" },
        { { "POST", "/v1/loads", "text/plain", "" }, "body" },
        { { "POST", "/v1/loads", "text/plain", "gzip" }, "body" },
        { { "POST", "/v1/loads", "text/plain", NULL }, "Body" },
        { { "POST", "/v1/loads", "text/plain", NULL }, "" },
        { { "POST", "/v1/loads", "text/plai", NULL }, "nbody" },
        { { "POST", "/v1/loads", "text/plainb", NULL }, "ody" },
        { { "POST", "/v1/loads", "", "text/plain" }, "body" },
        { { "POST", "/v1/loads", NULL, "text/plain" }, "body" },
        { { "POST", "/v1/loadst", "ext/plain", NULL }, "body" },
        { { "POST/v1", "/loads", "text/plain", NULL }, "body" },
        { { "POST", "/v1/loads", NULL, NULL }, "text/plainbody" },
        { { "POST", "/v1/loads", NULL, NULL }, "" },
        { { "POST", "/v1/loads", "", "" }, "" }
    };

    (void) state;

    for (i = 0; i < kg_count(requests); i++) {
        fingerprint(requests[i].parts, requests[i].body, digests[i]);
        fingerprint(requests[i].parts, requests[i].body, again);

        assert_memory_equal(digests[i], again, KG_DIGEST_LEN);

        for (j = 0; j < i; j++) {
            if (memcmp(digests[i], digests[j], KG_DIGEST_LEN) == 0) {
                fail_msg("requests %zu and %zu look the same", i, j);
            }
        }
    }
}


/*
 * Lengths are part of it: were a part only marked as there, these two would be
 * the same bytes.
 */
static void
test_fingerprint_lengths(void **state)
{
    size_t          i;
    kg_sha_t       *sha;
    unsigned char   digests[2][KG_DIGEST_LEN];

    static const kg_str_t  method = kg_string("POST");
    static const kg_str_t  type = kg_string("b");
    static const kg_str_t  targets[2] = {
        kg_string("/a"),
        kg_string("/a\1\0\0\0\0\0\0\0\0b")
    };
    static const kg_str_t  bodies[2] = {
        kg_string("\0\0\0\0\0\0\0\0\0"),
        kg_string("")
    };

    (void) state;

    for (i = 0; i < 2; i++) {
        sha = kg_idem_fingerprint(&method, &targets[i],
                                  i == 0 ? &type : NULL, NULL);
        assert_non_null(sha);
        assert_int_equal(kg_sha_update(sha, bodies[i].data, bodies[i].len),
                         KG_OK);
        assert_int_equal(kg_sha_final(sha, digests[i]), KG_OK);
    }

    assert_memory_not_equal(digests[0], digests[1], KG_DIGEST_LEN);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_key_length),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_fingerprint_lengths)
    };

    return cmocka_run_group_tests_name("idem", tests, NULL, NULL);
}
