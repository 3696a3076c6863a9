/* input_layer.c: where a model begins: it says the input's shape and does nothing. */
#include <string.h>

#include "layers/layer.h"

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    memcpy(y, x, p->n * lip_shape_count(&l->in) * sizeof *y);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    (void)x, (void)y;
    memcpy(dx, dy, p->n * lip_shape_count(&l->in) * sizeof *dx);
}

static double one(const lip_layer *l)
{
    (void)l;
    return 1;
}

static const struct lip__field fields[] = {
    {.name = "sparse", .type = LIP__FIXED, .def = 0, .choices = "false"},
    {.name = "ragged", .type = LIP__FIXED, .def = 0, .choices = "false"},
    {.name = NULL},
};

const struct lip__kind lip__input_layer = {
    .cls = {.name = "InputLayer", .module = "keras.layers", .size = sizeof(lip_layer), .fields = fields},
    .flags = LIP__INPUT,
    .forward = forward,
    .backward = backward,
    .constant = one,
    .claimed = one,
};
