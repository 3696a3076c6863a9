/* rational.c: the limit of the loop as a sum of resolvents, for Gram matrices G = W0'W0 too near to singular for a
 * polynomial.
 *
 * The limit is q(G) = G^(-1/2) = 2/pi times the integral of (G + x^2)^(-1) over x > 0. With x = low^(1/2) sn(u)/cn(u),
 * elliptic functions of modulus (1 - low/high)^(1/2), the midpoint rule is exact on [low, high] but for about
 * 4 exp(-2 pi^2 terms / (log(high/low) + 3)), so that the smallest eigenvalue costs only its logarithm:
 *
 *     Q = sum of c_j (G + a_j)^(-1),  c_j, a_j > 0
 *
 * Its derivative in the direction -H is the sum of F_j H F_j with F_j = c_j^(1/2) (G + a_j)^(-1), which is what
 * polynomial.c works with. All terms are positive, so nothing cancels. G and the inverses are in double, as rounding of G
 * moves q by that over twice the smallest eigenvalue.
 *
 * Source: Hale, Higham and Trefethen, SIAM J. Numer. Anal. 46(5), 2008; elliptic functions by descending Landen
 * transformations, Abramowitz and Stegun, 16.4.
 */
#include "norm/rational.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "norm/polynomial.h"
#include "tensor/gemm.h"

enum {
    LANES = 4, /* matrices that are inverted at once */
    PARTS = 4  /* block columns of G */
};

size_t lip__rational_terms(double low, double high)
{
    double error = 5e-8, terms = ceil((log(high / low) + 3) * log(8 / error) / (2 * M_PI * M_PI));

    return terms <= LIP__POLYNOMIAL_TERMS ? (size_t)terms : 0;
}

/* c_j and a_j of the midpoint rule. */
static void resolvents(double low, double high, size_t terms, double *c, double *a)
{
    enum { MEANS = 16 }; /* double precision takes 5 */
    double mean[MEANS] = {1}, half[MEANS] = {sqrt(1 - low / high)}, other = sqrt(low / high), quarter;
    int last = 0;

    for (; last + 1 < MEANS && half[last] > 1e-16 * mean[last]; last++) {
        mean[last + 1] = (mean[last] + other) / 2;
        half[last + 1] = (mean[last] - other) / 2;
        other = sqrt(mean[last] * other);
    }
    quarter = M_PI / (2 * mean[last]);
    for (size_t j = 0; j < terms; j++) {
        double phi = ldexp(mean[last], last) * quarter * ((double)j + 0.5) / (double)terms, sn, cn;
        for (int i = last; i > 0; i--)
            phi = (phi + asin(half[i] / mean[i] * sin(phi))) / 2;
        sn = sin(phi);
        cn = cos(phi);
        a[j] = low * (sn / cn) * (sn / cn);
        c[j] = 2 * quarter * sqrt(low) / (M_PI * (double)terms) * sqrt(cn * cn + low / high * sn * sn) / (cn * cn);
    }
}

struct inverses {
    size_t m, n, k, rows, terms, lanes;
    const float *w;
    double t, c[LIP__POLYNOMIAL_TERMS], a[LIP__POLYNOMIAL_TERMS];
    double *wide, *gram, *lane; /* W0's rows, or its columns, some at a time; G; LANES matrices in the place of those */
    size_t first;               /* of those rows */
    float *f, *e;
    bool failed[LANES];
};

/* A part of the columns of G from the diagonal down, += those of some rows. */
static void add_gram(void *ctx, size_t i, size_t thread)
{
    const struct inverses *x = ctx;
    size_t k = x->k, from = k * i / PARTS, columns = k * (i + 1) / PARTS - from;
    bool tall = x->m > x->n;
    size_t ld = tall ? k : x->rows;
    const double *wide = x->wide + (tall ? from : from * ld);

    (void)thread;
    lip__dgemm(tall, !tall, k - from, columns, x->rows, 1, wide, ld, wide, ld, x->first ? 1 : 0, x->gram + from * k + from, k);
}

/* Some rows of the longer side, divided: (rows, k), or (k, rows) where columns are. */
static void widen(void *ctx, size_t i, size_t thread)
{
    const struct inverses *x = ctx;
    bool tall = x->m > x->n;
    size_t height = tall ? x->rows : x->k, width = tall ? x->k : x->rows;

    (void)thread;
    for (size_t row = height * i / PARTS; row < height * (i + 1) / PARTS; row++) {
        const float *from = x->w + (tall ? (x->first + row) * x->n : row * x->n + x->first);
        for (size_t j = 0; j < width; j++)
            x->wide[row * width + j] = (double)from[j] / x->t;
    }
}

static void gram(struct inverses *x)
{
    size_t longer = x->m > x->n ? x->m : x->n, most = LANES * x->k;

    for (x->first = 0; x->first < longer; x->first += x->rows) {
        x->rows = longer - x->first < most ? longer - x->first : most;
        lip__parallel(PARTS, widen, x);
        lip__parallel(PARTS, add_gram, x);
    }
    for (size_t i = 0; i < x->k; i++)
        for (size_t j = 0; j <= i; j++)
            x->e[i * x->k + j] = x->e[j * x->k + i] = (float)((i == j) - x->gram[i * x->k + j]);
}

/* Every LANES-th inverse, as its F. */
static void invert(void *ctx, size_t lane, size_t thread)
{
    struct inverses *x = ctx;
    size_t k = x->k;
    double *own = x->lane + lane * k * k;

    (void)thread;
    for (size_t term = lane; term < x->terms; term += x->lanes) {
        float *f = x->f + term * k * k;
        double scale = sqrt(x->c[term]);
        for (size_t i = 0; i < k; i++) {
            memcpy(own + i * k, x->gram + i * k, (i + 1) * sizeof *own);
            own[i * k + i] += x->a[term];
        }
        if (lip__inverse_in(k, own)) {
            x->failed[lane] = true;
            return;
        }
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j <= i; j++)
                f[i * k + j] = f[j * k + i] = (float)(scale * own[i * k + j]);
    }
}

bool lip__rational_value(const float *w, size_t m, size_t n, double t, double low, double high, size_t terms,
                         float *memory)
{
    size_t k = m < n ? m : n;
    struct inverses x = {.m = m, .n = n, .k = k, .terms = terms, .lanes = terms < LANES ? terms : LANES, .w = w,
                         .t = t, .f = lip__polynomial_f(memory, k), .e = lip__polynomial_e(memory, k)};
    bool good = true;

    resolvents(low, high, terms, x.c, x.a);
    x.gram = lip__polynomial_doubles(memory, k);
    x.lane = x.wide = x.gram + k * k;
    gram(&x);
    lip__parallel(x.lanes, invert, &x);
    for (size_t i = 0; i < LANES; i++)
        good &= !x.failed[i];
    for (size_t i = 0; i < terms; i++)
        x.c[i] = sqrt(x.c[i]);
    if (good)
        lip__polynomial_sum(k, terms, x.c, memory);
    return good;
}
