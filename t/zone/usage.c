
/*
 * The usage table of the zone without nginx around it: in memory that
 * processes share, with Redis played by the parent, and workers that are
 * killed wherever they happen to be.  t/test_usage_zone.py builds and runs it.
 *
 *     usage kill SECONDS   workers that die, and nothing lost or added twice
 *     usage days           midnight between two requests
 *     usage sender         who sends, by clocks that differ by a turn
 *     usage full           a table with no room left
 *     usage speed          ns for each request counted
 */

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "alone.h"
#include "kg_zone_usage_int.h"


#define ZONE_SIZE   (1024 * 1024)
#define MEMORY      (ZONE_SIZE / 2)
#define KEYS        40
#define DAY         86400
#define NOON        (20000 * DAY + DAY / 2)

/* So many deaths inside a lock are to be survived. */
#define INSIDE      3


/* What the workers say of themselves; shared. */
typedef struct {
    volatile uint64_t  begun[KEYS];
    volatile uint64_t  done[KEYS];
} progress_t;


/* Redis: the number of the last flight of each key and day, and its count. */
typedef struct {
    uint64_t  last[KEYS][2];
    uint64_t  total[KEYS];
    uint64_t  flights;
    uint64_t  repeated;
} server_t;


static kg_zone_t          zone;
static kg_zone_shared_t  *shared;


static ngx_str_t
key_id(ngx_uint_t n)
{
    ngx_str_t      id;
    static u_char  text[KG_KEY_ID_MAX + 1];

    id.data = text;
    id.len = sprintf((char *) text, "key_%020u", (unsigned) n);

    return id;
}


static void
add(ngx_uint_t n, uint32_t route, kg_zone_outcome_t outcome, time_t now)
{
    ngx_str_t  id;

    id = key_id(n);
    kg_zone_usage_add(&zone, &id, route, outcome, NULL, now);
}


static ngx_uint_t
number_of(const kg_zone_taken_t *taken)
{
    return strtoul((char *) taken->id + 4, NULL, 10);
}


/* usage.lua in C. */

static void
apply(server_t *server, const kg_zone_taken_t *taken)
{
    ngx_uint_t  i, n, day;

    n = number_of(taken);
    day = taken->day - NOON / DAY;

    check(n < KEYS && day < 2);

    server->flights++;

    if (taken->flight.number <= server->last[n][day]) {
        server->repeated++;
        return;
    }

    server->last[n][day] = taken->flight.number;

    for (i = 0; i < taken->ncounts; i++) {
        server->total[n] += taken->counts[i].count;
    }
}


/* A worker: counts, and sends flights, of whose replies it misses some. */

static void
work(progress_t *progress, int to, int from, unsigned seed)
{
    char             reply;
    time_t           now;
    uint32_t         routes[3];
    ngx_uint_t       n, i;
    ngx_str_t        name;
    kg_zone_taken_t  taken;
    char             text[16];

    ngx_pid = getpid();
    srand(seed);
    kg_zone_usage_recover(&zone, &log_all);

    for (i = 0; i < 3; i++) {
        name.data = (u_char *) text;
        name.len = sprintf(text, "GET /%u", (unsigned) i);
        routes[i] = kg_zone_usage_route(&zone, &name);
    }

    for ( ;; ) {
        n = rand() % KEYS;
        now = NOON + (rand() % 2) * DAY;

        progress->begun[n]++;
        ngx_memory_barrier();
        add(n, routes[rand() % 3], rand() % KG_ZONE_OUTCOMES, now);
        ngx_memory_barrier();
        progress->done[n]++;

        if (rand() % 8) {
            continue;
        }

        if (kg_zone_usage_take(&zone, NOON, rand() % 2, &taken) != NGX_OK) {
            continue;
        }

        check(write(to, &taken, sizeof(taken)) == sizeof(taken));
        check(read(from, &reply, 1) == 1);

        if (rand() % 4) {
            kg_zone_usage_landed(&zone, &taken.flight);

        } else {
            kg_zone_usage_failed(&zone, &taken.flight, NOON - rand() % 2);
        }
    }
}


/* Answers a worker for some time, kills it, and takes in what it sent. */

static void
serve(server_t *server, pid_t worker, int from, int to, int us)
{
    struct pollfd    fd;
    struct timespec  start, now;
    kg_zone_taken_t  taken;

    fd.fd = from;
    fd.events = POLLIN;

    clock_gettime(CLOCK_MONOTONIC, &start);

    for ( ;; ) {
        clock_gettime(CLOCK_MONOTONIC, &now);

        if ((now.tv_sec - start.tv_sec) * 1000000
            + (now.tv_nsec - start.tv_nsec) / 1000 > us)
        {
            break;
        }

        if (poll(&fd, 1, 0) == 1 && (fd.revents & POLLIN)) {
            check(read(from, &taken, sizeof(taken)) == sizeof(taken));
            apply(server, &taken);
            check(write(to, "+", 1) == 1);
        }
    }

    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);

    while (poll(&fd, 1, 0) == 1 && (fd.revents & POLLIN)) {
        check(read(from, &taken, sizeof(taken)) == sizeof(taken));
        apply(server, &taken);
    }
}


