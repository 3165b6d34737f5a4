
/*
 * A zone of its own, and entries in it that can be told from one another: the
 * n-th key has a name and a record that follow from n.
 */

#ifndef KG_ZONE_FILLED_H
#define KG_ZONE_FILLED_H

#include "alone.h"
#include "kg_record.h"


#define MB    (1024 * 1024)
#define NOON  (20000 * 86400 + 43200)

/* As kg_key_pack() has one with two scopes: t/unit/test_record.c. */
#define TYPICAL  64

/* More keys than a zone of a megabyte holds. */
#define MANY     4000


extern kg_zone_t         *zone;
extern kg_zone_shared_t  *shared;


/* An empty zone; an earlier one is left to the kernel. */
void make_zone(size_t size);

/* The watch holds: what is filled in is fresh. */
void watched(void);

/* Its name holds until the next but one. */
kg_zone_entry_t entry_of(ngx_uint_t n);
kg_zone_shard_t *shard_of(ngx_uint_t n);

/* A lookup, as a request makes it. */
kg_zone_entry_t look(ngx_uint_t n);

/* Fills in a record of len bytes, or with 0 an absence. */
void fill(ngx_uint_t n, size_t len);

/* 1 when it is there, and is what was filled in; that does not use it. */
ngx_uint_t holds(ngx_uint_t n);

/* How many of those from from to before to are there. */
ngx_uint_t count(ngx_uint_t from, ngx_uint_t to);

/* Every block of the zone is in one place, and every list is whole. */
void check_whole(void);

#endif
