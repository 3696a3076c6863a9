/* hinge.c: HingeMargin and MulticlassHinge. min_margin is the whole margin, half of it on either side.
 *
 *     HingeMargin_i     = mean_c relu(m/2 - s p)              s = +1 where y > 0, else -1
 *     MulticlassHinge_i = the same, the true class counting C - 1 times
 *
 * The slope of relu at 0 is 0. Source: deel-lip's losses.py.
 */
#include "losses/family.h"

double lip__hinge_row(size_t c, double margin, double weight, const float *y, const float *p, double *slope)
{
    double sum = 0;

    for (size_t j = 0; j < c; j++) {
        double s = y[j] > 0 ? 1 : -1, w = y[j] > 0 ? weight : 1, short_by = margin / 2 - s * p[j];

        sum += short_by > 0 ? w * short_by : 0;
        if (slope)
            slope[j] = short_by > 0 ? -s * w / (double)c : 0;
    }
    return sum / (double)c;
}

static void rows(const struct lip__object *self, double weight, size_t n, size_t c, const float *y, const float *p,
                 const float *scale, float *per_sample, float *dp, double *slope)
{
    double margin = (float)((const struct lip__loss *)self)->min_margin;

    for (size_t i = 0; i < n; i++) {
        per_sample[i] = (float)lip__hinge_row(c, margin, weight, y + i * c, p + i * c, dp ? slope : NULL);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * slope[j]);
    }
}

static void binary(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                   const float *scale, float *per_sample, float *dp, double *scratch)
{
    rows(self, 1, n, c, y, p, scale, per_sample, dp, scratch);
}

static void multiclass(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                       const float *scale, float *per_sample, float *dp, double *scratch)
{
    rows(self, (double)c - 1, n, c, y, p, scale, per_sample, dp, scratch);
}

static const struct lip__field binary_fields[] = {LIP__LOSS_FIELDS("HingeMargin"), LIP__LOSS_MARGIN(1), LIP__LOSS_END};
static const struct lip__field multiclass_fields[] = {LIP__LOSS_FIELDS("MulticlassHinge"), LIP__LOSS_MARGIN(1),
                                                      LIP__LOSS_END};

extern const struct lip__loss_class lip__hinge_margin, lip__multiclass_hinge;

const struct lip__loss_class lip__hinge_margin = {
    .cls = LIP__LOSS_CLASS("HingeMargin", binary_fields),
    .check = lip__labels_binary,
    .value = binary,
};

const struct lip__loss_class lip__multiclass_hinge = {
    .cls = LIP__LOSS_CLASS("MulticlassHinge", multiclass_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = multiclass,
};
