
/*
 * Records: what Redis holds of a key and of an organisation.
 *
 * In Redis they are JSON, so that anyone may write them; in the zone they are
 * packed, so that a typical key costs little and reading one costs no parsing.
 * A record with an unknown member is accepted and the member kept by whoever
 * edits it (the schema is additive); one that lacks a required member or has a
 * member of a wrong type is refused whole.
 *
 * kg:key:{<digest>}
 *     {"v":1,"id":"key_...","org":"acme","mode":"test","scopes":["loads:read"],
 *      "name":"UAT","hint":"tf_test_...Ab3d","pepper":"0a1b2c3d",
 *      "legacy":false,
 *      "createdAt":"2026-11-22T00:00:00Z","notBefore":null,"expiresAt":null,
 *      "revokedAt":null,"limits":{"default":"120r/m"},
 *      "allow":["203.0.113.0/24"]}
 *     required: v, id, org, mode, scopes
 *
 * kg:org:{<org>}
 *     {"v":1,"access":"test","name":"Acme","plan":"gold",
 *      "limits":{"org":"3000r/m"},"createdAt":"..."}
 *     required: v, access
 */

#ifndef KG_RECORD_H
#define KG_RECORD_H

#include "kg_core.h"
#include "kg_cidr.h"
#include "kg_rate.h"


#define KG_KEY_ID_MAX   64      /* bytes in a key's id */
#define KG_RECORD_MAX   16384   /* bytes of JSON, and of the packed form */
#define KG_SCOPE_MAX    128     /* bytes in a scope */
#define KG_SCOPES_MAX   64      /* scopes in a key */
#define KG_LIMITS_MAX   16      /* overrides in a record */
#define KG_ALLOW_MAX    64      /* blocks in an allow-list */
#define KG_NAME_MAX     255     /* bytes in a name */
#define KG_POLICY_MAX   32      /* bytes in a policy's or a plan's name */


typedef enum {
    KG_ACCESS_NOT_ENABLED = 0,
    KG_ACCESS_TEST,
    KG_ACCESS_LIVE,
    KG_ACCESS_DISABLED
} kg_access_t;


/* A view into packed bytes; the strings point into them. */
typedef struct {
    kg_str_t        id;
    kg_str_t        org;
    kg_mode_t       mode;
    int64_t         not_before;     /* seconds since the epoch, 0: none */
    int64_t         expires_at;
    int64_t         revoked_at;
    kg_str_t        scopes;         /* joined by single spaces */
    kg_str_t        limits;         /* packed; see kg_limits_find() */
    int             ceilings;       /* 1: the limits only lower */
    kg_str_t        allow;          /* packed; see kg_allow_match() */
} kg_key_t;

typedef struct {
    kg_access_t     access;
    kg_str_t        plan;           /* empty: none */
    kg_str_t        limits;
} kg_org_t;


/*
 * Parse a record of Redis into packed bytes in buf.  KG_OK and *len;
 * KG_INVALID with what is wrong in *why (static text that names the member,
 * fit for a log line); KG_FULL; KG_ERROR for no memory.
 */
kg_rc_t kg_key_pack(const kg_str_t *json, unsigned char *buf, size_t cap,
    size_t *len, const char **why);
kg_rc_t kg_org_pack(const kg_str_t *json, unsigned char *buf, size_t cap,
    size_t *len, const char **why);

/*
 * View packed bytes.  They come from shared memory, so every length in them
 * is checked again.  KG_OK or KG_INVALID.
 */
kg_rc_t kg_key_view(const kg_str_t *packed, kg_key_t *key);
kg_rc_t kg_org_view(const kg_str_t *packed, kg_org_t *org);

/*
 * May the key be used at now, in seconds since the epoch?  It is valid from
 * notBefore up to expiresAt, that second no more, and tolerance seconds more
 * on either side for clocks that differ.  A revocation holds whenever it is
 * said to have been.
 */
typedef enum {
    KG_KEY_VALID = 0,
    KG_KEY_NOT_YET,
    KG_KEY_REVOKED,
    KG_KEY_EXPIRED
} kg_key_validity_t;

kg_key_validity_t kg_key_validity(const kg_key_t *key, int64_t now,
    int64_t tolerance);

/*
 * 1 when the key holds the scope: the scope itself, "*", or "<area>:*" for
 * any scope of that area ("loads:*" holds "loads:read", not "loads").
 */
int kg_scopes_hold(const kg_str_t *scopes, const kg_str_t *scope);

/* KG_OK and *rate when the limits override the policy, else KG_INVALID. */
kg_rc_t kg_limits_find(const kg_str_t *limits, const kg_str_t *policy,
    kg_rate_t *rate);

/* 1 when the list is empty or has a block with the address in it, else 0. */
int kg_allow_match(const kg_str_t *allow, const unsigned char *addr,
    size_t len);

/* 1 when it is "key_" and [A-Za-z0-9]{1,60}, else 0. */
int kg_key_id_valid(const kg_str_t *id);

/* 1 when it is [A-Za-z0-9_-]{1,64}, else 0. */
int kg_org_id_valid(const kg_str_t *id);

/* 1 when it is [a-z0-9_.:*-]+ of at most KG_SCOPE_MAX bytes, else 0. */
int kg_scope_valid(const kg_str_t *scope);

/* 1 when it is [a-z0-9_-]{1,32}, else 0. */
int kg_policy_name_valid(const kg_str_t *name);

/* KG_OK and *access for "not_enabled", "test", "live", "disabled". */
kg_rc_t kg_access_parse(const kg_str_t *text, kg_access_t *access);
const kg_str_t *kg_access_name(kg_access_t access);

/* KG_OK and *mode for "test", "live". */
kg_rc_t kg_mode_parse(const kg_str_t *text, kg_mode_t *mode);

#endif
