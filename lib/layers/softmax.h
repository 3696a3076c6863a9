/* softmax.h: softmax and its logarithm along the last axis, for activation slots; softmax.c also has the layer. */
#ifndef LIP_SOFTMAX_H
#define LIP_SOFTMAX_H

#include "layers/layer.h"

void lip__softmax_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y);
void lip__softmax_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                           float *dx);
double lip__softmax_constant(const lip_layer *l);
void lip__log_softmax_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y);
void lip__log_softmax_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y,
                               const float *dy, float *dx);
double lip__log_softmax_constant(const lip_layer *l);

#endif
