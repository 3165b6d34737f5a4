
/*
 * The route table: which method and path is which route.
 *
 * A pattern is "/" or "/seg/seg..."; a segment is literal, ":name" or
 * "{name}".  A literal is written decoded, a parameter fits any segment that
 * is not empty, and a slash at the end makes another path.
 *
 * Of the routes whose pattern and method fit a request the most specific wins:
 * at the first segment in which two differ, the literal one.
 *
 * Paths are matched raw, because nginx matches the decoded, merged path but
 * proxies the raw one: "/v1/customers%2f..%2floads" would pass on another
 * route's scope.  A raw path with "//", "\", a dot segment (also one with
 * ";..." behind, which some servers drop), "#", a control byte, a malformed
 * escape, or an encoded "/", "\", "." or control byte matches no route, and
 * neither does one of more than KG_ROUTE_SEGMENTS_MAX segments; other escapes
 * are decoded segment by segment before the comparison.
 */

#ifndef KG_ROUTE_H
#define KG_ROUTE_H

#include "kg_core.h"


#define KG_ROUTE_SEGMENTS_MAX  32
#define KG_ROUTE_ALLOW_MAX     256      /* bytes in an Allow value */

typedef struct kg_routes_s  kg_routes_t;

typedef struct {
    kg_str_t    method;     /* upper case, as configured */
    kg_str_t    pattern;    /* as configured, parameters as ":name" */
    void       *data;       /* the owner's */
} kg_route_t;


/*
 * A table.  The strings of added routes are copied; kg_routes_free() frees
 * all.  kg_routes_create() returns NULL for no memory.
 */
kg_routes_t *kg_routes_create(void);
void kg_routes_free(kg_routes_t *routes);

/*
 * Adds a route.  KG_OK; KG_INVALID with what is wrong in *why (static text):
 * a method that is not an upper-case token or is HEAD or OPTIONS (they follow
 * from the others), more methods than an Allow has room for, a malformed
 * pattern, the same method and shape of pattern twice ("/a/:x" and "/a/:y");
 * KG_ERROR for no memory.
 */
kg_rc_t kg_routes_add(kg_routes_t *routes, const kg_str_t *method,
    const kg_str_t *pattern, void *data, const char **why);

/*
 * The route of a raw path (no query) and a method; HEAD goes with GET.  NULL
 * when there is none; then allow->len says how many bytes of methods the
 * path's routes have: 0 is 404, else 405.  allow->data is the caller's buffer
 * of KG_ROUTE_ALLOW_MAX bytes, filled then with the methods of every route
 * whose pattern fits, each once, in the order GET, HEAD, then as configured, as
 * "GET, HEAD, POST".  With a route it is empty.  OPTIONS finds no route.  Reads
 * only, takes no memory.
 */
const kg_route_t *kg_routes_match(const kg_routes_t *routes,
    const kg_str_t *method, const kg_str_t *path, kg_str_t *allow);

#endif
