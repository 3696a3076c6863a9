/* rectifiers.c: Keras's layers of one number with an option: LeakyReLU, ELU, ThresholdedReLU, and PReLU, whose slope below
 * 0 is learnt, one for each place of a sample.
 *
 *     LeakyReLU        x > 0: x, else alpha x
 *     ELU              x > 0: x, else alpha (exp(x) - 1)
 *     ThresholdedReLU  x > theta: x, else 0
 *     PReLU            max(x, 0) - alpha max(-x, 0)
 *
 * At corners the gradient is TensorFlow's: that of the lower side, and 0 at 0 for PReLU.
 */
#include <math.h>
#include <string.h>

#include "layers/family.h"

struct rectifier {
    lip_layer base;
    double number; /* alpha or theta */
    struct lip__object *alpha_initializer, *alpha_regularizer, *alpha_constraint; /* PReLU */
    struct lip__ints shared; /* PReLU: axes along which alpha is one number; the batch is axis 0 */
};

static size_t count(const lip_layer *l, const struct lip__pass *p)
{
    return p->n * lip_shape_count(&l->in);
}

static float number(const lip_layer *l)
{
    return (float)((const struct rectifier *)l)->number;
}

/* Both sides of the corner may be the steeper. */
static double steeper(const lip_layer *l)
{
    return fmax(1, fabs(((const struct rectifier *)l)->number));
}

static double none(const lip_layer *l)
{
    (void)l;
    return NAN;
}

static void leaky_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    float alpha = number(l);

    for (size_t i = 0; i < count(l, p); i++)
        y[i] = x[i] > 0 ? x[i] : alpha * x[i];
}

static void leaky_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                           float *dx)
{
    float alpha = number(l);

    (void)y;
    for (size_t i = 0; i < count(l, p); i++)
        dx[i] = x[i] > 0 ? dy[i] : alpha * dy[i];
}

static void elu_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    float alpha = number(l);

    for (size_t i = 0; i < count(l, p); i++)
        y[i] = x[i] > 0 ? x[i] : alpha * expm1f(x[i]);
}

static void elu_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                         float *dx)
{
    float alpha = number(l);

    (void)y;
    for (size_t i = 0; i < count(l, p); i++)
        dx[i] = x[i] > 0 ? dy[i] : alpha * expf(x[i]) * dy[i];
}

static void threshold_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    float theta = number(l);

    for (size_t i = 0; i < count(l, p); i++)
        y[i] = x[i] <= theta ? 0 : x[i];
}

static void threshold_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y,
                               const float *dy, float *dx)
{
    float theta = number(l);

    (void)y;
    for (size_t i = 0; i < count(l, p); i++)
        dx[i] = x[i] > theta ? dy[i] : 0;
}

/* Above 0 the function jumps at theta. */
static double threshold_constant(const lip_layer *l)
{
    return number(l) == 0 ? 1 : NAN;
}

/* ---- PReLU ---------------------------------------------------------------------------------------------- */

static lip_err prelu_build(lip_layer *l, lip_error *err)
{
    const struct rectifier *r = (const struct rectifier *)l;
    lip_shape shape = l->in;

    for (size_t i = 0; i < r->shared.n; i++) {
        if (r->shared.v[i] < 1 || r->shared.v[i] > (long)l->in.rank)
            return lip__layer_fail(l, err, LIP_EDEFINITION, "shared_axes holds %ld, needs axes from 1 to %zu", r->shared.v[i],
                                   l->in.rank);
        shape.dim[r->shared.v[i] - 1] = 1;
    }
    lip__declare(l, "alpha", LIP_OTHER, &shape, r->alpha_initializer, r->alpha_regularizer, r->alpha_constraint);
    return LIP_OK;
}

/* Which alpha belongs to number j of a sample. */
static size_t place(const lip_layer *l, size_t j)
{
    const struct lip__ints *shared = &((const struct rectifier *)l)->shared;
    size_t at = 0, stride = 1;

    if (!shared->n)
        return j;
    for (size_t d = l->in.rank; d-- > 0; j /= l->in.dim[d]) {
        bool is_shared = false;
        for (size_t i = 0; i < shared->n; i++)
            is_shared |= shared->v[i] == (long)d + 1;
        at += is_shared ? 0 : j % l->in.dim[d] * stride;
        stride *= is_shared ? 1 : l->in.dim[d];
    }
    return at;
}

