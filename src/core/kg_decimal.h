
/*
 * Numbers in decimal, for what every request writes: formats are read anew
 * each time.
 */

#ifndef KG_DECIMAL_H
#define KG_DECIMAL_H

#include <stdint.h>


/* Writes the digits of n, at most 20, at p.  Returns where they end. */
static inline unsigned char *
kg_put_decimal(unsigned char *p, uint64_t n)
{
    uint64_t        power;
    unsigned char  *end;

    end = p + 1;

    for (power = 10; n >= power && end - p < 20; power *= 10) {
        end++;
    }

    p = end;

    do {
        *--p = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n > 0);

    return end;
}

#endif
