#include "deflate.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#define GZIP_WINDOW (MAX_WBITS + 16) /* zlib's way to ask for gzip's header */

bool deflate_body(enum coding coding, const void *in, size_t n, void **out, size_t *bytes)
{
    z_stream z = {.next_in = (unsigned char *)in, .avail_in = (uInt)n, .avail_out = (uInt)n};
    unsigned char *room;
    bool whole;

    if (n > UINT_MAX || !(room = malloc(n)))
        return false;
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, coding == CODING_GZIP ? GZIP_WINDOW : MAX_WBITS, MAX_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        free(room);
        return false;
    }
    z.next_out = room;
    whole = deflate(&z, Z_FINISH) == Z_STREAM_END; /* else it is no smaller than it was */
    deflateEnd(&z);
    if (!whole) {
        free(room);
        return false;
    }
    *out = room;
    *bytes = z.total_out;
    return true;
}
