/* files.h: whole files, read and durably replaced, below a directory that is open. Every function returns 0 or an errno. */
#ifndef SERVER_FILES_H
#define SERVER_FILES_H

#include <stddef.h>

/* file_write: a new file, on disk when this returns, its folder not yet. Nothing is left behind on failure. */
int file_write(int dir, const char *name, const void *bytes, size_t size);

/* file_replace: write beside, fsync, rename, fsync of the folder (the one that `name` itself stands in). */
int file_replace(int dir, const char *name, const void *bytes, size_t size);

/* file_read: all of it, with a NUL behind, at most `limit` bytes (EFBIG). *bytes is 64-byte aligned; free(). */
int file_read(int dir, const char *name, size_t limit, void **bytes, size_t *size);

/* file_load: the same of a file that is open, which is closed in any case. */
int file_load(int fd, size_t limit, void **bytes, size_t *size);

/* folder_sync: what was created, renamed and removed in it. name may be ".". */
int folder_sync(int dir, const char *name);

/* folder_remove: it and everything in it. A folder that is not there is no failure. */
int folder_remove(int dir, const char *name);

#endif
