
/*
 * The zone: sharded tables of records in shared memory.  See kg_zone.h, and
 * kg_zone_int.h for the layout.
 *
 * Of the hash of an entry's name the low bits choose the shard, the rest the
 * bucket.  It is a piece of the name of a key, which is an HMAC, and
 * MurmurHash2 of an organisation's, which is found only through a key that
 * exists: so nobody outside can aim at a bucket.  With legacy=sha256 one who
 * searches for tokens can, and what is found there then are absences, of which
 * a shard holds no more than their share.
 */

#include "kg_digest.h"
#include "kg_zone_int.h"
#include "kg_zone_usage.h"


#define KG_ZONE_FULL_EVERY  60      /* s between log lines of a full zone */

/* What is first copied without asking how long it is; most records fit. */
#define KG_ZONE_COPY        256

/* What one fill drops at most to make room. */
#define KG_ZONE_DROP_MAX    16


static ngx_int_t kg_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static ngx_int_t kg_zone_reuse(ngx_shm_zone_t *shm_zone,
    kg_zone_shared_t *shared);
static kg_zone_node_t **kg_zone_find(kg_zone_t *zone, kg_zone_shard_t *shard,
    kg_zone_kind_t kind, const ngx_str_t *name, uint32_t hash);
static void kg_zone_used(kg_zone_shard_t *shard, kg_zone_node_t *node);
static kg_zone_node_t *kg_zone_room(kg_zone_t *zone, kg_zone_shard_t *shard,
    ngx_uint_t blocks, ngx_uint_t absent);
static void kg_zone_drop_last(kg_zone_t *zone, kg_zone_shard_t *shard,
    ngx_queue_t *lru);
static void kg_zone_drop(kg_zone_t *zone, kg_zone_shard_t *shard,
    kg_zone_node_t *node);
static void kg_zone_forget(kg_zone_shard_t *shard, kg_zone_node_t **where);
static void kg_zone_full(kg_zone_t *zone);


