/* check_train.c: a step is all or nothing, follows its own gradient, and repeats bit for bit. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

#define HKR "{\"class_name\":\"MulticlassHKR\",\"config\":{\"alpha\":10.0,\"min_margin\":0.5}}"

static const char *const definitions[] = {MLP, CNN, GRAPH, SHARED};
static const char *const runs[] = {
    "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":0.05}},\"loss\":" HKR ",\"metrics\":[\"accuracy\"]}",
    "{\"optimizer\":\"adam\",\"loss\":" HKR ",\"metrics\":[\"accuracy\"]}",
    "{\"optimizer\":\"ADAM\",\"loss\":{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":10.0}}}",
};

struct rig {
    lip_model *m;
    lip_state *s;
    lip_trainer *t;
    float *x;
    float y[32];
    lip_batch batch;
};

static void setup(struct rig *r, const char *definition, const char *run)
{
    lip_random random = {3, 1, 0};
    lip_error err = {0};

    ck_assert_msg(lip_model_read(definition, strlen(definition), false, &r->m, &err) == LIP_OK, "%s", err.text);
    ck_assert_msg(lip_state_new(r->m, 5, &r->s, &err) == LIP_OK, "%s", err.text);
    ck_assert_msg(lip_trainer_new(r->m, run, strlen(run), &r->t, &err) == LIP_OK, "%s", err.text);
    size_t in = lip_shape_count(lip_model_input_shape(r->m, 0));
    r->x = calloc(32 * in, sizeof *r->x);
    lip_random_normal(&random, r->x, 32 * in);
    for (size_t i = 0; i < 32; i++)
        r->y[i] = r->x[i * in] > 0.3f ? 0 : r->x[i * in + 1] > 0 ? 1 : 2;
    r->batch = (lip_batch){.n = 32, .x = r->x, .y_shape = {1, {32}}, .y = r->y};
}

static void teardown(struct rig *r)
{
    free(r->x);
    lip_trainer_free(r->t);
    lip_state_free(r->s);
    lip_model_put(r->m);
}

static lip_step_report step(struct rig *r)
{
    lip_step_report report;
    lip_error err = {0};

    ck_assert_msg(lip_train_step(r->t, r->s, &r->batch, NULL, &report, &err) == LIP_OK, "%s", err.text);
    return report;
}

static size_t state_floats(const lip_model *m)
{
    size_t n = 0;

    for (size_t v = 0; v < lip_model_variables(m); v++)
        n += lip_shape_count(&lip_model_variable(m, v)->shape);
    return n;
}

/* Every variable, one behind the other. */
static float *photograph(const lip_state *s)
{
    const lip_model *m = lip_state_model(s);
    float *all = calloc(state_floats(m), sizeof *all), *at = all;

    for (size_t v = 0; v < lip_model_variables(m); v++) {
        size_t n = lip_shape_count(&lip_model_variable(m, v)->shape);
        memcpy(at, lip_state_data(s, v), n * sizeof *at);
        at += n;
    }
    return all;
}

START_TEST(loss_falls)
{
    struct rig r;
    double first, last = 0;

    setup(&r, definitions[_i % 3], runs[_i / 3]);
    first = step(&r).loss;
    for (int i = 0; i < 150; i++)
        last = step(&r).loss;
    ck_assert_msg(last < first - 0.1 * fabs(first), "%g after %g", last, first);
    teardown(&r);
}
END_TEST

/* The loss of one training-mode forward from this state, with one entry of a kernel moved. */
static double moved_loss(struct rig *r, size_t variable, size_t entry, float by)
{
    const lip_variable *var = lip_model_variable(r->m, variable);
    size_t n = lip_shape_count(&var->shape);
    float *kernel = calloc(n, sizeof *kernel);
    lip_named tensor = {var->name, var->shape, kernel};
    lip_state *probe = NULL;
    lip_step_report report;

    memcpy(kernel, lip_state_data(r->s, variable), n * sizeof *kernel);
    kernel[entry] += by;
    ck_assert_int_eq(lip_state_copy(r->s, &probe, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_load(probe, &tensor, 1, true, NULL, NULL, NULL), LIP_OK);
    ck_assert_int_eq(lip_train_step(r->t, probe, &r->batch, NULL, &report, NULL), LIP_OK);
    lip_state_free(probe);
    free(kernel);
    return report.loss;
}

START_TEST(update_is_the_gradient_of_the_loss)
{
    static const char smooth[] = "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":1}},\"loss\":"
                                 "{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":3}}}";
    static const char *const names[] = {"d1/kernel", "c1/kernel", "tower/d/kernel", "d/kernel"};
    lip_step_options still = {.learning_rate = 0};
    lip_step_report report;
    lip_state *after = NULL;
    struct rig r;
    const float h = 2e-3f;

    setup(&r, definitions[_i], smooth);
    for (int i = 0; i < 5; i++) /* u converges: the gradient holds it constant */
        ck_assert_int_eq(lip_train_step(r.t, r.s, &r.batch, &still, &report, NULL), LIP_OK);
    size_t k = lip_model_find_variable(r.m, names[_i]), n = lip_shape_count(&lip_model_variable(r.m, k)->shape);
    ck_assert_int_eq(lip_state_copy(r.s, &after, NULL), LIP_OK);
    ck_assert_int_eq(lip_train_step(r.t, after, &r.batch, NULL, &report, NULL), LIP_OK);
    for (size_t i = 0; i < n; i += 3) {
        /* SGD with rate 1: w - w' is the gradient. float32 losses of about 1 over 2h leave 1e-4. */
        double gradient = (double)lip_state_data(r.s, k)[i] - lip_state_data(after, k)[i];
        double difference = (moved_loss(&r, k, i, h) - moved_loss(&r, k, i, -h)) / (2 * (double)h);
        ck_assert_msg(fabs(difference - gradient) < 2e-4, "entry %zu: %g, differences say %g", i, gradient, difference);
    }
    lip_state_free(after);
    teardown(&r);
}
END_TEST

START_TEST(state_after_a_step_is_fresh)
{
    struct rig r;
    lip_change changes[16];
    size_t n;

    setup(&r, definitions[_i], runs[1]);
    for (int i = 0; i < 5; i++)
        step(&r);
    ck_assert_int_eq(lip_state_refresh(r.s, changes, &n, NULL), LIP_OK);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_le(changes[i].distance, 2e-6); /* the step's own orthogonalisation, another of the same kernel */
    teardown(&r);
}
END_TEST

