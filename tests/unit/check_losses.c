/* check_losses.c: the worked numbers of deel-lip's own tests, gradients against differences, labels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/random.h>

#include "io/keras_json.h"
#include "losses/loss.h"
#include "check_main.h"

enum { MOST = 512 };

static const struct lip__loss_class *find(const char *name)
{
    for (size_t i = 0; lip__losses[i]; i++)
        if (!strcmp(lip__losses[i]->name, name))
            return (const struct lip__loss_class *)lip__losses[i];
    ck_abort_msg("no loss is named %s", name);
}

/* The parameters of all losses; each reads its own. */
struct setting {
    double alpha, min_margin, tau;
    bool multi_gpu;
};

static struct lip__loss *make(const char *name, struct setting s)
{
    struct lip__loss *l = (struct lip__loss *)lip__object_new(&find(name)->cls);

    ck_assert_ptr_nonnull(l);
    l->alpha = s.alpha;
    l->min_margin = s.min_margin;
    l->tau = s.tau;
    l->multi_gpu = s.multi_gpu;
    lip__loss_begin(&l->base);
    return l;
}

static double reduced(const struct lip__loss *l, size_t n, size_t c, const float *y, const float *p,
                      const float *weight, float *dp)
{
    double scratch[4 * MOST + 6 * MOST];

    return lip__loss(&l->base, &(struct lip__scored){.n = n, .c = c, .y = y, .p = p, .sample_weight = weight, .dp = dp,
                                                     .scratch = scratch});
}

/* Per-sample values, reduction none. */
static void singles(const struct lip__loss *l, size_t n, size_t c, const float *y, const float *p, float *value)
{
    double scratch[4 * MOST + 6 * MOST];

    lip__loss(&l->base, &(struct lip__scored){.n = n, .c = c, .y = y, .p = p, .per_sample = value, .scratch = scratch});
}

static void expect(const char *name, struct setting s, size_t n, size_t c, const float *y, const float *p,
                   const double *wanted, double divisor)
{
    struct lip__loss *l = make(name, s);
    float value[MOST];
    double mean = 0, total = 0;

    singles(l, n, c, y, p, value);
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(fabs(value[i] - wanted[i] / divisor) <= 2e-6 * fmax(1, fabs(wanted[i] / divisor)),
                      "%s, sample %zu: %.9g, wanted %.9g", name, i, (double)value[i], wanted[i] / divisor);
        mean += value[i] / (double)n;
        total += value[i];
    }
    ck_assert_double_eq_tol(reduced(l, n, c, y, p, NULL, NULL), mean, 1e-6 * fmax(1, fabs(mean)));
    l->reduction = "sum";
    ck_assert_double_eq_tol(reduced(l, n, c, y, p, NULL, NULL), total, 1e-6 * fmax(1, fabs(total)));
    lip__object_free(&l->base);
}

static void expect_mean(const char *name, struct setting s, size_t n, size_t c, const float *y, const float *p,
                        double wanted, double tolerance)
{
    struct lip__loss *l = make(name, s);

    ck_assert_double_eq_tol(reduced(l, n, c, y, p, NULL, NULL), wanted, tolerance);
    lip__object_free(&l->base);
}

static void one_hot(size_t n, size_t c, const int *class, float other, float *y)
{
    for (size_t i = 0; i < n * c; i++)
        y[i] = (size_t) class[i / c] == i % c ? 1 : other;
}

#define SET(...)  ((struct setting){__VA_ARGS__})
#define LIST(...) ((const double[]){__VA_ARGS__})

