/* check_gemm.c: products against sums written out, factorisations against their definition. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/model.h>
#include <onelip/random.h>

#include "base/base.h"
#include "check_main.h"
#include "tensor/gemm.h"
#include "tensor/tile.h"

static float *noise(uint64_t stream, size_t n)
{
    lip_random r = {5, stream, 0};
    float *x = malloc((n + 1) * sizeof *x);

    lip_random_normal(&r, x, n);
    return x;
}

static double *double_noise(uint64_t stream, size_t n)
{
    float *x = noise(stream, n);
    double *y = malloc((n + 1) * sizeof *y);

    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
    free(x);
    return y;
}

static const size_t sizes[][3] = {{1, 5, 7},  {2, 16, 3},  {3, 9, 33},    {4, 8, 8},    {17, 1, 5},    {33, 40, 29},
                                  {1, 1, 1},  {5, 6, 0},   {0, 4, 4},     {4, 0, 4},    {2, 3, 0},     {3, 200, 190},
                                  {130, 70, 61}, {8, 300, 250}, {64, 64, 128}, {2, 700, 400}, {300, 5, 301}};
enum { SIZES = sizeof sizes / sizeof *sizes };

typedef void product(bool, bool, size_t, size_t, size_t, float, const float *, size_t, const float *, size_t, float, float *,
                     size_t);

/* c on rows that are wider than the product, so that strides matter, and full of NaN where beta is 0. */
static void check_product(product *multiply, const size_t *size, bool ta, bool tb, float beta)
{
    size_t m = size[0], n = size[1], k = size[2], lda = (ta ? m : k) + 2, ldb = (tb ? k : n) + 3, ldc = n + 1;
    float *a = noise(1, (ta ? k : m) * lda), *b = noise(2, (tb ? n : k) * ldb), *c = noise(3, m * ldc),
          *was = noise(3, m * ldc);

    for (size_t i = 0; beta == 0 && i < m; i++)
        for (size_t j = 0; j < n; j++)
            c[i * ldc + j] = NAN;
    multiply(ta, tb, m, n, k, 0.5f, a, lda, b, ldb, beta, c, ldc);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0, size_of_sum = 1;
            for (size_t l = 0; l < k; l++) {
                double p = (double)a[ta ? l * lda + i : i * lda + l] * b[tb ? j * ldb + l : l * ldb + j];
                sum += p;
                size_of_sum += fabs(p);
            }
            sum = 0.5 * sum + (beta != 0 ? beta * was[i * ldc + j] : 0);
            ck_assert_double_lt(fabs(sum - c[i * ldc + j]), 2e-6 * size_of_sum);
        }
        ck_assert(c[i * ldc + n] == was[i * ldc + n]);
    }
    free(a), free(b), free(c), free(was);
}

START_TEST(products_are_sums_of_products)
{
    float beta[] = {0, 1, -0.25f};

    lip_set_threads(_i % 3 + 1, NULL);
    for (size_t unit = 0; unit <= lip__vector_units(); unit++) { /* each of ours, then none */
        lip__vector_unit_use(unit);
        for (int way = 0; way < 12; way++) {
            check_product(lip__gemm, sizes[_i], way & 1, way & 2, beta[way / 4]);
            check_product(lip__gemm_parallel, sizes[_i], way & 1, way & 2, beta[way / 4]);
        }
    }
    lip_set_threads(1, NULL);
}
END_TEST

/* a'a, a a', and the product rule a'b + b'a, added to what is there. */
static void check_symmetric(size_t n)
{
    size_t k = 2 * n + 1;
    float *a = noise(1, k * n), *b = noise(2, k * n), *c = noise(3, n * n), *whole = malloc(n * n * sizeof *whole);

    for (int tall = 0; tall < 2; tall++) {
        size_t ld = tall ? n : k;
        lip__gemm(tall, !tall, n, n, k, 2, a, ld, a, ld, 0, whole, n);
        lip__gemm_symmetric(tall, !tall, n, k, 2, a, a, NULL, NULL, ld, 0, c);
        for (int pair = 0; pair < 2; pair++) {
            for (size_t i = 0; i < n * n; i++) { /* up to 6 k large, and both sides have some roundings of that, 2^-24 each */
                ck_assert_double_lt(fabs(c[i] - whole[i]), 4e-6 * (double)k);
                ck_assert(c[i] == c[i % n * n + i / n]);
            }
            lip__gemm(tall, !tall, n, n, k, -1, a, ld, b, ld, 1, whole, n);
            lip__gemm(tall, !tall, n, n, k, -1, b, ld, a, ld, 1, whole, n);
            lip__gemm_symmetric(tall, !tall, n, k, -1, a, b, b, a, ld, 1, c);
        }
    }
    free(a), free(b), free(c), free(whole);
}

