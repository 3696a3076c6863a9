/* tensors_file.c: safetensors with every datatype, where the library reads those that are weights. */
#include <string.h>

#include "array.h"

static const struct {
    const char *name;
    enum codec_type type;
} types[] = {{"BOOL", CODEC_BOOL}, {"U8", CODEC_UINT8},  {"U16", CODEC_UINT16}, {"U32", CODEC_UINT32}, {"U64", CODEC_UINT64},
             {"I8", CODEC_INT8},   {"I16", CODEC_INT16}, {"I32", CODEC_INT32},  {"I64", CODEC_INT64},  {"F16", CODEC_FP16},
             {"BF16", CODEC_BF16}, {"F32", CODEC_FP32},  {"F64", CODEC_FP64}};
enum { TYPES = sizeof types / sizeof *types, HEADER_MAX = 1 << 20 };

const char *tensors_dtype(enum codec_type type)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].type == type)
            return types[i].name;
    return NULL;
}

static bool read_type(const char *name, enum codec_type *type)
{
    for (size_t i = 0; name && i < TYPES; i++)
        if (!strcmp(types[i].name, name)) {
            *type = types[i].type;
            return true;
        }
    return false;
}

/* One entry of the header against the `size` bytes behind it. */
static bool read_entry(const char *name, const json_t *v, const unsigned char *data, size_t size, struct array *a,
                       struct failure *f)
{
    const json_t *shape = json_object_get(v, "shape"), *offsets = json_object_get(v, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)), end = json_integer_value(json_array_get(offsets, 1));
    lip_error err = {0};

    *a = (struct array){0};
    if (!array_name_ok(name))
        return failure_set(f, 422, "bad_file", "\"%.100s\" is no name for a tensor", name);
    strcpy(a->name, name);
    if (!read_type(json_string_value(json_object_get(v, "dtype")), &a->type))
        return failure_set(f, 422, "bad_file", "tensor \"%s\" of the safetensors file has a dtype that is not read", name);
    a->shape.rank = json_array_size(shape);
    if (!json_is_array(shape) || a->shape.rank > LIP_MAX_RANK || json_array_size(offsets) != 2)
        return failure_set(f, 422, "bad_file", "tensor \"%s\" needs a shape of at most %d axes and two data_offsets", name,
                           LIP_MAX_RANK);
    for (size_t i = 0; i < a->shape.rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return failure_set(f, 422, "bad_file", "tensor \"%s\" has an axis that is no size", name);
        a->shape.dim[i] = (size_t)json_integer_value(d);
    }
    if (begin < 0 || end < begin || (size_t)end > size || lip_shape_check(&a->shape, codec_type_size(a->type), size, &err) ||
        array_bytes(a) != (size_t)(end - begin))
        return failure_set(f, 422, "bad_file", "tensor \"%s\" is not where the header of the safetensors file says", name);
    a->data = data + begin;
    return true;
}

bool tensors_parse(const unsigned char *bytes, size_t size, struct array *array, size_t *n, json_t **metadata,
                   struct failure *f)
{
    uint64_t length = 0;
    size_t total = 0;
    const char *name;
    json_t *header, *v;

    *n = 0;
    if (metadata)
        *metadata = NULL;
    for (size_t i = 0; i < 8 && size >= 8; i++)
        length |= (uint64_t)bytes[i] << 8 * i;
    if (size < 8 || length > HEADER_MAX || length > size - 8)
        return failure_set(f, 422, "bad_file", "the safetensors file is cut off in its header");
    header = json_loadb((const char *)bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(header)) { /* a macro that evaluates what it is given twice */
        json_decref(header);
        return failure_set(f, 422, "bad_file", "the header of the safetensors file is no JSON object");
    }
    json_object_foreach(header, name, v) {
        if (!strcmp(name, "__metadata__")) {
            if (metadata)
                *metadata = json_incref(v);
        } else if (*n == MAX_ARRAYS) {
            failure_set(f, 422, "bad_file", "the safetensors file has more than %d tensors", MAX_ARRAYS);
        } else if (read_entry(name, v, bytes + 8 + length, size - 8 - (size_t)length, &array[*n], f)) {
            total += array_bytes(&array[(*n)++]);
        }
        if (f->status)
            break;
    }
    if (!f->status && total != size - 8 - (size_t)length)
        failure_set(f, 422, "bad_file", "the safetensors file has %zu bytes of data, its tensors take %zu",
                    size - 8 - (size_t)length, total);
    json_decref(header);
    if (f->status && metadata) {
        json_decref(*metadata);
        *metadata = NULL;
    }
    return !f->status;
}
