
/*
 * The name of a key's record: the digest of the token under a pepper, or of a
 * token of before Keygate under none.
 *
 * A partner keeps its connection and sends the same token with every request,
 * so a connection remembers the digest of its last one.  Behind a balancer the
 * next token may be somebody else's: they are compared in constant time.
 */

#include <openssl/crypto.h>

#include "ngx_http_keygate.h"


typedef struct {
    size_t  len;            /* of the token; 0: none was sent yet */
    u_char  token[KG_TOKEN_MAX];
    u_char  digest[KG_DIGEST_LEN];
} ngx_http_keygate_last_t;


static kg_rc_t ngx_http_keygate_digest_again(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const kg_pepper_t *pepper);
static ngx_http_keygate_last_t *ngx_http_keygate_last(ngx_connection_t *c);
static void ngx_http_keygate_last_cleanup(void *data);


kg_rc_t
ngx_http_keygate_digest(ngx_http_request_t *r, ngx_http_keygate_ctx_t *ctx)
{
    kg_sha_t                      *sha;
    kg_pepper_t                  **peppers;
    ngx_http_keygate_main_conf_t  *mcf;

    if (ctx->legacy) {
        sha = kg_sha_create();
        if (sha == NULL) {
            return KG_ERROR;
        }

        if (kg_sha_update(sha, ctx->token.data, ctx->token.len) != KG_OK) {
            kg_sha_free(sha);
            return KG_ERROR;
        }

        return kg_sha_final(sha, ctx->digest);
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_keygate_module);
    peppers = mcf->peppers.elts;

    if (ctx->pepper == 0) {
        return ngx_http_keygate_digest_again(r, ctx, peppers[0]);
    }

    return kg_pepper_digest(peppers[ctx->pepper],
                            ngx_http_keygate_kg(&ctx->token), ctx->digest);
}


/* Under the first pepper, that nearly all keys have. */

static kg_rc_t
ngx_http_keygate_digest_again(ngx_http_request_t *r,
    ngx_http_keygate_ctx_t *ctx, const kg_pepper_t *pepper)
{
    kg_rc_t                   rc;
    ngx_uint_t                again;
    ngx_http_keygate_last_t  *last;

    /* Many connections have one request only. */

    again = (r->connection->requests > 1);

#if (NGX_HTTP_V3)

    /* Each stream has a connection of its own, which counts the others'. */

    again = (again && r->http_version != NGX_HTTP_VERSION_30);

#endif

    last = again ? ngx_http_keygate_last(r->connection) : NULL;

    if (last && last->len == ctx->token.len
        && CRYPTO_memcmp(last->token, ctx->token.data, last->len) == 0)
    {
        ngx_memcpy(ctx->digest, last->digest, KG_DIGEST_LEN);
        return KG_OK;
    }

    rc = kg_pepper_digest(pepper, ngx_http_keygate_kg(&ctx->token),
                          ctx->digest);

    if (last && rc == KG_OK && ctx->token.len <= KG_TOKEN_MAX) {
        last->len = ctx->token.len;
        ngx_memcpy(last->token, ctx->token.data, ctx->token.len);
        ngx_memcpy(last->digest, ctx->digest, KG_DIGEST_LEN);
    }

    return rc;
}


/* The connection's, made when missing; NULL for no memory. */

static ngx_http_keygate_last_t *
ngx_http_keygate_last(ngx_connection_t *c)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_keygate_last_t  *last;

    for (cln = c->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_keygate_last_cleanup) {
            return cln->data;
        }
    }

    cln = ngx_pool_cleanup_add(c->pool, sizeof(ngx_http_keygate_last_t));
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_keygate_last_cleanup;

    last = cln->data;
    last->len = 0;

    return last;
}


static void
ngx_http_keygate_last_cleanup(void *data)
{
    OPENSSL_cleanse(data, sizeof(ngx_http_keygate_last_t));
}
