/* softmax.c: y_i = exp(x_i) / sum_j exp(x_j) along one axis, and its logarithm.
 *
 * The largest x is subtracted first. The Jacobian of softmax is diag(y) - y y', whose norm is at most 1/2; that of its
 * logarithm is I - 1 y', whose norm is at most sqrt(n).
 */
#include "layers/softmax.h"

#include <math.h>

#include "layers/family.h"

/* n numbers, `step` apart. */
static void softmax(size_t n, size_t step, const float *x, float *y)
{
    float most = x[0], sum = 0;

    for (size_t i = 1; i < n; i++)
        most = x[i * step] > most ? x[i * step] : most;
    for (size_t i = 0; i < n; i++)
        sum += y[i * step] = expf(x[i * step] - most);
    for (size_t i = 0; i < n; i++)
        y[i * step] /= sum;
}

static void unsoftmax(size_t n, size_t step, const float *y, const float *dy, float *dx)
{
    double along = 0;

    for (size_t i = 0; i < n; i++)
        along += (double)dy[i * step] * y[i * step];
    for (size_t i = 0; i < n; i++)
        dx[i * step] = (float)((dy[i * step] - along) * y[i * step]);
}

/* ---- functions for slots ------------------------------------------------------------------------------- */

static size_t width(const lip_layer *l)
{
    return l->in.rank ? l->in.dim[l->in.rank - 1] : 1;
}

static size_t rows(const lip_layer *l, const struct lip__pass *p)
{
    return p->n * (lip_shape_count(&l->in) / width(l));
}

void lip__softmax_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    for (size_t i = 0; i < rows(l, p); i++)
        softmax(width(l), 1, x + i * width(l), y + i * width(l));
}

void lip__softmax_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                           float *dx)
{
    (void)x;
    for (size_t i = 0; i < rows(l, p); i++)
        unsoftmax(width(l), 1, y + i * width(l), dy + i * width(l), dx + i * width(l));
}

double lip__softmax_constant(const lip_layer *l)
{
    (void)l;
    return 0.5;
}

void lip__log_softmax_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t n = width(l);

    for (size_t r = 0; r < rows(l, p); r++, x += n, y += n) {
        float most = x[0], sum = 0;
        for (size_t i = 1; i < n; i++)
            most = x[i] > most ? x[i] : most;
        for (size_t i = 0; i < n; i++)
            sum += expf(x[i] - most);
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] - most - logf(sum);
    }
}

void lip__log_softmax_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y,
                               const float *dy, float *dx)
{
    size_t n = width(l);

    (void)x;
    for (size_t r = 0; r < rows(l, p); r++, y += n, dy += n, dx += n) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += dy[i];
        for (size_t i = 0; i < n; i++)
            dx[i] = (float)(dy[i] - sum * expf(y[i]));
    }
}

double lip__log_softmax_constant(const lip_layer *l)
{
    return LIP__UP(sqrt((double)width(l)));
}

/* ---- the layer ------------------------------------------------------------------------------------------ */

struct softmax {
    lip_layer base;
    long axis; /* the batch is axis 0 */
};

/* The axis among a sample's; its rank where there is no such axis. */
static size_t find_axis(const lip_layer *l)
{
    long axis = ((const struct softmax *)l)->axis, rank = (long)l->in.rank;

    axis = axis < 0 ? axis + rank : axis - 1;
    return axis < 0 || axis >= rank ? (size_t)rank : (size_t)axis;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    if (find_axis(l) == l->in.rank)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "axis is %ld, needs 1 to %zu or -%zu to -1",
                               ((struct softmax *)l)->axis, l->in.rank, l->in.rank);
    return LIP_OK;
}

/* Calls with the start of each run along the axis. */
#define EACH_RUN(l, p, at, n, step, call)                                        \
    do {                                                                         \
        size_t n = (l)->in.dim[find_axis(l)], step = 1;                          \
        for (size_t d_ = find_axis(l) + 1; d_ < (l)->in.rank; d_++)              \
            step *= (l)->in.dim[d_];                                             \
        size_t all_ = (p)->n * lip_shape_count(&(l)->in);                        \
        for (size_t block_ = 0; block_ < all_; block_ += n * step)               \
            for (size_t at = block_; at < block_ + step; at++)                   \
                call;                                                            \
    } while (0)

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    EACH_RUN(l, p, at, n, step, softmax(n, step, x + at, y + at));
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    (void)x;
    EACH_RUN(l, p, at, n, step, unsoftmax(n, step, y + at, dy + at, dx + at));
}

static double claims_one(const lip_layer *l)
{
    (void)l;
    return 1;
}

static const struct lip__field fields[] = {
    {"axis", LIP__INT, LIP__FIELD(softmax, axis), .def = -1, .min = -LIP_MAX_RANK, .max = LIP_MAX_RANK},
    {.name = NULL},
};

const struct lip__kind lip__softmax = {
    .cls = {.name = "Softmax", .module = "keras.layers", .size = sizeof(struct softmax), .fields = fields},
    .flags = LIP__ACTIVATES,
    .build = build,
    .forward = forward,
    .backward = backward,
    .constant = lip__softmax_constant,
    .claimed = claims_one,
};
