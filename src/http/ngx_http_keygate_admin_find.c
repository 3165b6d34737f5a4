
/*
 * POST /keys/find: whose is this token?  It is the call for a token that has
 * leaked, so nothing of it is logged or kept: the body is read by hand, for a
 * JSON parser's copies would be freed without being wiped.
 */

#include "ngx_http_keygate_admin_calls.h"


typedef struct {
    u_char                           digest[KG_DIGEST_LEN];
    ngx_str_t                        hex;
    ngx_http_keygate_admin_part_t   *stored;
} ngx_http_keygate_admin_guess_t;

typedef struct {
    ngx_uint_t                       n;
    ngx_http_keygate_admin_guess_t  *guesses;   /* by each pepper, by none */
    ngx_http_keygate_admin_part_t   *seen;
} ngx_http_keygate_admin_find_t;


static ngx_int_t ngx_http_keygate_admin_find_parse(
    ngx_http_keygate_admin_t *admin, ngx_str_t *token);
static u_char *ngx_http_keygate_admin_find_space(u_char *p, u_char *end);
static u_char *ngx_http_keygate_admin_find_string(u_char *p, u_char *end,
    ngx_str_t *string);
static ngx_int_t ngx_http_keygate_admin_find_digests(
    ngx_http_keygate_admin_t *admin, ngx_str_t *token);
static ngx_int_t ngx_http_keygate_admin_find_sha256(ngx_str_t *token,
    u_char *digest);
static ngx_int_t ngx_http_keygate_admin_find_ask(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_find_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_find_show(
    ngx_http_keygate_admin_t *admin);


ngx_int_t
ngx_http_keygate_admin_key_find(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;
    ngx_str_t  token;

    rc = ngx_http_keygate_admin_find_parse(admin, &token);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_find_digests(admin, &token);
    }

    ngx_http_keygate_admin_wipe_body(admin);

    return (rc == NGX_OK) ? ngx_http_keygate_admin_find_ask(admin) : rc;
}


/* {"token":"…"}, the token unescaped in place. */

static ngx_int_t
ngx_http_keygate_admin_find_parse(ngx_http_keygate_admin_t *admin,
    ngx_str_t *token)
{
    u_char     *p, *end;
    ngx_str_t   name;

    static ngx_str_t  field = ngx_string("token");

    p = admin->text.data;
    end = p + admin->text.len;

    p = ngx_http_keygate_admin_find_space(p, end);

    if (p == end || *p != '{') {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "The body is not a JSON object");
    }

    p = ngx_http_keygate_admin_find_space(p + 1, end);

    if (p < end && *p == '}') {
        return ngx_http_keygate_admin_wrong(admin, &field, "is required");
    }

    p = ngx_http_keygate_admin_find_string(p, end, &name);

    if (p && (name.len != field.len
              || ngx_memcmp(name.data, field.data, field.len) != 0))
    {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "The body has a field other "
                                             "than \"token\"");
    }

    if (p) {
        p = ngx_http_keygate_admin_find_space(p, end);
        p = (p < end && *p == ':') ? p + 1 : NULL;
    }

    if (p) {
        p = ngx_http_keygate_admin_find_space(p, end);
        p = ngx_http_keygate_admin_find_string(p, end, token);

        if (p == NULL || token->len == 0) {
            return ngx_http_keygate_admin_wrong(admin, &field, "must be a "
                                                "string of visible ASCII "
                                                "without \\u escapes");
        }

        p = ngx_http_keygate_admin_find_space(p, end);

        if (p < end && *p == ',') {
            return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST,
                                                 NULL, "The body has a field "
                                                 "other than \"token\"");
        }

        p = (p < end && *p == '}') ? p + 1 : NULL;
    }

    if (p == NULL || ngx_http_keygate_admin_find_space(p, end) != end) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_BAD_REQUEST, NULL,
                                             "The body is not a JSON object");
    }

    return NGX_OK;
}


static u_char *
ngx_http_keygate_admin_find_space(u_char *p, u_char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == LF || *p == CR)) {
        p++;
    }

    return p;
}


/*
 * A string of visible ASCII in quotes; what is escaped by one character is
 * that character.  Returns what follows it, or NULL.
 */

