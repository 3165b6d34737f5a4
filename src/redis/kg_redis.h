
/*
 * The Redis client: nginx's connections, hiredis's protocol.
 *
 * A worker has one pipelined connection a node for small commands and one for
 * large values, opened on first use.  Commands of one event-loop turn go out
 * in one write.  hiredis gives redisReader and redisFormatCommandArgv only:
 * its async layer is not safe under edge-triggered epoll.
 *
 * An operation belongs to the client, never to a request's pool.  Its handler
 * runs at most once, from a posted event, never from inside kg_redis_submit()
 * or the reply parser.  A request that ends calls kg_redis_abandon() from a
 * pool cleanup; then the handler never runs.
 *
 * A timeout orphans its operation: the handler runs with KG_REDIS_TIMEOUT, the
 * reply is consumed in order when it comes, and then the late handler runs, so
 * that what was granted too late (a claim, a lease) can be handed back.  The
 * same goes for an abandoned operation.  The late handler runs at most once,
 * with KG_REDIS_REPLY, KG_REDIS_REFUSED or, when the connection went before a
 * reply came, KG_REDIS_LOST; its op->data is NULL, unless there never was a
 * handler, because who waited may be gone.
 *
 * Commands are written when Redis has accepted AUTH and SELECT.  One that was
 * not written when its time was over is KG_REDIS_UNSENT, not a timeout.
 */

#ifndef KG_REDIS_H
#define KG_REDIS_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include <hiredis/read.h>
#include <hiredis/hiredis.h>


typedef struct kg_redis_s     kg_redis_t;
typedef struct kg_redis_op_s  kg_redis_op_t;

typedef void (*kg_redis_handler_pt)(kg_redis_op_t *op);


/* One keygate_redis line. */
typedef struct {
    ngx_str_t        name;          /* as in logs: redis://127.0.0.1:6379/0 */
    ngx_addr_t      *addrs;         /* resolved at configuration time */
    ngx_uint_t       naddrs;
    ngx_str_t        user;          /* empty: AUTH with the password alone */
    ngx_str_t        password;      /* empty: no AUTH */
    ngx_uint_t       database;
    ngx_str_t        ns;            /* namespace, "kg": the names' first part */
    ngx_msec_t       connect;       /* ms */
    ngx_msec_t       command;       /* ms a request waits for a reply */
    ngx_msec_t       dead;          /* ms of silence that end a connection */
} kg_redis_conf_t;


typedef enum {
    KG_REDIS_REPLY = 0,     /* op->reply is Redis's answer, never an error */
    KG_REDIS_REFUSED,       /* Redis answered with an error, op->error */
    KG_REDIS_TIMEOUT,       /* no reply in time: it may still be executed */
    KG_REDIS_LOST,          /* connection lost after sending: likewise */
    KG_REDIS_UNSENT         /* never sent: surely not executed */
} kg_redis_status_t;

typedef enum {
    KG_REDIS_ERR_OTHER = 0,
    KG_REDIS_ERR_LOADING,
    KG_REDIS_ERR_READONLY,
    KG_REDIS_ERR_MASTERDOWN,
    KG_REDIS_ERR_OOM,
    KG_REDIS_ERR_MISCONF,
    KG_REDIS_ERR_NOAUTH,
    KG_REDIS_ERR_NOPERM,
    KG_REDIS_ERR_WRONGTYPE,
    KG_REDIS_ERR_BUSY,
    KG_REDIS_ERR_NOREPLICAS
} kg_redis_error_t;


/* A script of src/redis/scripts, run by EVALSHA, by EVAL on NOSCRIPT. */
typedef enum {
    KG_SCRIPT_LIMIT = 0,
    KG_SCRIPT_CLAIM,
    KG_SCRIPT_ADMIT,
    KG_SCRIPT_SETTLE,
    KG_SCRIPT_CAS,
    KG_SCRIPT_AUDIT,
    KG_SCRIPT_USAGE,
    KG_SCRIPT_HASHES,
    KG_SCRIPT_RESOLVE,
    KG_SCRIPT_N,
    KG_SCRIPT_NONE = KG_SCRIPT_N
} kg_script_t;


