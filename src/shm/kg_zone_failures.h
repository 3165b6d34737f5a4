
/*
 * Failures: unknown keys by the client address they came from, and the budget
 * of lookups that is left to addresses with too many of them.
 *
 * Each address has a token bucket (GCRA: one word, the moment from which it is
 * empty).  The table is of fixed size, in sets of four; a full set forgets the
 * address whose bucket is nearest to full.
 */

#ifndef KG_ZONE_FAILURES_H
#define KG_ZONE_FAILURES_H

#include "kg_zone.h"
#include "kg_rate.h"


/*
 * What an address is counted under: an IPv4 address, or the /64 of an IPv6
 * one, since that is what one client has.  0 for any other.
 */
uint64_t kg_zone_failures_address(const struct sockaddr *sa);

/*
 * Counts one failure: 0, or, where it would be one too many, ms until it would
 * not.  Rates are as kg_rate_t; the bucket holds a window's worth.  now is
 * ngx_current_msec.
 */
ngx_msec_t kg_zone_failures_take(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t now);

/*
 * A key of this address is about to be looked up.  NGX_OK: there is room for
 * it also if all that are under way turn out to be unknown; it is one of them
 * until kg_zone_failures_end().  NGX_AGAIN: there is room by what is known,
 * which those under way may fill.  NGX_DECLINED: there is none for wait ms.
 * One takes no longer than bound, ms: the places of a process that died come
 * free by that.
 */
ngx_int_t kg_zone_failures_begin(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t bound, ngx_msec_t now, ngx_msec_t *wait);

/* It was looked up, and counts as a failure if it was unknown. */
void kg_zone_failures_end(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_uint_t unknown, ngx_msec_t now);

/*
 * n lookups of the node's reserved budget: 1 when there were as many left.  It
 * holds a second's worth, and n at least.
 */
ngx_uint_t kg_zone_failures_lookup(kg_zone_t *zone, const kg_rate_t *rate,
    ngx_uint_t n, ngx_msec_t now);

#endif
