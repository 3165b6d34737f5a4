
/*
 * The route table: the contract's routes, the order of precedence, the paths
 * that may name no route, what a configuration may say.
 */

#include "kg_test.h"

#include "kg_route.h"


typedef struct {
    const char  *method;
    const char  *pattern;
} route_t;


static const route_t  contract[] = {
    { "GET", "/health/api" },
    { "GET", "/v1/loads" },
    { "GET", "/v1/loads/:id" },
    { "POST", "/v1/loads" },
    { "POST", "/v1/loads/upsert" },
    { "POST", "/v1/loads/{id}/status" },
    { "GET", "/v1/customers" },
    { "GET", "/v1/carriers" },
    { "GET", "/v1/tracking/:loadId" },
    { "POST", "/v1/webhooks" },
    { "GET", "/v1/webhooks" },
    { "DELETE", "/v1/webhooks/:id" }
};


/* Adds a route; its data is the place in the configuration. */
static kg_rc_t
add(kg_routes_t *routes, const char *method, const char *pattern,
    const void *data, const char **why)
{
    kg_rc_t   rc;
    kg_str_t  m, p;

    m = kg_exact(method);
    p = kg_exact(pattern);

    rc = kg_routes_add(routes, &m, &p, (void *) data, why);

    free(m.data);
    free(p.data);

    return rc;
}


static kg_routes_t *
build(const route_t *table, size_t n)
{
    size_t        i;
    const char   *why;
    kg_routes_t  *routes;

    routes = kg_routes_create();
    assert_non_null(routes);

    for (i = 0; i < n; i++) {
        assert_int_equal(add(routes, table[i].method, table[i].pattern,
                             &table[i], &why),
                         KG_OK);
    }

    return routes;
}


/*
 * Asserts that a request finds the route with this pattern and method (NULL:
 * none), and what Allow says of its path: nothing to who found one, all of it
 * to OPTIONS, which finds none.
 */
static void
expect(const kg_routes_t *routes, const char *method, const char *path,
    const char *pattern, const char *route_method, const char *allow)
{
    kg_str_t           m, p, a;
    unsigned char      buf[KG_ROUTE_ALLOW_MAX];
    const kg_route_t  *route;

    static const kg_str_t  options = kg_string("OPTIONS");

    m = kg_exact(method);
    p = kg_exact(path);
    a.data = buf;
    a.len = 99;

    route = kg_routes_match(routes, &m, &p, &a);

    if (pattern == NULL && route != NULL) {
        fail_msg("%s %s is route %.*s", method, path,
                 (int) route->pattern.len, route->pattern.data);
    }

    if (pattern != NULL) {
        if (route == NULL) {
            fail_msg("%s %s is no route", method, path);
        }

        kg_assert_text(route->pattern, pattern);
        kg_assert_text(route->method, route_method);
        assert_int_equal(a.len, 0);

        assert_null(kg_routes_match(routes, &options, &p, &a));
    }

    if (a.len != strlen(allow) || memcmp(buf, allow, a.len) != 0) {
        fail_msg("%s %s allows \"%.*s\", not \"%s\"", method, path,
                 (int) a.len, buf, allow);
    }

    free(m.data);
    free(p.data);
}


