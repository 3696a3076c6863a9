/* family.c: what kinds with a kernel share. */
#include "layers/family.h"

#include <stdint.h>
#include <string.h>

extern const struct lip__kind lip__frobenius_dense;

const lip_rko_options *lip__layer_rko(const lip_layer *l)
{
    return l->kind->op == LIP__MATRIX ? &((const struct lip__dense *)l)->rko : &((const struct lip__conv *)l)->rko;
}

bool lip__layer_disjoint(const lip_layer *l)
{
    return l->kind == &lip__frobenius_dense && ((const struct lip__dense *)l)->disjoint;
}

void lip__declare_kernel(lip_layer *l, const lip_shape *kernel, size_t outputs, bool use_bias,
                         const struct lip__object *kernel_initializer, const struct lip__object *bias_initializer)
{
    const struct lip__reparam *r = l->kind->reparam;

    lip__declare(l, "kernel", LIP_KERNEL, kernel, kernel_initializer, l->kernel_regularizer, l->kernel_constraint);
    if (use_bias)
        lip__declare(l, "bias", LIP_BIAS, &LIP__SHAPE(outputs), bias_initializer, l->bias_regularizer, l->bias_constraint);
    if (r && r->has_u) {
        lip__declare(l, "u", LIP_U, &LIP__SHAPE(1, outputs), NULL, NULL, NULL);
        lip__declare(l, "sigma", LIP_SIGMA, &LIP__SHAPE(1, 1), NULL, NULL, NULL);
    }
    if (r)
        lip__declare(l, "wbar", LIP_WBAR, kernel, NULL, NULL, NULL);
}

double lip__one(const lip_layer *l)
{
    (void)l;
    return 1;
}

void lip__copy_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    memcpy(y, x, p->n * lip_shape_count(&l->in) * sizeof *y);
}

void lip__copy_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy, float *dx)
{
    (void)x, (void)y;
    memcpy(dx, dy, p->n * lip_shape_count(&l->in) * sizeof *dx);
}

lip_err lip__conv_check(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)l;

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
    if (c->groups < 1 || c->filters % c->groups)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "groups is %ld, needs an integer >= 1 that divides filters, which is %ld",
                               c->groups, c->filters);
    if (c->groups != 1 && l->kind->flags & LIP__LIPSCHITZ) /* deel-lip computes with them, and with a factor that ignores them */
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "groups is %ld, a constrained convolution has only 1", c->groups);
    if (!c->dilation[0] || !c->dilation[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "dilation_rate is [%zu,%zu], needs integers >= 1", c->dilation[0],
                               c->dilation[1]);
    if ((c->strides[0] > 1 || c->strides[1] > 1) && (c->dilation[0] > 1 || c->dilation[1] > 1))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "strides is [%zu,%zu] and dilation_rate [%zu,%zu], one of them needs to be 1",
                               c->strides[0], c->strides[1], c->dilation[0], c->dilation[1]);
    return LIP_OK;
}

lip_err lip__conv_check_constrained(lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)l;

    if (c->dilation[0] != 1 || c->dilation[1] != 1)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "%s does not support dilation rate, found [%zu,%zu]",
                               l->kind->cls.name, c->dilation[0], c->dilation[1]);
    if (c->padding && !strcmp(c->padding, "valid"))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "%s only supports padding='same', found '%s'", l->kind->cls.name,
                               c->padding);
    return lip__conv_check(l, err);
}

lip_err lip__groups_check(const lip_layer *l, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)l;

    if (l->in.dim[2] % (size_t)c->groups == 0)
        return LIP_OK;
    return lip__layer_fail(l, err, LIP_ESHAPE, "groups is %ld, needs to divide the channels of its input, which are %zu", c->groups,
                           l->in.dim[2]);
}

lip_err lip__image_check(const lip_layer *l, lip_error *err)
{
    char text[128];

    if (l->in.rank == 3)
        return LIP_OK;
    return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, needs %s",
                           lip_shape_text(lip_layer_input_shape(l), text, sizeof text),
                           l->first ? "[channels,height,width]" : "[height,width,channels]");
}

lip_err lip__conv_set_coefficient(lip_layer *l, size_t h, size_t w, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)l;
    size_t (*nu)(size_t, size_t, size_t) = l->kind->op == LIP__ADJOINT ? lip_conv_transpose_nu : lip_conv_nu;

    l->coef = l->sound ? 1 / sqrt((double)nu(h, c->kernel[0], c->strides[0]) * (double)nu(w, c->kernel[1], c->strides[1]))
                       : lip_conv_factor(c->kernel[0], c->kernel[1], c->strides[0], c->strides[1], h, w);
    if (l->coef > 0 && isfinite(l->coef))
        return LIP_OK;
    return lip__layer_fail(l, err, LIP_ESHAPE, "no correction factor exists for kernel_size [%zu,%zu] on an image of %zux%zu",
                           c->kernel[0], c->kernel[1], h, w);
}
