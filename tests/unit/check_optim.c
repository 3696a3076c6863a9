/* check_optim.c: updates against their formulas, step by step, in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/random.h>

#include "optim/family.h"
#include "check_main.h"

enum { N = 37, STEPS = 20 };

static const struct lip__optimizer_class *find(const char *name)
{
    for (size_t i = 0; lip__optimizers[i]; i++)
        if (!strcmp(lip__optimizers[i]->name, name))
            return (const struct lip__optimizer_class *)lip__optimizers[i];
    ck_abort_msg("no optimizer is named %s", name);
}

static void set(struct lip__object *o, const char *key, double value)
{
    for (const struct lip__field *f = o->cls->fields; f->name; f++)
        if (!strcmp(f->name, key)) {
            if (f->flags & LIP__BARE) {
                struct lip__object **slot = (struct lip__object **)(void *)((char *)o + f->offset);
                lip__object_free(*slot);
                *slot = lip__object_bare(f->of[0], value);
            } else if (f->type == LIP__BOOL)
                *(bool *)((char *)o + f->offset) = value != 0;
            else
                *(double *)((char *)o + f->offset) = value;
            return;
        }
    ck_abort_msg("%s has no %s", o->cls->name, key);
}

static double rate_of(const struct lip__object *o)
{
    return lip__schedule_rate(((const struct lip__optimizer *)o)->schedule, 0);
}

/* STEPS steps from zero slots; gradients of step t come from its own stream. */
static void run(struct lip__object *o, size_t slots, float *w)
{
    float a[2][LIP__MAX_SLOTS][N] = {{{0}}}, next[N], g[N];

    ck_assert_uint_eq(lip__slots(o), slots);
    for (size_t s = 0; s < slots; s++)
        ck_assert_ptr_nonnull(lip__slot_name(o, s));
    for (uint64_t t = 1; t <= STEPS; t++) {
        lip_random r = {.seed = 3, .stream = t};
        const float *in[LIP__MAX_SLOTS];
        float *out[LIP__MAX_SLOTS];

        lip_random_normal(&r, g, N);
        for (size_t s = 0; s < LIP__MAX_SLOTS; s++)
            in[s] = a[t % 2][s], out[s] = a[(t + 1) % 2][s];
        lip__step(o, &(struct lip__update){.t = t, .learning_rate = rate_of(o), .n = N, .w = w, .g = g, .slot = in,
                                           .w_next = next, .slot_next = out});
        memcpy(w, next, sizeof next);
    }
}

static void start(float *w, double *exact)
{
    lip_random r = {.seed = 3, .stream = 99};

    lip_random_normal(&r, w, N);
    for (size_t i = 0; i < N; i++)
        exact[i] = w[i];
}

static void agree(const float *w, const double *exact, double tolerance)
{
    for (size_t i = 0; i < N; i++)
        ck_assert_msg(fabs(w[i] - exact[i]) <= tolerance * fmax(1, fabs(exact[i])), "weight %zu: %.9g, exactly %.9g", i,
                      (double)w[i], exact[i]);
}

/* 0 plain, 1 momentum, 2 nesterov */
START_TEST(sgd_follows_its_formula)
{
    struct lip__object *o = lip__object_new(&find("SGD")->cls);
    double exact[N], m[N] = {0}, rate = 0.05f, momentum = _i ? 0.9f : 0;
    float w[N];

    start(w, exact);
    set(o, "learning_rate", 0.05);
    set(o, "momentum", _i ? 0.9 : 0);
    set(o, "nesterov", _i == 2);
    run(o, _i > 0, w);
    for (uint64_t t = 1; t <= STEPS; t++) {
        lip_random r = {.seed = 3, .stream = t};
        float g[N];

        lip_random_normal(&r, g, N);
        for (size_t i = 0; i < N; i++) {
            m[i] = momentum * m[i] - rate * g[i];
            exact[i] += _i == 2 ? momentum * m[i] - rate * g[i] : m[i];
        }
    }
    agree(w, exact, 2e-6);
    lip__object_free(o);
}
END_TEST

