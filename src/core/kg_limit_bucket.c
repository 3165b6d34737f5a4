
/*
 * Limits: the token bucket, a debt that time pays off.  See kg_limit.h.
 */

#include "kg_limit_int.h"


static void kg_limit_return(kg_limit_work_t *work, const kg_limit_ask_t *ask);


kg_rc_t
kg_limit_open_bucket(kg_limit_work_t *work, const kg_limit_ask_t *ask,
    double clock)
{
    double                    was, most;
    const unsigned char      *p;
    const kg_limit_policy_t  *policy;

    policy = work->policy;
    p = work->data;

    work->room = policy->limit * policy->unit;
    work->window = kg_limit_ceil(work->room / policy->pace);

    if (work->len) {

        if (work->len != KG_LIMIT_BUCKET_LEN || p[0] != KG_LIMIT_BUCKET) {
            return KG_INVALID;
        }

        work->total = kg_get_double(p + 1);
        work->newest = kg_get_double(p + 9);
        was = kg_get_double(p + 17);
        work->expiry = kg_get_double(p + 25);
        work->born = kg_get_double(p + 33);
        work->spare = kg_get_double(p + 41);

        if (was != policy->unit) {
            work->total = kg_limit_ceil(work->total / was * policy->unit);
            work->spare = 0;
        }

        work->before = work->newest;

        /* A clock that was set back stands still, for so long at most. */

        if (work->newest < clock) {
            work->total -= (clock - work->newest) * policy->pace;
            work->newest = clock;

        } else if (work->newest - clock > work->window) {
            work->born = kg_limit_max(work->born, work->newest + 1);
            work->newest = clock;
            work->must = 1;
        }

        work->total = kg_limit_max(work->total, 0);
        work->spare = kg_limit_min(work->spare, work->total);

        if (ask->back && work->born <= ask->since
            && ask->since <= work->newest)
        {
            kg_limit_return(work, ask);
        }

        /* At a lower rate it is paid off later than Redis would forget it. */

        if (work->expiry * 1000 < work->newest + work->total / policy->pace) {
            work->must = 1;
        }
    }

    if (work->add > 0) {
        most = kg_limit_max(2 * work->room, work->total);
        work->total += work->add * policy->unit;

        if (work->total > most) {
            work->total = most;
            work->spare = 0;
        }
    }

    work->left = kg_limit_floor((work->room - work->total) / policy->unit);

    return KG_OK;
}


/* Takes back of a lease what neither time nor another lease has made up for. */

static void
kg_limit_return(kg_limit_work_t *work, const kg_limit_ask_t *ask)
{
    double  held;

    held = kg_limit_min(ask->back * work->policy->unit, work->spare);

    if (held > 0) {
        work->total -= held;
        work->spare -= held;
        work->must = 1;
    }
}


void
kg_limit_charge_bucket(kg_limit_work_t *work, double units,
    const kg_limit_ask_t *ask, double lease, double clock)
{
    double                    least, ttl, owed;
    unsigned char            *p;
    const kg_limit_policy_t  *policy;

    policy = work->policy;

    if (lease > 0) {
        least = ask->life * policy->pace;

        work->total = kg_limit_max(work->total, least);
        work->spare = kg_limit_min(work->spare, work->total - least);
    }

    work->total += units * policy->unit;

    /* From a new moment on, which no earlier lease has. */

    if (lease > 0 && work->spare < lease * policy->unit
        && work->before < work->newest)
    {
        work->born = kg_limit_max(work->born, work->newest);
        work->spare = work->total;
    }

    if (work->expiry * 1000 < work->newest + work->total / policy->pace) {
        ttl = 2 * kg_limit_ceil(work->window / 1000);
        owed = kg_limit_ceil((work->newest - clock
                              + work->total / policy->pace) / 1000);

        /* Where burst= was higher, there may be more than fits now. */

        if (ttl < owed) {
            ttl = kg_limit_min(owed, KG_LIMIT_TTL_MAX);
        }

        ttl += 1000;
        work->expiry = kg_limit_floor(clock / 1000) + ttl;
    }

    p = work->data;

    *p++ = KG_LIMIT_BUCKET;
    p = kg_put_double(p, work->total);
    p = kg_put_double(p, work->newest);
    p = kg_put_double(p, policy->unit);
    p = kg_put_double(p, work->expiry);
    p = kg_put_double(p, work->born);
    p = kg_put_double(p, work->spare);

    work->len = KG_LIMIT_BUCKET_LEN;
}
