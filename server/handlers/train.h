/* train.h: what a step over the wire and a step of a job have in common. */
#ifndef SERVER_HANDLERS_TRAIN_H
#define SERVER_HANDLERS_TRAIN_H

#include "common.h"

json_t *metrics_json(const lip_metric *metrics, size_t n);

/* step_options: as the training resource says. */
lip_step_options step_options(const struct recipe *recipe);

/* count_step: into /metrics; ns is the whole step's time. */
void count_step(struct ctx *ctx, const char *model, const char *version, const lip_step_report *report, uint64_t ns);

#endif
