/* small_conv.h: the gradient of a convolution with small windows, without a panel of them.
 *
 * Copying small windows costs more than multiplying them. Here a tile of the kernel's gradient stays in registers while a row
 * of windows passes by.
 */
#ifndef LIP_SMALL_CONV_H
#define LIP_SMALL_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "tensor/im2col.h"

/* Whether windows are small enough for this to win. */
bool lip__small_conv_fits(const struct lip__windows *g);

/* Floats of scratch, 64-byte aligned. */
size_t lip__small_conv_scratch(const struct lip__windows *g, size_t f);

/* dk (kh, kw, c, f) += the gradient of the kernel from x (n, h, w, c) and dy (n, oh, ow, f). One thread. */
void lip__small_conv_gradient(const struct lip__windows *g, size_t n, const float *x, const float *dy, size_t f, float *dk,
                              float *scratch);

#endif
