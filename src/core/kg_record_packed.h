
/*
 * The packed form of records, shared by what writes it (kg_record.c) and what
 * reads it (kg_record_view.c), and by nobody else.
 *
 * A head of fixed size, then the parts one after another, each as long as the
 * head says; nothing lies between or after them.  Numbers are little-endian
 * and not aligned.  Most keys have no times: those that do pay for them.
 *
 *     key     0  u8   KG_PACKED_KEY
 *             1  u8   mode, KG_PACKED_... for each time there is, and
 *                     KG_PACKED_CEILINGS
 *             2  u8   bytes of id
 *             3  u8   bytes of org
 *             4  u16  bytes of scopes
 *             6  u16  bytes of limits
 *             8  u16  bytes of allow
 *            10       id, org, scopes, limits, allow
 *                u64  not before, seconds since the epoch; where there is one
 *                u64  expires at; likewise
 *                u64  revoked at; likewise
 *
 *     org     0  u8   KG_PACKED_ORG
 *             1  u8   access
 *             2  u8   bytes of plan
 *             3  u16  bytes of limits
 *             5       plan, limits
 *
 *     scopes  the scopes joined by single spaces
 *     limits  for each: u8 bytes of the policy's name, u8 bytes of the rate,
 *             name, rate as text (shorter than two numbers, and what is read
 *             back passes the same check)
 *     allow   for each block: u8 family (4 or 6), u8 bits, 4 or 16 bytes of
 *             address
 *
 * The first byte tells the two kinds apart and changes with the layout.
 */

#ifndef KG_RECORD_PACKED_H
#define KG_RECORD_PACKED_H

#include "kg_core.h"


#define KG_PACKED_KEY       0x6b
#define KG_PACKED_ORG       0x4f

#define KG_PACKED_KEY_HEAD  10
#define KG_PACKED_ORG_HEAD  5

#define KG_PACKED_MODE        0x01
#define KG_PACKED_NOT_BEFORE  0x02
#define KG_PACKED_EXPIRES_AT  0x04
#define KG_PACKED_REVOKED_AT  0x08
#define KG_PACKED_CEILINGS    0x10
#define KG_PACKED_FLAGS       0x1f


static inline unsigned char *
kg_put_le(unsigned char *dst, uint64_t n, unsigned bytes)
{
    for ( /* void */ ; bytes; bytes--) {
        *dst++ = (unsigned char) n;
        n >>= 8;
    }

    return dst;
}


static inline uint64_t
kg_get_le(const unsigned char *src, unsigned bytes)
{
    uint64_t  n;

    n = 0;

    while (bytes) {
        n = n << 8 | src[--bytes];
    }

    return n;
}

#endif
