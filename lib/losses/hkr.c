/* hkr.c: HKR and MulticlassHKR, the hinge-regularised Kantorovich-Rubinstein loss.
 *
 *     HKR_i = -KR_i + alpha hinge_i,   alpha infinite: hinge_i alone
 *
 * with the terms of kr.c and hinge.c. Source: Serrurier et al., CVPR 2021; deel-lip's losses.py.
 */
#include "losses/family.h"

static void rows(const struct lip__object *self, double weight, size_t n, size_t c, const float *y, const float *p,
                 const float *scale, float *per_sample, float *dp, double *scratch)
{
    const struct lip__loss *l = (const struct lip__loss *)self;
    double margin = (float)l->min_margin, alpha = (float)l->alpha;
    bool hinge_only = l->hinge_only;
    double *positive = scratch, *negative = scratch + c, *kr_slope = scratch + 2 * c, *slope = scratch + 3 * c;

    if (!l->multi_gpu && !hinge_only)
        lip__kr_weights(n, c, y, positive, negative);
    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double hinge = lip__hinge_row(c, margin, weight, yi, pi, dp ? slope : NULL);
        double kr = hinge_only ? 0 : lip__kr_row(l->multi_gpu, c, yi, pi, positive, negative, dp ? kr_slope : NULL);

        per_sample[i] = (float)(hinge_only ? hinge : alpha * hinge - kr);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * (hinge_only ? slope[j] : alpha * slope[j] - kr_slope[j]));
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

static const struct lip__field binary_fields[] = {LIP__LOSS_FIELDS("HKR"), LIP__LOSS_ALPHA(NAN), LIP__LOSS_MARGIN(1),
                                                  LIP__LOSS_MULTI_GPU, LIP__LOSS_END};
static const struct lip__field multiclass_fields[] = {LIP__LOSS_FIELDS("MulticlassHKR"), LIP__LOSS_ALPHA(10),
                                                      LIP__LOSS_MARGIN(1), LIP__LOSS_MULTI_GPU, LIP__LOSS_END};

extern const struct lip__loss_class lip__hkr, lip__multiclass_hkr;

const struct lip__loss_class lip__hkr = {
    .cls = LIP__LOSS_CLASS("HKR", binary_fields),
    .check = lip__labels_binary,
    .value = binary,
};

const struct lip__loss_class lip__multiclass_hkr = {
    .cls = LIP__LOSS_CLASS("MulticlassHKR", multiclass_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = multiclass,
};
