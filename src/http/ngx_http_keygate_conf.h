
/*
 * The configuration: what the directives make of nginx.conf, and how one part
 * of it finds another.  All of it is read-only once nginx runs, but for what
 * is said to be a worker's.
 */

#ifndef NGX_HTTP_KEYGATE_CONF_H
#define NGX_HTTP_KEYGATE_CONF_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "kg_answer.h"
#include "kg_catalogue.h"
#include "kg_core.h"
#include "kg_digest.h"
#include "kg_error.h"
#include "kg_idem.h"
#include "kg_limit.h"
#include "kg_rate.h"
#include "kg_record.h"
#include "kg_redis.h"
#include "kg_request_id.h"
#include "kg_route.h"
#include "kg_time.h"
#include "kg_token.h"
#include "kg_zone.h"
#include "kg_zone_limits.h"


#define NGX_HTTP_KEYGATE_OFF            0
#define NGX_HTTP_KEYGATE_ON             1
#define NGX_HTTP_KEYGATE_DRY_RUN        2

#define NGX_HTTP_KEYGATE_BY_KEY         0x01
#define NGX_HTTP_KEYGATE_BY_ORG         0x02
#define NGX_HTTP_KEYGATE_BY_MODE        0x04
#define NGX_HTTP_KEYGATE_BY_ROUTE       0x08
#define NGX_HTTP_KEYGATE_BY_ADDRESS     0x10
#define NGX_HTTP_KEYGATE_BY_VARIABLE    0x20

#define NGX_HTTP_KEYGATE_DENY           0
#define NGX_HTTP_KEYGATE_ALLOW          1
#define NGX_HTTP_KEYGATE_LOCAL          2

#define NGX_HTTP_KEYGATE_ROLE_READ      1
#define NGX_HTTP_KEYGATE_ROLE_PORTAL    2
#define NGX_HTTP_KEYGATE_ROLE_OPERATOR  3

#define NGX_HTTP_KEYGATE_COST_MAX       1000000

/* Policies of one list; a request has its location's and its route's. */
#define NGX_HTTP_KEYGATE_LIST_MAX       (KG_LIMIT_POLICIES_MAX / 2)

/* What the module's Redis data is split by (keygate_redis use=). */
#define NGX_HTTP_KEYGATE_RECORDS        0
#define NGX_HTTP_KEYGATE_LIMITS         1
#define NGX_HTTP_KEYGATE_IDEMPOTENCY    2
#define NGX_HTTP_KEYGATE_USES           3


/* kg_str_t and ngx_str_t hold the same two members; see kg_core.h. */

static ngx_inline kg_str_t *
ngx_http_keygate_kg(const ngx_str_t *s)
{
    return (kg_str_t *) (void *) s;
}

static ngx_inline ngx_str_t *
ngx_http_keygate_ngx(const kg_str_t *s)
{
    return (ngx_str_t *) (void *) s;
}


typedef struct ngx_http_keygate_usage_s  ngx_http_keygate_usage_t;


typedef struct {
    ngx_str_t                    name;
    kg_rate_t                    rate;
    kg_rate_t                    min;           /* requests 0: unbounded */
    kg_rate_t                    max;
    uint32_t                     burst;         /* 0: a strict window */
    ngx_uint_t                   by;            /* NGX_HTTP_KEYGATE_BY_... */
    ngx_array_t                 *variables;     /* ngx_int_t: by=$... */
    u_char                      *file;          /* where defined, for logs */
    ngx_uint_t                   line;
    unsigned                     exact:1;       /* nothing is leased */
    unsigned                     dry_run:1;     /* counts, never refuses */
} ngx_http_keygate_policy_t;


/* keygate_plan: rates in place of the policies' own. */
typedef struct {
    ngx_str_t                    name;
    ngx_array_t                  limits;        /* ..._plan_limit_t */
} ngx_http_keygate_plan_t;

typedef struct {
    ngx_str_t                    policy;
    kg_rate_t                    rate;
    u_char                      *file;
    ngx_uint_t                   line;
} ngx_http_keygate_plan_limit_t;


