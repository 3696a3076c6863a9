/* check_bounds.c: enclosures against higher precision, bounds against what models do. */
#include <float.h>
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "bounds/conv.h"
#include "bounds/ends.h"
#include "layers/layer.h"
#include "tensor/gemm.h"
#include "check_main.h"
#include "models.h"
#include "served.h"

static lip_random noise;

static void normal(float *x, size_t n)
{
    lip_random_normal(&noise, x, n);
}

static size_t below(size_t n)
{
    return (size_t)(lip_random_u64(&noise) % n);
}

/* ---- a reference in long double: one-sided Jacobi ---------------------------------------------------------- */

/* Singular values of a (m, n), destroyed, into s (n), descending. */
static void jacobi(size_t m, size_t n, long double *a, long double *s)
{
    for (int sweep = 0; sweep < 60; sweep++) {
        long double off = 0;

        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                long double app = 0, aqq = 0, apq = 0, zeta, t, c, r;

                for (size_t i = 0; i < m; i++) {
                    app += a[i * n + p] * a[i * n + p];
                    aqq += a[i * n + q] * a[i * n + q];
                    apq += a[i * n + p] * a[i * n + q];
                }
                if (app == 0 || aqq == 0 || fabsl(apq) <= 1e-19L * sqrtl(app) * sqrtl(aqq))
                    continue;
                off = fmaxl(off, fabsl(apq) / sqrtl(app) / sqrtl(aqq));
                zeta = (aqq - app) / (2 * apq);
                t = copysignl(1, zeta) / (fabsl(zeta) + sqrtl(1 + zeta * zeta));
                c = 1 / sqrtl(1 + t * t);
                r = c * t;
                for (size_t i = 0; i < m; i++) {
                    long double x = a[i * n + p], y = a[i * n + q];

                    a[i * n + p] = c * x - r * y;
                    a[i * n + q] = r * x + c * y;
                }
            }
        if (off == 0)
            break;
    }
    for (size_t j = 0; j < n; j++) {
        s[j] = 0;
        for (size_t i = 0; i < m; i++)
            s[j] += a[i * n + j] * a[i * n + j];
        s[j] = sqrtl(s[j]);
        for (size_t i = j; i && s[i] > s[i - 1]; i--) {
            long double swap = s[i];

            s[i] = s[i - 1];
            s[i - 1] = swap;
        }
    }
}

/* Singular values of floats, on the smaller side. */
static long double *singular_values(size_t m, size_t n, const float *a)
{
    size_t few = m < n ? m : n, many = m < n ? n : m;
    long double *copy = malloc(m * n * sizeof *copy), *s = malloc(few * sizeof *s);

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            copy[m < n ? j * m + i : i * n + j] = a[i * n + j];
    jacobi(many, few, copy, s);
    free(copy);
    return s;
}

/* ---- matrices ------------------------------------------------------------------------------------------------ */

/* The enclosure of a holds the true norm and is at most `width` wide, relatively. */
static void encloses(size_t m, size_t n, const float *a, double width)
{
    long double *s = singular_values(m, n, a);
    lip_interval norm;
    lip_error err = {0};
    double smallest;
    size_t few = m < n ? m : n;

    OK(lip_bound_matrix(a, m, n, &norm, &smallest, &err));
    ck_assert_msg(norm.lower <= s[0] * (1 + 1e-17L) && s[0] <= norm.upper * (1 + 1e-17L),
                  "(%zu, %zu): [%.17g, %.17g] does not hold %.20Lg", m, n, norm.lower, norm.upper, s[0]);
    ck_assert_msg(norm.upper - norm.lower <= width * (double)s[0], "(%zu, %zu): [%.17g, %.17g] is %.3g wide", m, n,
                  norm.lower, norm.upper, (norm.upper - norm.lower) / (double)s[0]);
    ck_assert(fabs(smallest - (double)s[few - 1]) <= 2e-8 * (double)s[0]); /* an estimate */
    free(s);
}

START_TEST(random_matrices_are_enclosed)
{
    noise = (lip_random){.seed = 11, .stream = 0};
    for (int trial = 0; trial < 300; trial++) {
        size_t m = 1 + below(24), n = 1 + below(24);
        float a[24 * 24];

        normal(a, m * n);
        if (trial % 4 == 1) /* rank one and noise of any size */
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++)
                    a[i * n + j] = a[i * n] * a[j] + a[i * n + j] * powf(10, -(float)(trial % 9));
        if (trial % 4 == 2)
            for (size_t i = 0; i < m * n; i++)
                a[i] *= powf(10, (float)(trial % 61 - 30));
        if (trial % 4 == 3)
            for (size_t i = 0; i < m * n; i++)
                a[i] = below(3) ? 0 : a[i];
        encloses(m, n, a, 1e-9);
    }
}
END_TEST

START_TEST(special_matrices_are_enclosed)
{
    enum { N = 20 };
    float a[N * N] = {0};
    float one = 0x1.8p-149f;

    encloses(N, N, a, 0);        /* zero */
    encloses(1, 1, &one, 1e-12); /* subnormal */
    for (size_t i = 0; i < N; i++)
        a[i * N + i] = (float)(i + 1);
    encloses(N, N, a, 1e-12); /* diagonal */
    for (size_t i = 0; i < N * N; i++)
        a[i] = 1 / (float)(i / N + i % N + 1);
    encloses(N, N, a, 1e-12); /* Hilbert's */
    for (size_t i = 0; i < N * N; i++)
        a[i] = (float)((int)(i / N) + 1) * ((float)(i % N) - 9.5f);
    encloses(N, N, a, 1e-12);          /* rank one */
    for (size_t i = 0; i < N * N; i++) /* a symmetric orthogonal one: the sine transform */
        a[i] = (float)(sqrt(2.0 / 21) * sin(M_PI * (double)((i / N + 1) * (i % N + 1)) / 21));
    encloses(N, N, a, 1e-12);
    for (size_t i = 0; i < N * N; i++)
        a[i] = i % 7 ? 0x1p-140f * (float)(i % 5) : 1e30f;
    encloses(N, N, a, 1e-12); /* from subnormal to huge */
    for (size_t i = 0; i < N * N; i++)
        a[i] = (float)below(9) * 0x1p-149f;
    encloses(N, N, a, 1e-12); /* nothing but subnormals */
    for (size_t i = 0; i < N * N; i++)
        a[i] = FLT_MAX;
    encloses(N, N, a, 1e-12);
}
END_TEST

START_TEST(an_orthogonal_layer_is_enclosed_tightly)
{
    enum { M = 300, N = 96 };
    static double q[M * N], diagonal[N];
    static float a[M * N];
    lip_interval norm;
    lip_error err = {0};

    noise = (lip_random){.seed = 12};
    normal(a, M * N);
    for (size_t i = 0; i < M * N; i++)
        q[i] = a[i];
    ck_assert_int_eq(lip__qr(M, N, q, diagonal), 0);
    for (size_t i = 0; i < M * N; i++)
        a[i] = (float)q[i];
    OK(lip_bound_matrix(a, M, N, &norm, NULL, &err));
    ck_assert_double_le(norm.lower, norm.upper);
    ck_assert_double_eq_tol(norm.upper, 1, 1e-6);
    ck_assert_double_le(norm.upper - norm.lower, 1e-9);
}
END_TEST

START_TEST(bad_matrices_are_errors)
{
    float a[6] = {1, 2, 3, NAN, 5, 6};
    lip_interval norm;
    lip_error err = {0};

    ck_assert_int_eq(lip_bound_matrix(a, 2, 3, &norm, NULL, &err), LIP_ENONFINITE);
    ck_assert_ptr_nonnull(strstr(err.text, "[1,0]"));
    err = (lip_error){0};
    OK(lip_bound_matrix(a, 0, 3, &norm, NULL, &err));
    ck_assert_double_eq(norm.upper, 0);
}
END_TEST

static int left; /* allocations that still succeed */

static int fail_later(void)
{
    return left-- <= 0;
}

/* Rounding that proofs do not know of is refused. */
START_TEST(other_arithmetics_prove_nothing)
{
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    const float a[] = {1, 2, 3, 4};
    lip_interval norm;
    lip_error err = {0};

    for (size_t i = 0; i < 3; i++) {
        lip_err rc;

        fesetround(modes[i]);
        rc = lip_bound_matrix(a, 2, 2, &norm, NULL, &err);
        fesetround(FE_TONEAREST);
        ck_assert_int_eq(rc, LIP_ENUMERIC);
        ck_assert_ptr_nonnull(strstr(err.text, "round"));
    }
#ifdef __SSE2__
    for (unsigned bit = 0x40; bit <= 0x8000; bit *= 0x200) { /* denormals are zeros; flush to zero */
        unsigned before = __builtin_ia32_stmxcsr();
        lip_err rc;

        __builtin_ia32_ldmxcsr(before | bit);
        rc = lip_bound_matrix(a, 2, 2, &norm, NULL, &err);
        __builtin_ia32_ldmxcsr(before);
        ck_assert_int_eq(rc, LIP_ENUMERIC);
    }
#endif
    OK(lip_bound_matrix(a, 2, 2, &norm, NULL, &err));
}
END_TEST

START_TEST(a_matrix_survives_every_lost_allocation)
{
    float a[20] = {1, 2, 3, 4, 5, 6};
    lip_interval norm;
    lip_err rc = LIP_ENOMEM;
    double smallest;
    int n;

    for (n = 0; n < 40 && rc != LIP_OK; n++) {
        left = n;
        lip__alloc_hook = fail_later;
        rc = lip_bound_matrix(a, 5, 4, &norm, &smallest, NULL);
        lip__alloc_hook = NULL;
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
    }
    ck_assert_int_gt(n, 3);
    ck_assert_int_lt(n, 40);
    ck_assert_double_gt(norm.lower, 8); /* not the wider enclosure of a failed eigensolver */
}
END_TEST

/* ---- convolutions ----------------------------------------------------------------------------------------------- */

