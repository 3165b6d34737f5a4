
/*
 * Digests and sealing.  Where RFC 4231 and FIPS 180-4 have no vector for what
 * is asked, the expected values come from Python's hmac and from its
 * cryptography package: digests, pepper ids and sealed strings are stored, so
 * another build must read what this one wrote.
 */

#include <openssl/err.h>

#include "kg_test.h"

#include "kg_digest.h"


#define KG_AAD    "kg:idem:{acme}:test:k1"
#define KG_PLAIN  "HTTP 201 {\"secret\":\"whsec_1\"}"


/* A secret whose bytes count up, so that a byte out of place is seen. */
static kg_pepper_t *
pepper_create(size_t len, unsigned first)
{
    size_t          i;
    kg_str_t        secret;
    kg_pepper_t    *pepper;

    secret.len = len;
    secret.data = malloc(len);
    assert_non_null(secret.data);

    for (i = 0; i < len; i++) {
        secret.data[i] = (unsigned char) ((i + first) % 251);
    }

    pepper = kg_pepper_create(&secret);
    assert_non_null(pepper);

    /* the secret is not kept: what it becomes afterwards does not matter */
    memset(secret.data, 0xff, len);
    free(secret.data);

    return pepper;
}


static void
assert_digest(const unsigned char *digest, const char *hex)
{
    unsigned char  buf[KG_DIGEST_HEX];

    assert_ptr_equal(kg_hex(buf, digest, KG_DIGEST_LEN), buf + sizeof(buf));
    assert_int_equal(strlen(hex), sizeof(buf));
    assert_memory_equal(buf, hex, sizeof(buf));
}


/* Cases 6 and 7 of RFC 4231: the ones with a key long enough for a pepper. */

static void
test_rfc4231(void **state)
{
    size_t          i;
    kg_str_t        secret, token;
    kg_pepper_t    *pepper;
    unsigned char   key[131], digest[KG_DIGEST_LEN];

    static const struct {
        const char  *data;
        const char  *hex;
    } cases[] = {
        { "Test Using Larger Than Block-Size Key - Hash Key First",
          "60e431591ee0b67f0d8a26aacbf5b77f"
          "8e0bc6213728c5140546040f0ee37f54" },
        { "This is a test using a larger than block-size key and a larger t"
          "han block-size data. The key needs to be hashed before being use"
          "d by the HMAC algorithm.",
          "9b09ffa71b942fcb27635fbcd5b0e944"
          "bfdc63644f0713938a7f51535c3a35e2" }
    };

    (void) state;

    memset(key, 0xaa, sizeof(key));
    secret.data = key;
    secret.len = sizeof(key);

    pepper = kg_pepper_create(&secret);
    assert_non_null(pepper);

    for (i = 0; i < kg_count(cases); i++) {
        token = kg_text(cases[i].data);

        assert_int_equal(kg_pepper_digest(pepper, &token, digest), KG_OK);
        assert_digest(digest, cases[i].hex);
    }

    kg_pepper_free(pepper);
}


/* Keys on either side of the block's 64 bytes, and both ends allowed. */

static void
test_pepper(void **state)
{
    size_t          i;
    kg_str_t        token = kg_string("tf_test_token");
    kg_pepper_t    *pepper;
    unsigned char   digest[KG_DIGEST_LEN];

    static const struct {
        size_t       len;
        const char  *hex;
        const char  *id;
    } cases[] = {
        { KG_PEPPER_MIN, "dfdd04826952c414fa76da05ddb1a590"
                         "5ba89eb65c59e8284364395a4909ac8d", "b31e31ba" },
        { 63, "01be32359c40f0ba8cde4cf0112a7fa4"
              "6979e115ba632c3c6a44e87aa9648273", "3bf5cdc9" },
        { 64, "b8310d6c04a7ca1d4d20a585415d47b1"
              "ec62f023f44ec1ddfb8cf80ab07255be", "9ff05666" },
        { 65, "88de9dd33ac55c17cb2ea0d42757743"
              "712a409444b002bcf75b41e48985b207b", "a0471ad2" },
        { KG_PEPPER_MAX, "4cf6db926fb37a5e7953d3db5bb88c15"
                         "3f45936f2141c6b4860799b058ea92fe", "01bd1af0" }
    };

    (void) state;

    for (i = 0; i < kg_count(cases); i++) {
        pepper = pepper_create(cases[i].len, 0);

        assert_int_equal(kg_pepper_digest(pepper, &token, digest), KG_OK);
        assert_digest(digest, cases[i].hex);
        kg_assert_text(*kg_pepper_id(pepper), cases[i].id);

        kg_pepper_free(pepper);
    }

    kg_pepper_free(NULL);
}


/* One token's digest leaves no trace in the next one's. */

