
/*
 * Usage in the zone: what each key did and when, until it is in Redis.
 *
 * A table of its own with a fixed share of the zone, taken when the zone is
 * made, in shards with a lock each.  Of a key it holds when and from where it
 * was last used, and a counter for each day, route and outcome.  Counting
 * takes one short lock and no memory.
 *
 * Counters leave for Redis in flights: kg_zone_usage_take() marks a key's
 * counters of one day and numbers them; they stay where they are until
 * kg_zone_usage_landed() says that Redis has them.  A flight of which nobody
 * knows whether it arrived is taken again, with the same counters and the same
 * number, by whichever worker is alive; Redis remembers the number and adds
 * them once.  What is counted meanwhile goes into counters of its own.
 *
 * The table is full when everything in it waits for Redis.  Then what has no
 * counter yet is not counted, which a log line says; what has one counts on.
 */

#ifndef KG_ZONE_USAGE_H
#define KG_ZONE_USAGE_H

#include "kg_record.h"
#include "kg_zone.h"


#define KG_ZONE_USAGE_ADDRESSES  4      /* remembered of a key */
#define KG_ZONE_USAGE_COUNTS     64     /* in one flight */
#define KG_ZONE_USAGE_NODE_LEN   16

/* The route of a request that is for none. */
#define KG_ZONE_USAGE_NO_ROUTE   0


typedef enum {
    KG_ZONE_OK = 0,         /* 1xx, 2xx and 3xx */
    KG_ZONE_CLIENT_ERROR,   /* 4xx but for those below; left without answer */
    KG_ZONE_SERVER_ERROR,   /* 5xx */
    KG_ZONE_RATE_LIMITED,   /* Keygate's own 429 */
    KG_ZONE_FORBIDDEN,      /* Keygate's own 403 */
    KG_ZONE_CONFLICT,       /* Keygate's own 409 */
    KG_ZONE_REPLAYED,       /* a stored answer, whatever its status */
    KG_ZONE_OUTCOMES
} kg_zone_outcome_t;


/* An IPv4 address is mapped into IPv6. */
typedef struct {
    uint32_t            at;             /* s since the epoch */
    u_char              address[16];
} kg_zone_seen_t;


typedef struct {
    ngx_str_t           route;          /* in the zone, there for good */
    kg_zone_outcome_t   outcome;
    uint64_t            count;
} kg_zone_count_t;


typedef struct {
    uint64_t            number;         /* grows; unique in this zone */
    uint32_t            shard;
    uint32_t            key;
} kg_zone_flight_t;


typedef struct {
    kg_zone_flight_t    flight;
    ngx_uint_t          day;            /* since the epoch, UTC */
    time_t              at;             /* the key was last used */
    ngx_uint_t          nseen;
    ngx_uint_t          ncounts;
    size_t              id_len;
    u_char              id[KG_KEY_ID_MAX];
    kg_zone_seen_t      seen[KG_ZONE_USAGE_ADDRESSES];
    kg_zone_count_t     counts[KG_ZONE_USAGE_COUNTS];
} kg_zone_taken_t;


/* "ok", "client_error" ... */
const ngx_str_t *kg_zone_outcome_name(kg_zone_outcome_t outcome);

/*
 * Names a route for kg_zone_usage_add(); the same name has the same number in
 * all workers and after a reload.  KG_ZONE_USAGE_NO_ROUTE when there is no
 * room for the name.
 */
uint32_t kg_zone_usage_route(kg_zone_t *zone, const ngx_str_t *name);

/*
 * Counts a request.  id is a key's, of at most KG_KEY_ID_MAX bytes; address is
 * 16 bytes, or NULL for none; now in seconds since the epoch.
 */
void kg_zone_usage_add(kg_zone_t *zone, const ngx_str_t *id, uint32_t route,
    kg_zone_outcome_t outcome, const u_char *address, time_t now);

/*
 * Takes a key's counters off, the longest waiting key's first, or a flight
 * again that was not heard of for retry seconds.  NGX_OK or NGX_DECLINED:
 * there is none.
 */
ngx_int_t kg_zone_usage_take(kg_zone_t *zone, time_t now, time_t retry,
    kg_zone_taken_t *taken);

/* Redis has it: its counters are forgotten. */
void kg_zone_usage_landed(kg_zone_t *zone, const kg_zone_flight_t *flight);

/* It may not have arrived: it is taken again after retry seconds. */
void kg_zone_usage_failed(kg_zone_t *zone, const kg_zone_flight_t *flight,
    time_t now);

/* Keys that wait or fly, and 1 when they are over half of the room. */
ngx_uint_t kg_zone_usage_waiting(kg_zone_t *zone);
ngx_uint_t kg_zone_usage_pressed(kg_zone_t *zone);

/* The name of this node's zone in Redis: KG_ZONE_USAGE_NODE_LEN bytes. */
const u_char *kg_zone_usage_node(kg_zone_t *zone);

/*
 * 1 when this process is the one of the node that sends flights, or becomes it
 * because there is none or it has been silent for that long, in ms.
 */
ngx_uint_t kg_zone_usage_elect(kg_zone_t *zone, ngx_msec_t now,
    ngx_msec_t silent);
void kg_zone_usage_resign(kg_zone_t *zone);

/*
 * 1 when a flush is due that no process has begun: the last one is interval
 * ms ago.  The caller begins it.
 */
ngx_uint_t kg_zone_usage_due(kg_zone_t *zone, ngx_msec_t now,
    ngx_msec_t interval);

/* One line a minute when requests were not counted, with their number. */
void kg_zone_usage_log_lost(kg_zone_t *zone, ngx_log_t *log);

/*
 * For kg_zone.c: the table of a new zone, NGX_OK or NGX_ERROR; and after a
 * worker has died inside a lock, the shard put in order with its counters
 * kept.
 */
ngx_int_t kg_zone_usage_init(kg_zone_t *zone);
void kg_zone_usage_recover(kg_zone_t *zone, ngx_log_t *log);

#endif
