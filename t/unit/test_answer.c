
/*
 * The stored answer: what is encoded comes back, damaged bytes do not, and
 * only the headers a replay may repeat are kept.
 */

#include "kg_test.h"

#include "kg_answer.h"


static unsigned char *
encode(const kg_answer_t *answer, size_t *size)
{
    unsigned char  *buf;

    *size = kg_answer_size(answer);
    buf = malloc(*size);

    assert_non_null(buf);
    assert_ptr_equal(kg_answer_encode(answer, buf), buf + *size);

    return buf;
}


static void
sample(kg_answer_t *answer)
{
    memset(answer, 0, sizeof(kg_answer_t));

    answer->status = 201;
    answer->nheaders = 3;
    answer->headers[0].name = kg_text("Content-Type");
    answer->headers[0].value = kg_text("application/json");
    answer->headers[1].name = kg_text("Location");
    answer->headers[1].value = kg_text("/v1/loads/L-1");
    answer->headers[2].name = kg_text("ETag");
    answer->headers[2].value = kg_text("");
    answer->body = kg_text("{\"id\":\"L-1\",\"requestId\":\"req_1\"}");
}


static void
assert_same(const kg_answer_t *a, const kg_answer_t *b)
{
    size_t  i;

    assert_int_equal(a->status, b->status);
    assert_int_equal(a->nheaders, b->nheaders);

    for (i = 0; i < a->nheaders; i++) {
        assert_true(kg_str_eq(&a->headers[i].name, &b->headers[i].name));
        assert_true(kg_str_eq(&a->headers[i].value, &b->headers[i].value));
    }

    assert_true(kg_str_eq(&a->body, &b->body));
}


static void
test_round_trip(void **state)
{
    size_t        i;
    kg_str_t      bytes;
    kg_answer_t   answer, decoded;

    static const unsigned  statuses[] = { 100, 200, 255, 256, 422, 599 };

    (void) state;

    for (i = 0; i < kg_count(statuses); i++) {
        sample(&answer);
        answer.status = statuses[i];

        bytes.data = encode(&answer, &bytes.len);
        assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_OK);
        assert_same(&answer, &decoded);
        free(bytes.data);
    }

    memset(&answer, 0, sizeof(answer));
    answer.status = 204;

    bytes.data = encode(&answer, &bytes.len);
    memset(&decoded, 0xff, sizeof(decoded));
    assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_OK);
    assert_same(&answer, &decoded);
    free(bytes.data);
}


/* Bodies and values of every length where one more byte of length begins. */
static void
test_lengths(void **state)
{
    char         *text;
    size_t        i;
    kg_str_t      bytes;
    kg_answer_t   answer, decoded;

    static const size_t  lengths[] = {
        0, 1, 126, 127, 128, 129, 16383, 16384, 16385, 2097151, 2097152
    };

    (void) state;

    text = malloc(2097152);
    assert_non_null(text);

    for (i = 0; i < 2097152; i++) {
        text[i] = (char) (i * 7);
    }

    for (i = 0; i < kg_count(lengths); i++) {
        sample(&answer);
        answer.body.data = (unsigned char *) text;
        answer.body.len = lengths[i];
        answer.headers[0].value = answer.body;

        bytes.data = encode(&answer, &bytes.len);
        assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_OK);
        assert_same(&answer, &decoded);
        free(bytes.data);
    }

    free(text);
}


static void
test_headers_max(void **state)
{
    size_t        i;
    kg_str_t      bytes;
    kg_answer_t   answer, decoded;

    (void) state;

    sample(&answer);
    answer.nheaders = KG_ANSWER_HEADERS_MAX;

    for (i = 0; i < KG_ANSWER_HEADERS_MAX; i++) {
        answer.headers[i].name = kg_text("Link");
        answer.headers[i].value = kg_text("<a>; rel=b");
    }

    bytes.data = encode(&answer, &bytes.len);
    assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_OK);
    assert_same(&answer, &decoded);

    /* one more than there is room for, as an attacker would write it */

    bytes.data[3]++;
    assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_INVALID);

    free(bytes.data);
}


