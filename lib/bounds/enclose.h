/* enclose.h: arithmetic with its rounding counted in, for proofs.
 *
 * u is the unit roundoff of double. A sum of k products computed in any order, with or without fused multiply-add, has
 * an error of at most gamma_k times the sum of the absolute values (Higham, "Accuracy and Stability", 3.1). What would
 * underflow is covered apart: matrices are scaled to a largest entry in [1, 2) first, and LIP__TINY is more than all
 * underflows together can then lose.
 */
#ifndef LIP_ENCLOSE_H
#define LIP_ENCLOSE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include <onelip/bound.h>

#include "base/base.h"

#define LIP__U    0x1p-53
#define LIP__TINY 1e-150

static inline double lip__up(double x)
{
    return nextafter(x, INFINITY);
}

static inline double lip__down(double x)
{
    return nextafter(x, -INFINITY);
}

/* a b from above and from below; exact where one factor is 1, so that layers of constant 1 cost nothing. */
static inline double lip__times_up(double a, double b)
{
    return a == 1 ? b : b == 1 ? a : lip__up(a * b);
}

static inline double lip__times_down(double a, double b)
{
    return a == 1 ? b : b == 1 ? a : lip__down(a * b);
}

/* At least k u / (1 - k u). */
static inline double lip__gamma(size_t k)
{
    double ku = (double)k * LIP__U;

    return ku < 0.5 ? lip__up(lip__up(ku) / (1 - lip__up(ku))) * (1 + 0x1p-50) : INFINITY;
}

/* A factor that lifts a computed sum of k non-negative terms, each of at most three roundings, above the exact sum. */
static inline double lip__lift(size_t k)
{
    return 1 + 2 * lip__gamma(k + 4);
}

/* How long something that could go on may do so: until a deadline (base.h), or for so many operations, about, so that
 * the result repeats. Zeros: as long as it takes. */
struct lip__limit {
    uint64_t deadline;
    double flops;
};

/* lip__within: how many of `most` steps of so many operations each. */
static inline size_t lip__within(const struct lip__limit *limit, double flops, size_t most)
{
    return limit->flops > 0 && limit->flops < flops * (double)most ? (size_t)(limit->flops / flops) : most;
}

/* lip__norm_up / _down: above and below the Euclidean norm of n exact numbers; LIP__TINY counted for underflow. */
double lip__norm_up(const double *x, size_t n);
double lip__norm_down(const double *x, size_t n);

/* lip__abs_times: y (m) at least |a| x, for x >= 0; a (m, n). lip__abs_times_transposed: y (n) at least |a|' x. */
void lip__abs_times(size_t m, size_t n, const double *a, const double *x, double *y);
void lip__abs_times_transposed(size_t m, size_t n, const double *a, const double *x, double *y);

/* lip__arithmetic_holds: whether this thread rounds to nearest and knows subnormal numbers, which every proof here
 * takes for granted: a library that was compiled with -ffast-math may have changed that for the whole process. Else
 * LIP_ENUMERIC. */
lip_err lip__arithmetic_holds(lip_error *err);

/* lip__enclose: lip_bound_matrix for exact doubles, at most 1e150 apart in size. sigma: min(m, n) estimates of the
 * singular values, descending, NAN when LAPACK failed; NULL: not wanted. a is kept. Returns LIP_OK, LIP_ENONFINITE,
 * LIP_ENOMEM. */
lip_err lip__enclose(const double *a, size_t m, size_t n, lip_interval *norm, double *sigma, lip_error *err);

/* lip__enclose_until: the same, but what would not be done by the deadline (base.h) is left out: first the
 * eigenvectors, so that norm is wider and sigma NAN, then everything but norms of rows and columns. *whole: nothing
 * was. */
lip_err lip__enclose_until(const double *a, size_t m, size_t n, uint64_t deadline, lip_interval *norm, double *sigma,
                           bool *whole, lip_error *err);

/* lip__enclose_flops: what lip__enclose takes, about. */
double lip__enclose_flops(double m, double n);

/* lip__affordable: whether so many operations, which nothing can interrupt, will be done by the deadline. */
bool lip__affordable(uint64_t deadline, double flops);

/* lip__abs_norm: at least the spectral norm of |a|, by Collatz and Wielandt: for x > 0 it is at most the root of
 * max_i (|a|'|a|x)_i / x_i. work: 2 n + m doubles. */
double lip__abs_norm(size_t m, size_t n, const double *a, double *work);

/* lip__widen: floats to doubles, for lip__free; NULL when out of memory or n is 0. */
double *lip__widen(const float *x, size_t n);

#endif
