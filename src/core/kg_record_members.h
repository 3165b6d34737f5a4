
/*
 * The members of records, between the table that reads them and kg_record.c,
 * which assembles the packed form.
 */

#ifndef KG_RECORD_MEMBERS_H
#define KG_RECORD_MEMBERS_H

#include <jansson.h>

#include "kg_core.h"


/* The fields of a head; a member's reader fills the one its row names. */

enum {
    KG_FIELD_ID = 0,
    KG_FIELD_ORG,
    KG_FIELD_SCOPES,
    KG_FIELD_LIMITS,
    KG_FIELD_ALLOW,
    KG_FIELD_PLAN,
    KG_FIELD_MODE,
    KG_FIELD_ACCESS,
    KG_FIELD_NOT_BEFORE,
    KG_FIELD_EXPIRES_AT,
    KG_FIELD_REVOKED_AT,
    KG_FIELD_CEILINGS,
    KG_FIELD_UNPACKED,      /* checked only */
    KG_FIELDS
};

typedef struct {
    unsigned char  *pos;                    /* where the next part goes */
    unsigned char  *end;
    uint64_t        field[KG_FIELDS];       /* a length, a time, an enum */
} kg_draft_t;

typedef struct {
    const char     *name;                   /* NULL ends a table */
    unsigned        field;
    kg_rc_t       (*read)(kg_draft_t *draft, const json_t *value,
                          uint64_t *field);
    const char     *missing;                /* NULL: optional */
    const char     *wrong;
} kg_member_t;


/*
 * The tables; their order is the order of the packed parts.  A reader gets a
 * value that is neither absent nor null, appends its part to the draft and
 * sets the field.  KG_OK, KG_INVALID or KG_FULL.
 */
extern const kg_member_t  kg_key_members[];
extern const kg_member_t  kg_org_members[];

#endif