static void
test_kill(int seconds)
{
    int               to[2], from[2];
    pid_t             worker;
    time_t            end;
    uint64_t          begun, done;
    server_t          server;
    ngx_uint_t        n, kills, inside, held, i;
    progress_t       *progress;
    kg_zone_taken_t   taken;

    progress = share(sizeof(progress_t));
    ngx_memzero(&server, sizeof(server_t));

    kills = 0;
    inside = 0;

    /*
     * Until some have died inside a lock, which is one of hundreds, or fewer
     * where others have the processor: who runs this program ends it at last.
     */

    for (end = time(NULL) + seconds;
         time(NULL) < end || inside < INSIDE;
         kills++)
    {

        check(pipe(to) == 0 && pipe(from) == 0);

        worker = fork();
        check(worker != -1);

        if (worker == 0) {
            work(progress, to[1], from[0], (unsigned) (kills + time(NULL)));
        }

        serve(&server, worker, to[0], from[1], 200 + rand() % 3000);

        close(to[0]);
        close(to[1]);
        close(from[0]);
        close(from[1]);

        held = 0;

        for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
            held += (shared->usage->shards[i].lock != 0);
        }

        inside += held;
        kg_zone_usage_recover(&zone, &log_all);

        for (i = 0; i < KG_ZONE_USAGE_SHARDS; i++) {
            check(shared->usage->shards[i].lock == 0);
        }
    }

    while (kg_zone_usage_take(&zone, NOON, 0, &taken) == NGX_OK) {
        apply(&server, &taken);
        kg_zone_usage_landed(&zone, &taken.flight);
    }

    begun = 0;
    done = 0;

    for (n = 0; n < KEYS; n++) {
        check(server.total[n] >= progress->done[n]);
        check(server.total[n] <= progress->begun[n]);

        begun += progress->begun[n];
        done += progress->done[n];
    }

    check(shared->usage->lost == 0);
    check(begun - done <= kills);
    check(kg_zone_usage_waiting(&zone) == 0);
    check(server.repeated > 0);
    printf("%u kills, %u inside a lock, %lu requests, %lu flights, %lu "
           "of them again\n", (unsigned) kills, (unsigned) inside,
           (unsigned long) begun, (unsigned long) server.flights,
           (unsigned long) server.repeated);
}


static void
test_days(void)
{
    time_t            midnight;
    kg_zone_taken_t   taken;

    midnight = (NOON / DAY + 1) * (time_t) DAY;

    add(1, 0, KG_ZONE_OK, midnight - 1);
    add(1, 0, KG_ZONE_OK, midnight);
    add(1, 0, KG_ZONE_OK, midnight + 1);

    check(kg_zone_usage_waiting(&zone) == 1);
    check(kg_zone_usage_take(&zone, midnight, 5, &taken) == NGX_OK);
    check(taken.day == NOON / DAY);
    check(taken.ncounts == 1 && taken.counts[0].count == 1);

    /* One flight of a key at a time, and again only after a while. */

    check(kg_zone_usage_take(&zone, midnight + 4, 5, &taken) == NGX_DECLINED);
    check(kg_zone_usage_take(&zone, midnight + 5, 5, &taken) == NGX_OK);
    check(taken.day == NOON / DAY);
    check(taken.ncounts == 1 && taken.counts[0].count == 1);

    /* What is counted meanwhile is not of the flight. */

    add(1, 0, KG_ZONE_OK, midnight - 1);
    kg_zone_usage_landed(&zone, &taken.flight);
    kg_zone_usage_landed(&zone, &taken.flight);

    check(kg_zone_usage_take(&zone, midnight, 5, &taken) == NGX_OK);
    check(taken.day == NOON / DAY);
    check(taken.ncounts == 1 && taken.counts[0].count == 1);
    kg_zone_usage_landed(&zone, &taken.flight);

    check(kg_zone_usage_take(&zone, midnight, 5, &taken) == NGX_OK);
    check(taken.day == NOON / DAY + 1);
    check(taken.ncounts == 1 && taken.counts[0].count == 2);
    kg_zone_usage_landed(&zone, &taken.flight);

    check(kg_zone_usage_take(&zone, midnight, 5, &taken) == NGX_DECLINED);
    check(kg_zone_usage_waiting(&zone) == 0);
}


/* Each worker's clock is as old as its turn of the event loop. */

