
/*
 * What the files of src/http share: the configuration, the state of a
 * request, and the few steps every feature takes (ask Redis and wait, refuse).
 *
 * A request's state is found through its pool, not r->ctx alone: error_page
 * and internal redirects zero r->ctx and run the phases again, and a request
 * must not be charged or claimed twice.
 */

#ifndef NGX_HTTP_KEYGATE_H
#define NGX_HTTP_KEYGATE_H

#include "ngx_http_keygate_conf.h"


/* An admin call's body: what is taken at all, and what is kept in memory. */
#define NGX_HTTP_KEYGATE_ADMIN_MAX      (64 * 1024 * 1024)
#define NGX_HTTP_KEYGATE_ADMIN_BUFFER   (64 * 1024 + 1)

#define NGX_HTTP_KEYGATE_BUFFERED       0x08    /* in r->buffered */


typedef struct ngx_http_keygate_ctx_s     ngx_http_keygate_ctx_t;
typedef struct ngx_http_keygate_lookup_s  ngx_http_keygate_lookup_t;
typedef struct ngx_http_keygate_guess_s   ngx_http_keygate_guess_t;
typedef struct ngx_http_keygate_asking_s  ngx_http_keygate_asking_t;


/* The claim of an idempotent write; it outlives its request in Redis only. */
typedef struct {
    ngx_http_keygate_ctx_t      *ctx;
    ngx_event_t                  renewal;       /* timer: the lease */
    ngx_str_t                    name;          /* in Redis */
    ngx_str_t                    freed;         /* likewise, by operators */
    u_char                       owner[KG_IDEM_OWNER_LEN];
    u_char                       fingerprint[KG_DIGEST_LEN];
    unsigned                     asked:1;       /* and Redis may grant it */
    unsigned                     repeated:1;    /* asked again, same owner */
    unsigned                     held:1;        /* Redis acknowledged it */
    unsigned                     settled:1;     /* its outcome was sent */

    ngx_uint_t                   place;         /* in an ask of limits, from 1;
                                                 * 0: it is in none */

    ngx_queue_t                  queue;         /* of durable= */
    unsigned                     gathered:1;    /* on it */
    unsigned                     written:1;     /* by the one who waits */
    unsigned                     durable:1;     /* replicas have it */
} ngx_http_keygate_claim_t;


typedef struct {
    ngx_http_keygate_policy_t   *policy;
    kg_rate_t                    rate;          /* overrides applied */
    kg_limit_policy_t            limit;
    ngx_str_t                    state;         /* its name in Redis */
    ngx_uint_t                   remaining;
    ngx_uint_t                   reset;         /* s */
    unsigned                     known:1;       /* Redis has said it */
} ngx_http_keygate_applied_t;


/* What claim.lua said. */
typedef enum {
    NGX_HTTP_KEYGATE_NOT_ASKED = 0,
    NGX_HTTP_KEYGATE_CLAIMED,
    NGX_HTTP_KEYGATE_CONFLICT,
    NGX_HTTP_KEYGATE_IN_PROGRESS,
    NGX_HTTP_KEYGATE_OUTCOME_UNKNOWN,
    NGX_HTTP_KEYGATE_COMPLETED,
    NGX_HTTP_KEYGATE_LARGE,         /* the same, to be asked for again */
    NGX_HTTP_KEYGATE_NOT_KEPT
} ngx_http_keygate_granted_t;


/* Takes Redis's answer in; the phase handlers run again after it. */
typedef void (*ngx_http_keygate_reply_pt)(ngx_http_keygate_ctx_t *ctx,
    kg_redis_op_t *op);


/* Where the answer of a request is on its way through the filters. */
typedef enum {
    NGX_HTTP_KEYGATE_FRESH = 0, /* no header has come */
    NGX_HTTP_KEYGATE_HOLDING,   /* header and body are kept until the end */
    NGX_HTTP_KEYGATE_SETTLING,  /* Redis is told of the claim's outcome */
    NGX_HTTP_KEYGATE_READY,     /* what is held can go out */
    NGX_HTTP_KEYGATE_SENT,      /* it went out; what else comes is dropped */
    NGX_HTTP_KEYGATE_PASSING    /* the answer goes through as it comes */
} ngx_http_keygate_stage_t;