START_TEST(binary_values_are_those_of_deel_lip)
{
    static const float y1[] = {1, 1, 1, 0, 0, 0}, p1[] = {.5f, 1.5f, -.5f, -.5f, -1.5f, .5f};
    static const float y2[] = {1, 1, 1, 1, 0, 0, 0, 0}, y2s[] = {1, 1, 1, 1, -1, -1, -1, -1};
    static const float p2[] = {.5f, 1.1f, -.1f, .7f, -1.3f, -.4f, .2f, -.9f};

    expect_mean("KR", SET(0), 6, 1, y1, p1, 1.0, 1e-6);
    expect_mean("HingeMargin", SET(.min_margin = 2), 6, 1, y1, p1, 2.0 / 3, 1e-6);
    expect_mean("TauBinaryCrossentropy", SET(.tau = 2), 6, 1, y1, p1, 0.279185, 1e-6);
    for (int sign = 0; sign < 2; sign++) {
        const float *y = sign ? y2s : y2;

        expect("KR", SET(0), 8, 1, y, p2, LIST(1, 2.2, -.2, 1.4, 2.6, .8, -.4, 1.8), 1);
        expect("HKR", SET(.alpha = 2.5, .min_margin = 2), 8, 1, y, p2,
               LIST(.25, -2.2, 2.95, -.65, -2.6, .7, 3.4, -1.55), 1);
        expect("HingeMargin", SET(.min_margin = 1.4), 8, 1, y, p2, LIST(.2, 0, .8, 0, 0, .3, .9, 0), 1);
        expect("HKR", SET(.alpha = INFINITY, .min_margin = 1.4), 8, 1, y, p2, LIST(.2, 0, .8, 0, 0, .3, .9, 0), 1);
        expect("TauBinaryCrossentropy", SET(.tau = .5), 8, 1, y, p2,
               LIST(1.1518788, 0.9109850, 1.4369193, 1.0667643, 0.8401107, 1.1962777, 1.4887933, 0.9864979), 1);
    }
}
END_TEST

START_TEST(multiclass_values_are_those_of_deel_lip)
{
    static const int class2[] = {0, 0, 0, 1, 1, 2}, class3[] = {0, 0, 0, 1, 1, 1, 2, 2};
    static const float p2[] = {2, .2f, -.5f, -1,   -1.2f, .3f,   .8f,  2,     0,
                               0, 1,   -.5f, 2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f};
    static const float p3[] = {1.5f, .2f, -.5f, 1,    -1.2f, .3f,   .8f,  2,     -2,  0,    1,    -.5f,
                               -.8f, 2,   0,    2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f, 1.2f, 1.3f, 2.5f};
    static const float index3[] = {0, 0, 0, 1, 1, 1, 2, 2};
    const double *ce = LIST(.044275, .115109, 1.243572, .084923, .010887, 2.8023, .114224, .076357);
    float y2[18], y3[24];

    for (int sign = 0; sign < 2; sign++) {
        one_hot(6, 3, class2, sign ? -1 : 0, y2);
        one_hot(8, 3, class3, sign ? -1 : 0, y3);
        expect_mean("MulticlassKR", SET(0), 6, 3, y2, p2, 761.0 / 1800, 1e-6);
        expect_mean("MulticlassHKR", SET(.alpha = 5, .min_margin = 2), 6, 3, y2, p2, 1071.0 / 200, 6e-6);
        expect("MulticlassKR", SET(0), 8, 3, y3, p3, LIST(326, 314, 120, 250, 496, -258, 396, 450), 225);
        expect("MulticlassHinge", SET(.min_margin = 2), 8, 3, y3, p3, LIST(17, 13, 34, 15, 12, 62, 17, 45), 30);
        expect("MultiMargin", SET(.min_margin = .7), 8, 3, y3, p3, LIST(0, 0, 19, 0, 0, 35, 0, 0), 30);
        expect("MulticlassHKR", SET(.alpha = 2.5, .min_margin = 1), 8, 3, y3, p3,
               LIST(-779, -656, 1395, -625, -1609, 4557, -1284, 825), 900);
        expect("CategoricalHinge", SET(.min_margin = 1.1), 8, 3, y3, p3, LIST(0, .4, 2.3, .1, 0, 3.9, .4, 0), 1);
    }
    one_hot(8, 3, class3, 0, y3);
    expect("TauCategoricalCrossentropy", SET(.tau = 2), 8, 3, y3, p3, ce, 1);
    expect("TauSparseCategoricalCrossentropy", SET(.tau = 2), 8, 3, index3, p3, ce, 1);
}
END_TEST

