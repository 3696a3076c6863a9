/* loss.h: what a loss is. To add one: its file or function, its line in losses.def. */
#ifndef LIP_LOSS_H
#define LIP_LOSS_H

#include "layers/layer.h"

/* Every loss's own struct: one for all, a loss reads what its fields name. */
struct lip__loss {
    struct lip__object base;
    /* "auto" and "sum_over_batch_size": mean of the weighted values; "sum"; "none": told as their mean, trained on as their
     * sum, which is what Keras's fit makes of a vector. */
    const char *reduction;
    char *name;
    double alpha, min_margin, tau; /* float32 variables in deel-lip: used as (float) */
    bool multi_gpu;                /* labels come processed (17.4) */
    double alpha_mean, temperature, penalty;
    bool from_logits;
    double label_smoothing;
    /* No keys: */
    bool hinge_only; /* alpha was infinite when the loss began: later values of alpha do not switch back */
    double mean;     /* running mean of |p|, of a loss that has one */
};

struct lip__loss_class {
    struct lip__class cls;
    bool indices;       /* y_true is a class index per sample (sparse): y is (n); else it has the output's shape */
    bool one_hot;       /* indices of shape [n] or [n,1] may be expanded to one-hot (multiclass losses) */
    bool pixels;        /* outputs of more axes go: each row along the last one is a sample of its own */
    bool probabilities; /* p are probabilities unless from_logits: accuracy's threshold is 1/2 */
    /* Labels against the loss's convention; NULL: any finite number goes. y (n, c). */
    lip_err (*check)(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err);
    /* per_sample (n) and, where dp is not NULL, dp (n, c) = d(sum_i scale_i per_sample_i)/dp, scale_i >= 0 holding weights and
     * the reduction. No allocation: scratch has 4 c + 4 n doubles. An absent class counts 0 (design.md, D63). */
    void (*value)(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p, const float *scale,
                  float *per_sample, float *dp, double *scratch);
    /* The running mean after these predictions, which `value` then reads; NULL: there is none. */
    double (*advance)(const struct lip__loss *self, size_t n, size_t c, const float *p);
};

extern const struct lip__class *const lip__losses[]; /* NULL-terminated */

/* lip__loss_begin: a loss that has seen nothing; after its keys were set, before the first lip__loss. */
void lip__loss_begin(struct lip__object *loss);

/* lip__loss_means, lip__loss_trains_mean: whether the value, and what gradients are of, is a mean; else a sum. */
bool lip__loss_means(const struct lip__loss *loss);
bool lip__loss_trains_mean(const struct lip__loss *loss);

/* lip__loss_threshold: above which one output says yes. */
double lip__loss_threshold(const struct lip__object *loss);

struct lip__scored {
    size_t n, c;                /* rows */
    size_t rows;                /* rows that share one sample's weight; 0 stands for 1 */
    const float *y, *p;
    const float *sample_weight; /* one for each sample, or NULL */
    double weight;              /* of the whole loss; 0 stands for 1 */
    float *dp;                  /* (n, c), or NULL */
    float *per_sample;          /* (n), before weights; or NULL */
    double *mean;               /* where the next running mean goes, or NULL */
    double *scratch;            /* 4 c + 6 n doubles */
};

/* lip__loss: the reduced loss (reduction "auto": mean of weighted values), and what else is asked for. The loss itself
 * stays as it is. */
double lip__loss(const struct lip__object *self, const struct lip__scored *scored);

#endif
