
/*
 * Random route tables and paths against a matcher written the slow and obvious
 * way: every pattern is compared with the path, and those that fit with one
 * another.  A segment is one letter, "." in a pattern a parameter.
 */

#include "kg_test.h"

#include "kg_route.h"


#define ORACLE_ROUTES  12       /* in a table */
#define ORACLE_TEXT    16       /* bytes of a path or pattern */

static const char  *oracle_methods[] = { "GET", "POST", "PUT" };

typedef struct {
    size_t          n;
    size_t          methods[ORACLE_ROUTES];
    char            patterns[ORACLE_ROUTES][ORACLE_TEXT];
} oracle_t;

static uint32_t  seed;


static unsigned
draw(unsigned n)
{
    seed = seed * 1664525 + 1013904223;

    return (seed >> 16) % n;
}


static void
draw_text(char *text, const char *letters)
{
    size_t    n;
    unsigned  i;

    n = draw(5);

    if (n == 0) {
        strcpy(text, "/");
        return;
    }

    for (i = 0; i < n; i++) {
        text[2 * i] = '/';
        text[2 * i + 1] = letters[draw((unsigned) strlen(letters))];
    }

    text[2 * n] = '\0';
}


static int
oracle_fits(const char *pattern, const char *path)
{
    size_t  i;

    if (strlen(pattern) != strlen(path)) {
        return 0;
    }

    for (i = 0; path[i] != '\0'; i++) {
        if (pattern[i] != path[i] && pattern[i] != '.') {
            return 0;
        }
    }

    return 1;
}


static int
oracle_before(const char *a, const char *b)
{
    size_t  i;

    for (i = 0; a[i] == b[i] && a[i] != '\0'; i++) { /* void */ }

    return b[i] == '.';
}


static void
oracle_configured(const char *pattern, char *text)
{
    for ( /* void */ ; *pattern != '\0'; pattern++) {

        if (*pattern == '.') {
            *text++ = ':';
            *text++ = 'x';

        } else {
            *text++ = *pattern;
        }
    }

    *text = '\0';
}


/* The place of the route of a request, or table->n. */
static size_t
oracle_find(const oracle_t *table, size_t method, const char *path)
{
    size_t  i, found;

    found = table->n;

    for (i = 0; i < table->n; i++) {

        if (table->methods[i] == method
            && oracle_fits(table->patterns[i], path)
            && (found == table->n
                || oracle_before(table->patterns[i], table->patterns[found])))
        {
            found = i;
        }
    }

    return found;
}


static void
oracle_allow(const oracle_t *table, const char *path, char *allow)
{
    int     pass;
    size_t  i;

    allow[0] = '\0';

    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < table->n; i++) {

            if ((table->methods[i] != 0) == pass
                && oracle_fits(table->patterns[i], path)
                && strstr(allow, oracle_methods[table->methods[i]]) == NULL)
            {
                strcat(allow, allow[0] != '\0' ? ", " : "");
                strcat(allow, oracle_methods[table->methods[i]]);
                strcat(allow, pass == 0 ? ", HEAD" : "");
            }
        }
    }
}


/* Draws routes until one is there already, which the table must refuse. */
static kg_routes_t *
oracle_draw(oracle_t *table)
{
    int           dup;
    char          text[2 * ORACLE_TEXT];
    size_t        i, *drawn;
    kg_str_t      method, pattern;
    const char   *why;
    kg_routes_t  *routes;

    routes = kg_routes_create();
    assert_non_null(routes);

    for (table->n = 0; table->n < ORACLE_ROUTES; table->n++) {
        draw_text(table->patterns[table->n], "abc..");
        table->methods[table->n] = draw(3);
        dup = 0;

        for (i = 0; i < table->n; i++) {
            dup |= table->methods[i] == table->methods[table->n]
                   && strcmp(table->patterns[i], table->patterns[table->n])
                      == 0;
        }

        oracle_configured(table->patterns[table->n], text);

        drawn = &table->methods[table->n];
        method = kg_text(oracle_methods[*drawn]);
        pattern = kg_text(text);

        assert_int_equal(kg_routes_add(routes, &method, &pattern, drawn,
                                       &why),
                         dup ? KG_INVALID : KG_OK);

        if (dup) {
            break;
        }
    }

    return routes;
}


static void
test_against_oracle(void **state)
{
    char               path[ORACLE_TEXT], expected[64];
    size_t             i, j, drawn, found, matched;
    kg_str_t           method, raw, allow;
    oracle_t           table;
    kg_routes_t       *routes;
    unsigned char      buf[KG_ROUTE_ALLOW_MAX];
    const kg_route_t  *route;

    static const kg_str_t  options = kg_string("OPTIONS");

    (void) state;

    seed = 20261122;
    matched = 0;
    allow.data = buf;

    for (i = 0; i < 3000; i++) {
        routes = oracle_draw(&table);

        for (j = 0; j < 20; j++) {
            draw_text(path, "abcd");
            drawn = draw(3);

            method = kg_text(oracle_methods[drawn]);
            raw = kg_text(path);

            route = kg_routes_match(routes, &method, &raw, &allow);
            found = oracle_find(&table, drawn, path);
            oracle_allow(&table, path, expected);

            if (found == table.n) {
                assert_null(route);
                kg_assert_text(allow, expected);
                continue;
            }

            assert_non_null(route);
            assert_ptr_equal(route->data, &table.methods[found]);
            assert_int_equal(allow.len, 0);
            matched++;

            /* OPTIONS finds no route, and so learns what the path allows */

            assert_null(kg_routes_match(routes, &options, &raw, &allow));
            kg_assert_text(allow, expected);
        }

        kg_routes_free(routes);
    }

    /* the paths drawn did meet the tables */

    assert_in_range(matched, 6000, 60000);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_against_oracle)
    };

    return cmocka_run_group_tests_name("route oracle", tests, NULL, NULL);
}
