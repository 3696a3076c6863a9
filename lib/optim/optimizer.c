/* optimizer.c: the list of optimizers. */
#include "optim/optimizer.h"

#define OPTIMIZER(name) extern const struct lip__optimizer_class lip__##name;
#include "optim/optimizers.def"
#undef OPTIMIZER

const struct lip__class *const lip__optimizers[] = {
#define OPTIMIZER(name) &lip__##name.cls,
#include "optim/optimizers.def"
#undef OPTIMIZER
    NULL};
