
/*
 * Stored answers of any bytes: what decodes is the encoding of what it decodes
 * to, byte for byte, and is as long as kg_answer_size() says.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_answer.h"


int  LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          i;
    kg_str_t        bytes;
    kg_answer_t     answer;
    unsigned char  *again;

    bytes.data = (unsigned char *) data;
    bytes.len = size;

    if (kg_answer_decode(&bytes, &answer) != KG_OK) {
        return 0;
    }

    for (i = 0; i < answer.nheaders; i++) {
        (void) kg_answer_keeps(&answer.headers[i].name);
    }

    again = malloc(size);

    if (again == NULL || kg_answer_size(&answer) != size
        || kg_answer_encode(&answer, again) != again + size
        || memcmp(again, data, size) != 0)
    {
        abort();
    }

    free(again);

    return 0;
}
