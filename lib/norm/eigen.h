/* eigen.h: Bjorck's loop on singular values, in double; see eigen.c. */
#ifndef LIP_EIGEN_H
#define LIP_EIGEN_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/norm.h>

/* lip__eigen_form: wbar = coef W_J of w / t (m, n), with deel-lip's stopping rule on the exact singular values.
 * memory: lip__eigen_memory doubles (keep: with the gradient's), which keep what lip__eigen_backward reads. info: bjorck_iterations and
 * residual are filled. False: LAPACK failed, nothing was written. */
size_t lip__eigen_memory(size_t m, size_t n, bool keep);
bool lip__eigen_form(const float *w, size_t m, size_t n, float t, double coef, const lip_rko_options *o, double *memory,
                     float *wbar, lip_rko_info *info);

/* lip__eigen_backward: inner = dL/d(w/t) from g = dL/dwbar. inner (m, n) may be g. */
void lip__eigen_backward(size_t m, size_t n, double coef, const float *g, double *memory, float *inner);

#endif
