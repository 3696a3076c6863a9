/* crossentropy.c: the three crossentropies with temperature; they take raw scores p.
 *
 *     TauCategorical_i = ( logsumexp(tau p) sum(y) - sum(y tau p) ) / tau
 *     TauSparse_i      = the same with a class index
 *     TauBinary_i      = mean_c ( max(z, 0) - z [y > 0] + log(1 + exp(-|z|)) ) / tau,   z = tau p
 *
 * Gradients are TensorFlow's: softmax(tau p) - y, and (sigmoid(tau p) - [y > 0]) / C. Source: deel-lip's losses.py.
 */
#include "losses/family.h"

/* logsumexp(tau p), and exp(tau p - that) in q where it is not NULL. */
static double log_sum_exp(size_t c, double tau, const float *p, double *q)
{
    double top = -INFINITY, sum = 0;

    for (size_t j = 0; j < c; j++)
        top = fmax(top, tau * p[j]);
    for (size_t j = 0; j < c; j++)
        sum += exp(tau * p[j] - top);
    for (size_t j = 0; q && j < c; j++)
        q[j] = exp(tau * p[j] - top) / sum;
    return top + log(sum);
}

static void categorical(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                        const float *scale, float *per_sample, float *dp, double *scratch)
{
    double tau = (float)((const struct lip__loss *)self)->tau;

    for (size_t i = 0; i < n; i++) {
        const float *yi = y + i * c, *pi = p + i * c;
        double lse = log_sum_exp(c, tau, pi, dp ? scratch : NULL), sum = 0;

        for (size_t j = 0; j < c; j++)
            sum += yi[j] * (lse - tau * pi[j]);
        per_sample[i] = (float)(sum / tau);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * (scratch[j] - yi[j]));
    }
}

static void sparse(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                   const float *scale, float *per_sample, float *dp, double *scratch)
{
    double tau = (float)((const struct lip__loss *)self)->tau;

    for (size_t i = 0; i < n; i++) {
        const float *pi = p + i * c;
        double lse = log_sum_exp(c, tau, pi, dp ? scratch : NULL);
        size_t at = (size_t)y[i];

        per_sample[i] = (float)((lse - tau * pi[at]) / tau);
        for (size_t j = 0; dp && j < c; j++)
            dp[i * c + j] = (float)(scale[i] * (scratch[j] - (j == at)));
    }
}

static void binary(const struct lip__object *self, size_t n, size_t c, const float *y, const float *p,
                   const float *scale, float *per_sample, float *dp, double *scratch)
{
    double tau = (float)((const struct lip__loss *)self)->tau;

    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = i * c; j < (i + 1) * c; j++) {
            double z = tau * p[j], s = y[j] > 0, e = exp(-fabs(z));

            sum += fmax(z, 0) - z * s + log1p(e);
            if (dp)
                dp[j] = (float)(scale[i] * ((z >= 0 ? 1 / (1 + e) : e / (1 + e)) - s) / (double)c);
        }
        per_sample[i] = (float)(sum / (double)c / tau);
    }
}

static const struct lip__field categorical_fields[] = {LIP__LOSS_FIELDS("TauCategoricalCrossentropy"), LIP__LOSS_TAU,
                                                       LIP__LOSS_END};
static const struct lip__field sparse_fields[] = {LIP__LOSS_FIELDS("TauSparseCategoricalCrossentropy"), LIP__LOSS_TAU,
                                                  LIP__LOSS_END};
static const struct lip__field binary_fields[] = {LIP__LOSS_FIELDS("TauBinaryCrossentropy"), LIP__LOSS_TAU,
                                                  LIP__LOSS_END};

extern const struct lip__loss_class lip__tau_categorical_crossentropy, lip__tau_sparse_categorical_crossentropy,
    lip__tau_binary_crossentropy;

const struct lip__loss_class lip__tau_categorical_crossentropy = {
    .cls = LIP__LOSS_CLASS("TauCategoricalCrossentropy", categorical_fields),
    .one_hot = true,
    .check = lip__labels_distribution,
    .value = categorical,
};

const struct lip__loss_class lip__tau_sparse_categorical_crossentropy = {
    .cls = LIP__LOSS_CLASS("TauSparseCategoricalCrossentropy", sparse_fields),
    .indices = true,
    .check = lip__labels_index,
    .value = sparse,
};

const struct lip__loss_class lip__tau_binary_crossentropy = {
    .cls = LIP__LOSS_CLASS("TauBinaryCrossentropy", binary_fields),
    .check = lip__labels_binary,
    .value = binary,
};
