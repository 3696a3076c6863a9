#include "npy.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "values.h"

static const char magic[] = "\223NUMPY";
enum { MAGIC = 6, ALIGN = 64 };

bool npy_is(const unsigned char *bytes, size_t size)
{
    return size >= MAGIC + 4 && !memcmp(bytes, magic, MAGIC);
}

void *npy_write(const lip_shape *shape, const float *x, size_t *size)
{
    char header[256];
    size_t n = (size_t)snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': ("), before = MAGIC + 4;
    size_t data = lip_shape_count(shape) * sizeof *x, padded;
    unsigned char *file;

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

static const struct {
    const char *descr;
    enum codec_type type;
} types[] = {{"|b1", CODEC_BOOL},   {"|u1", CODEC_UINT8},  {"<u2", CODEC_UINT16}, {"<u4", CODEC_UINT32}, {"<u8", CODEC_UINT64},
             {"|i1", CODEC_INT8},   {"<i2", CODEC_INT16},  {"<i4", CODEC_INT32},  {"<i8", CODEC_INT64},  {"<f2", CODEC_FP16},
             {"<f4", CODEC_FP32},   {"<f8", CODEC_FP64}};

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

bool npy_read(const unsigned char *bytes, size_t size, lip_shape *shape, float **x, char *why, size_t why_size)
{
    size_t start, length, n = 1, type = 0, each;
    char header[1024];
    const char *descr, *order;
    lip_error err = {0};
    bool fortran;

    *x = NULL;
    snprintf(why, why_size, "the npy header is damaged");
    if (!npy_is(bytes, size) || bytes[6] < 1 || bytes[6] > 3)
        return false;
    start = bytes[6] == 1 ? MAGIC + 4 : MAGIC + 6;
    length = size < start ? SIZE_MAX : bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1 && size >= start)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length >= sizeof header || length > size - start)
        return false;
    memcpy(header, bytes + start, length);
    header[length] = 0;
    if (strlen(header) != length || !(descr = find(header, "descr")) || *descr++ != '\'' ||
        !(order = find(header, "fortran_order")) || !read_shape(find(header, "shape"), shape))
        return false;
    fortran = !strncmp(order, "True", 4);
    while (type < sizeof types / sizeof *types && (strncmp(descr, types[type].descr, 3) != 0 || descr[3] != '\''))
        type++;
    if (type == sizeof types / sizeof *types) {
        snprintf(why, why_size, "npy data of type %.8s is not read; little-endian numbers are", descr);
        return false;
    }
    each = codec_type_size(types[type].type);
    if (lip_shape_check(shape, each, size, &err)) {
        snprintf(why, why_size, "the npy file is shorter than its shape says");
        return false;
    }
    n = lip_shape_count(shape);
    if (n * each != size - start - length) {
        snprintf(why, why_size, "the npy file has %zu bytes of data, its shape needs %zu", size - start - length, n * each);
        return false;
    }
    if ((*x = malloc((n + 1) * sizeof **x)))
        values_from_bytes(types[type].type, bytes + start + length, n, *x);
    if (*x && fortran) {
        float *rows = reordered(shape, *x, n);
        free(*x);
        *x = rows;
    }
    if (!*x)
        snprintf(why, why_size, "out of memory");
    return *x != NULL;
}