START_TEST(symmetric_products_are_whole)
{
    size_t side[] = {1, 2, 3, 31, 32, 33, 35, 64, 100, 150};

    lip_set_threads(_i % 3 + 1, NULL);
    for (size_t unit = 0; unit <= lip__vector_units(); unit++) {
        lip__vector_unit_use(unit);
        check_symmetric(side[_i]);
    }
    lip_set_threads(1, NULL);
}
END_TEST

/* ---- tiles: every unit of this machine, every edge ------------------------------------------------------ */

static double sum_of_products(bool ta, bool tb, size_t k, const float *a, size_t lda, const float *b, size_t ldb, size_t i,
                              size_t j, double *size)
{
    double sum = 0;

    *size = 1;
    for (size_t l = 0; l < k; l++) {
        double p = (double)a[ta ? l * lda + i : i * lda + l] * b[tb ? j * ldb + l : l * ldb + j];
        sum += p;
        *size += fabs(p);
    }
    return sum;
}

static void check_tiled(size_t m, size_t n, size_t k, int way)
{
    bool ta = way & 1, tb = way & 2, add = way & 4, lower = way & 8;
    size_t lda = (ta ? m : k) + (way % 3 ? 1 : 512), ldb = (tb ? k : n) + 2, ldc = n + 1;
    float *a = noise(1, (ta ? k : m) * lda), *b = noise(2, (tb ? n : k) * ldb), *c = noise(3, m * ldc), *was = noise(3, m * ldc);
    double size;

    lip__gemm_tiled(ta, tb, m, n, k, -0.5f, a, lda, b, ldb, add, lower, c, ldc);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = (add ? was[i * ldc + j] : 0) - 0.5 * sum_of_products(ta, tb, k, a, lda, b, ldb, i, j, &size);
            if (!lower || i >= j)
                ck_assert_double_lt(fabs(sum - c[i * ldc + j]), 2e-6 * size);
        }
        ck_assert(c[i * ldc + n] == was[i * ldc + n]);
    }
    free(a), free(b), free(c), free(was);
}

START_TEST(tiles_are_sums_of_products)
{
    static const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25, 97, 250},
                        columns[] = {1, 15, 16, 17, 32, 33, 130}, depth[] = {1, 3, 4, 5, 9, 192, 193, 257, 600};

    lip__vector_unit_use((size_t)_i);
    for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
        for (size_t n = 0; n < sizeof columns / sizeof *columns; n++) {
            size_t k = depth[(m * 5 + n) % 9];
            for (int way = (int)(m + n) % 4; way < 16; way += 4) /* each way at a quarter of the sizes */
                check_tiled(rows[m], columns[n], k, way);
        }
}
END_TEST

/* All arrays end where they must, so that a sanitizer sees what reads or writes behind them. */
static void check_packed(size_t m, size_t n, size_t k, bool biased)
{
    size_t lda = k + 3, ldb = n + 2, ldc = n + 1;
    float *a = noise(1, m * lda), *b = noise(2, k * ldb), *c = noise(3, m * ldc), *was = noise(3, m * ldc), *bias = noise(4, n);
    float *packed = malloc(lip__packed_size(k, n) * sizeof *packed);
    double size;

    lip__pack(false, k, n, 0, k, b, ldb, packed);
    lip__gemm_packed(m, n, k, a, lda, packed, biased ? bias : NULL, c, ldc);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = (biased ? bias[j] : 0) + sum_of_products(false, false, k, a, lda, b, ldb, i, j, &size);
            ck_assert_double_lt(fabs(sum - c[i * ldc + j]), 2e-6 * size);
        }
        ck_assert(c[i * ldc + n] == was[i * ldc + n]);
    }
    for (size_t i = 0; i < m; i++) { /* alone a row has the same bits */
        lip__gemm_packed(1, n, k, a + i * lda, lda, packed, biased ? bias : NULL, was, ldc);
        ck_assert_mem_eq(was, c + i * ldc, n * sizeof *c);
    }
    free(a), free(b), free(c), free(was), free(bias), free(packed);
}