/* The convolution as a matrix (inputs, outputs): row i is the image of pixel i. */
static float *explicit_matrix(const struct lip__convolution *k, size_t *m, size_t *n)
{
    *m = k->g.h * k->g.w * k->g.c;
    *n = k->g.oh * k->g.ow * k->f;
    float *a = calloc(*m * *n, sizeof *a);

    for (size_t p = 0; p < k->g.oh; p++)
        for (size_t r = 0; r < k->g.ow; r++)
            for (size_t y = 0; y < k->g.kh; y++)
                for (size_t x = 0; x < k->g.kw; x++) {
                    long row = (long)(p * k->g.sh + y) - (long)k->g.top,
                         column = (long)(r * k->g.sw + x) - (long)k->g.left;

                    if (row < 0 || column < 0 || row >= (long)k->g.h || column >= (long)k->g.w)
                        continue;
                    for (size_t i = 0; i < k->g.c; i++)
                        for (size_t o = 0; o < k->f; o++)
                            a[(((size_t)row * k->g.w + (size_t)column) * k->g.c + i) * *n + (p * k->g.ow + r) * k->f +
                              o] = (float)k->kernel[((y * k->g.kw + x) * k->g.c + i) * k->f + o];
                }
    return a;
}

START_TEST(random_convolutions_are_never_underestimated)
{
    noise = (lip_random){.seed = 13, .stream = (uint64_t)_i};
    for (int trial = 0; trial < 60; trial++) {
        struct lip__convolution k = {.g = {.h = 1 + below(7),
                                           .w = 1 + below(7),
                                           .c = 1 + below(3),
                                           .kh = 1 + below(5),
                                           .kw = 1 + below(5),
                                           .sh = 1 + below(3),
                                           .sw = 1 + below(3)},
                                     .f = 1 + below(5)};
        float weights[5 * 5 * 3 * 5], *a;
        double wide[5 * 5 * 3 * 5], abs_norm, embedded, *whole;
        lip_interval norm, reshaped, exact, absolute;
        const char *method;
        bool done;
        lip_error err = {0};
        size_t m, n, m_whole, n_whole;

        if (!lip__windows_set(&k.g, trial % 4 != 0))
            continue;
        normal(weights, lip__window_size(&k.g) * k.f);
        for (size_t i = 0; trial % 5 == 4 && i < lip__window_size(&k.g) * k.f; i++)
            weights[i] *= 1e-30f;
        for (size_t i = 0; i < lip__window_size(&k.g) * k.f; i++)
            wide[i] = weights[i];
        k.kernel = wide;
        a = explicit_matrix(&k, &m, &n);
        OK(lip_bound_matrix(a, m, n, &exact, NULL, &err)); /* itself tested above */
        OK(lip_bound_matrix(weights, lip__window_size(&k.g), k.f, &reshaped, NULL, &err));
        OK(lip__conv_enclose(&k, &reshaped, 0, &norm, &method, &done, &err));
        ck_assert_msg(norm.lower <= exact.upper && exact.lower <= norm.upper,
                      "%zux%zux%zu by %zux%zu step %zu,%zu to %zu: [%.9g, %.9g], truly %.9g", k.g.h, k.g.w, k.g.c,
                      k.g.kh, k.g.kw, k.g.sh, k.g.sw, k.f, norm.lower, norm.upper, exact.upper);
        ck_assert_msg(norm.lower >= 0.999999 * exact.lower && norm.upper <= 1.000001 * exact.upper,
                      "[%.9g, %.9g] by %s, truly %.9g", norm.lower, norm.upper, method, exact.lower);
        OK(lip__conv_embed(&k, trial % 2 ? norm.lower : 0, 0, &embedded, &done, &err));
        ck_assert_double_ge(embedded, exact.lower);
        OK(lip__conv_matrix(&k, &whole, &m_whole, &n_whole, &err));
        ck_assert(m_whole == m && n_whole == n);
        for (size_t i = 0; i < m * n; i++)
            ck_assert_float_eq((float)whole[i], a[i]);
        lip__free(whole);
        for (size_t i = 0; i < m * n; i++)
            a[i] = fabsf(a[i]);
        OK(lip_bound_matrix(a, m, n, &absolute, NULL, &err));
        OK(lip__conv_abs_norm(&k, &abs_norm, &err));
        ck_assert_double_ge(abs_norm, absolute.lower);
        free(a);
    }
}
END_TEST

/* The same through definitions: layers as inference computes them, its matrix from unit vectors, against LAPACK's SVD. */

/* A convolution of any class: layer|input shape. */
static void random_layer(char *json, size_t size)
{
    static const char *const classes[] = {"Conv2D", "SpectralConv2D", "FrobeniusConv2D", "Conv2DTranspose",
                                          "SpectralConv2DTranspose", "PadConv2D", "PadConv2D"};
    static const char *const paddings[] = {"constant", "reflect", "symmetric", "circular", "same", "valid"};
    const char *class_name = classes[below(7)];
    bool padded = !strcmp(class_name, "PadConv2D"), own = padded || !strncmp(class_name, "Conv2D", 6), first = below(2);
    size_t h = 1 + below(7), w = 1 + below(7), c = 1 + below(3), taps[] = {1 + below(5), 1 + below(5)};
    size_t strides[] = {1 + below(3), 1 + below(3)};

    if (strstr(class_name, "Transpose")) /* makes larger images */
        h = 1 + h / 2, w = 1 + w / 2;
    if (!strcmp(class_name, "FrobeniusConv2D"))
        strides[0] = strides[1] = 1;
    snprintf(json, size,
             "\"%s\",\"config\":{\"name\":\"c\",\"filters\":%zu,\"kernel_size\":[%zu,%zu],\"strides\":[%zu,%zu],\"padding\":\"%s\","
             "\"data_format\":\"channels_%s\",\"use_bias\":false}}|[null,%zu,%zu,%zu]",
             class_name, 1 + below(5), taps[0], taps[1], strides[0], strides[1], own ? paddings[padded ? below(6) : 4 + below(2)] : "same",
             first ? "first" : "last", first ? c : h, first ? h : w, first ? w : c);
}

/* What a definition cannot be (a kernel larger than the image, …) is drawn again. */
static bool serve_random(struct served *s, char *layer, size_t size)
{
    char json[1024], *input;
    lip_error err = {0};

    random_layer(layer, size);
    input = strchr(layer, '|');
    *input++ = '\0';
    snprintf(json, sizeof json,
             "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
             "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":%s,\"name\":\"x\"}},{\"class_name\":%s]}}",
             input, layer);
    if (lip_model_read(json, strlen(json), false, &s->model, &err))
        return false;
    lip_model_put(s->model);
    serve(s, json, lip_random_u64(&noise));
    return true;
}

static float *matrix_of(const struct served *s, size_t m, size_t n);
static void unconstrain(struct served *s, double factor);

START_TEST(random_layers_are_never_underestimated)
{
    char layer[512];

    noise = (lip_random){.seed = 18, .stream = (uint64_t)_i};
    for (int trial = 0; trial < 60;) {
        double *wide, sigma[1024];
        lip_layer_bound bound;
        lip_error err = {0};
        struct served s;
        float *a;

        if (!serve_random(&s, layer, sizeof layer))
            continue;
        trial++;
        if (trial % 2)
            unconstrain(&s, 1);
        a = matrix_of(&s, s.in, s.out);
        wide = lip__widen(a, s.in * s.out);
        ck_assert_int_eq(lip__singular_values(s.in, s.out, wide, sigma), 0);
        OK(lip_bound_layer(s.snapshot, 1, &bound, &err));
        /* Inference adds kernels of copies of a pixel in float32; else its matrix is exact. */
        ck_assert_msg(bound.lower <= sigma[0] * (1 + 1e-6) && sigma[0] * (1 - 1e-6) <= bound.upper, "%s: [%.9g, %.9g], truly %.9g", layer,
                      bound.lower, bound.upper, sigma[0]);
        ck_assert_msg(bound.upper <= sigma[0] * (1 + 3e-6), "%s: %.9g by %s, truly %.9g", layer, bound.upper, bound.method, sigma[0]);
        lip__free(wide);
        free(a);
        stop(&s);
    }
}
END_TEST

/* Orthonormal columns (or rows, where there are fewer) of a random (m, n). */
static void orthonormal(size_t m, size_t n, double *a)
{
    size_t many = m < n ? n : m, few = m < n ? m : n;
    double *q = malloc(m * n * sizeof *q), *diagonal = malloc(few * sizeof *diagonal);

    for (size_t i = 0; i < m * n; i++) {
        float x;

        normal(&x, 1);
        q[i] = x;
    }
    ck_assert_int_eq(lip__qr(many, few, q, diagonal), 0);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            a[i * n + j] = (float)(m < n ? q[j * few + i] : q[i * few + j]);
    free(diagonal);
    free(q);
}

/* The table of certify.md C2: random orthonormal kernels; true norm and what the embedding is worth. Norms of other
 * draws are within a few percent. */
static const struct {
    size_t k, c, f, n, s;
    double truth, embedding;
} table[] = {{3, 1, 16, 28, 1, 3.000, 3.000}, {3, 16, 16, 14, 1, 1.910, 1.939}, {3, 16, 32, 14, 1, 2.198, 2.214},
             {5, 8, 8, 8, 1, 1.817, 1.991},   {3, 4, 64, 8, 1, 3.000, 3.000},   {3, 16, 32, 14, 2, 1.578, 1.590},
             {5, 3, 40, 17, 3, 1.871, 1.890}};

START_TEST(the_embedding_is_as_tight_as_published)
{
    struct lip__convolution k = {.g = {.h = table[_i].n,
                                       .w = table[_i].n,
                                       .c = table[_i].c,
                                       .kh = table[_i].k,
                                       .kw = table[_i].k,
                                       .sh = table[_i].s,
                                       .sw = table[_i].s},
                                 .f = table[_i].f};
    size_t size = table[_i].k * table[_i].k * table[_i].c;
    double *kernel = malloc(size * k.f * sizeof *kernel), embedded;
    lip_interval reshaped, norm;
    const char *method;
    bool whole;
    lip_error err = {0};

    noise = (lip_random){.seed = 21, .stream = (uint64_t)_i};
    ck_assert(lip__windows_set(&k.g, true));
    orthonormal(size, k.f, kernel);
    k.kernel = kernel;
    OK(lip__enclose(kernel, size, k.f, &reshaped, NULL, &err));
    ck_assert_double_eq_tol(reshaped.upper, 1, 1e-6);
    OK(lip__conv_enclose(&k, &reshaped, 0, &norm, &method, &whole, &err));
    OK(lip__conv_embed(&k, norm.lower, 0, &embedded, &whole, &err));
    ck_assert_double_le(norm.lower, norm.upper);
    ck_assert_double_ge(embedded, norm.lower);
    ck_assert_double_eq_tol(norm.lower, table[_i].truth, 0.06 * table[_i].truth);
    ck_assert_double_le(embedded / norm.lower, table[_i].embedding / table[_i].truth * 1.03);
    ck_assert_double_le(norm.upper, embedded * (1 + 2e-6)); /* not tried where nu is attained to 1e-6 */
    free(kernel);
}
END_TEST

