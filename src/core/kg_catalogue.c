
/*
 * A deployment's own error catalogue.
 *
 * Whoever wrote it is told the line of what is wrong: jansson names that of
 * what is no JSON, and for the rest the text is walked beside it.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kg_catalogue.h"
#include "kg_json.h"
#include "kg_url.h"


#define KG_CATALOGUE_MESSAGE  512       /* bytes in a message */


struct kg_catalogue_s {
    json_t      *root;                  /* has the strings */
    kg_error_t   own[KG_ERR_N];         /* for each built-in one */
    kg_error_t  *added;
    size_t       nadded;
};


/* An entry being read: its members, NULL where they are not given. */
typedef struct {
    const unsigned char   *start;       /* of the whole text */
    json_t                *code;
    json_t                *status;
    json_t                *message;
    json_t                *doc_url;
    kg_catalogue_fault_t  *fault;
} kg_entry_t;


/* Notes what is wrong at p, a place in the text.  Returns KG_INVALID. */
static kg_rc_t
kg_fault(kg_entry_t *entry, const unsigned char *p, const char *format, ...)
{
    va_list                args;
    const unsigned char   *c;
    kg_catalogue_fault_t  *fault;

    fault = entry->fault;
    fault->line = 1;

    for (c = entry->start; c < p; c++) {
        fault->line += *c == '\n';
    }

    va_start(args, format);
    (void) vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);

    return KG_INVALID;
}


static kg_str_t
kg_string_of(const json_t *string)
{
    kg_str_t  s;

    s.data = (unsigned char *) json_string_value(string);
    s.len = json_string_length(string);

    return s;
}


/* Looks at one member of an entry: KG_OK or KG_INVALID. */
static kg_rc_t
kg_entry_member(kg_entry_t *entry, const kg_members_t *member)
{
    json_t                *value;
    kg_str_t               s;
    const char            *name;
    const unsigned char   *p;

    p = member->member.data;
    name = json_object_iter_key(member->iter);
    value = json_object_iter_value(member->iter);
    s = kg_string_of(value);

    if (kg_members_named(member, "code")) {
        entry->code = value;

        if (!json_is_string(value) || !kg_error_code_valid(&s)) {
            return kg_fault(entry, p, "a \"code\" is 1 to %d of a-z, 0-9 and "
                            "\"_\"", KG_ERROR_CODE_MAX);
        }

    } else if (kg_members_named(member, "status")) {
        entry->status = value;

        if (!json_is_integer(value) || json_integer_value(value) < 400
            || json_integer_value(value) > 599)
        {
            return kg_fault(entry, p, "a \"status\" is a number from 400 to "
                            "599");
        }

    } else if (kg_members_named(member, "message")) {
        entry->message = value;

        if (!json_is_string(value) || s.len < 1
            || s.len > KG_CATALOGUE_MESSAGE)
        {
            return kg_fault(entry, p, "a \"message\" is a string of 1 to %d "
                            "bytes", KG_CATALOGUE_MESSAGE);
        }

    } else if (kg_members_named(member, "docUrl")) {
        entry->doc_url = value;

        if (!json_is_string(value) || !kg_url_valid(&s)) {
            return kg_fault(entry, p, "a \"docUrl\" begins with \"https://\" "
                            "or \"http://\" and has at most %d characters of "
                            "a URL", KG_URL_MAX);
        }

    } else {
        return kg_fault(entry, p, "\"%.32s\" is unknown; an entry has "
                        "\"code\", \"status\", \"message\" and \"docUrl\"",
                        name);
    }

    return KG_OK;
}


/*
 * Puts an entry, whose members were looked at, in its place; p is where it
 * stands.  KG_OK or KG_INVALID.
 */
static kg_rc_t
kg_entry_take(kg_catalogue_t *catalogue, kg_entry_t *entry,
    const unsigned char *p)
{
    size_t       i;
    kg_str_t     code;
    kg_error_t  *error;

    if (entry->code == NULL) {
        return kg_fault(entry, p, "an entry has a \"code\"");
    }

    code = kg_string_of(entry->code);
    error = NULL;

    for (i = 0; i < KG_ERR_N && error == NULL; i++) {
        if (kg_str_eq(&code, &catalogue->own[i].code)) {
            error = &catalogue->own[i];
        }
    }

    if (error != NULL) {

        if (entry->status != NULL
            && json_integer_value(entry->status) != (int) error->status)
        {
            return kg_fault(entry, p, "the status of \"%.*s\" is %u",
                            (int) code.len, code.data, error->status);
        }

    } else if (entry->status == NULL || entry->message == NULL) {
        return kg_fault(entry, p, "\"%.*s\", which is not built in, needs a "
                        "\"status\" and a \"message\"", (int) code.len,
                        code.data);

    } else {
        error = &catalogue->added[catalogue->nadded++];
        error->code = code;
        error->status = (unsigned) json_integer_value(entry->status);
    }

    if (entry->message != NULL) {
        error->message = kg_string_of(entry->message);
    }

    if (entry->doc_url != NULL) {
        error->doc_url = kg_string_of(entry->doc_url);
    }

    return KG_OK;
}


/* The entry before the ith that has its code, or i. */
static size_t
kg_entry_twice(const json_t *root, size_t i)
{
    size_t       j;
    const char  *code;

    code = json_string_value(json_object_get(json_array_get(root, i),
                                             "code"));

    for (j = 0; j < i; j++) {
        if (strcmp(json_string_value(json_object_get(json_array_get(root, j),
                                                     "code")), code) == 0)
        {
            return j;
        }
    }

    return i;
}


