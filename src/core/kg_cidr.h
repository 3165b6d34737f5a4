
/*
 * Address blocks of a key's allow-list: IPv4 and IPv6, "203.0.113.7",
 * "203.0.113.0/24", "2001:db8::/32".
 */

#ifndef KG_CIDR_H
#define KG_CIDR_H

#include "kg_core.h"


typedef struct {
    uint8_t        family;      /* 4 or 6 */
    uint8_t        bits;        /* 0 .. 32 or 0 .. 128 */
    unsigned char  addr[16];    /* network order; host bits are zero */
} kg_cidr_t;


/*
 * Parses one block; a bare address is a block of one.  Host bits that are set
 * are KG_INVALID (203.0.113.7/24 is a slip, not a wish).  A block of
 * IPv4-mapped IPv6 addresses is its IPv4 block.  KG_OK or KG_INVALID.
 */
kg_rc_t kg_cidr_parse(const kg_str_t *text, kg_cidr_t *cidr);

/* 1 when every address of the inner block is in the outer one, else 0. */
int kg_cidr_covers(const kg_cidr_t *outer, const kg_cidr_t *inner);

/*
 * 1 when the address (len 4 or 16, network order) is in the block.  An
 * IPv4-mapped IPv6 address is its IPv4 address.
 */
int kg_cidr_match(const kg_cidr_t *cidr, const unsigned char *addr,
    size_t len);

#endif
