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

/* One evaluation lives in `memory`, lip__polynomial_memory floats (keep: with the derivative's). The caller writes E to
 * lip__polynomial_e; _value leaves Q at memory itself. The caller then writes dE to _direction, and _derivative returns
 * the (k, k) derivative of Q, inside memory. All are full symmetric matrices. */
size_t lip__polynomial_memory(size_t k, bool keep);
float *lip__polynomial_e(float *memory, size_t k);
void lip__polynomial_value(const struct lip__scheme *s, size_t k, float *memory);
float *lip__polynomial_direction(const struct lip__scheme *s, size_t k, float *memory);
float *lip__polynomial_derivative(const struct lip__scheme *s, size_t k, float *memory);

#endif
