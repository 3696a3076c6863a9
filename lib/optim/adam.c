/* adam.c: Adam, as Keras 2.15 updates.
 *
 *     m <- m + (g - m)(1 - b1);   v <- v + (g^2 - v)(1 - b2)
 *     w <- w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
 *
 * with amsgrad the largest v so far in place of v. The powers and 1 - b^t are float32 there, which shows in the first
 * steps (1 - 0.999 is 0.99998713e-3), so they are float32 here.
 *
 * Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, in the form of its section 2's end.
 */
#include "optim/family.h"

struct adam {
    struct lip__optimizer_common common;
    double beta_1, beta_2, epsilon;
    bool amsgrad;
};

static size_t slots(const struct lip__object *self)
{
    return ((const struct adam *)self)->amsgrad ? 3 : 2;
}

struct rates {
    float alpha, c1, c2, epsilon;
};

LIP__VECTOR static void plain(size_t n, struct rates r, const float *restrict w, const float *restrict g,
                              const float *restrict m, const float *restrict v, float *restrict w_next,
                              float *restrict m_next, float *restrict v_next)
{
    for (size_t i = 0; i < n; i++) {
        float m1 = m[i] + (g[i] - m[i]) * r.c1, v1 = v[i] + (g[i] * g[i] - v[i]) * r.c2;

        m_next[i] = m1;
        v_next[i] = v1;
        w_next[i] = w[i] - m1 * r.alpha / (sqrtf(v1) + r.epsilon);
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
        w_next[i] = w[i] - m1 * r.alpha / (sqrtf(t1) + r.epsilon);
    }
}

static void step(const struct lip__object *self, uint64_t t, double learning_rate, size_t n, const float *w,
                 const float *g, const float *const *slot, float *w_next, float *const *slot_next)
{
    const struct adam *o = (const struct adam *)self;
    float power_1 = powf((float)o->beta_1, (float)t), power_2 = powf((float)o->beta_2, (float)t);
    struct rates r = {.alpha = (float)learning_rate * sqrtf(1 - power_2) / (1 - power_1),
                      .c1 = (float)(1 - o->beta_1),
                      .c2 = (float)(1 - o->beta_2),
                      .epsilon = (float)o->epsilon};

    if (o->amsgrad)
        largest(n, r, w, g, slot[0], slot[1], slot[2], w_next, slot_next[0], slot_next[1], slot_next[2]);
    else
        plain(n, r, w, g, slot[0], slot[1], w_next, slot_next[0], slot_next[1]);
}

#define BETA_MAX 0.99999994 /* the largest float32 below 1 */

static const struct lip__field fields[] = {
    LIP__OPTIMIZER_FIELDS("Adam", 0.001),
    {.name = "beta_1", .type = LIP__FLOAT, .offset = LIP__FIELD(adam, beta_1), .def = 0.9, .max = BETA_MAX},
    {.name = "beta_2", .type = LIP__FLOAT, .offset = LIP__FIELD(adam, beta_2), .def = 0.999, .max = BETA_MAX},
    {.name = "epsilon",
     .type = LIP__FLOAT,
     .offset = LIP__FIELD(adam, epsilon),
     .def = 1e-7,
     .max = 1e30,
     .flags = LIP__OPEN_MIN},
    {.name = "amsgrad", .type = LIP__BOOL, .offset = LIP__FIELD(adam, amsgrad)},
    {.name = NULL}};

extern const struct lip__optimizer_class lip__adam;

const struct lip__optimizer_class lip__adam = {
    .cls = LIP__OPTIMIZER_CLASS("Adam", adam, fields),
    .slot = {"m", "v", "v_hat"},
    .slots = slots,
    .step = step,
};
