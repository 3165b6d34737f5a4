
/*
 * Request ids: distinct, in the order of time, of the alphabet and length that
 * partners and log tools are promised.
 */

#include "kg_test.h"

#include "kg_request_id.h"


#define IDS  1000000


static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, KG_REQUEST_ID_LEN);
}


static void
test_distinct_and_sorted(void **state)
{
    size_t          i;
    uint64_t        now;
    kg_entropy_t    entropy;
    unsigned char  *ids, *id;

    (void) state;

    memset(&entropy, 0, sizeof(entropy));

    ids = malloc((size_t) IDS * KG_REQUEST_ID_LEN);
    assert_non_null(ids);

    for (i = 0; i < IDS; i++) {
        id = ids + i * KG_REQUEST_ID_LEN;

        /* 1000 of them in each millisecond, across a carry into every digit */

        now = 0x0ffffffffe0c + i / 1000;

        assert_int_equal(kg_request_id(&entropy, now, id), KG_OK);

        if (i >= 1000 && i % 1000 == 0
            && compare(id - KG_REQUEST_ID_LEN, id) >= 0)
        {
            fail_msg("id %zu sorts before one of the ms before", i);
        }
    }

    qsort(ids, IDS, KG_REQUEST_ID_LEN, compare);

    for (i = 1; i < IDS; i++) {
        id = ids + i * KG_REQUEST_ID_LEN;

        if (compare(id - KG_REQUEST_ID_LEN, id) == 0) {
            fail_msg("an id was given twice: %.*s", KG_REQUEST_ID_LEN, id);
        }
    }

    free(ids);
}


static void
test_form(void **state)
{
    size_t         i, j;
    uint32_t       seen[16];
    kg_entropy_t   entropy;
    unsigned char  id[KG_REQUEST_ID_LEN];
    const char    *digit;

    static const char  digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    static const struct {
        uint64_t     now;
        const char  *text;
    } times[] = {
        { 0, "req_0000000000" },
        { 31, "req_000000000Z" },
        { 32, "req_0000000010" },
        { 1469918176385, "req_01ARYZ6S41" },    /* ulid/spec's example */
        { 0xffffffffffff, "req_7ZZZZZZZZZ" }
    };

    (void) state;

    memset(&entropy, 0, sizeof(entropy));
    memset(seen, 0, sizeof(seen));

    for (i = 0; i < kg_count(times); i++) {
        assert_int_equal(kg_request_id(&entropy, times[i].now, id), KG_OK);
        assert_memory_equal(id, times[i].text, 14);
    }

    for (i = 0; i < 2000; i++) {
        assert_int_equal(kg_request_id(&entropy, 0, id), KG_OK);

        for (j = 0; j < 16; j++) {
            digit = strchr(digits, id[14 + j]);
            assert_non_null(digit);
            seen[j] |= (uint32_t) 1 << (digit - digits);
        }
    }

    /* in 2000 ids a place that is random has seen every digit */

    for (j = 0; j < 16; j++) {
        assert_int_equal(seen[j], 0xffffffff);
    }
}


/* Every random bit is in the id, in its place, and in no other id. */
static void
test_entropy_used(void **state)
{
    kg_entropy_t   entropy;
    unsigned char  id[KG_REQUEST_ID_LEN];

    static const unsigned char  bytes[20] = {
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x10, 0x32,
        0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9
    };

    (void) state;

    memset(&entropy, 0, sizeof(entropy));
    memcpy(entropy.bytes, bytes, sizeof(bytes));
    entropy.left = sizeof(bytes);

    assert_int_equal(kg_request_id(&entropy, 0, id), KG_OK);
    assert_memory_equal(id, "req_0000000000Y3RZ5WZMYQVFFY7S",
                        KG_REQUEST_ID_LEN);

    assert_int_equal(kg_request_id(&entropy, 0, id), KG_OK);
    assert_memory_equal(id, "req_000000000004HMASW9NF6YY41J",
                        KG_REQUEST_ID_LEN);

    /* nothing is left: what was used is not used again */

    assert_int_equal(kg_request_id(&entropy, 0, id), KG_OK);
    assert_memory_not_equal(id, "req_000000000004HMASW9NF6YY41J",
                            KG_REQUEST_ID_LEN);
}


/* Randomness is drawn again when the owner dropped it, as after a fork. */
static void
test_entropy_dropped(void **state)
{
    kg_entropy_t   parent, child;
    unsigned char  a[KG_REQUEST_ID_LEN], b[KG_REQUEST_ID_LEN];

    (void) state;

    memset(&parent, 0, sizeof(parent));
    assert_int_equal(kg_request_id(&parent, 0, a), KG_OK);

    child = parent;
    child.left = 0;

    assert_int_equal(kg_request_id(&parent, 0, a), KG_OK);
    assert_int_equal(kg_request_id(&child, 0, b), KG_OK);
    assert_memory_not_equal(a, b, KG_REQUEST_ID_LEN);
}


static void
test_valid(void **state)
{
    size_t    i;
    char      text[130];
    kg_str_t  id;

    static const char  *valid[] = {
        "a", "Z", "9", ".", "_", ":", "-", "req_01J9ZABC",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    };

    (void) state;

    for (i = 0; i < kg_count(valid); i++) {
        id = kg_exact(valid[i]);
        assert_int_equal(kg_request_id_valid(&id), 1);
        free(id.data);
    }

    for (i = 0; i < 256; i++) {
        text[0] = 'a';
        text[1] = (char) i;
        id.data = (unsigned char *) text;
        id.len = 2;

        assert_int_equal(kg_request_id_valid(&id),
                         i != 0
                         && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "abcdefghijklmnopqrstuvwxyz"
                                   "0123456789._:-", (int) i) != NULL);
    }

    memset(text, 'a', sizeof(text));

    id.len = 0;
    assert_int_equal(kg_request_id_valid(&id), 0);

    id.len = 128;
    assert_int_equal(kg_request_id_valid(&id), 1);

    id.len = 129;
    assert_int_equal(kg_request_id_valid(&id), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_distinct_and_sorted),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_entropy_used),
        cmocka_unit_test(test_entropy_dropped),
        cmocka_unit_test(test_valid)
    };

    return cmocka_run_group_tests_name("request id", tests, NULL, NULL);
}