static void prelu_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t n = lip_shape_count(&l->in);

    for (size_t s = 0; s < p->n; s++)
        for (size_t i = s * n, j = 0; j < n; i++, j++)
            y[i] = x[i] < 0 ? p->w[0][place(l, j)] * x[i] : x[i];
}

static void prelu_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                           float *dx)
{
    size_t n = lip_shape_count(&l->in);

    (void)y;
    for (size_t s = 0; s < p->n; s++)
        for (size_t i = s * n, j = 0; j < n; i++, j++)
            dx[i] = x[i] < 0 ? p->w[0][place(l, j)] * dy[i] : x[i] > 0 ? dy[i] : 0;
}

static void prelu_gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t n = lip_shape_count(&l->in), slopes = lip_shape_count(&l->declared[0].shape);

    if (!p->dw[0])
        return;
    memset(p->dw[0], 0, slopes * sizeof *p->dw[0]);
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (size_t s = 0; s < p->n; s++)
            sum += x[s * n + j] < 0 ? (double)x[s * n + j] * dy[s * n + j] : 0;
        p->dw[0][place(l, j)] += (float)sum;
    }
}

/* The slopes are 1 and alpha, at each place another. */
static double prelu_weighed(const lip_layer *l, const float *const *w)
{
    double most = 1;

    for (size_t j = 0; j < lip_shape_count(&l->declared[0].shape); j++)
        most = fmax(most, fabs((double)w[0][j]));
    return most;
}

/* ---- kinds ----------------------------------------------------------------------------------------------- */

#define NUMBER(name_, default_, least)                                                                               \
    {                                                                                                                \
        {name_, LIP__FLOAT, LIP__FIELD(rectifier, number), .def = (default_), .min = (least), .max = INFINITY},      \
        {                                                                                                            \
            .name = NULL                                                                                             \
        }                                                                                                            \
    }

static const struct lip__field leaky_fields[] = NUMBER("alpha", 0.30000001192092896, -INFINITY);
static const struct lip__field elu_fields[] = NUMBER("alpha", 1, -INFINITY);
static const struct lip__field threshold_fields[] = NUMBER("theta", 1, 0);
static const struct lip__field prelu_fields[] = {
    {"alpha_initializer", LIP__OBJECT, LIP__FIELD(rectifier, alpha_initializer), .def = LIP__ZEROS, .of = lip__initializers},
    {"alpha_regularizer", LIP__OBJECT, LIP__FIELD(rectifier, alpha_regularizer), .def = NAN, .of = lip__regularizers},
    {"alpha_constraint", LIP__OBJECT, LIP__FIELD(rectifier, alpha_constraint), .def = NAN, .of = lip__constraints},
    {"shared_axes", LIP__INTS, LIP__FIELD(rectifier, shared), .def = NAN, .min = 1, .max = LIP_MAX_RANK, .flags = LIP__NONE_OK},
    {.name = NULL},
};

#define RECTIFIER(name_, class_, fields_, forward_, backward_, constant_)                                             \
    const struct lip__kind lip__##name_ = {                                                                           \
        .cls = {.name = class_, .module = "keras.layers", .size = sizeof(struct rectifier), .fields = fields_},       \
        .flags = LIP__ACTIVATES | LIP__POINTWISE,                                                                     \
        .forward = forward_,                                                                                          \
        .backward = backward_,                                                                                        \
        .constant = constant_,                                                                                        \
    }

RECTIFIER(leaky_relu, "LeakyReLU", leaky_fields, leaky_forward, leaky_backward, steeper);
RECTIFIER(elu, "ELU", elu_fields, elu_forward, elu_backward, steeper);
RECTIFIER(thresholded_relu, "ThresholdedReLU", threshold_fields, threshold_forward, threshold_backward, threshold_constant);

const struct lip__kind lip__prelu = {
    .cls = {.name = "PReLU", .module = "keras.layers", .size = sizeof(struct rectifier), .fields = prelu_fields},
    .flags = LIP__ACTIVATES,
    .build = prelu_build,
    .forward = prelu_forward,
    .backward = prelu_backward,
    .gradient = prelu_gradient,
    .constant = none, /* it depends on alpha */
    .weighed = prelu_weighed,
};
