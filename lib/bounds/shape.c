/* shape.c: one link, with its rounding. */
#include "bounds/shape.h"

#include <string.h>

#include "bounds/factor.h"
#include "tensor/gemm.h"

#define SCALE 0.7 /* of multipliers whose row sums are 1: certify.md C3 */
#define SMALL 1e-120

lip_err lip__shape_open(size_t widest, struct lip__shape *s, lip_error *err)
{
    size_t n = widest ? widest : 1;
    double **square[] = {&s->q, &s->next, &s->v, &s->h, &s->c, &s->t}, **row[] = {&s->alpha, &s->delta, &s->s};
    bool whole = true;

    *s = (struct lip__shape){.widest = n};
    for (size_t i = 0; i < sizeof square / sizeof *square; i++)
        whole = (*square[i] = lip__alloc(n, n * sizeof(double))) && whole;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        whole = (*row[i] = lip__alloc(n, sizeof(double))) && whole;
    whole = (s->u = lip__alloc(n, sizeof *s->u)) && whole;
    whole = (s->rows = lip__alloc(n, sizeof *s->rows)) && whole;
    return whole ? LIP_OK : lip__nomem(err, 6 * n * n * sizeof(double));
}

void lip__shape_close(struct lip__shape *s)
{
    double *all[] = {s->q, s->next, s->v, s->h, s->c, s->t, s->alpha, s->delta, s->s};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lip__free(all[i]);
    lip__free(s->rows);
    lip__free(s->u);
}

/* The mean of q (n, n) and its transpose, plus `more` on the diagonal. */
static void settle(size_t n, double *q, double more)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            q[i * n + j] = q[j * n + i] = (q[i * n + j] + q[j * n + i]) / 2;
    for (size_t i = 0; i < n; i++) /* the sums above and this one are rounded too */
        q[i * n + i] = lip__up((q[i * n + i] + more) * (1 + 2 * LIP__U));
}

void lip__shape_first(const struct lip__chain *c, double *gram)
{
    double f = lip__norm_up(c->first, c->in * c->n), error;

    lip__dgemm(true, false, c->n, c->n, c->in, 1, c->first, c->n, c->first, c->n, 0, gram, c->n);
    error = lip__gamma(c->in + 2) * f * f + c->off * (2 * f + c->off);
    settle(c->n, gram, (error + 2 * LIP__U * f * f + SMALL) * (1 + 16 * LIP__U));
}

void lip__shape_global(const struct lip__link *link, struct lip__shape *s)
{
    for (size_t i = 0; i < link->m; i++) {
        s->alpha[i] = 0;
        s->delta[i] = link->b[i] != 0;
    }
}

/* Multipliers with N >= (2 - SCALE) I: S^2 Q has absolute row sums of SCALE. */
static void choose(const struct lip__shape *s, size_t m, size_t u)
{
    for (size_t i = 0; i < u; i++) {
        double sum = 0;

        for (size_t j = 0; j < u; j++)
            sum += fabs(s->q[s->u[i] * m + s->u[j]]);
        s->s[s->u[i]] = sum > 0 ? sqrt(SCALE / sum) : 1;
    }
}

/* c (u, u) <- N. Returns a number below its smallest eigenvalue, or one below 0. *off: the norm of its rounding errors.
 */
static double make_n(const struct lip__shape *s, size_t m, size_t u, double *off)
{
    double most = 0, sum, square = 0, shift = 1e-7, trace = 0;

    for (size_t i = 0; i < u; i++) {
        double si = s->s[s->u[i]];

        sum = 0;
        for (size_t j = 0; j < u; j++) {
            double q = s->q[s->u[i] * m + s->u[j]], x = si * q * s->s[s->u[j]];

            sum += fabs(q);
            square += x * x;
            s->c[i * u + j] = (i == j ? 2 : 0) - x;
        }
        most = fmax(most, si * si * sum);
        trace += s->c[i * u + i];
    }
    *off = 4 * LIP__U * (sqrt(square) + 2 * sqrt((double)u)) * lip__lift(u * u);
    most *= lip__lift(u);
    if (most < 1.9)
        return lip__down(2 - most);
    /* s was chosen by somebody else: N - shift I has a factor, but for its rounding. */
    memcpy(s->next, s->c, u * u * sizeof *s->c);
    for (size_t i = 0; i < u; i++)
        s->next[i * u + i] -= shift;
    if (!lip__cholesky(u, s->next))
        return -1;
    return shift - *off - (lip__gamma(u + 4) * trace + 4 * LIP__U) * 2;
}

