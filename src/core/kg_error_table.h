
/*
 * The error catalogue as C, written by scripts/gen-errors from
 * conf/errors.json: change that file and run the script.
 *
 * The enum is for everyone; the two arrays are compiled into kg_error.c,
 * which defines KG_ERROR_TABLE before it includes this file.
 */

#ifndef KG_ERROR_TABLE_H
#define KG_ERROR_TABLE_H


typedef enum {
    KG_ERR_BAD_REQUEST,
    KG_ERR_MISSING_IDEMPOTENCY_KEY,
    KG_ERR_INVALID_IDEMPOTENCY_KEY,
    KG_ERR_UNAUTHORIZED,
    KG_ERR_PAYMENT_REQUIRED,
    KG_ERR_FORBIDDEN,
    KG_ERR_PARTNER_ACCESS_NOT_ENABLED,
    KG_ERR_LIVE_ACCESS_NOT_ENABLED,
    KG_ERR_PARTNER_ACCESS_DISABLED,
    KG_ERR_NOT_FOUND,
    KG_ERR_METHOD_NOT_ALLOWED,
    KG_ERR_NOT_ACCEPTABLE,
    KG_ERR_PROXY_AUTHENTICATION_REQUIRED,
    KG_ERR_REQUEST_TIMEOUT,
    KG_ERR_CONFLICT,
    KG_ERR_IDEMPOTENCY_CONFLICT,
    KG_ERR_IDEMPOTENCY_IN_PROGRESS,
    KG_ERR_IDEMPOTENCY_OUTCOME_UNKNOWN,
    KG_ERR_IDEMPOTENCY_REPLAY_UNAVAILABLE,
    KG_ERR_GONE,
    KG_ERR_LENGTH_REQUIRED,
    KG_ERR_PRECONDITION_FAILED,
    KG_ERR_CONTENT_TOO_LARGE,
    KG_ERR_URI_TOO_LONG,
    KG_ERR_UNSUPPORTED_MEDIA_TYPE,
    KG_ERR_RANGE_NOT_SATISFIABLE,
    KG_ERR_EXPECTATION_FAILED,
    KG_ERR_MISDIRECTED_REQUEST,
    KG_ERR_UNPROCESSABLE_CONTENT,
    KG_ERR_LOCKED,
    KG_ERR_FAILED_DEPENDENCY,
    KG_ERR_TOO_EARLY,
    KG_ERR_UPGRADE_REQUIRED,
    KG_ERR_PRECONDITION_REQUIRED,
    KG_ERR_RATE_LIMITED,
    KG_ERR_TOO_MANY_FAILURES,
    KG_ERR_REQUEST_HEADER_FIELDS_TOO_LARGE,
    KG_ERR_UNAVAILABLE_FOR_LEGAL_REASONS,
    KG_ERR_INTERNAL_ERROR,
    KG_ERR_NOT_IMPLEMENTED,
    KG_ERR_BAD_GATEWAY,
    KG_ERR_SERVICE_UNAVAILABLE,
    KG_ERR_GATEWAY_TIMEOUT,
    KG_ERR_HTTP_VERSION_NOT_SUPPORTED,
    KG_ERR_VARIANT_ALSO_NEGOTIATES,
    KG_ERR_INSUFFICIENT_STORAGE,
    KG_ERR_LOOP_DETECTED,
    KG_ERR_NOT_EXTENDED,
    KG_ERR_NETWORK_AUTHENTICATION_REQUIRED,
    KG_ERR_N
} kg_error_code_t;


#ifdef KG_ERROR_TABLE

