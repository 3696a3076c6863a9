#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Without O_TMPFILE (NFS, for one): a name that is gone at once. */
static int nameless(int dir)
{
    static const char name[] = ".spool";
    int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        unlinkat(dir, name, 0);
    return fd;
}

int spool_open(struct spool *s, int dir, size_t room)
{
    int error = 0;

    *s = (struct spool){.fd = nameless(dir)};
    if (s->fd < 0)
        return errno;
    s->open = true;
    if (room && fallocate(s->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)room) && errno != EOPNOTSUPP && errno != ENOSYS)
        error = errno;
    if (error)
        spool_close(s);
    return error;
}

int spool_write(struct spool *s, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n) {
        ssize_t done = write(s->fd, at, n);
        if (done > 0) {
            at += done;
            n -= (size_t)done;
            s->size += (size_t)done;
        } else if (done == 0) {
            return ENOSPC;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

int spool_map(struct spool *s)
{
    size_t size = s->size;
    int error = spool_write(s, "", 1);
    void *map;

    s->size = size;
    if (error)
        return error;
    if ((map = mmap(NULL, size + 1, PROT_READ, MAP_SHARED, s->fd, 0)) == MAP_FAILED)
        return errno;
    s->map = map;
    return 0;
}

void spool_close(struct spool *s)
{
    if (s->map)
        munmap(s->map, s->size + 1);
    if (s->open)
        close(s->fd);
    *s = (struct spool){0};
}
