
/*
 * The zone's records and several workers, without nginx around them: which of
 * them asks Redis, and what is left when one is killed wherever it happens to
 * be.  t/test_zone.py builds and runs it.
 *
 *     workers asked         of several one asks
 *     workers kill SECONDS  some die: nobody hangs, and what is left is right
 */

#include <stdlib.h>

#include "filled.h"
#include "killed.h"


static ngx_uint_t  inside;      /* of a lock died so many */


static void
as(ngx_pid_t pid)
{
    ngx_pid = pid;
}


static void
test_asked(void)
{
    pid_t            child;
    ngx_uint_t       n, i;
    ngx_pid_t        me;
    kg_zone_entry_t  mine, others;

    make_zone(MB);

    me = ngx_pid;
    child = fork();
    check(child != -1);

    if (child == 0) {
        pause();
        _exit(0);
    }

    /* Nobody is told of changes: each asks for itself. */

    mine = look(1);
    check(kg_zone_ask(zone, &mine, ngx_current_msec, 50));
    as(child);
    check(!look(1).asked);
    check(kg_zone_ask(zone, &mine, ngx_current_msec, 50));
    as(me);

    watched();

    mine = look(1);
    check(!mine.found && !mine.asked);
    check(kg_zone_ask(zone, &mine, ngx_current_msec, 50));
    check(!look(1).asked);                  /* by another */

    as(child);
    others = look(1);
    check(others.asked);
    check(!kg_zone_ask(zone, &others, ngx_current_msec, 50));
    check(kg_zone_asked(zone, &others, ngx_current_msec));

    /* Answered: it is in the zone, or may be asked for anew. */

    as(me);
    kg_zone_answered(zone, &mine);
    as(child);
    check(!kg_zone_asked(zone, &others, ngx_current_msec));
    check(kg_zone_ask(zone, &others, ngx_current_msec, 50));

    /* Another's answer is not this one's. */

    as(me);
    kg_zone_answered(zone, &mine);
    check(look(1).asked);

    /* Over at its time, and not before. */

    check(kg_zone_asked(zone, &mine, ngx_current_msec + 49));
    check(!kg_zone_asked(zone, &mine, ngx_current_msec + 50));
    ngx_current_msec += 50;
    check(!look(1).asked);

    /* Over at once when who asked has died. */

    mine = look(2);
    as(child);
    check(kg_zone_ask(zone, &mine, ngx_current_msec, 60000));
    as(me);
    check(kg_zone_asked(zone, &mine, ngx_current_msec));
    kill(child, SIGKILL);
    check(waitpid(child, NULL, 0) == child);
    check(!kg_zone_asked(zone, &mine, ngx_current_msec));

    /* What has changed since is asked for by whoever comes. */

    others = look(3);
    as(1);
    check(kg_zone_ask(zone, &others, ngx_current_msec, 60000));
    as(me);
    check(look(3).asked);
    kg_zone_invalidate(zone, KG_ZONE_KEY, &others.name);
    mine = look(3);
    check(!mine.asked);
    check(kg_zone_ask(zone, &mine, ngx_current_msec, 60000));

    /* No place for a mark holds up nobody. */

    for (n = 100, i = 0; i < 2 * KG_ZONE_ASKED; n++) {
        if (shard_of(n) == shard_of(100)) {
            mine = look(n);
            check(kg_zone_ask(zone, &mine, ngx_current_msec, 60000));
            i++;
        }
    }
}


/* A worker: looks up, fills, invalidates. */

static void
work(volatile uint64_t *turns, void *memory)
{
    ngx_uint_t       n;
    kg_zone_entry_t  entry;

    (void) memory;

    for ( ;; ) {
        n = rand() % (2 * MANY);

        switch (rand() % 8) {

        case 0:
            entry = entry_of(n);
            kg_zone_invalidate(zone, KG_ZONE_KEY, &entry.name);
            break;

        case 1:
            fill(n, 0);
            break;

        case 2:
            fill(n, TYPICAL + rand() % 400);
            break;

        case 3:
            entry = look(n);
            (void) kg_zone_ask(zone, &entry, ngx_current_msec, 50);
            fill(n, TYPICAL);
            kg_zone_answered(zone, &entry);
            break;

        default:
            entry = look(n);
            check(!entry.found || entry.absent
                  || ngx_memcmp(entry.packed.data, &n, sizeof(n)) == 0);
        }

        ++*turns;
    }
}


static void
killed(ngx_uint_t alive)
{
    ngx_uint_t  n;

    n = said;
    kg_zone_recover(zone, &log_all);

    if (alive) {
        inside += (said - n);
        return;
    }

    check_whole();
    (void) count(0, 2 * MANY);
}


/*
 * Two workers, of which one is killed: after its successor has swept the
 * locks the other goes on, and what the zone holds is right.
 */

static void
test_kill(int seconds)
{
    unsigned  kills;

    make_zone(MB);
    watched();

    kills = kill_workers(seconds, work, NULL, killed);

    check(inside > 0);

    printf("%u kills, %u inside a lock\n", kills, (unsigned) inside);
}


int
main(int argc, char **argv)
{
    const char  *name;

    name = (argc > 1) ? argv[1] : "";

    if (strcmp(name, "asked") == 0) {
        test_asked();

    } else if (strcmp(name, "kill") == 0 && argc == 3) {
        test_kill(atoi(argv[2]));

    } else {
        fprintf(stderr, "usage: workers asked | kill SECONDS\n");
        return 2;
    }

    return 0;
}
