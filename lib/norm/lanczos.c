/* lanczos.c: the ends of a symmetric matrix's spectrum, from some products with vectors.
 *
 * Steps with full reorthogonalisation from a fixed start; the eigenvalues of the small tridiagonal matrix are the
 * Ritz values. beta_last times the last component of its eigenvector is the residual, the square of the first one the
 * weight in the Gauss quadrature of the start's spectral measure.
 *
 * Source: Golub and Meurant, "Matrices, Moments and Quadrature", 1994; the implicit QL method, Dubrulle, Martin and
 * Wilkinson, Numerische Mathematik 12, 1968.
 */
#include <math.h>
#include <string.h>

#include <onelip/random.h>

#include "norm/rko.h"
#include "tensor/gemm.h"

enum { STEPS = LIP__LANCZOS_STEPS, SWEEPS = 60 };

/* One implicit QL sweep with shift on d[l..m], e[i] between d[i] and d[i+1]; z (rows of eigenvector components) follow. */
static void sweep(double *d, double *e, size_t l, size_t m, double z[][STEPS], size_t steps)
{
    double shift = (d[l + 1] - d[l]) / (2 * e[l]), r = sqrt(shift * shift + 1), s = 1, c = 1, p = 0;
    double g = d[m] - d[l] + e[l] / (shift + copysign(r, shift));

    for (size_t i = m; i-- > l;) {
        double f = s * e[i], b = c * e[i];
        r = sqrt(f * f + g * g); /* of float32 numbers: in range */
        e[i + 1] = r;
        if (r == 0) { /* the matrix splits here */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        for (size_t k = 0; k < steps; k++) {
            f = z[i + 1][k];
            z[i + 1][k] = s * z[i][k] + c * f;
            z[i][k] = c * z[i][k] - s * f;
        }
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

/* Eigenvalues d, ascending, and eigenvectors z[value][component] of the tridiagonal matrix (d, e). */
static void tridiagonal(size_t n, double *d, double *e, double z[][STEPS])
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            z[i][k] = i == k;
    e[n - 1] = 0;
    for (size_t l = 0; l < n; l++)
        for (int tries = 0; tries < SWEEPS; tries++) {
            size_t m = l;
            while (m + 1 < n && fabs(e[m]) > 1e-16 * (fabs(d[m]) + fabs(d[m + 1])))
                m++;
            if (m == l)
                break;
            sweep(d, e, l, m, z, n);
        }
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j && d[j] < d[j - 1]; j--) {
            double t = d[j];
            d[j] = d[j - 1];
            d[j - 1] = t;
            for (size_t k = 0; k < n; k++) {
                t = z[j][k];
                z[j][k] = z[j - 1][k];
                z[j - 1][k] = t;
            }
        }
}

LIP__CLONES static void add(float *restrict y, float a, const float *restrict x, size_t k)
{
    for (size_t i = 0; i < k; i++)
        y[i] += a * x[i];
}

static void ritz_vector(const double *z, size_t steps, const float *basis, size_t k, float *x)
{
    memset(x, 0, k * sizeof *x);
    for (size_t j = 0; j < steps; j++)
        add(x, (float)z[j], basis + j * k, k);
}

void lip__lanczos(const float *s, size_t k, float *work, struct lip__spectrum *spectrum)
{
    float *basis = work + 2 * k, *next;
    double d[STEPS], e[STEPS], z[STEPS][STEPS], norm, last = 0;
    size_t steps = 0;
    lip_random random = {.seed = 1, .stream = lip_random_stream("lanczos")};

    lip_random_uniform(&random, basis, k);
    for (size_t i = 0; i < k; i++)
        basis[i] -= 0.5f;
    norm = lip__norm(basis, k);
    for (size_t i = 0; i < k; i++)
        basis[i] = (float)(basis[i] / norm);
    for (size_t want = k < STEPS ? k : STEPS; steps < want;) {
        float *q = basis + steps * k;
        next = q + k;
        lip__gemv_parallel(k, k, 1, s, k, q, 0, next);
        d[steps] = lip__dot(q, next, k);
        for (int twice = 0; twice < 2; twice++)
            for (size_t j = 0; j <= steps; j++)
                add(next, -(float)lip__dot(basis + j * k, next, k), basis + j * k, k);
        last = lip__norm(next, k);
        e[steps++] = last;
        if (!(last > 1e-6 * fabs(d[0]))) /* an invariant subspace, or not a number */
            break;
        for (size_t i = 0; i < k; i++)
            next[i] = (float)(next[i] / last);
    }
    tridiagonal(steps, d, e, z);
    spectrum->steps = steps;
    for (size_t i = 0; i < steps; i++) {
        spectrum->ritz[i] = d[i];
        spectrum->weight[i] = z[i][0] * z[i][0];
    }
    spectrum->low_residual = fabs(last * z[0][steps - 1]);
    spectrum->high_residual = fabs(last * z[steps - 1][steps - 1]);
    ritz_vector(z[steps - 1], steps, basis, k, work);
    ritz_vector(z[0], steps, basis, k, work + k);
}