/* 13.4. Each call moves the running mean, unless nobody keeps it. */
START_TEST(soft_values_are_those_of_deel_lip)
{
    static const int class2[] = {0, 0, 0, 1, 1, 2}, class3[] = {0, 0, 0, 1, 1, 1, 2, 2};
    static const float p2[] = {2, .2f, -.5f, -1,   -1.2f, .3f,   .8f,  2,     0,
                               0, 1,   -.5f, 2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f};
    static const float p3[] = {1.5f, .2f, -.5f, 1,    -1.2f, .3f,   .8f,  2,     -2,  0,    1,    -.5f,
                               -.8f, 2,   0,    2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f, 1.2f, 1.3f, 2.5f};
    static const double first[] = {1.0897621, 1.0834466};
    double scratch[512];
    float y[24];

    for (int sign = 0; sign < 2; sign++) {
        struct lip__loss *l = make("MulticlassSoftHKR", SET(.alpha = 5, .min_margin = .2));
        one_hot(6, 3, class2, sign ? -1 : 0, y);
        for (int call = 0; call < 2; call++)
            ck_assert_double_eq_tol(lip__loss(&l->base, &(struct lip__scored){.n = 6, .c = 3, .y = y, .p = p2,
                                                                             .mean = &l->mean, .scratch = scratch}),
                                    first[call], 1e-6);
        ck_assert_double_eq(reduced(l, 6, 3, y, p2, NULL, NULL), reduced(l, 6, 3, y, p2, NULL, NULL));
        lip__object_free(&l->base);
        one_hot(8, 3, class3, sign ? -1 : 0, y);
        expect("MulticlassSoftHKR", SET(.alpha = 5, .min_margin = .2), 8, 3, y, p3,
               LIST(-.10878129, .12582462, 2.2788424, -.17646402, -.38242298, 3.4523692, -.19672059, 1.1028761), 1);
    }
}
END_TEST

/* What torchlip 1.0.5 on torch 2 gives for data set 3. */
START_TEST(torchlips_values)
{
    static const int class3[] = {0, 0, 0, 1, 1, 1, 2, 2};
    static const float p[] = {1.5f, .2f, -.5f, 1,    -1.2f, .3f,   .8f,  2,     -2,  0,    1,    -.5f,
                              -.8f, 2,   0,    2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f, 1.2f, 1.3f, 2.5f};
    static const struct {
        double alpha, temperature, penalty, margin, value[8], slope[9]; /* slope of the mean, of the first samples */
    } wanted[] = {
        {.9, 10, 1, 1, {.9500437, 2.4499998, 19.65, -.54929614, -1.5499893, 28.9, -.70000017, 11.110964},
         {-.125, 1.249924, 7.6289e-5, -.125, 0, 1.25, -.125, 1.25, 0}},
        {1, 1, 2, .5, {.68177414, .63496256, 2.2528121, .5424813, .4556464, 3.305614, .22451179, 2.0017314},
         {0, .0906501, .0343499, 0, .0138889, .1111111, 0, .1245136, .0004864}},
        {0, 1, 1, 1, {-1.0682259, -.61503744, 1.2028122, -.7075187, -1.7943536, 2.805614, -.6254882, -.7482685},
         {-.125, .0906501, .0343499, -.125, .0138889, .1111111, -.125, .1245136, .0004864}}};
    static const float two[] = {.25f, 1}, yes[] = {1, 0};
    float y[24], value[8], dp[24];
    struct lip__loss *l;

    one_hot(8, 3, class3, 0, y);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++) {
        l = make("LseHKRMulticlassLoss", SET(.alpha = wanted[k].alpha, .min_margin = wanted[k].margin));
        l->temperature = wanted[k].temperature;
        l->penalty = wanted[k].penalty;
        singles(l, 8, 3, y, p, value);
        reduced(l, 8, 3, y, p, NULL, dp);
        for (size_t i = 0; i < 8; i++) /* the lists have eight digits, torch computes in float32 */
            ck_assert_double_eq_tol(value[i], wanted[k].value[i], 1e-6 * fmax(1, fabs(wanted[k].value[i])));
        for (size_t i = 0; i < 9; i++)
            ck_assert_double_eq_tol(dp[i], wanted[k].slope[i], 2e-6);
        lip__object_free(&l->base);
    }
    /* One other class, where torchlip divides by zero: its score is its own maximum. */
    l = make("LseHKRMulticlassLoss", SET(.alpha = .5, .min_margin = 1));
    ck_assert_double_eq_tol(reduced(l, 1, 2, yes, two, NULL, dp), .5 * .75 + .5 * (.25 + 1.5), 1e-6);
    ck_assert_float_eq(dp[0], -1);
    ck_assert_float_eq(dp[1], 1);
    lip__object_free(&l->base);
}
END_TEST

