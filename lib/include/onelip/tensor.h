/* tensor.h: shapes, and float32 arrays with a shape.
 *
 * Arrays are row-major, channels last unless a layer says otherwise, and 64-byte aligned when the
 * library allocates them. A shape of a model's input or output leaves the batch axis out.
 */
#ifndef ONELIP_TENSOR_H
#define ONELIP_TENSOR_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LIP_MAX_RANK 8

typedef struct lip_shape {
    size_t rank;
    size_t dim[LIP_MAX_RANK];
} lip_shape;

typedef struct lip_tensor {
    lip_shape shape;
    float *data;
} lip_tensor;

/* lip_shape_count: the number of elements, 1 for rank 0. The product must fit a size_t: see
 * lip_shape_check. Threads: safe. */
size_t lip_shape_count(const lip_shape *shape);

/* lip_shape_check: that rank <= LIP_MAX_RANK and the elements, times `size` bytes, fit `limit` bytes.
 * Returns LIP_OK or LIP_ESHAPE. Memory: none. Threads: safe. */
lip_err lip_shape_check(const lip_shape *shape, size_t size, size_t limit, lip_error *err);

bool lip_shape_equal(const lip_shape *a, const lip_shape *b);

/* lip_shape_text: "[2,784]" into text[size]; returns text. */
char *lip_shape_text(const lip_shape *shape, char *text, size_t size);

/* lip_tensor_init: shape's elements, zero-filled and 64-byte aligned. Returns LIP_OK, LIP_ESHAPE or
 * LIP_ENOMEM (t then holds zeros and may be cleared). Memory: the caller calls lip_tensor_clear. Threads: safe on distinct t. */
lip_err lip_tensor_init(lip_tensor *t, const lip_shape *shape, lip_error *err);

/* lip_tensor_clear: free what init took and leave zeros; may be repeated. */
void lip_tensor_clear(lip_tensor *t);

#ifdef __cplusplus
}
#endif
#endif
