/* bench.h: medians of repeated timings, and the machine they were taken on. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_REPEATS 25

static inline uint64_t bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int bench_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* bench_median: nanoseconds of one call of work(ctx); each of BENCH_REPEATS samples runs it for at least 2 ms. */
static inline double bench_median(void (*work)(void *ctx), void *ctx)
{
    double sample[BENCH_REPEATS];
    uint64_t calls = 1, start, end;

    for (;; calls *= 2) {
        start = bench_now();
        for (uint64_t i = 0; i < calls; i++)
            work(ctx);
        end = bench_now();
        if (end - start >= 2000000)
            break;
    }
    for (int s = 0; s < BENCH_REPEATS; s++) {
        start = bench_now();
        for (uint64_t i = 0; i < calls; i++)
            work(ctx);
        sample[s] = (double)(bench_now() - start) / (double)calls;
    }
    qsort(sample, BENCH_REPEATS, sizeof *sample, bench_order);
    return sample[BENCH_REPEATS / 2];
}

/* bench_cpu: the processor's name, as the kernel says it. */
static inline void bench_cpu(void)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");

    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10)) {
            printf("cpu %s", strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
}

#endif
