/* input_layer.c: where a model begins: it says the input's shape and does nothing. */
#include "layers/family.h"

static const struct lip__field fields[] = {
    {.name = "sparse", .type = LIP__FIXED, .def = 0, .choices = "false"},
    {.name = "ragged", .type = LIP__FIXED, .def = 0, .choices = "false"},
    {.name = NULL},
};

const struct lip__kind lip__input_layer = {
    .cls = {.name = "InputLayer", .module = "keras.layers", .size = sizeof(lip_layer), .fields = fields},
    .flags = LIP__INPUT,
    .forward = lip__copy_forward,
    .backward = lip__copy_backward,
    .constant = lip__one,
    .claimed = lip__one,
};
