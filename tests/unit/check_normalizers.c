/* check_normalizers.c: the parts of the orthogonalisation as public functions, against worked numbers, deel-lip's and laws. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/bound.h>
#include <onelip/norm.h>
#include <onelip/random.h>

#include "check_main.h"
#include "tensor/gemm.h"

static float *noise(uint64_t stream, size_t n)
{
    lip_random r = {29, stream, 0};
    float *x = malloc(n * sizeof *x);

    lip_random_normal(&r, x, n);
    return x;
}

/* semantics.md 1.7, worked example A: printed with 8 digits, computed there in double. */
START_TEST(parts_together_are_the_worked_example)
{
    const float w[] = {3, 0, 4, 5}, wn[] = {0.4471469f, 0, 0.5961959f, 0.7452449f},
                wbar[] = {0.89442719f, -0.44721360f, 0.44721360f, 0.89442719f};
    float u[] = {1, 0}, a[4], *scratch = malloc(lip_bjorck_scratch(2, 2) * sizeof *scratch);
    lip_power_info power;
    lip_bjorck_info bjorck;

    ck_assert_int_eq(lip_spectral_normalization(w, 2, 2, 1e-3, 10, u, a, scratch, &power, NULL), LIP_OK);
    ck_assert_int_eq(power.iterations, 5);
    ck_assert_double_eq_tol(power.sigma, 6.7082039, 1e-6);
    ck_assert_float_eq_tol(u[0], 0.7071188f, 1e-6);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(a[i], wn[i], 1e-6);
    ck_assert_int_eq(lip_bjorck(a, 2, 2, 1e-3, 0.5, 15, a, scratch, &bjorck, NULL), LIP_OK);
    ck_assert_int_eq(bjorck.iterations, 7);
    ck_assert_double_eq_tol(bjorck.residual, 3.2e-6, 3e-7); /* a difference of float32 numbers near 1 */
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(a[i], wbar[i], 1e-6);
    free(scratch);
}
END_TEST

START_TEST(a_start_without_direction_is_drawn)
{
    const float w[] = {3, 0, 4, 5};
    float u[] = {0, 0}, a[4], scratch[6];
    lip_power_info power;

    ck_assert_int_eq(lip_spectral_normalization(w, 2, 2, 1e-6, 100, u, a, scratch, &power, NULL), LIP_OK);
    ck_assert(power.redrawn);
    ck_assert_double_eq_tol(power.sigma, sqrt(45), 1e-5);
}
END_TEST

START_TEST(parts_refuse_what_they_cannot_use)
{
    const float nan[] = {NAN, 1}, big[] = {3, 0, 0, 1}, ok[] = {1, 1};
    float u[] = {1, 0}, a[4] = {7, 7, 7, 7}, scratch[64];
    lip_conv_operator o = {4, 4, 1, 1, {3, 3}, {1, 1}, false, false};
    size_t in, out, n;

    ck_assert_int_eq(lip_spectral_normalization(ok, 1, 2, 0, 10, u, a, scratch, NULL, NULL), LIP_ERANGE);
    ck_assert_int_eq(lip_spectral_normalization(nan, 1, 2, 1e-3, 10, u, a, scratch, NULL, NULL), LIP_ENONFINITE);
    ck_assert_int_eq(lip_bjorck(ok, 1, 2, NAN, 0.5, 15, a, scratch, NULL, NULL), LIP_ERANGE);
    ck_assert_int_eq(lip_bjorck(ok, 1, 2, 1e-3, 0.6, 15, a, scratch, NULL, NULL), LIP_ERANGE);
    ck_assert_int_eq(lip_bjorck(nan, 1, 2, 1e-3, 0.5, 15, a, scratch, NULL, NULL), LIP_ENONFINITE);
    ck_assert_int_eq(lip_bjorck(big, 2, 2, 1e-3, 0.5, 15, a, scratch, NULL, NULL), LIP_ENUMERIC);
    o.strides[1] = 0;
    ck_assert_int_eq(lip_conv_operator_size(&o, &in, &out, &n, NULL), LIP_ESHAPE);
    o = (lip_conv_operator){2, 4, 1, 1, {3, 3}, {1, 1}, true, false};
    ck_assert_int_eq(lip_conv_operator_size(&o, &in, &out, &n, NULL), LIP_ESHAPE);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq(a[i], 7);
}
END_TEST

/* (h, w, c, f), kernel, strides. */
static const lip_conv_operator operators[] = {
    {5, 4, 1, 1, {3, 3}, {1, 1}, false, false}, {5, 4, 2, 3, {2, 4}, {1, 1}, false, false}, {6, 7, 2, 3, {3, 2}, {2, 3}, false, false},
    {5, 4, 2, 3, {3, 3}, {1, 1}, true, false},  {5, 4, 2, 3, {2, 4}, {1, 1}, true, false},  {6, 7, 3, 2, {4, 3}, {2, 3}, true, false},
    {6, 8, 2, 3, {3, 3}, {2, 2}, false, true},  {6, 8, 2, 3, {2, 3}, {2, 2}, true, true},   {1, 1, 1, 1, {1, 1}, {1, 1}, false, false},
};

