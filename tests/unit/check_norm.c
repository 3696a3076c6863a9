/* check_norm.c: orthogonalisation, its gradient and its guards, against worked numbers and against double precision. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/norm.h>
#include <onelip/random.h>

#include "base/base.h"
#include "check_main.h"
#include "norm/rko.h"
#include "norm/rko_factor.h"
#include "norm_reference.h"
#include "tensor/gemm.h"

static float *noise(uint64_t stream, size_t n)
{
    lip_random r = {23, stream, 0};
    float *x = malloc((n + 1) * sizeof *x);

    lip_random_normal(&r, x, n);
    return x;
}

/* One call of lip_rko with its gradient; scratch is exactly as long as promised, so a sanitizer sees the end. */
struct run {
    float *u, *wbar, *dw;
    lip_rko_info info;
    lip_err rc;
};

static struct run run(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u,
                      const float *g)
{
    struct run r = {.u = malloc(n * sizeof(float)),
                    .wbar = malloc(m * n * sizeof(float)),
                    .dw = malloc(m * n * sizeof(float))};
    float *scratch = malloc(lip_rko_scratch(m, n, o, true) * sizeof *scratch);

    r.rc = lip_rko(w, m, n, coef, o, u, r.u, r.wbar, scratch, true, &r.info, NULL);
    if (!r.rc && g)
        ck_assert_int_eq(lip_rko_backward(w, m, n, coef, o, &r.info, r.u, g, r.dw, scratch, NULL), LIP_OK);
    free(scratch);
    return r;
}

static void run_free(struct run *r)
{
    free(r->u), free(r->wbar), free(r->dw);
}

/* Largest error of a gradient, against its largest element or a hundredth of g/sigma: along w the two parts of it cancel,
 * and for a single number nothing else is left. */
static double gradient_error(const struct run *r, const double *truth, const float *g, size_t n, double coef)
{
    double error = 0, size = 0;

    for (size_t i = 0; i < n; i++) {
        error = fmax(error, fabs(r->dw[i] - truth[i]));
        size = fmax(size, fmax(fabs(truth[i]), fabs(0.01 * coef * g[i] / r->info.sigma)));
    }
    return error / size;
}

static void near(const float *x, const double *y, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs(x[i] - y[i]) <= tolerance, "element %zu is %.9g, wanted %.9g", i, x[i], y[i]);
}

/* ---- worked examples of semantics.md 1.7 -------------------------------------------------------------- */

START_TEST(example_a)
{
    float w[] = {3, 0, 4, 5}, u[] = {1, 0}, g[] = {1, 2, 3, 4};
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct run r = run(w, 2, 2, 1, &o, u, g);

    ck_assert_int_eq(r.info.power_iterations, 5);
    ck_assert_int_eq(r.info.bjorck_iterations, 7);
    ck_assert_double_lt(fabs(r.info.sigma - 6.7082039), 1e-6);
    ck_assert(!r.info.redrawn && !r.info.rescaled);
    near(r.u, (double[]){0.7071188, 0.7070948}, 2, 2e-7);
    near(r.wbar, (double[]){0.89442719, -0.44721360, 0.44721360, 0.89442719}, 4, 3e-7);
    near(r.dw, (double[]){0.06708204, 0.13416408, -0.13416408, 0.06708204}, 4, 1e-6);
    run_free(&r);
}
END_TEST

START_TEST(example_b)
{
    float w[] = {1, 2, 3, 4, 5, 6}, u[] = {1, 1}, g[] = {1, 0, 0, 1, 1, 1};
    lip_rko_options o = LIP_RKO_DEFAULTS, none = o;
    struct run r = run(w, 3, 2, 1, &o, u, g);

    ck_assert_int_eq(r.info.power_iterations, 2);
    ck_assert_int_eq(r.info.bjorck_iterations, 11);
    ck_assert_double_lt(fabs(r.info.sigma - 9.52551809), 2e-6);
    near(r.u, (double[]){0.61963027, 0.78489383}, 2, 2e-7);
    near(r.wbar, (double[]){-0.55100321, 0.72782465, 0.13615853, 0.56106526, 0.82332027, 0.39430579}, 6, 5e-7);
    near(r.dw, (double[]){0.57361103, -0.42446941, -1.11454814, 0.86458484, 0.56820669, -0.44673343}, 6, 1e-6);
    run_free(&r);

    none.eps_bjorck = NAN;
    r = run(w, 3, 2, 1, &none, u, g);
    ck_assert_int_eq(r.info.bjorck_iterations, 0);
    near(r.wbar, (double[]){0.10497015, 0.20994029, 0.31491044, 0.41988059, 0.52485073, 0.62982088}, 6, 1e-7);
    near(r.dw, (double[]){0.07986144, -0.03180553, -0.05732346, 0.03235777, 0.01543194, -0.00844908}, 6, 1e-7);
    run_free(&r);
}
END_TEST