/* A row of n pixels under an all-ones kernel of 3 is a tridiagonal matrix: 1 + 2 cos(pi / (n + 1)). */
START_TEST(a_row_under_three_ones_is_known)
{
    static const double ones[] = {1, 1, 1};

    for (size_t n = 1; n < 40; n++) {
        struct lip__convolution k = {
            .g = {.h = 1, .w = n, .c = 1, .kh = 1, .kw = 3, .sh = 1, .sw = 1}, .f = 1, .kernel = ones};
        double truth = 1 + 2 * cos(M_PI / (double)(n + 1)), embedded;
        lip_interval reshaped, norm;
        const char *method;
    bool whole;
        lip_error err = {0};

        lip__windows_set(&k.g, true);
        OK(lip__enclose(ones, 3, 1, &reshaped, NULL, &err));
        OK(lip__conv_enclose(&k, &reshaped, 0, &norm, &method, &whole, &err));
        OK(lip__conv_embed(&k, 0, 0, &embedded, &whole, &err));
        ck_assert_double_eq_tol(norm.lower, truth, 1e-5 * truth);
        ck_assert_double_eq_tol(norm.upper, truth, 1e-5 * truth);
        ck_assert_double_le(norm.lower, truth * (1 + 1e-14));
        ck_assert_double_ge(norm.upper, truth * (1 - 1e-14));
        ck_assert_double_eq_tol(embedded, 3, 1e-6); /* the supremum over all frequencies is at 0 */
    }
}
END_TEST

/* The ground truths of certify.md 4 that orthogonal kernels have: with as many filters as a window has numbers the norm is the root of
 * how many windows share a pixel at most; windows that share none make it 1. And <A x, y> = <x, A'y>. */
START_TEST(orthogonal_kernels_attain_their_coverage)
{
    static const struct {
        size_t n, k, s, c, f, shared; /* shared: windows over one pixel, along one axis */
    } known[] = {{28, 3, 1, 1, 9, 3}, {8, 3, 1, 2, 20, 3}, {4, 3, 1, 1, 16, 3}, {9, 5, 1, 1, 25, 5}, {9, 4, 1, 1, 16, 4},
                 {8, 2, 2, 3, 12, 1}, {9, 3, 3, 2, 18, 1}, {9, 3, 2, 1, 9, 2},   {12, 5, 2, 1, 25, 3}, {7, 3, 3, 1, 9, 1}};
    size_t n = known[_i].n, size = known[_i].k * known[_i].k * known[_i].c;
    struct lip__convolution k = {.g = {.h = n, .w = n, .c = known[_i].c, .kh = known[_i].k, .kw = known[_i].k, .sh = known[_i].s, .sw = known[_i].s},
                                 .f = known[_i].f};
    double *kernel = malloc(size * k.f * sizeof *kernel), *x, *y, *ax, *aty, *panel, here = 0, there = 0, length = 0;
    lip_interval reshaped, norm;
    const char *method;
    bool whole;
    lip_error err = {0};

    noise = (lip_random){.seed = 61, .stream = (uint64_t)_i};
    lip__windows_set(&k.g, true);
    orthonormal(size, k.f, kernel);
    k.kernel = kernel;
    ck_assert_uint_eq(lip__conv_coverage(&k), known[_i].shared * known[_i].shared);
    OK(lip__enclose(kernel, size, k.f, &reshaped, NULL, &err));
    OK(lip__conv_enclose(&k, &reshaped, 0, &norm, &method, &whole, &err));
    ck_assert_double_eq_tol(norm.lower, (double)known[_i].shared, 1e-5); /* the kernel is rounded to float32 */
    ck_assert_double_eq_tol(norm.upper, (double)known[_i].shared, 1e-5);
    x = malloc(lip__conv_inputs(&k) * sizeof *x);
    aty = malloc(lip__conv_inputs(&k) * sizeof *x);
    y = malloc(lip__conv_outputs(&k) * sizeof *y);
    ax = malloc(lip__conv_outputs(&k) * sizeof *y);
    panel = malloc(lip__conv_panel(&k) * sizeof *panel);
    for (size_t i = 0; i < lip__conv_inputs(&k); i++)
        x[i] = sin((double)(3 * i + 1));
    for (size_t i = 0; i < lip__conv_outputs(&k); i++)
        y[i] = cos((double)(2 * i + 1));
    lip__conv_apply(&k, x, ax, panel);
    lip__double_conv_adjoint(&k, y, aty, panel);
    for (size_t i = 0; i < lip__conv_outputs(&k); i++) {
        here += ax[i] * y[i];
        length += fabs(ax[i] * y[i]);
    }
    for (size_t i = 0; i < lip__conv_inputs(&k); i++)
        there += x[i] * aty[i];
    ck_assert_double_eq_tol(here, there, 1e-12 * length);
    free(panel);
    free(ax);
    free(y);
    free(aty);
    free(x);
    free(kernel);
}
END_TEST

/* ---- models ------------------------------------------------------------------------------------------------------ */

/* The raw kernels as effective ones, times `factor`: what nobody constrained. */
static void unconstrain(struct served *s, double factor)
{
    lip_error err = {0};

    for (size_t i = 0; i < lip_model_variables(s->model); i++) {
        const lip_variable *v = lip_model_variable(s->model, i);
        size_t n = lip_shape_count(&v->shape);
        float *x = malloc(n * sizeof *x);

        normal(x, n);
        for (size_t j = 0; j < n; j++)
            x[j] *= (float)factor;
        if (v->role == LIP_WBAR || v->role == LIP_BIAS)
            OK(lip_state_load(s->state, &(lip_named){v->name, v->shape, x}, 1, true, NULL, NULL, &err));
        free(x);
    }
    lip_snapshot_put(s->snapshot);
    OK(lip_state_publish(s->state, &s->snapshot, &err));
}

/* ||f(x) - f(z)|| <= upper ||x - z|| + deviation, for random pairs near and far. */
static void obeys(const struct served *s, const lip_network_bound *network)
{
    size_t in = lip_shape_count(lip_model_input_shape(s->model, 0)),
           out = lip_shape_count(lip_model_output_shape(s->model, 0));
    float *x = malloc(2 * in * sizeof *x), *y = malloc(2 * out * sizeof *y);
    lip_workspace *ws = lip_workspace_new();
    lip_error err = {0};

    for (int trial = 0; trial < 200; trial++) {
        double size = 0, far = 0, moved = 0, step = pow(10, -(double)(trial % 7));

        normal(x, 2 * in);
        for (size_t i = 0; i < in; i++)
            size += (double)x[i] * x[i];
        for (size_t i = 0; i < in; i++) {
            x[i] *= (float)(0.7 * network->input_norm / sqrt(size));
            x[in + i] =
                x[i] + (float)(0.3 * step * network->input_norm / sqrt((double)in)) * fmaxf(-1, fminf(1, x[in + i]));
            far += ((double)x[i] - x[in + i]) * ((double)x[i] - x[in + i]);
        }
        OK(lip_predict(s->snapshot, ws, 2, x, y, &err));
        for (size_t i = 0; i < out; i++)
            moved += ((double)y[i] - y[out + i]) * ((double)y[i] - y[out + i]);
        ck_assert_double_le(sqrt(moved), (network->upper * sqrt(far) + network->deviation) * (1 + 1e-12));
    }
    lip_workspace_free(ws);
    free(y);
    free(x);
}

static void check_report(const struct served *s, lip_layer_bound *layers, size_t *n, lip_network_bound *network)
{
    lip_error err = {0};

    OK(lip_bound_network(s->snapshot, &(lip_bound_options){0}, layers, n, network, &err));
    for (size_t i = 0; i < *n; i++) {
        lip_layer_bound alone;
        size_t at = 0;

        while (lip_model_layer(s->model, at) != layers[i].layer)
            at++;
        ck_assert_double_le(layers[i].lower, layers[i].upper);
        ck_assert_double_gt(layers[i].lower, 0);
        OK(lip_bound_layer(s->snapshot, at, &alone, &err));
        ck_assert_double_eq(alone.upper, layers[i].upper);
        ck_assert_str_eq(alone.method, layers[i].method);
    }
    ck_assert_double_gt(network->lower, 0);
    ck_assert_double_le(network->lower, network->upper);
    ck_assert_double_gt(network->deviation, 0);
    obeys(s, network);
}

START_TEST(reports_hold_for_models)
{
    static const char *const models[] = {MLP, CNN, GRAPH, SHARED};
    lip_layer_bound layers[16];
    lip_network_bound network;
    size_t n;

    noise = (lip_random){.seed = 14, .stream = (uint64_t)_i};
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct served s;

        serve(&s, models[_i], seed);
        if (seed > 2)
            unconstrain(&s, seed == 6 ? 1e4 : 0.5);
        check_report(&s, layers, &n, &network);
        ck_assert_uint_eq(n, lip_model_layers(s.model) - 1);
        if (seed <= 2) { /* the head's neurons claim 1 each; deel-lip's factor of c1; x beside d1(x) + 4 d(d1(x)) */
            ck_assert_double_le(network.upper, sqrt(3) * (_i == 0 ? 1.00001 : _i == 1 ? 1.2 : sqrt(26) * 1.00001));
            ck_assert_int_eq(layers[n - 1].sound_claim, 1);
            ck_assert_double_eq_tol(layers[n - 1].output_upper, 1, 1e-6);
        }
        stop(&s);
    }
}
END_TEST