typedef struct {
    kg_script_t           script;   /* KG_SCRIPT_NONE: argv[0] is the command */
    ngx_uint_t            nkeys;    /* of a script: the first argv are keys */
    ngx_uint_t            argc;
    const ngx_str_t      *argv;     /* copied */
    ngx_str_t             slot;     /* what is in the braces of its keys: it
                                     * picks the node once there are several */
    unsigned              bulk:1;   /* by the connection for large values */

    /*
     * 0: lost is lost.  Else how long, in ms, the command is sent again on new
     * connections until Redis has acknowledged it; it must be idempotent.  The
     * handler still runs after the timeout, the rest happens behind it.  With
     * KG_REDIS_TIMEOUT, at once when the breaker is open, and with
     * KG_REDIS_REFUSED for an error that passes (LOADING, READONLY, OOM ...)
     * it is still being sent; KG_REDIS_UNSENT: no room for it.
     *
     * A worker that is exiting stays for it, for 30 s at most, or for
     * worker_shutdown_timeout where that is shorter.
     */
    ngx_msec_t            persist;

    ngx_msec_t            timeout;  /* ms; 0: the conf's command= */
    kg_redis_handler_pt   handler;  /* NULL: nobody waits */
    kg_redis_handler_pt   late;     /* NULL: a late reply is dropped; without
                                     * a handler every reply is late */
    void                 *data;
} kg_redis_cmd_t;


struct kg_redis_op_s {
    void                 *data;     /* the command's; NULL once abandoned */
    kg_redis_t           *redis;
    kg_redis_status_t     status;
    kg_redis_error_t      error;
    redisReply           *reply;    /* valid while a handler runs */

    /* The command's arguments, so that a late handler can undo it. */
    ngx_uint_t            argc;
    ngx_str_t            *argv;

    /* The rest is the client's. */
    struct kg_redis_op_private_s  *priv;
};


/*
 * Parses the directive keygate_redis:
 *     redis://host[:port][/db] | unix:/path[:db]
 *     [user=] [password_file=] [namespace=kg] [connect=200ms] [command=50ms]
 *     [dead=1s]
 * A stock directive setter's result: NGX_CONF_OK, or NGX_CONF_ERROR after a
 * line in the log that says what would be right.  conf is zeroed by the caller.
 */
char *kg_redis_conf_parse(ngx_conf_t *cf, kg_redis_conf_t *conf);

/*
 * A client, in init_process; nothing is connected yet.  It takes its memory
 * from the heap and pool of the cycle.  NULL for no memory.
 */
kg_redis_t *kg_redis_create(ngx_cycle_t *cycle, kg_redis_conf_t *conf);

/*
 * In exit_process: closes everything; handlers do not run.  A log line tells
 * how many commands that persist were not acknowledged.
 */
void kg_redis_destroy(kg_redis_t *redis);

const kg_redis_conf_t *kg_redis_conf(const kg_redis_t *redis);

/*
 * Queues a command.  Returns the operation, whose handler will run with any
 * outcome (also when the breaker is open, or too much is queued:
 * KG_REDIS_UNSENT in this turn), or NULL for no memory: then no handler runs.
 * The pointer is dead when the handler has run.
 */
kg_redis_op_t *kg_redis_submit(kg_redis_t *redis, const kg_redis_cmd_t *cmd);

/* Nobody waits any more; see above.  The pointer is dead afterwards. */
void kg_redis_abandon(kg_redis_op_t *op);

/*
 * A number that changes whenever the connection for small commands is lost,
 * and when it was made anew: what was learnt of another one may not hold any
 * more.
 */
ngx_uint_t kg_redis_generation(const kg_redis_t *redis);

/* 1 while commands would be refused unsent: the breaker is open. */
ngx_uint_t kg_redis_down(const kg_redis_t *redis);

/*
 * Shapes of replies.  kg_redis_is(reply, type, n): the reply is an array of at
 * least n elements (type REDIS_REPLY_ARRAY), or of the type; 0 for NULL.
 */
ngx_uint_t kg_redis_is(const redisReply *reply, int type, size_t n);

/*
 * 1 for an error after which Redis may well accept the command later: one that
 * persists is sent again, behind its handler.
 */
ngx_uint_t kg_redis_error_passes(kg_redis_error_t error);

/* The text of a status, for a log line: "timed out", "connection lost" ... */
const char *kg_redis_reason(const kg_redis_op_t *op);

#endif
