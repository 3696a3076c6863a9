/* group_conv.h: convolutions in groups: filters f j / groups .. of group j see channels c j / groups .. only.
 *
 * As tensor/conv.h, with kernels (kh, kw, c / groups, f); one group is a plain convolution. c and f are multiples of groups.
 */
#ifndef LIP_GROUP_CONV_H
#define LIP_GROUP_CONV_H

#include "tensor/conv.h"

size_t lip__group_conv_packed_size(const struct lip__windows *g, size_t groups, size_t f);
void lip__group_conv_pack(const struct lip__windows *g, size_t groups, const float *k, size_t f, float *packed);
size_t lip__group_conv_scratch(const struct lip__windows *g, size_t groups, size_t f);
size_t lip__group_conv_packed_scratch(const struct lip__windows *g, size_t groups, size_t f);
void lip__group_conv(const struct lip__windows *g, size_t groups, size_t n, const float *x, const float *k, const float *packed,
                     size_t f, const float *bias, float *y, float *scratch);
void lip__group_conv_adjoint(const struct lip__windows *g, size_t groups, size_t n, const float *dy, const float *k, size_t f,
                             float *dx, float *scratch);
void lip__group_conv_gradient(const struct lip__windows *g, size_t groups, size_t n, const float *x, const float *dy, size_t f,
                              float *dk, float *scratch);

#endif
