/* values.h: tensor data of any numeric datatype, as JSON or as little-endian bytes, to float32. */
#ifndef SERVER_VALUES_H
#define SERVER_VALUES_H

#include <onelip/tensor.h>
#include <stdbool.h>
#include <stddef.h>

#include "codec.h"

/* values_from_bytes: n values; no alignment is needed. Integers and FP64 are rounded to the nearest float32. false: a finite
 * FP64 became infinite. */
bool values_from_bytes(enum codec_type type, const unsigned char *bytes, size_t n, float *x);

/* values_from_json: an array, flat or nested to the shape. Floats take any RFC 8259 number, the bare tokens and the strings
 * NaN, Infinity and -Infinity; integers take integers within their range; BOOL takes true and false.
 *
 * at, end  "[" to "]"
 * x        count elements, count being the shape's
 *
 * Returns  NULL, or the code of what is wrong ("bad_json", "size_mismatch", "datatype_mismatch"), with a sentence in why. */
const char *values_from_json(enum codec_type type, const lip_shape *shape, size_t count, const char *at, const char *end,
                             float *x, char *why, size_t size);

#endif
