
/*
 * The vocabulary of records: which names are well formed, and the words for
 * modes and access.
 */

#include <string.h>

#include "kg_record.h"
#include "kg_token.h"


static int kg_word_valid(const kg_str_t *word, size_t max, const char *extra,
    int upper);


static const kg_str_t  kg_access_names[] = {
    kg_string("not_enabled"),
    kg_string("test"),
    kg_string("live"),
    kg_string("disabled")
};


int
kg_key_id_valid(const kg_str_t *id)
{
    size_t    head;
    kg_str_t  rest;

    head = sizeof(KG_KEY_ID_HEAD) - 1;

    if (id->len < head || memcmp(id->data, KG_KEY_ID_HEAD, head) != 0) {
        return 0;
    }

    rest.data = id->data + head;
    rest.len = id->len - head;

    return kg_word_valid(&rest, KG_KEY_ID_MAX - head, "", 1);
}


int
kg_org_id_valid(const kg_str_t *id)
{
    return kg_word_valid(id, KG_ORG_MAX, "_-", 1);
}


int
kg_scope_valid(const kg_str_t *scope)
{
    return kg_word_valid(scope, KG_SCOPE_MAX, "_.:*-", 0);
}


int
kg_policy_name_valid(const kg_str_t *name)
{
    return kg_word_valid(name, KG_POLICY_MAX, "_-", 0);
}


kg_rc_t
kg_access_parse(const kg_str_t *text, kg_access_t *access)
{
    size_t  i;

    for (i = KG_ACCESS_NOT_ENABLED; i <= KG_ACCESS_DISABLED; i++) {

        if (kg_str_eq(text, &kg_access_names[i])) {
            *access = (kg_access_t) i;
            return KG_OK;
        }
    }

    return KG_INVALID;
}


const kg_str_t *
kg_access_name(kg_access_t access)
{
    return &kg_access_names[access];
}


kg_rc_t
kg_mode_parse(const kg_str_t *text, kg_mode_t *mode)
{
    size_t  i;

    for (i = KG_MODE_TEST; i <= KG_MODE_LIVE; i++) {

        if (kg_str_eq(text, kg_mode_name((kg_mode_t) i))) {
            *mode = (kg_mode_t) i;
            return KG_OK;
        }
    }

    return KG_INVALID;
}


/* 1 when it is 1 to max of a-z 0-9, of extra and, if upper, of A-Z. */

static int
kg_word_valid(const kg_str_t *word, size_t max, const char *extra, int upper)
{
    size_t         i;
    unsigned char  c;

    if (word->len == 0 || word->len > max) {
        return 0;
    }

    for (i = 0; i < word->len; i++) {
        c = word->data[i];

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
            || (upper && c >= 'A' && c <= 'Z')
            || (c != '\0' && strchr(extra, c) != NULL))
        {
            continue;
        }

        return 0;
    }

    return 1;
}
