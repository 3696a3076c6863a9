#include "datasets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "log.h"
#include "values.h"
#include "text.h"

#define SUFFIX ".safetensors"
#define BESIDE ".new" SUFFIX
#define PIECE ((size_t)1 << 20)

struct datasets {
    pthread_mutex_t changing; /* store and delete, one at a time */
    pthread_mutex_t lock;     /* of the table; pointer moves only */
    int folder;
    size_t n, capacity;
    struct dataset **set; /* sorted by name */
};

/* ---- the table ------------------------------------------------------------------------------------------- */

void dataset_put(struct dataset *d)
{
    if (!d || atomic_fetch_sub(&d->refs, 1) != 1)
        return;
    if (d->fd >= 0)
        close(d->fd);
    free(d->damage);
    free(d);
}

static struct dataset *dataset_new(const char *name)
{
    struct dataset *d = calloc(1, sizeof *d);

    if (!d)
        return NULL;
    atomic_init(&d->refs, 1);
    snprintf(d->name, sizeof d->name, "%s", name);
    d->fd = -1;
    return d;
}

static size_t place(const struct datasets *all, const char *name)
{
    size_t i = 0;

    while (i < all->n && strcmp(all->set[i]->name, name) < 0)
        i++;
    return i;
}

static bool at(const struct datasets *all, size_t i, const char *name)
{
    return i < all->n && !strcmp(all->set[i]->name, name);
}

struct dataset *dataset_get(struct datasets *all, const char *name)
{
    struct dataset *d = NULL;
    size_t i;

    pthread_mutex_lock(&all->lock);
    if (at(all, i = place(all, name), name)) {
        d = all->set[i];
        atomic_fetch_add(&d->refs, 1);
    }
    pthread_mutex_unlock(&all->lock);
    return d;
}

/* Room for one more, so that what is on disk can be shown. */
static bool reserve(struct datasets *all)
{
    struct dataset **set;
    bool ok = true;

    pthread_mutex_lock(&all->lock);
    if (all->n == all->capacity) {
        if ((ok = (set = realloc(all->set, (2 * all->capacity + 16) * sizeof *set)) != NULL)) {
            all->set = set;
            all->capacity = 2 * all->capacity + 16;
        }
    }
    pthread_mutex_unlock(&all->lock);
    return ok;
}

/* After reserve. Takes d over; NULL: take the set of this name out. */
static void show(struct datasets *all, const char *name, struct dataset *d)
{
    struct dataset *old = NULL;
    size_t i;

    pthread_mutex_lock(&all->lock);
    i = place(all, name);
    if (at(all, i, name)) {
        old = all->set[i];
        if (d)
            all->set[i] = d;
        else
            memmove(all->set + i, all->set + i + 1, (--all->n - i) * sizeof *all->set);
    } else if (d) {
        memmove(all->set + i + 1, all->set + i, (all->n++ - i) * sizeof *all->set);
        all->set[i] = d;
    }
    pthread_mutex_unlock(&all->lock);
    dataset_put(old);
}

static int newer(const void *a, const void *b)
{
    const struct dataset *x = *(struct dataset *const *)a, *y = *(struct dataset *const *)b;
    int order = strcmp(y->created_at, x->created_at);

    return order ? order : strcmp(x->name, y->name);
}

struct dataset **datasets_list(struct datasets *all, size_t *n)
{
    struct dataset **list;

    pthread_mutex_lock(&all->lock);
    *n = all->n;
    list = malloc((all->n + 1) * sizeof *list);
    for (size_t i = 0; list && i < all->n; i++) {
        list[i] = all->set[i];
        atomic_fetch_add(&list[i]->refs, 1);
    }
    pthread_mutex_unlock(&all->lock);
    if (list)
        qsort(list, *n, sizeof *list, newer);
    return list;
}

const struct dataset_tensor *dataset_find(const struct dataset *d, const char *tensor)
{
    for (size_t i = 0; i < d->n; i++)
        if (!strcmp(d->tensor[i].name, tensor))
            return &d->tensor[i];
    return NULL;
}

