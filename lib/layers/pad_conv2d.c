/* pad_conv2d.c: deel-lip's PadConv2D: Conv2D with further ways to continue an image past its edges. Not constrained.
 *
 *     constant   0 0 | a b c d | 0 0        reflect    c b | a b c d | c b
 *     symmetric  b a | a b c d | d c        circular   c d | a b c d | a b
 *
 * They add floor(kh/2) rows and floor(kw/2) columns on each side and convolve without further padding, so that an even
 * kernel enlarges the image by one. 'same' and 'valid' are Conv2D's.
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/group_conv.h"

enum way { SAME, VALID, CONSTANT, REFLECT, SYMMETRIC, CIRCULAR };

static const char names[] = "same|valid|constant|reflect|symmetric|circular";

static const struct lip__conv *conv(const lip_layer *l)
{
    return (const struct lip__conv *)l;
}

static enum way way(const lip_layer *l)
{
    const char *at = names;
    size_t size = conv(l)->padding ? strlen(conv(l)->padding) : 0;
    int i = SAME;

    for (; size && (strncmp(at, conv(l)->padding, size) || (at[size] && at[size] != '|')); i++)
        at += strcspn(at, "|") + 1;
    return (enum way)i;
}

static bool pads(const lip_layer *l)
{
    return way(l) > VALID;
}

static size_t filters(const lip_layer *l)
{
    return (size_t)conv(l)->filters;
}

static size_t groups(const lip_layer *l)
{
    return (size_t)conv(l)->groups;
}

/* Rows or columns added on each side. */
static size_t edge(const lip_layer *l, int axis)
{
    return pads(l) ? conv(l)->kernel[axis] / 2 : 0;
}

/* Of the padded image. */
struct lip__windows lip__pad_windows(const lip_layer *l)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g = {.h = l->in.dim[0] + 2 * edge(l, 0), .w = l->in.dim[1] + 2 * edge(l, 1), .c = l->in.dim[2],
                             .kh = c->kernel[0], .kw = c->kernel[1], .sh = c->strides[0], .sw = c->strides[1],
                             .dh = c->dilation[0], .dw = c->dilation[1]};

    lip__windows_set(&g, way(l) == SAME);
    return g;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g;
    char text[128];
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    for (int a = 0; a < 2; a++)
        if (way(l) > CONSTANT && edge(l, a) + (way(l) == REFLECT) > l->in.dim[a])
            return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, too small to be continued by [%zu,%zu] (%s)",
                                   lip_shape_text(lip_layer_input_shape(l), text, sizeof text), edge(l, 0), edge(l, 1), c->padding);
    g = lip__pad_windows(l);
    if (!g.oh || !g.ow)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, smaller than kernel_size [%zu,%zu]",
                               lip_shape_text(lip_layer_input_shape(l), text, sizeof text), g.kh, g.kw);
    if (lip_shape_check(&LIP__SHAPE(g.h, g.w, g.c), sizeof(float), INT32_MAX, NULL))
        return lip__layer_fail(l, err, LIP_ESHAPE, "its padded input of %zux%zux%zu is too large", g.h, g.w, g.c);
    if ((rc = lip__groups_check(l, err)) != LIP_OK)
        return rc;
    l->out = LIP__SHAPE(g.oh, g.ow, filters(l));
    lip__declare_kernel(l, &LIP__SHAPE(g.kh, g.kw, g.c / groups(l), filters(l)), filters(l), c->use_bias, c->kernel_initializer,
                        c->bias_initializer);
    return LIP_OK;
}

/* ---- padding one image ----------------------------------------------------------------------------------- */

