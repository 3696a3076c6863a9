/* training.h: the training resource, for models.c as well. */
#ifndef SERVER_HANDLERS_TRAINING_H
#define SERVER_HANDLERS_TRAINING_H

#include "common.h"

/* training_make: check api.md 3.6's object, fill in every default, and make the recipe and its trainer. pointer: where
 * the object stands in the body. false: the reply says why. */
bool training_make(const lip_model *model, const json_t *object, const char *pointer, struct recipe **recipe,
                   lip_trainer **trainer, struct reply *rp);

/* training_merge: a training resource after a merge-patch (RFC 7396), not checked; but an object of another class replaces the one
 * that was there, whose options would mean nothing to it. NULL: out of memory. */
json_t *training_merge(const json_t *present, const json_t *patch);

/* ---- beside a step of the head, whoever makes it; under `writing` ---------------------------------------------- */

/* step_bound: where the recipe's metrics ask for the proven constants of the weights that the step starts from, they go into
 * the batch. *certifier holds them: lip_certifier_free after the step; NULL: nothing was asked for. Errors as lip_certifier_new. */
lip_err step_bound(const struct model *model, lip_batch *batch, lip_certifier **certifier, lip_error *err);

/* step_telemetry: "telemetry" of the weights that the step left, with "sigmas" of MonitorCallbacks. NULL: nothing is due, or it
 * cannot be told (logged): the step stands. sigmas_json: those alone, of a step or of an epoch: {"d1_kernel_sigmas": [...]}. */
json_t *step_telemetry(const struct model *model, const lip_batch *batch, const lip_step_report *report);
json_t *sigmas_json(const struct model *model, bool epoch);

#endif
