/* slots.h: regularizers and constraints, what Keras hangs on a layer's kernel, bias and output. */
#ifndef LIP_SLOTS_H
#define LIP_SLOTS_H

#include "layers/layer.h"

struct lip__regularizer_class {
    struct lip__class cls;
    /* Whether it can be used on a variable (or an output) of this shape; NULL: on any. */
    lip_err (*check)(const struct lip__object *self, const lip_shape *shape, lip_error *err);
    size_t (*scratch)(const struct lip__object *self, const lip_shape *shape); /* floats; NULL: none */
    /* The penalty, in double; dx += scale * its gradient unless dx is NULL. */
    double (*value)(const struct lip__object *self, const lip_shape *shape, const float *x, double scale, float *dx,
                    float *scratch);
};

struct lip__constraint_class {
    struct lip__class cls;
    lip_err (*check)(const struct lip__object *self, const lip_shape *shape, lip_error *err);
    size_t (*scratch)(const struct lip__object *self, const lip_shape *shape);
    /* w as the constraint wants it, in place. */
    lip_err (*apply)(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err);
};

extern const struct lip__class *const lip__regularizers[]; /* NULL-terminated */
extern const struct lip__class *const lip__constraints[];

#endif
