/* metric.h: what is told about a batch besides its loss. To add one: its file or function, its line in metric.c. */
#ifndef LIP_METRIC_H
#define LIP_METRIC_H

#include "losses/loss.h"

/* A batch and what the model makes of it. */
struct lip__judged {
    const struct lip__object *loss; /* that of the output */
    size_t n, c;
    const float *y; /* as the metric wants them: (n, c), or (n) class indices where `indices` */
    bool indices;
    const float *p;
    const double *pairs; /* (c, c) proven constants of every pair of outputs, of one output its own; NULL: unknown */
    double *scratch;     /* 4 c + 6 n doubles */
};

enum lip__labels_wanted { LIP__EITHER, LIP__ROWS, LIP__INDICES };

struct lip__metric_class {
    struct lip__class cls;
    enum lip__labels_wanted labels;
    bool several; /* means something for more than one output only */
    /* The mean over the batch. */
    double (*value)(const struct lip__object *self, const struct lip__judged *judged);
    /* Whether it needs `pairs`; NULL: it does not. */
    bool (*needs_pairs)(const struct lip__object *self);
};

extern const struct lip__class *const lip__metrics[]; /* NULL-terminated: these classes, then all losses */

/* lip__metric_check: whether it can be told of an output of c numbers; pairs: whether their constants can be had. */
lip_err lip__metric_check(const struct lip__object *metric, size_t c, bool pairs, lip_error *err);

/* lip__metric_begin: after its keys were set. */
void lip__metric_begin(struct lip__object *metric);

/* What the trainer asks of a metric, whichever of the two it is. */
enum lip__labels_wanted lip__metric_labels(const struct lip__object *metric);
bool lip__metric_needs_pairs(const struct lip__object *metric);
double lip__metric(const struct lip__object *metric, const struct lip__judged *judged);

/* lip__target: which class row i is of. */
size_t lip__target(const struct lip__judged *judged, size_t i);
size_t lip__argmax(const float *x, size_t n); /* the first of equal ones */

/* lip__margin: of sample i, the true score less the best of the others. */
double lip__margin(const struct lip__judged *judged, size_t i);

#endif
