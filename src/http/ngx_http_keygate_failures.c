
/*
 * Guessing: too many unknown keys from one address.  From keygate_failures
 * rate= on, what that address sends is refused at a constant cost, without a
 * lookup; a key that is in the zone works on, and one that is not may be looked
 * up within the budget of lookups= that all such addresses share.
 */

#include "ngx_http_keygate.h"
#include "kg_zone_failures.h"


char *
ngx_http_keygate_conf_failures(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    (void) cmd;

    if (mcf->failures.window || mcf->lookups.window || mcf->failures_off) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        mcf->failures_off = 1;
        return (cf->args->nelts == 2) ? NGX_CONF_OK
                                      : "takes nothing after \"off\"";
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_keygate_conf_starts(&value[i], "rate=")) {
            rv = ngx_http_keygate_conf_rate(cf, &value[i], 5, &mcf->failures);

        } else if (ngx_http_keygate_conf_starts(&value[i], "lookups=")) {
            rv = ngx_http_keygate_conf_rate(cf, &value[i], 8, &mcf->lookups);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": it must be \"off\", "
                               "\"rate=\" or \"lookups=\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_keygate_failures_unknown(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx)
{
    uint64_t                       address;
    ngx_msec_t                     wait;
    ngx_http_keygate_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);
    address = kg_zone_failures_address(r->connection->sockaddr);

    if (address == 0 || mcf->failures_off) {
        return 0;
    }

    /* One that had a place among those under way had room to fail. */

    if (ctx->guess) {
        ngx_http_keygate_guess_end(ctx, 1);
        return 0;
    }

    wait = kg_zone_failures_take(mcf->zone, address, &mcf->failures,
                                 ngx_current_msec);

    ctx->retry_after = (wait + 999) / 1000;

    return wait != 0;
}
