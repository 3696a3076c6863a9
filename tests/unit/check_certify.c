/* check_certify.c: radii that are exact where the truth is known, and that no attack beats anywhere. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"
#include "served.h"

static lip_random noise;

static size_t below(size_t n)
{
    return (size_t)(lip_random_u64(&noise) % n);
}

/* Several arrays at once. */
static lip_err certify(const lip_certifier *certifier, lip_workspace *ws, const lip_certify_options *options, size_t n,
                       const float *x, const int64_t *label, float *y, int64_t *predicted, double *margin, double *radius,
                       lip_error *err)
{
    return lip_certify(certifier, ws, options, n, x, label,
                       &(lip_certificates){.y = y, .predicted = predicted, .margin = margin, .radius = radius}, err);
}

#define LINE(in, units)                                                                                                \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"line\",\"layers\":["                                        \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null," in "],\"name\":\"x\"}},"                 \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":" units ",\"name\":\"d\"}}]}}"

/* ---- what is known exactly ------------------------------------------------------------------------------------ */

/* The distance to the nearest hyperplane between two classes, and a point just behind it. */
START_TEST(a_linear_classifier_has_its_distance)
{
    enum { IN = 7, OUT = 4, N = 50 };
    float x[N * IN], y[N * OUT], moved[IN], y_moved[OUT], bias[OUT];
    int64_t predicted[N];
    double margin[N], radius[N];
    lip_certifier *certifier;
    lip_certify_options options = {.arithmetic = _i ? LIP_FLOAT32 : LIP_FLOAT64};
    lip_error err = {0};
    struct served s;
    const float *w;

    noise = (lip_random){.seed = 31};
    serve(&s, LINE("7", "4"), 1);
    lip_random_normal(&noise, bias, OUT);
    put(&s, "d/bias", bias);
    w = lip_snapshot_kernel(s.snapshot, 1);
    lip_random_normal(&noise, x, N * IN);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    ck_assert_uint_eq(lip_certifier_classes(certifier), OUT);
    ck_assert_str_eq(lip_certifier_head(certifier), "joint");
    ck_assert(isnan(lip_certifier_factor(certifier)));
    OK(certify(certifier, s.ws, &options, N, x, NULL, y, predicted, margin, radius, &err));
    for (size_t i = 0; i < N; i++) {
        size_t c = best_of(y + i * OUT, OUT), nearest = 0;
        double distance = INFINITY, z[OUT], length = 0;

        ck_assert_int_eq(predicted[i], (int64_t)c);
        for (size_t j = 0; j < OUT; j++) {
            z[j] = bias[j];
            for (size_t k = 0; k < IN; k++)
                z[j] += (double)x[i * IN + k] * w[k * OUT + j];
        }
        for (size_t j = 0; j < OUT; j++) {
            double square = 0;

            for (size_t k = 0; k < IN; k++)
                square += pow((double)w[k * OUT + c] - w[k * OUT + j], 2);
            if (j != c && (z[c] - z[j]) / sqrt(square) < distance) {
                distance = (z[c] - z[j]) / sqrt(square);
                length = sqrt(square);
                nearest = j;
            }
        }
        ck_assert_double_le(radius[i], distance);
        ck_assert_double_ge(radius[i],
                            distance - (_i ? 5e-5 : 5e-6)); /* logits of about 10 in float32, all the way or once */
        for (size_t k = 0; k < IN; k++)
            moved[k] = (float)(x[i * IN + k] + (distance + 1e-4) * (w[k * OUT + nearest] - w[k * OUT + c]) / length);
        OK(certify(certifier, s.ws, &options, 1, moved, NULL, y_moved, NULL, NULL, NULL, &err));
        ck_assert_uint_ne(best_of(y_moved, OUT), c);
    }
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

START_TEST(a_scalar_output_has_its_sign)
{
    float w[2] = {3, 4}, x[6] = {1, 1, -1, -1, 0, 0}, y[3];
    int64_t predicted[3], label[3] = {1, 1, 0};
    double margin[3], radius[3];
    lip_certify_options options = {.input_scale = 0.5};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    serve(&s, LINE("2", "1"), 1);
    put(&s, "d/kernel", w);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    ck_assert_str_eq(lip_certifier_head(certifier), "scalar");
    ck_assert_double_eq_tol(lip_certifier_pairs(certifier)[0], 5, 1e-12);
    OK(certify(certifier, s.ws, &options, 3, x, label, y, predicted, margin, radius, &err));
    ck_assert_float_eq(y[0], 7);
    ck_assert_double_eq_tol(radius[0], 7 / 5.0 / 0.5, 1e-5); /* in units of the caller, each half one of the input's */
    ck_assert_double_le(radius[0], 7 / 5.0 / 0.5);
    ck_assert_int_eq(predicted[1], 0);
    ck_assert_double_eq(margin[1], -7);
    ck_assert_double_eq(radius[1], 0);
    ck_assert_double_eq(radius[2], 0); /* on the boundary */
    options.negative_robustness = true;
    OK(certify(certifier, s.ws, &options, 3, x, label, y, predicted, margin, radius, &err));
    ck_assert_double_eq_tol(radius[1], -7 / 5.0 / 0.5, 1e-12);
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* Columns that repeat can never part; orthonormal ones part with sqrt(2). */
START_TEST(pairs_are_distances_of_columns)
{
    static const float w[3 * 4] = {1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 2};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    const double *pair;

    serve(&s, LINE("3", "4"), 1);
    put(&s, "d/kernel", w);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    pair = lip_certifier_pairs(certifier);
    for (size_t c = 0; c < 4; c++)
        for (size_t j = 0; j < 4; j++) {
            double square = 0;

            for (size_t k = 0; k < 3; k++)
                square += (double)(w[k * 4 + c] - w[k * 4 + j]) * (w[k * 4 + c] - w[k * 4 + j]);
            ck_assert_double_ge(pair[c * 4 + j], sqrt(square));
            ck_assert_double_le(pair[c * 4 + j], sqrt(square) * (1 + 1e-12) + 1e-140);
            ck_assert_double_eq(pair[c * 4 + j], pair[j * 4 + c]);
        }
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* ---- attacks ------------------------------------------------------------------------------------------------------
 */

/* The direction in which class c falls fastest against j, by differences. */
static void descent(struct served *s, const float *x, size_t c, size_t j, lip_norm norm, double *v)
{
    float *points = malloc((s->in + 1) * s->in * sizeof *points), *y = malloc((s->in + 1) * s->out * sizeof *y);
    size_t steepest = 0;
    lip_error err = {0};

    for (size_t i = 0; i <= s->in; i++) {
        memcpy(points + i * s->in, x, s->in * sizeof *x);
        if (i < s->in)
            points[i * s->in + i] += 1e-2f;
    }
    OK(lip_predict(s->snapshot, s->ws, s->in + 1, points, y, &err));
    for (size_t i = 0; i < s->in; i++) {
        const float *at = y + i * s->out, *base = y + s->in * s->out;
        double gain = ((double)at[j] - base[j]) - ((double)at[c] - base[c]);

        v[i] = norm == LIP_LINF ? (gain > 0) - (gain < 0) : gain;
        if (fabs(gain) > fabs(v[steepest]))
            steepest = i;
    }
    for (size_t i = 0; i < s->in && norm == LIP_L1; i++)
        if (i != steepest)
            v[i] = 0;
    free(y);
    free(points);
}

/* Points in the ball of each sample's radius: none changes the answer of the arithmetic that was certified. */
static void attack(struct served *s, lip_norm norm, lip_arithmetic arithmetic, size_t n, const float *x)
{
    enum { TRIES = 24 };
    float *y = malloc(n * s->out * sizeof *y), *moved = malloc(TRIES * s->in * sizeof *moved);
    float *y_moved = malloc(TRIES * s->out * sizeof *y_moved);
    double *radius = malloc(n * sizeof *radius), *v = calloc(s->in, sizeof *v);
    int64_t *predicted = malloc(n * sizeof *predicted);
    lip_certify_options options = {.arithmetic = arithmetic, .local = true};
    lip_certifier *certifier;
    lip_error err = {0};
    size_t positive = 0;

    OK(lip_certifier_new(s->snapshot, &(lip_certifier_options){.norm = norm}, &certifier, &err));
    OK(certify(certifier, s->ws, &options, n, x, NULL, y, predicted, NULL, radius, &err));
    for (size_t i = 0; i < n; i++) {
        const float *xi = x + i * s->in;

        if (radius[i] <= 0)
            continue;
        positive++;
        for (size_t t = 0; t < TRIES; t++) {
            if (t < TRIES / 2)
                descent(s, xi, (size_t)predicted[i], ((size_t)predicted[i] + 1 + t % (s->out - 1)) % s->out, norm, v);
            else
                for (size_t k = 0; k < s->in; k++) {
                    float g;

                    lip_random_normal(&noise, &g, 1);
                    v[k] = norm == LIP_LINF ? (g > 0) - (g < 0) : g;
                }
            move(xi, v, s->in, radius[i], norm, moved + t * s->in);
            ck_assert_double_le(length_of(xi, moved + t * s->in, s->in, norm), radius[i]);
        }
        for (size_t batch = 1; batch <= TRIES; batch += TRIES - 1) /* one by one, and all at once */
            for (size_t t = 0; t < TRIES; t += batch) {
                if (arithmetic == LIP_FLOAT32)
                    OK(lip_predict(s->snapshot, s->ws, batch, moved + t * s->in, y_moved + t * s->out, &err));
                else
                    OK(certify(certifier, s->ws, &options, batch, moved + t * s->in, NULL, y_moved + t * s->out,
                                   NULL, NULL, NULL, &err));
                for (size_t q = t; q < t + batch; q++)
                    ck_assert_uint_eq(best_of(y_moved + q * s->out, s->out), (size_t)predicted[i]);
            }
    }
    ck_assert_uint_gt(positive * 2, n);
    lip_certifier_free(certifier);
    free(predicted);
    free(v);
    free(radius);
    free(y_moved);
    free(moved);
    free(y);
}

/* 4 models x 3 norms x 2 arithmetics; kernels as constrained and as drawn. */
START_TEST(no_attack_succeeds_inside_a_ball)
{
    static const char *const models[] = {MLP, CNN, GRAPH, SHARED};
    enum { N = 20 };
    struct served s;
    float x[N * 48];

    noise = (lip_random){.seed = 32, .stream = (uint64_t)_i};
    for (int drawn = 0; drawn < 2; drawn++) {
        serve(&s, models[_i % 4], 1 + (uint64_t)_i);
        if (drawn) {
            float w[8 * 8 * 8];

            lip_random_normal(&noise, w, sizeof w / sizeof *w);
            for (size_t i = 0; i < lip_model_variables(s.model); i++)
                if (lip_model_variable(s.model, i)->role == LIP_WBAR ||
                    lip_model_variable(s.model, i)->role == LIP_BIAS)
                    put(&s, lip_model_variable(s.model, i)->name, w + below(32));
        }
        lip_random_normal(&noise, x, N * s.in);
        attack(&s, (lip_norm)(_i / 4 % 3), (lip_arithmetic)(_i / 12), N, x);
        stop(&s);
    }
}
END_TEST

/* The bound of each pair holds for pairs of inputs near and far. */
START_TEST(no_two_outputs_part_faster_than_their_pair)
{
    enum { N = 60 };
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    float x[N * 6], y[N * 3];
    const double *pair;

    noise = (lip_random){.seed = 33};
    serve(&s, MLP, 5);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    ck_assert_str_eq(lip_certifier_head(certifier), "disjoint");
    ck_assert_double_eq_tol(lip_certifier_factor(certifier), 2, 1e-12);
    pair = lip_certifier_pairs(certifier);
    lip_random_normal(&noise, x, N * 6);
    OK(lip_predict(s.snapshot, s.ws, N, x, y, &err));
    for (size_t a = 0; a < N; a++)
        for (size_t b = 0; b < a; b++) {
            double distance = length_of(x + a * 6, x + b * 6, 6, LIP_L2);

            for (size_t c = 0; c < 3; c++)
                for (size_t j = 0; j < 3; j++)
                    ck_assert_double_le(
                        fabs(((double)y[a * 3 + c] - y[a * 3 + j]) - ((double)y[b * 3 + c] - y[b * 3 + j])),
                        pair[c * 3 + j] * distance + 1e-5);
        }
    for (size_t c = 0; c < 3; c++)
        for (size_t j = 0; j < 3; j++)
            ck_assert_double_le(pair[c * 3 + j], c == j ? 0 : 2.00001);
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

#define VANILLA                                                                                                           \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"vanilla\",\"layers\":["                                        \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"}},"                          \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":16,\"activation\":\"relu\",\"name\":\"d1\"}},"                      \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":8,\"activation\":\"relu\",\"name\":\"d2\"}},"                       \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}"

/* Nothing but the weights decides what constants are, and what takes longer to find is never more. */
START_TEST(constants_repeat_and_effort_never_widens)
{
    static const char *const models[] = {MLP, CNN, VANILLA};
    lip_certifier *quick, *one, *two;
    lip_error err = {0};
    struct served s;
    size_t classes, least = 0;
    lip_norm norm = (lip_norm)(_i % 3);

    serve(&s, models[_i / 3], 7);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = norm, .quick = true}, &quick, &err));
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = norm}, &one, &err));
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = norm}, &two, &err));
    classes = lip_certifier_classes(one);
    for (size_t i = 0; i < classes * classes; i++) {
        ck_assert_double_eq(lip_certifier_pairs(one)[i], lip_certifier_pairs(two)[i]);
        ck_assert_double_le(lip_certifier_pairs(one)[i], lip_certifier_pairs(quick)[i]);
        least += lip_certifier_pairs(one)[i] < 0.99 * lip_certifier_pairs(quick)[i];
    }
    for (size_t c = 0; c < classes; c++)
        ck_assert_double_le(lip_certifier_outputs(one)[c], lip_certifier_outputs(quick)[c]);
    ck_assert_double_le(lip_certifier_upper(one), lip_certifier_upper(quick));
    ck_assert(_i < 6 || least > 0); /* an ordinary network gains by it */
    lip_certifier_free(two);
    lip_certifier_free(one);
    lip_certifier_free(quick);
    stop(&s);
}
END_TEST

