
/*
 * The zone: sharded tables in shared memory.
 *
 * The name of an entry is hashed with MurmurHash2: the low bits choose the
 * shard, the rest the bucket.  Names of keys are HMACs and those of
 * organisations are found only through a key that exists, so nobody outside
 * can aim at a bucket.
 */

#include <signal.h>

#include "kg_zone.h"


#define KG_ZONE_LAYOUT      1
#define KG_ZONE_SHARDS      64
#define KG_ZONE_SPIN        2048
#define KG_ZONE_FULL_EVERY  60      /* s between log lines of a full zone */

/* What is first copied without asking how long it is; most records fit. */
#define KG_ZONE_COPY        256


typedef struct kg_zone_node_s  kg_zone_node_t;

struct kg_zone_node_s {
    kg_zone_node_t     *next;           /* in the bucket */
    ngx_queue_t         queue;          /* in the shard's LRU, newest first */
    ngx_msec_t          fetched;
    uint32_t            hash;
    u_short             packed_len;
    u_char              name_len;
    unsigned            kind:1;
    unsigned            absent:1;
    u_char              data[1];        /* name, packed record */
};


typedef struct {
    ngx_atomic_t        lock;           /* pid of the owner, or 0 */
    ngx_atomic_uint_t   generation;
    ngx_queue_t         lru;
    kg_zone_node_t    **buckets;
    u_char              pad[128 - sizeof(ngx_atomic_t)
                            - sizeof(ngx_atomic_uint_t) - sizeof(ngx_queue_t)
                            - sizeof(kg_zone_node_t **)];
} kg_zone_shard_t;


typedef struct {
    ngx_uint_t          layout;
    ngx_uint_t          nbuckets;       /* a shard's; a power of two */
    ngx_atomic_t        full_logged;    /* ngx_time() of the last line */
    kg_zone_shard_t     shards[KG_ZONE_SHARDS];
} kg_zone_shared_t;


struct kg_zone_s {
    kg_zone_shared_t   *shared;
    ngx_slab_pool_t    *shpool;
    ngx_shm_zone_t     *shm_zone;
};


static ngx_int_t kg_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static kg_zone_shard_t *kg_zone_shard(kg_zone_t *zone, uint32_t hash);
static kg_zone_node_t **kg_zone_find(kg_zone_t *zone, kg_zone_shard_t *shard,
    kg_zone_kind_t kind, const ngx_str_t *name, uint32_t hash);
static void kg_zone_unlink(kg_zone_t *zone, kg_zone_shard_t *shard,
    kg_zone_node_t *node);
static kg_zone_node_t *kg_zone_alloc(kg_zone_t *zone, kg_zone_shard_t *shard,
    size_t size);
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


static ngx_int_t
kg_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    kg_zone_t  *old = data;

    size_t             len;
    ngx_uint_t         i, n;
    kg_zone_t         *zone;
    kg_zone_shared_t  *shared;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (old || shm_zone->shm.exists) {
        shared = old ? old->shared : zone->shpool->data;

        if (shared->layout != KG_ZONE_LAYOUT) {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "zone \"%V\" is of another version of this module: "
                          "give the zone another name, or restart nginx",
                          &shm_zone->shm.name);
            return NGX_ERROR;
        }

        zone->shared = shared;
        return NGX_OK;
    }

    shared = ngx_slab_calloc(zone->shpool, sizeof(kg_zone_shared_t));
    if (shared == NULL) {
        return NGX_ERROR;
    }

    /* About one bucket for each 256 bytes, what a typical key costs. */

    n = shm_zone->shm.size / 256 / KG_ZONE_SHARDS;

    for (shared->nbuckets = 16; shared->nbuckets < n; shared->nbuckets *= 2) {
        /* void */
    }

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        ngx_queue_init(&shared->shards[i].lru);

        shared->shards[i].buckets = ngx_slab_calloc(zone->shpool,
                                  shared->nbuckets * sizeof(kg_zone_node_t *));
        if (shared->shards[i].buckets == NULL) {
            return NGX_ERROR;
        }
    }

    shared->layout = KG_ZONE_LAYOUT;

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

    hash = ngx_murmur_hash2(entry->name.data, entry->name.len);
    shard = kg_zone_shard(zone, hash);
    room = KG_ZONE_COPY;

again:

    entry->packed.len = 0;
    entry->packed.data = ngx_pnalloc(pool, room);
    if (entry->packed.data == NULL) {
        return NGX_ERROR;
    }

    ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);

    entry->generation = shard->generation;

    node = *kg_zone_find(zone, shard, entry->kind, &entry->name, hash);

    if (node == NULL) {
        ngx_unlock(&shard->lock);
        entry->found = 0;
        return NGX_OK;
    }

    len = node->packed_len;

    if (len > room) {
        ngx_unlock(&shard->lock);
        room = len;
        goto again;
    }

    ngx_memcpy(entry->packed.data, node->data + node->name_len, len);
    entry->absent = node->absent;
    entry->age = now - node->fetched;

    ngx_queue_remove(&node->queue);
    ngx_queue_insert_head(&shard->lru, &node->queue);

    ngx_unlock(&shard->lock);

    entry->packed.len = len;
    entry->found = 1;

    return NGX_OK;
}


