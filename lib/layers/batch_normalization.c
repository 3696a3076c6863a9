/* batch_normalization.c: Keras's BatchNormalization: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, for each place
 * along one axis.
 *
 * In inference mean and variance are the moving ones, and the layer is affine: its Lipschitz constant is the largest
 * |gamma| / sqrt(variance + epsilon). In training they are the batch's own, the gradient goes through them, and the moving ones
 * follow: m <- momentum m + (1 - momentum) of the batch's. A layer that is not trainable is in inference always.
 *
 * Where TensorFlow fuses (images normalised along their channels) epsilon is at least 1.001e-5, and the moving variance
 * follows the unbiased one, with N - 1 in the divisor. Sums over the batch are in double.
 *
 * Source: Ioffe and Szegedy, ICML 2015; Keras 2.15.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/family.h"

struct normalization {
    lip_layer base;
    long axes[LIP_MAX_RANK + 1]; /* LIP__AXES; the batch is axis 0 */
    double momentum, epsilon;
    bool center, scale;
    struct lip__object *beta_initializer, *gamma_initializer, *mean_initializer, *variance_initializer;
    struct lip__object *beta_regularizer, *gamma_regularizer, *beta_constraint, *gamma_constraint;
};

static const struct normalization *norm(const lip_layer *l)
{
    return (const struct normalization *)l;
}

/* The axis among a sample's; its rank where there is no such axis. */
static size_t axis(const lip_layer *l)
{
    long rank = (long)l->in.rank, at = norm(l)->axes[1] < 0 ? norm(l)->axes[1] + rank : norm(l)->axes[1] - 1;

    return at < 0 || at >= rank ? (size_t)rank : (size_t)at;
}

static size_t channels(const lip_layer *l)
{
    return l->in.dim[axis(l)];
}

/* Numbers behind one place along the axis. */
static size_t inner(const lip_layer *l)
{
    size_t count = 1;

    for (size_t d = axis(l) + 1; d < l->in.rank; d++)
        count *= l->in.dim[d];
    return count;
}

static bool fused(const lip_layer *l)
{
    return l->in.rank == 3 && axis(l) != 1;
}

double lip__normalization_epsilon(const lip_layer *l)
{
    return fused(l) ? fmax(norm(l)->epsilon, 1.001e-5) : norm(l)->epsilon;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    struct normalization *b = (struct normalization *)l;
    lip_shape shape;

    if (labs(b->axes[0]) != 1)
        return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "it has %ld axes; normalising along one is built in", b->axes[0]);
    if (!l->in.rank || axis(l) == l->in.rank)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "axis is %ld, needs 1 to %zu or -%zu to -1", b->axes[1], l->in.rank,
                               l->in.rank);
    shape = LIP__SHAPE(channels(l));
    if (b->scale)
        lip__declare(l, "gamma", LIP_OTHER, &shape, b->gamma_initializer, b->gamma_regularizer, b->gamma_constraint);
    if (b->center)
        lip__declare(l, "beta", LIP_OTHER, &shape, b->beta_initializer, b->beta_regularizer, b->beta_constraint);
    lip__declare(l, "moving_mean", LIP_MOVING, &shape, b->mean_initializer, NULL, NULL);
    lip__declare(l, "moving_variance", LIP_MOVING, &shape, b->variance_initializer, NULL, NULL);
    return LIP_OK;
}

/* Places of the variables among those that forward reads. */
static size_t at_beta(const lip_layer *l)
{
    return norm(l)->scale;
}

static size_t at_mean(const lip_layer *l)
{
    return at_beta(l) + norm(l)->center;
}

static bool learns(const lip_layer *l, const struct lip__pass *p)
{
    return p->training && l->trainable;
}

/* ---- statistics of a batch: mean, 1 / sqrt(variance + eps); then, going back, the means of dy and of dy times x^ ------- */

static size_t stats(const lip_layer *l)
{
    return 4 * channels(l);
}

#define EACH(l, p, channel, at, body)                                                           \
    do {                                                                                        \
        size_t inner_ = inner(l), c_ = channels(l), runs_ = (p)->n * lip_shape_count(&(l)->in) / inner_; \
        for (size_t r_ = 0, at = 0; r_ < runs_; r_++)                                           \
            for (size_t channel = r_ % c_, i_ = 0; i_ < inner_; i_++, at++)                     \
                body;                                                                           \
    } while (0)

static void observe(const lip_layer *l, const struct lip__pass *p, const float *x)
{
    size_t c = channels(l), count = p->n * lip_shape_count(&l->in) / c;
    double *sum = (double *)(void *)p->scratch, *square = sum + c;
    float momentum = (float)norm(l)->momentum, *mean = p->moved[at_mean(l)], *variance = p->moved[at_mean(l) + 1];

    if (!learns(l, p))
        return;
    memset(sum, 0, 2 * c * sizeof *sum);
    EACH(l, p, j, at, sum[j] += x[at]);
    for (size_t j = 0; j < c; j++)
        sum[j] /= (double)count;
    EACH(l, p, j, at, square[j] += (x[at] - sum[j]) * (x[at] - sum[j]));
    for (size_t j = 0; j < c; j++) {
        double var = square[j] / (double)count;
        p->stats[j] = (float)sum[j];
        p->stats[c + j] = (float)(1 / sqrt(var + lip__normalization_epsilon(l)));
        if (fused(l) && count > 1)
            var = square[j] / (double)(count - 1);
        mean[j] = mean[j] * momentum + (float)sum[j] * (1 - momentum);
        variance[j] = variance[j] * momentum + (float)var * (1 - momentum);
    }
}

