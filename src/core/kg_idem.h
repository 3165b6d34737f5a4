
/*
 * Idempotency: the header, the fingerprint, the name of a claim.
 */

#ifndef KG_IDEM_H
#define KG_IDEM_H

#include "kg_core.h"
#include "kg_digest.h"


#define KG_IDEM_KEY_MAX    255
#define KG_IDEM_OWNER_LEN  16

/*
 * Parses the value of an Idempotency-Key header field into buf (at least
 * KG_IDEM_KEY_MAX bytes).  A value that starts with '"' must be a whole
 * structured-field string (RFC 8941, 3.3.3) and is unquoted; "abc" and abc
 * are the same key.  KG_OK and *len from 1 to KG_IDEM_KEY_MAX; KG_INVALID when
 * it is longer after unquoting, has a byte other than visible ASCII
 * (0x21-0x7e), or is not a whole string; KG_FULL (an empty key, which the
 * contract answers as missing) for "" and for no bytes but spaces.
 */
kg_rc_t kg_idem_key_parse(const kg_str_t *value, unsigned char *buf,
    size_t *len);

/*
 * Starts a fingerprint: SHA-256 over method, target (raw, with query), content
 * type and content encoding, each with its length so that no two requests
 * share bytes at a boundary.  An absent header is not an empty one: pass NULL.
 * The body is added by kg_sha_update().  Returns NULL when OpenSSL fails.
 */
kg_sha_t *kg_idem_fingerprint(const kg_str_t *method, const kg_str_t *target,
    const kg_str_t *content_type, const kg_str_t *content_encoding);

#endif
