/* global_pooling.c: one number for each channel of an image: Keras's average and maximum, and deel-lip's average and L2
 * norm, scaled so that their Lipschitz constant is k.
 *
 *     ScaledGlobalAveragePooling2D   y = k sum(x) / sqrt(h w)     L = sqrt(h w)
 *     ScaledGlobalL2NormPooling2D    y = k |x|                    dx = k dy x / (|x| + eps), L = 1
 *
 * keepdims keeps both spatial axes as 1, except in the L2 norm, which ignores it as in deel-lip. Where |x| and eps are both
 * 0 the gradient is 0 (deel-lip: NaN). The maximum's gradient goes to the first of equals.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "layers/family.h"

struct global {
    lip_layer base;
    const char *data_format;
    bool keepdims;
    double eps; /* L2 only */
};

extern const struct lip__kind lip__scaled_global_l2_norm_pooling2d, lip__scaled_global_average_pooling2d;

static size_t pixels(const lip_layer *l)
{
    return l->in.dim[0] * l->in.dim[1];
}

static size_t channels(const lip_layer *l)
{
    return l->in.dim[2];
}

static lip_err build(lip_layer *l, lip_error *err)
{
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    if (((const struct global *)l)->keepdims && l->kind != &lip__scaled_global_l2_norm_pooling2d)
        l->out = LIP__SHAPE(1, 1, channels(l));
    else
        l->out = LIP__SHAPE(channels(l));
    if (l->kind == &lip__scaled_global_average_pooling2d)
        l->coef = sqrt((double)pixels(l));
    return LIP_OK;
}

/* ---- averages -------------------------------------------------------------------------------------------- */

static float share(const lip_layer *l)
{
    return (float)(lip__layer_coefficient(l) / (double)pixels(l));
}

static void average_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t c = channels(l);
    float part = share(l);

    memset(y, 0, p->n * c * sizeof *y);
    for (size_t s = 0; s < p->n; s++, y += c) {
        for (size_t i = 0; i < pixels(l); i++, x += c)
            for (size_t j = 0; j < c; j++)
                y[j] += x[j];
        for (size_t j = 0; j < c; j++)
            y[j] *= part;
    }
}

static void average_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                             float *dx)
{
    size_t c = channels(l);
    float part = share(l);

    (void)x, (void)y;
    for (size_t s = 0; s < p->n; s++, dy += c)
        for (size_t i = 0; i < pixels(l); i++, dx += c)
            for (size_t j = 0; j < c; j++)
                dx[j] = part * dy[j];
}

static double scaled_constant(const lip_layer *l)
{
    return l->k;
}

static double average_constant(const lip_layer *l)
{
    return LIP__UP(1 / sqrt((double)pixels(l)));
}

/* ---- norm ------------------------------------------------------------------------------------------------- */

static void add_squares(const lip_layer *l, const float *x, float *sum)
{
    size_t c = channels(l);

    memset(sum, 0, c * sizeof *sum);
    for (size_t i = 0; i < pixels(l); i++, x += c)
        for (size_t j = 0; j < c; j++)
            sum[j] += x[j] * x[j];
}

static void norm_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t c = channels(l);

    for (size_t s = 0; s < p->n; s++) {
        add_squares(l, x + s * pixels(l) * c, y + s * c);
        for (size_t j = 0; j < c; j++)
            y[s * c + j] = (float)l->k * sqrtf(y[s * c + j]);
    }
}

static void norm_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                          float *dx)
{
    size_t c = channels(l);
    float *g = p->scratch, eps = (float)((const struct global *)l)->eps, k = (float)l->k;

    (void)y;
    for (size_t s = 0; s < p->n; s++, dy += c) {
        add_squares(l, x, g);
        for (size_t j = 0; j < c; j++) {
            float size = sqrtf(g[j]) + eps;
            g[j] = size == 0 ? 0 : k * dy[j] / size;
        }
        for (size_t i = 0; i < pixels(l); i++, x += c, dx += c)
            for (size_t j = 0; j < c; j++)
                dx[j] = g[j] * x[j];
    }
}

static size_t scratch(const lip_layer *l)
{
    return channels(l);
}

/* ---- maximum ----------------------------------------------------------------------------------------------- */

static void max_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t c = channels(l);

    for (size_t s = 0; s < p->n; s++, y += c) {
        memcpy(y, x, c * sizeof *y);
        for (size_t i = 0; i < pixels(l); i++, x += c)
            for (size_t j = 0; j < c; j++)
                y[j] = x[j] > y[j] ? x[j] : y[j];
    }
}

static void max_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                         float *dx)
{
    size_t c = channels(l), n = pixels(l) * c;

    (void)y;
    memset(dx, 0, p->n * n * sizeof *dx);
    for (size_t s = 0; s < p->n; s++, x += n, dx += n, dy += c)
        for (size_t j = 0; j < c; j++) {
            size_t at = j;
            for (size_t i = j; i < n; i += c)
                at = x[i] > x[at] ? i : at;
            dx[at] = dy[j];
        }
}

/* ---- kinds -------------------------------------------------------------------------------------------------- */

#define FIELDS                                                                                                    \
    {"data_format", LIP__CHOICE, LIP__FIELD(global, data_format), .choices = "channels_last|channels_first"},     \
    {                                                                                                             \
        "keepdims", LIP__BOOL, LIP__FIELD(global, keepdims), .def = 0                                             \
    }

static const struct lip__field fields[] = {FIELDS, {.name = NULL}};
static const struct lip__field scaled_fields[] = {FIELDS, LIP__K_FIELD, {.name = NULL}};
static const struct lip__field norm_fields[] = {
    FIELDS,
    LIP__K_FIELD,
    {"eps_grad_sqrt", LIP__FLOAT, LIP__FIELD(global, eps), .def = 1e-6, .min = 0, .max = INFINITY, .flags = LIP__NOT_KERAS},
    {.name = NULL},
};

const struct lip__kind lip__scaled_global_average_pooling2d = {
    .cls = {.name = "ScaledGlobalAveragePooling2D", .module = "deel.lip.layers.pooling", .package = "deel-lip",
            .size = sizeof(struct global), .fields = scaled_fields},
    .flags = LIP__LIPSCHITZ,
    .build = build,
    .forward = average_forward,
    .backward = average_backward,
    .constant = scaled_constant,
};

const struct lip__kind lip__scaled_global_l2_norm_pooling2d = {
    .cls = {.name = "ScaledGlobalL2NormPooling2D", .module = "deel.lip.layers.pooling", .package = "deel-lip",
            .size = sizeof(struct global), .fields = norm_fields},
    .flags = LIP__LIPSCHITZ,
    .build = build,
    .forward = norm_forward,
    .backward = norm_backward,
    .scratch = scratch,
    .constant = scaled_constant,
};

const struct lip__kind lip__global_average_pooling2d = {
    .cls = {.name = "GlobalAveragePooling2D", .module = "keras.layers", .size = sizeof(struct global), .fields = fields},
    .build = build,
    .forward = average_forward,
    .backward = average_backward,
    .constant = average_constant,
};

const struct lip__kind lip__global_max_pooling2d = {
    .cls = {.name = "GlobalMaxPooling2D", .module = "keras.layers", .size = sizeof(struct global), .fields = fields},
    .build = build,
    .forward = max_forward,
    .backward = max_backward,
    .constant = lip__one,
};
