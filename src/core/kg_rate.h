
/*
 * Rates: "60r/m" and what a record may override.
 */

#ifndef KG_RATE_H
#define KG_RATE_H

#include "kg_core.h"


#define KG_RATE_REQUESTS_MAX  1000000000u

typedef struct {
    uint32_t  requests;     /* 1 .. KG_RATE_REQUESTS_MAX */
    uint32_t  window;       /* seconds: 1, 60, 3600 or 86400 */
} kg_rate_t;


/*
 * Parses "<requests>r/<s|m|h|d>", requests from 1 to KG_RATE_REQUESTS_MAX
 * without sign or leading zero.  KG_OK or KG_INVALID.
 */
kg_rc_t kg_rate_parse(const kg_str_t *text, kg_rate_t *rate);

/* Orders by requests per second: < 0, 0 or > 0.  Exact, no rounding. */
int kg_rate_cmp(const kg_rate_t *a, const kg_rate_t *b);

/*
 * 1 when whatever the inner rate admits the outer one would admit as well,
 * else 0.  "3600r/h" is as much as "60r/m" in an hour, but at once it is more.
 */
int kg_rate_covers(const kg_rate_t *outer, const kg_rate_t *inner);

/* Writes the rate as kg_rate_parse() reads it; returns the end.  <= 16 bytes */
unsigned char *kg_rate_format(const kg_rate_t *rate, unsigned char *dst);

#endif