/* ---- looking at the data ------------------------------------------------------------------------------------- */

static double half(enum codec_type type, const unsigned char *p)
{
    float x;

    values_from_bytes(type, p, 1, &x);
    return (double)x;
}

/* Element i, also of unaligned data. */
static double element(enum codec_type type, const unsigned char *data, size_t i)
{
#define AS(T) do { T v; memcpy(&v, data + i * sizeof v, sizeof v); return (double)v; } while (0)
    switch (type) {
    case CODEC_BOOL:
    case CODEC_UINT8:
        return data[i];
    case CODEC_INT8:
        AS(int8_t);
    case CODEC_UINT16:
        AS(uint16_t);
    case CODEC_INT16:
        AS(int16_t);
    case CODEC_UINT32:
        AS(uint32_t);
    case CODEC_INT32:
        AS(int32_t);
    case CODEC_UINT64:
        AS(uint64_t);
    case CODEC_INT64:
        AS(int64_t);
    case CODEC_FP32:
        AS(float);
    case CODEC_FP64:
        AS(double);
    default:
        return half(type, data + 2 * i);
    }
#undef AS
}

static bool is_integer(enum codec_type type)
{
    return type != CODEC_FP32 && type != CODEC_FP64 && type != CODEC_FP16 && type != CODEC_BF16;
}

/* The smallest and the largest value; NaN and infinities are refused. */
static bool scan(struct dataset_tensor *t, const unsigned char *data, struct failure *f)
{
    size_t n = lip_shape_count(&t->shape);
    unsigned char low = 255, high = 0;
    bool integer = is_integer(t->type);

    t->min = INFINITY;
    t->max = -INFINITY;
    if (t->type == CODEC_UINT8 || t->type == CODEC_BOOL) { /* the large ones, in a loop that the compiler makes wide */
        for (size_t i = 0; i < n; i++) {
            low = data[i] < low ? data[i] : low;
            high = data[i] > high ? data[i] : high;
        }
        t->min = low;
        t->max = high;
    } else {
        for (size_t i = 0; i < n; i++) {
            double x = element(t->type, data, i);
            if (!isfinite(x))
                return failure_set(f, 422, "nonfinite", "tensor \"%s\" holds %s at element %zu", t->name,
                                   isnan(x) ? "NaN" : "an infinity", i);
            t->min = x < t->min ? x : t->min;
            t->max = x > t->max ? x : t->max;
        }
    }
    if (t->type == CODEC_BOOL && t->max > 1)
        return failure_set(f, 422, "bad_file", "tensor \"%s\" is BOOL and holds %g", t->name, t->max);
    t->classes = integer && t->min >= 0 && t->max < 65536 && t->row == codec_type_size(t->type) ? (long)t->max + 1 : 0;
    return true;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

static json_t *number(double x, bool integer)
{
    return integer && fabs(x) < 0x1p53 ? json_integer((json_int_t)x) : codec_real(x);
}

static json_t *tensor_json(const struct dataset_tensor *t)
{
    bool integer = is_integer(t->type);
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", t->name, "datatype", codec_type_name(t->type),
                             "shape", codec_shape(&t->shape, NULL), "min", number(t->min, integer), "max",
                             number(t->max, integer), "scale", codec_real(t->scale), "offset", codec_real(t->offset));

    if (json && t->classes)
        json_object_set_new(json, "classes", json_integer(t->classes));
    return json;
}

