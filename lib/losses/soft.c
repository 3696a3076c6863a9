/* soft.c: HKR with soft weights over the classes that are not true.
 *
 *     MulticlassSoftHKR_i = sum_c F_c ( -s_c p_c / alpha + relu(m/2 - s_c p_c) )     alpha infinite: the hinge alone
 *
 * F is 1 for the true class and softmax(T p) over the others, T = clip(temperature m / clip(mean, m, 20000), 0.005,
 * 250), mean following |p| from call to call; T is held constant by the gradient. deel-lip's hinge-only values are a
 * matrix, whose mean is a factor C smaller.
 *
 *     LseHKRMulticlassLoss_i = (1 - alpha)(n - f) + alpha ( relu(m/2 - f) + relu(m/2 + n) )
 *
 * f the true score and n = logsumexp(t g)/t over the others g, t = log(C - 1) / (m penalty/2), all scores times
 * temperature. Source: deel-lip 1.5.1 and torchlip 1.0.5, their losses; semantics.md 13.3.
 */
#include "losses/family.h"

/* softmax(t p) over the classes that are not true, in q, 0 for the true one. Returns logsumexp of the same. */
static double others(size_t c, double t, const float *y, const float *p, double *q)
{
    double top = -INFINITY, sum = 0;

    for (size_t j = 0; j < c; j++)
        if (!(y[j] > 0))
            top = fmax(top, t * p[j]);
    for (size_t j = 0; j < c; j++) {
        q[j] = y[j] > 0 ? 0 : exp(t * p[j] - top);
        sum += q[j];
    }
    for (size_t j = 0; j < c && sum > 0; j++)
        q[j] /= sum;
    return top + log(sum);
}

static double clip(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* deel-lip keeps the mean in float32. */
static double soft_mean(const struct lip__loss *l, size_t n, size_t c, const float *p)
{
    double sum = 0;

    for (size_t i = 0; i < n * c; i++)
        sum += fabsf(p[i]);
    return (float)(l->alpha_mean * l->mean + (1 - l->alpha_mean) * sum / (double)(n * c));
}

static void soft(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p, const float *scale,
                 float *per_sample, float *dp, double *scratch)
{
    const struct lip__loss *l = (const struct lip__loss *)self;
    double m = (float)l->min_margin, kr = l->hinge_only ? 0 : 1 / (double)(float)l->alpha, *q = scratch;
    double t = clip(l->temperature * l->min_margin / clip(l->mean, l->min_margin, 20000), 0.005, 250);
    double part = l->hinge_only ? 1 / (double)c : 1; /* where a mean is over a matrix */
    double told = lip__loss_means(l) ? part : 1, share = lip__loss_trains_mean(l) ? part : 1;

    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double sum = 0, inner = 0;

        others(c, t, yi, pi, q);
        for (size_t j = 0; j < c; j++) {
            double s = yi[j] > 0 ? 1 : -1, f = yi[j] > 0 ? 1 : q[j], h = -s * pi[j] * kr + fmax(m / 2 - s * pi[j], 0);

            sum += f * h;
            inner += q[j] * h;
        }
        per_sample[i] = (float)(told * sum);
        for (size_t j = 0; dp && j < c; j++) {
            double s = yi[j] > 0 ? 1 : -1, f = yi[j] > 0 ? 1 : q[j], h = -s * pi[j] * kr + fmax(m / 2 - s * pi[j], 0);
            double slope = -s * kr - (m / 2 - s * pi[j] > 0 ? s : 0);

            dp[i * c + j] = (float)(scale[i] * share * (f * slope + t * q[j] * (h - inner)));
        }
    }
}

static void lse(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p, const float *scale,
                float *per_sample, float *dp, double *scratch)
{
    const struct lip__loss *l = (const struct lip__loss *)self;
    double m = l->min_margin, alpha = (float)l->alpha, warm = l->temperature, *q = scratch;
    double t = log((double)c - 1) / (m * l->penalty / 2);

    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double f = 0, g, up, down;

        if (c > 2) {
            g = others(c, t * warm, yi, pi, q) / t;
        } else { /* of one other score the limit is that score: torchlip divides by t = 0 there */
            others(c, 1, yi, pi, q);
            g = warm * (q[0] * pi[0] + q[1] * pi[1]);
        }
        for (size_t j = 0; j < c; j++)
            f += yi[j] > 0 ? warm * pi[j] : 0;
        per_sample[i] = (float)((1 - alpha) * (g - f) + alpha * (fmax(m / 2 - f, 0) + fmax(m / 2 + g, 0)));
        up = -(1 - alpha) - (m / 2 - f > 0 ? alpha : 0);
        down = (1 - alpha) + (m / 2 + g > 0 ? alpha : 0);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * warm * (yi[j] > 0 ? up : down * q[j]));
    }
}

static const struct lip__field soft_fields[] = {LIP__LOSS_FIELDS("MulticlassSoftHKR"),
                                                {.name = "alpha",
                                                 .type = LIP__FLOAT,
                                                 .offset = LIP__FIELD(lip__loss, alpha),
                                                 .def = 10,
                                                 .max = INFINITY,
                                                 .flags = LIP__OPEN_MIN}, /* KR is divided by it */
                                                LIP__LOSS_MARGIN(1),
                                                LIP__LOSS_NUMBER("alpha_mean", alpha_mean, 0.99, 1),
                                                LIP__LOSS_NUMBER("temperature", temperature, 1, 1e30),
                                                LIP__LOSS_END};
static const struct lip__field lse_fields[] = {
    LIP__LOSS_FIELDS("LseHKRMulticlassLoss"),          LIP__LOSS_NUMBER("alpha", alpha, 1, 1),
    LIP__LOSS_POSITIVE("temperature", temperature, 1), LIP__LOSS_POSITIVE("penalty", penalty, 1),
    LIP__LOSS_POSITIVE("min_margin", min_margin, 1),   LIP__LOSS_END};

extern const struct lip__loss_class lip__multiclass_soft_hkr, lip__lse_hkr;

const struct lip__loss_class lip__multiclass_soft_hkr = {
    .cls = LIP__LOSS_CLASS("MulticlassSoftHKR", soft_fields),
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = soft,
    .advance = soft_mean,
};

const struct lip__loss_class lip__lse_hkr = {
    .cls = {.name = "LseHKRMulticlassLoss",
            .module = "deel.torchlip",
            .size = sizeof(struct lip__loss),
            .fields = lse_fields},
    .one_hot = true,
    .check = lip__labels_one_hot,
    .value = lse,
};
