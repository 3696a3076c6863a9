/* check_model.c: models, states and snapshots keep their promises. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

static const char *const definitions[] = {MLP, CNN, GRAPH, SHARED};

static lip_model *read_model(const char *json)
{
    lip_model *m = NULL;
    lip_error err = {0};

    ck_assert_msg(lip_model_read(json, strlen(json), false, &m, &err) == LIP_OK, "%s at %s", err.text, err.pointer);
    return m;
}

static lip_state *new_state(const lip_model *m)
{
    lip_state *s = NULL;
    lip_error err = {0};

    ck_assert_msg(lip_state_new(m, 7, &s, &err) == LIP_OK, "%s", err.text);
    return s;
}

static float *noise(uint64_t stream, size_t n)
{
    lip_random r = {11, stream, 0};
    float *x = calloc(n, sizeof *x);

    lip_random_normal(&r, x, n);
    return x;
}

static float *predict(const lip_state *s, size_t n, const float *x)
{
    const lip_model *m = lip_state_model(s);
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    float *y = calloc(n * lip_shape_count(lip_model_output_shape(m, 0)), sizeof *y);

    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, n, x, y, NULL), LIP_OK);
    lip_workspace_free(ws);
    lip_snapshot_put(p);
    return y;
}

static double largest(const float *a, const float *b, size_t n)
{
    double worst = 0, size = 1e-30;

    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return worst / size;
}

/* Moves the kernels away from where the initializers put them, so that nothing is orthogonal by birth. */
static void disturb(lip_state *s)
{
    const lip_model *m = lip_state_model(s);

    for (size_t v = 0; v < lip_model_variables(m); v++) {
        const lip_variable *var = lip_model_variable(m, v);
        if (var->role != LIP_KERNEL && var->role != LIP_BIAS)
            continue;
        float *x = noise(100 + v, lip_shape_count(&var->shape));
        lip_named tensor = {var->name, var->shape, x};
        ck_assert_int_eq(lip_state_load(s, &tensor, 1, true, NULL, NULL, NULL), LIP_OK);
        free(x);
    }
}

START_TEST(definition_comes_back_as_itself)
{
    lip_model *m = read_model(definitions[_i]);

    for (int legacy = 0; legacy < 2; legacy++) {
        char *first = lip_model_definition(m, legacy);
        lip_model *again = read_model(first);
        char *second = lip_model_definition(again, legacy);
        ck_assert_str_eq(first, second);
        lip_free(second);
        lip_free(first);
        lip_model_put(again);
    }
    lip_model_put(m);
}
END_TEST

START_TEST(both_dialects_are_the_same_model)
{
    lip_model *m = read_model(definitions[_i]);
    char *legacy = lip_model_definition(m, true), *v3 = lip_model_definition(m, false);
    lip_model *a = read_model(legacy), *b = read_model(v3);
    char *from_legacy = lip_model_definition(a, false), *from_v3 = lip_model_definition(b, false);

    ck_assert_str_eq(from_legacy, from_v3);
    lip_free(from_v3);
    lip_free(from_legacy);
    lip_model_put(b);
    lip_model_put(a);
    lip_free(v3);
    lip_free(legacy);
    lip_model_put(m);
}
END_TEST

