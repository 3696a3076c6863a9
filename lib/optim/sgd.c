/* sgd.c: gradient descent with momentum, as Keras 2.15 updates.
 *
 *     m <- momentum m - lr g;   w <- w + m,   nesterov: w <- w + momentum m - lr g
 *
 * Without momentum there is no m. float32 in this order.
 */
#include "optim/family.h"

struct sgd {
    struct lip__optimizer common;
    double momentum;
    bool nesterov;
};

static size_t slots(const struct lip__object *self)
{
    return ((const struct sgd *)self)->momentum != 0;
}

static const char *slot_name(const struct lip__object *self, size_t slot)
{
    (void)self, (void)slot;
    return "m";
}

LIP__VECTOR static void plain(size_t n, float rate, float decay, const float *restrict w, const float *restrict g,
                              float *restrict w_next)
{
    for (size_t i = 0; i < n; i++)
        w_next[i] = lip__decayed(w[i], decay) - g[i] * rate;
}

LIP__VECTOR static void heavy(size_t n, float rate, float decay, float momentum, const float *restrict w,
                              const float *restrict g, const float *restrict m, float *restrict w_next,
                              float *restrict m_next)
{
    for (size_t i = 0; i < n; i++) {
        float step = m[i] * momentum - g[i] * rate;

        m_next[i] = step;
        w_next[i] = lip__decayed(w[i], decay) + step;
    }
}

LIP__VECTOR static void nesterov(size_t n, float rate, float decay, float momentum, const float *restrict w,
                                 const float *restrict g, const float *restrict m, float *restrict w_next,
                                 float *restrict m_next)
{
    for (size_t i = 0; i < n; i++) {
        float down = g[i] * rate, step = m[i] * momentum - down;

        m_next[i] = step;
        w_next[i] = lip__decayed(w[i], decay) + (step * momentum - down);
    }
}

static void step(const struct lip__object *self, const struct lip__update *u)
{
    const struct sgd *o = (const struct sgd *)self;
    float rate = (float)u->learning_rate, momentum = (float)o->momentum;

    if (!slots(self))
        plain(u->n, rate, u->decay, u->w, u->g, u->w_next);
    else if (o->nesterov)
        nesterov(u->n, rate, u->decay, momentum, u->w, u->g, u->slot[0], u->w_next, u->slot_next[0]);
    else
        heavy(u->n, rate, u->decay, momentum, u->w, u->g, u->slot[0], u->w_next, u->slot_next[0]);
}

static const struct lip__field fields[] = {
    LIP__OPTIMIZER_FIELDS("SGD", 0.01, NAN, LIP__NONE_OK),
    {.name = "momentum", .type = LIP__FLOAT, .offset = LIP__FIELD(sgd, momentum), .max = 1},
    {.name = "nesterov", .type = LIP__BOOL, .offset = LIP__FIELD(sgd, nesterov)},
    {.name = NULL}};

extern const struct lip__optimizer_class lip__sgd;

const struct lip__optimizer_class lip__sgd = {
    .cls = LIP__OPTIMIZER_CLASS("SGD", sgd, fields),
    .slot_name = slot_name,
    .slots = slots,
    .step = step,
};
