/* weights.h: writing weights, whole or one tensor. */
#ifndef SERVER_HANDLERS_WEIGHTS_H
#define SERVER_HANDLERS_WEIGHTS_H

#include "common.h"

/* weights_load: these tensors into the head, all or nothing, and the answer of api.md 3.7. Under `writing`. partial: any
 * subset, else every kernel and bias must be there. */
void weights_load(struct model *model, const lip_named *tensors, size_t n, bool partial, struct reply *rp);

#endif
