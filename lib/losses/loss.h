/* loss.h: what a loss is. To add one: its file or function, its line in losses.def. */
#ifndef LIP_LOSS_H
#define LIP_LOSS_H

#include "layers/layer.h"

/* Every loss's own struct: one for all, a loss reads what its fields name. */
struct lip__loss {
    struct lip__object base;
    const char *reduction; /* "auto" and "sum_over_batch_size": mean of the weighted values; "sum" */
    char *name;
    double alpha, min_margin, tau; /* float32 variables in deel-lip: used as (float) */
    bool multi_gpu;                /* labels come processed (17.4) */
};

struct lip__loss_class {
    struct lip__class cls;
    bool indices;       /* y_true is a class index per sample (sparse): y is (n); else it has the output's shape */
    bool one_hot;       /* indices of shape [n] or [n,1] may be expanded to one-hot (multiclass losses) */
    double threshold;   /* of `accuracy` with one output: 0 for raw scores, 0.5 for probabilities */
    /* Labels against the loss's convention; NULL: any finite number goes. y (n, c). */
    lip_err (*check)(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
    /* per_sample (n) and, where dp is not NULL, dp (n, c) = d(sum_i scale_i per_sample_i)/dp, scale_i >= 0 holding weights and
     * the reduction. No allocation: scratch has 4 c + 4 n doubles. An absent class counts 0 (design.md, D63). */
    void (*value)(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p, const float *scale,
                  float *per_sample, float *dp, double *scratch);
};

extern const struct lip__class *const lip__losses[]; /* NULL-terminated */

/* lip__loss: the reduced loss (reduction "auto": mean of weighted values) and, unless dp is NULL, its gradient.
 * scratch: 4 c + 6 n doubles. */
double lip__loss(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p, const float *sample_weight,
                 float *dp, double *scratch);

#endif
