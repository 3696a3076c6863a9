/* spectral.c: the largest singular value, by power iteration, and the division by it.
 *
 *     u <- u/|u|;   until |change of u| < eps or maxiter steps:  u <- W'W u / |W'W u|;   sigma = |W u|
 *
 * deel-lip's norm has a floor of 1e-6, which lets u vanish where the kernel is tiny or zero and never recovers (D09).
 * Where the floor would leave u shorter than 1/2, u is normalised without it; where there is no direction left, it is
 * drawn anew.
 *
 * Source: deel-lip; semantics.md 1.2 to 1.4 and 1.7.
 */
#include <math.h>
#include <string.h>

#include <onelip/random.h>

#include "norm/rko.h"
#include "tensor/gemm.h"

static const double squared_floor = 1e-12;
static const double collapsed = 0.5;

static void scale(float *x, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(x[i] * factor);
}

void lip__draw_u(float *u, size_t n)
{
    lip_random random = {.seed = 1, .stream = lip_random_stream("power iteration")};

    lip_random_normal(&random, u, n);
    scale(u, n, 1 / lip__norm(u, n));
}

/* u <- u / max(|u|, floor), or to length 1 where that would be short. False: u has no direction. */
static bool normalise(float *u, size_t n, bool *repaired)
{
    double length = lip__norm(u, n), divisor = sqrt(fmax(length * length, squared_floor));

    if (!isfinite(length) || length == 0)
        return false;
    if (length / divisor < collapsed) {
        *repaired = true;
        divisor = length;
    }
    scale(u, n, 1 / divisor);
    return true;
}

bool lip__unit(float *u, size_t n)
{
    bool repaired = false;

    if (normalise(u, n, &repaired))
        return repaired;
    lip__draw_u(u, n);
    return true;
}

static void apply(const float *w, size_t m, size_t n, const float *gram, const float *u, float *v, float *y)
{
    if (gram) {
        lip__gemv_parallel(n, n, 1, gram, n, u, 0, y);
    } else {
        lip__gemv(false, m, n, 1, w, n, u, 0, v);
        lip__gemv(true, m, n, 1, w, n, v, 0, y);
    }
}

float lip__norm_along(const float *w, size_t m, size_t n, const float *u, float *work)
{
    lip__gemv_parallel(m, n, 1, w, n, u, 0, work);
    return (float)lip__norm(work, m);
}

lip_err lip__power(const float *w, size_t m, size_t n, const float *gram, const lip_rko_options *o, const float *u,
                   float *u_new, float *work, struct lip__spectral *s, lip_error *err)
{
    float *v = work, *y = work + m;
    int lost = 0; /* how often w u was zero */
    double change = HUGE_VAL; /* deel-lip starts from u + 2 eps, which always passes the first test */

    memset(s, 0, sizeof *s);
    memmove(u_new, u, n * sizeof *u);
    s->redrawn = lip__unit(u_new, n);
    while (s->iterations < o->maxiter_spectral && change >= o->eps_spectral) {
        apply(w, m, n, gram, u_new, v, y);
        s->iterations++;
        if (!normalise(y, n, &s->redrawn)) {
            if (lost++ || !lip__all_finite(y, n, NULL))
                break; /* w is zero, or w'w overflows: sigma will tell */
            lip__draw_u(y, n);
            s->redrawn = true;
        }
        change = lip__distance(y, u_new, n);
        memcpy(u_new, y, n * sizeof *y);
    }
    s->sigma = lip__norm_along(w, m, n, u_new, v);
    s->t = s->sigma + (float)o->eps_spectral;
    if (!isfinite(s->t))
        return lip__fail(err, LIP_ENONFINITE, "kernel: its norm exceeds the range of float32");
    return LIP_OK;
}

double lip__divide_backward(const float *w, size_t m, size_t n, const struct lip__spectral *s, const float *u, const float *g,
                            float *dw, float *work)
{
    double along = s->sigma > 0 ? lip__dot(g, w, m * n) / ((double)s->t * s->t) : 0;

    if (s->sigma > 0)
        lip__gemv(false, m, n, 1 / s->sigma, w, n, u, 0, work);
    for (size_t i = 0; i < m; i++) {
        float q = s->sigma > 0 ? (float)(along * work[i]) : 0;
        for (size_t j = 0; j < n; j++)
            dw[i * n + j] = g[i * n + j] / s->t - q * u[j];
    }
    return -along;
}

/* dL/du of u = y/|y| from that of u; 0 for no y. */
static void normalise_backward(const float *u, double length, float *g, size_t n)
{
    double along = lip__dot(g, u, n);

    for (size_t i = 0; i < n; i++)
        g[i] = length > 0 ? (float)((g[i] - along * u[i]) / length) : 0;
}

lip_err lip__power_backward(const float *w, size_t m, size_t n, const lip_rko_info *info, const float *u, double dsigma,
                            float *dw, lip_error *err)
{
    size_t steps = (size_t)info->power_iterations;
    float *all, *v, *back, *g;
    double *length;

    if (info->redrawn || info->rescaled || info->sigma <= 0 || steps == 0)
        return LIP_OK;
    all = lip__alloc((steps + 2) * n + 2 * m, sizeof *all); /* u_0 to u_K, dL/du, v, W g */
    length = lip__alloc(steps + 1, sizeof *length);
    if (!all || !length) {
        lip__free(all);
        lip__free(length);
        return lip__nomem(err, ((steps + 2) * n + 2 * m) * sizeof *all);
    }
    g = all + (steps + 1) * n;
    v = g + n;
    back = v + m;
    memcpy(all, u, n * sizeof *all);
    scale(all, n, 1 / lip__norm(all, n));
    for (size_t k = 1; k <= steps; k++) {
        float *y = all + k * n;
        apply(w, m, n, NULL, y - n, v, y);
        length[k] = lip__norm(y, n);
        scale(y, n, 1 / length[k]);
    }
    lip__gemv(false, m, n, 1, w, n, all + steps * n, 0, v); /* sigma = |W u_K| */
    lip__gemv(true, m, n, (float)(dsigma / info->sigma), w, n, v, 0, g);
    for (size_t k = steps; k > 0; k--) {
        const float *from = all + (k - 1) * n;
        normalise_backward(all + k * n, length[k], g, n);
        lip__gemv(false, m, n, 1, w, n, from, 0, v); /* y = W'v, v = W u */
        lip__gemv(false, m, n, 1, w, n, g, 0, back);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++)
                dw[i * n + j] += v[i] * g[j] + back[i] * from[j];
        lip__gemv(true, m, n, 1, w, n, back, 0, g);
    }
    lip__free(length);
    lip__free(all);
    return LIP_OK;
}