START_TEST(errors_change_nothing)
{
    struct rig r;
    lip_step_report report;
    lip_error err = {0};
    float x0, y0;

    setup(&r, MLP, runs[1]);
    step(&r);
    float *before = photograph(r.s), weights[32] = {1};
    uint64_t steps = lip_trainer_steps(r.t);
    lip_batch b = r.batch;

    x0 = r.x[5];
    r.x[5] = NAN;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, &err), LIP_ENONFINITE);
    r.x[5] = x0;
    y0 = r.y[3];
    r.y[3] = 3;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, NULL), LIP_ELABELS);
    r.y[3] = 0.5f;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, NULL), LIP_ELABELS);
    r.y[3] = y0;
    b.y_shape.dim[0] = 31;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, NULL), LIP_ESHAPE);
    b = r.batch;
    b.n = 0;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, NULL), LIP_ESHAPE);
    b = r.batch;
    weights[9] = -1;
    b.sample_weight = weights;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &b, NULL, &report, NULL), LIP_ELABELS);
    lip_step_options o = {.learning_rate = 1e38};
    for (size_t i = 0; i < 32; i++)
        r.x[i] *= 1e18f;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &r.batch, &o, &report, NULL), LIP_ENONFINITE);
    float *after = photograph(r.s);
    ck_assert_mem_eq(before, after, state_floats(r.m) * sizeof *before);
    ck_assert_uint_eq(lip_trainer_steps(r.t), steps);
    free(after);
    free(before);
    teardown(&r);
}
END_TEST

START_TEST(skip_counts_and_changes_nothing_else)
{
    struct rig r;
    lip_step_options o = {.learning_rate = NAN, .skip_nonfinite = true};
    lip_step_report report;

    setup(&r, MLP, runs[1]);
    float *before = photograph(r.s);
    r.x[0] = INFINITY;
    ck_assert_int_eq(lip_train_step(r.t, r.s, &r.batch, &o, &report, NULL), LIP_OK);
    ck_assert(report.skipped);
    ck_assert_uint_eq(lip_trainer_steps(r.t), 1);
    float *after = photograph(r.s);
    ck_assert_mem_eq(before, after, state_floats(r.m) * sizeof *before);
    free(after);
    free(before);
    teardown(&r);
}
END_TEST

/* Few rows: large kernels train as factors, and what others read of the state is multiplied out when they ask. The same rows
 * four times are the same mean, and too many for a factor. Float32 rounding over a few steps is what they may differ by. */
START_TEST(few_rows_train_as_many_do)
{
    static const char net[] = "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":2.0,\"layers\":["
                              "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,40],\"name\":\"x\"}},"
                              "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":512,\"name\":\"d1\"}},"
                              "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s1\"}},"
                              "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":48,\"name\":\"d2\"}},"
                              "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}";
    struct rig r[2];
    float *x = NULL, y[288], out[2][96];

    for (int i = 0; i < 2; i++)
        setup(&r[i], net, runs[0]);
    x = calloc(288 * 40, sizeof *x);
    for (size_t j = 0; j < 288; j++) {
        memcpy(x + j * 40, r[1].x + j % 32 * 40, 40 * sizeof *x);
        y[j] = r[1].y[j % 32];
    }
    r[1].batch = (lip_batch){.n = 288, .x = x, .y_shape = {1, {288}}, .y = y};
    for (int step_ = 0; step_ < 5; step_++) {
        lip_step_report a = step(&r[0]), b = step(&r[1]);
        ck_assert_double_eq_tol(a.loss, b.loss, 2e-5 * fmax(1, fabs(b.loss)));
        ck_assert_double_eq_tol(a.gradient_norm, b.gradient_norm, 1e-4 * b.gradient_norm);
        if (step_ == 4)
            for (size_t l = 0; l < 2; l++)
                ck_assert_str_eq(a.layers[l].form, "polynomial");
    }
    for (int i = 0; i < 2; i++) { /* each way to read an effective kernel */
        lip_state *copy = NULL;
        lip_snapshot *snapshot = NULL;
        lip_workspace *ws = lip_workspace_new();
        lip_error err = {0};
        step(&r[i]);
        ck_assert_int_eq(lip_state_copy(r[i].s, &copy, &err), LIP_OK);
        float *seen = photograph(r[i].s), *copied = photograph(copy);
        ck_assert_mem_eq(seen, copied, state_floats(r[i].m) * sizeof *seen);
        step(&r[i]);
        ck_assert_int_eq(lip_state_publish(r[i].s, &snapshot, &err), LIP_OK);
        ck_assert_int_eq(lip_predict(snapshot, ws, 32, r[i].x, out[i], &err), LIP_OK);
        lip_change changes[3];
        size_t n;
        step(&r[i]);
        ck_assert_int_eq(lip_state_refresh(r[i].s, changes, &n, &err), LIP_OK);
        for (size_t l = 0; l < n; l++)
            ck_assert_double_lt(changes[l].distance, 2e-6);
        free(seen), free(copied);
        lip_workspace_free(ws);
        lip_snapshot_put(snapshot);
        lip_state_free(copy);
    }
    for (size_t j = 0; j < 96; j++)
        ck_assert_double_eq_tol(out[0][j], out[1][j], 1e-4);
    step(&r[0]);
    r[0].batch = r[1].batch; /* a factor that the last step left meets a large batch */
    ck_assert_double_eq_tol(step(&r[0]).loss, (step(&r[1]), step(&r[1]).loss), 1e-4);
    free(x);
    teardown(&r[0]);
    teardown(&r[1]);
}
END_TEST

START_TEST(runs_repeat_bit_for_bit)
{
    struct rig a, b;

    setup(&a, definitions[_i], runs[1]);
    setup(&b, definitions[_i], runs[1]);
    for (int i = 0; i < 10; i++)
        ck_assert_double_eq(step(&a).loss, step(&b).loss);
    float *pa = photograph(a.s), *pb = photograph(b.s);
    ck_assert_mem_eq(pa, pb, state_floats(a.m) * sizeof *pa);
    free(pb);
    free(pa);
    teardown(&b);
    teardown(&a);
}
END_TEST

