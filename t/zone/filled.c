
/*
 * A zone of its own.  See filled.h.
 */

#include "filled.h"


kg_zone_t                *zone;
kg_zone_shared_t         *shared;

static u_char             names[2][32];


/*
 * What a zone has for its use is a little less than its size: nginx's slab
 * keeps 24 bytes for each page of 4096, and a head.
 */

void
make_zone(size_t size)
{
    ngx_str_t   name = ngx_string("test");
    ngx_conf_t  cf;

    ngx_memzero(&cf, sizeof(ngx_conf_t));

    give_memory(size - size / KG_ZONE_PAGE * sizeof(ngx_slab_page_t) - 8192);

    zone = kg_zone_add(&cf, &name, size, NULL);
    check(zone != NULL);

    kg_zone_times(zone, 10000, 2000);

    shm_zone.shm.addr = share(KG_ZONE_PAGE);
    check(shm_zone.init(&shm_zone, NULL) == NGX_OK);

    shared = zone->shared;

    ngx_current_msec = 1000000;
    clock_now.sec = NOON;
}


void
watched(void)
{
    check(kg_zone_watch_take(zone, ngx_current_msec));
    kg_zone_watch_begin(zone, KG_ZONE_WATCHED);
    ngx_current_msec += 2;
    kg_zone_watch_trust(zone, ngx_current_msec, ngx_current_msec + 3600000);
}


kg_zone_entry_t
entry_of(ngx_uint_t n)
{
    u_char           *name;
    ngx_uint_t        i;
    kg_zone_entry_t   entry;

    static ngx_uint_t  turn;

    name = names[turn++ % 2];

    for (i = 0; i < 4; i++) {
        ((uint64_t *) (void *) name)[i] = (n + 1) * 0x9e3779b97f4a7c15 + i;
    }

    ngx_memzero(&entry, sizeof(kg_zone_entry_t));

    entry.kind = KG_ZONE_KEY;
    entry.name.len = 32;
    entry.name.data = name;

    return entry;
}


kg_zone_shard_t *
shard_of(ngx_uint_t n)
{
    kg_zone_entry_t  entry;

    entry = entry_of(n);

    return kg_zone_shard(zone, kg_zone_hash(entry.kind, &entry.name));
}


kg_zone_entry_t
look(ngx_uint_t n)
{
    kg_zone_entry_t  entry;

    entry = entry_of(n);
    check(kg_zone_lookup(zone, &entry, ngx_current_msec, NULL) == NGX_OK);

    return entry;
}


void
fill(ngx_uint_t n, size_t len)
{
    ngx_str_t        packed;
    kg_zone_entry_t  entry;
    u_char           buf[KG_RECORD_MAX];

    entry = look(n);

    ngx_memset(buf, (int) (n % 251), len);
    ngx_memcpy(buf, &n, ngx_min(len, sizeof(n)));

    packed.data = buf;
    packed.len = len;

    kg_zone_fill(zone, &entry, len ? &packed : NULL, ngx_current_msec);
}


ngx_uint_t
holds(ngx_uint_t n)
{
    u_char            data[KG_RECORD_MAX];
    uint32_t          hash;
    ngx_uint_t        i, id;
    kg_zone_node_t   *node;
    kg_zone_entry_t   entry;
    kg_zone_shard_t  *shard;

    entry = entry_of(n);
    hash = kg_zone_hash(entry.kind, &entry.name);
    shard = kg_zone_shard(zone, hash);

    for (node = shard->buckets[(hash / KG_ZONE_SHARDS)
                               & (shared->nbuckets - 1)];
         node;
         node = node->next)
    {
        if (!kg_zone_equals(node, &entry.name)) {
            continue;
        }

        if (node->absent) {
            check(node->packed_len == 0);
            return 1;
        }

        kg_zone_read(node, node->name_len, data, node->packed_len);
        ngx_memcpy(&id, data, sizeof(id));
        check(id == n);

        for (i = sizeof(id); i < node->packed_len; i++) {
            check(data[i] == n % 251);
        }

        return 1;
    }

    return 0;
}


void
check_whole(void)
{
    ngx_uint_t        i, j, blocks, absent, nfree, entries, listed;
    ngx_queue_t      *q, *lrus[2];
    kg_zone_node_t   *node;
    kg_zone_shard_t  *shard;
    kg_zone_block_t  *block;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        shard = &shared->shards[i];

        check(shard->lock == 0);

        blocks = 0;

        for (block = shard->pages; block; block = block->next) {
            blocks += KG_ZONE_PAGE / KG_ZONE_BLOCK - 1;
        }

        check(blocks == shard->nblocks);

        nfree = 0;

        for (block = shard->free; block; block = block->next) {
            nfree++;
            check(nfree <= blocks);
        }

        check(nfree == shard->nfree);

        entries = 0;
        absent = 0;
        blocks -= nfree;

        for (j = 0; j < shared->nbuckets; j++) {
            for (node = shard->buckets[j]; node; node = node->next) {
                nfree = kg_zone_blocks(node->name_len + node->packed_len);
                check(nfree <= blocks);

                entries++;
                blocks -= nfree;
                absent += node->absent ? nfree : 0;
            }
        }

        check(blocks == 0);
        check(absent == shard->absent_blocks);
        check(absent <= shared->absent_max);

        listed = 0;
        lrus[0] = &shard->records;
        lrus[1] = &shard->absences;

        for (j = 0; j < 2; j++) {
            for (q = ngx_queue_head(lrus[j]);
                 q != ngx_queue_sentinel(lrus[j]);
                 q = ngx_queue_next(q))
            {
                node = ngx_queue_data(q, kg_zone_node_t, queue);
                check(node->absent == j);
                check(ngx_queue_prev(ngx_queue_next(q)) == q);
                listed++;
                check(listed <= entries);
            }
        }

        check(listed == entries);
    }
}


ngx_uint_t
count(ngx_uint_t from, ngx_uint_t to)
{
    ngx_uint_t  n, there;

    there = 0;

    for (n = from; n < to; n++) {
        there += holds(n);
    }

    return there;
}
