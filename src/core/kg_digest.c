
/*
 * Digests and sealing, on OpenSSL 3's EVP interface.
 *
 * HMAC_CTX is deprecated and EVP_MAC prepares more than is needed for every
 * message.  HMAC is two hashes that begin with a block made of the key alone
 * (RFC 2104), so both are hashed up to there once, and every token starts from
 * copies of the two states.  In the same way the two cipher contexts are keyed
 * once and only given a nonce afterwards, so that no key is kept outside of
 * OpenSSL, which cleanses its contexts when it frees them.
 *
 * A worker has one thread, so that the contexts of a pepper may be its scratch
 * space; a pepper is not to be shared between threads.
 */

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "kg_digest.h"


#define KG_SHA_BLOCK      64

#define KG_ID_LEN         4         /* bytes; twice as many hex digits */
#define KG_NONCE_LEN      12
#define KG_TAG_LEN        16
#define KG_CIPHER_KEY     32

#define KG_SEAL_VERSION   1
#define KG_SEAL_HEAD      (1 + KG_ID_LEN)

/* Part of the stored format: another label is another key and another id. */
#define KG_LABEL_SEAL     "keygate seal v1"
#define KG_LABEL_ID       "keygate pepper id v1"


/*
 * A sealed string:
 *
 *     version (1) | pepper id (4) | nonce (12) | ciphertext | tag (16)
 *
 * What is authenticated besides the plain text is version and id, then the
 * caller's associated data.  Nonces are random, which is sound for 2^32
 * strings a pepper (NIST SP 800-38D, 8.3).
 */

struct kg_pepper_s {
    EVP_MD_CTX      *inner;         /* after the block of the inner pad */
    EVP_MD_CTX      *outer;         /* after the block of the outer pad */
    EVP_MD_CTX      *scratch;
    EVP_CIPHER_CTX  *seal;
    EVP_CIPHER_CTX  *open;
    unsigned char    id[KG_ID_LEN];
    unsigned char    hex[2 * KG_ID_LEN];
    kg_str_t         name;          /* views hex */
};

struct kg_sha_s {
    EVP_MD_CTX  *ctx;
};


static kg_rc_t kg_pepper_pads(kg_pepper_t *pepper, const kg_str_t *secret);
static kg_rc_t kg_pepper_pad(EVP_MD_CTX *ctx, const unsigned char *key,
    unsigned char byte);
static kg_rc_t kg_pepper_keys(kg_pepper_t *pepper, const kg_str_t *secret);
static kg_rc_t kg_hkdf(const kg_str_t *secret, const kg_str_t *label,
    unsigned char *out, size_t len);
static kg_rc_t kg_hash_from(EVP_MD_CTX *scratch, const EVP_MD_CTX *state,
    const void *data, size_t len, unsigned char out[KG_DIGEST_LEN]);


kg_pepper_t *
kg_pepper_create(const kg_str_t *secret)
{
    kg_pepper_t  *pepper;

    pepper = OPENSSL_zalloc(sizeof(kg_pepper_t));
    if (pepper == NULL) {
        return NULL;
    }

    if (kg_pepper_pads(pepper, secret) != KG_OK
        || kg_pepper_keys(pepper, secret) != KG_OK)
    {
        kg_pepper_free(pepper);
        return NULL;
    }

    return pepper;
}


void
kg_pepper_free(kg_pepper_t *pepper)
{
    if (pepper == NULL) {
        return;
    }

    EVP_MD_CTX_free(pepper->inner);
    EVP_MD_CTX_free(pepper->outer);
    EVP_MD_CTX_free(pepper->scratch);
    EVP_CIPHER_CTX_free(pepper->seal);
    EVP_CIPHER_CTX_free(pepper->open);

    OPENSSL_clear_free(pepper, sizeof(kg_pepper_t));
}


const kg_str_t *
kg_pepper_id(const kg_pepper_t *pepper)
{
    return &pepper->name;
}


