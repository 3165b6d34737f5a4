
/*
 * The zone's records without nginx around them: what is dropped when there is
 * no room, and what a warm lookup costs.  t/test_zone.py builds and runs it.
 *
 *     records lru          of records, the least recently used go first
 *     records absences     absences have their share, and no more
 *     records full         a full zone goes on, and says so once a minute
 *     records locks        locks taken by a lookup
 *     records changed      what a change that comes meanwhile keeps out
 *     records names        names of one hash are names of their own
 *     records bytes        a record of every length is read as it was written
 *     records layout       a zone of another layout is not used
 *     records room MB      bytes of such a zone for each typical key
 */

#include <stdlib.h>

#include "filled.h"


/*
 * Each is used, in an order that differs from that of filling; in each shard
 * what is left are those used last, without a gap.
 */

static void
test_lru(void)
{
    ngx_uint_t                n, i, dropped;
    kg_zone_shard_t          *shard;
    static kg_zone_shard_t   *gap[KG_ZONE_SHARDS];
    static ngx_uint_t         order[4 * MANY];

    make_zone(MB);
    watched();

    for (n = 0; said == 0; n++) {
        fill(n, TYPICAL);
        check(n < MANY);
    }

    /* The first half is used anew, from its end. */

    for (i = 0; i < n; i++) {
        order[i] = (i < n - n / 2) ? i + n / 2 : n - 1 - i;
    }

    for (i = n - n / 2; i < n; i++) {
        (void) look(order[i]);
    }

    for ( /* void */ ; i < 2 * n; i++) {
        order[i] = i;
        fill(i, TYPICAL);
    }

    dropped = 0;

    while (i--) {
        shard = shard_of(order[i]);

        if (!holds(order[i])) {
            gap[shard - shared->shards] = shard;
            dropped++;

        } else {
            check(gap[shard - shared->shards] == NULL);
        }
    }

    check(dropped >= n / 2 && dropped <= n + n / 2);
    check_whole();
}


static void
test_absences(void)
{
    ngx_uint_t  n, i, before, blocks;

    make_zone(MB);
    watched();

    /* A flood in an empty zone has an eighth, and no record is dropped. */

    for (n = 0; n < 500; n++) {
        fill(n, TYPICAL);
    }

    for ( /* void */ ; n < 20 * MANY; n++) {
        fill(n, 0);
    }

    blocks = 0;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        blocks += shared->shards[i].absent_blocks;
    }

    check(blocks * KG_ZONE_BLOCK <= MB / 8);
    check(blocks * KG_ZONE_BLOCK >= MB / 16);
    check(count(0, 500) == 500);
    check(holds(n - 1));
    check_whole();

    /* A zone full of records, and a flood: not one of them is dropped. */

    make_zone(MB);
    watched();

    for (n = 0; n < 2 * MANY; n++) {
        fill(n, TYPICAL);
    }

    before = count(0, n);
    check(before > 1000);

    for ( /* void */ ; n < 20 * MANY; n++) {
        fill(n, 0);
    }

    check(count(0, 2 * MANY) == before);

    /* What was left to absences still makes them worth having. */

    check(count(n - KG_ZONE_SHARDS, n) > KG_ZONE_SHARDS / 2);
    check_whole();
}


static void
test_full(void)
{
    ngx_uint_t        n, lines;
    kg_zone_shard_t  *shard;

    make_zone(MB);
    watched();

    for (n = 0; n < 3 * MANY; n++) {
        fill(n, TYPICAL);
        check(holds(n));
    }

    check(said == 1);

    for (lines = 1; lines < 4; lines++) {
        clock_now.sec += 59;
        fill(n++, TYPICAL);
        check(said == lines);

        clock_now.sec += 1;

        for (n += 1000; shard_of(n) != shard_of(0); n++) {
            /* void */
        }

        fill(n++, TYPICAL);
        check(said == lines + 1);
    }

    /* One dropped is missed, and comes again. */

    check(!look(0).found);
    fill(0, TYPICAL);
    check(look(0).found && look(0).fresh);

    /* A record for which its shard has no room at all drops no other. */

    shard = shard_of(0);
    check(shard->nblocks < kg_zone_blocks(KG_RECORD_MAX));

    n = count(0, n);
    fill(0, KG_RECORD_MAX - 1);
    check(count(0, 4 * MANY) >= n - 1);
    check_whole();
}


static ngx_uint_t
of_a_shard(const ngx_atomic_t *lock)
{
    ngx_uint_t  i;

    for (i = 0; i < KG_ZONE_SHARDS; i++) {
        if (lock == &shared->shards[i].lock) {
            return 1;
        }
    }

    return 0;
}


static void
test_locks(void)
{
    ngx_uint_t       n, slab;
    kg_zone_entry_t  entry;

    make_zone(MB);
    watched();

    for (n = 0; n < 100; n++) {
        fill(n, TYPICAL);
    }

    slab = allocated;

    for (n = 0; n < 100; n++) {
        locked = 0;
        entry = look(n);
        check(entry.found && entry.fresh);
        check(locked == 1 && of_a_shard(last_lock));
    }

    /* One longer than most takes it again, to copy it whole. */

    fill(200, 1000);
    slab = allocated;
    locked = 0;
    check(look(200).packed.len == 1000);
    check(locked == 2 && of_a_shard(last_lock));

    locked = 0;
    check(!look(300).found);
    check(locked == 1);
    check(allocated == slab);
}