START_TEST(condense_changes_no_output)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m);
    size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0)), n;
    float *x = noise(1, 16 * in);
    lip_change changes[16];

    disturb(s);
    float *before = predict(s, 16, x);
    ck_assert_int_eq(lip_state_condense(s, changes, &n, NULL), LIP_OK);
    float *after = predict(s, 16, x);
    ck_assert_double_le(largest(after, before, 16 * out), 1e-6);
    ck_assert_uint_gt(n, 0);
    ck_assert_double_gt(changes[0].distance, 1e-3); /* the kernels did move */
    for (size_t v = 0; v < lip_model_variables(m); v++) {
        const lip_variable *var = lip_model_variable(m, v);
        if (var->role != LIP_WBAR)
            continue;
        char kernel[256];
        snprintf(kernel, sizeof kernel, "%.*skernel", (int)(strrchr(var->name, '/') + 1 - var->name), var->name);
        size_t k = lip_model_find_variable(m, kernel);
        ck_assert_mem_eq(lip_state_data(s, k), lip_state_data(s, v), lip_shape_count(&var->shape) * sizeof(float));
    }
    free(after);
    free(before);
    free(x);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(refresh_of_computed_kernels_changes_nothing)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m);
    lip_change changes[16];
    size_t n;

    disturb(s);
    ck_assert_int_eq(lip_state_refresh(s, changes, &n, NULL), LIP_OK);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_eq(changes[i].distance, 0);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(vanilla_export_computes_the_same)
{
    lip_model *m = read_model(definitions[_i]), *vanilla = NULL;
    lip_state *s = new_state(m), *plain = NULL;
    lip_snapshot *p = NULL;
    size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0));
    float *x = noise(2, 9 * in);

    disturb(s);
    float *want = predict(s, 9, x);
    ck_assert_int_eq(lip_model_vanilla(m, &vanilla, NULL), LIP_OK);
    char *text = lip_model_definition(vanilla, false);
    ck_assert_ptr_null(strstr(text, "Spectral"));
    ck_assert_ptr_null(strstr(text, "Frobenius"));
    lip_model *again = read_model(text);
    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_snapshot_vanilla(p, again, &plain, NULL), LIP_OK);
    float *got = predict(plain, 9, x);
    ck_assert_mem_eq(got, want, 9 * out * sizeof *got);
    free(got);
    free(want);
    free(x);
    lip_free(text);
    lip_snapshot_put(p);
    lip_state_free(plain);
    lip_state_free(s);
    lip_model_put(again);
    lip_model_put(vanilla);
    lip_model_put(m);
}
END_TEST

START_TEST(saved_weights_come_back_bit_for_bit)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m), *t = new_state(m);
    lip_safetensors *file = NULL;
    size_t size;

    disturb(s);
    void *bytes = lip_state_save(s, &size);
    ck_assert_int_eq(lip_safetensors_read(bytes, size, &file, NULL), LIP_OK);
    lip_model *embedded = read_model(lip_safetensors_metadata(file, "definition"));
    lip_model_put(embedded);
    ck_assert_int_eq(lip_state_load(t, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, NULL),
                     LIP_OK);
    for (size_t v = 0; v < lip_model_variables(m); v++)
        ck_assert_mem_eq(lip_state_data(s, v), lip_state_data(t, v),
                         lip_shape_count(&lip_model_variable(m, v)->shape) * sizeof(float));
    for (size_t i = 0; i < lip_model_layers(m); i++)
        if (lip_layer_has_effective(lip_model_layer(m, i))) {
            ck_assert_int_eq(lip_state_effective(s, i), LIP_COMPUTED);
            ck_assert_int_eq(lip_state_effective(t, i), LIP_STORED);
        }
    lip_safetensors_free(file);
    lip_free(bytes);
    lip_state_free(t);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

/* What an initializer or a normalizer refuses carries the variable's name, once. */
START_TEST(a_state_that_cannot_begin_names_the_variable)
{
    static const struct {
        const char *layer, *text;
        lip_err code;
    } one[] = {
        {"{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c\",\"filters\":2,\"kernel_size\":1,\"kernel_initializer\":\"identity\"}}",
         "c/kernel: Identity: the variable has 4 axes, needs 2", LIP_EDEFINITION},
        {"{\"class_name\":\"FrobeniusDense\",\"config\":{\"name\":\"f\",\"units\":2,\"kernel_initializer\":\"zeros\"}}",
         "f/kernel: column 0 is zero, so it has no direction to keep", LIP_EZERO},
        {"{\"class_name\":\"SpectralDense\",\"config\":{\"name\":\"s\",\"units\":2,\"kernel_initializer\":\"zeros\"}}",
         "s/kernel is zero, and a zero kernel cannot be normalised", LIP_EZERO},
    };

    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        char json[400];
        lip_error err = {0};
        lip_state *s = NULL;
        snprintf(json, sizeof json, "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\",\"config\":"
                 "{\"batch_input_shape\":[null,3,3,2]}},%s]}}", one[i].layer);
        lip_model *m = read_model(json);
        ck_assert_int_eq(lip_state_new(m, 1, &s, &err), one[i].code);
        ck_assert_str_eq(err.text, one[i].text);
        ck_assert_ptr_null(s);
        lip_model_put(m);
    }
}
END_TEST

