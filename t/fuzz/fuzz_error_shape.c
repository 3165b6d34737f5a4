
/*
 * Upstream errors of any bytes: what comes out is always JSON with a code, a
 * message, retryable and the request id; details are an object, links are such,
 * and a 5xx has nothing beside.  Of an envelope the code, a message, details
 * and a link are what they were, and of a 4xx every other member is too.
 *
 * Of a problem it is the same one level up.
 *
 * The first byte says what the upstream's answer is; the rest is its body, or,
 * so that envelopes are met often, the further members of one.
 */

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "kg_error.h"
#include "kg_json.h"
#include "kg_url.h"


#define FUZZ_STATUS    0x07
#define FUZZ_GZIP      0x08
#define FUZZ_SAFE      0x10
#define FUZZ_ENVELOPE  0x20
#define FUZZ_PROBLEM   0x40

/* a body's own numbers and NULs are kept as they are */
#define FUZZ_JSON                                                             \
    (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL)


int  LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static const kg_str_t  id = kg_string("req_1");


/* 1 when a member is a string that may stand as a link. */
static int
is_link(const json_t *object, const char *name)
{
    kg_str_t       link;
    const json_t  *member;

    member = json_object_get(object, name);

    if (!json_is_string(member)) {
        return 0;
    }

    link.data = (unsigned char *) json_string_value(member);
    link.len = json_string_length(member);

    return kg_url_valid(&link);
}


/* 1 when an error's details are what they may be, and none but these known. */
static int
is_closed(const json_t *error, unsigned status, size_t known)
{
    const json_t  *details;

    details = json_object_get(error, "details");

    return (details == NULL || json_is_object(details))
           && (status < 500
               || json_object_size(error) <= known + (details != NULL));
}


/* What came out as a problem. */
static void
check_problem(const kg_str_t *out, unsigned status, int retryable)
{
    size_t       i;
    json_t      *root;
    const char  *type;

    static const char *const  strings[] = {
        "type", "title", "detail", "code", "requestId"
    };

    root = json_loadb((const char *) out->data, out->len, FUZZ_JSON, NULL);

    for (i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (!json_is_string(json_object_get(root, strings[i]))) {
            abort();
        }
    }

    type = json_string_value(json_object_get(root, "type"));

    if (!is_closed(root, status, 7)
        || (strcmp(type, "about:blank") != 0 && !is_link(root, "type"))
        || !json_is_number(json_object_get(root, "status"))
        || !json_is_boolean(json_object_get(root, "retryable"))
        || json_is_true(json_object_get(root, "retryable")) != retryable
        || strcmp(json_string_value(json_object_get(root, "requestId")),
                  "req_1") != 0)
    {
        abort();
    }

    json_decref(root);
}


/* The "error" of what came out, once the rest of it was looked at. */
static json_t *
parse(const kg_str_t *out, unsigned status, int retryable)
{
    json_t  *root, *error, *text;

    root = json_loadb((const char *) out->data, out->len, FUZZ_JSON, NULL);

    error = json_object_get(root, "error");
    text = json_object_get(root, "requestId");

    if (json_object_size(root) != 2
        || !is_closed(error, status, 4)
        || (json_object_get(error, "docUrl") && !is_link(error, "docUrl"))
        || !json_is_string(json_object_get(error, "code"))
        || !json_is_string(json_object_get(error, "message"))
        || !json_is_boolean(json_object_get(error, "retryable"))
        || json_is_true(json_object_get(error, "retryable")) != retryable
        || !json_is_string(text)
        || strcmp(json_string_value(text), "req_1") != 0)
    {
        abort();
    }

    json_incref(error);
    json_decref(root);

    return error;
}


/* 1 when a text has too few brackets to be nested too deep. */
static int
shallow(const kg_str_t *text)
{
    size_t  i, n;

    n = 0;

    for (i = 0; i < text->len; i++) {
        n += text->data[i] == '{' || text->data[i] == '[';
    }

    return n <= 64;
}


