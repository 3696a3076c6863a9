/* bjorck.c: the plain loop, product for product as deel-lip does it, and its exact gradient.
 *
 *     W <- (1 + beta) W - beta P(W),   P(W) = W (W'W) if m > n, else (W W') W
 *
 *     g <- (1 + beta) g - beta (g S + A (H + H')),   S = A'A,   H = A'g        (m > n; else mirrored)
 *
 * Each iterate is kept with its Gram matrix S as a record; when the cap is above STORE_ALL only every stride-th one
 * is, and the ones between are computed again on the way back.
 *
 * Source: Bjorck and Bowie, SIAM J. Numer. Anal. 8(2), 1971; semantics.md 1.5 and 1.7.
 */
#include <math.h>
#include <string.h>

#include "norm/rko.h"
#include "tensor/gemm.h"

enum { STORE_ALL = 24 };

/* The arrays of one call: records of mn + kk floats, k = min(m, n). */
struct records {
    size_t m, n, k, size, stride, kept, segment;
    float *kept_at, *segment_at, *spare[2];
};

static long cap(const lip_rko_options *o)
{
    return o->maxiter_bjorck < LIP__MOST_ITERATIONS ? o->maxiter_bjorck : LIP__MOST_ITERATIONS;
}

static struct records lay_out(size_t m, size_t n, const lip_rko_options *o, bool keep, float *scratch)
{
    struct records r = {.m = m, .n = n, .k = m < n ? m : n, .stride = 1};
    size_t most = keep && lip__has_bjorck(o) ? (size_t)cap(o) : 0;

    if (most > STORE_ALL)
        r.stride = (size_t)ceil(sqrt((double)most));
    r.size = m * n + r.k * r.k;
    r.kept = (most + r.stride - 1) / r.stride;
    r.segment = most ? r.stride - 1 : 0;
    r.kept_at = scratch;
    r.segment_at = r.kept_at + r.kept * r.size;
    r.spare[0] = r.segment_at + r.segment * r.size;
    r.spare[1] = r.spare[0] + r.size;
    return r;
}

size_t lip__plain_scratch(size_t m, size_t n, const lip_rko_options *o, bool keep)
{
    struct records r = lay_out(m, n, o, keep, NULL);

    return r.size * (r.kept + r.segment + 2);
}

/* Where iterate j lives while the loop runs. */
static float *record(const struct records *r, size_t j)
{
    return r->kept && j % r->stride == 0 && j / r->stride < r->kept ? r->kept_at + j / r->stride * r->size
                                                                   : r->spare[j % 2];
}

void lip__gram(const float *a, size_t m, size_t n, float *s)
{
    if (m > n)
        lip__gemm_parallel(true, false, n, n, m, 1, a, n, a, n, 0, s, n);
    else
        lip__gemm_parallel(false, true, m, m, n, 1, a, n, a, n, 0, s, m);
}

/* y = p x + q (x S or S x), x (m, n). */
static void times_gram(const struct records *r, float p, const float *x, float q, const float *s, float *y)
{
    size_t m = r->m, n = r->n;

    if (y != x)
        memcpy(y, x, m * n * sizeof *y);
    if (m > n)
        lip__gemm_parallel(false, false, m, n, n, q, x, n, s, n, p, y, n);
    else
        lip__gemm_parallel(false, false, m, n, m, q, s, m, x, n, p, y, n);
}

static float *gram_of(const struct records *r, float *a)
{
    return a + r->m * r->n;
}

static void step(const struct records *r, double beta, float *from, float *to)
{
    times_gram(r, (float)(1 + beta), from, (float)-beta, gram_of(r, from), to);
}

float *lip__plain_start(size_t m, size_t n, const lip_rko_options *o, bool keep, float *scratch, float **gram)
{
    struct records r = lay_out(m, n, o, keep, scratch);
    float *a = record(&r, 0);

    *gram = gram_of(&r, a);
    return a;
}

const float *lip__plain_loop(size_t m, size_t n, const lip_rko_options *o, bool keep, float *scratch, int *iterations,
                             double *residual)
{
    struct records r = lay_out(m, n, o, keep, scratch);
    float *a = record(&r, 0);
    double change = 9 * lip__norm(a, m * n); /* deel-lip starts from 10 W */
    size_t j = 0;

    *residual = 0;
    while ((long)j < cap(o) && change >= o->eps_bjorck) {
        float *next = record(&r, j + 1);
        if (j)
            lip__gram(a, m, n, gram_of(&r, a));
        step(&r, o->beta_bjorck, a, next);
        change = *residual = lip__distance(next, a, m * n);
        a = next;
        j++;
    }
    *iterations = (int)j;
    return a;
}

/* g <- (1 + beta) g - beta (g S + A (H + H')); h and sum are (k, k), out is (m, n), not g. */
static void step_backward(const struct records *r, double beta, float *a, const float *g, float *h, float *out)
{
    size_t m = r->m, n = r->n, k = r->k;
    float b = (float)beta;

    times_gram(r, 1 + b, g, -b, gram_of(r, a), out);
    if (m > n)
        lip__gemm_parallel(true, false, k, k, m, 1, a, n, g, n, 0, h, k);
    else
        lip__gemm_parallel(false, true, k, k, n, 1, g, n, a, n, 0, h, k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j <= i; j++)
            h[i * k + j] = h[j * k + i] = h[i * k + j] + h[j * k + i];
    if (m > n)
        lip__gemm_parallel(false, false, m, n, n, -b, a, n, h, n, 1, out, n);
    else
        lip__gemm_parallel(false, false, m, n, m, -b, h, m, a, n, 1, out, n);
}

/* The iterates from..until-1 of one segment: the first is kept, the others are computed from it. */
static void recompute(const struct records *r, double beta, size_t from, size_t until)
{
    float *a = record(r, from);

    for (size_t j = from + 1; j < until; j++) {
        float *next = r->segment_at + (j - from - 1) * r->size;
        step(r, beta, a, next);
        lip__gram(next, r->m, r->n, gram_of(r, next));
        a = next;
    }
}

const float *lip__plain_backward(size_t m, size_t n, const lip_rko_options *o, int iterations, double coef, const float *g,
                                 float *scratch)
{
    struct records r = lay_out(m, n, o, true, scratch);
    float *x = r.spare[0], *y = r.spare[1], *h = gram_of(&r, r.spare[0]);
    size_t until = (size_t)iterations;

    for (size_t i = 0; i < m * n; i++)
        x[i] = (float)coef * g[i];
    while (until) {
        size_t from = (until - 1) / r.stride * r.stride;
        recompute(&r, o->beta_bjorck, from, until);
        for (size_t j = until; j-- > from;) {
            float *a = j == from ? record(&r, j) : r.segment_at + (j - from - 1) * r.size, *swap = x;
            step_backward(&r, o->beta_bjorck, a, x, h, y);
            x = y;
            y = swap;
        }
        until = from;
    }
    return x;
}
