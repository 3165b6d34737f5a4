
/*
 * Limits in the zone.  See kg_zone_limits.h.
 */

#include "kg_zone_int.h"


/* How long a lease may take to arrive before another is asked for. */
#define KG_ZONE_LIMITS_ASKING   1000000

/* Requests in the life of a lease, from which on there is one. */
#define KG_ZONE_LIMITS_LEAST    4

/* A denial that has no relief is asked for again. */
#define KG_ZONE_LIMITS_NEVER    60000

/* How long one is remembered that others can make longer, ms. */
#define KG_ZONE_LIMITS_UNSURE   1000


static kg_zone_limited_t *kg_zone_limited(kg_zone_t *zone,
    const kg_zone_limits_t *limits, uint64_t now, ngx_atomic_t **lock);
static kg_zone_limits_verdict_t kg_zone_limits_verdict(
    const kg_zone_limited_t *place, const kg_zone_limits_t *limits,
    uint64_t now);
static ngx_uint_t kg_zone_limits_denied(const kg_zone_limited_t *place,
    const kg_zone_limits_t *limits, uint64_t now);
static void kg_zone_limits_demand(kg_zone_limited_t *place,
    const kg_zone_limits_t *limits, uint64_t now);
static void kg_zone_limits_retire(kg_zone_limited_t *place, uint64_t now);
static void kg_zone_limits_fit(kg_zone_limited_t *place,
    const kg_zone_limits_t *limits);
static void kg_zone_limits_back(kg_zone_limited_t *place,
    const kg_zone_lease_t *lease);
static uint32_t kg_zone_limits_wanted(const kg_zone_limited_t *place);
static void kg_zone_limits_stand(const kg_zone_limited_t *place,
    uint64_t now, kg_zone_limits_known_t *known);


void
kg_zone_limits_begin(const kg_zone_t *zone, u_char name[KG_ZONE_LIMITS_NAME])
{
    ngx_memcpy(name, zone->shared->limits_key, KG_ZONE_LIMITS_NAME);
}


void
kg_zone_limits_state(u_char name[KG_ZONE_LIMITS_NAME], const ngx_str_t *state)
{
    kg_str_t  text;

    text.len = state->len;
    text.data = state->data;

    /* The hash so far is the key, so their order and number count as well. */

    kg_sip(name, &text, name);
}


kg_zone_limits_verdict_t
kg_zone_limits_take(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t now, ngx_uint_t counted, kg_zone_limits_known_t *known)
{
    ngx_atomic_t              *lock;
    kg_zone_lease_t           *lease;
    kg_zone_limited_t         *place;
    kg_zone_limits_verdict_t   verdict;

    known->renew = 0;

    place = kg_zone_limited(zone, limits, now, &lock);

    if (!counted) {
        kg_zone_limits_demand(place, limits, now);
    }

    kg_zone_limits_retire(place, now);
    kg_zone_limits_fit(place, limits);

    lease = &place->leases[0];

    verdict = kg_zone_limits_verdict(place, limits, now);

    if (verdict == KG_ZONE_LIMITS_LEASED) {
        lease->units -= limits->cost;

        kg_zone_limits_stand(place, now, known);

        if (!kg_zone_limits_denied(place, limits, now)
            && place->leases[1].units == 0 && place->asking < now
            && (4 * (uint64_t) lease->units <= kg_zone_limits_wanted(place)
                || 4 * (lease->until - now) < limits->life))
        {
            known->renew = 1;
        }

    } else if (verdict == KG_ZONE_LIMITS_DENIED) {
        kg_zone_limits_stand(place, now, known);

        known->refusing = place->refusing;
        known->relief = (place->relieved > now)
                        ? (uint32_t) ((place->relieved - now + 999) / 1000)
                        : 1;
    }

    ngx_unlock(lock);

    return verdict;
}


ngx_uint_t
kg_zone_limits_asks(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t now)
{
    ngx_atomic_t              *lock;
    kg_zone_limited_t         *place;
    kg_zone_limits_verdict_t   verdict;

    place = kg_zone_limited(zone, limits, now, &lock);

    kg_zone_limits_retire(place, now);
    kg_zone_limits_fit(place, limits);

    verdict = kg_zone_limits_verdict(place, limits, now);

    ngx_unlock(lock);

    return verdict == KG_ZONE_LIMITS_ASK;
}


/* What is over is retired already, and what fits is first. */

