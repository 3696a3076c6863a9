/* dense.c: the spectral norm of a matrix, enclosed.
 *
 * Let a be (m, n), n <= m, and V any (n, n) matrix; here approximate eigenvectors of a'a, which nobody needs to trust.
 * For x = V y, |x|^2 = y'V'Vy >= (1 - delta)|y|^2 with delta >= ||V'V - I||, so V is regular if delta < 1 and
 *
 *     ||a||^2 <= ||(aV)'(aV)|| / (1 - delta) <= max_i sum_j |(aV)'(aV)|_ij / (1 - delta).
 *
 * With B = fl(aV) = aV - E, |E| <= gamma_n |a||V|, and G = fl(B'B), |G - B'B| <= gamma_m |B|'|B|, the row sums are at
 * most
 *
 *     |G|1 + gamma_m |B|'(|B|1) + |B|'e + gamma_n |V|'|a|'(|B|1) + gamma_n |V|'|a|'e,    e = gamma_n |a|(|V|1)
 *     delta = max |fl(V'V) - I|1 + gamma_n |V|'(|V|1) + u,
 *
 * so beyond three products only vectors are multiplied. From below, ||a|| >= |av| / |v| for any v, and |av| >= |fl(av)|
 * - gamma_n | |a||v| |. Where LAPACK fails, and wherever they are better, the column norms bound from below, the
 * Frobenius norm and sqrt(||a||_1 ||a||_inf) from above.
 *
 * Where there is no time for eigenvectors, Lanczos' method finds a v, and Cholesky's algorithm proves that a little
 * more than |av|^2 bounds fl(a'a), which is off by at most gamma_m ||a||_F^2.
 *
 * Source: Rump, "Verified bounds for singular values, in particular for the spectral norm of a matrix and its inverse",
 * BIT 51, 2011.
 */
#include <stdlib.h>
#include <string.h>

#include "bounds/enclose.h"
#include "bounds/factor.h"
#include "bounds/ritz.h"
#include "tensor/gemm.h"

#define NOTHING        1e7 /* flops that are always affordable */
#define FLOPS_A_SECOND 4e9 /* at least, also of a machine that has other things to do */

lip_err lip__arithmetic_holds(lip_error *err)
{
    volatile double one = 1, half = LIP__U, tiny = 0x1p-1074;
    volatile float small = 0x1p-149f;

    /* Ties go to the even side, up and down. */
    if (one + half == 1 && one - half / 2 == 1 && tiny * one == 0x1p-1074 && (double)small == 0x1p-149 &&
        small * (float)one > 0)
        return LIP_OK;
    return lip__fail(
        err, LIP_ENUMERIC,
        "arithmetic does not round to nearest here, or flushes subnormal numbers to 0: nothing can be proved");
}

double lip__norm_up(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum == 0 && n == 0 ? 0 : lip__up(sqrt(sum * lip__lift(n)) * (1 + 4 * LIP__U)) + LIP__TINY;
}

double lip__norm_down(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return isfinite(sum) ? fmax(0, lip__down(sqrt(sum / lip__lift(n)) * (1 - 4 * LIP__U) - LIP__TINY)) : 0;
}

void lip__abs_times(size_t m, size_t n, const double *a, const double *x, double *y)
{
    double lift = lip__lift(n);

    for (size_t i = 0; i < m; i++) {
        double sum = 0;

        for (size_t j = 0; j < n; j++)
            sum += fabs(a[i * n + j]) * x[j];
        y[i] = sum * lift;
    }
}

void lip__abs_times_transposed(size_t m, size_t n, const double *a, const double *x, double *y)
{
    double lift = lip__lift(m);

    memset(y, 0, n * sizeof *y);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            y[j] += fabs(a[i * n + j]) * x[i];
    for (size_t j = 0; j < n; j++)
        y[j] *= lift;
}

double *lip__widen(const float *x, size_t n)
{
    double *wide = lip__alloc(n, sizeof *wide);

    for (size_t i = 0; wide && i < n; i++)
        wide[i] = x[i];
    return wide;
}

