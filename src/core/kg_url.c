
/*
 * Links in errors.
 */

#include "kg_url.h"


/* Bytes of a prefix that the text has, or 0. */
static size_t
kg_url_prefix(const kg_str_t *url, const char *prefix)
{
    size_t  len;

    len = strlen(prefix);

    return url->len >= len && memcmp(url->data, prefix, len) == 0 ? len : 0;
}


/* 1 when it is not too long, and all of it may be in a URL. */
static int
kg_url_text_valid(const kg_str_t *url)
{
    size_t  i;

    if (url->len > KG_URL_MAX) {
        return 0;
    }

    for (i = 0; i < url->len; i++) {
        if (url->data[i] <= ' ' || url->data[i] > '~'
            || strchr("\"'<>\\^`{|}", url->data[i]) != NULL)
        {
            return 0;
        }
    }

    return 1;
}


int
kg_url_valid(const kg_str_t *url)
{
    size_t  i;

    i = kg_url_prefix(url, "https://");

    if (i == 0) {
        i = kg_url_prefix(url, "http://");
    }

    return i > 0 && url->len > i && kg_url_text_valid(url);
}


int
kg_url_reference_valid(const kg_str_t *url)
{
    size_t  urn;

    urn = kg_url_prefix(url, "urn:");

    if ((urn > 0 && url->len > urn)
        || (kg_url_prefix(url, "/") > 0 && kg_url_prefix(url, "//") == 0))
    {
        return kg_url_text_valid(url);
    }

    return kg_url_valid(url);
}
