
/*
 * Upstream errors: an envelope is kept, anything else becomes its status's
 * code, and nothing of a 5xx, of a damaged body or of a bomb gets through.
 */

#include "kg_test.h"

#include <zlib.h>

#include "kg_error.h"


/* gzip at the best level, so that a bomb is one.  The caller frees. */
static kg_str_t
gzip(const unsigned char *data, size_t len)
{
    kg_str_t  out;
    z_stream  z;

    memset(&z, 0, sizeof(z));
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 9,
                                  Z_DEFAULT_STRATEGY),
                     Z_OK);

    out.len = deflateBound(&z, len);
    out.data = malloc(out.len);
    assert_non_null(out.data);

    z.next_in = (unsigned char *) data;
    z.avail_in = (uInt) len;
    z.next_out = out.data;
    z.avail_out = (uInt) out.len;

    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.len = z.total_out;
    deflateEnd(&z);

    return out;
}


/* Shapes a body of which every byte has its own bounds.  The caller frees. */
static kg_str_t
shape(unsigned status, const void *body, size_t len, int zip, int safe,
    int *retryable)
{
    kg_shaped_t          out;
    kg_upstream_error_t  in;

    memset(&in, 0, sizeof(in));
    in.status = status;
    in.format = KG_FORMAT_ENVELOPE;
    in.body.data = malloc(len + (len == 0));
    assert_non_null(in.body.data);
    memcpy(in.body.data, body, len);
    in.body.len = len;
    in.whole = 1;
    in.gzip = zip;
    in.safe = safe;
    in.request_id = kg_text("req_1");

    assert_int_equal(kg_error_shape(&in, &out), KG_OK);
    *retryable = out.retryable;

    free(in.body.data);

    return out.text;
}


/*
 * Asserts the shaped error, of which `error` is what stands between
 * {"error": and ,"requestId":"req_1"}.
 */
static void
assert_error(const kg_str_t *out, const char *error)
{
    char    *text;
    size_t   len;

    len = strlen(error) + 40;
    text = malloc(len);
    assert_non_null(text);

    snprintf(text, len, "{\"error\":%s,\"requestId\":\"req_1\"}", error);

    if (out->len != strlen(text) || memcmp(out->data, text, out->len) != 0) {
        fail_msg("%.*s is not %s", (int) out->len, out->data, text);
    }

    free(text);
}


#define plain_400                                                             \
    "{\"code\":\"bad_request\",\"message\":\"The request is not valid\","      \
    "\"retryable\":false}"


