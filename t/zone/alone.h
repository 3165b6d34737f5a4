
/*
 * nginx as far as the zone needs it, so that the zone runs alone: memory that
 * processes share, given out once and never taken back, a clock that stands
 * until the test moves it, and logs and locks that are counted.
 */

#ifndef KG_ZONE_ALONE_H
#define KG_ZONE_ALONE_H

#include <stdio.h>

#include "kg_zone_int.h"


#define check(what)                                                           \
    do {                                                                      \
        if (!(what)) {                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);        \
            exit(1);                                                          \
        }                                                                     \
    } while (0)


extern ngx_time_t     clock_now;        /* what nginx's clock says */
extern ngx_log_t      log_all;
extern ngx_uint_t     said;             /* lines in the log */
extern ngx_uint_t     locked;           /* locks taken by this process */
extern ngx_uint_t     allocated;        /* calls of it for the zone's memory */
extern ngx_atomic_t  *last_lock;

/* That of the zone that was added last. */
extern ngx_shm_zone_t  shm_zone;

/* Memory that children share, zeroed; for the life of the process. */
void *share(size_t size);

/* So much memory for the zone, beside what share() gives. */
void give_memory(size_t size);

#endif