/* The nearest point of a linear classifier is known in every norm; elsewhere what is found is answered differently, and lies
 * outside the ball that is certified. */
START_TEST(attacks_find_the_boundary_from_outside)
{
    static const char *const models[] = {LINE("7", "4"), MLP, CNN, GRAPH};
    enum { N = 24 };
    lip_norm norm = (lip_norm)(_i / 4 % 3);
    lip_certify_options options = {.arithmetic = (lip_arithmetic)(_i / 12), .input_scale = 0.5};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    float x[N * 48], y[N * 4], y_moved[N * 4], moved[N * 48];
    double radius[N], found[N];
    int64_t predicted[N], other[N];
    size_t n_found = 0;

    noise = (lip_random){.seed = 35, .stream = (uint64_t)_i};
    serve(&s, models[_i % 4], 3);
    lip_random_normal(&noise, x, N * s.in);
    x[0] = NAN;
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = norm}, &certifier, &err));
    OK(certify(certifier, s.ws, &options, N, x, NULL, y, predicted, NULL, radius, &err));
    OK(lip_attack(certifier, &options, 0, N, x, found, moved, &err));
    OK(certify(certifier, s.ws, &options, N, moved, NULL, y_moved, other, NULL, NULL, &err));
    ck_assert(isinf(found[0]) && radius[0] == 0);
    for (size_t i = 1; i < N; i++) {
        ck_assert_double_ge(found[i], radius[i]);
        if (isinf(found[i]))
            continue;
        n_found++;
        ck_assert_int_ne(other[i], predicted[i]);
        ck_assert_double_ge(found[i], length_of(x + i * s.in, moved + i * s.in, s.in, norm) / 0.5 * (1 - 1e-14));
        if (_i % 4 == 0 && norm == LIP_L2) /* the certificate is exact but for rounding */
            ck_assert_double_le(found[i], radius[i] + 1e-4);
    }
    ck_assert_uint_ge(n_found, _i % 4 ? N / 3 : N - 1); /* some classes lie nowhere */
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* One output behind activations: on the boundary it is what is left of numbers that nearly cancel. */
#define DEEP                                                                                                           \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"deep\",\"layers\":["                                        \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,3],\"name\":\"x\"}},"                      \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":12,\"name\":\"d1\","                                              \
    "\"bias_initializer\":{\"class_name\":\"RandomNormal\",\"config\":{\"stddev\":0.3}}}},"                            \
    "{\"class_name\":\"LeakyReLU\",\"config\":{\"alpha\":0.3,\"name\":\"a1\"}},"                                       \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":12,\"name\":\"d2\","                                      \
    "\"bias_initializer\":{\"class_name\":\"RandomNormal\",\"config\":{\"stddev\":0.3}}}},"                            \
    "{\"class_name\":\"LeakyReLU\",\"config\":{\"alpha\":0.3,\"name\":\"a2\"}},"                                       \
    "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":1,\"name\":\"y\"}}]}}"

