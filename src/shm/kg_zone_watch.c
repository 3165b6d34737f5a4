
/*
 * The watch: who on this node is told of changes, and up to when that was sure.
 * See kg_zone.h.  Words are written singly and in an order such that a reader
 * errs only towards asking Redis.
 *
 * A process may be stopped between the look at who the watcher is and what it
 * writes after, and go on when it has long been replaced.  That does no harm:
 * what it says it knew at that time is true, and of the past by now.
 */

#include "kg_zone_int.h"


/* A watched entry is asked for again after this, ms, whatever was told. */
#define KG_ZONE_WATCHED_MAX  (5 * 60 * 1000)


static ngx_uint_t kg_zone_watch_mine(const kg_zone_shared_t *shared);
static ngx_uint_t kg_zone_watch_vacant(const kg_zone_shared_t *shared,
    ngx_pid_t watcher, ngx_msec_t now);
static ngx_uint_t kg_zone_since_epoch(const kg_zone_t *zone,
    const kg_zone_node_t *node);
static ngx_msec_t kg_zone_since(ngx_msec_t then, ngx_msec_t now);
static void kg_zone_watch_epoch(kg_zone_t *zone);


ngx_uint_t
kg_zone_watch_take(kg_zone_t *zone, ngx_msec_t now)
{
    ngx_pid_t          watcher;
    kg_zone_shared_t  *shared;

    shared = zone->shared;
    watcher = (ngx_pid_t) shared->watcher;

    if (watcher != ngx_pid) {

        if (!kg_zone_watch_vacant(shared, watcher, now)
            || !ngx_atomic_cmp_set(&shared->watcher, watcher, ngx_pid))
        {
            return 0;
        }
    }

    shared->watcher_seen = now;

    return 1;
}


static ngx_uint_t
kg_zone_watch_mine(const kg_zone_shared_t *shared)
{
    return (ngx_pid_t) shared->watcher == ngx_pid;
}


/* The other's clock may be ahead of this one's by a turn. */

static ngx_uint_t
kg_zone_watch_vacant(const kg_zone_shared_t *shared, ngx_pid_t watcher,
    ngx_msec_t now)
{
    return watcher == 0
           || (ngx_msec_int_t) (now - shared->watcher_seen)
              >= KG_ZONE_WATCHER_SILENT
           || kg_zone_dead(watcher);
}


void
kg_zone_watch_begin(kg_zone_t *zone, kg_zone_watch_t told)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    if (!kg_zone_watch_mine(shared)) {
        return;
    }

    shared->told = KG_ZONE_UNWATCHED;

    kg_zone_watch_epoch(zone);

    shared->trusted_until = shared->epoch;
    shared->told = told;
}


void
kg_zone_watch_trust(kg_zone_t *zone, ngx_msec_t sure, ngx_msec_t until)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    if (!kg_zone_watch_mine(shared)) {
        return;
    }

    if (shared->told == KG_ZONE_WATCHED) {
        shared->sure = sure;
    }

    shared->trusted_until = until;
}


void
kg_zone_watch_lost(kg_zone_t *zone, ngx_uint_t leave)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    if (!kg_zone_watch_mine(shared)) {
        return;
    }

    shared->told = KG_ZONE_UNWATCHED;

    if (leave) {
        (void) ngx_atomic_cmp_set(&shared->watcher, ngx_pid, 0);
    }
}


void
kg_zone_watch_flush(kg_zone_t *zone)
{
    if (kg_zone_watch_mine(zone->shared)) {
        kg_zone_watch_epoch(zone);
    }
}


kg_zone_watch_t
kg_zone_watch(const kg_zone_t *zone, ngx_msec_t now)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    return (ngx_msec_int_t) (shared->trusted_until - now) > 0
           ? shared->told : KG_ZONE_UNWATCHED;
}


ngx_uint_t
kg_zone_fresh(const kg_zone_t *zone, const kg_zone_node_t *node, ngx_msec_t now)
{
    ngx_msec_t  max;

    max = node->absent ? zone->negative : zone->valid;

    switch (kg_zone_watch(zone, now)) {

    case KG_ZONE_WATCHED:

        /* Who wants no cache at all has none. */

        if (max) {
            max = KG_ZONE_WATCHED_MAX;
        }

        break;

    case KG_ZONE_UNTOLD:
        break;

    default: /* KG_ZONE_UNWATCHED */
        return 0;
    }

    return kg_zone_since_epoch(zone, node)
           && kg_zone_since(node->fetched, now) < max;
}


/* What a watch of all changes has covered was right as long as that lasted. */

ngx_msec_t
kg_zone_age(const kg_zone_t *zone, const kg_zone_node_t *node, ngx_msec_t now)
{
    ngx_msec_t  age, sure;

    age = kg_zone_since(node->fetched, now);

    if (!kg_zone_since_epoch(zone, node)) {
        return age;
    }

    sure = kg_zone_since(zone->shared->sure, now);

    return ngx_min(age, sure);
}


static ngx_uint_t
kg_zone_since_epoch(const kg_zone_t *zone, const kg_zone_node_t *node)
{
    return (ngx_msec_int_t) (node->fetched - zone->shared->epoch) >= 0;
}


/* Another worker's clock may be ahead of this one's by a turn. */

static ngx_msec_t
kg_zone_since(ngx_msec_t then, ngx_msec_t now)
{
    ngx_msec_int_t  since;

    since = (ngx_msec_int_t) (now - then);

    return ngx_max(since, 0);
}


/*
 * Nothing that was looked up before this is trusted after it.  Fills under way
 * fail by the generation; those that were done a moment ago, by a worker whose
 * clock may be ahead of this one's cached time, are older than the clock is
 * once all generations have moved.  Another may be done in the same ms still,
 * hence the next one.
 */

static void
kg_zone_watch_epoch(kg_zone_t *zone)
{
    ngx_uint_t        i;
    kg_zone_shard_t  *shard;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &zone->shared->shards[i];

        kg_zone_lock(shard);
        shard->generation++;
        kg_zone_unlock(shard);
    }

    ngx_time_update();

    zone->shared->epoch = ngx_current_msec + 1;
}
