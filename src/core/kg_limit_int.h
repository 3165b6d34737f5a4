
/*
 * Limits: what the files of the decision share.  A state is opened into a
 * work, in which time passes and what comes back is taken off; then it is
 * charged, and written back.  One that is only looked at stays as it is.
 */

#ifndef KG_LIMIT_INT_H
#define KG_LIMIT_INT_H

#include <string.h>

#include "kg_limit.h"
#include "kg_limit_bytes.h"


#define KG_LIMIT_WINDOW         2       /* versions of a state */
#define KG_LIMIT_BUCKET         4

#define KG_LIMIT_ENTRY          12      /* bytes */
#define KG_LIMIT_BLOCK          8       /* entries */
#define KG_LIMIT_BLOCK_LEN      (KG_LIMIT_BLOCK * KG_LIMIT_ENTRY)
#define KG_LIMIT_RING           8       /* blocks */

#define KG_LIMIT_LAST           48      /* where the last block is */
#define KG_LIMIT_FIRST          (KG_LIMIT_LAST + KG_LIMIT_BLOCK_LEN)
#define KG_LIMIT_BLOCKS         (KG_LIMIT_FIRST + KG_LIMIT_BLOCK_LEN)
#define KG_LIMIT_BUCKET_LEN     49

#define KG_LIMIT_COUNT_MAX      3000000000.0
#define KG_LIMIT_MS_MAX         4294967294.0

/* How long Redis keeps a bucket at most, ms: what fills, and as long again. */
#define KG_LIMIT_TTL_MAX        (2000.0 * KG_LIMIT_REFILL_MAX)

typedef struct {
    const kg_limit_policy_t  *policy;
    double                    window;   /* us: or until a bucket is full */
    double                    slice;    /* us */
    double                    room;     /* of a bucket, in units */

    double                    total;    /* count, or debt */
    double                    count;
    double                    newest;
    double                    oldest;
    double                    expiry;
    double                    born;
    double                    before;   /* newest, when it was read */
    double                    spare;    /* of a bucket: may come back */

    unsigned                  first;
    unsigned                  nfirst;
    unsigned                  nlast;
    unsigned                  from;
    unsigned                  nring;

    double                    left;     /* requests' worth of units */
    double                    add;      /* its debt */
    int                       must;     /* be written */

    size_t                    len;
    unsigned char             data[KG_LIMIT_STATE_MAX];
} kg_limit_work_t;


/* Whole numbers as Lua's math has them, without libm. */

static inline double
kg_limit_floor(double x)
{
    double  whole;

    /* From 2^53 on there is nothing but whole numbers. */

    if (x >= 9007199254740992.0 || x <= -9007199254740992.0) {
        return x;
    }

    whole = (double) (int64_t) x;

    return whole > x ? whole - 1 : whole;
}


static inline double
kg_limit_ceil(double x)
{
    return -kg_limit_floor(-x);
}


static inline double
kg_limit_max(double a, double b)
{
    return a > b ? a : b;
}


static inline double
kg_limit_min(double a, double b)
{
    return a < b ? a : b;
}


/*
 * From work->data, as far as work->len; KG_INVALID for a malformed state.
 * Sets total, left, add and must among the rest.
 */
kg_rc_t kg_limit_open_bucket(kg_limit_work_t *work, const kg_limit_ask_t *ask,
    double clock);
kg_rc_t kg_limit_open_window(kg_limit_work_t *work, const kg_limit_ask_t *ask,
    double clock);

/* ms until need more units have left, of those there are and units at stamp. */
double kg_limit_relief_window(kg_limit_work_t *work, double need, double units,
    double stamp, double clock);

/* Adds units, and to a window work->add and the stamp they have. */
void kg_limit_charge_bucket(kg_limit_work_t *work, double units,
    const kg_limit_ask_t *ask, double lease, double clock);
void kg_limit_charge_window(kg_limit_work_t *work, double units, double stamp,
    double clock);

#endif
