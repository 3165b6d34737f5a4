
/*
 * What the files of the zone share: its layout in shared memory.
 *
 * Memory comes from nginx's slab a page at a time and is cut into blocks of
 * one size; an entry is a chain of them.  So a typical key costs three blocks,
 * 192 bytes, and what one entry gives back any other can use: with chunks of
 * several sizes a zone full of one size has no room for another.
 *
 * Blocks belong to a shard for good, under its lock, pages included: that is
 * what lets a shard be emptied when a worker died inside its lock.
 */

#ifndef KG_ZONE_INT_H
#define KG_ZONE_INT_H

#include <signal.h>

#include "kg_zone.h"
#include "kg_zone_limits.h"


/* To change with anything below. */
#define KG_ZONE_LAYOUT      10

#define KG_ZONE_SHARDS      64
#define KG_ZONE_SPIN        2048
#define KG_ZONE_BLOCK       64
#define KG_ZONE_PAGE        4096
#define KG_ZONE_ASKED       16          /* marks of a shard */


typedef struct kg_zone_block_s  kg_zone_block_t;
typedef struct kg_zone_node_s   kg_zone_node_t;
typedef struct kg_zone_usage_s  kg_zone_usage_t;

struct kg_zone_block_s {
    kg_zone_block_t    *next;
    u_char              data[KG_ZONE_BLOCK - sizeof(kg_zone_block_t *)];
};


/* The head of an entry, in its first block's data. */

struct kg_zone_node_s {
    kg_zone_node_t     *next;           /* in the bucket */
    ngx_queue_t         queue;          /* in an LRU, newest first */
    ngx_msec_t          fetched;
    uint32_t            hash;
    u_short             packed_len;
    u_char              name_len;
    unsigned            kind:2;
    unsigned            absent:1;
};


/* A mark: this process asks Redis; see kg_zone_asked.c. */

typedef struct {
    uint32_t            hash;           /* kg_zone_hash() of the entry */
    ngx_pid_t           pid;            /* 0: free */
    ngx_atomic_uint_t   generation;     /* of the shard, when it asked */
    ngx_msec_t          until;          /* ms: the answer comes before */
} kg_zone_asked_t;


/* Pages are linked through their first block, which holds nothing else. */

typedef struct {
    ngx_atomic_t        lock;           /* pid of the owner, or 0 */
    ngx_atomic_uint_t   generation;
    ngx_queue_t         records;        /* LRU */
    ngx_queue_t         absences;       /* LRU */
    kg_zone_node_t    **buckets;
    kg_zone_block_t    *free;
    kg_zone_block_t    *pages;
    ngx_uint_t          absent_blocks;  /* that absences take */
    ngx_uint_t          nblocks;        /* that the shard has */
    ngx_uint_t          nfree;          /* ... and are free */
    u_char              pad[32];        /* to two cache lines */
    kg_zone_asked_t     asked[KG_ZONE_ASKED];
} kg_zone_shard_t;


/* Failures of an address: see kg_zone_failures.h. */

#define KG_ZONE_FAILURE_SET    4
#define KG_ZONE_FAILURE_LOCKS  64

typedef struct {
    uint64_t            address;        /* 0: free */
    ngx_msec_t          empty;          /* ms: when its bucket is empty */
    ngx_msec_t          began;          /* ms: the last of under_way */
    uint32_t            under_way;      /* lookups that may count */
} kg_zone_failure_t;

typedef struct {
    ngx_atomic_t        lock;           /* pid of the owner, or 0 */
    u_char              pad[64 - sizeof(ngx_atomic_t)];
} kg_zone_set_lock_t;


/* Who is limited alike: see kg_zone_limits.h. */

#define KG_ZONE_LIMIT_SET       4
#define KG_ZONE_LIMIT_LOCKS     64

typedef struct {
    uint32_t            units;          /* 0: there is none */
    uint32_t            lived;          /* us */
    double              since;          /* us of Redis's clock */
    uint64_t            until;          /* us */
} kg_zone_lease_t;

typedef struct {
    u_char              name[KG_ZONE_LIMITS_NAME];
    uint64_t            used;           /* us; 0: the place is free */
    kg_zone_lease_t     leases[2];      /* in use, and the next */
    kg_zone_lease_t     back[2];        /* to be handed back */
    uint64_t            asking;         /* us: a lease is, until then */
    uint64_t            counted;        /* us: the demand is since then */
    uint32_t            demand;
    uint32_t            before;
    uint64_t            denied;         /* us: until then */
    uint64_t            relieved;       /* us: ... and surely not after */
    uint32_t            denied_cost;
    uint32_t            refusing;
    uint64_t            told;           /* us: how it stands was */
    uint32_t            rates;
    uint32_t            n;
    kg_limit_stand_t    stand[KG_ZONE_LIMITS_POLICIES];
} kg_zone_limited_t;


