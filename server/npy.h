/* npy.h: one array in NumPy's file format. Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays". */
#ifndef SERVER_NPY_H
#define SERVER_NPY_H

#include <onelip/tensor.h>
#include <stdbool.h>
#include <stddef.h>

#include "codec.h"

/* npy_is: whether bytes begin as such a file does. */
bool npy_is(const unsigned char *bytes, size_t size);

/* npy_write: C order; any type but BYTES and BF16. malloc'd; NULL: out of memory. */
void *npy_write(enum codec_type type, const lip_shape *shape, const void *x, size_t *size);

/* npy_read: bool, integers and floats of 2, 4 and 8 bytes, little-endian, either order, rounded to float32. Sizes are checked
 * before memory is taken. *x is malloc'd. false: what is wrong is in why. */
bool npy_read(const unsigned char *bytes, size_t size, lip_shape *shape, float **x, char *why, size_t why_size);

#endif