START_TEST(example_c)
{
    float column[] = {0.6f, 0.8f}, pair[] = {0.6f, -0.8f, 0.8f, 0.6f}, u[] = {1, 0};
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct run r = run(column, 2, 1, 1, &o, u, NULL);

    ck_assert_int_eq(r.info.bjorck_iterations, 1);
    ck_assert_double_lt(fabs(lip__norm(r.wbar, 2) - 0.9999985), 2e-7);
    run_free(&r);
    r = run(pair, 2, 2, 1, &o, u, NULL);
    ck_assert_int_eq(r.info.bjorck_iterations, 2);
    run_free(&r);
}
END_TEST

/* ---- guards ------------------------------------------------------------------------------------------ */

/* D08: u sits on a small singular direction; deel-lip diverges or flips the sign. */
START_TEST(unlucky_u_does_not_diverge)
{
    float large[] = {3, 2, 1e6f, 1e18f}, u[] = {0, 1}, g[] = {1, 2, 3, 4};
    float w[] = {large[_i], 0, 0, 1};
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct run r = run(w, 2, 2, 1, &o, u, g);

    ck_assert_int_eq(r.rc, LIP_OK);
    ck_assert(r.info.rescaled);
    ck_assert_double_lt(fabs(r.info.sigma / large[_i] - 1), 1e-6);
    ck_assert_double_lt(fabs(r.wbar[0] - 1), 1e-5);
    ck_assert(r.wbar[3] >= 0 && r.wbar[3] <= 1.0001);
    ck_assert(lip__all_finite(r.dw, 4, NULL));
    ck_assert_double_lt(fabs(fabs(r.u[0]) - 1), 1e-6);
    run_free(&r);
}
END_TEST

/* The same in a large kernel, tall, wide and square: one direction is 3 times the rest, and u is orthogonal to it. */
START_TEST(unlucky_u_does_not_diverge_in_large_kernels)
{
    size_t shape[][2] = {{60, 24}, {24, 60}, {40, 40}, {400, 60}, {60, 400}, {130, 130}}, m = shape[_i][0], n = shape[_i][1], k = m < n ? m : n;
    lip_rko_options o = LIP_RKO_DEFAULTS;
    double s[130] = {0}, *tall, diag[130];
    float *w = malloc(m * n * sizeof *w), *u, *x = malloc(n * k * sizeof *x);

    tall = ref_new(n * k);

    for (size_t i = 0; i < k; i++)
        s[i] = i ? 0.5 + 0.5 * (double)i / (double)k : 3;
    ref_kernel(m, n, s, 5, w);
    u = noise(6, n);
    /* Without the first right singular vector, the power iteration never sees the 3. It is the first column of the
     * second factor of ref_kernel. */
    {
        lip_random random = {17, 2 * 5 + 1, 0};
        double along = 0;
        lip_random_normal(&random, x, n * k);
        for (size_t i = 0; i < n * k; i++)
            tall[i] = x[i];
        lip__qr(n, k, tall, diag);
        for (size_t i = 0; i < n; i++)
            along += u[i] * tall[i * k];
        for (size_t i = 0; i < n; i++)
            u[i] -= (float)(along * tall[i * k]);
    }
    o.maxiter_spectral = 1;
    struct run r = run(w, m, n, 1, &o, u, NULL);
    ck_assert_int_eq(r.rc, LIP_OK);
    ck_assert(r.info.rescaled);
    ck_assert_double_lt(fabs(r.info.sigma - 3), 1e-3);
    double *b = ref_new(m * n), values[130];
    for (size_t i = 0; i < m * n; i++)
        b[i] = r.wbar[i];
    lip__singular_values(m, n, b, values);
    ck_assert_double_lt(values[0], 1 + 1e-5);
    ck_assert_double_gt(values[k - 1], 0.99);
    free(b), free(w), free(u), free(x), free(tall);
    run_free(&r);
}
END_TEST

/* D09: u that is zero, not a number, tiny, or in the kernel's null space. */
START_TEST(collapsed_u_is_drawn_anew)
{
    float start[][2] = {{0, 0}, {NAN, 1}, {1e-30f, 0}, {0, 1}, {INFINITY, 0}};
    float w[] = {3, 0, 0, 0}, g[] = {1, 2, 3, 4};
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct run r = run(w, 2, 2, 1, &o, start[_i], g);

    ck_assert_int_eq(r.rc, LIP_OK);
    ck_assert(r.info.redrawn);
    ck_assert_double_lt(fabs(r.info.sigma - 3), 1e-5);
    ck_assert_double_lt(fabs(lip__norm(r.u, 2) - 1), 1e-6);
    ck_assert_double_lt(fabs(r.wbar[0] - 1), 1e-5);
    ck_assert(lip__all_finite(r.dw, 4, NULL));
    run_free(&r);
}
END_TEST

