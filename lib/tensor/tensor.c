/* tensor.c: shapes, and arrays with a shape. */
#include <onelip/tensor.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

size_t lip_shape_count(const lip_shape *shape)
{
    size_t count = 1;

    for (size_t i = 0; i < shape->rank; i++)
        count *= shape->dim[i];
    return count;
}

lip_err lip_shape_check(const lip_shape *shape, size_t size, size_t limit, lip_error *err)
{
    size_t bytes = size;
    char text[128];

    if (shape->rank > LIP_MAX_RANK)
        return lip__fail(err, LIP_ESHAPE, "shape of rank %zu, at most %d is possible", shape->rank, LIP_MAX_RANK);
    for (size_t i = 0; i < shape->rank; i++)
        if (!shape->dim[i])
            return LIP_OK; /* no elements, however large the others */
    for (size_t i = 0; i < shape->rank; i++)
        if (__builtin_mul_overflow(bytes, shape->dim[i], &bytes) || bytes > limit)
            return lip__fail(err, LIP_ESHAPE, "shape %s needs more than %zu bytes",
                             lip_shape_text(shape, text, sizeof text), limit);
    if (bytes > limit)
        return lip__fail(err, LIP_ESHAPE, "shape [] needs more than %zu bytes", limit);
    return LIP_OK;
}

bool lip_shape_equal(const lip_shape *a, const lip_shape *b)
{
    return a->rank == b->rank && !memcmp(a->dim, b->dim, a->rank * sizeof *a->dim);
}

char *lip_shape_text(const lip_shape *shape, char *text, size_t size)
{
    size_t at = 0;

    for (size_t i = 0; i < shape->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%zu", i ? "," : "[", shape->dim[i]);
    if (at < size)
        snprintf(text + at, size - at, shape->rank ? "]" : "[]");
    return text;
}

lip_err lip_tensor_init(lip_tensor *t, const lip_shape *shape, lip_error *err)
{
    size_t count;
    lip_err rc;

    memset(t, 0, sizeof *t);
    rc = lip_shape_check(shape, sizeof(float), SIZE_MAX / 2, err);
    if (rc)
        return rc;
    count = lip_shape_count(shape);
    t->data = lip__alloc(count ? count : 1, sizeof(float));
    if (!t->data)
        return lip__nomem(err, count * sizeof(float));
    t->shape = *shape;
    return LIP_OK;
}

void lip_tensor_clear(lip_tensor *t)
{
    lip__free(t->data);
    memset(t, 0, sizeof *t);
}
