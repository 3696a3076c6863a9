/* gemm.c: every matrix product, on OpenBLAS where tile.c has no faster way.
 *
 * OpenBLAS's own threads spin; a pool that shares the machine with them loses more than they bring. So BLAS runs on one
 * thread, and lip__gemm_parallel gives each thread of our pool its own block of c.
 */
#include "tensor/gemm.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include <onelip/model.h>

#include "base/base.h"
#include "tensor/tile.h"

/* LAPACK, as libopenblas exports it: Fortran, column-major, everything by address. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info);
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info);
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
             int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work,
             const int *lwork, int *info);

enum {
    FEW_ROWS = 3,          /* up to here gemv beats gemm, which packs b anew on every call */
    TILED_ROWS = 8,        /* from here on tiles do, where b has the columns */
    TILED_COLUMNS = 4,
    BLOCK = 16,            /* blocks of c end at multiples of this */
    HALF_COLUMNS = 32,     /* of a block when half of c is wanted: the first is the longest, so threads end together */
    WORTH_SHARING = 400000, /* multiply-adds below which waking a thread costs more than it brings */
    WORTH_READING = 32768   /* numbers of a matrix, for which the time goes into reading */
};

static void one_thread(void)
{
    openblas_set_num_threads(1);
}

static void start_blas(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, one_thread);
}

static int blas_int(size_t n)
{
    assert(n <= INT_MAX);
    return (int)n;
}

