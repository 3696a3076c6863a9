/* keras.c: Keras's own losses.
 *
 *     MeanSquaredError_i   = mean_c (p - y)^2            MeanAbsoluteError_i = mean_c |p - y|
 *     Hinge_i              = mean_c max(1 - s p, 0),  labels 0 counting as -1
 *     BinaryCrossentropy_i = mean_c -( y log p + (1 - y) log(1 - p) )
 *     CategoricalCrossentropy_i = -sum_c y log( p / sum p ),   SparseCategoricalCrossentropy_i with a class index
 *
 * With from_logits p is sigmoid or softmax of the scores. Without, p is clipped to [e, 1 - e], e = 1e-7, as Keras clips
 * it (a clipped p has no gradient), and so are the logarithms of the binary one once more: log(p + e). Gradients at
 * kinks are TensorFlow's: 0 where p == y, the hinge's where its margin is just reached.
 *
 * Source: Keras 2.15, losses.py and backend.py.
 */
#include "losses/family.h"

static const double least = 1e-7f, most = 1 - 1e-7f;

static const struct lip__loss *loss(const struct lip__object *self)
{
    return (const struct lip__loss *)self;
}

static void squared(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                    const float *scale, float *per_sample, float *dp, double *scratch)
{
    (void)self, (void)scratch;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = i * c; j < (i + 1) * c; j++) {
            double d = (double)p[j] - y[j];

            sum += d * d;
            if (dp)
                dp[j] = (float)(scale[i] * 2 * d / (double)c);
        }
        per_sample[i] = (float)(sum / (double)c);
    }
}

static void absolute(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                     const float *scale, float *per_sample, float *dp, double *scratch)
{
    (void)self, (void)scratch;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = i * c; j < (i + 1) * c; j++) {
            double d = (double)p[j] - y[j];

            sum += fabs(d);
            if (dp)
                dp[j] = (float)(scale[i] * ((d > 0) - (d < 0)) / (double)c);
        }
        per_sample[i] = (float)(sum / (double)c);
    }
}

static void hinge(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                  const float *scale, float *per_sample, float *dp, double *scratch)
{
    (void)self, (void)scratch;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = i * c; j < (i + 1) * c; j++) {
            double s = y[j] > 0 ? 1 : -1, short_by = 1 - s * p[j];

            sum += fmax(short_by, 0);
            if (dp)
                dp[j] = short_by >= 0 ? (float)(-scale[i] * s / (double)c) : 0;
        }
        per_sample[i] = (float)(sum / (double)c);
    }
}

/* p within Keras's limits; *inside: whether it was. */
static double clipped(double p, bool *inside)
{
    *inside = p >= least && p <= most;
    return p < least ? least : p > most ? most : p;
}

/* Labels as smoothing leaves them, c numbers that share it. */
static double smooth(const struct lip__loss *l, double y, double c)
{
    return y * (1 - l->label_smoothing) + l->label_smoothing / c;
}

static void binary(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                   const float *scale, float *per_sample, float *dp, double *scratch)
{
    const struct lip__loss *l = loss(self);

    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = i * c; j < (i + 1) * c; j++) {
            double s = smooth(l, y[j], 2), slope;

            if (l->from_logits) {
                double z = p[j], e = exp(-fabs(z));

                sum += fmax(z, 0) - z * s + log1p(e);
                slope = (z >= 0 ? 1 / (1 + e) : e / (1 + e)) - s;
            } else {
                bool inside;
                double q = clipped(p[j], &inside);

                sum -= s * log(q + least) + (1 - s) * log(1 - q + least);
                slope = inside ? (1 - s) / (1 - q + least) - s / (q + least) : 0;
            }
            if (dp)
                dp[j] = (float)(scale[i] * slope / (double)c);
        }
        per_sample[i] = (float)(sum / (double)c);
    }
}

/* One row of a crossentropy of scores: softmax in q, logsumexp returned. */
static double soft(size_t c, const float *p, double *q)
{
    double top = -INFINITY, sum = 0;

    for (size_t j = 0; j < c; j++)
        top = fmax(top, p[j]);
    for (size_t j = 0; j < c; j++)
        sum += q[j] = exp(p[j] - top);
    for (size_t j = 0; j < c; j++)
        q[j] /= sum;
    return top + log(sum);
}

static void categorical(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                        const float *scale, float *per_sample, float *dp, double *scratch)
{
    const struct lip__loss *l = loss(self);
    double *q = scratch, *slope = scratch + c;

    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double value = 0, sum = 0, through = 0;

        if (l->from_logits) {
            double lse = soft(c, pi, q);

            for (size_t j = 0; j < c; j++) {
                double s = smooth(l, yi[j], (double)c);

                value += s * (lse - pi[j]);
                slope[j] = q[j] - s; /* what TensorFlow's kernel gives back, whatever y sums to */
            }
        } else {
            for (size_t j = 0; j < c; j++)
                sum += pi[j];
            for (size_t j = 0; j < c; j++) {
                bool inside;
                double s = smooth(l, yi[j], (double)c), r = clipped(pi[j] / sum, &inside);

                value -= s * log(r);
                slope[j] = inside ? -s / r : 0;
                through += slope[j] * pi[j] / sum;
            }
            for (size_t j = 0; j < c; j++)
                slope[j] = (slope[j] - through) / sum;
        }
        per_sample[i] = (float)value;
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * slope[j]);
    }
}

