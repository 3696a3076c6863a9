/* conv.c: convolutions as matrix products.
 *
 * Windows become rows of a panel that fits half a second-level cache, and the panel is multiplied by the kernel as a matrix
 * (kh kw c, f): one panel per thread, however large the batch. Small windows make panels that cost more to copy than to
 * multiply; small_conv.c reads them where they lie. With steps of one pixel the adjoint is a convolution of dy with the
 * kernel turned by 180 degrees; with longer ones rows of dy k' are added up where their windows lie.
 */
#include "tensor/conv.h"

#include <stdbool.h>
#include <string.h>

#include <onelip/model.h>

#include "base/base.h"
#include "tensor/gemm.h"
#include "tensor/small_conv.h"

enum {
    PANEL = 65536, /* floats: 256 KiB */
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

static bool is_small(const struct lip__windows *g)
{
    return !is_matrix(g) && !lip__dilated(g) && lip__small_conv_fits(g);
}

static size_t forward_scratch(const struct lip__windows *g, size_t f)
{
    return up(is_small(g) ? lip__small_conv_scratch(g, f) : panel_size(g));
}

void lip__conv(const struct lip__windows *g, size_t n, const float *x, const float *k, size_t f, const float *bias, float *y,
               float *scratch)
{
    size_t size = lip__window_size(g), all = n * g->oh * g->ow;

    if (is_small(g)) {
        lip__small_conv(g, n, x, k, f, bias, y, scratch);
        return;
    }
    for (size_t first = 0, rows; first < all; first += rows) {
        const float *panel = scratch;
        rows = smaller(panel_rows(g), all - first);
        if (is_matrix(g))
            panel = x + first * size;
        else
            lip__im2col(g, x, first, rows, scratch);
        lip__fill_bias(y + first * f, rows, f, bias);
        lip__gemm(false, false, rows, f, size, 1, panel, size, k, f, 1, y + first * f, f);
    }
}

/* ---- adjoint ------------------------------------------------------------------------------------------ */

/* Whether the adjoint is done as a convolution. */
static bool turns(const struct lip__windows *g)
{
    return g->sh * g->sw == 1 && g->c >= FEW && !is_matrix(g);
}

static struct lip__windows turned(const struct lip__windows *g, size_t f)
{
    return (struct lip__windows){.h = g->oh, .w = g->ow, .c = f, .kh = g->kh, .kw = g->kw, .sh = 1, .sw = 1, .dh = g->dh,
                                 .dw = g->dw, .oh = g->h, .ow = g->w, .top = lip__reach(g->kh, g->dh) - 1 - g->top,
                                 .left = lip__reach(g->kw, g->dw) - 1 - g->left};
}

/* to (kh, kw, f, c) <- k (kh, kw, c, f), both spatial axes backwards. */
static void turn(const struct lip__windows *g, const float *k, size_t f, float *to)
{
    for (size_t tap = g->kh * g->kw; tap-- > 0; k += g->c * f)
        for (size_t i = 0; i < f; i++)
            for (size_t j = 0; j < g->c; j++)
                to[(tap * f + i) * g->c + j] = k[j * f + i];
}

static size_t adjoint_scratch(const struct lip__windows *g, size_t f)
{
    struct lip__windows t;

    if (!turns(g))
        return panel_size(g);
    t = turned(g, f);
    return up(lip__window_size(g) * f) + forward_scratch(&t, g->c);
}

void lip__conv_adjoint(const struct lip__windows *g, size_t n, const float *dy, const float *k, size_t f, const float *bias,
                       float *dx, float *scratch)
{
    size_t size = lip__window_size(g), all = n * g->oh * g->ow;

    if (turns(g)) {
        struct lip__windows t = turned(g, f);
        turn(g, k, f, scratch);
        lip__conv(&t, n, dy, scratch, g->c, bias, dx, scratch + up(size * f));
        return;
    }
    lip__fill_bias(dx, n * g->h * g->w, g->c, bias);
    if (is_matrix(g)) {
        lip__gemm(false, true, all, size, f, 1, dy, f, k, f, 1, dx, size);
        return;
    }
    for (size_t first = 0, rows; first < all; first += rows) {
        rows = smaller(panel_rows(g), all - first);
        lip__gemm(false, true, rows, size, f, 1, dy + first * f, f, k, f, 0, scratch, size);
        lip__col2im(g, scratch, first, rows, dx);
    }
}

/* ---- gradient ----------------------------------------------------------------------------------------- */

size_t lip__conv_scratch(const struct lip__windows *g, size_t f)
{
    return larger(adjoint_scratch(g, f), forward_scratch(g, f) + up(lip__window_size(g) * f));
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
    return s->scratch + i * lip__conv_scratch(s->g, s->f) + forward_scratch(s->g, s->f);
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
