/* check_oracle.c: what is served, in float32 and with double accumulation, against an exact forward pass.
 *
 * MPFR with 2400 bits holds every sum and product of three layers of float32 numbers (each at most 2^128, none below 2^-149)
 * exactly; roots and quotients are off by 2^-2000 of themselves, which no comparison here can see.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpfr.h>

#include "check_main.h"
#include "served.h"

enum { BITS = 2400 };

static lip_random noise;

static size_t below(size_t n)
{
    return (size_t)(lip_random_u64(&noise) % n);
}

static float gauss(void)
{
    float x;

    lip_random_normal(&noise, &x, 1);
    return x;
}

/* ---- exact layers ---------------------------------------------------------------------------------------------- */

struct exact { /* (h, w, c) or a row of c */
    size_t h, w, c;
    mpfr_t *x;
};

static struct exact exact_new(size_t h, size_t w, size_t c)
{
    struct exact e = {h, w, c, malloc(h * w * c * sizeof(mpfr_t))};

    for (size_t i = 0; i < h * w * c; i++) {
        mpfr_init2(e.x[i], BITS);
        mpfr_set_zero(e.x[i], 1);
    }
    return e;
}

static void exact_free(struct exact *e)
{
    for (size_t i = 0; i < e->h * e->w * e->c; i++)
        mpfr_clear(e->x[i]);
    free(e->x);
}

static mpfr_t *pixel(const struct exact *e, size_t i, size_t j)
{
    return e->x + (i * e->w + j) * e->c;
}

static mpfr_t weight, product; /* of 24 bits, and of all */

static void add_product(mpfr_t sum, mpfr_t x, float w)
{
    mpfr_set_flt(weight, w, MPFR_RNDN);
    mpfr_mul(product, x, weight, MPFR_RNDN);
    mpfr_add(sum, sum, product, MPFR_RNDN);
}

static void add_bias(struct exact *y, const float *bias)
{
    for (size_t i = 0; bias && i < y->h * y->w * y->c; i++) {
        mpfr_set_flt(weight, bias[i % y->c], MPFR_RNDN);
        mpfr_add(y->x[i], y->x[i], weight, MPFR_RNDN);
    }
}

static struct exact dense(const struct exact *x, size_t units, const float *w)
{
    struct exact y = exact_new(1, 1, units);
    size_t n = x->h * x->w * x->c;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < units; j++)
            add_product(y.x[j], x->x[i], w[i * units + j]);
    return y;
}

/* TensorFlow's padding: as little as lets every stride begin inside, the smaller half in front. */
static size_t pad_before(size_t n, size_t taps, size_t stride)
{
    size_t reach = ((n + stride - 1) / stride - 1) * stride + taps;

    return reach > n ? (reach - n) / 2 : 0;
}

/* 'same', or a transposed convolution, which makes of the pixel (i, j) what the other would have made (i, j) of. w: (taps, taps,
 * channels of the larger image, of the smaller). */
static struct exact convolution(const struct exact *x, bool transposed, size_t filters, size_t taps, size_t stride, const float *w)
{
    size_t oh = transposed ? x->h * stride : (x->h + stride - 1) / stride, ow = transposed ? x->w * stride : (x->w + stride - 1) / stride;
    struct exact y = exact_new(oh, ow, filters);
    const struct exact *large = transposed ? &y : x, *small = transposed ? x : &y;
    size_t top = pad_before(large->h, taps, stride), left = pad_before(large->w, taps, stride);

    for (size_t i = 0; i < small->h; i++)
        for (size_t j = 0; j < small->w; j++)
            for (size_t a = 0; a < taps; a++)
                for (size_t b = 0; b < taps; b++) {
                    long row = (long)(i * stride + a) - (long)top, column = (long)(j * stride + b) - (long)left;

                    if (row < 0 || column < 0 || row >= (long)large->h || column >= (long)large->w)
                        continue;
                    for (size_t c = 0; c < large->c; c++)
                        for (size_t f = 0; f < small->c; f++) {
                            float k = w[((a * taps + b) * large->c + c) * small->c + f];
                            mpfr_t *big = pixel(large, (size_t)row, (size_t)column) + c, *little = pixel(small, i, j) + f;

                            add_product(transposed ? *big : *little, transposed ? *little : *big, k);
                        }
                }
    return y;
}

/* k times the sum of a window over the root of its size, or the root of its sum of squares. */
static struct exact pooling(const struct exact *x, bool norm, size_t size, double k)
{
    struct exact y = exact_new(x->h / size, x->w / size, x->c);
    mpfr_t scale;