/* What an attack finds is answered otherwise by every order of summation that is served, also where outputs nearly cancel. */
START_TEST(an_attack_on_float32_flips_what_is_served)
{
    static const struct {
        const char *model;
        uint64_t seed;
    } cases[] = {{DEEP, 3}, {DEEP, 6}, {DEEP, 7}, {LINE("7", "1"), 5}, {MLP, 5}, {GRAPH, 5}};
    enum { N = 96 };
    static const size_t batches[] = {1, 5, N};
    lip_certify_options options = {.arithmetic = LIP_FLOAT32};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    float x[N * 48], y[N * 4], y_moved[N * 4], moved[N * 48];
    double found[N];
    size_t n_found = 0;

    noise = (lip_random){.seed = 36, .stream = cases[_i].seed};
    serve(&s, cases[_i].model, cases[_i].seed);
    lip_random_normal(&noise, x, N * s.in);
    OK(lip_certifier_new(s.snapshot, NULL, &certifier, &err));
    OK(lip_attack(certifier, &options, 0, N, x, found, moved, &err));
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
        for (size_t first = 0, n; first < N; first += n) {
            n = N - first < batches[b] ? N - first : batches[b];
            OK(lip_predict(s.snapshot, s.ws, n, x + first * s.in, y + first * s.out, &err));
            OK(lip_predict(s.snapshot, s.ws, n, moved + first * s.in, y_moved + first * s.out, &err));
            for (size_t i = first; i < first + n; i++)
                if (isfinite(found[i])) {
                    ck_assert_uint_ne(best_of(y + i * s.out, s.out), best_of(y_moved + i * s.out, s.out));
                    n_found++;
                }
        }
    ck_assert_uint_ge(n_found, N / 2); /* some classes lie nowhere */
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* Values are within their error of what long double says; constants of single outputs hold. */
START_TEST(values_are_within_their_error)
{
    enum { N = 40, IN = 7, OUT = 4 };
    float x[N * IN];
    double y[N * OUT], error[N * OUT];
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    const float *w;

    noise = (lip_random){.seed = 36};
    serve(&s, LINE("7", "4"), 2);
    w = lip_snapshot_kernel(s.snapshot, 1);
    lip_random_normal(&noise, x, N * IN);
    for (size_t i = 0; i < N * IN; i++)
        x[i] *= powf(10, (float)(i % 30));
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){0}, &certifier, &err));
    OK(lip_certifier_value(certifier, N, x, y, error, &err));
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < OUT; j++) {
            long double z = 0, length = 0;

            for (size_t k = 0; k < IN; k++) {
                z += (long double)x[i * IN + k] * w[k * OUT + j];
                length += (long double)w[k * OUT + j] * w[k * OUT + j];
            }
            ck_assert(fabsl(z - y[i * OUT + j]) <= error[i * OUT + j]);
            ck_assert(error[i * OUT + j] <= 1e-14 * length_of(x + i * IN, (float[IN]){0}, IN, LIP_L2));
            ck_assert_double_ge(lip_certifier_outputs(certifier)[j], (double)sqrtl(length));
            ck_assert_double_le(lip_certifier_outputs(certifier)[j], (double)sqrtl(length) * (1 + 1e-12));
            ck_assert_double_ge(lip_certifier_upper(certifier), lip_certifier_outputs(certifier)[j]);
        }
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* ---- rounding -----------------------------------------------------------------------------------------------------
 */

