/* rko.h: the parts of the reshaped kernel orthogonalisation, private to lib/norm. */
#ifndef LIP_RKO_H
#define LIP_RKO_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/norm.h>

#include "base/base.h"

/* What the power iteration leaves behind. */
struct lip__spectral {
    int iterations;
    bool redrawn;
    float sigma; /* |u W'| */
    float t;     /* sigma + eps: what w is divided by */
};

/* lip__power: deel-lip's power iteration of w (m, n) from u. u_new may be u. With gram = w'w (n, n), products go
 * through it instead of w; NULL: through w. work: m + 2 n floats. Returns LIP_OK or LIP_ENONFINITE (overflow). */
lip_err lip__power(const float *w, size_t m, size_t n, const float *gram, const lip_rko_options *o, const float *u,
                   float *u_new, float *work, struct lip__spectral *s, lip_error *err);

/* lip__draw_u: the unit vector that stands in for a collapsed u; always the same for n. */
void lip__draw_u(float *u, size_t n);

/* lip__unit: u <- u / |u|, with lip__draw_u's where u has no direction. Whether deel-lip's floor would have spoilt it. */
bool lip__unit(float *u, size_t n);

/* lip__norm_along: |w u|, through work (m). */
float lip__norm_along(const float *w, size_t m, size_t n, const float *u, float *work);

/* lip__divide_backward: dw = g/t - (<g,w>/t^2) q u' with q = w u/sigma; g may be dw. work: m floats. Returns dL/dsigma. */
double lip__divide_backward(const float *w, size_t m, size_t n, const struct lip__spectral *s, const float *u, const float *g,
                            float *dw, float *work);

/* lip__power_backward: adds dsigma's way through every step of the power iteration from u to dw. Nothing where lip_rko had
 * to start again. Returns LIP_OK or LIP_ENOMEM. */
lip_err lip__power_backward(const float *w, size_t m, size_t n, const lip_rko_info *info, const float *u, double dsigma,
                            float *dw, lip_error *err);

/* Extreme eigenvalues of a symmetric matrix as some Lanczos steps see them. */
enum { LIP__LANCZOS_STEPS = 16 };
struct lip__spectrum {
    size_t steps;
    double ritz[LIP__LANCZOS_STEPS];   /* ascending */
    double weight[LIP__LANCZOS_STEPS]; /* of each in the Gauss quadrature of the start's spectral measure; sum 1 */
    double low_residual, high_residual; /* of the first and the last: some eigenvalue is that near */
};

/* lip__lanczos: of s (k, k), row-major, from a fixed start. work: (steps + 3) k floats; its first k become the Ritz
 * vector of the largest value, the next k that of the smallest, the third k hold the start. */
void lip__lanczos(const float *s, size_t k, float *work, struct lip__spectrum *spectrum);
#define LIP__LANCZOS_WORK(k) ((LIP__LANCZOS_STEPS + 3) * (k))

/* Which form lip_rko takes; for tests and benchmarks, set before lip_rko_scratch is asked. LIP__EIGEN and LIP__PLAIN:
 * that one wherever it applies (on the Gram matrix only at beta 1/2). */
enum lip__form { LIP__AUTO, LIP__PLAIN, LIP__EIGEN };
extern enum lip__form lip__rko_form;

/* Whether there is a Bjorck loop at all. */
bool lip__has_bjorck(const lip_rko_options *o);

/* No float32 kernel needs more: the smallest positive singular value grows past 1 in 1.5^256. */
enum { LIP__MOST_ITERATIONS = 256 };

/* lip__gram: the smaller of a'a (n, n), for m > n, and a a' (m, m). */
void lip__gram(const float *a, size_t m, size_t n, float *s);

/* The plain loop. _start: where the first iterate (m, n) and its Gram matrix go. _loop: from those to the last iterate,
 * which it returns. _backward: from g = dL/d(coef last) to dL/d(first), through what _loop with keep left. All results
 * are inside scratch, of _scratch floats. */
size_t lip__plain_scratch(size_t m, size_t n, const lip_rko_options *o, bool keep);
float *lip__plain_start(size_t m, size_t n, const lip_rko_options *o, bool keep, float *scratch, float **gram);
const float *lip__plain_loop(size_t m, size_t n, const lip_rko_options *o, bool keep, float *scratch, int *iterations,
                             double *residual);
const float *lip__plain_backward(size_t m, size_t n, const lip_rko_options *o, int iterations, double coef, const float *g,
                                 float *scratch);

#endif