START_TEST(zero_kernel_gives_zero_and_keeps_u_alive)
{
    float w[6] = {0}, u[] = {1, 1}, g[] = {1, 2, 3, 4, 5, 6};
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct run r = run(w, 3, 2, 2, &o, u, g);

    ck_assert_int_eq(r.rc, LIP_OK);
    ck_assert(r.info.sigma == 0);
    ck_assert_int_eq(r.info.bjorck_iterations, 0);
    for (size_t i = 0; i < 6; i++) {
        ck_assert(r.wbar[i] == 0);
        ck_assert_double_lt(fabs(r.dw[i] - 2 * g[i] / 1e-3), 0.01);
    }
    ck_assert_double_lt(fabs(lip__norm(r.u, 2) - 1), 1e-6);
    run_free(&r);
}
END_TEST

START_TEST(bad_input_is_an_error)
{
    float w[] = {1, 2, 3, 4}, bad[] = {1, NAN, 3, 4}, u[] = {1, 1};
    lip_rko_options o = LIP_RKO_DEFAULTS, zero_eps = o, large_beta = o;
    struct run r = run(bad, 2, 2, 1, &o, u, NULL);

    ck_assert_int_eq(r.rc, LIP_ENONFINITE);
    run_free(&r);
    zero_eps.eps_spectral = 0;
    r = run(w, 2, 2, 1, &zero_eps, u, NULL);
    ck_assert_int_eq(r.rc, LIP_ERANGE);
    run_free(&r);
    large_beta.beta_bjorck = 0.51;
    r = run(w, 2, 2, 1, &large_beta, u, NULL);
    ck_assert_int_eq(r.rc, LIP_ERANGE);
    run_free(&r);
    r = run(w, 2, 2, 1e39, &o, u, NULL);
    ck_assert_int_eq(r.rc, LIP_ENUMERIC);
    run_free(&r);
}
END_TEST

/* ---- laws --------------------------------------------------------------------------------------------- */

static const struct {
    size_t m, n;
    double eps, beta;
    long power, bjorck;
    double coef;
} settings[] = {
    {7, 5, 1e-3, 0.5, 10, 15, 1},  {5, 7, 1e-3, 0.5, 10, 15, 0.5}, {6, 6, 1e-3, 0.5, 10, 15, 1},
    {9, 1, 1e-3, 0.5, 10, 15, 3},  {1, 9, 1e-3, 0.5, 10, 15, 1},   {1, 1, 1e-3, 0.5, 10, 15, 1},
    {8, 5, 1e-3, 0.3, 10, 15, 1},  {5, 8, 1e-3, 0.1, 10, 15, 1},   {8, 5, 1e-3, 0.5, 0, 3, 1},
    {8, 5, 0.3, 0.5, 2, 15, 1},    {8, 5, NAN, 0.5, 10, 15, 2},    {8, 5, 1e-3, 0.5, 10, 0, 1},
    {5, 8, 1e-3, 0.5, 10, -1, 1},  {8, 5, 1e-9, 0.5, 50, 60, 1},   {5, 8, 1e-9, 0.5, 10, 33, 1},
    {40, 33, 1e-3, 0.5, 10, 15, 1}, {33, 40, 1e-3, 0.5, 10, 15, 1}, {64, 10, 1e-3, 0.5, 10, 15, 1},
    {33, 40, 1e-3, 0.4, 10, 40, 1}, {40, 33, 1e-3, NAN, 10, 15, 1},
};
enum { SETTINGS = sizeof settings / sizeof *settings, FORMS = LIP__EIGEN + 1 };

static lip_rko_options options(int i)
{
    return (lip_rko_options){1e-3, settings[i].eps, settings[i].beta, settings[i].power, settings[i].bjorck};
}

START_TEST(float_follows_double)
{
    int at = _i / FORMS;
    size_t m = settings[at].m, n = settings[at].n;
    double coef = settings[at].coef;
    lip_rko_options o = options(at), counted = o;
    float *w = noise((uint64_t)at, m * n), *u = noise(99, n), *g = noise(98, m * n);
    lip__rko_form = (enum lip__form)(_i % FORMS);
    struct run r = run(w, m, n, coef, &o, u, g);
    struct reference *ref = ref_make(w, m, n, u);

    if (!lip__has_bjorck(&o))
        counted.eps_bjorck = NAN;
    ck_assert_int_eq(r.rc, LIP_OK);
    ref_power(ref, &o);
    ck_assert_int_eq(r.info.power_iterations, ref->power_iterations);
    ck_assert_double_lt(ref_worst(r.u, ref->u, n), 3e-6);
    ck_assert_double_lt(fabs(r.info.sigma / ref->sigma - 1), 1e-6);
    for (size_t i = 0; i < n; i++)
        ref->u[i] = r.u[i]; /* from the same u on */
    ref_orthogonalise(ref, coef, &counted, o.eps_bjorck < 1e-6 ? r.info.bjorck_iterations : -1);
    ck_assert_int_eq(r.info.bjorck_iterations, ref->bjorck_iterations);
    ck_assert_double_lt(ref_worst(r.wbar, ref->wbar, m * n), 2e-6);
    ref_backward(ref, coef, &counted, g);
    ck_assert_double_lt(gradient_error(&r, ref->dw, g, m * n, coef), 1e-5);
    lip__rko_form = LIP__AUTO;
    ref_free(ref);
    run_free(&r);
    free(w), free(u), free(g);
}
END_TEST

