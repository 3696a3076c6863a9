/* im2col.h: the windows of a convolution: where they lie, and copying them to and from a matrix with one window a row.
 *
 * Images are (n, h, w, c). Window (p, r) of an image covers rows p sh - top .. and columns r sw - left .., kh by kw pixels, with
 * dilation every dh-th row and dw-th column; what lies outside the image is 0. Windows of a batch are numbered image by image, row by row.
 */
#ifndef LIP_IM2COL_H
#define LIP_IM2COL_H

#include <stdbool.h>
#include <stddef.h>

struct lip__windows {
    size_t h, w, c;   /* the image */
    size_t kh, kw;    /* the window */
    size_t sh, sw;    /* steps between windows */
    size_t dh, dw;    /* steps between the pixels of a window; 0 is 1 */
    size_t oh, ow;    /* windows down and across */
    size_t top, left; /* zeros before the image */
};

/* lip__windows_set: oh, ow, top and left from the rest, for TensorFlow's 'same' padding (semantics.md 5.2: the odd zero
 * goes behind) or 'valid'. Returns false when 'valid' leaves no window. */
bool lip__windows_set(struct lip__windows *g, bool same);

/* lip__dilated: whether a window has gaps. lip__reach: pixels from the first to the last of q that are d apart. */
static inline bool lip__dilated(const struct lip__windows *g)
{
    return g->dh > 1 || g->dw > 1;
}

static inline size_t lip__reach(size_t q, size_t d)
{
    return (q - 1) * (d ? d : 1) + 1;
}

/* Floats in one window: kh kw c. */
size_t lip__window_size(const struct lip__windows *g);

/* lip__im2col: panel (rows, kh kw c) <- windows first .. first + rows - 1 of images x. */
void lip__im2col(const struct lip__windows *g, const float *x, size_t first, size_t rows, float *panel);

/* lip__col2im: the adjoint: adds each row of the panel to dx where its window lies. */
void lip__col2im(const struct lip__windows *g, const float *panel, size_t first, size_t rows, float *dx);

#endif
