
/*
 * A deployment's catalogue: what it changes, what it adds, and that a mistake
 * in it is named with its line.
 */

#include "kg_test.h"

#include "kg_catalogue.h"


static kg_catalogue_t *
parsed(const char *text)
{
    kg_str_t               s;
    kg_catalogue_t        *catalogue;
    kg_catalogue_fault_t   fault;

    s = kg_text(text);
    catalogue = kg_catalogue_parse(&s, &fault);

    if (catalogue == NULL) {
        fail_msg("line %u: %s", fault.line, fault.text);
    }

    return catalogue;
}


static void
test_without(void **state)
{
    kg_str_t  code;

    (void) state;

    assert_ptr_equal(kg_catalogue_entry(NULL, kg_error_get(KG_ERR_NOT_FOUND)),
                     kg_error_get(KG_ERR_NOT_FOUND));
    assert_ptr_equal(kg_catalogue_of_status(NULL, 404),
                     kg_error_get(KG_ERR_NOT_FOUND));
    assert_ptr_equal(kg_catalogue_of_status(NULL, 420),
                     kg_error_get(KG_ERR_BAD_REQUEST));

    code = kg_text("not_found");
    assert_ptr_equal(kg_catalogue_of_code(NULL, &code),
                     kg_error_get(KG_ERR_NOT_FOUND));

    code = kg_text("load_locked");
    assert_null(kg_catalogue_of_code(NULL, &code));

    kg_catalogue_free(NULL);
}


static void
test_changes(void **state)
{
    kg_str_t           code;
    kg_catalogue_t    *catalogue;
    const kg_error_t  *error;

    (void) state;

    catalogue = parsed("[ {\"code\":\"not_found\",\"message\":\"Nope\"},\n"
                       "{\"code\":\"gone\",\"status\":410,"
                       "\"docUrl\":\"https://d.example/#gone\"} ]");

    error = kg_catalogue_of_status(catalogue, 404);
    kg_assert_text(error->message, "Nope");
    kg_assert_text(error->code, "not_found");
    assert_int_equal(error->status, 404);
    assert_int_equal(error->doc_url.len, 0);

    error = kg_catalogue_entry(catalogue, kg_error_of_status(410));
    kg_assert_text(error->doc_url, "https://d.example/#gone");
    kg_assert_text(error->message, "This resource is no longer available");

    code = kg_text("not_found");
    kg_assert_text(kg_catalogue_of_code(catalogue, &code)->message, "Nope");

    /* The built-in one is as it was. */

    kg_assert_text(kg_error_of_status(404)->message,
               "Nothing was found at this address");
    assert_ptr_not_equal(kg_catalogue_of_status(catalogue, 401),
                         kg_error_of_status(401));
    kg_assert_text(kg_catalogue_of_status(catalogue, 401)->code, "unauthorized");

    kg_catalogue_free(catalogue);
}


static void
test_additions(void **state)
{
    kg_str_t           code;
    kg_catalogue_t    *catalogue;

    (void) state;

    catalogue = parsed("[{\"code\":\"calm_down\",\"status\":420,"
                       "\"message\":\"Too eager\"},"
                       "{\"code\":\"later\",\"status\":420,"
                       "\"message\":\"B\"},"
                       "{\"code\":\"load_locked\",\"status\":409,"
                       "\"message\":\"Locked\",\"docUrl\":\"http://d/x\"}]");

    /* A status of its own gets the first code; a registered one keeps its. */

    kg_assert_text(kg_catalogue_of_status(catalogue, 420)->code, "calm_down");
    kg_assert_text(kg_catalogue_of_status(catalogue, 421)->code,
               "misdirected_request");
    kg_assert_text(kg_catalogue_of_status(catalogue, 409)->code, "conflict");
    kg_assert_text(kg_catalogue_of_status(catalogue, 499)->code, "bad_request");

    code = kg_text("load_locked");
    kg_assert_text(kg_catalogue_of_code(catalogue, &code)->doc_url, "http://d/x");

    kg_catalogue_free(catalogue);
    kg_catalogue_free(parsed("[]"));
}


static void
test_document(void **state)
{
    kg_envelope_t    envelope;
    kg_catalogue_t  *catalogue;

    (void) state;

    catalogue = parsed("[{\"code\":\"gone\",\"docUrl\":\"https://d/gone\"}]");

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = kg_text("gone");
    kg_catalogue_document(catalogue, &envelope);
    kg_assert_text(envelope.doc_url, "https://d/gone");
    kg_assert_text(envelope.title, "This resource is no longer available");

    /* An upstream's own link stays. */

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = kg_text("gone");
    envelope.doc_url = kg_text("https://u/1");
    kg_catalogue_document(catalogue, &envelope);
    kg_assert_text(envelope.doc_url, "https://u/1");

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = kg_text("conflict");
    kg_catalogue_document(catalogue, &envelope);
    assert_int_equal(envelope.doc_url.len, 0);

    kg_catalogue_free(catalogue);
}


