
/*
 * Usage on its way to Redis: flights, and who sends them.  See
 * kg_zone_usage.h.
 */

#include "kg_zone_usage_int.h"

#include "kg_time.h"


static kg_zone_used_t *kg_zone_usage_next(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, uint32_t now, time_t retry);
static void kg_zone_usage_mark(kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key);
static void kg_zone_usage_copy(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, kg_zone_used_t *key,
    kg_zone_taken_t *taken);
static kg_zone_used_t *kg_zone_usage_flying(kg_zone_usage_shard_t *shard,
    const kg_zone_flight_t *flight);


ngx_int_t
kg_zone_usage_take(kg_zone_t *zone, time_t now, time_t retry,
    kg_zone_taken_t *taken)
{
    ngx_uint_t              i, turn;
    kg_zone_used_t         *key;
    kg_zone_usage_t        *usage;
    kg_zone_usage_shard_t  *shard;

    usage = zone->shared->usage;
    turn = ngx_atomic_fetch_add(&usage->turn, 1);

    for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
        shard = &usage->shards[(turn + i) % KG_ZONE_USAGE_SHARDS];

        if (shard->lists[KG_ZONE_WAITING].n == 0
            && shard->lists[KG_ZONE_FLYING].n == 0)
        {
            continue;
        }

        kg_zone_usage_lock(shard);

        key = kg_zone_usage_next(usage, shard, (uint32_t) now, retry);

        if (key) {
            kg_zone_usage_copy(usage, shard, key, taken);
        }

        kg_zone_usage_unlock(shard);

        if (key) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/* A clock that was set back makes a flight due at once, which is harmless. */

static kg_zone_used_t *
kg_zone_usage_next(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard,
    uint32_t now, time_t retry)
{
    uint32_t         i;
    kg_zone_used_t  *key;

    i = shard->lists[KG_ZONE_FLYING].oldest;

    if (i != KG_ZONE_NONE
        && now - shard->keys[i].sent >= (uint32_t) retry)
    {
        key = &shard->keys[i];

    } else {
        i = shard->lists[KG_ZONE_WAITING].oldest;

        if (i == KG_ZONE_NONE) {
            return NULL;
        }

        key = &shard->keys[i];
        key->number = ngx_atomic_fetch_add(&usage->number, 1) + 1;

        ngx_memory_barrier();
        kg_zone_usage_mark(shard, key);
    }

    key->sent = now;
    kg_zone_usage_move(shard, key, KG_ZONE_FLYING);

    return key;
}


/* The counters of the key's first day join its flight. */

static void
kg_zone_usage_mark(kg_zone_usage_shard_t *shard, kg_zone_used_t *key)
{
    uint16_t            day;
    uint32_t            i;
    ngx_uint_t          n;
    kg_zone_counter_t  *counter;

    day = UINT16_MAX;

    for (i = key->counters; i != KG_ZONE_NONE; i = counter->next) {
        counter = &shard->counters[i];
        day = ngx_min(day, counter->day);
    }

    n = 0;

    for (i = key->counters; i != KG_ZONE_NONE; i = counter->next) {
        counter = &shard->counters[i];

        if (counter->day == day && n < KG_ZONE_USAGE_COUNTS) {
            counter->state = KG_ZONE_TAKEN;
            n++;
        }
    }
}


static void
kg_zone_usage_copy(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key, kg_zone_taken_t *taken)
{
    uint32_t            i;
    kg_zone_count_t    *count;
    kg_zone_counter_t  *counter;

    taken->flight.number = key->number;
    taken->flight.shard = (uint32_t) (shard - usage->shards);
    taken->flight.key = (uint32_t) (key - shard->keys);

    taken->day = kg_day(key->at);
    taken->at = key->at;
    taken->id_len = key->id_len;
    ngx_memcpy(taken->id, key->id, key->id_len);

    taken->nseen = key->nseen;
    ngx_memcpy(taken->seen, key->seen, key->nseen * sizeof(kg_zone_seen_t));

    taken->ncounts = 0;

    for (i = key->counters; i != KG_ZONE_NONE; i = counter->next) {
        counter = &shard->counters[i];

        if (counter->state != KG_ZONE_TAKEN) {
            continue;
        }

        taken->day = counter->day;

        count = &taken->counts[taken->ncounts++];

        count->route = kg_zone_usage_name(usage, counter->route);
        count->outcome = counter->outcome;
        count->count = counter->count;
    }
}


void
kg_zone_usage_landed(kg_zone_t *zone, const kg_zone_flight_t *flight)
{
    uint32_t                i, *where;
    kg_zone_used_t         *key;
    kg_zone_counter_t      *counter;
    kg_zone_usage_shard_t  *shard;

    shard = &zone->shared->usage->shards[flight->shard];

    kg_zone_usage_lock(shard);

    key = kg_zone_usage_flying(shard, flight);

    if (key) {
        for (where = &key->counters; *where != KG_ZONE_NONE; /* void */) {
            i = *where;
            counter = &shard->counters[i];

            if (counter->state == KG_ZONE_TAKEN) {
                *where = counter->next;
                kg_zone_usage_free(shard, i);

            } else {
                where = &counter->next;
            }
        }

        ngx_memory_barrier();
        key->number = 0;

        kg_zone_usage_move(shard, key, key->counters == KG_ZONE_NONE
                                       ? KG_ZONE_CLEAN : KG_ZONE_WAITING);
    }

    kg_zone_usage_unlock(shard);
}


void
kg_zone_usage_failed(kg_zone_t *zone, const kg_zone_flight_t *flight,
    time_t now)
{
    kg_zone_used_t         *key;
    kg_zone_usage_shard_t  *shard;

    shard = &zone->shared->usage->shards[flight->shard];

    kg_zone_usage_lock(shard);

    key = kg_zone_usage_flying(shard, flight);

    if (key) {
        key->sent = (uint32_t) now;
        kg_zone_usage_move(shard, key, KG_ZONE_FLYING);
    }

    kg_zone_usage_unlock(shard);
}


/* NULL when it has landed: it was sent twice. */

static kg_zone_used_t *
kg_zone_usage_flying(kg_zone_usage_shard_t *shard,
    const kg_zone_flight_t *flight)
{
    kg_zone_used_t  *key;

    key = &shard->keys[flight->key];

    return (key->state == KG_ZONE_FLYING && key->number == flight->number)
           ? key : NULL;
}


ngx_uint_t
kg_zone_usage_waiting(kg_zone_t *zone)
{
    ngx_uint_t        i, n;
    kg_zone_usage_t  *usage;

    usage = zone->shared->usage;
    n = 0;

    for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
        n += usage->shards[i].lists[KG_ZONE_WAITING].n
             + usage->shards[i].lists[KG_ZONE_FLYING].n;
    }

    return n;
}


