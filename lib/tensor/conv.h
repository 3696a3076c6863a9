/* conv.h: convolution of a batch of images, its adjoint and its gradient.
 *
 * Images (n, h, w, c), windows as in im2col.h, kernels (kh, kw, c, f), results (n, oh, ow, f). All row-major float32.
 */
#ifndef LIP_CONV_H
#define LIP_CONV_H

#include <stddef.h>

#include "tensor/im2col.h"

/* What lip__conv and lip__conv_adjoint make of a kernel (k; or its panels, where they were made before). lip__conv_adjoint makes
 * none, size 0, where it adds up windows. */
size_t lip__conv_packed_size(const struct lip__windows *g, size_t f);
void lip__conv_pack(const struct lip__windows *g, const float *k, size_t f, float *packed);
size_t lip__conv_adjoint_packed_size(const struct lip__windows *g, size_t f);
void lip__conv_adjoint_pack(const struct lip__windows *g, const float *k, size_t f, float *packed);

/* Floats of scratch, 64-byte aligned, per thread, multiples of 16: for any of the three below; and for each of the first two where
 * the kernel is packed. */
size_t lip__conv_scratch(const struct lip__windows *g, size_t f);
size_t lip__conv_packed_scratch(const struct lip__windows *g);
size_t lip__conv_adjoint_packed_scratch(const struct lip__windows *g, size_t f);

/* lip__conv: y <- bias (NULL: 0) + windows of x times k. packed: what was made of k, NULL: nothing. One thread. A window's result
 * has the same bits in any batch. */
void lip__conv(const struct lip__windows *g, size_t n, const float *x, const float *k, const float *packed, size_t f,
               const float *bias, float *y, float *scratch);

/* lip__conv_adjoint: dx <- bias (of c numbers; NULL: 0) + the adjoint of lip__conv applied to dy. One thread. */
void lip__conv_adjoint(const struct lip__windows *g, size_t n, const float *dy, const float *k, const float *packed, size_t f,
                       const float *bias, float *dx, float *scratch);

/* lip__conv_gradient: dk <- the gradient of the kernel from x and dy, over the whole batch, with the pool: lip_threads()
 * scratches one behind the other. The same number of threads gives the same bits. */
void lip__conv_gradient(const struct lip__windows *g, size_t n, const float *x, const float *dy, size_t f, float *dk,
                        float *scratch);

/* lip__fill_bias: rows of c (rows, n) <- bias, or 0: a product that is added then costs no further pass over c. */
void lip__fill_bias(float *c, size_t rows, size_t n, const float *bias);

/* lip__sum_columns: sum[j] <- the sum of column j of a (rows, n). Every 32 rows go into a double. One thread. */
void lip__sum_columns(const float *a, size_t rows, size_t n, float *sum);

#endif
