/* conv.c: the norm of a convolution with zeros around the image, enclosed.
 *
 * Above: with W the kernel as a matrix (kh kw c, f) and nu_j the number of windows over pixel j,
 *
 *     ||y||^2 = sum_i |W' patch_i|^2 <= ||W||^2 sum_i |patch_i|^2 = ||W||^2 sum_j nu_j |x_j|^2,
 *
 * so ||conv|| <= ||W|| sqrt(max nu), with equality where WW' = I; embed.c has two that cost more and give less.
 *
 * Below: |K v| / |v| for a vector v that some Lanczos steps on K'K find; the vector is not trusted, the quotient is
 * rounded down.
 */
#include <stdint.h>
#include <string.h>

#include "bounds/conv.h"
#include "bounds/ritz.h"
#include "tensor/gemm.h"

/* ---- the operator -------------------------------------------------------------------------------------- */

static bool continued(const struct lip__convolution *k)
{
    return k->row != NULL;
}

size_t lip__conv_inputs(const struct lip__convolution *k)
{
    return continued(k) ? k->h * k->w * k->g.c : k->g.h * k->g.w * k->g.c;
}

size_t lip__conv_outputs(const struct lip__convolution *k)
{
    return k->g.oh * k->g.ow * k->f;
}

/* Windows of a row, and the continued image. */
size_t lip__conv_panel(const struct lip__convolution *k)
{
    return k->g.ow * lip__window_size(&k->g) + (continued(k) ? k->g.h * k->g.w * k->g.c : 0);
}

/* Between an image and the continued one: copied there, or with `add` summed up from there. */
static void carry(const struct lip__convolution *k, double *image, double *wide, bool add)
{
    size_t c = k->g.c;

    for (size_t i = 0; i < k->g.h; i++)
        for (size_t j = 0; j < k->g.w; j++, wide += c) {
            double *pixel = image + (k->row[i] * k->w + k->column[j]) * c;

            for (size_t m = 0; m < c; m++)
                if (add)
                    pixel[m] += wide[m];
                else
                    wide[m] = pixel[m];
        }
}

/* Row p of windows. add: from the panel to the image, else from the image to the panel. The pixels of a window's row
 * lie side by side, but for what hangs over an edge. */
static void windows_of_row(const struct lip__windows *g, size_t p, double *image, double *panel, bool add)
{
    size_t length = g->kw * g->c;

    for (size_t r = 0; r < g->ow; r++) {
        size_t at = r * g->sw, first = at < g->left ? g->left - at : 0, last = g->kw;

        if (at + last > g->w + g->left)
            last = g->w + g->left > at ? g->w + g->left - at : 0;
        first = first < last ? first : last;
        for (size_t a = 0; a < g->kh; a++) {
            size_t row = p * g->sh + a, count = (last - first) * g->c;
            double *cell = panel + (r * g->kh + a) * length, *pixels;

            if (row < g->top || row - g->top >= g->h || !count) {
                if (!add)
                    memset(cell, 0, length * sizeof *cell);
                continue;
            }
            pixels = image + ((row - g->top) * g->w + at + first - g->left) * g->c;
            if (add) {
                for (size_t i = 0; i < count; i++)
                    pixels[i] += cell[first * g->c + i];
                continue;
            }
            memset(cell, 0, first * g->c * sizeof *cell);
            memcpy(cell + first * g->c, pixels, count * sizeof *cell);
            memset(cell + last * g->c, 0, (g->kw - last) * g->c * sizeof *cell);
        }
    }
}

void lip__conv_apply(const struct lip__convolution *k, const double *x, double *y, double *panel)
{
    size_t size = lip__window_size(&k->g);
    double *image = (double *)x;

    if (continued(k)) {
        image = panel + k->g.ow * size;
        carry(k, (double *)x, image, false);
    }
    for (size_t p = 0; p < k->g.oh; p++) {
        windows_of_row(&k->g, p, image, panel, false);
        lip__dgemm(false, false, k->g.ow, k->f, size, 1, panel, size, k->kernel, k->f, 0, y + p * k->g.ow * k->f, k->f);
    }
}