static int transpose(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

/* A leading dimension must be at least 1, also where the matrix is empty. */
static int stride(size_t n)
{
    return blas_int(n ? n : 1);
}

/* beta 0 means that y is not read: BLAS versions differ in whether 0 * NaN is 0. */
static void sgemv(int trans, size_t m, size_t n, float alpha, const float *a, size_t lda, const float *x, int incx,
                  float beta, float *y)
{
    if (beta == 0) {
        memset(y, 0, (trans == CblasTrans ? n : m) * sizeof *y);
        beta = 1;
    }
    if (m && n)
        cblas_sgemv(CblasRowMajor, trans, blas_int(m), blas_int(n), alpha, a, stride(lda), x, incx, beta, y, 1);
    else if (beta != 1)
        cblas_sscal(blas_int(trans == CblasTrans ? n : m), beta, y, 1);
}

void lip__gemv(bool ta, size_t m, size_t n, float alpha, const float *a, size_t lda, const float *x, float beta, float *y)
{
    start_blas();
    sgemv(transpose(ta), m, n, alpha, a, lda, x, 1, beta, y);
}

struct rows_of_product {
    size_t m, n, lda, block;
    float alpha, beta;
    const float *a, *x;
    float *y;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void some_rows(void *ctx, size_t i, size_t thread)
{
    const struct rows_of_product *p = ctx;
    size_t from = i * p->block;

    (void)thread;
    lip__gemv(false, smaller(p->block, p->m - from), p->n, p->alpha, p->a + from * p->lda, p->lda, p->x, p->beta, p->y + from);
}

/* Rows among threads in blocks, one each. */
static size_t share(size_t rows, size_t threads)
{
    return ((rows + threads - 1) / threads + BLOCK - 1) / BLOCK * BLOCK;
}

void lip__gemv_parallel(size_t m, size_t n, float alpha, const float *a, size_t lda, const float *x, float beta, float *y)
{
    struct rows_of_product p = {m, n, lda, m * n < WORTH_READING ? m : share(m, lip_threads()), alpha, beta, a, x, y};

    if (m)
        lip__parallel((m + p.block - 1) / p.block, some_rows, &p);
}

void lip__gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
               size_t ldb, float beta, float *c, size_t ldc)
{
    start_blas();
    if (!m || !n)
        return;
    if (m <= FEW_ROWS && !ta) {
        for (size_t i = 0; i < m; i++) /* c_i = op(b)' a_i */
            sgemv(transpose(!tb), tb ? n : k, tb ? k : n, alpha, b, ldb, a + i * lda, 1, beta, c + i * ldc);
        return;
    }
    if (beta == 0 && !k)
        for (size_t i = 0; i < m; i++)
            memset(c + i * ldc, 0, n * sizeof *c);
    else if (k && m >= TILED_ROWS && n >= TILED_COLUMNS && (beta == 0 || beta == 1) && lip__vector_unit())
        lip__gemm_tiled(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta == 1, false, c, ldc);
    else
        cblas_sgemm(CblasRowMajor, transpose(ta), transpose(tb), blas_int(m), blas_int(n), blas_int(k), alpha, a,
                    stride(lda), b, stride(ldb), beta, c, stride(ldc));
}

struct product {
    bool ta, tb, by_rows;
    size_t m, n, k, lda, ldb, ldc, block;
    float alpha, beta;
    const float *a, *b;
    float *c;
};

static void multiply_block(void *ctx, size_t i, size_t thread)
{
    const struct product *p = ctx;
    size_t from = i * p->block;

    (void)thread;
    if (p->by_rows)
        lip__gemm(p->ta, p->tb, smaller(p->block, p->m - from), p->n, p->k, p->alpha,
                  p->a + (p->ta ? from : from * p->lda), p->lda, p->b, p->ldb, p->beta, p->c + from * p->ldc, p->ldc);
    else
        lip__gemm(p->ta, p->tb, p->m, smaller(p->block, p->n - from), p->k, p->alpha, p->a, p->lda,
                  p->b + (p->tb ? from * p->ldb : from), p->ldb, p->beta, p->c + from, p->ldc);
}

void lip__gemm_parallel(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    size_t threads = lip_threads(), side;
    struct product p = {.ta = ta, .tb = tb, .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc,
                        .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c};

    p.by_rows = m >= n || n < 2 * BLOCK; /* a thread packs the columns of b that it multiplies by: all of them, for some rows */
    side = p.by_rows ? m : n;
    if (threads == 1 || side < 2 * BLOCK || (double)m * (double)n * (double)k < WORTH_SHARING) {
        lip__gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    p.block = share(side, threads);
    lip__parallel((side + p.block - 1) / p.block, multiply_block, &p);
}

/* A symmetric c: columns from `from` on of its lower half, and the rows that mirror them. */
struct symmetric {
    bool ta, tb;
    size_t n, k, ld;
    float alpha, beta;
    const float *a[2], *b[2]; /* a[1] may be NULL */
    float *c;
};

static void multiply_lower(const struct symmetric *x, const float *a, const float *b, bool add, size_t from, size_t columns)
{
    size_t n = x->n, rows = n - from;
    float *c = x->c + from * n + from;

    a += x->ta ? from : from * x->ld;
    b += x->tb ? from * x->ld : from;
    if (lip__vector_unit())
        lip__gemm_tiled(x->ta, x->tb, rows, columns, x->k, x->alpha, a, x->ld, b, x->ld, add, true, c, n);
    else
        lip__gemm(x->ta, x->tb, rows, columns, x->k, x->alpha, a, x->ld, b, x->ld, add, c, n);
}

static void multiply_half_block(void *ctx, size_t i, size_t thread)
{
    const struct symmetric *x = ctx;
    size_t n = x->n, from = i * HALF_COLUMNS, columns = smaller(HALF_COLUMNS, n - from), below = from + columns;

    (void)thread;
    multiply_lower(x, x->a[0], x->b[0], x->beta != 0, from, columns);
    if (x->a[1])
        multiply_lower(x, x->a[1], x->b[1], true, from, columns);
    for (size_t j = from; j < below; j++)
        for (size_t l = from; l < j; l++)
            x->c[l * n + j] = x->c[j * n + l];
    lip__transpose(n - below, columns, 1, x->c + below * n + from, n, x->c + from * n + below, n);
}

void lip__gemm_symmetric(bool ta, bool tb, size_t n, size_t k, float alpha, const float *a, const float *b, const float *a2,
                         const float *b2, size_t ld, float beta, float *c)
{
    struct symmetric x = {ta, tb, n, k, ld, alpha, beta, {a, a2}, {b, b2}, c};

    lip__parallel((n + HALF_COLUMNS - 1) / HALF_COLUMNS, multiply_half_block, &x);
}

/* ---- sums in double: four at a time, so that additions need not wait for one another --------------- */

LIP__CLONES double lip__dot(const float *x, const float *y, size_t n)
{
    double sum[4] = {0};
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] += (double)x[i + j] * y[i + j];
    for (; i < n; i++)
        sum[0] += (double)x[i] * y[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double lip__norm(const float *x, size_t n)
{
    return sqrt(lip__dot(x, x, n));
}

LIP__CLONES double lip__distance(const float *x, const float *y, size_t n)
{
    double sum[4] = {0};
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) {
            double d = (double)x[i + j] - y[i + j];
            sum[j] += d * d;
        }
    for (; i < n; i++) {
        double d = (double)x[i] - y[i];
        sum[0] += d * d;
    }
    return sqrt((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* ---- double precision ------------------------------------------------------------------------------- */

void lip__dgemm(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b,
                size_t ldb, double beta, double *c, size_t ldc)
{
    start_blas();
    if (!m || !n)
        return;
    if (beta == 0 && !k)
        for (size_t i = 0; i < m; i++)
            memset(c + i * ldc, 0, n * sizeof *c);
    else
        cblas_dgemm(CblasRowMajor, transpose(ta), transpose(tb), blas_int(m), blas_int(n), blas_int(k), alpha, a,
                    stride(lda), b, stride(ldb), beta, c, stride(ldc));
}

/* What dsyevd asks for at least: doubles, then ints. */
static size_t eigen_doubles(size_t n)
{
    return 1 + 6 * n + 2 * n * n;
}

static size_t eigen_ints(size_t n)
{
    return 3 + 5 * n;
}

size_t lip__eigen_work(size_t n)
{
    return eigen_doubles(n) + (eigen_ints(n) * sizeof(int) + sizeof(double) - 1) / sizeof(double);
}

/* A row-major symmetric matrix is its own column-major form; LAPACK's eigenvector columns are our rows. */
int lip__eigen_in(size_t n, double *a, double *w, double *work)
{
    int order = blas_int(n), doubles = blas_int(eigen_doubles(n)), ints = blas_int(eigen_ints(n)), info = 0;

    start_blas();
    if (n)
        dsyevd_("V", "L", &order, a, &order, w, work, &doubles, (int *)(void *)(work + eigen_doubles(n)), &ints, &info);
    return info;
}

int lip__eigen(size_t n, double *a, double *w)
{
    double *work = lip__alloc(lip__eigen_work(n), sizeof *work);
    int info = work ? lip__eigen_in(n, a, w, work) : -1;

    lip__free(work);
    return info;
}

/* Our lower half is column-major's upper one. */
int lip__inverse_in(size_t n, double *a)
{
    int order = blas_int(n), info = 0;

    start_blas();
    if (n)
        dpotrf_("U", &order, a, &order, &info);
    if (n && !info)
        dpotri_("U", &order, a, &order, &info);
    return info;
}

/* Row-major (m, n) is column-major (n, m), the transpose, with the same singular values. */
int lip__singular_values(size_t m, size_t n, double *a, double *s)
{
    int rows = blas_int(n), columns = blas_int(m), lwork = -1, one = 1, info;
    double size, none;
    double *work;
    int *iwork;

    start_blas();
    if (!m || !n)
        return 0;
    dgesdd_("N", &rows, &columns, a, &rows, s, &none, &one, &none, &one, &size, &lwork, &info, &info);
    lwork = (int)size;
    work = lip__alloc((size_t)lwork, sizeof *work);
    iwork = lip__alloc(8 * smaller(m, n), sizeof *iwork);
    if (work && iwork)
        dgesdd_("N", &rows, &columns, a, &rows, s, &none, &one, &none, &one, work, &lwork, iwork, &info);
    else
        info = -1;
    lip__free(iwork);
    lip__free(work);
    return info;
}

static void transpose_into(size_t m, size_t n, const double *a, double *at)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            at[j * m + i] = a[i * n + j];
}

int lip__qr(size_t m, size_t n, double *a, double *diag)
{
    int rows = blas_int(m), columns = blas_int(n), lwork = -1, info;
    double size[2];
    double *at, *tau, *work = NULL;

    assert(m >= n);
    start_blas();
    if (!n)
        return 0;
    at = lip__alloc(m * n, sizeof *at);
    tau = lip__alloc(n, sizeof *tau);
    info = -1;
    if (!at || !tau)
        goto done;
    transpose_into(m, n, a, at);
    dgeqrf_(&rows, &columns, at, &rows, tau, &size[0], &lwork, &info);
    dorgqr_(&rows, &columns, &columns, at, &rows, tau, &size[1], &lwork, &info);
    lwork = (int)fmax(size[0], size[1]);
    info = -1;
    work = lip__alloc((size_t)lwork, sizeof *work);
    if (!work)
        goto done;
    dgeqrf_(&rows, &columns, at, &rows, tau, work, &lwork, &info);
    if (info)
        goto done;
    for (size_t i = 0; i < n; i++)
        diag[i] = at[i * m + i];
    dorgqr_(&rows, &columns, &columns, at, &rows, tau, work, &lwork, &info);
    if (!info)
        transpose_into(n, m, at, a);
done:
    lip__free(work);
    lip__free(tau);
    lip__free(at);
    return info;
}

const char *lip__blas_core(void)
{
    return openblas_get_corename();
}