/*
 * keygate_limit, or limit= on a route.  A policy may be defined further down,
 * so names become policies once the whole of http {} was read.
 */
typedef struct {
    ngx_str_t                    name;
    ngx_http_keygate_policy_t   *policy;
    uint32_t                     cost;          /* of its route; or 0 */
    u_char                      *file;
    ngx_uint_t                   line;
} ngx_http_keygate_limit_t;


/* What a write came to; see ngx_http_keygate_outcome.c. */
typedef enum {
    NGX_HTTP_KEYGATE_RELEASE = 0,   /* surely not executed */
    NGX_HTTP_KEYGATE_UNKNOWN,
    NGX_HTTP_KEYGATE_FINAL
} ngx_http_keygate_outcome_t;


/* keygate_idempotency, and what a route has in its place. */
typedef struct {
    ngx_msec_t                   retention;     /* of a key, ms */
    ngx_msec_t                   lease;         /* ms */
    size_t                       max_response;  /* bytes that are stored */
    ngx_uint_t                   forward;       /* on_unknown=forward */
    ngx_uint_t                   conflict;      /* status: 409 or 422 */
    ngx_uint_t                   durable;       /* replicas to wait for */
    u_char                      *outcomes;      /* by status: outcome + 1, 0:
                                                 * the usual one; or NULL */
} ngx_http_keygate_idem_conf_t;


typedef struct {
    ngx_str_t                    name;          /* "GET /v1/loads/:id" */
    kg_str_t                     scope;
    ngx_array_t                 *limits;        /* ..._limit_t * */
    ngx_http_keygate_idem_conf_t *idem;         /* NULL: not idempotent */
    uint32_t                     cost;          /* of a request, from 1 */
    uint32_t                     usage;         /* its number there + 1 */
    u_char                      *file;          /* where defined, for logs */
    ngx_uint_t                   line;
    unsigned                     public:1;
    unsigned                     any_key:1;     /* no scope is asked for */
    unsigned                     optional:1;    /* a key may be missing */
    unsigned                     limit_set:1;   /* limit= was given */
    unsigned                     limit_add:1;   /* ... with "+" */
} ngx_http_keygate_route_t;


typedef struct {
    ngx_str_t                    name;
    kg_routes_t                 *routes;        /* data: ..._route_t */
    ngx_uint_t                   nroutes;
    unsigned                     idempotent:1;  /* some route is */
    unsigned                     resent:1;      /* ... and of a method nginx
                                                 * sends again */
} ngx_http_keygate_table_t;


typedef struct ngx_http_keygate_watch_s  ngx_http_keygate_watch_t;
typedef struct ngx_http_keygate_guard_s  ngx_http_keygate_guard_t;
typedef struct ngx_http_keygate_durable_s  ngx_http_keygate_durable_t;