/* A record that a request wants. */
typedef struct {
    ngx_http_keygate_ctx_t      *ctx;
    ngx_http_keygate_lookup_t   *lookup;        /* that is waited for */
    ngx_queue_t                  queue;         /* among those who do */
    kg_zone_entry_t              entry;
    kg_error_code_t              denial;        /* if denied */
    u_char                       digest[KG_DIGEST_LEN]; /* a key's name */
    unsigned                     settled:1;     /* it is known, or denied */
    unsigned                     denied:1;      /* it cannot be had */
    unsigned                     was_absent:1;  /* ... but there was none */
} ngx_http_keygate_wanted_t;


/* What came of a lookup, for everybody who waits. */
typedef struct {
    ngx_str_t                    packed;        /* empty: there is none */
    kg_error_code_t              denial;
    unsigned                     known:1;       /* Redis has said */
    unsigned                     denied:1;
} ngx_http_keygate_result_t;


struct ngx_http_keygate_ctx_s {
    ngx_http_request_t          *request;
    ngx_uint_t                   method;        /* before any error_page */

    kg_redis_op_t               *op;            /* asked and not answered */
    ngx_http_keygate_reply_pt    reply;
    ngx_http_event_handler_pt    read_handler;  /* to restore after waiting */
    ngx_http_keygate_asking_t   *asking;        /* that is waited for */
    ngx_queue_t                  queue;         /* among those who do */

    u_char                       id[KG_REQUEST_ID_LEN];
    ngx_str_t                    request_id;

    /* identify */
    ngx_http_keygate_route_t    *route;
    ngx_str_t                    allow;         /* methods of the path */
    ngx_str_t                    token;         /* points into the request */
    u_char                       digest[KG_DIGEST_LEN]; /* its record's name */
    ngx_uint_t                   pepper;        /* the next to be tried */
    ngx_http_keygate_wanted_t   *wanted;        /* records looked up */
    ngx_uint_t                   nwanted;
    ngx_uint_t                   waiting;       /* of them, for an answer */
    ngx_http_keygate_guess_t    *guess;         /* its place, if it has one */
    ngx_queue_t                  guess_queue;   /* among those who wait */
    ngx_msec_t                   guess_until;   /* ms: ... up to then */
    ngx_str_t                    packed;        /* the record found */
    kg_key_t                     key;
    kg_org_t                     org;
    kg_error_code_t              denial;        /* of identify, if denied */
    const kg_str_t              *needs_scope;   /* that the key lacks */

    /* limit */
    ngx_uint_t                   napplied;
    ngx_http_keygate_applied_t  *applied;
    kg_zone_limits_t             limits;        /* the same, as a place's */

    /* idempotency */
    ngx_http_keygate_claim_t    *claim;
    kg_sha_t                    *sha;           /* while the body arrives */
    ngx_http_keygate_granted_t   granted;
    ngx_str_t                    sealed;        /* the stored answer */
    ngx_str_t                    first_id;      /* of the request that ran */
    ngx_str_t                    replayed;      /* the same, once replayed */
    ngx_http_keygate_outcome_t   outcome_was;   /* when error_page took over */
    ngx_str_t                    retry_was;     /* the upstream's Retry-After */

    /* the verdict */
    const kg_error_t            *error;         /* Keygate's refusal */
    ngx_str_t                    message;       /* empty: the catalogue's */
    ngx_str_t                    details;       /* a JSON object */
    ngx_uint_t                   retry_after;   /* s; 0: none known */
    ngx_http_keygate_policy_t   *policy;        /* that refused */
    ngx_str_t                    verdict;       /* $keygate_verdict */
    ngx_str_t                    outcome;       /* $keygate_idempotency */

