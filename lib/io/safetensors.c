/* safetensors.c: an eight-byte length, a JSON header, bytes. Everything in a file is checked before it is believed. */
#include <onelip/io.h>

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "io/json_text.h"

/* The format's own limit on the header. */
#define HEADER_LIMIT (size_t)100000000

struct lip_safetensors {
    json_t *header; /* owns the names and the metadata */
    lip_named *tensor;
    size_t n;
    float *converted; /* what could not be used in place */
};

enum dtype { F32 = LIP_DTYPE_F32, F16 = LIP_DTYPE_F16, BF16 = LIP_DTYPE_BF16, F64 };
#define DTYPES 4

static const struct {
    const char *name;
    size_t size;
} dtypes[DTYPES] = {[F32] = {"F32", 4}, [F16] = {"F16", 2}, [BF16] = {"BF16", 2}, [F64] = {"F64", 8}};

static bool find_dtype(const char *name, enum dtype *type, size_t *size)
{
    for (*type = 0; *type < DTYPES; ++*type)
        if (!strcmp(dtypes[*type].name, name)) {
            *size = dtypes[*type].size;
            return true;
        }
    return false;
}

static float from_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023, bits;
    float x;

    if (exponent == 31) {
        bits = sign | 0x7f800000 | fraction << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        x = (float)fraction * 0x1p-24f;
        return sign ? -x : x;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void convert(enum dtype type, const unsigned char *bytes, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        uint32_t bits;
        double d;
        switch (type) {
        case F32:
            memcpy(&x[i], bytes + 4 * i, 4);
            break;
        case F64:
            memcpy(&d, bytes + 8 * i, 8);
            x[i] = (float)d;
            break;
        case F16:
            memcpy(&half, bytes + 2 * i, 2);
            x[i] = from_half(half);
            break;
        case BF16:
            memcpy(&half, bytes + 2 * i, 2);
            bits = (uint32_t)half << 16;
            memcpy(&x[i], &bits, 4);
            break;
        }
    }
}

/* One entry of the header, checked against the bytes that follow it. */
struct entry {
    const char *name;
    enum dtype type;
    lip_shape shape;
    size_t begin, end;
};

static lip_err read_entry(const char *name, const json_t *v, size_t data, struct entry *e, lip_error *err)
{
    const json_t *dtype = json_object_get(v, "dtype"), *shape = json_object_get(v, "shape"),
                 *offsets = json_object_get(v, "data_offsets");
    size_t size, count = 1;

    if (!json_is_string(dtype) || !json_is_array(shape) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1)))
        return lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" needs dtype, shape and two data_offsets", name);
    if (!find_dtype(json_string_value(dtype), &e->type, &size))
        return lip__fail(err, LIP_EUNSUPPORTED, "safetensors: tensor \"%.120s\" is %.20s, needs F32, F64, F16 or BF16", name,
                         json_string_value(dtype));
    e->name = name;
    e->shape.rank = json_array_size(shape);
    if (e->shape.rank > LIP_MAX_RANK)
        return lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" has %zu axes, at most %d are read", name, e->shape.rank,
                         LIP_MAX_RANK);
    for (size_t i = 0; i < e->shape.rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0 ||
            __builtin_mul_overflow(count, (size_t)json_integer_value(d), &count) || count > data / size + 1)
            return lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" has a shape that the file cannot hold", name);
        e->shape.dim[i] = (size_t)json_integer_value(d);
    }
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)), end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (size_t)end > data)
        return lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" lies at bytes %lld to %lld of %zu", name,
                         (long long)begin, (long long)end, data);
    e->begin = (size_t)begin;
    e->end = (size_t)end;
    if (e->end - e->begin != count * size)
        return lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" has %zu bytes, its shape needs %zu", name,
                         e->end - e->begin, count * size);
    return LIP_OK;
}