static void sparse(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                   const float *scale, float *per_sample, float *dp, double *scratch)
{
    for (size_t i = 0; i < n; i++) {
        const float *pi = p + i * c;
        size_t at = (size_t)y[i];
        double value, sum = 0;

        if (loss(self)->from_logits) {
            value = soft(c, pi, scratch) - pi[at];
            for (size_t j = 0; dp && j < c; j++)
                dp[i * c + j] = (float)(scale[i] * (scratch[j] - (j == at)));
        } else { /* softmax of log p is p over its sum */
            bool inside;

            for (size_t j = 0; j < c; j++)
                sum += clipped(pi[j], &inside);
            value = log(sum / clipped(pi[at], &inside));
            for (size_t j = 0; dp && j < c; j++) {
                double q = clipped(pi[j], &inside);
                dp[i * c + j] = inside ? (float)(scale[i] * (1 / sum - (j == at) / q)) : 0;
            }
        }
        per_sample[i] = (float)value;
    }
}

#define AXIS {.name = "axis", .type = LIP__FIXED, .choices = "-1"}
#define FN(name_) {.name = "fn", .type = LIP__FIXED, .choices = "\"" name_ "\""}
#define LOGITS {.name = "from_logits", .type = LIP__BOOL, .offset = LIP__FIELD(lip__loss, from_logits)}
#define SMOOTHING LIP__LOSS_NUMBER("label_smoothing", label_smoothing, 0, 1)

static const struct lip__field squared_fields[] = {LIP__LOSS_FIELDS("mean_squared_error"), FN("mean_squared_error"),
                                                   LIP__LOSS_END};
static const struct lip__field absolute_fields[] = {LIP__LOSS_FIELDS("mean_absolute_error"), FN("mean_absolute_error"),
                                                    LIP__LOSS_END};
static const struct lip__field hinge_fields[] = {LIP__LOSS_FIELDS("hinge"), FN("hinge"), LIP__LOSS_END};
static const struct lip__field binary_fields[] = {
    LIP__LOSS_FIELDS("binary_crossentropy"), LOGITS, SMOOTHING, AXIS, FN("binary_crossentropy"), LIP__LOSS_END};
static const struct lip__field categorical_fields[] = {LIP__LOSS_FIELDS("categorical_crossentropy"),
                                                       LOGITS,
                                                       SMOOTHING,
                                                       AXIS,
                                                       FN("categorical_crossentropy"),
                                                       LIP__LOSS_END};
static const struct lip__field sparse_fields[] = {LIP__LOSS_FIELDS("sparse_categorical_crossentropy"),
                                                  LOGITS,
                                                  {.name = "ignore_class", .type = LIP__NULL},
                                                  FN("sparse_categorical_crossentropy"),
                                                  LIP__LOSS_END};

#define CLASS(class_name, aliases_, fields_)                                                                         \
    {.name = class_name,                                                                                             \
     .aliases = aliases_,                                                                                            \
     .module = "keras.losses",                                                                                       \
     .size = sizeof(struct lip__loss),                                                                               \
     .fields = fields_}

extern const struct lip__loss_class lip__mean_squared_error, lip__mean_absolute_error, lip__hinge,
    lip__binary_crossentropy, lip__categorical_crossentropy, lip__sparse_categorical_crossentropy;

const struct lip__loss_class lip__mean_squared_error = {
    .cls = CLASS("MeanSquaredError", "mean_squared_error|mse|MSE", squared_fields), .pixels = true, .value = squared};

const struct lip__loss_class lip__mean_absolute_error = {
    .cls = CLASS("MeanAbsoluteError", "mean_absolute_error|mae|MAE", absolute_fields),
    .pixels = true,
    .value = absolute};

const struct lip__loss_class lip__hinge = {
    .cls = CLASS("Hinge", "hinge", hinge_fields), .pixels = true, .check = lip__labels_binary, .value = hinge};

const struct lip__loss_class lip__binary_crossentropy = {
    .cls = CLASS("BinaryCrossentropy", "binary_crossentropy|bce|BCE", binary_fields),
    .pixels = true,
    .probabilities = true,
    .check = lip__labels_share,
    .value = binary,
};

const struct lip__loss_class lip__categorical_crossentropy = {
    .cls = CLASS("CategoricalCrossentropy", "categorical_crossentropy", categorical_fields),
    .one_hot = true,
    .pixels = true,
    .probabilities = true,
    .check = lip__labels_distribution,
    .value = categorical,
};

const struct lip__loss_class lip__sparse_categorical_crossentropy = {
    .cls = CLASS("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy", sparse_fields),
    .indices = true,
    .pixels = true,
    .probabilities = true,
    .check = lip__labels_index,
    .value = sparse,
};