static kg_zone_limits_verdict_t
kg_zone_limits_verdict(const kg_zone_limited_t *place,
    const kg_zone_limits_t *limits, uint64_t now)
{
    /*
     * What is leased is spent already, whatever Redis refuses since.  At other
     * rates than it was leased at, only Redis knows what there is.
     */

    if (limits->life && place->rates == limits->rates
        && place->leases[0].units >= limits->cost)
    {
        return KG_ZONE_LIMITS_LEASED;
    }

    /* With what comes back there may be room again. */

    if (kg_zone_limits_denied(place, limits, now)
        && (limits->life == 0
            || ngx_max(place->back[0].units, place->back[1].units)
               < limits->cost))
    {
        return KG_ZONE_LIMITS_DENIED;
    }

    return KG_ZONE_LIMITS_ASK;
}


static ngx_uint_t
kg_zone_limits_denied(const kg_zone_limited_t *place,
    const kg_zone_limits_t *limits, uint64_t now)
{
    return now < place->denied && place->rates == limits->rates
           && limits->cost == place->denied_cost;
}


void
kg_zone_limits_ask(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t now, kg_limit_ask_t *ask)
{
    uint32_t            wanted;
    uint64_t            asked;
    ngx_uint_t          i;
    ngx_atomic_t       *lock;
    kg_zone_lease_t    *back, *lease;
    kg_zone_limited_t  *place;

    if (limits->life == 0) {
        return;
    }

    place = kg_zone_limited(zone, limits, now, &lock);

    kg_zone_limits_retire(place, now);

    lease = place->leases;

    for (i = 0; i < 2 && place->rates != limits->rates; i++) {
        kg_zone_limits_back(place, &lease[i]);
        lease[i].units = 0;
    }

    /* What is left of one for dearer requests than it was made for. */

    if (ask->n && lease->units && lease->units < limits->cost) {
        kg_zone_limits_back(place, lease);
        *lease = lease[1];
        lease[1].units = 0;
    }

    back = &place->back[place->back[1].units > place->back[0].units];

    ask->life = limits->life;
    ask->back = back->units;
    ask->since = back->since;
    ask->lived = back->lived;

    back->units = 0;

    wanted = kg_zone_limits_wanted(place);
    asked = (uint64_t) ask->n * ask->cost;

    if (place->asking < now && wanted > asked
        && wanted >= KG_ZONE_LIMITS_LEAST * ask->cost)
    {
        ask->want = wanted - (uint32_t) asked;
        place->asking = now + KG_ZONE_LIMITS_ASKING;
    }

    ngx_unlock(lock);
}


void
kg_zone_limits_answer(kg_zone_t *zone, const kg_zone_limits_t *limits,
    uint64_t sent, uint64_t now, const kg_limit_ask_t *ask,
    const kg_limit_answer_t *answer)
{
    uint64_t            relief;
    ngx_uint_t          i;
    ngx_atomic_t       *lock;
    kg_zone_lease_t     fresh, *lease;
    kg_zone_limited_t  *place;

    if (limits->n > KG_ZONE_LIMITS_POLICIES) {
        return;
    }

    place = kg_zone_limited(zone, limits, now, &lock);

    /* What is spent since a dear one was denied makes it wait for longer. */

    if (place->rates != limits->rates || answer->granted || answer->lease) {
        place->denied = 0;
    }

    place->told = now;
    place->n = limits->n;
    place->rates = limits->rates;

    for (i = 0; i < limits->n; i++) {
        place->stand[i] = answer->stand[i];
    }

    if (answer->granted < ask->n) {
        relief = (answer->relief == KG_LIMIT_NEVER) ? KG_ZONE_LIMITS_NEVER
                                                    : answer->relief;

        /* Redis said so at some moment between the two. */

        place->relieved = now + relief * 1000;

        /*
         * Nobody spends of one that is used up, but of what is left others,
         * and of what they share keys that are held to more.
         */

        if (limits->n > 1 || limits->cost > 1 || limits->shared) {
            relief = ngx_min(relief, KG_ZONE_LIMITS_UNSURE);
        }

        place->denied = sent + relief * 1000;
        place->denied_cost = limits->cost;
        place->refusing = answer->refusing;
    }

    if (ask->want) {

        /* Where there is nothing to lease, not every request asks again. */

        place->asking = (answer->lease || ask->n) ? 0 : now + ask->life;
    }

    if (answer->lease) {
        kg_zone_limits_retire(place, now);

        fresh.units = answer->lease;
        fresh.since = answer->moment;
        fresh.lived = ask->life;
        fresh.until = sent + ask->life;

        lease = place->leases;

        /* One that took so long that another was asked for has no place. */

        if (lease[0].units && lease[1].units) {
            kg_zone_limits_back(place, &fresh);

        } else {
            lease[lease[0].units ? 1 : 0] = fresh;
        }
    }

    ngx_unlock(lock);
}


/* The place, or the one it takes, empty; the set's lock is held on return. */

