
/*
 * The directive keygate_redis.  What is wrong is refused when the
 * configuration is read, with a line that says what would be right; a
 * password is never part of such a line.
 */

#include "kg_redis.h"


#define KG_REDIS_PORT           6379
#define KG_REDIS_PASSWORD_MAX   1024
#define KG_REDIS_NAME_MAX       64


static char *kg_redis_conf_tcp(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *url);
static char *kg_redis_conf_unix(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *url);
static char *kg_redis_conf_resolve(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *address);
static char *kg_redis_conf_name(ngx_conf_t *cf, kg_redis_conf_t *conf,
    const char *scheme, const char *separator, ngx_str_t *address);
static char *kg_redis_conf_parameter(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *parameter);
static char *kg_redis_conf_namespace(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *value);
static char *kg_redis_conf_time(ngx_conf_t *cf, ngx_msec_t *time,
    ngx_str_t *parameter, ngx_str_t *value);
static char *kg_redis_conf_password(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *value);
static char *kg_redis_conf_read(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *name, ngx_fd_t fd);


#define kg_redis_starts(s, prefix)                                            \
    ((s)->len >= sizeof(prefix) - 1                                           \
     && ngx_strncmp((s)->data, prefix, sizeof(prefix) - 1) == 0)


char *
kg_redis_conf_parse(ngx_conf_t *cf, kg_redis_conf_t *conf)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    ngx_str_set(&conf->ns, "kg");
    conf->connect = 200;
    conf->command = 50;
    conf->dead = 1000;

    if (kg_redis_starts(&value[1], "redis://")) {
        rv = kg_redis_conf_tcp(cf, conf, &value[1]);

    } else if (kg_redis_starts(&value[1], "unix:")) {
        rv = kg_redis_conf_unix(cf, conf, &value[1]);

    } else if (kg_redis_starts(&value[1], "rediss://")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "TLS is not supported yet; "
                           "use redis:// or unix:");
        rv = NGX_CONF_ERROR;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "the address of Redis must "
                           "be \"redis://host[:port][/database]\" or "
                           "\"unix:/path[:database]\"");
        rv = NGX_CONF_ERROR;
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = kg_redis_conf_parameter(cf, conf, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (conf->user.len && conf->password.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"user=\" needs "
                           "\"password_file=\" beside it");
        return NGX_CONF_ERROR;
    }

    if (conf->dead < conf->command) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"dead=\" must not be less "
                           "than \"command=\", which is %Mms",
                           conf->command);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
kg_redis_conf_tcp(ngx_conf_t *cf, kg_redis_conf_t *conf, ngx_str_t *url)
{
    u_char     *p, *last;
    ngx_int_t   n;
    ngx_str_t   address;

    address.data = url->data + sizeof("redis://") - 1;
    address.len = url->len - (sizeof("redis://") - 1);
    last = address.data + address.len;

    if (ngx_strlchr(address.data, last, '@')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no user or password in the "
                           "address of Redis, where logs show it: use "
                           "\"user=\" and \"password_file=\"");
        return NGX_CONF_ERROR;
    }

    p = ngx_strlchr(address.data, last, '/');

    if (p) {
        address.len = p - address.data;
        p++;

        n = ngx_atoi(p, last - p);

        if (n == NGX_ERROR && p != last) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid database in "
                               "\"%V\", it is a number: "
                               "\"redis://host:port/0\"", url);
            return NGX_CONF_ERROR;
        }

        conf->database = (p == last) ? 0 : n;
    }

    if (kg_redis_conf_resolve(cf, conf, &address) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return kg_redis_conf_name(cf, conf, "redis://", "/", &address);
}


static char *
kg_redis_conf_unix(ngx_conf_t *cf, kg_redis_conf_t *conf, ngx_str_t *url)
{
    u_char     *p, *last;
    ngx_int_t   n;
    ngx_str_t   address;

    address = *url;
    last = url->data + url->len;

    p = ngx_strlchr(url->data + sizeof("unix:") - 1, last, ':');

    if (p) {
        address.len = p - url->data;
        p++;

        n = ngx_atoi(p, last - p);

        if (n == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid database in "
                               "\"%V\", it is a number: \"unix:/path:0\"",
                               url);
            return NGX_CONF_ERROR;
        }

        conf->database = n;
    }

    if (address.len == sizeof("unix:") - 1
        || address.data[sizeof("unix:") - 1] != '/')
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no absolute path in \"%V\"",
                           url);
        return NGX_CONF_ERROR;
    }

    if (kg_redis_conf_resolve(cf, conf, &address) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return kg_redis_conf_name(cf, conf, "", ":", &address);
}


static char *
kg_redis_conf_resolve(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *address)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *address;
    u.default_port = KG_REDIS_PORT;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in the address of Redis "
                           "\"%V\"", u.err ? u.err : "no memory for what is",
                           address);

        return NGX_CONF_ERROR;
    }

    conf->addrs = u.addrs;
    conf->naddrs = u.naddrs;

    return NGX_CONF_OK;
}