/* Every kind of layer between a Flatten or nothing and the output, on images of 6x6x4 or rows of 8; what `linear` says:
 * whether its matrix is known from unit vectors. */
static const struct {
    const char *input, *layer;
    bool linear;
} kinds[] = {
    {"[null,6,6,4]", "\"Conv2D\",\"config\":{\"filters\":3,\"kernel_size\":[3,2],\"padding\":\"valid\"", true},
    {"[null,6,6,4]", "\"Conv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"strides\":[2,1],\"padding\":\"same\"", true},
    {"[null,6,6,4]", "\"SpectralConv2D\",\"config\":{\"filters\":6,\"kernel_size\":3", true},
    {"[null,6,6,4]", "\"FrobeniusConv2D\",\"config\":{\"filters\":5,\"kernel_size\":2", true},
    {"[null,6,6,4]", "\"Conv2DTranspose\",\"config\":{\"filters\":3,\"kernel_size\":3,\"strides\":2,\"padding\":\"same\"", true},
    {"[null,6,6,4]", "\"Conv2DTranspose\",\"config\":{\"filters\":3,\"kernel_size\":[4,3],\"strides\":[1,3],\"padding\":\"valid\"", true},
    {"[null,6,6,4]", "\"SpectralConv2DTranspose\",\"config\":{\"filters\":3,\"kernel_size\":3,\"strides\":2", true},
    {"[null,5,6,4]", "\"Conv2DTranspose\",\"config\":{\"filters\":3,\"kernel_size\":[3,4],\"strides\":[3,2],\"output_padding\":[2,1],\"padding\":\"same\"", true},
    {"[null,5,6,4]", "\"Conv2DTranspose\",\"config\":{\"filters\":3,\"kernel_size\":[3,4],\"strides\":[3,2],\"output_padding\":[1,1],\"padding\":\"valid\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"padding\":\"constant\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":5,\"padding\":\"reflect\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":[4,3],\"padding\":\"symmetric\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"padding\":\"circular\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":[2,3],\"strides\":[1,2],\"padding\":\"circular\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"strides\":4,\"padding\":\"circular\"", true},
    {"[null,6,6,4]", "\"PadConv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"padding\":\"same\"", true},
    {"[null,6,6,4]", "\"ScaledAveragePooling2D\",\"config\":{\"pool_size\":[2,3],\"k_coef_lip\":0.5", true},
    {"[null,6,6,4]", "\"ScaledGlobalAveragePooling2D\",\"config\":{\"k_coef_lip\":2.0", true},
    {"[null,6,6,4]", "\"AveragePooling2D\",\"config\":{\"pool_size\":3,\"strides\":2,\"padding\":\"same\"", true},
    {"[null,6,6,4]", "\"GlobalAveragePooling2D\",\"config\":{\"name\":\"g\"", true},
    {"[null,6,6,4]", "\"InvertibleDownSampling\",\"config\":{\"pool_size\":[2,3]", true},
    {"[null,6,6,4]", "\"InvertibleUpSampling\",\"config\":{\"pool_size\":2", true},
    {"[null,6,6,4]", "\"Permute\",\"config\":{\"dims\":[3,1,2]", true},
    {"[null,6,6,4]", "\"Reshape\",\"config\":{\"target_shape\":[36,4]", true},
    {"[null,6,6,4]", "\"ZeroPadding2D\",\"config\":{\"padding\":[[1,0],[2,1]]", true},
    {"[null,6,6,4]", "\"Flatten\",\"config\":{\"name\":\"f\"", true},
    {"[null,6,8]", "\"Dense\",\"config\":{\"units\":5", true},
    {"[null,6,6,4]", "\"BatchNormalization\",\"config\":{\"epsilon\":1e-3", true},
    {"[null,6,6,4]", "\"BatchNormalization\",\"config\":{\"axis\":1,\"scale\":false", true},
    {"[null,6,8]", "\"BatchNormalization\",\"config\":{\"axis\":[-2],\"center\":false", true},
    {"[null,8]", "\"Rescaling\",\"config\":{\"scale\":-0.4,\"offset\":2.0", true},
    {"[null,8]", "\"Dropout\",\"config\":{\"rate\":0.5", true},
    {"[null,6,6,4]", "\"SpectralConv2D\",\"config\":{\"filters\":6,\"kernel_size\":3,\"data_format\":\"channels_first\"", true},
    {"[null,8]", "\"SpectralDense\",\"config\":{\"units\":5,\"k_coef_lip\":3.0", true},
    {"[null,8]", "\"FrobeniusDense\",\"config\":{\"units\":5,\"disjoint_neurons\":false", true},
    {"[null,6,6,4]", "\"ScaledL2NormPooling2D\",\"config\":{\"pool_size\":[2,4]", false},
    {"[null,6,6,4]", "\"ScaledGlobalL2NormPooling2D\",\"config\":{\"k_coef_lip\":0.5", false},
    {"[null,6,6,4]", "\"MaxPooling2D\",\"config\":{\"pool_size\":3,\"strides\":2,\"padding\":\"same\"", false},
    {"[null,6,6,4]", "\"GlobalMaxPooling2D\",\"config\":{\"name\":\"g\"", false},
    {"[null,8]", "\"GroupSort\",\"config\":{\"n\":4,\"k_coef_lip\":2.0", false},
    {"[null,8]", "\"GroupSort2\",\"config\":{\"name\":\"s\"", false},
    {"[null,8]", "\"FullSort\",\"config\":{\"name\":\"s\"", false},
    {"[null,6,8]", "\"MaxMin\",\"config\":{\"k_coef_lip\":0.5", false},
    {"[null,6,8]", "\"Householder\",\"config\":{\"name\":\"h\"", false},
    {"[null,6,8]", "\"PReLU\",\"config\":{\"name\":\"p\"", false},
    {"[null,6,6,4]", "\"PReLU\",\"config\":{\"shared_axes\":[1,2]", false},
    {"[null,6,8]", "\"PReLU\",\"config\":{\"shared_axes\":[2]", false},
    {"[null,8]", "\"LeakyReLU\",\"config\":{\"alpha\":-0.7", false},
    {"[null,8]", "\"ELU\",\"config\":{\"alpha\":1.5", false},
    {"[null,8]", "\"ThresholdedReLU\",\"config\":{\"theta\":0.0", false},
    {"[null,8]", "\"ReLU\",\"config\":{\"max_value\":1.0,\"negative_slope\":0.25", false},
    {"[null,8]", "\"Softmax\",\"config\":{\"name\":\"s\"", false},
    {"[null,6,4,3]", "\"Softmax\",\"config\":{\"axis\":2", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"relu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"relu6\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"leaky_relu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"elu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"selu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"sigmoid\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"hard_sigmoid\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"tanh\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"softplus\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"softsign\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"swish\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"silu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"gelu\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"mish\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"log_softmax\"", false},
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"softmax\"", false},
};

/* What joins tensors: the two that branches of x make, here with what has a bound. */
static const struct {
    const char *layer;
    bool bounded;
} joins[] = {{"\"Add\"", true},      {"\"Average\"", true},  {"\"Subtract\"", true},
             {"\"Concatenate\"", true}, {"\"Multiply\"", false}};

/* Kinds and functions without a rule: a product of two tensors, what grows exponentially, what jumps. */
static const struct {
    const char *input, *layer;
} boundless[] = {
    {"[null,8]", "\"Activation\",\"config\":{\"activation\":\"exponential\""},
    {"[null,8]", "\"ReLU\",\"config\":{\"threshold\":0.5"},
    {"[null,8]", "\"ThresholdedReLU\",\"config\":{\"theta\":1.0"},
};

/* A model of one layer. */
static void serve_one(struct served *s, const char *input, const char *layer)
{
    char json[1024];

    snprintf(json, sizeof json,
             "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
             "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":%s,\"name\":\"x\"}},"
             "{\"class_name\":%s}}]}}",
             input, layer);
    serve(s, json, 1);
}

static bool in_tables(const char *quoted)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(kinds[i].layer, quoted))
            return true;
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++)
        if (!strcmp(joins[i].layer, quoted))
            return true;
    return false;
}

/* Whoever adds a kind of layer or a function adds it to a table here, where its rule is tested, or what has none is. */
START_TEST(every_kind_of_the_registry_has_its_rule)
{
    char quoted[64];
    const char *name = lip__activation_identifiers();

    for (const struct lip__kind *const *k = lip__kinds(); *k; k++) {
        snprintf(quoted, sizeof quoted, "\"%s\"", (*k)->cls.name);
        ck_assert_msg(in_tables(quoted) || !strcmp((*k)->cls.name, "InputLayer") || !strcmp((*k)->cls.name, "TFOpLambda"),
                      "no test of a rule for %s", quoted); /* every model has the one, SHARED the other */
    }
    while (*name) {
        size_t length = strcspn(name, ", ");

        snprintf(quoted, sizeof quoted, "\"%.*s\"", (int)length, name);
        ck_assert_msg(in_tables(quoted) || !strcmp(quoted, "\"linear\"") || !strcmp(quoted, "\"exponential\""),
                      "no test of a rule for the function %s", quoted);
        name += length + strspn(name + length, ", ");
    }
}
END_TEST

/* No bound is said to be none, with the layer's name; never 1. */
START_TEST(what_has_no_rule_has_no_bound)
{
    lip_layer_bound layers[4];
    lip_network_bound network;
    lip_certifier *certifier = NULL;
    lip_error err = {0};
    struct served s;
    size_t n;

    serve_one(&s, boundless[_i].input, boundless[_i].layer);
    OK(lip_bound_network(s.snapshot, NULL, layers, &n, &network, &err));
    ck_assert(isnan(layers[0].upper) && isnan(network.upper) && isnan(network.deviation));
    ck_assert_str_eq(layers[0].method, "none");
    ck_assert_str_eq(network.method, "none");
    ck_assert_int_eq(lip_certifier_new(s.snapshot, NULL, &certifier, &err), LIP_EBOUND);
    ck_assert_ptr_nonnull(strstr(err.text, lip_layer_name(layers[0].layer)));
    ck_assert_ptr_null(certifier);
    stop(&s);
}
END_TEST

