/* training.h: the training resource, for models.c as well. */
#ifndef SERVER_HANDLERS_TRAINING_H
#define SERVER_HANDLERS_TRAINING_H

#include "common.h"

/* training_make: check api.md 3.6's object, fill in every default, and make the recipe and its trainer. pointer: where
 * the object stands in the body. false: the reply says why. */
bool training_make(const lip_model *model, const json_t *object, const char *pointer, struct recipe **recipe,
                   lip_trainer **trainer, struct reply *rp);

#endif
