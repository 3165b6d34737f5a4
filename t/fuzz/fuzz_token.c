
/*
 * Fuzzing the small parsers: tokens, rates, address blocks, dates.  The input
 * is copied into memory of its own length, so that ASan sees a byte too many.
 * What is accepted must also mean what it says: it survives a round trip.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_cidr.h"
#include "kg_rate.h"
#include "kg_time.h"
#include "../unit/kg_test_token.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
fuzz_token(const kg_str_t *text)
{
    kg_str_t       prefix;
    kg_mode_t      mode;
    unsigned char  hint[KG_KEY_HINT_MAX], *underscore;

    underscore = text->len ? memchr(text->data, '_', text->len) : NULL;

    prefix.data = text->data;
    prefix.len = underscore ? (size_t) (underscore - text->data) : 0;

    if (token_check(text, &prefix, &mode) != KG_OK) {
        return;
    }

    if ((mode != KG_MODE_TEST && mode != KG_MODE_LIVE)
        || text->len > KG_TOKEN_MAX
        || !kg_token_prefix_valid(&prefix)
        || kg_token_hint(text, hint) != prefix.len + 13)
    {
        abort();
    }
}


static void
fuzz_rate(const kg_str_t *text)
{
    kg_rate_t      rate;
    unsigned char  buf[16];

    if (kg_rate_parse(text, &rate) != KG_OK) {
        return;
    }

    if ((size_t) (kg_rate_format(&rate, buf) - buf) != text->len
        || memcmp(buf, text->data, text->len) != 0
        || kg_rate_cmp(&rate, &rate) != 0)
    {
        abort();
    }
}


static void
fuzz_cidr(const kg_str_t *text)
{
    size_t     size;
    kg_cidr_t  cidr;

    if (kg_cidr_parse(text, &cidr) != KG_OK) {
        return;
    }

    size = (cidr.family == 4) ? 4 : 16;

    /* a block's own first address is in it */

    if (cidr.bits > size * 8 || !kg_cidr_match(&cidr, cidr.addr, size)) {
        abort();
    }
}


static void
fuzz_time(const kg_str_t *text)
{
    int64_t        seconds, again;
    kg_str_t       written;
    unsigned char  buf[KG_TIME_LEN];

    if (kg_time_parse(text, &seconds) != KG_OK) {
        return;
    }

    written.data = buf;
    written.len = kg_time_format(seconds, buf) - buf;

    if (kg_time_parse(&written, &again) != KG_OK || again != seconds) {
        abort();
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kg_str_t  text;

    text.len = size;
    text.data = malloc(size ? size : 1);

    if (text.data == NULL) {
        return 0;
    }

    if (size) {
        memcpy(text.data, data, size);
    }

    fuzz_token(&text);
    fuzz_rate(&text);
    fuzz_cidr(&text);
    fuzz_time(&text);

    free(text.data);

    return 0;
}
