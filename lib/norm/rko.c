/* rko.c: reshaped kernel orthogonalisation: divide by the norm, orthogonalise, multiply by the factor.
 *
 * Scratch begins with the vectors of the power iteration and of Lanczos; what the form of the loop needs follows.
 *
 * Source: deel-lip; semantics.md 1.6 and 1.7; defects D08 and D09.
 */
#include <math.h>
#include <string.h>

#include "norm/rko.h"
#include "tensor/gemm.h"

/* Eigenvalues of W0'W0 below 3 are singular values below sqrt(3), which Bjorck at beta 1/2 takes to 1, not to -1 or
 * infinity; at smaller beta the limit is higher. */
static const double safe_square = 3;

static const char *const plain = "plain";

bool lip__has_bjorck(const lip_rko_options *o)
{
    return o->eps_bjorck > 0 && !isnan(o->beta_bjorck) && o->maxiter_bjorck > 0;
}

static size_t vectors(size_t m, size_t n)
{
    size_t k = m < n ? m : n, floats = m + 3 * n + LIP__LANCZOS_WORK(k);

    return (floats + 15) / 16 * 16;
}

size_t lip_rko_scratch(size_t m, size_t n, const lip_rko_options *o, bool keep)
{
    return vectors(m, n) + lip__plain_scratch(m, n, o, keep);
}

static lip_err check(const float *w, size_t m, size_t n, const lip_rko_options *o, lip_error *err)
{
    size_t at;

    if (!(o->eps_spectral > 0))
        return lip__fail(err, LIP_ERANGE, "eps_spectral is %g, needs to be positive", o->eps_spectral);
    if (!isnan(o->beta_bjorck) && !(o->beta_bjorck > 0 && o->beta_bjorck <= 0.5))
        return lip__fail(err, LIP_ERANGE, "beta_bjorck is %g, needs 0 < beta <= 0.5", o->beta_bjorck);
    if (!lip__all_finite(w, m * n, &at))
        return lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
    return LIP_OK;
}

static void divide(const float *w, size_t count, float t, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = w[i] / t;
}

/* u <- the right singular vector that belongs to the Ritz vector x of the Gram matrix. */
static void turn_u(const float *a, size_t m, size_t n, const float *x, float *u)
{
    if (m > n)
        memcpy(u, x, n * sizeof *u);
    else
        lip__gemv(true, m, n, 1, a, n, x, 0, u);
}

/* a <- w / t with its Gram matrix. Where the norm of a would make the loop flip or diverge, u had missed the dominant
 * direction: the power iteration starts again from that direction. */
static lip_err start(const float *w, size_t m, size_t n, const lip_rko_options *o, float *u, float *work, float *a,
                     float *gram, struct lip__spectral *s, bool *rescaled, lip_error *err)
{
    struct lip__spectrum spectrum;

    for (int again = 0; again < 2; again++) {
        struct lip__spectral more;
        lip_err rc;

        divide(w, m * n, s->t, a);
        lip__gram(a, m, n, gram);
        lip__lanczos(gram, m < n ? m : n, work, &spectrum);
        if (spectrum.ritz[spectrum.steps - 1] + spectrum.high_residual < safe_square)
            return LIP_OK;
        *rescaled = true;
        if (isfinite(spectrum.ritz[spectrum.steps - 1]))
            turn_u(a, m, n, work, u);
        else
            lip__draw_u(u, n);
        rc = lip__power(w, m, n, NULL, o, u, u, work, &more, err);
        if (rc)
            return rc;
        s->iterations += more.iterations;
        s->sigma = more.sigma;
        s->t = more.t;
    }
    divide(w, m * n, s->t, a);
    lip__gram(a, m, n, gram);
    return LIP_OK;
}

lip_err lip_rko(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u, float *u_new,
                float *wbar, float *scratch, bool keep, lip_rko_info *info, lip_error *err)
{
    float *loop = scratch + vectors(m, n), *a, *gram;
    const float *last;
    struct lip__spectral s;
    lip_rko_info said = {.form = plain};
    size_t at;
    lip_err rc = check(w, m, n, o, err);

    if (!rc)
        rc = lip__power(w, m, n, NULL, o, u, u_new, scratch, &s, err);
    if (rc)
        return rc;
    last = a = lip__plain_start(m, n, o, keep, loop, &gram);
    if (lip__has_bjorck(o)) {
        rc = start(w, m, n, o, u_new, scratch, a, gram, &s, &said.rescaled, err);
        if (rc)
            return rc;
        last = lip__plain_loop(m, n, o, keep, loop, &said.bjorck_iterations, &said.residual);
    } else {
        divide(w, m * n, s.t, a);
    }
    for (size_t i = 0; i < m * n; i++)
        wbar[i] = (float)coef * last[i];
    said.power_iterations = s.iterations;
    said.sigma = s.sigma;
    said.redrawn = s.redrawn;
    if (info)
        *info = said;
    if (!lip__all_finite(wbar, m * n, &at))
        return lip__fail(err, LIP_ENUMERIC, "effective kernel: element %zu is not finite", at);
    return LIP_OK;
}

lip_err lip_rko_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o,
                         const lip_rko_info *info, const float *u_new, const float *g, float *dw, float *scratch,
                         lip_error *err)
{
    struct lip__spectral s = {.sigma = (float)info->sigma};
    const float *inner = lip__plain_backward(m, n, o, info->bjorck_iterations, coef, g, scratch + vectors(m, n));

    (void)err;
    s.t = s.sigma + (float)o->eps_spectral;
    lip__divide_backward(w, m, n, &s, u_new, inner, dw, scratch);
    return LIP_OK;
}
