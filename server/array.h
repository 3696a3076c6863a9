/* array.h: arrays as files hold them, of any numeric datatype, not yet converted: npy, IDX, npz, safetensors, CSV.
 *
 * Whatever a file says is checked against its bytes before it is believed; what is wrong is a failure "bad_file".
 * Sources: NumPy Enhancement Proposal 1; the IDX format of the MNIST database; PKWARE's APPNOTE 6.3 (zip); the safetensors
 * format description; RFC 4180 (CSV).
 */
#ifndef SERVER_ARRAY_H
#define SERVER_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

#include "codec.h"
#include "spool.h"
#include "store.h"

enum { ARRAY_NAME_MAX = 128, MAX_ARRAYS = 64 };

struct array {
    char name[ARRAY_NAME_MAX + 1]; /* "" where the format has none */
    enum codec_type type;
    lip_shape shape;
    bool swapped; /* big-endian */
    bool fortran; /* the first axis runs fastest */
    const unsigned char *data;
};

/* What was read from one file, and what it lies in. */
struct arrays {
    size_t n, n_spools;
    struct array array[MAX_ARRAYS];
    struct spool spool[2 * MAX_ARRAYS + 4]; /* decompressed or rearranged pieces */
};

/* Where pieces go, and how many bytes they may have in all. */
struct array_room {
    int folder;
    size_t left;
};

/* array_name_ok: 1 to 128 of A-Z a-z 0-9 . _ - :, the first a letter, digit or _. */
bool array_name_ok(const char *name);

size_t array_bytes(const struct array *a);

/* arrays_read: what the first bytes say the file is: npz, safetensors, npy, IDX, each of the latter two plain or in gzip; else
 * CSV when `csv`. one: a file of a single array without a name is wanted (npy, IDX), else one of named arrays.
 * label: the CSV column that becomes y_true; NULL: none. Row-major and little-endian afterwards.
 * Memory: arrays_clear, also after a failure; bytes must stay until then. */
bool arrays_read(const unsigned char *bytes, size_t size, bool one, const char *label, struct array_room *room,
                 struct arrays *out, struct failure *f);
void arrays_clear(struct arrays *arrays);

/* One format each, in memory. `array` gets all but its name. */
bool npy_parse(const unsigned char *bytes, size_t size, struct array *array, struct failure *f); /* npy.c */
bool idx_is(const unsigned char *bytes, size_t size);
bool idx_parse(const unsigned char *bytes, size_t size, struct array *array, struct failure *f); /* idx.c */
bool csv_read(const unsigned char *bytes, size_t size, const char *label, struct array_room *room, struct arrays *out,
              struct failure *f); /* csv.c */

/* tensors_file.c: the safetensors file with every datatype; *metadata (may be NULL) is a new reference or NULL. */
bool tensors_parse(const unsigned char *bytes, size_t size, struct array *array, size_t *n, json_t **metadata,
                   struct failure *f);
const char *tensors_dtype(enum codec_type type); /* "U8" */

/* array_spool: another spool of `out`; NULL with f. */
struct spool *array_spool(struct arrays *out, const struct array_room *room, size_t size, struct failure *f);
bool array_map(struct spool *spool, struct failure *f);

#endif
