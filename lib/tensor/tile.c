/* tile.c: packing, blocking, and the choice of the vector unit.
 *
 * b is cut into panels of as many columns as a tile has; a panel holds its rows one behind the other, so that a tile reads it
 * from front to back. Products take `depth` rows of a panel at a time, which stay in the first-level cache while a passes by
 * where it lies: a is never packed.
 *
 * Source of the blocking: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.
 */
#include "tensor/tile.h"

#include <stdatomic.h>
#include <string.h>

#include <onelip/model.h>

#include "base/base.h"

/* One panel times some rows, block by block. */
struct strip {
    size_t blocks, m, k, columns; /* of m rows each */
    const float *a;
    size_t block, lda;   /* floats from one block to the next, and from one row, or column of a transpose */
    const size_t *at;    /* SCATTERED: where a row's numbers lie */
    const float *b;      /* the panel */
    const float *start;  /* what the sums start from; NULL: 0 */
    size_t start_ld;
    float *c;
    size_t ldc;
};

/* How a's numbers lie: a row in one piece, a column in one piece, or a row in many. */
enum order { PLAIN, TRANSPOSED, SCATTERED };

struct lip__vector_unit {
    size_t width; /* of a panel */
    size_t depth; /* rows of a panel that a first-level cache takes beside the rest */
    void (*multiply[3])(const struct strip *);           /* by order */
    void (*abreast)(const struct strip *, size_t panel); /* a (1, k), ABREAST whole panels, so many floats apart */
};

enum {
    ABREAST = 4,       /* panels that one row passes together */
    COLUMNS = 128,     /* of b that are packed at once, on the stack */
    DEPTH_MAX = 256,
    TALLEST = 12,      /* rows of any unit's tile */
    WORTH_SHARING = 32768, /* multiply-adds below which a row costs less than sharing it */
    TALL = 240,        /* rows of a that stay in a second-level cache while panels pass */
    WIDE = 512,        /* a transposed a with rows as long as this is copied: its columns share few places of a cache */
    COPIED = 96        /* columns of it at once */
};

#define VECTORS 2

#define UNIT any /* four lanes are what most machines have */
#define LANES 4
#define ROWS 6
#define DEPTH 256
#include "tensor/tile_unit.h"

#if defined(__x86_64__)

#define UNIT avx2
#define TARGET "avx2,fma"
#define LANES 8
#define ROWS 6
#define DEPTH 256
#include "tensor/tile_unit.h"

#define UNIT avx512
#define TARGET "avx512f,avx512vl,fma"
#define LANES 16
#define ROWS 12
#define DEPTH 192
#include "tensor/tile_unit.h"

static bool works(size_t i)
{
    __builtin_cpu_init();
    return i == 0 ? __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                  : __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

static const struct lip__vector_unit *const units[] = {&unit_avx2, &unit_avx512, NULL}; /* a machine has the first few */

#else

static bool works(size_t i)
{
    (void)i;
    return false;
}

static const struct lip__vector_unit *const units[] = {NULL};

#endif

static const struct lip__vector_unit none;
static const struct lip__vector_unit *_Atomic chosen; /* NULL: not yet; &none: there is none */

size_t lip__vector_units(void)
{
    size_t n = 0;

    while (units[n] && works(n))
        n++;
    return n;
}

void lip__vector_unit_use(size_t i)
{
    atomic_store_explicit(&chosen, i < lip__vector_units() ? units[i] : &none, memory_order_relaxed);
}

const struct lip__vector_unit *lip__vector_unit(void)
{
    const struct lip__vector_unit *unit = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!unit) {
        lip__vector_unit_use(lip__vector_units() - 1); /* 0 - 1 is no unit */
        unit = atomic_load_explicit(&chosen, memory_order_relaxed);
    }
    return unit == &none ? NULL : unit;
}

/* What packed products are computed with. */
static const struct lip__vector_unit *packer(void)
{
    const struct lip__vector_unit *unit = lip__vector_unit();

    return unit ? unit : &unit_any;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- transposition ------------------------------------------------------------------------------------- */

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int places __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif

static void transpose_4x4(float alpha, const float *from, size_t from_ld, float *to, size_t to_ld)
{
    four a = *(const four *)from, b = *(const four *)(from + from_ld), c = *(const four *)(from + 2 * from_ld),
         d = *(const four *)(from + 3 * from_ld);
    four ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5), ab_high = SHUFFLE(a, b, 2, 6, 3, 7),
         cd_high = SHUFFLE(c, d, 2, 6, 3, 7);

    *(four *)to = alpha * SHUFFLE(ab, cd, 0, 1, 4, 5);
    *(four *)(to + to_ld) = alpha * SHUFFLE(ab, cd, 2, 3, 6, 7);
    *(four *)(to + 2 * to_ld) = alpha * SHUFFLE(ab_high, cd_high, 0, 1, 4, 5);
    *(four *)(to + 3 * to_ld) = alpha * SHUFFLE(ab_high, cd_high, 2, 3, 6, 7);
}

