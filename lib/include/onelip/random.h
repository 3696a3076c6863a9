/* random.h: a counter-based generator, the same numbers on every machine.
 *
 * Philox4x32-10. A generator is (seed, stream, counter): three integers that a checkpoint can store. The
 * stream separates users of one seed: each variable of a model has its own, so that adding a layer does
 * not change the others' numbers.
 *
 * Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 */
#ifndef ONELIP_RANDOM_H
#define ONELIP_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_random {
    uint64_t seed;
    uint64_t stream;
    uint64_t counter; /* blocks of four 32-bit words used so far */
} lip_random;

/* lip_random_uniform: n numbers of U[0,1), 24 bits each. Threads: safe on distinct generators. */
void lip_random_uniform(lip_random *r, float *x, size_t n);

/* lip_random_normal: n numbers of N(0,1), by Box and Muller in double. Threads: safe on distinct ones. */
void lip_random_normal(lip_random *r, float *x, size_t n);

/* lip_random_u64: 64 bits. Threads: safe on distinct generators. */
uint64_t lip_random_u64(lip_random *r);

/* lip_random_stream: the stream number of a name (FNV-1a, 64 bits). Threads: safe. */
uint64_t lip_random_stream(const char *name);

#ifdef __cplusplus
}
#endif
#endif
