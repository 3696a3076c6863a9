/* pooling.c: Keras's MaxPooling2D and AveragePooling2D.
 *
 * With 'same' padding the average of a window is over the pixels that lie in the image. The maximum's gradient goes to the
 * first of equals. A pixel is in at most nu = ceil(p/s) windows along each axis, so |max(x) - max(z)|^2 <= nu_h nu_w |x - z|^2.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/im2col.h"

struct pool {
    lip_layer base;
    size_t size[2], strides[2];
    const char *padding, *data_format;
};

extern const struct lip__kind lip__max_pooling2d;

static const struct pool *pool(const lip_layer *l)
{
    return (const struct pool *)l;
}

static struct lip__windows windows(const lip_layer *l)
{
    const struct pool *q = pool(l);
    struct lip__windows g = {.h = l->in.dim[0], .w = l->in.dim[1], .c = l->in.dim[2], .kh = q->size[0], .kw = q->size[1],
                             .sh = q->strides[0], .sw = q->strides[1]};

    lip__windows_set(&g, q->padding && !strcmp(q->padding, "same"));
    return g;
}

static lip_err check(lip_layer *l, lip_error *err)
{
    struct pool *q = (struct pool *)l;

    if (!q->size[0] || !q->size[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "pool_size is [%zu,%zu], needs integers >= 1", q->size[0], q->size[1]);
    if (!q->strides[0] && !q->strides[1])
        memcpy(q->strides, q->size, sizeof q->strides);
    if (!q->strides[0] || !q->strides[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "strides is [%zu,%zu], needs integers >= 1", q->strides[0],
                               q->strides[1]);
    return LIP_OK;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    struct lip__windows g;
    char text[128];
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    g = windows(l);
    if (!g.oh || !g.ow)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape %s, smaller than pool_size [%zu,%zu]",
                               lip_shape_text(lip_layer_input_shape(l), text, sizeof text), g.kh, g.kw);
    l->out = LIP__SHAPE(g.oh, g.ow, g.c);
    return LIP_OK;
}

/* The part of a window along one axis that lies in the image: [*from, *to). */
static void inside(size_t window, size_t step, size_t before, size_t q, size_t n, size_t *from, size_t *to)
{
    size_t first = window * step;

    *from = first < before ? 0 : first - before;
    *to = first + q < before + n ? first + q - before : n;
}

/* Calls `visit` for each window of each sample: its pixels are rows [i0, i1) and columns [j0, j1) of the image at `x`. */
#define EACH_WINDOW(g, n, body)                                                                     \
    for (size_t s_ = 0, out = 0; s_ < (n); s_++)                                                    \
        for (size_t p_ = 0; p_ < (g).oh; p_++)                                                      \
            for (size_t r_ = 0; r_ < (g).ow; r_++, out += (g).c) {                                  \
                size_t i0, i1, j0, j1, image = s_ * (g).h * (g).w * (g).c;                          \
                inside(p_, (g).sh, (g).top, (g).kh, (g).h, &i0, &i1);                               \
                inside(r_, (g).sw, (g).left, (g).kw, (g).w, &j0, &j1);                              \
                body                                                                                \
            }

#define EACH_PIXEL(g, at, body)                                  \
    for (size_t i_ = i0; i_ < i1; i_++)                          \
        for (size_t j_ = j0; j_ < j1; j_++) {                    \
            size_t at = image + (i_ * (g).w + j_) * (g).c;       \
            for (size_t c = 0; c < (g).c; c++)                   \
                body                                             \
        }

static void max_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = windows(l);

    EACH_WINDOW(g, p->n, {
        memcpy(y + out, x + image + (i0 * g.w + j0) * g.c, g.c * sizeof *y);
        EACH_PIXEL(g, at, { y[out + c] = x[at + c] > y[out + c] ? x[at + c] : y[out + c]; })
    })
}

static void max_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                         float *dx)
{
    struct lip__windows g = windows(l);

    (void)y;
    memset(dx, 0, p->n * lip_shape_count(&l->in) * sizeof *dx);
    EACH_WINDOW(g, p->n, {
        for (size_t m = 0; m < g.c; m++) {
            size_t best = image + (i0 * g.w + j0) * g.c + m;
            for (size_t i = i0; i < i1; i++)
                for (size_t j = j0; j < j1; j++) {
                    size_t at = image + (i * g.w + j) * g.c + m;
                    best = x[at] > x[best] ? at : best;
                }
            dx[best] += dy[out + m];
        }
    })
}

