
/*
 * The zone: what the workers of a node share.
 *
 * Records of keys and organisations, packed (kg_record.h), and the names of
 * keys known to be absent, in sharded hash tables.  A shard has one lock, held
 * for a lookup, a copy or an unlink.  Records and absences have an LRU each,
 * and absences never take more than an eighth, so that a flood of unknown keys
 * does not push out the known ones.
 *
 * Fill race: a record that is read from Redis while it changes must not be
 * cached in its old form (measured: 198 of 200 were, without this).  A lookup
 * that misses samples its shard's generation; every invalidation, of absent
 * entries too, bumps it; kg_zone_fill() caches nothing when it has moved.
 *
 * Stampede: of the workers that miss on one record one asks Redis, and leaves a
 * mark; the others see it, and then the answer, in the zone.
 *
 * Trust: an entry may be used without asking Redis as long as somebody on this
 * node is told of every change (kg_zone_watch_...).  One worker a node is; the
 * moment up to which it surely was is in the zone.  When that has passed, or
 * an entry was fetched before the present watch began, it is revalidated.
 * Where Redis tells of some changes only, an entry is fresh for a time as well.
 */

#ifndef KG_ZONE_H
#define KG_ZONE_H

#include <ngx_config.h>
#include <ngx_core.h>


#define KG_ZONE_SIZE_MIN  (1024 * 1024)

typedef struct kg_zone_s  kg_zone_t;

typedef enum {
    KG_ZONE_KEY = 0,        /* named by the digest's 32 bytes */
    KG_ZONE_ORG,            /* named by the organisation's id */
    KG_ZONE_LOCAL           /* a limit's state: see kg_zone_limits.h */
} kg_zone_kind_t;

typedef struct {
    kg_zone_kind_t      kind;
    ngx_str_t           name;           /* at most 255 bytes */

    /* Set by kg_zone_lookup(). */
    ngx_atomic_uint_t   generation;     /* for kg_zone_fill() */
    ngx_msec_t          age;            /* ms since it was surely right */
    ngx_str_t           packed;         /* in the pool; empty when absent */
    unsigned            found:1;
    unsigned            absent:1;       /* Redis said there is none */
    unsigned            fresh:1;        /* it need not be asked again */
    unsigned            asked:1;        /* ... and another process asks */
} kg_zone_entry_t;


/*
 * Adds the zone to a configuration; tag is the module.  A reload keeps its
 * content when name and size are the same and the layout is this one.  valid
 * and negative, in ms, are how long a record and an absence are fresh where
 * Redis does not tell of all changes, and with 0 they never are; they may be
 * set until the configuration is complete.  NULL after a line in the log.
 */
kg_zone_t *kg_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    void *tag);
void kg_zone_times(kg_zone_t *zone, ngx_msec_t valid, ngx_msec_t negative);

/*
 * Looks entry->kind and entry->name up and copies what is there into the pool.
 * now is ngx_current_msec.  NGX_OK (see entry->found), or NGX_ERROR for no
 * memory in the pool.
 */
ngx_int_t kg_zone_lookup(kg_zone_t *zone, kg_zone_entry_t *entry,
    ngx_msec_t now, ngx_pool_t *pool);

/*
 * Caches what Redis said: packed, or its absence when packed is NULL.  Makes
 * room by dropping what was used least recently.  Does nothing when there is
 * no room, or when the shard's generation is no longer entry->generation: but
 * KG_ZONE_LOCAL is the node's own, which no change in Redis makes untrue.
 */
void kg_zone_fill(kg_zone_t *zone, kg_zone_entry_t *entry,
    const ngx_str_t *packed, ngx_msec_t now);

/*
 * Before Redis is asked for an entry that is missing or not fresh: 0 when
 * another process asks for it, which kg_zone_asked() says until that has been
 * answered, has died or its time is over.  1: this process is to ask, and to
 * call kg_zone_answered() whatever came of it, within bound, in ms, which is
 * how long others wait.  entry->generation is that of kg_zone_lookup().
 */
ngx_uint_t kg_zone_ask(kg_zone_t *zone, kg_zone_entry_t *entry, ngx_msec_t now,
    ngx_msec_t bound);
ngx_uint_t kg_zone_asked(kg_zone_t *zone, const kg_zone_entry_t *entry,
    ngx_msec_t now);
void kg_zone_answered(kg_zone_t *zone, const kg_zone_entry_t *entry);

/* Forgets one entry, and any fill of it that is under way. */
void kg_zone_invalidate(kg_zone_t *zone, kg_zone_kind_t kind,
    const ngx_str_t *name);

/*
 * In init_process: frees the shards whose lock belongs to a worker that died
 * holding it, dropping what they held; nginx does so for the slab only.
 */
void kg_zone_recover(kg_zone_t *zone, ngx_log_t *log);


/*
 * Who is told of changes: one process a node.  Where now is an argument it is
 * ngx_current_msec.  But for kg_zone_watch_take() and kg_zone_watch() these
 * are the watcher's, and do nothing in a process that has been replaced.
 */

typedef enum {
    KG_ZONE_UNWATCHED = 0,  /* lost, or not begun: revalidate on use */
    KG_ZONE_WATCHED,
    KG_ZONE_UNTOLD          /* not told of all: entries are fresh a while */
} kg_zone_watch_t;

/* How long a watcher may be silent before another process takes over, ms. */
#define KG_ZONE_WATCHER_SILENT  1000

/*
 * 1 when this process is the watcher, or becomes it because there is none, it
 * has died or been silent.  A watcher calls it again and again; 0 means it has
 * been replaced and must stop.
 */
ngx_uint_t kg_zone_watch_take(kg_zone_t *zone, ngx_msec_t now);

/*
 * The watch begins (or begins anew), of all changes, KG_ZONE_WATCHED, or of
 * some, KG_ZONE_UNTOLD: what was fetched before this moment is not trusted,
 * and no fill that is under way is kept.  Trust comes with the first
 * kg_zone_watch_trust().
 */
void kg_zone_watch_begin(kg_zone_t *zone, kg_zone_watch_t told);

/* Every change up to sure is known; entries are trusted until then. */
void kg_zone_watch_trust(kg_zone_t *zone, ngx_msec_t sure, ngx_msec_t until);

/* The watch was lost; the watcher stays, or with leave gives it up. */
void kg_zone_watch_lost(kg_zone_t *zone, ngx_uint_t leave);

/* Every entry changed at once (FLUSHALL). */
void kg_zone_watch_flush(kg_zone_t *zone);

kg_zone_watch_t kg_zone_watch(const kg_zone_t *zone, ngx_msec_t now);

#endif
