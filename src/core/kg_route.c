
/*
 * The route table: a trie with one level a segment.
 *
 * A node has its literal children in an array ordered by length and then by
 * bytes, and at most one child for a parameter, so a request costs one binary
 * search a segment however many routes there are.  Both the literal child and
 * the parameter's are walked, the literal one first: the first route found
 * whose method fits is then the most specific, and ends the walk.  One that
 * finds none has seen the methods for Allow.  At every depth it sees a node at
 * most once, so it is bounded by the table and not by the path.
 *
 * Escapes are decoded while they are compared, which takes no memory.
 */

#include <stdlib.h>
#include <string.h>

#include "kg_path.h"
#include "kg_route.h"


#define KG_ROUTE_METHODS_MAX   32       /* different methods in a table */


typedef struct kg_entry_s  kg_entry_t;
typedef struct kg_node_s   kg_node_t;

/* A route at the node where its pattern ends. */
struct kg_entry_s {
    kg_route_t      route;
    unsigned        method;     /* its index in the table's methods */
    size_t          order;      /* its place in the configuration */
    kg_entry_t     *next;
};

typedef struct {
    kg_str_t        text;       /* decoded */
    kg_node_t      *node;
} kg_edge_t;

struct kg_node_s {
    kg_edge_t      *edges;
    size_t          nedges;
    kg_node_t      *param;
    kg_entry_t     *entries;    /* in the order of the configuration */
};

struct kg_routes_s {
    kg_node_t       root;
    kg_str_t        methods[KG_ROUTE_METHODS_MAX];
    unsigned        nmethods;
    size_t          allow_len;  /* of an Allow with every method */
    size_t          nroutes;
};

typedef struct {
    kg_path_t           path;
    unsigned            method;
    const kg_route_t   *found;
    uint32_t            seen;   /* a bit for each method that fits the path */
    size_t              first[KG_ROUTE_METHODS_MAX];
} kg_walk_t;


static const kg_str_t  kg_method_get = kg_string("GET");


/* The place of a segment among a node's edges; *found when it is there. */
static size_t
kg_edge_search(const kg_node_t *node, const kg_segment_t *segment, int *found)
{
    int     rc;
    size_t  low, high, mid;

    *found = 0;
    low = 0;
    high = node->nedges;

    while (low < high) {
        mid = low + (high - low) / 2;
        rc = kg_segment_compare(segment, &node->edges[mid].text);

        if (rc == 0) {
            *found = 1;
            return mid;
        }

        if (rc < 0) {
            high = mid;

        } else {
            low = mid + 1;
        }
    }

    return low;
}


kg_routes_t *
kg_routes_create(void)
{
    return calloc(1, sizeof(kg_routes_t));
}


/* Frees what a node owns; a pattern's length bounds the recursion. */
static void
kg_node_clear(kg_node_t *node)
{
    size_t       i;
    kg_entry_t  *entry;

    for (i = 0; i < node->nedges; i++) {
        kg_node_clear(node->edges[i].node);
        free(node->edges[i].node);
        free(node->edges[i].text.data);
    }

    free(node->edges);

    if (node->param != NULL) {
        kg_node_clear(node->param);
        free(node->param);
    }

    while (node->entries != NULL) {
        entry = node->entries;
        node->entries = entry->next;
        free(entry->route.pattern.data);
        free(entry);
    }
}


void
kg_routes_free(kg_routes_t *routes)
{
    unsigned  i;

    if (routes == NULL) {
        return;
    }

    kg_node_clear(&routes->root);

    for (i = 0; i < routes->nmethods; i++) {
        free(routes->methods[i].data);
    }

    free(routes);
}


/* A copy with memory of its own.  KG_OK or KG_ERROR. */
static kg_rc_t
kg_str_copy(kg_str_t *dst, const kg_str_t *src)
{
    dst->data = malloc(src->len);
    if (dst->data == NULL) {
        return KG_ERROR;
    }

    memcpy(dst->data, src->data, src->len);
    dst->len = src->len;

    return KG_OK;
}


static kg_rc_t
kg_method_check(const kg_str_t *method, const char **why)
{
    size_t         i;
    unsigned char  c;

    static const kg_str_t  head = kg_string("HEAD");
    static const kg_str_t  options = kg_string("OPTIONS");
    static const kg_str_t  trace = kg_string("TRACE");
    static const kg_str_t  connect = kg_string("CONNECT");

    if (method->len == 0) {
        *why = "a method is missing";
        return KG_INVALID;
    }

    for (i = 0; i < method->len; i++) {
        c = method->data[i];

        if ((c < 'A' || c > 'Z') && (i == 0 || (c != '-' && c != '_'))) {
            *why = "a method is written in upper case letters";
            return KG_INVALID;
        }
    }

    if (kg_str_eq(method, &head)) {
        *why = "HEAD goes with GET and is not configured";
        return KG_INVALID;
    }

    if (kg_str_eq(method, &options)) {
        *why = "OPTIONS follows from the other methods and is not configured";
        return KG_INVALID;
    }

    if (kg_str_eq(method, &trace) || kg_str_eq(method, &connect)) {
        *why = "nginx itself refuses TRACE and CONNECT";
        return KG_INVALID;
    }

    return KG_OK;
}


