
/*
 * SipHash, after its paper: J.-P. Aumasson and D. J. Bernstein, "SipHash: a
 * fast short-input PRF", with the longer output that its authors added.
 */

#include <endian.h>
#include <string.h>

#include "kg_sip.h"


typedef struct {
    uint64_t  a;
    uint64_t  b;
    uint64_t  c;
    uint64_t  d;
} kg_sip_state_t;


static inline uint64_t
kg_sip_turn(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}


static inline void
kg_sip_round(kg_sip_state_t *s)
{
    s->a += s->b;
    s->b = kg_sip_turn(s->b, 13) ^ s->a;
    s->a = kg_sip_turn(s->a, 32);

    s->c += s->d;
    s->d = kg_sip_turn(s->d, 16) ^ s->c;

    s->a += s->d;
    s->d = kg_sip_turn(s->d, 21) ^ s->a;

    s->c += s->b;
    s->b = kg_sip_turn(s->b, 17) ^ s->c;
    s->c = kg_sip_turn(s->c, 32);
}


/* The first n bytes at p, 8 at most, little endian; the rest is zero. */

static inline uint64_t
kg_sip_word(const unsigned char *p, size_t n)
{
    uint64_t  word;

    word = 0;
    memcpy(&word, p, n);

    return le64toh(word);
}


static inline void
kg_sip_take(kg_sip_state_t *s, uint64_t word)
{
    s->d ^= word;
    kg_sip_round(s);
    s->a ^= word;
}


static void
kg_sip_put(const kg_sip_state_t *s, unsigned char *p)
{
    uint64_t  word;

    word = htole64(s->a ^ s->b ^ s->c ^ s->d);
    memcpy(p, &word, sizeof(word));
}


void
kg_sip(const unsigned char key[KG_SIP_LEN], const kg_str_t *text,
    unsigned char out[KG_SIP_LEN])
{
    size_t                n;
    uint64_t              low, high;
    kg_sip_state_t        s;
    const unsigned char  *p;

    low = kg_sip_word(key, 8);
    high = kg_sip_word(key + 8, 8);

    s.a = low ^ UINT64_C(0x736f6d6570736575);
    s.b = high ^ UINT64_C(0x646f72616e646f6d) ^ 0xee;
    s.c = low ^ UINT64_C(0x6c7967656e657261);
    s.d = high ^ UINT64_C(0x7465646279746573);

    p = text->data;

    for (n = text->len; n >= 8; n -= 8) {
        kg_sip_take(&s, kg_sip_word(p, 8));
        p += 8;
    }

    kg_sip_take(&s, kg_sip_word(p, n) | (uint64_t) text->len << 56);

    s.c ^= 0xee;
    kg_sip_round(&s);
    kg_sip_round(&s);
    kg_sip_round(&s);
    kg_sip_put(&s, out);

    s.b ^= 0xdd;
    kg_sip_round(&s);
    kg_sip_round(&s);
    kg_sip_round(&s);
    kg_sip_put(&s, out + 8);
}
