/* polynomial.c: the limit of the loop as a polynomial of the Gram matrix, and the derivative of that polynomial.
 *
 * Every iterate is W0 Q with Q = q(E), E = I - W0'W0 (k, k). A loop that converges ends at q(e) = (1 - e)^(-1/2), which is
 * not iterated but fitted on an interval of e that holds E's eigenvalues. Schemes of few products do it:
 *
 *     B_1 = T,  B_2 = T T,  B_i = L_i R_i with L_i, R_i sums of B_1 .. B_(i-1);   Q = sum of I and all B
 *
 * with T = (2E - (low + high))/(high - low). There is one scheme for each number of products, and the first whose interval is
 * wide enough is taken. Their degree is 2^products, where any polynomial of degree 16 would need 6 of them: this function is one of
 * the few that can be had for less.
 *
 * The gradient: with D = dL/dwbar, H = sym(W0'D) and K the derivative of q(E) in the direction -H, which is self-adjoint,
 * dL/dW0 = D Q + 2 W0 K. In E's eigenvectors the derivative multiplies a direction by
 *
 *     (q(x) - q(y))/(x - y) = 1/(s t (s + t)),   s = (1 - x)^(1/2), t = (1 - y)^(1/2),
 *
 * a positive kernel of which three or four terms f_i(x) f_i(y) are all that float32 sees. So the derivative in the direction H is the
 * sum of F_i H F_i, and a scheme's B are chosen so that the F_i are sums of them as well as Q. A direction of low rank stays a pair
 * of thin matrices until the last product.
 *
 * schemes.def has the coefficients, fit_schemes.py finds them; they are moderate, so rounding errors stay small. Everything square
 * here is symmetric, so products compute the lower half and mirror it.
 *
 * Source: Sastre, Linear Algebra Appl. 539, 2018, for products of sums; Higham, Functions of Matrices, 2008, theorem 3.11 for the
 * derivative.
 */
#include "norm/polynomial.h"

#include <stdint.h>
#include <string.h>

#include "base/base.h"
#include "tensor/gemm.h"

enum {
    MOST = 7,     /* products of a scheme */
    TERMS = 5,    /* of its derivative */
    RUN = 32,     /* elements that a sum of matrices takes at once */
    SHARE = 8192, /* and those that a thread does */
    STRIP = 64    /* rows of a product that a thread does */
};

/* left[i], right[i]: coefficients of B_1 .. in B_(i + 3); value and term: those of I, B_1 .. in Q and the F_i. */
struct lip__scheme {
    int products, terms;
    double low, high;
    double left[MOST - 1][MOST], right[MOST - 1][MOST], value[MOST + 2], term[TERMS][MOST + 2];
};

static const struct lip__scheme schemes[] = {
#include "norm/schemes.def"
};

double lip__loop_value(double e, int iterations)
{
    double q = 1;

    for (int j = 0; j < iterations; j++) {
        q *= 1 + e / 2;
        e = e * e * (3 + e) / 4;
    }
    return q;
}

const struct lip__scheme *lip__polynomial_plan(double a, double b)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (a >= schemes[i].low && b <= schemes[i].high)
            return &schemes[i];
    return NULL;
}

size_t lip__scheme_terms(const struct lip__scheme *s)
{
    return (size_t)s->terms;
}

/* ---- sums of matrices ---------------------------------------------------------------------------------- */

enum { RESULTS = 1 + TERMS };

/* out[i] = sum_j c[i][j] x[j], `count` floats each. */
struct sums {
    size_t count, results, terms;
    const double *c[RESULTS];
    const float *const *x;
    float *out[RESULTS];
};

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));

static inline __attribute__((always_inline)) void combine_run(const struct sums *s, size_t i, size_t at)
{
    lanes a = {0}, b = {0}, c = {0}, d = {0}, *to = (lanes *)(s->out[i] + at);

    for (size_t j = 0; j < s->terms; j++) {
        const lanes *x = (const lanes *)(s->x[j] + at);
        float factor = (float)s->c[i][j];
        a += factor * x[0];
        b += factor * x[1];
        c += factor * x[2];
        d += factor * x[3];
    }
    to[0] = a, to[1] = b, to[2] = c, to[3] = d;
}

LIP__CLONES static void combine_part(const struct sums *s, size_t at, size_t until)
{
    for (; at + RUN <= until; at += RUN)
        for (size_t i = 0; i < s->results; i++)
            combine_run(s, i, at);
    for (; at < until; at++)
        for (size_t i = 0; i < s->results; i++) {
            float sum = 0;
            for (size_t j = 0; j < s->terms; j++)
                sum += (float)s->c[i][j] * s->x[j][at];
            s->out[i][at] = sum;
        }
}

static void combine_block(void *ctx, size_t i, size_t thread)
{
    const struct sums *s = ctx;

    (void)thread;
    combine_part(s, i * SHARE, (i + 1) * SHARE < s->count ? (i + 1) * SHARE : s->count);
}

static void combine(const struct sums *s)
{
    lip__parallel((s->count + SHARE - 1) / SHARE, combine_block, (void *)(uintptr_t)s);
}

static void add_to_diagonal(size_t k, double x, float *c)
{
    for (size_t i = 0; i < k; i++)
        c[i * k + i] += (float)x;
}

/* c = a b, where the result is known to be symmetric. */
static void multiply(size_t k, const float *a, const float *b, float *c)
{
    lip__gemm_symmetric(false, false, k, k, 1, a, b, NULL, NULL, k, 0, c);
}