void
kg_zone_fill(kg_zone_t *zone, kg_zone_entry_t *entry, const ngx_str_t *packed,
    ngx_msec_t now)
{
    size_t             len, size;
    uint32_t           hash;
    kg_zone_node_t    *node, *old, **where;
    kg_zone_shard_t   *shard;

    len = packed ? packed->len : 0;

    if (entry->name.len > 255 || len > 65535) {
        return;
    }

    hash = ngx_murmur_hash2(entry->name.data, entry->name.len);
    shard = kg_zone_shard(zone, hash);
    size = offsetof(kg_zone_node_t, data) + entry->name.len + len;

    node = kg_zone_alloc(zone, shard, size);
    if (node == NULL) {
        kg_zone_full(zone);
        return;
    }

    node->fetched = now;
    node->hash = hash;
    node->packed_len = (u_short) len;
    node->name_len = (u_char) entry->name.len;
    node->kind = entry->kind;
    node->absent = (packed == NULL);

    ngx_memcpy(node->data, entry->name.data, entry->name.len);

    if (len) {
        ngx_memcpy(node->data + entry->name.len, packed->data, len);
    }

    ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);

    if (shard->generation != entry->generation) {
        ngx_unlock(&shard->lock);
        ngx_slab_free(zone->shpool, node);
        return;
    }

    where = kg_zone_find(zone, shard, entry->kind, &entry->name, hash);
    old = *where;

    if (old) {
        ngx_queue_remove(&old->queue);
        node->next = old->next;

    } else {
        node->next = NULL;
    }

    *where = node;
    ngx_queue_insert_head(&shard->lru, &node->queue);

    ngx_unlock(&shard->lock);

    if (old) {
        ngx_slab_free(zone->shpool, old);
    }
}


void
kg_zone_invalidate(kg_zone_t *zone, kg_zone_kind_t kind, const ngx_str_t *name)
{
    uint32_t          hash;
    kg_zone_node_t   *node;
    kg_zone_shard_t  *shard;

    hash = ngx_murmur_hash2(name->data, name->len);
    shard = kg_zone_shard(zone, hash);

    ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);

    shard->generation++;

    node = *kg_zone_find(zone, shard, kind, name, hash);

    if (node) {
        kg_zone_unlink(zone, shard, node);
    }

    ngx_unlock(&shard->lock);

    if (node) {
        ngx_slab_free(zone->shpool, node);
    }
}


void
kg_zone_recover(kg_zone_t *zone, ngx_log_t *log)
{
    ngx_pid_t         owner;
    ngx_uint_t        i;
    kg_zone_shard_t  *shard;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &zone->shared->shards[i];
        owner = (ngx_pid_t) shard->lock;

        if (owner == 0 || kill(owner, 0) == 0 || ngx_errno != ESRCH) {
            continue;
        }

        /* Whoever wins the lock from the dead worker empties the shard. */

        if (!ngx_atomic_cmp_set(&shard->lock, owner, ngx_pid)) {
            continue;
        }

        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "keygate: process %P died inside a lock of zone \"%V\", "
                      "a part of the cache is dropped",
                      owner, &zone->shm_zone->shm.name);

        /*
         * The lists may be torn, so the nodes cannot be walked: their memory
         * stays lost until nginx restarts.
         */

        ngx_memzero(shard->buckets,
                    zone->shared->nbuckets * sizeof(kg_zone_node_t *));
        ngx_queue_init(&shard->lru);
        shard->generation++;

        ngx_unlock(&shard->lock);
    }
}


static kg_zone_shard_t *
kg_zone_shard(kg_zone_t *zone, uint32_t hash)
{
    return &zone->shared->shards[hash % KG_ZONE_SHARDS];
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

        if (node->hash == hash
            && node->kind == (unsigned) kind
            && node->name_len == name->len
            && ngx_memcmp(node->data, name->data, name->len) == 0)
        {
            break;
        }
    }

    return where;
}


static void
kg_zone_unlink(kg_zone_t *zone, kg_zone_shard_t *shard, kg_zone_node_t *node)
{
    kg_zone_node_t  **where;

    where = &shard->buckets[(node->hash / KG_ZONE_SHARDS)
                            & (zone->shared->nbuckets - 1)];

    while (*where != node) {
        where = &(*where)->next;
    }

    *where = node->next;
    ngx_queue_remove(&node->queue);
}


/* Memory for a node, taken from the shard's least recently used if need be. */

static kg_zone_node_t *
kg_zone_alloc(kg_zone_t *zone, kg_zone_shard_t *shard, size_t size)
{
    ngx_uint_t        tries;
    kg_zone_node_t   *node, *victim;

    for (tries = 0; tries < 8; tries++) {

        node = ngx_slab_alloc(zone->shpool, size);
        if (node) {
            return node;
        }

        ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);

        if (ngx_queue_empty(&shard->lru)) {
            ngx_unlock(&shard->lock);
            break;
        }

        victim = ngx_queue_data(ngx_queue_last(&shard->lru), kg_zone_node_t,
                                queue);
        kg_zone_unlink(zone, shard, victim);

        ngx_unlock(&shard->lock);

        ngx_slab_free(zone->shpool, victim);
    }

    return NULL;
}


static void
kg_zone_full(kg_zone_t *zone)
{
    time_t             now;
    ngx_atomic_uint_t  last;

    now = ngx_time();
    last = zone->shared->full_logged;

    if (now - (time_t) last < KG_ZONE_FULL_EVERY
        || !ngx_atomic_cmp_set(&zone->shared->full_logged, last, now))
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "keygate: zone \"%V\" is full, records are looked up in "
                  "Redis instead: make it larger",
                  &zone->shm_zone->shm.name);
}