kg_zone_t *
kg_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size, void *tag)
{
    kg_zone_t       *zone;
    ngx_shm_zone_t  *shm_zone;

    zone = ngx_pcalloc(cf->pool, sizeof(kg_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    shm_zone = ngx_shared_memory_add(cf, name, size, tag);
    if (shm_zone == NULL) {
        return NULL;
    }

    if (shm_zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is already defined", name);
        return NULL;
    }

    shm_zone->init = kg_zone_init;
    shm_zone->data = zone;
    zone->shm_zone = shm_zone;

    return zone;
}


void
kg_zone_times(kg_zone_t *zone, ngx_msec_t valid, ngx_msec_t negative)
{
    zone->valid = valid;
    zone->negative = negative;
}


static ngx_int_t
kg_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    kg_zone_t  *old = data;

    size_t             len;
    ngx_uint_t         i, n;
    kg_zone_t         *zone;
    kg_zone_shard_t   *shard;
    kg_zone_shared_t  *shared;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (old) {
        return kg_zone_reuse(shm_zone, old->shared);
    }

    if (shm_zone->shm.exists) {
        return kg_zone_reuse(shm_zone, zone->shpool->data);
    }

    shared = ngx_slab_calloc(zone->shpool, sizeof(kg_zone_shared_t));
    if (shared == NULL) {
        return NGX_ERROR;
    }

    /* About one bucket for each 256 bytes, a little over what a key costs. */

    n = shm_zone->shm.size / 256 / KG_ZONE_SHARDS;

    for (shared->nbuckets = 16; shared->nbuckets < n / 2; /* void */) {
        shared->nbuckets *= 2;
    }

    shared->absent_max = shm_zone->shm.size / KG_ZONE_BLOCK / KG_ZONE_SHARDS
                         / 8;
    shared->absent_min = shared->absent_max / 4;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &shared->shards[i];

        ngx_queue_init(&shard->records);
        ngx_queue_init(&shard->absences);

        shard->buckets = ngx_slab_calloc(zone->shpool,
                                  shared->nbuckets * sizeof(kg_zone_node_t *));
        if (shard->buckets == NULL) {
            return NGX_ERROR;
        }
    }

    /* A 64th of the zone for failures by address. */

    n = shm_zone->shm.size / 64 / sizeof(kg_zone_failure_t)
        / KG_ZONE_FAILURE_SET;

    for (shared->nfailures = 64; shared->nfailures * 2 <= n; /* void */) {
        shared->nfailures *= 2;
    }

    shared->failures = ngx_slab_calloc(zone->shpool,
                           shared->nfailures * KG_ZONE_FAILURE_SET
                           * sizeof(kg_zone_failure_t));
    if (shared->failures == NULL) {
        return NGX_ERROR;
    }

    /* A 16th of it for those who are limited. */

    n = shm_zone->shm.size / 16 / sizeof(kg_zone_limited_t)
        / KG_ZONE_LIMIT_SET;

    for (shared->nlimits = 64; shared->nlimits * 2 <= n; /* void */) {
        shared->nlimits *= 2;
    }

    shared->limits = ngx_slab_calloc(zone->shpool,
                           shared->nlimits * KG_ZONE_LIMIT_SET
                           * sizeof(kg_zone_limited_t));
    if (shared->limits == NULL
        || kg_random(shared->limits_key, sizeof(shared->limits_key)) != KG_OK)
    {
        return NGX_ERROR;
    }

    shared->layout = KG_ZONE_LAYOUT;
    shared->told = KG_ZONE_UNWATCHED;

    len = sizeof(" in keygate zone \"\"") + shm_zone->shm.name.len;

    zone->shpool->log_ctx = ngx_slab_alloc(zone->shpool, len);
    if (zone->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(zone->shpool->log_ctx, " in keygate zone \"%V\"%Z",
                &shm_zone->shm.name);

    /* A full zone is ours to log: one line a minute, not one a request. */

    zone->shpool->log_nomem = 0;
    zone->shpool->data = shared;
    zone->shared = shared;

    return kg_zone_usage_init(zone);
}


static ngx_int_t
kg_zone_reuse(ngx_shm_zone_t *shm_zone, kg_zone_shared_t *shared)
{
    kg_zone_t  *zone;

    if (shared->layout != KG_ZONE_LAYOUT) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "zone \"%V\" is of another version of this module: "
                      "give the zone another name, or restart nginx",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    zone = shm_zone->data;
    zone->shared = shared;

    return NGX_OK;
}


ngx_int_t
kg_zone_lookup(kg_zone_t *zone, kg_zone_entry_t *entry, ngx_msec_t now,
    ngx_pool_t *pool)
{
    size_t            len, room;
    uint32_t          hash;
    kg_zone_node_t   *node;
    kg_zone_shard_t  *shard;

    hash = kg_zone_hash(entry->kind, &entry->name);
    shard = kg_zone_shard(zone, hash);
    room = KG_ZONE_COPY;

again:

    entry->found = 0;
    entry->absent = 0;
    entry->fresh = 0;
    entry->asked = 0;
    entry->packed.len = 0;
    entry->packed.data = ngx_pnalloc(pool, room);

    if (entry->packed.data == NULL) {
        return NGX_ERROR;
    }

    kg_zone_lock(shard);

    entry->generation = shard->generation;

    node = *kg_zone_find(zone, shard, entry->kind, &entry->name, hash);

    if (node == NULL) {
        entry->asked = kg_zone_asked_other(zone, shard, hash,
                                           entry->generation, now)
                       != 0;
        kg_zone_unlock(shard);
        return NGX_OK;
    }

    len = node->packed_len;

    if (len > room) {
        kg_zone_unlock(shard);
        room = len;
        goto again;
    }

    kg_zone_read(node, node->name_len, entry->packed.data, len);

    entry->absent = node->absent;
    entry->age = kg_zone_age(zone, node, now);
    entry->fresh = kg_zone_fresh(zone, node, now);

    if (!entry->fresh) {
        entry->asked = kg_zone_asked_other(zone, shard, hash,
                                           entry->generation, now)
                       != 0;
    }

    kg_zone_used(shard, node);

    kg_zone_unlock(shard);

    entry->packed.len = len;
    entry->found = 1;

    return NGX_OK;
}


void
kg_zone_fill(kg_zone_t *zone, kg_zone_entry_t *entry, const ngx_str_t *packed,
    ngx_msec_t now)
{
    size_t             len;
    uint32_t           hash;
    ngx_uint_t         blocks;
    kg_zone_node_t    *node, **where;
    kg_zone_shard_t   *shard;

    len = packed ? packed->len : 0;

    if (entry->name.len > 255 || len > 65535) {
        return;
    }

    hash = kg_zone_hash(entry->kind, &entry->name);
    shard = kg_zone_shard(zone, hash);
    blocks = kg_zone_blocks(entry->name.len + len);

    kg_zone_lock(shard);

    where = kg_zone_find(zone, shard, entry->kind, &entry->name, hash);

    /* What the node counts itself no change in Redis makes untrue. */

    if (shard->generation != entry->generation
        && entry->kind != KG_ZONE_LOCAL)
    {
        kg_zone_unlock(shard);
        return;
    }

    if (*where) {
        kg_zone_forget(shard, where);
    }

    node = kg_zone_room(zone, shard, blocks, packed == NULL);

    if (node) {
        node->fetched = now;
        node->hash = hash;
        node->packed_len = (u_short) len;
        node->name_len = (u_char) entry->name.len;
        node->kind = entry->kind;
        node->absent = (packed == NULL);

        kg_zone_write(node, 0, entry->name.data, entry->name.len);

        if (packed) {
            kg_zone_write(node, entry->name.len, packed->data, len);
            ngx_queue_insert_head(&shard->records, &node->queue);

        } else {
            shard->absent_blocks += blocks;
            ngx_queue_insert_head(&shard->absences, &node->queue);
        }

        /* Making room may have dropped the bucket's last. */

        where = kg_zone_find(zone, shard, entry->kind, &entry->name, hash);

        node->next = NULL;
        *where = node;
    }

    kg_zone_unlock(shard);
}


void
kg_zone_invalidate(kg_zone_t *zone, kg_zone_kind_t kind, const ngx_str_t *name)
{
    uint32_t          hash;
    kg_zone_node_t  **where;
    kg_zone_shard_t  *shard;

    hash = kg_zone_hash(kind, name);
    shard = kg_zone_shard(zone, hash);

    kg_zone_lock(shard);

    shard->generation++;

    where = kg_zone_find(zone, shard, kind, name, hash);

    if (*where) {
        kg_zone_forget(shard, where);
    }

    kg_zone_unlock(shard);
}


void
kg_zone_recover(kg_zone_t *zone, ngx_log_t *log)
{
    ngx_pid_t         owner;
    ngx_uint_t        i;
    kg_zone_shard_t  *shard;

    /* A torn counter of failures is a counter all the same. */

    for (i = 0; i < KG_ZONE_FAILURE_LOCKS; i++) {
        if (kg_zone_orphan(&zone->shared->failure_locks[i].lock, &owner)) {
            ngx_unlock(&zone->shared->failure_locks[i].lock);
        }
    }

    /* A torn lease is not: what was leased stays spent. */

    for (i = 0; i < KG_ZONE_LIMIT_LOCKS; i++) {
        if (kg_zone_orphan(&zone->shared->limit_locks[i].lock, &owner)) {
            kg_zone_limits_forget(zone, i);
            ngx_unlock(&zone->shared->limit_locks[i].lock);
        }
    }

    if (kg_zone_orphan(&zone->shared->local_lock, &owner)) {
        ngx_unlock(&zone->shared->local_lock);
    }

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &zone->shared->shards[i];

        if (!kg_zone_orphan(&shard->lock, &owner)) {
            continue;
        }

        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "keygate: process %P died inside a lock of zone \"%V\", "
                      "a part of the cache is dropped",
                      owner, &zone->shm_zone->shm.name);

        /* The lists may be torn, so nothing in them is walked. */

        ngx_memzero(shard->buckets,
                    zone->shared->nbuckets * sizeof(kg_zone_node_t *));
        ngx_queue_init(&shard->records);
        ngx_queue_init(&shard->absences);

        ngx_memzero(shard->asked, sizeof(shard->asked));

        shard->absent_blocks = 0;
        shard->generation++;

        kg_zone_recut(shard);

        kg_zone_unlock(shard);
    }

    kg_zone_usage_recover(zone, log);
}


