/* loss.c: the list of losses, and the reduction that all of them share. */
#include "losses/loss.h"

#include <string.h>

#define LOSS(name) extern const struct lip__loss_class lip__##name;
#include "losses/losses.def"
#undef LOSS

const struct lip__class *const lip__losses[] = {
#define LOSS(name) &lip__##name.cls,
#include "losses/losses.def"
#undef LOSS
    NULL};

double lip__loss(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                 const float *sample_weight, float *dp, double *scratch)
{
    const struct lip__loss_class *cls = (const struct lip__loss_class *)self->cls;
    const char *reduction = ((const struct lip__loss *)self)->reduction;
    bool mean = !reduction || strcmp(reduction, "sum") != 0;
    float *scale = (float *)scratch, *per_sample = (float *)(scratch + n);
    double total = 0;

    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        double w = sample_weight ? sample_weight[i] : 1.0;

        scale[i] = (float)(mean ? w / (double)n : w);
    }
    cls->value(self, n, c, y, p, scale, per_sample, dp, scratch + 2 * n);
    for (size_t i = 0; i < n; i++)
        total += (sample_weight ? (double)sample_weight[i] : 1.0) * per_sample[i];
    return mean ? total / (double)n : total;
}
