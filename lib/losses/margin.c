/* margin.c: MultiMargin and CategoricalHinge, the margin of the true class over the others.
 *
 *     MultiMargin_i      = mean_c [c not true] relu(m - v + p_c)     v = p of the true class
 *     CategoricalHinge_i = relu(m - (v - max of the others))
 *
 * Tied maxima share their gradient equally, as TensorFlow's reduce_max. Source: deel-lip's losses.py.
 */
#include "losses/family.h"

static double true_score(size_t c, const float *y, const float *p)
{
    double v = 0;

    for (size_t j = 0; j < c; j++)
        v += y[j] > 0 ? p[j] : 0;
    return v;
}

static void multi_margin(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                         const float *scale, float *per_sample, float *dp, double *scratch)
{
    double margin = (float)((const struct lip__loss *)self)->min_margin;

    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double v = true_score(c, yi, pi), sum = 0;
        size_t active = 0;

        for (size_t j = 0; j < c; j++) {
            double over = yi[j] > 0 ? 0 : margin - v + pi[j];

            sum += over > 0 ? over : 0;
            active += over > 0;
            if (dp)
                dp[i * c + j] = over > 0 ? (float)(scale[i] / (double)c) : 0;
        }
        per_sample[i] = (float)(sum / (double)c);
        for (size_t j = 0; dp && j < c; j++)
            if (yi[j] > 0)
                dp[i * c + j] = (float)(-(scale[i] * (double)active) / (double)c);
    }
}

static void categorical_hinge(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                              const float *scale, float *per_sample, float *dp, double *scratch)
{
    double margin = (float)((const struct lip__loss *)self)->min_margin;

    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double best = -INFINITY, over;
        size_t ties = 0;

        for (size_t j = 0; j < c; j++) {
            if (yi[j] > 0 || pi[j] < best)
                continue;
            ties = pi[j] > best ? 1 : ties + 1;
            best = pi[j];
        }
        over = ties ? margin - (true_score(c, yi, pi) - best) : 0;
        per_sample[i] = over > 0 ? (float)over : 0;
        for (size_t j = 0; dp && j < c; j++) {
            double slope = yi[j] > 0 ? -1 : pi[j] == best ? 1 / (double)ties : 0;

            dp[i * c + j] = over > 0 ? (float)(scale[i] * slope) : 0;
        }
    }
}

static const struct lip__field multi_margin_fields[] = {LIP__LOSS_FIELDS("MultiMargin"), LIP__LOSS_MARGIN(1),
                                                        LIP__LOSS_END};
static const struct lip__field categorical_fields[] = {LIP__LOSS_FIELDS("CategoricalHinge"), LIP__LOSS_MARGIN(NAN),
                                                       LIP__LOSS_END};

extern const struct lip__loss_class lip__multi_margin, lip__categorical_hinge;

const struct lip__loss_class lip__multi_margin = {
    .cls = LIP__LOSS_CLASS("MultiMargin", multi_margin_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = multi_margin,
};

const struct lip__loss_class lip__categorical_hinge = {
    .cls = LIP__LOSS_CLASS("CategoricalHinge", categorical_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = categorical_hinge,
};