ngx_uint_t
kg_zone_usage_pressed(kg_zone_t *zone)
{
    return kg_zone_usage_waiting(zone)
           > zone->shared->usage->nkeys * KG_ZONE_USAGE_SHARDS / 2;
}


const u_char *
kg_zone_usage_node(kg_zone_t *zone)
{
    return zone->shared->usage->node;
}


ngx_uint_t
kg_zone_usage_elect(kg_zone_t *zone, ngx_msec_t now, ngx_msec_t silent)
{
    kg_zone_usage_t    *usage;
    ngx_atomic_uint_t   sender;

    usage = zone->shared->usage;
    sender = usage->sender;

    if (sender != (ngx_atomic_uint_t) ngx_pid) {

        /* The other's clock may be ahead of this one's by a turn. */

        if (sender
            && (ngx_msec_int_t) (now - usage->sender_seen)
               < (ngx_msec_int_t) silent)
        {
            return 0;
        }

        if (!ngx_atomic_cmp_set(&usage->sender, sender, ngx_pid)) {
            return 0;
        }
    }

    usage->sender_seen = now;

    return 1;
}


void
kg_zone_usage_resign(kg_zone_t *zone)
{
    (void) ngx_atomic_cmp_set(&zone->shared->usage->sender, ngx_pid, 0);
}


ngx_uint_t
kg_zone_usage_due(kg_zone_t *zone, ngx_msec_t now, ngx_msec_t interval)
{
    kg_zone_usage_t    *usage;
    ngx_atomic_uint_t   flushed;

    usage = zone->shared->usage;
    flushed = usage->flushed;

    return (ngx_msec_int_t) (now - flushed) >= (ngx_msec_int_t) interval
           && ngx_atomic_cmp_set(&usage->flushed, flushed, now);
}


void
kg_zone_usage_log_lost(kg_zone_t *zone, ngx_log_t *log)
{
    time_t              now;
    kg_zone_usage_t    *usage;
    ngx_atomic_uint_t   lost, said;

    usage = zone->shared->usage;
    now = ngx_time();
    lost = usage->lost;
    said = usage->lost_said;

    if (lost == 0
        || now - (time_t) said < KG_ZONE_USAGE_SAY
        || !ngx_atomic_cmp_set(&usage->lost_said, said, now))
    {
        return;
    }

    (void) ngx_atomic_fetch_add(&usage->lost, -(ngx_atomic_int_t) lost);

    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "keygate: the usage of %uA requests was not counted: its "
                  "part of zone \"%V\" is full of what Redis has not taken",
                  lost, &zone->shm_zone->shm.name);
}
