/* summary.c: a float32's exponent and the four bits behind it number its bucket. */
#include "summary.h"

#include <math.h>
#include <string.h>

#define WINDOW_MS 60000
#define FIRST     (127u << 4) /* of 1.0 */

static unsigned index_of(uint64_t ns)
{
    float value = ns ? (float)ns : 1;
    uint32_t bits;
    unsigned i;

    memcpy(&bits, &value, sizeof bits);
    i = (bits >> 19) - FIRST;
    return i < SUMMARY_BUCKETS ? i : SUMMARY_BUCKETS - 1;
}

static double middle_of(unsigned i)
{
    uint32_t bits = (i + FIRST) << 19 | 1u << 18;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Forgets what is older than two windows. */
static void turn(struct summary *s, uint64_t now_ms)
{
    uint64_t age = now_ms > s->since_ms ? now_ms - s->since_ms : 0;

    if (age < WINDOW_MS)
        return;
    if (age < 2 * WINDOW_MS)
        s->before = s->now;
    else
        memset(&s->before, 0, sizeof s->before);
    memset(&s->now, 0, sizeof s->now);
    s->since_ms = now_ms;
}

void summary_add(struct summary *s, uint64_t now_ms, uint64_t ns)
{
    turn(s, now_ms);
    s->now.bucket[index_of(ns)]++;
    s->now.count++;
}

double summary_quantile(struct summary *s, uint64_t now_ms, double q)
{
    double wanted, seen = 0;
    unsigned i = 0;

    turn(s, now_ms);
    if (s->now.count + s->before.count == 0)
        return NAN;
    wanted = fmax(1, ceil(q * ((double)s->now.count + s->before.count)));
    while ((seen += (double)s->now.bucket[i] + s->before.bucket[i]) < wanted)
        i++;
    return middle_of(i);
}
