/* check_telemetry.c: each figure is what bounds and certificates say of the same weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

#define OK(call) ck_assert_msg((call) == LIP_OK, "%s: %s", #call, err.text)

enum { N = 9 };

struct subject {
    lip_model *model;
    lip_state *state;
    lip_snapshot *snapshot;
    lip_workspace *ws;
    float *x, y[N];
    lip_batch batch;
};

static void begin(struct subject *s, const char *json)
{
    lip_random noise = {.seed = 3};
    lip_error err = {0};
    size_t in;

    OK(lip_model_read(json, strlen(json), false, &s->model, &err));
    OK(lip_state_new(s->model, 7, &s->state, &err));
    OK(lip_state_publish(s->state, &s->snapshot, &err));
    s->ws = lip_workspace_new();
    in = lip_shape_count(lip_model_input_shape(s->model, 0));
    s->x = malloc(N * in * sizeof *s->x);
    lip_random_normal(&noise, s->x, N * in);
    for (int i = 0; i < N; i++)
        s->y[i] = (float)(i % 3);
    s->batch = (lip_batch){.n = N, .x = s->x, .y = s->y, .y_shape = {1, {N}}};
}

static void end(struct subject *s)
{
    free(s->x);
    lip_workspace_free(s->ws);
    lip_snapshot_put(s->snapshot);
    lip_state_free(s->state);
    lip_model_put(s->model);
}

static const char *const definitions[] = {MLP, CNN, GRAPH};

START_TEST(equals_a_recomputation)
{
    struct subject s;
    lip_layer_bound layers[32];
    lip_network_bound network;
    lip_certifier *c;
    lip_telemetry t;
    lip_error err = {0};
    const double epsilon = LIP_TELEMETRY_EPSILON;
    float y[N * 3];
    int64_t label[N];
    double radius[N], share, sum = 0;
    size_t n, k = 0;

    begin(&s, definitions[_i]);
    OK(lip_telemetry_take(s.snapshot, s.ws, &s.batch, &t, &err));
    OK(lip_bound_network(s.snapshot, 0, layers, &n, &network, &err));
    ck_assert_double_ge(t.upper, network.upper);
    ck_assert(t.claimed == lip_model_claimed(s.model) || (isnan(t.claimed) && isnan(lip_model_claimed(s.model))));
    for (size_t i = 0; i < n; i++)
        if (lip_layer_variables(layers[i].layer)) {
            ck_assert(k < t.n_layers && t.layer[k].layer == layers[i].layer);
            ck_assert(t.layer[k].upper == layers[i].upper && t.layer[k].defect == layers[i].defect);
            k++;
        }
    ck_assert_uint_eq(k, t.n_layers);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2, .quick = true}, &c, &err));
    for (int i = 0; i < N; i++)
        label[i] = i % 3;
    OK(lip_certify(c, s.ws, &(lip_certify_options){.arithmetic = LIP_FLOAT64}, N, s.x, label,
                   &(lip_certificates){.y = y, .radius = radius}, &err));
    for (int i = 0; i < N; i++)
        sum += radius[i];
    lip_provable_accuracy(N, radius, 1, &epsilon, &share);
    ck_assert(t.provable_accuracy == share && t.mean_radius == sum / N && t.mean_radius > 0);
    /* No derivative stretches more than the bound; float32 computed it, to about 1e-6 of its size. */
    ck_assert(t.jacobian_min >= 0 && t.jacobian_min <= t.jacobian_median && t.jacobian_median <= t.jacobian_max);
    ck_assert(t.jacobian_max > 0 && t.jacobian_max <= t.upper * (1 + 1e-5));
    lip_certifier_free(c);
    lip_telemetry_clear(&t);
    lip_telemetry_clear(&t);
    end(&s);
}
END_TEST

