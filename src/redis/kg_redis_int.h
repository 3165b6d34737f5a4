/*
 * What the files of the Redis client share: its operations as the client sees
 * them (jobs), its connections, and the few steps that cross from one file to
 * another.
 *
 * A job is on one queue of its connection (unsent, sent, parked) until its
 * outcome is known, and on the client's ready queue while a handler of it is
 * to run.  It is freed when it is on neither.
 */

#ifndef KG_REDIS_INT_H
#define KG_REDIS_INT_H

#include "kg_redis.h"


/* Consecutive failures to connect that open the breaker. */
#define KG_REDIS_FAILURES       3

/* Delay before connecting again, ms: doubled from the first to the last. */
#define KG_REDIS_BACKOFF_MIN    50
#define KG_REDIS_BACKOFF_MAX    1000

/* A connection that lived shorter than this, in ms, counts as a failure. */
#define KG_REDIS_SHORT_LIFE     1000

/* Delay before a refused command that persists is sent again, ms. */
#define KG_REDIS_PARK           200

/* How long a worker that is exiting waits for what persists, ms. */
#define KG_REDIS_LINGER         30000

/* How often it is looked whether the worker is exiting, ms. */
#define KG_REDIS_LINGER_TICK    250

/* What a connection holds at most, so that a frozen Redis takes no memory. */
#define KG_REDIS_MAX_JOBS       16384
#define KG_REDIS_MAX_BYTES      (64 * 1024 * 1024)

/* The longest text of an incomplete reply, and what one may announce. */
#define KG_REDIS_MAX_REPLY      (64 * 1024 * 1024)
#define KG_REDIS_MAX_ELEMENTS   65536
#define KG_REDIS_MAX_HEAD       24      /* "$67108864", and room to spare */

#define KG_REDIS_BUFFER         32768


typedef struct kg_redis_op_private_s  kg_redis_job_t;

struct kg_redis_watch_s;


typedef enum {
    KG_REDIS_OFF = 0,       /* on no queue of a connection */
    KG_REDIS_QUEUED,        /* unsent */
    KG_REDIS_SENDING,       /* first of unsent, a part of it written */
    KG_REDIS_SENT,          /* a reply is due */
    KG_REDIS_PARKED         /* refused for the moment, to be sent again */
} kg_redis_state_t;


/* Why a node cannot be used. */
typedef enum {
    KG_REDIS_FINE = 0,
    KG_REDIS_UNREACHABLE,
    KG_REDIS_REJECTS,       /* the password, the database, the client */
    KG_REDIS_GARBLED
} kg_redis_trouble_t;


typedef struct {
    kg_redis_t             *redis;
    ngx_peer_connection_t   peer;       /* .connection NULL: closed */
    redisReader            *reader;

    ngx_queue_t             unsent;     /* in the order of submission */
    ngx_queue_t             sent;       /* in the order replies come */
    ngx_queue_t             parked;

    ngx_uint_t              njobs;      /* also those a handler is to run of */
    size_t                  bytes;      /* of jobs */

    size_t                  offset;     /* bytes of the first unsent written */
    size_t                  greeted;    /* bytes of redis->setup written */
    ngx_uint_t              setup_left; /* its replies that are due */

    ngx_uint_t              addr;       /* of conf->addrs */
    ngx_uint_t              tried;      /* addresses in this attempt */

    ngx_msec_t              since;      /* it is up */
    ngx_msec_t              heard;      /* the last byte, or first waited for */

    ngx_event_t             flush;      /* posted: connect, or write */
    ngx_event_t             retry;      /* timer: connect again */
    ngx_event_t             again;      /* timer: send what is parked */

    unsigned                partial:1;  /* hiredis is inside a reply */
    unsigned                connected:1;
    unsigned                up:1;       /* set up: commands may go out */
} kg_redis_conn_t;


struct kg_redis_s {
    const kg_redis_conf_t  *conf;
    ngx_log_t              *log;

    /*
     * nginx logs every connect() that fails; through this copy of the log
     * only its alerts are seen, and an outage is said once, by the client.
     */
    ngx_log_t               quiet;

    kg_redis_conn_t         conn;
    kg_redis_conn_t         bulk;

    ngx_uint_t              generation; /* of conn */

    /*
     * Whose client this is, when it is a watch's, or NULL.  Nobody waits for
     * a watch: it keeps no worker, it is connected without being asked
     * anything, and of its faults it tells its owner, who has the log.
     */
    struct kg_redis_watch_s  *watch;

    ngx_str_t               setup;      /* AUTH, SELECT or PING */
    ngx_uint_t              nsetup;

    ngx_uint_t              failures;   /* consecutive, of both connections */
    kg_redis_trouble_t      trouble;
    time_t                  last_said;  /* of trouble, in the log */
    unsigned                said:1;

    ngx_queue_t             ready;      /* jobs with a handler to run */
    ngx_event_t             run;        /* posted */

    ngx_event_t             linger;     /* timer: keeps an exiting worker */
    ngx_uint_t              lingering;  /* jobs it does so for */
    ngx_msec_t              patience;   /* ms that it may */
    ngx_msec_t              since;      /* when, once it does */
    unsigned                stays:1;    /* it does */

    time_t                  refused;    /* second of the last such log line */
    time_t                  dropped;
    ngx_uint_t              ndropped;   /* since then */

    u_char                  buffer[KG_REDIS_BUFFER];
};


/* One allocation: this, argv, and the command as it goes over the wire. */
struct kg_redis_op_private_s {
    kg_redis_op_t           op;         /* what the caller sees */

    kg_redis_conn_t        *conn;
    kg_redis_state_t        state;
    ngx_queue_t             queue;      /* of the connection */
    ngx_queue_t             ready;      /* of the client */

