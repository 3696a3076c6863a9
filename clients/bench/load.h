/* load.h: requests by the clock (open loop) or as fast as the answers come (closed loop), and what became of them.
 *
 * In the open loop a request has an intended time, whether or not a connection is free then, and its latency counts from
 * it: a server that stalls is charged for everybody who had to wait (no coordinated omission).
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "wire.h"

struct plan {
    const struct address *address;
    const char *request; /* headers and body */
    size_t request_bytes;
    bool open, poisson;
    double rate;          /* open: requests a second */
    unsigned connections; /* closed: as many; open: at most */
    bool verify;          /* every request is the same: equal revisions have equal outputs, and no connection sees one go back */
    double tolerance;     /* of verify: |difference| <= tolerance * max(1, |output|) */
    uint64_t seed;
};

struct tally {
    struct histogram latency; /* of answers with status 200 */
    struct histogram refused; /* of 429 and 503 */
    struct histogram health;  /* for who asks for it beside; load_run leaves it alone */
    uint64_t ok, queue_full, unavailable, late, other, broken; /* 200, 429, 503, 504, any other; connections that broke */
    uint64_t behind;                                           /* intended in this time and not sent in it */
    uint64_t regressions, mixed, revisions;                    /* of verify; revisions: different ones that were seen */
    double seconds;
};

struct load;

struct load *load_new(const struct plan *plan); /* NULL: out of memory or descriptors. plan is copied */
/* load_run: go on for so long; what ended in this time is added to *tally. false: no connection can be made. */
bool load_run(struct load *load, uint64_t ns, struct tally *tally);
void load_free(struct load *load);

void tally_merge(struct tally *t, const struct tally *more);

#endif
