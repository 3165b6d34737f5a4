
/*
 * What is leased of limits: Redis is the test itself.  t/test_zone_limits.py
 * builds and runs it.
 *
 *     limits back          two leases that end at once
 *     limits denied        one who is refused while a lease is to go back
 *     limits second        two leases, and who fits into the second alone
 *     limits renew         when the next lease is asked for
 *     limits rates         a lease at one rate, and who is held to another
 *     limits behind        one who has waited for a lock
 *     limits torn          one who died inside a lock
 *     limits kill SECONDS  workers that die: nobody hangs or uses too much
 */

#include <stdlib.h>

#include "filled.h"
#include "killed.h"


#define LIFE   1000000

/* Of those who are limited, in the test of workers, and of their leases. */
#define NAMES  300
#define SHORT  2000


/* Of each who is limited, what Redis has leased, and what was used of it. */
typedef struct {
    ngx_atomic_t  leased[NAMES];
    ngx_atomic_t  used[NAMES];
} progress_t;


static kg_zone_limits_t  limits = { "somebody's", 1, 1, 1, LIFE, 0 };
static uint64_t          now = 5000000;
static ngx_uint_t        inside;    /* of a lock died so many */


static kg_zone_limits_verdict_t
request(void)
{
    kg_zone_limits_known_t  known;

    return kg_zone_limits_take(zone, &limits, now, 0, &known);
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


static kg_zone_limits_verdict_t
take(const char *name)
{
    kg_zone_limits_known_t  known;

    ngx_memcpy(limits.name, name, KG_ZONE_LIMITS_NAME);

    return kg_zone_limits_take(zone, &limits, now, 0, &known);
}


/* Refused with the greater of two leases, while the other is to go back. */

static void
test_denied(void)
{
    ngx_uint_t              i;
    kg_limit_ask_t          ask;
    kg_limit_answer_t       answer;
    kg_zone_limits_known_t  known;

    make_zone(MB);

    for (i = 0; i < 100; i++) {
        request();
    }

    asked(1, 80);
    request();
    now += 1000;
    asked(0, 20);
    now += 2 * LIFE;

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));
    ngx_memzero(&answer, sizeof(kg_limit_answer_t));

    ask.cost = 1;
    ask.n = 1;
    kg_zone_limits_ask(zone, &limits, now, &ask);
    check(ask.back == 79);

    answer.refusing = 1;
    answer.relief = 60000;
    kg_zone_limits_answer(zone, &limits, now, now, &ask, &answer);

    check(kg_zone_limits_take(zone, &limits, now, 0, &known)
          == KG_ZONE_LIMITS_ASK);

    ask = asked(0, 0);
    check(ask.back == 20);

    check(kg_zone_limits_take(zone, &limits, now, 0, &known)
          == KG_ZONE_LIMITS_DENIED);
}


/* A dear request fits into the second lease, cheap ones use both up. */

static void
test_second(void)
{
    ngx_uint_t  i;

    make_zone(MB);
    request();

    asked(0, 3);
    asked(0, 40);

    limits.cost = 5;

    for (i = 0; i < 8; i++) {
        check(!kg_zone_limits_asks(zone, &limits, now));
        check(request() == KG_ZONE_LIMITS_LEASED);
    }

    check(request() == KG_ZONE_LIMITS_ASK);

    limits.cost = 1;

    for (i = 0; i < 3; i++) {
        check(request() == KG_ZONE_LIMITS_LEASED);
    }

    check(request() == KG_ZONE_LIMITS_ASK);
}


/* Both leases are there when a third comes, which was late. */

static void
test_third(void)
{
    ngx_uint_t      i;
    kg_limit_ask_t  ask;

    make_zone(MB);
    request();

    asked(1, 30);
    asked(0, 20);
    asked(0, 10);

    for (i = 0; i < 50; i++) {
        check(request() == KG_ZONE_LIMITS_LEASED);
    }

    ask = asked(1, 0);
    check(ask.back == 10);
}


/* 1 when who uses a lease has to ask for the next. */

