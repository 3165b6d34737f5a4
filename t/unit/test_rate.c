
/*
 * Rates: the text form, its bounds, the order.
 */

#include "kg_test.h"

#include "kg_rate.h"


static void
test_parse(void **state)
{
    size_t     i;
    kg_str_t   text;
    kg_rate_t  rate;

    static const struct {
        const char  *text;
        uint32_t     requests;
        uint32_t     window;
    } cases[] = {
        { "1r/s", 1, 1 },
        { "60r/m", 60, 60 },
        { "600r/m", 600, 60 },
        { "3000r/h", 3000, 3600 },
        { "10r/d", 10, 86400 },
        { "1000000000r/d", 1000000000, 86400 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].text);

        assert_int_equal(kg_rate_parse(&text, &rate), KG_OK);
        assert_int_equal(rate.requests, cases[i].requests);
        assert_int_equal(rate.window, cases[i].window);
    }
}


static void
test_refused(void **state)
{
    size_t     i;
    kg_str_t   text, nul = kg_string("60r/m\0");
    kg_rate_t  rate;

    static const char  *cases[] = {
        "", "r", "r/m", "60", "60r", "60r/", "60/m", "60r/w", "60r/M",
        "60R/m", "60r/ms", "60r/m ", " 60r/m", "60 r/m", "0r/m", "00r/m",
        "060r/m", "-1r/m", "+1r/m", "1.5r/m", "1e3r/m", "xr/m", "60rm",
        "1000000001r/m", "4294967297r/m", "18446744073709551617r/m",
        "99999999999999999999999999999999r/m"
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_exact(cases[i]);

        if (kg_rate_parse(&text, &rate) != KG_INVALID) {
            fail_msg("\"%s\" was accepted", cases[i]);
        }

        free(text.data);
    }

    assert_int_equal(kg_rate_parse(&nul, &rate), KG_INVALID);
}


static void
test_order(void **state)
{
    size_t     i;
    kg_str_t   text;
    kg_rate_t  a, b;

    static const struct {
        const char  *a;
        const char  *b;
        int          order;
    } cases[] = {
        { "60r/m", "60r/m", 0 },
        { "1r/s", "60r/m", 0 },
        { "1r/m", "1440r/d", 0 },
        { "59r/m", "1r/s", -1 },
        { "61r/m", "1r/s", 1 },
        { "100r/h", "2r/m", -1 },

        /* in whole requests a second both would be 0 or 11574 */
        { "1r/d", "1r/h", -1 },
        { "1000000000r/d", "999999999r/d", 1 },

        /* the products pass 32 bits */
        { "1000000000r/s", "1000000000r/d", 1 },
        { "1000000000r/d", "1000000000r/s", -1 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].a);
        assert_int_equal(kg_rate_parse(&text, &a), KG_OK);
        text = kg_text(cases[i].b);
        assert_int_equal(kg_rate_parse(&text, &b), KG_OK);

        if ((kg_rate_cmp(&a, &b) > 0) - (kg_rate_cmp(&a, &b) < 0)
            != cases[i].order)
        {
            fail_msg("%s against %s", cases[i].a, cases[i].b);
        }
    }
}


static void
test_covers(void **state)
{
    size_t     i;
    kg_str_t   text;
    kg_rate_t  outer, inner;

    static const struct {
        const char  *outer;
        const char  *inner;
        int          covers;
    } cases[] = {
        { "60r/m", "60r/m", 1 },
        { "60r/m", "59r/m", 1 },
        { "60r/m", "61r/m", 0 },

        /* a longer window: as many at once */
        { "60r/m", "60r/d", 1 },
        { "60r/m", "61r/h", 0 },
        { "60r/m", "3600r/h", 0 },

        /* a shorter one: as many in all */
        { "60r/m", "1r/s", 1 },
        { "60r/m", "2r/s", 0 },
        { "59r/m", "1r/s", 0 },
        { "1440r/d", "1r/m", 1 },
        { "1439r/d", "1r/m", 0 },

        /* the product passes 32 bits */
        { "1000000000r/d", "1000000000r/s", 0 },
        { "1000000000r/d", "11574r/s", 1 },
        { "1000000000r/d", "11575r/s", 0 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].outer);
        assert_int_equal(kg_rate_parse(&text, &outer), KG_OK);
        text = kg_text(cases[i].inner);
        assert_int_equal(kg_rate_parse(&text, &inner), KG_OK);

        if (kg_rate_covers(&outer, &inner) != cases[i].covers) {
            fail_msg("%s over %s", cases[i].outer, cases[i].inner);
        }
    }
}


static void
test_format(void **state)
{
    size_t         i;
    kg_str_t       text;
    kg_rate_t      rate;
    unsigned char  buf[16], *end;

    static const char  *cases[] = {
        "1r/s", "60r/m", "600r/h", "1000000000r/d"
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i]);
        assert_int_equal(kg_rate_parse(&text, &rate), KG_OK);

        end = kg_rate_format(&rate, buf);

        assert_int_equal(end - buf, text.len);
        assert_memory_equal(buf, text.data, text.len);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_format)
    };

    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
