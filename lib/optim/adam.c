/* adam.c: Adam, as Keras 2.15 updates.
 *
 *     m <- m + (g - m)(1 - b1);   v <- v + (g^2 - v)(1 - b2)
 *     w <- w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
 *
 * with amsgrad the largest v so far in place of v; AdamW is the same with a weight decay by default. The powers and 1 -
 * b^t are float32 there, which shows in the first steps (1 - 0.999 is 0.99998713e-3), so they are float32 here.
 *
 * Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, in the form of its section 2's end;
 * Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
 */
#include "optim/family.h"

struct adam {
    struct lip__optimizer common;
    double beta_1, beta_2, epsilon;
    bool amsgrad;
};

static size_t slots(const struct lip__object *self)
{
    return ((const struct adam *)self)->amsgrad ? 3 : 2;
}

static const char *slot_name(const struct lip__object *self, size_t slot)
{
    static const char *const names[] = {"m", "v", "v_hat"};

    (void)self;
    return names[slot];
}

struct rates {
    float alpha, c1, c2, epsilon, decay;
};

LIP__VECTOR static void plain(size_t n, struct rates r, const float *restrict w, const float *restrict g,
                              const float *restrict m, const float *restrict v, float *restrict w_next,
                              float *restrict m_next, float *restrict v_next)
{
    for (size_t i = 0; i < n; i++) {
        float m1 = m[i] + (g[i] - m[i]) * r.c1, v1 = v[i] + (g[i] * g[i] - v[i]) * r.c2;

        m_next[i] = m1;
        v_next[i] = v1;
        w_next[i] = lip__decayed(w[i], r.decay) - m1 * r.alpha / (sqrtf(v1) + r.epsilon);
    }
}

LIP__VECTOR static void largest(size_t n, struct rates r, const float *restrict w, const float *restrict g,
                                const float *restrict m, const float *restrict v, const float *restrict top,
                                float *restrict w_next, float *restrict m_next, float *restrict v_next,
                                float *restrict top_next)
{
    for (size_t i = 0; i < n; i++) {
        float m1 = m[i] + (g[i] - m[i]) * r.c1, v1 = v[i] + (g[i] * g[i] - v[i]) * r.c2;
        float t1 = v1 > top[i] ? v1 : top[i];

        m_next[i] = m1;
        v_next[i] = v1;
        top_next[i] = t1;
        w_next[i] = lip__decayed(w[i], r.decay) - m1 * r.alpha / (sqrtf(t1) + r.epsilon);
    }
}

static void step(const struct lip__object *self, const struct lip__update *u)
{
    const struct adam *o = (const struct adam *)self;
    const float *const *s = u->slot;
    float *const *next = u->slot_next;
    float power_1 = powf((float)o->beta_1, (float)u->t), power_2 = powf((float)o->beta_2, (float)u->t);
    struct rates r = {.alpha = (float)u->learning_rate * sqrtf(1 - power_2) / (1 - power_1),
                      .c1 = (float)(1 - o->beta_1),
                      .c2 = (float)(1 - o->beta_2),
                      .epsilon = (float)o->epsilon,
                      .decay = u->decay};

    if (o->amsgrad)
        largest(u->n, r, u->w, u->g, s[0], s[1], s[2], u->w_next, next[0], next[1], next[2]);
    else
        plain(u->n, r, u->w, u->g, s[0], s[1], u->w_next, next[0], next[1]);
}

#define BETA_MAX 0.99999994 /* the largest float32 below 1 */

#define OWN                                                                                                          \
    {.name = "beta_1", .type = LIP__FLOAT, .offset = LIP__FIELD(adam, beta_1), .def = 0.9, .max = BETA_MAX},         \
        {.name = "beta_2", .type = LIP__FLOAT, .offset = LIP__FIELD(adam, beta_2), .def = 0.999, .max = BETA_MAX},   \
        {.name = "epsilon",                                                                                          \
         .type = LIP__FLOAT,                                                                                         \
         .offset = LIP__FIELD(adam, epsilon),                                                                        \
         .def = 1e-7,                                                                                                \
         .max = 1e30,                                                                                                \
         .flags = LIP__OPEN_MIN},                                                                                    \
        {.name = "amsgrad", .type = LIP__BOOL, .offset = LIP__FIELD(adam, amsgrad)}, {.name = NULL}

static const struct lip__field fields[] = {LIP__OPTIMIZER_FIELDS("Adam", 0.001, NAN, LIP__NONE_OK), OWN};
static const struct lip__field adamw_fields[] = {LIP__OPTIMIZER_FIELDS("AdamW", 0.001, 0.004, 0), OWN};

extern const struct lip__optimizer_class lip__adam, lip__adamw;

const struct lip__optimizer_class lip__adam = {
    .cls = LIP__OPTIMIZER_CLASS("Adam", adam, fields),
    .slot_name = slot_name,
    .slots = slots,
    .step = step,
};

const struct lip__optimizer_class lip__adamw = {
    .cls = LIP__OPTIMIZER_CLASS("AdamW", adam, adamw_fields),
    .slot_name = slot_name,
    .slots = slots,
    .step = step,
};
