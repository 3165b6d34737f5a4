
/*
 * Limits: the arithmetic of strict windows and token buckets, with the time
 * passed in.  It is the transition that src/redis/scripts/limit.lua makes in
 * Redis, over the same bytes; here it serves keygate_outage limits=local.
 *
 * Strict window.  What was admitted within one 60th of the window is one entry
 * (stamp, count): it counts until the latest of it, the stamp, has left the
 * window.  So no (t - window, t] holds more than the limit, and at times fewer
 * do by what one entry holds.  What is leased at s may be used until s + life,
 * and is stamped s + life: wherever in between it is used, u, it counts during
 * the whole of [u, u + window].  Stamps never decrease, a later one only makes
 * an entry count longer.
 *
 * Token bucket (GCRA), as a debt that time pays off: a request adds a unit's
 * worth, and must leave the debt at most burst units.  A lease of n first
 * raises the debt to what life pays off, then adds n.  With tat, the moment
 * when all is paid, T, the time a request takes to be paid, and L, a lease's
 * life: take any [a, b] and the requests used in it; all were charged from
 * a - L on.  If the first was charged exactly, at x >= a, it left
 * tat >= x + T >= a + T; if it was leased at x >= a - L it left
 * tat >= x + L + nT >= a + nT, for all n of the lease.  Every later one added
 * T, and the last of them left tat <= b + burst * T.  So their number is at
 * most burst + (b - a) / T.  The debt is counted in units of which a power of
 * two leave in a microsecond, T is rounded up, and so is what is converted.
 *
 * Both are never over; near the limit they are exact, since a lease is at most
 * an eighth of what would be left.
 *
 * What comes back of a lease is taken off the entry it was charged to, and
 * only from a state that was there when it was leased: after Redis was emptied,
 * what others spent stays spent.
 *
 * What comes back to a bucket must leave a debt that is not below the one there
 * would be, had the lease been that much smaller.  The two are apart by what
 * comes back, but for what the smaller debt would have fallen below nothing by
 * since, or a later lease would have had to raise it by.  So as much is taken
 * back as the debt has been above these, at the least, since a moment that is
 * not after the lease's; what is taken back is no longer there for another.
 * That moment is moved on to a lease that it would leave too little for, where
 * no earlier one has the same, and what is left of those stays spent.
 *
 * The bytes of a state, numbers little endian, times in us of Redis's clock:
 *   window  version 2 (B), total (I4), the newest entry's count (I4) and stamp
 *           (d), the oldest entry's stamp (d), when Redis expires it (d, ms),
 *           when it began (d); of the entries before the newest: index of the
 *           first (B) and number (B) in their first block, number in their last
 *           block (B), index (B) and number (B) of the blocks between; 2 zeros;
 *           last block, first block, and a ring of 8 blocks, of which those
 *           that were never used may be missing.  A block is 8 entries (d, I4).
 *   bucket  version 4 (B), debt (d), its moment (d), units of a request (d),
 *           when Redis expires it (d, ms), the moment from which leases come
 *           back (d), how much of the debt may since (d)
 */

#ifndef KG_LIMIT_H
#define KG_LIMIT_H

#include "kg_rate.h"


#define KG_LIMIT_POLICIES_MAX   16
#define KG_LIMIT_STATE_MAX      1008
#define KG_LIMIT_NEVER          4294967295u

/* What burst= may take to be all there again, s. */
#define KG_LIMIT_REFILL_MAX     (30 * 86400)

/* ARGV[1] for n policies, and ARGV[2]; see limit.lua. */
#define KG_LIMIT_ARG_LEN(n)     (4 + (n) * 25)
#define KG_LIMIT_MORE_MAX       (32 + KG_LIMIT_POLICIES_MAX * 4)


typedef struct {
    uint32_t  limit;        /* requests a window; of a bucket its burst */
    uint32_t  window;       /* s */
    double    unit;         /* of a bucket: what a request adds to the debt */
    double    pace;         /* ... and what leaves it in a microsecond */
    unsigned  bucket:1;
    unsigned  dry:1;        /* refuses nothing */
} kg_limit_policy_t;

typedef struct {
    uint32_t  cost;         /* of each request, from 1 */
    uint32_t  n;            /* requests; 0: only look */
    uint32_t  want;         /* to lease */
    uint32_t  back;         /* of an earlier lease */
    double    since;        /* us: the moment of that lease */
    uint32_t  lived;        /* us: its life */
    uint32_t  life;         /* us: of the new lease */
    uint32_t  owes;         /* 1: there is a debt */

    /* Of each policy, spent without asking: added, not checked. */
    uint32_t  debt[KG_LIMIT_POLICIES_MAX];
} kg_limit_ask_t;

typedef struct {
    uint32_t  left;
    uint32_t  reset;        /* ms until all is back */
} kg_limit_stand_t;

typedef struct {
    uint32_t          granted;      /* requests */
    uint32_t          dry;          /* dry policies that would refuse some */
    uint32_t          refusing;     /* policy, from 1; 0: none */
    uint32_t          relief;       /* ms, rounded up; KG_LIMIT_NEVER */
    uint32_t          lease;        /* units */
    double            moment;       /* us: of the lease */
    kg_limit_stand_t  stand[KG_LIMIT_POLICIES_MAX];
} kg_limit_answer_t;

typedef struct {
    size_t         len;             /* 0: there is none */
    unsigned char  data[KG_LIMIT_STATE_MAX];
} kg_limit_state_t;


/*
 * A policy from its rate; burst 0 is a strict window.  The unit of a bucket is
 * chosen so that rounding costs less than a millionth of the rate.
 */
void kg_limit_policy(kg_limit_policy_t *policy, const kg_rate_t *rate,
    uint32_t burst);

/* s until an empty bucket of the rate is full again, rounded up. */
uint64_t kg_limit_refill(const kg_rate_t *rate, uint32_t burst);

/*
 * us that a lease of the policy may live: the least of a second and a 60th of
 * the window, or of the time in which a bucket fills.
 */
uint32_t kg_limit_life(const kg_limit_policy_t *policy);

/*
 * Decides on requests by n policies at once: all or nothing for each request.
 * clock in us.  KG_OK and *answer, the states changed; or KG_INVALID, nothing
 * changed, for a malformed state.
 */
kg_rc_t kg_limit_decide(const kg_limit_policy_t *policies,
    kg_limit_state_t *states, size_t n, const kg_limit_ask_t *ask,
    double clock, kg_limit_answer_t *answer);


/* kg_limit_wire.c: the script's arguments and answer */

/*
 * Writes ARGV[1], of KG_LIMIT_ARG_LEN(n) bytes at most, for any number of
 * policies; returns its end.
 */
unsigned char *kg_limit_write_policies(unsigned char *p, uint32_t cost,
    const kg_limit_policy_t *policies, size_t n);

/*
 * Writes ARGV[2], of KG_LIMIT_MORE_MAX bytes at most; returns its end, which is
 * p when the script needs none: one request and nothing else.
 */
unsigned char *kg_limit_write_more(unsigned char *p,
    const kg_limit_ask_t *ask, size_t n);

/* Reads the answer for n policies: KG_OK, or KG_INVALID. */
kg_rc_t kg_limit_read_answer(const kg_str_t *text, size_t n,
    kg_limit_answer_t *answer);

/* Reads what it says of policy i, of any number n. */
kg_rc_t kg_limit_read_stand(const kg_str_t *text, size_t n, size_t i,
    kg_limit_stand_t *stand);

#endif
