/* conv2d.c: y[p, r, f] = b[f] + sum over a, b, c of x[p s0 + a d0 - top, r s1 + b d1 - left, c] K[a, b, c, f]; Conv2D, and
 * SpectralConv2D and FrobeniusConv2D, which differ only in how K comes from the kernel, and have neither groups nor dilation.
 * tensor/ has the arithmetic.
 *
 * Source: deel-lip and TensorFlow (semantics.md 5.2).
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/group_conv.h"

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
                             .sh = c->strides[0], .sw = c->strides[1], .dh = c->dilation[0], .dw = c->dilation[1]};

    lip__windows_set(&g, !valid(l));
    return g;
}

static size_t filters(const lip_layer *l)
{
    return (size_t)conv(l)->filters;
}

static size_t groups(const lip_layer *l)
{
    return (size_t)conv(l)->groups;
}

/* ---- definition --------------------------------------------------------------------------------------- */

static lip_err check_frobenius(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);

    if (c->strides[0] != 1 || c->strides[1] != 1)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "FrobeniusConv2D does not support strides, found [%zu,%zu]",
                               c->strides[0], c->strides[1]);
    if (l->kernel_constraint && strcmp(l->kernel_constraint->cls->name, "SpectralConstraint"))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "FrobeniusConv2D only supports a SpectralConstraint as kernel_constraint, "
                               "found %s", l->kernel_constraint->cls->name);
    return lip__conv_check_constrained(l, err);
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = conv(l);
    struct lip__windows g;
    char text[128];
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    g = windows(l);
    if (!g.oh || !g.ow)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, smaller than kernel_size [%zu,%zu]%s",
                               lip_shape_text(lip_layer_input_shape(l), text, sizeof text), c->kernel[0], c->kernel[1],
                               lip__dilated(&g) ? " with its dilation_rate" : "");
    if ((rc = lip__groups_check(l, err)) != LIP_OK)
        return rc;
    l->out = LIP__SHAPE(g.oh, g.ow, filters(l));
    if (l->kind->flags & LIP__LIPSCHITZ && (rc = lip__conv_set_coefficient(l, g.h, g.w, err)) != LIP_OK)
        return rc;
    lip__declare_kernel(l, &LIP__SHAPE(c->kernel[0], c->kernel[1], g.c / groups(l), filters(l)), filters(l), c->use_bias,
                        c->kernel_initializer, c->bias_initializer);
    return LIP_OK;
}

/* ---- arithmetic --------------------------------------------------------------------------------------- */

static size_t scratch(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__group_conv_scratch(&g, groups(l), filters(l));
}

static size_t packed(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__group_conv_packed_size(&g, groups(l), filters(l));
}

static void pack(const lip_layer *l, const float *const *w, float *to)
{
    struct lip__windows g = windows(l);

    lip__group_conv_pack(&g, groups(l), w[0], filters(l), to);
}

static size_t packed_scratch(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return lip__group_conv_packed_scratch(&g, groups(l), filters(l));
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = windows(l);

    lip__group_conv(&g, groups(l), p->n, x, p->w[0], p->packed, filters(l), p->w[1], y, p->scratch);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    struct lip__windows g = windows(l);

    (void)x, (void)y;
    lip__group_conv_adjoint(&g, groups(l), p->n, dy, p->w[0], filters(l), dx, p->scratch);
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    struct lip__windows g = windows(l);

    if (p->dw[0])
        lip__group_conv_gradient(&g, groups(l), p->n, x, dy, filters(l), p->dw[0], p->scratch);
    if (p->dw[1])
        lip__sum_columns(dy, p->n * g.oh * g.ow, filters(l), p->dw[1]);
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)lip_shape_count(&l->out) * (double)(conv(l)->kernel[0] * conv(l)->kernel[1] * l->in.dim[2] / groups(l));
}

/* ---- kinds -------------------------------------------------------------------------------------------- */

static const struct lip__field conv_fields[] = {LIP__CONV_FIELDS("valid|same", LIP__GLOROT_UNIFORM), {.name = NULL}};

static const struct lip__field spectral_fields[] = {
    LIP__CONV_FIELDS("same|valid", LIP__SPECTRAL_INITIALIZER), LIP__K_FIELD, LIP__COEF_FIELD, LIP__RKO_FIELDS(lip__conv), {.name = NULL}};

static const struct lip__field frobenius_fields[] = {
    LIP__CONV_FIELDS("same|valid", LIP__SPECTRAL_INITIALIZER), LIP__K_FIELD, LIP__COEF_FIELD, {.name = NULL}};

const struct lip__kind lip__conv2d = {
    .cls = {.name = "Conv2D", .module = "keras.layers", .size = sizeof(struct lip__conv), .fields = conv_fields},
    .op = LIP__CONV,
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

const struct lip__kind lip__spectral_conv2d = {
    .cls = {.name = "SpectralConv2D", .module = "deel.lip.layers.convolutional", .package = "deel-lip",
            .size = sizeof(struct lip__conv), .fields = spectral_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__CONV,
    .vanilla = &lip__conv2d,
    .check = lip__conv_check_constrained,
    .build = build,
    .reparam = &lip__spectral,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .packed = packed,
    .pack = pack,
    .packed_scratch = packed_scratch,
    .flops = flops,
};

const struct lip__kind lip__frobenius_conv2d = {
    .cls = {.name = "FrobeniusConv2D", .module = "deel.lip.layers.convolutional", .package = "deel-lip",
            .size = sizeof(struct lip__conv), .fields = frobenius_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__CONV,
    .vanilla = &lip__conv2d,
    .check = check_frobenius,
    .build = build,
    .reparam = &lip__frobenius,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .packed = packed,
    .pack = pack,
    .packed_scratch = packed_scratch,
    .flops = flops,
};
