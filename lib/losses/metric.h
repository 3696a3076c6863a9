/* metric.h: what is told about a batch besides its loss. */
#ifndef LIP_METRIC_H
#define LIP_METRIC_H

#include "losses/loss.h"

struct lip__metric_class {
    struct lip__class cls;
    /* The mean over the batch; y and p as the loss sees them. */
    double (*value)(const struct lip__object *self, const struct lip__loss_class *loss, size_t n, size_t c, const float *y,
                    const float *p);
};

extern const struct lip__class *const lip__metrics[]; /* NULL-terminated */

#endif
