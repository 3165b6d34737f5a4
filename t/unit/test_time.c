
/*
 * Dates: what RFC 3339 allows and what it does not.  The expected seconds were
 * computed apart from this code, with Python's calendar.timegm().
 */

#include "kg_test.h"

#include "kg_time.h"


typedef struct {
    const char  *text;
    int64_t      seconds;
} kg_time_case_t;


static const kg_time_case_t  kg_good[] = {
    { "1970-01-01T00:00:00Z", 0 },
    { "1970-01-01T00:00:01Z", 1 },
    { "1999-12-31T23:59:59Z", 946684799 },
    { "2000-02-29T12:00:00Z", 951825600 },      /* 400 divides the year */
    { "2000-03-01T00:00:00Z", 951868800 },
    { "2024-02-29T00:00:00Z", 1709164800 },
    { "2026-11-22T00:00:00Z", 1795305600 },
    { "2038-01-19T03:14:08Z", 2147483648 },     /* past 32 bits */
    { "2100-02-28T23:59:59Z", 4107542399 },
    { "2100-03-01T00:00:00Z", 4107542400 },     /* no leap day between */
    { "9999-12-31T23:59:59Z", 253402300799 },

    /* letters, fractions, offsets */
    { "2026-11-22t10:20:30z", 1795342830 },
    { "2026-11-22T10:20:30.5Z", 1795342830 },
    { "2026-11-22T10:20:30.999999999999Z", 1795342830 },
    { "2026-11-22T10:20:30+00:00", 1795342830 },
    { "2026-11-22T10:20:30-00:00", 1795342830 },
    { "2026-11-22T10:20:30+05:30", 1795323030 },
    { "2026-11-22T10:20:30.25-08:00", 1795371630 },
    { "2026-11-22T00:00:00+23:59", 1795219260 },

    /* the day, the year and the epoch on the other side of an offset */
    { "2024-02-28T23:30:00-01:00", 1709166600 },
    { "1969-12-31T23:00:00-01:00", 0 },

    /* RFC 3339, 5.8: the leap second of 1990, twice */
    { "1990-12-31T23:59:60Z", 662688000 },
    { "1990-12-31T15:59:60-08:00", 662688000 },
    { "2015-06-30T23:59:60.5Z", 1435708800 }
};


static const char  *kg_bad[] = {
    "",
    "Z",
    "2026-11-22",
    "2026-11-22T10:20:30",              /* no offset */
    "2026-11-22T10:20Z",
    "2026-11-22 10:20:30Z",
    "2026-11-22T10:20:30Zx",
    "2026-11-22T10:20:30Z ",
    " 2026-11-22T10:20:30Z",
    "2026-11-22T10:20:30.Z",
    "2026-11-22T10:20:30,5Z",
    "2026-11-22T10:20:30.5",
    "2026-11-22T10:20:30+0530",
    "2026-11-22T10:20:30+05:3",
    "2026-11-22T10:20:30+05:300",
    "2026-11-22T10:20:30+05-30",
    "2026-11-22T10:20:30+24:00",
    "2026-11-22T10:20:30+00:60",
    "2026-11-22T10:20:30*00:00",
    "2026-11-22T24:00:00Z",
    "2026-11-22T10:60:00Z",
    "2026-11-22T10:20:61Z",
    "2026-11-22T10-20-30Z",
    "2026-11-22T10:20-30Z",
    "2026/11/22T10:20:30Z",
    "2026-11/22T10:20:30Z",
    "2026-11-22x10:20:30Z",
    "2026-00-22T10:20:30Z",
    "2026-13-22T10:20:30Z",
    "2026-11-00T10:20:30Z",
    "2026-11-31T10:20:30Z",
    "2026-12-32T10:20:30Z",
    "2023-02-29T00:00:00Z",
    "2024-02-30T00:00:00Z",
    "2100-02-29T00:00:00Z",             /* 100 divides it, 400 does not */
    "+026-11-22T10:20:30Z",
    "2026-1a-22T10:20:30Z",
    "2026-11-22T1 :20:30Z",
    "20a6-11-22T10:20:30Z",
    "2026-11-22T10:20:-1Z",

    /* before 1970 and after 9999 in UTC */
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00+00:01",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-00:01",
    "9999-12-31T23:59:60Z",

    /* a 60th second where UTC has none */
    "2026-11-22T10:20:60Z",
    "2026-11-22T23:59:60Z",
    "1990-12-31T23:59:60-08:00"
};


static void
test_good(void **state)
{
    size_t    i;
    int64_t   seconds;
    kg_str_t  text;

    (void) state;

    for (i = 0; i < kg_count(kg_good); i++) {
        text = kg_text(kg_good[i].text);
        seconds = -1;

        if (kg_time_parse(&text, &seconds) != KG_OK
            || seconds != kg_good[i].seconds)
        {
            fail_msg("%s became %lld", kg_good[i].text, (long long) seconds);
        }
    }
}


static void
test_bad(void **state)
{
    size_t    i;
    int64_t   seconds;
    kg_str_t  text;

    (void) state;

    for (i = 0; i < kg_count(kg_bad); i++) {
        text = kg_exact(kg_bad[i]);
        seconds = 77;

        if (kg_time_parse(&text, &seconds) != KG_INVALID) {
            fail_msg("\"%s\" was accepted", kg_bad[i]);
        }

        free(text.data);

        assert_int_equal(seconds, 77);
    }
}


/* A NUL inside is a byte like another, not an end. */

static void
test_nul(void **state)
{
    int64_t   seconds;
    kg_str_t  text = kg_string("2026-11-22T10:20:30Z\0");

    (void) state;

    assert_int_equal(kg_time_parse(&text, &seconds), KG_INVALID);
}


static void
test_format(void **state)
{
    size_t          i;
    unsigned char   buf[KG_TIME_LEN];
    kg_time_case_t  cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T00:00:00Z", -1 },
        { "2000-02-29T12:00:00Z", 951825600 },
        { "2026-11-22T10:20:30Z", 1795342830 },
        { "2038-01-19T03:14:08Z", 2147483648 },
        { "9999-12-31T23:59:59Z", 253402300799 },
        { "9999-12-31T23:59:59Z", 253402300800 },
        { "9999-12-31T23:59:59Z", INT64_MAX }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        assert_ptr_equal(kg_time_format(cases[i].seconds, buf),
                         buf + KG_TIME_LEN);
        assert_memory_equal(buf, cases[i].text, KG_TIME_LEN);
    }
}


/* One moment of every day of 8030 years: both directions must agree. */

static void
test_every_day(void **state)
{
    int64_t        t, seconds;
    kg_str_t       text;
    unsigned char  buf[KG_TIME_LEN], last[KG_TIME_LEN];

    (void) state;

    memset(last, 0, sizeof(last));

    for (t = 45296; t <= 253402300799; t += 86400) {
        text.data = buf;
        text.len = kg_time_format(t, buf) - buf;

        assert_int_equal(kg_time_parse(&text, &seconds), KG_OK);
        assert_int_equal(seconds, t);
        assert_true(memcmp(last, buf, KG_TIME_LEN) < 0);

        memcpy(last, buf, KG_TIME_LEN);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_every_day)
    };

    return cmocka_run_group_tests_name("time", tests, NULL, NULL);
}