/* 17.4: N (l / n_c - (1 - l) / (N - n_c)). */
START_TEST(processed_labels_give_the_same_sum)
{
    static const float y2[] = {2, 2, 2, 2, -2, -2, -2, -2};
    static const float p2[] = {.5f, 1.1f, -.1f, .7f, -1.3f, -.4f, .2f, -.9f};
    static const int class3[] = {0, 0, 0, 1, 1, 1, 2, 2};
    static const float p3[] = {1.5f, .2f, -.5f, 1,    -1.2f, .3f,   .8f,  2,     -2,  0,    1,    -.5f,
                               -.8f, 2,   0,    2.4f, -.4f,  -1.1f, -.1f, -1.7f, .6f, 1.2f, 1.3f, 2.5f};
    static const double in[] = {3, 3, 2};
    float y3[24];

    for (size_t i = 0; i < 24; i++)
        y3[i] = (float)((size_t)class3[i / 3] == i % 3 ? 8 / in[i % 3] : -8 / (8 - in[i % 3]));
    expect_mean("KR", SET(.multi_gpu = true), 8, 1, y2, p2, 9.2 / 8, 1e-6);
    expect_mean("HKR", SET(.alpha = 2.5, .min_margin = 2, .multi_gpu = true), 8, 1, y2, p2, 0.3 / 8, 1e-6);
    expect_mean("MulticlassKR", SET(.multi_gpu = true), 8, 3, y3, p3, 698.0 / 75 / 8, 1e-6);
    expect_mean("MulticlassHKR", SET(.alpha = 2.5, .min_margin = 1, .multi_gpu = true), 8, 3, y3, p3, 152.0 / 75 / 8,
                1e-6);
}
END_TEST

/* D63: TensorFlow's graph gives NaN for the first. */
START_TEST(an_absent_class_counts_nothing)
{
    static const float ones[] = {1, 1, 1}, zeros[] = {0, 0, 0}, p[] = {1, 2, 3}, two[] = {1, 0}, p2[] = {1, 1};

    expect("KR", SET(0), 3, 1, ones, p, LIST(1, 2, 3), 1);
    expect("KR", SET(0), 3, 1, zeros, p, LIST(-1, -2, -3), 1);
    expect("KR", SET(0), 2, 1, two, p2, LIST(1.9999998, -2), 1);
    expect("HKR", SET(.alpha = 10, .min_margin = 1), 3, 1, ones, p, LIST(-1, -2, -3), 1);
}
END_TEST

static const char *const all[] = {"KR",
                                  "HKR",
                                  "HingeMargin",
                                  "TauBinaryCrossentropy",
                                  "MulticlassKR",
                                  "MulticlassHinge",
                                  "MulticlassHKR",
                                  "MultiMargin",
                                  "CategoricalHinge",
                                  "TauCategoricalCrossentropy",
                                  "TauSparseCategoricalCrossentropy",
                                  "MulticlassSoftHKR",
                                  "LseHKRMulticlassLoss"};
enum { ALL = sizeof all / sizeof *all };

/* Random labels of the loss's own kind and predictions, n samples of c classes. */
static void draw(const struct lip__loss_class *cls, lip_random *r, size_t n, size_t c, float *y, float *p,
                 float *weight)
{
    bool multiclass = cls->one_hot || cls->indices;

    lip_random_normal(r, p, n * c);
    lip_random_uniform(r, weight, n);
    for (size_t i = 0; i < n; i++) {
        size_t class = (size_t)(lip_random_u64(r) % c);

        if (cls->indices)
            y[i] = (float)class;
        for (size_t j = 0; !cls->indices && j < c; j++)
            y[i * c + j] = multiclass ? class == j : (float)(lip_random_u64(r) & 1);
    }
}