static void average_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    struct lip__windows g = windows(l);

    memset(y, 0, p->n * lip_shape_count(&l->out) * sizeof *y);
    EACH_WINDOW(g, p->n, {
        float count = (float)((i1 - i0) * (j1 - j0));
        EACH_PIXEL(g, at, { y[out + c] += x[at + c]; })
        for (size_t m = 0; m < g.c; m++)
            y[out + m] /= count;
    })
}

static void average_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                             float *dx)
{
    struct lip__windows g = windows(l);

    (void)x, (void)y;
    memset(dx, 0, p->n * lip_shape_count(&l->in) * sizeof *dx);
    EACH_WINDOW(g, p->n, {
        float part = 1 / (float)((i1 - i0) * (j1 - j0));
        EACH_PIXEL(g, at, { dx[at + c] += part * dy[out + c]; })
    })
}

/* ---- what they say of themselves ---------------------------------------------------------------------------- */

static double overlap(const lip_layer *l)
{
    const struct pool *q = pool(l);
    double h = (double)((q->size[0] + q->strides[0] - 1) / q->strides[0]);

    return h * (double)((q->size[1] + q->strides[1] - 1) / q->strides[1]);
}

static double max_constant(const lip_layer *l)
{
    return LIP__UP(sqrt(overlap(l)));
}

/* The average along one axis as a matrix: its rows sum to 1, so its norm is at most the root of the largest column sum. */
static double axis_constant(size_t windows_, size_t step, size_t before, size_t q, size_t n)
{
    double most = 0;

    for (size_t pixel = 0; pixel < n; pixel++) {
        double sum = 0;
        size_t first = pixel + before < q ? 0 : (pixel + before - q) / step;
        for (size_t i = first; i < windows_ && i * step <= pixel + before; i++) {
            size_t from, to;
            inside(i, step, before, q, n, &from, &to);
            sum += from <= pixel && pixel < to ? 1 / (double)(to - from) : 0;
        }
        most = fmax(most, sum);
    }
    return sqrt(most);
}

/* A window's average is that of its columns' averages, so both axes' constants multiply. */
static double average_constant(const lip_layer *l)
{
    struct lip__windows g = windows(l);

    return LIP__UP(axis_constant(g.oh, g.sh, g.top, g.kh, g.h) * axis_constant(g.ow, g.sw, g.left, g.kw, g.w));
}

/* deel-lip compares the pairs as Python compares tuples: the first elements decide unless they are equal. */
static double max_claims(const lip_layer *l)
{
    const struct pool *q = pool(l);

    return q->size[0] < q->strides[0] || (q->size[0] == q->strides[0] && q->size[1] <= q->strides[1]) ? 1 : NAN;
}

static double flops(const lip_layer *l)
{
    return (double)lip_shape_count(&l->out) * (double)(pool(l)->size[0] * pool(l)->size[1]);
}

static const struct lip__field fields[] = {
    {"pool_size", LIP__PAIR, LIP__FIELD(pool, size), .def = 2, .min = 1, .max = UINT16_MAX},
    {"padding", LIP__CHOICE, LIP__FIELD(pool, padding), .choices = "valid|same", .flags = LIP__ANY_CASE},
    {"strides", LIP__PAIR, LIP__FIELD(pool, strides), .def = NAN, .min = 1, .max = UINT16_MAX, .flags = LIP__NONE_OK},
    {"data_format", LIP__CHOICE, LIP__FIELD(pool, data_format), .choices = "channels_last|channels_first"},
    {.name = NULL},
};

#define POOL(name_, class_, forward_, backward_, constant_, claimed_)                                          \
    const struct lip__kind lip__##name_ = {                                                                    \
        .cls = {.name = class_, .module = "keras.layers", .size = sizeof(struct pool), .fields = fields},      \
        .check = check,                                                                                        \
        .build = build,                                                                                        \
        .forward = forward_,                                                                                   \
        .backward = backward_,                                                                                 \
        .constant = constant_,                                                                                 \
        .claimed = claimed_,                                                                                   \
        .flops = flops,                                                                                        \
    }

POOL(max_pooling2d, "MaxPooling2D", max_forward, max_backward, max_constant, max_claims);
POOL(average_pooling2d, "AveragePooling2D", average_forward, average_backward, average_constant, NULL);