kg_rc_t
kg_pepper_digest(const kg_pepper_t *pepper, const kg_str_t *token,
    unsigned char out[KG_DIGEST_LEN])
{
    if (kg_hash_from(pepper->scratch, pepper->inner, token->data, token->len,
                     out)
        != KG_OK)
    {
        return KG_ERROR;
    }

    return kg_hash_from(pepper->scratch, pepper->outer, out, KG_DIGEST_LEN,
                        out);
}


kg_rc_t
kg_seal(const kg_pepper_t *pepper, const kg_str_t *aad, const kg_str_t *plain,
    unsigned char *out, size_t *len)
{
    int             n;
    unsigned char  *nonce, *body, *tag;

    /* EVP counts in int */

    if (aad->len > INT_MAX || plain->len > INT_MAX - KG_SEAL_EXTRA) {
        return KG_ERROR;
    }

    nonce = out + KG_SEAL_HEAD;
    body = nonce + KG_NONCE_LEN;
    tag = body + plain->len;

    out[0] = KG_SEAL_VERSION;
    memcpy(out + 1, pepper->id, KG_ID_LEN);

    if (kg_random(nonce, KG_NONCE_LEN) != KG_OK
        || EVP_EncryptInit_ex2(pepper->seal, NULL, NULL, nonce, NULL) != 1
        || EVP_EncryptUpdate(pepper->seal, NULL, &n, out, KG_SEAL_HEAD) != 1)
    {
        return KG_ERROR;
    }

    if (aad->len != 0
        && EVP_EncryptUpdate(pepper->seal, NULL, &n, aad->data,
                             (int) aad->len)
           != 1)
    {
        return KG_ERROR;
    }

    if (plain->len != 0
        && EVP_EncryptUpdate(pepper->seal, body, &n, plain->data,
                             (int) plain->len)
           != 1)
    {
        return KG_ERROR;
    }

    if (EVP_EncryptFinal_ex(pepper->seal, tag, &n) != 1
        || EVP_CIPHER_CTX_ctrl(pepper->seal, EVP_CTRL_AEAD_GET_TAG,
                               KG_TAG_LEN, tag)
           != 1)
    {
        return KG_ERROR;
    }

    *len = plain->len + KG_SEAL_EXTRA;

    return KG_OK;
}


kg_rc_t
kg_open(const kg_pepper_t *pepper, const kg_str_t *aad, const kg_str_t *sealed,
    unsigned char *out, size_t *len)
{
    int             n;
    size_t          size;
    unsigned char  *nonce, *body, *tag, none[1];

    if (sealed->len < KG_SEAL_EXTRA
        || sealed->len > INT_MAX || aad->len > INT_MAX
        || sealed->data[0] != KG_SEAL_VERSION
        || memcmp(sealed->data + 1, pepper->id, KG_ID_LEN) != 0)
    {
        return KG_INVALID;
    }

    size = sealed->len - KG_SEAL_EXTRA;
    nonce = sealed->data + KG_SEAL_HEAD;
    body = nonce + KG_NONCE_LEN;
    tag = body + size;

    if (EVP_DecryptInit_ex2(pepper->open, NULL, NULL, nonce, NULL) != 1
        || EVP_DecryptUpdate(pepper->open, NULL, &n, sealed->data,
                             KG_SEAL_HEAD)
           != 1
        || EVP_CIPHER_CTX_ctrl(pepper->open, EVP_CTRL_AEAD_SET_TAG,
                               KG_TAG_LEN, tag)
           != 1)
    {
        return KG_ERROR;
    }

    if (aad->len != 0
        && EVP_DecryptUpdate(pepper->open, NULL, &n, aad->data,
                             (int) aad->len)
           != 1)
    {
        return KG_ERROR;
    }

    if (size != 0
        && EVP_DecryptUpdate(pepper->open, out, &n, body, (int) size) != 1)
    {
        OPENSSL_cleanse(out, size);
        return KG_ERROR;
    }

    /* GCM is a stream: the last call writes nothing, it only compares */

    if (EVP_DecryptFinal_ex(pepper->open, none, &n) != 1) {
        OPENSSL_cleanse(out, size);
        return KG_INVALID;
    }

    *len = size;

    return KG_OK;
}


