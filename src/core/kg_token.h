
/*
 * The token: the secret a partner sends.
 *
 *     <prefix>_<mode>_<32 base62 of entropy><6 base62 of CRC-32>
 *
 * The checksum covers everything before it, so that a typo or a flipped mode
 * is refused without asking Redis.  The digits are 0-9 A-Z a-z in this order,
 * the checksum is written most significant digit first.
 */

#ifndef KG_TOKEN_H
#define KG_TOKEN_H

#include "kg_core.h"


#define KG_TOKEN_ENTROPY     32
#define KG_TOKEN_CHECK       6
#define KG_TOKEN_PREFIX_MAX  16
#define KG_TOKEN_MAX         (KG_TOKEN_PREFIX_MAX + 1 + 4 + 1                 \
                              + KG_TOKEN_ENTROPY + KG_TOKEN_CHECK)

#define KG_KEY_ID_HEAD       "key_"
#define KG_KEY_ID_LEN        24     /* the head and 20 base62 */
#define KG_KEY_HINT_MAX      (KG_TOKEN_PREFIX_MAX + 1 + 4 + 1 + 3 + 4)


/* 1 when the prefix is [a-z0-9]{1,16}, else 0. */
int kg_token_prefix_valid(const kg_str_t *prefix);

/*
 * Compares length, prefix and mode of a token with one prefix.  KG_OK and
 * *mode, or KG_INVALID.
 */
kg_rc_t kg_token_shape(const kg_str_t *token, const kg_str_t *prefix,
    kg_mode_t *mode);

/*
 * 1 when the digits of a token of that shape are digits and have the checksum,
 * else 0.  It takes as long as the rest of a lookup in memory: a token whose
 * digest has a record there is known to be one without it.
 */
int kg_token_sound(const kg_str_t *token);

/*
 * Makes a token in buf (at least KG_TOKEN_MAX bytes) from OpenSSL's private
 * random generator, unbiased.  KG_OK and *len, KG_INVALID for a bad prefix,
 * KG_ERROR when there is no randomness.
 */
kg_rc_t kg_token_make(const kg_str_t *prefix, kg_mode_t mode,
    unsigned char *buf, size_t *len);

/* Makes a key's public id, KG_KEY_ID_LEN bytes.  KG_OK or KG_ERROR. */
kg_rc_t kg_key_id_make(unsigned char *buf);

/*
 * What may be shown of a token: prefix, mode, "...", last four characters,
 * as "tf_test_...Ab3d".  Writes at most KG_KEY_HINT_MAX bytes, returns how
 * many.  The token must have passed kg_token_shape().
 */
size_t kg_token_hint(const kg_str_t *token, unsigned char *buf);

/* "test" or "live", of static duration. */
const kg_str_t *kg_mode_name(kg_mode_t mode);

#endif
