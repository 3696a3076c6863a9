/* rmsprop.c: RMSprop, as Keras 2.15 updates.
 *
 *     v <- rho v + (1 - rho) g^2;   centered: a <- rho a + (1 - rho) g
 *     step = lr g / sqrt(v + eps),  centered: lr g / sqrt(v - a^2 + eps)
 *     w <- w - step;   with momentum: m <- momentum m + step, w <- w - m
 *
 * float32 in this order. Slots: v, a, m; those that the configuration has no use for are left out.
 *
 * Source: Hinton's lecture 6 of "Neural Networks for Machine Learning"; Keras 2.15, rmsprop.py.
 */
#include "optim/family.h"

struct rmsprop {
    struct lip__optimizer common;
    double rho, momentum, epsilon;
    bool centered;
};

static size_t slots(const struct lip__object *self)
{
    const struct rmsprop *o = (const struct rmsprop *)self;

    return 1 + o->centered + (o->momentum > 0);
}

struct rates {
    float rate, rho, rest, epsilon, decay, momentum;
};

/* w_next becomes the step. */
LIP__VECTOR static void plain(size_t n, struct rates r, const float *restrict g, const float *restrict v,
                              float *restrict w_next, float *restrict v_next)
{
    for (size_t i = 0; i < n; i++) {
        v_next[i] = r.rho * v[i] + r.rest * (g[i] * g[i]);
        w_next[i] = r.rate * g[i] / sqrtf(v_next[i] + r.epsilon);
    }
}

LIP__VECTOR static void centered(size_t n, struct rates r, const float *restrict g, const float *restrict v,
                                 const float *restrict a, float *restrict w_next, float *restrict v_next,
                                 float *restrict a_next)
{
    for (size_t i = 0; i < n; i++) {
        v_next[i] = r.rho * v[i] + r.rest * (g[i] * g[i]);
        a_next[i] = r.rho * a[i] + r.rest * g[i];
        w_next[i] = r.rate * g[i] / sqrtf(v_next[i] - a_next[i] * a_next[i] + r.epsilon);
    }
}

LIP__VECTOR static void heavy(size_t n, struct rates r, const float *restrict m, float *restrict w_next,
                              float *restrict m_next)
{
    for (size_t i = 0; i < n; i++)
        w_next[i] = m_next[i] = r.momentum * m[i] + w_next[i];
}

LIP__VECTOR static void go(size_t n, float decay, const float *restrict w, float *restrict w_next)
{
    for (size_t i = 0; i < n; i++)
        w_next[i] = lip__decayed(w[i], decay) - w_next[i];
}

static void step(const struct lip__object *self, const struct lip__update *u)
{
    const struct rmsprop *o = (const struct rmsprop *)self;
    const float *const *s = u->slot;
    float *const *next = u->slot_next;
    size_t last = slots(self) - 1;
    struct rates r = {(float)u->learning_rate, (float)o->rho, (float)(1 - o->rho),
                      (float)o->epsilon,       u->decay,      (float)o->momentum};

    if (o->centered)
        centered(u->n, r, u->g, s[0], s[1], u->w_next, next[0], next[1]);
    else
        plain(u->n, r, u->g, s[0], u->w_next, next[0]);
    if (o->momentum > 0)
        heavy(u->n, r, s[last], u->w_next, next[last]);
    go(u->n, r.decay, u->w, u->w_next);
}

static const char *slot_name(const struct lip__object *self, size_t slot)
{
    const struct rmsprop *o = (const struct rmsprop *)self;

    return slot == 0 ? "velocity" : slot == 1 && o->centered ? "average_gradient" : "momentum";
}

static const struct lip__field fields[] = {
    LIP__OPTIMIZER_FIELDS("RMSprop", 0.001, NAN, LIP__NONE_OK),
    {.name = "rho", .type = LIP__FLOAT, .offset = LIP__FIELD(rmsprop, rho), .def = 0.9, .max = 1},
    {.name = "momentum", .type = LIP__FLOAT, .offset = LIP__FIELD(rmsprop, momentum), .max = 1},
    {.name = "epsilon",
     .type = LIP__FLOAT,
     .offset = LIP__FIELD(rmsprop, epsilon),
     .def = 1e-7,
     .max = 1e30,
     .flags = LIP__OPEN_MIN},
    {.name = "centered", .type = LIP__BOOL, .offset = LIP__FIELD(rmsprop, centered)},
    {.name = NULL}};

extern const struct lip__optimizer_class lip__rmsprop;

const struct lip__optimizer_class lip__rmsprop = {
    .cls = LIP__OPTIMIZER_CLASS("RMSprop", rmsprop, fields),
    .slot_name = slot_name,
    .slots = slots,
    .step = step,
};