static const kg_error_t  kg_errors[KG_ERR_N] = {

    { kg_string("bad_request"), 400,
      kg_string("The request is not valid") },

    { kg_string("missing_idempotency_key"), 400,
      kg_string("The Idempotency-Key header is required") },

    { kg_string("invalid_idempotency_key"), 400,
      kg_string("The Idempotency-Key header must be 1 to 255 visible "
                "ASCII characters, sent once") },

    { kg_string("unauthorized"), 401,
      kg_string("The API key is missing or not valid") },

    { kg_string("payment_required"), 402,
      kg_string("Payment is required") },

    { kg_string("forbidden"), 403,
      kg_string("This API key is not allowed to do this") },

    { kg_string("partner_access_not_enabled"), 403,
      kg_string("Partner API access is not enabled for this organisation") },

    { kg_string("live_access_not_enabled"), 403,
      kg_string("Live API access is not enabled for this organisation") },

    { kg_string("partner_access_disabled"), 403,
      kg_string("Partner API access is disabled for this organisation") },

    { kg_string("not_found"), 404,
      kg_string("Nothing was found at this address") },

    { kg_string("method_not_allowed"), 405,
      kg_string("This method is not allowed here") },

    { kg_string("not_acceptable"), 406,
      kg_string("No acceptable representation is available") },

    { kg_string("proxy_authentication_required"), 407,
      kg_string("Proxy authentication is required") },

    { kg_string("request_timeout"), 408,
      kg_string("The request took too long to arrive") },

    { kg_string("conflict"), 409,
      kg_string("The request conflicts with the current state") },

    { kg_string("idempotency_conflict"), 409,
      kg_string("This Idempotency-Key was used with a different request") },

    { kg_string("idempotency_in_progress"), 409,
      kg_string("A request with this Idempotency-Key is still in progress") },

    { kg_string("idempotency_outcome_unknown"), 409,
      kg_string("The outcome of the first request with this "
                "Idempotency-Key is not known") },

    { kg_string("idempotency_replay_unavailable"), 409,
      kg_string("The request with this Idempotency-Key was executed, but "
                "its answer cannot be repeated") },

    { kg_string("gone"), 410,
      kg_string("This resource is no longer available") },

    { kg_string("length_required"), 411,
      kg_string("The Content-Length header is required") },

    { kg_string("precondition_failed"), 412,
      kg_string("A precondition of the request does not hold") },

    { kg_string("content_too_large"), 413,
      kg_string("The request body is too large") },

    { kg_string("uri_too_long"), 414,
      kg_string("The request address is too long") },

    { kg_string("unsupported_media_type"), 415,
      kg_string("The content type of the request is not supported") },

    { kg_string("range_not_satisfiable"), 416,
      kg_string("The requested range is not available") },

    { kg_string("expectation_failed"), 417,
      kg_string("The Expect header cannot be met") },

    { kg_string("misdirected_request"), 421,
      kg_string("The request reached a server that does not serve this "
                "host") },

    { kg_string("unprocessable_content"), 422,
      kg_string("The request is well formed but cannot be processed") },

    { kg_string("locked"), 423,
      kg_string("The resource is locked") },

    { kg_string("failed_dependency"), 424,
      kg_string("An action this request depends on failed") },

    { kg_string("too_early"), 425,
      kg_string("The request was sent too early and must be repeated") },

    { kg_string("upgrade_required"), 426,
      kg_string("Another protocol version is required") },

    { kg_string("precondition_required"), 428,
      kg_string("The request must be conditional") },

    { kg_string("rate_limited"), 429,
      kg_string("Rate limit exceeded") },

    { kg_string("too_many_failures"), 429,
      kg_string("Too many failed attempts from this address") },

    { kg_string("request_header_fields_too_large"), 431,
      kg_string("The request headers are too large") },

    { kg_string("unavailable_for_legal_reasons"), 451,
      kg_string("This resource is unavailable for legal reasons") },

    { kg_string("internal_error"), 500,
      kg_string("Something went wrong on our side") },

    { kg_string("not_implemented"), 501,
      kg_string("The server does not support this request") },

    { kg_string("bad_gateway"), 502,
      kg_string("The service gave no usable answer") },

    { kg_string("service_unavailable"), 503,
      kg_string("The service is temporarily unavailable") },

    { kg_string("gateway_timeout"), 504,
      kg_string("The service did not answer in time") },

    { kg_string("http_version_not_supported"), 505,
      kg_string("This HTTP version is not supported") },

    { kg_string("variant_also_negotiates"), 506,
      kg_string("Content negotiation failed on the server") },

    { kg_string("insufficient_storage"), 507,
      kg_string("The server cannot store what the request needs") },

    { kg_string("loop_detected"), 508,
      kg_string("The server found an endless loop in the request") },

    { kg_string("not_extended"), 510,
      kg_string("The request lacks a required extension") },

    { kg_string("network_authentication_required"), 511,
      kg_string("Network authentication is required") },

};