/* <A x, y> = <x, A* y>, and sigma is the norm of the matrix that unit vectors make. */
START_TEST(convolutions_have_their_adjoint_and_norm)
{
    const lip_conv_operator *o = &operators[_i];
    size_t in, out, size, nk = o->kernel[0] * o->kernel[1] * o->channels * o->filters;
    lip_power_info power;
    lip_interval norm;

    ck_assert_int_eq(lip_conv_operator_size(o, &in, &out, &size, NULL), LIP_OK);
    float *k = noise(1, nk), *x = noise(2, in), *y = noise(3, out), *wbar = malloc(nk * sizeof *wbar);
    float *ax = malloc(out * sizeof *ax), *ay = malloc(in * sizeof *ay), *matrix = calloc(in * out, sizeof *matrix);
    float *scratch = aligned_alloc(64, (size * sizeof *scratch + 63) / 64 * 64);

    ck_assert_int_eq(lip_conv_operator_apply(o, k, false, x, ax, scratch, NULL), LIP_OK);
    ck_assert_int_eq(lip_conv_operator_apply(o, k, true, y, ay, scratch, NULL), LIP_OK);
    /* float32 products of Gaussian numbers: a few hundred roundings of numbers around 10 */
    ck_assert_double_eq_tol(lip__dot(ax, y, out), lip__dot(x, ay, in), 1e-4 * (1 + lip__norm(ax, out) * lip__norm(y, out)));
    for (size_t i = 0; i < in; i++) {
        memset(x, 0, in * sizeof *x);
        x[i] = 1;
        ck_assert_int_eq(lip_conv_operator_apply(o, k, false, x, matrix + i * out, scratch, NULL), LIP_OK);
    }
    ck_assert_int_eq(lip_bound_matrix(matrix, in, out, &norm, NULL, NULL), LIP_OK);
    memset(x, 0, in * sizeof *x);
    ck_assert_int_eq(lip_spectral_normalization_conv(o, k, 1e-6, 5000, x, wbar, scratch, &power, NULL), LIP_OK);
    ck_assert_double_le(power.sigma, norm.upper * (1 + 1e-6));
    ck_assert_double_ge(power.sigma, norm.lower * (1 - 1e-4)); /* a power iteration comes from below */
    for (size_t i = 0; i < nk; i++)
        ck_assert_float_eq_tol(wbar[i], (float)(k[i] / (power.sigma + 1e-6)), 1e-6);
    free(k), free(x), free(y), free(wbar), free(ax), free(ay), free(matrix), free(scratch);
}
END_TEST

/* sigma as deel-lip 1.5.0 found it (spectral_normalization_conv with eps 1e-6, 2000 iterations, on TensorFlow 2.15). */
START_TEST(convolutions_have_deel_lips_sigma)
{
    static const struct {
        lip_conv_operator o;
        double sigma;
    } recorded[] = {
        {{4, 5, 1, 1, {3, 3}, {1, 1}, false, false}, 25.134319305419922}, {{4, 5, 1, 1, {3, 3}, {2, 2}, false, false}, 17.639972686767578},
        {{4, 6, 1, 1, {3, 3}, {2, 2}, false, true}, 18.080158233642578},  {{4, 5, 1, 1, {3, 3}, {1, 1}, true, false}, 26.999998092651367},
        {{4, 6, 1, 1, {3, 3}, {2, 2}, true, false}, 18.4661865234375},
    };
    const float k[] = {1, 2, 3, 4, 5, 6, 7, 8, -9};

    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++) {
        size_t in, out, size;
        lip_power_info power;
        float u[24] = {0}, wbar[9];

        ck_assert_int_eq(lip_conv_operator_size(&recorded[i].o, &in, &out, &size, NULL), LIP_OK);
        float *scratch = aligned_alloc(64, (size * sizeof *scratch + 63) / 64 * 64);
        ck_assert_int_eq(lip_spectral_normalization_conv(&recorded[i].o, k, 1e-6, 2000, u, wbar, scratch, &power, NULL), LIP_OK);
        ck_assert_double_eq_tol(power.sigma / recorded[i].sigma, 1, 1e-6);
        free(scratch);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("normalizers");
    TCase *t = tcase_create("normalizers");

    tcase_add_test(t, parts_together_are_the_worked_example);
    tcase_add_test(t, a_start_without_direction_is_drawn);
    tcase_add_test(t, parts_refuse_what_they_cannot_use);
    tcase_add_loop_test(t, convolutions_have_their_adjoint_and_norm, 0, (int)(sizeof operators / sizeof *operators));
    tcase_add_test(t, convolutions_have_deel_lips_sigma);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
