
/*
 * The two shapes an error is written in.
 */

#include <string.h>

#include "kg_error.h"


/* Counts always, writes only where there is a buffer. */
typedef struct {
    unsigned char  *dst;
    size_t          len;
} kg_writer_t;


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


/* 1 when all the 8 bytes are ASCII that a JSON string holds as it is. */
static int
kg_plain_word(uint64_t word)
{
    uint64_t  ones, hits;

    /*
     * A control, a quote and a backslash go below zero in one of the
     * differences, which sets their highest bit.  Where there is none of them
     * no byte borrows from the next, and nothing else sets one.
     */

    ones = UINT64_C(0x0101010101010101);

    hits = word | (word - 0x20 * ones)
           | ((word ^ '"' * ones) - ones)
           | ((word ^ '\\' * ones) - ones);

    return (hits & 0x80 * ones) == 0;
}


/*
 * Bytes from p on, up to end, that a JSON string holds as they are.  Messages,
 * codes and ids are ASCII throughout, so such a run is most often all there is.
 */
static size_t
kg_plain_len(const unsigned char *p, const unsigned char *end)
{
    uint64_t              word;
    const unsigned char  *start;

    start = p;

    while ((size_t) (end - p) >= sizeof(word)) {
        memcpy(&word, p, sizeof(word));

        if (!kg_plain_word(word)) {
            break;
        }

        p += sizeof(word);
    }

    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return (size_t) (p - start);
}


static void
kg_write_string(kg_writer_t *w, const kg_str_t *s)
{
    size_t                n;
    const unsigned char  *p, *end;

    kg_write_text(w, "\"");

    p = s->data;
    end = s->len > 0 ? p + s->len : p;

    while (p != end) {
        n = kg_plain_len(p, end);

        if (n > 0) {
            kg_write(w, p, n);
            p += n;
            continue;
        }

        n = kg_utf8_len(p, end);

        if (n == 0) {
            kg_write_text(w, "\xef\xbf\xbd");
            n = 1;

        } else if (n == 1) {
            kg_write_escaped(w, *p);

        } else {
            kg_write(w, p, n);
        }

        p += n;
    }

    kg_write_text(w, "\"");
}


/* ,"details":{...} and what the upstream had beside it. */
static void
kg_write_extensions(kg_writer_t *w, const kg_envelope_t *envelope)
{
    if (envelope->retryable) {
        kg_write_text(w, ",\"retryable\":true");

    } else {
        kg_write_text(w, ",\"retryable\":false");
    }

    if (envelope->details.len > 0) {
        kg_write_text(w, ",\"details\":");
        kg_write(w, envelope->details.data, envelope->details.len);
    }
}


static void
kg_write_members(kg_writer_t *w, const kg_envelope_t *envelope)
{
    if (envelope->members.len > 0) {
        kg_write_text(w, ",");
        kg_write(w, envelope->members.data, envelope->members.len);
    }
}


/*
 * RFC 9457, 3.1: a type of about:blank has the status's phrase for a title.
 * One that is documented has its code's message, which is the same each time.
 */
static void
kg_write_problem(kg_writer_t *w, const kg_envelope_t *envelope)
{
    unsigned         i, n;
    const kg_str_t  *title;
    unsigned char    digits[3];

    static const kg_str_t  blank = kg_string("about:blank");

    title = &envelope->title;

    if (title->len == 0) {
        title = &kg_error_of_status(envelope->status)->phrase;
    }

    n = envelope->status;

    for (i = 3; i > 0; i--) {
        digits[i - 1] = (unsigned char) ('0' + n % 10);
        n /= 10;
    }

    kg_write_text(w, "{\"type\":");
    kg_write_string(w, envelope->doc_url.len > 0 ? &envelope->doc_url : &blank);

    kg_write_text(w, ",\"title\":");
    kg_write_string(w, title);

    kg_write_text(w, ",\"status\":");
    kg_write(w, digits, sizeof(digits));

    kg_write_text(w, ",\"detail\":");
    kg_write_string(w, &envelope->message);

    kg_write_text(w, ",\"code\":");
    kg_write_string(w, &envelope->code);

    kg_write_extensions(w, envelope);
    kg_write_members(w, envelope);

    kg_write_text(w, ",\"requestId\":");
    kg_write_string(w, &envelope->request_id);

    kg_write_text(w, "}");
}


size_t
kg_envelope_write(const kg_envelope_t *envelope, unsigned char *dst)
{
    kg_writer_t  w;

    w.dst = dst;
    w.len = 0;

    if (envelope->format == KG_FORMAT_PROBLEM) {
        kg_write_problem(&w, envelope);
        return w.len;
    }

    kg_write_text(&w, "{\"error\":{\"code\":");
    kg_write_string(&w, &envelope->code);

    kg_write_text(&w, ",\"message\":");
    kg_write_string(&w, &envelope->message);

    kg_write_extensions(&w, envelope);

    if (envelope->doc_url.len > 0) {
        kg_write_text(&w, ",\"docUrl\":");
        kg_write_string(&w, &envelope->doc_url);
    }

    kg_write_members(&w, envelope);

    kg_write_text(&w, "},\"requestId\":");
    kg_write_string(&w, &envelope->request_id);

    kg_write_text(&w, "}");

    return w.len;
}
