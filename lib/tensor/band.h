/* band.h: a stretch of an image as windows see it: with the zeros around it, so that no window is special.
 *
 * Windows as in im2col.h. A band for some rows of windows holds the image's rows that they read, one behind the other.
 */
#ifndef LIP_BAND_H
#define LIP_BAND_H

#include "tensor/im2col.h"

/* Floats in a row of a band, and in a band for so many rows of windows. */
size_t lip__band_width(const struct lip__windows *g);
size_t lip__band_size(const struct lip__windows *g, size_t rows);

/* lip__band_places: where the numbers of a band's first window lie, lip__window_size many. Those of its window (p, r) lie
 * (p sh lip__band_width + r sw c) further on. */
void lip__band_places(const struct lip__windows *g, size_t *place);

/* lip__band_fill: band <- what rows first .. first + rows - 1 of windows read of image x. */
void lip__band_fill(const struct lip__windows *g, const float *x, size_t first, size_t rows, float *band);

#endif
