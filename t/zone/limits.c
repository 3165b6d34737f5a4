
/*
 * What is leased of limits: Redis is the test itself.
 */

#include "filled.h"


#define LIFE  1000000


static kg_zone_limits_t  limits = { "somebody's", 1, 1, 1, LIFE };
static uint64_t          now = 5000000;


static void
request(void)
{
    kg_zone_limits_known_t  known;

    kg_zone_limits_take(zone, &limits, now, 0, &known);
}


/* Asks for n requests, and is granted a lease of so many units. */

static kg_limit_ask_t
asked(uint32_t n, uint32_t lease)
{
    kg_limit_ask_t     ask;
    kg_limit_answer_t  answer;

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));
    ngx_memzero(&answer, sizeof(kg_limit_answer_t));

    ask.cost = 1;
    ask.n = n;
    kg_zone_limits_ask(zone, &limits, now, &ask);

    answer.granted = n;
    answer.lease = lease;
    answer.moment = (double) now;
    kg_zone_limits_answer(zone, &limits, now, now, &ask, &answer);

    return ask;
}


/* Two leases end at once, since nobody comes any more. */

static void
test_back(void)
{
    uint64_t        first, second;
    ngx_uint_t      i;
    kg_limit_ask_t  ask;

    make_zone(MB);

    for (i = 0; i < 100; i++) {
        request();
    }

    first = now;
    ask = asked(1, 30);
    check(ask.back == 0);
    check(ask.want == 99);

    for (i = 0; i < 10; i++) {
        request();
    }

    now += 1000;
    second = now;
    ask = asked(0, 80);
    check(ask.back == 0);
    check(ask.want > 0);

    now += 2 * LIFE;

    ask = asked(1, 0);
    check(ask.back == 80);
    check(ask.since == (double) second && ask.lived == LIFE);

    ask = asked(1, 0);
    check(ask.back == 20);
    check(ask.since == (double) first && ask.lived == LIFE);

    ask = asked(1, 0);
    check(ask.back == 0);
}


int
main(void)
{
    test_back();

    return 0;
}
