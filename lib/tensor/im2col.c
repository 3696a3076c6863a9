/* im2col.c: windows of images to rows of a matrix, and back. */
#include "tensor/im2col.h"

#include <stdint.h>
#include <string.h>

/* One axis: n pixels, window q, step s. */
static bool axis(size_t n, size_t q, size_t s, bool same, size_t *out, size_t *before)
{
    size_t end;

    if (!same) {
        *before = 0;
        *out = n < q ? 0 : (n - q) / s + 1;
        return *out;
    }
    *out = (n + s - 1) / s;
    end = (*out - 1) * s + q;
    *before = end > n ? (end - n) / 2 : 0;
    return true;
}

bool lip__windows_set(struct lip__windows *g, bool same)
{
    bool rows = axis(g->h, lip__reach(g->kh, g->dh), g->sh, same, &g->oh, &g->top);

    return axis(g->w, lip__reach(g->kw, g->dw), g->sw, same, &g->ow, &g->left) && rows;
}

size_t lip__window_size(const struct lip__windows *g)
{
    return g->kh * g->kw * g->c;
}

/* Of q pixels that begin at pixel `first` - before, those inside 0..n-1: from *skip, *inside many. */
static void clip(size_t first, size_t before, size_t q, size_t n, size_t *skip, size_t *inside)
{
    size_t from = first < before ? before - first : 0;
    size_t to = n + before - first < q ? n + before - first : q;

    *skip = from;
    *inside = to > from ? to - from : 0;
}

/* A window seen from the image: rows [skip, skip + inside) of it, then columns. first is the number of the window. */
struct view {
    size_t row, rows, column, columns; /* in the window */
    size_t at;                         /* in the images: where that part begins */
};

static struct view look(const struct lip__windows *g, size_t first)
{
    size_t r = first % g->ow, p = first / g->ow % g->oh, image = first / g->ow / g->oh;
    struct view v;

    clip(p * g->sh, g->top, g->kh, g->h, &v.row, &v.rows);
    clip(r * g->sw, g->left, g->kw, g->w, &v.column, &v.columns);
    v.at = ((image * g->h + p * g->sh + v.row - g->top) * g->w + r * g->sw + v.column - g->left) * g->c;
    return v;
}

/* Where in the images pixel (a, b) of a window lies; SIZE_MAX: outside. */
static size_t pixel(const struct lip__windows *g, size_t window, size_t a, size_t b)
{
    size_t r = window % g->ow, p = window / g->ow % g->oh, image = window / g->ow / g->oh;
    size_t row = p * g->sh + a * (g->dh ? g->dh : 1) - g->top, column = r * g->sw + b * (g->dw ? g->dw : 1) - g->left;

    return row < g->h && column < g->w ? ((image * g->h + row) * g->w + column) * g->c : SIZE_MAX; /* or it wrapped */
}

/* Of windows with gaps, pixel by pixel. */
static void spread(const struct lip__windows *g, const float *x, size_t first, size_t rows, float *panel)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t tap = 0; tap < g->kh * g->kw; tap++, panel += g->c) {
            size_t at = pixel(g, first + i, tap / g->kw, tap % g->kw);
            if (at == SIZE_MAX)
                memset(panel, 0, g->c * sizeof *panel);
            else
                memcpy(panel, x + at, g->c * sizeof *panel);
        }
}

static void gather(const struct lip__windows *g, const float *panel, size_t first, size_t rows, float *dx)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t tap = 0; tap < g->kh * g->kw; tap++, panel += g->c) {
            size_t at = pixel(g, first + i, tap / g->kw, tap % g->kw);
            for (size_t j = 0; at != SIZE_MAX && j < g->c; j++)
                dx[at + j] += panel[j];
        }
}

void lip__im2col(const struct lip__windows *g, const float *x, size_t first, size_t rows, float *panel)
{
    size_t line = g->kw * g->c, size = g->kh * line;

    if (lip__dilated(g)) {
        spread(g, x, first, rows, panel);
        return;
    }
    for (size_t i = 0; i < rows; i++, panel += size) {
        struct view v = look(g, first + i);
        if (v.rows < g->kh || v.columns < g->kw)
            memset(panel, 0, size * sizeof *panel);
        for (size_t a = 0; a < v.rows; a++)
            memcpy(panel + (v.row + a) * line + v.column * g->c, x + v.at + a * g->w * g->c,
                   v.columns * g->c * sizeof *panel);
    }
}

void lip__col2im(const struct lip__windows *g, const float *panel, size_t first, size_t rows, float *dx)
{
    size_t line = g->kw * g->c, size = g->kh * line;

    if (lip__dilated(g)) {
        gather(g, panel, first, rows, dx);
        return;
    }
    for (size_t i = 0; i < rows; i++, panel += size) {
        struct view v = look(g, first + i);
        for (size_t a = 0; a < v.rows; a++) {
            const float *from = panel + (v.row + a) * line + v.column * g->c;
            float *to = dx + v.at + a * g->w * g->c;
            for (size_t j = 0; j < v.columns * g->c; j++)
                to[j] += from[j];
        }
    }
}
