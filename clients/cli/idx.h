/* idx.h: the files of MNIST and its kin, plain or gzip.
 *
 * Two zero bytes, a type byte (8: unsigned bytes), the number of axes, one big-endian u32 per axis, the data.
 * Source: the format's description on the page of the MNIST database.
 */
#ifndef CLI_IDX_H
#define CLI_IDX_H

#include <stddef.h>

struct idx {
    size_t rank, dim[4];
    size_t item; /* bytes of one entry along the first axis */
    unsigned char *data;
};

/* idx_read: a whole file of unsigned bytes. 0, or -1 after a line on stderr. Memory: idx_clear. */
int idx_read(struct idx *x, const char *path);
void idx_clear(struct idx *x);

#endif