START_TEST(saved_optimizer_goes_on_as_if_nothing_happened)
{
    struct rig a, b;
    lip_named tensors[32];

    setup(&a, MLP, runs[1]);
    setup(&b, MLP, runs[1]);
    for (int i = 0; i < 4; i++)
        step(&a);
    lip_trainer_free(b.t);
    lip_state_free(b.s);
    ck_assert_int_eq(lip_trainer_new(a.m, runs[1], strlen(runs[1]), &b.t, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_copy(a.s, &b.s, NULL), LIP_OK);
    size_t n = lip_trainer_tensors(a.t);
    ck_assert_uint_le(n, 32);
    ck_assert_uint_eq(n, 2 * 6); /* m and v of three kernels and three biases */
    for (size_t i = 0; i < n; i++)
        tensors[i] = lip_trainer_tensor(a.t, i);
    ck_assert_str_eq(tensors[0].name, "d1/kernel/m");
    ck_assert_int_eq(lip_trainer_load(b.t, lip_trainer_steps(a.t), tensors, n, NULL), LIP_OK);
    ck_assert_double_eq(step(&a).loss, step(&b).loss);
    float *pa = photograph(a.s), *pb = photograph(b.s);
    ck_assert_mem_eq(pa, pb, state_floats(a.m) * sizeof *pa);
    free(pb);
    free(pa);
    teardown(&b);
    teardown(&a);
}
END_TEST

START_TEST(frozen_layers_keep_their_kernels)
{
    struct rig r;
    const char *json = "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":1.0,\"layers\":["
                       "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"name\":\"d1\",\"trainable\":false,"
                       "\"batch_input_shape\":[null,6]}},{\"class_name\":\"GroupSort2\",\"config\":{}},"
                       "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}";

    setup(&r, json, runs[0]);
    size_t k = lip_model_find_variable(r.m, "d1/kernel"), u = lip_model_find_variable(r.m, "d1/u"),
           y = lip_model_find_variable(r.m, "y/kernel");
    float kernel[48], vector[8], last[24];
    memcpy(kernel, lip_state_data(r.s, k), sizeof kernel);
    memcpy(vector, lip_state_data(r.s, u), sizeof vector);
    memcpy(last, lip_state_data(r.s, y), sizeof last);
    step(&r);
    ck_assert_mem_eq(kernel, lip_state_data(r.s, k), sizeof kernel);
    ck_assert_mem_ne(vector, lip_state_data(r.s, u), sizeof vector); /* deel-lip's u moves all the same */
    ck_assert_mem_ne(last, lip_state_data(r.s, y), sizeof last);
    teardown(&r);
}
END_TEST

START_TEST(lagging_kernels_are_those_of_the_steps_own_forward)
{
    struct rig r;
    lip_step_options o = {.learning_rate = NAN, .lagging = true};
    lip_step_report report;

    setup(&r, MLP, runs[0]);
    size_t w = lip_model_find_variable(r.m, "d1/wbar");
    float before[48];
    memcpy(before, lip_state_data(r.s, w), sizeof before); /* computed from the kernel that this step starts from */
    ck_assert_int_eq(lip_train_step(r.t, r.s, &r.batch, &o, &report, NULL), LIP_OK);
    for (size_t i = 0; i < 48; i++)
        ck_assert_float_eq_tol(lip_state_data(r.s, w)[i], before[i], 1e-6f);
    teardown(&r);
}
END_TEST

static int allocations;

static int count(void)
{
    allocations++;
    return 0;
}

START_TEST(steady_state_allocates_nothing)
{
    struct rig r;

    setup(&r, definitions[_i], runs[1]);
    step(&r);
    allocations = 0;
    lip__alloc_hook = count;
    step(&r);
    r.batch.n = 16;
    r.batch.y_shape.dim[0] = 16;
    step(&r);
    lip__alloc_hook = NULL;
    ck_assert_int_eq(allocations, 0);
    teardown(&r);
}
END_TEST

START_TEST(evaluate_sees_what_is_served)
{
    struct rig r;
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    lip_metric metrics[LIP_MAX_METRICS];
    size_t n;

    setup(&r, MLP, runs[0]);
    ck_assert_int_eq(lip_state_publish(r.s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_evaluate(r.t, p, ws, &r.batch, metrics, &n, NULL), LIP_OK);
    lip_step_report report = step(&r); /* its forward is of the same weights */
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(metrics[0].name, "loss");
    ck_assert_str_eq(metrics[1].name, "accuracy");
    ck_assert_double_eq_tol(metrics[0].value, report.loss, 1e-5);
    ck_assert_double_eq_tol(metrics[1].value, report.metrics[1].value, 1e-9);
    lip_snapshot_put(p);
    lip_workspace_free(ws);
    teardown(&r);
}
END_TEST

/* ---- several outputs, metrics, callbacks ------------------------------------------------------------ */

static lip_trainer *trainer_of(const lip_model *m, const char *json)
{
    lip_trainer *t = NULL;
    lip_error err = {0};

    ck_assert_msg(lip_trainer_new(m, json, strlen(json), &t, &err) == LIP_OK, "%s at %s", err.text, err.pointer);
    return t;
}

static double told(const lip_metric *metrics, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(metrics[i].name, name))
            return metrics[i].value;
    ck_abort_msg("no figure is called %s", name);
}

START_TEST(outputs_have_losses_and_weights_of_their_own)
{
    static const char json[] = "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":0.05}},"
                               "\"loss\":{\"y\":{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":5}},\"z\":\"mse\"},"
                               "\"loss_weights\":{\"y\":0.5,\"z\":2},\"metrics\":{\"y\":[\"accuracy\",\"sparse_categorical_crossentropy\"],"
                               "\"z\":[\"mae\"]}}";
    enum { B = 24 };
    lip_random random = {1, 2, 0};
    float a[B * 4], b[B * 2], y[B], z[B];
    const float *inputs[] = {a, b};
    lip_label_set labels[] = {{{1, {B}}, y}, {{1, {B}}, z}};
    lip_batch batch = {.n = B, .inputs = inputs, .labels = labels};
    lip_step_report report = {0};
    lip_error err = {0};
    double first = 0;
    lip_model *m = NULL;
    lip_state *s = NULL;
    lip_trainer *t, *again;

    ck_assert_msg(lip_model_read(TWINS, strlen(TWINS), false, &m, &err) == LIP_OK, "%s", err.text);
    ck_assert_int_eq(lip_state_new(m, 5, &s, &err), LIP_OK);
    lip_random_normal(&random, a, B * 4);
    lip_random_normal(&random, b, B * 2);
    for (size_t i = 0; i < B; i++) {
        y[i] = (float)((a[4 * i] > 0) + (b[2 * i] > 0));
        z[i] = 0.3f * a[4 * i + 1];
    }
    t = trainer_of(m, json);
    for (int i = 0; i < 200; i++) {
        ck_assert_msg(lip_train_step(t, s, &batch, NULL, &report, &err) == LIP_OK, "%s", err.text);
        ck_assert_uint_eq(report.n_metrics, 6);
        ck_assert_double_eq_tol(report.loss, 0.5 * told(report.metrics, 6, "y_loss") + 2 * told(report.metrics, 6, "z_loss"),
                                1e-9);
        if (i == 0)
            first = report.loss;
    }
    ck_assert_double_lt(report.loss, first * 0.7);
    ck_assert_double_gt(told(report.metrics, 6, "y_accuracy"), 0.5);
    ck_assert_double_gt(told(report.metrics, 6, "z_mae"), 0);
    char *written = lip_trainer_config(t);
    again = trainer_of(m, written);
    char *twice = lip_trainer_config(again);
    ck_assert_str_eq(written, twice);
    lip_free(twice);
    lip_free(written);
    lip_trainer_free(again);
    batch.labels = NULL;
    ck_assert_int_eq(lip_train_step(t, s, &batch, NULL, &report, &err), LIP_ESHAPE);
    lip_trainer_free(t);

    /* z alone: y moves no weight of its own, and needs no labels. */
    t = trainer_of(m, "{\"optimizer\":\"sgd\",\"loss\":{\"z\":\"mse\"}}");
    labels[0] = (lip_label_set){.data = NULL};
    batch.labels = labels;
    ck_assert_msg(lip_train_step(t, s, &batch, NULL, &report, &err) == LIP_OK, "%s", err.text);
    lip_trainer_free(t);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

