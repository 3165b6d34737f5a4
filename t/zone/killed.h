
/*
 * Two workers over and over, each killed wherever it happens to be.
 */

#ifndef KG_ZONE_KILLED_H
#define KG_ZONE_KILLED_H

#include "alone.h"


/*
 * What a worker does, in a process of its own, with rand() seeded, for ever:
 * it adds 1 to *turns with each turn.  memory is what kill_workers() was given.
 */
typedef void (*worker_pt)(volatile uint64_t *turns, void *memory);

/*
 * A worker was killed and so many others are alive: sweeps its locks, as its
 * successor would, and checks what is left.
 */
typedef void (*killed_pt)(ngx_uint_t alive);


/*
 * Kills workers for so many seconds.  One that is left, or a new one, must get
 * on.  Returns how many were killed.
 */
unsigned kill_workers(int seconds, worker_pt work, void *memory,
    killed_pt killed);

#endif
