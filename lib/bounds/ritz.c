/* ritz.c: Lanczos' method, every vector made orthogonal to all others twice. Source: Golub and Van Loan, "Matrix
 * Computations", 10.3. */
#include "bounds/ritz.h"

#include <math.h>
#include <string.h>

#include <onelip/random.h>

#include "base/base.h"
#include "tensor/gemm.h"

enum { STEPS = LIP__RITZ_STEPS };

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void add(double *x, double factor, const double *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += factor * y[i];
}

static void begin(size_t n, double *v)
{
    lip_random random = {.seed = 1, .stream = 2};
    double length;

    for (size_t i = 0; i < n; i++) {
        float x;

        lip_random_normal(&random, &x, 1);
        v[i] = x;
    }
    length = sqrt(dot(v, v, n));
    for (size_t i = 0; i < n; i++)
        v[i] /= length;
}

int lip__ritz(size_t n, void (*times)(void *ctx, const double *x, double *y), void *ctx, uint64_t deadline, double *v)
{
    double t[STEPS * STEPS] = {0}, values[STEPS], *top = v + STEPS * n, length;
    struct lip__pace pace = {.deadline = deadline};
    size_t steps = 0;
    int info;

    begin(n, v);
    lip__pace_late(&pace, 0);
    while (steps < STEPS && steps < n) {
        double *at = v + steps * n, *next = at + n;

        times(ctx, at, next);
        t[steps * STEPS + steps] = dot(at, next, n);
        for (int twice = 0; twice < 2; twice++)
            for (size_t j = 0; j <= steps; j++)
                add(next, -dot(v + j * n, next, n), v + j * n, n);
        length = sqrt(dot(next, next, n));
        steps++;
        if (!(length > 1e-10 * t[0]) || steps == STEPS || lip__pace_late(&pace, 1))
            break;
        t[steps * STEPS + steps - 1] = t[(steps - 1) * STEPS + steps] = length;
        for (size_t i = 0; i < n; i++)
            next[i] /= length;
    }
    for (size_t i = 0; i < steps; i++) /* the leading block, tight */
        memmove(t + i * steps, t + i * STEPS, steps * sizeof *t);
    if ((info = lip__eigen(steps, t, values)) != 0)
        return info;
    memset(top, 0, n * sizeof *top);
    for (size_t j = 0; j < steps; j++)
        add(top, t[(steps - 1) * steps + j], v + j * n, n);
    return 0;
}