/* Rows along the last axis of a picture are samples, with their picture's weight. */
START_TEST(pictures_train_with_losses_of_keras)
{
    static const char net[] = "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":1.0,\"layers\":["
                              "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4,3,2],\"name\":\"x\"}},"
                              "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":2,\"kernel_size\":[3,3],\"name\":\"y\"}}]}}";
    struct rig r;
    float y[8 * 24], weight[8];
    double sum = 0;
    lip_error err = {0};
    lip_metric metrics[LIP_MAX_METRICS];
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    size_t n;
    float out[8 * 24];

    setup(&r, net, "{\"optimizer\":\"adam\",\"loss\":\"mean_squared_error\"}");
    for (size_t i = 0; i < 8 * 24; i++)
        y[i] = r.x[i] * 0.25f;
    for (size_t i = 0; i < 8; i++)
        weight[i] = (float)(i + 1) / 4;
    r.batch = (lip_batch){.n = 8, .x = r.x, .y_shape = {4, {8, 4, 3, 2}}, .y = y, .sample_weight = weight};
    ck_assert_int_eq(lip_state_publish(r.s, &p, &err), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, 8, r.x, out, &err), LIP_OK);
    ck_assert_msg(lip_evaluate(r.t, p, ws, &r.batch, metrics, &n, &err) == LIP_OK, "%s", err.text);
    for (size_t i = 0; i < 8 * 24; i++)
        sum += weight[i / 24] * (out[i] - y[i]) * (out[i] - y[i]);
    ck_assert_double_eq_tol(metrics[0].value, sum / (8 * 24), 1e-5);
    ck_assert_double_eq_tol(step(&r).loss, metrics[0].value, 1e-5);
    r.batch.y_shape = (lip_shape){2, {8, 24}};
    ck_assert_int_eq(lip_evaluate(r.t, p, ws, &r.batch, metrics, &n, &err), LIP_ESHAPE);
    lip_snapshot_put(p);
    lip_workspace_free(ws);
    teardown(&r);
}
END_TEST

