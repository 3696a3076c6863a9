/* check_gradients.c: gradients with respect to inputs against differences, and what is refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

enum { N = 12, WIDEST = 64 };

struct rig {
    lip_model *m;
    lip_state *s;
    lip_snapshot *p;
    lip_workspace *ws;
    float x[4][N * WIDEST], dx[4][N * WIDEST];
    const float *in[4];
    float *out[4];
    double value[N];
};

static void setup(struct rig *r, const char *definition)
{
    lip_random random = {11, 3, 0};
    lip_error err = {0};

    ck_assert_msg(lip_model_read(definition, strlen(definition), false, &r->m, &err) == LIP_OK, "%s", err.text);
    ck_assert_msg(lip_state_new(r->m, 5, &r->s, &err) == LIP_OK, "%s", err.text);
    ck_assert_msg(lip_state_publish(r->s, &r->p, &err) == LIP_OK, "%s", err.text);
    ck_assert_ptr_nonnull(r->ws = lip_workspace_new());
    for (size_t i = 0; i < lip_model_inputs(r->m); i++) {
        lip_random_normal(&random, r->x[i], N * WIDEST);
        r->in[i] = r->x[i];
        r->out[i] = r->dx[i];
    }
}

static void teardown(struct rig *r)
{
    lip_workspace_free(r->ws);
    lip_snapshot_put(r->p);
    lip_state_free(r->s);
    lip_model_put(r->m);
}

static lip_err ask(struct rig *r, const lip_gradient *g, lip_error *err)
{
    return lip_gradients(r->p, g, N, r->in, r->value, r->out, err);
}

static double total(struct rig *r, const lip_gradient *g)
{
    float sink[4][N * WIDEST], *out[4] = {sink[0], sink[1], sink[2], sink[3]};
    double value[N], sum = 0;
    lip_error err = {0};

    ck_assert_msg(lip_gradients(r->p, g, N, r->in, value, out, &err) == LIP_OK, "%s", err.text);
    for (size_t i = 0; i < N; i++)
        sum += value[i];
    return sum;
}

/* Every number of every input moved by h: float32 answers differ by 1e-7, over 2h that is 1e-4; where a kink lies
 * between the two the difference says nothing. */
static void agrees(struct rig *r, const lip_gradient *g, const char *what)
{
    const double h = 1.0 / 1024;
    size_t tried = 0, off = 0;
    lip_error err = {0};

    ck_assert_msg(ask(r, g, &err) == LIP_OK, "%s: %s", what, err.text);
    for (size_t i = 0; i < lip_model_inputs(r->m); i++)
        for (size_t j = 0; j < N * lip_shape_count(lip_model_input_shape(r->m, i)); j += 3) {
            float at = r->x[i][j];
            double up, slope;

            r->x[i][j] = at + (float)h;
            up = total(r, g);
            r->x[i][j] = at - (float)h;
            slope = (up - total(r, g)) / ((double)(at + (float)h) - (double)(at - (float)h));
            r->x[i][j] = at;
            tried++;
            off += fabs(slope - r->dx[i][j]) > 2e-3 * fmax(1, fabs(slope));
        }
    ck_assert_msg(off * 20 <= tried, "%s: %zu of %zu entries disagree", what, off, tried);
}

static const char *const definitions[] = {MLP, CNN, GRAPH, TWINS, SHARED};

START_TEST(margins_outputs_and_products_are_slopes)
{
    struct rig r;
    int64_t label[N];
    float cotangent[N * 3];
    lip_random random = {5, 5, 0};

    setup(&r, definitions[_i]);
    for (size_t i = 0; i < N; i++)
        label[i] = (int64_t)(i % 3);
    lip_random_normal(&random, cotangent, N * 3);
    agrees(&r, &(lip_gradient){.of = LIP_OF_MARGIN}, "margin");
    agrees(&r, &(lip_gradient){.of = LIP_OF_MARGIN, .label = label}, "margin of the true class");
    agrees(&r, &(lip_gradient){.of = LIP_OF_OUTPUT, .index = 2}, "output");
    agrees(&r, &(lip_gradient){.of = LIP_OF_PRODUCT, .cotangent = cotangent}, "product");
    if (_i == 3)
        agrees(&r, &(lip_gradient){.of = LIP_OF_MARGIN, .output = 1}, "an output of one number");
    teardown(&r);
}
END_TEST