void lip__double_conv_adjoint(const struct lip__convolution *k, const double *y, double *x, double *panel)
{
    size_t size = lip__window_size(&k->g);
    double *image = continued(k) ? panel + k->g.ow * size : x;

    memset(image, 0, k->g.h * k->g.w * k->g.c * sizeof *x);
    for (size_t p = 0; p < k->g.oh; p++) {
        lip__dgemm(false, true, k->g.ow, size, k->f, 1, y + p * k->g.ow * k->f, k->f, k->kernel, k->f, 0, panel, size);
        windows_of_row(&k->g, p, image, panel, true);
    }
    if (continued(k)) {
        memset(x, 0, lip__conv_inputs(k) * sizeof *x);
        carry(k, x, image, true);
    }
}

/* ---- above --------------------------------------------------------------------------------------------- */

/* Along one axis of the continued image: places of windows of q that start at i s - before, i < out, on pixel p. */
static size_t places(size_t p, size_t q, size_t s, size_t before, size_t out)
{
    size_t at = p + before, first = at + 1 > q ? (at + 1 - q + s - 1) / s : 0, last = at / s < out ? at / s : out - 1;

    return last + 1 > first ? last + 1 - first : 0;
}

/* The same on one pixel of n of the image, at most. from: where the continued image's n_wide come from. windows NULL:
 * how often a pixel stands in the continued image. */
static size_t coverage(size_t n, size_t n_wide, const size_t *from, size_t q, size_t s, size_t before, size_t out)
{
    size_t most = 0;

    for (size_t p = 0; p < n; p++) {
        size_t sum = 0;

        for (size_t i = from ? 0 : p; i < (from ? n_wide : p + 1); i++)
            if (!from || from[i] == p)
                sum += q ? places(i, q, s, before, out) : 1;
        most = sum > most ? sum : most;
    }
    return most;
}

size_t lip__conv_coverage(const struct lip__convolution *k)
{
    const struct lip__windows *g = &k->g;

    return coverage(continued(k) ? k->h : g->h, g->h, k->row, g->kh, g->sh, g->top, g->oh) *
           coverage(continued(k) ? k->w : g->w, g->w, k->column, g->kw, g->sw, g->left, g->ow);
}

/* The squared norm of continuing an image. */
static size_t copies(const struct lip__convolution *k)
{
    return continued(k) ? coverage(k->h, k->g.h, k->row, 0, 1, 0, 0) * coverage(k->w, k->g.w, k->column, 0, 1, 0, 0)
                        : 1;
}

static double root_up(size_t n)
{
    return lip__up(sqrt((double)n));
}

lip_err lip__conv_abs_norm(const struct lip__convolution *k, double *norm, lip_error *err)
{
    size_t c = k->g.c, size = lip__window_size(&k->g), taps = k->g.kh * k->g.kw;
    double *work = lip__alloc(2 * k->f + size, sizeof *work), *sum = lip__alloc(c * k->f, sizeof *sum);

    if (!work || !sum) {
        lip__free(sum);
        lip__free(work);
        return lip__nomem(err, c * k->f * sizeof *sum);
    }
    *norm = lip__abs_norm(size, k->f, k->kernel, work) * root_up(lip__conv_coverage(k)) * (1 + 4 * LIP__U);
    /* A non-negative kernel's supremum over all frequencies is at 0; windows that are left out only lower it. */
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < c * k->f; i++)
            sum[i] += fabs(k->kernel[t * c * k->f + i]);
    *norm = fmin(*norm, lip__abs_norm(c, k->f, sum, work) * lip__lift(taps) * root_up(copies(k)) * (1 + 4 * LIP__U));
    lip__free(sum);
    lip__free(work);
    return LIP_OK;
}

/* ---- below --------------------------------------------------------------------------------------------- */

struct product {
    const struct lip__convolution *k;
    double *y, *panel;
};

/* y = K'K x */
static void times(void *ctx, const double *x, double *y)
{
    struct product *p = ctx;

    lip__conv_apply(p->k, x, p->y, p->panel);
    lip__double_conv_adjoint(p->k, p->y, y, p->panel);
}

