
/*
 * keygate_errors: the shape of errors, and a deployment's own catalogue.
 */

#include "ngx_http_keygate_conf.h"


static char *ngx_http_keygate_conf_catalogue(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *lcf, ngx_str_t *value);
static char *ngx_http_keygate_conf_catalogue_read(ngx_conf_t *cf,
    ngx_str_t *name, ngx_str_t *text);
static void ngx_http_keygate_conf_catalogue_free(void *data);


char *
ngx_http_keygate_conf_errors(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_loc_conf_t  *lcf = conf;

    ngx_str_t  *value;

    (void) cmd;

    if (lcf->errors != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "envelope") == 0) {
        lcf->errors = KG_FORMAT_ENVELOPE;

    } else if (ngx_strcmp(value[1].data, "problem") == 0) {
        lcf->errors = KG_FORMAT_PROBLEM;

    } else if (ngx_strcmp(value[1].data, "off") == 0) {
        lcf->errors = KG_FORMAT_OFF;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\": it must be \"envelope\", "
                           "\"problem\" or \"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (!ngx_http_keygate_conf_starts(&value[2], "catalogue=")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"catalogue=FILE\"", &value[2]);
        return NGX_CONF_ERROR;
    }

    if (lcf->errors == KG_FORMAT_OFF) {
        return "has no use for a \"catalogue=\" when it is \"off\"";
    }

    value[2].data += sizeof("catalogue=") - 1;
    value[2].len -= sizeof("catalogue=") - 1;

    return ngx_http_keygate_conf_catalogue(cf, lcf, &value[2]);
}


static char *
ngx_http_keygate_conf_catalogue(ngx_conf_t *cf,
    ngx_http_keygate_loc_conf_t *lcf, ngx_str_t *value)
{
    char                  *rv;
    ngx_str_t              name, text;
    ngx_pool_cleanup_t    *cln;
    kg_catalogue_fault_t   fault;

    name = *value;

    if (name.len == 0 || ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return "has a \"catalogue=\" without a file";
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_keygate_conf_catalogue_read(cf, &name, &text);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    lcf->catalogue = kg_catalogue_parse(ngx_http_keygate_kg(&text), &fault);

    ngx_free(text.data);

    if (lcf->catalogue == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the error catalogue \"%V\" is wrong in line %ui: "
                           "%s", &name, (ngx_uint_t) fault.line, fault.text);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_keygate_conf_catalogue_free;
    cln->data = lcf->catalogue;

    return NGX_CONF_OK;
}


/* The whole of a file into *text, which the caller frees. */

static char *
ngx_http_keygate_conf_catalogue_read(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *text)
{
    ssize_t          n;
    ngx_file_info_t  fi;

    /* one more, to tell a file at the bound from one over it */

    text->data = ngx_alloc(KG_CATALOGUE_MAX + 1, cf->log);
    if (text->data == NULL) {
        return NGX_CONF_ERROR;
    }

    n = ngx_http_keygate_conf_file(name, text->data, KG_CATALOGUE_MAX + 1,
                                   &fi);

    if (n > 0 && n <= KG_CATALOGUE_MAX) {
        text->len = n;
        return NGX_CONF_OK;
    }

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "the error catalogue \"%V\" cannot be read", name);

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the error catalogue \"%V\" must be a file of 1 "
                           "to %d bytes", name, KG_CATALOGUE_MAX);
    }

    ngx_free(text->data);

    return NGX_CONF_ERROR;
}


static void
ngx_http_keygate_conf_catalogue_free(void *data)
{
    kg_catalogue_free(data);
}