void lip__transpose(size_t rows, size_t columns, float alpha, const float *from, size_t from_ld, float *to, size_t to_ld)
{
    size_t whole = columns / 4 * 4, i = 0;

    for (; i + 4 <= rows; i += 4, from += 4 * from_ld) {
        for (size_t j = 0; j < whole; j += 4)
            transpose_4x4(alpha, from + j, from_ld, to + j * to_ld + i, to_ld);
        for (size_t j = whole; j < columns; j++)
            for (size_t r = 0; r < 4; r++)
                to[j * to_ld + i + r] = alpha * from[r * from_ld + j];
    }
    for (; i < rows; i++, from += from_ld)
        for (size_t j = 0; j < columns; j++)
            to[j * to_ld + i] = alpha * from[j];
}

/* ---- packing ------------------------------------------------------------------------------------------ */

/* One panel: rows of b. */
static void pack_rows(size_t width, size_t k, size_t columns, float alpha, const float *b, size_t ldb, float *packed)
{
    for (size_t p = 0; p < k; p++, packed += width, b += ldb) {
        if (columns == 16)
            memcpy(packed, b, 16 * sizeof *packed);
        else
            memcpy(packed, b, columns * sizeof *packed);
        for (size_t j = columns; j < width; j++)
            packed[j] = 0;
        for (size_t j = 0; alpha != 1 && j < width; j++)
            packed[j] *= alpha;
    }
}

/* One panel: columns of a stored transpose. */
static void pack_columns(size_t width, size_t k, size_t columns, float alpha, const float *b, size_t ldb, float *packed)
{
    lip__transpose(columns, k, alpha, b, ldb, packed, width);
    for (size_t p = 0; columns < width && p < k; p++)
        memset(packed + p * width + columns, 0, (width - columns) * sizeof *packed);
}

/* packed <- k rows of alpha op(b), n wide: all panels, `panel` floats apart. */
static void pack(const struct lip__vector_unit *unit, bool tb, size_t k, size_t n, float alpha, const float *b, size_t ldb,
                 float *packed, size_t panel)
{
    for (size_t j = 0; j < n; j += unit->width, packed += panel)
        (tb ? pack_columns : pack_rows)(unit->width, k, smaller(unit->width, n - j), alpha, b + (tb ? j * ldb : j), ldb,
                                        packed);
}

/* ---- products ----------------------------------------------------------------------------------------- */

/* Rows that the next block of k takes, when `left` are left: blocks of nearly equal size. */
static size_t next_depth(const struct lip__vector_unit *unit, size_t left)
{
    size_t blocks = (left + unit->depth - 1) / unit->depth;

    return blocks ? (left + blocks - 1) / blocks : 0;
}

/* One product, of which blocks are taken. */
struct product {
    const struct lip__vector_unit *unit;
    bool ta, lower;
    size_t lda, ldc;
    size_t panel; /* floats from one panel to the next */
};

/* What a sum starts from: rows of numbers; row NULL: 0. */
struct start {
    const float *row;
    size_t ld;
};

/* c (rows, columns) from k rows of op(b) in panels; c's first row is `below` rows under the diagonal's element in its first
 * column. */
static void multiply_block(const struct product *x, struct start start, const float *a, size_t rows, size_t below,
                           size_t columns, size_t k, const float *panels, float *c)
{
    const struct lip__vector_unit *unit = x->unit;

    if (x->lower)
        columns = smaller(columns, below + rows);
    for (size_t j = 0; j < columns; j += unit->width, panels += x->panel) {
        size_t skip = x->lower && j > below ? j - below : 0;
        struct strip s = {.blocks = 1, .m = rows - skip, .k = k, .columns = smaller(unit->width, columns - j),
                          .a = a + (x->ta ? skip : skip * x->lda), .lda = x->lda, .b = panels,
                          .start = start.row ? start.row + skip * start.ld + j : NULL, .start_ld = start.ld,
                          .c = c + skip * x->ldc + j, .ldc = x->ldc};
        unit->multiply[x->ta ? TRANSPOSED : PLAIN](&s);
    }
}

/* All rows below the diagonal of some columns, block by block; copies of a's columns where they lie badly. */
static void multiply_columns(const struct product *x, bool add, const float *a, size_t rows, size_t columns, size_t k,
                             const float *panels, float *c)
{
    float copy[DEPTH_MAX * COPIED];
    bool copies = x->ta && x->lda >= WIDE;
    struct product y = *x;

    if (copies)
        y.lda = COPIED;
    for (size_t i = 0, some; i < rows; i += some) {
        const float *from = a + (x->ta ? i : i * x->lda);
        some = smaller(copies ? COPIED : TALL, rows - i);
        for (size_t p = 0; copies && p < k; p++)
            memcpy(copy + p * COPIED, from + p * x->lda, some * sizeof *copy);
        multiply_block(&y, (struct start){add ? c + i * x->ldc : NULL, x->ldc}, copies ? copy : from, some, i, columns, k, panels,
                       c + i * x->ldc);
    }
}

