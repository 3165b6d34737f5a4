
/*
 * Usage on its way: one worker a node takes what was counted in the zone to
 * Redis from time to time; kg_zone_usage.h says how none is lost or added
 * twice.
 *
 *     <ns>:usage:{<key id>}:<yyyymmdd>   counts of a day
 *     <ns>:seen:{<key id>}               last used, when and from where
 *
 * A worker that exits sends what there is at once: nginx may be on its way
 * out, and then the zone goes with it.
 */

#include "ngx_http_keygate.h"

#include "kg_zone_usage.h"


#define NGX_HTTP_KEYGATE_USAGE_FLIGHTS  32      /* of a worker at a time */
#define NGX_HTTP_KEYGATE_USAGE_POOL     1024
#define NGX_HTTP_KEYGATE_USAGE_TICK     1000    /* ms, at most */
#define NGX_HTTP_KEYGATE_USAGE_SILENT   5       /* ticks */
#define NGX_HTTP_KEYGATE_USAGE_LEAVE    500     /* ms of an exiting worker */

#define NGX_HTTP_KEYGATE_USAGE_DAYS     "7776000"       /* s: 90 d */
#define NGX_HTTP_KEYGATE_USAGE_SEEN     "34560000"      /* s: 400 d */

/* Arguments of usage.lua, keys and all. */
#define NGX_HTTP_KEYGATE_USAGE_ARGS     (2 + 6                                \
                                         + 2 * KG_ZONE_USAGE_ADDRESSES        \
                                         + 3 * KG_ZONE_USAGE_COUNTS)


typedef struct {
    ngx_http_keygate_usage_t     *usage;
    kg_zone_flight_t              flight;
    unsigned                      busy:1;
} ngx_http_keygate_flight_t;


struct ngx_http_keygate_usage_s {
    ngx_http_keygate_main_conf_t *mcf;
    ngx_log_t                    *log;
    ngx_pool_t                   *pool;         /* of one command */
    ngx_event_t                   timer;
    ngx_msec_t                    tick;         /* ms */
    ngx_connection_t             *watch;        /* tells that it exits */
    ngx_event_t                   leaving;      /* timer, after that */
    ngx_msec_t                    leave;        /* by then, if exiting */

    ngx_uint_t                    left;         /* to be taken in this turn */
    ngx_uint_t                    nflights;
    ngx_http_keygate_flight_t     flights[NGX_HTTP_KEYGATE_USAGE_FLIGHTS];
};


/* The arguments of a command, and the digits of their numbers. */
typedef struct {
    ngx_uint_t                    n;
    ngx_str_t                     argv[NGX_HTTP_KEYGATE_USAGE_ARGS];
    u_char                       *p;
    u_char                        text[(2 + KG_ZONE_USAGE_COUNTS)
                                       * NGX_INT64_LEN
                                       + (1 + KG_ZONE_USAGE_ADDRESSES)
                                         * (KG_TIME_LEN + NGX_INET6_ADDRSTRLEN)
                                      ];
} ngx_http_keygate_usage_args_t;


static void ngx_http_keygate_usage_watch(ngx_http_keygate_usage_t *usage);
static void ngx_http_keygate_usage_timer(ngx_event_t *ev);
static void ngx_http_keygate_usage_exiting(ngx_event_t *rev);
static void ngx_http_keygate_usage_leaving(ngx_event_t *ev);
static void ngx_http_keygate_usage_flush(ngx_http_keygate_usage_t *usage);
static ngx_int_t ngx_http_keygate_usage_send(ngx_http_keygate_usage_t *usage,
    ngx_http_keygate_flight_t *flight, kg_zone_taken_t *taken);
static void ngx_http_keygate_usage_answered(kg_redis_op_t *op);
static ngx_str_t *ngx_http_keygate_usage_arg(
    ngx_http_keygate_usage_args_t *args);
static void ngx_http_keygate_usage_number(ngx_http_keygate_usage_args_t *args,
    uint64_t number);
