/* tile_unit.h: the product of a strip for one vector unit. tile.c includes it once for each, with UNIT (a name), TARGET (a
 * target attribute), LANES (floats in a vector) and ROWS (of a tile) set: no guard.
 *
 * A tile of c, ROWS by VECTORS vectors, stays in registers while a's columns and b's rows pass by: ROWS * VECTORS sums,
 * VECTORS vectors of b and one broadcast number of a fill the registers.
 */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(x) JOIN(x, UNIT)
#define WIDTH (VECTORS * LANES)
#ifdef __clang__
#pragma STDC FP_CONTRACT ON
#define FUSED __attribute__((target(TARGET)))
#else
#define FUSED __attribute__((target(TARGET), optimize("O3", "fp-contract=fast")))
#endif

typedef float NAME(lanes) __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
#define lanes NAME(lanes)

/* c (rows, WIDTH) = start + a b: a(i, p) is a[i * down + p * right], of which one is 1. */
static inline __attribute__((always_inline)) void NAME(tile)(size_t rows, bool transposed, size_t k, const float *a,
                                                             size_t lda, const float *b, const float *start,
                                                             size_t start_ld, float *c, size_t ldc)
{
    lanes sum[ROWS][VECTORS];

    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < VECTORS; v++)
            sum[i][v] = start ? *(const lanes *)(start + i * start_ld + v * LANES) : (lanes){0};
    for (size_t p = 0; p < k; p++) {
        lanes w[VECTORS];
        for (size_t v = 0; v < VECTORS; v++)
            w[v] = *(const lanes *)(b + p * WIDTH + v * LANES);
        for (size_t i = 0; i < rows; i++) {
            float x = transposed ? a[p * lda + i] : a[i * lda + p];
            for (size_t v = 0; v < VECTORS; v++)
                sum[i][v] += x * w[v];
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < VECTORS; v++)
            *(lanes *)(c + i * ldc + v * LANES) = sum[i][v];
}

#define TILE(r)                                                                               \
    case r:                                                                                   \
        if (r <= ROWS)                                                                        \
            NAME(tile)(r <= ROWS ? r : 1, transposed, k, a, lda, b, start, start_ld, c, ldc); \
        break;

static inline __attribute__((always_inline)) void NAME(rows)(size_t rows, bool transposed, size_t k, const float *a,
                                                             size_t lda, const float *b, const float *start,
                                                             size_t start_ld, float *c, size_t ldc)
{
    switch (rows) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
    }
}

/* Where the panel is narrower than a tile, the tile is made beside c. */
static inline __attribute__((always_inline)) void NAME(narrow)(size_t rows, bool transposed, size_t k, const float *a,
                                                               size_t lda, const float *b, const float *start,
                                                               size_t start_ld, size_t columns, float *c, size_t ldc)
{
    float beside[ROWS * WIDTH] = {0};

    for (size_t i = 0; start && i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            beside[i * WIDTH + j] = start[i * start_ld + j];
    NAME(rows)(rows, transposed, k, a, lda, b, beside, WIDTH, beside, WIDTH);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            c[i * ldc + j] = beside[i * WIDTH + j];
}

/* Tiles of nearly equal height down the strip. */
static inline __attribute__((always_inline)) void NAME(strip)(bool transposed, const struct strip *s)
{
    for (size_t i = 0, rows; i < s->m; i += rows) {
        size_t tiles = (s->m - i + ROWS - 1) / ROWS;
        const float *a = s->a + (transposed ? i : i * s->lda), *start = s->start ? s->start + i * s->start_ld : NULL;
        float *c = s->c + i * s->ldc;
        rows = (s->m - i + tiles - 1) / tiles;
        if (s->columns == WIDTH)
            NAME(rows)(rows, transposed, s->k, a, s->lda, s->b, start, s->start_ld, c, s->ldc);
        else
            NAME(narrow)(rows, transposed, s->k, a, s->lda, s->b, start, s->start_ld, s->columns, c, s->ldc);
    }
}

/* One row of c from several panels at once, so that sums need not wait for one another; each sum is what it is in a tile. */
FUSED static void NAME(abreast)(const struct strip *s, size_t panel)
{
    lanes sum[ABREAST][VECTORS];

    for (size_t q = 0; q < ABREAST; q++)
        for (size_t v = 0; v < VECTORS; v++)
            sum[q][v] = s->start ? *(const lanes *)(s->start + q * WIDTH + v * LANES) : (lanes){0};
    for (size_t p = 0; p < s->k; p++)
        for (size_t q = 0; q < ABREAST; q++)
            for (size_t v = 0; v < VECTORS; v++)
                sum[q][v] += s->a[p] * *(const lanes *)(s->b + q * panel + p * WIDTH + v * LANES);
    for (size_t q = 0; q < ABREAST; q++)
        for (size_t v = 0; v < VECTORS; v++)
            *(lanes *)(s->c + q * WIDTH + v * LANES) = sum[q][v];
}

FUSED static void NAME(plain)(const struct strip *s)
{
    NAME(strip)(false, s);
}

FUSED static void NAME(transposed)(const struct strip *s)
{
    NAME(strip)(true, s);
}

static const struct lip__vector_unit NAME(unit) = {WIDTH, DEPTH, NAME(plain), NAME(transposed), NAME(abreast)};

#undef TILE
#undef lanes
#undef FUSED
#undef WIDTH
#undef NAME
#undef JOIN
#undef JOIN_
