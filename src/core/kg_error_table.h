
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

    { .code = kg_string("bad_request"),
      .status = 400,
      .phrase = kg_string("Bad Request"),
      .message = kg_string("The request is not valid") },

    { .code = kg_string("missing_idempotency_key"),
      .status = 400,
      .message = kg_string("The Idempotency-Key header is required") },

    { .code = kg_string("invalid_idempotency_key"),
      .status = 400,
      .message = kg_string("The Idempotency-Key header must be 1 to 255 "
                           "visible ASCII characters, sent once") },

    { .code = kg_string("unauthorized"),
      .status = 401,
      .phrase = kg_string("Unauthorized"),
      .message = kg_string("The API key is missing or not valid") },

    { .code = kg_string("payment_required"),
      .status = 402,
      .phrase = kg_string("Payment Required"),
      .message = kg_string("Payment is required") },

    { .code = kg_string("forbidden"),
      .status = 403,
      .phrase = kg_string("Forbidden"),
      .message = kg_string("This API key is not allowed to do this") },

    { .code = kg_string("partner_access_not_enabled"),
      .status = 403,
      .message = kg_string("Partner API access is not enabled for this "
                           "organisation") },

    { .code = kg_string("live_access_not_enabled"),
      .status = 403,
      .message = kg_string("Live API access is not enabled for this "
                           "organisation") },

    { .code = kg_string("partner_access_disabled"),
      .status = 403,
      .message = kg_string("Partner API access is disabled for this "
                           "organisation") },

    { .code = kg_string("not_found"),
      .status = 404,
      .phrase = kg_string("Not Found"),
      .message = kg_string("Nothing was found at this address") },

    { .code = kg_string("method_not_allowed"),
      .status = 405,
      .phrase = kg_string("Method Not Allowed"),
      .message = kg_string("This method is not allowed here") },

    { .code = kg_string("not_acceptable"),
      .status = 406,
      .phrase = kg_string("Not Acceptable"),
      .message = kg_string("No acceptable representation is available") },

    { .code = kg_string("proxy_authentication_required"),
      .status = 407,
      .phrase = kg_string("Proxy Authentication Required"),
      .message = kg_string("Proxy authentication is required") },

    { .code = kg_string("request_timeout"),
      .status = 408,
      .phrase = kg_string("Request Timeout"),
      .message = kg_string("The request took too long to arrive") },

    { .code = kg_string("conflict"),
      .status = 409,
      .phrase = kg_string("Conflict"),
      .message = kg_string("The request conflicts with the current state") },

    { .code = kg_string("idempotency_conflict"),
      .status = 409,
      .message = kg_string("This Idempotency-Key was used with a different "
                           "request") },

    { .code = kg_string("idempotency_in_progress"),
      .status = 409,
      .message = kg_string("A request with this Idempotency-Key is still "
                           "in progress") },

    { .code = kg_string("idempotency_outcome_unknown"),
      .status = 409,
      .message = kg_string("The outcome of the first request with this "
                           "Idempotency-Key is not known") },

    { .code = kg_string("idempotency_replay_unavailable"),
      .status = 409,
      .message = kg_string("The request with this Idempotency-Key was "
                           "executed, but its answer cannot be repeated") },

    { .code = kg_string("gone"),
      .status = 410,
      .phrase = kg_string("Gone"),
      .message = kg_string("This resource is no longer available") },

    { .code = kg_string("length_required"),
      .status = 411,
      .phrase = kg_string("Length Required"),
      .message = kg_string("The Content-Length header is required") },

    { .code = kg_string("precondition_failed"),
      .status = 412,
      .phrase = kg_string("Precondition Failed"),
      .message = kg_string("A precondition of the request does not hold") },

    { .code = kg_string("content_too_large"),
      .status = 413,
      .phrase = kg_string("Content Too Large"),
      .message = kg_string("The request body is too large") },

    { .code = kg_string("uri_too_long"),
      .status = 414,
      .phrase = kg_string("URI Too Long"),
      .message = kg_string("The request address is too long") },

    { .code = kg_string("unsupported_media_type"),
      .status = 415,
      .phrase = kg_string("Unsupported Media Type"),
      .message = kg_string("The content type of the request is not "
                           "supported") },

    { .code = kg_string("range_not_satisfiable"),
      .status = 416,
      .phrase = kg_string("Range Not Satisfiable"),
      .message = kg_string("The requested range is not available") },

    { .code = kg_string("expectation_failed"),
      .status = 417,
      .phrase = kg_string("Expectation Failed"),
      .message = kg_string("The Expect header cannot be met") },

    { .code = kg_string("misdirected_request"),
      .status = 421,
      .phrase = kg_string("Misdirected Request"),
      .message = kg_string("The request reached a server that does not "
                           "serve this host") },

    { .code = kg_string("unprocessable_content"),
      .status = 422,
      .phrase = kg_string("Unprocessable Content"),
      .message = kg_string("The request is well formed but cannot be "
                           "processed") },

    { .code = kg_string("locked"),
      .status = 423,
      .phrase = kg_string("Locked"),
      .message = kg_string("The resource is locked") },

    { .code = kg_string("failed_dependency"),
      .status = 424,
      .phrase = kg_string("Failed Dependency"),
      .message = kg_string("An action this request depends on failed") },

    { .code = kg_string("too_early"),
      .status = 425,
      .phrase = kg_string("Too Early"),
      .message = kg_string("The request was sent too early and must be "
                           "repeated") },

    { .code = kg_string("upgrade_required"),
      .status = 426,
      .phrase = kg_string("Upgrade Required"),
      .message = kg_string("Another protocol version is required") },

    { .code = kg_string("precondition_required"),
      .status = 428,
      .phrase = kg_string("Precondition Required"),
      .message = kg_string("The request must be conditional") },

    { .code = kg_string("rate_limited"),
      .status = 429,
      .phrase = kg_string("Too Many Requests"),
      .message = kg_string("Rate limit exceeded") },

    { .code = kg_string("too_many_failures"),
      .status = 429,
      .message = kg_string("Too many failed attempts from this address") },

    { .code = kg_string("request_header_fields_too_large"),
      .status = 431,
      .phrase = kg_string("Request Header Fields Too Large"),
      .message = kg_string("The request headers are too large") },

    { .code = kg_string("unavailable_for_legal_reasons"),
      .status = 451,
      .phrase = kg_string("Unavailable For Legal Reasons"),
      .message = kg_string("This resource is unavailable for legal reasons") },

    { .code = kg_string("internal_error"),
      .status = 500,
      .phrase = kg_string("Internal Server Error"),
      .message = kg_string("Something went wrong on our side") },

    { .code = kg_string("not_implemented"),
      .status = 501,
      .phrase = kg_string("Not Implemented"),
      .message = kg_string("The server does not support this request") },

    { .code = kg_string("bad_gateway"),
      .status = 502,
      .phrase = kg_string("Bad Gateway"),
      .message = kg_string("The service gave no usable answer") },

    { .code = kg_string("service_unavailable"),
      .status = 503,
      .phrase = kg_string("Service Unavailable"),
      .message = kg_string("The service is temporarily unavailable") },

    { .code = kg_string("gateway_timeout"),
      .status = 504,
      .phrase = kg_string("Gateway Timeout"),
      .message = kg_string("The service did not answer in time") },

    { .code = kg_string("http_version_not_supported"),
      .status = 505,
      .phrase = kg_string("HTTP Version Not Supported"),
      .message = kg_string("This HTTP version is not supported") },

    { .code = kg_string("variant_also_negotiates"),
      .status = 506,
      .phrase = kg_string("Variant Also Negotiates"),
      .message = kg_string("Content negotiation failed on the server") },

    { .code = kg_string("insufficient_storage"),
      .status = 507,
      .phrase = kg_string("Insufficient Storage"),
      .message = kg_string("The server cannot store what the request needs") },

    { .code = kg_string("loop_detected"),
      .status = 508,
      .phrase = kg_string("Loop Detected"),
      .message = kg_string("The server found an endless loop in the request") },

    { .code = kg_string("not_extended"),
      .status = 510,
      .phrase = kg_string("Not Extended"),
      .message = kg_string("The request lacks a required extension") },

    { .code = kg_string("network_authentication_required"),
      .status = 511,
      .phrase = kg_string("Network Authentication Required"),
      .message = kg_string("Network authentication is required") },

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