/* One row has the bits that it has among others, whichever way its panels are read and whoever reads them. */
static void check_row(size_t n, size_t k, bool biased)
{
    float *a = noise(1, 2 * k), *b = noise(2, k * n), *c = noise(3, 2 * n), *bias = noise(4, n), *row = noise(5, n);
    float *packed = malloc(lip__packed_size(k, n) * sizeof *packed);

    lip__pack(false, k, n, 0, k, b, n, packed);
    lip__gemm_packed(2, n, k, a, k, packed, biased ? bias : NULL, c, n);
    for (int call = 0; call < 200; call++) { /* quick enough to wake the pool */
        memset(row, 0, n * sizeof *row);
        lip__gemv_packed(n, k, a, packed, biased ? bias : NULL, call & 1, call & 2, row);
        ck_assert_mem_eq(row, c, n * sizeof *c);
    }
    free(a), free(b), free(c), free(bias), free(row), free(packed);
}

START_TEST(a_row_has_the_same_bits_alone)
{
    static const size_t columns[] = {0, 1, 16, 63, 64, 65, 128, 129, 300, 515}, depth[] = {0, 1, 193, 600, 1000};

    lip__vector_unit_use((size_t)_i);
    for (size_t threads = 1; threads <= 3; threads += 2) {
        ck_assert_int_eq(lip_set_threads(threads, NULL), LIP_OK);
        for (size_t n = 0; n < sizeof columns / sizeof *columns; n++)
            for (size_t k = 0; k < sizeof depth / sizeof *depth; k++)
                check_row(columns[n], depth[k], (n + k) % 2);
    }
}
END_TEST

START_TEST(packed_products_are_sums_of_products)
{
    static const size_t rows[] = {0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25, 239, 241}, columns[] = {0, 1, 7, 15, 16, 17, 32, 33, 130},
                        depth[] = {0, 1, 3, 192, 193, 257, 600};

    lip__vector_unit_use((size_t)_i);
    for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
        for (size_t n = 0; n < sizeof columns / sizeof *columns; n++)
            check_packed(rows[m], columns[n], depth[(m * 3 + n) % 7], (m + n) % 2);
}
END_TEST

/* b in two pieces, the second from its transpose; windows of numbers that overlap, as those of an image do. */
static void check_scattered(size_t blocks, size_t rows, size_t n, size_t k, bool biased)
{
    size_t row = 3, block = 5 * rows, extent = blocks * block + rows * row + 2 * k, half = k / 2;
    float *a = noise(1, extent), *b = noise(2, k * n), *turned = malloc(k * n * sizeof *b + 1), *bias = noise(4, n);
    float *c = malloc(blocks * rows * n * sizeof *c + 1), *alone = malloc(n * sizeof *alone + 1);
    float *packed = malloc(lip__packed_size(k, n) * sizeof *packed + 1);
    size_t *place = malloc(k * sizeof *place + 1);
    struct lip__scattered s = {blocks, rows, a, block, row, place};
    double size;

    for (size_t p = 0; p < k; p++)
        place[p] = p % 2 ? 2 * p : p;
    lip__transpose(k, n, 1, b, n, turned, k);
    lip__pack(false, k, n, 0, half, b, n, packed);
    lip__pack(true, k, n, half, k - half, turned + half, k, packed);
    lip__gemm_scattered(&s, n, k, packed, biased ? bias : NULL, c);
    for (size_t i = 0; i < blocks * rows; i++) {
        const float *at = a + i / rows * block + i % rows * row;
        for (size_t j = 0; j < n; j++) {
            double sum = biased ? bias[j] : 0;
            size = 1;
            for (size_t p = 0; p < k; p++) {
                double term = (double)at[place[p]] * b[p * n + j];
                sum += term;
                size += fabs(term);
            }
            ck_assert_double_lt(fabs(sum - c[i * n + j]), 2e-6 * size);
        }
        s = (struct lip__scattered){1, 1, at, 0, 0, place};
        lip__gemm_scattered(&s, n, k, packed, biased ? bias : NULL, alone); /* the same bits */
        ck_assert_mem_eq(alone, c + i * n, n * sizeof *c);
    }
    free(a), free(b), free(turned), free(bias), free(c), free(alone), free(packed), free(place);
}

