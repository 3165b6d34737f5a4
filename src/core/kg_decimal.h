
/*
 * Numbers in decimal, for what every request writes: formats are read anew
 * each time.
 */

#ifndef KG_DECIMAL_H
#define KG_DECIMAL_H

#include <stdint.h>
#include <string.h>


/* Writes the digits of n, at most 20, at p.  Returns where they end. */
static inline unsigned char *
kg_put_decimal(unsigned char *p, uint64_t n)
{
    uint64_t        power;
    unsigned char  *end;

    static const char  pairs[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";

    end = p + 1;

    for (power = 10; n >= power && end - p < 20; power *= 10) {
        end++;
    }

    p = end;

    for ( /* void */ ; n >= 100; n /= 100) {
        p -= 2;
        memcpy(p, &pairs[2 * (n % 100)], 2);
    }

    if (n >= 10) {
        memcpy(p - 2, &pairs[2 * n], 2);

    } else {
        p[-1] = (unsigned char) ('0' + n);
    }

    return end;
}

#endif