    /* filters */
    ngx_http_keygate_stage_t     stage;
    ngx_uint_t                   status;        /* that was sent */
    ngx_str_t                    code;          /* of a shaped error */
    u_char                      *held;          /* the body, contiguous */
    size_t                       held_len;
    size_t                       held_size;     /* allocated */
    size_t                       held_max;
    ngx_event_t                 *patience;      /* timer: with an upstream */

    unsigned                     waits:1;       /* for Redis, in a phase */
    unsigned                     page:1;        /* it is error_page's by now */
    unsigned                     routed:1;      /* route and token are known */
    unsigned                     sent_key:1;    /* a key came with it */
    unsigned                     legacy:1;      /* ... of before Keygate */
    unsigned                     fetched:1;     /* what was wanted is there */
    unsigned                     guess_waits:1; /* it is in that queue */
    unsigned                     guess_waited:1;
    unsigned                     found:1;       /* key is the caller's */
    unsigned                     denied:1;      /* by identify: denial */
    unsigned                     identified:1;
    unsigned                     decided:1;     /* access was decided */
    unsigned                     admitted:1;    /* ... and given */
    unsigned                     together:1;    /* limits ask with the claim */
    unsigned                     charged:1;     /* limits were asked for */
    unsigned                     refused:1;     /* ... and Redis refused */
    unsigned                     limit_down:1;  /* ... or did not answer */
    unsigned                     idempotency_done:1;
    unsigned                     body_asked:1;
    unsigned                     body_read:1;
    unsigned                     hashed:1;      /* the fingerprint is made */
    unsigned                     unclaimable:1; /* Redis did not answer */
    unsigned                     large:1;       /* the stored answer is */
    unsigned                     as_it_is:1;    /* a replay: do not shape */
    unsigned                     shape:1;       /* the body is replaced */
    unsigned                     keep:1;        /* ... is stored */
    unsigned                     from_upstream:1;
    unsigned                     frozen:1;      /* outcome_was holds */
    unsigned                     overflow:1;    /* longer than held_max */
    unsigned                     whole:1;       /* its last buffer was held */
    unsigned                     truncated:1;   /* the upstream broke off */
    unsigned                     unseen:1;      /* HEAD hides what GET says */
    unsigned                     executed:1;    /* keygate_self wrote, maybe */
};


extern ngx_module_t  ngx_http_keygate_module;


/* ngx_http_keygate_request.c */

/* The request's state, of the main request; NULL when it has none. */
ngx_http_keygate_ctx_t *ngx_http_keygate_ctx(ngx_http_request_t *r);

/* The same, made when missing, with its request id; NULL for no memory. */
ngx_http_keygate_ctx_t *ngx_http_keygate_ctx_create(ngx_http_request_t *r);

/*
 * Asks Redis on behalf of a phase handler: NGX_AGAIN, which the handler
 * returns; reply runs with the outcome and then the phases run again.  The
 * command's handler and data are set here.  While Redis is asked, a client
 * that leaves ends its request.  NGX_ERROR for no memory.
 */
ngx_int_t ngx_http_keygate_ask(ngx_http_keygate_ctx_t *ctx, ngx_uint_t use,
    kg_redis_cmd_t *cmd, ngx_http_keygate_reply_pt reply);

/*
 * A request waits in its phase, which returns NGX_AGAIN, and goes on in it;
 * while it waits, a client that leaves ends it.
 */
void ngx_http_keygate_wait(ngx_http_keygate_ctx_t *ctx);
void ngx_http_keygate_continue(ngx_http_keygate_ctx_t *ctx);

/*
 * Refuses a request with a code of the catalogue: the status that the phase
 * handler returns.  details is a JSON object as text, or NULL.  In dry_run it
 * is logged and NGX_DECLINED.
 */
ngx_int_t ngx_http_keygate_refuse(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_error_code_t code, ngx_str_t *details);

/* The same with an error that is the catalogue's but for its status. */
ngx_int_t ngx_http_keygate_refuse_as(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const kg_error_t *error,
    ngx_str_t *details);