/* x^ is (x - mean) / sqrt(variance + eps). */
static void observe_back(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t c = channels(l), count = p->n * lip_shape_count(&l->in) / c;
    double *sum = (double *)(void *)p->scratch, *product = sum + c;
    const float *mean = p->stats, *rate = p->stats + c;

    if (!learns(l, p))
        return;
    memset(sum, 0, 2 * c * sizeof *sum);
    EACH(l, p, j, at, (sum[j] += dy[at], product[j] += (double)dy[at] * ((x[at] - mean[j]) * rate[j])));
    for (size_t j = 0; j < c; j++) {
        p->stats[2 * c + j] = (float)(sum[j] / (double)count);
        p->stats[3 * c + j] = (float)(product[j] / (double)count);
    }
}

/* ---- arithmetic -------------------------------------------------------------------------------------------- */

/* The mean in use, and what x - mean is multiplied by, gamma left out, in the scratch: (2, channels). */
static const float *means(const lip_layer *l, const struct lip__pass *p)
{
    size_t c = channels(l);
    const float *mean = p->w[at_mean(l)], *variance = p->w[at_mean(l) + 1];

    if (learns(l, p))
        return p->stats;
    for (size_t j = 0; j < c; j++) {
        p->scratch[j] = mean[j];
        p->scratch[c + j] = (float)(1 / sqrt(variance[j] + lip__normalization_epsilon(l)));
    }
    return p->scratch;
}

static size_t scratch(const lip_layer *l)
{
    return 4 * channels(l); /* two sums in double */
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    const float *mean = means(l, p), *rate = mean + channels(l);
    const float *gamma = norm(l)->scale ? p->w[0] : NULL, *beta = norm(l)->center ? p->w[at_beta(l)] : NULL;

    EACH(l, p, j, at, y[at] = (x[at] - mean[j]) * (rate[j] * (gamma ? gamma[j] : 1)) + (beta ? beta[j] : 0));
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    size_t c = channels(l);
    const float *mean = means(l, p), *rate = mean + c, *gamma = norm(l)->scale ? p->w[0] : NULL;

    (void)y;
    if (!learns(l, p)) {
        EACH(l, p, j, at, dx[at] = dy[at] * (rate[j] * (gamma ? gamma[j] : 1)));
        return;
    }
    EACH(l, p, j, at, dx[at] = (dy[at] - mean[2 * c + j] - (x[at] - mean[j]) * rate[j] * mean[3 * c + j]) *
                               (rate[j] * (gamma ? gamma[j] : 1)));
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t c = channels(l), count = p->n * lip_shape_count(&l->in) / c;
    const float *mean = means(l, p), *rate = mean + c;
    float *dgamma = norm(l)->scale ? p->dw[0] : NULL, *dbeta = norm(l)->center ? p->dw[at_beta(l)] : NULL;
    double sum, product;

    for (size_t j = 0; j < c; j++) {
        sum = product = 0;
        for (size_t at = j * inner(l), i = 0; i < count; i++, at += i % inner(l) ? 1 : 1 + (c - 1) * inner(l)) {
            sum += dy[at];
            product += (double)dy[at] * ((x[at] - mean[j]) * rate[j]);
        }
        if (dgamma)
            dgamma[j] = (float)product;
        if (dbeta)
            dbeta[j] = (float)sum;
    }
}

static double constant(const lip_layer *l)
{
    (void)l;
    return NAN; /* it depends on the weights */
}

static double weighed(const lip_layer *l, const float *const *w)
{
    double most = 0;

    for (size_t j = 0; j < channels(l); j++) {
        double root = sqrt((double)w[at_mean(l) + 1][j] + lip__normalization_epsilon(l));

        if (!(root > 0)) /* a variance below 0: no real number */
            return NAN;
        most = fmax(most, (norm(l)->scale ? fabs((double)w[0][j]) : 1) / root);
    }
    return LIP__UP(most);
}

#define OBJECT(name_, member, def_, of_) \
    {.name = name_, .type = LIP__OBJECT, .offset = LIP__FIELD(normalization, member), .def = def_, .of = of_}

static const struct lip__field fields[] = {
    {"axis", LIP__AXES, LIP__FIELD(normalization, axes), .def = -1},
    {"momentum", LIP__FLOAT, LIP__FIELD(normalization, momentum), .def = 0.99, .min = 0, .max = 1},
    {"epsilon", LIP__FLOAT, LIP__FIELD(normalization, epsilon), .def = 1e-3, .min = 0, .max = INFINITY, .flags = LIP__OPEN_MIN},
    {"center", LIP__BOOL, LIP__FIELD(normalization, center), .def = 1},
    {"scale", LIP__BOOL, LIP__FIELD(normalization, scale), .def = 1},
    OBJECT("beta_initializer", beta_initializer, LIP__ZEROS, lip__initializers),
    OBJECT("gamma_initializer", gamma_initializer, LIP__ONES, lip__initializers),
    OBJECT("moving_mean_initializer", mean_initializer, LIP__ZEROS, lip__initializers),
    OBJECT("moving_variance_initializer", variance_initializer, LIP__ONES, lip__initializers),
    OBJECT("beta_regularizer", beta_regularizer, NAN, lip__regularizers),
    OBJECT("gamma_regularizer", gamma_regularizer, NAN, lip__regularizers),
    OBJECT("beta_constraint", beta_constraint, NAN, lip__constraints),
    OBJECT("gamma_constraint", gamma_constraint, NAN, lip__constraints),
    {.name = NULL},
};

const struct lip__kind lip__batch_normalization = {
    .cls = {.name = "BatchNormalization", .module = "keras.layers", .size = sizeof(struct normalization), .fields = fields},
    .build = build,
    .stats = stats,
    .observe = observe,
    .observe_back = observe_back,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .constant = constant,
    .weighed = weighed,
};