/* <g, wbar> of the double computation with u and the number of iterations held; its central difference along each axis. */
/* ---- the forms of the loop -------------------------------------------------------------------------------- */

/* Spectra of w / sigma: s_min .. 1 evenly, or with a shape of its own. */
static const struct {
    size_t m, n;
} sides[] = {{160, 110}, {110, 160}, {130, 130}, {700, 24}, {32, 520}, {200, 100}};

enum { EVEN, GAUSSIAN, ONE_SMALL, ONE_LARGE, CLUSTERS, RANK_DEFICIENT, SPECTRA };
static const double smallest[] = {0.999, 0.95, 0.8, 0.6, 0.4, 0.3, 0.25, 0.22, 0.2, 0.15, 0.1, 0.03, 0.004};
enum { SIDES = sizeof sides / sizeof *sides, SMALLEST = sizeof smallest / sizeof *smallest };

static void draw_kernel(size_t m, size_t n, int spectrum, double s_min, uint64_t stream, float *w)
{
    size_t k = m < n ? m : n;
    double s[130];

    for (size_t i = 0; i < k; i++) {
        s[i] = s_min + (1 - s_min) * (double)i / (double)(k - 1);
        if (spectrum == ONE_SMALL)
            s[i] = i ? 0.9 + 0.1 * (double)i / (double)k : s_min;
        if (spectrum == ONE_LARGE)
            s[i] = i ? s_min : 1;
        if (spectrum == CLUSTERS)
            s[i] = i % 3 == 0 ? s_min : i % 3 == 1 ? (1 + s_min) / 2 : 1;
        if (spectrum == RANK_DEFICIENT && i < k / 4)
            s[i] = 0;
    }
    if (spectrum == GAUSSIAN) {
        lip_random r = {29, stream, 0};
        lip_random_normal(&r, w, m * n);
    } else {
        ref_kernel(m, n, s, stream, w);
    }
}

/* What the automatic choice computes is as near to double precision as the plain loop is, or within the promise: wbar to
 * 1e-6, and to 2e-6 of its largest element; the gradient to 3e-6 of its norm. */
struct limits {
    int polynomial, rational;
};

static void check_forms(size_t m, size_t n, const float *w, const lip_rko_options *o, struct limits *seen)
{
    float *u = noise(99, n), *g = noise(98, m * n);
    struct run best = run(w, m, n, 1, o, u, g), plain;
    struct reference *ref = ref_make(w, m, n, best.u);
    double plain_w, plain_g;
    bool rational = !strcmp(best.info.form, "rational"), limit = rational || !strcmp(best.info.form, "polynomial");

    lip__rko_form = LIP__PLAIN;
    plain = run(w, m, n, 1, o, u, g);
    lip__rko_form = LIP__AUTO;
    ck_assert_int_eq(best.rc, LIP_OK);
    ck_assert_int_eq(plain.rc, LIP_OK);
    ck_assert_str_eq(plain.info.form, "plain");
    seen->rational += rational;
    seen->polynomial += limit && !rational;

    for (size_t i = 0; i < n; i++)
        ref->u[i] = plain.u[i];
    ref_orthogonalise(ref, 1, o, plain.info.bjorck_iterations);
    ref_backward(ref, 1, o, g);
    plain_w = ref_worst(plain.wbar, ref->wbar, m * n);
    plain_g = ref_relative(plain.dw, ref->dw, m * n);
    for (size_t i = 0; i < n; i++)
        ref->u[i] = best.u[i];
    ref_orthogonalise(ref, 1, o, -1);
    if (!limit)
        ck_assert_int_eq(best.info.bjorck_iterations, ref->bjorck_iterations);
    else /* counted on a quadrature of the spectrum */
        ck_assert_int_le(abs(best.info.bjorck_iterations - ref->bjorck_iterations), 1);
    ref_backward(ref, 1, o, g);
    ck_assert_double_lt(ref_apart(best.wbar, ref->wbar, m * n), 1e-6);
    ck_assert_double_lt(ref_worst(best.wbar, ref->wbar, m * n), fmax(2e-6, plain_w));
    ck_assert_double_lt(ref_relative(best.dw, ref->dw, m * n), fmax(3e-6, plain_g));
    ck_assert_double_lt(fabs(best.info.sigma / ref->sigma - 1), 1e-6);
    ref_free(ref);
    run_free(&best);
    run_free(&plain);
    free(u), free(g);
}