START_TEST(scattered_products_are_sums_of_products)
{
    static const size_t rows[] = {1, 2, 5, 6, 7, 11, 12, 13, 24, 25}, columns[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 33},
                        depth[] = {1, 2, 9, 192, 193, 257};

    lip__vector_unit_use((size_t)_i); /* and with none */
    for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
        for (size_t n = 0; n < sizeof columns / sizeof *columns; n++)
            check_scattered(1 + (m + n) % 3, rows[m], columns[n], depth[(m * 5 + n) % 6], (m + n) % 2);
}
END_TEST

/* A model whose snapshots were published on one unit and on another: outputs around 1 from sums of 300 terms. */
START_TEST(models_answer_alike_on_every_unit)
{
    static const char definition[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2,300],\"name\":\"x\"}},"
        "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":66,\"name\":\"d1\"}},"
        "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s1\"}},"
        "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"use_bias\":false,\"name\":\"y\"}}]}}";
    float *x = noise(7, 40 * 600), first[40 * 6], y[40 * 6];
    lip_model *model;
    lip_state *state;
    lip_workspace *ws = lip_workspace_new();

    ck_assert_int_eq(lip_model_read(definition, sizeof definition - 1, true, &model, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_new(model, 1, &state, NULL), LIP_OK);
    for (size_t unit = lip__vector_units() + 1; unit-- > 0;) { /* none, then each of ours */
        lip_snapshot *snapshot;
        lip__vector_unit_use(unit);
        ck_assert_int_eq(lip_state_publish(state, &snapshot, NULL), LIP_OK);
        ck_assert_int_eq(lip_predict(snapshot, ws, 40, x, y, NULL), LIP_OK);
        if (unit == lip__vector_units())
            memcpy(first, y, sizeof y);
        for (size_t n = 1; n < 8; n++) { /* and in smaller batches */
            ck_assert_int_eq(lip_predict(snapshot, ws, n, x, y, NULL), LIP_OK);
            for (size_t i = 0; i < 240; i++)
                ck_assert_float_lt(fabsf(y[i] - first[i]), 1e-5f);
        }
        lip_snapshot_put(snapshot);
    }
    lip_workspace_free(ws), lip_state_free(state), lip_model_put(model), free(x);
}
END_TEST

START_TEST(transposes_are_transposed)
{
    for (size_t m = 0; m < 10; m++)
        for (size_t n = 0; n < 10; n++) {
            float *a = noise(1, 200), *b = noise(2, 200), *was = noise(2, 200);
            lip__transpose(m, n, 2, a, n + 1, b, m + 2);
            for (size_t i = 0; i < 200; i++) {
                size_t row = i / (m + 2), column = i % (m + 2);
                ck_assert(b[i] == (row < n && column < m ? 2 * a[column * (n + 1) + row] : was[i]));
            }
            free(a), free(b), free(was);
        }
}
END_TEST

START_TEST(gemv_is_gemm_with_one_column)
{
    size_t m = 37, n = 53;
    float *a = noise(1, m * n), *x = noise(2, m + n), y[64], z[64];

    lip__gemv(false, m, n, 2, a, n, x, 0, y);
    lip__gemm(false, false, m, 1, n, 2, a, n, x, 1, 0, z, 1);
    for (size_t i = 0; i < m; i++)
        ck_assert_double_lt(fabs(y[i] - z[i]), 1e-4);
    lip__gemv(true, m, n, 2, a, n, x, 0, y);
    lip__gemm(true, false, n, 1, m, 2, a, n, x, 1, 0, z, 1);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_lt(fabs(y[i] - z[i]), 1e-4);
    free(a), free(x);
}
END_TEST

/* Rows among threads, and what a matrix too small to share takes. */
START_TEST(shared_gemv_is_gemv)
{
    size_t shape[][2] = {{300, 257}, {7, 3}, {33, 2000}, {1, 40000}}, most = 300 * 257;
    float *a = noise(1, most), *x = noise(2, 40000), y[300], z[300];

    ck_assert_int_eq(lip_set_threads(3, NULL), LIP_OK);
    for (size_t c = 0; c < sizeof shape / sizeof *shape; c++) {
        size_t m = shape[c][0], n = shape[c][1];
        for (size_t i = 0; i < m; i++)
            y[i] = z[i] = (float)i;
        lip__gemv(false, m, n, 2, a, n, x, 1, y);
        lip__gemv_parallel(m, n, 2, a, n, x, 1, z);
        ck_assert_double_lt(lip__distance(y, z, m), 1e-5 * lip__norm(y, m)); /* sums may be in another order */
    }
    ck_assert_int_eq(lip_set_threads(1, NULL), LIP_OK);
    free(a), free(x);
}
END_TEST

/* Of which only the lower half is read, and written. */
START_TEST(inverse_times_matrix_is_one)
{
    enum { N = 70 };
    double *a = double_noise(1, N * N), *g = malloc(N * N * sizeof *g), *x = malloc(N * N * sizeof *x), none[] = {1, 0, 2, 1};

    lip__dgemm(true, false, N, N, N, 1, a, N, a, N, 0, g, N);
    for (size_t i = 0; i < N; i++) {
        g[i * N + i] += 1;
        for (size_t j = 0; j < N; j++)
            x[i * N + j] = j > i ? NAN : g[i * N + j];
    }
    ck_assert_int_eq(lip__inverse_in(N, x), 0);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t l = 0; l < N; l++)
                sum += g[i * N + l] * (l < j ? x[j * N + l] : x[l * N + j]);
            ck_assert_double_lt(fabs(sum - (i == j)), 1e-11);
        }
    ck_assert_int_ne(lip__inverse_in(2, none), 0); /* it has a negative eigenvalue */
    free(a), free(g), free(x);
}
END_TEST

