/* check_transfer.c: what another arithmetic loses, against that arithmetic: a small network computed number by number in it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "check_main.h"

#define OK(call) ck_assert_msg((call) == LIP_OK, "%s: %s", #call, err.text)

enum { H = 6, W = 5, FILTERS = 4, FLAT = 3 * 2 * FILTERS, HIDDEN = 16, CLASSES = 3, IN = H * W };

static const char NET[] = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
                          "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6,5,1],\"name\":\"x\"}},"
                          "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":4,\"kernel_size\":3,\"padding\":\"same\","
                          "\"activation\":\"relu\",\"name\":\"c\"}},"
                          "{\"class_name\":\"MaxPooling2D\",\"config\":{\"pool_size\":2,\"name\":\"p\"}},"
                          "{\"class_name\":\"Flatten\",\"config\":{\"name\":\"f\"}},"
                          "{\"class_name\":\"Dense\",\"config\":{\"units\":16,\"activation\":\"relu\",\"name\":\"d\"}},"
                          "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}";

static lip_random noise;

/* Formats by their significant bits and the exponent of their smallest number. */
static const struct {
    lip_format format;
    int bits, least;
    bool stores; /* results, too */
} kinds[] = {{LIP_FP32, 24, -149, false}, {LIP_TF32, 11, -136, false}, {LIP_BF16, 8, -133, true}, {LIP_FP16, 11, -24, true}};

static float rounded(double x, int kind)
{
    int e;

    frexp(x, &e);
    double unit = ldexp(1, e - kinds[kind].bits > kinds[kind].least ? e - kinds[kind].bits : kinds[kind].least);
    return (float)(rint(x / unit) * unit);
}

static float stored(float x, int kind)
{
    return kinds[kind].stores ? rounded(x, kind) : x;
}

/* What a sum of products is there: rounded operands, float32 in an order of its own for every sum. */
static float sum(const float *a, const float *b, size_t n, float bias, int kind)
{
    size_t start = (size_t)(lip_random_u64(&noise) % n);
    float total = 0;

    for (size_t i = 0; i < n; i++) {
        size_t at = (start + i) % n;
        total += rounded(a[at], kind) * rounded(b[at], kind);
    }
    return stored(total + rounded(bias, kind), kind);
}

static const float *tensor(const lip_state *state, const char *name)
{
    return lip_state_data(state, lip_model_find_variable(lip_state_model(state), name));
}

static void dense(const lip_state *state, const char *kernel, const char *bias, size_t m, size_t n, const float *x, float *y, int kind)
{
    const float *w = tensor(state, kernel), *b = tensor(state, bias);
    float column[64];

    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++)
            column[i] = w[i * n + j];
        y[j] = sum(x, column, m, b[j], kind);
    }
}

static void emulate(const lip_state *state, const float *image, float *y, int kind)
{
    const float *w = tensor(state, "c/kernel"), *b = tensor(state, "c/bias");
    float x[IN], c[H][W][FILTERS], flat[FLAT], d[HIDDEN], patch[9], taps[9];

    for (size_t i = 0; i < IN; i++)
        x[i] = stored(image[i], kind);
    for (int i = 0; i < H; i++)
        for (int j = 0; j < W; j++)
            for (int f = 0; f < FILTERS; f++) {
                for (int k = 0; k < 9; k++) {
                    int r = i + k / 3 - 1, s = j + k % 3 - 1;
                    patch[k] = r < 0 || r >= H || s < 0 || s >= W ? 0 : x[r * W + s];
                    taps[k] = w[k * FILTERS + f];
                }
                c[i][j][f] = fmaxf(0, sum(patch, taps, 9, b[f], kind));
            }
    for (int i = 0; i < FLAT; i++) {
        int r = i / FILTERS / 2 * 2, s = i / FILTERS % 2 * 2, f = i % FILTERS;
        flat[i] = fmaxf(fmaxf(c[r][s][f], c[r][s + 1][f]), fmaxf(c[r + 1][s][f], c[r + 1][s + 1][f]));
    }
    dense(state, "d/kernel", "d/bias", FLAT, HIDDEN, flat, d, kind);
    for (int i = 0; i < HIDDEN; i++)
        d[i] = fmaxf(0, d[i]);
    dense(state, "y/kernel", "y/bias", HIDDEN, CLASSES, d, y, kind);
}

static double norm_of(const float *x, size_t n)
{
    double all = 0;

    for (size_t i = 0; i < n; i++)
        all += (double)x[i] * x[i];
    return sqrt(all);
}

