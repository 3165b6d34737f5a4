
/*
 * Limits in the zone: what the workers of a node know of them together.
 *
 * A place is for those who spend from the same states in Redis.  It holds what
 * is leased of them, a denial until its relief, how much was asked for lately,
 * and how the limits stood when Redis last said.  A lease is for the
 * rates it was made for: who comes with others asks, and hands it back, so that
 * a lowered rate holds at once.  A denial is for its rates and its cost, and
 * until something is granted: a dear request would wait longer.
 * A denial is of all the states together, though one state refused: another who
 * spends from that one is refused as well, but when he is to come again, and
 * what he is told of his other limits, only Redis knows.
 *
 * A lease may be used from when it was asked for until its life is over, by
 * CLOCK_MONOTONIC, which every process of the machine has in common; Redis
 * counts it for at least as long.  What is left of one goes back with whatever
 * is asked next, and of another with what is asked after that.  While a lease
 * is used a worker asks for the next, so that nobody waits; that it is being
 * asked for is forgotten after a second, since the worker may have died.
 *
 * The table is of fixed size, in sets of four; a full set forgets who was
 * limited least recently, and what was leased stays spent.  Times are in us.
 */

#ifndef KG_ZONE_LIMITS_H
#define KG_ZONE_LIMITS_H

#include "kg_limit.h"
#include "kg_sip.h"
#include "kg_zone.h"


#define KG_ZONE_LIMITS_NAME      KG_SIP_LEN
/* More have no place. */
#define KG_ZONE_LIMITS_POLICIES  8


typedef struct {
    u_char            name[KG_ZONE_LIMITS_NAME];    /* a hash of the states */
    uint32_t          rates;        /* a hash of the rates */
    ngx_uint_t        n;            /* policies */
    uint32_t          cost;
    uint32_t          life;         /* of a lease; 0: nothing is leased */
    unsigned          shared:1;     /* by keys, which may have other rates */
} kg_zone_limits_t;

typedef enum {
    KG_ZONE_LIMITS_ASK = 0,         /* Redis has to be asked */
    KG_ZONE_LIMITS_LEASED,          /* admitted */
    KG_ZONE_LIMITS_DENIED
} kg_zone_limits_verdict_t;

typedef struct {
    ngx_uint_t        refusing;     /* policy, from 1 */
    uint32_t          relief;       /* ms */
    kg_limit_stand_t  stand[KG_ZONE_LIMITS_POLICIES];
    unsigned          renew:1;      /* the caller has to ask for a lease */
} kg_zone_limits_known_t;


/*
 * The name of who spends from one state after the other, in their order: begun,
 * and then of each state, by its name in Redis.  It is of this zone only.
 */
void kg_zone_limits_begin(const kg_zone_t *zone,
    u_char name[KG_ZONE_LIMITS_NAME]);
void kg_zone_limits_state(u_char name[KG_ZONE_LIMITS_NAME],
    const ngx_str_t *state);

/*
 * Admits a request from a lease, or knows that it is denied; and counts it as
 * demand, once: counted says that it was already.
 */
kg_zone_limits_verdict_t kg_zone_limits_take(kg_zone_t *zone,
    const kg_zone_limits_t *limits, uint64_t now, ngx_uint_t counted,
    kg_zone_limits_known_t *known);

/* 1 when Redis would have to be asked; it counts nothing. */
ngx_uint_t kg_zone_limits_asks(kg_zone_t *zone,
    const kg_zone_limits_t *limits, uint64_t now);

/*
 * Redis is about to be asked for ask->n requests: what to lease, and what
 * comes back of an earlier lease, which is then out of the caller's hands.
 */
void kg_zone_limits_ask(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t now, kg_limit_ask_t *ask);

/* It was asked at sent, and has answered. */
void kg_zone_limits_answer(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t sent, uint64_t now, const kg_limit_ask_t *ask,
    const kg_limit_answer_t *answer);


/*
 * kg_zone_local.c: while Redis is away the node decides alone, over states of
 * these names of its own; ask->want and ask->back are 0.  The pool is for the
 * time of the call.  NGX_OK, or NGX_ERROR for no memory.
 */
ngx_int_t kg_zone_local_decide(kg_zone_t *zone, const ngx_str_t *names,
    const kg_limit_policy_t *policies, ngx_uint_t n, const kg_limit_ask_t *ask,
    uint64_t now, ngx_pool_t *pool, kg_limit_answer_t *answer);

/*
 * What the node has admitted alone and still counts, of each policy, into
 * debt: 1 when there is any, of which Redis is not being told already.  It
 * counts on here until kg_zone_local_told() says with told that Redis has
 * acknowledged it, or without that it is to be told again.
 */
ngx_uint_t kg_zone_local_owed(kg_zone_t *zone, const ngx_str_t *names,
    const kg_limit_policy_t *policies, ngx_uint_t n, uint64_t now,
    ngx_pool_t *pool, uint32_t *debt);

void kg_zone_local_told(kg_zone_t *zone, const ngx_str_t *names, ngx_uint_t n,
    ngx_uint_t told, ngx_pool_t *pool);

/* 1 when something that the node has decided alone may still count. */
ngx_uint_t kg_zone_local_used(const kg_zone_t *zone, uint64_t now);

#endif
