/* normalizers.c: deel-lip's normalizers one by one: what lip_rko does in one piece, for matrices and for convolutions.
 *
 * Source: deel-lip's normalizers.py; semantics.md 1.3 to 1.5 and 1.8.
 */
#include <math.h>
#include <string.h>

#include "norm/rko.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"

static lip_err check_tolerance(double eps, lip_error *err)
{
    return eps > 0 ? LIP_OK : lip__fail(err, LIP_ERANGE, "eps is %g, needs a number above 0", eps);
}

/* ---- any linear map ------------------------------------------------------------------------------------------ */

size_t lip_power_iteration_scratch(const lip_linear *a)
{
    return a->inputs + a->outputs;
}

lip_err lip_power_iteration(const lip_linear *a, double eps, long maxiter, float *u, float *scratch, lip_power_info *info,
                            lip_error *err)
{
    float *v = scratch, *next = scratch + a->outputs;
    lip_power_info said = {0};
    double change = HUGE_VAL;

    if (check_tolerance(eps, err))
        return LIP_ERANGE;
    said.redrawn = lip__unit(u, a->inputs);
    while (said.iterations < maxiter && change >= eps) {
        a->apply(a->ctx, u, v);
        a->adjoint(a->ctx, v, next);
        said.iterations++;
        if (!lip__all_finite(next, a->inputs, NULL))
            return lip__fail(err, LIP_ENONFINITE, "the linear map: its norm exceeds the range of float32");
        if (lip__norm(next, a->inputs) == 0)
            break; /* u is in the kernel of the map */
        lip__unit(next, a->inputs);
        change = lip__distance(next, u, a->inputs);
        memcpy(u, next, a->inputs * sizeof *u);
    }
    a->apply(a->ctx, u, v);
    said.sigma = lip__norm(v, a->outputs);
    if (!isfinite(said.sigma))
        return lip__fail(err, LIP_ENONFINITE, "the linear map: its norm exceeds the range of float32");
    if (info)
        *info = said;
    return LIP_OK;
}

/* ---- matrices ------------------------------------------------------------------------------------------------ */

size_t lip_spectral_normalization_scratch(size_t m, size_t n)
{
    return m + 2 * n;
}

static void divide(const float *w, size_t n, double divisor, float *wbar)
{
    for (size_t i = 0; i < n; i++)
        wbar[i] = w[i] / (float)divisor;
}

lip_err lip_spectral_normalization(const float *w, size_t m, size_t n, double eps, long maxiter, float *u, float *wbar,
                                   float *scratch, lip_power_info *info, lip_error *err)
{
    const lip_rko_options o = {.eps_spectral = eps, .maxiter_spectral = maxiter};
    struct lip__spectral s;
    size_t at;
    lip_err rc;

    if (check_tolerance(eps, err))
        return LIP_ERANGE;
    if (!lip__all_finite(w, m * n, &at))
        return lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
    rc = lip__power(w, m, n, NULL, &o, u, u, scratch, &s, err);
    if (rc)
        return rc;
    divide(w, m * n, s.t, wbar);
    if (info)
        *info = (lip_power_info){.iterations = s.iterations, .sigma = s.sigma, .redrawn = s.redrawn};
    return LIP_OK;
}

static lip_rko_options bjorck_options(double eps, double beta, long maxiter)
{
    return (lip_rko_options){.eps_bjorck = eps, .beta_bjorck = beta, .maxiter_bjorck = maxiter};
}

size_t lip_bjorck_scratch(size_t m, size_t n)
{
    const lip_rko_options o = bjorck_options(1, 0.5, 1);

    return lip__plain_scratch(m, n, &o, false);
}

lip_err lip_bjorck(const float *w, size_t m, size_t n, double eps, double beta, long maxiter, float *wbar, float *scratch,
                   lip_bjorck_info *info, lip_error *err)
{
    const lip_rko_options o = bjorck_options(eps, beta, maxiter);
    lip_bjorck_info said = {0};
    float *start, *gram;
    const float *last;
    size_t at;

    if (check_tolerance(eps, err))
        return LIP_ERANGE;
    if (!(beta > 0 && beta <= 0.5))
        return lip__fail(err, LIP_ERANGE, "beta is %g, needs a number above 0, at most 0.5", beta);
    if (!lip__all_finite(w, m * n, &at))
        return lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
    start = lip__plain_start(m, n, &o, false, scratch, &gram);
    memcpy(start, w, m * n * sizeof *w);
    lip__gram(start, m, n, gram);
    last = lip__plain_loop(m, n, &o, false, scratch, &said.iterations, &said.residual);
    if (!lip__all_finite(last, m * n, &at))
        return lip__fail(err, LIP_ENUMERIC, "kernel: Bjorck diverged (element %zu); its norm must be below sqrt(5)", at);
    memcpy(wbar, last, m * n * sizeof *wbar);
    if (info)
        *info = said;
    return LIP_OK;
}

/* ---- convolutions ----------------------------------------------------------------------------------------------- */

/* The operator in parts of scratch: the image with its edges wrapped around (circular), and what the convolution itself needs. */
struct convolution {
    const lip_conv_operator *of;
    struct lip__windows windows;
    const float *kernel;
    float *padded, *work;
};

static size_t image_size(const lip_conv_operator *o)
{
    return o->height * o->width * o->channels;
}

static size_t padded_size(const struct lip__windows *g)
{
    return (g->h * g->w * g->c + 15) & ~(size_t)15;
}