#define TWO                                                                                                            \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"two\",\"layers\":["                                         \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"                      \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"d1\"}},"                                             \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"d2\"}}]}}"

/* A bias of 2^30 that the next layer takes away again: over the reals nothing happens, in float32 the answer is noise,
 * in double it is right. */
START_TEST(a_certificate_knows_what_rounding_destroys)
{
    static const float identity[] = {1, 0, 0, 1}, up[] = {0x1p30f, 0x1p30f}, down[] = {-0x1p30f, -0x1p30f};
    float x[] = {3, 1}, y[2];
    double radius[2];
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    serve(&s, TWO, 1);
    put(&s, "d1/kernel", identity);
    put(&s, "d1/bias", up);
    put(&s, "d2/kernel", identity);
    put(&s, "d2/bias", down);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    OK(certify(certifier, s.ws, &(lip_certify_options){.arithmetic = LIP_FLOAT32}, 1, x, NULL, y, NULL, NULL, radius,
                   &err));
    ck_assert_double_eq(radius[0], 0);
    OK(certify(certifier, s.ws, &(lip_certify_options){.arithmetic = LIP_FLOAT64}, 1, x, NULL, y, NULL, NULL,
                   radius + 1, &err));
    ck_assert_double_eq_tol(radius[1], sqrt(2), 1e-4);
    ck_assert_double_le(radius[1], sqrt(2));
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* After Murray 2603.13334: a bias of 2^e on one of two numbers, taken away again by the next layer, rounds that one to steps of
 * 2^(e-23). Over the reals the radius is sqrt(2) whatever e is; in float32 answers flip inside that ball, then at its centre. */
START_TEST(no_radius_reaches_where_float32_flips)
{
    enum { TRIES = 400 };
    static const float identity[] = {1, 0, 0, 1}, x[] = {3, 1};
    size_t flips = 0;

    noise = (lip_random){.seed = 37};
    for (int e = 0; e <= 36; e++) {
        float up[] = {ldexpf(1, e), 0}, down[] = {-ldexpf(1, e), 0}, y[2], moved[2], y_moved[2];
        double radius[2];
        int64_t answer;
        lip_certifier *certifier;
        lip_error err = {0};
        struct served s;

        serve(&s, TWO, 1);
        put(&s, "d1/kernel", identity);
        put(&s, "d1/bias", up);
        put(&s, "d2/kernel", identity);
        put(&s, "d2/bias", down);
        OK(lip_certifier_new(s.snapshot, NULL, &certifier, &err));
        for (int single = 0; single < 2; single++) {
            lip_certify_options o = {.arithmetic = single ? LIP_FLOAT32 : LIP_FLOAT64, .local = true};

            OK(certify(certifier, s.ws, &o, 1, x, NULL, y, &answer, NULL, &radius[single], &err));
        }
        ck_assert_double_le(radius[0], sqrt(2));
        ck_assert_double_ge(radius[0], sqrt(2) - 1e-3); /* 2^36 in double is rounded too */
        ck_assert_double_le(radius[1], radius[0]);
        for (size_t t = 0; t < TRIES; t++) {
            double v[2];
            float g[3];

            lip_random_normal(&noise, g, 3);
            v[0] = g[0];
            v[1] = g[1];
            move(x, v, 2, sqrt(2) * fmin(1, fabs((double)g[2])), LIP_L2, moved);
            OK(lip_predict(s.snapshot, s.ws, 1, moved, y_moved, &err));
            if (best_of(y_moved, 2) == (size_t)answer)
                continue;
            flips++;
            ck_assert_double_lt(radius[1], length_of(x, moved, 2, LIP_L2));
        }
        if (e >= 25) /* steps of 4 and more */
            ck_assert_double_eq(radius[1], 0);
        if (e <= 12)
            ck_assert_double_gt(radius[1], 1.4);
        lip_certifier_free(certifier);
        stop(&s);
    }
    ck_assert_uint_gt(flips, 100);
}
END_TEST

/* Rows of a ReLU network of two inputs with one pattern of slopes: each neuron and output is a x + b. */
struct plane {
    double a[2], b;
};

enum { HIDDEN = 4, OUT_2 = 3, PLANES = 2 * HIDDEN + OUT_2 };

static void planes(const float *const *w, const float *const *bias, unsigned bits, struct plane *p)
{
    for (size_t j = 0; j < HIDDEN; j++)
        p[j] = (struct plane){{w[0][j], w[0][HIDDEN + j]}, bias[0][j]};
    for (size_t layer = 1; layer < 3; layer++) {
        struct plane *from = p + (layer - 1) * HIDDEN, *to = p + layer * HIDDEN;
        size_t n = layer == 1 ? HIDDEN : OUT_2;

        for (size_t j = 0; j < n; j++) {
            to[j] = (struct plane){{0, 0}, bias[layer][j]};
            for (size_t i = 0; i < HIDDEN; i++)
                if (bits >> ((layer - 1) * HIDDEN + i) & 1) {
                    double k = w[layer][i * n + j];

                    to[j].a[0] += k * from[i].a[0];
                    to[j].a[1] += k * from[i].a[1];
                    to[j].b += k * from[i].b;
                }
        }
    }
}

static bool feasible(const struct plane *p, unsigned bits, const double *x)
{
    for (size_t i = 0; i < 2 * HIDDEN; i++)
        if ((p[i].a[0] * x[0] + p[i].a[1] * x[1] + p[i].b) * (bits >> i & 1 ? 1 : -1) < -1e-9)
            return false;
    return true;
}

/* How far it is from x to where class j draws level with c: on the line of one pattern either the nearest point, or where a
 * neuron's line cuts it. */
static double to_boundary(const struct plane *p, unsigned bits, const float *x, size_t c, size_t j)
{
    const struct plane *one = &p[2 * HIDDEN + c], *other = &p[2 * HIDDEN + j];
    double a[2] = {one->a[0] - other->a[0], one->a[1] - other->a[1]}, b = one->b - other->b, best = INFINITY;
    double square = a[0] * a[0] + a[1] * a[1], share = (a[0] * x[0] + a[1] * x[1] + b) / square;

    for (size_t i = 0; square > 0 && i <= 2 * HIDDEN; i++) {
        double at[2] = {x[0] - share * a[0], x[1] - share * a[1]};

        if (i < 2 * HIDDEN) {
            double det = a[0] * p[i].a[1] - a[1] * p[i].a[0];

            at[0] = (-b * p[i].a[1] + a[1] * p[i].b) / det;
            at[1] = (-a[0] * p[i].b + b * p[i].a[0]) / det;
        }
        if (isfinite(at[0]) && isfinite(at[1]) && feasible(p, bits, at))
            best = fmin(best, hypot(at[0] - x[0], at[1] - x[1]));
    }
    return best;
}

/* All 256 patterns of 2-4-4-3: certified radii are at most the true one, attacks find no nearer point than there is. */
START_TEST(radii_are_below_the_true_ones_of_tiny_networks)
{
    enum { N = 30 };
    static const char json[] = "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"tiny\",\"layers\":["
                               "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"activation\":\"relu\",\"name\":\"d1\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"activation\":\"relu\",\"name\":\"d2\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}";
    static const char *const biases[] = {"d1/bias", "d2/bias", "y/bias"};
    float x[N * 2], y[N * 3], random[4];
    double radius[N], found[N], share = 0;
    int64_t answer[N];
    const float *w[3], *bias[3];
    size_t count = 0;
    lip_certify_options o = {.local = true};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    noise = (lip_random){.seed = 38, .stream = (uint64_t)_i};
    serve(&s, json, 1 + (uint64_t)_i);
    for (size_t i = 0; i < 3; i++) {
        lip_random_normal(&noise, random, 4);
        for (size_t k = 0; k < 4; k++)
            random[k] *= 0.3f;
        put(&s, biases[i], random);
    }
    for (size_t i = 0; i < 3; i++) {
        w[i] = lip_snapshot_kernel(s.snapshot, i + 1);
        bias[i] = lip_snapshot_bias(s.snapshot, i + 1);
    }
    lip_random_normal(&noise, x, N * 2);
    OK(lip_certifier_new(s.snapshot, NULL, &certifier, &err));
    OK(certify(certifier, s.ws, &o, N, x, NULL, y, answer, NULL, radius, &err));
    OK(lip_attack(certifier, &o, 0, N, x, found, NULL, &err));
    for (size_t i = 0; i < N; i++) {
        double truth = INFINITY;
        size_t c = (size_t)answer[i];

        for (unsigned bits = 0; bits < 1u << 2 * HIDDEN; bits++) {
            struct plane p[PLANES];

            planes(w, bias, bits, p);
            for (size_t j = 0; j < OUT_2; j++)
                if (j != c)
                    truth = fmin(truth, to_boundary(p, bits, x + 2 * i, c, j));
        }
        ck_assert_double_le(radius[i], truth * (1 + 1e-7));
        ck_assert_double_ge(found[i], truth * (1 - 1e-4) - 1e-6); /* a flip needs no more than float32 tells apart */
        if (truth > 1e-3 && truth < 3) {
            share += radius[i] / truth;
            count++;
        }
    }
    ck_assert_msg(count == 0 || share / (double)count > 0.25, "on average %g of the true radius", share / (double)count);
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

#define WIDE                                                                                                              \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"wide\",\"layers\":["                                           \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,24],\"name\":\"x\"}},"                         \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":64,\"activation\":\"relu\",\"name\":\"d1\"}},"                      \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":32,\"activation\":\"leaky_relu\",\"name\":\"d2\"}},"                 \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":16,\"activation\":\"relu\",\"name\":\"d3\"}},"                      \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"name\":\"y\"}}]}}"

/* Of ordinary networks the ball alone reaches further than constants of the whole space, by how much multipliers of the sample's own
 * decide: shares of what attacks find were 0.502, 0.258, 0.393, 0.623, 0.279, 0.515 with those of one pass, which suit all pairs. */
START_TEST(a_ball_of_its_own_reaches_further)
{
    static const double least[] = {0.516, 0.266, 0.397, 0.641, 0.284, 0.536};
    enum { N = 64 };
    float x[N * 24], y[N * 4];
    double local[N], global[N], found[N], share = 0;
    size_t count = 0;
    lip_certify_options o = {.arithmetic = _i % 2 ? LIP_FLOAT32 : LIP_FLOAT64};
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    noise = (lip_random){.seed = 41, .stream = (uint64_t)_i};
    serve(&s, WIDE, 1 + (uint64_t)_i);
    lip_random_normal(&noise, x, N * s.in);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = (lip_norm)(_i % 3)}, &certifier, &err));
    OK(certify(certifier, s.ws, &o, N, x, NULL, y, NULL, NULL, global, &err));
    OK(lip_attack(certifier, &o, 0, N, x, found, NULL, &err));
    o.local = true;
    OK(certify(certifier, s.ws, &o, N, x, NULL, y, NULL, NULL, local, &err));
    for (size_t i = 0; i < N; i++) {
        ck_assert_double_ge(local[i], global[i]);
        ck_assert_double_le(local[i], found[i]);
        if (isfinite(found[i]) && found[i] > 0) {
            share += local[i] / found[i];
            count++;
        }
    }
    ck_assert_uint_gt(count, N / 2);
    ck_assert_double_gt(share / (double)count, least[_i]);
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

