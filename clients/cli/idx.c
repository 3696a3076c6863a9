/* idx.c: through zlib, which reads plain files as they are. */
#include "idx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* More than any data set of this format has. */
#define LIMIT ((size_t)1 << 32)

static int refuse(gzFile f, const char *path, const char *what)
{
    fprintf(stderr, "onelip: %s: %s\n", path, what);
    if (f)
        gzclose(f);
    return -1;
}

/* All of it, also where gzread's unsigned length does not suffice. */
static int read_all(gzFile f, unsigned char *at, size_t n)
{
    while (n) {
        unsigned piece = n > 1 << 20 ? 1 << 20 : (unsigned)n;
        int got = gzread(f, at, piece);
        if (got <= 0)
            return -1;
        at += got;
        n -= (size_t)got;
    }
    return 0;
}

int idx_read(struct idx *x, const char *path)
{
    unsigned char head[4], size[4], more;
    gzFile f = gzopen(path, "rb");
    size_t count = 1;

    memset(x, 0, sizeof *x);
    if (!f)
        return refuse(NULL, path, "cannot be opened");
    if (read_all(f, head, 4) || head[0] || head[1] || head[2] != 8 || !head[3] || head[3] > 4)
        return refuse(f, path, "is no IDX file of unsigned bytes with 1 to 4 axes");
    x->rank = head[3];
    for (size_t i = 0; i < x->rank; i++) {
        if (read_all(f, size, 4))
            return refuse(f, path, "ends in its header");
        x->dim[i] = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
        if (!x->dim[i] || x->dim[i] > LIMIT / count)
            return refuse(f, path, "has an axis of size 0, or is larger than 4 GiB");
        count *= x->dim[i];
    }
    x->item = count / x->dim[0];
    x->data = malloc(count);
    if (!x->data)
        return refuse(f, path, "is larger than memory");
    if (read_all(f, x->data, count) || gzread(f, &more, 1) != 0) {
        idx_clear(x);
        return refuse(f, path, "has less or more data than its header says");
    }
    gzclose(f);
    return 0;
}

void idx_clear(struct idx *x)
{
    free(x->data);
    memset(x, 0, sizeof *x);
}
