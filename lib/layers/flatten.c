/* flatten.c: all axes but the batch become one, in C order. No number changes. */
#include <string.h>

#include "layers/layer.h"

struct flatten {
    lip_layer base;
    const char *data_format;
};

static lip_err build(lip_layer *l, lip_error *err)
{
    (void)err;
    l->out = LIP__SHAPE(lip_shape_count(&l->in));
    return LIP_OK;
}

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
    {"data_format", LIP__CHOICE, LIP__FIELD(flatten, data_format), .choices = "channels_last|channels_first"},
    {.name = NULL},
};

const struct lip__kind lip__flatten = {
    .cls = {.name = "Flatten", .module = "keras.layers", .size = sizeof(struct flatten), .fields = fields},
    .build = build,
    .forward = forward,
    .backward = backward,
    .constant = one,
    .claimed = one,
};
