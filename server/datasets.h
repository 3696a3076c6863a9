/* datasets.h: named data for training and evaluation: one safetensors file each, datasets/NAME.safetensors, whose metadata
 * describe it. Replaced as a whole, by rename; whoever reads the one before goes on reading it.
 *
 * Rows are read by pread, not through a mapping: a file that somebody cut off, or a disk that fails, is then a failure of
 * one job and no SIGBUS of the daemon.
 * Threads: safe.
 */
#ifndef SERVER_DATASETS_H
#define SERVER_DATASETS_H

#include <jansson.h>
#include <stdatomic.h>

#include "array.h"

struct datasets;

struct dataset_tensor {
    char name[ARRAY_NAME_MAX + 1];
    enum codec_type type;
    lip_shape shape; /* samples first */
    size_t at, row;  /* where it begins in the file, bytes of one sample */
    double min, max, scale, offset;
    long classes; /* 0: no class indices */
};

/* Immutable, counted. */
struct dataset {
    atomic_uint refs;
    char name[MODEL_NAME_MAX + 1];
    char id[17];          /* drawn when it was stored: another one of the same name has another */
    char created_at[TIME_MAX];
    char *damage;         /* NULL, or why the file cannot be used; then nothing below is there */
    int fd;
    size_t samples, bytes, n;
    struct dataset_tensor tensor[MAX_ARRAYS];
};

/* datasets_open: those of the state directory; read_only: none where there is no such folder (state -1), and nothing is written.
 * NULL, with one sentence in why. */
struct datasets *datasets_open(int state, bool read_only, char *why, size_t size);
void datasets_close(struct datasets *all);

struct dataset *dataset_get(struct datasets *all, const char *name); /* counted; NULL: there is none */
void dataset_put(struct dataset *d);
/* datasets_list: all, newest first, each with a reference; free() after dataset_put of each. NULL: out of memory. */
struct dataset **datasets_list(struct datasets *all, size_t *n);

/* dataset_find: NULL: it has no such tensor. */
const struct dataset_tensor *dataset_find(const struct dataset *d, const char *tensor);

/* datasets_store: these arrays become the set `name`, on disk when it returns. scale, offset: of every array here.
 * only: NULL, or the array replaces this tensor (or is added) and the others stay. check as in store_create.
 * Returns the set with a reference, NULL with f (status 0: check refused). */
struct dataset *datasets_store(struct datasets *all, const char *name, struct arrays *arrays, double scale, double offset,
                               const char *only, bool (*check)(void *ctx, const char *name), void *ctx, bool *created,
                               struct failure *f);

/* datasets_delete: false with f (status 0: check refused). */
bool datasets_delete(struct datasets *all, const char *name, bool (*check)(void *ctx, const char *name), void *ctx,
                     struct failure *f);

/* dataset_bytes: `count` samples from `start` on, as they are stored. */
bool dataset_bytes(const struct dataset *d, const struct dataset_tensor *t, size_t start, size_t count, void *bytes,
                   struct failure *f);

/* dataset_rows: samples rows[0..count-1] as float32, scale and offset applied. raw: room for count * t->row bytes. */
bool dataset_rows(const struct dataset *d, const struct dataset_tensor *t, const size_t *rows, size_t count, void *raw, float *x,
                  struct failure *f);

json_t *dataset_json(const struct dataset *d); /* api.md 3.11; NULL: out of memory */

#endif