START_TEST(gradients_are_the_slopes_of_the_loss)
{
    const struct lip__loss_class *cls = find(all[_i]);
    lip_random r = {.seed = 7, .stream = (uint64_t)_i};
    const double h = 1.0 / 512; /* the differences are exact in float32; hinges are straight but for their kink */
    size_t kinks = 0, tried = 0;

    for (int trial = 0; trial < 20; trial++) {
        bool multiclass = cls->one_hot || cls->indices;
        size_t n = 1 + (size_t)trial % 6, c = multiclass ? 2 + (size_t)trial % 4 : 1 + (size_t)trial % 3;
        struct lip__loss *l = make(all[_i], SET(.alpha = 5, .min_margin = 1, .tau = 3));
        float y[64], p[64], weight[64], dp[64], none[64];

        l->alpha_mean = 1; /* the temperature of a soft loss is held constant by its gradient */
        draw(cls, &r, n, c, y, p, weight);
        if (trial % 3 == 0)
            l->reduction = "sum";
        reduced(l, n, c, y, p, weight, dp);
        for (size_t i = 0; i < n * c; i++) {
            float at = roundf(p[i] * 256) / 256;
            double up, down, slope, here;

            p[i] = at;
            reduced(l, n, c, y, p, weight, dp);
            here = dp[i];
            p[i] = (float)(at + h), up = reduced(l, n, c, y, p, weight, none);
            bool kink = fabs(none[i] - here) > 0.01 * fmax(fabs(here), 0.01);
            p[i] = (float)(at - h), down = reduced(l, n, c, y, p, weight, none);
            kink = kink || fabs(none[i] - here) > 0.01 * fmax(fabs(here), 0.01);
            p[i] = at;
            slope = (up - down) / (2 * h);
            tried++;
            if (kink) {
                kinks++;
                continue;
            }
            ck_assert_msg(fabs(slope - here) <= 3e-4 * fmax(1, fabs(here)), "%s: slope %.7g, gradient %.7g", all[_i],
                          slope, here);
        }
        lip__object_free(&l->base);
    }
    ck_assert_uint_lt(kinks * 4, tried);
}
END_TEST

START_TEST(a_hinge_is_flat_on_its_kink)
{
    static const float y[] = {1, 0}, p[] = {.5f, -.5f}, y2[] = {1, 0, 0}, p2[] = {1, .25f, .25f};
    float dp[3];
    struct lip__loss *l = make("HingeMargin", SET(.min_margin = 1));

    ck_assert_double_eq(reduced(l, 2, 1, y, p, NULL, dp), 0);
    ck_assert_float_eq(dp[0], 0);
    ck_assert_float_eq(dp[1], 0);
    lip__object_free(&l->base);
    l = make("CategoricalHinge", SET(.min_margin = 1)); /* two maxima share */
    ck_assert_double_eq(reduced(l, 1, 3, y2, p2, NULL, dp), 0.25);
    ck_assert_float_eq(dp[0], -1);
    ck_assert_float_eq(dp[1], .5f);
    ck_assert_float_eq(dp[2], .5f);
    lip__object_free(&l->base);
}
END_TEST

START_TEST(weights_multiply_before_the_mean)
{
    static const float y[] = {1, 1, 0, 0}, p[] = {0, 1, 2, 3}, weight[] = {0, 1, 2, 3};
    struct lip__loss *l = make("HingeMargin", SET(.min_margin = 1));
    float dp[4];

    ck_assert_double_eq_tol(reduced(l, 4, 1, y, p, weight, dp), (2 * 2.5 + 3 * 3.5) / 4, 1e-6);
    ck_assert_float_eq(dp[0], 0);
    ck_assert_float_eq(dp[3], .75f);
    ck_assert_double_eq(reduced(l, 0, 1, y, p, NULL, dp), 0);
    lip__object_free(&l->base);
}
END_TEST