void lip__gemm_tiled(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
                     size_t ldb, bool add, bool lower, float *c, size_t ldc)
{
    struct product x = {lip__vector_unit(), ta, lower, lda, ldc, 0};
    float panels[DEPTH_MAX * COLUMNS];

    for (size_t j = 0; j < n; j += COLUMNS) {
        size_t columns = smaller(COLUMNS, n - j), first = lower ? smaller(j, m) : 0, p = 0;
        do {
            size_t depth = next_depth(x.unit, k - p);
            x.panel = depth * x.unit->width;
            pack(x.unit, tb, depth, columns, alpha, b + (tb ? j * ldb + p : p * ldb + j), ldb, panels, x.panel);
            multiply_columns(&x, add || p, a + (ta ? p * lda + first : first * lda + p), m - first, columns, depth, panels,
                             c + first * ldc + j);
            p += depth;
        } while (p < k);
    }
}

/* ---- products by a b that is packed once ---------------------------------------------------------------- */

size_t lip__packed_size(size_t k, size_t n)
{
    size_t width = packer()->width;

    return (n + width - 1) / width * width * k;
}

void lip__pack(bool tb, size_t k, size_t n, size_t first, size_t rows, const float *b, size_t ldb, float *packed)
{
    const struct lip__vector_unit *unit = packer();

    pack(unit, tb, rows, n, 1, b, ldb, packed + first * unit->width, k * unit->width);
}

/* One row of a and of c. */
struct row {
    const struct lip__vector_unit *unit;
    size_t n, k, shares;
    const float *a, *packed, *bias;
    bool backwards;
    float *c;
};

/* What starts at column j of them. */
static struct strip strip_of_row(const struct row *r, size_t j)
{
    return (struct strip){.blocks = 1, .m = 1, .k = r->k, .columns = smaller(r->unit->width, r->n - j), .a = r->a,
                          .b = r->packed + j * r->k, .start = r->bias ? r->bias + j : NULL, .c = r->c + j};
}

/* A share of the panels that go ABREAST, all rows of them at once; the last takes what is left over, too. */
static void multiply_share(void *ctx, size_t i, size_t thread)
{
    const struct row *r = ctx;
    size_t some = ABREAST * r->unit->width, all = r->n / some;
    size_t first = all * i / r->shares, last = all * (i + 1) / r->shares;

    (void)thread;
    for (size_t g = first; g < last; g++) {
        struct strip s = strip_of_row(r, (r->backwards ? first + last - 1 - g : g) * some);
        r->unit->abreast(&s, r->k * r->unit->width);
    }
    for (size_t j = all * some; last == all && j < r->n; j += r->unit->width) {
        struct strip s = strip_of_row(r, j);
        r->unit->multiply[PLAIN](&s);
    }
}

void lip__gemv_packed(size_t n, size_t k, const float *a, const float *packed, const float *bias, bool backwards,
                      bool shared, float *c)
{
    struct row r = {packer(), n, k, 1, a, packed, bias, backwards, c};
    size_t all = n / (ABREAST * r.unit->width);

    if (shared && all > 1 && n * k >= WORTH_SHARING) {
        r.shares = smaller(all, lip_threads());
        lip__parallel_short(r.shares, multiply_share, &r);
    } else {
        multiply_share(&r, 0, 0);
    }
}

void lip__gemm_packed(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed, const float *bias, float *c,
                      size_t ldc)
{
    const struct lip__vector_unit *unit = packer();
    struct product x = {unit, false, false, lda, ldc, k * unit->width};

    if (m == 1) {
        lip__gemv_packed(n, k, a, packed, bias, false, false, c);
        return;
    }
    for (size_t i = 0, rows, p; i < m; i += rows, a += rows * lda, c += rows * ldc) {
        rows = smaller(TALL, m - i);
        p = 0;
        do {
            size_t depth = next_depth(unit, k - p);
            multiply_block(&x, p ? (struct start){c, ldc} : (struct start){bias, 0}, a + p, rows, 0, n, depth,
                           packed + p * unit->width, c);
            p += depth;
        } while (p < k);
    }
}

void lip__gemm_scattered(const struct lip__scattered *a, size_t n, size_t k, const float *packed, const float *bias, float *c)
{
    const struct lip__vector_unit *unit = packer();
    size_t p = 0;

    do {
        size_t depth = next_depth(unit, k - p);
        const float *start = p ? c : bias;
        for (size_t j = 0; j < n; j += unit->width) {
            struct strip s = {.blocks = a->blocks, .m = a->rows, .k = depth, .columns = smaller(unit->width, n - j), .a = a->at,
                              .block = a->block, .lda = a->row, .at = a->place + p,
                              .b = packed + j * k + p * unit->width, .start = start ? start + j : NULL,
                              .start_ld = p ? n : 0, .c = c + j, .ldc = n};
            unit->multiply[SCATTERED](&s);
        }
        p += depth;
    } while (p < k);
}
