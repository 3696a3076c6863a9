/* scaled_pooling.c: pooling over windows that do not overlap, scaled so that its Lipschitz constant is k.
 *
 *     average   y = k sum(x) / sqrt(p0 p1)      dx_i = k dy / sqrt(p0 p1)
 *     L2 norm   y = k |x|                       dx_i = k dy x_i / (|x| + sqrt(p0 p1) eps)
 *
 * over each window of p0 rows and p1 columns of one channel. Rows and columns that fill no window are dropped. deel-lip
 * computes both as L k mean and L k sqrt(mean of squares) with L = sqrt(p0 p1). eps_grad_sqrt is in the gradient only; where
 * |x| and eps are both 0 the gradient is 0 (deel-lip: NaN).
 *
 * Source: deel-lip. |y(x) - y(z)| <= k |x - z| by Cauchy and Schwarz, and by the triangle inequality.
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"

struct pooling {
    lip_layer base;
    size_t pool[2], strides[2];
    const char *padding, *data_format;
    double eps; /* L2 only */
};

static lip_err check(lip_layer *l, lip_error *err)
{
    struct pooling *q = (struct pooling *)l;

    if (!q->pool[0] || !q->pool[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "pool_size is [%zu,%zu], needs integers >= 1", q->pool[0], q->pool[1]);
    if (!q->strides[0] && !q->strides[1])
        memcpy(q->strides, q->pool, sizeof q->strides);
    if (memcmp(q->strides, q->pool, sizeof q->strides))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "stride must be equal to pool_size; strides is [%zu,%zu], pool_size [%zu,%zu]",
                               q->strides[0], q->strides[1], q->pool[0], q->pool[1]);
    if (q->padding && strcmp(q->padding, "valid"))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "%s only supports padding='valid', found '%s'", l->kind->cls.name,
                               q->padding);
    return LIP_OK;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct pooling *q = (const struct pooling *)l;
    char text[128];
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    for (int a = 0; a < 2; a++)
        if (l->in.dim[a] < q->pool[a])
            return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, smaller than pool_size [%zu,%zu]",
                                   lip_shape_text(lip_layer_input_shape(l), text, sizeof text), q->pool[0], q->pool[1]);
    l->coef = sqrt((double)(q->pool[0] * q->pool[1]));
    l->out.dim[0] = l->in.dim[0] / q->pool[0];
    l->out.dim[1] = l->in.dim[1] / q->pool[1];
    return LIP_OK;
}

/* ---- one row of windows ------------------------------------------------------------------------------ */

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));

enum { LANES = sizeof(lanes) / sizeof(float) };

/* y (windows, c) <- the sums of x, or of its squares, over one row of windows of image x (.., w, c). */
LIP__CLONES static void sum_windows(const struct pooling *q, bool squares, size_t windows, size_t w, size_t c,
                                    const float *restrict x, float *restrict y)
{
    size_t rows = q->pool[0], columns = q->pool[1];

    for (size_t j = 0; j < windows; j++, x += columns * c, y += c) {
        size_t i = 0;
        for (; i + LANES <= c; i += LANES) {
            lanes sum = {0};
            for (size_t a = 0; a < rows; a++)
                for (size_t b = 0; b < columns; b++) {
                    lanes v = *(const lanes *)(x + (a * w + b) * c + i);
                    if (squares)
                        v *= v;
                    sum += v;
                }
            *(lanes *)(y + i) = sum;
        }
        for (; i < c; i++) {
            float sum = 0;
            for (size_t a = 0; a < rows; a++)
                for (size_t b = 0; b < columns; b++) {
                    float v = x[(a * w + b) * c + i];
                    sum += squares ? v * v : v;
                }
            y[i] = sum;
        }
    }
}

/* dx of one row of windows: g, one number per window and channel, times x unless that is NULL. */
LIP__CLONES static void spread_windows(const struct pooling *q, size_t windows, size_t w, size_t c, const float *restrict g,
                                       const float *restrict x, float *restrict dx)
{
    for (size_t a = 0; a < q->pool[0]; a++)
        for (size_t j = 0; j < windows; j++)
            for (size_t b = 0; b < q->pool[1]; b++) {
                size_t at = (a * w + j * q->pool[1] + b) * c;
                if (x)
                    for (size_t i = 0; i < c; i++)
                        dx[at + i] = g[j * c + i] * x[at + i];
                else
                    for (size_t i = 0; i < c; i++)
                        dx[at + i] = g[j * c + i];
            }
}

/* ---- a batch ----------------------------------------------------------------------------------------- */

static bool is_l2(const lip_layer *l);

static float factor(const lip_layer *l)
{
    return (float)(lip__layer_coefficient(l) / (l->coef * l->coef));
}