static void
test_wrong(void **state)
{
    size_t                i;
    kg_str_t              text;
    kg_catalogue_fault_t  fault;

    static const struct {
        unsigned     line;
        const char  *said;
        const char  *text;
    } cases[] = {
        { 1, "", "" },
        { 2, "", "[\n{\"code\":}]" },
        { 2, "duplicate", "[{\"code\":\"gone\",\n\"code\":\"gone\"}]" },
        { 1, "list of entries", "{\"code\":\"gone\"}" },
        { 2, "an object", "[\n\"gone\"]" },
        { 3, "an object", "[\n{\"code\":\"gone\"},\n[]]" },
        { 3, "\"statsu\" is unknown",
          "[\n{\"code\":\"gone\",\n \"statsu\":410}]" },
        { 2, "has a \"code\"", "[\n{\"status\":410}]" },
        { 2, "has a \"code\"", "[\n{}]" },
        { 1, "a \"code\" is", "[{\"code\":\"\"}]" },
        { 1, "a \"code\" is", "[{\"code\":\"Gone\"}]" },
        { 1, "a \"code\" is", "[{\"code\":7}]" },
        { 1, "a \"code\" is", "[{\"code\":[{}]}]" },
        { 2, "from 400", "[{\"code\":\"x\",\n\"status\":399}]" },
        { 1, "from 400", "[{\"code\":\"x\",\"status\":600}]" },
        { 1, "from 400", "[{\"code\":\"x\",\"status\":\"404\"}]" },
        { 1, "from 400", "[{\"code\":\"x\",\"status\":404.0}]" },
        { 1, "status of \"gone\" is 410",
          "[{\"code\":\"gone\",\"status\":404}]" },
        { 1, "needs a \"status\"", "[{\"code\":\"x\",\"message\":\"M\"}]" },
        { 1, "needs a \"status\"", "[{\"code\":\"x\",\"status\":409}]" },
        { 1, "a \"message\" is", "[{\"code\":\"gone\",\"message\":\"\"}]" },
        { 1, "a \"message\" is", "[{\"code\":\"gone\",\"message\":null}]" },
        { 1, "a \"docUrl\" begins", "[{\"code\":\"gone\",\"docUrl\":\"x\"}]" },
        { 1, "a \"docUrl\" begins",
          "[{\"code\":\"gone\",\"docUrl\":\"https://\"}]" },
        { 1, "a \"docUrl\" begins",
          "[{\"code\":\"gone\",\"docUrl\":\"javascript:alert(1)\"}]" },
        { 1, "a \"docUrl\" begins",
          "[{\"code\":\"gone\",\"docUrl\":\"https://a b\"}]" },
        { 1, "a \"docUrl\" begins",
          "[{\"code\":\"gone\",\"docUrl\":\"https://a\\r\\nX: y\"}]" },
        { 3, "twice",
          "[{\"code\":\"gone\"},\n{\"code\":\"conflict\"},\n"
          "{\"code\":\"gone\"}]" },
        { 2, "twice",
          "[{\"code\":\"x\",\"status\":409,\"message\":\"M\"},\n"
          "{\"code\":\"x\",\"status\":409,\"message\":\"M\"}]" },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        text = kg_text(cases[i].text);
        memset(&fault, 0, sizeof(fault));

        if (kg_catalogue_parse(&text, &fault) != NULL) {
            fail_msg("%s was taken", cases[i].text);
        }

        if (fault.line != cases[i].line
            || strstr(fault.text, cases[i].said) == NULL)
        {
            fail_msg("%s: line %u: %s", cases[i].text, fault.line,
                     fault.text);
        }
    }
}


static void
test_nul(void **state)
{
    kg_str_t              text;
    kg_catalogue_fault_t  fault;

    static const char  bytes[] = "[{\"code\":\"gone\",\n\"status\":410\0,"
                                 "\"message\":\"m\"}]";

    (void) state;

    text.data = malloc(sizeof(bytes) - 1);
    assert_non_null(text.data);
    text.len = sizeof(bytes) - 1;
    memcpy(text.data, bytes, text.len);

    assert_null(kg_catalogue_parse(&text, &fault));
    assert_int_equal(fault.line, 2);

    free(text.data);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_without),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_additions),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_nul)
    };

    return cmocka_run_group_tests_name("catalogue", tests, NULL, NULL);
}
