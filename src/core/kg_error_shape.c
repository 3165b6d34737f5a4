
/*
 * An upstream's error made into the envelope.
 *
 * jansson says whether a body is JSON and what its members are, but it would
 * rewrite the numbers in what is kept (0.1 becomes 0.10000000000000001, and
 * integers of more than 64 bits are lost), so the text of what is kept is cut
 * out of the body as it is.  jansson keeps the order of members, and with
 * duplicates rejected the nth member it names is the nth in the text.
 */

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zlib.h>

#include "kg_error.h"


#define KG_ERROR_DEPTH_MAX  64      /* arrays and objects in one another */
#define KG_ERROR_CODE_MAX   64      /* bytes in a code */

#define KG_JSON_FLAGS                                                         \
    (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL                \
     | JSON_DECODE_INT_AS_REAL)


/* A walk over the members of an object, in jansson and in the text. */
typedef struct {
    json_t               *object;
    void                 *iter;     /* NULL after the last member */
    const unsigned char  *p;
    kg_str_t              value;    /* the member's text */
    kg_str_t              member;   /* with its name: "name":value */
} kg_members_t;


/*
 * Inflates a gzip body, of one member or several, into *out, malloc'ed.
 * KG_INVALID when it is damaged, cut off or over KG_ERROR_BODY_MAX: a small
 * body may be made to inflate a thousandfold, so the bound is the output's.
 */
static kg_rc_t
kg_gunzip(const kg_str_t *in, kg_str_t *out)
{
    int             rc;
    z_stream        z;
    unsigned char  *buf;

    memset(&z, 0, sizeof(z));

    /* 16: a gzip wrapper, neither zlib's nor raw */

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        return KG_ERROR;
    }

    /* one more, to tell a body at the bound from one over it */

    buf = malloc(KG_ERROR_BODY_MAX + 1);
    if (buf == NULL) {
        inflateEnd(&z);
        return KG_ERROR;
    }

    z.next_in = in->data;
    z.avail_in = (uInt) in->len;
    z.next_out = buf;
    z.avail_out = KG_ERROR_BODY_MAX + 1;

    do {
        rc = inflate(&z, Z_FINISH);
    } while (rc == Z_STREAM_END && z.avail_in > 0
             && inflateReset(&z) == Z_OK);

    inflateEnd(&z);

    if (rc != Z_STREAM_END || z.avail_in > 0 || z.avail_out == 0) {
        free(buf);
        return rc == Z_MEM_ERROR ? KG_ERROR : KG_INVALID;
    }

    out->data = buf;
    out->len = KG_ERROR_BODY_MAX + 1 - z.avail_out;

    return KG_OK;
}


/*
 * 1 when the text nests no deeper than KG_ERROR_DEPTH_MAX.  Looked at before
 * the text is parsed, and sure of nothing else about it.
 */
static int
kg_json_shallow(const kg_str_t *text)
{
    int       quoted;
    size_t    i;
    unsigned  depth;

    quoted = 0;
    depth = 0;

    for (i = 0; i < text->len; i++) {

        switch (text->data[i]) {

        case '"':
            quoted = !quoted;
            break;

        case '\\':
            i += quoted;
            break;

        case '{':
        case '[':
            if (!quoted && ++depth > KG_ERROR_DEPTH_MAX) {
                return 0;
            }
            break;

        case '}':
        case ']':
            depth -= !quoted && depth > 0;
            break;
        }
    }

    return 1;
}


/*
 * What follows reads text that jansson accepted whole: every string in it is
 * closed and every bracket has its pair, so none of it looks for an end.
 */

static const unsigned char *
kg_json_space(const unsigned char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
        p++;
    }

    return p;
}


static const unsigned char *
kg_json_string(const unsigned char *p)
{
    for (p++; *p != '"'; p++) {
        p += *p == '\\';
    }

    return p + 1;
}


/* The end of a member's value. */
static const unsigned char *
kg_json_value(const unsigned char *p)
{
    unsigned  depth;

    depth = 0;

    for ( ;; ) {

        switch (*p) {

        case '"':
            p = kg_json_string(p);
            break;

        case '{':
        case '[':
            depth++;
            p++;
            break;

        case '}':
        case ']':
            depth--;
            p++;
            break;

        default:
            p++;
            break;
        }

        if (depth == 0 && strchr(",}] \t\n\r", *p) != NULL) {
            return p;
        }
    }
}


/* Reads the member at members->p, which is behind a "{" or a ",". */
static void
kg_members_read(kg_members_t *members)
{
    const unsigned char  *name;

    if (members->iter == NULL) {
        return;
    }

    name = kg_json_space(members->p);

    members->p = kg_json_space(kg_json_string(name));
    members->p = kg_json_space(members->p + 1);

    members->member.data = (unsigned char *) name;
    members->value.data = (unsigned char *) members->p;

    members->p = kg_json_value(members->p);

    members->member.len = (size_t) (members->p - members->member.data);
    members->value.len = (size_t) (members->p - members->value.data);
}


/* The first member of an object whose text starts at p. */
static void
kg_members_first(kg_members_t *members, json_t *object,
    const unsigned char *p)
{
    members->object = object;
    members->iter = json_object_iter(object);
    members->p = p + 1;

    kg_members_read(members);
}


static void
kg_members_next(kg_members_t *members)
{
    members->iter = json_object_iter_next(members->object, members->iter);
    members->p = kg_json_space(members->p) + 1;

    kg_members_read(members);
}


