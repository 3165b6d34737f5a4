
/*
 * Raw paths and patterns of any bytes.  The first line is a pattern, the rest
 * a path: whatever they are, nothing is read past their end, a route found
 * means a path that holds none of what a raw path may not hold, and Allow
 * fits its buffer and names what was found.
 */

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kg_route.h"


int  LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* 1 when the bytes a hostile path is made of are in it. */
static int
forbidden(const unsigned char *path, size_t len)
{
    size_t  i;

    if (path[0] != '/' || (len > 1 && path[len - 1] == '/')) {
        return 1;
    }

    for (i = 0; i < len; i++) {

        if (path[i] == '\\' || path[i] == '#' || path[i] <= ' ') {
            return 1;
        }

        if (i + 1 < len && memcmp(path + i, "//", 2) == 0) {
            return 1;
        }

        if (i + 2 < len
            && (strncasecmp((const char *) path + i, "%2f", 3) == 0
                || strncasecmp((const char *) path + i, "%2e", 3) == 0
                || strncasecmp((const char *) path + i, "%5c", 3) == 0
                || strncasecmp((const char *) path + i, "%7f", 3) == 0
                || memcmp(path + i, "%0", 2) == 0
                || memcmp(path + i, "%1", 2) == 0))
        {
            return 1;
        }

        if (i + 3 <= len && memcmp(path + i, "/..", 3) == 0
            && (i + 3 == len || path[i + 3] == '/' || path[i + 3] == ';'))
        {
            return 1;
        }
    }

    return 0;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t             n, i;
    const char        *why;
    kg_str_t           method, pattern, path, allow;
    kg_routes_t       *routes;
    unsigned char     *copy, buf[KG_ROUTE_ALLOW_MAX];
    const uint8_t     *line;
    const kg_route_t  *route;

    static const char      *methods[] = { "GET", "POST", "DELETE" };
    static const char      *patterns[] = {
        "/", "/v1/loads", "/v1/loads/:id", "/v1/loads/upsert",
        "/v1/loads/{id}/status", "/:a", "/:a/:b", "/:a/:b/:c/:d/:e"
    };
    static const kg_str_t   get = kg_string("GET");
    static const kg_str_t   options = kg_string("OPTIONS");

    routes = kg_routes_create();
    if (routes == NULL) {
        abort();
    }

    for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        method.data = (unsigned char *) methods[i % 3];
        method.len = strlen(methods[i % 3]);
        pattern.data = (unsigned char *) patterns[i];
        pattern.len = strlen(patterns[i]);

        if (kg_routes_add(routes, &method, &pattern, NULL, &why) != KG_OK) {
            abort();
        }
    }

    line = size > 0 ? memchr(data, '\n', size) : NULL;
    n = line != NULL ? (size_t) (line - data) : 0;

    pattern.data = (unsigned char *) data;
    pattern.len = n;
    why = NULL;

    if (kg_routes_add(routes, &get, &pattern, NULL, &why) != KG_OK
        && why == NULL)
    {
        abort();
    }

    path.len = line != NULL ? size - n - 1 : size;

    copy = malloc(path.len + (path.len == 0));
    if (copy == NULL) {
        abort();
    }

    if (path.len > 0) {
        memcpy(copy, data + size - path.len, path.len);
    }

    path.data = copy;
    allow.data = buf;

    route = kg_routes_match(routes, &get, &path, &allow);

    if ((route != NULL && allow.len != 0)
        || kg_routes_match(routes, &options, &path, &allow) != NULL)
    {
        abort();
    }

    if (allow.len > KG_ROUTE_ALLOW_MAX
        || (allow.len > 0 && forbidden(copy, path.len))
        || (route != NULL && (allow.len < 9
                              || memcmp(buf, "GET, HEAD", 9) != 0)))
    {
        abort();
    }

    free(copy);
    kg_routes_free(routes);

    return 0;
}
