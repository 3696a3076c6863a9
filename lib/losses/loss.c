/* loss.c: the list of losses, and the reduction that all of them share. */
#include "losses/loss.h"

#include <math.h>
#include <string.h>

#define LOSS(name) extern const struct lip__loss_class lip__##name;
#include "losses/losses.def"
#undef LOSS

const struct lip__class *const lip__losses[] = {
#define LOSS(name) &lip__##name.cls,
#include "losses/losses.def"
#undef LOSS
    NULL};

bool lip__loss_means(const struct lip__loss *loss)
{
    return !loss->reduction || strcmp(loss->reduction, "sum") != 0;
}

bool lip__loss_trains_mean(const struct lip__loss *loss)
{
    return lip__loss_means(loss) && (!loss->reduction || strcmp(loss->reduction, "none") != 0);
}

double lip__loss(const struct lip__object *self, const struct lip__scored *s)
{
    struct lip__loss now = *(const struct lip__loss *)self;
    const struct lip__loss_class *cls = (const struct lip__loss_class *)self->cls;
    bool trains_mean = lip__loss_trains_mean(&now);
    size_t rows = s->rows ? s->rows : 1;
    double whole = s->weight == 0 ? 1 : s->weight, total = 0;
    float *scale = (float *)s->scratch, *per_sample = s->per_sample ? s->per_sample : (float *)(s->scratch + s->n);

    if (s->n == 0)
        return 0;
    if (cls->advance)
        now.mean = cls->advance(&now, s->n, s->c, s->p);
    if (s->mean)
        *s->mean = now.mean;
    for (size_t i = 0; i < s->n; i++) {
        double w = whole * (s->sample_weight ? s->sample_weight[i / rows] : 1.0);

        scale[i] = (float)(trains_mean ? w / (double)s->n : w);
    }
    cls->value(&now.base, s->n, s->c, s->y, s->p, scale, per_sample, s->dp, s->scratch + 2 * s->n);
    for (size_t i = 0; i < s->n; i++)
        total += (s->sample_weight ? (double)s->sample_weight[i / rows] : 1.0) * per_sample[i];
    return lip__loss_means(&now) ? total / (double)s->n : total;
}

void lip__loss_begin(struct lip__object *loss)
{
    struct lip__loss *l = (struct lip__loss *)loss;

    l->hinge_only = isinf(l->alpha);
    l->mean = (float)l->min_margin;
}

double lip__loss_threshold(const struct lip__object *loss)
{
    const struct lip__loss_class *cls = (const struct lip__loss_class *)loss->cls;

    return cls->probabilities && !((const struct lip__loss *)loss)->from_logits ? 0.5 : 0;
}