/*
 * A change of a record of the shard, between a lookup and what it fills
 * in: what Redis said may be of before it, what the node counted itself is not.
 */

static void
test_changed(void)
{
    ngx_uint_t       i;
    ngx_str_t        packed, other;
    kg_zone_entry_t  entry;

    static const struct {
        kg_zone_kind_t  kind;
        ngx_uint_t      stays;
    } cases[] = {
        { KG_ZONE_KEY, 0 },
        { KG_ZONE_LOCAL, 1 }
    };

    for (i = 0; i < 2; i++) {
        make_zone(MB);
        watched();

        entry = entry_of(7);
        entry.kind = cases[i].kind;

        check(kg_zone_lookup(zone, &entry, ngx_current_msec, NULL) == NGX_OK);
        check(!entry.found);

        /* There is no such record, but the shard's generation moves. */

        other = entry.name;
        kg_zone_invalidate(zone, cases[i].kind, &other);

        ngx_str_set(&packed, "counted");
        kg_zone_fill(zone, &entry, &packed, ngx_current_msec);

        check(kg_zone_lookup(zone, &entry, ngx_current_msec, NULL) == NGX_OK);
        check(entry.found == cases[i].stays);
    }
}


/* An entry of a name whose first bytes, a key's hash, say nothing. */

static kg_zone_entry_t
named(u_char *name, size_t len)
{
    kg_zone_entry_t  entry;

    ngx_memzero(&entry, sizeof(kg_zone_entry_t));

    entry.kind = KG_ZONE_KEY;
    entry.name.data = name;
    entry.name.len = len;

    check(kg_zone_lookup(zone, &entry, ngx_current_msec, NULL) == NGX_OK);

    return entry;
}


/*
 * Whose digest begins alike is somebody else, wherever in it the difference
 * is, and whichever block that is in.
 */

static void
test_names(void)
{
    size_t           len, i, place;
    ngx_str_t        packed;
    kg_zone_entry_t  entry;
    u_char           name[255];

    static const size_t  lengths[] = { 5, 8, 11, 15, 16, 17, 31, 32, 33, 63, 64,
                                       65, 127, 128, 129, 254, 255 };

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        len = lengths[i];

        make_zone(MB);
        watched();

        for (place = 0; place < len; place++) {
            name[place] = (u_char) place;
        }

        entry = named(name, len);
        ngx_str_set(&packed, "its record");
        kg_zone_fill(zone, &entry, &packed, ngx_current_msec);

        check(named(name, len).found);
        check(!named(name, len - 1).found);

        for (place = sizeof(uint32_t); place < len; place++) {
            name[place] ^= 0x80;
            check(!named(name, len).found);
            name[place] ^= 0x80;
        }
    }
}


/* No two bytes near one another are alike, so none is of another place. */

static void
test_bytes(void)
{
    size_t           len, i;
    ngx_str_t        packed;
    kg_zone_entry_t  entry;
    u_char           name[32], data[1024];

    make_zone(MB);
    watched();

    ngx_memset(name, 'n', sizeof(name));

    for (i = 0; i < sizeof(data); i++) {
        data[i] = (u_char) (i % 251);
    }

    for (len = 1; len <= sizeof(data); len++) {
        entry = named(name, sizeof(name));

        packed.data = data;
        packed.len = len;
        kg_zone_fill(zone, &entry, &packed, ngx_current_msec);

        /* What is read lies where the one before was. */

        ngx_memset(entry.packed.data, 0xff, sizeof(data) + 1);

        entry = named(name, sizeof(name));
        check(entry.found);
        check(entry.packed.len == len);
        check(ngx_memcmp(entry.packed.data, data, len) == 0);
        check(entry.packed.data[len] == 0xff);
    }

    check_whole();
}


/*
 * nginx reloads with the module replaced on disk, and the old zone's memory: it
 * must not be read as what it is not.  On NGX_ERROR nginx keeps what it has.
 */

static void
test_layout(void)
{
    make_zone(MB);

    check(shm_zone.init(&shm_zone, zone) == NGX_OK);
    check(said == 0);

    shm_zone.shm.log = &log_all;
    shared->layout = KG_ZONE_LAYOUT - 1;

    check(shm_zone.init(&shm_zone, zone) == NGX_ERROR);
    check(said == 1);
}


static void
test_room(int mb)
{
    ngx_uint_t  n;

    make_zone((size_t) mb * MB);
    watched();

    for (n = 0; said == 0; n++) {
        fill(n, TYPICAL);
    }

    printf("%u\n", (unsigned) ((size_t) mb * MB / n));
}


int
main(int argc, char **argv)
{
    const char  *name;

    name = (argc > 1) ? argv[1] : "";

    if (strcmp(name, "lru") == 0) {
        test_lru();

    } else if (strcmp(name, "absences") == 0) {
        test_absences();

    } else if (strcmp(name, "full") == 0) {
        test_full();

    } else if (strcmp(name, "locks") == 0) {
        test_locks();

    } else if (strcmp(name, "changed") == 0) {
        test_changed();

    } else if (strcmp(name, "names") == 0) {
        test_names();

    } else if (strcmp(name, "bytes") == 0) {
        test_bytes();

    } else if (strcmp(name, "layout") == 0) {
        test_layout();

    } else if (strcmp(name, "room") == 0 && argc == 3) {
        test_room(atoi(argv[2]));

    } else {
        fprintf(stderr, "usage: records lru | absences | full | locks | "
                        "changed | names | bytes | layout | room MB\n");
        return 2;
    }

    return 0;
}
