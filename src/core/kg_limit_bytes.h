
/*
 * Numbers as limit.lua packs them: little endian, a double as its IEEE 754
 * bits.
 */

#ifndef KG_LIMIT_BYTES_H
#define KG_LIMIT_BYTES_H

#include <stdint.h>
#include <string.h>


static inline uint32_t
kg_get32(const unsigned char *p)
{
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16
           | (uint32_t) p[3] << 24;
}


static inline double
kg_get_double(const unsigned char *p)
{
    double    value;
    uint64_t  bits;

    bits = kg_get32(p) | (uint64_t) kg_get32(p + 4) << 32;
    memcpy(&value, &bits, sizeof(value));

    return value;
}


static inline unsigned char *
kg_put32(unsigned char *p, uint32_t value)
{
    p[0] = (unsigned char) value;
    p[1] = (unsigned char) (value >> 8);
    p[2] = (unsigned char) (value >> 16);
    p[3] = (unsigned char) (value >> 24);

    return p + 4;
}


static inline unsigned char *
kg_put_double(unsigned char *p, double value)
{
    uint64_t  bits;

    memcpy(&bits, &value, sizeof(bits));

    return kg_put32(kg_put32(p, (uint32_t) bits), (uint32_t) (bits >> 32));
}

#endif