/* "<ns>:<kind>:{<slot>}<rest>" in the pool; data NULL for no memory. */
ngx_str_t ngx_http_keygate_name(ngx_pool_t *pool, const kg_redis_conf_t *conf,
    const char *kind, const ngx_str_t *slot, const ngx_str_t *rest);

/* The same up to the rest: its length, and written at p, where it ends. */
size_t ngx_http_keygate_name_len(const kg_redis_conf_t *conf,
    const char *kind, const ngx_str_t *slot);
u_char *ngx_http_keygate_name_put(u_char *p, const kg_redis_conf_t *conf,
    const char *kind, const ngx_str_t *slot);

/*
 * The next of a list of headers, or NULL; begun with the list's part and 0.
 * Those with hash 0 are there too.
 */
ngx_table_elt_t *ngx_http_keygate_next_header(ngx_list_part_t **part,
    ngx_uint_t *i);

/*
 * Sets a response header, replacing one of that name that is there; value
 * NULL only removes it.  name and value stay the caller's.
 */
ngx_int_t ngx_http_keygate_set_header(ngx_http_request_t *r,
    const ngx_str_t *name, const ngx_str_t *value);

/* Adds a response header; one of that name may be there already. */
ngx_int_t ngx_http_keygate_push_header(ngx_http_request_t *r,
    const ngx_str_t *name, const ngx_str_t *value);

/* Copies a string reply into the pool; NGX_ERROR when it is not one. */
ngx_int_t ngx_http_keygate_copy(ngx_pool_t *pool, const redisReply *reply,
    ngx_str_t *copy);

/* 1 when the request is that of an error_page. */
ngx_uint_t ngx_http_keygate_error_page(ngx_http_request_t *r);

/*
 * 1 when it is a page, which decides, charges and claims nothing, or what the
 * gate refused; 0 for a request that a named location, which keeps path, method
 * and body, has to hand on: what was not asked of it yet is asked there.
 */
ngx_uint_t ngx_http_keygate_page(ngx_http_request_t *r,
    const ngx_http_keygate_ctx_t *ctx);

/* 1 in a named location with a content handler, as of proxy_pass. */
ngx_uint_t ngx_http_keygate_hands_on(ngx_http_request_t *r);

/* Removes the response headers of these names; the last is empty. */
void ngx_http_keygate_drop_headers(ngx_http_request_t *r,
    const ngx_str_t *names);

/* The response header of that name, or NULL. */
ngx_table_elt_t *ngx_http_keygate_header_out(ngx_http_request_t *r,
    const char *name);

/*
 * The header of that name of the upstream's answer, be it passing or put aside
 * (proxy_intercept_errors), or NULL.
 */
ngx_table_elt_t *ngx_http_keygate_header_said(ngx_http_request_t *r,
    const ngx_str_t *name);

/* The first request header of that name, or NULL, and how many there are. */
ngx_table_elt_t *ngx_http_keygate_header_in(ngx_http_request_t *r,
    const ngx_str_t *name, ngx_uint_t *count);


/* ngx_http_keygate_identify.c */

/* What ACCESS will refuse with; NGX_DECLINED.  why is static, or NULL. */
ngx_int_t ngx_http_keygate_deny(ngx_http_keygate_ctx_t *ctx,
    kg_error_code_t code, const char *why);