/* What an envelope says, as it has to come out. */
static void
make_right(json_t *error, unsigned status)
{
    json_t      *details, *member;
    void        *next;
    const char  *name;

    (void) json_object_del(error, "retryable");

    if (!is_link(error, "docUrl")) {
        (void) json_object_del(error, "docUrl");
    }

    details = json_object_get(error, "details");

    if (json_is_null(details)) {
        (void) json_object_del(error, "details");

    } else if (details != NULL && !json_is_object(details)) {
        member = json_object();
        (void) json_object_set(member, "upstream", details);
        (void) json_object_set_new(error, "details", member);
    }

    if (status < 500) {
        return;
    }

    json_object_foreach_safe(error, next, name, member) {
        if (strcmp(name, "code") != 0 && strcmp(name, "message") != 0
            && strcmp(name, "details") != 0 && strcmp(name, "docUrl") != 0)
        {
            (void) json_object_del(error, name);
        }
    }
}


/* An envelope that jansson can read came out with all that is to be kept. */
static void
check_kept(const kg_str_t *body, unsigned status, json_t *shaped)
{
    json_t        *root, *error;
    json_error_t   ignored;

    root = kg_json_load(body, FUZZ_JSON, &ignored);

    if (root != NULL && shallow(body)) {
        error = json_object_get(root, "error");

        make_right(error, status);
        (void) json_object_del(shaped, "retryable");

        /* words that are none are the status's */

        if (json_string_length(json_object_get(error, "message")) == 0) {
            (void) json_object_del(error, "message");
            (void) json_object_del(shaped, "message");
        }

        if (!json_equal(error, shaped)) {
            abort();
        }
    }

    json_decref(root);
}


/* The body as code and message: any bytes come out as JSON. */
static void
write_any(const kg_upstream_error_t *in)
{
    kg_str_t       out;
    kg_envelope_t  envelope;

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = in->body;
    envelope.message = in->body;
    envelope.request_id = in->request_id;

    out.len = kg_envelope_write(&envelope, NULL);
    out.data = malloc(out.len);

    if (out.data == NULL || kg_envelope_write(&envelope, out.data) != out.len)
    {
        abort();
    }

    json_decref(parse(&out, 400, 0));
    free(out.data);
}


/* The body, in memory of exactly its length.  The caller frees. */
static kg_str_t
body_of(const uint8_t *data, size_t size, int envelope)
{
    size_t    before, after;
    kg_str_t  body;

    static const char  head[] = "{\"error\":{\"code\":\"c\",\"message\":\"\",";
    static const char  tail[] = "}}";

    before = envelope ? sizeof(head) - 1 : 0;
    after = envelope ? sizeof(tail) - 1 : 0;

    body.len = before + size + after;
    body.data = malloc(body.len + (body.len == 0));

    if (body.data == NULL) {
        abort();
    }

    memcpy(body.data, head, before);
    memcpy(body.data + before, data, size);
    memcpy(body.data + before + size, tail, after);

    return body;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t              *shaped;
    kg_shaped_t          out;
    kg_upstream_error_t  in;

    static const unsigned  statuses[] = {
        400, 404, 409, 418, 422, 429, 500, 503
    };

    if (size == 0) {
        return 0;
    }

    memset(&in, 0, sizeof(in));
    in.status = statuses[data[0] & FUZZ_STATUS];
    in.gzip = (data[0] & FUZZ_GZIP) != 0;
    in.safe = (data[0] & FUZZ_SAFE) != 0;
    in.whole = 1;
    in.body = body_of(data + 1, size - 1, (data[0] & FUZZ_ENVELOPE) != 0);
    in.request_id = id;

    in.format = (data[0] & FUZZ_PROBLEM) ? KG_FORMAT_PROBLEM
                                         : KG_FORMAT_ENVELOPE;

    if (kg_error_shape(&in, &out) != KG_OK) {
        abort();
    }

    if (in.format == KG_FORMAT_PROBLEM) {
        check_problem(&out.text, in.status, out.retryable);

    } else {
        shaped = parse(&out.text, in.status, out.retryable);

        if ((data[0] & FUZZ_ENVELOPE) && !in.gzip) {
            check_kept(&in.body, in.status, shaped);
        }

        json_decref(shaped);
    }

    free(out.text.data);

    write_any(&in);
    free(in.body.data);

    return 0;
}
