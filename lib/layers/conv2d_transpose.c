/* conv2d_transpose.c: the adjoint of a strided convolution, plus a bias; Conv2DTranspose, and SpectralConv2DTranspose, which
 * differs in how K comes from the kernel.
 *
 *     y[i s0 + a d0 - top, j s1 + b d1 - left, f] += x[i, j, c] K[a, b, f, c]
 *
 * The windows are those of the convolution from y to x. How large y is the strides leave open: 'same' makes it
 * h s0 x w s1, and output_padding, where it is given, says how many pixels it has beyond the last that the last window
 * needs. K is stored (kh, kw, filters, channels), and SpectralConv2DTranspose makes the matrix (kh kw channels, filters) 1-Lipschitz, so it swaps the last two axes first: in the forward pass as
 * deel-lip, and in condense too (deel-lip's own condense does not, D04).
 *
 * Source: deel-lip and TensorFlow (semantics.md 5.3, 5.5).
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/conv.h"

static const struct lip__conv *conv(const lip_layer *l)
{
    return (const struct lip__conv *)l;
}

static bool valid(const lip_layer *l)
{
    return conv(l)->padding && !strcmp(conv(l)->padding, "valid");
}

static size_t filters(const lip_layer *l)
{
    return (size_t)conv(l)->filters;
}

static size_t channels(const lip_layer *l)
{
    return l->in.dim[2];
}

static struct lip__windows windows(const lip_layer *l)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g = {.h = l->out.dim[0], .w = l->out.dim[1], .c = filters(l), .kh = c->kernel[0], .kw = c->kernel[1],
                             .sh = c->strides[0], .sw = c->strides[1], .dh = c->dilation[0], .dw = c->dilation[1]};

    lip__windows_set(&g, !valid(l));
    return g;
}

/* ---- definition --------------------------------------------------------------------------------------- */

/* What TensorFlow has of it. */
static lip_err check_plain(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);

    if (c->groups != 1)
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "groups is %ld, a transposed convolution has only 1", c->groups);
    if (c->dilation[0] != c->dilation[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "dilation_rate is [%zu,%zu], needs equal ones", c->dilation[0],
                               c->dilation[1]);
    for (int a = 0; a < 2; a++)
        if (c->output_padding[a] != SIZE_MAX && c->output_padding[a] >= c->strides[a])
            return lip__layer_fail(l, err, LIP_EDEFINITION, "output_padding is [%zu,%zu], needs less than strides, which is [%zu,%zu]",
                                   c->output_padding[0], c->output_padding[1], c->strides[0], c->strides[1]);
    return lip__conv_check(l, err);
}

static lip_err check_spectral(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);

    if (c->output_padding[0] != SIZE_MAX)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "%s only supports output_padding=None, found [%zu,%zu]", l->kind->cls.name,
                               c->output_padding[0], c->output_padding[1]);
    return lip__conv_check_constrained(l, err);
}

/* Keras's rules for the size of y along an axis, of windows that reach over `window` pixels. */
static size_t length(const lip_layer *l, int axis)
{
    const struct lip__conv *c = conv(l);
    size_t n = l->in.dim[axis], step = c->strides[axis], window = lip__reach(c->kernel[axis], c->dilation[axis]);

    if (c->output_padding[axis] == SIZE_MAX)
        return n * step + (valid(l) && window > step ? window - step : 0);
    return (n - 1) * step + (valid(l) ? window : window % 2) + c->output_padding[axis];
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g;
    char text[128];
    lip_err rc;
    size_t limit = INT32_MAX;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    if (c->strides[0] > limit / l->in.dim[0] || c->strides[1] > limit / l->in.dim[1])
        return lip__layer_fail(l, err, LIP_ESHAPE, "strides [%zu,%zu] make its input %s too large", c->strides[0], c->strides[1],
                               lip_shape_text(lip_layer_input_shape(l), text, sizeof text));
    l->out = LIP__SHAPE(length(l, 0), length(l, 1), filters(l));
    g = windows(l);
    if (g.oh != l->in.dim[0] || g.ow != l->in.dim[1]) /* 'same', and a window of even reach: TensorFlow refuses it too */
        return lip__layer_fail(l, err, LIP_EDEFINITION, "output_padding is [%zu,%zu], needs at least 1 where kernel_size is even",
                               c->output_padding[0], c->output_padding[1]);
    if (l->kind->flags & LIP__LIPSCHITZ && (rc = lip__conv_set_coefficient(l, l->in.dim[0], l->in.dim[1], err)) != LIP_OK)
        return rc;
    lip__declare_kernel(l, &LIP__SHAPE(c->kernel[0], c->kernel[1], filters(l), channels(l)), filters(l), c->use_bias,
                        c->kernel_initializer, c->bias_initializer);
    return LIP_OK;
}

/* ---- arithmetic --------------------------------------------------------------------------------------- */

static size_t scratch(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__conv_scratch(&g, channels(l));
}

static size_t packed(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__conv_adjoint_packed_size(&g, channels(l));
}

static void pack(const lip_layer *l, const float *const *w, float *to)
{
    struct lip__windows g = windows(l);

    lip__conv_adjoint_pack(&g, w[0], channels(l), to);
}