/* A network with biases, its weights times `scale`. */
static void open_net(uint64_t seed, float scale, lip_state **state, lip_snapshot **snapshot)
{
    lip_model *m;
    lip_error err = {0};
    float biases[FILTERS + HIDDEN + CLASSES], kernel[HIDDEN * CLASSES];

    noise = (lip_random){.seed = seed, .stream = 77};
    OK(lip_model_read(NET, strlen(NET), false, &m, &err));
    OK(lip_state_new(m, seed, state, &err));
    lip_random_normal(&noise, biases, FILTERS + HIDDEN + CLASSES);
    for (int i = 0; i < HIDDEN * CLASSES; i++)
        kernel[i] = tensor(*state, "y/kernel")[i] * scale;
    const lip_named some[] = {{"c/bias", {1, {FILTERS}}, biases},
                              {"d/bias", {1, {HIDDEN}}, biases + FILTERS},
                              {"y/bias", {1, {CLASSES}}, biases + FILTERS + HIDDEN},
                              {"y/kernel", {2, {HIDDEN, CLASSES}}, kernel}};
    OK(lip_state_load(*state, some, 4, true, NULL, NULL, &err));
    OK(lip_state_publish(*state, snapshot, &err));
    lip_model_put(m);
}

/* Weights, inputs and results of 200 networks' worth of arithmetic stay inside; the bound is not far from what happens. */
START_TEST(the_deviation_holds)
{
    double nearest = INFINITY;
    lip_error err = {0};

    for (uint64_t seed = 0; seed < 20; seed++) {
        lip_state *state;
        lip_snapshot *snapshot;
        lip_certifier *exact;
        double deviation, norm, y[CLASSES], error[CLASSES], worst = 0;
        float x[IN], got[CLASSES];

        open_net(seed, 1, &state, &snapshot);
        OK(lip_certifier_new(snapshot, NULL, &exact, &err));
        norm = ldexp(1, (int)(seed % 9) - 4);
        OK(lip_bound_transfer(snapshot, kinds[_i].format, norm, &deviation, &err));
        ck_assert(isfinite(deviation) && deviation > 0);
        for (int i = 0; i < 50; i++) {
            double apart = 0, off = 0, size;

            lip_random_normal(&noise, x, IN);
            size = norm_of(x, IN) * (1 + 1e-6) / norm;
            for (int k = 0; k < IN; k++)
                x[k] = (float)(x[k] / size);
            OK(lip_certifier_value(exact, 1, x, y, error, &err));
            emulate(state, x, got, _i);
            for (int k = 0; k < CLASSES; k++) {
                apart += pow(got[k] - y[k], 2);
                off += error[k] * error[k];
            }
            ck_assert_double_le(sqrt(apart) - sqrt(off), deviation);
            worst = fmax(worst, sqrt(apart));
        }
        nearest = fmin(nearest, deviation / worst);
        lip_certifier_free(exact);
        lip_snapshot_put(snapshot);
        lip_state_free(state);
    }
    ck_assert_double_lt(nearest, 100); /* rounding errors mostly cancel; a bound a thousand times off would count something twice */
}
END_TEST

START_TEST(formats_are_ordered)
{
    lip_state *state;
    lip_snapshot *snapshot;
    lip_error err = {0};
    double d[4], usual, far;

    open_net(3, 1, &state, &snapshot);
    for (int i = 0; i < 4; i++)
        OK(lip_bound_transfer(snapshot, (lip_format)i, 2, &d[i], &err));
    ck_assert(d[LIP_FP32] < d[LIP_TF32] && d[LIP_TF32] < d[LIP_FP16] && d[LIP_FP16] < d[LIP_BF16]);
    OK(lip_bound_transfer(snapshot, LIP_BF16, 0, &usual, &err)); /* sqrt of the inputs */
    OK(lip_bound_transfer(snapshot, LIP_BF16, sqrt(IN), &far, &err));
    ck_assert(usual == far && far > d[LIP_BF16]);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
}
END_TEST

START_TEST(what_could_overflow_has_no_bound)
{
    lip_state *state;
    lip_snapshot *snapshot;
    lip_error err = {0};
    double d;

    open_net(3, 1, &state, &snapshot);
    OK(lip_bound_transfer(snapshot, LIP_FP16, 1e6, &d, &err)); /* results beyond 65504 */
    ck_assert(isnan(d));
    OK(lip_bound_transfer(snapshot, LIP_BF16, 1e6, &d, &err));
    ck_assert(isfinite(d));
    OK(lip_bound_transfer(snapshot, LIP_FP32, 1e39, &d, &err));
    ck_assert(isnan(d));
    lip_snapshot_put(snapshot);
    lip_state_free(state);

    open_net(3, 1e6f, &state, &snapshot); /* weights beyond it, however small the results */
    OK(lip_bound_transfer(snapshot, LIP_FP16, 1e-30, &d, &err));
    ck_assert(isnan(d));
    lip_snapshot_put(snapshot);
    lip_state_free(state);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transfer");
    TCase *all = tcase_create("all");

    tcase_add_loop_test(all, the_deviation_holds, 0, 4);
    tcase_add_test(all, formats_are_ordered);
    tcase_add_test(all, what_could_overflow_has_no_bound);
    suite_add_tcase(s, all);
    return s;
}

CHECK_MAIN(suite)
