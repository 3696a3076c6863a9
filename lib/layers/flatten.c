/* flatten.c: all axes but the batch become one, in C order. No number changes. */
#include "layers/family.h"

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

static const struct lip__field fields[] = {
    {"data_format", LIP__CHOICE, LIP__FIELD(flatten, data_format), .choices = "channels_last|channels_first"},
    {.name = NULL},
};

const struct lip__kind lip__flatten = {
    .cls = {.name = "Flatten", .module = "keras.layers", .size = sizeof(struct flatten), .fields = fields},
    .build = build,
    .forward = lip__copy_forward,
    .backward = lip__copy_backward,
    .constant = lip__one,
    .claimed = lip__one,
};
