/* merge.c: layers that join several tensors.
 *
 *     Add           y = sum of x_i          Average   the sum divided by their number
 *     Subtract      y = x_0 - x_1           Multiply  y = product of x_i
 *     Concatenate   the x_i one behind the other along an axis
 *
 * All but Concatenate take tensors of one shape. (Keras also broadcasts; deel-lip's models do not, and it is refused.)
 */
#include <math.h>
#include <string.h>

#include "layers/family.h"

struct merge {
    lip_layer base;
    long axis; /* Concatenate */
};

static lip_err same_shapes(lip_layer *l, lip_error *err)
{
    char first[96], other[96];

    for (size_t i = 1; i < l->n_merged; i++)
        if (!lip_shape_equal(&l->merged[0], &l->merged[i]))
            return lip__layer_fail(l, err, LIP_ESHAPE, "its inputs have shapes %s and %s, needs equal ones",
                                   lip_shape_text(&l->merged[0], first, sizeof first),
                                   lip_shape_text(&l->merged[i], other, sizeof other));
    l->out = l->merged[0];
    return LIP_OK;
}

static lip_err two_inputs(lip_layer *l, lip_error *err)
{
    if (l->n_merged != 2)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "it has %zu inputs, needs two", l->n_merged);
    return same_shapes(l, err);
}

static size_t floats(const lip_layer *l, const struct lip__pass *p)
{
    return p->n * lip_shape_count(&l->out);
}

static void add(const lip_layer *l, const struct lip__pass *p, const float *const *x, float *y)
{
    size_t n = floats(l, p);

    for (size_t j = 0; j < n; j++)
        y[j] = x[0][j] + x[1][j];
    for (size_t i = 2; i < l->n_merged; i++)
        for (size_t j = 0; j < n; j++)
            y[j] += x[i][j];
}

static void unadd(const lip_layer *l, const struct lip__pass *p, const float *const *x, const float *dy, size_t which,
                  float *dx)
{
    (void)x, (void)which;
    memcpy(dx, dy, floats(l, p) * sizeof *dx);
}

static void average(const lip_layer *l, const struct lip__pass *p, const float *const *x, float *y)
{
    size_t n = floats(l, p);

    add(l, p, x, y);
    for (size_t j = 0; j < n; j++)
        y[j] /= (float)l->n_merged;
}

static void unaverage(const lip_layer *l, const struct lip__pass *p, const float *const *x, const float *dy, size_t which,
                      float *dx)
{
    size_t n = floats(l, p);

    (void)x, (void)which;
    for (size_t j = 0; j < n; j++)
        dx[j] = dy[j] / (float)l->n_merged;
}

static void subtract(const lip_layer *l, const struct lip__pass *p, const float *const *x, float *y)
{
    size_t n = floats(l, p);

    for (size_t j = 0; j < n; j++)
        y[j] = x[0][j] - x[1][j];
}

static void unsubtract(const lip_layer *l, const struct lip__pass *p, const float *const *x, const float *dy, size_t which,
                       float *dx)
{
    size_t n = floats(l, p);

    (void)x;
    for (size_t j = 0; j < n; j++)
        dx[j] = which ? -dy[j] : dy[j];
}

static void multiply(const lip_layer *l, const struct lip__pass *p, const float *const *x, float *y)
{
    size_t n = floats(l, p);

    for (size_t j = 0; j < n; j++)
        y[j] = x[0][j] * x[1][j];
    for (size_t i = 2; i < l->n_merged; i++)
        for (size_t j = 0; j < n; j++)
            y[j] *= x[i][j];
}

static void unmultiply(const lip_layer *l, const struct lip__pass *p, const float *const *x, const float *dy, size_t which,
                       float *dx)
{
    size_t n = floats(l, p);

    memcpy(dx, dy, n * sizeof *dx);
    for (size_t i = 0; i < l->n_merged; i++)
        for (size_t j = 0; j < n && i != which; j++)
            dx[j] *= x[i][j];
}

/* The axis of a sample's shape, without the batch; its rank where the definition names none of them. */
static size_t find_axis(const lip_layer *l)
{
    long axis = ((const struct merge *)l)->axis, rank = (long)l->merged[0].rank;

    axis = axis < 0 ? axis + rank : axis - 1;
    return axis < 0 || axis >= rank ? (size_t)rank : (size_t)axis;
}

