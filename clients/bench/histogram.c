#include "histogram.h"

#include <math.h>

/* Below 128 ns a bucket is one nanosecond; above, the seven bits behind the highest choose it. */
static unsigned index_of(uint64_t ns)
{
    unsigned high, index;

    if (ns < 128)
        return (unsigned)ns;
    high = 63 - (unsigned)__builtin_clzll(ns);
    index = (high - 6) * 128 + (unsigned)(ns >> (high - 7) & 127);
    return index < HISTOGRAM_POWERS * 128 ? index : HISTOGRAM_POWERS * 128 - 1;
}

static double middle_of(unsigned index)
{
    unsigned power = index / 128;

    return index < 128 ? index : ((double)(128 + index % 128) + 0.5) * (double)((uint64_t)1 << (power - 1));
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    double us = (double)ns * 1e-3;

    h->bucket[index_of(ns)]++;
    h->count++;
    h->sum += us;
    h->squares += us * us;
    if (ns > h->most)
        h->most = ns;
}

void histogram_merge(struct histogram *h, const struct histogram *more)
{
    for (unsigned i = 0; i < HISTOGRAM_POWERS * 128; i++)
        h->bucket[i] += more->bucket[i];
    h->count += more->count;
    h->sum += more->sum;
    h->squares += more->squares;
    if (more->most > h->most)
        h->most = more->most;
}

double histogram_percentile(const struct histogram *h, double percent)
{
    uint64_t wanted = (uint64_t)ceil((double)h->count * percent / 100), seen = 0;

    if (wanted == 0)
        wanted = 1;
    for (unsigned i = 0; i < HISTOGRAM_POWERS * 128; i++)
        if ((seen += h->bucket[i]) >= wanted)
            return middle_of(i) < (double)h->most ? middle_of(i) : (double)h->most;
    return 0;
}

double histogram_mean(const struct histogram *h)
{
    return h->count ? h->sum / (double)h->count * 1e3 : 0;
}

double histogram_deviation(const struct histogram *h)
{
    double mean = h->count ? h->sum / (double)h->count : 0;
    double variance = h->count ? h->squares / (double)h->count - mean * mean : 0;

    return variance > 0 ? sqrt(variance) * 1e3 : 0;
}
