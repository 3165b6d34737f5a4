
/*
 * The error contract: one code for every status, one shape for every error.
 *
 *     {"error":{"code":"rate_limited","message":"Rate limit exceeded",
 *               "retryable":true,"details":{...},"docUrl":"..."},
 *      "requestId":"req_..."}
 *
 * or, as a deployment chooses, the same as a problem of RFC 9457.
 *
 * The catalogue is conf/errors.json; scripts/gen-errors writes the C table
 * kg_error_table.h from it, and the table in docs/errors.md.
 */

#ifndef KG_ERROR_H
#define KG_ERROR_H

#include "kg_core.h"


typedef struct {
    kg_str_t    code;
    unsigned    status;
    kg_str_t    phrase;         /* of the status, in its first entry */
    kg_str_t    message;
    kg_str_t    doc_url;        /* empty: none */
} kg_error_t;

#define KG_ERROR_CODE_MAX   64      /* bytes in a code */

/*
 * Codes that the module names itself.  kg_error_get() takes these; every other
 * code is reached through its status by kg_error_of_status().  The order is
 * conf/errors.json's.
 */
#include "kg_error_table.h"     /* kg_error_code_t, KG_ERR_<CODE> */

const kg_error_t *kg_error_get(kg_error_code_t code);

/*
 * The entry for a status nobody gave a code for: the status's own one, or
 * bad_request / internal_error by class when it is not registered with IANA.
 * status is 400 .. 599.
 */
const kg_error_t *kg_error_of_status(unsigned status);

/* 1 when a code is [a-z0-9_]{1,64}, else 0. */
int kg_error_code_valid(const kg_str_t *code);

/*
 * 1 when the same request, sent again unchanged, may succeed (then, and only
 * then, the answer has Retry-After): 425, 429, idempotency_in_progress, and
 * 502, 503, 504 where safe (GET and HEAD, or a write nothing was executed of).
 */
int kg_error_retryable(unsigned status, const kg_str_t *code, int safe);

/* How errors are written: keygate_errors.  Off is nobody's shape. */
typedef enum {
    KG_FORMAT_OFF = 0,
    KG_FORMAT_ENVELOPE,
    KG_FORMAT_PROBLEM           /* RFC 9457 */
} kg_format_t;

typedef struct {
    kg_format_t format;         /* not off */
    unsigned    status;         /* 400 .. 599; of a problem */
    kg_str_t    code;
    kg_str_t    title;          /* of a problem; empty: the status's phrase */
    kg_str_t    message;
    int         retryable;
    kg_str_t    details;        /* a JSON object as text; empty: none */
    kg_str_t    doc_url;        /* empty: none */
    kg_str_t    members;        /* further members of "error", or of a problem,
                                   as JSON text, "\"a\":1,\"b\":2"; empty:
                                   none */
    kg_str_t    request_id;
} kg_envelope_t;

/*
 * Writes the error in its format into dst.  Returns the length; when dst is
 * NULL only that.  Strings are escaped for JSON; each byte that is not UTF-8
 * becomes U+FFFD.  details and members are copied as they are.
 */
size_t kg_envelope_write(const kg_envelope_t *envelope, unsigned char *dst);

/* A deployment's own catalogue; see kg_catalogue.h. */
typedef struct kg_catalogue_s  kg_catalogue_t;

/*
 * What an upstream said with an error.  Takes the body (decoded, at most 64
 * KiB; content_encoding gzip is decoded here with the same bound) and makes
 * an error of the format of it:
 *   - already an envelope, or for KG_FORMAT_PROBLEM a problem with a code: its
 *     code, message and details are kept, a documentation link that is one, and
 *     of a 4xx further members; details that are no object are put in one, as
 *     upstream;
 *   - else the code and message of the status; of a 400, 409 or 422 with a
 *     JSON body of at most 8 KiB that body is details.upstream; of a 5xx
 *     nothing is kept.
 * requestId and retryable are made right.  KG_OK or KG_ERROR.
 */
typedef struct {
    unsigned               status;
    kg_format_t            format;      /* not off */
    const kg_catalogue_t  *catalogue;   /* NULL: the built-in one alone */
    kg_str_t               body;        /* what arrived, whole or truncated */
    int                    whole;       /* 0: cut off or over a bound, not
                                           looked at */
    int                    gzip;        /* Content-Encoding was gzip */
    int                    safe;        /* as kg_error_retryable() */
    int                    settled;     /* a write whose retry is not executed:
                                           nothing makes it retryable */
    kg_str_t               request_id;
} kg_upstream_error_t;

typedef struct {
    kg_str_t       text;                /* malloc'ed JSON; the caller's */
    int            retryable;
    int            own;                 /* the code is the upstream's own */
    size_t         code_len;
    unsigned char  code[KG_ERROR_CODE_MAX];
} kg_shaped_t;

kg_rc_t kg_error_shape(const kg_upstream_error_t *in, kg_shaped_t *out);

#define KG_ERROR_BODY_MAX   65536   /* an upstream error's body that is read */
#define KG_ERROR_DETAIL_MAX 8192    /* one that is kept as details.upstream */

#endif
