/* base.h: the ground floor: errors, memory, clock, the thread pool. */
#ifndef LIP_BASE_H
#define LIP_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <onelip/error.h>

/* lip__fail: write the text unless one is there already, return the code. err may be NULL. */
lip_err lip__fail(lip_error *err, lip_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* lip__fail_at: as lip__fail, with the JSON pointer. */
lip_err lip__fail_at(lip_error *err, lip_err code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* lip__alloc: count * size bytes, zero-filled, 64-byte aligned; NULL also when the product overflows or is 0.
 * lip__free(NULL) is fine. Tests count and fail allocations through lip__alloc_hook. */
void *lip__alloc(size_t count, size_t size);
void lip__free(void *memory);
char *lip__strdup(const char *text);
lip_err lip__nomem(lip_error *err, size_t bytes);

/* Called before each allocation; non-zero makes it fail. NULL by default; tests only. */
extern int (*lip__alloc_hook)(void);

uint64_t lip__now_ns(void); /* CLOCK_MONOTONIC */

/* A deadline is a time of lip__now_ns; 0 never comes. lip__late: whether it has come. lip__part_of: when that share of the time that
 * is left until then will have gone. lip__seconds_until: what is left, at least 0; INFINITY. */
bool lip__late(uint64_t deadline);
uint64_t lip__part_of(uint64_t deadline, double share);
double lip__seconds_until(uint64_t deadline);

/* Steps that nothing interrupts. lip__pace_late: whether so many more, each as long as the longest between two calls so far, would end
 * after the deadline. Begins as {.deadline = …}. */
struct lip__pace {
    uint64_t deadline, before, longest;
};
bool lip__pace_late(struct lip__pace *pace, unsigned steps);

/* lip__parallel: task(ctx, i, thread) for i in 0..n-1, spread over the pool of lip_set_threads; thread is in
 * 0..lip_threads()-1 and no two running tasks of this call share one. When another caller has the pool, or n is 1,
 * all run here with thread 0, as they do in a task that calls it. Returns when all are done. */
void lip__parallel(size_t n, void (*task)(void *ctx, size_t i, size_t thread), void *ctx);

/* lip__parallel_short: the same for tasks of a few microseconds, which nobody should be woken for: all run here while the
 * pool sleeps. Only a thread that calls it again and again with next to nothing in between has the pool woken, which then
 * stays awake as long as calls keep coming. */
void lip__parallel_short(size_t n, void (*task)(void *ctx, size_t i, size_t thread), void *ctx);

/* lip__patient: whether what this thread does from here on may rest (lip_set_rest) between two tasks, its helpers too. Returns
 * what was so before. */
bool lip__patient(bool patient);

/* LIP__CLONES: compile a loop for several vector units; the machine chooses when the library is loaded. Not under the
 * sanitizers, which are not ready that early. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define LIP__CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"), optimize("O3")))
/* LIP__FUSED: the same for the loops of a matrix product, where a product and a sum may be one instruction, as in BLAS. One
 * rounding instead of two: every bound of k roundings per inner product of length k still holds. */
#define LIP__FUSED \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"), optimize("O3", "fp-contract=fast")))
#else
#define LIP__CLONES
#define LIP__FUSED
#endif

/* lip__all_finite: whether x holds no NaN and no infinity; *at (may be NULL) is the first that is not. */
int lip__all_finite(const float *x, size_t n, size_t *at);

/* lip__philox: one block of Philox4x32-10, what random.h is made of. */
void lip__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
