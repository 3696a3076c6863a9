/* small_conv.c: vectors over filters, tiles over the numbers of a window.
 *
 * Filters are padded to whole vectors in scratch where they do not fill them.
 */
#include "tensor/small_conv.h"

#include <string.h>

#include "base/base.h"
#include "tensor/band.h"

enum {
    LANES = 8,   /* floats in a vector: AVX's; other machines split or join them */
    TILE = 6,    /* rows of a tile two vectors wide: 12 sums, 2 vectors and 1 broadcast number fill 16 registers */
    WINDOW = 320 /* floats: above, sgemm's blocking wins over not copying */
};

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

bool lip__small_conv_fits(const struct lip__windows *g)
{
    return lip__window_size(g) <= WINDOW;
}

static size_t padded(size_t f)
{
    return (f + LANES - 1) / LANES * LANES;
}

/* In order: the band, the gradient, a row of dy; and where each number of a window lies. */
struct layout {
    float *band, *kernel, *row;
    size_t *place;
    size_t f; /* padded */
};

static size_t up(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static struct layout lay_out(const struct lip__windows *g, size_t f, float *scratch)
{
    struct layout s;

    s.f = padded(f);
    s.band = scratch;
    s.kernel = s.band + up(lip__band_size(g, 1));
    s.row = s.kernel + up(lip__window_size(g) * s.f);
    s.place = (size_t *)(s.row + up(g->ow * s.f));
    return s;
}

size_t lip__small_conv_scratch(const struct lip__windows *g, size_t f)
{
    return up(lip__band_size(g, 1)) + up(lip__window_size(g) * padded(f)) + up(g->ow * padded(f)) +
           up(lip__window_size(g) * (sizeof(size_t) / sizeof(float)));
}

/* f(height, width, ...) with constants, so that a tile stays in registers. */
#define TILE_CASE(f, height, two, ...)      \
    case height:                            \
        if (two)                            \
            f(height, 2, __VA_ARGS__);      \
        else                                \
            f(height, 1, __VA_ARGS__);      \
        break;
#define WITH_TILE(f, height, two, ...)        \
    switch (height) {                         \
        TILE_CASE(f, 1, two, __VA_ARGS__)     \
        TILE_CASE(f, 2, two, __VA_ARGS__)     \
        TILE_CASE(f, 3, two, __VA_ARGS__)     \
        TILE_CASE(f, 4, two, __VA_ARGS__)     \
        TILE_CASE(f, 5, two, __VA_ARGS__)     \
        TILE_CASE(f, 6, two, __VA_ARGS__)     \
    }

/* to (rows, padded f) <- from (rows, f); what is added is 0. */
static void widen(const float *from, size_t rows, size_t f, float *to)
{
    for (size_t i = 0; i < rows; i++) {
        memcpy(to + i * padded(f), from + i * f, f * sizeof *to);
        memset(to + i * padded(f) + f, 0, (padded(f) - f) * sizeof *to);
    }
}

/* dk (tile, stride f) += over the windows, `tile` elements of the image times vectors of dy. */
static inline __attribute__((always_inline)) void add_products(size_t tile, size_t vectors, size_t windows, const size_t *at,
                                                               const float *band, size_t step, const float *dy, size_t f,
                                                               float *dk)
{
    lanes sum[TILE][2];
    const float *x[TILE];

    for (size_t t = 0; t < tile; t++) {
        x[t] = band + at[t];
        for (size_t v = 0; v < vectors; v++)
            sum[t][v] = *(const lanes *)(dk + t * f + v * LANES);
    }
    for (size_t r = 0; r < windows; r++) {
        lanes d[2];
        for (size_t v = 0; v < vectors; v++)
            d[v] = *(const lanes *)(dy + r * f + v * LANES);
        for (size_t t = 0; t < tile; t++)
            for (size_t v = 0; v < vectors; v++)
                sum[t][v] += x[t][r * step] * d[v];
    }
    for (size_t t = 0; t < tile; t++)
        for (size_t v = 0; v < vectors; v++)
            *(lanes *)(dk + t * f + v * LANES) = sum[t][v];
}

LIP__FUSED static void add_row(size_t windows, size_t size, const size_t *at, const float *band, size_t step,
                               const float *dy, size_t f, float *dk)
{
    for (size_t j = 0; j < f; j += 2 * LANES)
        for (size_t i = 0, tile; i < size; i += tile) {
            size_t left = (size - i + TILE - 1) / TILE; /* tiles of nearly equal height */
            tile = (size - i + left - 1) / left;
            WITH_TILE(add_products, tile, f - j > LANES, windows, at + i, band, step, dy + j, f, dk + i * f + j)
        }
}

void lip__small_conv_gradient(const struct lip__windows *g, size_t n, const float *x, const float *dy, size_t f, float *dk,
                              float *scratch)
{
    struct layout s = lay_out(g, f, scratch);
    size_t size = lip__window_size(g);

    memset(s.kernel, 0, size * s.f * sizeof *s.kernel);
    lip__band_places(g, s.place);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < g->oh; p++) {
            const float *row = dy + (i * g->oh + p) * g->ow * f;
            lip__band_fill(g, x + i * g->h * g->w * g->c, p, 1, s.band);
            if (f != s.f) {
                widen(row, g->ow, f, s.row);
                row = s.row;
            }
            add_row(g->ow, size, s.place, s.band, g->sw * g->c, row, s.f, s.kernel);
        }
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < f; j++)
            dk[i * f + j] += s.kernel[i * s.f + j];
}
