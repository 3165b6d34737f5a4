
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
 * ms until the address may fail again, 0 when it may now.  Rates are as
 * kg_rate_t; the bucket holds a window's worth.  now is ngx_current_msec.
 */
ngx_msec_t kg_zone_failures_wait(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t now);

/* Counts one failure. */
void kg_zone_failures_add(kg_zone_t *zone, uint64_t address,
    const kg_rate_t *rate, ngx_msec_t now);

/*
 * One lookup of the node's reserved budget: 1 when there was one left.  It
 * holds a second's worth.
 */
ngx_uint_t kg_zone_failures_lookup(kg_zone_t *zone, const kg_rate_t *rate,
    ngx_msec_t now);

#endif