START_TEST(what_may_overflow_has_no_radius)
{
    static const float huge[] = {1e30f, 0, 0, 1e30f}, tiny[] = {1e-30f, 0, 0, 1e-30f};
    float x[] = {3e9f, 1, 3, 1, INFINITY, 1, NAN, 0}, y[8];
    const char *reason[4];
    double radius[4];
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    serve(&s, TWO, 1);
    put(&s, "d1/kernel", huge);
    put(&s, "d2/kernel", tiny);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    OK(lip_certify(certifier, s.ws, &(lip_certify_options){.arithmetic = LIP_FLOAT32}, 4, x, NULL,
                   &(lip_certificates){.y = y, .radius = radius, .reason = reason}, &err));
    ck_assert_double_eq(radius[0], 0); /* infinity - infinity is next door */
    ck_assert_str_eq(reason[0], "an output could overflow within the ball");
    ck_assert_ptr_null(reason[1]);
    ck_assert_str_eq(reason[3], "the answer is not finite");
    ck_assert_double_eq_tol(radius[1], sqrt(2), 1e-4);
    ck_assert_double_eq(radius[2], 0);
    ck_assert_double_eq(radius[3], 0);
    OK(certify(certifier, s.ws, &(lip_certify_options){.arithmetic = LIP_FLOAT64}, 4, x, NULL, y, NULL, NULL, radius,
                   &err));
    ck_assert_double_gt(radius[0], 1e9); /* in double nothing overflows */
    ck_assert_double_eq(radius[2], 0);
    ck_assert_double_eq(radius[3], 0);
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* Double accumulation costs next to nothing. */
START_TEST(both_arithmetics_agree_but_for_their_rounding)
{
    enum { N = 64 };
    float x[N * 48], y[N * 3];
    double radius[2][N];
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;

    noise = (lip_random){.seed = 34};
    serve(&s, CNN, 2);
    lip_random_normal(&noise, x, N * s.in);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    for (int single = 0; single < 2; single++)
        OK(certify(certifier, s.ws, &(lip_certify_options){.arithmetic = single ? LIP_FLOAT32 : LIP_FLOAT64}, N, x,
                       NULL, y, NULL, NULL, radius[single], &err));
    for (size_t i = 0; i < N; i++) {
        ck_assert_double_le(radius[1][i], radius[0][i]);
        ck_assert_double_ge(radius[1][i], fmax(0, radius[0][i] - 2e-4));
    }
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

/* ---- the rest -------------------------------------------------------------------------------------------------------
 */

START_TEST(accuracy_is_the_share_above_epsilon)
{
    static const double radius[] = {0.5, 0, 0.25, 0.25, 1}, epsilon[] = {0, 0.25, 0.3, 2};
    double accuracy[4], r[5], share[5];

    lip_provable_accuracy(5, radius, 4, epsilon, accuracy);
    ck_assert_double_eq(accuracy[0], 0.8);
    ck_assert_double_eq(accuracy[1], 0.4);
    ck_assert_double_eq(accuracy[2], 0.4);
    ck_assert_double_eq(accuracy[3], 0);
    lip_provable_curve(5, radius, r, share);
    ck_assert_double_eq(r[0], 0);
    ck_assert_double_eq(share[0], 1);
    ck_assert_double_eq(r[2], 0.25);
    ck_assert_double_eq(share[1], 0.8);
    ck_assert_double_eq(share[2], 0.8);
    ck_assert_double_eq(share[3], 0.4);
    ck_assert_double_eq(share[4], 0.2);
}
END_TEST

START_TEST(what_cannot_be_certified_is_an_error)
{
    static const char jump[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"j\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"
        "{\"class_name\":\"ReLU\",\"config\":{\"threshold\":1.0,\"name\":\"jump\"}},"
        "{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"d\"}}]}}";
    lip_certifier *certifier;
    lip_error err = {0};
    float x[4] = {0}, y[4];
    double radius[2];
    int64_t label[2] = {0, 2};
    struct served s;

    serve(&s, jump, 1);
    ck_assert_int_eq(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err), LIP_EBOUND);
    ck_assert_str_eq(err.text, "no rule bounds layer \"jump\" (ReLU)");
    ck_assert_ptr_null(certifier);
    stop(&s);
    err = (lip_error){0};
    serve(&s, TWO, 1);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_L2}, &certifier, &err));
    ck_assert_int_eq(certify(certifier, s.ws, &(lip_certify_options){0}, 2, x, label, y, NULL, NULL, radius, &err),
                     LIP_ELABELS);
    ck_assert_str_eq(err.text, "label 1 is 2; wanted 0 to 1");
    err = (lip_error){0};
    ck_assert_int_eq(certify(certifier, s.ws, &(lip_certify_options){.input_scale = -1}, 2, x, NULL, y, NULL, NULL,
                                 radius, &err),
                     LIP_ERANGE);
    err = (lip_error){0};
    OK(certify(certifier, s.ws, &(lip_certify_options){0}, 0, x, NULL, y, NULL, NULL, radius, &err));
    lip_certifier_free(certifier);
    stop(&s);
}
END_TEST

