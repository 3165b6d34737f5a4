
/*
 * The stored answer: status, allow-listed headers and body of a write, as it
 * is sealed into a claim's record and replayed from it.
 */

#ifndef KG_ANSWER_H
#define KG_ANSWER_H

#include "kg_core.h"


#define KG_ANSWER_HEADERS_MAX  32

typedef struct {
    kg_str_t    name;
    kg_str_t    value;
} kg_header_t;

typedef struct {
    unsigned      status;       /* 100 .. 599 */
    size_t        nheaders;
    kg_header_t   headers[KG_ANSWER_HEADERS_MAX];
    kg_str_t      body;
} kg_answer_t;


/* Bytes kg_answer_encode() writes. */
size_t kg_answer_size(const kg_answer_t *answer);

/* Writes kg_answer_size() bytes, returns the end. */
unsigned char *kg_answer_encode(const kg_answer_t *answer,
    unsigned char *dst);

/*
 * A view of encoded bytes; the strings point into them.  KG_OK, or KG_INVALID
 * when a length runs over, a status or a count is out of range, or bytes are
 * left.
 */
kg_rc_t kg_answer_decode(const kg_str_t *bytes, kg_answer_t *answer);

/*
 * 1 when a header of the upstream's answer is kept for the replay: the
 * representation (Content-Type, Content-Encoding, Content-Language,
 * Content-Disposition, Content-Location, Location, Link, ETag, Last-Modified,
 * Cache-Control, Deprecation, Sunset, Retry-After), and Allow, which a 405 has
 * to have (RFC 9110, 15.5.6).  Never Set-Cookie, Date, a request id or a
 * rate-limit field.
 * Names compare without case.
 */
int kg_answer_keeps(const kg_str_t *name);

#endif
