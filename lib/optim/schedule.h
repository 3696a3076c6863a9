/* schedule.h: learning rates that depend on the step. To add one: its struct and table in schedules.c. */
#ifndef LIP_SCHEDULE_H
#define LIP_SCHEDULE_H

#include <stdint.h>

#include "layers/layer.h"

struct lip__schedule_class {
    struct lip__class cls;
    double (*rate)(const struct lip__object *self, double step); /* steps made before this one */
    lip_err (*check)(const struct lip__object *self, lip_error *err); /* NULL: the ranges of the fields say it all */
};

extern const struct lip__class *const lip__schedules[]; /* NULL-terminated; [0] is a number that stays the same */

/* lip__schedule_rate: the learning rate of the step after `steps`. */
double lip__schedule_rate(const struct lip__object *schedule, uint64_t steps);

#endif
