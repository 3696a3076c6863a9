/* conv2d.c: y[p, r, f] = b[f] + sum over a, b, c of x[p s0 + a - top, r s1 + b - left, c] K[a, b, c, f]; Conv2D, and
 * SpectralConv2D, which differs only in how K comes from the kernel.
 *
 * Windows become rows of a panel that fits half a second-level cache, and the panel is multiplied by K as a matrix
 * (kh kw c, f): one panel per thread, however large the batch. Images of few channels make panels that cost more to copy
 * than to multiply; small_conv.c reads their windows where they lie.
 *
 * Source: deel-lip and TensorFlow (semantics.md 5.2).
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/gemm.h"
#include "tensor/im2col.h"
#include "tensor/small_conv.h"

enum { PANEL = 65536 }; /* floats: 256 KiB */

static const struct lip__conv *conv(const lip_layer *l)
{
    return (const struct lip__conv *)l;
}

static bool valid(const lip_layer *l)
{
    return conv(l)->padding && !strcmp(conv(l)->padding, "valid");
}

static struct lip__windows windows(const lip_layer *l)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g = {.h = l->in.dim[0], .w = l->in.dim[1], .c = l->in.dim[2], .kh = c->kernel[0], .kw = c->kernel[1],
                             .sh = c->strides[0], .sw = c->strides[1]};

    lip__windows_set(&g, !valid(l));
    return g;
}

static size_t filters(const lip_layer *l)
{
    return (size_t)conv(l)->filters;
}

/* ---- definition --------------------------------------------------------------------------------------- */

static lip_err check(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);

    if (c->filters < 1 || c->filters > INT32_MAX)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "filters is %ld, needs an integer >= 1 and <= %d", c->filters,
                               INT32_MAX);
    for (int a = 0; a < 2; a++) {
        if (!c->kernel[a] || c->kernel[a] > UINT16_MAX)
            return lip__layer_fail(l, err, LIP_EDEFINITION, "kernel_size is [%zu,%zu], needs integers >= 1 and <= %d",
                                   c->kernel[0], c->kernel[1], UINT16_MAX);
        if (!c->strides[a] || c->strides[a] > INT32_MAX)
            return lip__layer_fail(l, err, LIP_EDEFINITION, "strides is [%zu,%zu], needs integers >= 1 and <= %d",
                                   c->strides[0], c->strides[1], INT32_MAX);
    }
    if (c->groups != 1)
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "groups is %ld; only 1 is built in", c->groups);
    if (c->dilation[0] != 1 || c->dilation[1] != 1)
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "dilation_rate is [%zu,%zu]; only 1 is built in", c->dilation[0],
                               c->dilation[1]);
    if (c->data_format && !strcmp(c->data_format, "channels_first"))
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "data_format \"channels_first\" is not built in");
    return LIP_OK;
}

/* What deel-lip refuses is wrong, not merely missing here. */
static lip_err check_spectral(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);

    if (c->dilation[0] != 1 || c->dilation[1] != 1)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "SpectralConv2D does not support dilation rate, found [%zu,%zu]",
                               c->dilation[0], c->dilation[1]);
    if (valid(l))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "SpectralConv2D only supports padding='same', found '%s'", c->padding);
    return check(l, err);
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g;
    char text[128];

    if (l->in.rank != 3)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, needs [height,width,channels]",
                               lip_shape_text(&l->in, text, sizeof text));
    g = windows(l);
    if (!g.oh || !g.ow)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, smaller than kernel_size [%zu,%zu]",
                               lip_shape_text(&l->in, text, sizeof text), c->kernel[0], c->kernel[1]);
    l->out = LIP__SHAPE(g.oh, g.ow, filters(l));
    if (l->kind->flags & LIP__LIPSCHITZ) {
        l->coef = lip_conv_factor(c->kernel[0], c->kernel[1], c->strides[0], c->strides[1], g.h, g.w);
        if (!(l->coef > 0) || !isfinite(l->coef))
            return lip__layer_fail(l, err, LIP_ESHAPE, "no correction factor exists for kernel_size [%zu,%zu] on an image of %zux%zu",
                                   c->kernel[0], c->kernel[1], g.h, g.w);
    }
    lip__declare_kernel(l, &LIP__SHAPE(c->kernel[0], c->kernel[1], g.c, filters(l)), filters(l), c->use_bias,
                        c->kernel_initializer, c->bias_initializer);
    return LIP_OK;
}

