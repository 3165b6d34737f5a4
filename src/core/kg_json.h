
/*
 * Places in a JSON text.  jansson says whether a text is JSON and what is in
 * it, but not where: what is kept as it was written, and the line of what is
 * wrong, are found by walking the text beside it.
 *
 * The walk reads text that kg_json_load() accepted whole: every string in it is
 * closed and every bracket has its pair, so none of it looks for an end.
 */

#ifndef KG_JSON_H
#define KG_JSON_H

#include <jansson.h>

#include "kg_core.h"


/*
 * json_loadb() of a text that can be walked: NULL, with *error, for one that
 * has a NUL.  There is none in JSON, but jansson (2.14) passes over one behind
 * a number or a word.
 */
json_t *kg_json_load(const kg_str_t *text, size_t flags, json_error_t *error);

/*
 * 1 when the text nests no deeper than max.  Looked at before the text is
 * parsed, and sure of nothing else about it.
 */
int kg_json_shallow(const kg_str_t *text, unsigned max);

/* Past the white space at p. */
const unsigned char *kg_json_space(const unsigned char *p);

/* Past the value at p, which is a member's or an array's. */
const unsigned char *kg_json_value(const unsigned char *p);


/*
 * A walk over the members of an object, in jansson and in the text.  jansson
 * keeps the order of members, and with duplicates rejected (parse with
 * JSON_REJECT_DUPLICATES) the nth it names is the nth in the text.
 */
typedef struct {
    json_t               *object;
    void                 *iter;     /* NULL after the last member */
    const unsigned char  *p;
    kg_str_t              value;    /* the member's text */
    kg_str_t              member;   /* with its name: "name":value */
} kg_members_t;

/* The first member of an object whose text starts at p. */
void kg_members_first(kg_members_t *members, json_t *object,
    const unsigned char *p);

void kg_members_next(kg_members_t *members);

/* 1 when the member has this name. */
int kg_members_named(const kg_members_t *members, const char *name);

#endif