static size_t up(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static size_t padded_size(const lip_layer *l)
{
    struct lip__windows g = lip__pad_windows(l);

    return pads(l) ? up(g.h * g.w * g.c) : 0;
}

size_t lip__pad_source(const lip_layer *l, int axis, size_t i)
{
    size_t before = edge(l, axis), n = l->in.dim[axis];
    enum way w = way(l);

    if (i >= before && i < before + n)
        return i - before;
    if (w == CONSTANT)
        return n;
    if (w == CIRCULAR)
        return (i + n - before) % n;
    if (i < before)
        return before - i - (w == SYMMETRIC);
    return n - 1 - (i - before - n) - (w == REFLECT);
}

/* Calls with each pixel of the padded image and where it comes from; zeros are left out. */
#define EACH_PIXEL(l, to, from, body)                                                                             \
    do {                                                                                                          \
        struct lip__windows g_ = lip__pad_windows(l);                                                                      \
        size_t h_ = (l)->in.dim[0], w_ = (l)->in.dim[1], to = 0;                                                  \
        for (size_t i_ = 0; i_ < g_.h; i_++)                                                                      \
            for (size_t j_ = 0; j_ < g_.w; j_++, to += g_.c) {                                                    \
                size_t row_ = lip__pad_source(l, 0, i_), column_ = lip__pad_source(l, 1, j_);                    \
                size_t from = (row_ * w_ + column_) * g_.c;                                                       \
                if (row_ < h_ && column_ < w_)                                                                    \
                    body;                                                                                         \
            }                                                                                                     \
    } while (0)

static void pad(const lip_layer *l, const float *image, float *padded)
{
    size_t c = l->in.dim[2];

    memset(padded, 0, padded_size(l) * sizeof *padded);
    EACH_PIXEL(l, to, from, memcpy(padded + to, image + from, c * sizeof *padded));
}

/* The adjoint: image += each padded pixel where it came from. */
static void unpad(const lip_layer *l, const float *padded, float *image)
{
    size_t c = l->in.dim[2];

    EACH_PIXEL(l, to, from, for (size_t m = 0; m < c; m++) image[from + m] += padded[to + m]);
}

/* ---- arithmetic --------------------------------------------------------------------------------------- */

static size_t kernel_count(const lip_layer *l)
{
    struct lip__windows g = lip__pad_windows(l);

    return lip__window_size(&g) / groups(l) * filters(l);
}

/* A padded image, one image's gradient of the kernel, and what the convolution needs. */
static size_t scratch(const lip_layer *l)
{
    struct lip__windows g = lip__pad_windows(l);

    return padded_size(l) + (pads(l) ? up(kernel_count(l)) : 0) + lip__group_conv_scratch(&g, groups(l), filters(l));
}

static size_t packed(const lip_layer *l)
{
    struct lip__windows g = lip__pad_windows(l);

    return lip__group_conv_packed_size(&g, groups(l), filters(l));
}

static void pack(const lip_layer *l, const float *const *w, float *to)
{
    struct lip__windows g = lip__pad_windows(l);

    lip__group_conv_pack(&g, groups(l), w[0], filters(l), to);
}

static size_t packed_scratch(const lip_layer *l)
{
    struct lip__windows g = lip__pad_windows(l);

    return padded_size(l) + lip__group_conv_packed_scratch(&g, groups(l), filters(l));
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = lip__pad_windows(l);
    float *rest = p->scratch + padded_size(l);

    if (!pads(l)) {
        lip__group_conv(&g, groups(l), p->n, x, p->w[0], p->packed, filters(l), p->w[1], y, rest);
        return;
    }
    for (size_t i = 0; i < p->n; i++) {
        pad(l, x + i * lip_shape_count(&l->in), p->scratch);
        lip__group_conv(&g, groups(l), 1, p->scratch, p->w[0], p->packed, filters(l), p->w[1], y + i * lip_shape_count(&l->out),
                        rest);
    }
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    struct lip__windows g = lip__pad_windows(l);
    float *rest = p->scratch + padded_size(l);

    (void)x, (void)y;
    if (!pads(l)) {
        lip__group_conv_adjoint(&g, groups(l), p->n, dy, p->w[0], filters(l), dx, rest);
        return;
    }
    memset(dx, 0, p->n * lip_shape_count(&l->in) * sizeof *dx);
    for (size_t i = 0; i < p->n; i++) {
        lip__group_conv_adjoint(&g, groups(l), 1, dy + i * lip_shape_count(&l->out), p->w[0], filters(l), p->scratch, rest);
        unpad(l, p->scratch, dx + i * lip_shape_count(&l->in));
    }
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    struct lip__windows g = lip__pad_windows(l);
    float *dk = p->scratch + padded_size(l), *rest = dk + (pads(l) ? up(kernel_count(l)) : 0);

    if (p->dw[1])
        lip__sum_columns(dy, p->n * g.oh * g.ow, filters(l), p->dw[1]);
    if (!p->dw[0])
        return;
    if (!pads(l)) {
        lip__group_conv_gradient(&g, groups(l), p->n, x, dy, filters(l), p->dw[0], rest);
        return;
    }
    memset(p->dw[0], 0, kernel_count(l) * sizeof *p->dw[0]);
    for (size_t i = 0; i < p->n; i++) {
        pad(l, x + i * lip_shape_count(&l->in), p->scratch);
        lip__group_conv_gradient(&g, groups(l), 1, p->scratch, dy + i * lip_shape_count(&l->out), filters(l), dk, rest);
        for (size_t j = 0; j < kernel_count(l); j++)
            p->dw[0][j] += dk[j];
    }
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)lip_shape_count(&l->out) * (double)(conv(l)->kernel[0] * conv(l)->kernel[1] * l->in.dim[2] / groups(l));
}

static const struct lip__field fields[] = {LIP__CONV_FIELDS(names, LIP__GLOROT_UNIFORM), {.name = NULL}};

const struct lip__kind lip__pad_conv2d = {
    .cls = {.name = "PadConv2D", .module = "deel.lip.layers.unconstrained", .package = "deel-lip",
            .size = sizeof(struct lip__conv), .fields = fields},
    .op = LIP__PADDED,
    .check = lip__conv_check,
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
