/* conv.c: convolutions as matrix products.
 *
 * Forward, a band of the image is copied with the zeros around it, and the kernel's panels are multiplied by windows where they
 * lie in it. With steps of one pixel the adjoint is a convolution of dy with the kernel turned by 180 degrees; with longer ones
 * rows of dy k' are added up where their windows lie. For the gradient windows become rows of a panel that fits half a
 * second-level cache, however large the batch, but small ones, which small_conv.c reads where they lie.
 */
#include "tensor/conv.h"

#include <stdbool.h>
#include <string.h>

#include <onelip/model.h>

#include "base/base.h"
#include "tensor/band.h"
#include "tensor/gemm.h"
#include "tensor/small_conv.h"
#include "tensor/tile.h"

enum {
    PANEL = 65536, /* floats: 256 KiB */
    BAND = 32768,  /* floats, unless one row of windows reads more */
    FEW = 4,       /* so few filters would leave most of a vector empty */
    ROWS = 32,     /* summed in float before they go into a double */
    COLUMNS = 64
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t up(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* A 1x1 window that steps by one pixel: the images are their own panel. */
static bool is_matrix(const struct lip__windows *g)
{
    return g->kh * g->kw == 1 && g->sh * g->sw == 1;
}

static size_t panel_rows(const struct lip__windows *g)
{
    return larger(1, PANEL / lip__window_size(g));
}

static size_t panel_size(const struct lip__windows *g)
{
    return up(panel_rows(g) * lip__window_size(g));
}

void lip__fill_bias(float *c, size_t rows, size_t n, const float *bias)
{
    if (!bias)
        memset(c, 0, rows * n * sizeof *c);
    else
        for (size_t i = 0; i < rows; i++)
            memcpy(c + i * n, bias, n * sizeof *c);
}

LIP__CLONES static void add_block(const float *restrict a, size_t rows, size_t n, size_t columns, float *restrict sum)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            sum[j] += a[i * n + j];
}

void lip__sum_columns(const float *a, size_t rows, size_t n, float *sum)
{
    for (size_t j = 0; j < n; j += COLUMNS) {
        size_t columns = smaller(COLUMNS, n - j);
        double total[COLUMNS] = {0};
        for (size_t i = 0; i < rows; i += ROWS) {
            float part[COLUMNS] = {0};
            add_block(a + i * n + j, smaller(ROWS, rows - i), n, columns, part);
            for (size_t c = 0; c < columns; c++)
                total[c] += part[c];
        }
        for (size_t c = 0; c < columns; c++)
            sum[j + c] = (float)total[c];
    }
}

/* ---- forward ------------------------------------------------------------------------------------------ */

/* Rows of windows that share a band. */
static size_t band_rows(const struct lip__windows *g)
{
    size_t rows = g->oh;

    while (rows > 1 && lip__band_size(g, rows) > BAND)
        rows = (rows + 1) / 2;
    return rows;
}

size_t lip__conv_packed_size(const struct lip__windows *g, size_t f)
{
    return lip__packed_size(lip__window_size(g), f);
}

void lip__conv_pack(const struct lip__windows *g, const float *k, size_t f, float *packed)
{
    lip__pack(false, lip__window_size(g), f, 0, lip__window_size(g), k, f, packed);
}

size_t lip__conv_packed_scratch(const struct lip__windows *g)
{
    if (is_matrix(g))
        return 0;
    return up(lip__band_size(g, band_rows(g))) + up(lip__window_size(g) * (sizeof(size_t) / sizeof(float)));
}

static void convolve(const struct lip__windows *g, size_t n, const float *x, const float *packed, size_t f, const float *bias,
                     float *y, float *scratch)
{
    size_t size = lip__window_size(g), most = band_rows(g);
    size_t *place = (size_t *)scratch;
    float *band = scratch + up(size * (sizeof *place / sizeof *band));

    if (is_matrix(g)) {
        lip__gemm_packed(n * g->h * g->w, f, size, x, size, packed, bias, y, f);
        return;
    }
    lip__band_places(g, place);
    for (; n; n--, x += g->h * g->w * g->c)
        for (size_t p = 0, rows; p < g->oh; p += rows, y += rows * g->ow * f) {
            rows = smaller(most, g->oh - p);
            lip__band_fill(g, x, p, rows, band);
            lip__gemm_scattered(&(struct lip__scattered){.blocks = rows, .rows = g->ow, .at = band, .row = g->sw * g->c,
                                                         .block = g->sh * lip__band_width(g), .place = place},
                                f, size, packed, bias, y);
        }
}

void lip__conv(const struct lip__windows *g, size_t n, const float *x, const float *k, const float *packed, size_t f,
               const float *bias, float *y, float *scratch)
{
    if (!packed) {
        packed = scratch;
        lip__conv_pack(g, k, f, scratch);
        scratch += up(lip__conv_packed_size(g, f));
    }
    convolve(g, n, x, packed, f, bias, y, scratch);
}

/* ---- adjoint ------------------------------------------------------------------------------------------ */

/* Whether the adjoint is done as a convolution. */
static bool turns(const struct lip__windows *g)
{
    return g->sh * g->sw == 1 && g->c >= FEW;
}

static struct lip__windows turned(const struct lip__windows *g, size_t f)
{
    return (struct lip__windows){.h = g->oh, .w = g->ow, .c = f, .kh = g->kh, .kw = g->kw, .sh = 1, .sw = 1, .dh = g->dh,
                                 .dw = g->dw, .oh = g->h, .ow = g->w, .top = lip__reach(g->kh, g->dh) - 1 - g->top,
                                 .left = lip__reach(g->kw, g->dw) - 1 - g->left};
}

size_t lip__conv_adjoint_packed_size(const struct lip__windows *g, size_t f)
{
    return turns(g) ? lip__packed_size(g->kh * g->kw * f, g->c) : 0;
}

/* Panels of k turned: (kh, kw, f, c), both spatial axes backwards. */
void lip__conv_adjoint_pack(const struct lip__windows *g, const float *k, size_t f, float *packed)
{
    size_t taps = g->kh * g->kw;

    for (size_t tap = 0; tap < taps; tap++)
        lip__pack(true, taps * f, g->c, tap * f, f, k + (taps - 1 - tap) * g->c * f, f, packed);
}

size_t lip__conv_adjoint_packed_scratch(const struct lip__windows *g, size_t f)
{
    struct lip__windows t = turned(g, f);

    return turns(g) ? lip__conv_packed_scratch(&t) : panel_size(g);
}

void lip__conv_adjoint(const struct lip__windows *g, size_t n, const float *dy, const float *k, const float *packed, size_t f,
                       const float *bias, float *dx, float *scratch)
{
    size_t size = lip__window_size(g), all = n * g->oh * g->ow;

    if (turns(g)) {
        struct lip__windows t = turned(g, f);
        if (!packed) {
            packed = scratch;
            lip__conv_adjoint_pack(g, k, f, scratch);
            scratch += up(lip__conv_adjoint_packed_size(g, f));
        }
        convolve(&t, n, dy, packed, g->c, bias, dx, scratch);
        return;
    }
    lip__fill_bias(dx, n * g->h * g->w, g->c, bias);
    for (size_t first = 0, rows; first < all; first += rows) {
        rows = smaller(panel_rows(g), all - first);
        lip__gemm(false, true, rows, size, f, 1, dy + first * f, f, k, f, 0, scratch, size);
        lip__col2im(g, scratch, first, rows, dx);
    }
}

/* ---- gradient ----------------------------------------------------------------------------------------- */

static bool is_small(const struct lip__windows *g)
{
    return !is_matrix(g) && !lip__dilated(g) && lip__small_conv_fits(g);
}

/* Beside a share of the gradient. */
static size_t gradient_scratch(const struct lip__windows *g, size_t f)
{
    return is_small(g) ? up(lip__small_conv_scratch(g, f)) : is_matrix(g) ? 0 : panel_size(g);
}

size_t lip__conv_scratch(const struct lip__windows *g, size_t f)
{
    size_t forward = up(lip__conv_packed_size(g, f)) + lip__conv_packed_scratch(g);
    size_t adjoint = up(lip__conv_adjoint_packed_size(g, f)) + lip__conv_adjoint_packed_scratch(g, f);

    return larger(larger(forward, adjoint), gradient_scratch(g, f) + up(lip__window_size(g) * f));
}

/* Shares of a batch: windows first .. last - 1; whole images where small_conv.c does the work. */
struct share {
    const struct lip__windows *g;
    size_t n, f, shares;
    const float *x, *dy;
    float *scratch;
};

static float *sum_of(const struct share *s, size_t i)
{
    return s->scratch + i * lip__conv_scratch(s->g, s->f) + gradient_scratch(s->g, s->f);
}

static void add_share(void *ctx, size_t i, size_t thread)
{
    const struct share *s = ctx;
    const struct lip__windows *g = s->g;
    size_t f = s->f, size = lip__window_size(g), unit = is_small(g) ? g->oh * g->ow : 1, all = s->n * g->oh * g->ow / unit;
    size_t first = all * i / s->shares * unit, last = all * (i + 1) / s->shares * unit;
    float *work = s->scratch + i * lip__conv_scratch(g, f), *dk = sum_of(s, i);

    (void)thread;
    memset(dk, 0, size * f * sizeof *dk);
    if (is_small(g)) {
        lip__small_conv_gradient(g, (last - first) / unit, s->x + first / unit * g->h * g->w * g->c, s->dy + first * f, f, dk,
                                 work);
        return;
    }
    for (size_t rows; first < last; first += rows) {
        const float *panel = work;
        rows = smaller(panel_rows(g), last - first);
        if (is_matrix(g))
            panel = s->x + first * size;
        else
            lip__im2col(g, s->x, first, rows, work);
        lip__gemm(true, false, size, f, rows, 1, panel, size, s->dy + first * f, f, 1, dk, f);
    }
}

void lip__conv_gradient(const struct lip__windows *g, size_t n, const float *x, const float *dy, size_t f, float *dk,
                        float *scratch)
{
    struct share s = {.g = g, .n = n, .f = f, .shares = lip_threads(), .x = x, .dy = dy, .scratch = scratch};
    size_t count = lip__window_size(g) * f;

    lip__parallel(s.shares, add_share, &s);
    memcpy(dk, sum_of(&s, 0), count * sizeof *dk);
    for (size_t i = 1; i < s.shares; i++) {
        const float *part = sum_of(&s, i);
        for (size_t j = 0; j < count; j++)
            dk[j] += part[j];
    }
}
