/* factor.h: Cholesky's algorithm and substitution, in an order of operations whose errors are textbook ones.
 *
 * Blocks are multiplied by BLAS, whose inner products have errors within gamma in any order; what divides and takes
 * roots is here. So for a (n, n) with R'R = a + E as computed, |E| <= gamma_{n+2} |R'||R|, and of a substitution (C +
 * D) x = b, |D| <= gamma_{n+2} |C| (Higham, "Accuracy and Stability", theorems 8.5 and 10.3).
 */
#ifndef LIP_FACTOR_H
#define LIP_FACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* lip__cholesky: the lower triangle of a (n, n) becomes C with a = C C'. false: a pivot was not above 0. */
bool lip__cholesky(size_t n, double *a);

/* lip__top_eigenvalue: at least the largest eigenvalue of a symmetric a (n, n) that has none below 0 but by rounding:
 * *guess if it can be proved, else what an eigensolver says, if values (n) is not NULL, or larger and larger guesses
 * until the deadline (base.h); *guess is raised to what was proved. work (n, n). INFINITY: nothing was proved; -1: no
 * memory. */
double lip__top_eigenvalue(size_t n, const double *a, double *guess, uint64_t deadline, double *work, double *values);

/* lip__substitute: b (n, k) becomes C^-1 b; with `transposed` C'^-1 b. c (n, n): its lower triangle. */
void lip__substitute(size_t n, size_t k, const double *c, double *b, bool transposed);

#endif