static lip_err concatenated(lip_layer *l, lip_error *err)
{
    size_t axis = find_axis(l), rank = l->merged[0].rank;
    char first[96], other[96];

    if (axis == rank)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "axis is %ld, needs 1 to %zu or -%zu to -1", ((struct merge *)l)->axis,
                               rank, rank);
    l->out = l->merged[0];
    for (size_t i = 1; i < l->n_merged; i++) {
        lip_shape fit = l->merged[i];
        if (fit.rank == rank)
            fit.dim[axis] = l->merged[0].dim[axis];
        if (!lip_shape_equal(&fit, &l->merged[0]))
            return lip__layer_fail(l, err, LIP_ESHAPE, "its inputs have shapes %s and %s, may differ along axis %ld only",
                                   lip_shape_text(&l->merged[0], first, sizeof first),
                                   lip_shape_text(&l->merged[i], other, sizeof other), ((struct merge *)l)->axis);
        l->out.dim[axis] += l->merged[i].dim[axis];
    }
    return LIP_OK;
}

/* Floats of one sample in front of the axis, and from it to the end: of input i, of the output, where input i begins. */
static void strips(const lip_layer *l, size_t i, size_t *rows, size_t *mine, size_t *all, size_t *begin)
{
    size_t axis = find_axis(l), inner = 1;

    *rows = 1;
    for (size_t d = 0; d < axis; d++)
        *rows *= l->out.dim[d];
    for (size_t d = axis + 1; d < l->out.rank; d++)
        inner *= l->out.dim[d];
    *mine = l->merged[i].dim[axis] * inner;
    *all = l->out.dim[axis] * inner;
    *begin = 0;
    for (size_t j = 0; j < i; j++)
        *begin += l->merged[j].dim[axis] * inner;
}

static void concatenate(const lip_layer *l, const struct lip__pass *p, const float *const *x, float *y)
{
    size_t rows, mine, all, begin;

    for (size_t i = 0; i < l->n_merged; i++) {
        strips(l, i, &rows, &mine, &all, &begin);
        for (size_t r = 0; r < p->n * rows; r++)
            memcpy(y + r * all + begin, x[i] + r * mine, mine * sizeof *y);
    }
}

static void unconcatenate(const lip_layer *l, const struct lip__pass *p, const float *const *x, const float *dy, size_t which,
                          float *dx)
{
    size_t rows, mine, all, begin;

    (void)x;
    strips(l, which, &rows, &mine, &all, &begin);
    for (size_t r = 0; r < p->n * rows; r++)
        memcpy(dx + r * mine, dy + r * all + begin, mine * sizeof *dx);
}

static double none(const lip_layer *l)
{
    (void)l;
    return NAN;
}

/* Constants of the map from all inputs side by side: the norm of [I I … I] is sqrt(n). Square roots are rounded up. */
static double up(double x)
{
    return nextafter(x, INFINITY);
}

static double of_sum(const lip_layer *l)
{
    return up(sqrt((double)l->n_merged));
}

static double of_mean(const lip_layer *l)
{
    return up(1 / sqrt((double)l->n_merged));
}

static const struct lip__field no_fields[] = {{.name = NULL}};
static const struct lip__field axis_fields[] = {
    {"axis", LIP__INT, LIP__FIELD(merge, axis), .def = -1, .min = -LIP_MAX_RANK, .max = LIP_MAX_RANK},
    {.name = NULL},
};

#define MERGE(name_, class_, fields_, join_, merge_, unmerge_, constant_)                                       \
    const struct lip__kind lip__##name_ = {                                                                     \
        .cls = {.name = class_, .module = "keras.layers", .size = sizeof(struct merge), .fields = fields_},     \
        .join = join_,                                                                                          \
        .merge = merge_,                                                                                        \
        .unmerge = unmerge_,                                                                                    \
        .claimed = none,                                                                                        \
        .constant = constant_,                                                                                  \
    }

MERGE(add, "Add", no_fields, same_shapes, add, unadd, of_sum);
MERGE(average, "Average", no_fields, same_shapes, average, unaverage, of_mean);
MERGE(subtract, "Subtract", no_fields, two_inputs, subtract, unsubtract, of_sum);
MERGE(multiply, "Multiply", no_fields, same_shapes, multiply, unmultiply, none);
MERGE(concatenate, "Concatenate", axis_fields, concatenated, concatenate, unconcatenate, lip__one);