static void
test_digest_repeats(void **state)
{
    size_t          i;
    kg_str_t        token = kg_string("tf_test_token"), empty = { 0, NULL };
    kg_pepper_t    *pepper;
    unsigned char   digest[KG_DIGEST_LEN];

    (void) state;

    pepper = pepper_create(KG_PEPPER_MIN, 0);

    for (i = 0; i < 3; i++) {
        assert_int_equal(kg_pepper_digest(pepper, &token, digest), KG_OK);
        assert_digest(digest, "dfdd04826952c414fa76da05ddb1a590"
                              "5ba89eb65c59e8284364395a4909ac8d");

        assert_int_equal(kg_pepper_digest(pepper, &empty, digest), KG_OK);
        assert_digest(digest, "d38b42096d80f45f826b44a9d5607de7"
                              "2496a415d3f4a1a8c88e3bb9da8dc1cb");
    }

    kg_pepper_free(pepper);
}


/* Sealed by Python under the same pepper: layout, labels, associated data. */

static void
test_open_known(void **state)
{
    size_t                      len;
    kg_str_t                    aad = kg_string(KG_AAD), blob;
    kg_pepper_t                *pepper;
    unsigned char               out[sizeof(KG_PLAIN) - 1];
    static const unsigned char  sealed[] = {
        0x01, 0xb3, 0x1e, 0x31, 0xba, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5,
        0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xd9, 0xde, 0x7a, 0xc2, 0xea,
        0x28, 0xbc, 0xc0, 0x16, 0x83, 0x08, 0xe2, 0x44, 0x98, 0xbe, 0xa4,
        0x7c, 0xe4, 0x39, 0x98, 0xae, 0x10, 0xcd, 0xda, 0x13, 0x88, 0x9f,
        0xf7, 0x46, 0x6c, 0x02, 0x66, 0xde, 0x45, 0x44, 0x51, 0x01, 0xf9,
        0x96, 0x42, 0x1f, 0x66, 0xb4, 0x15, 0x58
    };

    (void) state;

    pepper = pepper_create(KG_PEPPER_MIN, 0);

    blob.data = (unsigned char *) sealed;
    blob.len = sizeof(sealed);

    assert_int_equal(kg_open(pepper, &aad, &blob, out, &len), KG_OK);
    assert_int_equal(len, sizeof(out));
    assert_memory_equal(out, KG_PLAIN, sizeof(out));

    kg_pepper_free(pepper);
}


static void
test_seal_sizes(void **state)
{
    size_t          i, len, opened;
    kg_str_t        aad = kg_string(KG_AAD), none = { 0, NULL };
    kg_str_t        plain, blob;
    kg_pepper_t    *pepper;
    unsigned char  *sealed, *out;

    static const size_t  sizes[] = { 0, 1, 15, 16, 17, 4096, 1048577 };

    (void) state;

    pepper = pepper_create(KG_PEPPER_MIN, 0);

    for (i = 0; i < kg_count(sizes); i++) {
        plain.len = sizes[i];
        plain.data = malloc(plain.len + 1);
        sealed = malloc(plain.len + KG_SEAL_EXTRA);
        out = malloc(plain.len + (plain.len == 0));

        assert_non_null(plain.data);
        assert_non_null(sealed);
        assert_non_null(out);

        memset(plain.data, 'x', plain.len);

        assert_int_equal(kg_seal(pepper, &aad, &plain, sealed, &len), KG_OK);
        assert_int_equal(len, plain.len + KG_SEAL_EXTRA);

        blob.data = sealed;
        blob.len = len;

        assert_int_equal(kg_open(pepper, &aad, &blob, out, &opened), KG_OK);
        assert_int_equal(opened, plain.len);
        assert_memory_equal(out, plain.data, plain.len);

        /* nothing bound is another thing than a name bound */
        assert_int_equal(kg_open(pepper, &none, &blob, out, &opened),
                         KG_INVALID);

        assert_int_equal(kg_seal(pepper, &none, &plain, sealed, &len), KG_OK);
        assert_int_equal(kg_open(pepper, &none, &blob, out, &opened), KG_OK);
        assert_int_equal(opened, plain.len);

        free(plain.data);
        free(sealed);
        free(out);
    }

    kg_pepper_free(pepper);
}


/* The same text sealed twice: a repeated nonce would give GCM away. */

static void
test_seal_nonce(void **state)
{
    size_t          len;
    kg_str_t        aad = kg_string(KG_AAD), plain = kg_string(KG_PLAIN);
    kg_pepper_t    *pepper;
    unsigned char   a[sizeof(KG_PLAIN) + KG_SEAL_EXTRA];
    unsigned char   b[sizeof(KG_PLAIN) + KG_SEAL_EXTRA];

    (void) state;

    pepper = pepper_create(KG_PEPPER_MIN, 0);

    assert_int_equal(kg_seal(pepper, &aad, &plain, a, &len), KG_OK);
    assert_int_equal(kg_seal(pepper, &aad, &plain, b, &len), KG_OK);

    assert_memory_equal(a, b, 5);
    assert_memory_not_equal(a + 5, b + 5, 12);
    assert_memory_not_equal(a + 17, b + 17, plain.len);

    kg_pepper_free(pepper);
}