typedef struct {
    kg_redis_conf_t             *redis[NGX_HTTP_KEYGATE_USES];

    /* A worker's. */
    kg_redis_t                  *client[NGX_HTTP_KEYGATE_USES];
    ngx_http_keygate_watch_t    *watch;
    ngx_http_keygate_guard_t    *guard;         /* NULL: no claims are made */
    ngx_http_keygate_durable_t  *durable;       /* NULL: none is durable= */

    kg_zone_t                   *zone;
    ngx_msec_t                   valid;         /* a cached record */
    ngx_msec_t                   negative;      /* a cached absence */
    ngx_msec_t                   usage_flush;   /* ms; 0: none is kept */
    ngx_http_keygate_usage_t    *usage;         /* a worker's */

    ngx_array_t                  prefixes;      /* ngx_str_t */
    ngx_array_t                  peppers;       /* kg_pepper_t * */
    ngx_msec_t                   tolerance;     /* of keys' times; whole s */

    ngx_array_t                  policies;      /* ..._policy_t * */
    ngx_array_t                  plans;         /* ..._plan_t * */
    ngx_array_t                  tables;        /* ..._table_t * */
    ngx_array_t                  limits;        /* ..._limit_t *: to resolve */
    ngx_array_t                 *default_limits; /* where none are set */
    ngx_array_t                  uses;          /* ..._use_t: to resolve */

    ngx_http_keygate_idem_conf_t idem;
    u_char                      *idem_file;     /* NULL: all is by default */
    ngx_uint_t                   idem_line;
    ngx_uint_t                   eviction;      /* eviction=accept */
    ngx_uint_t                   waits;         /* some route is durable= */
    ngx_array_t                  writes;        /* ..._route_t *: idem set */
    kg_error_t                   conflict;      /* the one answered 422 */

    ngx_msec_t                   stale;         /* keys=stale: */
    ngx_uint_t                   outage;        /* limits= */
    ngx_uint_t                   share;         /* share=, percent */

    kg_rate_t                    failures;      /* unknown keys of an address */
    kg_rate_t                    lookups;       /* of those with too many */

    kg_entropy_t                 entropy;

    /* A worker's lookups; see ngx_http_keygate_lookup.c. */
    ngx_queue_t                 *lookups_busy;
    ngx_queue_t                  lookups_free;

    /* A worker's guesses; see ngx_http_keygate_guess.c. */
    ngx_queue_t                  guesses_free;
    ngx_queue_t                  guesses_waiting;
    ngx_event_t                  guesses_event;

    /* A worker's asks for limits; see ngx_http_keygate_limit_ask.c. */
    ngx_queue_t                 *asks_busy;
    ngx_queue_t                  asks_free;
    ngx_queue_t                  asks_ready;
    ngx_event_t                  asks_event;

    /* Where some location first needs all this. */
    u_char                      *file;
    ngx_uint_t                   line;
    unsigned                     used:1;
    unsigned                     self:1;        /* some location has it */
    unsigned                     legacy:1;      /* keys known by SHA-256 */
    unsigned                     failures_off:1;
} ngx_http_keygate_main_conf_t;


typedef struct {
    ngx_uint_t                   mode;          /* OFF, ON, DRY_RUN */
    ngx_http_keygate_table_t    *table;
    ngx_array_t                 *limits;        /* ..._limit_t * */
    ngx_flag_t                   legacy;        /* X-RateLimit-... too */
    ngx_array_t                 *tokens;        /* ngx_http_complex_value_t */
    ngx_uint_t                   errors;        /* KG_FORMAT_... */
    kg_catalogue_t              *catalogue;     /* NULL: the built-in one */
    ngx_str_t                    realm;
    ngx_uint_t                   role;          /* of keygate_admin, or 0 */
    ngx_http_complex_value_t    *actor;         /* of keygate_admin, or NULL */
    ngx_array_t                 *self_limits;   /* of keygate_self */
    ngx_uint_t                   max_keys;      /* ... */
    unsigned                     self:1;        /* keygate_self is here */
    unsigned                     grpc:1;        /* its answers end in trailers,
                                                 * which are not ours to shape
                                                 * or to store */
} ngx_http_keygate_loc_conf_t;


/* keygate NAME: the table may be defined further down, too. */
typedef struct {
    ngx_http_keygate_loc_conf_t *conf;
    ngx_str_t                    name;
    u_char                      *file;
    ngx_uint_t                   line;
} ngx_http_keygate_use_t;

/* ngx_http_keygate_conf.c */