    mpfr_init2(scale, BITS);
    mpfr_set_ui(scale, size * size, MPFR_RNDN);
    mpfr_sqrt(scale, scale, MPFR_RNDN);
    mpfr_d_div(scale, k, scale, MPFR_RNDN);
    for (size_t i = 0; i < y.h * size; i++)
        for (size_t j = 0; j < y.w * size; j++)
            for (size_t c = 0; c < x->c; c++) {
                mpfr_t *to = pixel(&y, i / size, j / size) + c, *from = pixel(x, i, j) + c;

                if (norm)
                    mpfr_sqr(product, *from, MPFR_RNDN);
                mpfr_add(*to, *to, norm ? product : *from, MPFR_RNDN);
            }
    for (size_t i = 0; i < y.h * y.w * y.c; i++) {
        if (norm)
            mpfr_sqrt(y.x[i], y.x[i], MPFR_RNDN);
        if (norm)
            mpfr_mul_d(y.x[i], y.x[i], k, MPFR_RNDN);
        else
            mpfr_mul(y.x[i], y.x[i], scale, MPFR_RNDN);
    }
    mpfr_clear(scale);
    return y;
}

static void relu(struct exact *x)
{
    for (size_t i = 0; i < x->h * x->w * x->c; i++)
        if (mpfr_sgn(x->x[i]) < 0)
            mpfr_set_zero(x->x[i], 1);
}

static void group_sort2(struct exact *x)
{
    for (size_t i = 0; i + 1 < x->h * x->w * x->c; i += 2)
        if (mpfr_cmp(x->x[i], x->x[i + 1]) > 0)
            mpfr_swap(x->x[i], x->x[i + 1]);
}

