
/*
 * The error catalogue that is built in.
 */

#include <string.h>

#define KG_ERROR_TABLE
#include "kg_error.h"


const kg_error_t *
kg_error_get(kg_error_code_t code)
{
    return &kg_errors[code];
}


const kg_error_t *
kg_error_of_status(unsigned status)
{
    unsigned  n;

    n = status >= 400 && status <= 599 ? kg_errors_by_status[status - 400] : 0;

    if (n != 0) {
        return &kg_errors[n - 1];
    }

    return &kg_errors[status < 500 ? KG_ERR_BAD_REQUEST
                                   : KG_ERR_INTERNAL_ERROR];
}


int
kg_error_retryable(unsigned status, const kg_str_t *code, int safe)
{
    if (kg_str_eq(code, &kg_errors[KG_ERR_IDEMPOTENCY_IN_PROGRESS].code)) {
        return 1;
    }

    switch (status) {

    case 425:
    case 429:
        return 1;

    case 502:
    case 503:
    case 504:
        return safe != 0;

    default:
        return 0;
    }
}


int
kg_error_code_valid(const kg_str_t *code)
{
    size_t         i;
    unsigned char  c;

    if (code->len < 1 || code->len > KG_ERROR_CODE_MAX) {
        return 0;
    }

    for (i = 0; i < code->len; i++) {
        c = code->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) {
            return 0;
        }
    }

    return 1;
}
