
/*
 * Limits: what an answer says of them.  RateLimit-Policy and RateLimit of
 * draft-ietf-httpapi-ratelimit-headers-11 name every policy that applied, the
 * most restrictive first: the one that refused, then by the part that is left.
 * What nobody could say is not made up: then there is the policy and no state.
 *
 * A bucket is told as its burst in the time in which it fills.  A policy that
 * only counts is the operator's own affair.
 */

#include "ngx_http_keygate.h"
#include "kg_decimal.h"


static ngx_uint_t ngx_http_keygate_tighter(const ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_applied_t *a, const ngx_http_keygate_applied_t *b);
static u_char *ngx_http_keygate_limit_item(u_char *p, ngx_uint_t first,
    const ngx_str_t *name, u_char a, uint64_t a_value, u_char b,
    uint64_t b_value);
static ngx_int_t ngx_http_keygate_legacy_headers(ngx_http_request_t *r,
    const ngx_http_keygate_applied_t *applied);


ngx_int_t
ngx_http_keygate_rate_limit(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    size_t                        len;
    u_char                       *p, *s;
    uint64_t                      window;
    ngx_str_t                     policies, states;
    ngx_uint_t                    i, j, n;
    ngx_http_keygate_applied_t   *order[KG_LIMIT_POLICIES_MAX];
    ngx_http_keygate_loc_conf_t  *lcf;

    static ngx_str_t  policy_name = ngx_string("RateLimit-Policy");
    static ngx_str_t  state_name = ngx_string("RateLimit");

    len = 0;
    n = 0;

    for (i = 0; i < ctx->napplied; i++) {

        if (ctx->applied[i].policy->dry_run) {
            continue;
        }

        len += ctx->applied[i].policy->name.len + sizeof("\"\";q=;w=, ") - 1
               + 2 * NGX_INT64_LEN;

        for (j = n++; j; j--) {
            if (!ngx_http_keygate_tighter(ctx, &ctx->applied[i],
                                          order[j - 1]))
            {
                break;
            }

            order[j] = order[j - 1];
        }

        order[j] = &ctx->applied[i];
    }

    if (n == 0) {
        return NGX_OK;
    }

    policies.data = ngx_pnalloc(r->pool, 2 * len);
    if (policies.data == NULL) {
        return NGX_ERROR;
    }

    states.data = policies.data + len;

    p = policies.data;
    s = states.data;

    for (i = 0; i < n; i++) {
        window = order[i]->limit.bucket
                 ? kg_limit_refill(&order[i]->rate, order[i]->limit.limit)
                 : order[i]->rate.window;

        p = ngx_http_keygate_limit_item(p, i == 0, &order[i]->policy->name,
                                        'q', order[i]->limit.limit,
                                        'w', window);

        if (order[i]->known) {
            s = ngx_http_keygate_limit_item(s, s == states.data,
                                            &order[i]->policy->name,
                                            'r', order[i]->remaining,
                                            't', order[i]->reset);
        }
    }

    policies.len = p - policies.data;
    states.len = s - states.data;

    if (ngx_http_keygate_push_header(r, &policy_name, &policies) != NGX_OK) {
        return NGX_ERROR;
    }

    if (states.len == 0) {
        return NGX_OK;
    }

    if (ngx_http_keygate_push_header(r, &state_name, &states) != NGX_OK) {
        return NGX_ERROR;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_keygate_module);

    return (lcf->legacy == 1) ? ngx_http_keygate_legacy_headers(r, order[0])
                              : NGX_OK;
}


/* An item of either list: "name";a=1;b=2 */

static u_char *
ngx_http_keygate_limit_item(u_char *p, ngx_uint_t first,
    const ngx_str_t *name, u_char a, uint64_t a_value, u_char b,
    uint64_t b_value)
{
    if (!first) {
        *p++ = ',';
        *p++ = ' ';
    }

    *p++ = '"';
    p = ngx_cpymem(p, name->data, name->len);
    *p++ = '"';

    *p++ = ';';
    *p++ = a;
    *p++ = '=';
    p = kg_put_decimal(p, a_value);

    *p++ = ';';
    *p++ = b;
    *p++ = '=';

    return kg_put_decimal(p, b_value);
}


static ngx_uint_t
ngx_http_keygate_tighter(const ngx_http_keygate_ctx_t *ctx,
    const ngx_http_keygate_applied_t *a, const ngx_http_keygate_applied_t *b)
{
    if (a->policy == ctx->policy || b->policy == ctx->policy) {
        return a->policy == ctx->policy;
    }

    return (uint64_t) a->remaining * b->limit.limit
           < (uint64_t) b->remaining * a->limit.limit;
}


/* What clients of older gateways look for, of the tightest policy. */

static ngx_int_t
ngx_http_keygate_legacy_headers(ngx_http_request_t *r,
    const ngx_http_keygate_applied_t *applied)
{
    u_char      *p;
    ngx_str_t    value;
    ngx_uint_t   i, numbers[3];

    static ngx_str_t  names[] = {
        ngx_string("X-RateLimit-Limit"),
        ngx_string("X-RateLimit-Remaining"),
        ngx_string("X-RateLimit-Reset")
    };

    if (!applied->known) {
        return NGX_OK;
    }

    numbers[0] = applied->limit.limit;
    numbers[1] = applied->remaining;
    numbers[2] = applied->reset;

    for (i = 0; i < 3; i++) {
        p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
        if (p == NULL) {
            return NGX_ERROR;
        }

        value.data = p;
        value.len = ngx_sprintf(p, "%ui", numbers[i]) - p;

        if (ngx_http_keygate_set_header(r, &names[i], &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
