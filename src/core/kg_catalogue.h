
/*
 * A deployment's own error catalogue, over the built-in one: other messages
 * and documentation links, and codes for what its upstreams answer.
 *
 *     [ {"code": "rate_limited", "message": "Slow down",
 *        "docUrl": "https://docs.example.com/errors#rate_limited"},
 *       {"code": "calm_down", "status": 420, "message": "Too eager"} ]
 *
 * The status of a built-in code is part of the contract and stays.
 */

#ifndef KG_CATALOGUE_H
#define KG_CATALOGUE_H

#include "kg_error.h"


#define KG_CATALOGUE_MAX  262144    /* bytes of JSON */

/* What is wrong with a catalogue; text is terminated. */
typedef struct {
    unsigned  line;
    char      text[200];
} kg_catalogue_fault_t;

/*
 * Reads a catalogue.  The result is malloc'ed, freed by kg_catalogue_free()
 * and independent of text; NULL with *fault, whose line is 0 for no memory.
 */
kg_catalogue_t *kg_catalogue_parse(const kg_str_t *text,
    kg_catalogue_fault_t *fault);

/* catalogue may be NULL */
void kg_catalogue_free(kg_catalogue_t *catalogue);

/*
 * The three ways to an entry; with a catalogue of NULL it is the built-in one.
 * _entry: what stands for an entry of the built-in catalogue.  _of_status: as
 * kg_error_of_status(), but a status that is not registered has the first code
 * added for it.  _of_code: NULL when the code is unknown.
 */
const kg_error_t *kg_catalogue_entry(const kg_catalogue_t *catalogue,
    const kg_error_t *error);
const kg_error_t *kg_catalogue_of_status(const kg_catalogue_t *catalogue,
    unsigned status);
const kg_error_t *kg_catalogue_of_code(const kg_catalogue_t *catalogue,
    const kg_str_t *code);

/*
 * Gives an error the documentation link of its code where it has none yet, and
 * then the title that a documented problem has.
 */
void kg_catalogue_document(const kg_catalogue_t *catalogue,
    kg_envelope_t *envelope);

#endif