/* gamma (x - mean) / sqrt(variance + epsilon) + beta of each channel. */
static void normalize(struct exact *x, double epsilon, const float *gamma, const float *beta, const float *mean, const float *variance)
{
    for (size_t i = 0; i < x->h * x->w * x->c; i++) {
        size_t c = i % x->c;

        mpfr_sub_d(x->x[i], x->x[i], mean[c], MPFR_RNDN);
        mpfr_mul_d(x->x[i], x->x[i], gamma[c], MPFR_RNDN);
        mpfr_set_flt(product, variance[c], MPFR_RNDN);
        mpfr_add_d(product, product, epsilon, MPFR_RNDN);
        mpfr_sqrt(product, product, MPFR_RNDN);
        mpfr_div(x->x[i], x->x[i], product, MPFR_RNDN);
        mpfr_add_d(x->x[i], x->x[i], beta[c], MPFR_RNDN);
    }
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

enum { DENSE, CONV, STRIDED, TRANSPOSED, AVERAGE, NORM, CHAIN, IMAGES, NORMALIZED, MODELS };

#define MODEL(input, layers)                                                                                          \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":[{\"class_name\":\"InputLayer\",\"config\":" \
    "{\"batch_input_shape\":[null," input "],\"name\":\"x\"}}," layers "]}}"
#define LAYER(class_, config) "{\"class_name\":\"" class_ "\",\"config\":{" config "}}"
#define CONFIG(filters, size, strides, name) \
    "\"filters\":" filters ",\"kernel_size\":" size ",\"strides\":" strides ",\"padding\":\"same\",\"name\":\"" name "\""

static const char *const models[MODELS] = {
    [DENSE] = MODEL("9", LAYER("Dense", "\"units\":5,\"name\":\"a\"")),
    [CONV] = MODEL("5,4,2", LAYER("Conv2D", CONFIG("3", "3", "1", "a"))),
    [STRIDED] = MODEL("5,6,2", LAYER("Conv2D", CONFIG("3", "4", "3", "a"))),
    [TRANSPOSED] = MODEL("3,2,2", LAYER("Conv2DTranspose", CONFIG("3", "3", "2", "a"))),
    [AVERAGE] = MODEL("6,6,2", LAYER("ScaledAveragePooling2D", "\"pool_size\":3,\"k_coef_lip\":0.7,\"name\":\"a\"")),
    [NORM] = MODEL("4,6,2", LAYER("ScaledL2NormPooling2D", "\"pool_size\":2,\"k_coef_lip\":0.7,\"name\":\"a\"")),
    [CHAIN] = MODEL("6", LAYER("Dense", "\"units\":8,\"activation\":\"relu\",\"name\":\"a\"") "," LAYER(
                             "Dense", "\"units\":6,\"name\":\"b\"") "," LAYER("GroupSort2", "\"name\":\"s\"") "," LAYER("Dense", "\"units\":3,\"name\":\"c\"")),
    [IMAGES] = MODEL("6,4,1", LAYER("Conv2D", CONFIG("4", "3", "1", "a")) "," LAYER("GroupSort2", "\"name\":\"s\"") "," LAYER(
                                  "ScaledL2NormPooling2D", "\"pool_size\":2,\"name\":\"p\"") "," LAYER("Conv2DTranspose", CONFIG("2", "3", "2", "b")) ","
                              LAYER("ScaledAveragePooling2D", "\"pool_size\":2,\"name\":\"q\"") "," LAYER("Flatten", "\"name\":\"f\"") "," LAYER(
                                  "Dense", "\"units\":3,\"name\":\"c\"")),
    [NORMALIZED] = MODEL("7", LAYER("Dense", "\"units\":4,\"name\":\"a\"") "," LAYER("BatchNormalization", "\"epsilon\":0.001,\"name\":\"n\"")),
};

static const float *data(const struct served *s, const char *name)
{
    return lip_snapshot_data(s->snapshot, lip_model_find_variable(s->model, name));
}

static void follow(struct exact *x, struct exact y)
{
    exact_free(x);
    *x = y;
}

/* Everything over again, from the definitions above. */
static struct exact forward(const struct served *s, int which, const float *x)
{
    const size_t *in = lip_model_input_shape(s->model, 0)->dim;
    bool image = lip_model_input_shape(s->model, 0)->rank == 3;
    struct exact y = image ? exact_new(in[0], in[1], in[2]) : exact_new(1, 1, in[0]);
    const float *a = which == AVERAGE || which == NORM ? NULL : data(s, "a/kernel"), *bias = a ? data(s, "a/bias") : NULL;

    for (size_t i = 0; i < s->in; i++)
        mpfr_set_flt(y.x[i], x[i], MPFR_RNDN);
    switch (which) {
    case DENSE:
        follow(&y, dense(&y, 5, a));
        add_bias(&y, bias);
        break;
    case CONV:
        follow(&y, convolution(&y, false, 3, 3, 1, a));
        add_bias(&y, bias);
        break;
    case STRIDED:
        follow(&y, convolution(&y, false, 3, 4, 3, a));
        add_bias(&y, bias);
        break;
    case TRANSPOSED:
        follow(&y, convolution(&y, true, 3, 3, 2, a));
        add_bias(&y, bias);
        break;
    case AVERAGE:
        follow(&y, pooling(&y, false, 3, 0.7));
        break;
    case NORM:
        follow(&y, pooling(&y, true, 2, 0.7));
        break;
    case CHAIN:
        follow(&y, dense(&y, 8, a));
        add_bias(&y, bias);
        relu(&y);
        follow(&y, dense(&y, 6, data(s, "b/kernel")));
        add_bias(&y, data(s, "b/bias"));
        group_sort2(&y);
        follow(&y, dense(&y, 3, data(s, "c/kernel")));
        add_bias(&y, data(s, "c/bias"));
        break;
    case IMAGES:
        follow(&y, convolution(&y, false, 4, 3, 1, a));
        add_bias(&y, bias);
        group_sort2(&y);
        follow(&y, pooling(&y, true, 2, 1));
        follow(&y, convolution(&y, true, 2, 3, 2, data(s, "b/kernel")));
        add_bias(&y, data(s, "b/bias"));
        follow(&y, pooling(&y, false, 2, 1));
        follow(&y, dense(&y, 3, data(s, "c/kernel")));
        add_bias(&y, data(s, "c/bias"));
        break;
    default:
        follow(&y, dense(&y, 4, a));
        add_bias(&y, bias);
        normalize(&y, 0.001, data(s, "n/gamma"), data(s, "n/beta"), data(s, "n/moving_mean"), data(s, "n/moving_variance"));
    }
    ck_assert_uint_eq(y.h * y.w * y.c, s->out);
    return y;
}

/* ---- comparison ---------------------------------------------------------------------------------------------------- */

/* |y - exact| of one number; of all of them as a vector. Both rounded up. */
static double off(double y, mpfr_t exact)
{
    mpfr_sub_d(product, exact, y, MPFR_RNDN);
    mpfr_abs(product, product, MPFR_RNDN);
    return mpfr_get_d(product, MPFR_RNDU);
}

static double distance(const float *y, const struct exact *exact)
{
    double sum = 0;

    for (size_t i = 0; i < exact->h * exact->w * exact->c; i++)
        sum = hypot(sum, off(y[i], exact->x[i]));
    return sum * (1 + 1e-12); /* hypot's roundings */
}

/* Numbers of all sizes together: usual ones, zeros, subnormal ones, some of any exponent. */
static float number(float size)
{
    switch (below(8)) {
    case 0:
        return 0;
    case 1:
        return ldexpf(gauss(), -140) * size;
    case 2:
        return ldexpf(gauss(), (int)below(40) - 30) * size;
    default:
        return gauss() * size;
    }
}

/* x (n) of norm at most `most`, and not much less. */
static void fill(float *x, size_t n, double most)
{
    double square = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] = number(1);
        square += (double)x[i] * x[i];
    }
    for (size_t i = 0; i < n; i++) {
        double scaled = square > 0 ? x[i] * (0.999 * most / sqrt(square)) : 0;

        x[i] = (float)scaled; /* may become subnormal: half a step more than it was, which is nothing beside what is left */
    }
}