/* ---- the value ----------------------------------------------------------------------------------------- */

/* All but thin are of (k, k). */
struct arrays {
    float *result, *e;
    float *f;                        /* F_1 .. */
    float *b[MOST + 1];              /* B_1 .. */
    float *left, *right;             /* of one of them */
    float *direction, *thin[2];      /* over the B: what the derivative needs */
};

static struct arrays lay_out(size_t k, bool keep, float *memory)
{
    struct arrays x = {.result = memory};
    size_t square = k * k;

    x.e = memory + square;
    x.f = x.e + square;
    memory = x.f + (keep ? LIP__POLYNOMIAL_TERMS : 0) * square;
    x.direction = memory;
    x.thin[0] = x.direction + square;
    x.thin[1] = x.thin[0] + LIP__POLYNOMIAL_TERMS * square / 2;
    for (int i = 0; i <= MOST; i++, memory += square)
        x.b[i] = memory;
    x.left = memory;
    x.right = memory + square;
    return x;
}

size_t lip__polynomial_memory(size_t k, bool keep)
{
    return (2 + (keep ? 2 * LIP__POLYNOMIAL_TERMS + 1 : MOST + 1 + 2)) * k * k + 1; /* 1: doubles may want it */
}

float *lip__polynomial_f(float *memory, size_t k)
{
    return lay_out(k, true, memory).f;
}

double *lip__polynomial_doubles(float *memory, size_t k)
{
    uintptr_t at = (uintptr_t)lay_out(k, true, memory).direction;

    return (double *)((at + sizeof(double) - 1) / sizeof(double) * sizeof(double));
}

void lip__polynomial_sum(size_t k, size_t terms, const double *c, float *memory)
{
    struct arrays x = lay_out(k, true, memory);
    const float *f[LIP__POLYNOMIAL_TERMS];

    for (size_t i = 0; i < terms; i++)
        f[i] = x.f + i * k * k;
    combine(&(struct sums){k * k, 1, terms, {c}, f, {x.result}});
}

float *lip__polynomial_e(float *memory, size_t k)
{
    return memory + k * k;
}

void lip__polynomial_value(const struct lip__scheme *s, size_t k, bool keep, float *memory)
{
    struct arrays x = lay_out(k, keep, memory);
    const float *const *b = (const float *const *)x.b;
    size_t square = k * k;
    struct sums last = {square, 1, (size_t)s->products + 1, {s->value + 1}, b, {x.result}};

    combine(&(struct sums){square, 1, 1, {(double[]){2 / (s->high - s->low)}}, (const float *[]){x.e}, {x.b[0]}});
    add_to_diagonal(k, -(s->low + s->high) / (s->high - s->low), x.b[0]);
    multiply(k, x.b[0], x.b[0], x.b[1]);
    for (int i = 0; i + 1 < s->products; i++) {
        combine(&(struct sums){square, 2, (size_t)i + 2, {s->left[i], s->right[i]}, b, {x.left, x.right}});
        multiply(k, x.left, x.right, x.b[i + 2]);
    }
    for (int i = 0; keep && i < s->terms; i++) {
        last.c[last.results] = s->term[i] + 1;
        last.out[last.results++] = x.f + (size_t)i * square;
    }
    combine(&last);
    add_to_diagonal(k, s->value[0], x.result);
    for (int i = 0; keep && i < s->terms; i++)
        add_to_diagonal(k, s->term[i][0], x.f + (size_t)i * square);
}

/* ---- the derivative ------------------------------------------------------------------------------------ */

/* Rows of one factor times every F, in strips. */
struct thin_product {
    size_t rows, k, strips;
    const float *x, *f;
    float *out;
};

static void thin_strip(void *ctx, size_t i, size_t thread)
{
    const struct thin_product *p = ctx;
    size_t term = i / p->strips, from = i % p->strips * STRIP, rows = p->rows - from < STRIP ? p->rows - from : STRIP, k = p->k;

    (void)thread;
    lip__gemm(false, false, rows, k, k, 1, p->x + from * k, k, p->f + term * k * k, k, 0, p->out + (term * p->rows + from) * k, k);
}

/* out (terms rows, k): x F_1, and under it x F_2 .. */
static void times_each(size_t terms, size_t rows, size_t k, const float *x, const float *f, float *out)
{
    struct thin_product p = {rows, k, (rows + STRIP - 1) / STRIP, x, f, out};

    lip__parallel(terms * p.strips, thin_strip, &p);
}

float *lip__polynomial_direction(size_t k, float *memory)
{
    return lay_out(k, true, memory).direction;
}

float *lip__polynomial_derivative(size_t terms, size_t k, float factor, float *memory)
{
    struct arrays x = lay_out(k, true, memory);

    times_each(terms, k, k, x.direction, x.f, x.thin[0]);
    lip__gemm_symmetric(true, false, k, terms * k, factor, x.thin[0], x.f, NULL, NULL, k, 0, x.e);
    return x.e;
}

float *lip__polynomial_derivative_thin(size_t terms, size_t k, float factor, size_t rows, const float *a, const float *b,
                                       float *memory)
{
    struct arrays x = lay_out(k, true, memory);

    times_each(terms, rows, k, a, x.f, x.thin[0]);
    times_each(terms, rows, k, b, x.f, x.thin[1]);
    lip__gemm_symmetric(true, false, k, terms * rows, factor, x.thin[0], x.thin[1], x.thin[1], x.thin[0], k, 0, x.e);
    return x.e;
}
