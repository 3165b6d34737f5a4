
/*
 * Places in a JSON text.
 */

#include <stdio.h>
#include <string.h>

#include "kg_json.h"


json_t *
kg_json_load(const kg_str_t *text, size_t flags, json_error_t *error)
{
    size_t                i;
    const unsigned char  *nul;

    nul = text->len > 0 ? memchr(text->data, '\0', text->len) : NULL;

    if (nul == NULL) {
        return json_loadb((const char *) text->data, text->len, flags, error);
    }

    error->line = 1;

    for (i = 0; text->data + i < nul; i++) {
        error->line += text->data[i] == '\n';
    }

    (void) snprintf(error->text, sizeof(error->text), "a NUL is no JSON");

    return NULL;
}


int
kg_json_shallow(const kg_str_t *text, unsigned max)
{
    int       quoted;
    size_t    i;
    unsigned  depth;

    quoted = 0;
    depth = 0;

    for (i = 0; i < text->len; i++) {

        switch (text->data[i]) {

        case '"':
            quoted = !quoted;
            break;

        case '\\':
            i += quoted;
            break;

        case '{':
        case '[':
            if (!quoted && ++depth > max) {
                return 0;
            }
            break;

        case '}':
        case ']':
            depth -= !quoted && depth > 0;
            break;
        }
    }

    return 1;
}


const unsigned char *
kg_json_space(const unsigned char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
        p++;
    }

    return p;
}


static const unsigned char *
kg_json_string(const unsigned char *p)
{
    for (p++; *p != '"'; p++) {
        p += *p == '\\';
    }

    return p + 1;
}


const unsigned char *
kg_json_value(const unsigned char *p)
{
    unsigned  depth;

    depth = 0;

    for ( ;; ) {

        switch (*p) {

        case '"':
            p = kg_json_string(p);
            break;

        case '{':
        case '[':
            depth++;
            p++;
            break;

        case '}':
        case ']':
            depth--;
            p++;
            break;

        default:
            p++;
            break;
        }

        if (depth == 0 && strchr(",}] \t\n\r", *p) != NULL) {
            return p;
        }
    }
}


/* Reads the member at members->p, which is behind a "{" or a ",". */
static void
kg_members_read(kg_members_t *members)
{
    const unsigned char  *name;

    if (members->iter == NULL) {
        return;
    }

    name = kg_json_space(members->p);

    members->p = kg_json_space(kg_json_string(name));
    members->p = kg_json_space(members->p + 1);

    members->member.data = (unsigned char *) name;
    members->value.data = (unsigned char *) members->p;

    members->p = kg_json_value(members->p);

    members->member.len = (size_t) (members->p - members->member.data);
    members->value.len = (size_t) (members->p - members->value.data);
}


void
kg_members_first(kg_members_t *members, json_t *object,
    const unsigned char *p)
{
    members->object = object;
    members->iter = json_object_iter(object);
    members->p = p + 1;

    kg_members_read(members);
}


void
kg_members_next(kg_members_t *members)
{
    members->iter = json_object_iter_next(members->object, members->iter);
    members->p = kg_json_space(members->p) + 1;

    kg_members_read(members);
}


int
kg_members_named(const kg_members_t *members, const char *name)
{
    return strcmp(json_object_iter_key(members->iter), name) == 0;
}