char *ngx_http_keygate_conf_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_keys(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_policy(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_plan(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_failures(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_idempotency(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_outage(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_keygate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_token(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_realm(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_admin(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_keygate_conf_self(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* When the location's configuration is merged: is it one for keygate_self? */
char *ngx_http_keygate_conf_self_merge(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *conf);

/* ngx_http_keygate_conf_errors.c */
char *ngx_http_keygate_conf_errors(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* Policies by name; NULL when there is none. */
ngx_http_keygate_policy_t *ngx_http_keygate_policy(
    ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name);

/* Plans by name; NULL when there is none. */
ngx_http_keygate_plan_t *ngx_http_keygate_plan(
    ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name);

/* KG_OK and *rate when the plan has one for the policy, else KG_INVALID. */
kg_rc_t ngx_http_keygate_plan_rate(const ngx_http_keygate_plan_t *plan,
    const ngx_str_t *policy, kg_rate_t *rate);

/* Checks plans against the policies, once these are known. */
char *ngx_http_keygate_conf_plans(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf);

/* 1 when a rate is from the policy's min= to its max=. */
ngx_uint_t ngx_http_keygate_policy_takes(
    const ngx_http_keygate_policy_t *policy, const kg_rate_t *rate);

/* 1 when whatever the rate admits the policy's max= would admit as well. */
ngx_uint_t ngx_http_keygate_policy_tops(
    const ngx_http_keygate_policy_t *policy, const kg_rate_t *rate);

/* Some location needs what http {} has to have. */
void ngx_http_keygate_conf_used(ngx_conf_t *cf);

/* After the whole of http {}: resolves names and finds what is missing. */
char *ngx_http_keygate_conf_complete(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf);

/* Adds a limit to a list, made when NULL; NULL after a line in the log. */
ngx_http_keygate_limit_t *ngx_http_keygate_conf_limit_add(ngx_conf_t *cf,
    ngx_array_t **limits, ngx_str_t *name);

/* Warns of a route for which its limit, its policy known, has no room. */
void ngx_http_keygate_conf_cost(ngx_conf_t *cf,
    const ngx_http_keygate_limit_t *limit);

/* The built-in policies "default", and where it applies, and "self". */
char *ngx_http_keygate_conf_default(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf);

/* "rate=60r/m", its value from prefix on, into a slot that is not set yet. */
char *ngx_http_keygate_conf_rate(ngx_conf_t *cf, ngx_str_t *param,
    size_t prefix, kg_rate_t *rate);

/*
 * "valid=10s", its value from prefix on, from min to max ms, into a slot that
 * is not set yet.
 */
char *ngx_http_keygate_conf_time(ngx_conf_t *cf, ngx_str_t *param,
    size_t prefix, ngx_msec_t min, ngx_msec_t max, ngx_msec_t *slot);

/* 1 when a parameter starts with "name=". */
ngx_uint_t ngx_http_keygate_conf_starts(const ngx_str_t *param,
    const char *prefix);

/* Says that a parameter is there twice.  NGX_ERROR, for the caller to return. */
ngx_int_t ngx_http_keygate_conf_duplicate(ngx_conf_t *cf,
    const ngx_str_t *param);

/*
 * Reads at most size bytes of a regular file into buf: how many, 0 for one that
 * is none, NGX_ERROR with errno when it cannot be opened or read.
 */
ssize_t ngx_http_keygate_conf_file(const ngx_str_t *name, u_char *buf,
    size_t size, ngx_file_info_t *fi);

/* ngx_http_keygate_conf_idempotency.c */

/* All of it unset. */
void ngx_http_keygate_conf_idem_init(ngx_http_keygate_idem_conf_t *idem);

/*
 * Takes a parameter of keygate_idempotency that a route may have too: NGX_OK,
 * NGX_DECLINED when it is none, NGX_ERROR after a line in the log.
 */
ngx_int_t ngx_http_keygate_conf_idem(ngx_conf_t *cf,
    ngx_http_keygate_idem_conf_t *idem, ngx_str_t *param);

/* Gives what is unset its default, and every route what it did not set. */
char *ngx_http_keygate_conf_writes(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf);

/* ngx_http_keygate_conf_beside.c */

/* The upstream's configuration when that module proxies here, or NULL. */
ngx_http_upstream_conf_t *ngx_http_keygate_conf_proxies(ngx_conf_t *cf,
    const char *name);

/* Refuses what no location with idempotent routes may have. */
char *ngx_http_keygate_conf_beside(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *conf);

/* ngx_http_keygate_routes.c */
char *ngx_http_keygate_conf_routes(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_http_keygate_table_t *ngx_http_keygate_table(
    ngx_http_keygate_main_conf_t *mcf, const ngx_str_t *name);

#endif