/* ---- arithmetic --------------------------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A 1x1 window that steps by one pixel: the images are their own panel. */
static bool is_matrix(const struct lip__windows *g)
{
    return g->kh * g->kw == 1 && g->sh * g->sw == 1;
}

static size_t panel_rows(const struct lip__windows *g)
{
    size_t rows = PANEL / lip__window_size(g);

    return rows ? rows : 1;
}

static size_t panel_size(const struct lip__windows *g)
{
    return panel_rows(g) * lip__window_size(g);
}

static size_t round16(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* Per thread: a panel, or what small_conv.c needs; then one thread's gradients of the kernel, and of the bias in double. */
static size_t work_size(const struct lip__windows *g, size_t f)
{
    return round16(lip__small_conv_fits(g) ? lip__small_conv_scratch(g, f) : panel_size(g));
}

static size_t scratch(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return work_size(&g, filters(l)) + round16(lip__window_size(&g) * filters(l)) + round16(2 * filters(l));
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = windows(l);
    size_t f = filters(l), size = lip__window_size(&g), all = p->n * g.oh * g.ow;

    if (lip__small_conv_fits(&g)) {
        lip__small_conv(&g, p->n, x, p->w[0], f, p->w[1], y, p->scratch);
        return;
    }
    for (size_t first = 0, rows; first < all; first += rows) {
        rows = smaller(panel_rows(&g), all - first);
        const float *panel = is_matrix(&g) ? x + first * size : p->scratch;
        if (!is_matrix(&g))
            lip__im2col(&g, x, first, rows, p->scratch);
        lip__fill_bias(y + first * f, rows, f, p->w[1]);
        lip__gemm(false, false, rows, f, size, 1, panel, size, p->w[0], f, 1, y + first * f, f);
    }
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    struct lip__windows g = windows(l);
    size_t f = filters(l), size = lip__window_size(&g), all = p->n * g.oh * g.ow;
    size_t most = smaller(panel_rows(&g), scratch(l) / size);

    (void)x, (void)y;
    if (is_matrix(&g)) {
        lip__gemm(false, true, all, size, f, 1, dy, f, p->w[0], f, 0, dx, size);
        return;
    }
    memset(dx, 0, p->n * lip_shape_count(&l->in) * sizeof *dx);
    for (size_t first = 0, rows; first < all; first += rows) {
        rows = smaller(most, all - first);
        lip__gemm(false, true, rows, size, f, 1, dy + first * f, f, p->w[0], f, 0, p->scratch, size);
        lip__col2im(&g, p->scratch, first, rows, dx);
    }
}

/* One thread's share of a gradient: windows [first, last) of the batch, whole images where small_conv.c does the work. */
struct share {
    const lip_layer *l;
    const struct lip__pass *p;
    const float *x, *dy;
    size_t shares, floats; /* how many; scratch of each */
};

static void part_gradient(void *ctx, size_t i, size_t thread)
{
    const struct share *s = ctx;
    const lip_layer *l = s->l;
    struct lip__windows g = windows(l);
    bool small = lip__small_conv_fits(&g);
    size_t f = filters(l), size = lip__window_size(&g), unit = small ? g.oh * g.ow : 1;
    size_t all = s->p->n * g.oh * g.ow / unit, first = all * i / s->shares * unit, last = all * (i + 1) / s->shares * unit;
    float *work = s->p->scratch + i * s->floats, *dw = work + work_size(&g, f);
    double *db = (double *)(dw + round16(size * f));

    (void)thread;
    memset(dw, 0, size * f * sizeof *dw);
    memset(db, 0, f * sizeof *db);
    if (s->p->dw[0] && small)
        lip__small_conv_gradient(&g, (last - first) / unit, s->x + first / unit * lip_shape_count(&l->in), s->dy + first * f,
                                 f, dw, work);
    for (size_t rows; first < last; first += rows) {
        rows = smaller(panel_rows(&g), last - first);
        if (s->p->dw[0] && !small) {
            const float *panel = is_matrix(&g) ? s->x + first * size : work;
            if (!is_matrix(&g))
                lip__im2col(&g, s->x, first, rows, work);
            lip__gemm(true, false, size, f, rows, 1, panel, size, s->dy + first * f, f, 1, dw, f);
        }
        if (s->p->dw[1])
            lip__add_columns(s->dy + first * f, rows, f, db);
    }
}

/* Each share adds up in its own scratch, then they are added in their order: the same threads give the same bits. */
static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    struct lip__windows g = windows(l);
    size_t f = filters(l), count = lip__window_size(&g) * f, at = work_size(&g, f);
    struct share s = {.l = l, .p = p, .x = x, .dy = dy, .shares = lip_threads(), .floats = scratch(l)};

    lip__parallel(s.shares, part_gradient, &s);
    for (size_t i = 0; i < s.shares; i++) {
        const float *dw = p->scratch + i * s.floats + at;
        const double *db = (const double *)(dw + round16(count));
        for (size_t j = 0; p->dw[0] && j < count; j++)
            p->dw[0][j] = i ? p->dw[0][j] + dw[j] : dw[j];
        for (size_t j = 0; p->dw[1] && j < f; j++)
            p->dw[1][j] = i ? (float)(p->dw[1][j] + db[j]) : (float)db[j];
    }
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)lip_shape_count(&l->out) * (double)(conv(l)->kernel[0] * conv(l)->kernel[1] * l->in.dim[2]);
}

