/* scale.c: a tensor times a constant: Keras's Rescaling, y = scale x + offset, and what `x * c` becomes in a functional model,
 * a TFOpLambda of math.multiply whose y is a number in the node that calls it.
 */
#include <math.h>

#include "layers/family.h"

struct scale {
    lip_layer base;
    double scale, offset;
    const char *function;
};

static const struct scale *scale(const lip_layer *l)
{
    return (const struct scale *)l;
}

static lip_err multiply_build(lip_layer *l, lip_error *err)
{
    if (isnan(scale(l)->scale))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "the call of math.multiply has no y, needs a number");
    return LIP_OK;
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    float by = (float)scale(l)->scale, plus = (float)scale(l)->offset;

    for (size_t i = 0; i < p->n * lip_shape_count(&l->in); i++)
        y[i] = x[i] * by + plus;
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    float by = (float)scale(l)->scale;

    (void)x, (void)y;
    for (size_t i = 0; i < p->n * lip_shape_count(&l->in); i++)
        dx[i] = dy[i] * by;
}

/* Of the float that is used. */
static double constant(const lip_layer *l)
{
    return fabs((double)(float)scale(l)->scale);
}

static const struct lip__field rescaling_fields[] = {
    {"scale", LIP__FLOAT, LIP__FIELD(scale, scale), .def = NAN, .min = -INFINITY, .max = INFINITY},
    {"offset", LIP__FLOAT, LIP__FIELD(scale, offset), .def = 0, .min = -INFINITY, .max = INFINITY},
    {.name = NULL},
};

static const struct lip__field multiply_fields[] = {
    {"function", LIP__CHOICE, LIP__FIELD(scale, function), .choices = "math.multiply"},
    {"y", LIP__FLOAT, LIP__FIELD(scale, scale), .def = NAN, .min = -INFINITY, .max = INFINITY, .flags = LIP__CALL | LIP__NONE_OK},
    {.name = NULL},
};

const struct lip__kind lip__rescaling = {
    .cls = {.name = "Rescaling", .module = "keras.layers", .size = sizeof(struct scale), .fields = rescaling_fields},
    .flags = LIP__POINTWISE,
    .forward = forward,
    .backward = backward,
    .constant = constant,
};

const struct lip__kind lip__multiply_by = {
    .cls = {.name = "TFOpLambda", .module = "keras.src.layers.core.tf_op_layer", .size = sizeof(struct scale), .fields = multiply_fields},
    .flags = LIP__POINTWISE,
    .build = multiply_build,
    .forward = forward,
    .backward = backward,
    .constant = constant,
};
