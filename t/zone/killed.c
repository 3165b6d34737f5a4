
/*
 * Workers that are killed.  See killed.h.
 */

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "killed.h"


static void
wait_for_turns(const volatile uint64_t *turns, pid_t pid)
{
    uint64_t    then;
    ngx_uint_t  i;

    then = *turns;

    for (i = 0; *turns < then + 1000; i++) {
        check(i < 10000);
        check(waitpid(pid, NULL, WNOHANG) == 0);
        usleep(1000);
    }
}


static void
kill_worker(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}


unsigned
kill_workers(int seconds, worker_pt work, void *memory, killed_pt killed)
{
    pid_t               workers[2];
    time_t              end;
    unsigned            i, kills;
    volatile uint64_t  *turns;

    turns = share(2 * sizeof(uint64_t));
    kills = 0;

    for (end = time(NULL) + seconds; time(NULL) < end; kills += 2) {

        for (i = 0; i < 2; i++) {
            workers[i] = fork();
            check(workers[i] != -1);

            if (workers[i] == 0) {
                ngx_pid = getpid();
                srand(kills + i + 1);
                work(&turns[i], memory);
            }
        }

        wait_for_turns(&turns[0], workers[0]);
        usleep(rand() % 2000);

        kill_worker(workers[0]);
        killed(1);

        wait_for_turns(&turns[1], workers[1]);

        kill_worker(workers[1]);
        killed(0);
    }

    return kills;
}
