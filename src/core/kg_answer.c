
/*
 * The stored answer's codec.
 *
 *     version (1 byte), status (2 bytes, most significant first),
 *     number of headers (1 byte), for each the length and bytes of its name
 *     and of its value, the length and bytes of the body
 *
 * A length is written 7 bits a byte, least significant first, the top bit set
 * on all but the last byte, and in no more bytes than it needs, so that an
 * answer has one encoding.
 */

#include <string.h>
#include <strings.h>

#include "kg_answer.h"


#define KG_ANSWER_VERSION  1
#define KG_ANSWER_HEAD     4    /* bytes before the first header */


static size_t
kg_part_size(const kg_str_t *part)
{
    size_t  n, len;

    n = 1;

    for (len = part->len; len > 0x7f; len >>= 7) {
        n++;
    }

    return n + part->len;
}


size_t
kg_answer_size(const kg_answer_t *answer)
{
    size_t  i, size;

    size = KG_ANSWER_HEAD + kg_part_size(&answer->body);

    for (i = 0; i < answer->nheaders; i++) {
        size += kg_part_size(&answer->headers[i].name)
                + kg_part_size(&answer->headers[i].value);
    }

    return size;
}


static unsigned char *
kg_part_encode(unsigned char *dst, const kg_str_t *part)
{
    size_t  len;

    for (len = part->len; len > 0x7f; len >>= 7) {
        *dst++ = (unsigned char) (0x80 | (len & 0x7f));
    }

    *dst++ = (unsigned char) len;

    if (part->len > 0) {
        memcpy(dst, part->data, part->len);
    }

    return dst + part->len;
}


unsigned char *
kg_answer_encode(const kg_answer_t *answer, unsigned char *dst)
{
    size_t  i;

    *dst++ = KG_ANSWER_VERSION;
    *dst++ = (unsigned char) (answer->status >> 8);
    *dst++ = (unsigned char) answer->status;
    *dst++ = (unsigned char) answer->nheaders;

    for (i = 0; i < answer->nheaders; i++) {
        dst = kg_part_encode(dst, &answer->headers[i].name);
        dst = kg_part_encode(dst, &answer->headers[i].value);
    }

    return kg_part_encode(dst, &answer->body);
}


/* Views the part at *p and moves *p behind it.  KG_OK or KG_INVALID. */
static kg_rc_t
kg_part_decode(unsigned char **p, unsigned char *end, kg_str_t *part)
{
    size_t    len, bits;
    unsigned  shift;

    len = 0;

    for (shift = 0; /* void */ ; shift += 7) {

        if (*p == end || shift >= 8 * sizeof(size_t)) {
            return KG_INVALID;
        }

        bits = **p & 0x7f;

        if (bits << shift >> shift != bits) {
            return KG_INVALID;
        }

        len |= bits << shift;

        if (*(*p)++ < 0x80) {
            break;
        }
    }

    if ((bits == 0 && shift > 0) || len > (size_t) (end - *p)) {
        return KG_INVALID;
    }

    part->len = len;
    part->data = *p;
    *p += len;

    return KG_OK;
}


kg_rc_t
kg_answer_decode(const kg_str_t *bytes, kg_answer_t *answer)
{
    size_t          i;
    unsigned char  *p, *end;

    if (bytes->len < KG_ANSWER_HEAD || bytes->data[0] != KG_ANSWER_VERSION) {
        return KG_INVALID;
    }

    p = bytes->data;
    end = p + bytes->len;

    answer->status = (unsigned) p[1] << 8 | p[2];
    answer->nheaders = p[3];

    if (answer->status < 100 || answer->status > 599
        || answer->nheaders > KG_ANSWER_HEADERS_MAX)
    {
        return KG_INVALID;
    }

    p += KG_ANSWER_HEAD;

    for (i = 0; i < answer->nheaders; i++) {

        if (kg_part_decode(&p, end, &answer->headers[i].name) != KG_OK
            || kg_part_decode(&p, end, &answer->headers[i].value) != KG_OK)
        {
            return KG_INVALID;
        }
    }

    if (kg_part_decode(&p, end, &answer->body) != KG_OK || p != end) {
        return KG_INVALID;
    }

    return KG_OK;
}


int
kg_answer_keeps(const kg_str_t *name)
{
    size_t  i;

    static const kg_str_t  kept[] = {
        kg_string("Content-Type"),
        kg_string("Content-Encoding"),
        kg_string("Content-Language"),
        kg_string("Content-Disposition"),
        kg_string("Content-Location"),
        kg_string("Location"),
        kg_string("Link"),
        kg_string("ETag"),
        kg_string("Last-Modified"),
        kg_string("Cache-Control"),
        kg_string("Deprecation"),
        kg_string("Sunset"),
        kg_string("Retry-After"),
        kg_string("Allow")
    };

    for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {

        if (name->len == kept[i].len
            && strncasecmp((const char *) name->data,
                           (const char *) kept[i].data, name->len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}