static int left; /* allocations that still succeed */

static int fail_later(void)
{
    return left-- <= 0;
}

START_TEST(certificates_survive_every_lost_allocation)
{
    lip_certifier *certifier = NULL;
    float x[6] = {1, 2, 3, 4, 5, 6}, y[3];
    double radius;
    lip_err rc = LIP_ENOMEM;
    struct served s;
    int lost;

    serve(&s, MLP, 1);
    for (lost = 0; lost < 1000 && rc != LIP_OK; lost++) {
        left = lost;
        lip__alloc_hook = fail_later;
        rc = lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = LIP_LINF}, &certifier, NULL);
        if (!rc)
            rc = certify(certifier, s.ws, &(lip_certify_options){0}, 1, x, NULL, y, NULL, NULL, &radius, NULL);
        lip__alloc_hook = NULL;
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
        lip_certifier_free(certifier);
        certifier = NULL;
    }
    ck_assert_int_gt(lost, 20);
    ck_assert_int_eq(rc, LIP_OK);
    ck_assert_double_gt(radius, 0);
    stop(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("certify");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, a_linear_classifier_has_its_distance, 0, 2);
    tcase_add_test(core, a_scalar_output_has_its_sign);
    tcase_add_test(core, pairs_are_distances_of_columns);
    tcase_add_loop_test(core, no_attack_succeeds_inside_a_ball, 0, 24);
    tcase_add_loop_test(core, attacks_find_the_boundary_from_outside, 0, 24);
    tcase_add_loop_test(core, an_attack_on_float32_flips_what_is_served, 0, 6);
    tcase_add_test(core, values_are_within_their_error);
    tcase_add_test(core, no_two_outputs_part_faster_than_their_pair);
    tcase_add_loop_test(core, constants_repeat_and_effort_never_widens, 0, 9);
    tcase_add_test(core, a_certificate_knows_what_rounding_destroys);
    tcase_add_test(core, no_radius_reaches_where_float32_flips);
    tcase_add_loop_test(core, radii_are_below_the_true_ones_of_tiny_networks, 0, 20);
    tcase_add_loop_test(core, a_ball_of_its_own_reaches_further, 0, 6);
    tcase_add_test(core, what_may_overflow_has_no_radius);
    tcase_add_test(core, both_arithmetics_agree_but_for_their_rounding);
    tcase_add_test(core, accuracy_is_the_share_above_epsilon);
    tcase_add_test(core, what_cannot_be_certified_is_an_error);
    tcase_add_test(core, certificates_survive_every_lost_allocation);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