START_TEST(bad_weights_change_nothing)
{
    lip_model *m = read_model(MLP);
    lip_state *s = new_state(m);
    size_t k = lip_model_find_variable(m, "d1/kernel");
    const lip_shape shape = lip_model_variable(m, k)->shape, wrong = {2, {8, 6}};
    float x[48] = {0}, before[48];
    lip_error err = {0};
    lip_named zero = {"d1/kernel", shape, x}, turned = {"d1/kernel", wrong, x}, stranger = {"d9/kernel", shape, x};

    memcpy(before, lip_state_data(s, k), sizeof before);
    ck_assert_int_eq(lip_state_load(s, &zero, 1, true, NULL, NULL, &err), LIP_EZERO);
    ck_assert_ptr_nonnull(strstr(err.text, "d1/kernel"));
    ck_assert_int_eq(lip_state_load(s, &turned, 1, true, NULL, NULL, NULL), LIP_EWEIGHTS);
    ck_assert_int_eq(lip_state_load(s, &stranger, 1, true, NULL, NULL, NULL), LIP_EWEIGHTS);
    ck_assert_int_eq(lip_state_load(s, &zero, 1, false, NULL, NULL, NULL), LIP_EWEIGHTS); /* others are missing */
    x[7] = NAN;
    ck_assert_int_eq(lip_state_load(s, &zero, 1, true, NULL, NULL, &err), LIP_ENONFINITE);
    ck_assert_mem_eq(lip_state_data(s, k), before, sizeof before);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(outputs_do_not_depend_on_the_batch_around_them)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m);
    size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0));
    float *x = noise(3, 300 * in), *all = predict(s, 300, x);

    for (size_t i = 0; i < 300; i += 37) {
        float *one = predict(s, 1, x + i * in);
        /* Another kernel of BLAS, another order of summation: a few units in the last place. */
        ck_assert_double_le(largest(one, all + i * out, out), 2e-6);
        free(one);
    }
    free(all);
    free(x);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(claim_holds_on_random_pairs)
{
    lip_model *m = read_model(MLP);
    lip_state *s = new_state(m);

    disturb(s);
    /* The head's claim is per output (disjoint neurons). */
    float *x = noise(4, 400 * 6), *y = predict(s, 400, x);
    for (size_t i = 0; i + 1 < 400; i++) {
        double dx = 0;
        for (size_t j = 0; j < 6; j++)
            dx += pow((double)x[i * 6 + j] - x[(i + 1) * 6 + j], 2);
        for (size_t j = 0; j < 3; j++)
            ck_assert_double_le(fabs((double)y[i * 3 + j] - y[(i + 1) * 3 + j]), sqrt(dx) * (1 + 1e-5));
    }
    free(y);
    free(x);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(proven_bound_holds_on_random_pairs)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m);
    lip_snapshot *p = NULL;
    lip_layer_bound layers[16];
    lip_network_bound network;
    size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0)), n;

    disturb(s);
    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_bound_network(p, &(lip_bound_options){0}, layers, &n, &network, NULL), LIP_OK);
    ck_assert(isfinite(network.upper));
    ck_assert_double_le(network.lower, network.upper);
    float *x = noise(4, 400 * in), *y = predict(s, 400, x);
    double largest_ratio = 0;
    for (size_t i = 0; i + 1 < 400; i++) {
        double dx = 0, dy = 0;
        for (size_t j = 0; j < in; j++)
            dx += pow((double)x[i * in + j] - x[(i + 1) * in + j], 2);
        for (size_t j = 0; j < out; j++)
            dy += pow((double)y[i * out + j] - y[(i + 1) * out + j], 2);
        largest_ratio = fmax(largest_ratio, sqrt(dy / dx));
    }
    ck_assert_double_le(largest_ratio, network.upper * (1 + 1e-5)); /* float32 outputs */
    ck_assert_double_gt(largest_ratio, network.upper * 0.02);      /* and the bound is of this network */
    free(y);
    free(x);
    lip_snapshot_put(p);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(k_is_shared_by_roots)
{
    lip_model *m = read_model(
        "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":8.0,\"layers\":["
        "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":4,\"batch_input_shape\":[null,4],\"k_coef_lip\":3.0}},"
        "{\"class_name\":\"GroupSort2\",\"config\":{}},{\"class_name\":\"SpectralDense\",\"config\":{\"units\":4}}]}}");

    for (size_t i = 0; i < 3; i++)
        ck_assert_double_eq_tol(lip_layer_k(lip_model_layer(m, i)), 2, 1e-12);
    ck_assert_double_eq_tol(lip_model_claimed(m), 8, 1e-9);
    ck_assert_str_eq(lip_layer_name(lip_model_layer(m, 0)), "spectral_dense");
    ck_assert_str_eq(lip_layer_name(lip_model_layer(m, 2)), "spectral_dense_1");
    ck_assert_str_eq(lip_model_input_name(m, 0), "spectral_dense_input");
    lip_model_put(m);
}
END_TEST