typedef struct {
    ngx_uint_t          layout;
    ngx_uint_t          nbuckets;       /* a shard's; a power of two */
    ngx_uint_t          absent_max;     /* blocks of a shard's absences */
    ngx_uint_t          absent_min;     /* ... that records leave to them */
    ngx_atomic_t        full_said;      /* second of the last log line */

    ngx_atomic_t        watcher;        /* pid, or 0 */
    ngx_atomic_t        watcher_seen;   /* ms */
    ngx_atomic_t        told;           /* kg_zone_watch_t */
    ngx_atomic_t        sure;           /* ms: all is known up to then */
    ngx_atomic_t        trusted_until;  /* ms */
    ngx_atomic_t        epoch;          /* ms: older entries are not trusted */

    kg_zone_usage_t    *usage;

    ngx_atomic_t            lookups_empty;  /* ms: of the reserved budget */
    ngx_uint_t              nfailures;      /* sets; a power of two */
    kg_zone_failure_t      *failures;
    kg_zone_set_lock_t  failure_locks[KG_ZONE_FAILURE_LOCKS];

    ngx_uint_t              nlimits;        /* sets; a power of two */
    kg_zone_limited_t      *limits;
    u_char                  limits_key[KG_ZONE_LIMITS_NAME];
    kg_zone_set_lock_t  limit_locks[KG_ZONE_LIMIT_LOCKS];
    ngx_atomic_t            local_lock;     /* pid of the owner, or 0 */
    uint64_t                local_until;    /* us: it is owed; 0: never */

    kg_zone_shard_t         shards[KG_ZONE_SHARDS];
} kg_zone_shared_t;


struct kg_zone_s {
    kg_zone_shared_t   *shared;
    ngx_slab_pool_t    *shpool;
    ngx_shm_zone_t     *shm_zone;
    ngx_msec_t          valid;
    ngx_msec_t          negative;
};


static ngx_inline void
kg_zone_lock(kg_zone_shard_t *shard)
{
    ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);
}


static ngx_inline void
kg_zone_unlock(kg_zone_shard_t *shard)
{
    ngx_unlock(&shard->lock);
}


/* The name of a key is a digest, of which any part is as good a hash. */

static ngx_inline uint32_t
kg_zone_hash(kg_zone_kind_t kind, const ngx_str_t *name)
{
    uint32_t  hash;

    if (kind != KG_ZONE_KEY || name->len < sizeof(hash)) {
        return ngx_murmur_hash2(name->data, name->len);
    }

    ngx_memcpy(&hash, name->data, sizeof(hash));

    return hash;
}


static ngx_inline kg_zone_shard_t *
kg_zone_shard(const kg_zone_t *zone, uint32_t hash)
{
    return &zone->shared->shards[hash % KG_ZONE_SHARDS];
}


static ngx_inline ngx_uint_t
kg_zone_dead(ngx_pid_t pid)
{
    return kill(pid, 0) == -1 && ngx_errno == ESRCH;
}


/*
 * 1 when the lock was that of a process that died; it is this one's then,
 * since of several new workers only one wins it.
 */

static ngx_inline ngx_uint_t
kg_zone_orphan(ngx_atomic_t *lock, ngx_pid_t *owner)
{
    *owner = (ngx_pid_t) *lock;

    return *owner && kg_zone_dead(*owner)
           && ngx_atomic_cmp_set(lock, *owner, ngx_pid);
}


/* kg_zone_asked.c; the shard's lock is held */

/* Another process that asks for a name of that hash, or 0. */
ngx_pid_t kg_zone_asked_other(const kg_zone_t *zone, kg_zone_shard_t *shard,
    uint32_t hash, ngx_atomic_uint_t generation, ngx_msec_t now);


/* kg_zone_block.c; the shard's lock is held */

/* Blocks that an entry of len bytes of name and record takes. */
ngx_uint_t kg_zone_blocks(size_t len);

/*
 * A chain of n blocks with all of the entry but its data, or NULL: then a page
 * has to be added or something dropped.
 */
kg_zone_node_t *kg_zone_take(kg_zone_shard_t *shard, ngx_uint_t n);
void kg_zone_give(kg_zone_shard_t *shard, kg_zone_node_t *node);

/* Cuts a page of the slab into blocks of the shard. */
void kg_zone_cut(kg_zone_shard_t *shard, void *page);

/* All the shard's pages anew, whatever they held. */
void kg_zone_recut(kg_zone_shard_t *shard);

/* Copies len bytes at offset of the entry's data in or out. */
void kg_zone_write(kg_zone_node_t *node, size_t offset, const u_char *src,
    size_t len);
void kg_zone_read(const kg_zone_node_t *node, size_t offset, u_char *dst,
    size_t len);
ngx_uint_t kg_zone_equals(const kg_zone_node_t *node, const ngx_str_t *name);


/* kg_zone_limits.c: empties the sets of a lock, which is held. */
void kg_zone_limits_forget(kg_zone_t *zone, ngx_uint_t lock);


/* kg_zone_watch.c; the shard's lock is held */

/* 1 when the entry may be used without asking Redis. */
ngx_uint_t kg_zone_fresh(const kg_zone_t *zone, const kg_zone_node_t *node,
    ngx_msec_t now);

/* How long ago, in ms, the entry was surely right. */
ngx_msec_t kg_zone_age(const kg_zone_t *zone, const kg_zone_node_t *node,
    ngx_msec_t now);

#endif
