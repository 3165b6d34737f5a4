
/*
 * The error catalogue, and the one shape every error is written in.
 */

#include <string.h>

#define KG_ERROR_TABLE
#include "kg_error.h"


/* Counts always, writes only where there is a buffer. */
typedef struct {
    unsigned char  *dst;
    size_t          len;
} kg_writer_t;


const kg_error_t *
kg_error_get(kg_error_code_t code)
{
    return &kg_errors[code];
}


const kg_error_t *
kg_error_of_status(unsigned status)
{
    unsigned  n;

    n = status >= 400 && status <= 599 ? kg_errors_by_status[status - 400] : 0;

    if (n != 0) {
        return &kg_errors[n - 1];
    }

    return &kg_errors[status < 500 ? KG_ERR_BAD_REQUEST
                                   : KG_ERR_INTERNAL_ERROR];
}


int
kg_error_retryable(unsigned status, const kg_str_t *code, int safe)
{
    if (kg_str_eq(code, &kg_errors[KG_ERR_IDEMPOTENCY_IN_PROGRESS].code)) {
        return 1;
    }

    switch (status) {

    case 425:
    case 429:
        return 1;

    case 502:
    case 503:
    case 504:
        return safe != 0;

    default:
        return 0;
    }
}


static void
kg_write(kg_writer_t *w, const void *data, size_t len)
{
    if (w->dst != NULL && len > 0) {
        memcpy(w->dst + w->len, data, len);
    }

    w->len += len;
}


#define kg_write_text(w, s)  kg_write(w, s, sizeof(s) - 1)


/*
 * Bytes of the UTF-8 sequence at p (RFC 3629: no overlong form, surrogate or
 * code point over U+10FFFF), or 0 when there is none.
 */
static size_t
kg_utf8_len(const unsigned char *p, const unsigned char *end)
{
    size_t         i, n;
    unsigned char  low, high;

    low = 0x80;
    high = 0xbf;

    if (p[0] < 0x80) {
        return 1;
    }

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;

    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        low = p[0] == 0xe0 ? 0xa0 : low;
        high = p[0] == 0xed ? 0x9f : high;

    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        low = p[0] == 0xf0 ? 0x90 : low;
        high = p[0] == 0xf4 ? 0x8f : high;

    } else {
        return 0;
    }

    if ((size_t) (end - p) < n || p[1] < low || p[1] > high) {
        return 0;
    }

    for (i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    return n;
}


/* One byte that a JSON string may not hold as it is. */
static void
kg_write_escaped(kg_writer_t *w, unsigned char c)
{
    char  text[6] = "\\u00";

    static const char  hex[] = "0123456789abcdef";

    switch (c) {

    case '"':
        kg_write_text(w, "\\\"");
        return;

    case '\\':
        kg_write_text(w, "\\\\");
        return;

    case '\n':
        kg_write_text(w, "\\n");
        return;

    case '\r':
        kg_write_text(w, "\\r");
        return;

    case '\t':
        kg_write_text(w, "\\t");
        return;

    default:
        text[4] = hex[c >> 4];
        text[5] = hex[c & 0xf];
        kg_write(w, text, sizeof(text));
    }
}


static void
kg_write_string(kg_writer_t *w, const kg_str_t *s)
{
    size_t                n;
    const unsigned char  *p, *end;

    kg_write_text(w, "\"");

    p = s->data;
    end = s->len > 0 ? p + s->len : p;

    while (p < end) {
        n = kg_utf8_len(p, end);

        if (n == 0) {
            kg_write_text(w, "\xef\xbf\xbd");
            n = 1;

        } else if (*p < 0x20 || *p == '"' || *p == '\\') {
            kg_write_escaped(w, *p);

        } else {
            kg_write(w, p, n);
        }

        p += n;
    }

    kg_write_text(w, "\"");
}


size_t
kg_envelope_write(const kg_envelope_t *envelope, unsigned char *dst)
{
    kg_writer_t  w;

    w.dst = dst;
    w.len = 0;

    kg_write_text(&w, "{\"error\":{\"code\":");
    kg_write_string(&w, &envelope->code);

    kg_write_text(&w, ",\"message\":");
    kg_write_string(&w, &envelope->message);

    if (envelope->retryable) {
        kg_write_text(&w, ",\"retryable\":true");

    } else {
        kg_write_text(&w, ",\"retryable\":false");
    }

    if (envelope->details.len > 0) {
        kg_write_text(&w, ",\"details\":");
        kg_write(&w, envelope->details.data, envelope->details.len);
    }

    if (envelope->doc_url.len > 0) {
        kg_write_text(&w, ",\"docUrl\":");
        kg_write_string(&w, &envelope->doc_url);
    }

    if (envelope->members.len > 0) {
        kg_write_text(&w, ",");
        kg_write(&w, envelope->members.data, envelope->members.len);
    }

    kg_write_text(&w, "},\"requestId\":");
    kg_write_string(&w, &envelope->request_id);

    kg_write_text(&w, "}");

    return w.len;
}
