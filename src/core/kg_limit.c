
/*
 * Limits: the decision.  See kg_limit.h for the rules and for the bytes.
 *
 * Every step is that of limit.lua, in the same order and in the same double
 * precision, so that both make the same bytes; all times and counts stay whole
 * numbers below 2^53.
 */

#include "kg_limit_int.h"


/* A unit of a bucket is at least a millionth of what a request adds. */
#define KG_LIMIT_UNIT_MIN       (1 << 20)


static double kg_limit_lease(double left, const kg_limit_ask_t *ask,
    double lease);
static kg_rc_t kg_limit_open(kg_limit_work_t *work,
    const kg_limit_state_t *state, const kg_limit_ask_t *ask, double debt,
    double clock, double *lease);
static double kg_limit_relief(kg_limit_work_t *work, double cost,
    double granted, double units, double stamp, double clock);
static void kg_limit_close(kg_limit_work_t *work, kg_limit_state_t *state);
static void kg_limit_stand(const kg_limit_work_t *work, double clock,
    kg_limit_stand_t *stand);


void
kg_limit_policy(kg_limit_policy_t *policy, const kg_rate_t *rate,
    uint32_t burst)
{
    uint64_t  time, most;

    memset(policy, 0, sizeof(kg_limit_policy_t));

    policy->limit = rate->requests;
    policy->window = rate->window;

    if (burst == 0) {
        return;
    }

    most = (uint64_t) KG_LIMIT_REFILL_MAX * rate->requests / rate->window;

    policy->bucket = 1;
    policy->limit = (uint32_t) (burst < most ? burst : most);

    time = (uint64_t) rate->window * 1000000;
    policy->pace = 1;

    while (time / rate->requests < KG_LIMIT_UNIT_MIN) {
        time *= 2;
        policy->pace *= 2;
    }

    policy->unit = (double) ((time + rate->requests - 1) / rate->requests);
}


uint64_t
kg_limit_refill(const kg_rate_t *rate, uint32_t burst)
{
    return ((uint64_t) burst * rate->window + rate->requests - 1)
           / rate->requests;
}


uint32_t
kg_limit_life(const kg_limit_policy_t *policy)
{
    double  life;

    life = policy->window * 1000000.0;

    if (policy->bucket) {
        life = policy->limit * policy->unit / policy->pace;
    }

    return (uint32_t) kg_limit_min(kg_limit_floor(life / 60), 1000000);
}


kg_rc_t
kg_limit_decide(const kg_limit_policy_t *policies, kg_limit_state_t *states,
    size_t n, const kg_limit_ask_t *ask, double clock,
    kg_limit_answer_t *answer)
{
    size_t            i;
    double            cost, granted, lease, stamp, units, relief;
    kg_limit_work_t  *work, works[KG_LIMIT_POLICIES_MAX];

    if (n > KG_LIMIT_POLICIES_MAX || ask->cost == 0) {
        return KG_INVALID;
    }

    memset(answer, 0, sizeof(kg_limit_answer_t));

    cost = ask->cost;
    granted = ask->n;
    lease = ask->want;

    for (i = 0; i < n; i++) {
        work = &works[i];
        work->policy = &policies[i];

        if (kg_limit_open(work, &states[i], ask, ask->owes ? ask->debt[i] : 0,
                          clock, &lease)
            != KG_OK)
        {
            return KG_INVALID;
        }

        if (work->left >= ask->n * cost) {
            continue;
        }

        if (policies[i].dry) {
            answer->dry |= 1u << i;

        } else if (work->left < granted * cost) {
            granted = work->left < cost ? 0
                                        : kg_limit_floor(work->left / cost);
        }
    }

    /* A part of a request is of no use. */

    if (granted < ask->n || lease < cost) {
        lease = 0;

    } else {
        lease = kg_limit_floor(lease / cost) * cost;
    }

    stamp = clock + (lease > 0 ? ask->life : 0);
    relief = 0;

    for (i = 0; i < n; i++) {
        work = &works[i];
        units = granted * cost + lease;

        /* A dry policy grants what it has. */

        if (units > work->left) {
            units = work->left < cost
                    ? 0 : kg_limit_floor(work->left / cost) * cost;
        }

        if (granted < ask->n && !policies[i].dry
            && work->left < (granted + 1) * cost)
        {
            relief = kg_limit_relief(work, cost, granted, units, stamp, clock);

            if (relief > answer->relief) {
                answer->refusing = (uint32_t) i + 1;
                answer->relief = (uint32_t) relief;
            }
        }

        if (units + work->add > 0 || work->must) {

            if (policies[i].bucket) {
                kg_limit_charge_bucket(work, units, ask, lease, clock);

            } else {
                kg_limit_charge_window(work, units, stamp, clock);
            }

            kg_limit_close(work, &states[i]);
        }

        kg_limit_stand(work, clock, &answer->stand[i]);
    }

    answer->granted = (uint32_t) granted;
    answer->lease = (uint32_t) lease;
    answer->moment = lease > 0 ? clock : 0;

    return KG_OK;
}