static size_t packed_scratch(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__conv_adjoint_packed_scratch(&g, channels(l));
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = windows(l);

    lip__conv_adjoint(&g, p->n, x, p->w[0], p->packed, channels(l), p->w[1], y, p->scratch);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    struct lip__windows g = windows(l);

    (void)x, (void)y;
    lip__conv(&g, p->n, dy, p->w[0], NULL, channels(l), NULL, dx, p->scratch);
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    struct lip__windows g = windows(l);

    if (p->dw[0])
        lip__conv_gradient(&g, p->n, dy, x, channels(l), p->dw[0], p->scratch);
    if (p->dw[1])
        lip__sum_columns(dy, p->n * g.h * g.w, filters(l), p->dw[1]);
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)lip_shape_count(&l->in) * (double)(conv(l)->kernel[0] * conv(l)->kernel[1] * filters(l));
}

/* ---- the kernel's other matrix ------------------------------------------------------------------------- */

/* to (taps, b, a) <- from (taps, a, b). */
static void swap(size_t taps, size_t a, size_t b, const float *from, float *to)
{
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < a; i++)
            for (size_t j = 0; j < b; j++)
                to[(t * b + j) * a + i] = from[(t * a + i) * b + j];
}

static size_t taps(const lip_layer *l)
{
    return conv(l)->kernel[0] * conv(l)->kernel[1];
}

static size_t up(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* The inner scratch, a swapped kernel, and a swapped result or gradient. */
static size_t swapped_scratch(const lip_layer *l, size_t m, size_t n, bool keep)
{
    return up(lip__spectral.scratch(l, m, n, keep)) + 2 * up(m * n);
}

static lip_err swapped_forward(const lip_layer *l, const float *w, size_t m, size_t n, const float *u, float *u_new,
                               float *wbar, float *area, bool keep, lip_rko_info *info, struct lip__factor *factor, lip_error *err)
{
    float *kernel = area + up(lip__spectral.scratch(l, m, n, keep)), *result = kernel + up(m * n);
    lip_err rc;

    (void)factor;
    swap(taps(l), n, m / taps(l), w, kernel);
    rc = lip__spectral.forward(l, kernel, m, n, u, u_new, result, area, keep, info, NULL, err);
    if (!rc)
        swap(taps(l), m / taps(l), n, result, wbar);
    return rc;
}

static lip_err swapped_backward(const lip_layer *l, const float *w, size_t m, size_t n, const lip_rko_info *info,
                                const float *u, const float *u_new, const float *g, float *dw, float *area,
                                const struct lip__factor *factor, lip_error *err)
{
    float *kernel = area + up(lip__spectral.scratch(l, m, n, true)), *upstream = kernel + up(m * n);
    lip_err rc;

    (void)factor;
    swap(taps(l), n, m / taps(l), w, kernel);
    swap(taps(l), n, m / taps(l), g, upstream);
    rc = lip__spectral.backward(l, kernel, m, n, info, u, u_new, upstream, upstream, area, NULL, err);
    if (!rc)
        swap(taps(l), m / taps(l), n, upstream, dw);
    return rc;
}

static const struct lip__reparam swapped = {
    .has_u = true, .scratch = swapped_scratch, .forward = swapped_forward, .backward = swapped_backward};

/* ---- kinds -------------------------------------------------------------------------------------------- */

#define TRANSPOSE_FIELDS(choices_of_padding, kernel_default) \
    LIP__CONV_FIELDS(choices_of_padding, kernel_default),                                                    \
    {                                                                                                        \
        "output_padding", LIP__PAIR, LIP__FIELD(lip__conv, output_padding), .def = NAN, .max = INT32_MAX,    \
        .flags = LIP__NONE_OK                                                                                \
    }

static const struct lip__field fields[] = {TRANSPOSE_FIELDS("valid|same", LIP__GLOROT_UNIFORM), {.name = NULL}};

static const struct lip__field spectral_fields[] = {
    TRANSPOSE_FIELDS("same|valid", LIP__SPECTRAL_INITIALIZER), LIP__K_FIELD, LIP__COEF_FIELD, LIP__RKO_FIELDS(lip__conv), {.name = NULL}};

const struct lip__kind lip__conv2d_transpose = {
    .cls = {.name = "Conv2DTranspose", .module = "keras.layers", .size = sizeof(struct lip__conv), .fields = fields},
    .op = LIP__ADJOINT,
    .check = check_plain,
    .build = build,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .packed = packed,
    .pack = pack,
    .packed_scratch = packed_scratch,
    .flops = flops,
};

const struct lip__kind lip__spectral_conv2d_transpose = {
    .cls = {.name = "SpectralConv2DTranspose", .module = "deel.lip.layers.convolutional", .package = "deel-lip",
            .size = sizeof(struct lip__conv), .fields = spectral_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__ADJOINT,
    .vanilla = &lip__conv2d_transpose,
    .check = check_spectral,
    .build = build,
    .reparam = &swapped,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .packed = packed,
    .pack = pack,
    .packed_scratch = packed_scratch,
    .flops = flops,
};
