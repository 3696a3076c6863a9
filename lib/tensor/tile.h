/* tile.h: products with our own inner loops, for the vector units that we know.
 *
 * On a machine with none of them lip__vector_unit() is NULL, and OpenBLAS does all but products by what is packed.
 *
 * A term of a sum of k products, and what the sum starts from, goes through at most k roundings where products and sums are fused,
 * k + 1 where a compiler fuses none; a product through one more where alpha is not 1. What is served has k + 1 at most, and
 * bounds/stage.c counts k + 2.
 */
#ifndef LIP_TILE_H
#define LIP_TILE_H

#include <stdbool.h>
#include <stddef.h>

struct lip__vector_unit;

/* lip__vector_unit: the widest unit of this machine, NULL: there is none. lip__vector_units: how many there are.
 * lip__vector_unit_use: the i-th from the narrowest; none if there is no i-th. For tests. */
const struct lip__vector_unit *lip__vector_unit(void);
size_t lip__vector_units(void);
void lip__vector_unit_use(size_t i);

/* lip__gemm_tiled: c (m, n) = alpha op(a) op(b), or that added to c. `lower`: only what is on or below the diagonal is wanted,
 * the rest may be anything. One thread, a unit needed. */
void lip__gemm_tiled(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
                     size_t ldb, bool add, bool lower, float *c, size_t ldc);

/* Products by one b (k, n) that stays, as panels of lip__packed_size floats: 0 where b is empty. They have a unit on any machine.
 * lip__pack: rows first .. first + rows - 1 of the panels <- b (rows, n), or with tb the transpose of b (n, rows).
 * lip__gemm_packed: c (m, n) = bias (of n; NULL: 0) + a (m, k) b. A row of c has the same bits whatever m is. One thread, and the
 * unit that packed. */
size_t lip__packed_size(size_t k, size_t n);
void lip__pack(bool tb, size_t k, size_t n, size_t first, size_t rows, const float *b, size_t ldb, float *packed);
void lip__gemm_packed(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed, const float *bias, float *c,
                      size_t ldc);

/* lip__gemv_packed: the same bits for one row. A core's cache keeps what it read last: where panels are more than it holds,
 * calls that read them from front to back and `backwards` by turns find a part of them there, others nothing. shared: over
 * the pool, if that is awake (lip__parallel_short), each thread with panels of its own, for which its cache may do. */
void lip__gemv_packed(size_t n, size_t k, const float *a, const float *packed, const float *bias, bool backwards,
                      bool shared, float *c);

/* lip__gemm_scattered: the same for rows of a that are not in one piece: number p of row i of block q is
 * at[q block + i row + place[p]]. c (blocks rows, n) has no gaps. */
struct lip__scattered {
    size_t blocks, rows;
    const float *at;
    size_t block, row;
    const size_t *place;
};
void lip__gemm_scattered(const struct lip__scattered *a, size_t n, size_t k, const float *packed, const float *bias, float *c);

/* lip__transpose: to (columns, rows) <- alpha times the transpose of from (rows, columns). */
void lip__transpose(size_t rows, size_t columns, float alpha, const float *from, size_t from_ld, float *to, size_t to_ld);

#endif