START_TEST(nested_models_share_their_own_k)
{
    lip_model *m = read_model(GRAPH);
    const lip_layer *sort = lip_model_find_layer(m, "tower/sort"), *d = lip_model_find_layer(m, "tower/d");

    ck_assert_double_eq_tol(lip_layer_k(sort), 2, 1e-12);
    ck_assert_double_eq_tol(lip_layer_k(d), 2, 1e-12);
    ck_assert_double_eq(lip_layer_k(lip_model_find_layer(m, "d1")), 1);
    ck_assert_uint_lt(lip_model_find_variable(m, "tower/d/kernel"), lip_model_variables(m));
    ck_assert_ptr_null(lip_model_find_layer(m, "tower/in"));
    ck_assert_uint_eq(lip_model_layers(m), 7);
    lip_model_put(m);
}
END_TEST

#define GRAPH_OF(layers, in, out) \
    "{\"class_name\":\"Functional\",\"config\":{\"layers\":[" layers "],\"input_layers\":" in ",\"output_layers\":" out "}}"
#define A "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4],\"name\":\"a\"},\"inbound_nodes\":[]}"
#define DENSE(name, nodes) ",{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"name\":\"" name "\"},\"inbound_nodes\":" nodes "}"

/* What a layer's two uses ask for is added: as if there were two layers with the same weights. */
START_TEST(shared_layers_learn_from_both_uses)
{
    const char *once = GRAPH_OF(A DENSE("d", "[[[\"a\",0,0]],[[\"d\",0,0]]]"), "[[\"a\",0,0]]", "[[\"d\",1,0]]");
    const char *twice = GRAPH_OF(A DENSE("d", "[[[\"a\",0,0]]]") DENSE("e", "[[[\"d\",0,0]]]"), "[[\"a\",0,0]]", "[[\"e\",0,0]]");
    const char *job = "{\"optimizer\":{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":0.25}},\"loss\":\"MultiMargin\"}";
    const float x[8] = {1, -2, 0.5f, 3, -1, 1, 2, 0.25f}, y[2] = {1, 3};
    lip_model *m[2] = {read_model(once), read_model(twice)};
    lip_state *s[2] = {new_state(m[0]), NULL};
    float before[20], moved[2][20] = {{0}};

    lip_named both[4] = {{"d/kernel", {2, {4, 4}}, lip_state_data(s[0], 0)}, {"d/bias", {1, {4}}, lip_state_data(s[0], 1)},
                         {"e/kernel", {2, {4, 4}}, lip_state_data(s[0], 0)}, {"e/bias", {1, {4}}, lip_state_data(s[0], 1)}};
    ck_assert_int_eq(lip_state_new(m[1], 1, &s[1], NULL), LIP_OK);
    ck_assert_int_eq(lip_state_load(s[1], both, 4, false, NULL, NULL, NULL), LIP_OK);
    memcpy(before, lip_state_data(s[0], 0), 16 * sizeof *before);
    memcpy(before + 16, lip_state_data(s[0], 1), 4 * sizeof *before);
    ck_assert_uint_eq(lip_model_variables(m[0]), 2);
    for (int i = 0; i < 2; i++) {
        lip_trainer *t;
        lip_step_report report;
        lip_batch b = {.n = 2, .x = x, .y = y, .y_shape = {1, {2}}};
        ck_assert_int_eq(lip_trainer_new(m[i], job, strlen(job), &t, NULL), LIP_OK);
        ck_assert_int_eq(lip_train_step(t, s[i], &b, NULL, &report, NULL), LIP_OK);
        for (size_t v = 0; v < lip_model_variables(m[i]); v++)
            for (size_t j = 0; j < (v % 2 ? 4 : 16); j++)
                moved[i][v % 2 * 16 + j] += lip_state_data(s[i], v)[j] - before[v % 2 * 16 + j];
        lip_trainer_free(t);
        lip_state_free(s[i]);
        lip_model_put(m[i]);
    }
    for (size_t j = 0; j < 20; j++)
        ck_assert_double_eq_tol(moved[0][j], moved[1][j], 1e-6);
    ck_assert_double_gt(fabs((double)moved[0][0]) + fabs((double)moved[0][5]) + fabs((double)moved[0][16]), 1e-3);
}
END_TEST