static void
test_sender(void)
{
    ngx_pid = 100;
    check(kg_zone_usage_elect(&zone, 5000, 500));
    check(kg_zone_usage_due(&zone, 5000, 100));

    ngx_pid = 101;
    check(!kg_zone_usage_elect(&zone, 4999, 500));
    check(!kg_zone_usage_elect(&zone, 5499, 500));
    check(kg_zone_usage_elect(&zone, 5500, 500));

    check(!kg_zone_usage_due(&zone, 4999, 100));
    check(!kg_zone_usage_due(&zone, 5099, 100));
    check(kg_zone_usage_due(&zone, 5100, 100));
}


static void
test_full(void)
{
    uint64_t          n, sum;
    ngx_uint_t        i, room;
    kg_zone_taken_t   taken;

    room = shared->usage->nkeys * KG_ZONE_USAGE_SHARDS;

    for (i = 0; i < 2 * room; i++) {
        add(i, 0, KG_ZONE_OK, NOON);
    }

    check(shared->usage->lost >= room);
    check(shared->usage->lost < 2 * room);

    n = shared->usage->lost;

    /* What has a counter counts on. */

    add(0, 0, KG_ZONE_OK, NOON);
    check(shared->usage->lost == n);

    /* One line, and none in the next minute. */

    clock_now.sec = NOON;
    kg_zone_usage_log_lost(&zone, &log_all);
    check(said == 1 && shared->usage->lost == 0);

    add(2 * room, 0, KG_ZONE_OK, NOON);
    clock_now.sec = NOON + 59;
    kg_zone_usage_log_lost(&zone, &log_all);
    check(said == 1);

    clock_now.sec = NOON + 60;
    kg_zone_usage_log_lost(&zone, &log_all);
    check(said == 2);

    sum = 0;

    while (kg_zone_usage_take(&zone, NOON, 5, &taken) == NGX_OK) {
        check(taken.ncounts == 1);
        sum += taken.counts[0].count;
        kg_zone_usage_landed(&zone, &taken.flight);
    }

    check(sum == 2 * room - n + 1);

    /* Redis has it all: there is room for as many others. */

    add(3 * room, 0, KG_ZONE_OK, NOON);
    check(shared->usage->lost == 0);

    /* More counters of one key than its shard has: then no more. */

    for (i = 0; i < 2 * shared->usage->ncounters; i++) {
        add(5, (uint32_t) i, KG_ZONE_OK, NOON);
    }

    check(shared->usage->lost >= shared->usage->ncounters);

    sum = shared->usage->lost;

    while (kg_zone_usage_take(&zone, NOON, 5, &taken) == NGX_OK) {
        check(taken.ncounts <= KG_ZONE_USAGE_COUNTS);
        sum += (number_of(&taken) == 5) ? taken.ncounts : 0;
        kg_zone_usage_landed(&zone, &taken.flight);
    }

    check(sum == 2 * shared->usage->ncounters);
}


static void
test_speed(void)
{
    double           ns;
    u_char           address[16];
    ngx_str_t        id;
    ngx_uint_t       i, keys;
    struct timespec  start, end;

    ngx_memzero(address, sizeof(address));

    for (keys = 1; keys <= 500; keys += 499) {

        clock_gettime(CLOCK_MONOTONIC, &start);

        for (i = 0; i < 2000000; i++) {
            if (keys > 1 || i == 0) {
                id = key_id(i % keys);
            }

            kg_zone_usage_add(&zone, &id, i % 4, KG_ZONE_OK, address, NOON);
        }

        clock_gettime(CLOCK_MONOTONIC, &end);

        ns = ((end.tv_sec - start.tv_sec) * 1e9
              + (end.tv_nsec - start.tv_nsec)) / i;

        printf("%u keys: %.0f ns a request%s\n", (unsigned) keys, ns,
               keys > 1 ? ", with what it takes to write an id" : "");
    }
}


int
main(int argc, char **argv)
{
    const char  *name;

    name = (argc > 1) ? argv[1] : "";

    give_memory(MEMORY);
    shared = share(sizeof(kg_zone_shared_t));

    zone.shared = shared;
    zone.shm_zone = &shm_zone;
    shm_zone.shm.size = ZONE_SIZE;

    check(kg_zone_usage_init(&zone) == NGX_OK);

    if (strcmp(name, "kill") == 0 && argc == 3) {
        test_kill(atoi(argv[2]));

    } else if (strcmp(name, "days") == 0) {
        test_days();

    } else if (strcmp(name, "sender") == 0) {
        test_sender();

    } else if (strcmp(name, "full") == 0) {
        test_full();

    } else if (strcmp(name, "speed") == 0) {
        test_speed();

    } else {
        fprintf(stderr, "usage: usage kill SECONDS | days | sender | full | "
                "speed\n");
        return 2;
    }

    return 0;
}
