
/*
 * Errors as problems (RFC 9457): the same things said in its members.
 */

#include "kg_test.h"

#include "kg_catalogue.h"


/* Asserts the problem that an upstream's error becomes. */
static void
assert_problem(unsigned status, const kg_catalogue_t *catalogue,
    const char *body, const char *wanted)
{
    kg_shaped_t          out;
    kg_upstream_error_t  in;

    memset(&in, 0, sizeof(in));
    in.status = status;
    in.format = KG_FORMAT_PROBLEM;
    in.catalogue = catalogue;
    in.body = kg_text(body);
    in.whole = 1;
    in.request_id = kg_text("req_1");

    assert_int_equal(kg_error_shape(&in, &out), KG_OK);

    if (out.text.len != strlen(wanted)
        || memcmp(out.text.data, wanted, out.text.len) != 0)
    {
        fail_msg("%.*s is not %s", (int) out.text.len, out.text.data, wanted);
    }

    free(out.text.data);
}


static void
test_plain(void **state)
{
    (void) state;

    /* about:blank has the status's phrase for a title */

    assert_problem(404, NULL, "<p>",
                   "{\"type\":\"about:blank\",\"title\":\"Not Found\","
                   "\"status\":404,"
                   "\"detail\":\"Nothing was found at this address\","
                   "\"code\":\"not_found\",\"retryable\":false,"
                   "\"requestId\":\"req_1\"}");
    assert_problem(429, NULL, "",
                   "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\","
                   "\"status\":429,\"detail\":\"Rate limit exceeded\","
                   "\"code\":\"rate_limited\",\"retryable\":true,"
                   "\"requestId\":\"req_1\"}");
    assert_problem(599, NULL, "",
                   "{\"type\":\"about:blank\","
                   "\"title\":\"Internal Server Error\",\"status\":599,"
                   "\"detail\":\"Something went wrong on our side\","
                   "\"code\":\"internal_error\",\"retryable\":false,"
                   "\"requestId\":\"req_1\"}");
}


static void
test_envelope(void **state)
{
    (void) state;

    /* what would be taken for a member of a problem is left out */

    assert_problem(409, NULL,
                   "{\"error\":{\"code\":\"locked_load\",\"message\":\"By "
                   "Ann\",\"status\":1,\"type\":2,\"details\":{\"by\":\"A\"},"
                   "\"hint\":[1],\"docUrl\":\"https://u/1\"}}",
                   "{\"type\":\"https://u/1\",\"title\":\"Conflict\","
                   "\"status\":409,\"detail\":\"By Ann\","
                   "\"code\":\"locked_load\",\"retryable\":false,"
                   "\"details\":{\"by\":\"A\"},\"hint\":[1],"
                   "\"requestId\":\"req_1\"}");
}


static void
test_problem(void **state)
{
    (void) state;

    assert_problem(423, NULL,
                   "{\"type\":\"https://u/2\",\"title\":\"Broken\","
                   "\"status\":418,\"detail\":\"It is\",\"code\":\"broken\","
                   "\"retryable\":true,\"instance\":\"/a\",\"requestId\":7}",
                   "{\"type\":\"https://u/2\",\"title\":\"Broken\","
                   "\"status\":423,\"detail\":\"It is\","
                   "\"code\":\"broken\",\"retryable\":false,"
                   "\"instance\":\"/a\",\"requestId\":\"req_1\"}");

    /* of a 5xx nothing that is not known, and not what it happened to */

    assert_problem(500, NULL,
                   "{\"type\":\"https://u/2\",\"title\":\"Broken\","
                   "\"detail\":\"It is\",\"code\":\"broken\","
                   "\"details\":[1],\"stack\":\"a.py\",\"instance\":\"/a\"}",
                   "{\"type\":\"https://u/2\",\"title\":\"Broken\","
                   "\"status\":500,\"detail\":\"It is\","
                   "\"code\":\"broken\",\"retryable\":false,"
                   "\"details\":{\"upstream\":[1]},"
                   "\"requestId\":\"req_1\"}");

    /* links that are none; words that are none */

    assert_problem(409, NULL,
                   "{\"type\":\"x\\ny\",\"title\":\"T\",\"detail\":\"\","
                   "\"code\":\"c\",\"instance\":\"http://a b\",\"more\":1}",
                   "{\"type\":\"about:blank\",\"title\":\"T\","
                   "\"status\":409,\"detail\":\"T\",\"code\":\"c\","
                   "\"retryable\":false,\"more\":1,"
                   "\"requestId\":\"req_1\"}");
    assert_problem(410, NULL,
                   "{\"type\":1,\"title\":\"\",\"code\":\"c\","
                   "\"instance\":{\"a\":1},\"details\":null}",
                   "{\"type\":\"about:blank\",\"title\":\"Gone\","
                   "\"status\":410,\"detail\":\"This resource is no longer "
                   "available\",\"code\":\"c\",\"retryable\":false,"
                   "\"requestId\":\"req_1\"}");

    /* without a code it is another body */

    assert_problem(422, NULL, "{\"title\":\"No\",\"type\":\"about:blank\"}",
                   "{\"type\":\"about:blank\","
                   "\"title\":\"Unprocessable Content\",\"status\":422,"
                   "\"detail\":\"The request is well formed but cannot be "
                   "processed\",\"code\":\"unprocessable_content\","
                   "\"retryable\":false,\"details\":{\"upstream\":"
                   "{\"title\":\"No\",\"type\":\"about:blank\"}},"
                   "\"requestId\":\"req_1\"}");
    assert_problem(500, NULL, "{\"title\":\"Trace\",\"detail\":\"a.py\"}",
                   "{\"type\":\"about:blank\","
                   "\"title\":\"Internal Server Error\",\"status\":500,"
                   "\"detail\":\"Something went wrong on our side\","
                   "\"code\":\"internal_error\",\"retryable\":false,"
                   "\"requestId\":\"req_1\"}");
}


static void
test_documented(void **state)
{
    kg_str_t               text;
    kg_catalogue_t        *catalogue;
    kg_catalogue_fault_t   fault;

    (void) state;

    text = kg_text("[{\"code\":\"gone\",\"message\":\"It is gone\","
                   "\"docUrl\":\"https://d/gone\"}]");
    catalogue = kg_catalogue_parse(&text, &fault);
    assert_non_null(catalogue);

    /* the title is the code's, the detail is this error's */

    assert_problem(410, catalogue,
                   "{\"error\":{\"code\":\"gone\",\"message\":\"Sold\"}}",
                   "{\"type\":\"https://d/gone\",\"title\":\"It is gone\","
                   "\"status\":410,\"detail\":\"Sold\",\"code\":\"gone\","
                   "\"retryable\":false,\"requestId\":\"req_1\"}");

    /* about:blank documents nothing */

    assert_problem(410, catalogue,
                   "{\"type\":\"about:blank\",\"title\":\"Sold\","
                   "\"code\":\"gone\"}",
                   "{\"type\":\"https://d/gone\",\"title\":\"Sold\","
                   "\"status\":410,\"detail\":\"Sold\",\"code\":\"gone\","
                   "\"retryable\":false,\"requestId\":\"req_1\"}");

    kg_catalogue_free(catalogue);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_documented)
    };

    return cmocka_run_group_tests_name("problem", tests, NULL, NULL);
}