/* One more than the first entry of a status; 0: it has none. */
static const unsigned char  kg_errors_by_status[200] = {
    [400 - 400] = KG_ERR_BAD_REQUEST + 1,
    [401 - 400] = KG_ERR_UNAUTHORIZED + 1,
    [402 - 400] = KG_ERR_PAYMENT_REQUIRED + 1,
    [403 - 400] = KG_ERR_FORBIDDEN + 1,
    [404 - 400] = KG_ERR_NOT_FOUND + 1,
    [405 - 400] = KG_ERR_METHOD_NOT_ALLOWED + 1,
    [406 - 400] = KG_ERR_NOT_ACCEPTABLE + 1,
    [407 - 400] = KG_ERR_PROXY_AUTHENTICATION_REQUIRED + 1,
    [408 - 400] = KG_ERR_REQUEST_TIMEOUT + 1,
    [409 - 400] = KG_ERR_CONFLICT + 1,
    [410 - 400] = KG_ERR_GONE + 1,
    [411 - 400] = KG_ERR_LENGTH_REQUIRED + 1,
    [412 - 400] = KG_ERR_PRECONDITION_FAILED + 1,
    [413 - 400] = KG_ERR_CONTENT_TOO_LARGE + 1,
    [414 - 400] = KG_ERR_URI_TOO_LONG + 1,
    [415 - 400] = KG_ERR_UNSUPPORTED_MEDIA_TYPE + 1,
    [416 - 400] = KG_ERR_RANGE_NOT_SATISFIABLE + 1,
    [417 - 400] = KG_ERR_EXPECTATION_FAILED + 1,
    [421 - 400] = KG_ERR_MISDIRECTED_REQUEST + 1,
    [422 - 400] = KG_ERR_UNPROCESSABLE_CONTENT + 1,
    [423 - 400] = KG_ERR_LOCKED + 1,
    [424 - 400] = KG_ERR_FAILED_DEPENDENCY + 1,
    [425 - 400] = KG_ERR_TOO_EARLY + 1,
    [426 - 400] = KG_ERR_UPGRADE_REQUIRED + 1,
    [428 - 400] = KG_ERR_PRECONDITION_REQUIRED + 1,
    [429 - 400] = KG_ERR_RATE_LIMITED + 1,
    [431 - 400] = KG_ERR_REQUEST_HEADER_FIELDS_TOO_LARGE + 1,
    [451 - 400] = KG_ERR_UNAVAILABLE_FOR_LEGAL_REASONS + 1,
    [500 - 400] = KG_ERR_INTERNAL_ERROR + 1,
    [501 - 400] = KG_ERR_NOT_IMPLEMENTED + 1,
    [502 - 400] = KG_ERR_BAD_GATEWAY + 1,
    [503 - 400] = KG_ERR_SERVICE_UNAVAILABLE + 1,
    [504 - 400] = KG_ERR_GATEWAY_TIMEOUT + 1,
    [505 - 400] = KG_ERR_HTTP_VERSION_NOT_SUPPORTED + 1,
    [506 - 400] = KG_ERR_VARIANT_ALSO_NEGOTIATES + 1,
    [507 - 400] = KG_ERR_INSUFFICIENT_STORAGE + 1,
    [508 - 400] = KG_ERR_LOOP_DETECTED + 1,
    [510 - 400] = KG_ERR_NOT_EXTENDED + 1,
    [511 - 400] = KG_ERR_NETWORK_AUTHENTICATION_REQUIRED + 1,
};

#endif

#endif
