/* norm_reference.h: reshaped kernel orthogonalisation and its gradient in double, formula by formula (semantics.md 1.3 to
 * 1.7), as the truth that float32 forms are measured against. */
#ifndef TESTS_NORM_REFERENCE_H
#define TESTS_NORM_REFERENCE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/norm.h>
#include <onelip/random.h>

#include "tensor/gemm.h"

enum { REFERENCE_MOST = 64 };

struct reference {
    size_t m, n;
    int power_iterations, bjorck_iterations;
    double sigma, residual;
    double *u, *w, *wbar, *dw;       /* u (n), w, wbar, dw (m, n) */
    double *iterate[REFERENCE_MOST]; /* (m, n) each */
};

static inline double ref_norm(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static inline double *ref_new(size_t n)
{
    return calloc(n + 1, sizeof(double));
}

/* wu (m) = w u. */
static inline double ref_along(const struct reference *r, const double *u, double *wu)
{
    lip__dgemm(false, false, r->m, 1, r->n, 1, r->w, r->n, u, 1, 0, wu, 1);
    return ref_norm(wu, r->m);
}

static inline void ref_power(struct reference *r, const lip_rko_options *o)
{
    double *v = ref_new(r->m), *y = ref_new(r->n), length = ref_norm(r->u, r->n), change = HUGE_VAL;

    for (size_t i = 0; i < r->n; i++)
        r->u[i] /= length;
    while (r->power_iterations < o->maxiter_spectral && change >= o->eps_spectral) {
        ref_along(r, r->u, v);
        lip__dgemm(true, false, r->n, 1, r->m, 1, r->w, r->n, v, 1, 0, y, 1);
        length = ref_norm(y, r->n);
        change = 0;
        for (size_t i = 0; i < r->n; i++) {
            y[i] /= length;
            change += (y[i] - r->u[i]) * (y[i] - r->u[i]);
            r->u[i] = y[i];
        }
        change = sqrt(change);
        r->power_iterations++;
    }
    r->sigma = ref_along(r, r->u, v);
    free(v), free(y);
}

/* y = (1 + beta) x - beta (x a'a + a x'a + a a'x)/count, where count 3 is the iteration itself (x = a) and 1 its derivative. */
static inline void ref_step(const struct reference *r, double beta, const double *a, const double *x, int derivative, double *y)
{
    size_t m = r->m, n = r->n, k = m < n ? m : n;
    double *s = ref_new(k * k), *h = ref_new(k * k);

    for (size_t i = 0; i < m * n; i++)
        y[i] = (1 + beta) * x[i];
    lip__dgemm(m > n, m <= n, k, k, m > n ? m : n, 1, a, n, a, n, 0, s, k);
    if (m > n)
        lip__dgemm(false, false, m, n, n, -beta, x, n, s, n, 1, y, n);
    else
        lip__dgemm(false, false, m, n, m, -beta, s, m, x, n, 1, y, n);
    if (derivative) {
        lip__dgemm(m > n, m <= n, k, k, m > n ? m : n, 1, a, n, x, n, 0, h, k);
        lip__dgemm(m > n, m <= n, k, k, m > n ? m : n, 1, x, n, a, n, 1, h, k);
        if (m > n)
            lip__dgemm(false, false, m, n, n, -beta, a, n, h, n, 1, y, n);
        else
            lip__dgemm(false, false, m, n, m, -beta, h, m, a, n, 1, y, n);
    }
    free(s), free(h);
}

/* The effective kernel of r->w with r->u as it is; at most iterations steps, or until eps_bjorck when negative. */
static inline void ref_orthogonalise(struct reference *r, double coef, const lip_rko_options *o, int iterations)
{
    size_t count = r->m * r->n;
    double *v = ref_new(r->m), change = HUGE_VAL;
    int j = 0, most = o->eps_bjorck > 0 ? (int)o->maxiter_bjorck : 0;

    r->sigma = ref_along(r, r->u, v);
    if (!r->iterate[0])
        r->iterate[0] = ref_new(count);
    for (size_t i = 0; i < count; i++)
        r->iterate[0][i] = r->w[i] / (r->sigma + o->eps_spectral);
    while (iterations >= 0 ? j < iterations : j < most && change >= o->eps_bjorck) {
        if (!r->iterate[j + 1])
            r->iterate[j + 1] = ref_new(count);
        ref_step(r, o->beta_bjorck, r->iterate[j], r->iterate[j], 0, r->iterate[j + 1]);
        change = 0;
        for (size_t i = 0; i < count; i++)
            change += (r->iterate[j + 1][i] - r->iterate[j][i]) * (r->iterate[j + 1][i] - r->iterate[j][i]);
        change = r->residual = sqrt(change);
        j++;
    }
    r->bjorck_iterations = j;
    for (size_t i = 0; i < count; i++)
        r->wbar[i] = coef * r->iterate[j][i];
    free(v);
}

static inline void ref_backward(struct reference *r, double coef, const lip_rko_options *o, const float *g)
{
    size_t count = r->m * r->n;
    double *x = ref_new(count), *y = ref_new(count), *v = ref_new(r->m), t = r->sigma + o->eps_spectral, along = 0;

    for (size_t i = 0; i < count; i++)
        x[i] = coef * g[i];
    for (int j = r->bjorck_iterations; j--;) {
        double *swap = x;
        ref_step(r, o->beta_bjorck, r->iterate[j], x, 1, y);
        x = y;
        y = swap;
    }
    ref_along(r, r->u, v);
    for (size_t i = 0; i < count; i++)
        along += x[i] * r->w[i] / (t * t);
    for (size_t i = 0; i < r->m; i++)
        for (size_t j = 0; j < r->n; j++)
            r->dw[i * r->n + j] = x[i * r->n + j] / t - along * v[i] / r->sigma * r->u[j];
    free(x), free(y), free(v);
}

static inline struct reference *ref_make(const float *w, size_t m, size_t n, const float *u)
{
    struct reference *r = calloc(1, sizeof *r);

    r->m = m;
    r->n = n;
    r->u = ref_new(n), r->w = ref_new(m * n), r->wbar = ref_new(m * n), r->dw = ref_new(m * n);
    for (size_t i = 0; i < n; i++)
        r->u[i] = u[i];
    for (size_t i = 0; i < m * n; i++)
        r->w[i] = w[i];
    return r;
}

static inline void ref_free(struct reference *r)
{
    for (int j = 0; j < REFERENCE_MOST; j++)
        free(r->iterate[j]);
    free(r->u), free(r->w), free(r->wbar), free(r->dw), free(r);
}

/* max |x - truth| / max |truth|. */
static inline double ref_worst(const float *x, const double *truth, size_t n)
{
    double error = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        error = fmax(error, fabs(x[i] - truth[i]));
        size = fmax(size, fabs(truth[i]));
    }
    return size > 0 ? error / size : error;
}

