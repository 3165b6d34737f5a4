
/*
 * Limits while Redis is away: the node counts alone, by src/core's arithmetic,
 * over states that are kept among the zone's records.  One lock is held for a
 * decision on several of them; it is taken in an outage, and after it by who
 * asks Redis, which is told what was admitted, until nothing of it counts.
 *
 * A zone that is full forgets states as it forgets records.
 */

#include "kg_zone_int.h"


/* How long Redis may take to acknowledge what it is told, us. */
#define KG_ZONE_LOCAL_TELLING  5000000


/* What Redis knows of a state, which is kept in front of it in the zone. */
typedef struct {
    uint64_t           until;           /* us: it is being told, until then */
    uint32_t           untold;          /* units */
    uint32_t           telling;         /* of these */
} kg_zone_debt_t;

typedef struct {
    kg_zone_entry_t    entry;
    u_char             digest[KG_ZONE_LIMITS_NAME];
    kg_zone_debt_t     debt;
    kg_limit_state_t   state;
} kg_zone_local_t;


static ngx_int_t kg_zone_local_load(kg_zone_t *zone, const ngx_str_t *name,
    ngx_pool_t *pool, kg_zone_local_t *local);
static void kg_zone_local_store(kg_zone_t *zone, kg_zone_local_t *local);
static uint64_t kg_zone_local_counts(const kg_limit_policy_t *policy);


