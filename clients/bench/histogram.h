/* histogram.h: latencies in buckets of at most 1 %, as in HdrHistogram: 128 for every power of two. No memory, no threads. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_POWERS 44 /* up to 2^50 ns, 13 days */

struct histogram {
    uint64_t count, most, bucket[HISTOGRAM_POWERS * 128];
    double sum, squares; /* of us */
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *h, const struct histogram *more);
/* histogram_percentile: the middle of the bucket that holds it, in ns; 0 when there is nothing. */
double histogram_percentile(const struct histogram *h, double percent);
double histogram_mean(const struct histogram *h);      /* ns */
double histogram_deviation(const struct histogram *h); /* ns */

#endif