kg_sha_t *
kg_sha_create(void)
{
    kg_sha_t       *sha;
    static EVP_MD  *sha256;

    /* OpenSSL would look EVP_sha256() up by its name for every hash. */

    if (sha256 == NULL) {
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    }

    sha = OPENSSL_zalloc(sizeof(kg_sha_t));
    if (sha == NULL) {
        return NULL;
    }

    sha->ctx = EVP_MD_CTX_new();

    if (sha->ctx == NULL
        || EVP_DigestInit_ex2(sha->ctx, sha256, NULL) != 1)
    {
        kg_sha_free(sha);
        return NULL;
    }

    return sha;
}


kg_rc_t
kg_sha_update(kg_sha_t *sha, const void *data, size_t len)
{
    return EVP_DigestUpdate(sha->ctx, data, len) == 1 ? KG_OK : KG_ERROR;
}


kg_rc_t
kg_sha_final(kg_sha_t *sha, unsigned char out[KG_DIGEST_LEN])
{
    kg_rc_t  rc;

    rc = EVP_DigestFinal_ex(sha->ctx, out, NULL) == 1 ? KG_OK : KG_ERROR;

    kg_sha_free(sha);

    return rc;
}


void
kg_sha_free(kg_sha_t *sha)
{
    if (sha == NULL) {
        return;
    }

    EVP_MD_CTX_free(sha->ctx);
    OPENSSL_free(sha);
}


unsigned char *
kg_hex(unsigned char *dst, const unsigned char *src, size_t len)
{
    size_t                      i;
    static const unsigned char  digits[] = "0123456789abcdef";

    for (i = 0; i < len; i++) {
        *dst++ = digits[src[i] >> 4];
        *dst++ = digits[src[i] & 0x0f];
    }

    return dst;
}


kg_rc_t
kg_unhex(unsigned char *dst, size_t len, const kg_str_t *hex)
{
    size_t         i;
    unsigned char  c, digit;

    if (hex->len != 2 * len) {
        return KG_INVALID;
    }

    for (i = 0; i < hex->len; i++) {
        c = hex->data[i];

        if (c >= '0' && c <= '9') {
            digit = (unsigned char) (c - '0');

        } else if (c >= 'a' && c <= 'f') {
            digit = (unsigned char) (c - 'a' + 10);

        } else {
            return KG_INVALID;
        }

        if (i % 2 == 0) {
            dst[i / 2] = (unsigned char) (digit << 4);

        } else {
            dst[i / 2] |= digit;
        }
    }

    return KG_OK;
}


kg_rc_t
kg_random(unsigned char *buf, size_t n)
{
    if (n > INT_MAX || RAND_bytes(buf, (int) n) != 1) {
        return KG_ERROR;
    }

    return KG_OK;
}


kg_rc_t
kg_random_drawn(kg_entropy_t *entropy, unsigned char *buf, size_t n)
{
    if (n > sizeof(entropy->bytes)) {
        return KG_ERROR;
    }

    if (entropy->left < n) {

        if (kg_random(entropy->bytes, sizeof(entropy->bytes)) != KG_OK) {
            return KG_ERROR;
        }

        entropy->left = sizeof(entropy->bytes);
    }

    entropy->left -= n;
    memcpy(buf, entropy->bytes + entropy->left, n);

    return KG_OK;
}


static kg_rc_t
kg_pepper_pads(kg_pepper_t *pepper, const kg_str_t *secret)
{
    kg_rc_t        rc;
    unsigned char  key[KG_SHA_BLOCK];

    pepper->inner = EVP_MD_CTX_new();
    pepper->outer = EVP_MD_CTX_new();
    pepper->scratch = EVP_MD_CTX_new();

    if (pepper->inner == NULL || pepper->outer == NULL
        || pepper->scratch == NULL)
    {
        return KG_ERROR;
    }

    memset(key, 0, sizeof(key));

    if (secret->len <= KG_SHA_BLOCK) {
        memcpy(key, secret->data, secret->len);
        rc = KG_OK;

    } else {
        rc = EVP_Digest(secret->data, secret->len, key, NULL, EVP_sha256(),
                        NULL)
                 == 1
             ? KG_OK : KG_ERROR;
    }

    if (rc == KG_OK) {
        rc = kg_pepper_pad(pepper->inner, key, 0x36);
    }

    if (rc == KG_OK) {
        rc = kg_pepper_pad(pepper->outer, key, 0x5c);
    }

    OPENSSL_cleanse(key, sizeof(key));

    return rc;
}