static u_char *
ngx_http_keygate_admin_find_string(u_char *p, u_char *end, ngx_str_t *string)
{
    u_char  *dst;

    if (p == end || *p++ != '"') {
        return NULL;
    }

    dst = p;
    string->data = p;

    for ( /* void */ ; p < end && *p != '"'; p++) {

        if (*p == '\\') {
            p++;

            if (p == end || (*p != '"' && *p != '\\' && *p != '/')) {
                return NULL;
            }
        }

        if (*p <= 0x20 || *p > 0x7e) {
            return NULL;
        }

        *dst++ = *p;
    }

    string->len = dst - string->data;

    return (p < end) ? p + 1 : NULL;
}


static ngx_int_t
ngx_http_keygate_admin_find_digests(ngx_http_keygate_admin_t *admin,
    ngx_str_t *token)
{
    ngx_uint_t                       i;
    kg_pepper_t                    **peppers;
    ngx_http_keygate_admin_find_t   *find;

    find = ngx_pcalloc(admin->request->pool,
                       sizeof(ngx_http_keygate_admin_find_t));
    if (find == NULL) {
        return NGX_ERROR;
    }

    find->n = admin->mcf->peppers.nelts + (admin->mcf->legacy ? 1 : 0);
    find->guesses = ngx_pcalloc(admin->request->pool,
                                find->n
                                * sizeof(ngx_http_keygate_admin_guess_t));
    if (find->guesses == NULL) {
        return NGX_ERROR;
    }

    admin->data = find;
    peppers = admin->mcf->peppers.elts;

    for (i = 0; i < admin->mcf->peppers.nelts; i++) {
        if (kg_pepper_digest(peppers[i], ngx_http_keygate_kg(token),
                             find->guesses[i].digest)
            != KG_OK)
        {
            return NGX_ERROR;
        }
    }

    if (admin->mcf->legacy) {
        return ngx_http_keygate_admin_find_sha256(token,
                                                  find->guesses[i].digest);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_admin_find_sha256(ngx_str_t *token, u_char *digest)
{
    kg_sha_t  *sha;

    sha = kg_sha_create();
    if (sha == NULL) {
        return NGX_ERROR;
    }

    if (kg_sha_update(sha, token->data, token->len) != KG_OK) {
        kg_sha_free(sha);
        return NGX_ERROR;
    }

    return kg_sha_final(sha, digest) == KG_OK ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_admin_find_ask(ngx_http_keygate_admin_t *admin)
{
    u_char                          *p;
    ngx_uint_t                       i;
    ngx_http_keygate_admin_find_t   *find;
    ngx_http_keygate_admin_guess_t  *guess;

    find = admin->data;

    for (i = 0; i < find->n; i++) {
        guess = &find->guesses[i];

        p = ngx_pnalloc(admin->pool, KG_DIGEST_HEX);
        if (p == NULL) {
            return NGX_ERROR;
        }

        guess->hex.data = p;
        guess->hex.len = KG_DIGEST_HEX;

        kg_hex(p, guess->digest, KG_DIGEST_LEN);

        guess->stored = ngx_http_keygate_admin_get(admin, "key", &guess->hex);
        if (guess->stored == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_find_read);
}


static ngx_int_t
ngx_http_keygate_admin_find_read(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                       rc;
    ngx_uint_t                      i;
    ngx_http_keygate_admin_find_t  *find;

    static ngx_str_t  leaked = ngx_string("(found by its token)");

    find = admin->data;

    for (i = 0; i < find->n; i++) {
        if (find->guesses[i].stored->text.data) {
            break;
        }
    }

    if (i == find->n) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_NOT_FOUND, NULL,
                                             "There is no key with this "
                                             "token");
    }

    rc = ngx_http_keygate_admin_load(admin, KG_ZONE_KEY, &leaked,
                                     &find->guesses[i].stored->text, &admin->record);

    if (rc == NGX_DECLINED) {
        return ngx_http_keygate_admin_refuse(admin, KG_ERR_INTERNAL_ERROR,
                                             NULL, "The record is not valid, "
                                             "see the error log");
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->key_id = ngx_http_keygate_admin_member(admin->record, "id");

    find->seen = ngx_http_keygate_admin_get_seen(admin, &admin->key_id);
    if (find->seen == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_gather(admin,
                                         ngx_http_keygate_admin_find_show);
}


static ngx_int_t
ngx_http_keygate_admin_find_show(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_find_t  *find;

    find = admin->data;

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_OK,
                               ngx_http_keygate_admin_key_view(admin->record,
                                                           &find->seen->text));
}
