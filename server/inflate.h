/* inflate.h: bodies with a content coding. */
#ifndef SERVER_INFLATE_H
#define SERVER_INFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "spool.h"

enum coding { CODING_NONE, CODING_GZIP, CODING_DEFLATE, CODING_RAW, CODING_UNKNOWN };

/* coding_named: of a Content-Encoding value; NULL and "identity" are CODING_NONE. */
enum coding coding_named(const char *value);

enum inflated { INFLATED, INFLATE_DAMAGED, INFLATE_TOO_LARGE, INFLATE_NO_MEMORY, INFLATE_NO_ROOM };

/* inflate_body: the bytes behind a coding.
 *
 * limit  INFLATE_TOO_LARGE beyond so many, before memory for more is taken
 * grow   asked before *out becomes `to` bytes instead of `from`; false: INFLATE_NO_MEMORY
 * out    malloc'd, *bytes and a NUL in *room + 1 bytes; NULL unless INFLATED
 *
 * Threads: safe. Source: RFC 9110, section 8.4.1; deflate is taken with zlib's header and without. */
enum inflated inflate_body(enum coding coding, const unsigned char *in, size_t n, size_t limit,
                           bool (*grow)(void *ctx, size_t from, size_t to), void *ctx, unsigned char **out, size_t *bytes,
                           size_t *room);

/* inflate_spool: the same to the end of a spool that is open and written, not mapped. limit: of what this adds to it.
 * CODING_RAW is deflate without any header, as zip archives have it. *error: the errno behind INFLATE_NO_ROOM. */
enum inflated inflate_spool(enum coding coding, const unsigned char *in, size_t n, size_t limit, struct spool *out, int *error);

#endif
