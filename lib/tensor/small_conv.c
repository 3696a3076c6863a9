/* small_conv.c: direct convolution, vectors over filters, tiles over windows.
 *
 * A row of windows reads kh rows of the image. They are copied into a band with the padding's zeros around them, so that
 * no window is special. Filters are padded to whole vectors in scratch where they do not fill them.
 */
#include "tensor/small_conv.h"

#include <string.h>

#include "base/base.h"

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

/* Floats in a row of the band. */
static size_t band_width(const struct lip__windows *g)
{
    return ((g->ow - 1) * g->sw + g->kw) * g->c;
}

/* In order: the band, the bias, the kernel (or its gradient), a row of y (or dy); and where each window element lies. */
struct layout {
    float *band, *bias, *kernel, *row;
    size_t *at;
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
    s.bias = s.band + up(g->kh * band_width(g));
    s.kernel = s.bias + up(s.f);
    s.row = s.kernel + up(lip__window_size(g) * s.f);
    s.at = (size_t *)(s.row + up(g->ow * s.f));
    return s;
}

size_t lip__small_conv_scratch(const struct lip__windows *g, size_t f)
{
    return up(g->kh * band_width(g)) + up(padded(f)) + up(lip__window_size(g) * padded(f)) + up(g->ow * padded(f)) +
           up(lip__window_size(g) * (sizeof(size_t) / sizeof(float)));
}

/* Where the elements of the first window lie in the band. */
static void locate(const struct lip__windows *g, size_t *at)
{
    for (size_t a = 0; a < g->kh; a++)
        for (size_t b = 0; b < g->kw * g->c; b++)
            *at++ = a * band_width(g) + b;
}

/* band <- the kh rows under the p-th row of windows of one image. Its padding is 0 already, except rows outside. */
static void fill_band(const struct lip__windows *g, const float *x, size_t p, float *band)
{
    size_t width = band_width(g), left = g->left * g->c;
    size_t inside = width - left < g->w * g->c ? width - left : g->w * g->c;

    for (size_t a = 0; a < g->kh; a++) {
        size_t i = p * g->sh + a; /* the image's row plus top */
        if (i < g->top || i - g->top >= g->h)
            memset(band + a * width, 0, width * sizeof *band);
        else
            memcpy(band + a * width + left, x + (i - g->top) * g->w * g->c, inside * sizeof *band);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

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

/* y (tile, stride f) of `tile` windows and `vectors` * LANES filters. */
static inline __attribute__((always_inline)) void multiply(size_t tile, size_t vectors, size_t size, const size_t *at,
                                                           const float *x, size_t step, const float *k, size_t f,
                                                           const float *bias, float *y)
{
    lanes sum[TILE][2];

    for (size_t t = 0; t < tile; t++)
        for (size_t v = 0; v < vectors; v++)
            sum[t][v] = *(const lanes *)(bias + v * LANES);
    for (size_t i = 0; i < size; i++) {
        lanes w[2];
        for (size_t v = 0; v < vectors; v++)
            w[v] = *(const lanes *)(k + i * f + v * LANES);
        for (size_t t = 0; t < tile; t++)
            for (size_t v = 0; v < vectors; v++)
                sum[t][v] += x[at[i] + t * step] * w[v];
    }
    for (size_t t = 0; t < tile; t++)
        for (size_t v = 0; v < vectors; v++)
            *(lanes *)(y + t * f + v * LANES) = sum[t][v];
}

/* A row of windows in tiles of one height. The last may overlap the one before it: the same numbers are written twice. */
static inline __attribute__((always_inline)) void multiply_all(size_t tile, size_t vectors, size_t windows, size_t size,
                                                               const size_t *at, const float *band, size_t step,
                                                               const float *k, size_t f, const float *bias, float *y)
{
    for (size_t r = 0; r < windows; r += tile) {
        size_t from = r + tile <= windows ? r : windows - tile;
        multiply(tile, vectors, size, at, band + from * step, step, k, f, bias, y + from * f);
    }
}

/* The height that needs the least time for a row. Low tiles keep the multipliers less busy: a third of `time` is what a tile
 * costs in windows of a high one. */
static size_t best_tile(size_t windows)
{
    static const size_t time[] = {[4] = 15, [5] = 16, [6] = 18};
    size_t best = TILE;

    if (windows < TILE)
        return windows;
    for (size_t tile = TILE - 1; tile >= 4; tile--)
        if ((windows + tile - 1) / tile * time[tile] < (windows + best - 1) / best * time[best])
            best = tile;
    return best;
}

LIP__FUSED static void multiply_row(size_t tile, size_t windows, size_t size, const size_t *at, const float *band,
                                    size_t step, const float *k, size_t f, const float *bias, float *y)
{
    for (size_t j = 0; j < f; j += 2 * LANES)
        WITH_TILE(multiply_all, tile, f - j > LANES, windows, size, at, band, step, k + j, f, bias + j, y + j)
}

/* to (rows, padded f) <- from (rows, f); what is added is 0. */
static void widen(const float *from, size_t rows, size_t f, float *to)
{
    for (size_t i = 0; i < rows; i++) {
        memcpy(to + i * padded(f), from + i * f, f * sizeof *to);
        memset(to + i * padded(f) + f, 0, (padded(f) - f) * sizeof *to);
    }
}

void lip__small_conv(const struct lip__windows *g, size_t n, const float *x, const float *k, size_t f, const float *bias,
                     float *y, float *scratch)
{
    struct layout s = lay_out(g, f, scratch);
    size_t size = lip__window_size(g), tile = best_tile(g->ow);

    memset(scratch, 0, (size_t)(s.kernel - scratch) * sizeof *scratch);
    locate(g, s.at);
    if (bias)
        memcpy(s.bias, bias, f * sizeof *bias);
    if (f != s.f) {
        widen(k, size, f, s.kernel);
        k = s.kernel;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < g->oh; p++) {
            float *row = y + (i * g->oh + p) * g->ow * f, *to = f == s.f ? row : s.row;
            fill_band(g, x + i * g->h * g->w * g->c, p, s.band);
            multiply_row(tile, g->ow, size, s.at, s.band, g->sw * g->c, k, s.f, s.bias, to);
            for (size_t r = 0; f != s.f && r < g->ow; r++)
                memcpy(row + r * f, to + r * s.f, f * sizeof *row);
        }
}

/* ---- gradient ------------------------------------------------------------------------------------------ */

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

    memset(scratch, 0, (size_t)(s.row - scratch) * sizeof *scratch);
    locate(g, s.at);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < g->oh; p++) {
            const float *row = dy + (i * g->oh + p) * g->ow * f;
            fill_band(g, x + i * g->h * g->w * g->c, p, s.band);
            if (f != s.f) {
                widen(row, g->ow, f, s.row);
                row = s.row;
            }
            add_row(g->ow, size, s.at, s.band, g->sw * g->c, row, s.f, s.kernel);
        }
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < f; j++)
            dk[i * f + j] += s.kernel[i * s.f + j];
}
