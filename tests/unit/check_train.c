/* check_train.c: a step is all or nothing, follows its own gradient, and repeats bit for bit. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

#define HKR "{\"class_name\":\"MulticlassHKR\",\"config\":{\"alpha\":10.0,\"min_margin\":0.5}}"

static const char *const definitions[] = {MLP, CNN, GRAPH};
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
    static const char *const names[] = {"d1/kernel", "c1/kernel", "tower/d/kernel"};
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

START_TEST(written_configuration_reads_back)
{
    struct rig r;
    lip_trainer *again = NULL;

    setup(&r, MLP, runs[_i]);
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
    tcase_add_loop_test(t, update_is_the_gradient_of_the_loss, 0, 3);
    tcase_add_loop_test(t, state_after_a_step_is_fresh, 0, 3);
    tcase_add_test(t, errors_change_nothing);
    tcase_add_test(t, skip_counts_and_changes_nothing_else);
    tcase_add_loop_test(t, runs_repeat_bit_for_bit, 0, 3);
    tcase_add_test(t, saved_optimizer_goes_on_as_if_nothing_happened);
    tcase_add_test(t, frozen_layers_keep_their_kernels);
    tcase_add_test(t, lagging_kernels_are_those_of_the_steps_own_forward);
    tcase_add_loop_test(t, steady_state_allocates_nothing, 0, 3);
    tcase_add_test(t, evaluate_sees_what_is_served);
    tcase_add_loop_test(t, bad_training_says_where_and_what, 0, sizeof bad / sizeof *bad);
    tcase_add_loop_test(t, written_configuration_reads_back, 0, 3);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