START_TEST(branches_meet_as_arithmetic_says)
{
    /* y = (x W1 + b1) - x, then beside x: two outputs of a graph without anything to learn in between. */
    const char *json =
        "{\"class_name\":\"Functional\",\"config\":{\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"a\"},\"inbound_nodes\":[]},"
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"b\"},\"inbound_nodes\":[]},"
        "{\"class_name\":\"Subtract\",\"config\":{\"name\":\"minus\"},\"inbound_nodes\":[[[\"a\",0,0],[\"b\",0,0]]]},"
        "{\"class_name\":\"Multiply\",\"config\":{\"name\":\"times\"},\"inbound_nodes\":[[[\"minus\",0,0],[\"b\",0,0]]]},"
        "{\"class_name\":\"Average\",\"config\":{\"name\":\"mean\"},\"inbound_nodes\":[[[\"a\",0,0],[\"b\",0,0],"
        "[\"times\",0,0]]]}],\"input_layers\":[[\"a\",0,0],[\"b\",0,0]],\"output_layers\":[[\"times\",0,0],[\"mean\",0,0]]}}";
    const float a[4] = {1, 2, 3, 4}, b[4] = {5, -1, 0.5f, 2};
    const float *x[2] = {a, b};
    float times[4], mean[4], *y[2] = {times, mean};
    lip_model *m = read_model(json);
    lip_state *s = new_state(m);
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();

    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, 2, a, times, NULL), LIP_ESHAPE); /* two inputs */
    ck_assert_int_eq(lip_predict_graph(p, ws, 2, x, y, NULL), LIP_OK);
    for (int i = 0; i < 4; i++) {
        ck_assert_float_eq(times[i], (a[i] - b[i]) * b[i]);
        ck_assert_float_eq_tol(mean[i], (a[i] + b[i] + times[i]) / 3, 1e-6f);
    }
    lip_workspace_free(ws);
    lip_snapshot_put(p);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

static int countdown; /* allocations that still succeed; < 0: all do */
static int allocations;

static int hook(void)
{
    allocations++;
    return countdown >= 0 && countdown-- == 0;
}

START_TEST(steady_state_allocates_nothing)
{
    lip_model *m = read_model(definitions[_i]);
    lip_state *s = new_state(m);
    lip_snapshot *p = NULL;
    lip_workspace *ws = lip_workspace_new();
    float *x = noise(5, 64 * 48), y[64 * 3];

    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, 64, x, y, NULL), LIP_OK);
    countdown = -1;
    allocations = 0;
    lip__alloc_hook = hook;
    for (size_t n = 1; n <= 64; n *= 4)
        ck_assert_int_eq(lip_predict(p, ws, n, x, y, NULL), LIP_OK);
    lip__alloc_hook = NULL;
    ck_assert_int_eq(allocations, 0);
    free(x);
    lip_workspace_free(ws);
    lip_snapshot_put(p);
    lip_state_free(s);
    lip_model_put(m);
}
END_TEST

START_TEST(each_failing_allocation_is_an_error)
{
    lip_err rc = LIP_ENOMEM;

    lip__alloc_hook = hook;
    for (int fail = 0; rc != LIP_OK; fail++) {
        lip_model *m = NULL;
        lip_state *s = NULL;
        lip_snapshot *p = NULL;
        lip_change changes[16];
        size_t n;
        ck_assert_int_lt(fail, 5000);
        countdown = fail;
        rc = lip_model_read(definitions[_i], strlen(definitions[_i]), false, &m, NULL);
        if (rc == LIP_OK)
            rc = lip_state_new(m, 1, &s, NULL);
        if (rc == LIP_OK)
            rc = lip_state_publish(s, &p, NULL);
        if (rc == LIP_OK)
            rc = lip_state_condense(s, changes, &n, NULL);
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
        lip_snapshot_put(p);
        lip_state_free(s);
        lip_model_put(m);
    }
    lip__alloc_hook = NULL;
}
END_TEST

