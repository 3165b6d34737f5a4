
/*
 * The watch: who on this node is told of changes, and up to when that was sure.
 * See kg_zone.h.  Words are written singly and in an order such that a reader
 * errs only towards asking Redis.
 *
 * A process may be stopped between the look at who the watcher is and what it
 * writes after, and go on when it has long been replaced.  That does no harm:
 * what it says it knew at that time is true, and of the past by now.
 */

#include <signal.h>

#include "kg_zone_int.h"


static ngx_uint_t kg_zone_watch_mine(const kg_zone_shared_t *shared);
static ngx_uint_t kg_zone_watch_vacant(const kg_zone_shared_t *shared,
    ngx_pid_t watcher, ngx_msec_t now);
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
           || (kill(watcher, 0) == -1 && ngx_errno == ESRCH);
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