/* The index of a method of the table, or nmethods. */
static unsigned
kg_method_find(const kg_routes_t *routes, const kg_str_t *method)
{
    unsigned  i;

    for (i = 0; i < routes->nmethods; i++) {
        if (kg_str_eq(&routes->methods[i], method)) {
            break;
        }
    }

    return i;
}


/*
 * The index of a method, which is added to the table when it is new.  The
 * longest Allow that a path may get must fit in KG_ROUTE_ALLOW_MAX.
 */
static kg_rc_t
kg_method_add(kg_routes_t *routes, const kg_str_t *method, unsigned *index,
    const char **why)
{
    size_t  len;

    *index = kg_method_find(routes, method);

    if (*index < routes->nmethods) {
        return KG_OK;
    }

    len = method->len;

    if (kg_str_eq(method, &kg_method_get)) {
        len += sizeof(", HEAD") - 1;
    }

    if (routes->nmethods > 0) {
        len += sizeof(", ") - 1;
    }

    if (routes->nmethods == KG_ROUTE_METHODS_MAX
        || len > KG_ROUTE_ALLOW_MAX - routes->allow_len)
    {
        *why = "too many different methods";
        return KG_INVALID;
    }

    if (kg_str_copy(&routes->methods[routes->nmethods], method) != KG_OK) {
        return KG_ERROR;
    }

    routes->nmethods++;
    routes->allow_len += len;

    return KG_OK;
}


/* The child for a parameter, which is made when it is missing. */
static kg_node_t *
kg_node_param(kg_node_t *node)
{
    if (node->param == NULL) {
        node->param = calloc(1, sizeof(kg_node_t));
    }

    return node->param;
}


/* The child for a literal segment, which is made when it is missing. */
static kg_node_t *
kg_node_literal(kg_node_t *node, const kg_str_t *text)
{
    int            found;
    size_t         i;
    kg_edge_t     *edges, edge;
    kg_segment_t   segment;

    segment.raw = *text;
    segment.len = text->len;

    i = kg_edge_search(node, &segment, &found);

    if (found) {
        return node->edges[i].node;
    }

    edges = realloc(node->edges, (node->nedges + 1) * sizeof(kg_edge_t));
    if (edges == NULL) {
        return NULL;
    }

    node->edges = edges;

    if (kg_str_copy(&edge.text, text) != KG_OK) {
        return NULL;
    }

    edge.node = calloc(1, sizeof(kg_node_t));

    if (edge.node == NULL) {
        free(edge.text.data);
        return NULL;
    }

    memmove(edges + i + 1, edges + i, (node->nedges - i) * sizeof(kg_edge_t));

    edges[i] = edge;
    node->nedges++;

    return edge.node;
}


/*
 * Walks a pattern down from the root, making the nodes that are missing, and
 * writes it in its normal form, which is never longer, into text.
 */
static kg_rc_t
kg_pattern_walk(kg_routes_t *routes, const kg_str_t *pattern, kg_str_t *text,
    kg_node_t **node, const char **why)
{
    int             param;
    size_t          n;
    kg_rc_t         rc;
    kg_str_t        segment;
    unsigned char  *p, *end, *dst;

    p = pattern->data;
    end = p + pattern->len;
    dst = text->data;
    *node = &routes->root;

    if (pattern->len == 1) {
        *dst++ = '/';
        p = end;
    }

    for (n = 0; p < end; n++) {

        if (n == KG_ROUTE_SEGMENTS_MAX) {
            *why = "a pattern has too many segments";
            return KG_INVALID;
        }

        segment.data = ++p;

        while (p < end && *p != '/') {
            p++;
        }

        segment.len = (size_t) (p - segment.data);

        rc = kg_pattern_segment(&segment, &param, why);
        if (rc != KG_OK) {
            return rc;
        }

        *node = param ? kg_node_param(*node)
                      : kg_node_literal(*node, &segment);
        if (*node == NULL) {
            return KG_ERROR;
        }

        *dst++ = '/';

        if (param) {
            *dst++ = ':';
        }

        memcpy(dst, segment.data, segment.len);
        dst += segment.len;
    }

    text->len = (size_t) (dst - text->data);

    return KG_OK;
}


