
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

/* It was none. */
void kg_zone_failures_give(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t now);

/*
 * n lookups of the node's reserved budget: 1 when there were as many left.  It
 * holds a second's worth, and n at least.
 */
ngx_uint_t kg_zone_failures_lookup(kg_zone_t *zone, const kg_rate_t *rate,
    ngx_uint_t n, ngx_msec_t now);

#endif