static void
test_shapes(void **state)
{
    int       retryable;
    size_t    i;
    kg_str_t  out, zipped;

    static const struct {
        unsigned     status;
        int          safe;
        int          retryable;
        const char  *body;
        const char  *error;
    } cases[] = {

        /* envelopes */

        { 404, 0, 0,
          "{\"error\":{\"code\":\"load_gone\",\"message\":\"No\"}}",
          "{\"code\":\"load_gone\",\"message\":\"No\",\"retryable\":false}" },
        { 409, 0, 1,
          "{\"requestId\":\"theirs\",\"error\":{\"message\":\"Wait\","
          "\"code\":\"idempotency_in_progress\",\"retryable\":false}}",
          "{\"code\":\"idempotency_in_progress\",\"message\":\"Wait\","
          "\"retryable\":true}" },
        { 409, 1, 0,
          "{\"error\":{\"code\":\"conflict\",\"message\":\"C\","
          "\"retryable\":true}}",
          "{\"code\":\"conflict\",\"message\":\"C\",\"retryable\":false}" },
        { 503, 1, 1,
          "{\"error\":{\"code\":\"busy\",\"message\":\"M\"},\"x\":\"y\"}",
          "{\"code\":\"busy\",\"message\":\"M\",\"retryable\":true}" },
        { 503, 0, 0, "{\"error\":{\"code\":\"busy\",\"message\":\"M\"}}",
          "{\"code\":\"busy\",\"message\":\"M\",\"retryable\":false}" },
        { 422, 0, 0,
          "{\"error\":{\"details\":{\"n\":0.1,\"big\":18446744073709551616,"
          "\"s\":\"}]\\\"\"},\"code\":\"c\",\"message\":\"M\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{\"n\":0.1,\"big\":18446744073709551616,"
          "\"s\":\"}]\\\"\"}}" },
        { 400, 0, 0,
          " {\n\"a\" : [ 1, {\"error\":{}} ] ,\t\"error\" : { \"docUrl\" : "
          "\"u\" , \"code\" : \"c\", \"x\" : [ {} , \"]\" ] ,\n"
          "\"message\" : \"\\u00e9\\n\\\"\" , \"details\" : null , "
          "\"y\" :-1e5 } , \"b\" : 1 } ",
          "{\"code\":\"c\",\"message\":\"\xc3\xa9\\n\\\"\","
          "\"retryable\":false,"
          "\"x\" : [ {} , \"]\" ],\"y\" :-1e5}" },
        { 400, 0, 0,
          "{\"error\":{\"c\\u006fde\":\"c\",\"m\\u0065ssage\":\"M\","
          "\"d\\u0065tails\":{},\"retr\\u0079able\":1}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{}}" },
        { 500, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"a\\u0000b\"}}",
          "{\"code\":\"c\",\"message\":\"a\\u0000b\",\"retryable\":false}" },

        /* details are an object, or in one */

        { 409, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"a\":1,"
          "\"details\":[1e5, {}],\"b\":2}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{\"upstream\":[1e5, {}]},\"a\":1,\"b\":2}" },
        { 500, 0, 0,
          "{\"error\":{\"details\":\"d\",\"code\":\"c\",\"message\":\"M\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{\"upstream\":\"d\"}}" },
        { 400, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"details\":false}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{\"upstream\":false}}" },
        { 400, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"details\":null}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false}" },

        /* a 5xx has only what is known of an error */

        { 500, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"stack\":\"a.py\","
          "\"details\":{\"a\":1},\"host\":\"db-1\",\"docUrl\":\"http://d\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"details\":{\"a\":1},\"docUrl\":\"http://d\"}" },
        { 499, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"hint\":\"h\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false,"
          "\"hint\":\"h\"}" },

        /* a link is one, or is left out */

        { 404, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\","
          "\"docUrl\":\"javascript:alert(1)\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false}" },
        { 404, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\",\"docUrl\":[\"u\"]}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false}" },

        /* behind a byte order mark */

        { 409, 0, 0,
          "\xef\xbb\xbf{\"error\":{\"code\":\"c\",\"message\":\"M\"}}",
          "{\"code\":\"c\",\"message\":\"M\",\"retryable\":false}" },
        { 400, 0, 0, "\xef\xbb\xbf{\"a\":1}",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false,\"details\":{\"upstream\":{\"a\":1}}}" },
        { 400, 0, 0, "\xef\xbb\xbf", plain_400 },
        { 400, 0, 0, "\xef\xbb\xbf\xef\xbb\xbf{}", plain_400 },

        /* numbers that clients could not read in our answer either */

        { 400, 0, 0,
          "{\"error\":{\"code\":\"c\",\"message\":\"M\","
          "\"details\":{\"a\":1e999}}}", plain_400 },
        { 400, 0, 0, "[-1e999]", plain_400 },

        /* not quite */

        { 404, 0, 0, "{\"error\":{\"code\":\"Load-Gone\",\"message\":\"\"}}",
          "{\"code\":\"not_found\","
          "\"message\":\"Nothing was found at this address\","
          "\"retryable\":false}" },
        { 429, 0, 1, "{\"error\":{\"code\":\"\",\"message\":\"M\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":{\"code\":\"a\\u0000\",\"message\":\"M\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":{\"code\":1,\"message\":\"M\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":{\"code\":\"c\",\"message\":null}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":{\"code\":\"c\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":[]}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "[{\"error\":{\"code\":\"c\",\"message\":\"M\"}}]",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1,
          "{\"error\":{\"code\":\"c\",\"code\":\"d\",\"message\":\"M\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1,
          "{\"error\":{\"code\":\"c\",\"c\\u006fde\":\"d\","
          "\"message\":\"M\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },
        { 429, 0, 1, "{\"error\":{\"code\":\"c\",\"message\":\"\xff\"}}",
          "{\"code\":\"rate_limited\",\"message\":\"Rate limit exceeded\","
          "\"retryable\":true}" },

        /* another error's body is kept of 400, 409 and 422 alone */

        { 422, 0, 0, "{\"field\":\"weight\",\"n\":0.1}",
          "{\"code\":\"unprocessable_content\",\"message\":\"The request is "
          "well formed but cannot be processed\",\"retryable\":false,"
          "\"details\":{\"upstream\":{\"field\":\"weight\",\"n\":0.1}}}" },
        { 400, 0, 0, "{\"error\":{\"code\":\"A\",\"message\":\"M\"}}",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false,\"details\":{\"upstream\":"
          "{\"error\":{\"code\":\"A\",\"message\":\"M\"}}}}" },
        { 409, 1, 0, "[\"taken\"]",
          "{\"code\":\"conflict\",\"message\":\"The request conflicts with "
          "the current state\",\"retryable\":false,"
          "\"details\":{\"upstream\":[\"taken\"]}}" },
        { 400, 0, 0, "<html>400</html>",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 400, 0, 0, "{\"a\":1,\"a\":2}",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 400, 0, 0, "{\"a\":\"\xc3\"}",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 400, 0, 0, "{\"a\":1} x",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 400, 0, 0, "",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 423, 0, 0, "{\"a\":1}",
          "{\"code\":\"locked\",\"message\":\"The resource is locked\","
          "\"retryable\":false}" },
        { 500, 1, 0, "{\"trace\":\"at line 1\"}",
          "{\"code\":\"internal_error\",\"message\":\"Something went wrong "
          "on our side\",\"retryable\":false}" },
        { 502, 1, 1, "<html><h1>502</h1>server-7</html>",
          "{\"code\":\"bad_gateway\",\"message\":\"The service gave no "
          "usable answer\",\"retryable\":true}" },
        { 502, 0, 0, "<html><h1>502</h1>server-7</html>",
          "{\"code\":\"bad_gateway\",\"message\":\"The service gave no "
          "usable answer\",\"retryable\":false}" },

        /* statuses nobody registered */

        { 418, 1, 0, "{\"a\":1}",
          "{\"code\":\"bad_request\",\"message\":\"The request is not "
          "valid\",\"retryable\":false}" },
        { 599, 1, 0, "{\"a\":1}",
          "{\"code\":\"internal_error\",\"message\":\"Something went wrong "
          "on our side\",\"retryable\":false}" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        out = shape(cases[i].status, cases[i].body, strlen(cases[i].body), 0,
                    cases[i].safe, &retryable);
        assert_error(&out, cases[i].error);
        assert_int_equal(retryable, cases[i].retryable);
        free(out.data);

        zipped = gzip((const unsigned char *) cases[i].body,
                      strlen(cases[i].body));
        out = shape(cases[i].status, zipped.data, zipped.len, 1,
                    cases[i].safe, &retryable);
        assert_error(&out, cases[i].error);
        assert_int_equal(retryable, cases[i].retryable);
        free(out.data);
        free(zipped.data);
    }
}


/* A JSON string of this many bytes, quotes included.  The caller frees. */
static unsigned char *
long_json(size_t len)
{
    unsigned char  *text;

    text = malloc(len);
    assert_non_null(text);

    memset(text, 'a', len);
    text[0] = text[len - 1] = '"';

    return text;
}


static void
test_detail_bound(void **state)
{
    int             retryable;
    kg_str_t        out;
    unsigned char  *body;

    (void) state;

    body = long_json(KG_ERROR_DETAIL_MAX + 1);

    out = shape(400, body, KG_ERROR_DETAIL_MAX + 1, 0, 0, &retryable);
    assert_error(&out, plain_400);
    free(out.data);

    body[KG_ERROR_DETAIL_MAX - 1] = '"';

    out = shape(400, body, KG_ERROR_DETAIL_MAX, 0, 0, &retryable);
    assert_in_range(out.len, KG_ERROR_DETAIL_MAX, KG_ERROR_DETAIL_MAX + 200);
    free(out.data);
    free(body);
}


/* An envelope of a body's length, of which the message is the padding. */
static unsigned char *
long_envelope(size_t len)
{
    unsigned char  *text;

    static const char  before[] = "{\"error\":{\"code\":\"c\",\"message\":\"";

    text = malloc(len);
    assert_non_null(text);

    memset(text, 'a', len);
    memcpy(text, before, sizeof(before) - 1);
    memcpy(text + len - 3, "\"}}", 3);

    return text;
}


static void
test_body_bound(void **state)
{
    int             retryable, zip;
    kg_str_t        out, zipped;
    unsigned char  *body;

    (void) state;

    for (zip = 0; zip < 2; zip++) {
        body = long_envelope(KG_ERROR_BODY_MAX);
        zipped = gzip(body, KG_ERROR_BODY_MAX);

        out = zip ? shape(400, zipped.data, zipped.len, 1, 0, &retryable)
                  : shape(400, body, KG_ERROR_BODY_MAX, 0, 0, &retryable);
        assert_in_range(out.len, KG_ERROR_BODY_MAX, KG_ERROR_BODY_MAX + 200);

        free(out.data);
        free(zipped.data);
        free(body);

        body = long_envelope(KG_ERROR_BODY_MAX + 1);
        zipped = gzip(body, KG_ERROR_BODY_MAX + 1);

        out = zip ? shape(400, zipped.data, zipped.len, 1, 0, &retryable)
                  : shape(400, body, KG_ERROR_BODY_MAX + 1, 0, 0,
                          &retryable);
        assert_error(&out, plain_400);

        free(out.data);
        free(zipped.data);
        free(body);
    }
}


/* An envelope of 32 MiB in 32 KiB, which would be kept were it inflated. */
static void
test_bomb(void **state)
{
    int             retryable;
    kg_str_t        out, bomb;
    unsigned char  *body;

    (void) state;

    body = long_envelope(32 << 20);
    bomb = gzip(body, 32 << 20);
    assert_in_range(bomb.len, 1, KG_ERROR_BODY_MAX);

    out = shape(400, bomb.data, bomb.len, 1, 0, &retryable);
    assert_error(&out, plain_400);

    free(out.data);
    free(bomb.data);
    free(body);
}


static void
test_gzip_damaged(void **state)
{
    int             retryable;
    size_t          i;
    kg_str_t        out, zipped;
    unsigned char  *two;

    static const char  body[] =
        "{\"error\":{\"code\":\"c\",\"message\":\"m\"}}";
    static const char  kept[] =
        "{\"code\":\"c\",\"message\":\"m\",\"retryable\":false}";

    (void) state;

    zipped = gzip((const unsigned char *) body, sizeof(body) - 1);

    for (i = 0; i < zipped.len; i++) {
        out = shape(400, zipped.data, i, 1, 0, &retryable);
        assert_error(&out, plain_400);
        free(out.data);
    }

    /* the checksum is the last thing that can be wrong */

    zipped.data[zipped.len - 8] ^= 1;
    out = shape(400, zipped.data, zipped.len, 1, 0, &retryable);
    assert_error(&out, plain_400);
    free(out.data);
    zipped.data[zipped.len - 8] ^= 1;

    /* not gzip at all, though it says so */

    out = shape(400, body, sizeof(body) - 1, 1, 0, &retryable);
    assert_error(&out, plain_400);
    free(out.data);

    /* bytes behind it */

    two = malloc(zipped.len + 1);
    assert_non_null(two);
    memcpy(two, zipped.data, zipped.len);
    two[zipped.len] = 'x';

    out = shape(400, two, zipped.len + 1, 1, 0, &retryable);
    assert_error(&out, plain_400);
    free(out.data);
    free(two);
    free(zipped.data);

    /* two members are one body: RFC 1952, 2.2 */

    zipped = gzip((const unsigned char *) body, 10);
    two = malloc(2 * sizeof(body) + 100);
    assert_non_null(two);
    memcpy(two, zipped.data, zipped.len);
    i = zipped.len;
    free(zipped.data);

    zipped = gzip((const unsigned char *) body + 10, sizeof(body) - 11);
    memcpy(two + i, zipped.data, zipped.len);

    out = shape(400, two, i + zipped.len, 1, 0, &retryable);
    assert_error(&out, kept);
    free(out.data);
    free(two);
    free(zipped.data);
}


/* Nesting is bounded, and what is deeper is another error without details. */
static void
test_depth(void **state)
{
    char      text[4096];
    size_t    i, depth, len;
    int       retryable;
    kg_str_t  out;

    static const struct {
        size_t  depth;
        int     kept;
    } cases[] = {
        { 1, 1 }, { 64, 1 }, { 65, 0 }, { 2000, 0 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        depth = cases[i].depth;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        len = 2 * depth;

        out = shape(400, text, len, 0, 0, &retryable);

        if (cases[i].kept) {
            assert_in_range(out.len, strlen(plain_400) + len, 4096);

        } else {
            assert_error(&out, plain_400);
        }

        free(out.data);
    }

    /* brackets in a string, behind an escaped quote, are no nesting */

    strcpy(text, "{\"error\":{\"code\":\"c\",\"message\":\"\\\"");
    len = strlen(text);
    memset(text + len, '[', 200);
    memcpy(text + len + 200, "\"}}", 3);

    out = shape(400, text, len + 203, 0, 0, &retryable);
    assert_memory_equal(out.data, "{\"error\":{\"code\":\"c\",", 21);
    free(out.data);
}


/* jansson passes over a NUL behind a number, which would end a walk. */
static void
test_nul(void **state)
{
    size_t    i;
    int       retryable;
    kg_str_t  out;

    static const char  *const  values[] = { "1", "1.5", "true", "null", "{}" };

    char  text[100];

    (void) state;

    for (i = 0; i < kg_count(values); i++) {
        (void) snprintf(text, sizeof(text),
                        "{\"error\":{\"code\":\"c\",\"message\":\"M\","
                        "\"a\":%s#,\"b\":2}}", values[i]);
        *strchr(text, '#') = '\0';

        out = shape(400, text, strlen(text) + 1 + strlen(",\"b\":2}}"), 0, 0,
                    &retryable);
        assert_error(&out, plain_400);
        free(out.data);
    }
}


static void
test_not_whole(void **state)
{
    kg_shaped_t          out;
    kg_upstream_error_t  in;

    (void) state;

    memset(&in, 0, sizeof(in));
    in.status = 400;
    in.format = KG_FORMAT_ENVELOPE;
    in.body = kg_text("{\"error\":{\"code\":\"c\",\"message\":\"M\"}}");
    in.whole = 0;
    in.request_id = kg_text("req_1");

    assert_int_equal(kg_error_shape(&in, &out), KG_OK);
    assert_error(&out.text, plain_400);
    assert_int_equal(out.own, 0);
    assert_int_equal(out.code_len, strlen("bad_request"));
    assert_memory_equal(out.code, "bad_request", out.code_len);
    free(out.text.data);

    in.whole = 1;

    assert_int_equal(kg_error_shape(&in, &out), KG_OK);
    assert_int_equal(out.own, 1);
    free(out.text.data);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_detail_bound),
        cmocka_unit_test(test_body_bound),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_gzip_damaged),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_not_whole)
    };

    return cmocka_run_group_tests_name("error shape", tests, NULL, NULL);
}