ngx_int_t
kg_zone_local_decide(kg_zone_t *zone, const ngx_str_t *names,
    const kg_limit_policy_t *policies, ngx_uint_t n, const kg_limit_ask_t *ask,
    uint64_t now, ngx_pool_t *pool, kg_limit_answer_t *answer)
{
    uint64_t           until;
    ngx_int_t          rc;
    ngx_uint_t         i;
    kg_zone_local_t   *locals;
    kg_limit_state_t  *states;

    locals = ngx_palloc(pool, n * sizeof(kg_zone_local_t));
    states = ngx_palloc(pool, n * sizeof(kg_limit_state_t));

    if (locals == NULL || states == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_OK;

    ngx_spinlock(&zone->shared->local_lock, ngx_pid, KG_ZONE_SPIN);

    for (i = 0; i < n && rc == NGX_OK; i++) {
        rc = kg_zone_local_load(zone, &names[i], pool, &locals[i]);
        states[i] = locals[i].state;
    }

    if (rc == NGX_OK
        && kg_limit_decide(policies, states, n, ask, (double) now, answer)
           != KG_OK)
    {
        rc = NGX_ERROR;
    }

    for (i = 0; i < n && rc == NGX_OK && answer->granted; i++) {
        locals[i].state = states[i];
        locals[i].debt.untold += ask->cost;
        kg_zone_local_store(zone, &locals[i]);
    }

    for (i = 0; i < n; i++) {
        until = now + kg_zone_local_counts(&policies[i]);
        zone->shared->local_until = ngx_max(zone->shared->local_until, until);
    }

    ngx_unlock(&zone->shared->local_lock);

    return rc;
}


ngx_uint_t
kg_zone_local_owed(kg_zone_t *zone, const ngx_str_t *names,
    const kg_limit_policy_t *policies, ngx_uint_t n, uint64_t now,
    ngx_pool_t *pool, uint32_t *debt)
{
    ngx_uint_t          i, owes;
    kg_limit_ask_t      look;
    kg_zone_local_t    *local;
    kg_limit_state_t    state;
    kg_limit_answer_t   answer;

    local = ngx_palloc(pool, sizeof(kg_zone_local_t));
    if (local == NULL) {
        return 0;
    }

    ngx_memzero(&look, sizeof(kg_limit_ask_t));
    look.cost = 1;

    owes = 0;

    ngx_spinlock(&zone->shared->local_lock, ngx_pid, KG_ZONE_SPIN);

    for (i = 0; i < n; i++) {
        debt[i] = 0;

        if (kg_zone_local_load(zone, &names[i], pool, local) != NGX_OK
            || local->debt.untold == 0
            || local->debt.until > now)
        {
            continue;
        }

        state = local->state;

        if (kg_limit_decide(&policies[i], &state, 1, &look, (double) now,
                            &answer)
            != KG_OK)
        {
            continue;
        }

        /* What has left the window meanwhile is not owed any more. */

        debt[i] = ngx_min(local->debt.untold,
                          policies[i].limit - answer.stand[0].left);

        local->debt.untold = debt[i];

        if (debt[i]) {
            owes = 1;
            local->debt.telling = debt[i];
            local->debt.until = now + KG_ZONE_LOCAL_TELLING;
        }

        kg_zone_local_store(zone, local);
    }

    ngx_unlock(&zone->shared->local_lock);

    return owes;
}


void
kg_zone_local_told(kg_zone_t *zone, const ngx_str_t *names, ngx_uint_t n,
    ngx_uint_t told, ngx_pool_t *pool)
{
    ngx_uint_t        i;
    kg_zone_local_t  *local;

    local = ngx_palloc(pool, sizeof(kg_zone_local_t));
    if (local == NULL) {
        return;
    }

    ngx_spinlock(&zone->shared->local_lock, ngx_pid, KG_ZONE_SPIN);

    for (i = 0; i < n; i++) {

        if (kg_zone_local_load(zone, &names[i], pool, local) != NGX_OK
            || local->debt.telling == 0)
        {
            continue;
        }

        /*
         * The state stays: another worker may not have reached Redis yet, and
         * what it decides alone is of the same share.
         */

        if (told) {
            local->debt.untold -= ngx_min(local->debt.untold,
                                          local->debt.telling);
        }

        local->debt.telling = 0;
        local->debt.until = 0;
        kg_zone_local_store(zone, local);
    }

    ngx_unlock(&zone->shared->local_lock);
}


ngx_uint_t
kg_zone_local_used(const kg_zone_t *zone, uint64_t now)
{
    return now < zone->shared->local_until;
}


/* us that what is admitted now counts: its window, or until it is paid off. */

static uint64_t
kg_zone_local_counts(const kg_limit_policy_t *policy)
{
    if (policy->bucket) {
        return (uint64_t) (policy->limit * policy->unit / policy->pace) + 1;
    }

    return (uint64_t) policy->window * 1000000;
}


/* A state as it is, or none; the lock is held. */

static ngx_int_t
kg_zone_local_load(kg_zone_t *zone, const ngx_str_t *name, ngx_pool_t *pool,
    kg_zone_local_t *local)
{
    size_t      len;
    ngx_str_t  *packed;

    kg_zone_limits_begin(zone, local->digest);
    kg_zone_limits_state(local->digest, name);

    ngx_memzero(&local->entry, sizeof(kg_zone_entry_t));

    local->entry.kind = KG_ZONE_LOCAL;
    local->entry.name.data = local->digest;
    local->entry.name.len = KG_ZONE_LIMITS_NAME;

    if (kg_zone_lookup(zone, &local->entry, ngx_current_msec, pool) != NGX_OK)
    {
        return NGX_ERROR;
    }

    packed = &local->entry.packed;
    len = sizeof(kg_zone_debt_t);

    local->state.len = 0;
    ngx_memzero(&local->debt, len);

    if (local->entry.found && packed->len >= len
        && packed->len - len <= KG_LIMIT_STATE_MAX)
    {
        ngx_memcpy(&local->debt, packed->data, len);

        local->state.len = packed->len - len;
        ngx_memcpy(local->state.data, packed->data + len, local->state.len);
    }

    return NGX_OK;
}


static void
kg_zone_local_store(kg_zone_t *zone, kg_zone_local_t *local)
{
    u_char     *p;
    ngx_str_t   packed;
    u_char      data[sizeof(kg_zone_debt_t) + KG_LIMIT_STATE_MAX];

    p = ngx_cpymem(data, &local->debt, sizeof(kg_zone_debt_t));
    p = ngx_cpymem(p, local->state.data, local->state.len);

    packed.data = data;
    packed.len = p - data;

    kg_zone_fill(zone, &local->entry, &packed, ngx_current_msec);
}
