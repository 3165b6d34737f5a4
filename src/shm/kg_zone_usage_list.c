
/*
 * The usage table's memory: how it is laid out in a new zone, its lists, and
 * how they are made anew when a worker was killed while it changed them.
 */

#include "kg_zone_usage_int.h"

#include "kg_digest.h"


static ngx_int_t kg_zone_usage_alloc(kg_zone_t *zone, kg_zone_usage_t *usage);
static void kg_zone_usage_rebuild(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard);
static void kg_zone_usage_rebuild_key(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, kg_zone_used_t *key);
static void kg_zone_usage_rebuild_counter(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, uint32_t i);
static void kg_zone_usage_append(kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key);
static void kg_zone_usage_remove(kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key);


ngx_int_t
kg_zone_usage_init(kg_zone_t *zone)
{
    u_char            random[KG_ZONE_USAGE_NODE_LEN / 2];
    ngx_uint_t        i;
    kg_zone_usage_t  *usage;

    static ngx_str_t  no_route = ngx_string("-");

    usage = ngx_slab_calloc(zone->shpool, sizeof(kg_zone_usage_t));
    if (usage == NULL) {
        return NGX_ERROR;
    }

    if (kg_random(random, sizeof(random)) != KG_OK) {
        return NGX_ERROR;
    }

    kg_hex(usage->node, random, sizeof(random));

    usage->flushed = ngx_current_msec;

    if (kg_zone_usage_alloc(zone, usage) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
        kg_zone_usage_rebuild(usage, &usage->shards[i]);
    }

    zone->shared->usage = usage;

    (void) kg_zone_usage_route(zone, &no_route);

    return NGX_OK;
}


static ngx_int_t
kg_zone_usage_alloc(kg_zone_t *zone, kg_zone_usage_t *usage)
{
    size_t                  size;
    ngx_uint_t              i;
    kg_zone_usage_shard_t  *shard;

    size = zone->shm_zone->shm.size / KG_ZONE_USAGE_PART;
    size = ngx_max(size, KG_ZONE_USAGE_MIN);
    size = ngx_min(size, KG_ZONE_USAGE_MAX);

    usage->names_size = size / 16;
    usage->names = ngx_slab_calloc(zone->shpool, usage->names_size);
    if (usage->names == NULL) {
        return NGX_ERROR;
    }

    size = (size - usage->names_size) / KG_ZONE_USAGE_SHARDS;

    usage->nkeys = size / (sizeof(kg_zone_used_t)
                           + KG_ZONE_USAGE_COUNTERS * sizeof(kg_zone_counter_t)
                           + sizeof(uint32_t));
    usage->ncounters = usage->nkeys * KG_ZONE_USAGE_COUNTERS;

    for (usage->nbuckets = 1; usage->nbuckets < usage->nkeys; /* void */) {
        usage->nbuckets *= 2;
    }

    for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
        shard = &usage->shards[i];

        shard->keys = ngx_slab_calloc(zone->shpool,
                                      usage->nkeys * sizeof(kg_zone_used_t));
        shard->counters = ngx_slab_calloc(zone->shpool,
                              usage->ncounters * sizeof(kg_zone_counter_t));
        shard->buckets = ngx_slab_calloc(zone->shpool,
                                         usage->nbuckets * sizeof(uint32_t));

        if (shard->keys == NULL || shard->counters == NULL
            || shard->buckets == NULL)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
kg_zone_usage_recover(kg_zone_t *zone, ngx_log_t *log)
{
    ngx_pid_t               owner;
    ngx_uint_t              i;
    kg_zone_usage_t        *usage;
    kg_zone_usage_shard_t  *shard;

    usage = zone->shared->usage;

    if (kg_zone_orphan(&usage->names_lock, &owner)) {
        ngx_unlock(&usage->names_lock);
    }

    for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
        shard = &usage->shards[i];

        if (kg_zone_orphan(&shard->lock, &owner)) {
            kg_zone_usage_rebuild(usage, shard);
            kg_zone_usage_unlock(shard);

            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "keygate: a process died while it counted usage in "
                          "zone \"%V\", the counts are kept",
                          &zone->shm_zone->shm.name);
        }
    }
}