/* max |x - truth|. */
static inline double ref_apart(const float *x, const double *truth, size_t n)
{
    double error = 0;

    for (size_t i = 0; i < n; i++)
        error = fmax(error, fabs(x[i] - truth[i]));
    return error;
}

/* |x - truth| / |truth|. */
static inline double ref_relative(const float *x, const double *truth, size_t n)
{
    double error = 0;

    for (size_t i = 0; i < n; i++)
        error += (x[i] - truth[i]) * (x[i] - truth[i]);
    return sqrt(error) / ref_norm(truth, n);
}

/* A kernel (m, n) with chosen singular values s (min(m, n)), and random singular vectors. */
static inline void ref_kernel(size_t m, size_t n, const double *s, uint64_t stream, float *w)
{
    size_t k = m < n ? m : n, sides[2] = {m, n};
    double *q[2], *diag = ref_new(k), *out = ref_new(m * n);

    for (int side = 0; side < 2; side++) {
        lip_random random = {17, 2 * stream + (uint64_t)side, 0};
        float *x = malloc(sides[side] * k * sizeof *x);
        q[side] = ref_new(sides[side] * k);
        lip_random_normal(&random, x, sides[side] * k);
        for (size_t i = 0; i < sides[side] * k; i++)
            q[side][i] = x[i];
        lip__qr(sides[side], k, q[side], diag);
        free(x);
    }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < k; j++)
            q[0][i * k + j] *= s[j];
    lip__dgemm(false, true, m, n, k, 1, q[0], k, q[1], k, 0, out, n);
    for (size_t i = 0; i < m * n; i++)
        w[i] = (float)out[i];
    free(q[0]), free(q[1]), free(diag), free(out);
}

#endif