static double claims_nothing(const lip_layer *l)
{
    (void)l;
    return NAN;
}

/* ---- kinds -------------------------------------------------------------------------------------------- */

#define BASE_FIELDS(choices_of_padding, kernel_default)                                                                     \
    {"filters", LIP__INT, LIP__FIELD(lip__conv, filters), .def = NAN, .min = 1, .max = INT32_MAX},                          \
        {"kernel_size", LIP__PAIR, LIP__FIELD(lip__conv, kernel), .def = NAN, .min = 1, .max = UINT16_MAX},                 \
        {"strides", LIP__PAIR, LIP__FIELD(lip__conv, strides), .def = 1, .min = 1, .max = INT32_MAX},                       \
        {"padding", LIP__CHOICE, LIP__FIELD(lip__conv, padding), .choices = (choices_of_padding), .flags = LIP__ANY_CASE},  \
        {"data_format", LIP__CHOICE, LIP__FIELD(lip__conv, data_format), .choices = "channels_last|channels_first"},        \
        {"dilation_rate", LIP__PAIR, LIP__FIELD(lip__conv, dilation), .def = 1, .min = 1, .max = INT32_MAX},                \
        {"groups", LIP__INT, LIP__FIELD(lip__conv, groups), .def = 1, .min = 1, .max = INT32_MAX}, LIP__SLOT_FIELD,         \
        {"use_bias", LIP__BOOL, LIP__FIELD(lip__conv, use_bias), .def = 1}, LIP__KERNEL_FIELDS(lip__conv, kernel_default)

static const struct lip__field conv_fields[] = {BASE_FIELDS("valid|same", LIP__GLOROT_UNIFORM), {.name = NULL}};

static const struct lip__field spectral_fields[] = {
    BASE_FIELDS("same|valid", LIP__SPECTRAL_INITIALIZER), LIP__K_FIELD, LIP__RKO_FIELDS(lip__conv), {.name = NULL}};

const struct lip__kind lip__conv2d = {
    .cls = {.name = "Conv2D", .module = "keras.layers", .size = sizeof(struct lip__conv), .fields = conv_fields},
    .op = LIP__CONV,
    .check = check,
    .build = build,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .flops = flops,
    .claimed = claims_nothing,
};

const struct lip__kind lip__spectral_conv2d = {
    .cls = {.name = "SpectralConv2D", .module = "deel.lip.layers.convolutional", .package = "deel-lip",
            .size = sizeof(struct lip__conv), .fields = spectral_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__CONV,
    .vanilla = &lip__conv2d,
    .check = check_spectral,
    .build = build,
    .reparam = &lip__spectral,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .flops = flops,
};
