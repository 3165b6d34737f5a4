
/*
 * Tokens and key ids: making them, checking them, showing what may be shown.
 *
 * The checksum is no secret and proves nothing; it only saves asking Redis for
 * what cannot be a token.  So nothing here needs constant time: the secret is
 * compared by nobody, its digest is looked up.
 */

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <zlib.h>

#include "kg_token.h"


#define KG_BASE          62
#define KG_UNBIASED      (256 - 256 % KG_BASE)

#define KG_MODE_LEN      4
#define KG_TOKEN_TAIL    (KG_TOKEN_ENTROPY + KG_TOKEN_CHECK)


typedef int (*kg_generator_pt)(unsigned char *buf, int n);


static int kg_base62_digit(unsigned char c);
static kg_rc_t kg_base62_random(unsigned char *dst, size_t n,
    kg_generator_pt generator);
static void kg_token_checksum(const unsigned char *p, size_t len,
    unsigned char *dst);


static const unsigned char  kg_base62[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static const kg_str_t  kg_mode_names[] = {
    kg_string("test"),      /* KG_MODE_TEST */
    kg_string("live")       /* KG_MODE_LIVE */
};


int
kg_token_prefix_valid(const kg_str_t *prefix)
{
    size_t         i;
    unsigned char  c;

    if (prefix->len == 0 || prefix->len > KG_TOKEN_PREFIX_MAX) {
        return 0;
    }

    for (i = 0; i < prefix->len; i++) {
        c = prefix->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) {
            return 0;
        }
    }

    return 1;
}


kg_rc_t
kg_token_shape(const kg_str_t *token, const kg_str_t *prefix, kg_mode_t *mode)
{
    unsigned char  *p;

    if (!kg_token_prefix_valid(prefix)
        || token->len != prefix->len + 1 + KG_MODE_LEN + 1 + KG_TOKEN_TAIL)
    {
        return KG_INVALID;
    }

    p = token->data;

    if (memcmp(p, prefix->data, prefix->len) != 0) {
        return KG_INVALID;
    }

    p += prefix->len;

    if (p[0] != '_' || p[1 + KG_MODE_LEN] != '_') {
        return KG_INVALID;
    }

    if (memcmp(p + 1, kg_mode_names[KG_MODE_TEST].data, KG_MODE_LEN) == 0) {
        *mode = KG_MODE_TEST;

    } else if (memcmp(p + 1, kg_mode_names[KG_MODE_LIVE].data, KG_MODE_LEN)
               == 0)
    {
        *mode = KG_MODE_LIVE;

    } else {
        return KG_INVALID;
    }

    return KG_OK;
}


int
kg_token_sound(const kg_str_t *token)
{
    size_t          i, len;
    unsigned char  *p, check[KG_TOKEN_CHECK];

    len = token->len - KG_TOKEN_CHECK;
    p = token->data + len - KG_TOKEN_ENTROPY;

    for (i = 0; i < KG_TOKEN_ENTROPY; i++) {

        if (!kg_base62_digit(p[i])) {
            return 0;
        }
    }

    kg_token_checksum(token->data, len, check);

    return memcmp(token->data + len, check, KG_TOKEN_CHECK) == 0;
}


kg_rc_t
kg_token_make(const kg_str_t *prefix, kg_mode_t mode, unsigned char *buf,
    size_t *len)
{
    unsigned char  *p;

    if (!kg_token_prefix_valid(prefix)) {
        return KG_INVALID;
    }

    p = buf;

    memcpy(p, prefix->data, prefix->len);
    p += prefix->len;
    *p++ = '_';

    memcpy(p, kg_mode_name(mode)->data, KG_MODE_LEN);
    p += KG_MODE_LEN;
    *p++ = '_';

    if (kg_base62_random(p, KG_TOKEN_ENTROPY, RAND_priv_bytes) != KG_OK) {
        return KG_ERROR;
    }

    p += KG_TOKEN_ENTROPY;

    kg_token_checksum(buf, p - buf, p);
    p += KG_TOKEN_CHECK;

    *len = p - buf;

    return KG_OK;
}


kg_rc_t
kg_key_id_make(unsigned char *buf)
{
    size_t  head;

    head = sizeof(KG_KEY_ID_HEAD) - 1;

    memcpy(buf, KG_KEY_ID_HEAD, head);

    return kg_base62_random(buf + head, KG_KEY_ID_LEN - head, RAND_bytes);
}


size_t
kg_token_hint(const kg_str_t *token, unsigned char *buf)
{
    size_t          head;
    unsigned char  *p;

    head = token->len - KG_TOKEN_TAIL;
    p = buf;

    memcpy(p, token->data, head);
    p += head;

    memcpy(p, "...", 3);
    p += 3;

    memcpy(p, token->data + token->len - 4, 4);
    p += 4;

    return p - buf;
}


const kg_str_t *
kg_mode_name(kg_mode_t mode)
{
    return &kg_mode_names[mode];
}


static int
kg_base62_digit(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
           || (c >= 'a' && c <= 'z');
}


/*
 * n base62 digits.  62 does not divide 256, so the topmost bytes are drawn
 * again: taken modulo 62 they would make the first digits likelier.
 */

static kg_rc_t
kg_base62_random(unsigned char *dst, size_t n, kg_generator_pt generator)
{
    size_t         i;
    kg_rc_t        rc;
    unsigned char  bytes[KG_TOKEN_ENTROPY + 8];

    rc = KG_OK;

    while (n) {

        if (generator(bytes, sizeof(bytes)) != 1) {
            rc = KG_ERROR;
            break;
        }

        for (i = 0; i < sizeof(bytes) && n; i++) {

            if (bytes[i] < KG_UNBIASED) {
                *dst++ = kg_base62[bytes[i] % KG_BASE];
                n--;
            }
        }
    }

    OPENSSL_cleanse(bytes, sizeof(bytes));

    return rc;
}


/* KG_TOKEN_CHECK digits into dst; 62^6 exceeds 2^32, so every CRC fits. */

static void
kg_token_checksum(const unsigned char *p, size_t len, unsigned char *dst)
{
    size_t         i;
    unsigned long  crc;

    crc = crc32(0, p, (uInt) len);

    for (i = KG_TOKEN_CHECK; i; i--) {
        dst[i - 1] = kg_base62[crc % KG_BASE];
        crc /= KG_BASE;
    }
}