double lip__abs_norm(size_t m, size_t n, const double *a, double *work)
{
    double *x = work, *z = x + n, *y = z + n, best = INFINITY;

    for (size_t j = 0; j < n; j++)
        x[j] = 1;
    for (int steps = 0; steps < 12 && n; steps++) {
        double most = 0, ratio = 0;

        lip__abs_times(m, n, a, x, y);
        lip__abs_times_transposed(m, n, a, y, z);
        for (size_t j = 0; j < n; j++) {
            ratio = fmax(ratio, z[j] / x[j] * (1 + 4 * LIP__U));
            most = fmax(most, z[j]);
        }
        best = fmin(best, ratio);
        for (size_t j = 0; j < n; j++)
            x[j] = fmax(most > 0 ? z[j] / most : 0, 1e-6);
    }
    return n ? sqrt(best) * (1 + 4 * LIP__U) + LIP__TINY : 0;
}

/* What needs no eigenvectors: norms of rows and columns. work: n doubles. */
static void simple(size_t m, size_t n, const double *a, lip_interval *norm, double *work)
{
    double frobenius = lip__norm_up(a, m * n), rows = 0, columns = 0, lower = 0;

    memset(work, 0, n * sizeof *work);
    for (size_t i = 0; i < m; i++) {
        double sum = 0;

        for (size_t j = 0; j < n; j++) {
            sum += fabs(a[i * n + j]);
            work[j] += fabs(a[i * n + j]);
        }
        rows = fmax(rows, sum);
        lower = fmax(lower, lip__norm_down(a + i * n, n));
    }
    for (size_t j = 0; j < n; j++)
        columns = fmax(columns, work[j]);
    memset(work, 0, n * sizeof *work);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            work[j] += a[i * n + j] * a[i * n + j];
    for (size_t j = 0; j < n; j++)
        lower = fmax(lower, sqrt(work[j] / lip__lift(m)) * (1 - 4 * LIP__U));
    norm->lower = lower;
    norm->upper = fmin(frobenius, sqrt(rows * lip__lift(n) * columns * lip__lift(m)) * (1 + 8 * LIP__U) + LIP__TINY);
}

/* The upper bound of the derivation above. a (m, n); t (n, n): V's columns as rows; b = fl(a V) (m, n); g (n, n) and
 * work (2 m + 4 n) are scratch. INFINITY where it proves nothing. */
static double row_sums(size_t m, size_t n, const double *a, const double *t, const double *b, double *g, double *work)
{
    double *ones = work, *v1 = ones + n, *s = v1 + n, *ts = s + n, *b1 = ts + n, *e = b1 + m;
    double gamma_m = lip__gamma(m), gamma_n = lip__gamma(n), lift = lip__lift(n + 8), most = 0, delta = 0;

    for (size_t i = 0; i < n; i++)
        ones[i] = 1;
    lip__abs_times_transposed(n, n, t, ones, v1); /* |V|1 */
    lip__abs_times(m, n, b, ones, b1);
    lip__abs_times(m, n, a, v1, e);
    for (size_t i = 0; i < m; i++)
        e[i] *= gamma_n;

    lip__dgemm(false, true, n, n, n, 1, t, n, t, n, 0, g, n); /* V'V */
    for (size_t i = 0; i < n; i++)
        g[i * n + i] -= 1;
    lip__abs_times(n, n, g, ones, s);
    lip__abs_times(n, n, t, v1, ts);
    for (size_t i = 0; i < n; i++)
        delta = fmax(delta, (s[i] + gamma_n * ts[i] + 2 * LIP__U) * lift);
    if (!(delta < 0.5))
        return INFINITY;

    lip__dgemm(true, false, n, n, m, 1, b, n, b, n, 0, g, n);
    lip__abs_times(n, n, g, ones, g); /* the sums go where row 0 was, which is read first */
    lip__abs_times_transposed(m, n, b, b1, s);
    for (size_t i = 0; i < n; i++)
        g[i] += gamma_m * s[i];
    lip__abs_times_transposed(m, n, b, e, s);
    for (size_t i = 0; i < n; i++)
        g[i] += s[i];
    for (size_t i = 0; i < m; i++) /* both of the last two terms at once */
        b1[i] = (b1[i] + e[i]) * (1 + 4 * LIP__U);
    lip__abs_times_transposed(m, n, a, b1, s);
    lip__abs_times(n, n, t, s, ts);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, (g[i] + gamma_n * ts[i]) * lift);
    return sqrt((most + LIP__TINY) / (1 - delta) * (1 + 8 * LIP__U)) * (1 + 4 * LIP__U);
}