START_TEST(sums_are_in_double)
{
    size_t n = 1000003;
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);

    for (size_t i = 0; i < n; i++) {
        x[i] = 0.1f;
        y[i] = i % 2 ? 0.1f : 0.3f;
    }
    ck_assert_double_lt(fabs(lip__norm(x, n) / (0.1f * sqrt((double)n)) - 1), 1e-11);
    ck_assert_double_lt(fabs(lip__dot(x, x, n) / ((double)0.1f * 0.1f * (double)n) - 1), 1e-11);
    ck_assert_double_lt(fabs(lip__distance(x, y, n) / (((double)0.3f - 0.1f) * sqrt(n / 2 + 1)) - 1), 1e-11);
    ck_assert(lip__dot(x, y, 0) == 0);
    free(x), free(y);
}
END_TEST

START_TEST(double_products_are_sums_of_products)
{
    size_t m = 13, n = 11, k = 29;

    for (int way = 0; way < 4; way++) {
        bool ta = way & 1, tb = way & 2;
        double *a = double_noise(1, m * k), *b = double_noise(2, k * n), *c = double_noise(3, m * n);
        lip__dgemm(ta, tb, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, c, n);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t l = 0; l < k; l++)
                    sum += a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
                ck_assert_double_lt(fabs(sum - c[i * n + j]), 1e-12);
            }
        free(a), free(b), free(c);
    }
}
END_TEST

START_TEST(eigenvectors_are_rows)
{
    size_t n = 20;
    double *a = double_noise(1, n * n), *v = malloc(n * n * sizeof *v), w[20];

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            v[i * n + j] = a[i * n + j] + a[j * n + i];
    memcpy(a, v, n * n * sizeof *a);
    ck_assert_int_eq(lip__eigen(n, v, w), 0);
    for (size_t e = 0; e < n; e++) {
        ck_assert(!e || w[e] >= w[e - 1]);
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (size_t j = 0; j < n; j++)
                sum += a[i * n + j] * v[e * n + j];
            ck_assert_double_lt(fabs(sum - w[e] * v[e * n + i]), 1e-12);
        }
    }
    free(a), free(v);
}
END_TEST

