/* group_conv.c: a group's channels, kernel and results are copied out of their rows, so that conv.c sees a plain convolution of
 * one image. The copies cost a group's channels once per image, the products what they cost without groups or less. */
#include "tensor/group_conv.h"

#include <string.h>

#include "tensor/tile.h"

/* What a group works on: rows of c / groups channels, taps of (c / groups, f / groups), rows of f / groups results. The kernel
 * is not copied where it is packed. */
struct part {
    struct lip__windows g;
    size_t f, pixels, places, taps;
    float *image, *kernel, *made, *rest;
};

static size_t up(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static struct part part_of(const struct lip__windows *g, size_t groups, size_t f, bool packed, float *scratch)
{
    struct part p = {.g = *g, .f = f / groups, .pixels = g->h * g->w, .places = g->oh * g->ow, .taps = lip__window_size(g) / groups};

    p.g.c = g->c / groups;
    if (scratch) {
        p.image = scratch;
        p.kernel = p.image + up(p.pixels * p.g.c);
        p.made = p.kernel + (packed ? 0 : up(p.taps * p.f));
        p.rest = p.made + up(p.places * p.f);
    }
    return p;
}

/* Columns at.. of rows of `wide` numbers, to or from rows of `few`. */
static void take(const float *from, size_t rows, size_t wide, size_t at, size_t few, float *to)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * few, from + i * wide + at, few * sizeof *to);
}

static void put(const float *from, size_t rows, size_t wide, size_t at, size_t few, float *to)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * wide + at, from + i * few, few * sizeof *to);
}

size_t lip__group_conv_scratch(const struct lip__windows *g, size_t groups, size_t f)
{
    struct part p = part_of(g, groups, f, false, NULL);

    if (groups == 1)
        return lip__conv_scratch(g, f);
    return up(p.pixels * p.g.c) + up(p.taps * p.f) + up(p.places * p.f) + lip__conv_scratch(&p.g, p.f);
}

size_t lip__group_conv_packed_size(const struct lip__windows *g, size_t groups, size_t f)
{
    struct part p = part_of(g, groups, f, false, NULL);

    return groups * up(lip__conv_packed_size(&p.g, p.f));
}

/* One group behind the other. */
void lip__group_conv_pack(const struct lip__windows *g, size_t groups, const float *k, size_t f, float *packed)
{
    struct part p = part_of(g, groups, f, false, NULL);

    for (size_t j = 0; j < groups; j++)
        lip__pack(false, p.taps, p.f, 0, p.taps, k + j * p.f, f, packed + j * up(lip__conv_packed_size(&p.g, p.f)));
}

size_t lip__group_conv_packed_scratch(const struct lip__windows *g, size_t groups, size_t f)
{
    struct part p = part_of(g, groups, f, false, NULL);

    if (groups == 1)
        return lip__conv_packed_scratch(g);
    return up(p.pixels * p.g.c) + up(p.places * p.f) + lip__conv_packed_scratch(&p.g);
}

void lip__group_conv(const struct lip__windows *g, size_t groups, size_t n, const float *x, const float *k, const float *packed,
                     size_t f, const float *bias, float *y, float *scratch)
{
    struct part p = part_of(g, groups, f, packed, scratch);

    if (groups == 1) {
        lip__conv(g, n, x, k, packed, f, bias, y, scratch);
        return;
    }
    for (size_t j = 0; j < groups; j++) {
        const float *panels = packed ? packed + j * up(lip__conv_packed_size(&p.g, p.f)) : NULL;
        if (!packed)
            take(k, p.taps, f, j * p.f, p.f, p.kernel);
        for (size_t i = 0; i < n; i++) {
            take(x + i * p.pixels * g->c, p.pixels, g->c, j * p.g.c, p.g.c, p.image);
            lip__conv(&p.g, 1, p.image, p.kernel, panels, p.f, bias ? bias + j * p.f : NULL, p.made, p.rest);
            put(p.made, p.places, f, j * p.f, p.f, y + i * p.places * f);
        }
    }
}

void lip__group_conv_adjoint(const struct lip__windows *g, size_t groups, size_t n, const float *dy, const float *k, size_t f,
                             float *dx, float *scratch)
{
    struct part p = part_of(g, groups, f, false, scratch);

    if (groups == 1) {
        lip__conv_adjoint(g, n, dy, k, NULL, f, NULL, dx, scratch);
        return;
    }
    for (size_t j = 0; j < groups; j++) {
        take(k, p.taps, f, j * p.f, p.f, p.kernel);
        for (size_t i = 0; i < n; i++) {
            take(dy + i * p.places * f, p.places, f, j * p.f, p.f, p.made);
            lip__conv_adjoint(&p.g, 1, p.made, p.kernel, NULL, p.f, NULL, p.image, p.rest);
            put(p.image, p.pixels, g->c, j * p.g.c, p.g.c, dx + i * p.pixels * g->c);
        }
    }
}

void lip__group_conv_gradient(const struct lip__windows *g, size_t groups, size_t n, const float *x, const float *dy, size_t f,
                              float *dk, float *scratch)
{
    struct part p = part_of(g, groups, f, false, scratch);

    if (groups == 1) {
        lip__conv_gradient(g, n, x, dy, f, dk, scratch);
        return;
    }
    memset(dk, 0, p.taps * f * sizeof *dk);
    for (size_t j = 0; j < groups; j++)
        for (size_t i = 0; i < n; i++) {
            take(x + i * p.pixels * g->c, p.pixels, g->c, j * p.g.c, p.g.c, p.image);
            take(dy + i * p.places * f, p.places, f, j * p.f, p.f, p.made);
            lip__conv_gradient(&p.g, 1, p.image, p.made, p.f, p.kernel, p.rest);
            for (size_t tap = 0; tap < p.taps; tap++)
                for (size_t o = 0; o < p.f; o++)
                    dk[tap * f + j * p.f + o] += p.kernel[tap * p.f + o];
        }
}
