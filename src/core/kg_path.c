
/*
 * Raw paths and patterns, segment by segment: what a path may be written like
 * before it is compared with the route table.
 */

#include <string.h>

#include "kg_path.h"


/* The value of a hex digit, or -1. */
static int
kg_hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return -1;
}


/* The bytes of a segment to look at: of an escape, and that no path may have. */
static const unsigned char  kg_path_special[256] = {
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    [' '] = 1, ['#'] = 1, ['%'] = 1, ['?'] = 1, ['\\'] = 1, [0x7f] = 1
};


/*
 * 1 when the segment is "." or "..", alone or before a ";": some servers take
 * what follows the ";" for a parameter and drop it.
 */
static int
kg_segment_dots(const kg_str_t *segment)
{
    size_t          n, left;
    unsigned char  *p;

    p = segment->data;

    for (n = 0; n < segment->len && n < 2 && p[n] == '.'; n++) { /* void */ }

    if (n == 0) {
        return 0;
    }

    left = segment->len - n;
    p += n;

    return left == 0 || p[0] == ';'
           || (left >= 3 && p[0] == '%' && p[1] == '3'
               && (p[2] | 0x20) == 'b');
}


kg_rc_t
kg_path_split(const kg_str_t *path, kg_path_t *split)
{
    int             high, low, c;
    unsigned char  *p, *end;
    kg_segment_t   *segment;

    split->nsegments = 0;

    if (path->len == 0 || path->data[0] != '/') {
        return KG_INVALID;
    }

    if (path->len == 1) {
        return KG_OK;
    }

    p = path->data;
    end = p + path->len;

    while (p < end) {

        if (split->nsegments == KG_ROUTE_SEGMENTS_MAX) {
            return KG_INVALID;
        }

        segment = &split->segments[split->nsegments++];
        segment->raw.data = ++p;
        segment->len = 0;

        for ( /* void */ ; p < end && *p != '/'; p++, segment->len++) {

            if (!kg_path_special[*p]) {
                continue;
            }

            if (*p != '%' || end - p < 3) {
                return KG_INVALID;
            }

            high = kg_hex_digit(p[1]);
            low = kg_hex_digit(p[2]);

            if (high < 0 || low < 0) {
                return KG_INVALID;
            }

            c = high * 16 + low;

            /* "rewrite ^/v1/(.*)" would cut the path at an end of line. */

            if (c < 0x20 || c == 0x7f || c == '/' || c == '\\' || c == '.') {
                return KG_INVALID;
            }

            p += 2;
        }

        segment->raw.len = (size_t) (p - segment->raw.data);

        if (segment->len == 0 || kg_segment_dots(&segment->raw)) {
            return KG_INVALID;
        }
    }

    return KG_OK;
}


int
kg_segment_compare(const kg_segment_t *segment, const kg_str_t *literal)
{
    size_t                i;
    unsigned char         c;
    const unsigned char  *p;

    if (segment->len != literal->len) {
        return segment->len < literal->len ? -1 : 1;
    }

    p = segment->raw.data;

    if (segment->raw.len == segment->len) {
        return memcmp(p, literal->data, literal->len);
    }

    for (i = 0; i < literal->len; i++) {
        c = *p++;

        if (c == '%') {
            c = (unsigned char) (kg_hex_digit(p[0]) * 16
                                 + kg_hex_digit(p[1]));
            p += 2;
        }

        if (c != literal->data[i]) {
            return c < literal->data[i] ? -1 : 1;
        }
    }

    return 0;
}


kg_rc_t
kg_pattern_segment(kg_str_t *segment, int *param, const char **why)
{
    size_t          i;
    unsigned char   c, *p;

    p = segment->data;
    *param = 0;

    if (segment->len == 0) {
        *why = "a pattern has no empty segment and no slash at its end";
        return KG_INVALID;
    }

    if (p[0] == ':') {
        *param = 1;
        segment->data++;
        segment->len--;

    } else if (p[0] == '{' && p[segment->len - 1] == '}') {
        *param = 1;
        segment->data++;
        segment->len -= 2;
    }

    if (*param && segment->len == 0) {
        *why = "a parameter has a name";
        return KG_INVALID;
    }

    for (i = 0; i < segment->len; i++) {
        c = segment->data[i];

        if (*param) {
            if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') {
                continue;
            }

            if ((c >= '0' && c <= '9') || c == '_' || c == '-') {
                continue;
            }

            *why = "a parameter's name has letters, digits, \"_\" and \"-\"";
            return KG_INVALID;
        }

        if (c == '{' || c == '}') {
            *why = "a parameter is a whole segment";
            return KG_INVALID;
        }

        if (c == '*') {
            *why = "a pattern has no wildcard \"*\"";
            return KG_INVALID;
        }

        if (c == '%') {
            *why = "a pattern is written decoded, without \"%\"";
            return KG_INVALID;
        }

        if (c <= 0x20 || c == 0x7f || c == '\\' || c == '#' || c == '?') {
            *why = "a pattern has no space, control byte, \"\\\", \"#\" or "
                   "\"?\"";
            return KG_INVALID;
        }
    }

    if (!*param && kg_segment_dots(segment)) {
        *why = "a pattern has no dot segment";
        return KG_INVALID;
    }

    return KG_OK;
}
