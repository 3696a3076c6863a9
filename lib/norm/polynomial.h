/* polynomial.h: the limit of Bjorck's loop as a fitted polynomial of the Gram matrix; see polynomial.c. */
#ifndef LIP_POLYNOMIAL_H
#define LIP_POLYNOMIAL_H

#include <stdbool.h>
#include <stddef.h>

/* How q(e) = (1 - e)^(-1/2) is evaluated on an interval. */
struct lip__scheme;

/* lip__loop_value: q of the loop after so many iterations at beta 1/2: a singular value s has become s q(1 - s^2). */
double lip__loop_value(double e, int iterations);

/* lip__polynomial_plan: the cheapest scheme for eigenvalues of E in [a, b]; NULL: there is none. */
const struct lip__scheme *lip__polynomial_plan(double a, double b);

/* lip__scheme_terms: how many F its derivative has. */
enum { LIP__POLYNOMIAL_TERMS = 10 }; /* at most, whoever makes them */
size_t lip__scheme_terms(const struct lip__scheme *s);

/* One evaluation lives in `memory`, lip__polynomial_memory floats (keep: with the derivative's). The caller writes E to
 * lip__polynomial_e; _value leaves Q at memory itself. All matrices are full and symmetric. */
size_t lip__polynomial_memory(size_t k, bool keep);
float *lip__polynomial_e(float *memory, size_t k);
void lip__polynomial_value(const struct lip__scheme *s, size_t k, bool keep, float *memory);

/* For whoever makes Q and the F in another way, with keep: _f: where the F go; _doubles: room for 5 k^2 doubles, lost with the first
 * derivative; _sum: Q <- the sum of c[i] F_i. */
float *lip__polynomial_f(float *memory, size_t k);
double *lip__polynomial_doubles(float *memory, size_t k);
void lip__polynomial_sum(size_t k, size_t terms, const double *c, float *memory);

/* With keep, `factor` times the derivative of Q in a direction, the sum of F H F over the first `terms` F; where E was, which is lost.
 * _derivative: in the symmetric direction
 * that the caller wrote to lip__polynomial_direction. _derivative_thin: in the direction a'b + b'a, with a and b (rows, k), rows at
 * most k/2. Each may be asked for again. */
float *lip__polynomial_direction(size_t k, float *memory);
float *lip__polynomial_derivative(size_t terms, size_t k, float factor, float *memory);
float *lip__polynomial_derivative_thin(size_t terms, size_t k, float factor, size_t rows, const float *a, const float *b,
                                       float *memory);

#endif
