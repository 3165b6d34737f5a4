
/*
 * Failures by address.  See kg_zone_failures.h.
 */

#include "kg_zone_failures.h"
#include "kg_zone_int.h"


static kg_zone_failure_t *kg_zone_failure(kg_zone_t *zone, uint64_t address,
    ngx_atomic_t **lock);
static void kg_zone_failure_enter(kg_zone_failure_t *failure,
    uint64_t address, ngx_msec_t now);
static ngx_msec_t kg_zone_interval(const kg_rate_t *rate, ngx_msec_t *burst);


uint64_t
kg_zone_failures_address(const struct sockaddr *sa)
{
    const struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    uint64_t                    prefix;
    ngx_uint_t                  i;
    const u_char               *p;
    const struct sockaddr_in6  *sin6;
#endif

    switch (sa->sa_family) {

    case AF_INET:
        sin = (const struct sockaddr_in *) sa;

        /* As the IPv4-mapped /96 has it, which no /64 of anybody's is. */

        return ((uint64_t) 0xffff << 32) | ntohl(sin->sin_addr.s_addr);

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (const struct sockaddr_in6 *) sa;
        p = sin6->sin6_addr.s6_addr;

        if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
            return ((uint64_t) 0xffff << 32) | ((uint64_t) p[12] << 24)
                   | ((uint64_t) p[13] << 16) | ((uint64_t) p[14] << 8)
                   | p[15];
        }

        prefix = 0;

        for (i = 0; i < 8; i++) {
            prefix = (prefix << 8) | p[i];
        }

        /* ::1 has a /64 of zeros, which is not "no address". */

        return prefix ? prefix : 1;
#endif

    default:
        return 0;
    }
}


ngx_msec_t
kg_zone_failures_take(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t now)
{
    ngx_msec_t          burst, empty, interval;
    ngx_atomic_t       *lock;
    ngx_msec_int_t      wait;
    kg_zone_failure_t  *failure;

    interval = kg_zone_interval(rate, &burst);

    failure = kg_zone_failure(zone, address, &lock);

    kg_zone_failure_enter(failure, address, now);

    empty = failure->empty + interval;
    wait = (ngx_msec_int_t) (empty - now - burst);

    if (wait <= 0) {
        failure->empty = empty;
    }

    ngx_unlock(lock);

    return ngx_max(wait, 0);
}


ngx_int_t
kg_zone_failures_begin(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t bound, ngx_msec_t now, ngx_msec_t *wait)
{
    ngx_int_t           rc;
    ngx_msec_t          burst, interval;
    ngx_atomic_t       *lock;
    ngx_msec_int_t      room;
    kg_zone_failure_t  *failure;

    interval = kg_zone_interval(rate, &burst);

    failure = kg_zone_failure(zone, address, &lock);

    kg_zone_failure_enter(failure, address, now);

    if ((ngx_msec_int_t) (now - failure->began - bound) > 0) {
        failure->under_way = 0;
    }

    room = (ngx_msec_int_t) (burst - (failure->empty - now) - interval);

    if (room < 0) {
        *wait = -room;
        rc = NGX_DECLINED;

    } else if ((ngx_msec_int_t) (failure->under_way * interval) > room) {
        rc = NGX_AGAIN;

    } else {
        failure->under_way++;
        failure->began = now;
        rc = NGX_OK;
    }

    ngx_unlock(lock);

    return rc;
}


void
kg_zone_failures_end(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_uint_t unknown, ngx_msec_t now)
{
    ngx_msec_t          burst, interval;
    ngx_atomic_t       *lock;
    kg_zone_failure_t  *failure;

    interval = kg_zone_interval(rate, &burst);

    failure = kg_zone_failure(zone, address, &lock);

    kg_zone_failure_enter(failure, address, now);

    if (failure->under_way) {
        failure->under_way--;
    }

    if (unknown) {
        failure->empty += interval;
    }

    ngx_unlock(lock);
}


ngx_uint_t
kg_zone_failures_lookup(kg_zone_t *zone, const kg_rate_t *rate, ngx_uint_t n,
    ngx_msec_t now)
{
    ngx_msec_t         burst, interval;
    ngx_atomic_uint_t  old, empty;

    interval = kg_zone_interval(rate, &burst);
    interval *= n;
    burst = ngx_max(interval, 1000);

    for ( ;; ) {
        old = zone->shared->lookups_empty;
        empty = old;

        if ((ngx_msec_int_t) ((ngx_msec_t) empty - now) < 0) {
            empty = now;
        }

        empty += interval;

        if ((ngx_msec_int_t) ((ngx_msec_t) empty - now - burst) > 0) {
            return 0;
        }

        if (ngx_atomic_cmp_set(&zone->shared->lookups_empty, old, empty)) {
            return 1;
        }
    }
}


/*
 * The address's place in its set, or the place it would take; the set's lock
 * is held on return.
 */

static kg_zone_failure_t *
kg_zone_failure(kg_zone_t *zone, uint64_t address, ngx_atomic_t **lock)
{
    uint32_t            hash;
    ngx_uint_t          i;
    kg_zone_failure_t  *set, *oldest;

    hash = ngx_murmur_hash2((u_char *) &address, sizeof(uint64_t));

    *lock = &zone->shared->failure_locks[hash % KG_ZONE_FAILURE_LOCKS].lock;

    set = &zone->shared->failures[(hash & (zone->shared->nfailures - 1))
                                  * KG_ZONE_FAILURE_SET];

    ngx_spinlock(*lock, ngx_pid, KG_ZONE_SPIN);

    oldest = &set[0];

    for (i = 0; i < KG_ZONE_FAILURE_SET; i++) {

        if (set[i].address == address) {
            return &set[i];
        }

        if (oldest->address
            && (set[i].address == 0
                || (ngx_msec_int_t) (set[i].empty - oldest->empty) < 0))
        {
            oldest = &set[i];
        }
    }

    return oldest;
}


/* The place is the address's from here on, as it is now. */

static void
kg_zone_failure_enter(kg_zone_failure_t *failure, uint64_t address,
    ngx_msec_t now)
{
    if (failure->address != address) {
        failure->address = address;
        failure->under_way = 0;
        failure->empty = now;
    }

    if ((ngx_msec_int_t) (failure->empty - now) < 0) {
        failure->empty = now;
    }
}


/* ms for one of the rate, and for a window's worth. */

static ngx_msec_t
kg_zone_interval(const kg_rate_t *rate, ngx_msec_t *burst)
{
    ngx_msec_t  interval;

    *burst = (ngx_msec_t) rate->window * 1000;
    interval = *burst / rate->requests;

    return ngx_max(interval, 1);
}
