
/*
 * The error catalogue: the contract's codes and their statuses, one code for
 * every registered status, what is retryable; and the envelope's bytes.
 */

#include "kg_test.h"

#include <jansson.h>

#include "kg_error.h"


static void
test_documented_codes(void **state)
{
    size_t             i;
    const kg_error_t  *error;

    static const struct {
        kg_error_code_t  code;
        const char      *text;
        unsigned         status;
    } cases[] = {
        { KG_ERR_BAD_REQUEST, "bad_request", 400 },
        { KG_ERR_MISSING_IDEMPOTENCY_KEY, "missing_idempotency_key", 400 },
        { KG_ERR_INVALID_IDEMPOTENCY_KEY, "invalid_idempotency_key", 400 },
        { KG_ERR_UNAUTHORIZED, "unauthorized", 401 },
        { KG_ERR_FORBIDDEN, "forbidden", 403 },
        { KG_ERR_PARTNER_ACCESS_NOT_ENABLED, "partner_access_not_enabled",
          403 },
        { KG_ERR_LIVE_ACCESS_NOT_ENABLED, "live_access_not_enabled", 403 },
        { KG_ERR_PARTNER_ACCESS_DISABLED, "partner_access_disabled", 403 },
        { KG_ERR_NOT_FOUND, "not_found", 404 },
        { KG_ERR_METHOD_NOT_ALLOWED, "method_not_allowed", 405 },
        { KG_ERR_IDEMPOTENCY_CONFLICT, "idempotency_conflict", 409 },
        { KG_ERR_IDEMPOTENCY_IN_PROGRESS, "idempotency_in_progress", 409 },
        { KG_ERR_IDEMPOTENCY_OUTCOME_UNKNOWN, "idempotency_outcome_unknown",
          409 },
        { KG_ERR_IDEMPOTENCY_REPLAY_UNAVAILABLE,
          "idempotency_replay_unavailable", 409 },
        { KG_ERR_CONFLICT, "conflict", 409 },
        { KG_ERR_RATE_LIMITED, "rate_limited", 429 },
        { KG_ERR_TOO_MANY_FAILURES, "too_many_failures", 429 },
        { KG_ERR_INTERNAL_ERROR, "internal_error", 500 },
        { KG_ERR_BAD_GATEWAY, "bad_gateway", 502 },
        { KG_ERR_SERVICE_UNAVAILABLE, "service_unavailable", 503 },
        { KG_ERR_GATEWAY_TIMEOUT, "gateway_timeout", 504 }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        error = kg_error_get(cases[i].code);

        kg_assert_text(error->code, cases[i].text);
        assert_int_equal(error->status, cases[i].status);
    }

    kg_assert_text(kg_error_get(KG_ERR_RATE_LIMITED)->message,
                   "Rate limit exceeded");
}


/* What holds of every entry, so that adding one needs no test of its own. */
static void
test_entries(void **state)
{
    size_t             i, j, k;
    const kg_error_t  *error;

    (void) state;

    for (i = 0; i < KG_ERR_N; i++) {
        error = kg_error_get((kg_error_code_t) i);

        assert_in_range(error->status, 400, 599);
        assert_in_range(error->code.len, 1, 64);
        assert_in_range(error->message.len, 1, 120);
        assert_int_not_equal(error->message.data[error->message.len - 1],
                             '.');

        for (j = 0; j < error->code.len; j++) {
            k = error->code.data[j];
            assert_true((k >= 'a' && k <= 'z') || (k >= '0' && k <= '9')
                        || k == '_');
        }

        for (j = 0; j < i; j++) {
            assert_false(kg_str_eq(&kg_error_get((kg_error_code_t) j)->code,
                                   &error->code));
        }
    }
}


