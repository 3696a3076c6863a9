/* io.h: safetensors, the native format of weights.
 *
 * u64 little-endian header length, a JSON header padded with spaces to 8 bytes, then the tensors' bytes.
 * Source: the safetensors format description of its project.
 */
#ifndef ONELIP_IO_H
#define ONELIP_IO_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/error.h>
#include <onelip/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_safetensors lip_safetensors;

/* lip_safetensors_read: parse and check a whole file in memory. F32 tensors are used in place when aligned, F64,
 * F16 and BF16 are converted. Names unique, offsets inside the file, contiguous and without overlap, shapes times size
 * equal to bytes: all checked before memory is taken.
 * bytes must stay valid until lip_safetensors_free. Returns LIP_OK, LIP_EFILE, LIP_EUNSUPPORTED (other dtypes),
 * LIP_ENOMEM. Threads: safe. */
lip_err lip_safetensors_read(const void *bytes, size_t size, lip_safetensors **file, lip_error *err);
void lip_safetensors_free(lip_safetensors *file);
size_t lip_safetensors_count(const lip_safetensors *file);
const lip_named *lip_safetensors_tensors(const lip_safetensors *file); /* count entries, in file order */
const lip_named *lip_safetensors_find(const lip_safetensors *file, const char *name); /* NULL: none */
const char *lip_safetensors_metadata(const lip_safetensors *file, const char *key);   /* NULL: none */

/* lip_safetensors_write: the bytes of a file. metadata: n_metadata pairs key, value (2*n_metadata strings).
 * Returns the file (lip_free) and *size; NULL when out of memory. Data is copied; non-finite numbers pass.
 * The same input gives the same bytes. Threads: safe. */
void *lip_safetensors_write(const lip_named *tensors, size_t n, const char *const *metadata, size_t n_metadata,
                            size_t *size);

/* How a file keeps numbers. */
typedef enum lip_dtype { LIP_DTYPE_F32, LIP_DTYPE_F16, LIP_DTYPE_BF16 } lip_dtype;

/* lip_state_save_as: lip_state_save with further metadata (n_metadata pairs) and numbers rounded to dtype, to the nearest, ties to
 * even; those beyond its range become infinite. NULL when out of memory. Memory: lip_free. */
void *lip_state_save_as(const lip_state *state, lip_dtype dtype, const char *const *metadata, size_t n_metadata, size_t *size);

/* lip_state_save: every variable of a state, the canonical definition in the metadata key "definition". NULL when out
 * of memory. Memory: lip_free. */
void *lip_state_save(const lip_state *state, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