static char *
kg_redis_conf_name(ngx_conf_t *cf, kg_redis_conf_t *conf, const char *scheme,
    const char *separator, ngx_str_t *address)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, ngx_strlen(scheme) + address->len
                              + ngx_strlen(separator) + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    conf->name.data = p;
    conf->name.len = ngx_sprintf(p, "%s%V%s%ui", scheme, address, separator,
                                 conf->database)
                     - p;

    return NGX_CONF_OK;
}


static char *
kg_redis_conf_parameter(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *parameter)
{
    u_char     *p;
    ngx_str_t   name, value;

    p = ngx_strlchr(parameter->data, parameter->data + parameter->len, '=');

    if (p == NULL) {
        goto invalid;
    }

    p++;

    name.data = parameter->data;
    name.len = p - name.data;
    value.data = p;
    value.len = parameter->len - name.len;

    if (value.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no value in \"%V\"",
                           parameter);
        return NGX_CONF_ERROR;
    }

    if (kg_redis_starts(&name, "connect=")) {
        return kg_redis_conf_time(cf, &conf->connect, parameter, &value);
    }

    if (kg_redis_starts(&name, "command=")) {
        return kg_redis_conf_time(cf, &conf->command, parameter, &value);
    }

    if (kg_redis_starts(&name, "dead=")) {
        return kg_redis_conf_time(cf, &conf->dead, parameter, &value);
    }

    if (kg_redis_starts(&name, "namespace=")) {
        return kg_redis_conf_namespace(cf, conf, &value);
    }

    if (kg_redis_starts(&name, "user=")) {
        conf->user = value;
        return NGX_CONF_OK;
    }

    if (kg_redis_starts(&name, "password_file=")) {
        return kg_redis_conf_password(cf, conf, &value);
    }

    if (kg_redis_starts(&name, "password=")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no password in the "
                           "configuration, which many may read: put it in a "
                           "file and name that with \"password_file=\"");
        return NGX_CONF_ERROR;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\", these "
                       "are known: user= password_file= namespace= connect= "
                       "command= dead=", parameter);

    return NGX_CONF_ERROR;
}


static char *
kg_redis_conf_namespace(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *value)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < value->len; i++) {
        ch = value->data[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
            || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'
            || ch == '.')
        {
            continue;
        }

        break;
    }

    if (i < value->len || i > KG_REDIS_NAME_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid namespace \"%V\", "
                           "it is up to 64 letters, digits, \"_\", \"-\" and "
                           "\".\"", value);
        return NGX_CONF_ERROR;
    }

    conf->ns = *value;

    return NGX_CONF_OK;
}


static char *
kg_redis_conf_time(ngx_conf_t *cf, ngx_msec_t *time, ngx_str_t *parameter,
    ngx_str_t *value)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(value, 0);

    if (ms == NGX_ERROR || ms < 1 || ms > 60000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid time in \"%V\", it "
                           "is from 1ms to 60s", parameter);
        return NGX_CONF_ERROR;
    }

    *time = ms;

    return NGX_CONF_OK;
}


static char *
kg_redis_conf_password(ngx_conf_t *cf, kg_redis_conf_t *conf,
    ngx_str_t *value)
{
    char       *rv;
    ngx_fd_t    fd;
    ngx_str_t   name;

    name = *value;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* A FIFO nobody writes to must not hold up the start. */

    fd = ngx_open_file(name.data, NGX_FILE_RDONLY | NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "the password file \"%V\" cannot be opened",
                           &name);
        return NGX_CONF_ERROR;
    }

    rv = kg_redis_conf_read(cf, conf, &name, fd);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", &name);
    }

    return rv;
}


static char *
kg_redis_conf_read(ngx_conf_t *cf, kg_redis_conf_t *conf, ngx_str_t *name,
    ngx_fd_t fd)
{
    u_char           *p, *data;
    size_t            len;
    ssize_t           n;
    ngx_file_info_t   fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR || !ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "the password file \"%V\" is "
                           "not a regular file", name);
        return NGX_CONF_ERROR;
    }

    if (ngx_file_size(&fi) > KG_REDIS_PASSWORD_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "the password file \"%V\" is "
                           "longer than %d bytes", name,
                           KG_REDIS_PASSWORD_MAX);
        return NGX_CONF_ERROR;
    }

    data = ngx_pnalloc(cf->pool, KG_REDIS_PASSWORD_MAX);
    if (data == NULL) {
        return NGX_CONF_ERROR;
    }

    n = ngx_read_fd(fd, data, KG_REDIS_PASSWORD_MAX);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "the password file \"%V\" cannot be read", name);
        return NGX_CONF_ERROR;
    }

    len = n;

    if (len && data[len - 1] == LF) {
        len--;

        if (len && data[len - 1] == CR) {
            len--;
        }
    }

    if (len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the password file \"%V\" is empty", name);
        return NGX_CONF_ERROR;
    }

    for (p = data; p < data + len; p++) {

        if (*p == LF || *p == CR || *p == '\0') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "the password file "
                               "\"%V\" has more than one line", name);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_file_access(&fi) & S_IROTH) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "everyone can read the "
                           "password file \"%V\", \"chmod o-r\" it", name);
    }

    conf->password.data = data;
    conf->password.len = len;

    return NGX_CONF_OK;
}