static kg_rc_t
kg_limit_open(kg_limit_work_t *work, const kg_limit_state_t *state,
    const kg_limit_ask_t *ask, double debt, double clock, double *lease)
{
    kg_rc_t  rc;
    double   base;

    work->len = state->len;
    work->add = debt;
    work->must = debt > 0;
    work->total = 0;
    work->count = 0;
    work->newest = clock;
    work->oldest = clock;
    work->expiry = 0;
    work->born = clock;
    work->before = -1;
    work->spare = 0;
    work->first = work->nfirst = work->nlast = work->from = work->nring = 0;

    memcpy(work->data, state->data, state->len);
    memset(work->data + state->len, 0, KG_LIMIT_STATE_MAX - state->len);

    rc = work->policy->bucket ? kg_limit_open_bucket(work, ask, clock)
                              : kg_limit_open_window(work, ask, clock);
    if (rc != KG_OK) {
        return rc;
    }

    base = work->left;

    if (work->policy->bucket && work->total < ask->life * work->policy->pace) {
        base = kg_limit_floor((work->room - ask->life * work->policy->pace)
                              / work->policy->unit);
    }

    if (ask->want) {
        *lease = kg_limit_lease(base, ask, *lease);
    }

    return KG_OK;
}


static double
kg_limit_lease(double left, const kg_limit_ask_t *ask, double lease)
{
    return kg_limit_min(lease, kg_limit_floor((left - (double) ask->n
                                                      * ask->cost) / 8));
}


/* ms until one more request than those granted can succeed. */

static double
kg_limit_relief(kg_limit_work_t *work, double cost, double granted,
    double units, double stamp, double clock)
{
    double                    next;
    const kg_limit_policy_t  *policy;

    policy = work->policy;
    next = (granted + 1) * cost;

    if (cost > policy->limit) {
        return KG_LIMIT_NEVER;
    }

    if (!policy->bucket) {
        return kg_limit_relief_window(work, next - work->left,
                                      units + work->add, stamp, clock);
    }

    return kg_limit_min(kg_limit_ceil((next * policy->unit + work->total
                                       - work->room)
                                      / policy->pace / 1000),
                        KG_LIMIT_MS_MAX);
}


static void
kg_limit_close(kg_limit_work_t *work, kg_limit_state_t *state)
{
    state->len = work->len;
    memcpy(state->data, work->data, work->len);
}


static void
kg_limit_stand(const kg_limit_work_t *work, double clock,
    kg_limit_stand_t *stand)
{
    double  left, reset;

    if (work->policy->bucket) {
        left = kg_limit_floor((work->room - work->total)
                              / work->policy->unit);
        reset = kg_limit_ceil(work->total / work->policy->pace / 1000);
        reset = kg_limit_min(reset, KG_LIMIT_MS_MAX);

    } else {
        left = work->policy->limit - work->total;
        reset = work->total > 0
                ? kg_limit_ceil((work->newest + work->window - clock) / 1000)
                : 0;
        reset = kg_limit_min(reset, work->policy->window * 1000.0);
    }

    stand->left = left > 0 ? (uint32_t) left : 0;
    stand->reset = (uint32_t) reset;
}