/* NGX_OK for a key that may be used now, else as ..._deny(). */
ngx_int_t ngx_http_keygate_key_valid(ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_digest.c */

/*
 * The digest of ctx->token into ctx->digest: by the pepper that ctx->pepper
 * counts, or by none of a legacy one.  KG_OK or KG_ERROR.
 */
kg_rc_t ngx_http_keygate_digest(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_lookup.c */

/*
 * A request wants the record of that name (a digest's bytes are copied), and
 * looks into the zone: NGX_OK when there is one, be it only an old one, and no
 * other needs be wanted; NGX_DECLINED; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_want(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, kg_zone_kind_t kind, const ngx_str_t *name);

/*
 * The first that there is, of the records wanted since the last that was
 * fetched, into ctx->packed.  NGX_OK; NGX_DECLINED: there is none, or
 * ctx->denied says why it cannot be had; NGX_AGAIN: Redis was asked, call
 * again, ctx->fetched is set then; NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_fetch(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* The request waits no more; also from its pool cleanup. */
void ngx_http_keygate_lookup_leave(ngx_http_keygate_ctx_t *ctx);

/*
 * Takes one that waits out of its queue, and lets its request go on if it was
 * the last.  A result of NULL: its entry has it.
 */
void ngx_http_keygate_deliver(ngx_http_keygate_wanted_t *wanted,
    const ngx_http_keygate_result_t *result);


/* ngx_http_keygate_lookup_redis.c */

/* In init_process. */
ngx_int_t ngx_http_keygate_lookup_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);

/* 1 when somebody of the node asks Redis for it already. */
ngx_uint_t ngx_http_keygate_lookup_begun(ngx_http_keygate_main_conf_t *mcf,
    const kg_zone_entry_t *entry);

/* Waits for that, or for a lookup that begins; NGX_ERROR for no memory. */
ngx_int_t ngx_http_keygate_lookup_join(ngx_http_keygate_main_conf_t *mcf,
    ngx_http_keygate_wanted_t *wanted);


/* ngx_http_keygate_failures.c */

/* Counts an unknown key; 1 when that is one too many: ctx->retry_after. */
ngx_uint_t ngx_http_keygate_failures_unknown(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_guess.c */

/* In init_process. */
void ngx_http_keygate_guess_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);

/*
 * A key that may be a guess is to be looked up, by n commands of Redis.
 * NGX_OK: it may be.  NGX_AGAIN: the phase waits, and asks again.
 * NGX_DECLINED: it may not, and is denied.  NGX_ERROR for no memory.
 */
ngx_int_t ngx_http_keygate_guess(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, ngx_uint_t n);

/* A lookup begins for the request, and is over; guess is NULL or ctx's. */
void ngx_http_keygate_guess_asks(ngx_http_keygate_guess_t *guess);
void ngx_http_keygate_guess_answered(ngx_http_keygate_guess_t *guess,
    ngx_uint_t absent);

/* The request knows, or leaves: then what its lookups say is what counts. */
void ngx_http_keygate_guess_end(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t unknown);
void ngx_http_keygate_guess_leave(ngx_http_keygate_ctx_t *ctx);


/* One file each */

ngx_int_t ngx_http_keygate_identify_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keygate_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keygate_limit_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keygate_idempotency_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keygate_admin_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_keygate_self_handler(ngx_http_request_t *r);

/*
 * The contract's order of answers up to the scope: NGX_OK, the status to
 * answer with, or NGX_DECLINED for what dry_run would refuse.
 */
ngx_int_t ngx_http_keygate_decide(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* Refuses for a scope that the key lacks, as ngx_http_keygate_refuse(). */
ngx_int_t ngx_http_keygate_refuse_scope(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const kg_str_t *scope);

ngx_int_t ngx_http_keygate_variables(ngx_conf_t *cf);


/* ngx_http_keygate_upstream.c */

/*
 * The value of X-Request-Id for the upstream with the lines of the other
 * headers behind it, of the request's pool.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_upstream_headers(ngx_http_request_t *r,
    ngx_str_t *headers);

/* 1 where nobody is to be told whose key it is. */
ngx_uint_t ngx_http_keygate_hides(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/*
 * What the caller calls the request itself, for its own support: empty when it
 * says nothing, or twice, or what could mean something in a log or a header.
 */
ngx_str_t ngx_http_keygate_client_request_id(ngx_http_request_t *r);

/*
 * What the upstream gets as Authorization: nothing, since the caller's key is
 * the gate's; but all of it in dry_run, where the upstream still checks.
 */
ngx_str_t ngx_http_keygate_upstream_authorization(ngx_http_request_t *r);


/* ngx_http_keygate_limit_apply.c */

/*
 * Which policies apply to the request, each once, into ctx->applied, with
 * their rates and the names of their states.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_apply(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* The rate of a policy for a key, with what overrides the policy's own. */
void ngx_http_keygate_rate(ngx_http_keygate_main_conf_t *mcf,
    const kg_key_t *key, const kg_org_t *org,
    const ngx_http_keygate_policy_t *policy, kg_rate_t *rate);

/*
 * A policy for a key into applied: its rate, with what overrides the policy's
 * own, and the name of its state, in the pool.  r is of the request that a
 * policy by=address or by a variable counts, else it may be NULL.  NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_http_keygate_apply_policy(ngx_pool_t *pool,
    ngx_http_keygate_main_conf_t *mcf, ngx_http_request_t *r,
    const kg_key_t *key, const kg_org_t *org, const ngx_str_t *route,
    ngx_http_keygate_policy_t *policy, ngx_http_keygate_applied_t *applied);

/* Once its policies are applied: who spends from the same states. */
void ngx_http_keygate_limits_name(ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_limit.c */

/* What is left of a policy, for the headers. */
void ngx_http_keygate_limit_stands(ngx_http_keygate_applied_t *applied,
    const kg_limit_stand_t *stand);

/* The request is to be refused by policy refusing, from 1; relief in ms. */
void ngx_http_keygate_limit_refused(ngx_http_keygate_ctx_t *ctx,
    ngx_uint_t refusing, uint32_t relief);

/* A policy that is dry_run says in the log what it would have done. */
void ngx_http_keygate_limit_dry(ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_policy_t *policy);


/* ngx_http_keygate_limit_ask.c */

/*
 * Charges a request whose policies are applied: NGX_OK, it is admitted, or
 * refused (ctx->refused); NGX_AGAIN: it waits for Redis, and then its phases
 * run again with that or with ctx->limit_down; NGX_ERROR for no memory.
 */
ngx_int_t ngx_http_keygate_limit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* From the pool cleanup: the request waits no more. */
void ngx_http_keygate_limit_leave(ngx_http_keygate_ctx_t *ctx);

/* In init_process. */
ngx_int_t ngx_http_keygate_limit_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);

/* us of CLOCK_MONOTONIC: a lease's life must not lag behind with nginx's. */
uint64_t ngx_http_keygate_monotonic(void);


/* ngx_http_keygate_limit_local.c */

/* Charges a request without Redis: as ngx_http_keygate_limit(), at once. */
ngx_int_t ngx_http_keygate_limit_local(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);

/* What Redis has to be told: sets ask->owes and ask->debt. */
void ngx_http_keygate_limit_owed(ngx_http_keygate_main_conf_t *mcf,
    ngx_http_keygate_ctx_t *ctx, kg_limit_ask_t *ask);


/* ngx_http_keygate_limit_headers.c: RateLimit-Policy and its kin. */
ngx_int_t ngx_http_keygate_rate_limit(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx);


/* ngx_http_keygate_usage.c, ngx_http_keygate_usage_flush.c */

ngx_int_t ngx_http_keygate_usage_handler(ngx_http_request_t *r);

/* In init_process and exit_process, with the clients of Redis there. */
ngx_int_t ngx_http_keygate_usage_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);
void ngx_http_keygate_usage_exit(ngx_http_keygate_main_conf_t *mcf);

/* The worker is exiting: sends what was counted, as far as Redis takes it. */
void ngx_http_keygate_usage_leave(ngx_http_keygate_usage_t *usage);


/* ngx_http_keygate_watch.c: who is told of changes */

/* In init_process and exit_process.  NGX_OK, or NGX_ERROR for no memory. */
ngx_int_t ngx_http_keygate_watch_init(ngx_cycle_t *cycle,
    ngx_http_keygate_main_conf_t *mcf);
void ngx_http_keygate_watch_exit(ngx_http_keygate_main_conf_t *mcf);

/*
 * A record was written, or may have been: forgets it here, and tells the nodes
 * that Redis does not tell.  The pool is for the time of the call.
 */
void ngx_http_keygate_changed(ngx_http_keygate_main_conf_t *mcf,
    ngx_pool_t *pool, kg_zone_kind_t kind, const ngx_str_t *zone_name);

#endif
