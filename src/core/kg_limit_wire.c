
/*
 * Limits: what limit.lua takes and answers, packed, and the numbers of which a
 * state is made; see kg_limit.h and the head of the script.
 */

#include <string.h>

#include "kg_limit.h"
#include "kg_limit_bytes.h"


#define KG_LIMIT_HEAD_LEN   11      /* of an answer */
#define KG_LIMIT_STAND_LEN  8
#define KG_LIMIT_LEASE_LEN  12


unsigned char *
kg_limit_write_policies(unsigned char *p, uint32_t cost,
    const kg_limit_policy_t *policies, size_t n)
{
    size_t                    i;
    const kg_limit_policy_t  *policy;

    p = kg_put32(p, cost);

    for (i = 0; i < n; i++) {
        policy = &policies[i];

        *p++ = (unsigned char) (policy->bucket | policy->dry << 1);
        p = kg_put32(p, policy->limit);
        p = kg_put32(p, policy->window);

        if (policy->bucket) {
            p = kg_put_double(p, policy->unit);
            p = kg_put_double(p, policy->pace);
        }
    }

    return p;
}


unsigned char *
kg_limit_write_more(unsigned char *p, const kg_limit_ask_t *ask, size_t n)
{
    size_t  i;

    if (ask->n == 1 && !ask->want && !ask->owes && !ask->back) {
        return p;
    }

    p = kg_put32(p, ask->n);
    p = kg_put32(p, ask->want);
    p = kg_put32(p, ask->owes);
    p = kg_put32(p, ask->back);
    p = kg_put_double(p, ask->since);
    p = kg_put32(p, ask->lived);
    p = kg_put32(p, ask->life);

    for (i = 0; ask->owes && i < n; i++) {
        p = kg_put32(p, ask->debt[i]);
    }

    return p;
}


kg_rc_t
kg_limit_read_answer(const kg_str_t *text, size_t n, kg_limit_answer_t *answer)
{
    size_t                i, len;
    const unsigned char  *p;

    len = KG_LIMIT_HEAD_LEN + KG_LIMIT_STAND_LEN * n;

    if (n > KG_LIMIT_POLICIES_MAX
        || (text->len != len && text->len != len + KG_LIMIT_LEASE_LEN))
    {
        return KG_INVALID;
    }

    p = text->data;

    answer->granted = kg_get32(p);
    answer->dry = (uint32_t) (p[4] | p[5] << 8);
    answer->refusing = p[6];
    answer->relief = kg_get32(p + 7);
    answer->lease = 0;
    answer->moment = 0;

    if (answer->refusing > n) {
        return KG_INVALID;
    }

    for (i = 0; i < n; i++) {
        (void) kg_limit_read_stand(text, n, i, &answer->stand[i]);
    }

    if (text->len > len) {
        p = text->data + len;
        answer->lease = kg_get32(p);
        answer->moment = kg_get_double(p + 4);
    }

    return KG_OK;
}


kg_rc_t
kg_limit_read_stand(const kg_str_t *text, size_t n, size_t i,
    kg_limit_stand_t *stand)
{
    const unsigned char  *p;

    if (i >= n || text->len < KG_LIMIT_HEAD_LEN + KG_LIMIT_STAND_LEN * n) {
        return KG_INVALID;
    }

    p = text->data + KG_LIMIT_HEAD_LEN + KG_LIMIT_STAND_LEN * i;

    stand->left = kg_get32(p);
    stand->reset = kg_get32(p + 4);

    return KG_OK;
}