/* Where the node is linked, or the end of its bucket. */

static kg_zone_node_t **
kg_zone_find(kg_zone_t *zone, kg_zone_shard_t *shard, kg_zone_kind_t kind,
    const ngx_str_t *name, uint32_t hash)
{
    ngx_uint_t        bucket;
    kg_zone_node_t   *node, **where;

    bucket = (hash / KG_ZONE_SHARDS) & (zone->shared->nbuckets - 1);

    for (where = &shard->buckets[bucket]; *where; where = &(*where)->next) {
        node = *where;

        if (node->hash != hash || node->kind != (unsigned) kind) {
            continue;
        }

        /* What moves it in its LRU, so that the caches' misses overlap. */

        __builtin_prefetch(ngx_queue_prev(&node->queue), 1);
        __builtin_prefetch(ngx_queue_next(&node->queue), 1);

        if (kg_zone_equals(node, name)) {
            break;
        }
    }

    return where;
}


static void
kg_zone_used(kg_zone_shard_t *shard, kg_zone_node_t *node)
{
    ngx_queue_t  *lru;

    lru = node->absent ? &shard->absences : &shard->records;

    ngx_queue_remove(&node->queue);
    ngx_queue_insert_head(lru, &node->queue);
}


/*
 * Blocks for an entry: free ones, a new page, or what was used least recently
 * of its kind.  Absences never push out a record; records leave some blocks to
 * them, and those that absences have beyond that were free once.
 */

