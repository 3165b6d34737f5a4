
/*
 * Usage: counting.  See kg_zone_usage.h, and kg_zone_usage_int.h for the
 * layout.  How counters get to Redis is in kg_zone_usage_flight.c; the lists,
 * and what a killed worker leaves of them, in kg_zone_usage_list.c.
 */

#include "kg_zone_usage_int.h"

#include "kg_time.h"


static kg_zone_used_t *kg_zone_usage_key(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, const ngx_str_t *id, uint32_t hash);
static void kg_zone_usage_saw(kg_zone_used_t *key, const u_char *address,
    uint32_t now);
static kg_zone_counter_t *kg_zone_usage_counter(kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key, uint32_t route, kg_zone_outcome_t outcome,
    uint16_t day);


static const ngx_str_t  kg_zone_outcomes[KG_ZONE_OUTCOMES] = {
    ngx_string("ok"),
    ngx_string("client_error"),
    ngx_string("server_error"),
    ngx_string("rate_limited"),
    ngx_string("forbidden"),
    ngx_string("conflict"),
    ngx_string("replayed")
};


const ngx_str_t *
kg_zone_outcome_name(kg_zone_outcome_t outcome)
{
    return &kg_zone_outcomes[outcome];
}


uint32_t
kg_zone_usage_route(kg_zone_t *zone, const ngx_str_t *name)
{
    u_short           len;
    uint32_t          route;
    ngx_str_t         known;
    kg_zone_usage_t  *usage;

    usage = zone->shared->usage;

    if (name->len > UINT16_MAX) {
        return KG_ZONE_USAGE_NO_ROUTE;
    }

    ngx_spinlock(&usage->names_lock, ngx_pid, KG_ZONE_SPIN);

    for (route = 0; route < usage->names_len; /* void */) {
        known = kg_zone_usage_name(usage, route);

        if (known.len == name->len
            && ngx_memcmp(known.data, name->data, name->len) == 0)
        {
            goto done;
        }

        route += sizeof(u_short) + known.len;
    }

    if (usage->names_size - usage->names_len < sizeof(u_short) + name->len) {
        route = KG_ZONE_USAGE_NO_ROUTE;
        goto done;
    }

    len = (u_short) name->len;

    ngx_memcpy(usage->names + route, &len, sizeof(u_short));
    ngx_memcpy(usage->names + route + sizeof(u_short), name->data, name->len);

    /* A worker killed before this line has added nothing. */

    ngx_memory_barrier();
    usage->names_len += sizeof(u_short) + name->len;

done:

    ngx_unlock(&usage->names_lock);

    return route;
}


ngx_str_t
kg_zone_usage_name(kg_zone_usage_t *usage, uint32_t route)
{
    u_short    len;
    ngx_str_t  name;

    ngx_memcpy(&len, usage->names + route, sizeof(u_short));

    name.len = len;
    name.data = usage->names + route + sizeof(u_short);

    return name;
}


void
kg_zone_usage_add(kg_zone_t *zone, const ngx_str_t *id, uint32_t route,
    kg_zone_outcome_t outcome, const u_char *address, time_t now)
{
    uint32_t                hash;
    kg_zone_used_t         *key;
    kg_zone_usage_t        *usage;
    kg_zone_counter_t      *counter;
    kg_zone_usage_shard_t  *shard;

    if (id->len > KG_KEY_ID_MAX) {
        return;
    }

    usage = zone->shared->usage;
    hash = ngx_murmur_hash2(id->data, id->len);
    shard = &usage->shards[hash % KG_ZONE_USAGE_SHARDS];
    counter = NULL;

    kg_zone_usage_lock(shard);

    key = kg_zone_usage_key(usage, shard, id, hash);

    if (key) {
        kg_zone_usage_saw(key, address, (uint32_t) now);

        if (key->state == KG_ZONE_CLEAN) {
            kg_zone_usage_move(shard, key, KG_ZONE_WAITING);
        }

        counter = kg_zone_usage_counter(shard, key, route, outcome,
                                        (uint16_t) kg_day(now));
        if (counter) {
            counter->count++;
        }
    }

    kg_zone_usage_unlock(shard);

    if (counter == NULL) {
        (void) ngx_atomic_fetch_add(&usage->lost, 1);
    }
}


/* The key's item, made when there is none; NULL when there is no room. */

static kg_zone_used_t *
kg_zone_usage_key(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard,
    const ngx_str_t *id, uint32_t hash)
{
    uint32_t         i, *where;
    kg_zone_used_t  *key;

    where = kg_zone_usage_bucket(usage, shard, hash);

    for (i = *where; i != KG_ZONE_NONE; i = key->next) {
        key = &shard->keys[i];

        if (key->hash == hash
            && key->id_len == id->len
            && ngx_memcmp(key->id, id->data, id->len) == 0)
        {
            return key;
        }
    }

    i = shard->lists[KG_ZONE_UNUSED].oldest;

    if (i == KG_ZONE_NONE) {
        i = shard->lists[KG_ZONE_CLEAN].oldest;

        if (i == KG_ZONE_NONE) {
            return NULL;
        }

        kg_zone_usage_forget(usage, shard, &shard->keys[i]);
    }

    key = &shard->keys[i];

    key->number = 0;
    key->counters = KG_ZONE_NONE;
    key->hash = hash;
    key->nseen = 0;
    key->id_len = (u_char) id->len;
    ngx_memcpy(key->id, id->data, id->len);

    /* Making room may have emptied the bucket. */

    key->next = *where;
    *where = i;

    kg_zone_usage_move(shard, key, KG_ZONE_CLEAN);

    return key;
}


static void
kg_zone_usage_saw(kg_zone_used_t *key, const u_char *address, uint32_t now)
{
    ngx_uint_t       i;
    kg_zone_seen_t  *seen;

    key->at = now;

    if (address == NULL) {
        return;
    }

    seen = key->seen;

    for (i = 0; i < key->nseen; i++) {
        if (ngx_memcmp(key->seen[i].address, address, 16) == 0) {
            key->seen[i].at = now;
            return;
        }

        if (key->seen[i].at < seen->at) {
            seen = &key->seen[i];
        }
    }

    if (key->nseen < KG_ZONE_USAGE_ADDRESSES) {
        seen = &key->seen[key->nseen];
    }

    seen->at = now;
    ngx_memcpy(seen->address, address, 16);

    if (seen == &key->seen[key->nseen]) {
        key->nseen++;
    }
}


static kg_zone_counter_t *
kg_zone_usage_counter(kg_zone_usage_shard_t *shard, kg_zone_used_t *key,
    uint32_t route, kg_zone_outcome_t outcome, uint16_t day)
{
    uint32_t            i;
    kg_zone_counter_t  *counter;

    for (i = key->counters; i != KG_ZONE_NONE; i = counter->next) {
        counter = &shard->counters[i];

        if (counter->state == KG_ZONE_COUNTS
            && counter->route == route
            && counter->outcome == outcome
            && counter->day == day)
        {
            return counter;
        }
    }

    i = shard->free;

    if (i == KG_ZONE_NONE) {
        return NULL;
    }

    counter = &shard->counters[i];
    shard->free = counter->next;

    counter->count = 0;
    counter->key = (uint32_t) (key - shard->keys);
    counter->route = route;
    counter->day = day;
    counter->outcome = (u_char) outcome;
    counter->next = key->counters;
    key->counters = i;

    ngx_memory_barrier();
    counter->state = KG_ZONE_COUNTS;

    return counter;
}
