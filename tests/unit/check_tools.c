/* check_tools.c: singular values of layers and models, and the estimate at given points. */
#include <check.h>
#include <math.h>
#include <string.h>

#include <onelip/onelip.h>

#include "check_main.h"
#include "models.h"

#define OK(call) ck_assert_msg((call) == LIP_OK, "%s: %s", #call, err.text)

static lip_error err;

struct served {
    lip_model *model;
    lip_state *state;
    lip_snapshot *snapshot;
};

static struct served serve(const char *json)
{
    struct served s;

    err = (lip_error){0};
    OK(lip_model_read(json, strlen(json), false, &s.model, &err));
    OK(lip_state_new(s.model, 5, &s.state, &err));
    OK(lip_state_publish(s.state, &s.snapshot, &err));
    return s;
}

static void put(struct served *s, const char *name, const float *data)
{
    size_t i = lip_model_find_variable(s->model, name);

    OK(lip_state_load(s->state, &(lip_named){name, lip_model_variable(s->model, i)->shape, data}, 1, true, NULL, NULL, &err));
    lip_snapshot_put(s->snapshot);
    OK(lip_state_publish(s->state, &s->snapshot, &err));
}

static void stop(struct served *s)
{
    lip_snapshot_put(s->snapshot);
    lip_state_free(s->state);
    lip_model_put(s->model);
}

/* Extremes of each layer, NAN for those without. */
START_TEST(every_layer_has_its_values)
{
    static const char json[] =
        "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"},\"name\":\"x\",\"inbound_nodes\":[]},"
        "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"d\"},\"name\":\"d\",\"inbound_nodes\":[[[\"x\",0,0,{}]]]},"
        "{\"class_name\":\"ReLU\",\"config\":{\"name\":\"r\"},\"name\":\"r\",\"inbound_nodes\":[[[\"d\",0,0,{}]]]},"
        "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s\"},\"name\":\"s\",\"inbound_nodes\":[[[\"d\",0,0,{}]]]},"
        "{\"class_name\":\"BatchNormalization\",\"config\":{\"name\":\"b\",\"epsilon\":0.5},\"name\":\"b\",\"inbound_nodes\":[[[\"s\",0,0,{}]]]},"
        "{\"class_name\":\"Add\",\"config\":{\"name\":\"a\"},\"name\":\"a\",\"inbound_nodes\":[[[\"r\",0,0,{}],[\"b\",0,0,{}],[\"d\",0,0,{}]]]},"
        "{\"class_name\":\"Activation\",\"config\":{\"activation\":\"tanh\",\"name\":\"t\"},\"name\":\"t\",\"inbound_nodes\":[[[\"a\",0,0,{}]]]}],"
        "\"input_layers\":[[\"x\",0,0]],\"output_layers\":[[\"t\",0,0]]}}";
    static const double values[][2] = {{2, 3}, {0, 1}, {1, 1}, {0.5, 4}, {3, 3}, {NAN, NAN}};
    struct served s = serve(json);
    lip_layer_sv sv[8];
    size_t n;

    put(&s, "d/kernel", (float[]){0, -3, 2, 0});
    put(&s, "d/bias", (float[]){5, 5});
    put(&s, "b/gamma", (float[]){-1, 2});
    put(&s, "b/moving_variance", (float[]){3.5f, -0.25f});
    OK(lip_compute_model_sv(s.snapshot, sv, &n, &err));
    ck_assert_uint_eq(n, 6);
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(isnan(values[i][0]) ? isnan(sv[i].least) : fabs(sv[i].least - values[i][0]) < 1e-6, "%zu: %g", i, sv[i].least);
        ck_assert_msg(isnan(values[i][1]) ? isnan(sv[i].most) : fabs(sv[i].most - values[i][1]) < 1e-6, "%zu: %g", i, sv[i].most);
    }
    stop(&s);
}
END_TEST

/* A claim of 1 on every layer: values at most 1, and the estimate at points below what is proven. */
START_TEST(estimates_stay_below_what_is_proven)
{
    const char *const models[] = {MLP, CNN, GRAPH};
    struct served s = serve(models[_i]);
    lip_layer_bound layers[32];
    lip_network_bound network;
    lip_random random = {3, 1, 0};
    float x[4 * 64];
    double estimate;
    size_t n;

    lip_random_normal(&random, x, sizeof x / sizeof *x);
    OK(lip_evaluate_lip_const(s.snapshot, 4, x, &estimate, &err));
    OK(lip_bound_network(s.snapshot, NULL, layers, &n, &network, &err));
    ck_assert_double_gt(estimate, 0);
    ck_assert_double_le(estimate, network.upper * (1 + 1e-5)); /* the Jacobian is float32 */
    x[3] = INFINITY;
    ck_assert_int_eq(lip_evaluate_lip_const(s.snapshot, 1, x, &estimate, NULL), LIP_ENONFINITE);
    stop(&s);
}
END_TEST

START_TEST(a_linear_model_has_one_constant)
{
    static const char json[] = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
                               "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"d\"}}]}}";
    struct served s = serve(json);
    const float x[] = {1, 2, -3, 4};
    double estimate;

    put(&s, "d/kernel", (float[]){3, 0, 0, 4, 5, 0});
    OK(lip_evaluate_lip_const(s.snapshot, 2, x, &estimate, &err));
    ck_assert_double_eq_tol(estimate, sqrt(45), 1e-5);
    stop(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tools");
    TCase *t = tcase_create("tools");

    tcase_add_test(t, every_layer_has_its_values);
    tcase_add_loop_test(t, estimates_stay_below_what_is_proven, 0, 3);
    tcase_add_test(t, a_linear_model_has_one_constant);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