/* 0 plain, 1 amsgrad, 2 other betas, 3 AdamW: weights decay before the step, 4 by more */
START_TEST(adam_follows_its_formula)
{
    struct lip__object *o = lip__object_new(&find(_i >= 3 ? "AdamW" : "Adam")->cls);
    double decay = _i == 3 ? 0.004 : _i == 4 ? 0.5 : 0;
    double b1 = _i == 2 ? 0.8 : 0.9, b2 = _i == 2 ? 0.5 : 0.999, eps = 1e-7, rate = 0.01;
    double exact[N], m[N] = {0}, v[N] = {0}, top[N] = {0};
    float w[N];

    start(w, exact);
    set(o, "learning_rate", rate);
    set(o, "amsgrad", _i == 1);
    if (_i == 2)
        set(o, "beta_1", b1), set(o, "beta_2", b2);
    if (_i == 4)
        set(o, "weight_decay", decay);
    run(o, _i == 1 ? 3 : 2, w);
    for (uint64_t t = 1; t <= STEPS; t++) {
        lip_random r = {.seed = 3, .stream = t};
        double alpha = rate * sqrt(1 - pow((float)b2, (double)t)) / (1 - pow((float)b1, (double)t));
        float g[N];

        lip_random_normal(&r, g, N);
        for (size_t i = 0; i < N; i++) {
            m[i] += (g[i] - m[i]) * (1 - b1);
            v[i] += ((double)g[i] * g[i] - v[i]) * (1 - b2);
            top[i] = fmax(top[i], v[i]);
            exact[i] -= exact[i] * decay * rate;
            exact[i] -= alpha * m[i] / (sqrt(_i == 1 ? top[i] : v[i]) + eps);
        }
    }
    agree(w, exact, 1e-5);
    lip__object_free(o);
}
END_TEST

/* 0 plain, 1 centered, 2 momentum, 3 both */
START_TEST(rmsprop_follows_its_formula)
{
    struct lip__object *o = lip__object_new(&find("RMSprop")->cls);
    double exact[N], v[N] = {0}, a[N] = {0}, m[N] = {0}, rate = 0.01, rho = 0.8, momentum = _i >= 2 ? 0.9 : 0;
    float w[N];

    start(w, exact);
    set(o, "learning_rate", rate);
    set(o, "rho", rho);
    set(o, "centered", _i % 2);
    set(o, "momentum", momentum);
    run(o, 1 + (size_t)(_i % 2) + (_i >= 2), w);
    for (uint64_t t = 1; t <= STEPS; t++) {
        lip_random r = {.seed = 3, .stream = t};
        float g[N];

        lip_random_normal(&r, g, N);
        for (size_t i = 0; i < N; i++) {
            v[i] = rho * v[i] + (1 - rho) * g[i] * g[i];
            a[i] = rho * a[i] + (1 - rho) * g[i];
            m[i] = momentum * m[i] + rate * g[i] / sqrt(v[i] - (_i % 2 ? a[i] * a[i] : 0) + 1e-7);
            exact[i] -= m[i];
        }
    }
    agree(w, exact, _i % 2 ? 1e-4 : 1e-5); /* v - a^2 cancels: 1e-7 of v shows as more of the difference */
    lip__object_free(o);
}
END_TEST

/* The average of all weights that the steps made, and, every second step, the weights themselves. */
START_TEST(a_moving_average_follows_the_weights)
{
    struct lip__object *o = lip__object_new(&find("SGD")->cls);
    struct lip__optimizer *options = (struct lip__optimizer *)o;
    float w = 8, average = 8, next, follows, g = 4;
    const float *in[] = {&average};
    float *out[] = {&follows};

    options->use_ema = true;
    options->ema_momentum = 0.75;
    options->ema_overwrite_frequency = 2;
    for (uint64_t t = 1; t <= 2; t++) {
        lip__step(o, &(struct lip__update){.t = t, .learning_rate = 0.5, .n = 1, .w = &w, .g = &g, .slot = in,
                                           .w_next = &next, .slot_next = out});
        w = next;
        average = follows;
        ck_assert_float_eq(average, t == 1 ? 7.5f : 6.625f); /* 8, 6 and 7.5, 4 */
        ck_assert_float_eq(w, t == 1 ? 6 : average);
    }
    ck_assert_str_eq(lip__slot_name(o, 0), "average");
    lip__object_free(o);
}
END_TEST