/* By a vector that Lanczos' method finds. */
static lip_err by_vector(const struct lip__convolution *k, uint64_t deadline, double *lower, lip_error *err)
{
    size_t n = lip__conv_inputs(k);
    double *v = lip__alloc((LIP__RITZ_STEPS + 1) * n, sizeof *v), *y = lip__alloc(lip__conv_outputs(k), sizeof *y);
    double *panel = lip__alloc(lip__conv_panel(k), sizeof *panel), *at = v + LIP__RITZ_STEPS * n, abs_norm;
    int info = v && y && panel ? lip__ritz(n, times, &(struct product){k, y, panel}, deadline, v) : -1;
    lip_err rc =
        info == -1 ? lip__nomem(err, (LIP__RITZ_STEPS + 1) * n * sizeof *v) : lip__conv_abs_norm(k, &abs_norm, err);

    if (!rc && !info) {
        double length = lip__norm_up(at, n), error;

        lip__conv_apply(k, at, y, panel);
        error = lip__gamma(lip__window_size(&k->g) + 1) * abs_norm * length * (1 + 8 * LIP__U) + LIP__TINY;
        if (length > 0 && isfinite(length))
            *lower =
                fmax(*lower, lip__down(lip__norm_down(y, lip__conv_outputs(k)) - error) / length * (1 - 4 * LIP__U));
    }
    lip__free(panel);
    lip__free(y);
    lip__free(v);
    return rc;
}

/* Whether a window of q, of those that start at i s - before, lies on n pixels. */
static bool fits(size_t n, size_t q, size_t s, size_t before, size_t out)
{
    size_t first = (before + s - 1) / s;

    return first < out && first * s - before + q <= n;
}

/* Within one window the convolution is W'. */
static double by_window(const struct lip__convolution *k, const lip_interval *reshaped)
{
    const struct lip__windows *g = &k->g;

    return !continued(k) && fits(g->h, g->kh, g->sh, g->top, g->oh) && fits(g->w, g->kw, g->sw, g->left, g->ow)
               ? fmax(0, reshaped->lower)
               : 0;
}

/* The whole matrix, both ways. */
static lip_err by_matrix(const struct lip__convolution *k, lip_interval *norm, lip_error *err)
{
    double *matrix, off;
    size_t m, n;
    lip_err rc = lip__conv_matrix(k, &matrix, &m, &n, err);

    if (!rc)
        rc = lip__enclose(matrix, m, n, norm, NULL, err);
    if (!rc && continued(k) && !(rc = lip__conv_abs_norm(k, &off, err))) {
        off *= 2 * lip__gamma(k->g.kh * k->g.kw); /* kernels of copies of a pixel under one window were added */
        norm->upper = lip__up(norm->upper + off);
        norm->lower = fmax(0, lip__down(norm->lower - off));
    }
    lip__free(matrix);
    return rc;
}

static void keep_smaller(lip_interval *norm, double upper, const char **method, const char *name)
{
    if (upper < norm->upper) {
        norm->upper = upper;
        *method = name;
    }
}

lip_err lip__conv_enclose(const struct lip__convolution *k, const lip_interval *reshaped, uint64_t deadline,
                          lip_interval *norm, const char **method, bool *whole, lip_error *err)
{
    double pass =
        8.0 * (double)lip__conv_outputs(k) * (double)lip__window_size(&k->g); /* there and back, and the proof's */
    lip_interval matrix;
    double upper;
    lip_err rc;

    norm->upper = lip__up(reshaped->upper * root_up(lip__conv_coverage(k)));
    *method = "nu_enclosure";
    *whole = true;
    norm->lower = by_window(k, reshaped);
    if (!lip__affordable(deadline, pass)) {
        *whole = false;
        return LIP_OK;
    }
    if ((rc = by_vector(k, lip__part_of(deadline, 0.25), &norm->lower, err)) != LIP_OK)
        return rc;
    if (norm->upper <= norm->lower * (1 + 1e-6)) /* attained: nothing to win */
        return LIP_OK;
    if ((rc = lip__conv_embed(k, norm->lower, deadline, &upper, whole, err)) != LIP_OK)
        return rc;
    keep_smaller(norm, lip__times_up(upper, k->circular ? 1 : root_up(copies(k))), method, "embedding");
    if (norm->upper <= norm->lower * (1 + 1e-6) || !lip__conv_small(k))
        return LIP_OK;
    if (!*whole || !lip__affordable(deadline, lip__conv_matrix_flops(k))) {
        *whole = false;
        return LIP_OK;
    }
    if ((rc = by_matrix(k, &matrix, err)) != LIP_OK)
        return rc;
    norm->lower = fmax(norm->lower, matrix.lower);
    keep_smaller(norm, matrix.upper, method, "matrix");
    return LIP_OK;
}
