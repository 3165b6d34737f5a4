
/*
 * The layout of the usage table in shared memory.
 *
 * Keys and counters are arrays, linked by index, each item with a state of its
 * own: a worker killed inside a lock leaves torn lists, but what the items say
 * is whole, and the lists are made anew from it.  So an item gets its state
 * last when it is taken into use, and loses it first.
 */

#ifndef KG_ZONE_USAGE_INT_H
#define KG_ZONE_USAGE_INT_H

#include "kg_zone_int.h"
#include "kg_zone_usage.h"


#define KG_ZONE_USAGE_SHARDS    16
#define KG_ZONE_USAGE_PART      16                  /* of the zone: 1/16 */
#define KG_ZONE_USAGE_MIN       (256 * 1024)
#define KG_ZONE_USAGE_MAX       (16 * 1024 * 1024)
#define KG_ZONE_USAGE_COUNTERS  4                   /* for each key */
#define KG_ZONE_USAGE_SAY       60                  /* s between log lines */

#define KG_ZONE_NONE            0xffffffff          /* no item */


/* A key's; each is a list, oldest first. */
typedef enum {
    KG_ZONE_UNUSED = 0,
    KG_ZONE_CLEAN,          /* Redis has all of it; may make room */
    KG_ZONE_WAITING,        /* something was counted */
    KG_ZONE_FLYING,         /* and is on its way */
    KG_ZONE_LISTS
} kg_zone_key_state_t;

/* A counter's. */
typedef enum {
    KG_ZONE_FREE = 0,
    KG_ZONE_COUNTS,
    KG_ZONE_TAKEN           /* in the key's flight */
} kg_zone_counter_state_t;


typedef struct {
    uint64_t            count;
    uint32_t            next;           /* of the key, or free */
    uint32_t            key;
    uint32_t            route;
    uint16_t            day;
    u_char              outcome;
    u_char              state;
} kg_zone_counter_t;


typedef struct {
    uint64_t            number;         /* of its flight; 0: none */
    uint32_t            sent;           /* that, s since the epoch */
    uint32_t            at;             /* last used, likewise */
    uint32_t            next;           /* in the bucket */
    uint32_t            older;          /* in its list */
    uint32_t            newer;
    uint32_t            counters;
    uint32_t            hash;
    u_char              state;
    u_char              nseen;
    u_char              id_len;
    u_char              id[KG_KEY_ID_MAX];
    kg_zone_seen_t      seen[KG_ZONE_USAGE_ADDRESSES];
} kg_zone_used_t;


typedef struct {
    uint32_t            oldest;
    uint32_t            newest;
    uint32_t            n;
} kg_zone_list_t;


typedef struct {
    ngx_atomic_t        lock;           /* pid of the owner, or 0 */
    kg_zone_used_t     *keys;
    kg_zone_counter_t  *counters;
    uint32_t           *buckets;
    uint32_t            free;           /* counters */
    kg_zone_list_t      lists[KG_ZONE_LISTS];
    u_char              pad[44];        /* to two cache lines */
} kg_zone_usage_shard_t;


struct kg_zone_usage_s {
    u_char              node[KG_ZONE_USAGE_NODE_LEN];
    ngx_uint_t          nkeys;          /* a shard's */
    ngx_uint_t          ncounters;
    ngx_uint_t          nbuckets;       /* a power of two */

    ngx_atomic_t        number;         /* of the last flight */
    ngx_atomic_t        turn;           /* of the shards */

    ngx_atomic_t        lost;           /* requests, not yet said */
    ngx_atomic_t        lost_said;      /* s */

    ngx_atomic_t        sender;         /* pid, or 0 */
    ngx_atomic_t        sender_seen;    /* ms */
    ngx_atomic_t        flushed;        /* ms */

    /*
     * Names of routes, for good: length and bytes of each.  A route's number
     * is where it begins; the first name is that of no route.
     */
    ngx_atomic_t        names_lock;     /* pid of the owner, or 0 */
    ngx_uint_t          names_len;
    ngx_uint_t          names_size;
    u_char             *names;

    kg_zone_usage_shard_t  shards[KG_ZONE_USAGE_SHARDS];
};


static ngx_inline void
kg_zone_usage_lock(kg_zone_usage_shard_t *shard)
{
    ngx_spinlock(&shard->lock, ngx_pid, KG_ZONE_SPIN);
}


static ngx_inline void
kg_zone_usage_unlock(kg_zone_usage_shard_t *shard)
{
    ngx_unlock(&shard->lock);
}


/* kg_zone_usage.c */

/* The name of a route's number; it stays. */
ngx_str_t kg_zone_usage_name(kg_zone_usage_t *usage, uint32_t route);


/* kg_zone_usage_list.c; the shard's lock is held */

/* Puts a key into the list of its new state, newest. */
void kg_zone_usage_move(kg_zone_usage_shard_t *shard, kg_zone_used_t *key,
    kg_zone_key_state_t state);

/* A clean key's item is unused. */
void kg_zone_usage_forget(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, kg_zone_used_t *key);

/* A counter that no key links any more is free. */
void kg_zone_usage_free(kg_zone_usage_shard_t *shard, uint32_t counter);

uint32_t *kg_zone_usage_bucket(kg_zone_usage_t *usage,
    kg_zone_usage_shard_t *shard, uint32_t hash);

#endif