kg_rc_t
kg_routes_add(kg_routes_t *routes, const kg_str_t *method,
    const kg_str_t *pattern, void *data, const char **why)
{
    kg_rc_t      rc;
    kg_node_t   *node;
    kg_entry_t  *entry, **last;

    rc = kg_method_check(method, why);
    if (rc != KG_OK) {
        return rc;
    }

    if (pattern->len == 0 || pattern->data[0] != '/') {
        *why = "a pattern starts with \"/\"";
        return KG_INVALID;
    }

    entry = calloc(1, sizeof(kg_entry_t));
    if (entry == NULL) {
        return KG_ERROR;
    }

    rc = kg_str_copy(&entry->route.pattern, pattern);
    if (rc != KG_OK) {
        goto failed;
    }

    rc = kg_pattern_walk(routes, pattern, &entry->route.pattern, &node, why);
    if (rc != KG_OK) {
        goto failed;
    }

    rc = kg_method_add(routes, method, &entry->method, why);
    if (rc != KG_OK) {
        goto failed;
    }

    for (last = &node->entries; *last != NULL; last = &(*last)->next) {

        if ((*last)->method == entry->method) {
            *why = "the same method and pattern twice";
            rc = KG_INVALID;
            goto failed;
        }
    }

    entry->route.method = routes->methods[entry->method];
    entry->route.data = data;
    entry->order = routes->nroutes++;
    *last = entry;

    return KG_OK;

failed:

    free(entry->route.pattern.data);
    free(entry);

    return rc;
}


/*
 * Visits the nodes whose pattern fits the path, the most specific first, up to
 * one with a route.
 */
static void
kg_node_walk(const kg_node_t *node, size_t depth, kg_walk_t *walk)
{
    int                found;
    size_t             i;
    uint32_t           bit;
    const kg_entry_t  *entry;

    if (depth < walk->path.nsegments) {

        i = kg_edge_search(node, &walk->path.segments[depth], &found);

        if (found) {
            kg_node_walk(node->edges[i].node, depth + 1, walk);
        }

        if (node->param != NULL && walk->found == NULL) {
            kg_node_walk(node->param, depth + 1, walk);
        }

        return;
    }

    for (entry = node->entries; entry != NULL; entry = entry->next) {

        if (entry->method == walk->method) {
            walk->found = &entry->route;
            return;
        }

        bit = (uint32_t) 1 << entry->method;

        if (!(walk->seen & bit) || entry->order < walk->first[entry->method])
        {
            walk->seen |= bit;
            walk->first[entry->method] = entry->order;
        }
    }
}


static unsigned char *
kg_allow_add(unsigned char *dst, const unsigned char *start,
    const kg_str_t *method)
{
    if (dst != start) {
        *dst++ = ',';
        *dst++ = ' ';
    }

    memcpy(dst, method->data, method->len);

    return dst + method->len;
}


/* Writes the methods seen: GET and HEAD, then in the configuration's order. */
static void
kg_allow_write(const kg_routes_t *routes, const kg_walk_t *walk,
    kg_str_t *allow)
{
    unsigned        get, i, j, n, order[KG_ROUTE_METHODS_MAX];
    unsigned char  *p;

    static const kg_str_t  head = kg_string("HEAD");

    p = allow->data;
    n = 0;
    get = kg_method_find(routes, &kg_method_get);

    for (i = 0; i < routes->nmethods; i++) {

        if (!(walk->seen & (uint32_t) 1 << i)) {
            continue;
        }

        if (i == get) {
            p = kg_allow_add(p, allow->data, &kg_method_get);
            p = kg_allow_add(p, allow->data, &head);
            continue;
        }

        for (j = n++; j > 0 && walk->first[order[j - 1]] > walk->first[i]; j--)
        {
            order[j] = order[j - 1];
        }

        order[j] = i;
    }

    for (i = 0; i < n; i++) {
        p = kg_allow_add(p, allow->data, &routes->methods[order[i]]);
    }

    allow->len = (size_t) (p - allow->data);
}


const kg_route_t *
kg_routes_match(const kg_routes_t *routes, const kg_str_t *method,
    const kg_str_t *path, kg_str_t *allow)
{
    kg_walk_t  walk;

    static const kg_str_t  head = kg_string("HEAD");

    allow->len = 0;

    if (kg_path_split(path, &walk.path) != KG_OK) {
        return NULL;
    }

    walk.method = kg_method_find(routes, kg_str_eq(method, &head)
                                         ? &kg_method_get : method);
    walk.found = NULL;
    walk.seen = 0;

    kg_node_walk(&routes->root, 0, &walk);

    if (walk.found == NULL) {
        kg_allow_write(routes, &walk, allow);
    }

    return walk.found;
}
