/* sampling.c: InvertibleDownSampling and InvertibleUpSampling: pixels of a block to channels, and back.
 *
 *     down  y[i, j, c P + a p1 + b] = x[i p0 + a, j p1 + b, c]      P = p0 p1, 0 <= a < p0, 0 <= b < p1
 *     up    the inverse, for every shape (deel-lip's own is one for square results only)
 *
 * That is the order of deel-lip 1.5.1 and of PixelUnshuffle, "channel_major". Releases up to 1.5.0 put the channel last,
 * (a p1 + b) C + c: "subpixel_major". Numbers only move, so both layers are exactly 1-Lipschitz.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "layers/family.h"

struct sampling {
    lip_layer base;
    const char *data_format;
    size_t pool[2];
    const char *channel_order;
};

extern const struct lip__kind lip__invertible_down_sampling;

static bool is_down(const lip_layer *l)
{
    return l->kind == &lip__invertible_down_sampling;
}

static lip_err check(lip_layer *l, lip_error *err)
{
    const struct sampling *s = (const struct sampling *)l;

    if (!s->pool[0] || !s->pool[1])
        return lip__layer_fail(l, err, LIP_EDEFINITION, "pool_size is [%zu,%zu], needs integers >= 1", s->pool[0], s->pool[1]);
    return LIP_OK;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct sampling *s = (const struct sampling *)l;
    const size_t *in = l->in.dim, *p = s->pool;
    char text[128];
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    if (is_down(l) ? in[0] % p[0] || in[1] % p[1] : in[2] % p[0] || in[2] / p[0] % p[1])
        return lip__layer_fail(l, err, LIP_ESHAPE, "pool_size [%zu,%zu] does not divide %s of its input %s", p[0], p[1],
                               is_down(l) ? "height and width" : "the channels", lip_shape_text(lip_layer_input_shape(l), text, sizeof text));
    l->out = is_down(l) ? LIP__SHAPE(in[0] / p[0], in[1] / p[1], in[2] * p[0] * p[1])
                        : LIP__SHAPE(in[0] * p[0], in[1] * p[1], in[2] / p[0] / p[1]);
    return LIP_OK;
}

/* Between n images `wide` (of many pixels) and `deep` (of many channels). */
static void move(const lip_layer *l, size_t n, const float *from, float *to, bool down)
{
    const struct sampling *s = (const struct sampling *)l;
    const lip_shape *wide = is_down(l) ? &l->in : &l->out;
    size_t p0 = s->pool[0], p1 = s->pool[1], w = wide->dim[1], c = wide->dim[2], per = lip_shape_count(wide);
    bool channel_major = !s->channel_order || strcmp(s->channel_order, "subpixel_major");

    for (size_t k = 0; k < n; k++, from += per, to += per)
        for (size_t i = 0; i < wide->dim[0]; i++)
            for (size_t j = 0; j < w; j++) {
                size_t pixel = (i % p0) * p1 + j % p1, base = ((i / p0) * (w / p1) + j / p1) * c * p0 * p1;
                for (size_t m = 0; m < c; m++) {
                    size_t in_wide = (i * w + j) * c + m;
                    size_t in_deep = base + (channel_major ? m * p0 * p1 + pixel : pixel * c + m);
                    to[down ? in_deep : in_wide] = from[down ? in_wide : in_deep];
                }
            }
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    move(l, p->n, x, y, is_down(l));
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    (void)x, (void)y;
    move(l, p->n, dy, dx, !is_down(l));
}

static const struct lip__field fields[] = {
    {"data_format", LIP__CHOICE, LIP__FIELD(sampling, data_format), .choices = "channels_last|channels_first"},
    {"pool_size", LIP__PAIR, LIP__FIELD(sampling, pool), .def = NAN, .min = 1, .max = UINT16_MAX},
    {"channel_order", LIP__CHOICE, LIP__FIELD(sampling, channel_order), .choices = "channel_major|subpixel_major",
     .flags = LIP__NOT_KERAS},
    {.name = NULL},
};

/* deel-lip does not count them as LipschitzLayer: no k, no claim, a warning. */
#define SAMPLING(name_, class_)                                                                       \
    const struct lip__kind lip__##name_ = {                                                           \
        .cls = {.name = class_, .module = "deel.lip.layers.pooling", .package = "deel-lip",           \
                .size = sizeof(struct sampling), .fields = fields},                                   \
        .flags = LIP__MOVES,                                                                          \
        .check = check,                                                                               \
        .build = build,                                                                               \
        .forward = forward,                                                                           \
        .backward = backward,                                                                         \
        .constant = lip__one,                                                                              \
    }

SAMPLING(invertible_down_sampling, "InvertibleDownSampling");
SAMPLING(invertible_up_sampling, "InvertibleUpSampling");