static void
test_contract(void **state)
{
    size_t        i;
    kg_routes_t  *routes;

    static const struct {
        const char  *method;
        const char  *path;
        const char  *pattern;
        const char  *route_method;
        const char  *allow;
    } cases[] = {
        { "GET", "/health/api", "/health/api", "GET", "GET, HEAD" },
        { "GET", "/v1/loads", "/v1/loads", "GET", "GET, HEAD, POST" },
        { "HEAD", "/v1/loads", "/v1/loads", "GET", "GET, HEAD, POST" },
        { "POST", "/v1/loads", "/v1/loads", "POST", "GET, HEAD, POST" },
        { "DELETE", "/v1/loads", NULL, NULL, "GET, HEAD, POST" },
        { "OPTIONS", "/v1/loads", NULL, NULL, "GET, HEAD, POST" },
        { "get", "/v1/loads", NULL, NULL, "GET, HEAD, POST" },
        { "", "/v1/loads", NULL, NULL, "GET, HEAD, POST" },
        { "GET", "/v1/loads/L-1", "/v1/loads/:id", "GET", "GET, HEAD" },
        { "POST", "/v1/loads/L-1", NULL, NULL, "GET, HEAD" },
        { "POST", "/v1/loads/upsert", "/v1/loads/upsert", "POST",
          "GET, HEAD, POST" },
        { "GET", "/v1/loads/upsert", "/v1/loads/:id", "GET",
          "GET, HEAD, POST" },
        { "POST", "/v1/loads/upsert/status", "/v1/loads/:id/status", "POST",
          "POST" },
        { "HEAD", "/v1/loads/9/status", NULL, NULL, "POST" },
        { "DELETE", "/v1/webhooks/9", "/v1/webhooks/:id", "DELETE",
          "DELETE" },
        { "PUT", "/v1/webhooks", NULL, NULL, "GET, HEAD, POST" },
        { "GET", "/v1/tracking", NULL, NULL, "" },
        { "GET", "/v1/tracking/a/b", NULL, NULL, "" },
        { "GET", "/", NULL, NULL, "" },
        { "GET", "/v1", NULL, NULL, "" },
        { "GET", "/V1/loads", NULL, NULL, "" }
    };

    (void) state;

    routes = build(contract, kg_count(contract));

    for (i = 0; i < kg_count(cases); i++) {
        expect(routes, cases[i].method, cases[i].path, cases[i].pattern,
               cases[i].route_method, cases[i].allow);
    }

    kg_routes_free(routes);
}


static void
test_raw_paths(void **state)
{
    size_t        i;
    char          path[64];
    kg_routes_t  *routes;

    static const route_t  table[] = {
        { "GET", "/" },
        { "GET", "/v1/loads" },
        { "GET", "/v1/:x" },
        { "GET", "/:a/:b/:c" },
        { "GET", "/:a/:b/:c/:d" },
        { "GET", "/caf\xc3\xa9" }
    };

    static const char  *none[] = {
        "", "v1/loads", "*", "//", "//v1/loads", "/v1//loads", "/v1/loads/",
        "/v1/", "/v1/x//", "/v1\\loads", "/v1/a\\b", "/v1/.", "/v1/..",
        "/./loads", "/../loads", "/v1/../v1/loads", "/v1/.;x", "/v1/..;",
        "/v1/..;/loads", "/v1/..%3b/x", "/v1/.%3Bx", "/v1/a%2fb", "/v1/a%2Fb",
        "/v1/a%5cb", "/v1/a%5Cb", "/v1/a%2eb", "/v1/%2E%2E", "/v1/.%2e",
        "/v1/a#b", "/v1/loads?x", "/v1/%zz", "/v1/%0", "/v1/%", "/v1/a%0",
        "/v1/%00", "/v1/%0g", "/v1/%g0", "/v1/%/0", "/v1/a b", "/v1/a\tb",
        "/v1/a\x7f", "/v1/customers%2f..%2floads"
    };

    static const struct {
        const char  *path;
        const char  *pattern;
    } some[] = {
        { "/", "/" },
        { "/v1/loads", "/v1/loads" },
        { "/%76%31/lo%61ds", "/v1/loads" },
        { "/v1/%6C%6f%61%64%73", "/v1/loads" },
        { "/v1/%6coad", "/v1/:x" },
        { "/v1/%6c%6f%61%64%74", "/v1/:x" },
        { "/v1/...", "/v1/:x" },
        { "/v1/.a", "/v1/:x" },
        { "/v1/..a", "/v1/:x" },
        { "/v1/a..", "/v1/:x" },
        { "/v1/a.;b", "/v1/:x" },
        { "/v1/...;b", "/v1/:x" },
        { "/v1/loads;a=b", "/v1/:x" },
        { "/v1/..%3c", "/v1/:x" },
        { "/v1/%20", "/v1/:x" },
        { "/v1/%252e", "/v1/:x" },
        { "/v1/caf\xc3\xa9", "/v1/:x" },
        { "/caf%C3%A9", "/caf\xc3\xa9" },
        { "/caf\xc3\xa9", "/caf\xc3\xa9" },
        { "/a/b/c", "/:a/:b/:c" },
        { "/a/b/:c", "/:a/:b/:c" }
    };

    (void) state;

    routes = build(table, kg_count(table));

    for (i = 0; i < kg_count(none); i++) {
        expect(routes, "GET", none[i], NULL, NULL, "");
        expect(routes, "PUT", none[i], NULL, NULL, "");
    }

    for (i = 0; i < kg_count(some); i++) {
        expect(routes, "GET", some[i].path, some[i].pattern, "GET",
               "GET, HEAD");
    }

    /* every byte, escaped, is a parameter but those that are refused */

    for (i = 0; i < 256; i++) {
        snprintf(path, sizeof(path), "/v1/a%%%02zx", i);

        if (i < 0x20 || i == 0x7f || i == '/' || i == '\\' || i == '.') {
            expect(routes, "GET", path, NULL, NULL, "");

        } else {
            expect(routes, "GET", path, "/v1/:x", "GET", "GET, HEAD");
        }
    }

    kg_routes_free(routes);
}


