/* ritz.h: where a symmetric operator stretches most: where to look, never what to believe. */
#ifndef LIP_RITZ_H
#define LIP_RITZ_H

#include <stddef.h>
#include <stdint.h>

enum { LIP__RITZ_STEPS = 32 };

/* lip__ritz: an approximate eigenvector of the largest eigenvalue of a positive semidefinite operator on n numbers, of
 * length 1, by at most so many steps of Lanczos' method from a fixed random vector, or by as many as are done at the
 * deadline (base.h).
 *
 * times  y = A x
 * v      (LIP__RITZ_STEPS + 1, n): the vector is the last row
 * Returns as lip__eigen. */
int lip__ritz(size_t n, void (*times)(void *ctx, const double *x, double *y), void *ctx, uint64_t deadline, double *v);

#endif