/* Cut at every byte, and one byte too long. */
static void
test_cut(void **state)
{
    size_t          size;
    kg_str_t        bytes;
    kg_answer_t     answer, decoded;
    unsigned char  *whole;

    (void) state;

    sample(&answer);
    whole = encode(&answer, &size);

    for (bytes.len = 0; bytes.len < size; bytes.len++) {
        bytes.data = malloc(bytes.len + (bytes.len == 0));
        assert_non_null(bytes.data);
        memcpy(bytes.data, whole, bytes.len);

        assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_INVALID);
        free(bytes.data);
    }

    bytes.len = size + 1;
    bytes.data = calloc(1, bytes.len);
    assert_non_null(bytes.data);
    memcpy(bytes.data, whole, size);

    assert_int_equal(kg_answer_decode(&bytes, &decoded), KG_INVALID);

    free(bytes.data);
    free(whole);
}


static void
test_damaged(void **state)
{
    size_t       i;
    kg_str_t     bytes;
    kg_answer_t  decoded;

    /* version, status, number of headers, parts */

    static const struct {
        const char  *bytes;
        size_t       len;
        kg_rc_t      rc;
    } cases[] = {
        { "\x01\x00\xc8\x00\x00", 5, KG_OK },
        { "\x01\x00\x64\x00\x00", 5, KG_OK },
        { "\x01\x02\x57\x00\x00", 5, KG_OK },
        { "\x01\x00\xc8\x00\x01z", 6, KG_OK },
        { "\x00\x00\xc8\x00\x00", 5, KG_INVALID },
        { "\x02\x00\xc8\x00\x00", 5, KG_INVALID },
        { "\x01\x00\x63\x00\x00", 5, KG_INVALID },
        { "\x01\x02\x58\x00\x00", 5, KG_INVALID },
        { "\x01\xff\xff\x00\x00", 5, KG_INVALID },
        { "\x01\x00\xc8\x01\x00", 5, KG_INVALID },
        { "\x01\x00\xc8\xff\x00", 5, KG_INVALID },
        { "\x01\x00\xc8\x00\x02z", 6, KG_INVALID },
        { "\x01\x00\xc8\x00\x80\x00", 6, KG_INVALID },
        { "\x01\x00\xc8\x00\x81\x00z", 7, KG_INVALID },
        { "\x01\x00\xc8\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 14,
          KG_INVALID },
        { "\x01\x00\xc8\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03", 14,
          KG_INVALID },
        { "\x01\x00\xc8\x00\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 14,
          KG_INVALID },
        { "\x01\x00\xc8\x00\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02z", 15,
          KG_INVALID },
        { "\x01\x00\xc8\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
          15, KG_INVALID }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        bytes.len = cases[i].len;
        bytes.data = malloc(bytes.len);
        assert_non_null(bytes.data);
        memcpy(bytes.data, cases[i].bytes, bytes.len);

        if (kg_answer_decode(&bytes, &decoded) != cases[i].rc) {
            fail_msg("case %zu is not answered with %d", i, cases[i].rc);
        }

        free(bytes.data);
    }
}


static void
test_keeps(void **state)
{
    size_t    i;
    kg_str_t  name;

    static const char  *kept[] = {
        "Content-Type", "Content-Encoding", "Content-Language",
        "Content-Disposition", "Content-Location", "Location", "Link", "ETag",
        "Last-Modified", "Cache-Control", "Deprecation", "Sunset",
        "Retry-After", "Allow", "etag", "LOCATION", "content-TYPE"
    };

    static const char  *dropped[] = {
        "Set-Cookie", "Date", "X-Request-Id", "Original-Request-Id",
        "Idempotent-Replayed", "RateLimit", "RateLimit-Policy",
        "X-RateLimit-Remaining", "Server", "Connection", "Content-Length",
        "Transfer-Encoding", "WWW-Authenticate", "", "Lin", "Links", "ETag ",
        "Locatio-"
    };

    (void) state;

    for (i = 0; i < kg_count(kept); i++) {
        name = kg_exact(kept[i]);

        if (!kg_answer_keeps(&name)) {
            fail_msg("%s is not kept", kept[i]);
        }

        free(name.data);
    }

    for (i = 0; i < kg_count(dropped); i++) {
        name = kg_exact(dropped[i]);

        if (kg_answer_keeps(&name)) {
            fail_msg("%s is kept", dropped[i]);
        }

        free(name.data);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_headers_max),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_keeps)
    };

    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