static int by_begin(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

/* The tensors fill the data from end to end, none over another. */
static lip_err check_layout(struct entry *entries, size_t n, size_t data, lip_error *err)
{
    struct entry **order = lip__alloc(n + 1, sizeof *order);
    size_t at = 0;
    lip_err rc = LIP_OK;

    if (!order)
        return lip__nomem(err, n * sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = &entries[i];
    qsort(order, n, sizeof *order, by_begin);
    for (size_t i = 0; i < n && rc == LIP_OK; i++) {
        if (order[i]->begin != at)
            rc = lip__fail(err, LIP_EFILE, "safetensors: tensor \"%.120s\" begins at byte %zu, needs %zu", order[i]->name,
                           order[i]->begin, at);
        at = order[i]->end;
    }
    if (rc == LIP_OK && at != data)
        rc = lip__fail(err, LIP_EFILE, "safetensors: %zu bytes of data, the tensors take %zu", data, at);
    lip__free(order);
    return rc;
}

static lip_err read_metadata(const json_t *v, lip_error *err)
{
    const char *key;
    json_t *text;

    if (!json_is_object(v))
        return lip__fail(err, LIP_EFILE, "safetensors: __metadata__ needs an object of strings");
    json_object_foreach((json_t *)v, key, text)
        if (!json_is_string(text))
            return lip__fail(err, LIP_EFILE, "safetensors: metadata \"%.120s\" needs a string", key);
    return LIP_OK;
}

lip_err lip_safetensors_read(const void *bytes, size_t size, lip_safetensors **file, lip_error *err)
{
    const unsigned char *start = bytes;
    struct entry *entries = NULL;
    lip_safetensors *f = NULL;
    uint64_t length = 0;
    size_t n = 0, floats = 0;
    const char *name;
    json_t *v;
    json_error_t why;
    lip_err rc = LIP_OK;

    for (size_t i = 0; i < 8 && size >= 8; i++)
        length |= (uint64_t)start[i] << 8 * i;
    if (size < 8 || length > HEADER_LIMIT || length > size - 8)
        return lip__fail(err, LIP_EFILE, "safetensors: %zu bytes, and the header says it takes %llu", size,
                         (unsigned long long)length);
    const unsigned char *data = start + 8 + length;
    size_t data_size = size - 8 - (size_t)length;
    f = lip__alloc(1, sizeof *f);
    if (!f)
        return lip__nomem(err, sizeof *f);
    f->header = json_loadb((const char *)start + 8, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(f->header)) {
        rc = lip__fail(err, LIP_EFILE, "safetensors: the header is no JSON object%s%.200s", f->header ? "" : ": ",
                       f->header ? "" : why.text);
        goto done;
    }
    entries = lip__alloc(json_object_size(f->header) + 1, sizeof *entries);
    f->tensor = lip__alloc(json_object_size(f->header) + 1, sizeof *f->tensor);
    if (!entries || !f->tensor) {
        rc = lip__nomem(err, json_object_size(f->header) * sizeof *entries);
        goto done;
    }
    json_object_foreach(f->header, name, v)
    {
        rc = strcmp(name, "__metadata__") ? read_entry(name, v, data_size, &entries[n], err) : read_metadata(v, err);
        if (rc != LIP_OK)
            goto done;
        if (!strcmp(name, "__metadata__"))
            continue;
        if (entries[n].type != F32 || (uintptr_t)(data + entries[n].begin) % sizeof(float))
            floats += lip_shape_count(&entries[n].shape);
        n++;
    }
    if ((rc = check_layout(entries, n, data_size, err)) != LIP_OK)
        goto done;
    f->converted = lip__alloc(floats + 1, sizeof *f->converted);
    if (!f->converted) {
        rc = lip__nomem(err, floats * sizeof *f->converted);
        goto done;
    }
    float *spare = f->converted;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *at = data + entries[i].begin;
        size_t count = lip_shape_count(&entries[i].shape);
        if (entries[i].type == F32 && (uintptr_t)at % sizeof(float) == 0) {
            f->tensor[i] = (lip_named){entries[i].name, entries[i].shape, (const float *)(const void *)at};
            continue;
        }
        convert(entries[i].type, at, count, spare);
        f->tensor[i] = (lip_named){entries[i].name, entries[i].shape, spare};
        spare += count;
    }
    f->n = n;
done:
    lip__free(entries);
    if (rc != LIP_OK) {
        lip_safetensors_free(f);
        return rc;
    }
    *file = f;
    return LIP_OK;
}

void lip_safetensors_free(lip_safetensors *f)
{
    if (!f)
        return;
    lip__free(f->converted);
    lip__free(f->tensor);
    json_decref(f->header);
    lip__free(f);
}

size_t lip_safetensors_count(const lip_safetensors *f)
{
    return f->n;
}

const lip_named *lip_safetensors_tensors(const lip_safetensors *f)
{
    return f->tensor;
}

const lip_named *lip_safetensors_find(const lip_safetensors *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (!strcmp(f->tensor[i].name, name))
            return &f->tensor[i];
    return NULL;
}

const char *lip_safetensors_metadata(const lip_safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static json_t *make_header(const lip_named *tensors, size_t n, enum dtype type, const char *const *metadata, size_t n_metadata)
{
    json_t *header = json_object(), *about = json_object();
    size_t at = 0;

    for (size_t i = 0; i < n_metadata; i++)
        lip__json_set(about, metadata[2 * i], json_string(metadata[2 * i + 1]));
    if (n_metadata)
        lip__json_set(header, "__metadata__", about);
    else
        json_decref(about);
    for (size_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        size_t bytes = lip_shape_count(&tensors[i].shape) * dtypes[type].size;
        for (size_t d = 0; d < tensors[i].shape.rank; d++)
            lip__json_add(shape, json_integer((json_int_t)tensors[i].shape.dim[d]));
        lip__json_set(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[type].name, "shape", shape, "data_offsets", (json_int_t)at,
                                      (json_int_t)(at + bytes)));
        at += bytes;
    }
    /* Two tensors of one name would leave one out. */
    if (json_object_size(header) != n + (n_metadata > 0)) {
        json_decref(header);
        return NULL;
    }
    return header;
}

static uint16_t to_half(float x)
{
    uint32_t bits, sign, size;

    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (size < 0x38800000) /* below 2^-14: a whole number of 2^-24 */
        return (uint16_t)(sign | (uint32_t)rintf(fabsf(x) * 0x1p24f));
    size = ((size + 0xfff + (size >> 13 & 1)) >> 13) - (112 << 10); /* another bias of the exponent */
    return (uint16_t)(sign | (size < 0x7c00 ? size : 0x7c00));
}

static uint16_t to_bfloat(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(isnan(x) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void put(enum dtype type, const float *x, size_t n, unsigned char *at)
{
    if (type == F32 && n)
        memcpy(at, x, n * sizeof *x);
    for (size_t i = 0; type != F32 && i < n; i++) {
        uint16_t bits = type == F16 ? to_half(x[i]) : to_bfloat(x[i]);

        at[2 * i] = (unsigned char)bits;
        at[2 * i + 1] = (unsigned char)(bits >> 8);
    }
}

static void *write_as(const lip_named *tensors, size_t n, enum dtype type, const char *const *metadata, size_t n_metadata,
                      size_t *size)
{
    json_t *header = make_header(tensors, n, type, metadata, n_metadata);
    char *text = lip__json_done(header, JSON_COMPACT);
    unsigned char *file = NULL;
    size_t length = text ? strlen(text) : 0, padded = (length + 7) & ~(size_t)7, data = 0;

    for (size_t i = 0; i < n; i++)
        data += lip_shape_count(&tensors[i].shape) * dtypes[type].size;
    if (text)
        file = lip__alloc(8 + padded + data, 1);
    if (file) {
        unsigned char *at = file + 8 + padded;
        for (size_t i = 0; i < 8; i++)
            file[i] = (unsigned char)(padded >> 8 * i);
        memset(file + 8, ' ', padded);
        memcpy(file + 8, text, length);
        for (size_t i = 0; i < n; i++) {
            size_t count = lip_shape_count(&tensors[i].shape);
            put(type, tensors[i].data, count, at);
            at += count * dtypes[type].size;
        }
        *size = 8 + padded + data;
    }
    lip__free(text);
    return file;
}

void *lip_safetensors_write(const lip_named *tensors, size_t n, const char *const *metadata, size_t n_metadata, size_t *size)
{
    return write_as(tensors, n, F32, metadata, n_metadata, size);
}

void *lip_state_save(const lip_state *state, size_t *size)
{
    return lip_state_save_as(state, LIP_DTYPE_F32, NULL, 0, size);
}

void *lip_state_save_as(const lip_state *state, lip_dtype dtype, const char *const *more, size_t n_more, size_t *size)
{
    const lip_model *m = lip_state_model(state);
    size_t n = lip_model_variables(m);
    lip_named *tensors = lip__alloc(n + 1, sizeof *tensors);
    const char **metadata = lip__alloc(2 * (n_more + 1), sizeof *metadata);
    char *definition = lip_model_definition(m, false);
    void *file = NULL;

    if (tensors && definition && metadata) {
        metadata[0] = "definition";
        metadata[1] = definition;
        for (size_t i = 0; i < 2 * n_more; i++)
            metadata[2 + i] = more[i];
        for (size_t v = 0; v < n; v++) {
            const lip_variable *var = lip_model_variable(m, v);
            tensors[v] = (lip_named){var->name, var->shape, lip_state_data(state, v)};
        }
        file = write_as(tensors, n, (enum dtype)dtype, metadata, n_more + 1, size);
    }
    lip_free(definition);
    lip__free(metadata);
    lip__free(tensors);
    return file;
}