static ngx_uint_t
renews(void)
{
    kg_zone_limits_known_t  known;

    check(kg_zone_limits_take(zone, &limits, now, 0, &known)
          == KG_ZONE_LIMITS_LEASED);

    return known.renew;
}


static void
leased(void)
{
    ngx_uint_t  i;

    make_zone(MB);

    for (i = 0; i < 40; i++) {
        request();
    }

    asked(1, 8);
    check(renews());
}


/* Where nothing is to be had, not every request of a lease asks for more. */

static void
test_renew(void)
{
    kg_limit_ask_t     ask;
    kg_limit_answer_t  answer;

    leased();
    ask = asked(0, 0);
    check(ask.want > 0);
    check(!renews());

    now += LIFE / 2;
    check(!renews());

    leased();
    ngx_memzero(&ask, sizeof(kg_limit_ask_t));
    ngx_memzero(&answer, sizeof(kg_limit_answer_t));

    ask.cost = 1;
    ask.n = 1;
    kg_zone_limits_ask(zone, &limits, now, &ask);

    answer.refusing = 1;
    answer.relief = 60000;
    kg_zone_limits_answer(zone, &limits, now, now, &ask, &answer);
    check(!renews());
}


/* Who is held to another rate asks, and what was leased before goes back. */

static void
test_rates(void)
{
    ngx_uint_t      i;
    kg_limit_ask_t  ask;

    make_zone(MB);

    for (i = 0; i < 100; i++) {
        request();
    }

    asked(1, 30);
    asked(0, 20);
    check(request() == KG_ZONE_LIMITS_LEASED);

    limits.rates++;

    check(request() == KG_ZONE_LIMITS_ASK);
    check(kg_zone_limits_asks(zone, &limits, now));

    ask = asked(1, 10);
    check(ask.back == 29);
    check(request() == KG_ZONE_LIMITS_LEASED);

    ask = asked(1, 0);
    check(ask.back == 20);
}


/* Who waited for a lock comes with a time that is over. */

static void
test_behind(void)
{
    ngx_uint_t              i;
    kg_limit_ask_t          ask;
    kg_limit_answer_t       answer;
    kg_zone_limits_known_t  known;

    make_zone(MB);

    for (i = 0; i < 100; i++) {
        request();
    }

    ngx_memzero(&ask, sizeof(kg_limit_ask_t));
    ngx_memzero(&answer, sizeof(kg_limit_answer_t));

    ask.cost = 1;
    kg_zone_limits_ask(zone, &limits, now, &ask);
    check(ask.want == 100);

    answer.lease = 50;
    answer.stand[0].reset = 60000;
    kg_zone_limits_answer(zone, &limits, now, now, &ask, &answer);

    check(kg_zone_limits_take(zone, &limits, now - 10, 0, &known)
          == KG_ZONE_LIMITS_LEASED);
    check(known.stand[0].reset == 60000);

    /* What came in the life that is over is known all the same. */

    now += LIFE;
    request();
    check(kg_zone_limits_take(zone, &limits, now - 10, 0, &known)
          == KG_ZONE_LIMITS_LEASED);
    ask = asked(0, 0);
    check(ask.want == 101);
}


static void
test_torn(void)
{
    pid_t               child;
    const char         *torn, *whole;
    kg_zone_limited_t  *place;

    torn = "0000 is torn....";
    whole = "1000 is whole...";

    make_zone(MB);

    (void) take(torn);
    (void) asked(1, 10);
    (void) take(whole);
    (void) asked(1, 10);

    check(take(torn) == KG_ZONE_LIMITS_LEASED);
    check(take(whole) == KG_ZONE_LIMITS_LEASED);

    child = fork();
    check(child != -1);

    if (child == 0) {
        uint32_t  set;

        /* As one that was killed while the next lease took over. */

        ngx_memcpy(&set, torn, sizeof(set));
        set &= shared->nlimits - 1;

        shared->limit_locks[set % KG_ZONE_LIMIT_LOCKS].lock = getpid();

        place = &shared->limits[set * KG_ZONE_LIMIT_SET];
        check(place->leases[0].units == 9);
        place->leases[1] = place->leases[0];

        /* Others would wait for ever, since no time ends a lock. */

        shared->local_lock = getpid();

        _exit(0);
    }

    check(waitpid(child, NULL, 0) == child);
    kg_zone_recover(zone, &log_all);

    check(shared->local_lock == 0);
    check(take(torn) == KG_ZONE_LIMITS_ASK);
    check(take(whole) == KG_ZONE_LIMITS_LEASED);
}


