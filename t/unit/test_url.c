
/*
 * What an error may link to.
 */

#include "kg_test.h"

#include "kg_url.h"


static void
test_urls(void **state)
{
    size_t    i;
    kg_str_t  url;

    static const struct {
        const char  *text;
        int          url;
        int          reference;
    } cases[] = {
        { "https://d", 1, 1 },
        { "http://docs.example.com/errors?a=b&c=%20#x", 1, 1 },
        { "/loads/1", 0, 1 },
        { "/", 0, 1 },
        { "urn:uuid:1", 0, 1 },

        { "", 0, 0 },
        { "https://", 0, 0 },
        { "http:/a", 0, 0 },
        { "HTTPS://a", 0, 0 },
        { " https://a", 0, 0 },
        { "//evil.example.com", 0, 0 },
        { "about:blank", 0, 0 },
        { "urn:", 0, 0 },
        { "loads/1", 0, 0 },
        { "javascript:alert(1)", 0, 0 },
        { "https://a b", 0, 0 },
        { "https://a\n", 0, 0 },
        { "https://a\x1b[0m", 0, 0 },
        { "https://a\"b", 0, 0 },
        { "https://a<b>", 0, 0 },
        { "https://a\\b", 0, 0 },
        { "https://a\x7f", 0, 0 },
        { "https://\xc3\xbc", 0, 0 },
        { "/a\tb", 0, 0 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        url = kg_text(cases[i].text);

        if (kg_url_valid(&url) != cases[i].url
            || kg_url_reference_valid(&url) != cases[i].reference)
        {
            fail_msg("\"%s\"", cases[i].text);
        }
    }
}


static void
test_length(void **state)
{
    unsigned char  text[KG_URL_MAX + 1];
    kg_str_t       url;

    (void) state;

    memset(text, 'a', sizeof(text));
    memcpy(text, "https://", 8);
    url.data = text;

    url.len = KG_URL_MAX;
    assert_int_equal(kg_url_valid(&url), 1);

    url.len = KG_URL_MAX + 1;
    assert_int_equal(kg_url_valid(&url), 0);

    text[0] = '/';
    text[1] = 'a';
    assert_int_equal(kg_url_reference_valid(&url), 0);

    url.len = KG_URL_MAX;
    assert_int_equal(kg_url_reference_valid(&url), 1);

    /* a NUL is no end */

    text[20] = '\0';
    assert_int_equal(kg_url_reference_valid(&url), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_length)
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
