#include "npy.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "values.h"

static const char magic[] = "\223NUMPY", damaged[] = "the npy header is damaged";
enum { MAGIC = 6, ALIGN = 64 };

bool npy_is(const unsigned char *bytes, size_t size)
{
    return size >= MAGIC + 4 && !memcmp(bytes, magic, MAGIC);
}

static const struct {
    char kind, size;
    enum codec_type type;
} types[] = {{'b', '1', CODEC_BOOL},   {'u', '1', CODEC_UINT8},  {'u', '2', CODEC_UINT16}, {'u', '4', CODEC_UINT32},
             {'u', '8', CODEC_UINT64}, {'i', '1', CODEC_INT8},   {'i', '2', CODEC_INT16},  {'i', '4', CODEC_INT32},
             {'i', '8', CODEC_INT64},  {'f', '2', CODEC_FP16},   {'f', '4', CODEC_FP32},   {'f', '8', CODEC_FP64}};
enum { TYPES = sizeof types / sizeof *types };

void *npy_write(enum codec_type type, const lip_shape *shape, const void *x, size_t *size)
{
    char header[256];
    size_t n, before = MAGIC + 4, data = lip_shape_count(shape) * codec_type_size(type), padded, known = 0;
    unsigned char *file;

    while (known < TYPES && types[known].type != type)
        known++;
    assert(known < TYPES);
    n = (size_t)snprintf(header, sizeof header, "{'descr': '%c%c%c', 'fortran_order': False, 'shape': (",
                         types[known].size == '1' ? '|' : '<', types[known].kind, types[known].size);
    for (size_t i = 0; i < shape->rank; i++)
        n += (size_t)snprintf(header + n, sizeof header - n, i + 1 < shape->rank ? "%zu, " : shape->rank > 1 ? "%zu" : "%zu,",
                              shape->dim[i]);
    n += (size_t)snprintf(header + n, sizeof header - n, "), }");
    padded = (before + n + 1 + ALIGN - 1) / ALIGN * ALIGN - before;
    *size = before + padded + data;
    if (!(file = malloc(*size)))
        return NULL;
    memcpy(file, magic, MAGIC);
    file[6] = 1;
    file[7] = 0;
    file[8] = (unsigned char)padded;
    file[9] = (unsigned char)(padded >> 8);
    memset(file + before, ' ', padded);
    memcpy(file + before, header, n);
    file[before + padded - 1] = '\n';
    if (data)
        memcpy(file + before + padded, x, data);
    return file;
}

/* The text behind 'key': in the header's dictionary; NULL: it is not there. */
static const char *find(const char *header, const char *key)
{
    char quoted[32];
    const char *at;

    snprintf(quoted, sizeof quoted, "'%s'", key);
    if (!(at = strstr(header, quoted)))
        return NULL;
    at += strlen(quoted);
    at += strspn(at, " ");
    if (*at != ':')
        return NULL;
    return at + 1 + strspn(at + 1, " ");
}

static bool read_shape(const char *at, lip_shape *shape)
{
    shape->rank = 0;
    if (!at || *at++ != '(')
        return false;
    for (;;) {
        char *end;
        at += strspn(at, " ,");
        if (*at == ')')
            return true;
        if (*at < '0' || *at > '9' || shape->rank == LIP_MAX_RANK)
            return false;
        shape->dim[shape->rank++] = strtoull(at, &end, 10);
        at = end;
    }
}

/* Column-major to row-major. */
static float *reordered(const lip_shape *shape, const float *x, size_t n)
{
    float *y = malloc((n + 1) * sizeof *y);
    size_t index[LIP_MAX_RANK] = {0};

    for (size_t i = 0; y && i < n; i++) { /* i walks x: the first axis runs fastest */
        size_t at = 0;
        for (size_t a = 0; a < shape->rank; a++)
            at = at * shape->dim[a] + index[a];
        y[at] = x[i];
        for (size_t a = 0; a < shape->rank && ++index[a] == shape->dim[a]; a++)
            index[a] = 0;
    }
    return y;
}

bool npy_parse(const unsigned char *bytes, size_t size, struct array *array, struct failure *f)
{
    size_t start, length, n, type = 0, each;
    char header[1024];
    const char *descr, *order;
    lip_error err = {0};

    *array = (struct array){0};
    if (!npy_is(bytes, size) || bytes[6] < 1 || bytes[6] > 3)
        return failure_set(f, 422, "bad_file", "%s", damaged);
    start = bytes[6] == 1 ? MAGIC + 4 : MAGIC + 6;
    length = size < start ? SIZE_MAX : bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1 && size >= start)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length >= sizeof header || length > size - start)
        return failure_set(f, 422, "bad_file", "%s", damaged);
    memcpy(header, bytes + start, length);
    header[length] = 0;
    if (strlen(header) != length || !(descr = find(header, "descr")) || *descr++ != '\'' || !*descr ||
        !(order = find(header, "fortran_order")) || !read_shape(find(header, "shape"), &array->shape))
        return failure_set(f, 422, "bad_file", "%s", damaged);
    while (type < TYPES && (descr[1] != types[type].kind || descr[2] != types[type].size || descr[3] != '\''))
        type++;
    if (type == TYPES || !strchr("|<>=", *descr))
        return failure_set(f, 422, "bad_file", "npy data of type %.*s is not read; integers, floats and booleans are",
                           (int)strcspn(descr, "'"), descr);
    array->type = types[type].type;
    array->swapped = *descr == '>' && types[type].size != '1';
    array->fortran = !strncmp(order, "True", 4);
    each = codec_type_size(array->type);
    if (lip_shape_check(&array->shape, each, size, &err))
        return failure_set(f, 422, "bad_file", "the npy file is shorter than its shape says");
    n = lip_shape_count(&array->shape);
    if (n * each != size - start - length)
        return failure_set(f, 422, "bad_file", "the npy file has %zu bytes of data, its shape needs %zu", size - start - length,
                           n * each);
    array->data = bytes + start + length;
    return true;
}

bool npy_read(const unsigned char *bytes, size_t size, lip_shape *shape, float **x, char *why, size_t why_size)
{
    struct failure f = {0};
    struct array a;
    size_t n;

    *x = NULL;
    if (npy_parse(bytes, size, &a, &f) && a.swapped)
        failure_set(&f, 422, "bad_file", "npy data that is big-endian is not read here");
    if (f.status) {
        snprintf(why, why_size, "%s", f.text);
        return false;
    }
    *shape = a.shape;
    n = lip_shape_count(&a.shape);
    if ((*x = malloc((n + 1) * sizeof **x)))
        values_from_bytes(a.type, a.data, n, *x);
    if (*x && a.fortran) {
        float *rows = reordered(shape, *x, n);
        free(*x);
        *x = rows;
    }
    if (!*x)
        snprintf(why, why_size, "out of memory");
    return *x != NULL;
}
