/* slots.h: regularizers and constraints over a whole model. Their scratch: lip__slots_scratch floats. */
#ifndef LIP_MODEL_SLOTS_H
#define LIP_MODEL_SLOTS_H

#include "layers/slots.h"
#include "model/model.h"

/* lip__slots_check: that each fits its variable; the text names the variable. */
lip_err lip__slots_check(const lip_model *model, lip_error *err);
size_t lip__slots_scratch(const lip_model *model, size_t n); /* for batches of up to n */

/* lip__slots_penalty: of all variables in `arena`; its gradient is added to `gradient` (trained group), unless NULL. */
double lip__slots_penalty(const lip_model *model, const float *arena, float *gradient, float *scratch);

/* lip__slots_activity: whether what this step makes is penalised. _penalty: by how much, over n samples; the gradient is added
 * to dy unless NULL. */
bool lip__slots_activity(const lip_model *model, size_t step);
double lip__slots_activity_penalty(const lip_model *model, size_t step, size_t n, const float *y, float *dy, float *scratch);

/* lip__slots_constrain: every constrained variable of the arena that trains, in place. _constrained: whether there is one. */
bool lip__slots_constrained(const lip_model *model);
lip_err lip__slots_constrain(const lip_model *model, float *arena, float *scratch, lip_error *err);

#endif
