/* idx.c: the format of the MNIST database: two zeros, a type, the number of axes, each axis in four bytes, then the data;
 * all of it big-endian. */
#include <stdint.h>

#include "array.h"

static enum codec_type type_of(unsigned char code)
{
    switch (code) {
    case 0x08:
        return CODEC_UINT8;
    case 0x09:
        return CODEC_INT8;
    case 0x0b:
        return CODEC_INT16;
    case 0x0c:
        return CODEC_INT32;
    case 0x0d:
        return CODEC_FP32;
    case 0x0e:
        return CODEC_FP64;
    default:
        return CODEC_TYPES;
    }
}

bool idx_is(const unsigned char *bytes, size_t size)
{
    return size >= 4 && !bytes[0] && !bytes[1] && type_of(bytes[2]) != CODEC_TYPES && bytes[3] >= 1 && bytes[3] <= LIP_MAX_RANK;
}

bool idx_parse(const unsigned char *bytes, size_t size, struct array *array, struct failure *f)
{
    size_t start, each;
    lip_error err = {0};

    if (!idx_is(bytes, size))
        return failure_set(f, 422, "bad_file", "no IDX file of 1 to %d axes", LIP_MAX_RANK);
    start = 4 + 4 * (size_t)bytes[3];
    *array = (struct array){.type = type_of(bytes[2]), .shape.rank = bytes[3]};
    each = codec_type_size(array->type);
    array->swapped = each > 1;
    if (size < start)
        return failure_set(f, 422, "bad_file", "the IDX file ends in its header");
    for (size_t i = 0; i < array->shape.rank; i++) {
        const unsigned char *p = bytes + 4 + 4 * i;
        array->shape.dim[i] = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    }
    if (lip_shape_check(&array->shape, each, SIZE_MAX / 2, &err) || lip_shape_count(&array->shape) * each != size - start)
        return failure_set(f, 422, "bad_file", "the IDX file has %zu bytes of data; its header says something else", size - start);
    array->data = bytes + start;
    return true;
}
