/* polynomial.c: the limit of the loop as a polynomial of the Gram matrix, and the derivative of that polynomial.
 *
 * Every iterate is W0 Q with Q = q(E), E = I - W0'W0 (k, k). A loop that converges ends at q(e) = (1 - e)^(-1/2), which is
 * not iterated but fitted on an interval of e that holds E's eigenvalues. Schemes of few products do it:
 *
 *     B_1 = T,  B_2 = T T,  B_i = L_i R_i with L_i, R_i sums of B_1 .. B_(i-1);   Q = sum of I and all B
 *
 * with T = (2E - (low + high))/(high - low). There is one scheme for each number of products, and the first whose interval is
 * wide enough is taken. schemes.def has their coefficients, fit_schemes.py finds them; all are about 1, so rounding errors stay
 * small. Their degree is 2^products, where any polynomial of degree 16 would need 6 of them: this function is one of the few that
 * can be had for less.
 *
 * The gradient: with D = dL/dwbar, H = sym(W0'D) and K the derivative of q(E) in the direction -H, which is self-adjoint,
 * dL/dW0 = D Q + 2 W0 K. K follows the forward evaluation step by step.
 *
 * Everything here is symmetric, so products compute the lower half and mirror it.
 *
 * Source: Paterson and Stockmeyer, SIAM J. Comput. 2(1), 1973; Sastre, Linear Algebra Appl. 539, 2018, for products of sums;
 * Higham, Functions of Matrices, 2008, chapters 3 and 8.
 */
#include "norm/polynomial.h"

#include <string.h>

#include "base/base.h"
#include "tensor/gemm.h"

enum {
    MOST = 8,     /* products of a scheme */
    RUN = 64,     /* elements that a sum of matrices takes at once */
    SHARE = 16384 /* and those that a thread does */
};

/* left[i], right[i]: coefficients of B_1 .. in B_(i + 3); value: those of I, B_1 .. */
struct lip__scheme {
    int products;
    double low, high;
    double left[MOST - 1][MOST], right[MOST - 1][MOST], value[MOST + 2];
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

/* ---- symmetric arithmetic ------------------------------------------------------------------------------ */

struct sum {
    size_t count, terms;
    const double *c;
    const float *const *x;
    float *out;
};

LIP__CLONES static void combine_part(const struct sum *s, size_t from, size_t until)
{
    for (size_t at = from; at < until; at += RUN) {
        float sum[RUN] = {0};
        size_t n = until - at < RUN ? until - at : RUN;
        for (size_t t = 0; t < s->terms; t++) {
            const float *x = s->x[t] + at;
            float factor = (float)s->c[t];
            if (n == RUN)
                for (size_t j = 0; j < RUN; j++)
                    sum[j] += factor * x[j];
            else
                for (size_t j = 0; j < n; j++)
                    sum[j] += factor * x[j];
        }
        memcpy(s->out + at, sum, n * sizeof *sum);
    }
}

static void combine_block(void *ctx, size_t i, size_t thread)
{
    const struct sum *s = ctx;

    (void)thread;
    combine_part(s, i * SHARE, (i + 1) * SHARE < s->count ? (i + 1) * SHARE : s->count);
}

/* out = sum_i c[i] x[i] of `count` floats; out may be one of x. */
static void combine(size_t count, size_t terms, const double *c, const float *const *x, float *out)
{
    struct sum s = {count, terms, c, x, out};

    lip__parallel((count + SHARE - 1) / SHARE, combine_block, &s);
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

/* The product rule: c = a db + da b, symmetric. */
static void multiply_rule(size_t k, const float *a, const float *da, const float *b, const float *db, float *c)
{
    lip__gemm_symmetric(false, false, k, k, 1, a, db, da, b, k, 0, c);
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

/* The arrays that the derivative reads again, each (k, k). */
struct arrays {
    float *result, *e;
    float *b[MOST + 1];                       /* B_1 .. */
    float *left[MOST - 1], *right[MOST - 1];  /* of B_3 .. */
    float *rest;
};

static struct arrays lay_out(const struct lip__scheme *s, size_t k, float *memory)
{
    struct arrays x = {.result = memory};
    size_t square = k * k;

    x.e = memory + square;
    memory += 2 * square;
    for (int i = 0; i <= s->products; i++, memory += square)
        x.b[i] = memory;
    for (int i = 0; i + 1 < s->products; i++, memory += 2 * square) {
        x.left[i] = memory;
        x.right[i] = memory + square;
    }
    x.rest = memory;
    return x;
}

float *lip__polynomial_e(float *memory, size_t k)
{
    return memory + k * k;
}

static double slope(const struct lip__scheme *s)
{
    return 2 / (s->high - s->low);
}

void lip__polynomial_value(const struct lip__scheme *s, size_t k, float *memory)
{
    struct arrays x = lay_out(s, k, memory);
    size_t square = k * k;

    combine(square, 1, (double[]){slope(s)}, (const float *[]){x.e}, x.b[0]);
    add_to_diagonal(k, -(s->low + s->high) / (s->high - s->low), x.b[0]);
    multiply(k, x.b[0], x.b[0], x.b[1]);
    for (int i = 0; i + 1 < s->products; i++) {
        combine(square, (size_t)i + 2, s->left[i], (const float *const *)x.b, x.left[i]);
        combine(square, (size_t)i + 2, s->right[i], (const float *const *)x.b, x.right[i]);
        multiply(k, x.left[i], x.right[i], x.b[i + 2]);
    }
    combine(square, (size_t)s->products + 1, s->value + 1, (const float *const *)x.b, x.result);
    add_to_diagonal(k, s->value[0], x.result);
}

float *lip__polynomial_derivative(const struct lip__scheme *s, size_t k, float *memory)
{
    struct arrays x = lay_out(s, k, memory);
    size_t square = k * k;
    float *left = x.rest, *right = left + square, *db[MOST + 1]; /* the direction becomes dB_1, then dL */

    for (int i = 0; i <= s->products; i++)
        db[i] = right + (size_t)(i + 1) * square;
    combine(square, 1, (double[]){slope(s)}, (const float *[]){x.rest}, db[0]);
    multiply_rule(k, x.b[0], db[0], x.b[0], db[0], db[1]);
    for (int i = 0; i + 1 < s->products; i++) {
        combine(square, (size_t)i + 2, s->left[i], (const float *const *)db, left);
        combine(square, (size_t)i + 2, s->right[i], (const float *const *)db, right);
        multiply_rule(k, x.left[i], left, x.right[i], right, db[i + 2]);
    }
    combine(square, (size_t)s->products + 1, s->value + 1, (const float *const *)db, left);
    return left;
}

float *lip__polynomial_direction(const struct lip__scheme *s, size_t k, float *memory)
{
    return lay_out(s, k, memory).rest;
}

size_t lip__polynomial_memory(size_t k, bool keep)
{
    enum { VALUE = 2 + MOST + 1 + 2 * (MOST - 1), DERIVATIVE = 2 + MOST + 1 };

    return (VALUE + (keep ? DERIVATIVE : 0)) * k * k;
}
