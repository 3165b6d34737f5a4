
/*
 * Limits: the strict window, a queue of entries in blocks.  See kg_limit.h.
 *
 * The newest entry and the ends of the queue are at the start of the bytes, so
 * that the script reads and writes little of a state at a time.
 */

#include "kg_limit_int.h"


static int kg_limit_shape(const kg_limit_work_t *work);
static void kg_limit_expire(kg_limit_work_t *work, double clock);
static void kg_limit_return(kg_limit_work_t *work, const kg_limit_ask_t *ask);
static unsigned char *kg_limit_entry(kg_limit_work_t *work, size_t block,
    unsigned i);
static void kg_limit_push(kg_limit_work_t *work);


kg_rc_t
kg_limit_open_window(kg_limit_work_t *work, const kg_limit_ask_t *ask,
    double clock)
{
    const unsigned char  *p;

    p = work->data;

    work->window = work->policy->window * 1000000.0;
    work->slice = kg_limit_floor(work->window / 60);

    if (work->len) {

        if (work->len < KG_LIMIT_BLOCKS || p[0] != KG_LIMIT_WINDOW) {
            return KG_INVALID;
        }

        work->total = kg_get32(p + 1);
        work->count = kg_get32(p + 5);
        work->newest = kg_get_double(p + 9);
        work->oldest = kg_get_double(p + 17);
        work->expiry = kg_get_double(p + 25);
        work->born = kg_get_double(p + 33);
        work->first = p[41];
        work->nfirst = p[42];
        work->nlast = p[43];
        work->from = p[44];
        work->nring = p[45];

        if (!kg_limit_shape(work)) {
            return KG_INVALID;
        }

        /* So far back that all there is counts as admitted now. */

        if (work->newest - clock > work->window) {
            work->count = work->total;
            work->newest = work->oldest = work->born = clock;
            work->expiry = 0;
            work->first = work->nfirst = work->nlast = 0;
            work->from = work->nring = 0;
            work->must = 1;
        }

        kg_limit_expire(work, clock);

        if (work->total < 0
            || (work->first == work->nfirst && work->total != work->count))
        {
            return KG_INVALID;
        }

        if (ask->back && work->born <= ask->since) {
            kg_limit_return(work, ask);
        }
    }

    work->add = kg_limit_min(work->add, KG_LIMIT_COUNT_MAX - work->total);
    work->total += work->add;
    work->left = work->policy->limit - work->total;

    return KG_OK;
}


/* 1 when the indexes of a window's state are within its blocks. */

static int
kg_limit_shape(const kg_limit_work_t *work)
{
    return work->nfirst <= KG_LIMIT_BLOCK && work->first <= work->nfirst
           && work->nlast <= KG_LIMIT_BLOCK && work->from < KG_LIMIT_RING
           && work->nring < KG_LIMIT_RING
           && (work->first < work->nfirst
               || (work->nlast == 0 && work->nring == 0));
}


/* Drops what has left the window. */

static void
kg_limit_expire(kg_limit_work_t *work, double clock)
{
    unsigned char  *first;

    first = work->data + KG_LIMIT_FIRST;

    while (work->oldest + work->window <= clock) {

        if (work->first == work->nfirst) {
            work->total -= work->count;
            work->count = 0;
            work->newest = work->oldest = clock;
            return;
        }

        work->total -= kg_get32(first + KG_LIMIT_ENTRY * work->first + 8);
        work->first++;

        if (work->first == work->nfirst && work->nring > 0) {
            memcpy(first, work->data + KG_LIMIT_BLOCKS
                          + KG_LIMIT_BLOCK_LEN * work->from,
                   KG_LIMIT_BLOCK_LEN);
            work->first = 0;
            work->nfirst = KG_LIMIT_BLOCK;
            work->from = (work->from + 1) % KG_LIMIT_RING;
            work->nring--;

        } else if (work->first == work->nfirst && work->nlast > 0) {
            memcpy(first, work->data + KG_LIMIT_LAST, KG_LIMIT_BLOCK_LEN);
            work->first = 0;
            work->nfirst = work->nlast;
            work->nlast = 0;
        }

        work->oldest = work->first < work->nfirst
                       ? kg_get_double(first + KG_LIMIT_ENTRY * work->first)
                       : work->newest;
    }
}


/*
 * What comes back of a lease, onto the entry it was charged to: the newest, or
 * one of the block before it.  A lease is shorter than an entry, so it is
 * hardly ever further back, and then it stays spent.
 */

static void
kg_limit_return(kg_limit_work_t *work, const kg_limit_ask_t *ask)
{
    size_t          block;
    double          mine, held;
    unsigned        i, least;
    unsigned char  *entry;

    mine = kg_limit_floor((ask->since + ask->lived) / work->slice);

    if (kg_limit_floor(work->newest / work->slice) == mine) {
        held = kg_limit_min(ask->back, work->count);
        work->count -= held;
        work->total -= held;
        work->must = 1;
        return;
    }

    block = work->nlast ? KG_LIMIT_LAST : KG_LIMIT_FIRST;
    least = work->nlast ? 0 : work->first;

    for (i = work->nlast ? work->nlast : work->nfirst; i > least; i--) {
        entry = kg_limit_entry(work, block, i - 1);

        if (kg_limit_floor(kg_get_double(entry) / work->slice) == mine) {
            held = kg_limit_min(ask->back, kg_get32(entry + 8));
            work->total -= held;
            work->must = 1;
            kg_put32(entry + 8, (uint32_t) (kg_get32(entry + 8) - held));
            return;
        }
    }
}


