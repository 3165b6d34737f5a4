
/*
 * Idempotency-Key values of any bytes: a key is 1 to KG_IDEM_KEY_MAX visible
 * bytes, and written as a structured-field string it is the same key.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_idem.h"


int  LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          i, len, again;
    kg_str_t        value;
    unsigned char  *key, quoted[2 * KG_IDEM_KEY_MAX + 2];
    unsigned char   unquoted[KG_IDEM_KEY_MAX];

    key = malloc(KG_IDEM_KEY_MAX);
    if (key == NULL) {
        abort();
    }

    value.data = (unsigned char *) data;
    value.len = size;

    if (kg_idem_key_parse(&value, key, &len) != KG_OK) {
        free(key);
        return 0;
    }

    if (len < 1 || len > KG_IDEM_KEY_MAX) {
        abort();
    }

    value.data = quoted;
    value.len = 0;
    quoted[value.len++] = '"';

    for (i = 0; i < len; i++) {

        if (key[i] < 0x21 || key[i] > 0x7e) {
            abort();
        }

        if (key[i] == '"' || key[i] == '\\') {
            quoted[value.len++] = '\\';
        }

        quoted[value.len++] = key[i];
    }

    quoted[value.len++] = '"';

    if (kg_idem_key_parse(&value, unquoted, &again) != KG_OK || again != len
        || memcmp(key, unquoted, len) != 0)
    {
        abort();
    }

    free(key);

    return 0;
}
