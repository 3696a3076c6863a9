/* polynomial.h: the k-th iterate of Bjorck's loop as a fitted polynomial of the Gram matrix; see polynomial.c. */
#ifndef LIP_POLYNOMIAL_H
#define LIP_POLYNOMIAL_H

#include <stdbool.h>
#include <stddef.h>

enum { LIP__MOST_DEGREE = 30, LIP__MOST_POWERS = 6, LIP__MOST_STEPS = 3, LIP__MOST_HORNER = 5 };

/* How q is evaluated for one spectrum. */
struct lip__polynomial {
    int steps;                                /* Gram steps before the polynomial */
    int degree, s, horner;                    /* Paterson and Stockmeyer: blocks of s coefficients, Horner products */
    int cost;                                 /* symmetric products (k, k); the derivative takes two for each */
    double a, b;                              /* the interval after the steps */
    double coefficient[LIP__MOST_DEGREE + 1]; /* of powers of (2e - a - b)/(b - a) */
};

/* lip__loop_value: q of the loop after so many iterations at beta 1/2: a singular value s has become s q(1 - s^2). */
double lip__loop_value(double e, int iterations);

/* lip__polynomial_plan: the cheapest evaluation of q on eigenvalues of E in [a, b], -1 < a <= b < 1. False: none is
 * accurate enough. */
bool lip__polynomial_plan(struct lip__polynomial *plan, double a, double b, int iterations);

/* One evaluation lives in `memory`, lip__polynomial_memory floats (keep: with the derivative's). The caller writes E to
 * lip__polynomial_e; _value leaves Q at memory itself. The caller then writes dE to _direction, and _derivative returns
 * the (k, k) derivative of Q, inside memory. All are full symmetric matrices. */
size_t lip__polynomial_memory(size_t k, bool keep);
float *lip__polynomial_e(float *memory, size_t k);
void lip__polynomial_value(const struct lip__polynomial *p, size_t k, float *memory);
float *lip__polynomial_direction(const struct lip__polynomial *p, size_t k, float *memory);
float *lip__polynomial_derivative(const struct lip__polynomial *p, size_t k, float *memory);

#endif
