
/*
 * Catalogues of any bytes: what is wrong is said with a line that the text has,
 * and what is taken has a code and a message for every status.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_catalogue.h"


int  LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* A problem is in a line of the text, or at its end. */
static void
check_fault(const kg_str_t *text, const kg_catalogue_fault_t *fault)
{
    size_t    i;
    unsigned  lines;

    lines = 1;

    for (i = 0; i < text->len; i++) {
        lines += text->data[i] == '\n';
    }

    if (fault->line < 1 || fault->line > lines || fault->text[0] == '\0') {
        abort();
    }
}


static void
check_catalogue(const kg_catalogue_t *catalogue)
{
    unsigned           status;
    kg_envelope_t      envelope;
    const kg_error_t  *error;

    for (status = 400; status < 600; status++) {
        error = kg_catalogue_of_status(catalogue, status);

        if (!kg_error_code_valid(&error->code) || error->message.len == 0
            || kg_catalogue_of_code(catalogue, &error->code) != error
            || error->status / 100 != status / 100)
        {
            abort();
        }

        memset(&envelope, 0, sizeof(envelope));
        envelope.code = error->code;
        kg_catalogue_document(catalogue, &envelope);

        if (envelope.doc_url.len != error->doc_url.len) {
            abort();
        }
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kg_str_t               text;
    kg_catalogue_t        *catalogue;
    kg_catalogue_fault_t   fault;

    /* of exactly its length */

    text.len = size;
    text.data = malloc(size + (size == 0));

    if (text.data == NULL) {
        abort();
    }

    memcpy(text.data, data, size);

    catalogue = kg_catalogue_parse(&text, &fault);

    if (catalogue == NULL) {
        check_fault(&text, &fault);

    } else {
        check_catalogue(catalogue);
        kg_catalogue_free(catalogue);
    }

    free(text.data);

    return 0;
}