START_TEST(singular_values_are_roots_of_eigenvalues)
{
    size_t shape[][2] = {{9, 4}, {4, 9}, {1, 5}, {6, 6}};

    for (size_t c = 0; c < 4; c++) {
        size_t m = shape[c][0], n = shape[c][1], k = m < n ? m : n;
        double *a = double_noise(c, m * n), g[100], w[10], s[10];
        lip__dgemm(m >= n, m < n, k, k, m < n ? n : m, 1, a, n, a, n, 0, g, k);
        ck_assert_int_eq(lip__eigen(k, g, w), 0);
        ck_assert_int_eq(lip__singular_values(m, n, a, s), 0);
        for (size_t i = 0; i < k; i++)
            ck_assert_double_lt(fabs(s[i] * s[i] - w[k - 1 - i]), 1e-12);
        free(a);
    }
}
END_TEST

START_TEST(qr_factors_what_it_was_given)
{
    size_t m = 12, n = 7;
    double *a = double_noise(1, m * n), *q = malloc(m * n * sizeof *q), diag[7], g[49], r[49];

    memcpy(q, a, m * n * sizeof *q);
    ck_assert_int_eq(lip__qr(m, n, q, diag), 0);
    lip__dgemm(true, false, n, n, m, 1, q, n, q, n, 0, g, n);
    lip__dgemm(true, false, n, n, m, 1, q, n, a, n, 0, r, n); /* R = Q'A is upper triangular with this diagonal */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            ck_assert_double_lt(fabs(g[i * n + j] - (i == j)), 1e-13);
            if (i >= j)
                ck_assert_double_lt(fabs(r[i * n + j] - (i == j ? diag[i] : 0)), 1e-12);
        }
    free(a), free(q);
}
END_TEST

static int allowed;

static int fail_after(void)
{
    return allowed-- <= 0;
}

START_TEST(each_failing_allocation_is_minus_one)
{
    double a[6] = {1, 2, 3, 4, 5, 6}, w[2];

    lip__alloc_hook = fail_after;
    for (int n = 0; n < 2; n++) {
        allowed = 0;
        ck_assert_int_eq(lip__eigen(2, a, w), -1);
        allowed = n;
        ck_assert_int_eq(lip__singular_values(3, 2, a, w), -1);
    }
    for (int n = 0; n < 3; n++) {
        allowed = n;
        ck_assert_int_eq(lip__qr(3, 2, a, w), -1);
    }
    allowed = 3;
    ck_assert_int_eq(lip__qr(3, 2, a, w), 0);
    lip__alloc_hook = NULL;
}
END_TEST

START_TEST(the_core_has_a_name)
{
    ck_assert_uint_gt(strlen(lip__blas_core()), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gemm");
    TCase *t = tcase_create("gemm");

    tcase_add_loop_test(t, products_are_sums_of_products, 0, SIZES);
    tcase_add_loop_test(t, symmetric_products_are_whole, 0, 10);
    tcase_add_loop_test(t, tiles_are_sums_of_products, 0, (int)lip__vector_units()); /* those of this machine */
    tcase_add_loop_test(t, packed_products_are_sums_of_products, 0, (int)lip__vector_units() + 1); /* and with none */
    tcase_add_loop_test(t, a_row_has_the_same_bits_alone, 0, (int)lip__vector_units() + 1);
    tcase_add_loop_test(t, scattered_products_are_sums_of_products, 0, (int)lip__vector_units() + 1);
    tcase_add_test(t, models_answer_alike_on_every_unit);
    tcase_add_test(t, transposes_are_transposed);
    tcase_add_test(t, gemv_is_gemm_with_one_column);
    tcase_add_test(t, shared_gemv_is_gemv);
    tcase_add_test(t, sums_are_in_double);
    tcase_add_test(t, double_products_are_sums_of_products);
    tcase_add_test(t, eigenvectors_are_rows);
    tcase_add_test(t, inverse_times_matrix_is_one);
    tcase_add_test(t, singular_values_are_roots_of_eigenvalues);
    tcase_add_test(t, qr_factors_what_it_was_given);
    tcase_add_test(t, each_failing_allocation_is_minus_one);
    tcase_add_test(t, the_core_has_a_name);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