static uint64_t
monotonic(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


/* A worker: uses leases, and asks for others. */

static void
work(volatile uint64_t *turns, void *memory)
{
    uint32_t                  n;
    ngx_uint_t                i;
    progress_t               *progress;
    kg_limit_ask_t            ask;
    kg_limit_answer_t         answer;
    kg_zone_limits_known_t    known;
    kg_zone_limits_verdict_t  verdict;

    progress = memory;
    limits.life = SHORT;

    for ( ;; ) {
        n = rand() % NAMES;
        ngx_memcpy(limits.name, &n, sizeof(n));

        now = monotonic();

        for (i = 0; i < 8; i++) {
            verdict = kg_zone_limits_take(zone, &limits, now, 0, &known);

            if (verdict == KG_ZONE_LIMITS_LEASED) {
                (void) ngx_atomic_fetch_add(&progress->used[n], 1);
            }
        }

        ++*turns;

        if (verdict == KG_ZONE_LIMITS_LEASED) {
            continue;
        }

        ngx_memzero(&ask, sizeof(kg_limit_ask_t));
        ngx_memzero(&answer, sizeof(kg_limit_answer_t));

        ask.cost = 1;
        kg_zone_limits_ask(zone, &limits, now, &ask);

        answer.lease = ask.want;
        answer.moment = (double) now;

        (void) ngx_atomic_fetch_add(&progress->leased[n],
                                    (ngx_atomic_int_t) ask.want - ask.back);

        kg_zone_limits_answer(zone, &limits, now, now, &ask, &answer);
    }
}


static ngx_uint_t
locks_held(void)
{
    ngx_uint_t  i, held;

    held = 0;

    for (i = 0; i < KG_ZONE_LIMIT_LOCKS; i++) {
        held += (shared->limit_locks[i].lock != 0);
    }

    return held;
}


static void
killed(ngx_uint_t alive)
{
    if (alive == 0) {
        inside += locks_held();
    }

    kg_zone_recover(zone, &log_all);

    check(alive || locks_held() == 0);
}


static void
test_kill(int seconds)
{
    unsigned     kills;
    uint64_t     leased, used;
    ngx_uint_t   i;
    progress_t  *progress;

    make_zone(MB);

    progress = share(sizeof(progress_t));
    kills = kill_workers(seconds, work, progress, killed);

    leased = 0;
    used = 0;

    for (i = 0; i < NAMES; i++) {
        check(progress->used[i] <= progress->leased[i]);

        leased += progress->leased[i];
        used += progress->used[i];
    }

    check(used > 0);
    check(inside > 0);

    printf("%u kills, %u inside a lock, %lu used of %lu\n", kills,
           (unsigned) inside, (unsigned long) used, (unsigned long) leased);
}


int
main(int argc, char **argv)
{
    const char  *name;

    name = (argc > 1) ? argv[1] : "";

    if (strcmp(name, "back") == 0) {
        test_back();

    } else if (strcmp(name, "denied") == 0) {
        test_denied();

    } else if (strcmp(name, "second") == 0) {
        test_second();
        test_third();

    } else if (strcmp(name, "renew") == 0) {
        test_renew();

    } else if (strcmp(name, "rates") == 0) {
        test_rates();

    } else if (strcmp(name, "behind") == 0) {
        test_behind();

    } else if (strcmp(name, "torn") == 0) {
        test_torn();

    } else if (strcmp(name, "kill") == 0 && argc == 3) {
        test_kill(atoi(argv[2]));

    } else {
        fprintf(stderr, "usage: limits back | denied | second | renew | "
                "rates | behind | torn | kill SECONDS\n");
        return 2;
    }

    return 0;
}
