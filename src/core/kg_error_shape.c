
/*
 * An upstream's error made into the shape of all errors.
 *
 * jansson says whether a body is JSON and what its members are, but it would
 * rewrite the numbers in what is kept (0.1 becomes 0.10000000000000001, and
 * integers of more than 64 bits are lost), so the text of what is kept is cut
 * out of the body as it is: kg_json.h.
 */

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zlib.h>

#include "kg_catalogue.h"
#include "kg_json.h"
#include "kg_url.h"


#define KG_ERROR_DEPTH_MAX  64      /* arrays and objects in one another */

#define KG_JSON_FLAGS                                                         \
    (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL                \
     | JSON_DECODE_INT_AS_REAL)


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


/*
 * The text of an object's member, of which jansson has found that it is there
 * and p where the object's text begins.
 */
static kg_str_t
kg_member_text(json_t *object, const unsigned char *p, const char *name)
{
    kg_members_t  members;

    kg_members_first(&members, object, p);

    while (!kg_members_named(&members, name)) {
        kg_members_next(&members);
    }

    return members.value;
}


/* {"upstream":VALUE}, written at dst, for details. */
static void
kg_details_upstream(kg_envelope_t *envelope, const kg_str_t *value,
    unsigned char *dst)
{
    static const char  before[] = "{\"upstream\":";

    memcpy(dst, before, sizeof(before) - 1);
    memcpy(dst + sizeof(before) - 1, value->data, value->len);
    dst[sizeof(before) - 1 + value->len] = '}';

    envelope->details.data = dst;
    envelope->details.len = sizeof(before) + value->len;
}


/* Its details are an object, or in one; null says that there are none. */
static void
kg_take_details(kg_envelope_t *envelope, json_t *object,
    const unsigned char *p, unsigned char *buf)
{
    kg_str_t       text;
    const json_t  *details;

    details = json_object_get(object, "details");

    if (details == NULL || json_is_null(details)) {
        return;
    }

    text = kg_member_text(object, p, "details");

    if (json_is_object(details)) {
        envelope->details = text;

    } else {
        kg_details_upstream(envelope, &text, buf);
    }
}


/*
 * Takes an object's details, and joins in buf the members whose names are not
 * in known.  p is where its text begins; buf has room for that text and 13
 * bytes more.
 */
static void
kg_take_members(kg_envelope_t *envelope, json_t *object,
    const unsigned char *p, const char *const *known, unsigned char *buf)
{
    size_t          i;
    kg_members_t    members;
    unsigned char  *dst;

    dst = buf;

    for (kg_members_first(&members, object, p);
         members.iter != NULL;
         kg_members_next(&members))
    {
        for (i = 0; known[i] != NULL; i++) {
            if (kg_members_named(&members, known[i])) {
                break;
            }
        }

        /* What else a server says of its own failure is not for partners. */

        if (known[i] == NULL && envelope->status < 500) {

            if (dst != buf) {
                *dst++ = ',';
            }

            memcpy(dst, members.member.data, members.member.len);
            dst += members.member.len;
        }
    }

    envelope->members.data = buf;
    envelope->members.len = (size_t) (dst - buf);

    kg_take_details(envelope, object, p, dst);
}


/* A link that an upstream gives: what is none is left out. */
static void
kg_take_link(kg_envelope_t *envelope, json_t *object, const char *name)
{
    kg_str_t  link;

    if (kg_json_view(json_object_get(object, name), &link) == KG_OK
        && kg_url_valid(&link))
    {
        envelope->doc_url = link;
    }
}


/*
 * Takes what an upstream's own envelope says.  The strings point into root
 * and text, or into buf, which has room for the text and 13 bytes more.
 * KG_INVALID, and nothing taken, when it is not an envelope.
 */
static kg_rc_t
kg_envelope_take(kg_envelope_t *envelope, json_t *root, const kg_str_t *text,
    unsigned char *buf)
{
    json_t    *error;
    kg_str_t   code, message, inside;

    static const char *const  known[] = {
        "code", "message", "retryable", "details", "docUrl", NULL
    };

    /* What the members of a problem mean is not the upstream's to say. */

    static const char *const  of_problem[] = {
        "code", "message", "retryable", "details", "docUrl", "type", "title",
        "status", "detail", "instance", "requestId", NULL
    };

    error = json_object_get(root, "error");

    if (!json_is_object(error)
        || kg_json_view(json_object_get(error, "code"), &code) != KG_OK
        || kg_json_view(json_object_get(error, "message"), &message) != KG_OK
        || !kg_error_code_valid(&code))
    {
        return KG_INVALID;
    }

    envelope->code = code;

    /* An empty one says less than the status's own. */

    if (message.len > 0) {
        envelope->message = message;
    }

    kg_take_link(envelope, error, "docUrl");

    inside = kg_member_text(root, kg_json_space(text->data), "error");

    kg_take_members(envelope, error, inside.data,
                    envelope->format == KG_FORMAT_PROBLEM ? of_problem : known,
                    buf);

    return KG_OK;
}


