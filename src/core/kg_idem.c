
/*
 * Idempotency: the Idempotency-Key header and the fingerprint of a request.
 */

#include "kg_idem.h"


/*
 * The byte of a structured-field string at *p, with its escape resolved, or
 * -1 when no string goes on like that.
 */
static int
kg_idem_string_byte(const unsigned char **p, const unsigned char *end)
{
    int  c;

    c = *(*p)++;

    if (c != '\\') {
        return c;
    }

    if (*p == end) {
        return -1;
    }

    c = *(*p)++;

    return c == '"' || c == '\\' ? c : -1;
}


kg_rc_t
kg_idem_key_parse(const kg_str_t *value, unsigned char *buf, size_t *len)
{
    int                   c, quoted;
    size_t                n;
    const unsigned char  *p, *end;

    *len = 0;

    p = value->data;
    end = value->len > 0 ? p + value->len : p;

    /* spaces around a field's value are not part of it: RFC 9110, 5.5 */

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    if (p == end) {
        return KG_FULL;
    }

    quoted = *p == '"';

    if (quoted) {
        p++;
    }

    for (n = 0; p < end && !(quoted && *p == '"'); n++) {

        c = quoted ? kg_idem_string_byte(&p, end) : *p++;

        if (c < 0x21 || c > 0x7e || n == KG_IDEM_KEY_MAX) {
            return KG_INVALID;
        }

        buf[n] = (unsigned char) c;
    }

    if (quoted && end - p != 1) {
        return KG_INVALID;
    }

    if (n == 0) {
        return KG_FULL;
    }

    *len = n;

    return KG_OK;
}


/* Adds one part: whether it is there, its length and its bytes. */
static kg_rc_t
kg_idem_add(kg_sha_t *sha, const kg_str_t *part)
{
    unsigned       i;
    uint64_t       len;
    unsigned char  head[9];

    len = part != NULL ? part->len : 0;

    head[0] = part != NULL;

    for (i = 0; i < 8; i++) {
        head[1 + i] = (unsigned char) (len >> (56 - 8 * i));
    }

    if (kg_sha_update(sha, head, sizeof(head)) != KG_OK) {
        return KG_ERROR;
    }

    return len > 0 ? kg_sha_update(sha, part->data, part->len) : KG_OK;
}


kg_sha_t *
kg_idem_fingerprint(const kg_str_t *method, const kg_str_t *target,
    const kg_str_t *content_type, const kg_str_t *content_encoding)
{
    kg_sha_t  *sha;

    sha = kg_sha_create();
    if (sha == NULL) {
        return NULL;
    }

    if (kg_idem_add(sha, method) != KG_OK
        || kg_idem_add(sha, target) != KG_OK
        || kg_idem_add(sha, content_type) != KG_OK
        || kg_idem_add(sha, content_encoding) != KG_OK)
    {
        kg_sha_free(sha);
        return NULL;
    }

    return sha;
}