START_TEST(a_loss_has_a_slope_too)
{
    static const char one[] =
        "{\"optimizer\":\"sgd\",\"loss\":{\"class_name\":\"MulticlassHKR\",\"config\":{\"alpha\":3}}}";
    static const char two[] =
        "{\"optimizer\":\"sgd\",\"loss\":{\"y\":\"MulticlassKR\",\"z\":\"mse\"},\"loss_weights\":{\"z\":0.5}}";
    const char *json = _i == 3 ? two : one;
    lip_trainer *t = NULL;
    lip_metric metrics[LIP_MAX_METRICS];
    lip_error err = {0};
    struct rig r;
    float y[N], z[N], weight[N];
    size_t n;
    double sum = 0;

    setup(&r, definitions[_i]);
    ck_assert_msg(lip_trainer_new(r.m, json, strlen(json), &t, &err) == LIP_OK, "%s", err.text);
    for (size_t i = 0; i < N; i++) {
        y[i] = (float)(i % 3);
        z[i] = (float)i / N;
        weight[i] = 0.5f + (float)(i % 2);
    }
    lip_label_set labels[] = {{{1, {N}}, y}, {{2, {N, 1}}, z}};
    lip_batch batch = {.n = N, .inputs = r.in, .labels = labels, .sample_weight = weight};
    lip_gradient g = {.of = LIP_OF_LOSS, .loss = t, .batch = &batch};
    agrees(&r, &g, "loss");
    ck_assert_int_eq(ask(&r, &g, NULL), LIP_OK);
    ck_assert_int_eq(lip_evaluate(t, r.p, r.ws, &batch, metrics, &n, &err), LIP_OK);
    for (size_t i = 0; i < N; i++)
        sum += r.value[i];
    ck_assert_double_eq_tol(sum / N, metrics[0].value,
                            1e-5 * fmax(1, fabs(metrics[0].value))); /* their mean is the loss */
    lip_trainer_free(t);
    teardown(&r);
}
END_TEST

/* A margin is a product with its own cotangent, and the sum over all outputs of output gradients times it. */
START_TEST(products_gather_rows_of_the_jacobian)
{
    struct rig r;
    float cotangent[N * 3], sum[N * 6] = {0};

    setup(&r, MLP);
    for (size_t i = 0; i < N * 3; i++)
        cotangent[i] = (float)(i % 7) - 3;
    for (size_t k = 0; k < 3; k++) {
        ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_OUTPUT, .index = k}, NULL), LIP_OK);
        for (size_t i = 0; i < N * 6; i++)
            sum[i] += cotangent[i / 6 * 3 + k] * r.dx[0][i];
    }
    ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_PRODUCT, .cotangent = cotangent}, NULL), LIP_OK);
    for (size_t i = 0; i < N * 6; i++)
        ck_assert_float_eq_tol(r.dx[0][i], sum[i], 2e-6f); /* six float32 roundings of numbers up to 3 */
    teardown(&r);
}
END_TEST

/* Many samples go block by block: each has what it has alone. */
START_TEST(samples_do_not_see_each_other)
{
    enum { MANY = 600 };
    struct rig r;
    float *x = malloc(MANY * 6 * sizeof *x), *dx = malloc(MANY * 6 * sizeof *dx);
    double *value = malloc(MANY * sizeof *value);
    int64_t *label = malloc(MANY * sizeof *label);
    const float *in[] = {x};
    float *out[] = {dx};

    setup(&r, MLP);
    for (size_t i = 0; i < MANY; i++) {
        memcpy(x + i * 6, r.x[0] + i % N * 6, 6 * sizeof *x);
        label[i] = (int64_t)(i % N % 3);
    }
    ck_assert_int_eq(
        lip_gradients(r.p, &(lip_gradient){.of = LIP_OF_MARGIN, .label = label}, MANY, in, value, out, NULL), LIP_OK);
    ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_MARGIN, .label = label}, NULL), LIP_OK);
    for (size_t i = 0; i < MANY; i++) {
        /* BLAS may sum rows of a larger product in another order. */
        ck_assert_double_eq_tol(value[i], r.value[i % N], 1e-6);
        for (size_t j = 0; j < 6; j++)
            ck_assert_float_eq_tol(dx[i * 6 + j], r.dx[0][i % N * 6 + j], 1e-6f);
    }
    teardown(&r);
    free(label);
    free(value);
    free(dx);
    free(x);
}
END_TEST

START_TEST(what_cannot_be_asked_is_refused)
{
    int64_t label[N] = {0};
    lip_error err = {0};
    struct rig r;

    setup(&r, MLP);
    ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_MARGIN, .output = 1}, &err), LIP_ERANGE);
    ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_OUTPUT, .index = 3}, &err), LIP_ERANGE);
    ck_assert_ptr_nonnull(strstr(err.text, "output is 1"));
    label[4] = 3;
    ck_assert_int_eq(ask(&r, &(lip_gradient){.of = LIP_OF_MARGIN, .label = label}, &err), LIP_ERANGE);
    ck_assert_int_eq(lip_gradients(r.p, &(lip_gradient){.of = LIP_OF_MARGIN}, 0, r.in, r.value, r.out, &err), LIP_OK);
    teardown(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gradients");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, margins_outputs_and_products_are_slopes, 0, 5);
    tcase_add_loop_test(core, a_loss_has_a_slope_too, 0, 5);
    tcase_add_test(core, products_gather_rows_of_the_jacobian);
    tcase_add_test(core, samples_do_not_see_each_other);
    tcase_add_test(core, what_cannot_be_asked_is_refused);
    tcase_set_timeout(core, 60);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
