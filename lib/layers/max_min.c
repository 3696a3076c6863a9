/* max_min.c: y = k (max(x, 0), max(-x, 0)), the second behind the first along the channels: twice as many.
 *
 * Each pair of outputs holds one input's positive and negative part, so |y(x) - y(z)| <= k |x - z|, with equality where no
 * sign changes. The gradient at 0 is 0, as TensorFlow's. Source: deel-lip.
 */
#include <string.h>

#include "layers/family.h"

struct max_min {
    lip_layer base;
    const char *data_format;
};

static size_t channels(const lip_layer *l)
{
    return l->in.dim[l->in.rank - 1];
}

static lip_err build(lip_layer *l, lip_error *err)
{
    if (!l->in.rank)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape [], needs at least one axis beside the batch");
    l->out.dim[l->out.rank - 1] = 2 * channels(l);
    return LIP_OK;
}

LIP__CLONES static void split(size_t rows, size_t c, float k, const float *restrict x, float *restrict y)
{
    for (size_t r = 0; r < rows; r++, x += c, y += 2 * c)
        for (size_t i = 0; i < c; i++) {
            y[i] = k * (x[i] < 0 ? 0 : x[i]);
            y[c + i] = k * (x[i] >= 0 ? 0 : -x[i]);
        }
}

LIP__CLONES static void join(size_t rows, size_t c, float k, const float *restrict x, const float *restrict dy,
                             float *restrict dx)
{
    for (size_t r = 0; r < rows; r++, x += c, dy += 2 * c, dx += c)
        for (size_t i = 0; i < c; i++) {
            float up = dy[i], down = -dy[c + i];
            dx[i] = k * (x[i] > 0 ? up : x[i] < 0 ? down : 0);
        }
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t c = channels(l), rows = p->n * (lip_shape_count(&l->in) / c);

    split(rows, c, (float)l->k, x, y);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    size_t c = channels(l), rows = p->n * (lip_shape_count(&l->in) / c);

    (void)y;
    join(rows, c, (float)l->k, x, dy, dx);
}

static double constant(const lip_layer *l)
{
    return l->k;
}

static const struct lip__field fields[] = {
    {"data_format", LIP__CHOICE, LIP__FIELD(max_min, data_format), .choices = "channels_last|channels_first"},
    LIP__K_FIELD,
    {.name = NULL},
};

const struct lip__kind lip__max_min = {
    .cls = {.name = "MaxMin", .module = "deel.lip.layers.activations", .package = "deel-lip", .size = sizeof(struct max_min),
            .fields = fields},
    .flags = LIP__LIPSCHITZ | LIP__ACTIVATES,
    .build = build,
    .forward = forward,
    .backward = backward,
    .constant = constant,
};