START_TEST(forms_agree_on_every_spectrum)
{
    size_t m = sides[_i].m, n = sides[_i].n;
    float *w = malloc(m * n * sizeof *w);
    lip_rko_options o = LIP_RKO_DEFAULTS;
    struct limits seen = {0};

    for (int spectrum = 0; spectrum < SPECTRA; spectrum++)
        for (size_t s = 0; s < SMALLEST; s++) {
            draw_kernel(m, n, spectrum, smallest[s], 100 * (uint64_t)spectrum + s, w);
            check_forms(m, n, w, &o, &seen);
        }
    ck_assert_int_gt(seen.polynomial, SMALLEST);
    ck_assert_int_gt(seen.rational, 0);
    free(w);
}
END_TEST

/* A cap that is reached, tolerances that are coarse or below rounding, few and many power iterations, a u that misses. */
START_TEST(forms_agree_under_every_option)
{
    static const lip_rko_options options_of[] = {
        {1e-3, 1e-3, 0.5, 10, 1},  {1e-3, 1e-3, 0.5, 10, 3}, {1e-3, 1e-3, 0.5, 10, 6}, {1e-3, 0.1, 0.5, 10, 15},
        {1e-3, 1.0, 0.5, 10, 15},  {1e-3, 1e-5, 0.5, 10, 15}, {1e-3, 1e-3, 0.5, 0, 15}, {1e-3, 1e-3, 0.5, 2, 15},
        {1e-3, 1e-3, 0.5, 60, 60}, {0.1, 1e-3, 0.5, 10, 15}, {1e-3, 1e-3, 0.5, 10, 40},
    };
    enum { OPTIONS = sizeof options_of / sizeof *options_of };
    size_t m = sides[_i].m, n = sides[_i].n;
    float *w = malloc(m * n * sizeof *w);
    struct limits seen = {0};

    for (int i = 0; i < OPTIONS; i++)
        for (size_t s = 0; s < SMALLEST; s += 2) {
            draw_kernel(m, n, s % 4 ? EVEN : CLUSTERS, smallest[s], (uint64_t)i, w);
            check_forms(m, n, w, &options_of[i], &seen);
        }
    ck_assert_int_gt(seen.polynomial, 0);
    ck_assert_int_gt(seen.rational, 0);
    free(w);
}
END_TEST

/* dL/dwbar is x'dy for a batch of a few rows; the factor's way to dL/dw never sees it whole. The tolerances are those of two
 * float32 computations of the same numbers. */
START_TEST(a_factor_is_the_same_kernel)
{
    enum { MANY_ROWS = 70 };
    size_t m = sides[_i].m, n = sides[_i].n, k = m < n ? m : n;
    float *w = malloc(m * n * sizeof *w), *x = noise(90, MANY_ROWS * m), *dy = noise(91, MANY_ROWS * n), *u = noise(92, n);
    float *g = malloc(m * n * sizeof *g), *dw = malloc(m * n * sizeof *dw), *wbar = malloc(m * n * sizeof *wbar);
    float *u_new = malloc(n * sizeof *u_new), *half = malloc(MANY_ROWS * k * sizeof *half);
    float *other = malloc(MANY_ROWS * k * sizeof *other);
    lip_rko_options o = LIP_RKO_DEFAULTS;
    float *scratch = malloc(lip_rko_scratch(m, n, &o, true) * sizeof *scratch);
    struct lip__factor factor;
    lip_rko_info info;

    for (size_t s = 1; s < 5; s++) {
        size_t rows = s % 2 ? 7 : MANY_ROWS; /* less than half of k, and more */
        draw_kernel(m, n, EVEN, smallest[s], s, w);
        lip__gemm(true, false, m, n, rows, 1, x, m, dy, n, 0, g, n);
        for (int warm = 0; warm < 3; warm++) { /* as in training, u has been found */
            struct run before = run(w, m, n, 0.7, &o, u, NULL);
            memcpy(u, before.u, n * sizeof *u);
            run_free(&before);
        }
        struct run r = run(w, m, n, 0.7, &o, u, g);
        ck_assert_str_eq(r.info.form, "polynomial");
        ck_assert_int_eq(lip__rko(w, m, n, 0.7, &o, u, u_new, NULL, scratch, true, &info, &factor, NULL), LIP_OK);
        ck_assert_ptr_nonnull(factor.q);
        ck_assert_mem_eq(u_new, r.u, n * sizeof *u);
        lip__factor_times(w, m, n, factor.alpha, factor.q, wbar);
        ck_assert_double_lt(lip__distance(wbar, r.wbar, m * n), 1e-6 * lip__norm(r.wbar, m * n));
        factor.rows = rows;
        factor.left = half;
        factor.right = m > n ? dy : x;
        if (m > n) { /* alpha D q = x'(alpha dy q), w'D = (x w)'dy */
            lip__gemm(false, false, rows, n, m, 1, x, m, w, n, 0, half, n);
            lip__gemm(false, false, rows, n, n, factor.alpha, dy, n, factor.q, n, 0, other, n);
            lip__gemm(true, false, m, n, rows, 1, x, m, other, n, 0, dw, n);
        } else {
            lip__gemm(false, true, rows, m, n, 1, dy, n, w, n, 0, half, m);
            lip__gemm(false, false, rows, m, m, factor.alpha, x, m, factor.q, m, 0, other, m);
            lip__gemm(true, false, m, n, rows, 1, other, m, dy, n, 0, dw, n);
        }
        ck_assert_int_eq(lip__rko_backward(w, m, n, 0.7, &o, &info, NULL, u_new, dw, dw, scratch, &factor, NULL), LIP_OK);
        ck_assert_double_lt(lip__distance(dw, r.dw, m * n), 3e-6 * lip__norm(r.dw, m * n));
        run_free(&r);
    }
    free(scratch), free(other), free(half), free(u_new), free(wbar), free(dw), free(g), free(u), free(dy), free(x), free(w);
}
END_TEST