static kg_zone_node_t *
kg_zone_room(kg_zone_t *zone, kg_zone_shard_t *shard, ngx_uint_t blocks,
    ngx_uint_t absent)
{
    void            *page;
    ngx_uint_t       tries, left;
    ngx_queue_t     *lru;
    kg_zone_node_t  *node;

    lru = absent ? &shard->absences : &shard->records;

    while (absent && shard->absent_blocks + blocks > zone->shared->absent_max) {

        if (ngx_queue_empty(lru)) {
            return NULL;
        }

        kg_zone_drop_last(zone, shard, lru);
    }

    left = 0;

    if (!absent && shard->absent_blocks < zone->shared->absent_min) {
        left = zone->shared->absent_min - shard->absent_blocks;
    }

    for (tries = 0; tries < KG_ZONE_DROP_MAX; tries++) {

        if (shard->nfree >= blocks + left) {
            node = kg_zone_take(shard, blocks);
            if (node) {
                return node;
            }
        }

        page = ngx_slab_alloc(zone->shpool, KG_ZONE_PAGE);
        if (page) {
            kg_zone_cut(shard, page);
            continue;
        }

        kg_zone_full(zone);

        if (ngx_queue_empty(lru) || shard->nblocks < blocks + left) {
            return NULL;
        }

        kg_zone_drop_last(zone, shard, lru);
    }

    return NULL;
}


static void
kg_zone_drop_last(kg_zone_t *zone, kg_zone_shard_t *shard, ngx_queue_t *lru)
{
    kg_zone_drop(zone, shard, ngx_queue_data(ngx_queue_last(lru),
                                             kg_zone_node_t, queue));
}


static void
kg_zone_drop(kg_zone_t *zone, kg_zone_shard_t *shard, kg_zone_node_t *node)
{
    kg_zone_node_t  **where;

    where = &shard->buckets[(node->hash / KG_ZONE_SHARDS)
                            & (zone->shared->nbuckets - 1)];

    while (*where != node) {
        where = &(*where)->next;
    }

    kg_zone_forget(shard, where);
}


static void
kg_zone_forget(kg_zone_shard_t *shard, kg_zone_node_t **where)
{
    kg_zone_node_t  *node;

    node = *where;
    *where = node->next;

    ngx_queue_remove(&node->queue);

    if (node->absent) {
        shard->absent_blocks -= kg_zone_blocks(node->name_len
                                               + node->packed_len);
    }

    kg_zone_give(shard, node);
}


static void
kg_zone_full(kg_zone_t *zone)
{
    time_t             now;
    ngx_atomic_uint_t  last;

    now = ngx_time();
    last = zone->shared->full_said;

    if (now - (time_t) last < KG_ZONE_FULL_EVERY
        || !ngx_atomic_cmp_set(&zone->shared->full_said, last, now))
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "keygate: zone \"%V\" is full: the records used least "
                  "recently are dropped and looked up in Redis again; a "
                  "larger zone would keep them", &zone->shm_zone->shm.name);
}