/* x and relu(x W) joined, and behind them a matrix: a residual block where it is Add. */
START_TEST(joins_are_bounded)
{
    static const char form[] =
        "{\"class_name\":\"Functional\",\"config\":{\"name\":\"g\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"},\"name\":\"x\","
        "\"inbound_nodes\":[]},"
        "{\"class_name\":\"Dense\",\"config\":{\"units\":6,\"activation\":\"relu\",\"name\":\"d\"},\"name\":\"d\","
        "\"inbound_nodes\":[[[\"x\",0,0,{}]]]},"
        "{\"class_name\":%s,\"config\":{\"name\":\"j\"},\"name\":\"j\",\"inbound_nodes\":[[[\"d\",0,0,{}],[\"x\",0,0,{}]]]},"
        "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"},\"name\":\"y\",\"inbound_nodes\":[[[\"j\",0,0,{}]]]}],"
        "\"input_layers\":[[\"x\",0,0]],\"output_layers\":[[\"y\",0,0]]}}";
    char json[1536];
    lip_layer_bound layers[8];
    lip_network_bound network;
    lip_error err = {0};
    struct served s;
    size_t n;

    snprintf(json, sizeof json, form, joins[_i].layer);
    noise = (lip_random){.seed = 17, .stream = (uint64_t)_i};
    serve(&s, json, 1);
    unconstrain(&s, 0.5);
    OK(lip_bound_network(s.snapshot, NULL, layers, &n, &network, &err));
    if (joins[_i].bounded) {
        ck_assert_double_gt(network.lower, 0);
        ck_assert_double_le(network.lower, network.upper);
        obeys(&s, &network);
    } else {
        ck_assert(isnan(layers[1].upper) && isnan(network.upper));
        ck_assert_str_eq(lip_layer_name(layers[1].layer), "j");
    }
    stop(&s);
}
END_TEST

/* The matrix (inputs, outputs) of a model that is affine, from unit vectors less what 0 gives. */
static float *matrix_of(const struct served *s, size_t m, size_t n)
{
    float *x = calloc((m + 1) * m, sizeof *x), *y = malloc((m + 1) * n * sizeof *y);
    lip_workspace *ws = lip_workspace_new();
    lip_error err = {0};

    for (size_t i = 0; i < m; i++)
        x[i * m + i] = 1;
    OK(lip_predict(s->snapshot, ws, m + 1, x, y, &err));
    for (size_t i = 0; i < m * n; i++)
        y[i] -= y[m * n + i % n];
    lip_workspace_free(ws);
    free(x);
    return y;
}

START_TEST(every_kind_of_layer_is_bounded)
{
    lip_layer_bound layers[4];
    lip_network_bound network;
    lip_error err = {0};
    struct served s;
    size_t n, in, out;

    noise = (lip_random){.seed = 16, .stream = (uint64_t)_i};
    serve_one(&s, kinds[_i].input, kinds[_i].layer);
    for (size_t i = 0; i < lip_model_variables(s.model); i++) { /* biases, slopes and angles that are no 0 */
        const lip_variable *v = lip_model_variable(s.model, i);
        float x[256];

        if (v->role != LIP_BIAS && v->role != LIP_OTHER && v->role != LIP_MOVING)
            continue;
        normal(x, lip_shape_count(&v->shape));
        for (size_t j = 0; strstr(v->name, "variance") && j < lip_shape_count(&v->shape); j++)
            x[j] *= x[j];
        OK(lip_state_load(s.state, &(lip_named){v->name, v->shape, x}, 1, true, NULL, NULL, &err));
    }
    lip_snapshot_put(s.snapshot);
    OK(lip_state_publish(s.state, &s.snapshot, &err));
    OK(lip_bound_network(s.snapshot, NULL, layers, &n, &network, &err));
    ck_assert_msg(layers[0].upper >= layers[0].lower && network.upper >= network.lower && network.lower > 0,
                  "%s: [%.9g, %.9g], network [%.9g, %.9g]", kinds[_i].layer, layers[0].lower, layers[0].upper, network.lower,
                  network.upper);
    ck_assert_double_gt(network.deviation, -1); /* known */
    ck_assert_double_le(network.deviation, 1e-2);
    obeys(&s, &network);
    in = lip_shape_count(lip_model_input_shape(s.model, 0));
    out = lip_shape_count(lip_model_output_shape(s.model, 0));
    if (kinds[_i].linear) {
        float *a = matrix_of(&s, in, out);
        lip_interval exact;

        OK(lip_bound_matrix(a, in, out, &exact, NULL, &err));
        ck_assert_msg(layers[0].lower <= exact.upper * (1 + 2e-6) && layers[0].upper >= exact.lower * (1 - 2e-6),
                      "%s: [%.9g, %.9g], truly %.9g", kinds[_i].layer, layers[0].lower, layers[0].upper, exact.upper);
        if (strstr(kinds[_i].layer, "Conv") || strstr(kinds[_i].layer, "Dense") || strstr(kinds[_i].layer, "Normalization"))
            ck_assert_msg(layers[0].upper <= exact.upper * (1 + 2e-6), "%s: %.9g, truly %.9g by %s", kinds[_i].layer,
                          layers[0].upper, exact.upper, layers[0].method);
        ck_assert_double_ge(network.lower, exact.lower * 0.95); /* a short power iteration */
        free(a);
    }
    stop(&s);
}
END_TEST

/* 4-6-5-3 with `activation` twice: few enough neurons to try every pattern of slopes. */
static const char *const tiny[] = {"\"relu\"", "{\"class_name\":\"LeakyReLU\",\"config\":{\"alpha\":-0.5}}",
                                   "{\"class_name\":\"GroupSort2\",\"config\":{}}"};

/* Row i of an activation's Jacobian for pattern bits: slopes, or whether a pair changes places. */
static void activate(int which, size_t n, unsigned bits, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++)
        if (which == 2)
            y[i] = x[bits >> (i / 2) & 1 ? i ^ 1 : i];
        else
            y[i] = bits >> i & 1 ? x[i] : which ? -0.5 * x[i] : 0;
}

static void times(size_t m, size_t n, const float *w, const double *x, double *y)
{
    for (size_t j = 0; j < n; j++) {
        y[j] = 0;
        for (size_t i = 0; i < m; i++)
            y[j] += x[i] * w[i * n + j];
    }
}

/* No pattern's Jacobian stretches more than any method says, whole or for a pair of outputs; methods never widen each other. */
START_TEST(no_activation_pattern_beats_a_bound)
{
    enum { IN = 4, ONE = 6, TWO = 6, OUT = 3 };
    char json[1024];
    lip_layer_bound layers[8];
    lip_network_bound network, product;
    double pairs[OUT * OUT], own[OUT * OUT], parted[OUT * OUT] = {0}, most = 0;
    lip_error err = {0};
    struct served s;
    const float *w[3];
    size_t n;
    int which = _i % 3;
    unsigned one = which == 2 ? 1 << ONE / 2 : 1 << ONE, two = which == 2 ? 1 << TWO / 2 : 1 << TWO;

    snprintf(json, sizeof json,
             "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"tiny\",\"layers\":["
             "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4],\"name\":\"x\"}},"
             "{\"class_name\":\"Dense\",\"config\":{\"units\":6,\"activation\":%s,\"name\":\"d1\"}},"
             "{\"class_name\":\"Dense\",\"config\":{\"units\":6,\"activation\":%s,\"name\":\"d2\"}},"
             "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}",
             tiny[which], tiny[which]);
    serve(&s, json, 1 + (uint64_t)_i);
    for (size_t i = 0; i < 3; i++)
        w[i] = lip_snapshot_kernel(s.snapshot, i + 1);
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){.pairs = pairs}, layers, &n, &network, &err));
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){.methods = 1u << LIP_PRODUCT}, layers, &n, &product, &err));
    ck_assert_double_eq(network.by[LIP_PRODUCT], product.upper);
    ck_assert_double_le(network.upper, product.upper);
    ck_assert(network.complete && product.complete);
    ck_assert(isnan(product.by[LIP_LIPSDP]) && network.by[LIP_LIPSDP] > 0 && network.by[LIP_LIPLT] > 0);
    for (unsigned a = 0; a < one; a++)
        for (unsigned b = 0; b < two; b++) {
            float jacobian[IN * OUT];
            lip_interval norm;

            for (size_t i = 0; i < IN; i++) {
                double x[ONE], z[ONE], y[OUT], unit[IN] = {0};

                unit[i] = 1;
                times(IN, ONE, w[0], unit, z);
                activate(which, ONE, a, z, x);
                times(ONE, TWO, w[1], x, z);
                activate(which, TWO, b, z, x);
                times(TWO, OUT, w[2], x, y);
                for (size_t j = 0; j < OUT; j++)
                    jacobian[i * OUT + j] = (float)y[j];
            }
            OK(lip_bound_matrix(jacobian, IN, OUT, &norm, NULL, &err));
            most = fmax(most, norm.lower);
            for (size_t c = 0; c < OUT; c++)
                for (size_t j = 0; j < c; j++) {
                    double square = 0;

                    for (size_t i = 0; i < IN; i++)
                        square += pow((double)jacobian[i * OUT + c] - jacobian[i * OUT + j], 2);
                    parted[c * OUT + j] = fmax(parted[c * OUT + j], sqrt(square));
                }
        }
    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        ck_assert(isnan(network.by[i]) || network.by[i] >= most * (1 - 1e-6)); /* jacobian is rounded to float32 */
    for (int i = 0; i < LIP_BOUND_METHODS; i++) {
        OK(lip_bound_network(s.snapshot, &(lip_bound_options){.methods = 1u << i, .pairs = own}, layers, &n, &product, &err));
        for (size_t c = 0; c < OUT; c++)
            for (size_t j = 0; j < c; j++) {
                ck_assert_double_ge(own[c * OUT + j], parted[c * OUT + j] * (1 - 1e-6));
                ck_assert_double_ge(own[c * OUT + j], pairs[c * OUT + j] * (1 - 1e-12));
                ck_assert_double_eq(own[c * OUT + j], own[j * OUT + c]);
            }
    }
    ck_assert_double_le(network.lower, most * (1 + 1e-6));
    ck_assert_double_le(network.by[LIP_LIPSDP], 2 * most); /* no empty statement: certify.md has 1.24 and less on average */
    stop(&s);
}
END_TEST