START_TEST(other_betas_are_plain)
{
    lip_rko_options o = LIP_RKO_DEFAULTS;
    float *w = noise(1, 200 * 100), *u = noise(2, 100);
    struct run r;

    o.beta_bjorck = 0.3;
    r = run(w, 200, 100, 1, &o, u, NULL);
    ck_assert_str_eq(r.info.form, "plain");
    run_free(&r);
    free(w), free(u);
}
END_TEST

START_TEST(squares_beyond_float_are_an_error)
{
    lip_rko_options o = LIP_RKO_DEFAULTS;
    float *w = noise(1, 200 * 100), *u = noise(2, 100);
    struct run r;

    for (size_t i = 0; i < 200 * 100; i++)
        w[i] *= 1e25f;
    r = run(w, 200, 100, 1, &o, u, NULL);
    ck_assert_int_eq(r.rc, LIP_ENUMERIC);
    run_free(&r);
    free(w), free(u);
}
END_TEST

START_TEST(gradient_is_a_central_difference)
{
    size_t m = settings[_i].m, n = settings[_i].n;
    lip_rko_options o = options(_i);
    float *w = noise((uint64_t)_i, m * n), *u = noise(99, n), *g = noise(98, m * n);
    struct run r = run(w, m, n, settings[_i].coef, &o, u, g);
    struct reference *ref = ref_make(w, m, n, r.u);
    double *difference = ref_new(m * n);

    for (size_t i = 0; i < m * n; i++)
        for (int side = -1; side <= 1; side += 2) {
            ref->w[i] = w[i] + side * 1e-5;
            ref_orthogonalise(ref, settings[_i].coef, &o, r.info.bjorck_iterations);
            for (size_t j = 0; j < m * n; j++)
                difference[i] += side * g[j] * ref->wbar[j] / 2e-5;
            ref->w[i] = w[i];
        }
    ck_assert_double_lt(gradient_error(&r, difference, g, m * n, settings[_i].coef), 2e-5);
    ref_free(ref);
    run_free(&r);
    free(w), free(u), free(g), free(difference);
}
END_TEST

START_TEST(keep_changes_no_result)
{
    size_t m = settings[_i].m, n = settings[_i].n;
    lip_rko_options o = options(_i);
    float *w = noise((uint64_t)_i, m * n), *u = noise(99, n), *wbar = malloc(m * n * sizeof *wbar),
          *scratch = malloc(lip_rko_scratch(m, n, &o, false) * sizeof *scratch);
    struct run r = run(w, m, n, settings[_i].coef, &o, u, NULL);

    ck_assert_int_eq(lip_rko(w, m, n, settings[_i].coef, &o, u, u, wbar, scratch, false, NULL, NULL), LIP_OK);
    ck_assert_mem_eq(wbar, r.wbar, m * n * sizeof *wbar);
    ck_assert_mem_eq(u, r.u, n * sizeof *u);
    run_free(&r);
    free(w), free(u), free(wbar), free(scratch);
}
END_TEST

START_TEST(gradient_may_overwrite_its_input)
{
    size_t m = 8, n = 5;
    lip_rko_options o = LIP_RKO_DEFAULTS;
    float *w = noise(1, m * n), *u = noise(99, n), *g = noise(98, m * n), *wbar = malloc(m * n * sizeof *wbar),
          *scratch = malloc(lip_rko_scratch(m, n, &o, true) * sizeof *scratch);
    struct run r = run(w, m, n, 1, &o, u, g);
    lip_rko_info info;

    lip_rko(w, m, n, 1, &o, u, u, wbar, scratch, true, &info, NULL);
    lip_rko_backward(w, m, n, 1, &o, &info, u, g, g, scratch, NULL);
    ck_assert_mem_eq(g, r.dw, m * n * sizeof *g);
    run_free(&r);
    free(w), free(u), free(g), free(wbar), free(scratch);
}
END_TEST