static kg_rc_t
kg_pepper_pad(EVP_MD_CTX *ctx, const unsigned char *key, unsigned char byte)
{
    int            ok;
    size_t         i;
    unsigned char  block[KG_SHA_BLOCK];

    for (i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ byte;
    }

    ok = EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL) == 1
         && EVP_DigestUpdate(ctx, block, sizeof(block)) == 1;

    OPENSSL_cleanse(block, sizeof(block));

    return ok ? KG_OK : KG_ERROR;
}


static kg_rc_t
kg_pepper_keys(kg_pepper_t *pepper, const kg_str_t *secret)
{
    int                    ok;
    unsigned char          key[KG_CIPHER_KEY];
    static const kg_str_t  label_seal = kg_string(KG_LABEL_SEAL);
    static const kg_str_t  label_id = kg_string(KG_LABEL_ID);

    if (kg_hkdf(secret, &label_id, pepper->id, KG_ID_LEN) != KG_OK) {
        return KG_ERROR;
    }

    kg_hex(pepper->hex, pepper->id, KG_ID_LEN);

    pepper->name.data = pepper->hex;
    pepper->name.len = sizeof(pepper->hex);

    pepper->seal = EVP_CIPHER_CTX_new();
    pepper->open = EVP_CIPHER_CTX_new();

    if (pepper->seal == NULL || pepper->open == NULL) {
        return KG_ERROR;
    }

    ok = kg_hkdf(secret, &label_seal, key, sizeof(key)) == KG_OK
         && EVP_EncryptInit_ex2(pepper->seal, EVP_aes_256_gcm(), key, NULL,
                                NULL)
            == 1
         && EVP_DecryptInit_ex2(pepper->open, EVP_aes_256_gcm(), key, NULL,
                                NULL)
            == 1;

    OPENSSL_cleanse(key, sizeof(key));

    return ok ? KG_OK : KG_ERROR;
}


/* HKDF-SHA256 without salt, the label as info (RFC 5869). */

static kg_rc_t
kg_hkdf(const kg_str_t *secret, const kg_str_t *label, unsigned char *out,
    size_t len)
{
    int           ok;
    EVP_KDF      *kdf;
    OSSL_PARAM    params[4];
    EVP_KDF_CTX  *ctx;

    kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_HKDF, NULL);
    if (kdf == NULL) {
        return KG_ERROR;
    }

    /* the context holds its own reference */
    ctx = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);

    if (ctx == NULL) {
        return KG_ERROR;
    }

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                                 "SHA256", 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
                                                  secret->data, secret->len);
    params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                                  label->data, label->len);
    params[3] = OSSL_PARAM_construct_end();

    ok = EVP_KDF_derive(ctx, out, len, params) == 1;

    EVP_KDF_CTX_free(ctx);

    return ok ? KG_OK : KG_ERROR;
}


/* One hash that goes on from a state.  out may be where data is. */

static kg_rc_t
kg_hash_from(EVP_MD_CTX *scratch, const EVP_MD_CTX *state, const void *data,
    size_t len, unsigned char out[KG_DIGEST_LEN])
{
    if (EVP_MD_CTX_copy_ex(scratch, state) != 1
        || EVP_DigestUpdate(scratch, data, len) != 1
        || EVP_DigestFinal_ex(scratch, out, NULL) != 1)
    {
        /* an unfinished hash may still hold bytes of a token */
        EVP_MD_CTX_reset(scratch);
        return KG_ERROR;
    }

    return KG_OK;
}