    ngx_event_t             timer;
    ngx_msec_t              until;      /* persists until, ngx_current_msec */

    kg_redis_handler_pt     handler;
    kg_redis_handler_pt     late;

    kg_script_t             script;
    ngx_str_t               wire;
    size_t                  common;     /* offset of what EVAL has alike */
    u_char                 *eval;       /* the wire when it is EVAL's */
    size_t                  size;

    unsigned                waits:1;    /* the handler is still to run */
    unsigned                posted:1;   /* on the ready queue */
    unsigned                running:1;
    unsigned                persist:1;
    unsigned                expired:1;  /* its timeout is over */
    unsigned                lingers:1;  /* counted in lingering */
};


/* kg_redis.c */

/*
 * Takes a reply in, which it owns from then on; job is off its connection.
 * Runs no handler.
 */
void kg_redis_job_reply(kg_redis_job_t *job, redisReply *reply);

/* The outcome of a job that is off its connection; runs no handler. */
void kg_redis_job_end(kg_redis_job_t *job, kg_redis_status_t status);

void kg_redis_job_free(kg_redis_job_t *job);

/* A handler of the job is to run, in a turn of its own. */
void kg_redis_job_post(kg_redis_job_t *job);


/* kg_redis_persist.c */

void kg_redis_linger_init(kg_redis_t *redis, ngx_cycle_t *cycle);

/* The job's timeout is over: who waits is told, the job goes on. */
void kg_redis_job_persist(kg_redis_job_t *job);

/* The time that it persists for is over. */
void kg_redis_job_give_up(kg_redis_job_t *job);

/* The breaker has opened: nobody is to wait for this queued job. */
void kg_redis_job_refuse(kg_redis_job_t *job);

/* A worker that is exiting stays for the job, or need not any more. */
void kg_redis_job_lingers(kg_redis_job_t *job, ngx_uint_t lingers);


/* kg_redis_conn.c */

void kg_redis_conn_init(kg_redis_conn_t *conn, kg_redis_t *redis);

/* Closes it for good; jobs on its queues are freed, handlers do not run. */
void kg_redis_conn_destroy(kg_redis_conn_t *conn);

/* Queues a job; it goes out with all others of this event-loop turn. */
void kg_redis_conn_push(kg_redis_conn_t *conn, kg_redis_job_t *job);

/* Queues a job that Redis refuses for the moment, to be sent again soon. */
void kg_redis_conn_park(kg_redis_conn_t *conn, kg_redis_job_t *job);

/* Connects, or sends what is queued, at the end of this turn. */
void kg_redis_conn_post(kg_redis_conn_t *conn);

/* Takes a job that is queued or parked off its connection. */
void kg_redis_conn_remove(kg_redis_job_t *job);

/* Redis has accepted the connection: commands may go out. */
void kg_redis_conn_up(kg_redis_conn_t *conn);

/* The worker is exiting and the connection idle. */
void kg_redis_conn_idle(kg_redis_conn_t *conn);

/*
 * Each of these closes it.  kg_redis_conn_next(): this address failed, another
 * one may do.  kg_redis_conn_lost(): it went away, as when Redis restarts.
 * kg_redis_conn_failed(): Redis cannot be used, and why; text, when not NULL,
 * is what Redis says.
 */
void kg_redis_conn_next(kg_redis_conn_t *conn, ngx_err_t err,
    const char *why);
void kg_redis_conn_lost(kg_redis_conn_t *conn, const char *why);
void kg_redis_conn_failed(kg_redis_conn_t *conn, kg_redis_trouble_t trouble,
    ngx_err_t err, const char *why, const ngx_str_t *text);


/* kg_redis_io.c */

void kg_redis_conn_read(ngx_event_t *rev);
void kg_redis_conn_write(ngx_event_t *wev);

/* Writes what is queued, as far as the socket takes it. */
void kg_redis_conn_send(kg_redis_conn_t *conn);

/* What is due has changed: sets the timer, and what a worker's exit needs. */
void kg_redis_conn_mark(kg_redis_conn_t *conn);


/*
 * kg_redis_watch.c.  These run from inside the connection's own functions, and
 * submit commands at most.
 */

void kg_redis_watch_up(struct kg_redis_watch_s *watch);
void kg_redis_watch_down(struct kg_redis_watch_s *watch, const char *why);

/* 1 when the reply is one nobody asked for: a message, taken in. */
ngx_uint_t kg_redis_watch_message(struct kg_redis_watch_s *watch,
    const redisReply *reply);


/* kg_redis_wire.c */

/* Hashes the scripts, once a process. */
void kg_redis_scripts_init(void);

/*
 * A job with its arguments copied and written as a Redis command, all else
 * zero.  NULL for no memory.
 */
kg_redis_job_t *kg_redis_job_create(const kg_redis_cmd_t *cmd);

/* The script's name, or the command: what a log may show of a job. */
ngx_str_t kg_redis_job_name(const kg_redis_job_t *job);

/* Turns EVALSHA into EVAL after NOSCRIPT.  NGX_OK, NGX_ERROR: no memory. */
ngx_int_t kg_redis_job_eval(kg_redis_job_t *job);

/*
 * What a new connection sends first, into redis->setup from the heap, and the
 * number of its replies.  NGX_OK, NGX_ERROR: no memory.
 */
ngx_int_t kg_redis_setup(kg_redis_t *redis);

kg_redis_error_t kg_redis_error(const redisReply *reply);

/*
 * The text of an error reply that may be logged: Redis repeats the arguments
 * of a command it does not know, and those can be secret.
 */
ngx_str_t kg_redis_error_text(const redisReply *reply);

/* 1 when the reply is an error that starts with this word. */
ngx_uint_t kg_redis_error_is(const redisReply *reply, const char *word);

#endif
