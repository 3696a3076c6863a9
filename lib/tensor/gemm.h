/* gemm.h: every matrix product. gemm.c is the only file with cblas.h and the only one that declares LAPACK.
 *
 * Row-major float32. On vector units that tile.c knows its products are used, where they are faster. BLAS runs single-threaded
 * (set once, before the first product); parallelism is ours.
 */
#ifndef LIP_GEMM_H
#define LIP_GEMM_H

#include <stdbool.h>
#include <stddef.h>

/* lip__gemm: c (m, n) = alpha op(a) op(b) + beta c; op is the transpose where ta, tb say so. lda, ldb, ldc are
 * row strides of the stored arrays. m = 1..3 without ta goes to gemv, row by row (perf.md finding 1.1).
 * One thread. */
void lip__gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
               size_t ldb, float beta, float *c, size_t ldc);

/* lip__gemm_parallel: the same product, rows of c split over the pool (columns when m is small). */
void lip__gemm_parallel(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                        const float *b, size_t ldb, float beta, float *c, size_t ldc);

/* lip__gemm_symmetric: c (n, n) = alpha (op(a) op(b) + op(a2) op(b2)) + beta c for a sum that is known to be symmetric, of which
 * half is computed, over the pool. a2 NULL: there is no second product. beta 0 or 1. All rows have the stride ld. */
void lip__gemm_symmetric(bool ta, bool tb, size_t n, size_t k, float alpha, const float *a, const float *b, const float *a2,
                         const float *b2, size_t ld, float beta, float *c);

/* lip__gemv: y = op(a) x, a (m, n). */
void lip__gemv(bool ta, size_t m, size_t n, float alpha, const float *a, size_t lda, const float *x, float beta, float *y);

/* lip__gemv_parallel: y = alpha a x + beta y, rows split over the pool. */
void lip__gemv_parallel(size_t m, size_t n, float alpha, const float *a, size_t lda, const float *x, float beta, float *y);

double lip__norm(const float *x, size_t n);                 /* sqrt(sum x^2), accumulated in double */
double lip__distance(const float *x, const float *y, size_t n); /* sqrt(sum (x-y)^2) in double */
double lip__dot(const float *x, const float *y, size_t n);  /* in double */

/* Double precision, for bounds. Row-major, one thread. */
void lip__dgemm(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b,
                size_t ldb, double beta, double *c, size_t ldc);

/* lip__eigen: a (n, n) symmetric, overwritten by its eigenvectors, one a row; w the eigenvalues, ascending.
 * Returns 0, or LAPACK's info. Allocates its workspace; -1 when that fails. */
int lip__eigen(size_t n, double *a, double *w);

/* lip__eigen_in: the same in the caller's work, lip__eigen_work(n) doubles. Allocates nothing. */
size_t lip__eigen_work(size_t n);
int lip__eigen_in(size_t n, double *a, double *w, double *work);

/* lip__inverse_in: a (n, n) symmetric and positive, of which the lower half is read, <- the lower half of its inverse. Returns 0, or
 * LAPACK's info. Allocates nothing; safe on several threads. */
int lip__inverse_in(size_t n, double *a);

/* lip__singular_values: of a (m, n), destroyed; s min(m, n) values, descending. As lip__eigen. */
int lip__singular_values(size_t m, size_t n, double *a, double *s);

/* lip__qr: a (m, n) with m >= n becomes Q of its reduced QR factorisation; diag (n) the diagonal of R. As above. */
int lip__qr(size_t m, size_t n, double *a, double *diag);

const char *lip__blas_core(void); /* the kernel OpenBLAS chose */

#endif
