#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_write(int dir, const char *name, const void *bytes, size_t size)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), error = 0;
    const char *at = bytes;

    if (fd < 0)
        return errno;
    while (size && !error) {
        ssize_t n = write(fd, at, size);
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        } else if (n == 0) {
            error = ENOSPC;
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    if (!error && fsync(fd))
        error = errno;
    if (close(fd) && !error)
        error = errno;
    if (error)
        unlinkat(dir, name, 0);
    return error;
}

int file_replace(int dir, const char *name, const void *bytes, size_t size)
{
    char beside[PATH_MAX], folder[PATH_MAX];
    const char *slash = strrchr(name, '/');
    int error;

    if (snprintf(beside, sizeof beside, "%s.tmp", name) >= (int)sizeof beside)
        return ENAMETOOLONG;
    if ((error = file_write(dir, beside, bytes, size)))
        return error;
    if (renameat(dir, beside, dir, name)) {
        error = errno;
        unlinkat(dir, beside, 0);
        return error;
    }
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - name) : 1, slash ? name : ".");
    return folder_sync(dir, folder);
}

int file_read(int dir, const char *name, size_t limit, void **bytes, size_t *size)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    *bytes = NULL;
    *size = 0;
    return fd < 0 ? errno : file_load(fd, limit, bytes, size);
}

int file_load(int fd, size_t limit, void **bytes, size_t *size)
{
    struct stat st;
    char *data = NULL;
    size_t have = 0;
    int error = 0;

    *bytes = NULL;
    *size = 0;
    if (fstat(fd, &st))
        error = errno;
    else if (!S_ISREG(st.st_mode))
        error = EINVAL;
    else if ((uintmax_t)st.st_size > limit)
        error = EFBIG;
    else if (posix_memalign((void **)&data, 64, (size_t)st.st_size + 1))
        error = ENOMEM;
    while (!error && have < (size_t)st.st_size) {
        ssize_t n = read(fd, data + have, (size_t)st.st_size - have);
        if (n > 0)
            have += (size_t)n;
        else if (n == 0)
            break; /* it became shorter: whoever checks it will see */
        else if (errno != EINTR)
            error = errno;
    }
    close(fd);
    if (error) {
        free(data);
        return error;
    }
    data[have] = 0;
    *bytes = data;
    *size = have;
    return 0;
}

int folder_sync(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return errno;
    if (fsync(fd))
        error = errno;
    close(fd);
    return error;
}

int folder_remove(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), error = 0;
    DIR *list;
    struct dirent *entry;

    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    if (!(list = fdopendir(fd))) {
        error = errno;
        close(fd);
        return error;
    }
    while ((entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (unlinkat(fd, entry->d_name, 0) && (errno != EISDIR || (errno = folder_remove(fd, entry->d_name))) && !error)
            error = errno;
    }
    closedir(list);
    if (unlinkat(dir, name, AT_REMOVEDIR) && !error)
        error = errno;
    return error;
}
