/* kr.c: KR and MulticlassKR, the Kantorovich-Rubinstein duality: to be maximised, so returned positive.
 *
 *     KR_i = mean_c N p_ic ( S_ic / n_c - (1 - S_ic) / (N - n_c) ),   S = [y == 1], n_c = sum_i S_ic
 *
 * with 1e-7 added to the counts in float32, where it only shows next to n_c = 1. A side without samples counts 0;
 * TensorFlow's graph makes the whole batch NaN there (D63).
 *
 * Source: Serrurier et al., "Achieving robustness in classification using optimal transport with hinge regularization",
 * CVPR 2021; deel-lip's losses.py.
 */
#include "losses/family.h"

void lip__kr_weights(size_t n, size_t c, const float *y, double *positive, double *negative)
{
    const float e = 1e-7f, count = (float)n;

    for (size_t j = 0; j < c; j++) {
        size_t in = 0;

        for (size_t i = 0; i < n; i++)
            in += y[i * c + j] == 1;
        positive[j] = in ? (double)count / (double)((float)in + e) : 0;
        /* TensorFlow folds N - n + e into (N + e) - n. */
        negative[j] = in < n ? (double)count / (double)((count + e) - (float)in) : 0;
    }
}

double lip__kr_row(bool multi_gpu, size_t c, const float *y, const float *p, const double *positive,
                   const double *negative, double *slope)
{
    double sum = 0;

    for (size_t j = 0; j < c; j++) {
        double w = multi_gpu ? (double)y[j] : y[j] == 1 ? positive[j] : -negative[j];

        sum += w * p[j];
        if (slope)
            slope[j] = w / (double)c;
    }
    return sum / (double)c;
}

static void value(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                  const float *scale, float *per_sample, float *dp, double *scratch)
{
    bool multi_gpu = ((const struct lip__loss *)self)->multi_gpu;
    double *positive = scratch, *negative = scratch + c, *slope = scratch + 2 * c;

    if (!multi_gpu)
        lip__kr_weights(n, c, y, positive, negative);
    for (size_t i = 0; i < n; i++) {
        per_sample[i] = (float)lip__kr_row(multi_gpu, c, y + i * c, p + i * c, positive, negative, dp ? slope : NULL);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * slope[j]);
    }
}

static const struct lip__field kr_fields[] = {LIP__LOSS_FIELDS("KR"), LIP__LOSS_MULTI_GPU, LIP__LOSS_END};
static const struct lip__field multiclass_fields[] = {LIP__LOSS_FIELDS("MulticlassKR"), LIP__LOSS_MULTI_GPU,
                                                      LIP__LOSS_END};

extern const struct lip__loss_class lip__kr, lip__multiclass_kr;

const struct lip__loss_class lip__kr = {
    .cls = LIP__LOSS_CLASS("KR", kr_fields),
    .check = lip__labels_binary,
    .value = value,
};

const struct lip__loss_class lip__multiclass_kr = {
    .cls = LIP__LOSS_CLASS("MulticlassKR", multiclass_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = value,
};
