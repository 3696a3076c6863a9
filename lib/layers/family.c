/* family.c: what kinds with a kernel share. */
#include "layers/family.h"

extern const struct lip__kind lip__frobenius_dense;

static bool is_conv(const lip_layer *l)
{
    return l->kind->op == LIP__CONV;
}

const lip_rko_options *lip__layer_rko(const lip_layer *l)
{
    return is_conv(l) ? &((const struct lip__conv *)l)->rko : &((const struct lip__dense *)l)->rko;
}

bool lip__layer_disjoint(const lip_layer *l)
{
    return l->kind == &lip__frobenius_dense && ((const struct lip__dense *)l)->disjoint;
}

void lip__declare_kernel(lip_layer *l, const lip_shape *kernel, size_t outputs, bool use_bias,
                         const struct lip__object *kernel_initializer, const struct lip__object *bias_initializer)
{
    const struct lip__reparam *r = l->kind->reparam;

    lip__declare(l, "kernel", LIP_KERNEL, kernel, kernel_initializer);
    if (use_bias)
        lip__declare(l, "bias", LIP_BIAS, &LIP__SHAPE(outputs), bias_initializer);
    if (r && r->has_u) {
        lip__declare(l, "u", LIP_U, &LIP__SHAPE(1, outputs), NULL);
        lip__declare(l, "sigma", LIP_SIGMA, &LIP__SHAPE(1, 1), NULL);
    }
    if (r)
        lip__declare(l, "wbar", LIP_WBAR, kernel, NULL);
}
