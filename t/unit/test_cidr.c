
/*
 * Address blocks: what is refused, and who is inside.
 */

#include <arpa/inet.h>

#include "kg_test.h"

#include "kg_cidr.h"


static void
test_parse(void **state)
{
    size_t         i;
    kg_str_t       text;
    kg_cidr_t      cidr;
    unsigned char  addr[16];

    static const struct {
        const char  *text;
        unsigned     family;
        unsigned     bits;
        const char  *addr;
    } cases[] = {
        { "203.0.113.7", 4, 32, "203.0.113.7" },
        { "203.0.113.0/24", 4, 24, "203.0.113.0" },
        { "203.0.113.128/25", 4, 25, "203.0.113.128" },
        { "255.255.255.255/32", 4, 32, "255.255.255.255" },
        { "0.0.0.0/0", 4, 0, "0.0.0.0" },
        { "2001:db8::/32", 6, 32, "2001:db8::" },
        { "2001:db8::7", 6, 128, "2001:db8::7" },
        { "2001:db8:8000::/33", 6, 33, "2001:db8:8000::" },
        { "::/0", 6, 0, "::" },
        { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128", 6, 128,
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
        { "::ffff:203.0.113.7", 4, 32, "203.0.113.7" },
        { "::ffff:203.0.113.0/120", 4, 24, "203.0.113.0" },
        { "::ffff:0:0/96", 4, 0, "0.0.0.0" },
        { "::fffe:0:0/95", 6, 95, "::fffe:0:0" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].text);
        memset(addr, 0, sizeof(addr));

        if (kg_cidr_parse(&text, &cidr) != KG_OK) {
            fail_msg("%s was refused", cases[i].text);
        }

        assert_int_equal(cidr.family, cases[i].family);
        assert_int_equal(cidr.bits, cases[i].bits);

        inet_pton(cases[i].family == 4 ? AF_INET : AF_INET6, cases[i].addr,
                  addr);
        assert_memory_equal(cidr.addr, addr, 16);
    }
}


static void
test_refused(void **state)
{
    size_t     i;
    kg_str_t   text, ends[] = {
        kg_string("203.0.113.0\0/24"), kg_string("203.0.113.7\0")
    };
    kg_cidr_t  cidr;

    static const char  *cases[] = {
        "", "/", "/24", "203.0.113.0/", "203.0.113/24", "203.0.113.0/33",
        "203.0.113.0/024", "203.0.113.0/00", "203.0.113.0/+24",
        "203.0.113.0/-1", "203.0.113.0/24 ", " 203.0.113.0/24",
        "203.0.113.0/24/24", "203.0.113.0/2a", "203.0.113.256",
        "203.0.113.07", "0x7f.0.0.1", "127.1", "203.0.113.0.1", "localhost",
        "203.0.113.0/4294967320",

        /* host bits */
        "203.0.113.7/24", "203.0.113.1/31", "128.0.0.0/0", "203.0.113.192/25",
        "2001:db8::1/32", "2001:db8:c000::/33", "::1/0",
        "::ffff:203.0.113.7/120", "::ffff:0:0/95",

        "2001:db8::/129", "2001:db8::/1000", "2001:db8:::/32", "2001:db8::g",
        "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "fe80::1%eth0", "[::1]",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_exact(cases[i]);

        if (kg_cidr_parse(&text, &cidr) != KG_INVALID) {
            fail_msg("\"%s\" was accepted", cases[i]);
        }

        free(text.data);
    }

    /* inet_pton() alone would stop at the NUL */

    for (i = 0; i < kg_count(ends); i++) {
        assert_int_equal(kg_cidr_parse(&ends[i], &cidr), KG_INVALID);
    }
}


