/* spool.h: bytes that do not have to fit in memory: a file without a name in the state directory, written once, then read
 * through a mapping. Nobody else can reach the file, so the mapping stays whole. Threads: one at a time. */
#ifndef SERVER_SPOOL_H
#define SERVER_SPOOL_H

#include <stdbool.h>
#include <stddef.h>

struct spool {
    bool open;
    int fd;
    size_t size;
    unsigned char *map; /* size bytes and a NUL; NULL before spool_map */
};

/* spool_open: in folder `dir`. room: bytes that are to come, if known (0): a disk that has no room for them says so now.
 * Returns 0 or an errno, as do the next two. */
int spool_open(struct spool *s, int dir, size_t room);
int spool_write(struct spool *s, const void *bytes, size_t n);
int spool_map(struct spool *s); /* no more is written */
void spool_close(struct spool *s); /* may be repeated; a zeroed one is closed */

#endif
