/* alloc.c: every byte the library takes from the heap. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

#include <onelip/model.h>

enum { ALIGNMENT = 64 }; /* a cache line, and the widest vector register */

int (*lip__alloc_hook)(void);

void *lip__alloc(size_t count, size_t size)
{
    size_t bytes;
    void *memory;

    if (__builtin_mul_overflow(count, size, &bytes) || !bytes || bytes > PTRDIFF_MAX)
        return NULL;
    if ((lip__alloc_hook && lip__alloc_hook()) || posix_memalign(&memory, ALIGNMENT, bytes))
        return NULL;
    return memset(memory, 0, bytes);
}

void lip__free(void *memory)
{
    free(memory);
}

void lip_free(void *memory)
{
    free(memory);
}

char *lip__strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = lip__alloc(bytes, 1);

    return copy ? memcpy(copy, text, bytes) : NULL;
}