static unsigned char *
kg_limit_entry(kg_limit_work_t *work, size_t block, unsigned i)
{
    return work->data + block + KG_LIMIT_ENTRY * i;
}


double
kg_limit_relief_window(kg_limit_work_t *work, double need, double units,
    double stamp, double clock)
{
    double          when;
    unsigned        i, n, ring;
    unsigned char  *entry;

    n = work->nfirst - work->first;
    ring = KG_LIMIT_BLOCK * work->nring;

    for (i = 0; i < n + ring + work->nlast; i++) {

        if (i < n) {
            entry = kg_limit_entry(work, KG_LIMIT_FIRST, work->first + i);

        } else if (i < n + ring) {
            entry = kg_limit_entry(work, KG_LIMIT_BLOCKS,
                                   (KG_LIMIT_BLOCK * work->from + i - n)
                                   % (KG_LIMIT_RING * KG_LIMIT_BLOCK));
        } else {
            entry = kg_limit_entry(work, KG_LIMIT_LAST, i - n - ring);
        }

        when = kg_get_double(entry);
        need -= kg_get32(entry + 8);

        if (need <= 0) {
            return kg_limit_ceil((when + work->window - clock) / 1000);
        }
    }

    when = work->newest;

    /* What is spent now may make the newest entry count longer. */

    if (units > 0 && stamp > when) {

        if (work->count == 0
            || kg_limit_floor(when / work->slice)
               == kg_limit_floor(stamp / work->slice)
            || need > work->count)
        {
            when = stamp;
        }
    }

    if (need <= work->count + units) {
        return kg_limit_ceil((when + work->window - clock) / 1000);
    }

    return work->policy->window * 1000.0;
}


void
kg_limit_charge_window(kg_limit_work_t *work, double units, double stamp,
    double clock)
{
    int             kept;
    unsigned char  *p;

    kept = work->expiry * 1000 >= stamp + work->window;

    work->total += units;
    units += work->add;

    if (work->newest > stamp || units == 0) {
        stamp = work->newest;
    }

    if (units > 0) {

        if (work->count > 0
            && kg_limit_floor(work->newest / work->slice)
               != kg_limit_floor(stamp / work->slice))
        {
            kg_limit_push(work);

        } else if (work->first == work->nfirst) {
            work->oldest = stamp;
        }
    }

    work->newest = stamp;
    work->count += units;

    if (!kept) {
        work->expiry = kg_limit_floor(clock / 1000)
                       + 2000.0 * work->policy->window;
    }

    p = work->data;

    *p++ = KG_LIMIT_WINDOW;
    p = kg_put32(p, (uint32_t) work->total);
    p = kg_put32(p, (uint32_t) work->count);
    p = kg_put_double(p, work->newest);
    p = kg_put_double(p, work->oldest);
    p = kg_put_double(p, work->expiry);
    p = kg_put_double(p, work->born);
    *p++ = (unsigned char) work->first;
    *p++ = (unsigned char) work->nfirst;
    *p++ = (unsigned char) work->nlast;
    *p++ = (unsigned char) work->from;
    *p++ = (unsigned char) work->nring;

    if (work->len < KG_LIMIT_BLOCKS) {
        work->len = KG_LIMIT_BLOCKS;
    }
}


/* The newest entry is over: it goes to the end of those before it. */

static void
kg_limit_push(kg_limit_work_t *work)
{
    size_t          ring;
    unsigned char  *entry;

    if (work->first == work->nfirst) {
        work->first = 0;
        work->nfirst = 1;
        entry = kg_limit_entry(work, KG_LIMIT_FIRST, 0);

    } else if (work->nlast == 0 && work->nring == 0
               && work->nfirst < KG_LIMIT_BLOCK)
    {
        entry = kg_limit_entry(work, KG_LIMIT_FIRST, work->nfirst++);

    } else if (work->nlast < KG_LIMIT_BLOCK) {
        entry = kg_limit_entry(work, KG_LIMIT_LAST, work->nlast++);

    } else {
        ring = KG_LIMIT_BLOCKS + KG_LIMIT_BLOCK_LEN
                                 * ((work->from + work->nring)
                                    % KG_LIMIT_RING);
        memcpy(work->data + ring, work->data + KG_LIMIT_LAST,
               KG_LIMIT_BLOCK_LEN);

        if (work->len < ring + KG_LIMIT_BLOCK_LEN) {
            work->len = ring + KG_LIMIT_BLOCK_LEN;
        }

        work->nring++;
        work->nlast = 1;
        entry = kg_limit_entry(work, KG_LIMIT_LAST, 0);
    }

    kg_put32(kg_put_double(entry, work->newest), (uint32_t) work->count);

    work->count = 0;
}
