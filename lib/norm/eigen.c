/* eigen.c: Bjorck's loop on singular values, in double.
 *
 * With G = W0'W0 = V diag(l) V' (of the smaller side) every iterate is W0 Q, Q = V diag(q(l)) V', and q is iterated on
 * numbers. So any number of iterations costs the same, deel-lip's stopping rule is followed exactly, because
 * |W_(j+1) - W_j|^2 is the sum of the squared changes of singular values, and the smallest ones keep their digits.
 *
 * The gradient: H = sym(W0'D), K = V (F o V'HV) V', F_ij = (q_i - q_j)/(l_i - l_j) and q' on the diagonal;
 * dL/dW0 = D Q + 2 W0 K.
 *
 * Source: Daleckii and Krein 1965; Higham, Functions of Matrices, 2008, theorem 3.11.
 */
#include "norm/eigen.h"

#include <math.h>

#include "norm/rko.h"
#include "tensor/gemm.h"

/* Eigenvalues nearer than this, relatively, use the derivative instead of the difference quotient. */
static const double near = 1e-5;

/* Below this fraction of the largest eigenvalue there is rounding only. */
static const double noise = 1e-15;

struct arrays {
    size_t m, n, k;
    double *v, *lambda, *q, *slope; /* (k, k), eigenvectors as rows; k; k; k: dq/dlambda */
    double *big_q;                  /* (k, k) */
    double *w, *x;                  /* (m, n) */
    double *work;                   /* lip__eigen_work(k), at least 2 k^2 */
    double *out;                    /* (m, n), for the gradient only */
};

static struct arrays lay_out(size_t m, size_t n, double *memory)
{
    struct arrays x = {.m = m, .n = n, .k = m < n ? m : n};

    x.v = memory;
    x.lambda = x.v + x.k * x.k;
    x.q = x.lambda + x.k;
    x.slope = x.q + x.k;
    x.big_q = x.slope + x.k;
    x.w = x.big_q + x.k * x.k;
    x.x = x.w + m * n;
    x.work = x.x + m * n;
    x.out = x.work + lip__eigen_work(x.k);
    return x;
}

size_t lip__eigen_memory(size_t m, size_t n, bool keep)
{
    size_t k = m < n ? m : n;

    return 2 * k * k + 3 * k + (keep ? 3 : 2) * m * n + lip__eigen_work(k);
}

/* out (k, k) = a b' of the larger side, or its mirror image: a'b for tall matrices. */
static void inner_product(const struct arrays *x, const double *a, const double *b, double *out)
{
    bool tall = x->m > x->n;

    lip__dgemm(tall, !tall, x->k, x->k, tall ? x->m : x->n, 1, a, x->n, b, x->n, 0, out, x->k);
}

/* out (m, n) = alpha a s + beta out for tall a, alpha s a + beta out else; s (k, k) symmetric. */
static void times(const struct arrays *x, double alpha, const double *a, const double *s, double beta, double *out)
{
    if (x->m > x->n)
        lip__dgemm(false, false, x->m, x->n, x->k, alpha, a, x->n, s, x->k, beta, out, x->n);
    else
        lip__dgemm(false, false, x->m, x->n, x->k, alpha, s, x->k, a, x->n, beta, out, x->n);
}

/* One step for every eigenvalue; returns the Frobenius norm of the iterate's change. */
static double step(const struct arrays *x, double beta)
{
    double sum = 0;

    for (size_t i = 0; i < x->k; i++) {
        double l = x->lambda[i], q = x->q[i], next = q * (1 + beta - beta * l * q * q), change = sqrt(l) * (next - q);
        x->slope[i] = x->slope[i] * (1 + beta - 3 * beta * l * q * q) - beta * q * q * q;
        x->q[i] = next;
        sum += change * change;
    }
    return sqrt(sum);
}

static void loop(const struct arrays *x, const lip_rko_options *o, lip_rko_info *info)
{
    double largest = x->lambda[x->k - 1], change = 0;

    for (size_t i = 0; i < x->k; i++) {
        x->lambda[i] = fmax(x->lambda[i], noise * largest);
        x->q[i] = 1;
        x->slope[i] = 0;
        change += x->lambda[i];
    }
    change = 9 * sqrt(change);
    info->bjorck_iterations = 0;
    info->residual = 0;
    while (info->bjorck_iterations < o->maxiter_bjorck && info->bjorck_iterations < LIP__MOST_ITERATIONS &&
           change >= o->eps_bjorck) {
        change = info->residual = step(x, o->beta_bjorck);
        info->bjorck_iterations++;
    }
}

bool lip__eigen_form(const float *w, size_t m, size_t n, float t, double coef, const lip_rko_options *o, double *memory,
                     float *wbar, lip_rko_info *info)
{
    struct arrays x = lay_out(m, n, memory);

    for (size_t i = 0; i < m * n; i++)
        x.w[i] = (double)w[i] / t;
    inner_product(&x, x.w, x.w, x.v);
    if (lip__eigen_in(x.k, x.v, x.lambda, x.work))
        return false;
    loop(&x, o, info);
    for (size_t i = 0; i < x.k; i++)
        for (size_t j = 0; j < x.k; j++)
            x.work[i * x.k + j] = x.q[i] * x.v[i * x.k + j];
    lip__dgemm(true, false, x.k, x.k, x.k, 1, x.v, x.k, x.work, x.k, 0, x.big_q, x.k);
    times(&x, coef, x.w, x.big_q, 0, x.x);
    for (size_t i = 0; i < m * n; i++)
        wbar[i] = (float)x.x[i];
    return true;
}

static double quotient(const struct arrays *x, size_t i, size_t j)
{
    double gap = x->lambda[i] - x->lambda[j];

    if (fabs(gap) <= near * (x->lambda[i] + x->lambda[j]))
        return (x->slope[i] + x->slope[j]) / 2;
    return (x->q[i] - x->q[j]) / gap;
}

void lip__eigen_backward(size_t m, size_t n, double coef, const float *g, double *memory, float *inner)
{
    struct arrays x = lay_out(m, n, memory);
    size_t k = x.k;
    double *h = x.work, *y = x.work + k * k;

    for (size_t i = 0; i < m * n; i++)
        x.x[i] = coef * g[i];
    inner_product(&x, x.w, x.x, y);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++)
            h[i * k + j] = h[j * k + i] = (y[i * k + j] + y[j * k + i]) / 2;
    lip__dgemm(false, false, k, k, k, 1, x.v, k, h, k, 0, y, k);
    lip__dgemm(false, true, k, k, k, 1, y, k, x.v, k, 0, h, k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++)
            h[i * k + j] = h[j * k + i] = quotient(&x, i, j) * (h[i * k + j] + h[j * k + i]) / 2;
    lip__dgemm(true, false, k, k, k, 1, x.v, k, h, k, 0, y, k);
    lip__dgemm(false, false, k, k, k, 1, y, k, x.v, k, 0, h, k);
    times(&x, 1, x.x, x.big_q, 0, x.out);
    times(&x, 2, x.w, h, 1, x.out);
    for (size_t i = 0; i < m * n; i++)
        inner[i] = (float)x.out[i];
}