static void draw_weights(struct served *s, int size)
{
    for (size_t i = 0; i < lip_model_variables(s->model); i++) {
        const lip_variable *v = lip_model_variable(s->model, i);
        size_t n = lip_shape_count(&v->shape);
        float *w = malloc(n * sizeof *w);

        for (size_t j = 0; j < n; j++) {
            /* A rate that is no normal number has no rule. */
            w[j] = !strncmp(v->name, "n/", 2) ? gauss() : ldexpf(number(1), size);
            w[j] = strstr(v->name, "variance") ? fabsf(w[j]) : w[j];
        }
        put(s, v->name, w);
        free(w);
    }
}

/* 9 models x 12 draws of weights x 8 sizes of inputs x 12 inputs: more than 10^4. Weights and inputs from subnormal to huge. */
START_TEST(rounding_stays_below_its_bound)
{
    enum { N = 12 };
    static const double sizes[] = {1e-44, 1e-38, 1e-22, 1e-3, 1, 1e4, 1e19, 1e37};
    size_t bounded = 0, doubled = 0, all = 0, positive = 0;
    struct served s;
    lip_error err = {0};

    noise = (lip_random){.seed = 51, .stream = (uint64_t)_i};
    mpfr_init2(weight, 24);
    mpfr_init2(product, BITS);
    serve(&s, models[_i], 1);
    for (int draw = 0; draw < 12; draw++) {
        static const int exponents[] = {0, 0, -1, 0, 3, 0, -20, 20, -70, 60, -130, 100};
        lip_certifier *certifier;

        draw_weights(&s, exponents[draw]);
        OK(lip_certifier_new(s.snapshot, NULL, &certifier, &err));
        for (size_t r = 0; r < sizeof sizes / sizeof *sizes; r++) {
            float *x = malloc(N * s.in * sizeof *x), *y = malloc(N * s.out * sizeof *y);
            double *z = malloc(N * s.out * sizeof *z), *error = malloc(N * s.out * sizeof *error), deviation;

            for (size_t i = 0; i < N; i++)
                fill(x + i * s.in, s.in, sizes[r]);
            OK(lip_bound_transfer(s.snapshot, LIP_FP32, sizes[r], &deviation, &err));
            OK(lip_predict(s.snapshot, s.ws, N, x, y, &err));
            OK(lip_certifier_value(certifier, N, x, z, error, &err));
            for (size_t i = 0; i < N; i++) {
                struct exact e = forward(&s, _i, x + i * s.in);

                all++;
                if (!isnan(deviation)) {
                    double d = distance(y + i * s.out, &e);

                    bounded++;
                    positive += d > 0;
                    ck_assert_msg(d <= deviation, "model %d, weights 2^%d, inputs %g: float32 is off by %g, bound %g", _i, exponents[draw],
                                  sizes[r], d, deviation);
                }
                for (size_t j = 0; j < s.out; j++) {
                    double d = off(z[i * s.out + j], e.x[j]);

                    if (!isfinite(error[i * s.out + j]))
                        continue;
                    doubled++;
                    ck_assert_msg(d <= error[i * s.out + j], "model %d, weights 2^%d, inputs %g: double is off by %g, bound %g", _i,
                                  exponents[draw], sizes[r], d, error[i * s.out + j]);
                }
                exact_free(&e);
            }
            free(error);
            free(z);
            free(y);
            free(x);
        }
        lip_certifier_free(certifier);
    }
    /* No empty statement: most have a bound (not what could overflow), and most are rounded. */
    ck_assert_uint_eq(all, 12 * 8 * N);
    ck_assert_uint_gt(2 * bounded, all);
    ck_assert_uint_gt(2 * doubled, all * s.out);
    ck_assert_uint_gt(4 * positive, all);
    stop(&s);
    mpfr_clear(product);
    mpfr_clear(weight);
    mpfr_free_cache();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("oracle");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, rounding_stays_below_its_bound, 0, MODELS);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
