
/*
 * Keygate core: what is common to the plain C rooms.
 *
 * Nothing under src/core includes an nginx header, reads a clock or writes a
 * log: time, randomness that a test must repeat, and memory are passed in, so
 * every rule of the contract can be tested and fuzzed without a server.
 */

#ifndef KG_CORE_H
#define KG_CORE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>


/*
 * A counted string; never assumed to be terminated.  nginx's ngx_str_t has the
 * same two members: src/http passes one for the other by pointer, which the
 * attribute (gcc and clang have it) makes legal C.
 */
typedef struct __attribute__((may_alias)) {
    size_t          len;
    unsigned char  *data;
} kg_str_t;

#define kg_string(s)  { sizeof(s) - 1, (unsigned char *) s }

/* 1 when both have the same bytes.  Not for secrets: it stops early. */
static inline int
kg_str_eq(const kg_str_t *a, const kg_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


typedef enum {
    KG_OK = 0,
    KG_ERROR = -1,      /* no memory, or a library failed */
    KG_INVALID = -2,    /* the input breaks its rule */
    KG_FULL = -3        /* the result does not fit in the buffer given */
} kg_rc_t;


typedef enum {
    KG_MODE_TEST = 0,
    KG_MODE_LIVE = 1
} kg_mode_t;


#define KG_ORG_MAX      64      /* bytes in an organisation's id */
#define KG_DIGEST_LEN   32      /* bytes in a digest (SHA-256, HMAC-SHA256) */
#define KG_DIGEST_HEX   (2 * KG_DIGEST_LEN)

#endif