#define LAYERS(text) "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[" text "]}}"
#define INPUT "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4],\"name\":\"x\"}},"

static const struct {
    const char *json;
    lip_err code;
    const char *pointer, *text;
} bad[] = {
    {GRAPH_OF(A DENSE("d", "[[[\"e\",0,0]]]"), "[[\"a\",0,0]]", "[[\"d\",0,0]]"), LIP_EDEFINITION,
     "/config/layers/1/inbound_nodes", "\"e\""},
    {GRAPH_OF(A DENSE("d", "[[[\"e\",0,0]]]") DENSE("e", "[[[\"d\",0,0]]]"), "[[\"a\",0,0]]", "[[\"d\",0,0]]"),
     LIP_EDEFINITION, "/config", "cycle"},
    {GRAPH_OF(A DENSE("d", "[[[\"a\",0,0],[\"a\",0,0]]]"), "[[\"a\",0,0]]", "[[\"d\",0,0]]"), LIP_EDEFINITION,
     "/config/layers/1/config", "takes one"},
    {GRAPH_OF(A DENSE("d", "[[[\"a\",0,0]]]"), "[]", "[[\"d\",0,0]]"), LIP_EDEFINITION, "/config/input_layers", "input_layers"},
    {GRAPH_OF(A DENSE("d", "[[[\"a\",0,0]]]"), "[[\"a\",0,0]]", "[[\"d\",1,0]]"), LIP_EDEFINITION,
     "/config/output_layers", "\"d\" is used 1 time, and has no node 1"},
    {GRAPH_OF(A DENSE("d", "[[[\"a\",0,0]],[[\"r\",0,0]]]") ",{\"class_name\":\"Reshape\",\"config\":{\"target_shape\":[2,2],"
              "\"name\":\"r\"},\"inbound_nodes\":[[[\"a\",0,0]]]}", "[[\"a\",0,0]]", "[[\"d\",0,0]]"), LIP_EUNSUPPORTED,
     "/config/layers/1/config", "used on shapes [4] and [2,2]"},
    {GRAPH_OF(A DENSE("d", "[[[\"a\",0,0,{\"training\":true}]]]"), "[[\"a\",0,0]]", "[[\"d\",0,0]]"), LIP_EUNSUPPORTED,
     "/config/layers/1/inbound_nodes", "argument \"training\""},
    {GRAPH_OF(A ",{\"class_name\":\"TFOpLambda\",\"config\":{\"function\":\"math.multiply\",\"name\":\"t\"},\"inbound_nodes\":"
              "[[\"a\",0,0,{}]]}", "[[\"a\",0,0]]", "[[\"t\",0,0]]"), LIP_EDEFINITION, "/config/layers/1/config", "has no y"},
    {"{", LIP_EJSON, "", "line 1"},
    {"[]", LIP_EDEFINITION, "", "an array"},
    {"{\"class_name\":\"Functional\",\"config\":{}}", LIP_EDEFINITION, "/config/layers", "missing"},
    {"{\"class_name\":\"Tree\",\"config\":{}}", LIP_ECLASS, "/class_name", "Tree"},
    {"{\"class_name\":\"Sequential\",\"config\":{}}", LIP_EDEFINITION, "/config/layers", "missing"},
    {"{\"class_name\":\"Sequential\",\"config\":{\"layers\":[],\"depth\":3}}", LIP_EOPTION, "/config/depth", "depth"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDence\",\"config\":{\"units\":2}}"), LIP_ECLASS, "/config/layers/1/class_name",
     "SpectralDense"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDense\",\"config\":{\"unit\":2}}"), LIP_EOPTION, "/config/layers/1/config/unit",
     "units"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":-2}}"), LIP_EDEFINITION,
     "/config/layers/1/config/units", "-2"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":2,\"beta_bjorck\":0.7}}"), LIP_EDEFINITION,
     "/config/layers/1/config/beta_bjorck", "0.7"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":2,\"activation\":\"swich\"}}"), LIP_EOPTION,
     "/config/layers/1/config/activation", "relu"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":2,\"kernel_initializer\":\"he\"}}"), LIP_EOPTION,
     "/config/layers/1/config/kernel_initializer", "SpectralInitializer"},
    {LAYERS("{\"class_name\":\"SpectralDense\",\"config\":{\"units\":2}}"), LIP_EDEFINITION, "/config/layers/0", "input shape"},
    {LAYERS(INPUT "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":2,\"kernel_size\":3}}"), LIP_ESHAPE,
     "/config/layers/1/config", "[4]"},
    {LAYERS(INPUT "{\"class_name\":\"GroupSort\",\"config\":{\"n\":3}}"), LIP_ESHAPE, "/config/layers/1/config", "3"},
    {LAYERS(INPUT "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"x\"}}"), LIP_EDEFINITION,
     "/config/layers/1/config/name", "two layers"},
    {LAYERS("{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,null],\"name\":\"x\"}},"
            "{\"class_name\":\"Dense\",\"config\":{\"units\":2}}"), LIP_EDEFINITION,
     "/config/layers/0/config/batch_input_shape/1", "size 1"},
    {"{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":-1,\"layers\":[" INPUT
     "{\"class_name\":\"Dense\",\"config\":{\"units\":2}}]}}", LIP_EDEFINITION, "/config/k_coef_lip", "-1"},
};