/* Huge scores: finite losses and gradients from the crossentropies. */
START_TEST(crossentropies_do_not_overflow)
{
    static const float y[] = {1, 0}, p[] = {-1e4f, 1e4f};
    static const char *const names[] = {"TauCategoricalCrossentropy", "TauBinaryCrossentropy"};

    for (size_t i = 0; i < 2; i++) {
        struct lip__loss *l = make(names[i], SET(.tau = 1e3));
        float dp[2];

        ck_assert_double_eq_tol(reduced(l, 1, 2, y, p, NULL, dp), i ? 1e4 : 2e4, 1);
        ck_assert_float_eq_tol(dp[0], i ? -.5f : -1, 1e-6f);
        ck_assert_float_eq_tol(dp[1], i ? .5f : 1, 1e-6f);
        lip__object_free(&l->base);
    }
}
END_TEST

static void refuses(const char *name, lip_err code, size_t n, size_t c, const float *y, const char *text)
{
    struct lip__loss *l = make(name, SET(.alpha = 1, .min_margin = 1, .tau = 1));
    lip_error err = {0};

    ck_assert_int_eq(find(name)->check(&l->base, n, c, y, &err), code);
    ck_assert_msg(strstr(err.text, text) != NULL, "\"%s\" does not say \"%s\"", err.text, text);
    lip__object_free(&l->base);
}

static void accepts(const char *name, size_t n, size_t c, const float *y)
{
    struct lip__loss *l = make(name, SET(.alpha = 1, .min_margin = 1, .tau = 1));

    ck_assert_int_eq(find(name)->check(&l->base, n, c, y, NULL), LIP_OK);
    lip__object_free(&l->base);
}

#define ROW(...) ((const float[]){__VA_ARGS__})

START_TEST(labels_outside_the_convention_are_refused)
{
    accepts("HKR", 3, 1, ROW(0, 1, 0));
    accepts("HKR", 3, 1, ROW(-1, 1, -1));
    accepts("HKR", 2, 1, ROW(1, 1));
    refuses("HKR", LIP_ELABELS, 3, 1, ROW(0, 1, .9f), "row 2, column 0 is 0.9; wanted 0 and 1, or -1 and 1");
    refuses("KR", LIP_ELABELS, 3, 1, ROW(0, 1, -1), "row 2, column 0 is -1, a row before has 0");
    refuses("TauBinaryCrossentropy", LIP_ELABELS, 1, 1, ROW(3), "row 0, column 0 is 3");
    refuses("HingeMargin", LIP_ENONFINITE, 2, 1, ROW(1, NAN), "row 1, column 0 is nan");
    accepts("MulticlassHKR", 2, 3, ROW(0, 1, 0, 1, 0, 0));
    accepts("MulticlassHKR", 2, 3, ROW(-1, 1, -1, 1, -1, -1));
    refuses("MulticlassHKR", LIP_ELABELS, 2, 3, ROW(0, 1, 0, 0, 0, 0), "row 1 marks 0 classes of 3");
    refuses("MultiMargin", LIP_ELABELS, 2, 3, ROW(0, 1, 1, 1, 0, 0), "row 0 marks 2 classes of 3");
    accepts("TauCategoricalCrossentropy", 2, 2, ROW(0, 1, .25f, .75f));
    refuses("TauCategoricalCrossentropy", LIP_ELABELS, 2, 2, ROW(0, 1, -1, 1), "row 1, column 0 is -1");
    refuses("TauCategoricalCrossentropy", LIP_ELABELS, 1, 2, ROW(0, .5f), "row 0 sums to 0.5");
    accepts("TauSparseCategoricalCrossentropy", 3, 3, ROW(0, 2, 1));
    refuses("TauSparseCategoricalCrossentropy", LIP_ELABELS, 2, 3, ROW(0, 3),
            "row 1 is 3; wanted a class index from 0 to 2");
    refuses("TauSparseCategoricalCrossentropy", LIP_ELABELS, 2, 3, ROW(0.5f, 1), "row 0 is 0.5");
}
END_TEST

