
/*
 * What the zone takes from nginx.  See alone.h.
 */

#include <stdlib.h>
#include <sys/mman.h>

#include "alone.h"


typedef struct {
    ngx_atomic_t  used;
    size_t        size;
} memory_t;


ngx_pid_t             ngx_pid;
volatile ngx_time_t  *ngx_cached_time;
volatile ngx_msec_t   ngx_current_msec;
volatile ngx_cycle_t *ngx_cycle;

ngx_time_t     clock_now;
ngx_log_t      log_all = { .log_level = NGX_LOG_INFO };
ngx_uint_t     said;
ngx_uint_t     locked;
ngx_uint_t     allocated;
ngx_atomic_t  *last_lock;

ngx_shm_zone_t  shm_zone;

static u_char     scratch[64 * 1024];
static memory_t  *memory;


void *
share(size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1,
             0);
    check(p != MAP_FAILED);

    return p;
}


void
give_memory(size_t size)
{
    static ngx_cycle_t  cycle;

    memory = share(KG_ZONE_PAGE + size);
    memory->size = size;

    cycle.log = &log_all;

    ngx_pid = getpid();
    ngx_cycle = &cycle;
    ngx_cached_time = &clock_now;
}


void
ngx_spinlock(ngx_atomic_t *lock, ngx_atomic_int_t value, ngx_uint_t spin)
{
    (void) spin;

    locked++;
    last_lock = lock;

    while (!ngx_atomic_cmp_set(lock, 0, value)) {
        ngx_cpu_pause();
    }
}


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  h;

    for (h = 2166136261u; len; len--) {
        h = (h ^ *data++) * 16777619u;
    }

    return h ^ (h >> 15);
}


void *
ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    ngx_atomic_uint_t  old;

    (void) pool;

    size = ngx_align(size, 64);
    allocated++;

    do {
        old = memory->used;

        if (memory->size - old < size) {
            return NULL;
        }

    } while (!ngx_atomic_cmp_set(&memory->used, old, old + size));

    return (u_char *) memory + KG_ZONE_PAGE + old;
}


void *
ngx_slab_calloc(ngx_slab_pool_t *pool, size_t size)
{
    return ngx_slab_alloc(pool, size);
}


void
ngx_time_update(void)
{
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    (void) level;
    (void) log;
    (void) err;
    (void) fmt;

    said++;
}


void *
ngx_pcalloc(ngx_pool_t *pool, size_t size)
{
    (void) pool;
    return calloc(1, size);
}


void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    (void) pool;
    check(size <= sizeof(scratch));
    return scratch;
}


ngx_shm_zone_t *
ngx_shared_memory_add(ngx_conf_t *cf, ngx_str_t *name, size_t size, void *tag)
{
    (void) cf;
    (void) tag;

    ngx_memzero(&shm_zone, sizeof(ngx_shm_zone_t));

    shm_zone.shm.name = *name;
    shm_zone.shm.size = size;
    return &shm_zone;
}


void
ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
    const char *fmt, ...)
{
    (void) level;
    (void) cf;
    (void) err;
    (void) fmt;
    exit(1);
}


u_char *
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    (void) fmt;
    return buf;
}
