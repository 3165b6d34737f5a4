
/*
 * Tokens: shape, checksum, randomness, the hint.  The tokens below were made
 * with Python's zlib.crc32(), whose value for "123456789" is cbf43926.
 */

#include "kg_test.h"

#include "kg_test_token.h"


#define KG_GOOD  "tf_test_0123456789ABCDEFGHIJKLMNOPQRSTUV2UzTmo"


static const char  kg_digits[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";


static void
test_known(void **state)
{
    size_t     i;
    kg_str_t   token, prefix;
    kg_mode_t  mode;

    static const struct {
        const char  *token;
        const char  *prefix;
        kg_mode_t    mode;
    } cases[] = {
        { "tf_test_0000000000000000000000000000000027zgdB", "tf",
          KG_MODE_TEST },
        { "tf_live_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz2g8GXK", "tf",
          KG_MODE_LIVE },
        { KG_GOOD, "tf", KG_MODE_TEST },
        { "a_live_abcdefghijklmnopqrstuvwxyz0123450rA8fF", "a",
          KG_MODE_LIVE },
        { "abcdefghij012345_test_Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Aa3eBagv",
          "abcdefghij012345", KG_MODE_TEST },
        { "9_test_qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq0ESAgU", "9",
          KG_MODE_TEST },

        /* a checksum of 0000c965: leading zeros are written */
        { "tf_test_00000000000000000000000000005125000DPZ", "tf",
          KG_MODE_TEST }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        token = kg_text(cases[i].token);
        prefix = kg_text(cases[i].prefix);
        mode = (kg_mode_t) -1;

        if (token_check(&token, &prefix, &mode) != KG_OK) {
            fail_msg("%s was refused", cases[i].token);
        }

        assert_int_equal(mode, cases[i].mode);
    }
}


static void
test_refused(void **state)
{
    size_t     i;
    kg_str_t   token, prefix;
    kg_mode_t  mode;

    static const struct {
        const char  *token;
        const char  *prefix;
    } cases[] = {
        { "", "tf" },
        { "tf_test_", "tf" },
        { KG_GOOD, "tg" },
        { KG_GOOD, "t" },
        { KG_GOOD, "tf_" },
        { KG_GOOD, "" },
        { KG_GOOD, "tf_test" },
        { KG_GOOD "0", "tf" },
        { " " KG_GOOD, "tf" },

        /* the mode flipped, and modes that are none */
        { "tf_live_0123456789ABCDEFGHIJKLMNOPQRSTUV2UzTmo", "tf" },
        { "tf_Test_0123456789ABCDEFGHIJKLMNOPQRSTUV2UzTmo", "tf" },
        { "tf_prod_0123456789ABCDEFGHIJKLMNOPQRSTUV2UzTmo", "tf" },

        /* a right checksum does not make up for a wrong shape */
        { "tf_test_0123456789ABCDEFGHIJKLMNOPQRSTU-1S503O", "tf" },
        { "tf-test_0123456789ABCDEFGHIJKLMNOPQRSTUV4VS3kw", "tf" },
        { "tf_test-0123456789ABCDEFGHIJKLMNOPQRSTUV2RbhWH", "tf" },
        { "TF_test_0123456789ABCDEFGHIJKLMNOPQRSTUV43INnL", "TF" },
        { "tf_prod_0123456789ABCDEFGHIJKLMNOPQRSTUV27M0FP", "tf" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        token = kg_exact(cases[i].token);
        prefix = kg_text(cases[i].prefix);

        if (token_check(&token, &prefix, &mode) != KG_INVALID) {
            fail_msg("\"%s\" was accepted for \"%s\"", cases[i].token,
                     cases[i].prefix);
        }

        free(token.data);
    }
}


/* A CRC finds every change of one byte, so none may pass. */

static void
test_one_byte_off(void **state)
{
    int            c;
    size_t         i;
    kg_str_t       token, prefix = kg_string("tf");
    kg_mode_t      mode;
    unsigned char  buf[sizeof(KG_GOOD) - 1];

    (void) state;

    token.data = buf;
    token.len = sizeof(buf);

    for (i = 0; i < sizeof(buf); i++) {

        for (c = 0; c < 256; c++) {
            memcpy(buf, KG_GOOD, sizeof(buf));
            buf[i] = (unsigned char) c;

            assert_int_equal(token_check(&token, &prefix, &mode),
                             c == KG_GOOD[i] ? KG_OK : KG_INVALID);
        }
    }

    /* shorter by any number of bytes, each copy exactly as long as it is */

    memcpy(buf, KG_GOOD, sizeof(buf));

    for (token.len = 0; token.len < sizeof(buf); token.len++) {
        token.data = buf + sizeof(buf) - token.len;
        memcpy(token.data, KG_GOOD, token.len);

        assert_int_equal(token_check(&token, &prefix, &mode), KG_INVALID);
    }
}


static void
test_prefix(void **state)
{
    size_t    i;
    kg_str_t  prefix, nul = kg_string("t\0f");

    static const struct {
        const char  *prefix;
        int          valid;
    } cases[] = {
        { "tf", 1 }, { "a", 1 }, { "0", 1 }, { "abcdefghij012345", 1 },
        { "", 0 }, { "abcdefghij0123456", 0 }, { "Tf", 0 }, { "t_f", 0 },
        { "t-f", 0 }, { "t f", 0 }, { "`", 0 }, { "{", 0 }, { "/", 0 },
        { ":", 0 }, { "\xc3\xa9", 0 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        prefix = kg_text(cases[i].prefix);

        if (kg_token_prefix_valid(&prefix) != cases[i].valid) {
            fail_msg("prefix \"%s\"", cases[i].prefix);
        }
    }

    assert_int_equal(kg_token_prefix_valid(&nul), 0);
}


static void
test_make(void **state)
{
    size_t         i, len;
    kg_str_t       token, longest = kg_string("abcdefghij012345");
    kg_str_t       wrong = kg_string("T");
    kg_mode_t      mode, found;
    unsigned char  buf[KG_TOKEN_MAX], last[KG_TOKEN_MAX];

    (void) state;

    memset(last, 0, sizeof(last));

    for (i = 0; i < 200; i++) {
        mode = (i & 1) ? KG_MODE_LIVE : KG_MODE_TEST;

        assert_int_equal(kg_token_make(&longest, mode, buf, &len), KG_OK);
        assert_int_equal(len, KG_TOKEN_MAX);
        assert_memory_equal(buf, (i & 1) ? "abcdefghij012345_live_"
                                         : "abcdefghij012345_test_", 22);

        token.data = buf;
        token.len = len;

        assert_int_equal(token_check(&token, &longest, &found), KG_OK);
        assert_int_equal(found, mode);
        assert_memory_not_equal(last + 22, buf + 22, KG_TOKEN_ENTROPY);

        memcpy(last, buf, sizeof(last));
    }

    assert_int_equal(kg_token_make(&wrong, KG_MODE_TEST, buf, &len),
                     KG_INVALID);
}


/*
 * Every digit equally often.  320,000 digits over 62 are 5,161 each, with a
 * standard deviation of 71; bytes taken modulo 62 would give the first eight
 * digits 6,250.  Beyond 500 is seven deviations.
 */

static void
test_unbiased(void **state)
{
    char          *digit;
    size_t         i, j, len;
    kg_str_t       prefix = kg_string("tf");
    unsigned       count[62];
    unsigned char  buf[KG_TOKEN_MAX];

    (void) state;

    memset(count, 0, sizeof(count));

    for (i = 0; i < 10000; i++) {
        assert_int_equal(kg_token_make(&prefix, KG_MODE_TEST, buf, &len),
                         KG_OK);

        for (j = 0; j < KG_TOKEN_ENTROPY; j++) {
            digit = strchr(kg_digits, buf[8 + j]);
            assert_non_null(digit);
            count[digit - kg_digits]++;
        }
    }

    for (i = 0; i < 62; i++) {
        assert_in_range(count[i], 5161 - 500, 5161 + 500);
    }
}


static void
test_key_id(void **state)
{
    size_t         i;
    unsigned char  buf[KG_KEY_ID_LEN + 1], last[KG_KEY_ID_LEN + 1];

    (void) state;

    memset(last, 0, sizeof(last));

    for (i = 0; i < 100; i++) {
        memset(buf, 0, sizeof(buf));

        assert_int_equal(kg_key_id_make(buf), KG_OK);
        assert_memory_equal(buf, "key_", 4);
        assert_int_equal(strspn((char *) buf + 4, kg_digits), 20);
        assert_int_equal(buf[KG_KEY_ID_LEN], '\0');
        assert_memory_not_equal(buf, last, KG_KEY_ID_LEN);

        memcpy(last, buf, sizeof(last));
    }
}


static void
test_hint(void **state)
{
    size_t         len;
    kg_str_t       token = kg_string(KG_GOOD);
    kg_str_t       longest = kg_string("abcdefghij012345_test_"
                                       "Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Zz0Aa"
                                       "3eBagv");
    unsigned char  buf[KG_KEY_HINT_MAX];

    (void) state;

    len = kg_token_hint(&token, buf);
    assert_int_equal(len, 15);
    assert_memory_equal(buf, "tf_test_...zTmo", len);

    len = kg_token_hint(&longest, buf);
    assert_int_equal(len, KG_KEY_HINT_MAX);
    assert_memory_equal(buf, "abcdefghij012345_test_...Bagv", len);
}


static void
test_mode_name(void **state)
{
    kg_str_t  test = kg_string("test"), live = kg_string("live");

    (void) state;

    assert_true(kg_str_eq(kg_mode_name(KG_MODE_TEST), &test));
    assert_true(kg_str_eq(kg_mode_name(KG_MODE_LIVE), &live));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_one_byte_off),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_unbiased),
        cmocka_unit_test(test_key_id),
        cmocka_unit_test(test_hint),
        cmocka_unit_test(test_mode_name)
    };

    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