/* The matrix of convolution `layer` of a model on images of h x w. */
static double *layer_matrix(const struct served *s, size_t layer, size_t h, size_t w, size_t stride, size_t *m, size_t *n)
{
    const lip_layer *l = lip_model_layer(s->model, layer);
    const lip_shape *kernel = &lip_model_variable(s->model, lip_layer_first_variable(l))->shape;
    struct lip__convolution k = {
        .g = {.h = h, .w = w, .c = kernel->dim[2], .kh = kernel->dim[0], .kw = kernel->dim[1], .sh = stride, .sw = stride},
        .f = kernel->dim[3]};
    double *wide = lip__widen(lip_snapshot_kernel(s->snapshot, layer), lip_shape_count(kernel)), *a;
    lip_error err = {0};

    ck_assert(lip__windows_set(&k.g, true));
    k.kernel = wide;
    OK(lip__conv_matrix(&k, &a, m, n, &err));
    lip__free(wide);
    return a;
}

#define STACKED(first, second)                                                                                        \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"stacked\",\"layers\":["                                    \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,7,6,2],\"name\":\"x\"}},"                  \
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":4,\"kernel_size\":3,\"strides\":" first ",\"padding\":\"same\","  \
    "\"name\":\"c1\"}}," second "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":5,\"kernel_size\":[2,3],\"padding\":\"same\"," \
    "\"activation\":\"relu\",\"name\":\"c2\"}},"                                                                       \
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":3,\"kernel_size\":3,\"padding\":\"same\",\"name\":\"c3\"}}]}}"

/* Convolutions with slopes between: no slopes that the functions can have, at any places, stretch more than any method says. */
START_TEST(stacks_of_convolutions_are_never_underestimated)
{
    static const struct {
        const char *json;
        size_t stride, second;
        double least; /* slope behind the first */
    } stacks[] = {
        {STACKED("1", "{\"class_name\":\"ReLU\",\"config\":{\"name\":\"r\"}},"), 1, 3, 0},
        {STACKED("2", "{\"class_name\":\"LeakyReLU\",\"config\":{\"alpha\":-0.5,\"name\":\"r\"}},"), 2, 3, -0.5},
        {STACKED("1", "{\"class_name\":\"LeakyReLU\",\"config\":{\"alpha\":0.3,\"name\":\"r\"}},"), 1, 3, 0.3},
        {STACKED("3", ""), 3, 2, 1},
    };
    lip_layer_bound layers[8];
    lip_network_bound network;
    lip_error err = {0};
    struct served s;
    size_t h = (7 + stacks[_i % 4].stride - 1) / stacks[_i % 4].stride, w = (6 + stacks[_i % 4].stride - 1) / stacks[_i % 4].stride;
    size_t m[3], n[3], count;
    double *a[3], *two, *three, most = 0;

    noise = (lip_random){.seed = 19, .stream = (uint64_t)_i};
    serve(&s, stacks[_i % 4].json, 1 + (uint64_t)_i);
    OK(lip_bound_network(s.snapshot, NULL, layers, &count, &network, &err));
    ck_assert_double_le(network.lower, network.upper);
    ck_assert(network.by[LIP_FOURIER] > 0 && network.by[LIP_LIPLT] > 0 && network.by[LIP_RESCALED] > 0);
    ck_assert_double_le(network.upper, network.by[LIP_PRODUCT]);
    obeys(&s, &network);
    a[0] = layer_matrix(&s, 1, 7, 6, stacks[_i % 4].stride, &m[0], &n[0]);
    a[1] = layer_matrix(&s, stacks[_i % 4].second, h, w, 1, &m[1], &n[1]);
    a[2] = layer_matrix(&s, stacks[_i % 4].second + 1, h, w, 1, &m[2], &n[2]);
    ck_assert(n[0] == m[1] && n[1] == m[2]);
    two = malloc(m[0] * n[1] * sizeof *two);
    three = malloc(m[0] * n[2] * sizeof *three);
    for (int trial = 0; trial < 12; trial++) {
        double *scaled[2] = {malloc(m[1] * n[1] * sizeof(double)), malloc(m[2] * n[2] * sizeof(double))};
        lip_interval norm;

        for (int k = 0; k < 2; k++)
            for (size_t i = 0; i < m[k + 1]; i++) {
                bool steep = trial < 2 ? trial == 0 : below(4) > 0;
                double slope = steep ? 1 : k ? 0 : stacks[_i % 4].least;

                for (size_t j = 0; j < n[k + 1]; j++)
                    scaled[k][i * n[k + 1] + j] = slope * a[k + 1][i * n[k + 1] + j];
            }
        lip__dgemm(false, false, m[0], n[1], m[1], 1, a[0], n[0], scaled[0], n[1], 0, two, n[1]);
        lip__dgemm(false, false, m[0], n[2], m[2], 1, two, n[1], scaled[1], n[2], 0, three, n[2]);
        OK(lip__enclose(three, m[0], n[2], &norm, NULL, &err));
        most = fmax(most, norm.lower);
        free(scaled[0]);
        free(scaled[1]);
    }
    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        ck_assert(isnan(network.by[i]) || network.by[i] >= most * (1 - 1e-9));
    /* No empty statement: shapes of all frequencies see that the convolutions do not stretch the same images. (On smaller ones the
     * periodic grid costs what that gains.) */
    ck_assert_msg(_i % 4 || network.by[LIP_FOURIER] < 0.8 * network.by[LIP_PRODUCT], "fourier %g, product %g, truly above %g",
                  network.by[LIP_FOURIER], network.by[LIP_PRODUCT], most);
    for (int k = 0; k < 3; k++)
        lip__free(a[k]);
    free(three);
    free(two);
    stop(&s);
}
END_TEST

/* The factor that scaling a neuron up and down again costs the product is found: rows and columns of any sizes. */
START_TEST(scaling_neurons_does_not_change_the_rescaled_product)
{
    static const char json[] = "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
                               "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,5],\"name\":\"x\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":8,\"name\":\"a\"}},"
                               "{\"class_name\":\"%s\",\"config\":{%s\"name\":\"s\"}},"
                               "{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"name\":\"b\"}}]}}";
    static const char *const between[][2] = {{"ReLU", ""}, {"GroupSort2", ""}, {"MaxMin", ""}, {"GroupSort", "\"n\":4,"}, {"FullSort", ""}};
    static const size_t groups[] = {1, 2, 1, 4, 8};
    lip_network_bound network[2];
    lip_layer_bound layers[4];
    char text[1024];
    lip_error err = {0};
    struct served s;
    float *a, *b;
    size_t n, rows;

    noise = (lip_random){.seed = 20, .stream = (uint64_t)_i};
    snprintf(text, sizeof text, json, between[_i][0], between[_i][1]);
    serve(&s, text, 1);
    rows = lip_model_variable(s.model, lip_model_find_variable(s.model, "b/kernel"))->shape.dim[0];
    a = malloc(5 * 8 * sizeof *a);
    b = malloc(rows * 4 * sizeof *b);
    for (int scaled = 0; scaled < 2; scaled++) {
        memcpy(a, lip_snapshot_kernel(s.snapshot, 1), 5 * 8 * sizeof *a);
        memcpy(b, lip_snapshot_kernel(s.snapshot, 3), rows * 4 * sizeof *b);
        for (size_t j = 0; scaled && j < 8; j++) {
            float d = ldexpf(1, (int)(j / groups[_i] * 3 % 8) - 4);

            for (size_t i = 0; i < 5; i++)
                a[i * 8 + j] *= d;
            for (size_t r = j; r < rows; r += 8)
                for (size_t i = 0; i < 4; i++)
                    b[r * 4 + i] /= d;
        }
        put(&s, "a/kernel", a);
        put(&s, "b/kernel", b);
        OK(lip_bound_network(s.snapshot, NULL, layers, &n, &network[scaled], &err));
    }
    if (groups[_i] == 8) { /* one factor for all is none */
        ck_assert(isnan(network[0].by[LIP_RESCALED]));
    } else {
        ck_assert_double_le(network[0].by[LIP_RESCALED], network[0].by[LIP_PRODUCT]);
        ck_assert_double_gt(network[1].by[LIP_PRODUCT], 1.5 * network[0].by[LIP_PRODUCT]);
        ck_assert_double_eq_tol(network[1].by[LIP_RESCALED], network[0].by[LIP_RESCALED], 0.06 * network[0].by[LIP_RESCALED]); /* descents */
    }
    free(b);
    free(a);
    stop(&s);
}
END_TEST

/* Whatever is asked for, asking for more never gives more; the smallest figure is the bound. */
START_TEST(more_methods_never_widen)
{
    static const char *const models[] = {MLP, CNN, GRAPH, SHARED, STACKED("1", "")};
    lip_network_bound one, all;
    lip_layer_bound layers[16];
    lip_error err = {0};
    struct served s;
    size_t n;

    noise = (lip_random){.seed = 22, .stream = (uint64_t)_i};
    serve(&s, models[_i], 3);
    unconstrain(&s, 0.5);
    OK(lip_bound_network(s.snapshot, NULL, layers, &n, &all, &err));
    for (unsigned i = 0; i < 2 * LIP_BOUND_METHODS; i++) { /* one alone, all but one */
        unsigned one_of = 1u << i / 2, methods = i % 2 ? (1u << LIP_BOUND_METHODS) - 1 - one_of : one_of;
        double least = INFINITY;

        OK(lip_bound_network(s.snapshot, &(lip_bound_options){.methods = methods}, layers, &n, &one, &err));
        for (int k = 0; k < LIP_BOUND_METHODS; k++) {
            least = fmin(least, one.by[k]);
            ck_assert(methods >> k & 1 || k == LIP_PRODUCT || isnan(one.by[k]));
        }
        ck_assert_double_eq(one.upper, least);
        ck_assert_double_le(all.upper, one.upper * (1 + LIP_CLAIM_TOLERANCE)); /* nobody looks on where lower is as near */
        ck_assert_double_le(one.lower, all.upper);
        ck_assert_double_le(all.lower, one.upper);
    }
    stop(&s);
}
END_TEST