START_TEST(a_linear_map_is_its_own_jacobian)
{
    static const char json[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{"
        "\"batch_input_shape\":[null,2],\"name\":\"x\"}},{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"d\"}}]}}";
    const float kernel[] = {3, 0, 0, 0.5f};
    lip_shape shape = {2, {2, 2}};
    struct subject s;
    lip_telemetry t;
    lip_error err = {0};

    begin(&s, json);
    OK(lip_state_load(s.state, &(lip_named){"d/kernel", shape, kernel}, 1, true, NULL, NULL, &err));
    lip_snapshot_put(s.snapshot);
    OK(lip_state_publish(s.state, &s.snapshot, &err));
    OK(lip_telemetry_take(s.snapshot, s.ws, &s.batch, &t, &err));
    ck_assert_double_eq_tol(t.jacobian_min, 0.5, 1e-12);
    ck_assert_double_eq_tol(t.jacobian_median, 1.75, 1e-12);
    ck_assert_double_eq_tol(t.jacobian_max, 3, 1e-12);
    ck_assert(isnan(t.claimed) && t.upper >= 3 && t.upper < 3 + 1e-9);
    ck_assert(isnan(t.mean_radius)); /* label 2 of a model with two classes */
    lip_telemetry_clear(&t);
    end(&s);
}
END_TEST

START_TEST(labels_in_every_form)
{
    static const float index[] = {2, 0}, hot[] = {0, 0, 1, 1, 0, 0}, sides[] = {-1, 1}, half[] = {0.5f, 1}, two[] = {1, 1, 0, 0, 0, 1};
    int64_t label[2];
    lip_error err = {0};

    OK(lip_labels(2, 3, &(lip_shape){1, {2}}, index, label, &err));
    ck_assert(label[0] == 2 && label[1] == 0);
    OK(lip_labels(2, 3, &(lip_shape){2, {2, 3}}, hot, label, &err));
    ck_assert(label[0] == 2 && label[1] == 0);
    OK(lip_labels(2, 1, &(lip_shape){2, {2, 1}}, sides, label, &err));
    ck_assert(label[0] == 0 && label[1] == 1);
    ck_assert_int_eq(lip_labels(2, 3, &(lip_shape){1, {2}}, half, label, &err), LIP_ELABELS);
    ck_assert_str_eq(err.text, "label 0 of 2 is no whole number");
    err = (lip_error){0};
    ck_assert_int_eq(lip_labels(2, 3, &(lip_shape){2, {2, 3}}, two, label, &err), LIP_ELABELS);
    ck_assert_str_eq(err.text, "row 0 of the labels marks 2 classes; wanted exactly one (one-hot)");
    err = (lip_error){0};
    ck_assert_int_eq(lip_labels(2, 3, &(lip_shape){2, {2, 2}}, hot, label, &err), LIP_ESHAPE);
    ck_assert_str_eq(err.text, "labels have shape [2,2]; wanted [2], [2,1] or [2,3]");
}
END_TEST

static int allowed;

static int fail_later(void)
{
    return allowed-- <= 0;
}

START_TEST(every_allocation_may_fail)
{
    struct subject s;
    lip_telemetry t;
    lip_error err;
    lip_err rc;
    int n = 0;

    begin(&s, MLP);
    lip__alloc_hook = fail_later;
    do {
        allowed = n++;
        err = (lip_error){0};
        rc = lip_telemetry_take(s.snapshot, s.ws, &s.batch, &t, &err);
        lip_telemetry_clear(&t);
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
    } while (rc != LIP_OK && n < 5000);
    lip__alloc_hook = NULL;
    ck_assert_int_gt(n, 10);
    ck_assert_int_eq(rc, LIP_OK);
    end(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("telemetry");
    TCase *all = tcase_create("all");

    tcase_add_loop_test(all, equals_a_recomputation, 0, sizeof definitions / sizeof *definitions);
    tcase_add_test(all, a_linear_map_is_its_own_jacobian);
    tcase_add_test(all, labels_in_every_form);
    tcase_add_test(all, every_allocation_may_fail);
    suite_add_tcase(s, all);
    return s;
}

CHECK_MAIN(suite)
