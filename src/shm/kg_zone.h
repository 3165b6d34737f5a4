
/*
 * The zone: what the workers of a node share.
 *
 * Records of keys and organisations, packed (kg_record.h), and the names of
 * keys known to be absent, in sharded hash tables with an LRU each.  A shard
 * has one lock, held for a lookup, a copy or an unlink, never while memory is
 * allocated from the slab.
 *
 * Fill race: a record that is read from Redis while it changes must not be
 * cached in its old form (measured: 198 of 200 were, without this).  A lookup
 * that misses samples its shard's generation; every invalidation, of absent
 * entries too, bumps it; kg_zone_fill() caches nothing when it has moved.
 */

#ifndef KG_ZONE_H
#define KG_ZONE_H

#include <ngx_config.h>
#include <ngx_core.h>


#define KG_ZONE_SIZE_MIN  (1024 * 1024)

typedef struct kg_zone_s  kg_zone_t;

typedef enum {
    KG_ZONE_KEY = 0,        /* named by the digest's 32 bytes */
    KG_ZONE_ORG             /* named by the organisation's id */
} kg_zone_kind_t;

typedef struct {
    kg_zone_kind_t      kind;
    ngx_str_t           name;

    /* Set by kg_zone_lookup(). */
    ngx_atomic_uint_t   generation;     /* for kg_zone_fill() */
    ngx_msec_t          age;            /* ms since it was fetched */
    ngx_str_t           packed;         /* in the pool; empty when absent */
    unsigned            found:1;
    unsigned            absent:1;       /* Redis said there is none */
} kg_zone_entry_t;


/*
 * Adds the zone to a configuration; tag is the module.  A reload keeps its
 * content when name and size are the same and the layout is this one.  NULL
 * after a line in the log.
 */
kg_zone_t *kg_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    void *tag);

/*
 * Looks entry->kind and entry->name up and copies what is there into the pool.
 * now is ngx_current_msec.  NGX_OK (see entry->found), or NGX_ERROR for no
 * memory in the pool.
 */
ngx_int_t kg_zone_lookup(kg_zone_t *zone, kg_zone_entry_t *entry,
    ngx_msec_t now, ngx_pool_t *pool);

/*
 * Caches what Redis said: packed, or its absence when packed is NULL.  Does
 * nothing when the shard's generation is no longer entry->generation, or the
 * zone is full of entries in use (one line a minute in the log).
 */
void kg_zone_fill(kg_zone_t *zone, kg_zone_entry_t *entry,
    const ngx_str_t *packed, ngx_msec_t now);

/* Forgets one entry, and any fill of it that is under way. */
void kg_zone_invalidate(kg_zone_t *zone, kg_zone_kind_t kind,
    const ngx_str_t *name);

/*
 * In init_process: frees the shards whose lock belongs to a worker that died
 * holding it, dropping what they held; nginx does so for the slab only.
 */
void kg_zone_recover(kg_zone_t *zone, ngx_log_t *log);

#endif
