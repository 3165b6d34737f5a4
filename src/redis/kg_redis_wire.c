
/*
 * The Redis protocol as the client writes it, the scripts, and what error
 * replies mean.  Replies are parsed by hiredis's redisReader.
 *
 * A command is written once, straight into its job, and its arguments point
 * into that text: redisFormatCommandArgv() would take another allocation and
 * another copy of each command.
 */

#include "kg_redis_int.h"
#include "kg_decimal.h"

#include <ngx_sha1.h>

#include "kg_scripts.h"


#define KG_REDIS_SHA_LEN    40


typedef struct {
    const char  *name;
    const char  *text;
    size_t       len;
    u_char       sha[KG_REDIS_SHA_LEN];
} kg_redis_script_t;


#define kg_redis_script(name)                                                 \
    { #name, kg_script_##name, sizeof(kg_script_##name) - 1, { 0 } }


static size_t kg_redis_digits(size_t n);
static size_t kg_redis_arg_len(size_t len);
static u_char *kg_redis_put_arg(u_char *p, const void *data, size_t len);
static u_char *kg_redis_put_number(u_char *p, size_t n);


static kg_redis_script_t  kg_redis_scripts[KG_SCRIPT_N] = {
    [KG_SCRIPT_LIMIT]  = kg_redis_script(limit),
    [KG_SCRIPT_CLAIM]  = kg_redis_script(claim),
    [KG_SCRIPT_ADMIT]  = kg_redis_script(admit),
    [KG_SCRIPT_SETTLE] = kg_redis_script(settle),
    [KG_SCRIPT_CAS]    = kg_redis_script(cas),
    [KG_SCRIPT_AUDIT]  = kg_redis_script(audit),
    [KG_SCRIPT_USAGE]  = kg_redis_script(usage),
    [KG_SCRIPT_HASHES] = kg_redis_script(hashes),
    [KG_SCRIPT_RESOLVE] = kg_redis_script(resolve)
};


static const struct {
    const char        *word;
    kg_redis_error_t   error;
} kg_redis_errors[] = {
    { "LOADING",    KG_REDIS_ERR_LOADING },
    { "READONLY",   KG_REDIS_ERR_READONLY },
    { "MASTERDOWN", KG_REDIS_ERR_MASTERDOWN },
    { "OOM",        KG_REDIS_ERR_OOM },
    { "MISCONF",    KG_REDIS_ERR_MISCONF },
    { "NOAUTH",     KG_REDIS_ERR_NOAUTH },
    { "NOPERM",     KG_REDIS_ERR_NOPERM },
    { "WRONGTYPE",  KG_REDIS_ERR_WRONGTYPE },
    { "BUSY",       KG_REDIS_ERR_BUSY },
    { "NOREPLICAS", KG_REDIS_ERR_NOREPLICAS }
};


void
kg_redis_scripts_init(void)
{
    u_char       digest[20];
    ngx_sha1_t   sha;
    ngx_uint_t   i;

    for (i = 0; i < KG_SCRIPT_N; i++) {
        ngx_sha1_init(&sha);
        ngx_sha1_update(&sha, kg_redis_scripts[i].text,
                        kg_redis_scripts[i].len);
        ngx_sha1_final(digest, &sha);

        ngx_hex_dump(kg_redis_scripts[i].sha, digest, sizeof(digest));
    }
}


ngx_str_t
kg_redis_job_name(const kg_redis_job_t *job)
{
    ngx_str_t  name;

    if (job->script == KG_SCRIPT_NONE) {
        return job->op.argv[0];
    }

    name.data = (u_char *) kg_redis_scripts[job->script].name;
    name.len = ngx_strlen(name.data);

    return name;
}


kg_redis_job_t *
kg_redis_job_create(const kg_redis_cmd_t *cmd)
{
    size_t              size, len, common;
    u_char             *p;
    ngx_str_t          *argv;
    ngx_uint_t          i, n;
    kg_redis_job_t     *job;
    kg_redis_script_t  *script;

    script = NULL;
    n = cmd->argc;
    common = 0;

    if (cmd->script < KG_SCRIPT_N) {
        script = &kg_redis_scripts[cmd->script];
        n += 3;
        common = kg_redis_arg_len(sizeof("EVALSHA") - 1)
                 + kg_redis_arg_len(KG_REDIS_SHA_LEN);
    }

    common += 1 + kg_redis_digits(n) + 2;
    len = common;

    if (script) {
        len += kg_redis_arg_len(kg_redis_digits(cmd->nkeys));
    }

    for (i = 0; i < cmd->argc; i++) {
        len += kg_redis_arg_len(cmd->argv[i].len);
    }

    size = sizeof(kg_redis_job_t) + cmd->argc * sizeof(ngx_str_t) + len;

    job = ngx_alloc(size, ngx_cycle->log);
    if (job == NULL) {
        return NULL;
    }

    ngx_memzero(job, sizeof(kg_redis_job_t));

    argv = (ngx_str_t *) (job + 1);
    p = (u_char *) (argv + cmd->argc);

    job->op.data = cmd->data;
    job->op.argc = cmd->argc;
    job->op.argv = argv;
    job->op.priv = job;

    job->script = cmd->script;
    job->size = size;
    job->common = common;
    job->wire.data = p;
    job->wire.len = len;

    *p++ = '*';
    p = kg_redis_put_number(p, n);

    if (script) {
        p = kg_redis_put_arg(p, "EVALSHA", sizeof("EVALSHA") - 1);
        p = kg_redis_put_arg(p, script->sha, KG_REDIS_SHA_LEN);

        *p++ = '$';
        p = kg_redis_put_number(p, kg_redis_digits(cmd->nkeys));
        p = kg_redis_put_number(p, cmd->nkeys);
    }

    for (i = 0; i < cmd->argc; i++) {
        p = kg_redis_put_arg(p, cmd->argv[i].data, cmd->argv[i].len);

        argv[i].len = cmd->argv[i].len;
        argv[i].data = p - 2 - argv[i].len;
    }

    return job;
}


ngx_int_t
kg_redis_job_eval(kg_redis_job_t *job)
{
    size_t              len, rest;
    u_char             *p, *eval;
    ngx_uint_t          n;
    kg_redis_script_t  *script;

    if (job->eval) {
        return NGX_ERROR;
    }

    script = &kg_redis_scripts[job->script];
    n = job->op.argc + 3;
    rest = job->wire.len - job->common;

    len = 1 + kg_redis_digits(n) + 2
          + kg_redis_arg_len(sizeof("EVAL") - 1)
          + kg_redis_arg_len(script->len)
          + rest;

    eval = ngx_alloc(len, ngx_cycle->log);
    if (eval == NULL) {
        return NGX_ERROR;
    }

    p = eval;
    *p++ = '*';
    p = kg_redis_put_number(p, n);
    p = kg_redis_put_arg(p, "EVAL", sizeof("EVAL") - 1);
    p = kg_redis_put_arg(p, script->text, script->len);
    ngx_memcpy(p, job->wire.data + job->common, rest);

    job->eval = eval;
    job->wire.data = eval;
    job->wire.len = len;

    return NGX_OK;
}


ngx_int_t
kg_redis_setup(kg_redis_t *redis)
{
    u_char                 *p, number[NGX_INT_T_LEN];
    size_t                  len, db;
    const kg_redis_conf_t  *conf;

    conf = redis->conf;

    len = sizeof("*3" CRLF "*2" CRLF) - 1
          + kg_redis_arg_len(sizeof("AUTH") - 1)
          + kg_redis_arg_len(conf->user.len)
          + kg_redis_arg_len(conf->password.len)
          + kg_redis_arg_len(sizeof("SELECT") - 1)
          + kg_redis_arg_len(NGX_INT_T_LEN);

    p = ngx_alloc(len, redis->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    redis->setup.data = p;

    if (conf->password.len) {
        p = ngx_cpymem(p, conf->user.len ? "*3" CRLF : "*2" CRLF, 4);
        p = kg_redis_put_arg(p, "AUTH", sizeof("AUTH") - 1);

        if (conf->user.len) {
            p = kg_redis_put_arg(p, conf->user.data, conf->user.len);
        }

        p = kg_redis_put_arg(p, conf->password.data, conf->password.len);
        redis->nsetup++;
    }

    /*
     * Something is asked always: a frozen Redis takes connections in, only a
     * reply shows that it is there.
     */

    if (conf->database) {
        db = ngx_sprintf(number, "%ui", conf->database) - number;

        p = ngx_cpymem(p, "*2" CRLF, 4);
        p = kg_redis_put_arg(p, "SELECT", sizeof("SELECT") - 1);
        p = kg_redis_put_arg(p, number, db);

    } else {
        p = ngx_cpymem(p, "*1" CRLF, 4);
        p = kg_redis_put_arg(p, "PING", sizeof("PING") - 1);
    }

    redis->nsetup++;
    redis->setup.len = p - redis->setup.data;

    return NGX_OK;
}


static size_t
kg_redis_digits(size_t n)
{
    size_t  digits;

    for (digits = 1; n >= 10; digits++) {
        n /= 10;
    }

    return digits;
}


static size_t
kg_redis_arg_len(size_t len)
{
    return 1 + kg_redis_digits(len) + 2 + len + 2;
}


static u_char *
kg_redis_put_arg(u_char *p, const void *data, size_t len)
{
    *p++ = '$';
    p = kg_redis_put_number(p, len);
    p = ngx_cpymem(p, data, len);
    *p++ = CR;
    *p++ = LF;

    return p;
}


static u_char *
kg_redis_put_number(u_char *p, size_t n)
{
    p = kg_put_decimal(p, n);

    *p++ = CR;
    *p++ = LF;

    return p;
}


kg_redis_error_t
kg_redis_error(const redisReply *reply)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(kg_redis_errors) / sizeof(kg_redis_errors[0]); i++)
    {
        if (kg_redis_error_is(reply, kg_redis_errors[i].word)) {
            return kg_redis_errors[i].error;
        }
    }

    return KG_REDIS_ERR_OTHER;
}


ngx_uint_t
kg_redis_error_is(const redisReply *reply, const char *word)
{
    size_t  len;

    len = ngx_strlen(word);

    return reply->type == REDIS_REPLY_ERROR
           && (size_t) reply->len >= len
           && ngx_strncmp(reply->str, word, len) == 0
           && ((size_t) reply->len == len || reply->str[len] == ' ');
}


ngx_str_t
kg_redis_error_text(const redisReply *reply)
{
    u_char     *args;
    ngx_str_t   text;

    text.data = (u_char *) reply->str;
    text.len = ngx_min((size_t) reply->len, 256);

    args = ngx_strlcasestrn(text.data, text.data + text.len,
                            (u_char *) "with args", 9 - 1);
    if (args) {
        text.len = args - text.data;
    }

    return text;
}
