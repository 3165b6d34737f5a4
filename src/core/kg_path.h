
/*
 * Raw paths and patterns, segment by segment: the rules of kg_route.h for how
 * a path may be written.
 */

#ifndef KG_PATH_H
#define KG_PATH_H

#include "kg_core.h"
#include "kg_route.h"


/* A segment of a request's path, as it was sent. */
typedef struct {
    kg_str_t        raw;
    size_t          len;        /* decoded */
} kg_segment_t;

typedef struct {
    kg_segment_t    segments[KG_ROUTE_SEGMENTS_MAX];
    size_t          nsegments;
} kg_path_t;


/*
 * Splits a raw path into segments that point into it; "/" has none.  KG_OK,
 * or KG_INVALID for a path that no route may match.
 */
kg_rc_t kg_path_split(const kg_str_t *path, kg_path_t *split);

/*
 * Orders a segment of a path and a literal by decoded length, then by decoded
 * bytes: less than, equal to or greater than 0 as memcmp().
 */
int kg_segment_compare(const kg_segment_t *segment, const kg_str_t *literal);

/*
 * Checks a segment of a pattern.  KG_OK; of a parameter, ":name" or "{name}",
 * *segment becomes the name and *param 1.  KG_INVALID with what is wrong in
 * *why (static text).
 */
kg_rc_t kg_pattern_segment(kg_str_t *segment, int *param, const char **why);

#endif