static void
test_precedence(void **state)
{
    kg_routes_t  *routes;

    static const route_t  table[] = {
        { "PATCH", "/:a/:b/:c" },
        { "GET", "/:a/y/:c" },
        { "GET", "/x/:b/:c" },
        { "DELETE", "/x/y/:c" },
        { "POST", "/x/:b/z" },
        { "POST", "/:a/:b/z" },
        { "DELETE", "/:a/:b/:c" },
        { "GET", "/x/y" }
    };

    (void) state;

    routes = build(table, kg_count(table));

    /* the first segment in which two differ decides, not the literals' number,
     * and a more specific route without the method stands in nobody's way */

    expect(routes, "GET", "/x/y/z", "/x/:b/:c", "GET",
           "GET, HEAD, PATCH, DELETE, POST");
    expect(routes, "DELETE", "/x/y/z", "/x/y/:c", "DELETE",
           "GET, HEAD, PATCH, DELETE, POST");
    expect(routes, "POST", "/x/y/z", "/x/:b/z", "POST",
           "GET, HEAD, PATCH, DELETE, POST");
    expect(routes, "PATCH", "/x/y/z", "/:a/:b/:c", "PATCH",
           "GET, HEAD, PATCH, DELETE, POST");
    expect(routes, "PUT", "/x/y/z", NULL, NULL,
           "GET, HEAD, PATCH, DELETE, POST");
    expect(routes, "DELETE", "/w/y/z", "/:a/:b/:c", "DELETE",
           "GET, HEAD, PATCH, POST, DELETE");
    expect(routes, "GET", "/w/y/q", "/:a/y/:c", "GET",
           "GET, HEAD, PATCH, DELETE");
    expect(routes, "GET", "/w/v/q", NULL, NULL, "PATCH, DELETE");
    expect(routes, "GET", "/x/y", "/x/y", "GET", "GET, HEAD");
    expect(routes, "GET", "/x", NULL, NULL, "");

    kg_routes_free(routes);
}


static void
test_refused(void **state)
{
    size_t        i;
    const char   *why;
    kg_routes_t  *routes;

    static const route_t  refused[] = {
        { "", "/a" }, { "get", "/a" }, { "Get", "/a" }, { "GET ", "/a" },
        { "G,T", "/a" }, { "-GET", "/a" }, { "HEAD", "/a" },
        { "OPTIONS", "/a" }, { "GET", "" }, { "GET", "a" }, { "GET", "//" },
        { "GET", "/a/" }, { "GET", "/a//b" }, { "GET", "/:" },
        { "GET", "/{}" }, { "GET", "/{" }, { "GET", "/}" },
        { "GET", "/a{b}" }, { "GET", "/{a}b" }, { "GET", "/{a" },
        { "GET", "/:a:b" }, { "GET", "/:a.b" }, { "GET", "/{a{b}}" },
        { "GET", "/." }, { "GET", "/.." }, { "GET", "/a/../b" },
        { "GET", "/..;a" }, { "GET", "/a%2fb" }, { "GET", "/a%20b" },
        { "GET", "/a b" }, { "GET", "/a\\b" }, { "GET", "/a?b" },
        { "GET", "/a#b" }, { "GET", "/a\x01" }, { "GET", "/a\x7f" },
        { "GET", "/*" }, { "GET", "/v1/loads" }, { "GET", "/v1/loads/:x" },
        { "GET", "/v1/loads/{y}" }, { "POST", "/v1/loads/:x/status" }
    };

    (void) state;

    routes = build(contract, kg_count(contract));

    for (i = 0; i < kg_count(refused); i++) {
        why = NULL;

        if (add(routes, refused[i].method, refused[i].pattern, NULL, &why)
            != KG_INVALID)
        {
            fail_msg("\"%s %s\" was not refused", refused[i].method,
                     refused[i].pattern);
        }

        assert_non_null(why);
    }

    /* what was refused left nothing behind that a request can meet */

    expect(routes, "GET", "/a", NULL, NULL, "");
    expect(routes, "GET", "/v1/loads/7", "/v1/loads/:id", "GET", "GET, HEAD");

    assert_int_equal(add(routes, "PUT", "/v1/loads/:x", NULL, &why), KG_OK);
    assert_int_equal(add(routes, "M-SEARCH", "/v1/loads:batch", NULL, &why),
                     KG_OK);
    expect(routes, "M-SEARCH", "/v1/loads:batch", "/v1/loads:batch",
           "M-SEARCH", "M-SEARCH");

    kg_routes_free(routes);
    kg_routes_free(NULL);
}


