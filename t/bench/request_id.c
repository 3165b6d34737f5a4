
/*
 * What a request id costs, and whether any two are the same.
 *
 * Processes as many as a fleet's workers each begin with no randomness, as
 * after a restart, and make their share of the ids, all of them of the same
 * millisecond, which is the worst there can be.  The ids are then sorted and
 * neighbours compared.
 *
 *     request_id COUNT PROCESSES
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kg_request_id.h"


#define NOW  1795327200000      /* ms */


typedef unsigned char  bench_id_t[KG_REQUEST_ID_LEN];


static double
seconds(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}


static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, KG_REQUEST_ID_LEN);
}


/* A process's share; its exit status. */
static int
make(bench_id_t *ids, size_t n)
{
    size_t        i;
    kg_entropy_t  entropy;

    memset(&entropy, 0, sizeof(entropy));

    for (i = 0; i < n; i++) {
        if (kg_request_id(&entropy, NOW, ids[i]) != KG_OK) {
            return 1;
        }
    }

    return 0;
}


/* ns an id, of the last of five runs, so that the pages are there. */
static double
cost(bench_id_t *ids, size_t n)
{
    int     i;
    double  start, ns;

    ns = 0;

    for (i = 0; i < 5; i++) {
        start = seconds();

        if (make(ids, n) != 0) {
            exit(1);
        }

        ns = (seconds() - start) * 1e9 / (double) n;
    }

    return ns;
}


int
main(int argc, char **argv)
{
    int          status;
    size_t       i, count, n, processes, same;
    bench_id_t  *ids;

    count = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    processes = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

    if (processes < 1 || count < processes) {
        fprintf(stderr, "usage: request_id COUNT PROCESSES\n");
        return 2;
    }

    n = count / processes;
    count = n * processes;

    ids = mmap(NULL, count * sizeof(bench_id_t), PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (ids == MAP_FAILED) {
        fprintf(stderr, "request_id: %s\n", strerror(errno));
        return 1;
    }

    printf("an id takes %.1f ns\n", cost(ids, n < 100000 ? n : 100000));
    fflush(stdout);

    for (i = 0; i < processes; i++) {
        if (fork() == 0) {
            _exit(make(ids + i * n, n));
        }
    }

    while (wait(&status) > 0) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "request_id: a process failed\n");
            return 1;
        }
    }

    qsort(ids, count, sizeof(bench_id_t), compare);

    same = 0;

    for (i = 1; i < count; i++) {
        same += compare(ids[i - 1], ids[i]) == 0;
    }

    printf("%zu ids of one millisecond from %zu processes: %zu are the same "
           "as another\n", count, processes, same);

    return same > 0;
}