#define WIDE                                                                                                              \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"wide\",\"layers\":["                                           \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,8],\"name\":\"x\"}},"                          \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":300,\"activation\":\"relu\",\"name\":\"d1\"}},"                     \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":300,\"activation\":\"relu\",\"name\":\"d2\"}},"                     \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}"

/* With next to no time everything is coarser and nothing wrong; with none for LAPACK a matrix is enclosed all the same. */
START_TEST(a_report_that_is_cut_short_holds)
{
    static const char *const models[] = {CNN, WIDE, STACKED("1", "{\"class_name\":\"ReLU\",\"config\":{\"name\":\"r\"}},")};
    lip_layer_bound whole[16], cut[16];
    lip_network_bound all, little;
    lip_error err = {0};
    struct served s;
    size_t n, m;

    noise = (lip_random){.seed = 51, .stream = (uint64_t)_i};
    serve(&s, models[_i], 3);
    unconstrain(&s, 0.5);
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){.methods = 1u << LIP_PRODUCT}, whole, &n, &all, &err));
    ck_assert(all.complete);
    for (double seconds = 1e-9; seconds < 1; seconds *= 30) {
        OK(lip_bound_network(s.snapshot, &(lip_bound_options){.max_seconds = seconds}, cut, &m, &little, &err));
        ck_assert_uint_eq(m, n);
        for (size_t i = 0; i < n; i++) {
            ck_assert_msg(cut[i].lower <= whole[i].upper && whole[i].lower <= cut[i].upper && cut[i].lower >= 0,
                          "layer %zu: [%.9g, %.9g] in %g s, [%.9g, %.9g] with time", i, cut[i].lower, cut[i].upper, seconds,
                          whole[i].lower, whole[i].upper);
            ck_assert_double_le(whole[i].upper, cut[i].upper * (1 + 1e-6)); /* what had time is as good */
        }
        ck_assert(little.lower <= all.upper && all.lower <= little.upper);
        if (seconds < 1e-8)
            ck_assert(!little.complete);
        obeys(&s, &little);
    }
    stop(&s);
}
END_TEST

START_TEST(a_matrix_in_a_hurry_is_enclosed)
{
    static const size_t sizes[][2] = {{700, 600}, {600, 700}, {900, 900}, {2000, 500}};
    size_t m = sizes[_i][0], n = sizes[_i][1];
    double *a = malloc(m * n * sizeof *a), sigma[900];
    lip_interval norm, hurried;
    bool whole;
    lip_error err = {0};

    noise = (lip_random){.seed = 52, .stream = (uint64_t)_i};
    for (size_t i = 0; i < m * n; i++) {
        float x;

        normal(&x, 1);
        a[i] = x;
    }
    OK(lip__enclose(a, m, n, &norm, NULL, &err));
    OK(lip__enclose_until(a, m, n, 1, &hurried, sigma, &whole, &err)); /* late already: norms of rows and columns */
    ck_assert(!whole && isnan(sigma[0]) && hurried.lower <= norm.lower && norm.upper <= hurried.upper);
    /* Time for products and factors, not for eigenvectors. */
    for (int tries = 0; tries < 50 && !(hurried.upper <= 1.1 * norm.upper); tries++) /* a machine with other things to do may be late */
        OK(lip__enclose_until(a, m, n, lip__now_ns() + (uint64_t)(lip__enclose_flops((double)m, (double)n) / 5), &hurried, sigma, &whole, &err));
    ck_assert(!whole && hurried.lower <= norm.upper && norm.lower <= hurried.upper);
    ck_assert_double_le(hurried.upper, 1.1 * norm.upper); /* norms of rows and columns are many times as much */
    free(a);
}
END_TEST

#define DEEP                                                                                                           \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"deep\",\"k_coef_lip\":1.0,\"layers\":["                     \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,64],\"name\":\"x\"}},"                     \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":32,\"eps_bjorck\":1e-6,\"maxiter_bjorck\":60,"            \
    "\"activation\":{\"class_name\":\"GroupSort2\",\"config\":{}},\"name\":\"d1\"}},"                                  \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":16,\"eps_bjorck\":1e-6,\"maxiter_bjorck\":60,"            \
    "\"activation\":{\"class_name\":\"GroupSort2\",\"config\":{}},\"name\":\"d2\"}},"                                  \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":4,\"eps_bjorck\":1e-6,\"maxiter_bjorck\":60,\"name\":"    \
    "\"y\"}}]}}"

/* Orthonormal columns and GroupSort2: every singular value of the Jacobian is 1 everywhere. */
START_TEST(the_interval_closes_for_gradient_norm_preserving_networks)
{
    lip_layer_bound layers[16];
    lip_network_bound network;
    struct served s;
    size_t n;

    noise = (lip_random){.seed = 15};
    serve(&s, DEEP, 3);
    check_report(&s, layers, &n, &network);
    ck_assert_double_le(network.tightness, 1 + 1e-5);
    ck_assert_double_eq_tol(network.upper, 1, 1e-5);
    ck_assert_int_eq(network.sound_claim, 1);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_le(layers[i].defect, 1e-4);
    stop(&s);
}
END_TEST

/* A 3x3 kernel from 1 to 16 channels with orthonormal rows on 28x28: 3 times the factor of deel-lip, 1.0244. */
/* Every allocation of a report made to fail in turn. */
START_TEST(a_report_survives_every_lost_allocation)
{
    lip_layer_bound layers[16];
    lip_network_bound network;
    lip_err rc = LIP_ENOMEM;
    struct served s;
    size_t n;
    int lost;

    serve(&s, GRAPH, 1);
    for (lost = 0; lost < 2000 && rc != LIP_OK; lost++) {
        left = lost;
        lip__alloc_hook = fail_later;
        rc = lip_bound_network(s.snapshot, &(lip_bound_options){0}, layers, &n, &network, NULL);
        lip__alloc_hook = NULL;
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
    }
    ck_assert_int_gt(lost, 20);
    ck_assert_int_eq(rc, LIP_OK);
    ck_assert_double_gt(network.lower, 0);
    stop(&s);
}
END_TEST

START_TEST(a_claim_that_is_exceeded_is_reported)
{
    static const char json[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"first\",\"k_coef_lip\":1.0,\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,28,28,1],\"name\":\"x\"}},"
        "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":16,\"kernel_size\":3,\"name\":\"c1\"}}]}}";
    lip_layer_bound layer, layers[2];
    lip_network_bound network;
    lip_error err = {0};
    struct served s;
    size_t n;

    serve(&s, json, 1);
    OK(lip_bound_layer(s.snapshot, 1, &layer, &err));
    ck_assert_double_eq_tol(layer.lower, 1.0244, 2e-4);
    ck_assert_double_eq_tol(layer.upper, 1.0244, 2e-4);
    ck_assert_int_eq(layer.sound_claim, 0);
    ck_assert_double_eq(layer.claimed, 1);
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){0}, layers, &n, &network, &err));
    ck_assert_int_eq(network.sound_claim, 0);
    ck_assert_double_gt(network.lower, 1.02);
    stop(&s);
}
END_TEST

/* Linear models: lower and upper meet at the norm of the product, which for one layer is the matrix's. */
START_TEST(a_linear_model_is_its_matrix)
{
    static const char json[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"line\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,9],\"name\":\"x\"}},"
        "{\"class_name\":\"Dense\",\"config\":{\"units\":5,\"name\":\"d\"}}]}}";
    lip_layer_bound layers[2];
    lip_network_bound network;
    lip_interval norm;
    lip_error err = {0};
    struct served s;
    size_t n;

    serve(&s, json, 1);
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){0}, layers, &n, &network, &err));
    OK(lip_bound_matrix(lip_snapshot_kernel(s.snapshot, 1), 9, 5, &norm, NULL, &err));
    ck_assert_double_eq(network.upper, norm.upper);
    ck_assert_double_ge(network.lower, norm.lower * (1 - 1e-8));
    ck_assert(isnan(network.claimed));
    ck_assert_int_eq(network.sound_claim, -1);
    stop(&s);
}
END_TEST

/* Weights that a diverged training left behind are named, whatever reads them. */
START_TEST(weights_that_are_not_finite_are_named)
{
    static const char *const layer[] = {"\"Dense\",\"config\":{\"units\":3,\"name\":\"a\"", "\"BatchNormalization\",\"config\":{\"name\":\"a\"",
                                        "\"PReLU\",\"config\":{\"name\":\"a\""};
    static const char *const name[] = {"a/bias", "a/moving_variance", "a/alpha"};
    lip_layer_bound layers[4];
    lip_network_bound network;
    lip_certifier *certifier;
    lip_error err = {0};
    struct served s;
    size_t n;

    serve_one(&s, "[null,8]", layer[_i]);
    ((float *)lip_state_data(s.state, lip_model_find_variable(s.model, name[_i])))[2] = NAN;
    lip_snapshot_put(s.snapshot);
    OK(lip_state_publish(s.state, &s.snapshot, &err));
    ck_assert_int_eq(lip_bound_network(s.snapshot, NULL, layers, &n, &network, &err), LIP_ENONFINITE);
    ck_assert_ptr_nonnull(strstr(err.text, name[_i]));
    ck_assert_ptr_nonnull(strstr(err.text, "element 2"));
    err = (lip_error){0};
    ck_assert_int_eq(lip_certifier_new(s.snapshot, NULL, &certifier, &err), LIP_ENONFINITE);
    ck_assert_ptr_nonnull(strstr(err.text, name[_i]));
    stop(&s);
}
END_TEST

START_TEST(a_dead_layer_bounds_the_network_by_nothing)
{
    float zeros[6 * 8] = {0};
    lip_named wbar = {"d1/wbar", {2, {6, 8}}, zeros};
    lip_layer_bound layers[16];
    lip_network_bound network;
    lip_error err = {0};
    struct served s;
    size_t n;

    serve(&s, MLP, 1);
    OK(lip_state_load(s.state, &wbar, 1, true, NULL, NULL, &err));
    lip_snapshot_put(s.snapshot);
    OK(lip_state_publish(s.state, &s.snapshot, &err));
    OK(lip_bound_network(s.snapshot, &(lip_bound_options){0}, layers, &n, &network, &err));
    ck_assert_double_le(network.upper, 1e-300);
    ck_assert_double_eq(network.lower, 0);
    ck_assert(isnan(network.tightness));
    stop(&s);
}
END_TEST