START_TEST(bad_definitions_say_where_and_what)
{
    lip_model *m = NULL;
    lip_error err = {0};

    ck_assert_msg(lip_model_read(bad[_i].json, strlen(bad[_i].json), false, &m, &err) == bad[_i].code, "%s: %s at %s",
                  lip_err_name(err.code), err.text, err.pointer);
    ck_assert_str_eq(err.pointer, bad[_i].pointer);
    ck_assert_msg(strstr(err.text, bad[_i].text) != NULL, "%s", err.text);
    ck_assert_ptr_null(m);
}
END_TEST

START_TEST(strict_refuses_what_only_warns)
{
    const char *json = LAYERS(INPUT "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"plain\"}}");
    lip_model *m = read_model(json);
    lip_error err = {0};

    ck_assert_uint_eq(lip_model_warnings(m), 1);
    ck_assert_ptr_nonnull(strstr(lip_model_warning(m, 0), "plain"));
    ck_assert(isnan(lip_model_claimed(m)));
    lip_model_put(m);
    m = NULL;
    ck_assert_int_eq(lip_model_read(json, strlen(json), true, &m, &err), LIP_EDEFINITION);
    ck_assert_ptr_null(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    int all = sizeof definitions / sizeof *definitions;

    tcase_add_loop_test(t, definition_comes_back_as_itself, 0, all);
    tcase_add_loop_test(t, both_dialects_are_the_same_model, 0, all);
    tcase_add_loop_test(t, condense_changes_no_output, 0, all);
    tcase_add_loop_test(t, refresh_of_computed_kernels_changes_nothing, 0, all);
    tcase_add_loop_test(t, vanilla_export_computes_the_same, 0, all);
    tcase_add_loop_test(t, saved_weights_come_back_bit_for_bit, 0, all);
    tcase_add_test(t, a_state_that_cannot_begin_names_the_variable);
    tcase_add_test(t, bad_weights_change_nothing);
    tcase_add_loop_test(t, outputs_do_not_depend_on_the_batch_around_them, 0, all);
    tcase_add_test(t, claim_holds_on_random_pairs);
    tcase_add_loop_test(t, proven_bound_holds_on_random_pairs, 0, all);
    tcase_add_test(t, k_is_shared_by_roots);
    tcase_add_test(t, nested_models_share_their_own_k);
    tcase_add_test(t, shared_layers_learn_from_both_uses);
    tcase_add_test(t, branches_meet_as_arithmetic_says);
    tcase_add_loop_test(t, steady_state_allocates_nothing, 0, all);
    tcase_add_loop_test(t, each_failing_allocation_is_an_error, 1, all);
    tcase_add_loop_test(t, bad_definitions_say_where_and_what, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, strict_refuses_what_only_warns);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
