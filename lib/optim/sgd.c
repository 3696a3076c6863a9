/* sgd.c: gradient descent with momentum, as Keras 2.15 updates.
 *
 *     m <- momentum m - lr g;   w <- w + m,   nesterov: w <- w + momentum m - lr g
 *
 * Without momentum there is no m. float32 in this order.
 */
#include "optim/family.h"

struct sgd {
    struct lip__optimizer_common common;
    double momentum;
    bool nesterov;
};

static size_t slots(const struct lip__object *self)
{
    return ((const struct sgd *)self)->momentum != 0;
}

LIP__VECTOR static void plain(size_t n, float rate, const float *restrict w, const float *restrict g,
                              float *restrict w_next)
{
    for (size_t i = 0; i < n; i++)
        w_next[i] = w[i] - g[i] * rate;
}

LIP__VECTOR static void heavy(size_t n, float rate, float momentum, const float *restrict w, const float *restrict g,
                              const float *restrict m, float *restrict w_next, float *restrict m_next)
{
    for (size_t i = 0; i < n; i++) {
        float step = m[i] * momentum - g[i] * rate;

        m_next[i] = step;
        w_next[i] = w[i] + step;
    }
}

LIP__VECTOR static void nesterov(size_t n, float rate, float momentum, const float *restrict w, const float *restrict g,
                                 const float *restrict m, float *restrict w_next, float *restrict m_next)
{
    for (size_t i = 0; i < n; i++) {
        float down = g[i] * rate, step = m[i] * momentum - down;

        m_next[i] = step;
        w_next[i] = w[i] + (step * momentum - down);
    }
}

static void step(const struct lip__object *self, uint64_t t, double learning_rate, size_t n, const float *w,
                 const float *g, const float *const *slot, float *w_next, float *const *slot_next)
{
    const struct sgd *o = (const struct sgd *)self;
    float rate = (float)learning_rate, momentum = (float)o->momentum;

    (void)t;
    if (!slots(self))
        plain(n, rate, w, g, w_next);
    else if (o->nesterov)
        nesterov(n, rate, momentum, w, g, slot[0], w_next, slot_next[0]);
    else
        heavy(n, rate, momentum, w, g, slot[0], w_next, slot_next[0]);
}

static const struct lip__field fields[] = {
    LIP__OPTIMIZER_FIELDS("SGD", 0.01),
    {.name = "momentum", .type = LIP__FLOAT, .offset = LIP__FIELD(sgd, momentum), .max = 1},
    {.name = "nesterov", .type = LIP__BOOL, .offset = LIP__FIELD(sgd, nesterov)},
    {.name = NULL}};

extern const struct lip__optimizer_class lip__sgd;

const struct lip__optimizer_class lip__sgd = {
    .cls = LIP__OPTIMIZER_CLASS("SGD", sgd, fields),
    .slot = {"m"},
    .slots = slots,
    .step = step,
};