/* At most |a v| / |v|; av (m) as computed, then overwritten. scratch: n. */
static double stretched(size_t m, size_t n, const double *a, const double *v, double *av, double *scratch)
{
    double length = lip__norm_up(v, n), found = lip__norm_down(av, m);

    for (size_t j = 0; j < n; j++)
        scratch[j] = fabs(v[j]);
    lip__abs_times(m, n, a, scratch, av);
    return fmax(0, lip__down(found - lip__gamma(n) * lip__norm_up(av, m)) / length * (1 - 4 * LIP__U));
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

/* a (m, n) with n <= m, its largest entry in [1, 2). */
static lip_err tall(size_t m, size_t n, const double *a, lip_interval *norm, double *sigma, lip_error *err)
{
    double *t = lip__alloc(n * n, sizeof *t), *g = lip__alloc(n * n, sizeof *g), *b = lip__alloc(m * n, sizeof *b);
    double *work = lip__alloc(2 * m + 4 * n, sizeof *work);
    lip_err rc = LIP_OK;

    if (!t || !g || !b || !work) {
        rc = lip__nomem(err, (2 * n * n + m * n) * sizeof *t);
        goto done;
    }
    simple(m, n, a, norm, work);
    lip__dgemm(true, false, n, n, m, 1, a, n, a, n, 0, t, n);
    switch (lip__eigen(n, t, g)) {
    case 0:
        break;
    case -1:
        rc = lip__nomem(err, n * n * sizeof *t);
        goto done;
    default: /* no vectors; what is simple holds */
        goto done;
    }
    lip__dgemm(false, true, m, n, n, 1, a, n, t, n, 0, b, n);
    norm->upper = fmin(norm->upper, row_sums(m, n, a, t, b, g, work));
    {
        double *top = work; /* a v for v of the largest eigenvalue */

        for (size_t i = 0; i < m; i++)
            top[i] = b[i * n + n - 1];
        norm->lower = fmax(norm->lower, stretched(m, n, a, t + (n - 1) * n, top, g));
    }
    for (size_t j = 0; sigma && j < n; j++) { /* |a v| of each approximate vector */
        double sum = 0;

        for (size_t i = 0; i < m; i++)
            sum += b[i * n + j] * b[i * n + j];
        sigma[j] = sqrt(sum);
    }
    if (sigma)
        qsort(sigma, n, sizeof *sigma, descending);
done:
    lip__free(work);
    lip__free(b);
    lip__free(g);
    lip__free(t);
    return rc;
}

/* ---- in a hurry ------------------------------------------------------------------------------------------ */

double lip__enclose_flops(double m, double n)
{
    double few = fmin(m, n);

    return few * few * (4 * fmax(m, n) + 12 * few);
}

bool lip__affordable(uint64_t deadline, double flops)
{
    return !deadline || flops < NOTHING || flops < FLOPS_A_SECOND * lip__seconds_until(deadline);
}

struct square {
    size_t n;
    const double *a;
};

static void times(void *ctx, const double *x, double *y)
{
    const struct square *s = ctx;

    lip__dgemm(false, false, s->n, 1, s->n, 1, s->a, s->n, x, 1, 0, y, 1);
}

/* As tall, without eigenvectors. */
static lip_err hurry(size_t m, size_t n, const double *a, uint64_t deadline, lip_interval *norm, lip_error *err)
{
    double *gram = lip__alloc(n * n, sizeof *gram), *factor = lip__alloc(n * n, sizeof *factor), guess, top, square;
    double *v = lip__alloc((LIP__RITZ_STEPS + 1) * n, sizeof *v), *work = lip__alloc(m + n, sizeof *work),
           *at = v + LIP__RITZ_STEPS * n;
    lip_err rc = gram && factor && v && work ? LIP_OK : lip__nomem(err, 2 * n * n * sizeof *gram);

    if (rc)
        goto done;
    simple(m, n, a, norm, work);
    if (!lip__affordable(deadline, 2.0 * (double)n * (double)n * (double)m))
        goto done;
    lip__dgemm(true, false, n, n, m, 1, a, n, a, n, 0, gram, n);
    switch (lip__ritz(n, times, &(struct square){n, gram}, lip__part_of(deadline, 0.5), v)) {
    case 0:
        break;
    case -1:
        rc = lip__nomem(err, LIP__RITZ_STEPS * n * sizeof *v);
        goto done;
    default:
        goto done;
    }
    lip__dgemm(false, false, m, 1, n, 1, a, n, at, 1, 0, work, 1);
    norm->lower = fmax(norm->lower, stretched(m, n, a, at, work, v));
    guess = norm->lower * norm->lower * (1 + 1e-9);
    top = lip__top_eigenvalue(n, gram, &guess, deadline, factor, NULL);
    square = lip__norm_up(a, m * n);
    if (top >= 0)
        norm->upper = fmin(norm->upper,
                           lip__up(sqrt((top + lip__gamma(m + 2) * square * square) * (1 + 8 * LIP__U))) + LIP__TINY);
done:
    lip__free(work);
    lip__free(v);
    lip__free(factor);
    lip__free(gram);
    return rc;
}

lip_err lip__enclose(const double *a, size_t m, size_t n, lip_interval *norm, double *sigma, lip_error *err)
{
    bool whole;

    return lip__enclose_until(a, m, n, 0, norm, sigma, &whole, err);
}

lip_err lip__enclose_until(const double *a, size_t m, size_t n, uint64_t deadline, lip_interval *norm, double *sigma,
                           bool *whole, lip_error *err)
{
    size_t few = m < n ? m : n, many = m < n ? n : m;
    double largest = 0, *copy;
    int exponent;
    lip_err rc;

    *norm = (lip_interval){0, 0};
    *whole = lip__affordable(deadline, lip__enclose_flops((double)m, (double)n));
    for (size_t i = 0; i < m * n; i++) {
        if (!isfinite(a[i]))
            return lip__fail(err, LIP_ENONFINITE, "bound: entry %zu of a (%zu, %zu) matrix is %g", i, m, n, a[i]);
        largest = fmax(largest, fabs(a[i]));
    }
    for (size_t i = 0; sigma && i < few; i++)
        sigma[i] = 0;
    if (largest == 0)
        return LIP_OK;
    copy = lip__alloc(m * n, sizeof *copy);
    if (!copy)
        return lip__nomem(err, m * n * sizeof *copy);
    exponent = ilogb(largest);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            copy[m < n ? j * m + i : i * n + j] = ldexp(a[i * n + j], -exponent);
    for (size_t i = 0; sigma && i < few; i++)
        sigma[i] = NAN;
    rc = *whole ? tall(many, few, copy, norm, sigma, err) : hurry(many, few, copy, deadline, norm, err);
    lip__free(copy);
    norm->lower = ldexp(norm->lower, exponent);
    norm->upper = ldexp(norm->upper, exponent);
    for (size_t i = 0; sigma && i < few; i++)
        sigma[i] = ldexp(sigma[i], exponent);
    return rc;
}

lip_err lip_bound_matrix(const float *a, size_t m, size_t n, lip_interval *norm, double *sigma_min, lip_error *err)
{
    size_t few = m < n ? m : n, at;
    double *wide, *sigma;
    lip_err rc = lip__arithmetic_holds(err);

    *norm = (lip_interval){0, 0};
    if (sigma_min)
        *sigma_min = 0;
    if (rc || few == 0)
        return rc;
    if (!lip__all_finite(a, m * n, &at))
        return lip__fail(err, LIP_ENONFINITE, "bound: entry [%zu,%zu] of a (%zu, %zu) matrix is %g", at / n, at % n, m,
                         n, (double)a[at]);
    wide = lip__widen(a, m * n);
    sigma = sigma_min ? lip__alloc(few, sizeof *sigma) : NULL;
    if (!wide || (sigma_min && !sigma))
        rc = lip__nomem(err, m * n * sizeof *wide);
    else
        rc = lip__enclose(wide, m, n, norm, sigma, err);
    if (!rc && sigma_min)
        *sigma_min = sigma[few - 1];
    lip__free(sigma);
    lip__free(wide);
    return rc;
}
