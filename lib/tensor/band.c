/* band.c: rows of an image with zeros around them. */
#include "tensor/band.h"

#include <string.h>

size_t lip__band_width(const struct lip__windows *g)
{
    return ((g->ow - 1) * g->sw + lip__reach(g->kw, g->dw)) * g->c;
}

size_t lip__band_size(const struct lip__windows *g, size_t rows)
{
    return ((rows - 1) * g->sh + lip__reach(g->kh, g->dh)) * lip__band_width(g);
}

void lip__band_places(const struct lip__windows *g, size_t *place)
{
    size_t down = (g->dh ? g->dh : 1) * lip__band_width(g), across = (g->dw ? g->dw : 1) * g->c;

    for (size_t a = 0; a < g->kh; a++)
        for (size_t b = 0; b < g->kw; b++)
            for (size_t c = 0; c < g->c; c++)
                *place++ = a * down + b * across + c;
}

void lip__band_fill(const struct lip__windows *g, const float *x, size_t first, size_t rows, float *band)
{
    size_t width = lip__band_width(g), left = g->left * g->c, image = g->w * g->c, n = lip__band_size(g, rows) / width;
    size_t inside = width - left < image ? width - left : image, right = width - left - inside;

    for (size_t a = 0; a < n; a++, band += width) {
        size_t i = first * g->sh + a - g->top; /* above the image it wraps */
        if (i >= g->h) {
            memset(band, 0, width * sizeof *band);
            continue;
        }
        memset(band, 0, left * sizeof *band);
        memcpy(band + left, x + i * image, inside * sizeof *band);
        memset(band + left + inside, 0, right * sizeof *band);
    }
}