LIP__CLONES static void finish_average(size_t n, float scale, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] *= scale;
}

LIP__CLONES static void finish_norm(size_t n, float k, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = k * sqrtf(y[i]);
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    const struct pooling *q = (const struct pooling *)l;
    size_t h = l->in.dim[0], w = l->in.dim[1], c = l->in.dim[2], windows = l->out.dim[1];

    for (size_t n = 0; n < p->n; n++)
        for (size_t i = 0; i < l->out.dim[0]; i++) {
            float *row = y + (n * l->out.dim[0] + i) * windows * c;
            sum_windows(q, is_l2(l), windows, w, c, x + (n * h + i * q->pool[0]) * w * c, row);
            if (is_l2(l))
                finish_norm(windows * c, (float)l->k, row);
            else
                finish_average(windows * c, factor(l), row);
        }
}

/* g <- dy k / (|x| + sqrt(p0 p1) eps), where y is k |x|. */
LIP__CLONES static void norm_gradients(size_t n, float k, float eps, const float *restrict y, const float *restrict dy,
                                       float *restrict g)
{
    for (size_t i = 0; i < n; i++) {
        float s = (k > 0 ? y[i] / k : 0) + eps;
        g[i] = s > 0 ? k * dy[i] / s : s == 0 ? 0 : s;
    }
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    const struct pooling *q = (const struct pooling *)l;
    size_t h = l->in.dim[0], w = l->in.dim[1], c = l->in.dim[2], windows = l->out.dim[1];
    float *g = p->scratch;

    if (h % q->pool[0] || w % q->pool[1]) /* what fills no window gets no gradient */
        memset(dx, 0, p->n * lip_shape_count(&l->in) * sizeof *dx);
    for (size_t n = 0; n < p->n; n++)
        for (size_t i = 0; i < l->out.dim[0]; i++) {
            size_t from = (n * l->out.dim[0] + i) * windows * c, at = (n * h + i * q->pool[0]) * w * c;
            if (is_l2(l)) {
                norm_gradients(windows * c, (float)l->k, (float)(l->coef * q->eps), y + from, dy + from, g);
            } else {
                memcpy(g, dy + from, windows * c * sizeof *g);
                finish_average(windows * c, factor(l), g);
            }
            spread_windows(q, windows, w, c, g, is_l2(l) ? x + at : NULL, dx + at);
        }
}

static size_t scratch(const lip_layer *l)
{
    return l->out.dim[1] * l->in.dim[2];
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)lip_shape_count(&l->in);
}

static double constant(const lip_layer *l)
{
    return l->k;
}

#define FIELDS                                                                                                        \
    {"pool_size", LIP__PAIR, LIP__FIELD(pooling, pool), .def = 2, .min = 1, .max = INT32_MAX},                        \
        {"padding", LIP__CHOICE, LIP__FIELD(pooling, padding), .choices = "valid|same", .flags = LIP__ANY_CASE},      \
        {"strides", LIP__PAIR, LIP__FIELD(pooling, strides), .def = NAN, .min = 1, .max = INT32_MAX,                  \
         .flags = LIP__NONE_OK},                                                                                      \
        {"data_format", LIP__CHOICE, LIP__FIELD(pooling, data_format), .choices = "channels_last|channels_first"},    \
        LIP__K_FIELD

static const struct lip__field average_fields[] = {FIELDS, {.name = NULL}};

static const struct lip__field norm_fields[] = {
    FIELDS,
    {"eps_grad_sqrt", LIP__FLOAT, LIP__FIELD(pooling, eps), .def = 1e-6, .min = 0, .max = INFINITY, .flags = LIP__NOT_KERAS},
    {.name = NULL},
};

const struct lip__kind lip__scaled_average_pooling2d = {
    .cls = {.name = "ScaledAveragePooling2D", .module = "deel.lip.layers.pooling", .package = "deel-lip",
            .size = sizeof(struct pooling), .fields = average_fields},
    .flags = LIP__LIPSCHITZ,
    .check = check,
    .build = build,
    .forward = forward,
    .backward = backward,
    .scratch = scratch,
    .flops = flops,
    .constant = constant,
};

const struct lip__kind lip__scaled_l2_norm_pooling2d = {
    .cls = {.name = "ScaledL2NormPooling2D", .module = "deel.lip.layers.pooling", .package = "deel-lip",
            .size = sizeof(struct pooling), .fields = norm_fields},
    .flags = LIP__LIPSCHITZ,
    .check = check,
    .build = build,
    .forward = forward,
    .backward = backward,
    .scratch = scratch,
    .flops = flops,
    .constant = constant,
};

static bool is_l2(const lip_layer *l)
{
    return l->kind == &lip__scaled_l2_norm_pooling2d;
}