static void
test_tampering(void **state)
{
    size_t          i, j, len, opened;
    kg_str_t        aad = kg_string(KG_AAD), plain = kg_string(KG_PLAIN);
    kg_str_t        blob;
    kg_pepper_t    *pepper;
    unsigned char   sealed[sizeof(KG_PLAIN) - 1 + KG_SEAL_EXTRA];
    unsigned char   out[sizeof(KG_PLAIN) - 1], zeros[sizeof(out)];

    (void) state;

    memset(zeros, 0, sizeof(zeros));

    pepper = pepper_create(KG_PEPPER_MIN, 0);

    assert_int_equal(kg_seal(pepper, &aad, &plain, sealed, &len), KG_OK);
    assert_int_equal(len, sizeof(sealed));

    blob.data = sealed;
    blob.len = len;

    for (i = 0; i < len; i++) {

        for (j = 0; j < 8; j++) {
            sealed[i] ^= (unsigned char) (1 << j);
            memset(out, 0, sizeof(out));

            assert_int_equal(kg_open(pepper, &aad, &blob, out, &opened),
                             KG_INVALID);

            /* what is not authentic is not handed out, not even in part */
            assert_memory_equal(out, zeros, sizeof(out));

            sealed[i] ^= (unsigned char) (1 << j);
        }
    }

    /* cut at any length, from memory that ends there */

    for (blob.len = 0; blob.len < len; blob.len++) {
        blob.data = malloc(blob.len + (blob.len == 0));
        assert_non_null(blob.data);
        memcpy(blob.data, sealed, blob.len);

        assert_int_equal(kg_open(pepper, &aad, &blob, out, &opened),
                         KG_INVALID);

        free(blob.data);
    }

    /* nginx would find what is left in the queue and blame a connection */
    assert_int_equal(ERR_peek_error(), 0);

    /* and whole again it opens: a refusal leaves nothing behind */

    blob.data = sealed;
    blob.len = len;

    assert_int_equal(kg_open(pepper, &aad, &blob, out, &opened), KG_OK);
    assert_memory_equal(out, KG_PLAIN, sizeof(out));

    kg_pepper_free(pepper);
}


static void
test_binding(void **state)
{
    size_t          i, len, opened;
    kg_str_t        aad = kg_string(KG_AAD), plain = kg_string(KG_PLAIN);
    kg_str_t        blob, other;
    kg_pepper_t    *pepper, *stranger;
    unsigned char   sealed[sizeof(KG_PLAIN) - 1 + KG_SEAL_EXTRA];
    unsigned char   foreign[sizeof(KG_PLAIN) - 1 + KG_SEAL_EXTRA];
    unsigned char   out[sizeof(KG_PLAIN) - 1];

    static const char  *names[] = {
        "", "kg:idem:{acme}:live:k1", "kg:idem:{acme}:test:k",
        "kg:idem:{acme}:test:k12"
    };

    (void) state;

    pepper = pepper_create(KG_PEPPER_MIN, 0);
    stranger = pepper_create(KG_PEPPER_MIN, 1);

    assert_int_equal(kg_seal(pepper, &aad, &plain, sealed, &len), KG_OK);

    blob.data = sealed;
    blob.len = len;

    for (i = 0; i < kg_count(names); i++) {
        other = kg_text(names[i]);

        assert_int_equal(kg_open(pepper, &other, &blob, out, &opened),
                         KG_INVALID);
    }

    assert_int_equal(kg_open(stranger, &aad, &blob, out, &opened),
                     KG_INVALID);

    /* not by the id alone: under the stranger's id it is not his either */

    assert_int_equal(kg_seal(stranger, &aad, &plain, foreign, &opened),
                     KG_OK);
    memcpy(sealed + 1, foreign + 1, 4);

    assert_int_equal(kg_open(stranger, &aad, &blob, out, &opened),
                     KG_INVALID);

    kg_pepper_free(pepper);
    kg_pepper_free(stranger);
}