/* v (rows, n) <- diag(a + alpha b) M at the rows that matter; those that do in s->rows. Returns how many. */
static size_t make_v(const struct lip__link *link, const struct lip__shape *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < link->m; i++) {
        double factor = link->a[i] + s->alpha[i] * link->b[i];

        if (factor == 0)
            continue;
        s->rows[kept] = i;
        for (size_t j = 0; j < link->n; j++)
            s->v[kept * link->n + j] = factor * link->matrix[i * link->n + j];
        kept++;
    }
    return kept;
}

static double frobenius(const double *x, size_t n)
{
    return lip__norm_up(x, n);
}

bool lip__shape_advance(const struct lip__link *link, struct lip__shape *s, bool own)
{
    size_t m = link->m, n = link->n, u = 0, kept;
    double q = frobenius(s->q, m * m), v, t, off_v, off_t, off_h = 0, off, lower = 0, kappa = 1, matrix, factor = 0;
    double ratio = 0, scale = 0, largest = 0;

    if (!(q > SMALL) || !(q < 1 / SMALL))
        return false;
    for (size_t i = 0; i < m; i++) {
        largest = fmax(largest, fabs(link->a[i]) + fabs(link->b[i]));
        if (s->delta[i] > 0)
            s->u[u++] = i;
    }
    matrix = largest * frobenius(link->matrix, m * n);
    kept = make_v(link, s);
    v = frobenius(s->v, kept * n);
    off_v = (4 * LIP__U * matrix + largest * link->off) * (1 + 16 * LIP__U);

    /* c <- the rows of Q that V meets, for U and for the rows of V; t = Q V there, (m, n). */
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < kept; j++)
            s->c[i * kept + j] = s->q[i * m + s->rows[j]];
    lip__dgemm(false, false, m, n, kept, 1, s->c, kept, s->v, n, 0, s->t, n);
    t = frobenius(s->t, m * n);
    off_t = (lip__gamma(kept + 2) * q * v + q * off_v) * (1 + 16 * LIP__U);

    /* h (u, n) */
    if (!own)
        choose(s, m, u);
    for (size_t i = 0; i < u; i++) {
        size_t row = s->u[i];
        double si = s->s[row], d = s->delta[row] / si;

        scale = fmax(scale, si);
        ratio = fmax(ratio, d);
        for (size_t j = 0; j < n; j++)
            s->h[i * n + j] = si * s->t[row * n + j] + d * link->b[row] * link->matrix[row * n + j];
    }
    if (u) {
        off_h = scale * off_t + 8 * LIP__U * (scale * t + ratio * matrix) + ratio * largest * link->off;
        lower = make_n(s, m, u, &off);
        for (size_t i = 0; i < u; i++)
            factor += s->c[i * u + i];
        if (!(lower > 0) || !lip__cholesky(u, s->c))
            return false;
        /* C C' = N + E; N >= (1 - |E| / lambda) C C', lambda below C C'. */
        off += lip__gamma(u + 4) * factor * 2;
        lower -= off;
        if (!(lower > 4 * off))
            return false;
        kappa = 1 / (1 - off / lower) * (1 + 16 * LIP__U);
        lip__substitute(u, n, s->c, s->h, false);
    }

    /* V'Q V and the rest. */
    for (size_t i = 0; i < kept; i++)
        memmove(s->t + i * n, s->t + s->rows[i] * n, n * sizeof *s->t);
    lip__dgemm(true, false, n, n, kept, 1, s->v, n, s->t, n, 0, s->q, n);
    off = lip__gamma(kept + 2) * v * t + v * off_t + off_v * (t + off_t);
    if (u) {
        double y = frobenius(s->h, u * n), off_y = (lip__gamma(u + 4) * sqrt(factor * 2) * y + off_h) / sqrt(lower);

        lip__dgemm(true, false, n, n, u, kappa, s->h, n, s->h, n, 1, s->q, n);
        off += kappa * off_y * (2 * y + off_y) + lip__gamma(u + 6) * (v * t + kappa * y * y);
    }
    off += 2 * LIP__U * frobenius(s->q, n * n) + SMALL;
    settle(n, s->q, off * (1 + 1e-10));
    return isfinite(off);
}

double lip__shape_pair(size_t n, const double *q, size_t c, size_t j)
{
    double square = c == j ? q[c * n + c] : q[c * n + c] + q[j * n + j] - 2 * q[c * n + j];
    double size = fabs(q[c * n + c]) + fabs(q[j * n + j]) + 2 * fabs(q[c * n + j]);

    return lip__up(sqrt(fmax(0, square) + 4 * LIP__U * size) * (1 + 4 * LIP__U));
}
