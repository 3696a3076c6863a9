/* rational.h: the limit of Bjorck's loop as a sum of resolvents of the Gram matrix; see rational.c. */
#ifndef LIP_RATIONAL_H
#define LIP_RATIONAL_H

#include <stdbool.h>
#include <stddef.h>

/* lip__rational_terms: how many resolvents eigenvalues of W0'W0 in [low, high], 0 < low, need; 0: more than there is room
 * for. */
size_t lip__rational_terms(double low, double high);

/* lip__rational_value: of w (m, n) over t, in the `memory` of a polynomial with its derivative: Q and E where the
 * polynomial leaves them, and as many F. False: the Gram matrix is not positive. */
bool lip__rational_value(const float *w, size_t m, size_t n, double t, double low, double high, size_t terms,
                         float *memory);

#endif
