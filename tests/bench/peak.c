/* peak.c: how many operations a second this machine can do at all: one of bench_inference.py's sides.
 *
 *     peak THREADS
 *
 * Each thread has a core of its own and multiplies and adds in registers, with the vectors that libonelip would use and as many
 * sums as keep its units busy. Standard input is read: "<net> <batch> <seconds>" is answered with the microseconds that 10^9
 * operations take all threads together; of each thread the median over parts of some 200 us counts.
 */
#include <pthread.h>
#include <sched.h>

#include "bench.h"
#include "tensor/tile.h"

enum { SUMS = 12, TURNS = 40000, THREADS_MAX = 64, PARTS = 100000 };

#ifdef __clang__
#pragma STDC FP_CONTRACT ON
#define FUSED
#else
#define FUSED __attribute__((optimize("O3", "fp-contract=fast")))
#endif

/* LOOP(name, target, lanes): TURNS times SUMS vectors of products that are added; from a number that no compiler knows. */
#define LOOP(name, target, lanes)                                                        \
    typedef float name##_lanes __attribute__((vector_size((lanes) * sizeof(float))));    \
    target FUSED static float name(float factor)                                         \
    {                                                                                    \
        name##_lanes sum[SUMS], x = factor - (name##_lanes){0}, all = {0};               \
                                                                                         \
        for (int i = 0; i < SUMS; i++)                                                   \
            sum[i] = x * (float)i;                                                       \
        for (int t = 0; t < TURNS; t++)                                                  \
            for (int i = 0; i < SUMS; i++)                                               \
                sum[i] += x * x;                                                         \
        for (int i = 0; i < SUMS; i++)                                                   \
            all += sum[i];                                                               \
        return all[0];                                                                   \
    }

LOOP(narrow, , 4)
#if defined(__x86_64__)
LOOP(avx2, __attribute__((target("avx2,fma"))), 8)
LOOP(avx512, __attribute__((target("avx512f,avx512vl,fma"))), 16)
#else
#define avx2 narrow
#define avx512 narrow
#endif

static const struct {
    float (*loop)(float);
    double lanes;
} unit[] = {{narrow, 4}, {avx2, 8}, {avx512, 16}}; /* by lip__vector_units() */

struct thread {
    pthread_t id;
    pthread_barrier_t *ready;
    double seconds, rate; /* operations a nanosecond */
    int core;
};

static void *work(void *argument)
{
    struct thread *t = argument;
    static _Thread_local double ns[PARTS];
    volatile float factor = 1e-3f, seen;
    size_t best = lip__vector_units(), parts = 0;
    cpu_set_t core;

    CPU_ZERO(&core);
    CPU_SET(t->core, &core);
    pthread_setaffinity_np(pthread_self(), sizeof core, &core);
    pthread_barrier_wait(t->ready);
    for (uint64_t end = bench_now() + (uint64_t)(t->seconds * 1e9); bench_now() < end && parts < PARTS; parts++) {
        uint64_t start = bench_now();
        seen = unit[best].loop(factor);
        ns[parts] = (double)(bench_now() - start);
    }
    (void)seen;
    qsort(ns, parts, sizeof *ns, bench_order);
    t->rate = 2.0 * SUMS * TURNS * unit[best].lanes / ns[parts / 2];
    return NULL;
}

int main(int argc, char **argv)
{
    size_t n = argc == 2 ? strtoul(argv[1], NULL, 10) : 0, allowed = 0;
    struct thread thread[THREADS_MAX];
    pthread_barrier_t ready;
    double seconds, rate;
    char line[256];
    cpu_set_t cores;

    sched_getaffinity(0, sizeof cores, &cores);
    for (int core = 0; core < CPU_SETSIZE && allowed < n && allowed < THREADS_MAX; core++)
        if (CPU_ISSET(core, &cores))
            thread[allowed++] = (struct thread){.ready = &ready, .core = core};
    if (!n || allowed < n) {
        fprintf(stderr, "usage: peak THREADS, one for each of at most %d cores\n", THREADS_MAX);
        return 2;
    }
    puts("{\"about\": \"peak\"}");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%*s %*s %lf", &seconds) != 1 || !(seconds > 0))
            return 2;
        pthread_barrier_init(&ready, NULL, (unsigned)n);
        rate = 0;
        for (size_t i = 0; i < n; i++) {
            thread[i].seconds = seconds;
            if (pthread_create(&thread[i].id, NULL, work, &thread[i]))
                return 1;
        }
        for (size_t i = 0; i < n; i++) {
            pthread_join(thread[i].id, NULL);
            rate += thread[i].rate;
        }
        pthread_barrier_destroy(&ready);
        printf("{\"us\": %.6g}\n", 1e6 / rate);
        fflush(stdout);
    }
    return 0;
}
