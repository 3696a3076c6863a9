/* check_initializers.c: variables begin as Keras and deel-lip say, and objects own what is in them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "check_main.h"
#include "layers/layer.h"
#include "tensor/gemm.h"

enum { SPECTRAL, GLOROT, ZEROS, ONES, ORTHOGONAL, CONSTANT, IDENTITY, ALL = 16 };

/* The value of a field of a fresh object, by its name. */
static void *field(struct lip__object *o, const char *name)
{
    for (const struct lip__field *f = o->cls->fields; f->name; f++)
        if (!strcmp(f->name, name))
            return (char *)o + f->offset;
    ck_abort_msg("%s has no field %s", o->cls->name, name);
}

static float *filled(const struct lip__object *o, const lip_shape *shape, uint64_t seed)
{
    lip_random random = {seed, lip_random_stream("d1/kernel"), 0};
    float *x = malloc(lip_shape_count(shape) * sizeof *x);
    lip_error err = {0};

    ck_assert_msg(lip__initialize(o, shape, &random, x, &err) == LIP_OK, "%s", err.text);
    return x;
}

static const lip_shape shapes[] = {{2, {30, 12}}, {2, {12, 30}}, {4, {3, 3, 5, 7}}, {4, {3, 3, 2, 40}}, {1, {9}}, {2, {1, 1}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(names_are_those_of_keras)
{
    static const char *const names[ALL] = {
        "SpectralInitializer", "GlorotUniform",   "Zeros",           "Ones",         "Orthogonal", "Constant",
        "Identity",            "RandomUniform",   "RandomNormal",    "TruncatedNormal", "VarianceScaling", "GlorotNormal",
        "HeUniform",           "HeNormal",        "LecunUniform",    "LecunNormal"};

    for (int i = 0; i < ALL; i++)
        ck_assert_str_eq(lip__initializers[i]->name, names[i]);
    ck_assert_ptr_null(lip__initializers[ALL]);
}
END_TEST

START_TEST(constants_are_constant)
{
    struct lip__object *zero = lip__object_new(lip__initializers[ZEROS]), *one = lip__object_new(lip__initializers[ONES]);
    float *x = filled(zero, &shapes[_i], 1), *y = filled(one, &shapes[_i], 1);

    for (size_t i = 0; i < lip_shape_count(&shapes[_i]); i++)
        ck_assert(x[i] == 0 && y[i] == 1);
    free(x), free(y);
    lip__object_free(zero);
    lip__object_free(one);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_kernel)
{
    struct lip__object *o = lip__object_new(lip__initializers[_i]), *seeded = lip__object_new(lip__initializers[_i]);
    bool fixed = _i == ZEROS || _i == ONES || _i == CONSTANT || _i == IDENTITY, random = !fixed && _i != SPECTRAL;
    float *a = filled(o, &shapes[0], 5), *b = filled(o, &shapes[0], 5), *c = filled(o, &shapes[0], 6), *d, *e;

    ck_assert_mem_eq(a, b, 360 * sizeof *a);
    ck_assert(!memcmp(a, c, 360 * sizeof *a) == fixed);
    if (random) {
        *(long *)field(seeded, "seed") = 77;
        d = filled(seeded, &shapes[0], 5);
        e = filled(seeded, &shapes[0], 6);
        ck_assert(memcmp(a, d, 360 * sizeof *a));
        ck_assert_mem_eq(d, e, 360 * sizeof *d);
        free(d), free(e);
    }
    free(a), free(b), free(c);
    lip__object_free(o);
    lip__object_free(seeded);
}
END_TEST

START_TEST(glorot_fills_its_interval)
{
    static const struct {
        lip_shape shape;
        double limit;
    } cases[] = {{{2, {300, 200}}, 0.109544512}, {{4, {3, 3, 50, 100}}, 0.0666666667}, {{1, {3000}}, 0.0316227766}};
    struct lip__object *o = lip__object_new(lip__initializers[GLOROT]);
    size_t n = lip_shape_count(&cases[_i].shape);
    float *x = filled(o, &cases[_i].shape, 3);
    double low = 0, high = 0, square = 0;

    for (size_t i = 0; i < n; i++) {
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
        square += (double)x[i] * x[i] / (double)n;
    }
    ck_assert_double_le(high, cases[_i].limit * 1.000001);
    ck_assert_double_ge(low, -cases[_i].limit * 1.000001);
    ck_assert_double_gt(high - low, 1.99 * cases[_i].limit);
    ck_assert_double_lt(fabs(square / (cases[_i].limit * cases[_i].limit / 3) - 1), 0.1);
    free(x);
    lip__object_free(o);
}
END_TEST

/* Mean, deviation and the interval of what is drawn: n = 60000 numbers, so a mean is known to 4e-3 deviations, a deviation
 * to 3e-3 of itself; the test allows about five times that. */
START_TEST(distributions_have_their_moments)
{
    static const struct {
        const char *name;
        lip_shape shape;
        double mean, deviation, low, high;
    } cases[] = {
        {"RandomUniform", {2, {300, 200}}, 0, 0.1 / 3.4641016, -0.05, 0.05},
        {"RandomNormal", {2, {300, 200}}, 0, 0.05, -0.5, 0.5},
        {"TruncatedNormal", {2, {300, 200}}, 0, 0.05 * 0.87962566, -0.1, 0.1},
        {"VarianceScaling", {2, {300, 200}}, 0, 0.057735027, -0.13127, 0.13127},  /* sqrt(1/300), cut at 2/0.8796 */
        {"GlorotNormal", {2, {300, 200}}, 0, 0.063245553, -0.14380, 0.14380},     /* sqrt(2/500) */
        {"HeUniform", {4, {3, 2, 50, 200}}, 0, 0.081649658, -0.14142136, 0.14142136}, /* fan_in 300 */
        {"HeNormal", {4, {3, 2, 50, 200}}, 0, 0.081649658, -0.18565, 0.18565},
        {"LecunUniform", {2, {300, 200}}, 0, 0.057735027, -0.1, 0.1},
        {"LecunNormal", {2, {300, 200}}, 0, 0.057735027, -0.13127, 0.13127},
    };
    int which = 0;
    while (strcmp(lip__initializers[which]->name, cases[_i].name))
        which++;
    struct lip__object *o = lip__object_new(lip__initializers[which]);
    size_t n = lip_shape_count(&cases[_i].shape);
    float *x = filled(o, &cases[_i].shape, 9);
    double mean = 0, square = 0, low = 1e9, high = -1e9;

    for (size_t i = 0; i < n; i++) {
        mean += x[i] / (double)n;
        square += (double)x[i] * x[i] / (double)n;
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
    }
    ck_assert_double_le(fabs(mean - cases[_i].mean), 0.02 * cases[_i].deviation);
    ck_assert_double_le(fabs(sqrt(square) / cases[_i].deviation - 1), 0.015);
    ck_assert_double_ge(low, cases[_i].low * 1.0001);
    ck_assert_double_le(high, cases[_i].high * 1.0001);
    free(x);
    lip__object_free(o);
}
END_TEST

START_TEST(constant_and_identity_are_what_they_say)
{
    struct lip__object *c = lip__object_new(lip__initializers[CONSTANT]), *eye = lip__object_new(lip__initializers[IDENTITY]);
    lip_random random = {1, 1, 0};
    float x[12], y[27];
    lip_shape wide = {2, {3, 4}}, cube = {3, {3, 3, 3}};

    *(double *)field(c, "value") = -0.25;
    *(double *)field(eye, "gain") = 2;
    ck_assert_int_eq(lip__initialize(c, &wide, &random, x, NULL), LIP_OK);
    for (int i = 0; i < 12; i++)
        ck_assert(x[i] == -0.25f);
    ck_assert_int_eq(lip__initialize(eye, &wide, &random, x, NULL), LIP_OK);
    for (int i = 0; i < 12; i++)
        ck_assert(x[i] == (i / 4 == i % 4 ? 2 : 0));
    ck_assert_int_eq(lip__initialize(eye, &cube, &random, y, NULL), LIP_EDEFINITION);
    lip__object_free(eye);
    lip__object_free(c);
}
END_TEST

/* The Gram matrix of the smaller side is size^2 times the identity. */
static void is_orthogonal(const float *x, const lip_shape *shape, double size, double tolerance)
{
    size_t n = shape->dim[shape->rank - 1], m = lip_shape_count(shape) / n;

    for (size_t a = 0; a < (m < n ? m : n); a++)
        for (size_t b = 0; b <= a; b++) {
            double dot = 0;
            for (size_t i = 0; i < (m < n ? n : m); i++)
                dot += m < n ? (double)x[a * n + i] * x[b * n + i] : (double)x[i * n + a] * x[i * n + b];
            ck_assert_double_lt(fabs(dot - (a == b ? size * size : 0)), tolerance);
        }
}

START_TEST(orthogonal_is_orthogonal)
{
    struct lip__object *o = lip__object_new(lip__initializers[ORTHOGONAL]);
    float *x = filled(o, &shapes[_i], 3);

    is_orthogonal(x, &shapes[_i], 1, 1e-6);
    free(x);
    *(double *)field(o, "gain") = 2.5;
    x = filled(o, &shapes[_i], 3);
    is_orthogonal(x, &shapes[_i], 2.5, 1e-5);
    free(x);
    lip__object_free(o);
}
END_TEST

/* With R's diagonal made positive the distribution is uniform over rotations: the mean of an element is zero. */
START_TEST(orthogonal_favours_no_sign)
{
    struct lip__object *o = lip__object_new(lip__initializers[ORTHOGONAL]);
    lip_shape one = {2, {1, 1}};
    int positive = 0;

    for (uint64_t seed = 0; seed < 400; seed++) {
        float *x = filled(o, &one, seed);
        ck_assert(fabsf(x[0]) == 1);
        positive += x[0] > 0;
        free(x);
    }
    ck_assert_int_gt(positive, 140);
    ck_assert_int_lt(positive, 260);
    lip__object_free(o);
}
END_TEST

START_TEST(spectral_is_orthogonal_times_k)
{
    struct lip__object *o = lip__object_new(lip__initializers[SPECTRAL]);
    float *x = filled(o, &shapes[_i], 3);

    is_orthogonal(x, &shapes[_i], 1, 1e-5);
    free(x);
    *(double *)field(o, "k_coef_lip") = 0.5;
    x = filled(o, &shapes[_i], 3);
    is_orthogonal(x, &shapes[_i], 0.5, 1e-5);
    free(x);
    lip__object_free(o);
}
END_TEST

START_TEST(spectral_without_bjorck_divides_only)
{
    struct lip__object *o = lip__object_new(lip__initializers[SPECTRAL]);
    float *x;

    *(double *)field(o, "eps_bjorck") = NAN;
    x = filled(o, &shapes[0], 3);
    is_orthogonal(x, &shapes[0], 1 / 1.001, 1e-5);
    free(x);
    lip__object_free(*(struct lip__object **)field(o, "base_initializer"));
    *(struct lip__object **)field(o, "base_initializer") = lip__object_new(lip__initializers[ONES]);
    x = filled(o, &shapes[0], 3); /* of ones (30, 12): rank one, norm sqrt(360) */
    for (int i = 0; i < 360; i++)
        ck_assert_double_lt(fabs(x[i] - 1 / (sqrt(360) + 1e-3)), 1e-7);
    free(x);
    lip__object_free(o);
}
END_TEST

START_TEST(spectral_needs_a_base)
{
    struct lip__object *o = lip__object_new(lip__initializers[SPECTRAL]);
    struct lip__object **base = field(o, "base_initializer");
    lip_random random = {1, 1, 0};
    lip_error err = {0};
    float x[360];

    lip__object_free(*base);
    *base = NULL;
    ck_assert_int_eq(lip__initialize(o, &shapes[0], &random, x, &err), LIP_EDEFINITION);
    ck_assert_ptr_nonnull(strstr(err.text, "base_initializer"));
    lip__object_free(o);
}
END_TEST

/* ---- objects ------------------------------------------------------------------------------------------ */

START_TEST(defaults_are_those_of_the_table)
{
    struct lip__object *o = lip__object_new(lip__initializers[SPECTRAL]);

    ck_assert(*(double *)field(o, "eps_spectral") == 1e-3);
    ck_assert(*(double *)field(o, "beta_bjorck") == 0.5);
    ck_assert_str_eq((*(struct lip__object **)field(o, "base_initializer"))->cls->name, "Orthogonal");
    lip__object_free(o);
    lip__object_free(NULL);
}
END_TEST

START_TEST(choices_are_strings_of_their_own)
{
    struct lip__field padding = {.name = "padding", .type = LIP__CHOICE, .choices = "same|valid|samevalid"},
                      any = padding;
    const char *same = lip__field_choice(&padding, "same"), *valid = lip__field_choice(&padding, "valid");

    any.flags = LIP__ANY_CASE;
    ck_assert_str_eq(same, "same");
    ck_assert_str_eq(valid, "valid");
    ck_assert_str_eq(lip__field_choice(&padding, "samevalid"), "samevalid");
    ck_assert_ptr_eq(lip__field_choice(&padding, "same"), same);
    ck_assert_ptr_eq(lip__field_choice(&any, "SAME"), same);
    ck_assert_ptr_null(lip__field_choice(&padding, "SAME"));
    ck_assert_ptr_null(lip__field_choice(&padding, "sam"));
    ck_assert_ptr_null(lip__field_choice(&padding, ""));
    ck_assert_ptr_null(lip__field_choice(&padding, "same|valid"));
}
END_TEST

static int allowed;

static int fail_after(void)
{
    return allowed-- <= 0;
}

START_TEST(each_failing_allocation_is_an_error)
{
    lip_random random = {1, 1, 0};
    struct lip__object *o;
    float x[360];
    int n;

    lip__alloc_hook = fail_after;
    for (n = 0;; n++) {
        allowed = n;
        o = lip__object_new(lip__initializers[_i]);
        if (o)
            break;
    }
    ck_assert_int_eq(n, _i == SPECTRAL ? 2 : 1);
    for (n = 0;; n++) {
        lip_error err = {0};
        allowed = n;
        if (lip__initialize(o, &shapes[0], &random, x, &err) == LIP_OK)
            break;
        ck_assert_int_eq(err.code, LIP_ENOMEM);
    }
    ck_assert_int_eq(n > 0, _i == SPECTRAL || _i == ORTHOGONAL);
    lip__alloc_hook = NULL;
    lip__object_free(o);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("initializers");
    TCase *t = tcase_create("initializers");

    tcase_add_test(t, names_are_those_of_keras);
    tcase_add_loop_test(t, distributions_have_their_moments, 0, 9);
    tcase_add_test(t, constant_and_identity_are_what_they_say);
    tcase_add_loop_test(t, constants_are_constant, 0, SHAPES);
    tcase_add_loop_test(t, the_same_seed_gives_the_same_kernel, 0, ALL);
    tcase_add_loop_test(t, glorot_fills_its_interval, 0, 3);
    tcase_add_loop_test(t, orthogonal_is_orthogonal, 0, SHAPES);
    tcase_add_test(t, orthogonal_favours_no_sign);
    tcase_add_loop_test(t, spectral_is_orthogonal_times_k, 0, SHAPES);
    tcase_add_test(t, spectral_without_bjorck_divides_only);
    tcase_add_test(t, spectral_needs_a_base);
    tcase_add_test(t, defaults_are_those_of_the_table);
    tcase_add_test(t, choices_are_strings_of_their_own);
    tcase_add_loop_test(t, each_failing_allocation_is_an_error, 0, ALL);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