static void
kg_zone_usage_rebuild(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard)
{
    uint32_t  i;

    for (i = 0; i < KG_ZONE_LISTS; i++) {
        shard->lists[i].oldest = KG_ZONE_NONE;
        shard->lists[i].newest = KG_ZONE_NONE;
        shard->lists[i].n = 0;
    }

    for (i = 0; i < usage->nbuckets; i++) {
        shard->buckets[i] = KG_ZONE_NONE;
    }

    shard->free = KG_ZONE_NONE;

    for (i = 0; i < usage->nkeys; i++) {
        kg_zone_usage_rebuild_key(usage, shard, &shard->keys[i]);
    }

    for (i = 0; i < usage->ncounters; i++) {
        kg_zone_usage_rebuild_counter(usage, shard, i);
    }
}


/* A key without a flight waits: it has counters, or there is no harm in it. */

static void
kg_zone_usage_rebuild_key(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, kg_zone_used_t *key)
{
    uint32_t  *bucket;

    key->counters = KG_ZONE_NONE;

    if (key->state != KG_ZONE_UNUSED) {
        bucket = kg_zone_usage_bucket(usage, shard, key->hash);

        key->next = *bucket;
        *bucket = (uint32_t) (key - shard->keys);

        key->sent = 0;
        key->state = key->number ? KG_ZONE_FLYING : KG_ZONE_WAITING;
    }

    kg_zone_usage_append(shard, key);
}


static void
kg_zone_usage_rebuild_counter(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, uint32_t i)
{
    kg_zone_used_t     *key;
    kg_zone_counter_t  *counter;

    counter = &shard->counters[i];

    if (counter->state == KG_ZONE_FREE
        || counter->key >= usage->nkeys
        || shard->keys[counter->key].state == KG_ZONE_UNUSED)
    {
        kg_zone_usage_free(shard, i);
        return;
    }

    key = &shard->keys[counter->key];

    counter->next = key->counters;
    key->counters = i;
}


void
kg_zone_usage_move(kg_zone_usage_shard_t *shard, kg_zone_used_t *key,
    kg_zone_key_state_t state)
{
    kg_zone_usage_remove(shard, key);

    ngx_memory_barrier();
    key->state = (u_char) state;

    kg_zone_usage_append(shard, key);
}


void
kg_zone_usage_forget(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard,
    kg_zone_used_t *key)
{
    uint32_t  i, *where;

    i = (uint32_t) (key - shard->keys);

    for (where = kg_zone_usage_bucket(usage, shard, key->hash);
         *where != i;
         where = &shard->keys[*where].next)
    {
        /* void */
    }

    *where = key->next;

    kg_zone_usage_move(shard, key, KG_ZONE_UNUSED);
}


void
kg_zone_usage_free(kg_zone_usage_shard_t *shard, uint32_t counter)
{
    shard->counters[counter].state = KG_ZONE_FREE;

    ngx_memory_barrier();
    shard->counters[counter].next = shard->free;
    shard->free = counter;
}


uint32_t *
kg_zone_usage_bucket(kg_zone_usage_t *usage, kg_zone_usage_shard_t *shard,
    uint32_t hash)
{
    return &shard->buckets[(hash / KG_ZONE_USAGE_SHARDS)
                           & (usage->nbuckets - 1)];
}


static void
kg_zone_usage_append(kg_zone_usage_shard_t *shard, kg_zone_used_t *key)
{
    uint32_t         i;
    kg_zone_list_t  *list;

    i = (uint32_t) (key - shard->keys);
    list = &shard->lists[key->state];

    key->newer = KG_ZONE_NONE;
    key->older = list->newest;

    if (list->newest == KG_ZONE_NONE) {
        list->oldest = i;

    } else {
        shard->keys[list->newest].newer = i;
    }

    list->newest = i;
    list->n++;
}


static void
kg_zone_usage_remove(kg_zone_usage_shard_t *shard, kg_zone_used_t *key)
{
    kg_zone_list_t  *list;

    list = &shard->lists[key->state];

    if (key->older == KG_ZONE_NONE) {
        list->oldest = key->newer;

    } else {
        shard->keys[key->older].newer = key->newer;
    }

    if (key->newer == KG_ZONE_NONE) {
        list->newest = key->older;

    } else {
        shard->keys[key->newer].older = key->older;
    }

    list->n--;
}
