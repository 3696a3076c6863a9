/* optimizer.h: what an optimizer is. To add one: its file, its line in optimizers.def. */
#ifndef LIP_OPTIMIZER_H
#define LIP_OPTIMIZER_H

#include <stdint.h>

#include "optim/schedule.h"

#define LIP__MAX_SLOTS 4 /* a class has at most one less: the last is of the moving average */

struct lip__update {
    uint64_t t;          /* of this step; the first is 1 */
    double learning_rate;
    float decay;         /* w is used as w - w decay; 0: none */
    size_t n;
    const float *w, *g, *const *slot;
    float *w_next, *const *slot_next;
};

struct lip__optimizer_class {
    struct lip__class cls;           /* its struct begins with struct lip__optimizer */
    const char *(*slot_name)(const struct lip__object *self, size_t slot); /* "m", "v" */
    size_t (*slots)(const struct lip__object *self); /* how many this configuration uses */
    /* One step of some weights, out of place. One thread; arrays are 64-byte aligned at the start of each variable. */
    void (*step)(const struct lip__object *self, const struct lip__update *update);
};

/* What every optimizer of Keras has: its struct begins with this. */
struct lip__optimizer {
    struct lip__object base;
    char *name;
    struct lip__object *schedule; /* of the learning rate */
    double weight_decay;          /* NAN: none */
    double clipnorm, global_clipnorm, clipvalue; /* NAN: none; 0 is none too, as in Keras */
    bool use_ema;
    double ema_momentum;
    long ema_overwrite_frequency; /* 0: never */
    bool jit_compile;             /* changes nothing; kept as it comes */
};

/* lip__optimizer_check: what concerns several options. */
lip_err lip__optimizer_check(const struct lip__object *optimizer, lip_error *err);

/* lip__clip: the gradients g (each variable's from at[v], n[v] floats) as the options say: clipnorm, else global_clipnorm,
 * else clipvalue. */
void lip__clip(const struct lip__object *optimizer, size_t variables, const size_t *at, const size_t *n, float *g);

/* lip__step: weight decay, the class's step, and the moving average in the slot behind the class's. */
void lip__step(const struct lip__object *optimizer, const struct lip__update *update);
size_t lip__slots(const struct lip__object *optimizer); /* the average's included */
const char *lip__slot_name(const struct lip__object *optimizer, size_t slot);

extern const struct lip__class *const lip__optimizers[]; /* NULL-terminated */

#endif