/* semantics.md 14's numbers, with a constant that is told and with pairs that say the same. */
START_TEST(provable_metrics_are_those_of_deel_lip)
{
    static const char net[] = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
                              "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,3],\"name\":\"x\"}},"
                              "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}";
    static const char json[] =
        "{\"optimizer\":\"sgd\",\"loss\":\"MulticlassKR\",\"metrics\":["
        "{\"class_name\":\"CategoricalProvableRobustAccuracy\",\"config\":{\"epsilon\":0.25,\"lip_const\":1,\"disjoint_neurons\":false,\"name\":\"a\"}},"
        "{\"class_name\":\"CategoricalProvableAvgRobustness\",\"config\":{\"lip_const\":1,\"disjoint_neurons\":false,\"name\":\"b\"}},"
        "{\"class_name\":\"CategoricalProvableAvgRobustness\",\"config\":{\"lip_const\":1,\"disjoint_neurons\":false,\"negative_robustness\":true,\"name\":\"c\"}},"
        "{\"class_name\":\"CategoricalProvableRobustAccuracy\",\"config\":{\"epsilon\":0.25,\"name\":\"d\"}},"
        "{\"class_name\":\"CategoricalProvableAvgRobustness\",\"config\":{\"name\":\"e\"}},"
        "\"mean_margin\",\"accuracy\",\"MulticlassKR\"]}";
    static const float x[] = {1, 0, 0, .1f, 0, 0, 0, 0, 1, 0, 0, .1f}, y[] = {0, 0, 1, 1}, one[] = {1, 0, 0, 0, 1, 0, 0, 0, 1},
                       zero[3] = {0};
    const double pairs[] = {0, M_SQRT2, M_SQRT2, M_SQRT2, 0, M_SQRT2, M_SQRT2, M_SQRT2, 0};
    lip_named weights[] = {{"y/kernel", {2, {3, 3}}, one}, {"y/bias", {1, {3}}, zero}};
    lip_batch batch = {.n = 4, .x = x, .y_shape = {1, {4}}, .y = y};
    lip_metric metrics[LIP_MAX_METRICS];
    lip_model *m = NULL;
    lip_state *s = NULL;
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    lip_error err = {0};
    lip_trainer *t;
    size_t n = 0;

    ck_assert_msg(lip_model_read(net, strlen(net), false, &m, &err) == LIP_OK, "%s", err.text);
    ck_assert_int_eq(lip_state_new(m, 5, &s, &err), LIP_OK);
    ck_assert_int_eq(lip_state_load(s, weights, 2, false, NULL, NULL, &err), LIP_OK);
    ck_assert_int_eq(lip_state_publish(s, &p, &err), LIP_OK);
    t = trainer_of(m, json);
    ck_assert(lip_trainer_needs_pairs(t));
    ck_assert_int_eq(lip_evaluate(t, p, ws, &batch, metrics, &n, &err), LIP_EBOUND);
    batch.pairs = pairs;
    ck_assert_msg(lip_evaluate(t, p, ws, &batch, metrics, &n, &err) == LIP_OK, "%s", err.text);
    for (int k = 0; k < 2; k++) { /* given, then proved */
        ck_assert_double_eq(told(metrics, n, k ? "d" : "a"), 0.25);
        ck_assert_double_eq_tol(told(metrics, n, k ? "e" : "b"), 0.25 * 1.1 / M_SQRT2, 1e-7);
    }
    ck_assert_double_eq_tol(told(metrics, n, "c"), 0, 1e-7);
    ck_assert_double_eq_tol(told(metrics, n, "mean_margin"), 0, 1e-7);
    ck_assert_double_eq(told(metrics, n, "accuracy"), 0.5);
    ck_assert_double_eq_tol(told(metrics, n, "MulticlassKR"), metrics[0].value, 1e-12);
    lip_trainer_free(t);
    lip_snapshot_put(p);
    lip_workspace_free(ws);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

#define CALLBACKS(list) "{\"optimizer\":\"adam\",\"loss\":" HKR ",\"callbacks\":[" list "]}"

static double alpha_of(const lip_trainer *t)
{
    char *text = lip_trainer_config(t), *at = strstr(text, "\"alpha\":");
    double alpha = strtod(at + 8, NULL);

    lip_free(text);
    return alpha;
}

START_TEST(schedules_of_a_loss_follow_its_steps)
{
    static const char json[] = CALLBACKS("{\"class_name\":\"LossParamScheduler\",\"config\":{\"param_name\":\"alpha\","
                                         "\"xp\":[1,3],\"fp\":[2,6],\"step\":0}}");
    static const double wanted[] = {2, 2, 4, 6, 6};
    lip_named tensors[32];
    float *copy[32];
    struct rig r;
    lip_trainer *again;
    size_t n;

    setup(&r, MLP, json);
    for (size_t i = 0; i < 3; i++) {
        step(&r);
        ck_assert_double_eq(alpha_of(r.t), wanted[i]);
    }
    r.x[0] = NAN; /* a step that fails moves nothing */
    ck_assert_int_eq(lip_train_step(r.t, r.s, &r.batch, NULL, &(lip_step_report){0}, NULL), LIP_ENONFINITE);
    ck_assert_double_eq(alpha_of(r.t), wanted[2]);
    r.x[0] = 0;
    /* What was saved goes on where it was. */
    again = trainer_of(r.m, json);
    n = lip_trainer_tensors(r.t);
    for (size_t i = 0; i < n; i++) {
        size_t count;
        tensors[i] = lip_trainer_tensor(r.t, i);
        count = lip_shape_count(&tensors[i].shape);
        copy[i] = malloc(count * sizeof(float));
        memcpy(copy[i], tensors[i].data, count * sizeof(float));
        tensors[i].data = copy[i];
    }
    ck_assert_int_eq(lip_trainer_load(again, 3, tensors, n, NULL), LIP_OK);
    ck_assert_double_eq(alpha_of(again), wanted[2]);
    lip_trainer_free(r.t);
    r.t = again;
    for (size_t i = 3; i < 5; i++) {
        step(&r);
        ck_assert_double_eq(alpha_of(r.t), wanted[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(copy[i]);
    teardown(&r);
}
END_TEST

/* Condensed after each step, a kernel is its own effective kernel. */
START_TEST(kernels_condense_after_steps_and_epochs)
{
    static const char *const json[] = {
        CALLBACKS("{\"class_name\":\"CondenseCallback\",\"config\":{\"on_batch\":true,\"on_epoch\":false}}"),
        CALLBACKS("\"CondenseCallback\"")};
    struct rig r;
    lip_epoch epoch;

    setup(&r, MLP, json[_i]);
    for (int i = 0; i < 5; i++)
        step(&r);
    size_t kernel = lip_model_find_variable(r.m, "d1/kernel"), wbar = lip_model_find_variable(r.m, "d1/wbar");
    bool same = !memcmp(lip_state_data(r.s, kernel), lip_state_data(r.s, wbar), 48 * sizeof(float));
    ck_assert_int_eq(same, _i == 0);
    ck_assert_int_eq(lip_trainer_epoch(r.t, r.s, 0, NULL, 0, &epoch, NULL), LIP_OK);
    ck_assert_int_eq(epoch.condensed, _i == 1);
    ck_assert(!memcmp(lip_state_data(r.s, kernel), lip_state_data(r.s, wbar), 48 * sizeof(float)));
    step(&r);
    teardown(&r);
}
END_TEST

START_TEST(epochs_end_as_keras_says)
{
    static const char json[] =
        CALLBACKS("{\"class_name\":\"EarlyStopping\",\"config\":{\"patience\":2,\"restore_best_weights\":true,\"min_delta\":0.01}},"
                  "{\"class_name\":\"ModelCheckpoint\",\"config\":{\"monitor\":\"val_accuracy\",\"save_best_only\":true}},"
                  "{\"class_name\":\"LossParamLog\",\"config\":{\"param_name\":\"alpha\",\"rate\":2}}");
    static const struct {
        double loss, accuracy;
        bool keep, stop, checkpoint;
    } epochs[] = {{1, .5, true, false, true},     {.9, .5, true, false, false},   {.895, .6, false, false, true},
                  {.88, .6, true, false, false},  {.88, .7, false, false, true},  {.90, .7, false, true, false}};
    struct rig r;
    lip_epoch epoch;

    setup(&r, MLP, json);
    for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
        lip_metric metrics[] = {{"loss", 3}, {"val_loss", epochs[i].loss}, {"val_accuracy", epochs[i].accuracy}};
        ck_assert_int_eq(lip_trainer_epoch(r.t, r.s, i, metrics, 3, &epoch, NULL), LIP_OK);
        ck_assert_msg(epoch.keep == epochs[i].keep && epoch.stop == epochs[i].stop && epoch.checkpoint == epochs[i].checkpoint,
                      "epoch %zu: keep %d, stop %d, checkpoint %d", i, epoch.keep, epoch.stop, epoch.checkpoint);
        ck_assert_int_eq(epoch.restore, epochs[i].stop);
        ck_assert_uint_eq(epoch.n_logged, i % 2 == 0);
        ck_assert_ptr_null(epoch.missing);
    }
    ck_assert_int_eq(lip_trainer_epoch(r.t, r.s, 9, NULL, 0, &epoch, NULL), LIP_OK);
    ck_assert_str_eq(epoch.missing, "val_accuracy");
    teardown(&r);
}
END_TEST

/* What Keras 2.15's own callbacks did with these figures, epoch by epoch, when they were asked: k weights kept, s stopped, S stopped
 * and the kept weights taken back, c a checkpoint. */
static const struct {
    const char *name, *config;
    double figure[6];
    const char *did;
} judged[] = {
    {"EarlyStopping", "'monitor':'loss'", {1, 1, 1}, ".s"},
    {"EarlyStopping", "'monitor':'loss'", {1, 0.5, 0.6}, "..s"},
    {"EarlyStopping", "'monitor':'loss','patience':2", {1, 0.9, 0.95, 0.91, 0.8}, "...s"},
    {"EarlyStopping", "'monitor':'loss','patience':1,'min_delta':0.1", {1, 0.95, 0.89, 0.85, 0.7}, ".s"},
    {"EarlyStopping", "'monitor':'loss','patience':1,'baseline':0.5", {1, 0.9, 0.8, 0.7}, "...."},
    {"EarlyStopping", "'monitor':'loss','patience':2,'baseline':0.5", {1, 0.9, 0.95}, "..s"},
    {"EarlyStopping", "'monitor':'loss','patience':2,'baseline':0.85,'restore_best_weights':true", {1, 0.9, 0.8, 0.9, 0.9, 0.9}, "kkk.S"},
    {"EarlyStopping", "'monitor':'loss','start_from_epoch':2,'restore_best_weights':true", {1, 2, 3, 2, 2.5}, "..kkS"},
    {"EarlyStopping", "'monitor':'accuracy','patience':1,'restore_best_weights':true", {0.5, 0.6, 0.6, 0.7}, "kkS"},
    {"EarlyStopping", "'monitor':'accuracy','mode':'min'", {0.5, 0.4, 0.45}, "..s"},
    {"EarlyStopping", "'monitor':'loss','mode':'max','restore_best_weights':true", {1, 2, 1.5}, "kkS"},
    {"EarlyStopping", "'monitor':'loss','patience':1,'restore_best_weights':true", {NAN, NAN}, "kS"},
    {"EarlyStopping", "'monitor':'auc','mode':'auto','patience':1", {1, 2, 3, 1}, "...s"},
    {"EarlyStopping", "'monitor':'loss','patience':1,'min_delta':0.2,'mode':'max','baseline':2,'restore_best_weights':true", {1, 2.1, 2.3, 2.2, 2.2}, "kkS"},
    {"ModelCheckpoint", "'monitor':'loss','save_best_only':true", {1, 0.9, 0.95, 0.8}, "cc.c"},
    {"ModelCheckpoint", "'monitor':'accuracy','save_best_only':true", {0.5, 0.5, 0.6, 0.4}, "c.c."},
    {"ModelCheckpoint", "'monitor':'loss','save_best_only':true,'mode':'max'", {1, 0.9, 1.1, 1.2}, "c.cc"},
    {"ModelCheckpoint", "'monitor':'loss','save_best_only':true,'initial_value_threshold':0.85", {1, 0.9, 0.8, 0.82}, "..c."},
    {"ModelCheckpoint", "'monitor':'loss'", {1, 2, 3}, "ccc"},
    {"ModelCheckpoint", "'monitor':'my_fmeasure','save_best_only':true", {0.1, 0.2, 0.2}, "c.."},
    {"ModelCheckpoint", "'monitor':'auc','save_best_only':true", {0.3, 0.2, 0.1}, "ccc"},
    {"ModelCheckpoint", "'monitor':'loss','save_best_only':true", {NAN, 1, 2}, ".c."},
};

START_TEST(callbacks_judge_as_keras_did)
{
    char json[600], name[40];
    struct rig r;

    sscanf(judged[_i].config, "'monitor':'%39[^']", name);
    snprintf(json, sizeof json, CALLBACKS("{'class_name':'%s','config':{%s}}"), judged[_i].name, judged[_i].config);
    for (char *c = json; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    setup(&r, MLP, json);
    lip_trainer_begin(r.t);
    for (size_t i = 0; judged[_i].did[i]; i++) {
        const char did = judged[_i].did[i];
        lip_metric metric = {name, judged[_i].figure[i]};
        lip_epoch told;
        ck_assert_int_eq(lip_trainer_epoch(r.t, r.s, i, &metric, 1, &told, NULL), LIP_OK);
        ck_assert_msg(told.keep == (did == 'k') && told.stop == (did == 's' || did == 'S') && told.restore == (did == 'S') &&
                      told.checkpoint == (did == 'c'), "%s %s, epoch %zu: %d%d%d%d", judged[_i].name, judged[_i].config, i,
                      told.keep, told.stop, told.restore, told.checkpoint);
    }
    teardown(&r);
}
END_TEST

START_TEST(monitors_tell_singular_values)
{
    static const char json[] =
        CALLBACKS("{\"class_name\":\"MonitorCallback\",\"config\":{\"monitored_layers\":[\"d1\",\"d2\"],\"on_epoch\":true,\"on_batch\":true}},"
                  "{\"class_name\":\"MonitorCallback\",\"config\":{\"monitored_layers\":[\"d1\"],\"target\":\"wbar\",\"what\":\"all\"}}");
    struct rig r;
    lip_sigmas *list;
    lip_step_report report;
    size_t n;

    setup(&r, MLP, json);
    report = step(&r);
    ck_assert_int_eq(lip_trainer_sigmas(r.t, r.s, false, &list, &n, NULL), LIP_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_double_eq_tol(list[0].sigma[0], report.layers[0].sigma, 1e-6);
    lip_sigmas_free(list, n);
    ck_assert_int_eq(lip_trainer_sigmas(r.t, r.s, true, &list, &n, NULL), LIP_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list[0].target, "wbar"); /* with both flags the first one has no epochs */
    ck_assert_uint_eq(list[0].n, 6);
    for (size_t i = 0; i < 6; i++) /* deel-lip's own tests allow 1 % after a Bjorck loop of 15 */
        ck_assert_double_eq_tol(list[0].sigma[i], 1, 0.02);
    lip_sigmas_free(list, n);
    teardown(&r);
}
END_TEST

/* A run ends with the average of its weights. */
START_TEST(a_run_ends_with_its_average)
{
    struct rig r;
    size_t v, count;
    lip_named average = {0};

    setup(&r, MLP, "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"use_ema\":true,\"ema_momentum\":0.9}},\"loss\":" HKR "}");
    for (int i = 0; i < 5; i++)
        step(&r);
    v = lip_model_find_variable(r.m, "y/kernel");
    count = lip_shape_count(&lip_model_variable(r.m, v)->shape);
    for (size_t i = 0; i < lip_trainer_tensors(r.t); i++)
        if (!strcmp(lip_trainer_tensor(r.t, i).name, "y/kernel/average"))
            average = lip_trainer_tensor(r.t, i);
    ck_assert_ptr_nonnull(average.data);
    ck_assert(memcmp(average.data, lip_state_data(r.s, v), count * sizeof(float)) != 0);
    ck_assert_int_eq(lip_trainer_finish(r.t, r.s, NULL), LIP_OK);
    ck_assert(memcmp(average.data, lip_state_data(r.s, v), count * sizeof(float)) == 0);
    teardown(&r);
}
END_TEST

static _Atomic int rests;

static void count_rest(void)
{
    rests++;
}

/* Who trains may rest, on every thread; who asks is not held up. */
START_TEST(steps_rest_and_passes_do_not)
{
    lip_workspace *ws = lip_workspace_new();
    lip_snapshot *p = NULL;
    struct rig r;
    float y[96];
    int during;

    setup(&r, MLP, runs[0]);
    lip_set_rest(count_rest);
    step(&r);
    ck_assert_int_gt(during = rests, 0);
    ck_assert_int_eq(lip_state_publish(r.s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, 32, r.x, y, NULL), LIP_OK);
    ck_assert_int_eq(rests, during);
    lip_set_rest(NULL);
    step(&r);
    ck_assert_int_eq(rests, during);
    lip_snapshot_put(p);
    lip_workspace_free(ws);
    teardown(&r);
}
END_TEST

/* Without Bjorck, which forgets the norm it was divided by, the way through the power iteration counts. */
START_TEST(gradients_may_go_through_the_power_iteration)
{
    static const char net[] = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
                              "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"}},"
                              "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":3,\"name\":\"y\",\"eps_bjorck\":null,"
                              "\"maxiter_spectral\":2,\"kernel_initializer\":\"glorot_uniform\"}}]}}";
    double norm[2];

    for (int i = 0; i < 2; i++) {
        lip_step_options options = {.learning_rate = NAN, .through_spectral = i == 1};
        lip_step_report report = {0};
        lip_error err = {0};
        struct rig r;

        setup(&r, net, runs[0]);
        ck_assert_msg(lip_train_step(r.t, r.s, &r.batch, &options, &report, &err) == LIP_OK, "%s", err.text);
        norm[i] = report.gradient_norm;
        teardown(&r);
    }
    ck_assert_double_ne(norm[0], norm[1]);
    ck_assert_double_eq_tol(norm[0], norm[1], 0.5 * norm[0]);
}
END_TEST

static const struct {
    const char *json;
    lip_err code;
    const char *pointer, *text;
} bad[] = {
    {"{\"loss\":\"HKR\"}", LIP_EDEFINITION, "/optimizer", "optimizer"},
    {"{\"optimizer\":\"sgd\"}", LIP_EDEFINITION, "/loss", "loss"},
    {"{\"optimizer\":\"adamantium\",\"loss\":" HKR "}", LIP_EOPTION, "/optimizer", "Adam"},
    {"{\"optimizer\":\"adam\",\"loss\":\"hinge2\"}", LIP_EOPTION, "/loss", "MulticlassHKR"},
    {"{\"optimizer\":\"adam\",\"loss\":{\"class_name\":\"MulticlassHKR\",\"config\":{\"alfa\":1}}}", LIP_EOPTION,
     "/loss/config/alfa", "alpha"},
    {"{\"optimizer\":{\"class_name\":\"Adam\",\"config\":{\"learning_rate\":\"fast\"}},\"loss\":" HKR "}", LIP_EDEFINITION,
     "/optimizer/config/learning_rate", "fast"},
    {"{\"optimizer\":\"adam\",\"loss\":" HKR ",\"metrics\":[\"precision\"]}", LIP_EOPTION, "/metrics/0", "accuracy"},
    {"{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"clipnorm\":1,\"global_clipnorm\":1}},\"loss\":" HKR "}", LIP_EDEFINITION,
     "/optimizer/config/global_clipnorm", "at most one"},
    {"{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":{\"class_name\":\"StepDecay\",\"config\":{}}}},\"loss\":" HKR "}",
     LIP_EOPTION, "/optimizer/config/learning_rate/class_name", "CosineDecay"},
    {"{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":{\"class_name\":\"PiecewiseConstantDecay\",\"config\":"
     "{\"boundaries\":[1,2],\"values\":[1,2]}}}},\"loss\":" HKR "}", LIP_EDEFINITION, "/optimizer/config/learning_rate", "2 boundaries and 2 values"},
    {"{\"optimizer\":\"sgd\",\"loss\":{\"nobody\":" HKR "}}", LIP_EOPTION, "/loss/nobody", "it has y"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"loss_weights\":{\"y\":\"much\"}}", LIP_EDEFINITION, "/loss_weights/y", "number"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[\"TensorBoard\"]}", LIP_EOPTION, "/callbacks/0", "EarlyStopping"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[\"LossParamScheduler\"]}", LIP_EDEFINITION, "/callbacks/0", "param_name is missing"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[{\"class_name\":\"LossParamScheduler\",\"config\":{\"param_name\":\"tau\",\"xp\":[0],"
     "\"fp\":[1]}}]}", LIP_EOPTION, "/callbacks/0/config", "no loss has a number \"tau\""},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[{\"class_name\":\"LossParamScheduler\",\"config\":{\"param_name\":\"alpha\",\"xp\":[0,0],"
     "\"fp\":[1,2]}}]}", LIP_EDEFINITION, "/callbacks/0/config", "does not rise"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[{\"class_name\":\"LossParamScheduler\",\"config\":{\"param_name\":\"alpha\",\"xp\":[0],"
     "\"fp\":[-1]}}]}", LIP_EDEFINITION, "/callbacks/0/config", "fp has -1"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"callbacks\":[{\"class_name\":\"MonitorCallback\",\"config\":{\"monitored_layers\":[\"d9\"]}}]}",
     LIP_EOPTION, "/callbacks/0/config", "d9/kernel"},
    {"{\"optimizer\":\"sgd\",\"loss\":" HKR ",\"metrics\":[\"BinaryProvableAvgRobustness\"]}", LIP_EOPTION, "", "lip_const"},
};

START_TEST(bad_training_says_where_and_what)
{
    lip_model *m = NULL;
    lip_trainer *t = NULL;
    lip_error err = {0};

    ck_assert_int_eq(lip_model_read(MLP, strlen(MLP), false, &m, NULL), LIP_OK);
    ck_assert_msg(lip_trainer_new(m, bad[_i].json, strlen(bad[_i].json), &t, &err) == bad[_i].code, "%s: %s at %s",
                  lip_err_name(err.code), err.text, err.pointer);
    ck_assert_str_eq(err.pointer, bad[_i].pointer);
    ck_assert_msg(strstr(err.text, bad[_i].text) != NULL, "%s", err.text);
    lip_model_put(m);
}
END_TEST

static const char *const written[] = {
    "{\"optimizer\":{\"class_name\":\"RMSprop\",\"config\":{\"learning_rate\":{\"class_name\":\"CosineDecay\",\"config\":"
    "{\"initial_learning_rate\":0.1,\"decay_steps\":10,\"warmup_target\":0.2,\"warmup_steps\":3}},\"clipvalue\":1}},\"loss\":" HKR ","
    "\"metrics\":[\"acc\",\"mse\",{\"class_name\":\"accuracy\",\"config\":{\"name\":\"right\"}},\"CategoricalProvableAvgRobustness\"],"
    "\"callbacks\":[\"CondenseCallback\",\"EarlyStopping\",{\"class_name\":\"ModelCheckpoint\",\"config\":{\"initial_value_threshold\":0.5}},"
    "{\"class_name\":\"LossParamScheduler\",\"config\":{\"param_name\":\"alpha\",\"xp\":[0,1],\"fp\":[1,2]}},"
    "{\"class_name\":\"LossParamLog\",\"config\":{\"param_name\":\"alpha\"}},"
    "{\"class_name\":\"MonitorCallback\",\"config\":{\"monitored_layers\":\"d1\"}}]}",
    "{\"optimizer\":{\"class_name\":\"AdamW\",\"config\":{\"learning_rate\":{\"class_name\":\"PiecewiseConstantDecay\",\"config\":"
    "{\"boundaries\":[5],\"values\":[0.1,0.01]}}}},\"loss\":\"categorical_crossentropy\"}"};

/* ---- memory ----------------------------------------------------------------------------------------- */

static int left;

static int fail_after(void)
{
    return left-- <= 0;
}

/* Every allocation in turn fails: an error, nothing lost (the sanitizers look), the state as before. */
START_TEST(every_allocation_may_fail)
{
    struct rig r;
    lip_metric metrics[LIP_MAX_METRICS];
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    double value[32];
    float *dx = calloc(32 * 6, sizeof *dx), *out[] = {dx}, *before;
    const float *in[1];
    lip_trainer *t = NULL;
    lip_sigmas *list;
    size_t n;
    lip_err rc;

    setup(&r, MLP, written[0]);
    in[0] = r.x;
    ck_assert_int_eq(lip_state_publish(r.s, &p, NULL), LIP_OK);
    for (int allowed = 0;; allowed++) {
        left = allowed;
        lip__alloc_hook = fail_after;
        rc = lip_trainer_new(r.m, written[0], strlen(written[0]), &t, NULL);
        lip__alloc_hook = NULL;
        if (rc == LIP_OK)
            break;
        ck_assert_int_eq(rc, LIP_ENOMEM);
    }
    lip_trainer_free(t);
    before = photograph(r.s);
    r.batch.pairs = (const double[9]){1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (int what = 0; what < 5; what++)
        for (int allowed = 0;; allowed++) {
            lip_step_report report;

            left = allowed;
            lip__alloc_hook = fail_after;
            rc = what == 0   ? lip_gradients(p, &(lip_gradient){.of = LIP_OF_MARGIN}, 32, in, value, out, NULL)
                 : what == 1 ? lip_gradients(p, &(lip_gradient){.of = LIP_OF_LOSS, .loss = r.t, .batch = &r.batch}, 0, NULL, value, out, NULL)
                 : what == 2 ? lip_evaluate(r.t, p, ws, &r.batch, metrics, &n, NULL)
                 : what == 3 ? lip_trainer_sigmas(r.t, r.s, true, &list, &n, NULL)
                             : lip_train_step(r.t, r.s, &r.batch, NULL, &report, NULL);
            lip__alloc_hook = NULL;
            if (rc == LIP_OK && what == 3)
                lip_sigmas_free(list, n);
            if (rc == LIP_OK)
                break;
            ck_assert_int_eq(rc, LIP_ENOMEM);
            float *after = photograph(r.s);
            ck_assert_mem_eq(before, after, state_floats(r.m) * sizeof *after);
            free(after);
        }
    free(before);
    free(dx);
    lip_snapshot_put(p);
    lip_workspace_free(ws);
    teardown(&r);
}
END_TEST

/* The state of an optimizer goes over only where it means the same. */
START_TEST(slots_of_another_meaning_are_not_taken_over)
{
    static const char *const json[] = {
        "{\"optimizer\":{\"class_name\":\"RMSprop\",\"config\":{\"centered\":true}},\"loss\":" HKR "}",
        "{\"optimizer\":{\"class_name\":\"RMSprop\",\"config\":{\"momentum\":0.5}},\"loss\":" HKR "}",
        "{\"optimizer\":{\"class_name\":\"RMSprop\",\"config\":{\"momentum\":0.9,\"rho\":0.5}},\"loss\":" HKR "}"};
    struct rig r;
    lip_trainer *other[2];

    setup(&r, MLP, json[1]);
    other[0] = trainer_of(r.m, json[0]);
    other[1] = trainer_of(r.m, json[2]);
    ck_assert(!lip_trainer_same_optimizer(r.t, other[0]));
    ck_assert(lip_trainer_same_optimizer(r.t, other[1]));
    lip_trainer_free(other[1]);
    lip_trainer_free(other[0]);
    teardown(&r);
}
END_TEST

START_TEST(written_configuration_reads_back)
{
    struct rig r;
    lip_trainer *again = NULL;

    setup(&r, MLP, _i < 3 ? runs[_i] : written[_i - 3]);
    char *first = lip_trainer_config(r.t);
    ck_assert_int_eq(lip_trainer_new(r.m, first, strlen(first), &again, NULL), LIP_OK);
    char *second = lip_trainer_config(again);
    ck_assert_str_eq(first, second);
    lip_free(second);
    lip_free(first);
    lip_trainer_free(again);
    teardown(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("train");
    TCase *t = tcase_create("train");

    tcase_add_loop_test(t, loss_falls, 0, 9);
    tcase_add_loop_test(t, update_is_the_gradient_of_the_loss, 0, 4);
    tcase_add_loop_test(t, state_after_a_step_is_fresh, 0, 4);
    tcase_add_test(t, errors_change_nothing);
    tcase_add_test(t, skip_counts_and_changes_nothing_else);
    tcase_add_test(t, few_rows_train_as_many_do);
    tcase_add_loop_test(t, runs_repeat_bit_for_bit, 0, 4);
    tcase_add_test(t, saved_optimizer_goes_on_as_if_nothing_happened);
    tcase_add_test(t, frozen_layers_keep_their_kernels);
    tcase_add_test(t, lagging_kernels_are_those_of_the_steps_own_forward);
    tcase_add_loop_test(t, steady_state_allocates_nothing, 0, 4);
    tcase_add_test(t, evaluate_sees_what_is_served);
    tcase_add_test(t, outputs_have_losses_and_weights_of_their_own);
    tcase_add_test(t, pictures_train_with_losses_of_keras);
    tcase_add_test(t, provable_metrics_are_those_of_deel_lip);
    tcase_add_test(t, schedules_of_a_loss_follow_its_steps);
    tcase_add_loop_test(t, kernels_condense_after_steps_and_epochs, 0, 2);
    tcase_add_test(t, epochs_end_as_keras_says);
    tcase_add_loop_test(t, callbacks_judge_as_keras_did, 0, sizeof judged / sizeof *judged);
    tcase_add_test(t, monitors_tell_singular_values);
    tcase_add_test(t, a_run_ends_with_its_average);
    tcase_add_test(t, steps_rest_and_passes_do_not);
    tcase_add_test(t, gradients_may_go_through_the_power_iteration);
    tcase_add_loop_test(t, bad_training_says_where_and_what, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, slots_of_another_meaning_are_not_taken_over);
    tcase_add_loop_test(t, written_configuration_reads_back, 0, 5);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