/* Reads the entries of a text that jansson took.  KG_OK or KG_INVALID. */
static kg_rc_t
kg_catalogue_read(kg_catalogue_t *catalogue, const kg_str_t *text,
    kg_catalogue_fault_t *fault)
{
    size_t                i;
    json_t               *object;
    kg_entry_t            entry;
    kg_members_t          member;
    const unsigned char  *p;

    memset(&entry, 0, sizeof(entry));
    entry.start = text->data;
    entry.fault = fault;

    p = kg_json_space(text->data);

    if (!json_is_array(catalogue->root)) {
        return kg_fault(&entry, p, "a catalogue is a list of entries, "
                        "[{...}, ...]");
    }

    for (i = 0; i < json_array_size(catalogue->root); i++) {

        /* behind "[" or "," */

        p = kg_json_space(p + 1);
        object = json_array_get(catalogue->root, i);

        if (!json_is_object(object)) {
            return kg_fault(&entry, p, "an entry is an object, {...}");
        }

        entry.code = NULL;
        entry.status = NULL;
        entry.message = NULL;
        entry.doc_url = NULL;

        for (kg_members_first(&member, object, p);
             member.iter != NULL;
             kg_members_next(&member))
        {
            if (kg_entry_member(&entry, &member) != KG_OK) {
                return KG_INVALID;
            }
        }

        if (kg_entry_take(catalogue, &entry, p) != KG_OK) {
            return KG_INVALID;
        }

        if (kg_entry_twice(catalogue->root, i) != i) {
            return kg_fault(&entry, p, "\"%.*s\" is there twice",
                            (int) json_string_length(entry.code),
                            json_string_value(entry.code));
        }

        p = kg_json_space(kg_json_value(p));
    }

    return KG_OK;
}


kg_catalogue_t *
kg_catalogue_parse(const kg_str_t *text, kg_catalogue_fault_t *fault)
{
    size_t           i;
    json_error_t     error;
    kg_catalogue_t  *catalogue;

    fault->line = 0;
    (void) snprintf(fault->text, sizeof(fault->text), "no memory");

    catalogue = calloc(1, sizeof(kg_catalogue_t));
    if (catalogue == NULL) {
        return NULL;
    }

    for (i = 0; i < KG_ERR_N; i++) {
        catalogue->own[i] = *kg_error_get((kg_error_code_t) i);
    }

    catalogue->root = kg_json_load(text, JSON_REJECT_DUPLICATES, &error);

    if (catalogue->root == NULL) {
        fault->line = error.line > 0 ? (unsigned) error.line : 1;
        (void) snprintf(fault->text, sizeof(fault->text), "%s", error.text);
        kg_catalogue_free(catalogue);
        return NULL;
    }

    /* one more, since an empty list is none that fails */

    catalogue->added = calloc(json_array_size(catalogue->root) + 1,
                              sizeof(kg_error_t));

    if (catalogue->added == NULL
        || kg_catalogue_read(catalogue, text, fault) != KG_OK)
    {
        kg_catalogue_free(catalogue);
        return NULL;
    }

    return catalogue;
}


void
kg_catalogue_free(kg_catalogue_t *catalogue)
{
    if (catalogue != NULL) {
        json_decref(catalogue->root);
        free(catalogue->added);
        free(catalogue);
    }
}


const kg_error_t *
kg_catalogue_entry(const kg_catalogue_t *catalogue, const kg_error_t *error)
{
    if (catalogue == NULL) {
        return error;
    }

    return &catalogue->own[error - kg_error_get((kg_error_code_t) 0)];
}


const kg_error_t *
kg_catalogue_of_status(const kg_catalogue_t *catalogue, unsigned status)
{
    size_t             i;
    const kg_error_t  *error;

    error = kg_error_of_status(status);

    if (error->status != status && catalogue != NULL) {

        for (i = 0; i < catalogue->nadded; i++) {
            if (catalogue->added[i].status == status) {
                return &catalogue->added[i];
            }
        }
    }

    return kg_catalogue_entry(catalogue, error);
}


const kg_error_t *
kg_catalogue_of_code(const kg_catalogue_t *catalogue, const kg_str_t *code)
{
    size_t             i;
    const kg_error_t  *error;

    for (i = 0; i < KG_ERR_N; i++) {
        error = kg_error_get((kg_error_code_t) i);

        if (kg_str_eq(&error->code, code)) {
            return kg_catalogue_entry(catalogue, error);
        }
    }

    for (i = 0; catalogue != NULL && i < catalogue->nadded; i++) {
        if (kg_str_eq(&catalogue->added[i].code, code)) {
            return &catalogue->added[i];
        }
    }

    return NULL;
}


void
kg_catalogue_document(const kg_catalogue_t *catalogue, kg_envelope_t *envelope)
{
    const kg_error_t  *error;

    if (catalogue == NULL || envelope->doc_url.len > 0) {
        return;
    }

    error = kg_catalogue_of_code(catalogue, &envelope->code);

    if (error != NULL && error->doc_url.len > 0) {
        envelope->doc_url = error->doc_url;

        if (envelope->title.len == 0) {
            envelope->title = error->message;
        }
    }
}
