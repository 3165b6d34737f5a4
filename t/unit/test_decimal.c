
/*
 * Numbers in decimal: as printf() writes them, at every length.
 */

#include "kg_test.h"

#include <inttypes.h>

#include "kg_decimal.h"


static void
expect_as_printed(uint64_t n)
{
    int            len;
    char           printed[32];
    unsigned char  buf[22], *end;

    memset(buf, '#', sizeof(buf));

    len = snprintf(printed, sizeof(printed), "%" PRIu64, n);
    end = kg_put_decimal(buf + 1, n);

    assert_int_equal(end - (buf + 1), len);
    assert_memory_equal(buf + 1, printed, (size_t) len);

    /* not a byte before it, nor behind it */

    assert_int_equal(buf[0], '#');
    assert_int_equal(*end, '#');
}


static void
test_every_length(void **state)
{
    int       digits;
    uint64_t  power;

    (void) state;

    expect_as_printed(0);

    for (digits = 1, power = 1; digits <= 20; digits++) {
        expect_as_printed(power - 1);
        expect_as_printed(power);
        expect_as_printed(power + 1);

        if (digits < 20) {
            power *= 10;
        }
    }

    expect_as_printed(UINT32_MAX);
    expect_as_printed(UINT64_MAX - 1);
    expect_as_printed(UINT64_MAX);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_every_length)
    };

    return cmocka_run_group_tests_name("decimal", tests, NULL, NULL);
}
