
/*
 * Rates: "60r/m".  The four windows and their letters are one table, read in
 * both directions.
 */

#include "kg_rate.h"


typedef struct {
    unsigned char  letter;
    uint32_t       window;
} kg_rate_unit_t;


static const kg_rate_unit_t  kg_rate_units[] = {
    { 's', 1 },
    { 'm', 60 },
    { 'h', 3600 },
    { 'd', 86400 }
};

#define KG_RATE_UNITS  (sizeof(kg_rate_units) / sizeof(kg_rate_units[0]))


kg_rc_t
kg_rate_parse(const kg_str_t *text, kg_rate_t *rate)
{
    size_t          i, unit;
    uint64_t        n;
    unsigned char  *p;

    p = text->data;

    if (text->len < sizeof("1r/s") - 1 || p[0] == '0') {
        return KG_INVALID;
    }

    n = 0;

    for (i = 0; i < text->len && p[i] >= '0' && p[i] <= '9'; i++) {
        n = n * 10 + (p[i] - '0');

        if (n > KG_RATE_REQUESTS_MAX) {
            return KG_INVALID;
        }
    }

    if (i == 0 || text->len - i != 3 || p[i] != 'r' || p[i + 1] != '/') {
        return KG_INVALID;
    }

    for (unit = 0; unit < KG_RATE_UNITS; unit++) {

        if (p[i + 2] == kg_rate_units[unit].letter) {
            rate->requests = (uint32_t) n;
            rate->window = kg_rate_units[unit].window;
            return KG_OK;
        }
    }

    return KG_INVALID;
}


int
kg_rate_cmp(const kg_rate_t *a, const kg_rate_t *b)
{
    uint64_t  x, y;

    /* a/b < c/d as a*d < c*b, which stays below 2^47 */
    x = (uint64_t) a->requests * b->window;
    y = (uint64_t) b->requests * a->window;

    return (x > y) - (x < y);
}


int
kg_rate_covers(const kg_rate_t *outer, const kg_rate_t *inner)
{
    uint64_t  times;

    /* how often the inner window begins anew within the outer one */
    times = (inner->window < outer->window) ? outer->window / inner->window
                                            : 1;

    return inner->requests * times <= outer->requests;
}


unsigned char *
kg_rate_format(const kg_rate_t *rate, unsigned char *dst)
{
    size_t         i, unit;
    uint32_t       n;
    unsigned char  digits[10];

    n = rate->requests;
    i = sizeof(digits);

    do {
        digits[--i] = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n);

    while (i < sizeof(digits)) {
        *dst++ = digits[i++];
    }

    *dst++ = 'r';
    *dst++ = '/';

    for (unit = 0; unit < KG_RATE_UNITS; unit++) {

        if (rate->window == kg_rate_units[unit].window) {
            *dst++ = kg_rate_units[unit].letter;
            break;
        }
    }

    return dst;
}