static lip_err windows_of(const lip_conv_operator *o, struct lip__windows *g, lip_error *err)
{
    bool good = o->height && o->width && o->channels && o->filters && o->kernel[0] && o->kernel[1] && o->strides[0] && o->strides[1];

    if (!good)
        return lip__fail(err, LIP_ESHAPE, "a convolution needs an image, a kernel, strides and filters of at least 1");
    *g = (struct lip__windows){.h = o->height, .w = o->width, .c = o->channels, .kh = o->kernel[0], .kw = o->kernel[1],
                               .sh = o->strides[0], .sw = o->strides[1]};
    if (o->circular) {
        if (o->kernel[0] > o->height || o->kernel[1] > o->width)
            return lip__fail(err, LIP_ESHAPE, "a kernel of (%zu, %zu) wraps around an image of (%zu, %zu) more than once", o->kernel[0],
                             o->kernel[1], o->height, o->width);
        g->h += o->kernel[0] - 1;
        g->w += o->kernel[1] - 1;
    }
    lip__windows_set(g, !o->circular);
    return LIP_OK;
}

/* padded <- image, or image <- the sum of what was copied from it. */
static void wrap(const struct convolution *c, float *image, float *padded, bool back)
{
    const lip_conv_operator *o = c->of;
    size_t top = (o->kernel[0] - 1) / 2, left = (o->kernel[1] - 1) / 2;

    if (back)
        memset(image, 0, image_size(o) * sizeof *image);
    for (size_t i = 0; i < c->windows.h; i++)
        for (size_t j = 0; j < c->windows.w; j++) {
            size_t y = (i + o->height - top) % o->height, x = (j + o->width - left) % o->width;
            float *a = image + (y * o->width + x) * o->channels, *b = padded + (i * c->windows.w + j) * o->channels;

            for (size_t k = 0; k < o->channels; k++)
                if (back)
                    a[k] += b[k];
                else
                    b[k] = a[k];
        }
}

static void forward(void *ctx, const float *x, float *y)
{
    struct convolution *c = ctx;

    if (c->of->circular) {
        wrap(c, (float *)x, c->padded, false);
        x = c->padded;
    }
    lip__conv(&c->windows, 1, x, c->kernel, NULL, c->of->filters, NULL, y, c->work);
}

static void transposed(void *ctx, const float *y, float *x)
{
    struct convolution *c = ctx;

    lip__conv_adjoint(&c->windows, 1, y, c->kernel, NULL, c->of->filters, NULL, c->of->circular ? c->padded : x, c->work);
    if (c->of->circular)
        wrap(c, x, c->padded, true);
}

static lip_linear linear_of(struct convolution *c)
{
    const lip_conv_operator *o = c->of;
    size_t image = image_size(o), result = c->windows.oh * c->windows.ow * o->filters;

    return o->transposed ? (lip_linear){result, image, transposed, forward, c} : (lip_linear){image, result, forward, transposed, c};
}

lip_err lip_conv_operator_size(const lip_conv_operator *o, size_t *inputs, size_t *outputs, size_t *scratch, lip_error *err)
{
    struct convolution c = {.of = o};
    lip_err rc = windows_of(o, &c.windows, err);
    lip_linear a;

    if (rc)
        return rc;
    a = linear_of(&c);
    *inputs = a.inputs;
    *outputs = a.outputs;
    *scratch = padded_size(&c.windows) + lip__conv_scratch(&c.windows, o->filters) + lip_power_iteration_scratch(&a);
    return LIP_OK;
}

/* Parts of scratch in the order of their alignment. */
static lip_err open_convolution(const lip_conv_operator *o, const float *kernel, float *scratch, struct convolution *c, float **rest,
                                lip_error *err)
{
    lip_err rc;

    *c = (struct convolution){.of = o, .kernel = kernel, .work = scratch};
    rc = windows_of(o, &c->windows, err);
    if (rc)
        return rc;
    c->padded = scratch + lip__conv_scratch(&c->windows, o->filters);
    *rest = c->padded + padded_size(&c->windows);
    return LIP_OK;
}

lip_err lip_conv_operator_apply(const lip_conv_operator *o, const float *kernel, bool adjoint, const float *x, float *y, float *scratch,
                                lip_error *err)
{
    struct convolution c;
    float *rest;
    lip_err rc = open_convolution(o, kernel, scratch, &c, &rest, err);
    lip_linear a;

    if (rc)
        return rc;
    a = linear_of(&c);
    (adjoint ? a.adjoint : a.apply)(a.ctx, x, y);
    return LIP_OK;
}

lip_err lip_spectral_normalization_conv(const lip_conv_operator *o, const float *kernel, double eps, long maxiter, float *u, float *wbar,
                                        float *scratch, lip_power_info *info, lip_error *err)
{
    size_t n = o->kernel[0] * o->kernel[1] * o->channels * o->filters, at;
    lip_power_info said;
    struct convolution c;
    float *rest;
    lip_err rc = open_convolution(o, kernel, scratch, &c, &rest, err);
    lip_linear a;

    if (rc)
        return rc;
    if (!lip__all_finite(kernel, n, &at))
        return lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
    a = linear_of(&c);
    rc = lip_power_iteration(&a, eps, maxiter, u, rest, &said, err);
    if (rc)
        return rc;
    divide(kernel, n, said.sigma + eps, wbar);
    if (info)
        *info = said;
    return LIP_OK;
}
