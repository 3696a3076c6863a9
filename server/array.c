#include "array.h"

#include <string.h>

#include "inflate.h"
#include "npy.h"
#include "zip.h"

bool array_name_ok(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-:";
    size_t n = strlen(name);

    return n >= 1 && n <= ARRAY_NAME_MAX && strspn(name, letters) == n && !strchr(".-:", name[0]);
}

size_t array_bytes(const struct array *a)
{
    return lip_shape_count(&a->shape) * codec_type_size(a->type);
}

struct spool *array_spool(struct arrays *out, const struct array_room *room, size_t size, struct failure *f)
{
    struct spool *s = &out->spool[out->n_spools];
    int error;

    if (out->n_spools == sizeof out->spool / sizeof *out->spool) {
        failure_set(f, 422, "bad_file", "the file has too many parts");
        return NULL;
    }
    if ((error = spool_open(s, room->folder, size))) {
        failure_errno(f, error, "the file's parts");
        return NULL;
    }
    out->n_spools++;
    return s;
}

bool array_map(struct spool *spool, struct failure *f)
{
    int error = spool_map(spool);

    return error ? failure_errno(f, error, "the file's parts") : true;
}

void arrays_clear(struct arrays *arrays)
{
    for (size_t i = 0; i < arrays->n_spools; i++)
        spool_close(&arrays->spool[i]);
    arrays->n = arrays->n_spools = 0;
}

/* ---- compressed pieces -------------------------------------------------------------------------------------- */

/* in without its coding, at most `limit` bytes. NULL with f. */
static struct spool *unpack(enum coding coding, const unsigned char *in, size_t n, size_t limit, struct array_room *room,
                            struct arrays *out, struct failure *f)
{
    struct spool *s = array_spool(out, room, 0, f);
    int error = 0;

    if (!s)
        return NULL;
    switch (inflate_spool(coding, in, n, limit, s, &error)) {
    case INFLATED:
        room->left -= s->size;
        return array_map(s, f) ? s : NULL;
    case INFLATE_TOO_LARGE:
        failure_set(f, 413, "too_large", "the file unpacks to more than %zu bytes", limit);
        return NULL;
    case INFLATE_NO_ROOM:
        failure_errno(f, error, "the unpacked file");
        return NULL;
    case INFLATE_NO_MEMORY:
        failure_set(f, 503, "out_of_memory", "out of memory while unpacking");
        return NULL;
    default:
        failure_set(f, 422, "bad_file", "the compressed data is damaged or cut off");
        return NULL;
    }
}

static bool read_member(const struct zip_member *m, struct array_room *room, struct arrays *out, struct failure *f)
{
    struct array *a = &out->array[out->n];
    const unsigned char *bytes = m->data;
    size_t length = m->name_length;
    char name[ARRAY_NAME_MAX + 1] = "";

    if (length > 4 && !memcmp(m->name + length - 4, ".npy", 4))
        length -= 4;
    if (length <= ARRAY_NAME_MAX)
        memcpy(name, m->name, length);
    if (!array_name_ok(name) || strlen(name) != length)
        return failure_set(f, 422, "bad_file", "\"%.*s\" of the npz file is no name for a tensor",
                           (int)(m->name_length < 100 ? m->name_length : 100), m->name);
    if (m->deflated) {
        struct spool *s;
        if (m->size > room->left)
            return failure_set(f, 413, "too_large", "the npz file unpacks to more than the largest upload");
        if (!(s = unpack(CODING_RAW, m->data, m->packed, m->size, room, out, f))) {
            if (f->status != 413)
                return false;
            *f = (struct failure){0};
            return failure_set(f, 422, "bad_file", "\"%s\" of the npz file is longer than the archive says", name);
        }
        bytes = s->map;
        if (!zip_sound(m, bytes, s->size))
            return failure_set(f, 422, "bad_file", "\"%s\" of the npz file is damaged: its checksum differs", name);
    } else if (!zip_sound(m, bytes, m->size)) {
        return failure_set(f, 422, "bad_file", "\"%s\" of the npz file is damaged: its checksum differs", name);
    }
    if (!npy_parse(bytes, m->size, a, f))
        return false;
    strcpy(a->name, name);
    out->n++;
    return true;
}

