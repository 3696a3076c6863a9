/* judge.h: labels, losses and metrics of a model's outputs: what training minimises and evaluation tells. */
#ifndef LIP_JUDGE_H
#define LIP_JUDGE_H

#include <pthread.h>

#include <onelip/train.h>

#include "losses/metric.h"
#include "model/model.h"

struct lip__judge {
    const lip_model *model; /* borrowed */
    struct lip__head {      /* of each output of the model */
        struct lip__object *loss; /* NULL: nothing is asked of this output. Owned. */
        double weight;
        size_t rows, c;    /* rows of c numbers in one sample */
        char *told;        /* "y_loss", where the model has several outputs; owned */
    } *head;
    size_t n_losses;
    struct lip__told {
        struct lip__object *metric; /* owned */
        char *name;                 /* the key under which it is told; owned */
        size_t head;
    } *metric;
    size_t n_metrics;
    pthread_mutex_t lock; /* of the losses' numbers, where threads share a judge */
};

/* lip__judge_new: no losses, no metrics; arrays for the model's outputs and LIP_MAX_METRICS metrics. */
lip_err lip__judge_new(struct lip__judge *judge, const lip_model *model, lip_error *err);
void lip__judge_clear(struct lip__judge *judge); /* also of one that is all zeros */

/* lip__judge_check: losses against outputs and metrics against both, once all are set; then it can judge. */
lip_err lip__judge_check(struct lip__judge *judge, lip_error *err);

bool lip__judge_needs_pairs(const struct lip__judge *judge);

/* What judging a batch of n takes: floats for labels, doubles of scratch. */
size_t lip__judge_labels_size(const struct lip__judge *judge, size_t n);
size_t lip__judge_scratch(const struct lip__judge *judge, size_t n);

/* lip__judge_batch: that there are samples, and inputs, weights and labels are usable; labels as the losses want them go to
 * `labels`. */
lip_err lip__judge_batch(const struct lip__judge *judge, const lip_batch *batch, float *labels, lip_error *err);

/* lip__judge_now: a copy of each output's loss with its numbers of now, in now (outputs). */
void lip__judge_now(const struct lip__judge *judge, struct lip__loss *now);

/* lip__judge_loss: of output h, before its weight. p, dp: (n, output's shape); dp, the weight included, may be NULL, per_sample
 * and mean too. */
double lip__judge_loss(const struct lip__judge *judge, const struct lip__loss *now, const lip_batch *batch, const float *labels,
                       size_t h, const float *p, float *dp, float *per_sample, double *mean, double *scratch);

/* lip__judge_tell: metrics[0] is the whole loss; with several outputs each loss `each` follows; then the metrics. p: of each
 * output. Returns how many. */
size_t lip__judge_tell(const struct lip__judge *judge, double loss, const double *each, const lip_batch *batch, float *labels,
                       const float *const *p, lip_metric *metrics, double *scratch);

#endif