/* IANA's "HTTP Status Code Registry"; 418 is registered as unused. */
static void
test_of_status(void **state)
{
    size_t             i;
    unsigned           status;
    const char        *code;
    const kg_error_t  *error;

    static const struct {
        unsigned     status;
        const char  *code;
    } registry[] = {
        { 400, "bad_request" },
        { 401, "unauthorized" },
        { 402, "payment_required" },
        { 403, "forbidden" },
        { 404, "not_found" },
        { 405, "method_not_allowed" },
        { 406, "not_acceptable" },
        { 407, "proxy_authentication_required" },
        { 408, "request_timeout" },
        { 409, "conflict" },
        { 410, "gone" },
        { 411, "length_required" },
        { 412, "precondition_failed" },
        { 413, "content_too_large" },
        { 414, "uri_too_long" },
        { 415, "unsupported_media_type" },
        { 416, "range_not_satisfiable" },
        { 417, "expectation_failed" },
        { 421, "misdirected_request" },
        { 422, "unprocessable_content" },
        { 423, "locked" },
        { 424, "failed_dependency" },
        { 425, "too_early" },
        { 426, "upgrade_required" },
        { 428, "precondition_required" },
        { 429, "rate_limited" },
        { 431, "request_header_fields_too_large" },
        { 451, "unavailable_for_legal_reasons" },
        { 500, "internal_error" },
        { 501, "not_implemented" },
        { 502, "bad_gateway" },
        { 503, "service_unavailable" },
        { 504, "gateway_timeout" },
        { 505, "http_version_not_supported" },
        { 506, "variant_also_negotiates" },
        { 507, "insufficient_storage" },
        { 508, "loop_detected" },
        { 510, "not_extended" },
        { 511, "network_authentication_required" }
    };

    (void) state;

    for (status = 400; status < 1000; status++) {
        code = status < 500 ? "bad_request" : "internal_error";

        for (i = 0; i < kg_count(registry); i++) {
            if (registry[i].status == status) {
                code = registry[i].code;
            }
        }

        error = kg_error_of_status(status);

        if (error->code.len != strlen(code)
            || memcmp(error->code.data, code, error->code.len) != 0)
        {
            fail_msg("%u is %.*s, not %s", status, (int) error->code.len,
                     error->code.data, code);
        }
    }
}


static void
test_retryable(void **state)
{
    int       retryable;
    size_t    i;
    unsigned  status;
    kg_str_t  code;

    static const unsigned  always[] = { 425, 429 };
    static const unsigned  safe[] = { 502, 503, 504 };

    (void) state;

    for (status = 400; status <= 599; status++) {
        code = kg_error_of_status(status)->code;
        retryable = 0;

        for (i = 0; i < kg_count(always); i++) {
            retryable |= status == always[i];
        }

        assert_int_equal(kg_error_retryable(status, &code, 0), retryable);

        for (i = 0; i < kg_count(safe); i++) {
            retryable |= status == safe[i];
        }

        assert_int_equal(kg_error_retryable(status, &code, 1), retryable);
    }

    code = kg_text("idempotency_in_progress");
    assert_int_equal(kg_error_retryable(409, &code, 0), 1);

    code = kg_text("idempotency_in_progres");
    assert_int_equal(kg_error_retryable(409, &code, 1), 0);

    code = kg_text("idempotency_outcome_unknown");
    assert_int_equal(kg_error_retryable(409, &code, 1), 0);

    code = kg_text("too_many_failures");
    assert_int_equal(kg_error_retryable(429, &code, 0), 1);
}


/* Writes into exactly as many bytes as it says.  The caller frees. */
static kg_str_t
written(const kg_envelope_t *envelope)
{
    kg_str_t  text;

    text.len = kg_envelope_write(envelope, NULL);
    text.data = malloc(text.len);

    assert_non_null(text.data);
    assert_int_equal(kg_envelope_write(envelope, text.data), text.len);

    return text;
}