static void
test_sha(void **state)
{
    size_t          i;
    kg_sha_t       *sha;
    unsigned char   digest[KG_DIGEST_LEN], block[1000];

    (void) state;

    sha = kg_sha_create();
    assert_non_null(sha);
    assert_int_equal(kg_sha_final(sha, digest), KG_OK);
    assert_digest(digest, "e3b0c44298fc1c149afbf4c8996fb924"
                          "27ae41e4649b934ca495991b7852b855");

    sha = kg_sha_create();
    assert_non_null(sha);
    assert_int_equal(kg_sha_update(sha, "a", 1), KG_OK);
    assert_int_equal(kg_sha_update(sha, NULL, 0), KG_OK);
    assert_int_equal(kg_sha_update(sha, "bc", 2), KG_OK);
    assert_int_equal(kg_sha_final(sha, digest), KG_OK);
    assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223"
                          "b00361a396177a9cb410ff61f20015ad");

    memset(block, 'a', sizeof(block));

    sha = kg_sha_create();
    assert_non_null(sha);

    for (i = 0; i < 1000; i++) {
        assert_int_equal(kg_sha_update(sha, block, sizeof(block)), KG_OK);
    }

    assert_int_equal(kg_sha_final(sha, digest), KG_OK);
    assert_digest(digest, "cdc76e5c9914fb9281a1c7e284d73e67"
                          "f1809a48a497200e046d39ccc7112cd0");

    /* given up halfway: the leak checker of a sanitized run looks on */

    sha = kg_sha_create();
    assert_non_null(sha);
    assert_int_equal(kg_sha_update(sha, block, sizeof(block)), KG_OK);
    kg_sha_free(sha);
    kg_sha_free(NULL);
}


static void
test_hex_and_random(void **state)
{
    size_t         i, zeros;
    unsigned char  a[64], b[64], hex[9];

    static const unsigned char  bytes[] = { 0x00, 0x0f, 0xa5, 0xff };

    (void) state;

    memset(hex, '.', sizeof(hex));
    assert_ptr_equal(kg_hex(hex, bytes, sizeof(bytes)), hex + 8);
    assert_memory_equal(hex, "000fa5ff.", sizeof(hex));

    memset(a, 0, sizeof(a));
    memset(b, 0, sizeof(b));

    assert_int_equal(kg_random(a, sizeof(a)), KG_OK);
    assert_int_equal(kg_random(b, sizeof(b) - 1), KG_OK);
    assert_memory_not_equal(a, b, sizeof(a) - 1);
    assert_int_equal(b[sizeof(b) - 1], 0);

    /* all bytes are filled: ten zeros of 64 by chance is one in 10^13 */

    for (i = 0, zeros = 0; i < sizeof(a); i++) {
        zeros += (a[i] == 0);
    }

    assert_in_range(zeros, 0, 9);
}


static void
test_unhex(void **state)
{
    size_t         i;
    unsigned char  out[5];
    kg_str_t       text;

    static const unsigned char  bytes[] = { 0x00, 0x0f, 0xa5, 0xff, '.' };

    static const char *const  wrong[] = {
        "", "000fa5f", "000fa5ff0", "000fa5ff00", "000fa5fF", "000fa5fg",
        "000fa5f`", "000fa5f:", "000fa5f/", " 00fa5ff", "000fa5f\xff"
    };

    (void) state;

    memset(out, '.', sizeof(out));
    text.data = (unsigned char *) "000fa5ff";
    text.len = 8;

    assert_int_equal(kg_unhex(out, 4, &text), KG_OK);
    assert_memory_equal(out, bytes, sizeof(bytes));

    for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        text.data = (unsigned char *) wrong[i];
        text.len = strlen(wrong[i]);

        assert_int_equal(kg_unhex(out, 4, &text), KG_INVALID);
    }

    assert_int_equal(out[4], '.');
}


/* Out of a batch no byte is given twice, and one that is too long not at all. */

static void
test_random_drawn(void **state)
{
    size_t         i, j;
    kg_entropy_t   entropy;
    unsigned char  drawn[400][16], large[sizeof(entropy.bytes) + 1];

    (void) state;

    memset(&entropy, 0, sizeof(entropy));

    for (i = 0; i < 400; i++) {
        assert_int_equal(kg_random_drawn(&entropy, drawn[i], 16), KG_OK);

        for (j = 0; j < i; j++) {
            assert_int_not_equal(memcmp(drawn[i], drawn[j], 16), 0);
        }
    }

    assert_int_equal(kg_random_drawn(&entropy, large, sizeof(large) - 1),
                     KG_OK);
    assert_int_equal(kg_random_drawn(&entropy, large, sizeof(large)),
                     KG_ERROR);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rfc4231),
        cmocka_unit_test(test_pepper),
        cmocka_unit_test(test_digest_repeats),
        cmocka_unit_test(test_open_known),
        cmocka_unit_test(test_seal_sizes),
        cmocka_unit_test(test_seal_nonce),
        cmocka_unit_test(test_tampering),
        cmocka_unit_test(test_binding),
        cmocka_unit_test(test_sha),
        cmocka_unit_test(test_unhex),
        cmocka_unit_test(test_hex_and_random),
        cmocka_unit_test(test_random_drawn)
    };

    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
