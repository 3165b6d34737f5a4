
/*
 * SipHash, beside OpenSSL's.
 */

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "kg_test.h"

#include "kg_sip.h"


#define LONGEST  200


static void
expected(const unsigned char *key, const kg_str_t *text, unsigned char *out)
{
    size_t        n, size;
    unsigned      c, d;
    EVP_MAC      *mac;
    OSSL_PARAM    params[4];
    EVP_MAC_CTX  *ctx;

    size = KG_SIP_LEN;
    c = 1;
    d = 3;

    params[0] = OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size);
    params[1] = OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_C_ROUNDS, &c);
    params[2] = OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_D_ROUNDS, &d);
    params[3] = OSSL_PARAM_construct_end();

    mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    assert_non_null(mac);
    ctx = EVP_MAC_CTX_new(mac);
    assert_non_null(ctx);

    assert_int_equal(EVP_MAC_init(ctx, key, KG_SIP_LEN, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, text->data, text->len), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &n, KG_SIP_LEN), 1);
    assert_int_equal(n, KG_SIP_LEN);

    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}


static void
test_every_length(void **state)
{
    size_t         i;
    kg_str_t       text;
    unsigned char  key[KG_SIP_LEN], mine[KG_SIP_LEN], theirs[KG_SIP_LEN];

    (void) state;

    for (i = 0; i < KG_SIP_LEN; i++) {
        key[i] = (unsigned char) (0xf0 + 7 * i);
    }

    for (text.len = 0; text.len <= LONGEST; text.len++) {

        /* Of exactly that length, for a sanitizer to watch. */

        text.data = malloc(text.len + (text.len == 0));
        assert_non_null(text.data);

        for (i = 0; i < text.len; i++) {
            text.data[i] = (unsigned char) (251 * i + text.len);
        }

        kg_sip(key, &text, mine);
        expected(key, &text, theirs);
        assert_memory_equal(mine, theirs, KG_SIP_LEN);

        /* The next one has this one's for a key, in its place. */

        kg_sip(key, &text, key);
        assert_memory_equal(key, theirs, KG_SIP_LEN);

        free(text.data);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_every_length)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
