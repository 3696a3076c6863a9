/* distributions.h: the initializers of distributions.c, for the list in initializers.c. */
#ifndef LIP_DISTRIBUTIONS_H
#define LIP_DISTRIBUTIONS_H

#include "layers/layer.h"

/* lip__fans: Keras's fan_in and fan_out of a variable's shape. */
void lip__fans(const lip_shape *shape, double *in, double *out);

extern const struct lip__initializer_class lip__constant, lip__identity, lip__random_uniform, lip__random_normal,
    lip__truncated_normal, lip__variance_scaling, lip__glorot_uniform, lip__glorot_normal, lip__he_uniform, lip__he_normal,
    lip__lecun_uniform, lip__lecun_normal;

#endif
