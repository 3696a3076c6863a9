/* factor.c: Cholesky's algorithm and substitution by blocks. */
#include "bounds/factor.h"

#include <string.h>

#include "bounds/enclose.h"
#include "tensor/gemm.h"

enum { BLOCK = 32 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A block on the diagonal; rows are n apart. */
LIP__CLONES static bool cholesky_block(size_t size, size_t n, double *a)
{
    for (size_t j = 0; j < size; j++) {
        double pivot = a[j * n + j], inverse;

        for (size_t k = 0; k < j; k++)
            pivot -= a[j * n + k] * a[j * n + k];
        if (!(pivot > 0) || !isfinite(pivot))
            return false;
        pivot = a[j * n + j] = sqrt(pivot);
        inverse = pivot;
        for (size_t i = j + 1; i < size; i++) {
            double sum = a[i * n + j];

            for (size_t k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = sum / inverse;
        }
    }
    return true;
}

/* Rows below the block: each x with x C' = what stands there. Side by side, so that many are solved at once. */
LIP__CLONES static void solve_right(size_t rows, size_t size, size_t n, const double *c, double *a)
{
    double x[BLOCK * BLOCK];

    for (size_t at = 0; at < rows; at += BLOCK, a += BLOCK * n) {
        size_t some = least(BLOCK, rows - at);

        for (size_t j = 0; j < size; j++)
            for (size_t i = 0; i < BLOCK; i++)
                x[j * BLOCK + i] = i < some ? a[i * n + j] : 0;
        for (size_t j = 0; j < size; j++) {
            double *row = x + j * BLOCK;

            for (size_t k = 0; k < j; k++)
                for (size_t i = 0; i < BLOCK; i++)
                    row[i] -= x[k * BLOCK + i] * c[j * n + k];
            for (size_t i = 0; i < BLOCK; i++)
                row[i] /= c[j * n + j];
        }
        for (size_t i = 0; i < some; i++)
            for (size_t j = 0; j < size; j++)
                a[i * n + j] = x[j * BLOCK + i];
    }
}

bool lip__cholesky(size_t n, double *a)
{
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t size = least(BLOCK, n - at), rest = n - at - size;
        double *corner = a + at * n + at, *below = corner + size * n;

        if (!cholesky_block(size, n, corner))
            return false;
        solve_right(rest, size, n, corner, below);
        /* The lower triangle of what is left, in strips. */
        for (size_t i = 0; i < rest; i += BLOCK) {
            size_t rows = least(BLOCK, rest - i);

            lip__dgemm(false, true, rows, i + rows, size, -1, below + i * n, n, below, n, 1, below + i * n + size, n);
        }
    }
    return true;
}

/* ---- the largest eigenvalue --------------------------------------------------------------------------------
 *
 * If Cholesky's algorithm runs to its end on guess I - a, that is R'R + E with ||E|| <= gamma_{n+2} ||R||_F^2, and
 * ||R||_F^2 = tr(R'R) <= tr(guess I - a) / (1 - gamma_{n+2}). Source: Rump, "Verification of positive definiteness",
 * BIT 46, 2006. */

static bool is_below(size_t n, const double *a, double guess, double *work, double *slack)
{
    double trace = 0, gamma = lip__gamma(n + 2);

    for (size_t i = 0; i < n * n; i++)
        work[i] = -a[i];
    for (size_t i = 0; i < n; i++) {
        work[i * n + i] += guess;
        trace += fabs(work[i * n + i]);
    }
    *slack = (gamma / (1 - gamma) * trace * lip__lift(n) + 4 * LIP__U * guess) * (1 + 8 * LIP__U);
    return isfinite(guess) && lip__cholesky(n, work);
}

double lip__top_eigenvalue(size_t n, const double *a, double *guess, uint64_t deadline, double *work, double *values)
{
    static const double margin[] = {1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1};
    double slack;

    for (size_t tries = 0; tries < sizeof margin / sizeof *margin; tries++) {
        if (!lip__affordable(deadline, (double)n * (double)n * (double)n))
            break;
        if (is_below(n, a, *guess, work, &slack))
            return (*guess + slack) * (1 + 4 * LIP__U);
        memcpy(work, a, n * n * sizeof *work);
        switch (values ? lip__eigen(n, work, values) : 0) {
        case 0:
            *guess = (values ? fmax(*guess, values[n - 1]) : *guess) * (1 + margin[tries]);
            break;
        case -1:
            return -1;
        default:
            return INFINITY;
        }
    }
    return INFINITY;
}

/* ---- substitution ------------------------------------------------------------------------------------------ */

/* The rows of one block, from the first on; or with C' from the last. */
LIP__CLONES static void substitute_block(size_t size, size_t k, size_t n, const double *c, double *b, bool transposed)
{
    for (size_t step = 0; step < size; step++) {
        size_t i = transposed ? size - 1 - step : step;
        double *row = b + i * k, pivot = c[i * n + i];

        for (size_t j = transposed ? i + 1 : 0; j < (transposed ? size : i); j++) {
            double factor = transposed ? c[j * n + i] : c[i * n + j];

            for (size_t m = 0; m < k; m++)
                row[m] -= factor * b[j * k + m];
        }
        for (size_t m = 0; m < k; m++)
            row[m] /= pivot;
    }
}

void lip__substitute(size_t n, size_t k, const double *c, double *b, bool transposed)
{
    size_t blocks = (n + BLOCK - 1) / BLOCK;

    for (size_t step = 0; step < blocks; step++) {
        size_t at = (transposed ? blocks - 1 - step : step) * BLOCK, size = least(BLOCK, n - at);

        if (transposed)
            lip__dgemm(true, false, size, k, n - at - size, -1, c + (at + size) * n + at, n, b + (at + size) * k, k, 1,
                       b + at * k, k);
        else
            lip__dgemm(false, false, size, k, at, -1, c + at * n, n, b, k, 1, b + at * k, k);
        substitute_block(size, k, n, c + at * n + at, b + at * k, transposed);
    }
}