/* Two variables of norms 5 and 13. */
START_TEST(gradients_are_clipped_as_keras_does)
{
    static const size_t at[] = {0, 4}, n[] = {2, 2};
    struct lip__object *o = lip__object_new(&find("SGD")->cls);
    struct lip__optimizer *options = (struct lip__optimizer *)o;
    float g[6] = {3, -4, 99, 99, 5, 12};

    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq(g[1], -4);
    options->clipvalue = 10;
    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq(g[5], 10);
    ck_assert_float_eq(g[2], 99);
    g[5] = 12;
    options->clipnorm = 6.5;
    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq(g[0], 3);
    ck_assert_float_eq(g[5], 6);
    options->clipvalue = 1; /* of several the norm is the one that counts */
    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq(g[5], 6);
    options->clipnorm = NAN;
    options->global_clipnorm = 100;
    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq(g[5], 6);
    options->global_clipnorm = sqrt(25 + 6.5 * 6.5) / 2;
    lip__clip(o, 2, at, n, g);
    ck_assert_float_eq_tol(g[0], 1.5f, 1e-6f);
    ck_assert_float_eq_tol(g[5], 3, 1e-6f);
    lip__object_free(o);
}
END_TEST

START_TEST(the_first_adam_step_is_the_learning_rate)
{
    struct lip__object *o = lip__object_new(&find("Adam")->cls);
    float w = 1, g = -123, zero[2] = {0}, next, m, v;
    const float *in[] = {zero, zero + 1};
    float *out[] = {&m, &v};

    lip__step(o, &(struct lip__update){.t = 1, .learning_rate = 0.25, .n = 1, .w = &w, .g = &g, .slot = in,
                                       .w_next = &next, .slot_next = out});
    ck_assert_float_eq_tol(next, 1.25f, 1e-4f);
    ck_assert_float_eq_tol(m, -12.3f, 1e-5f);
    lip__object_free(o);
}
END_TEST

START_TEST(defaults_and_keys_are_those_of_keras)
{
    static const char *const common = "name,weight_decay,clipnorm,global_clipnorm,clipvalue,use_ema,ema_momentum,"
                                      "ema_overwrite_frequency,jit_compile,is_legacy_optimizer,learning_rate,";
    static const char *const own[] = {"momentum,nesterov,", "beta_1,beta_2,epsilon,amsgrad,",
                                      "beta_1,beta_2,epsilon,amsgrad,", "rho,momentum,epsilon,centered,"};
    static const double rate[] = {0.01, 0.001, 0.001, 0.001};

    for (size_t n = 0; n < 4; n++) {
        struct lip__object *o = lip__object_new(lip__optimizers[n]);
        char keys[512] = "", wanted[512] = "";

        for (const struct lip__field *f = lip__optimizers[n]->fields; f->name; f++)
            strcat(strcat(keys, f->name), ",");
        ck_assert_str_eq(keys, strcat(strcat(wanted, common), own[n]));
        ck_assert_double_eq(rate_of(o), rate[n]);
        lip__object_free(o);
    }
    ck_assert_ptr_null(lip__optimizers[4]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("optim");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, sgd_follows_its_formula, 0, 3);
    tcase_add_loop_test(core, adam_follows_its_formula, 0, 5);
    tcase_add_loop_test(core, rmsprop_follows_its_formula, 0, 4);
    tcase_add_test(core, a_moving_average_follows_the_weights);
    tcase_add_test(core, gradients_are_clipped_as_keras_does);
    tcase_add_test(core, the_first_adam_step_is_the_learning_rate);
    tcase_add_test(core, defaults_and_keys_are_those_of_keras);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
