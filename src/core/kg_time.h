
/*
 * Dates in records and answers: RFC 3339, in UTC when written.
 */

#ifndef KG_TIME_H
#define KG_TIME_H

#include "kg_core.h"


#define KG_TIME_LEN  20     /* 2027-01-01T00:00:00Z */
#define KG_DAY_LEN   8      /* 20270101 */


/*
 * Parses an RFC 3339 date-time with any offset into seconds since the epoch;
 * a fraction of a second is dropped.  From 1970 to 9999 in UTC; a 60th second
 * only where UTC may have one, at the end of a month.  KG_OK or KG_INVALID (no
 * such day, no offset, trailing bytes ...).
 */
kg_rc_t kg_time_parse(const kg_str_t *text, int64_t *seconds);

/*
 * Writes KG_TIME_LEN bytes, returns the end.  What is before 1970 or after
 * 9999 becomes the nearest moment that is not.
 */
unsigned char *kg_time_format(int64_t seconds, unsigned char *dst);

/* The day of a moment, in UTC, since the epoch; what is before is day 0. */
uint32_t kg_day(int64_t seconds);

/* Writes a day as KG_DAY_LEN digits, returns the end. */
unsigned char *kg_day_format(uint32_t day, unsigned char *dst);

#endif