static void
test_match(void **state)
{
    size_t         i, len;
    kg_str_t       text;
    kg_cidr_t      cidr;
    unsigned char  addr[16];

    static const struct {
        const char  *block;
        const char  *addr;
        int          in;
    } cases[] = {
        { "203.0.113.7", "203.0.113.7", 1 },
        { "203.0.113.7", "203.0.113.6", 0 },
        { "203.0.113.7", "203.0.113.8", 0 },
        { "203.0.113.0/24", "203.0.113.255", 1 },
        { "203.0.113.0/24", "203.0.114.0", 0 },
        { "203.0.113.0/24", "203.0.112.255", 0 },
        { "203.0.113.128/25", "203.0.113.127", 0 },
        { "203.0.113.128/25", "203.0.113.128", 1 },
        { "203.0.112.0/23", "203.0.113.9", 1 },
        { "203.0.112.0/23", "203.0.114.9", 0 },
        { "128.0.0.0/1", "255.0.0.1", 1 },
        { "128.0.0.0/1", "127.255.255.255", 0 },
        { "0.0.0.0/0", "198.51.100.1", 1 },
        { "2001:db8::/32", "2001:db8:ffff::1", 1 },
        { "2001:db8::/32", "2001:db9::1", 0 },
        { "2001:db8::/33", "2001:db8:7fff::1", 1 },
        { "2001:db8::/33", "2001:db8:8000::1", 0 },
        { "2001:db8::7", "2001:db8::7", 1 },
        { "2001:db8::7", "2001:db8::6", 0 },

        /* an IPv4-mapped address is its IPv4 address, on either side */
        { "203.0.113.0/24", "::ffff:203.0.113.7", 1 },
        { "203.0.113.0/24", "::ffff:203.0.114.7", 0 },
        { "::ffff:203.0.113.0/120", "203.0.113.7", 1 },
        { "::ffff:203.0.113.0/120", "::ffff:203.0.113.7", 1 },
        { "::ffff:203.0.113.0/120", "203.0.114.7", 0 },

        /* not mapped: the old compatible form, and one bit off */
        { "203.0.113.0/24", "::203.0.113.7", 0 },
        { "203.0.113.0/24", "::fffe:203.0.113.7", 0 },
        { "203.0.113.0/24", "::1:ffff:203.0.113.7", 0 },

        /* one family's everything is not the other's */
        { "0.0.0.0/0", "2001:db8::1", 0 },
        { "::/0", "203.0.113.7", 0 },
        { "::/0", "::ffff:203.0.113.7", 0 },
        { "::/0", "2001:db8::1", 1 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].block);
        assert_int_equal(kg_cidr_parse(&text, &cidr), KG_OK);

        len = strchr(cases[i].addr, ':') ? 16 : 4;
        assert_int_equal(inet_pton(len == 4 ? AF_INET : AF_INET6,
                                   cases[i].addr, addr), 1);

        if (kg_cidr_match(&cidr, addr, len) != cases[i].in) {
            fail_msg("%s in %s", cases[i].addr, cases[i].block);
        }
    }
}


static void
test_covers(void **state)
{
    size_t     i;
    kg_str_t   text;
    kg_cidr_t  outer, inner;

    static const struct {
        const char  *outer;
        const char  *inner;
        int          covers;
    } cases[] = {
        { "203.0.113.0/24", "203.0.113.0/24", 1 },
        { "203.0.113.0/24", "203.0.113.7", 1 },
        { "203.0.113.0/24", "203.0.113.128/25", 1 },
        { "203.0.113.0/25", "203.0.113.128/25", 0 },
        { "203.0.113.0/24", "203.0.112.0/23", 0 },
        { "203.0.113.7", "203.0.113.0/24", 0 },
        { "0.0.0.0/0", "203.0.113.7", 1 },
        { "203.0.113.7", "0.0.0.0/0", 0 },
        { "2001:db8::/32", "2001:db8:1::/48", 1 },
        { "2001:db8:1::/48", "2001:db8::/32", 0 },
        { "::/0", "203.0.113.7", 0 },
        { "0.0.0.0/0", "2001:db8::/32", 0 },
        { "0.0.0.0/0", "::/0", 0 },
        { "::/0", "0.0.0.0/0", 0 },
        { "203.0.113.0/24", "::ffff:203.0.113.7", 1 },
        { "::ffff:203.0.113.0/120", "203.0.113.0/24", 1 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        text = kg_text(cases[i].outer);
        assert_int_equal(kg_cidr_parse(&text, &outer), KG_OK);
        text = kg_text(cases[i].inner);
        assert_int_equal(kg_cidr_parse(&text, &inner), KG_OK);

        if (kg_cidr_covers(&outer, &inner) != cases[i].covers) {
            fail_msg("%s over %s", cases[i].outer, cases[i].inner);
        }
    }
}


/* An address that is neither (a unix socket's) is in no block. */

static void
test_other_lengths(void **state)
{
    size_t         len;
    kg_str_t       any4 = kg_string("0.0.0.0/0"), any6 = kg_string("::/0");
    kg_cidr_t      cidr4, cidr6;
    unsigned char  addr[32];

    (void) state;

    memset(addr, 0, sizeof(addr));

    assert_int_equal(kg_cidr_parse(&any4, &cidr4), KG_OK);
    assert_int_equal(kg_cidr_parse(&any6, &cidr6), KG_OK);

    for (len = 0; len <= sizeof(addr); len++) {
        assert_int_equal(kg_cidr_match(&cidr4, addr, len), len == 4);
        assert_int_equal(kg_cidr_match(&cidr6, addr, len), len == 16);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_other_lengths)
    };

    return cmocka_run_group_tests_name("cidr", tests, NULL, NULL);
}
