
/*
 * A watch: a connection of its own on which Redis tells of changed records.
 *
 * The connection tracks the names of records, whoever writes them, and has
 * what is tracked sent to itself (CLIENT TRACKING ... REDIRECT <own id>): with
 * two connections one can go deaf and the other not know.  Redis sends what
 * changed no later than it answers the writer.  Where it refuses to track,
 * there is what Keygate's own writers publish, and where it refuses that,
 * nothing.
 *
 * PING is the heartbeat.  Redis answers in order, so a PONG says that all that
 * changed before its PING was sent has been told.
 */

#ifndef KG_REDIS_WATCH_H
#define KG_REDIS_WATCH_H

#include "kg_redis.h"


/*
 * Between two PINGs, ms, and how long what was told may be relied on from the
 * moment its PING was sent.  A revocation is to hold everywhere within 1 s of
 * the answer to its writer, also when the network swallows everything at that
 * moment: the last PING that was answered can have been sent no later.  The
 * rest up to 1 s is for a worker whose clock is behind by a turn of its event
 * loop, and for asking Redis once.  Between an answered PING and the end of
 * reliance two more are sent, so a Redis that pauses for half a second (a fork,
 * a slow script) costs nothing.
 */
#define KG_REDIS_WATCH_PING     200
#define KG_REDIS_WATCH_BOUND    800


typedef struct kg_redis_watch_s  kg_redis_watch_t;


typedef enum {
    KG_REDIS_TELLS_ALL = 0,     /* whoever changes a record */
    KG_REDIS_TELLS_OURS,        /* what kg_redis_watch_publish() tells */
    KG_REDIS_TELLS_NOTHING
} kg_redis_tells_t;


/* They may not call back into the watch; strings are valid during the call. */
typedef struct {

    /* Redis tells, and has answered.  why: NULL, or why it tells not all. */
    void  (*begun)(void *data, kg_redis_tells_t tells, const ngx_str_t *why);

    /* A name in Redis, namespace and all, that changed; also before begun. */
    void  (*changed)(void *data, const ngx_str_t *name);

    /* Every name at once: FLUSHALL. */
    void  (*flushed)(void *data);

    /* All that changed until then, in ngx_current_msec, was told. */
    void  (*alive)(void *data, ngx_msec_t sent);

    /* Nothing is told until it begins anew. */
    void  (*lost)(void *data, const char *why);

} kg_redis_watch_handlers_t;


/*
 * Connects, and keeps connecting.  conf, handlers and data are the caller's
 * and outlive it.  It holds up neither reload nor quit.  NULL for no memory.
 */
kg_redis_watch_t *kg_redis_watch_create(ngx_cycle_t *cycle,
    const kg_redis_conf_t *conf, const kg_redis_watch_handlers_t *handlers,
    void *data);

/* Closes it; no handler runs.  Not from within a handler. */
void kg_redis_watch_destroy(kg_redis_watch_t *watch);

/*
 * Tells other nodes that a record changed, for those of them whom Redis does
 * not tell; after the change was acknowledged.  It is tried for persist ms.
 * Nobody waits for it.
 */
void kg_redis_watch_publish(kg_redis_t *redis, const ngx_str_t *name,
    ngx_msec_t persist);

#endif
