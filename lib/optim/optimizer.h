/* optimizer.h: what an optimizer is. To add one: its file, its line in optimizers.def. */
#ifndef LIP_OPTIMIZER_H
#define LIP_OPTIMIZER_H

#include <stdint.h>

#include "layers/layer.h"

#define LIP__MAX_SLOTS 3

struct lip__optimizer_class {
    struct lip__class cls;           /* its struct begins with struct lip__optimizer */
    const char *const slot[LIP__MAX_SLOTS]; /* names: "m", "v"; NULL: fewer */
    size_t (*slots)(const struct lip__object *self); /* how many this configuration uses */
    /* Out of place: w_next, slot_next from w, g, slot; t counts from 1. n floats. One thread; arrays are 64-byte aligned
     * at the start of each variable. */
    void (*step)(const struct lip__object *self, uint64_t t, double learning_rate, size_t n, const float *w, const float *g,
                 const float *const *slot, float *w_next, float *const *slot_next);
};

struct lip__optimizer {
    struct lip__object base;
    char *name;
    double learning_rate;
};

extern const struct lip__class *const lip__optimizers[]; /* NULL-terminated */

#endif
