/* deflate.h: answers with a content coding. */
#ifndef SERVER_DEFLATE_H
#define SERVER_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "inflate.h"

/* deflate_body: in, n bytes, as CODING_GZIP or CODING_DEFLATE (zlib's format), at the fastest level. *out is malloc'd and smaller
 * than n; false: it would not be, or there is no memory. Threads: safe. Source: RFC 9110, section 8.4.1. */
bool deflate_body(enum coding coding, const void *in, size_t n, void **out, size_t *bytes);

#endif
