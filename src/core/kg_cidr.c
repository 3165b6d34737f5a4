
/*
 * Address blocks.
 *
 * A partner's address reaches a dual-stack listener as IPv4-mapped IPv6, and
 * an operator may write the block either way, so both are brought to IPv4
 * before anything is compared.
 */

#include <arpa/inet.h>
#include <string.h>

#include "kg_cidr.h"


#define KG_CIDR_MAPPED_BITS  96


static const unsigned char  kg_cidr_mapped[KG_CIDR_MAPPED_BITS / 8] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
};


static kg_rc_t kg_cidr_bits_parse(const unsigned char *p, size_t len,
    unsigned max, unsigned *bits);
static int kg_cidr_host_bits_zero(const unsigned char *addr, size_t len,
    unsigned bits);


kg_rc_t
kg_cidr_parse(const kg_str_t *text, kg_cidr_t *cidr)
{
    size_t          len;
    char            host[INET6_ADDRSTRLEN];
    unsigned        bits, max;
    unsigned char  *slash, addr[16];

    slash = NULL;
    len = text->len;

    if (len != 0) {
        slash = memchr(text->data, '/', len);

        if (slash != NULL) {
            len = slash - text->data;
        }
    }

    /* inet_pton() would stop at a NUL and take what stands before it */

    if (len == 0 || len >= sizeof(host)
        || memchr(text->data, '\0', len) != NULL)
    {
        return KG_INVALID;
    }

    memcpy(host, text->data, len);
    host[len] = '\0';

    memset(addr, 0, sizeof(addr));

    if (inet_pton(AF_INET, host, addr) == 1) {
        max = 32;

    } else if (inet_pton(AF_INET6, host, addr) == 1) {
        max = 128;

    } else {
        return KG_INVALID;
    }

    bits = max;

    if (slash != NULL
        && kg_cidr_bits_parse(slash + 1, text->len - len - 1, max, &bits)
           != KG_OK)
    {
        return KG_INVALID;
    }

    if (!kg_cidr_host_bits_zero(addr, max / 8, bits)) {
        return KG_INVALID;
    }

    memset(cidr, 0, sizeof(kg_cidr_t));

    /* the last bit of the prefix is set, so bits reach beyond it */

    if (max == 128
        && memcmp(addr, kg_cidr_mapped, sizeof(kg_cidr_mapped)) == 0)
    {
        cidr->family = 4;
        cidr->bits = (uint8_t) (bits - KG_CIDR_MAPPED_BITS);
        memcpy(cidr->addr, addr + sizeof(kg_cidr_mapped), 4);

        return KG_OK;
    }

    cidr->family = (max == 32) ? 4 : 6;
    cidr->bits = (uint8_t) bits;
    memcpy(cidr->addr, addr, max / 8);

    return KG_OK;
}


int
kg_cidr_match(const kg_cidr_t *cidr, const unsigned char *addr, size_t len)
{
    size_t    whole;
    unsigned  rest;

    if (len == 16
        && memcmp(addr, kg_cidr_mapped, sizeof(kg_cidr_mapped)) == 0)
    {
        addr += sizeof(kg_cidr_mapped);
        len = 4;
    }

    if (len != (cidr->family == 4 ? 4 : 16)) {
        return 0;
    }

    whole = cidr->bits / 8;
    rest = cidr->bits % 8;

    if (memcmp(addr, cidr->addr, whole) != 0) {
        return 0;
    }

    return rest == 0 || ((addr[whole] ^ cidr->addr[whole]) >> (8 - rest)) == 0;
}


int
kg_cidr_covers(const kg_cidr_t *outer, const kg_cidr_t *inner)
{
    return inner->family == outer->family
           && inner->bits >= outer->bits
           && kg_cidr_match(outer, inner->addr, inner->family == 4 ? 4 : 16);
}


/* Decimal, without sign or leading zero. */

static kg_rc_t
kg_cidr_bits_parse(const unsigned char *p, size_t len, unsigned max,
    unsigned *bits)
{
    size_t    i;
    unsigned  n;

    if (len == 0 || len > 3 || (p[0] == '0' && len > 1)) {
        return KG_INVALID;
    }

    n = 0;

    for (i = 0; i < len; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return KG_INVALID;
        }

        n = n * 10 + (p[i] - '0');
    }

    if (n > max) {
        return KG_INVALID;
    }

    *bits = n;

    return KG_OK;
}


static int
kg_cidr_host_bits_zero(const unsigned char *addr, size_t len, unsigned bits)
{
    size_t  i;

    i = bits / 8;

    if (bits % 8 != 0) {

        if (addr[i] & (0xff >> (bits % 8))) {
            return 0;
        }

        i++;
    }

    for ( /* void */ ; i < len; i++) {

        if (addr[i] != 0) {
            return 0;
        }
    }

    return 1;
}