static int
kg_members_named(const kg_members_t *members, const char *name)
{
    return strcmp(json_object_iter_key(members->iter), name) == 0;
}


/* A view of a JSON string; KG_INVALID when it is none. */
static kg_rc_t
kg_json_view(const json_t *string, kg_str_t *view)
{
    if (!json_is_string(string)) {
        return KG_INVALID;
    }

    view->data = (unsigned char *) json_string_value(string);
    view->len = json_string_length(string);

    return KG_OK;
}


static int
kg_code_valid(const kg_str_t *code)
{
    size_t         i;
    unsigned char  c;

    if (code->len < 1 || code->len > KG_ERROR_CODE_MAX) {
        return 0;
    }

    for (i = 0; i < code->len; i++) {
        c = code->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) {
            return 0;
        }
    }

    return 1;
}


/*
 * Takes what an upstream's own envelope says.  The strings point into root
 * and text; members is joined in buf, which has room for the text's length.
 * KG_INVALID, and nothing taken, when it is not an envelope.
 */
static kg_rc_t
kg_envelope_take(kg_envelope_t *envelope, json_t *root, const kg_str_t *text,
    unsigned char *buf)
{
    json_t         *error;
    kg_str_t        code, message;
    kg_members_t    members;
    unsigned char  *dst;

    error = json_object_get(root, "error");

    if (!json_is_object(error)
        || kg_json_view(json_object_get(error, "code"), &code) != KG_OK
        || kg_json_view(json_object_get(error, "message"), &message) != KG_OK
        || !kg_code_valid(&code))
    {
        return KG_INVALID;
    }

    envelope->code = code;
    envelope->message = message;

    kg_members_first(&members, root, kg_json_space(text->data));

    while (!kg_members_named(&members, "error")) {
        kg_members_next(&members);
    }

    dst = buf;

    for (kg_members_first(&members, error, members.value.data);
         members.iter != NULL;
         kg_members_next(&members))
    {
        if (kg_members_named(&members, "details")) {
            envelope->details = members.value;

        } else if (!kg_members_named(&members, "code")
                   && !kg_members_named(&members, "message")
                   && !kg_members_named(&members, "retryable"))
        {
            if (dst != buf) {
                *dst++ = ',';
            }

            memcpy(dst, members.member.data, members.member.len);
            dst += members.member.len;
        }
    }

    envelope->members.data = buf;
    envelope->members.len = (size_t) (dst - buf);

    return KG_OK;
}


/* details.upstream in buf, which has room for the text and 13 bytes more. */
static void
kg_details_upstream(kg_envelope_t *envelope, const kg_str_t *text,
    unsigned char *buf)
{
    static const char  before[] = "{\"upstream\":";

    memcpy(buf, before, sizeof(before) - 1);
    memcpy(buf + sizeof(before) - 1, text->data, text->len);
    buf[sizeof(before) - 1 + text->len] = '}';

    envelope->details.data = buf;
    envelope->details.len = sizeof(before) + text->len;
}


/*
 * Writes the envelope of an error with this text for its body (empty when it
 * is not looked at).  KG_OK or KG_ERROR.
 */
static kg_rc_t
kg_error_of_text(const kg_upstream_error_t *in, const kg_str_t *text,
    kg_str_t *out, int *retryable)
{
    json_t            *root;
    kg_rc_t            rc;
    kg_envelope_t      envelope;
    unsigned char     *buf;
    const kg_error_t  *error;

    error = kg_error_of_status(in->status);

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = error->code;
    envelope.message = error->message;
    envelope.request_id = in->request_id;

    rc = KG_ERROR;
    root = NULL;

    buf = malloc(text->len + sizeof("{\"upstream\":}"));
    if (buf == NULL) {
        return KG_ERROR;
    }

    if (text->len > 0 && kg_json_shallow(text)) {
        root = json_loadb((const char *) text->data, text->len, KG_JSON_FLAGS,
                          NULL);
    }

    if (root != NULL && kg_envelope_take(&envelope, root, text, buf) != KG_OK
        && text->len <= KG_ERROR_DETAIL_MAX
        && (in->status == 400 || in->status == 409 || in->status == 422))
    {
        kg_details_upstream(&envelope, text, buf);
    }

    envelope.retryable = kg_error_retryable(in->status, &envelope.code,
                                            in->safe);

    out->len = kg_envelope_write(&envelope, NULL);
    out->data = malloc(out->len);

    if (out->data != NULL) {
        (void) kg_envelope_write(&envelope, out->data);
        *retryable = envelope.retryable;
        rc = KG_OK;
    }

    json_decref(root);
    free(buf);

    return rc;
}


kg_rc_t
kg_error_shape(const kg_upstream_error_t *in, kg_str_t *out, int *retryable)
{
    kg_rc_t   rc;
    kg_str_t  plain, text;

    text.len = 0;
    text.data = NULL;
    plain = text;

    if (in->whole && in->body.len > 0 && in->body.len <= KG_ERROR_BODY_MAX) {

        if (in->gzip) {

            if (kg_gunzip(&in->body, &plain) == KG_ERROR) {
                return KG_ERROR;
            }

            text = plain;

        } else {
            text = in->body;
        }
    }

    rc = kg_error_of_text(in, &text, out, retryable);

    free(plain.data);

    return rc;
}
