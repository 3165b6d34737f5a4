
/*
 * Request ids: "req_" and 26 characters of Crockford's base 32, 48 bits of
 * milliseconds first and 80 random bits after, as a ULID has them
 * (github.com/ulid/spec): they sort by time and are unique across nodes and
 * restarts.
 */

#ifndef KG_REQUEST_ID_H
#define KG_REQUEST_ID_H

#include "kg_core.h"
#include "kg_digest.h"


#define KG_REQUEST_ID_LEN  30

/*
 * Writes KG_REQUEST_ID_LEN bytes.  now is in ms since the epoch.  KG_OK, or
 * KG_ERROR when there is no randomness.
 */
kg_rc_t kg_request_id(kg_entropy_t *entropy, uint64_t now,
    unsigned char *dst);

/* 1 when a caller's own id is [A-Za-z0-9._:-]{1,128}, else 0. */
int kg_request_id_valid(const kg_str_t *id);

#endif
