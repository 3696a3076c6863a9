/* callbacks.h: what a training run does between steps and epochs. To add one: its table and line in callbacks.c. */
#ifndef LIP_CALLBACKS_H
#define LIP_CALLBACKS_H

#include "layers/layer.h"

/* Every callback's own struct: one for all, a callback reads what its fields name. */
struct lip__callback {
    struct lip__object base;
    char *param_name;           /* of a loss */
    struct lip__floats xp, fp;  /* points of a piecewise linear function of the step */
    long step, rate;
    bool on_epoch, on_batch;
    struct lip__strings monitored_layers;
    char *logdir;
    const char *target, *what;
    char *monitor, *filepath;
    double min_delta, baseline, threshold;
    long patience, verbose, start_from_epoch;
    const char *mode;
    bool restore_best_weights, save_best_only, save_weights_only;
};

extern const struct lip__class *const lip__callbacks[]; /* NULL-terminated; in this order: */
enum lip__callback_kind { LIP__PARAM_SCHEDULER, LIP__PARAM_LOG, LIP__CONDENSE, LIP__MONITOR, LIP__EARLY_STOPPING, LIP__CHECKPOINT };

enum lip__callback_kind lip__callback_kind(const struct lip__object *callback);

/* lip__interpolate: the function of xp and fp at x, constant outside. */
double lip__interpolate(const struct lip__callback *c, double x);

/* lip__rises: whether the monitored figure is better when it is larger. */
bool lip__rises(const struct lip__callback *c);

#endif
