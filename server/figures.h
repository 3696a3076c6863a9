/* figures.h: loss and metrics over many batches: means weighted by samples, in the order in which a trainer names them. */
#ifndef SERVER_FIGURES_H
#define SERVER_FIGURES_H

#include "batches.h"

struct figures {
    size_t n;
    double weight; /* samples so far */
    double sum[LIP_MAX_METRICS];
    char name[LIP_MAX_METRICS][ARRAY_NAME_MAX + 1];
};

void figures_add(struct figures *f, const lip_metric *metrics, size_t n, size_t samples);
double figures_mean(const struct figures *f, size_t i);
/* figures_into: the means, each name behind prefix, as members of an object. false: out of memory. */
bool figures_into(const struct figures *f, const char *prefix, json_t *object);

/* What a checkpoint keeps of them, and back, bit for bit. NULL: out of memory. */
json_t *figures_json(const struct figures *f);
void figures_read(struct figures *f, const json_t *json);

/* figures_judge: samples first .. first + count - 1 of b, at most b->largest at a time, by the weights of the snapshot.
 * wanted(ctx): asked before each batch; when it says no, false with failure->status 0. */
bool figures_judge(struct figures *f, const lip_trainer *judge, const lip_snapshot *snapshot, struct batches *b, size_t first,
                   size_t count, bool (*wanted)(void *ctx), void *ctx, struct failure *failure);

/* failure_step: what went wrong with a batch, as api.md names it. Always false. */
bool failure_step(struct failure *f, const lip_error *err);

#endif