static json_t *tensors_json(const struct dataset *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->n; i++)
        if (json_array_append_new(list, tensor_json(&d->tensor[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

json_t *dataset_json(const struct dataset *d)
{
    if (d->damage)
        return json_pack("{s:s, s:s, s:s}", "name", d->name, "state", "UNAVAILABLE", "reason", d->damage);
    return json_pack("{s:s, s:I, s:I, s:s, s:o}", "name", d->name, "samples", (json_int_t)d->samples, "bytes",
                     (json_int_t)d->bytes, "created_at", d->created_at, "tensors", tensors_json(d));
}

/* The length in eight bytes and the header, padded to eight; at and bytes of the tensors are filled in. malloc'd. */
static char *header_of(struct dataset *d, size_t *size)
{
    json_t *header = json_object(), *about = dataset_json(d);
    char *text = NULL, *whole = NULL;
    size_t n, at = 0;

    if (about)
        json_object_set_new(about, "id", json_string(d->id));
    text = document_text(about);
    json_decref(about);
    if (text)
        json_object_set_new(header, "__metadata__", json_pack("{s:s}", "dataset", text));
    for (size_t i = 0; i < d->n; i++) {
        struct dataset_tensor *t = &d->tensor[i];
        size_t bytes = lip_shape_count(&t->shape) * codec_type_size(t->type);
        json_object_set_new(header, t->name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensors_dtype(t->type), "shape",
                                                       codec_shape(&t->shape, NULL), "data_offsets", (json_int_t)at,
                                                       (json_int_t)(at + bytes)));
        t->at = at;
        at += bytes;
    }
    free(text);
    text = json_object_size(header) == d->n + 1 ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    n = text ? strlen(text) : 0;
    *size = 8 + (n + 7) / 8 * 8;
    if (text && (whole = malloc(*size + 1))) {
        for (int i = 0; i < 8; i++)
            whole[i] = (char)((*size - 8) >> 8 * i);
        memset(whole + 8, ' ', *size - 8);
        memcpy(whole + 8, text, n);
        for (size_t i = 0; i < d->n; i++)
            d->tensor[i].at += *size;
    }
    free(text);
    return whole;
}

static int write_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;

    while (n) {
        ssize_t done = write(fd, p, n < PIECE ? n : PIECE);
        if (done == 0)
            return ENOSPC;
        if (done < 0 && errno != EINTR)
            return errno;
        p += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

static bool read_all(int fd, size_t from, void *bytes, size_t n)
{
    char *p = bytes;

    while (n) {
        ssize_t got = pread(fd, p, n, (off_t)from);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        p += got > 0 ? got : 0;
        from += got > 0 ? (size_t)got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* Header and tensors into a file beside, then in its place. d->fd is open afterwards. */
static bool write_file(struct datasets *all, struct dataset *d, const unsigned char *const *data, struct failure *f)
{
    char name[MODEL_NAME_MAX + 32];
    size_t size;
    char *header = header_of(d, &size);
    int error = 0;

    snprintf(name, sizeof name, "%s" SUFFIX, d->name);
    if (!header)
        return failure_set(f, 503, "out_of_memory", "out of memory for a dataset");
    if ((d->fd = openat(all->folder, BESIDE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        error = errno;
    else
        error = write_all(d->fd, header, size);
    for (size_t i = 0; i < d->n && !error; i++)
        error = write_all(d->fd, data[i], d->samples * d->tensor[i].row);
    if (!error && fsync(d->fd))
        error = errno;
    if (!error && renameat(all->folder, BESIDE, all->folder, name))
        error = errno;
    free(header);
    if (error) {
        unlinkat(all->folder, BESIDE, 0);
        return failure_errno(f, error, d->name);
    }
    if ((error = folder_sync(all->folder, ".")))
        log_error("dataset %s: its folder cannot be written through: %s", d->name, strerror(error));
    return true;
}

/* ---- storing ---------------------------------------------------------------------------------------------------------- */

static bool add(struct dataset *d, const struct array *a, const char *name, double scale, double offset, struct failure *f)
{
    struct dataset_tensor *t = &d->tensor[d->n];

    if (d->n == MAX_ARRAYS)
        return failure_set(f, 422, "bad_file", "a dataset has %d tensors at most", MAX_ARRAYS);
    if (dataset_find(d, name))
        return failure_set(f, 422, "bad_file", "the file has two tensors named \"%s\"", name);
    if (!a->shape.rank || !lip_shape_count(&a->shape))
        return failure_set(f, 422, "bad_file", "tensor \"%s\" has no samples", name);
    if (d->n && a->shape.dim[0] != d->samples)
        return failure_set(f, 422, "bad_file", "tensor \"%s\" has %zu samples, \"%s\" has %zu", name, a->shape.dim[0],
                           d->tensor[0].name, d->samples);
    *t = (struct dataset_tensor){.type = a->type, .shape = a->shape, .scale = scale, .offset = offset};
    snprintf(t->name, sizeof t->name, "%s", name);
    d->samples = a->shape.dim[0];
    t->row = array_bytes(a) / d->samples;
    if (!scan(t, a->data, f))
        return false;
    d->bytes += array_bytes(a);
    d->n++;
    return true;
}

static void stamp(struct dataset *d)
{
    uint64_t bits = 0;

    time_text(d->created_at);
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        bits = (uint64_t)time(NULL);
    snprintf(d->id, sizeof d->id, "%016llx", (unsigned long long)bits);
}

/* The tensors of `old` that stay beside `only`, through a mapping of its file. */
static bool keep_others(struct dataset *d, const struct dataset *old, const char *only, const unsigned char *map,
                        const unsigned char **data, struct failure *f)
{
    for (size_t i = 0; i < old->n; i++) {
        const struct dataset_tensor *t = &old->tensor[i];
        if (!strcmp(t->name, only))
            continue;
        if (d->samples != old->samples)
            return failure_set(f, 422, "bad_file", "tensor \"%s\" has %zu samples, \"%s\" of the dataset has %zu", only,
                               d->samples, t->name, old->samples);
        if (d->n == MAX_ARRAYS)
            return failure_set(f, 422, "bad_file", "a dataset has %d tensors at most", MAX_ARRAYS);
        data[d->n] = map + t->at;
        d->tensor[d->n++] = *t;
        d->bytes += d->samples * t->row;
    }
    return true;
}

/* A mapping of the whole file, which must still be as long as it was. */
static const unsigned char *map_file(const struct dataset *d, size_t *size, struct failure *f)
{
    struct stat st;
    void *map = MAP_FAILED;

    *size = d->tensor[d->n - 1].at + d->samples * d->tensor[d->n - 1].row;
    if (!fstat(d->fd, &st) && (size_t)st.st_size == *size)
        map = mmap(NULL, *size, PROT_READ, MAP_SHARED, d->fd, 0);
    if (map != MAP_FAILED)
        return map;
    failure_set(f, 422, "bad_file", "the file of dataset '%s' was cut off on disk", d->name);
    return NULL;
}

/* Under `changing`. */
static struct dataset *store(struct datasets *all, const char *name, struct arrays *arrays, double scale, double offset,
                             const char *only, struct failure *f)
{
    struct dataset *old = only ? dataset_get(all, name) : NULL, *d = dataset_new(name);
    const unsigned char *data[MAX_ARRAYS], *map = NULL;
    size_t mapped = 0;
    bool ok = d != NULL && reserve(all);

    if (!ok)
        failure_set(f, 503, "out_of_memory", "out of memory for a dataset");
    for (size_t i = 0; ok && i < arrays->n; i++)
        if ((ok = add(d, &arrays->array[i], only ? only : arrays->array[i].name, scale, offset, f)))
            data[i] = arrays->array[i].data;
    if (ok && !d->n)
        ok = failure_set(f, 422, "bad_file", "the file has no tensors");
    if (ok && old && !old->damage && (old->n > 1 || strcmp(old->tensor[0].name, only)))
        ok = (map = map_file(old, &mapped, f)) && keep_others(d, old, only, map, data, f);
    if (ok) {
        stamp(d);
        ok = write_file(all, d, data, f);
    }
    if (ok) {
        atomic_fetch_add(&d->refs, 1);
        show(all, name, d);
    } else {
        dataset_put(d);
    }
    if (map)
        munmap((void *)(size_t)map, mapped);
    dataset_put(old);
    return ok ? d : NULL;
}

struct dataset *datasets_store(struct datasets *all, const char *name, struct arrays *arrays, double scale, double offset,
                               const char *only, bool (*check)(void *ctx, const char *name), void *ctx, bool *created,
                               struct failure *f)
{
    struct dataset *d = NULL, *old;

    pthread_mutex_lock(&all->changing);
    old = dataset_get(all, name);
    *created = !old;
    dataset_put(old);
    if (!check || check(ctx, name))
        d = store(all, name, arrays, scale, offset, only, f);
    pthread_mutex_unlock(&all->changing);
    return d;
}

bool datasets_delete(struct datasets *all, const char *name, bool (*check)(void *ctx, const char *name), void *ctx,
                     struct failure *f)
{
    char file[MODEL_NAME_MAX + 32];
    struct dataset *old;
    bool ok = false;
    int error = 0;

    snprintf(file, sizeof file, "%s" SUFFIX, name);
    pthread_mutex_lock(&all->changing);
    old = dataset_get(all, name);
    if (!old) {
        failure_set(f, 404, "unknown_dataset", "there is no dataset '%s'", name);
    } else if (!check || check(ctx, name)) {
        if (unlinkat(all->folder, file, 0) && errno != ENOENT)
            error = errno;
        else
            error = folder_sync(all->folder, ".");
        if ((ok = error ? failure_errno(f, error, name) : true))
            show(all, name, NULL);
    }
    pthread_mutex_unlock(&all->changing);
    dataset_put(old);
    return ok;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static bool lost(const struct dataset *d, struct failure *f)
{
    return failure_set(f, 422, "bad_file", "the file of dataset '%s' was cut off on disk, or cannot be read", d->name);
}

bool dataset_bytes(const struct dataset *d, const struct dataset_tensor *t, size_t start, size_t count, void *bytes,
                   struct failure *f)
{
    return read_all(d->fd, t->at + start * t->row, bytes, count * t->row) || lost(d, f);
}

bool dataset_rows(const struct dataset *d, const struct dataset_tensor *t, const size_t *rows, size_t count, void *raw, float *x,
                  struct failure *f)
{
    size_t each = t->row / codec_type_size(t->type), n = count * each;
    float scale = (float)t->scale, offset = (float)t->offset;
    unsigned char *to = raw;

    for (size_t i = 0, run; i < count; i += run) { /* neighbours at once */
        for (run = 1; i + run < count && rows[i + run] == rows[i] + run;)
            run++;
        if (!read_all(d->fd, t->at + rows[i] * t->row, to + i * t->row, run * t->row))
            return lost(d, f);
    }
    values_from_bytes(t->type, raw, n, x);
    if (scale != 1 || offset != 0)
        for (size_t i = 0; i < n; i++)
            x[i] = x[i] * scale + offset;
    return true;
}

/* ---- start and end ----------------------------------------------------------------------------------------------------------- */

/* The description that stands in the file, against what the file holds. */
static bool describe(struct dataset *d, const json_t *about, const struct array *array, size_t n, const unsigned char *start)
{
    const json_t *list = json_object_get(about, "tensors"), *one;
    const char *created, *id;
    size_t i;

    if (json_unpack((json_t *)about, "{s:s, s:s}", "created_at", &created, "id", &id) || strlen(id) != 16 || !n ||
        json_array_size(list) != n)
        return false;
    snprintf(d->created_at, sizeof d->created_at, "%s", created);
    snprintf(d->id, sizeof d->id, "%s", id);
    json_array_foreach(list, i, one) {
        struct dataset_tensor *t = &d->tensor[d->n++];
        const char *name = json_string_value(json_object_get(one, "name"));
        size_t j = 0;

        while (name && j < n && strcmp(array[j].name, name) != 0)
            j++;
        if (!name || j == n || !array[j].shape.rank || !array[j].shape.dim[0] || dataset_find(d, name) != NULL)
            return false;
        *t = (struct dataset_tensor){.type = array[j].type, .shape = array[j].shape, .at = (size_t)(array[j].data - start),
                                     .min = json_number_value(json_object_get(one, "min")),
                                     .max = json_number_value(json_object_get(one, "max")),
                                     .scale = json_number_value(json_object_get(one, "scale")),
                                     .offset = json_number_value(json_object_get(one, "offset")),
                                     .classes = (long)json_integer_value(json_object_get(one, "classes"))};
        strcpy(t->name, name);
        d->samples = t->shape.dim[0];
        t->row = array_bytes(&array[j]) / d->samples;
        d->bytes += array_bytes(&array[j]);
        if (d->samples != d->tensor[0].shape.dim[0])
            return false;
    }
    return true;
}

/* One file of the folder; a damaged one is there, too, and says so. */
static struct dataset *load(int folder, const char *file, const char *name)
{
    struct dataset *d = dataset_new(name);
    struct array *array = malloc(MAX_ARRAYS * sizeof *array);
    struct failure f = {0};
    json_t *metadata = NULL, *about = NULL;
    const char *text;
    struct stat st = {0};
    void *map = MAP_FAILED;
    size_t n;

    if (!d || !array)
        goto done;
    if ((d->fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 || fstat(d->fd, &st) || !st.st_size ||
        (map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, d->fd, 0)) == MAP_FAILED)
        failure_set(&f, 422, "bad_file", "%s", st.st_size ? strerror(errno) : "the file is empty");
    else if (tensors_parse(map, (size_t)st.st_size, array, &n, &metadata, &f) &&
             (!(text = json_string_value(json_object_get(metadata, "dataset"))) || !(about = json_loads(text, 0, NULL)) ||
              !describe(d, about, array, n, map)))
        failure_set(&f, 422, "bad_file", "the file's description is damaged");
    if (f.status) {
        d->n = 0;
        d->damage = strdup(f.text);
        log_error("dataset %s: %s", name, f.text);
    }
done:
    if (map != MAP_FAILED)
        munmap(map, (size_t)st.st_size);
    json_decref(metadata);
    json_decref(about);
    free(array);
    return d;
}

struct datasets *datasets_open(int state, bool read_only, char *why, size_t size)
{
    struct datasets *all = calloc(1, sizeof *all);
    struct dirent *entry;
    DIR *list = NULL;
    int fd = -1;

    if (!all)
        return snprintf(why, size, "out of memory"), NULL;
    all->folder = -1;
    pthread_mutex_init(&all->changing, NULL);
    pthread_mutex_init(&all->lock, NULL);
    if (read_only && (state < 0 || faccessat(state, "datasets", F_OK, 0)))
        return all;
    if ((!read_only && mkdirat(state, "datasets", 0700) && errno != EEXIST) ||
        (all->folder = openat(state, "datasets", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        (fd = openat(all->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || !(list = fdopendir(fd))) {
        snprintf(why, size, "datasets of the state directory: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        datasets_close(all);
        return NULL;
    }
    if (!read_only)
        unlinkat(all->folder, BESIDE, 0);
    while ((entry = readdir(list))) {
        char name[MODEL_NAME_MAX + 1];
        size_t length = strlen(entry->d_name), suffix = strlen(SUFFIX);
        struct dataset *d;

        if (length <= suffix || length - suffix > MODEL_NAME_MAX || strcmp(entry->d_name + length - suffix, SUFFIX) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(length - suffix), entry->d_name);
        if (!array_name_ok(name) || strchr(name, ':'))
            continue;
        if (reserve(all) && (d = load(all->folder, entry->d_name, name)))
            show(all, name, d);
        else
            log_error("dataset %s: out of memory", name);
    }
    closedir(list);
    return all;
}

void datasets_close(struct datasets *all)
{
    if (!all)
        return;
    for (size_t i = 0; i < all->n; i++)
        dataset_put(all->set[i]);
    if (all->folder >= 0)
        close(all->folder);
    pthread_mutex_destroy(&all->changing);
    pthread_mutex_destroy(&all->lock);
    free(all->set);
    free(all);
}
