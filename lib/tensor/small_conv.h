/* small_conv.h: convolution with small windows, without a panel of them.
 *
 * Copying small windows costs more than multiplying them. Here a tile of windows and filters stays in registers while the
 * kernel's rows pass by. With one channel that is four times as fast as a panel and sgemm, with sixteen a quarter faster.
 */
#ifndef LIP_SMALL_CONV_H
#define LIP_SMALL_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "tensor/im2col.h"

/* Whether windows are small enough for this to win. */
bool lip__small_conv_fits(const struct lip__windows *g);

/* Floats of scratch for either function, 64-byte aligned. */
size_t lip__small_conv_scratch(const struct lip__windows *g, size_t f);

/* y (n, oh, ow, f) <- bias (NULL: 0) + the convolution of x (n, h, w, c) with k (kh, kw, c, f). One thread. */
void lip__small_conv(const struct lip__windows *g, size_t n, const float *x, const float *k, size_t f, const float *bias,
                     float *y, float *scratch);

/* dk += its gradient from dy. One thread. */
void lip__small_conv_gradient(const struct lip__windows *g, size_t n, const float *x, const float *dy, size_t f, float *dk,
                              float *scratch);

#endif
