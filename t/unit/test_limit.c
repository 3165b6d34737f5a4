
/*
 * Limits: the decision.  Whole histories are in t/test_limit_lease.py and, held
 * against the script, in t/test_limit_core.py; here is what a caller relies on.
 */

#include "kg_test.h"

#include "kg_limit.h"

#define NOW  1700000000000000.0


static void
decide(const kg_limit_policy_t *policies, kg_limit_state_t *states, size_t n,
    uint32_t requests, double clock, kg_limit_answer_t *answer)
{
    kg_limit_ask_t  ask;

    memset(&ask, 0, sizeof(ask));
    ask.cost = 1;
    ask.n = requests;

    assert_int_equal(kg_limit_decide(policies, states, n, &ask, clock, answer),
                     KG_OK);
}


static void
test_window_is_half_open(void **state)
{
    kg_rate_t          rate = { 2, 60 };
    kg_limit_state_t   one;
    kg_limit_policy_t  policy;
    kg_limit_answer_t  answer;

    (void) state;

    one.len = 0;
    kg_limit_policy(&policy, &rate, 0);

    decide(&policy, &one, 1, 3, NOW, &answer);
    assert_int_equal(answer.granted, 2);
    assert_int_equal(answer.refusing, 1);
    assert_int_equal(answer.relief, 60000);
    assert_int_equal(answer.stand[0].left, 0);
    assert_int_equal(answer.stand[0].reset, 60000);

    decide(&policy, &one, 1, 1, NOW + 59999999, &answer);
    assert_int_equal(answer.granted, 0);
    assert_int_equal(answer.relief, 1);

    decide(&policy, &one, 1, 1, NOW + 60000000, &answer);
    assert_int_equal(answer.granted, 1);
}


static void
test_malformed_changes_nothing(void **state)
{
    kg_rate_t          rate = { 2, 60 };
    kg_limit_ask_t     ask;
    kg_limit_state_t   states[2], before[2];
    kg_limit_policy_t  policies[2];
    kg_limit_answer_t  answer;

    (void) state;

    memset(states, 0, sizeof(states));
    kg_limit_policy(&policies[0], &rate, 0);
    kg_limit_policy(&policies[1], &rate, 5);

    decide(policies, states, 2, 1, NOW, &answer);
    states[1].data[0] = 9;
    memcpy(before, states, sizeof(states));

    memset(&ask, 0, sizeof(ask));
    ask.cost = 1;
    ask.n = 1;

    assert_int_equal(kg_limit_decide(policies, states, 2, &ask, NOW, &answer),
                     KG_INVALID);
    assert_memory_equal(before, states, sizeof(states));

    ask.cost = 0;
    states[1].len = 0;

    assert_int_equal(kg_limit_decide(policies, states, 2, &ask, NOW, &answer),
                     KG_INVALID);
}


static void
test_life(void **state)
{
    size_t  i;

    static const struct {
        kg_rate_t  rate;
        uint32_t   burst;
        uint32_t   life;
    } all[] = {
        { { 60, 1 }, 0, 16666 },
        { { 60, 60 }, 0, 1000000 },
        { { 60, 86400 }, 0, 1000000 },
        { { 60, 60 }, 6, 100000 },
        { { 1, 60 }, 1000, 1000000 }
    };

    (void) state;

    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        kg_limit_policy_t  policy;

        kg_limit_policy(&policy, &all[i].rate, all[i].burst);

        /* A bucket's requests take as long as the rate says, or 1 ppm more. */

        assert_in_range(kg_limit_life(&policy), all[i].life,
                        all[i].life + all[i].life / 1000000 + 1);
    }
}


static void
test_refill(void **state)
{
    kg_rate_t  slow = { 7, 86400 }, fast = { 1000000000, 1 };

    (void) state;

    assert_int_equal(kg_limit_refill(&slow, 7), 86400);
    assert_int_equal(kg_limit_refill(&slow, 8), 98743);
    assert_int_equal(kg_limit_refill(&fast, 1), 1);
    assert_true(kg_limit_refill(&slow, 1000000000) > KG_LIMIT_REFILL_MAX);
}


static void
test_answers_of_another_shape(void **state)
{
    size_t             len;
    kg_str_t           text;
    kg_limit_answer_t  answer;
    unsigned char      bytes[64];

    (void) state;

    memset(bytes, 0, sizeof(bytes));
    text.data = bytes;

    for (len = 0; len <= sizeof(bytes); len++) {
        text.len = len;
        assert_int_equal(kg_limit_read_answer(&text, 2, &answer),
                         len == 27 || len == 39 ? KG_OK : KG_INVALID);
    }

    text.len = 27;
    bytes[6] = 3;

    assert_int_equal(kg_limit_read_answer(&text, 2, &answer), KG_INVALID);

    bytes[6] = 2;
    bytes[7] = bytes[8] = bytes[9] = bytes[10] = 0xff;

    assert_int_equal(kg_limit_read_answer(&text, 2, &answer), KG_OK);
    assert_int_equal(answer.refusing, 2);
    assert_int_equal(answer.relief, KG_LIMIT_NEVER);
}


static void
test_nothing_more_needs_no_argument(void **state)
{
    kg_limit_ask_t  ask;
    unsigned char   bytes[KG_LIMIT_MORE_MAX];

    (void) state;

    memset(&ask, 0, sizeof(ask));
    ask.cost = 5;
    ask.n = 1;
    ask.life = 1000;

    assert_ptr_equal(kg_limit_write_more(bytes, &ask, 3), bytes);

    ask.n = 2;

    assert_ptr_equal(kg_limit_write_more(bytes, &ask, 3), bytes + 32);

    ask.owes = 1;

    assert_ptr_equal(kg_limit_write_more(bytes, &ask, 3), bytes + 32 + 12);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_window_is_half_open),
        cmocka_unit_test(test_malformed_changes_nothing),
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_refill),
        cmocka_unit_test(test_answers_of_another_shape),
        cmocka_unit_test(test_nothing_more_needs_no_argument)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
