
/*
 * A token checked whole, as the gate has it: its shape, and of one that the
 * zone does not know the rest.
 */

#ifndef KG_TEST_TOKEN_H
#define KG_TEST_TOKEN_H

#include "kg_token.h"


static inline kg_rc_t
token_check(const kg_str_t *token, const kg_str_t *prefix, kg_mode_t *mode)
{
    if (kg_token_shape(token, prefix, mode) != KG_OK
        || !kg_token_sound(token))
    {
        return KG_INVALID;
    }

    return KG_OK;
}

#endif