START_TEST(lanczos_finds_both_ends)
{
    size_t k[] = {1, 2, 5, 16, 17, 80}, n = k[_i];
    float *a = noise(3, n * n), *s = malloc(n * n * sizeof *s), *work = malloc(LIP__LANCZOS_WORK(n) * sizeof *work);
    double *v = ref_new(n * n), *w = ref_new(n), weights = 0;
    struct lip__spectrum spectrum;

    lip__gemm(true, false, n, n, n, 1, a, n, a, n, 0, s, n);
    for (size_t i = 0; i < n * n; i++)
        v[i] = s[i];
    lip__eigen(n, v, w);
    lip__lanczos(s, n, work, &spectrum);
    ck_assert_double_lt(spectrum.ritz[spectrum.steps - 1], w[n - 1] * (1 + 1e-5));
    ck_assert_double_gt(spectrum.ritz[spectrum.steps - 1], w[n - 1] * (n > 16 ? 0.97 : 1 - 1e-5));
    ck_assert_double_lt(fabs(spectrum.ritz[0] - w[0]), (n > 16 ? 0.02 : 1e-5) * w[n - 1]);
    for (size_t i = 0; i < spectrum.steps; i++)
        weights += spectrum.weight[i];
    ck_assert_double_lt(fabs(weights - 1), 1e-6);
    for (int end = 0; end < 2; end++) { /* the Ritz vectors that it promises */
        double along = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                along += work[(size_t)end * n + i] * (double)s[i * n + j] * work[(size_t)end * n + j];
        ck_assert_double_lt(fabs(along - spectrum.ritz[end ? 0 : spectrum.steps - 1]), 1e-5 * w[n - 1]);
    }
    free(a), free(s), free(work), free(v), free(w);
}
END_TEST

/* ---- Frobenius ----------------------------------------------------------------------------------------- */

START_TEST(frobenius_divides_by_norms)
{
    float w[] = {3, 0, 4, 5}, out[4], zero[] = {1, 0, 1, 0}, nothing[4] = {0}, bad[] = {1, INFINITY, 1, 1};

    ck_assert_int_eq(lip_frobenius(w, 2, 2, 2, true, out, NULL), LIP_OK);
    near(out, (double[]){1.2, 0, 1.6, 2}, 4, 1e-6);
    ck_assert_int_eq(lip_frobenius(w, 2, 2, 2, false, w, NULL), LIP_OK);
    near(w, (double[]){6 / sqrt(50), 0, 8 / sqrt(50), 10 / sqrt(50)}, 4, 1e-6);
    memcpy(out, zero, sizeof out);
    ck_assert_int_eq(lip_frobenius(out, 2, 2, 1, true, out, NULL), LIP_EZERO);
    ck_assert_mem_eq(out, zero, sizeof out);
    ck_assert_int_eq(lip_frobenius(zero, 2, 2, 1, false, out, NULL), LIP_OK);
    ck_assert_int_eq(lip_frobenius(nothing, 2, 2, 1, false, out, NULL), LIP_EZERO);
    ck_assert_int_eq(lip_frobenius(bad, 2, 2, 1, true, out, NULL), LIP_ENONFINITE);
    ck_assert_int_eq(lip_frobenius_backward(zero, 2, 2, 1, true, w, out, NULL), LIP_EZERO);
    ck_assert_int_eq(lip_frobenius_backward(nothing, 2, 2, 1, false, w, out, NULL), LIP_EZERO);
}
END_TEST

static double frobenius_loss(const double *w, size_t m, size_t n, double coef, bool columns, const float *g)
{
    double loss = 0, square;

    for (size_t j = 0; j < n; j++) {
        square = 0;
        for (size_t i = 0; i < m; i++)
            for (size_t l = columns ? j : 0; l < (columns ? j + 1 : n); l++)
                square += w[i * n + l] * w[i * n + l];
        for (size_t i = 0; i < m; i++)
            loss += coef * g[i * n + j] * w[i * n + j] / sqrt(square);
    }
    return loss;
}

START_TEST(frobenius_gradient_is_a_central_difference)
{
    size_t m = 6, n = _i < 2 ? 5 : 70;
    bool columns = _i & 1;
    float *w = noise(1, m * n), *g = noise(2, m * n), *dw = malloc(m * n * sizeof *dw);
    double *x = ref_new(m * n), *difference = ref_new(m * n);

    for (size_t i = 0; i < m * n; i++)
        x[i] = w[i];
    for (size_t i = 0; i < m * n; i++)
        for (int side = -1; side <= 1; side += 2) {
            x[i] = w[i] + side * 1e-5;
            difference[i] += side * frobenius_loss(x, m, n, 1.5, columns, g) / 2e-5;
            x[i] = w[i];
        }
    ck_assert_int_eq(lip_frobenius_backward(w, m, n, 1.5, columns, g, dw, NULL), LIP_OK);
    ck_assert_double_lt(ref_worst(dw, difference, m * n), 1e-6);
    ck_assert_int_eq(lip_frobenius_backward(w, m, n, 1.5, columns, g, g, NULL), LIP_OK);
    ck_assert_mem_eq(g, dw, m * n * sizeof *g);
    free(w), free(g), free(dw), free(x), free(difference);
}
END_TEST

