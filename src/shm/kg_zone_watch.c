
/*
 * The watch: who on this node is told of changes, and up to when that was sure.
 * See kg_zone.h.  Words are written singly and in an order such that a reader
 * errs only towards asking Redis.
 */

#include "kg_zone_int.h"


static void kg_zone_bump(kg_zone_t *zone);


ngx_uint_t
kg_zone_watch_take(kg_zone_t *zone, ngx_msec_t now)
{
    ngx_atomic_uint_t   watcher;
    kg_zone_shared_t   *shared;

    shared = zone->shared;
    watcher = shared->watcher;

    if (watcher != (ngx_atomic_uint_t) ngx_pid) {

        if (watcher
            && now - shared->watcher_seen < KG_ZONE_WATCHER_SILENT)
        {
            return 0;
        }

        if (!ngx_atomic_cmp_set(&shared->watcher, watcher, ngx_pid)) {
            return 0;
        }
    }

    shared->watcher_seen = now;

    return 1;
}


void
kg_zone_watch_begin(kg_zone_t *zone, ngx_msec_t now)
{
    zone->shared->trusted_until = now;
    zone->shared->epoch = now;

    kg_zone_bump(zone);

    zone->shared->told = KG_ZONE_WATCHED;
}


void
kg_zone_watch_trust(kg_zone_t *zone, ngx_msec_t until)
{
    if (zone->shared->watcher == (ngx_atomic_uint_t) ngx_pid) {
        zone->shared->trusted_until = until;
    }
}


void
kg_zone_watch_untold(kg_zone_t *zone)
{
    zone->shared->told = KG_ZONE_UNTOLD;
}


void
kg_zone_watch_lost(kg_zone_t *zone, ngx_uint_t leave)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    if (shared->watcher != (ngx_atomic_uint_t) ngx_pid) {
        return;
    }

    shared->told = KG_ZONE_UNWATCHED;

    if (leave) {
        (void) ngx_atomic_cmp_set(&shared->watcher, ngx_pid, 0);
    }
}


void
kg_zone_watch_flush(kg_zone_t *zone, ngx_msec_t now)
{
    zone->shared->epoch = now;
    kg_zone_bump(zone);
}


kg_zone_watch_t
kg_zone_watch(const kg_zone_t *zone, ngx_msec_t now)
{
    kg_zone_shared_t  *shared;

    shared = zone->shared;

    if (shared->told != KG_ZONE_WATCHED) {
        return shared->told;
    }

    return (ngx_msec_int_t) (shared->trusted_until - now) > 0
           ? KG_ZONE_WATCHED : KG_ZONE_UNWATCHED;
}


static void
kg_zone_bump(kg_zone_t *zone)
{
    ngx_uint_t        i;
    kg_zone_shard_t  *shard;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &zone->shared->shards[i];

        kg_zone_lock(shard);
        shard->generation++;
        kg_zone_unlock(shard);
    }
}
