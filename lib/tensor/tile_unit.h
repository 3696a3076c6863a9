/* tile_unit.h: the product of a strip for one vector unit. tile.c includes it once for each, with UNIT (a name), TARGET (a
 * target attribute, or none), LANES (floats in a vector) and ROWS (of a tile) set: no guard.
 *
 * A tile of c, ROWS by VECTORS vectors, stays in registers while a's columns and b's rows pass by: ROWS * VECTORS sums,
 * VECTORS vectors of b and one broadcast number of a fill the registers. Where one vector is wide enough, tiles are taller.
 */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(x) JOIN(x, UNIT)
#define WIDTH (VECTORS * LANES)
#ifdef TARGET
#define FOR_UNIT __attribute__((target(TARGET)))
#else
#define FOR_UNIT
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT ON
#define FUSED FOR_UNIT
#else
#define FUSED FOR_UNIT __attribute__((optimize("O3", "fp-contract=fast")))
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float NAME(lanes) __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
#define lanes NAME(lanes)

/* c (rows, vectors) = start + a b. Of s, what does not change from tile to tile. */
INLINE void NAME(tile)(size_t rows, size_t vectors, enum order order, const struct strip *s, const float *a,
                       const float *start, size_t start_ld, float *c, size_t ldc)
{
    lanes sum[TALLEST][VECTORS];

    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = start ? *(const lanes *)(start + i * start_ld + v * LANES) : (lanes){0};
    for (size_t p = 0; p < s->k; p++) {
        const float *from = a + (order == TRANSPOSED ? p * s->lda : order == SCATTERED ? s->at[p] : p);
        lanes w[VECTORS];
        for (size_t v = 0; v < vectors; v++)
            w[v] = *(const lanes *)(s->b + p * WIDTH + v * LANES);
        for (size_t i = 0; i < rows; i++) {
            float x = from[order == TRANSPOSED ? i : i * s->lda];
            for (size_t v = 0; v < vectors; v++)
                sum[i][v] += x * w[v];
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t v = 0; v < vectors; v++)
            *(lanes *)(c + i * ldc + v * LANES) = sum[i][v];
}

/* With constants, so that sums stay in registers; tiles of two vectors are no taller than ROWS. */
#define TILE(r)                                                                                       \
    case r:                                                                                           \
        if (vectors == 1)                                                                             \
            NAME(tile)(r, 1, order, s, a, start, start_ld, c, ldc);                                   \
        else                                                                                          \
            NAME(tile)(r <= ROWS ? r : 1, VECTORS, order, s, a, start, start_ld, c, ldc);             \
        break;

INLINE void NAME(rows)(size_t rows, size_t vectors, enum order order, const struct strip *s, const float *a,
                       const float *start, size_t start_ld, float *c, size_t ldc)
{
    switch (rows) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
    }
}

/* Where the columns fill no vectors, the tile is made beside c. */
INLINE void NAME(narrow)(size_t rows, size_t vectors, enum order order, const struct strip *s, const float *a,
                         const float *start, float *c)
{
    float beside[TALLEST * WIDTH] = {0};

    for (size_t i = 0; start && i < rows; i++)
        for (size_t j = 0; j < s->columns; j++)
            beside[i * WIDTH + j] = start[i * s->start_ld + j];
    NAME(rows)(rows, vectors, order, s, a, beside, WIDTH, beside, WIDTH);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < s->columns; j++)
            c[i * s->ldc + j] = beside[i * WIDTH + j];
}

/* Tiles of nearly equal height down each block of the strip. */
INLINE void NAME(strip)(enum order order, const struct strip *s)
{
    size_t vectors = s->columns > LANES ? VECTORS : 1, tallest = vectors == 1 ? TALLEST : ROWS;
    bool whole = s->columns == vectors * LANES;

    for (size_t q = 0; q < s->blocks; q++)
        for (size_t i = 0, rows; i < s->m; i += rows) {
            size_t tiles = (s->m - i + tallest - 1) / tallest, row = q * s->m + i;
            const float *a = s->a + q * s->block + (order == TRANSPOSED ? i : i * s->lda);
            const float *start = s->start ? s->start + row * s->start_ld : NULL;
            float *c = s->c + row * s->ldc;
            rows = (s->m - i + tiles - 1) / tiles;
            if (whole)
                NAME(rows)(rows, vectors, order, s, a, start, s->start_ld, c, s->ldc);
            else
                NAME(narrow)(rows, vectors, order, s, a, start, c);
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
    NAME(strip)(PLAIN, s);
}

FUSED static void NAME(transposed)(const struct strip *s)
{
    NAME(strip)(TRANSPOSED, s);
}

FUSED static void NAME(scattered)(const struct strip *s)
{
    NAME(strip)(SCATTERED, s);
}

static const struct lip__vector_unit NAME(unit) = {
    WIDTH, DEPTH, {[PLAIN] = NAME(plain), [TRANSPOSED] = NAME(transposed), [SCATTERED] = NAME(scattered)}, NAME(abreast)};

#undef TILE
#undef lanes
#undef INLINE
#undef FUSED
#undef FOR_UNIT
#undef WIDTH
#undef NAME
#undef JOIN
#undef JOIN_
#undef UNIT
#undef TARGET
#undef LANES
#undef ROWS
#undef DEPTH