/* ---- spectra ----------------------------------------------------------------------------------------------------- */

START_TEST(spectra_are_those_of_the_operators)
{
    static const char *const names[] = {"c1", "p2", "c2", "d"};
    static const char *const operators[] = {"zero_padded", "pooling", "zero_padded", "dense"};
    lip_error err = {0};
    struct served s;

    noise = (lip_random){.seed = 41};
    serve(&s, CNN, 1);
    unconstrain(&s, 0.5);
    for (size_t i = 0; i < 4; i++)
        for (int kernel = 0; kernel < 2; kernel++) {
            const lip_layer *l = lip_model_find_layer(s.model, names[i]);
            size_t index = 0, m, n;
            lip_spectrum spectrum;
            lip_layer_bound bound;
            long double *truth;
            float *matrix;

            while (lip_model_layer(s.model, index) != l)
                index++;
            if (i == 1) {
                if (!kernel) {
                    OK(lip_bound_spectrum(s.snapshot, index, false, 0, &spectrum, &err));
                    ck_assert_uint_eq(spectrum.count, lip_shape_count(lip_layer_output_shape(l)));
                    ck_assert_double_eq(spectrum.value[spectrum.count - 1], 1);
                    lip_free(spectrum.value);
                }
                continue;
            }
            OK(lip_bound_spectrum(s.snapshot, index, kernel, 0, &spectrum, &err));
            OK(lip_bound_layer(s.snapshot, index, &bound, &err));
            ck_assert_str_eq(spectrum.kind, operators[i]);
            if (kernel || i == 3) { /* the kernel is the matrix */
                n = lip_layer_output_shape(l)->dim[lip_layer_output_shape(l)->rank - 1];
                m = lip_shape_count(&lip_model_variable(s.model, lip_layer_first_variable(l))->shape) / n;
                matrix = malloc(m * n * sizeof *matrix);
                memcpy(matrix, lip_snapshot_kernel(s.snapshot, index), m * n * sizeof *matrix);
            } else {
                size_t stride = i == 0 ? 1 : 2;
                const size_t *in = lip_layer_input_shape(l)->dim;
                struct lip__convolution k = {
                    .g = {.h = in[0], .w = in[1], .c = in[2], .kh = 3, .kw = 3, .sh = stride, .sw = stride},
                    .f = lip_layer_output_shape(l)->dim[2]};
                double wide[3 * 3 * 4 * 6];

                lip__windows_set(&k.g, true);
                for (size_t j = 0; j < lip__window_size(&k.g) * k.f; j++)
                    wide[j] = lip_snapshot_kernel(s.snapshot, index)[j];
                k.kernel = wide;
                matrix = explicit_matrix(&k, &m, &n);
                ck_assert_double_le(bound.lower, spectrum.value[0] * (1 + 1e-12));
                ck_assert_double_ge(bound.upper, spectrum.value[0] * (1 - 1e-12));
            }
            ck_assert(spectrum.inputs == m && spectrum.outputs == n && spectrum.count == (m < n ? m : n));
            truth = singular_values(m, n, matrix);
            for (size_t j = 0; j < spectrum.count; j++)
                ck_assert(fabs(spectrum.value[j] - (double)truth[j]) <= 1e-12 * (double)truth[0]);
            free(truth);
            free(matrix);
            lip_free(spectrum.value);
        }
    stop(&s);
}
END_TEST

/* Lanczos' ends of the spectrum against all of it; of the rows and columns of a kernel of ones every value comes twice. */
START_TEST(the_ends_of_a_spectrum_are_its_ends)
{
    enum { ENDS = 6 };
    struct lip__convolution k = {.g = {.h = 12, .w = 12, .c = 2, .kh = 3, .kw = 3, .sh = 1 + (size_t)_i % 2, .sw = 1 + (size_t)_i % 2},
                                 .f = 1 + (size_t)_i};
    double kernel[3 * 3 * 2 * 6], *a, value[2 * ENDS], *truth;
    lip_error err = {0};
    size_t m, n, few;

    noise = (lip_random){.seed = 42, .stream = (uint64_t)_i};
    ck_assert(lip__windows_set(&k.g, true));
    for (size_t i = 0; i < lip__window_size(&k.g) * k.f; i++) {
        float x;

        normal(&x, 1);
        kernel[i] = _i == 4 ? 1 + (double)(i / k.f % 2) : x;
    }
    k.kernel = kernel;
    OK(lip__conv_ends(&k, ENDS, value, &err));
    OK(lip__conv_matrix(&k, &a, &m, &n, &err));
    few = m < n ? m : n;
    truth = malloc(few * sizeof *truth);
    ck_assert_int_eq(lip__singular_values(m, n, a, truth), 0);
    for (size_t i = 0; i < ENDS; i++) {
        ck_assert_double_eq_tol(value[i], truth[i], 1e-7 * truth[0]); /* squares are exact to 1e-15 of the largest one */
        ck_assert_double_eq_tol(value[2 * ENDS - 1 - i], truth[few - 1 - i], 2e-7 * truth[0]);
    }
    free(truth);
    lip__free(a);
}
END_TEST

/* Flatten, sorting and the norm pooling are no matrices; an image of 40 x 40 x 2 makes too large a one. */
START_TEST(what_has_no_spectrum_is_an_error)
{
    static const char large[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"l\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,40,40,2],\"name\":\"x\"}},"
        "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":2,\"kernel_size\":3,\"name\":\"c\"}}]}}";
    lip_spectrum spectrum;
    lip_error err = {0};
    struct served s;

    serve(&s, CNN, 1);
    ck_assert_int_eq(lip_bound_spectrum(s.snapshot, 3, false, 0, &spectrum, &err), LIP_ERANGE);
    ck_assert_str_eq(err.text, "layer \"p1\" (ScaledL2NormPooling2D) is no linear operator");
    ck_assert_ptr_null(spectrum.value);
    ck_assert_int_eq(lip_bound_spectrum(s.snapshot, 0, false, 0, &spectrum, NULL), LIP_ERANGE);
    stop(&s);
    err = (lip_error){0};
    serve(&s, large, 1);
    ck_assert_int_eq(lip_bound_spectrum(s.snapshot, 1, false, 0, &spectrum, &err), LIP_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "too large"));
    err = (lip_error){0};
    ck_assert_int_eq(lip_bound_spectrum(s.snapshot, 1, false, 100000, &spectrum, &err), LIP_EUNSUPPORTED);
    err = (lip_error){0};
    OK(lip_bound_spectrum(s.snapshot, 1, false, 2, &spectrum, &err)); /* but it has ends */
    ck_assert_str_eq(spectrum.method, "lanczos");
    ck_assert(spectrum.count == 40 * 40 * 2 && spectrum.largest == 2 && spectrum.smallest == 2);
    ck_assert_double_le(spectrum.value[0], spectrum.norm.upper);
    ck_assert_double_ge(spectrum.value[0], spectrum.norm.lower * (1 - 1e-6));
    lip_free(spectrum.value);
    err = (lip_error){0};
    OK(lip_bound_spectrum(s.snapshot, 1, true, 0, &spectrum, &err));
    ck_assert_uint_eq(spectrum.count, 2);
    lip_free(spectrum.value);
    stop(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bounds");
    TCase *core = tcase_create("core");

    tcase_add_test(core, random_matrices_are_enclosed);
    tcase_add_test(core, special_matrices_are_enclosed);
    tcase_add_test(core, an_orthogonal_layer_is_enclosed_tightly);
    tcase_add_test(core, bad_matrices_are_errors);
    tcase_add_test(core, other_arithmetics_prove_nothing);
    tcase_add_test(core, a_matrix_survives_every_lost_allocation);
    tcase_add_loop_test(core, random_convolutions_are_never_underestimated, 0, 7);
    tcase_add_loop_test(core, random_layers_are_never_underestimated, 0, 6);
    tcase_add_loop_test(core, the_embedding_is_as_tight_as_published, 0, (int)(sizeof table / sizeof *table));
    tcase_add_test(core, a_row_under_three_ones_is_known);
    tcase_add_loop_test(core, orthogonal_kernels_attain_their_coverage, 0, 10);
    tcase_add_loop_test(core, reports_hold_for_models, 0, 4);
    tcase_add_loop_test(core, every_kind_of_layer_is_bounded, 0, (int)(sizeof kinds / sizeof *kinds));
    tcase_add_test(core, every_kind_of_the_registry_has_its_rule);
    tcase_add_loop_test(core, what_has_no_rule_has_no_bound, 0, (int)(sizeof boundless / sizeof *boundless));
    tcase_add_loop_test(core, joins_are_bounded, 0, (int)(sizeof joins / sizeof *joins));
    tcase_add_loop_test(core, no_activation_pattern_beats_a_bound, 0, 24);
    tcase_add_loop_test(core, stacks_of_convolutions_are_never_underestimated, 0, 8);
    tcase_add_loop_test(core, scaling_neurons_does_not_change_the_rescaled_product, 0, 5);
    tcase_add_loop_test(core, more_methods_never_widen, 0, 5);
    tcase_add_loop_test(core, a_report_that_is_cut_short_holds, 0, 3);
    tcase_add_loop_test(core, a_matrix_in_a_hurry_is_enclosed, 0, 4);
    tcase_add_test(core, the_interval_closes_for_gradient_norm_preserving_networks);
    tcase_add_test(core, a_report_survives_every_lost_allocation);
    tcase_add_test(core, a_claim_that_is_exceeded_is_reported);
    tcase_add_test(core, a_linear_model_is_its_matrix);
    tcase_add_loop_test(core, weights_that_are_not_finite_are_named, 0, 3);
    tcase_add_test(core, a_dead_layer_bounds_the_network_by_nothing);
    tcase_add_test(core, spectra_are_those_of_the_operators);
    tcase_add_loop_test(core, the_ends_of_a_spectrum_are_its_ends, 0, 6);
    tcase_add_test(core, what_has_no_spectrum_is_an_error);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
