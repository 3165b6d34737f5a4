
/*
 * keygate_keys: the prefixes of tokens, the peppers they are digested with,
 * how far the clocks that keys' times are compared with may be off, and whether
 * keys of before Keygate are known by their SHA-256.
 */

#include "ngx_http_keygate.h"


/* Clocks that are further apart are not to be lived with, ms. */
#define NGX_HTTP_KEYGATE_TOLERANCE_MAX  (5 * 60 * 1000)


static char *ngx_http_keygate_conf_pepper(ngx_conf_t *cf,
    ngx_http_keygate_main_conf_t *mcf, ngx_str_t *param, size_t prefix);


char *
ngx_http_keygate_conf_keys(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_keygate_main_conf_t  *mcf = conf;

    char        *rv;
    ngx_str_t   *value, *prefix;
    ngx_uint_t   i, j;

    (void) cmd;

    if (mcf->prefixes.nelts || mcf->peppers.nelts) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_keygate_conf_starts(&value[i], "prefix=")) {

            for (j = 0; j < i; j++) {
                if (ngx_strcmp(value[j].data, value[i].data) == 0) {
                    (void) ngx_http_keygate_conf_duplicate(cf, &value[i]);
                    return NGX_CONF_ERROR;
                }
            }

            prefix = ngx_array_push(&mcf->prefixes);
            if (prefix == NULL) {
                return NGX_CONF_ERROR;
            }

            prefix->data = value[i].data + 7;
            prefix->len = value[i].len - 7;

            if (!kg_token_prefix_valid(ngx_http_keygate_kg(prefix))) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid \"%V\": a prefix must be "
                                   "[a-z0-9]{1,16}", &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "pepper=")) {
            rv = ngx_http_keygate_conf_pepper(cf, mcf, &value[i], 7);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (ngx_http_keygate_conf_starts(&value[i], "tolerance=")) {
            rv = ngx_http_keygate_conf_time(cf, &value[i], 10, 0,
                                            NGX_HTTP_KEYGATE_TOLERANCE_MAX,
                                            &mcf->tolerance);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            if (mcf->tolerance % 1000) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid time in \"%V\": it must be whole "
                                   "seconds, as the times of keys are",
                                   &value[i]);
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strcmp(value[i].data, "legacy=sha256") == 0) {
            mcf->legacy = 1;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"prefix=NAME\", \"pepper=FILE\", "
                           "\"tolerance=TIME\" or \"legacy=sha256\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    if (mcf->prefixes.nelts == 0) {
        return "has no \"prefix=NAME\", as \"prefix=tf\"";
    }

    if (mcf->peppers.nelts == 0) {
        return "has no \"pepper=FILE\": make one by "
               "\"openssl rand -base64 48\"";
    }

    return NGX_CONF_OK;
}


/* The secret is in memory only while the pads are computed. */

static char *
ngx_http_keygate_conf_pepper(ngx_conf_t *cf, ngx_http_keygate_main_conf_t *mcf,
    ngx_str_t *param, size_t prefix)
{
    ssize_t           n;
    ngx_str_t         file, secret;
    kg_pepper_t     **pepper, **other;
    ngx_file_info_t   fi;
    u_char            buf[KG_PEPPER_MAX + 2];

    file.data = param->data + prefix;
    file.len = param->len - prefix;

    if (file.len == 0 || ngx_conf_full_name(cf->cycle, &file, 1) != NGX_OK) {
        return "has a \"pepper=\" without a file";
    }

    n = ngx_http_keygate_conf_file(&file, buf, sizeof(buf), &fi);

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "the pepper \"%V\" cannot be opened: make it by "
                           "\"openssl rand -base64 48\", readable to the "
                           "user who starts nginx", &file);
        return NGX_CONF_ERROR;
    }

    if (fi.st_mode & S_IROTH) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the pepper \"%V\" is readable to everyone: "
                           "chmod it to 600", &file);
    }

    secret.data = buf;
    secret.len = n;

    if (secret.len && buf[secret.len - 1] == LF) {
        secret.len--;
    }

    if (secret.len < KG_PEPPER_MIN || secret.len > KG_PEPPER_MAX) {
        ngx_explicit_memzero(buf, sizeof(buf));
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the pepper \"%V\" must hold %d to %d bytes: make "
                           "it by \"openssl rand -base64 48\"",
                           &file, KG_PEPPER_MIN, KG_PEPPER_MAX);
        return NGX_CONF_ERROR;
    }

    pepper = ngx_array_push(&mcf->peppers);

    if (pepper) {
        *pepper = kg_pepper_create(ngx_http_keygate_kg(&secret));
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    if (pepper == NULL) {
        return NGX_CONF_ERROR;
    }

    if (*pepper == NULL) {
        mcf->peppers.nelts--;
        return "cannot prepare a pepper: OpenSSL failed";
    }

    /* A slip in a change of peppers: each miss would be looked up twice. */

    for (other = mcf->peppers.elts; other < pepper; other++) {
        if (kg_str_eq(kg_pepper_id(*other), kg_pepper_id(*pepper))) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the pepper \"%V\" is the same as one before "
                               "it: name each once", &file);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