/* The order in which Keras writes them. */
START_TEST(config_keys_come_in_keras_order)
{
    static const struct {
        const char *name, *keys;
    } wanted[] = {{"KR", "reduction,name,multi_gpu,"},
                  {"HKR", "reduction,name,alpha,min_margin,multi_gpu,"},
                  {"HingeMargin", "reduction,name,min_margin,"},
                  {"MulticlassKR", "reduction,name,multi_gpu,"},
                  {"MulticlassHinge", "reduction,name,min_margin,"},
                  {"MulticlassHKR", "reduction,name,alpha,min_margin,multi_gpu,"},
                  {"MultiMargin", "reduction,name,min_margin,"},
                  {"CategoricalHinge", "reduction,name,min_margin,"},
                  {"TauCategoricalCrossentropy", "reduction,name,tau,"},
                  {"TauSparseCategoricalCrossentropy", "reduction,name,tau,"},
                  {"TauBinaryCrossentropy", "reduction,name,tau,"},
                  {"MulticlassSoftHKR", "reduction,name,alpha,min_margin,alpha_mean,temperature,"},
                  {"LseHKRMulticlassLoss", "reduction,name,alpha,temperature,penalty,min_margin,"},
                  {"MeanSquaredError", "reduction,name,fn,"},
                  {"MeanAbsoluteError", "reduction,name,fn,"},
                  {"Hinge", "reduction,name,fn,"},
                  {"BinaryCrossentropy", "reduction,name,from_logits,label_smoothing,axis,fn,"},
                  {"CategoricalCrossentropy", "reduction,name,from_logits,label_smoothing,axis,fn,"},
                  {"SparseCategoricalCrossentropy", "reduction,name,from_logits,ignore_class,fn,"}};
    size_t n = 0;

    for (; lip__losses[n]; n++) {
        char keys[256] = "";

        for (const struct lip__field *f = lip__losses[n]->fields; f->name; f++)
            strcat(strcat(keys, f->name), ",");
        ck_assert_str_eq(lip__losses[n]->name, wanted[n].name);
        ck_assert_str_eq(keys, wanted[n].keys);
    }
    ck_assert_uint_eq(n, sizeof wanted / sizeof *wanted);
}
END_TEST

static lip_err read_loss(const char *json, struct lip__object **loss, lip_error *err)
{
    json_t *root = json_loads(json, JSON_DECODE_ANY, NULL);
    lip_err rc;

    ck_assert_ptr_nonnull(root);
    rc = lip__object_read(root, lip__losses, "loss", false, "/loss", loss, err);
    json_decref(root);
    return rc;
}

START_TEST(options_are_read_and_checked)
{
    struct lip__object *loss;
    lip_error err = {0};

    ck_assert_int_eq(read_loss("{\"class_name\": \"HKR\", \"config\": {\"alpha\": \"Infinity\"}}", &loss, &err),
                     LIP_OK);
    ck_assert(isinf(((struct lip__loss *)loss)->alpha));
    ck_assert_double_eq(((struct lip__loss *)loss)->min_margin, 1);
    lip__object_free(loss);
    ck_assert_int_eq(read_loss("\"HKR\"", &loss, &err), LIP_EDEFINITION);
    ck_assert_str_eq(err.text, "loss HKR: alpha is missing, needs a number");
    err = (lip_error){0};
    ck_assert_int_eq(read_loss("{\"class_name\": \"KR\", \"config\": {\"reduction\": \"mean\"}}", &loss, &err),
                     LIP_EDEFINITION);
    ck_assert_str_eq(err.pointer, "/loss/config/reduction");
    ck_assert_ptr_nonnull(strstr(err.text, "sum_over_batch_size"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("losses");
    TCase *core = tcase_create("core");

    tcase_add_test(core, binary_values_are_those_of_deel_lip);
    tcase_add_test(core, multiclass_values_are_those_of_deel_lip);
    tcase_add_test(core, processed_labels_give_the_same_sum);
    tcase_add_test(core, an_absent_class_counts_nothing);
    tcase_add_loop_test(core, gradients_are_the_slopes_of_the_loss, 0, ALL);
    tcase_add_test(core, a_hinge_is_flat_on_its_kink);
    tcase_add_test(core, weights_multiply_before_the_mean);
    tcase_add_test(core, crossentropies_do_not_overflow);
    tcase_add_test(core, labels_outside_the_convention_are_refused);
    tcase_add_test(core, options_are_read_and_checked);
    tcase_add_test(core, soft_values_are_those_of_deel_lip);
    tcase_add_test(core, torchlips_values);
    tcase_add_test(core, config_keys_come_in_keras_order);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
