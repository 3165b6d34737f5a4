
/*
 * Request ids: a ULID behind "req_".
 */

#include <string.h>

#include "kg_request_id.h"


#define KG_REQUEST_ID_RANDOM  10        /* bytes in one id */


/* Writes the low 5 * n bits of value as n digits of Crockford's base 32. */
static unsigned char *
kg_base32(unsigned char *dst, uint64_t value, size_t n)
{
    size_t  i;

    static const char  digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    for (i = n; i > 0; i--) {
        dst[i - 1] = (unsigned char) digits[value & 0x1f];
        value >>= 5;
    }

    return dst + n;
}


/* The 5 bytes at p as a number. */
static uint64_t
kg_uint40(const unsigned char *p)
{
    return (uint64_t) p[0] << 32 | (uint64_t) p[1] << 24
           | (uint64_t) p[2] << 16 | (uint64_t) p[3] << 8 | p[4];
}


kg_rc_t
kg_request_id(kg_entropy_t *entropy, uint64_t now, unsigned char *dst)
{
    unsigned char  p[KG_REQUEST_ID_RANDOM];

    if (kg_random_drawn(entropy, p, sizeof(p)) != KG_OK) {
        return KG_ERROR;
    }

    memcpy(dst, "req_", 4);

    dst = kg_base32(dst + 4, now & 0xffffffffffff, 10);
    dst = kg_base32(dst, kg_uint40(p), 8);
    (void) kg_base32(dst, kg_uint40(p + 5), 8);

    return KG_OK;
}


int
kg_request_id_valid(const kg_str_t *id)
{
    size_t         i;
    unsigned char  c;

    if (id->len < 1 || id->len > 128) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        c = id->data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
              || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == ':'
              || c == '-'))
        {
            return 0;
        }
    }

    return 1;
}
