
/*
 * What the unit tests share: cmocka with the headers it asks for, and counted
 * strings.
 */

#ifndef KG_TEST_H
#define KG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kg_core.h"


#define kg_count(array)  (sizeof(array) / sizeof((array)[0]))


/* A view of a literal. */
static inline kg_str_t
kg_text(const char *text)
{
    kg_str_t  s;

    s.len = strlen(text);
    s.data = (unsigned char *) text;

    return s;
}


/*
 * A copy in memory of exactly its length, so that a sanitizer sees the first
 * byte read too many.  The caller frees data.
 */
static inline kg_str_t
kg_exact(const char *text)
{
    kg_str_t  s;

    s.len = strlen(text);
    s.data = malloc(s.len + (s.len == 0));

    assert_non_null(s.data);
    memcpy(s.data, text, s.len);

    return s;
}


/* Asserts the bytes of a counted string. */
#define kg_assert_text(s, text)                                               \
    do {                                                                      \
        assert_int_equal((s).len, strlen(text));                              \
        assert_memory_equal((s).data, text, strlen(text));                    \
    } while (0)

#endif