static kg_zone_limited_t *
kg_zone_limited(kg_zone_t *zone, const kg_zone_limits_t *limits, uint64_t now,
    ngx_atomic_t **lock)
{
    uint32_t            hash;
    ngx_uint_t          i;
    kg_zone_limited_t  *set, *oldest;

    /* The name is a hash already. */

    ngx_memcpy(&hash, limits->name, sizeof(hash));

    hash &= zone->shared->nlimits - 1;

    *lock = &zone->shared->limit_locks[hash % KG_ZONE_LIMIT_LOCKS].lock;
    set = &zone->shared->limits[hash * KG_ZONE_LIMIT_SET];

    ngx_spinlock(*lock, ngx_pid, KG_ZONE_SPIN);

    oldest = &set[0];

    for (i = 0; i < KG_ZONE_LIMIT_SET; i++) {

        if (set[i].used
            && ngx_memcmp(set[i].name, limits->name, KG_ZONE_LIMITS_NAME) == 0)
        {
            set[i].used = now;
            return &set[i];
        }

        if (set[i].used < oldest->used) {
            oldest = &set[i];
        }
    }

    ngx_memzero(oldest, sizeof(kg_zone_limited_t));
    ngx_memcpy(oldest->name, limits->name, KG_ZONE_LIMITS_NAME);
    oldest->used = now;

    return oldest;
}


void
kg_zone_limits_forget(kg_zone_t *zone, ngx_uint_t lock)
{
    ngx_uint_t  set;

    for (set = lock; set < zone->shared->nlimits; set += KG_ZONE_LIMIT_LOCKS) {
        ngx_memzero(&zone->shared->limits[set * KG_ZONE_LIMIT_SET],
                    KG_ZONE_LIMIT_SET * sizeof(kg_zone_limited_t));
    }
}


/* What is asked for in the life of a lease: this one's and the last one's. */

static void
kg_zone_limits_demand(kg_zone_limited_t *place, const kg_zone_limits_t *limits,
    uint64_t now)
{
    uint64_t  since;

    /* Another, who had the lock first, may have begun anew a little later. */

    since = (now > place->counted) ? now - place->counted : 0;

    if (since >= limits->life) {
        place->before = (since < 2 * (uint64_t) limits->life)
                        ? place->demand : 0;
        place->demand = 0;
        place->counted = now;
    }

    place->demand += limits->cost;
}


static uint32_t
kg_zone_limits_wanted(const kg_zone_limited_t *place)
{
    return ngx_max(place->demand, place->before);
}


/*
 * The lease whose life is over, or that is used up, makes way for the next.
 * Both may end at once, after a burst; of more than two that wait to go back
 * the least stay spent.
 */

static void
kg_zone_limits_retire(kg_zone_limited_t *place, uint64_t now)
{
    ngx_uint_t        i;
    kg_zone_lease_t  *lease;

    lease = place->leases;

    for (i = 0; i < 2; i++) {

        if (lease[i].units && now > lease[i].until) {
            kg_zone_limits_back(place, &lease[i]);
            lease[i].units = 0;
        }
    }

    if (lease[0].units == 0 && lease[1].units) {
        lease[0] = lease[1];
        lease[1].units = 0;
    }
}


/* Of two leases the one that a dear request fits into is used first. */

static void
kg_zone_limits_fit(kg_zone_limited_t *place, const kg_zone_limits_t *limits)
{
    kg_zone_lease_t  first;

    if (place->leases[0].units < limits->cost
        && place->leases[1].units >= limits->cost)
    {
        first = place->leases[0];
        place->leases[0] = place->leases[1];
        place->leases[1] = first;
    }
}


/* Two leases can end before anything is asked; of more the least stays spent. */

static void
kg_zone_limits_back(kg_zone_limited_t *place, const kg_zone_lease_t *lease)
{
    kg_zone_lease_t  *back;

    back = &place->back[place->back[0].units > place->back[1].units];

    if (lease->units > back->units) {
        *back = *lease;
    }
}


/* As Redis last said; what is leased, or will go back, is there as well. */

static void
kg_zone_limits_stand(const kg_zone_limited_t *place, uint64_t now,
    kg_zone_limits_known_t *known)
{
    uint32_t    unspent;
    uint64_t    ago;
    ngx_uint_t  i;

    /* Of who waited for the lock the time may be before it. */

    ago = (now > place->told) ? (now - place->told) / 1000 : 0;

    unspent = place->leases[0].units + place->leases[1].units
              + place->back[0].units + place->back[1].units;

    for (i = 0; i < place->n; i++) {
        known->stand[i].left = place->stand[i].left + unspent;
        known->stand[i].reset = (place->stand[i].reset > ago)
                                ? place->stand[i].reset - (uint32_t) ago : 0;
    }
}
