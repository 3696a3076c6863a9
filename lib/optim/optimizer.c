/* optimizer.c: the list of optimizers, and what all of Keras's have in common: weight decay, clipping, moving averages.
 *
 *     w <- w - w decay lr,  then the class's step,  then  average <- momentum average + (1 - momentum) w
 *
 * Every ema_overwrite_frequency steps the weights become the average. Source: Keras 2.15, optimizer.py.
 */
#include <math.h>
#include <string.h>

#include "optim/family.h"
#include "tensor/gemm.h"

#define OPTIMIZER(name) extern const struct lip__optimizer_class lip__##name;
#include "optim/optimizers.def"
#undef OPTIMIZER

const struct lip__class *const lip__optimizers[] = {
#define OPTIMIZER(name) &lip__##name.cls,
#include "optim/optimizers.def"
#undef OPTIMIZER
    NULL};

static const struct lip__optimizer *options(const struct lip__object *optimizer)
{
    return (const struct lip__optimizer *)optimizer;
}

static const struct lip__optimizer_class *class_of(const struct lip__object *optimizer)
{
    return (const struct lip__optimizer_class *)optimizer->cls;
}

lip_err lip__optimizer_check(const struct lip__object *optimizer, lip_error *err)
{
    const struct lip__optimizer *o = options(optimizer);
    const struct lip__schedule_class *schedule = (const struct lip__schedule_class *)o->schedule->cls;

    if (!isnan(o->clipnorm) && !isnan(o->global_clipnorm))
        return lip__fail_at(err, LIP_EDEFINITION, "/optimizer/config/global_clipnorm",
                            "%.60s: at most one of clipnorm and global_clipnorm can be set", optimizer->cls->name);
    return schedule->check ? schedule->check(o->schedule, err) : LIP_OK;
}

/* ---- clipping --------------------------------------------------------------------------------------------- */

static bool wanted(double limit)
{
    return limit > 0; /* false for NAN */
}

static void scale(float *g, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        g[i] *= factor;
}

void lip__clip(const struct lip__object *optimizer, size_t variables, const size_t *at, const size_t *n, float *g)
{
    const struct lip__optimizer *o = options(optimizer);
    double sum = 0;

    for (size_t v = 0; v < variables; v++) {
        float *x = g + at[v], limit = (float)o->clipvalue;
        double norm = wanted(o->clipnorm) || wanted(o->global_clipnorm) ? lip__norm(x, n[v]) : 0;

        if (wanted(o->clipnorm)) {
            if (norm > (float)o->clipnorm)
                scale(x, n[v], (float)((float)o->clipnorm / norm));
        } else if (wanted(o->global_clipnorm)) {
            sum += norm * norm;
        } else if (wanted(o->clipvalue)) {
            for (size_t i = 0; i < n[v]; i++)
                x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
        }
    }
    if (wanted(o->clipnorm) || !wanted(o->global_clipnorm) || sqrt(sum) <= (float)o->global_clipnorm)
        return;
    for (size_t v = 0; v < variables; v++)
        scale(g + at[v], n[v], (float)((float)o->global_clipnorm / sqrt(sum)));
}

/* ---- one step ----------------------------------------------------------------------------------------------- */

size_t lip__slots(const struct lip__object *optimizer)
{
    return class_of(optimizer)->slots(optimizer) + options(optimizer)->use_ema;
}

const char *lip__slot_name(const struct lip__object *optimizer, size_t slot)
{
    return slot < class_of(optimizer)->slots(optimizer) ? class_of(optimizer)->slot_name(optimizer, slot) : "average";
}

LIP__VECTOR static void follow(size_t n, float momentum, float rest, const float *restrict average,
                               const float *restrict w, float *restrict next)
{
    for (size_t i = 0; i < n; i++)
        next[i] = momentum * average[i] + rest * w[i];
}

void lip__step(const struct lip__object *optimizer, const struct lip__update *update)
{
    const struct lip__optimizer *o = options(optimizer);
    struct lip__update u = *update;
    size_t last = class_of(optimizer)->slots(optimizer);

    u.decay = isnan(o->weight_decay) ? 0 : (float)o->weight_decay * (float)u.learning_rate;
    class_of(optimizer)->step(optimizer, &u);
    if (!o->use_ema)
        return;
    follow(u.n, (float)o->ema_momentum, (float)(1 - o->ema_momentum), u.slot[last], u.w_next, u.slot_next[last]);
    if (o->ema_overwrite_frequency && u.t % (uint64_t)o->ema_overwrite_frequency == 0)
        memcpy(u.w_next, u.slot_next[last], u.n * sizeof *u.w_next);
}
