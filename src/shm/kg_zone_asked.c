
/*
 * Who asks Redis for a record: marks that keep the workers of a node from all
 * asking for one that the zone lacks.  See kg_zone.h.
 *
 * A mark is no lock.  It names who asked, and up to when an answer can come: a
 * worker that died, or is stuck, holds up nobody for longer.  Marks are known
 * by the hash of the name alone: two names of one hash wait for one another,
 * and then find that what came was not theirs.  A shard that has no place for
 * another mark goes without.
 */

#include "kg_zone_int.h"


static kg_zone_asked_t *kg_zone_asked_find(kg_zone_shard_t *shard,
    uint32_t hash);
static ngx_uint_t kg_zone_asked_runs(const kg_zone_asked_t *asked,
    ngx_msec_t now);
static ngx_uint_t kg_zone_asked_serves(const kg_zone_t *zone, ngx_msec_t now);


ngx_uint_t
kg_zone_ask(kg_zone_t *zone, kg_zone_entry_t *entry, ngx_msec_t now,
    ngx_msec_t bound)
{
    uint32_t          hash;
    ngx_uint_t        i;
    kg_zone_asked_t  *asked;
    kg_zone_shard_t  *shard;

    if (!kg_zone_asked_serves(zone, now)) {
        return 1;
    }

    hash = kg_zone_hash(entry->kind, &entry->name);
    shard = kg_zone_shard(zone, hash);

    kg_zone_lock(shard);

    if (kg_zone_asked_other(zone, shard, hash, entry->generation, now)) {
        kg_zone_unlock(shard);
        return 0;
    }

    asked = kg_zone_asked_find(shard, hash);

    for (i = 0; i < KG_ZONE_ASKED && asked == NULL; i++) {
        if (!kg_zone_asked_runs(&shard->asked[i], now)) {
            asked = &shard->asked[i];
        }
    }

    if (asked) {
        asked->hash = hash;
        asked->pid = ngx_pid;
        asked->generation = entry->generation;
        asked->until = now + bound;
    }

    kg_zone_unlock(shard);

    return 1;
}


ngx_uint_t
kg_zone_asked(kg_zone_t *zone, const kg_zone_entry_t *entry, ngx_msec_t now)
{
    uint32_t          hash;
    ngx_pid_t         pid;
    kg_zone_shard_t  *shard;

    hash = kg_zone_hash(entry->kind, &entry->name);
    shard = kg_zone_shard(zone, hash);

    kg_zone_lock(shard);

    pid = kg_zone_asked_other(zone, shard, hash, entry->generation, now);

    kg_zone_unlock(shard);

    return pid && !kg_zone_dead(pid);
}


void
kg_zone_answered(kg_zone_t *zone, const kg_zone_entry_t *entry)
{
    uint32_t          hash;
    kg_zone_asked_t  *asked;
    kg_zone_shard_t  *shard;

    hash = kg_zone_hash(entry->kind, &entry->name);
    shard = kg_zone_shard(zone, hash);

    kg_zone_lock(shard);

    asked = kg_zone_asked_find(shard, hash);

    if (asked && asked->pid == ngx_pid
        && asked->generation == entry->generation)
    {
        asked->pid = 0;
    }

    kg_zone_unlock(shard);
}


ngx_pid_t
kg_zone_asked_other(const kg_zone_t *zone, kg_zone_shard_t *shard,
    uint32_t hash, ngx_atomic_uint_t generation, ngx_msec_t now)
{
    kg_zone_asked_t  *asked;

    if (!kg_zone_asked_serves(zone, now)) {
        return 0;
    }

    asked = kg_zone_asked_find(shard, hash);

    if (asked == NULL || asked->pid == ngx_pid
        || asked->generation != generation
        || !kg_zone_asked_runs(asked, now))
    {
        return 0;
    }

    return asked->pid;
}


static kg_zone_asked_t *
kg_zone_asked_find(kg_zone_shard_t *shard, uint32_t hash)
{
    ngx_uint_t  i;

    for (i = 0; i < KG_ZONE_ASKED; i++) {
        if (shard->asked[i].hash == hash && shard->asked[i].pid) {
            return &shard->asked[i];
        }
    }

    return NULL;
}


static ngx_uint_t
kg_zone_asked_runs(const kg_zone_asked_t *asked, ngx_msec_t now)
{
    return asked->pid && (ngx_msec_int_t) (asked->until - now) > 0;
}


/*
 * What another asked for serves here only if it is used without asking again:
 * where records are revalidated on use, every worker revalidates.
 */

static ngx_uint_t
kg_zone_asked_serves(const kg_zone_t *zone, ngx_msec_t now)
{
    return zone->valid && zone->negative
           && kg_zone_watch(zone, now) != KG_ZONE_UNWATCHED;
}
