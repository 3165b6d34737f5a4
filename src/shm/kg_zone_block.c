
/*
 * Blocks: the memory of a shard.  See kg_zone_int.h.
 */

#include "kg_zone_int.h"


/* An entry's data in its first block, behind the head, and in the others. */
#define KG_ZONE_FIRST  (sizeof(((kg_zone_block_t *) 0)->data)                 \
                        - sizeof(kg_zone_node_t))
#define KG_ZONE_REST   sizeof(((kg_zone_block_t *) 0)->data)


static ngx_uint_t kg_zone_same(const u_char *a, const u_char *b, size_t len);
static kg_zone_block_t *kg_zone_block(const kg_zone_node_t *node);
static u_char *kg_zone_at(const kg_zone_node_t *node, size_t offset,
    kg_zone_block_t **block, size_t *left);


ngx_uint_t
kg_zone_blocks(size_t len)
{
    if (len <= KG_ZONE_FIRST) {
        return 1;
    }

    return 1 + (len - KG_ZONE_FIRST + KG_ZONE_REST - 1) / KG_ZONE_REST;
}


kg_zone_node_t *
kg_zone_take(kg_zone_shard_t *shard, ngx_uint_t n)
{
    ngx_uint_t        left;
    kg_zone_block_t  *first, *last;

    first = shard->free;
    left = n;

    for (last = first; last; last = last->next) {
        if (--left == 0) {
            shard->free = last->next;
            shard->nfree -= n;
            last->next = NULL;
            return (kg_zone_node_t *) first->data;
        }
    }

    return NULL;
}


void
kg_zone_give(kg_zone_shard_t *shard, kg_zone_node_t *node)
{
    kg_zone_block_t  *first, *last;

    first = kg_zone_block(node);
    shard->nfree++;

    for (last = first; last->next; last = last->next) {
        shard->nfree++;
    }

    last->next = shard->free;
    shard->free = first;
}


void
kg_zone_cut(kg_zone_shard_t *shard, void *page)
{
    ngx_uint_t        i;
    kg_zone_block_t  *blocks;

    blocks = page;

    blocks[0].next = shard->pages;
    shard->pages = blocks;

    for (i = 1; i < KG_ZONE_PAGE / KG_ZONE_BLOCK; i++) {
        blocks[i].next = shard->free;
        shard->free = &blocks[i];
    }

    shard->nfree += KG_ZONE_PAGE / KG_ZONE_BLOCK - 1;
    shard->nblocks += KG_ZONE_PAGE / KG_ZONE_BLOCK - 1;
}


void
kg_zone_recut(kg_zone_shard_t *shard)
{
    kg_zone_block_t  *page, *next;

    page = shard->pages;

    shard->pages = NULL;
    shard->free = NULL;
    shard->nfree = 0;
    shard->nblocks = 0;

    for ( /* void */ ; page; page = next) {
        next = page->next;
        kg_zone_cut(shard, page);
    }
}


void
kg_zone_write(kg_zone_node_t *node, size_t offset, const u_char *src,
    size_t len)
{
    size_t            n, left;
    u_char           *p;
    kg_zone_block_t  *block;

    if (len == 0) {
        return;
    }

    p = kg_zone_at(node, offset, &block, &left);

    for ( ;; ) {
        n = ngx_min(len, left);
        ngx_memcpy(p, src, n);

        src += n;
        len -= n;

        if (len == 0) {
            return;
        }

        block = block->next;
        p = block->data;
        left = KG_ZONE_REST;
    }
}


void
kg_zone_read(const kg_zone_node_t *node, size_t offset, u_char *dst,
    size_t len)
{
    size_t            n, left;
    u_char           *p;
    kg_zone_block_t  *block;

    if (len == 0) {
        return;
    }

    p = kg_zone_at(node, offset, &block, &left);

    n = ngx_min(len, left);
    dst = ngx_cpymem(dst, p, n);

    /* A copy of a size that the compiler knows is a few instructions. */

    for (len -= n; len >= KG_ZONE_REST; len -= KG_ZONE_REST) {
        block = block->next;
        dst = ngx_cpymem(dst, block->data, KG_ZONE_REST);
    }

    if (len) {
        ngx_memcpy(dst, block->next->data, len);
    }
}


ngx_uint_t
kg_zone_equals(const kg_zone_node_t *node, const ngx_str_t *name)
{
    size_t            n, len, left;
    u_char           *p, *data;
    kg_zone_block_t  *block;

    if (node->name_len != name->len) {
        return 0;
    }

    data = name->data;
    p = kg_zone_at(node, 0, &block, &left);

    for (len = name->len; len; len -= n) {
        n = ngx_min(len, left);

        if (!kg_zone_same(p, data, n)) {
            return 0;
        }

        data += n;

        if (len > n) {
            block = block->next;
            p = block->data;
            left = KG_ZONE_REST;
        }
    }

    return 1;
}


/*
 * Not memcmp(): that of glibc loads 32 bytes whatever the length is, which at
 * the end of a page takes longer than all of a lookup.
 */

static ngx_uint_t
kg_zone_same(const u_char *a, const u_char *b, size_t len)
{
    uint64_t  x, y;

    for ( /* void */ ; len >= sizeof(x); len -= sizeof(x)) {
        ngx_memcpy(&x, a, sizeof(x));
        ngx_memcpy(&y, b, sizeof(y));

        if (x != y) {
            return 0;
        }

        a += sizeof(x);
        b += sizeof(x);
    }

    for ( /* void */ ; len; len--) {
        if (*a++ != *b++) {
            return 0;
        }
    }

    return 1;
}


static kg_zone_block_t *
kg_zone_block(const kg_zone_node_t *node)
{
    return (kg_zone_block_t *) ((u_char *) node
                                - offsetof(kg_zone_block_t, data));
}


/* Where the byte at offset is, and how many follow it in its block. */

static u_char *
kg_zone_at(const kg_zone_node_t *node, size_t offset, kg_zone_block_t **block,
    size_t *left)
{
    *block = kg_zone_block(node);

    if (offset < KG_ZONE_FIRST) {
        *left = KG_ZONE_FIRST - offset;
        return (*block)->data + sizeof(kg_zone_node_t) + offset;
    }

    for (offset -= KG_ZONE_FIRST, *block = (*block)->next;
         offset >= KG_ZONE_REST;
         offset -= KG_ZONE_REST)
    {
        *block = (*block)->next;
    }

    *left = KG_ZONE_REST - offset;
    return (*block)->data + offset;
}