/* The same of an upstream's own problem, which has a code. */
static kg_rc_t
kg_problem_take(kg_envelope_t *envelope, json_t *root, const kg_str_t *text,
    unsigned char *buf)
{
    size_t    i;
    kg_str_t  code, message, title, instance;

    static const char *const  known[] = {
        "instance", "code", "retryable", "details", "type", "title", "status",
        "detail", "requestId", NULL
    };

    if (!json_is_object(root)
        || kg_json_view(json_object_get(root, "code"), &code) != KG_OK
        || kg_json_view(json_object_get(root, "title"), &title) != KG_OK
        || !kg_error_code_valid(&code))
    {
        return KG_INVALID;
    }

    envelope->code = code;

    if (title.len > 0) {
        envelope->message = title;
        envelope->title = title;
    }

    if (kg_json_view(json_object_get(root, "detail"), &message) == KG_OK
        && message.len > 0)
    {
        envelope->message = message;
    }

    kg_take_link(envelope, root, "type");

    /* An instance that is a reference is a member as those not known are. */

    i = kg_json_view(json_object_get(root, "instance"), &instance) == KG_OK
        && kg_url_reference_valid(&instance);

    kg_take_members(envelope, root, kg_json_space(text->data), known + i, buf);

    return KG_OK;
}


/*
 * What the upstream's text says of the error: its own envelope or problem, or
 * what of another body is kept.  buf has room for the text and 13 bytes more.
 * 1 when it is the upstream's own.
 */
static int
kg_error_take(kg_envelope_t *envelope, json_t *root, const kg_str_t *text,
    unsigned char *buf)
{
    if (kg_envelope_take(envelope, root, text, buf) == KG_OK
        || (envelope->format == KG_FORMAT_PROBLEM
            && kg_problem_take(envelope, root, text, buf) == KG_OK))
    {
        return 1;
    }

    if (text->len <= KG_ERROR_DETAIL_MAX
        && (envelope->status == 400 || envelope->status == 409
            || envelope->status == 422))
    {
        kg_details_upstream(envelope, text, buf);
    }

    return 0;
}


/*
 * Writes the error with this text for its body (empty when it is not looked
 * at).  KG_OK or KG_ERROR.
 */
static kg_rc_t
kg_error_of_text(const kg_upstream_error_t *in, const kg_str_t *text,
    kg_shaped_t *out)
{
    json_t            *root;
    kg_rc_t            rc;
    kg_envelope_t      envelope;
    json_error_t       ignored;
    unsigned char     *buf;
    const kg_error_t  *error;

    error = kg_catalogue_of_status(in->catalogue, in->status);

    memset(&envelope, 0, sizeof(envelope));
    envelope.format = in->format;
    envelope.status = in->status;
    envelope.code = error->code;
    envelope.message = error->message;
    envelope.request_id = in->request_id;

    rc = KG_ERROR;
    root = NULL;
    out->own = 0;

    buf = malloc(text->len + sizeof("{\"upstream\":}"));
    if (buf == NULL) {
        return KG_ERROR;
    }

    if (text->len > 0 && kg_json_shallow(text, KG_ERROR_DEPTH_MAX)) {
        root = kg_json_load(text, KG_JSON_FLAGS, &ignored);
    }

    if (root != NULL) {
        out->own = kg_error_take(&envelope, root, text, buf);
    }

    kg_catalogue_document(in->catalogue, &envelope);

    envelope.retryable = !in->settled
                         && kg_error_retryable(in->status, &envelope.code,
                                               in->safe);

    out->text.len = kg_envelope_write(&envelope, NULL);
    out->text.data = malloc(out->text.len);

    if (out->text.data != NULL) {
        (void) kg_envelope_write(&envelope, out->text.data);
        out->retryable = envelope.retryable;
        out->code_len = envelope.code.len;
        memcpy(out->code, envelope.code.data, envelope.code.len);
        rc = KG_OK;
    }

    json_decref(root);
    free(buf);

    return rc;
}


kg_rc_t
kg_error_shape(const kg_upstream_error_t *in, kg_shaped_t *out)
{
    kg_rc_t   rc;
    kg_str_t  plain, text;

    static const unsigned char  mark[] = { 0xef, 0xbb, 0xbf };

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

    /* RFC 8259, 8.1: a byte order mark may be passed over. */

    if (text.len > sizeof(mark)
        && memcmp(text.data, mark, sizeof(mark)) == 0)
    {
        text.data += sizeof(mark);
        text.len -= sizeof(mark);
    }

    rc = kg_error_of_text(in, &text, out);

    free(plain.data);

    return rc;
}