static void
test_envelope(void **state)
{
    kg_str_t       text;
    kg_envelope_t  envelope;

    (void) state;

    memset(&envelope, 0, sizeof(envelope));
    envelope.code = kg_text("rate_limited");
    envelope.message = kg_text("Rate limit exceeded");
    envelope.request_id = kg_text("req_1");

    text = written(&envelope);
    kg_assert_text(text,
                   "{\"error\":{\"code\":\"rate_limited\","
                   "\"message\":\"Rate limit exceeded\","
                   "\"retryable\":false},\"requestId\":\"req_1\"}");
    free(text.data);

    envelope.retryable = 1;
    envelope.details = kg_text("{\"policy\":\"default\"}");

    text = written(&envelope);
    kg_assert_text(text,
                   "{\"error\":{\"code\":\"rate_limited\","
                   "\"message\":\"Rate limit exceeded\","
                   "\"retryable\":true,"
                   "\"details\":{\"policy\":\"default\"}},"
                   "\"requestId\":\"req_1\"}");
    free(text.data);

    envelope.doc_url = kg_text("https://docs.example/\"x\"");
    envelope.members = kg_text("\"a\":1,\"b\":null");

    text = written(&envelope);
    kg_assert_text(text,
                   "{\"error\":{\"code\":\"rate_limited\","
                   "\"message\":\"Rate limit exceeded\","
                   "\"retryable\":true,"
                   "\"details\":{\"policy\":\"default\"},"
                   "\"docUrl\":\"https://docs.example/\\\"x\\\"\","
                   "\"a\":1,\"b\":null},\"requestId\":\"req_1\"}");
    free(text.data);
}


/* What a message is read as once it was written: RFC 8259 and RFC 3629. */
static void
test_escaping(void **state)
{
    size_t         i;
    json_t        *json;
    kg_str_t       text, message;
    const char    *read;
    kg_envelope_t  envelope;

    static const struct {
        const char  *message;
        const char  *read;
    } cases[] = {
        { "", "" },
        { "a\"b\\c/d", "a\"b\\c/d" },
        { "\x01\x08\x0c\n\r\t\x1f\x7f", "\x01\x08\x0c\n\r\t\x1f\x7f" },
        { "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x9a",
          "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x9a" },
        { "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80",
          "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80" },
        { "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
          "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf" },
        { "a\xff" "b", "a\xef\xbf\xbd" "b" },
        { "\x80", "\xef\xbf\xbd" },
        { "\xc3", "\xef\xbf\xbd" },
        { "\xc3(", "\xef\xbf\xbd(" },
        { "\xc3\"", "\xef\xbf\xbd\"" },
        { "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc1\xbf", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xe2\x82(", "\xef\xbf\xbd\xef\xbf\xbd(" },
        { "\xf0\x8f\xbf\xbf",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf4\x90\x80\x80",
          "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf5\x80", "\xef\xbf\xbd\xef\xbf\xbd" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        message = kg_exact(cases[i].message);

        memset(&envelope, 0, sizeof(envelope));
        envelope.code = kg_text("conflict");
        envelope.message = message;
        envelope.request_id = message;
        envelope.doc_url = message;

        text = written(&envelope);

        json = json_loadb((char *) text.data, text.len,
                          JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(json);

        read = json_string_value(json_object_get(json, "requestId"));
        assert_string_equal(read, cases[i].read);

        read = json_string_value(json_object_get(
            json_object_get(json, "error"), "message"));
        assert_string_equal(read, cases[i].read);

        json_decref(json);
        free(text.data);
        free(message.data);
    }

    memset(&envelope, 0, sizeof(envelope));
    envelope.message.data = (unsigned char *) "a\0b";
    envelope.message.len = 3;

    text = written(&envelope);
    kg_assert_text(text,
                   "{\"error\":{\"code\":\"\",\"message\":\"a\\u0000b\","
                   "\"retryable\":false},\"requestId\":\"\"}");
    free(text.data);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_documented_codes),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_of_status),
        cmocka_unit_test(test_retryable),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_escaping)
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