static void
test_segments_max(void **state)
{
    size_t        i;
    char          path[2 * KG_ROUTE_SEGMENTS_MAX + 3];
    const char   *why;
    kg_routes_t  *routes;

    (void) state;

    for (i = 0; i < sizeof(path) - 1; i += 2) {
        memcpy(path + i, "/a", 2);
    }

    path[sizeof(path) - 1] = '\0';

    routes = kg_routes_create();
    assert_int_equal(add(routes, "GET", path, NULL, &why), KG_INVALID);
    expect(routes, "GET", path, NULL, NULL, "");

    path[2 * KG_ROUTE_SEGMENTS_MAX] = '\0';

    assert_int_equal(add(routes, "GET", path, NULL, &why), KG_OK);
    expect(routes, "GET", path, path, "GET", "GET, HEAD");

    kg_routes_free(routes);
}


static void
test_allow_max(void **state)
{
    size_t         i, n;
    char           method[16];
    kg_str_t       m, p, allow;
    const char    *why;
    kg_routes_t   *routes;
    unsigned char  buf[KG_ROUTE_ALLOW_MAX];

    (void) state;

    routes = kg_routes_create();
    n = 0;

    assert_int_equal(add(routes, "GET", "/a", NULL, &why), KG_OK);

    for (i = 0; i < 100; i++) {
        snprintf(method, sizeof(method), "METHOD%c%c", (int) ('A' + i / 10),
                 (int) ('A' + i % 10));

        if (add(routes, method, "/a", NULL, &why) != KG_OK) {
            break;
        }

        n++;
    }

    /* "GET, HEAD" and n times ", METHODXX" */

    assert_int_equal(n, (KG_ROUTE_ALLOW_MAX - 9) / 10);

    m = kg_text("PUT");
    p = kg_text("/a");
    allow.data = buf;

    assert_null(kg_routes_match(routes, &m, &p, &allow));
    assert_int_equal(allow.len, 9 + 10 * n);

    /* known methods are still welcome */

    assert_int_equal(add(routes, "METHODAA", "/b", NULL, &why), KG_OK);

    kg_routes_free(routes);
}


static void
test_many_routes(void **state)
{
    size_t        i;
    char          path[32], pattern[32];
    const char   *why;
    kg_routes_t  *routes;

    (void) state;

    routes = kg_routes_create();

    for (i = 0; i < 500; i++) {
        snprintf(pattern, sizeof(pattern), "/v1/r%zu/:id", (i * 277) % 500);
        assert_int_equal(add(routes, "GET", pattern, NULL, &why), KG_OK);
    }

    for (i = 0; i < 500; i++) {
        snprintf(pattern, sizeof(pattern), "/v1/r%zu/:id", i);
        snprintf(path, sizeof(path), "/v1/r%zu/7", i);
        expect(routes, "GET", path, pattern, "GET", "GET, HEAD");
    }

    expect(routes, "GET", "/v1/r500/7", NULL, NULL, "");

    kg_routes_free(routes);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_contract),
        cmocka_unit_test(test_raw_paths),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_segments_max),
        cmocka_unit_test(test_allow_max),
        cmocka_unit_test(test_many_routes)
    };

    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
