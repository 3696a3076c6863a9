/* conv.h: the linear part of a convolution, as an operator in double. */
#ifndef LIP_BOUNDS_CONV_H
#define LIP_BOUNDS_CONV_H

#include <stdbool.h>

#include "bounds/enclose.h"
#include "tensor/im2col.h"

/* A convolution, exact: windows and the kernel (kh, kw, c, f). */
struct lip__convolution {
    struct lip__windows g; /* with zeros around the image */
    size_t f;
    const double *kernel;
    /* Of an image that goes on past its edges: g is the continued image's, row and column say where each of its rows
     * and columns comes from among the image's h x w; NULL: g is the image's own. */
    size_t h, w, *row, *column;
    bool circular; /* it goes on with itself */
};

size_t lip__conv_inputs(const struct lip__convolution *k);
size_t lip__conv_outputs(const struct lip__convolution *k);

/* lip__conv_apply: y (oh, ow, f) = K x (h, w, c). lip__double_conv_adjoint: x = K' y. panel: lip__conv_panel doubles.
 */
size_t lip__conv_panel(const struct lip__convolution *k);
void lip__conv_apply(const struct lip__convolution *k, const double *x, double *y, double *panel);
void lip__double_conv_adjoint(const struct lip__convolution *k, const double *y, double *x, double *panel);

/* lip__conv_coverage: the largest number of places in windows that one pixel stands at, down times across. */
size_t lip__conv_coverage(const struct lip__convolution *k);

/* lip__conv_abs_norm: at least the norm of the convolution with |kernel|. Returns LIP_OK or LIP_ENOMEM. */
lip_err lip__conv_abs_norm(const struct lip__convolution *k, double *norm, lip_error *err);

/* lip__conv_embed: at least the operator's norm, by the frequencies of a periodic convolution that contains it;
 * INFINITY where that takes too long, or until after the deadline (base.h), and then *whole is false. lower: a lower
 * bound, a good start. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__conv_embed(const struct lip__convolution *k, double lower, uint64_t deadline, double *upper, bool *whole,
                        lip_error *err);

/* lip__conv_small: whether the whole matrix is small enough to be decomposed, which takes lip__conv_matrix_flops.
 * lip__conv_matrix: it, (inputs, outputs), for lip__free. Returns LIP_OK, LIP_ENOMEM. */
bool lip__conv_small(const struct lip__convolution *k);
double lip__conv_matrix_flops(const struct lip__convolution *k);
lip_err lip__conv_matrix(const struct lip__convolution *k, double **matrix, size_t *m, size_t *n, lip_error *err);

/* lip__conv_enclose: the operator's norm, by the best of three. reshaped: what is known of the matrix (kh kw c, f).
 * method: how upper was found. *whole: the deadline (base.h) cut nothing off. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__conv_enclose(const struct lip__convolution *k, const lip_interval *reshaped, uint64_t deadline,
                          lip_interval *norm, const char **method, bool *whole, lip_error *err);

#endif