static bool read_npz(const unsigned char *bytes, size_t size, struct array_room *room, struct arrays *out, struct failure *f)
{
    struct zip_member members[MAX_ARRAYS];
    size_t n;
    const char *wrong = zip_open(bytes, size, members, MAX_ARRAYS, &n);

    if (wrong)
        return failure_set(f, 422, "bad_file", "%s", wrong);
    for (size_t i = 0; i < n; i++)
        if (!read_member(&members[i], room, out, f))
            return false;
    return true;
}

/* ---- one order of bytes and of elements ------------------------------------------------------------------------ */

/* Row-major, little-endian, in a spool of its own. */
static bool rearrange(struct array *a, struct array_room *room, struct arrays *out, struct failure *f)
{
    size_t each = codec_type_size(a->type), n = lip_shape_count(&a->shape), rank = a->shape.rank, at = 0;
    size_t index[LIP_MAX_RANK] = {0}, step[LIP_MAX_RANK];
    struct spool *s = array_spool(out, room, n * each, f);
    unsigned char piece[4096];
    size_t filled = 0, from = 0, run = 1;
    int error = 0;

    if (!s)
        return false;
    for (size_t i = 0; i < rank; i++) { /* the first axis runs fastest, or the last */
        size_t axis = a->fortran ? i : rank - 1 - i;
        step[axis] = run;
        run *= a->shape.dim[axis];
    }
    for (; at < n && !error; at++) {
        const unsigned char *x = a->data + from * each;
        for (size_t b = 0; b < each; b++)
            piece[filled++] = x[a->swapped ? each - 1 - b : b];
        if (filled == sizeof piece || at + 1 == n) {
            error = spool_write(s, piece, filled);
            filled = 0;
        }
        for (size_t axis = rank; axis-- > 0;) {
            from += step[axis];
            if (++index[axis] < a->shape.dim[axis])
                break;
            from -= step[axis] * a->shape.dim[axis];
            index[axis] = 0;
        }
    }
    if (error)
        return failure_errno(f, error, "the file's parts");
    if (!array_map(s, f))
        return false;
    a->data = s->map;
    a->swapped = a->fortran = false;
    return true;
}

/* ---- any file ------------------------------------------------------------------------------------------------------ */

static bool is_gzip(const unsigned char *bytes, size_t size)
{
    return size >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

/* A safetensors file begins with the length of a JSON object. */
static bool is_safetensors(const unsigned char *bytes, size_t size)
{
    return size >= 9 && !bytes[6] && !bytes[7] && bytes[8] == '{';
}

static bool read_one(const unsigned char *bytes, size_t size, struct array_room *room, struct arrays *out, struct failure *f)
{
    if (is_gzip(bytes, size)) {
        struct spool *s = unpack(CODING_GZIP, bytes, size, room->left, room, out, f);
        if (!s)
            return false;
        bytes = s->map;
        size = s->size;
    }
    if (npy_is(bytes, size) ? npy_parse(bytes, size, &out->array[0], f)
        : idx_is(bytes, size) ? idx_parse(bytes, size, &out->array[0], f)
                              : failure_set(f, 422, "bad_file", "the file is neither npy nor IDX, plain or in gzip"))
        out->n = 1;
    return out->n == 1;
}

bool arrays_read(const unsigned char *bytes, size_t size, bool one, const char *label, struct array_room *room,
                 struct arrays *out, struct failure *f)
{
    bool ok = size == 0             ? failure_set(f, 422, "bad_file", "the file is empty")
              : one                 ? read_one(bytes, size, room, out, f)
              : zip_is(bytes, size) ? read_npz(bytes, size, room, out, f)
              : is_safetensors(bytes, size)
                  ? tensors_parse(bytes, size, out->array, &out->n, NULL, f)
                  : npy_is(bytes, size) || idx_is(bytes, size) || is_gzip(bytes, size)
                        ? failure_set(f, 422, "bad_file", "npy and IDX files hold one tensor: PUT them to /v2/datasets/NAME/TENSOR")
                        : csv_read(bytes, size, label, room, out, f);

    if (ok && label && (zip_is(bytes, size) || is_safetensors(bytes, size)))
        return failure_set(f, 400, "bad_parameter", "label names a column of CSV; this file is none");
    for (size_t i = 0; ok && i < out->n; i++)
        if ((out->array[i].swapped || out->array[i].fortran) && lip_shape_count(&out->array[i].shape))
            ok = rearrange(&out->array[i], room, out, f);
    return ok;
}
