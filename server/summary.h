/* summary.h: quantiles of durations over the last minute or two, to within 3 %. No threads: its owner has a lock. */
#ifndef SERVER_SUMMARY_H
#define SERVER_SUMMARY_H

#include <stdint.h>

#define SUMMARY_BUCKETS 656 /* from 1 ns to 36 minutes, 16 for every power of two */

struct summary {
    uint64_t since_ms; /* when `now` began */
    struct summary_window {
        uint32_t count, bucket[SUMMARY_BUCKETS];
    } now, before; /* a minute each at most */
};

/* Both take the time, in ms of whichever clock. All zero bytes are an empty summary. */
void summary_add(struct summary *s, uint64_t now_ms, uint64_t ns);

/* summary_quantile: in ns, q in [0, 1]; NaN when there is nothing. */
double summary_quantile(struct summary *s, uint64_t now_ms, double q);

#endif
