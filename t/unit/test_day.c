
/*
 * Days, by which usage is counted: where one ends and the next begins.  What
 * is expected was computed apart from this code, with Python's datetime.
 */

#include "kg_test.h"

#include "kg_time.h"


typedef struct {
    int64_t      seconds;
    uint32_t     day;
    const char  *text;
} kg_day_case_t;


static const kg_day_case_t  kg_days[] = {
    { 0, 0, "19700101" },
    { 86399, 0, "19700101" },
    { 86400, 1, "19700102" },

    /* before and after midnight, of a month's end, a leap day, a year's end */
    { 1795391999, 20779, "20261122" },
    { 1795392000, 20780, "20261123" },
    { 1709164799, 19781, "20240228" },
    { 1709164800, 19782, "20240229" },
    { 1709251199, 19782, "20240229" },
    { 1709251200, 19783, "20240301" },
    { 4107542399, 47540, "21000228" },
    { 4107542400, 47541, "21000301" },
    { 1798761599, 20818, "20261231" },
    { 1798761600, 20819, "20270101" },
    { 253402300799, 2932896, "99991231" },

    /* out of range */
    { -1, 0, "19700101" },
    { INT64_MIN, 0, "19700101" },
    { 253402300800, 2932896, "99991231" },
    { INT64_MAX, 2932896, "99991231" }
};


static void
test_days(void **state)
{
    size_t         i;
    unsigned char  buf[KG_DAY_LEN + 1];

    (void) state;

    for (i = 0; i < kg_count(kg_days); i++) {
        assert_int_equal(kg_day(kg_days[i].seconds), kg_days[i].day);

        buf[KG_DAY_LEN] = '!';

        assert_ptr_equal(kg_day_format(kg_days[i].day, buf),
                         buf + KG_DAY_LEN);
        assert_memory_equal(buf, kg_days[i].text, KG_DAY_LEN);
        assert_int_equal(buf[KG_DAY_LEN], '!');
    }
}


static void
test_day_that_is_none(void **state)
{
    unsigned char  buf[KG_DAY_LEN];

    (void) state;

    (void) kg_day_format(UINT32_MAX, buf);
    assert_memory_equal(buf, "99991231", KG_DAY_LEN);
}


/* Each day's text is that of its first moment's date. */

static void
test_every_day(void **state)
{
    int64_t        t;
    unsigned char  day[KG_DAY_LEN], date[KG_TIME_LEN];

    (void) state;

    for (t = 0; t <= 253402300799; t += 86400) {
        (void) kg_day_format(kg_day(t + 86399), day);
        (void) kg_time_format(t, date);

        assert_memory_equal(day, date, 4);
        assert_memory_equal(day + 4, date + 5, 2);
        assert_memory_equal(day + 6, date + 8, 2);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_day_that_is_none),
        cmocka_unit_test(test_every_day)
    };

    return cmocka_run_group_tests_name("day", tests, NULL, NULL);
}
