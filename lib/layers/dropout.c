/* dropout.c: Keras's Dropout: the identity, but in training each number is 0 with probability `rate` and divided by 1 - rate
 * else.
 *
 * Which ones comes from the counter-based generator: its seed is the layer's own or that of the step, its stream the layer's
 * name and the number of the step, its counter the place in the batch. So a step is repeatable, whatever threads and blocks it
 * runs in, and the way back draws the same numbers again.
 *
 * Source: Srivastava et al., JMLR 15, 2014; Keras 2.15, whose generator is another.
 */
#include <string.h>

#include "layers/family.h"

struct dropout {
    lip_layer base;
    double rate;
    double seed; /* NAN: that of the step */
};

/* to <- from, thinned; also the adjoint, as it is diagonal. */
static void thin(const lip_layer *l, const struct lip__pass *p, const float *from, float *to)
{
    const struct dropout *d = (const struct dropout *)l;
    size_t n = lip_shape_count(&l->in), blocks = (n + 3) / 4;
    float rate = (float)d->rate, scale = 1 / (1 - rate);

    if (!p->training || rate == 0) {
        memcpy(to, from, p->n * n * sizeof *to);
        return;
    }
    for (size_t s = 0; s < p->n; s++, from += n, to += n) {
        lip_random random = {isnan(d->seed) ? p->training->seed : (uint64_t)d->seed,
                             lip_random_stream(l->name) ^ (p->training->step * 0x9e3779b97f4a7c15u), (p->first + s) * blocks};
        lip_random_uniform(&random, to, n);
        for (size_t i = 0; i < n; i++)
            to[i] = to[i] >= rate ? from[i] * scale : 0;
    }
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    thin(l, p, x, y);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    (void)x, (void)y;
    thin(l, p, dy, dx);
}

static const struct lip__field fields[] = {
    {"rate", LIP__FLOAT, LIP__FIELD(dropout, rate), .def = NAN, .min = 0, .max = 1, .flags = LIP__OPEN_MAX},
    {.name = "noise_shape", .type = LIP__NULL},
    {"seed", LIP__FLOAT, LIP__FIELD(dropout, seed), .def = NAN, .min = 0, .max = 0x1p53, .flags = LIP__NONE_OK},
    {.name = NULL},
};

const struct lip__kind lip__dropout = {
    .cls = {.name = "Dropout", .module = "keras.layers", .size = sizeof(struct dropout), .fields = fields},
    .forward = forward,
    .backward = backward,
    .constant = lip__one,
};