/* ---- convolutions -------------------------------------------------------------------------------------- */

START_TEST(factors_are_those_of_the_table)
{
    static const struct {
        size_t kh, kw, s0, s1, h, w;
        double factor;
    } table[] = {{3, 3, 1, 1, 5, 5, 0.384615385},    {3, 3, 1, 1, 28, 28, 0.341463415}, {3, 3, 1, 1, 32, 32, 0.340425532},
                 {5, 5, 1, 1, 28, 28, 0.208955224},  {2, 2, 1, 1, 8, 8, 0.524590164},   {3, 5, 1, 1, 10, 20, 0.275658923},
                 {1, 1, 1, 1, 9, 7, 1},              {3, 3, 2, 2, 9, 9, 0.5},           {5, 5, 2, 2, 9, 9, 0.333333333},
                 {7, 7, 2, 2, 9, 9, 0.25},           {3, 3, 1, 2, 9, 9, 0.408248290},   {2, 2, 2, 2, 9, 9, 1},
                 {3, 3, 4, 4, 9, 9, 1},              {7, 7, 1, 1, 2, 2, 1}};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_double_lt(fabs(lip_conv_factor(table[i].kh, table[i].kw, table[i].s0, table[i].s1, table[i].h, table[i].w) -
                                 table[i].factor),
                            1e-9);
    ck_assert(isnan(lip_conv_factor(5, 5, 1, 1, 1, 4)));
    ck_assert(isnan(lip_conv_factor(0, 5, 1, 1, 4, 4)));
}
END_TEST

/* Count windows by walking through their taps, as semantics.md 5.2 places them. */
static size_t count_windows(size_t n, size_t q, size_t s)
{
    size_t out = (n + s - 1) / s, most = 0, times[64] = {0};
    long before = ((long)((out - 1) * s + q) - (long)n) > 0 ? (long)((out - 1) * s + q - n) / 2 : 0;

    for (size_t i = 0; i < out; i++)
        for (size_t t = 0; t < q; t++) {
            long p = (long)(i * s + t) - before;
            if (p >= 0 && p < (long)n && ++times[p] > most)
                most = times[p];
        }
    return most;
}

START_TEST(nu_counts_windows)
{
    for (size_t n = 1; n < 30; n++)
        for (size_t q = 1; q < 12; q++)
            for (size_t s = 1; s < 6; s++)
                ck_assert_uint_eq(lip_conv_nu(n, q, s), count_windows(n, q, s));
    ck_assert_uint_eq(lip_conv_nu(0, 3, 1), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("norm");
    TCase *t = tcase_create("norm");

    tcase_add_test(t, example_a);
    tcase_add_test(t, example_b);
    tcase_add_test(t, example_c);
    tcase_add_loop_test(t, unlucky_u_does_not_diverge, 0, 4);
    tcase_add_loop_test(t, unlucky_u_does_not_diverge_in_large_kernels, 0, 6);
    tcase_add_loop_test(t, collapsed_u_is_drawn_anew, 0, 5);
    tcase_add_test(t, zero_kernel_gives_zero_and_keeps_u_alive);
    tcase_add_test(t, bad_input_is_an_error);
    tcase_add_loop_test(t, float_follows_double, 0, SETTINGS * FORMS);
    tcase_add_loop_test(t, gradient_is_a_central_difference, 0, 15); /* the small ones */
    tcase_add_loop_test(t, forms_agree_on_every_spectrum, 0, SIDES);
    tcase_add_loop_test(t, forms_agree_under_every_option, 0, SIDES);
    tcase_add_loop_test(t, a_factor_is_the_same_kernel, 0, SIDES);
    tcase_add_test(t, other_betas_are_plain);
    tcase_add_test(t, squares_beyond_float_are_an_error);
    tcase_add_loop_test(t, keep_changes_no_result, 0, SETTINGS);
    tcase_add_test(t, gradient_may_overwrite_its_input);
    tcase_add_loop_test(t, lanczos_finds_both_ends, 0, 6);
    tcase_add_test(t, frobenius_divides_by_norms);
    tcase_add_loop_test(t, frobenius_gradient_is_a_central_difference, 0, 4);
    tcase_add_test(t, factors_are_those_of_the_table);
    tcase_add_test(t, nu_counts_windows);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