static void ngx_http_keygate_usage_date(ngx_http_keygate_usage_args_t *args,
    time_t at);
static void ngx_http_keygate_usage_addr(ngx_http_keygate_usage_args_t *args,
    u_char *address);


ngx_int_t
ngx_http_keygate_usage_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf)
{
    ngx_http_keygate_usage_t  *usage;

    /* nginx's cache manager is no worker, and takes no requests. */

    if (mcf->usage_flush == 0
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    usage = ngx_pcalloc(cycle->pool, sizeof(ngx_http_keygate_usage_t));
    if (usage == NULL) {
        return NGX_ERROR;
    }

    usage->pool = ngx_create_pool(NGX_HTTP_KEYGATE_USAGE_POOL, cycle->log);
    if (usage->pool == NULL) {
        return NGX_ERROR;
    }

    usage->mcf = mcf;
    usage->log = cycle->log;
    usage->tick = ngx_min(mcf->usage_flush, NGX_HTTP_KEYGATE_USAGE_TICK);

    usage->timer.data = usage;
    usage->timer.handler = ngx_http_keygate_usage_timer;
    usage->timer.log = cycle->log;
    usage->timer.cancelable = 1;

    usage->leaving.data = usage;
    usage->leaving.handler = ngx_http_keygate_usage_leaving;
    usage->leaving.log = cycle->log;

    ngx_http_keygate_usage_watch(usage);

    ngx_add_timer(&usage->timer, usage->tick);

    mcf->usage = usage;

    return NGX_OK;
}


/*
 * nginx tells nobody that a worker is to exit but its idle connections: this
 * is one, of a socket that is not connected.  Without it the worker leaves
 * what it counted last in the zone, for others to send.
 */

static void
ngx_http_keygate_usage_watch(ngx_http_keygate_usage_t *usage)
{
    ngx_socket_t       s;
    ngx_connection_t  *c;

    s = ngx_socket(AF_UNIX, SOCK_STREAM, 0);

    if (s == (ngx_socket_t) -1) {
        return;
    }

    c = ngx_get_connection(s, usage->log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        return;
    }

    c->data = usage;
    c->idle = 1;
    c->read->handler = ngx_http_keygate_usage_exiting;
    c->read->log = usage->log;
    c->write->log = usage->log;

    usage->watch = c;
}


static void
ngx_http_keygate_usage_exiting(ngx_event_t *rev)
{
    ngx_connection_t          *c;
    ngx_http_keygate_usage_t  *usage;

    c = rev->data;
    usage = c->data;

    ngx_close_connection(c);
    usage->watch = NULL;

    /*
     * nginx calls this outside its event loop: what is posted now, it would
     * first sleep on.
     */

    ngx_add_timer(&usage->leaving, 1);
}


static void
ngx_http_keygate_usage_leaving(ngx_event_t *ev)
{
    ngx_http_keygate_usage_leave(ev->data);
}


void
ngx_http_keygate_usage_exit(ngx_http_keygate_main_conf_t *mcf)
{
    ngx_http_keygate_usage_t  *usage;

    usage = mcf->usage;

    if (usage == NULL) {
        return;
    }

    if (usage->timer.timer_set) {
        ngx_del_timer(&usage->timer);
    }

    if (usage->leaving.timer_set) {
        ngx_del_timer(&usage->leaving);
    }

    if (usage->watch) {
        ngx_close_connection(usage->watch);
    }

    kg_zone_usage_resign(mcf->zone);

    ngx_destroy_pool(usage->pool);

    mcf->usage = NULL;
}


/* Each worker, so that another goes on when the one that sends dies. */

static void
ngx_http_keygate_usage_timer(ngx_event_t *ev)
{
    ngx_msec_t                     flush;
    kg_zone_t                     *zone;
    ngx_http_keygate_usage_t      *usage;
    ngx_http_keygate_main_conf_t  *mcf;

    usage = ev->data;
    mcf = usage->mcf;
    zone = mcf->zone;

    ngx_add_timer(&usage->timer, usage->tick);

    if (!kg_zone_usage_elect(zone, ngx_current_msec,
                             NGX_HTTP_KEYGATE_USAGE_SILENT * usage->tick))
    {
        return;
    }

    kg_zone_usage_log_lost(zone, usage->log);

    flush = kg_zone_usage_pressed(zone) ? usage->tick : mcf->usage_flush;

    if (!kg_zone_usage_due(zone, ngx_current_msec, flush)) {
        return;
    }

    /* What is counted from now on is for the next time. */

    usage->left = kg_zone_usage_waiting(zone);

    ngx_http_keygate_usage_flush(usage);
}


void
ngx_http_keygate_usage_leave(ngx_http_keygate_usage_t *usage)
{
    usage->leave = ngx_current_msec + NGX_HTTP_KEYGATE_USAGE_LEAVE;
    usage->left = kg_zone_usage_waiting(usage->mcf->zone);

    ngx_http_keygate_usage_flush(usage);
}


static void
ngx_http_keygate_usage_flush(ngx_http_keygate_usage_t *usage)
{
    time_t                         retry;
    ngx_uint_t                     i;
    kg_redis_t                    *redis;
    kg_zone_taken_t                taken;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = usage->mcf;
    redis = mcf->client[NGX_HTTP_KEYGATE_RECORDS];
    retry = (mcf->usage_flush + 999) / 1000;

    for (i = 0; i < NGX_HTTP_KEYGATE_USAGE_FLIGHTS; i++) {

        if (usage->flights[i].busy) {
            continue;
        }

        if (usage->left == 0
            || kg_redis_down(redis)
            || (usage->leave
                && (ngx_msec_int_t) (usage->leave - ngx_current_msec) <= 0)
            || kg_zone_usage_take(mcf->zone, ngx_time(), retry, &taken)
               != NGX_OK)
        {
            usage->left = 0;
            return;
        }

        usage->left--;

        if (ngx_http_keygate_usage_send(usage, &usage->flights[i], &taken)
            != NGX_OK)
        {
            kg_zone_usage_failed(mcf->zone, &taken.flight, ngx_time());
            usage->left = 0;
            return;
        }
    }
}


static ngx_int_t
ngx_http_keygate_usage_send(ngx_http_keygate_usage_t *usage,
    ngx_http_keygate_flight_t *flight, kg_zone_taken_t *taken)
{
    u_char                         day[1 + KG_DAY_LEN];
    ngx_str_t                      id, rest, *arg;
    ngx_uint_t                     i;
    kg_redis_t                    *redis;
    kg_redis_cmd_t                 cmd;
    const kg_redis_conf_t         *conf;
    ngx_http_keygate_usage_args_t  args;

    redis = usage->mcf->client[NGX_HTTP_KEYGATE_RECORDS];
    conf = kg_redis_conf(redis);

    id.data = taken->id;
    id.len = taken->id_len;

    day[0] = ':';
    (void) kg_day_format(taken->day, day + 1);

    rest.data = day;
    rest.len = sizeof(day);

    args.n = 0;
    args.p = args.text;

    ngx_reset_pool(usage->pool);

    *ngx_http_keygate_usage_arg(&args) =
                  ngx_http_keygate_name(usage->pool, conf, "usage", &id, &rest);
    *ngx_http_keygate_usage_arg(&args) =
                  ngx_http_keygate_name(usage->pool, conf, "seen", &id, NULL);

    if (args.argv[0].data == NULL || args.argv[1].data == NULL) {
        return NGX_ERROR;
    }

    arg = ngx_http_keygate_usage_arg(&args);
    arg->data = (u_char *) kg_zone_usage_node(usage->mcf->zone);
    arg->len = KG_ZONE_USAGE_NODE_LEN;

    ngx_http_keygate_usage_number(&args, taken->flight.number);

    arg = ngx_http_keygate_usage_arg(&args);
    ngx_str_set(arg, NGX_HTTP_KEYGATE_USAGE_DAYS);

    arg = ngx_http_keygate_usage_arg(&args);
    ngx_str_set(arg, NGX_HTTP_KEYGATE_USAGE_SEEN);

    ngx_http_keygate_usage_date(&args, taken->at);
    ngx_http_keygate_usage_number(&args, taken->nseen);

    for (i = 0; i < taken->nseen; i++) {
        ngx_http_keygate_usage_addr(&args, taken->seen[i].address);
        ngx_http_keygate_usage_date(&args, taken->seen[i].at);
    }

    for (i = 0; i < taken->ncounts; i++) {
        *ngx_http_keygate_usage_arg(&args) = taken->counts[i].route;
        *ngx_http_keygate_usage_arg(&args) =
                               *kg_zone_outcome_name(taken->counts[i].outcome);
        ngx_http_keygate_usage_number(&args, taken->counts[i].count);
    }

    ngx_memzero(&cmd, sizeof(kg_redis_cmd_t));

    cmd.script = KG_SCRIPT_USAGE;
    cmd.nkeys = 2;
    cmd.argc = args.n;
    cmd.argv = args.argv;
    cmd.slot = id;
    cmd.bulk = 1;
    cmd.handler = ngx_http_keygate_usage_answered;
    cmd.data = flight;

    if (kg_redis_submit(redis, &cmd) == NULL) {
        return NGX_ERROR;
    }

    flight->usage = usage;
    flight->flight = taken->flight;
    flight->busy = 1;

    return NGX_OK;
}


static void
ngx_http_keygate_usage_answered(kg_redis_op_t *op)
{
    ngx_http_keygate_usage_t   *usage;
    ngx_http_keygate_flight_t  *flight;

    flight = op->data;
    usage = flight->usage;

    flight->busy = 0;

    if (op->status == KG_REDIS_REPLY) {
        kg_zone_usage_landed(usage->mcf->zone, &flight->flight);

    } else {
        kg_zone_usage_failed(usage->mcf->zone, &flight->flight, ngx_time());

        /* What Redis refuses of one key it may take of another. */

        if (op->status != KG_REDIS_REFUSED) {
            usage->left = 0;
        }
    }

    ngx_http_keygate_usage_flush(usage);
}


static ngx_str_t *
ngx_http_keygate_usage_arg(ngx_http_keygate_usage_args_t *args)
{
    return &args->argv[args->n++];
}


static void
ngx_http_keygate_usage_number(ngx_http_keygate_usage_args_t *args,
    uint64_t number)
{
    ngx_str_t  *arg;

    arg = ngx_http_keygate_usage_arg(args);

    arg->data = args->p;
    args->p = ngx_sprintf(args->p, "%uL", number);
    arg->len = args->p - arg->data;
}


static void
ngx_http_keygate_usage_date(ngx_http_keygate_usage_args_t *args, time_t at)
{
    ngx_str_t  *arg;

    arg = ngx_http_keygate_usage_arg(args);

    arg->data = args->p;
    arg->len = KG_TIME_LEN;
    args->p = kg_time_format(at, args->p);
}


static void
ngx_http_keygate_usage_addr(ngx_http_keygate_usage_args_t *args,
    u_char *address)
{
    ngx_str_t  *arg;

    static const u_char  mapped[12] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
    };

    arg = ngx_http_keygate_usage_arg(args);
    arg->data = args->p;

    if (ngx_memcmp(address, mapped, sizeof(mapped)) == 0) {
        arg->len = ngx_inet_ntop(AF_INET, address + 12, args->p,
                                 NGX_INET_ADDRSTRLEN);
    } else {
        arg->len = ngx_inet_ntop(AF_INET6, address, args->p,
                                 NGX_INET6_ADDRSTRLEN);
    }

    args->p += arg->len;
}
