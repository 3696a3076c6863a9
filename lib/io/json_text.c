/* json_text.c: JSON in one piece, or not at all. */
#include "io/json_text.h"

#include <stdbool.h>
#include <string.h>

#include "base/base.h"

static _Thread_local bool lost;

int lip__json_set(json_t *object, const char *key, json_t *value)
{
    int failed = json_object_set_new(object, key, value);

    lost |= failed;
    return failed;
}

int lip__json_add(json_t *array, json_t *value)
{
    int failed = json_array_append_new(array, value);

    lost |= failed;
    return failed;
}

/* A text that grows. json_dumps goes on behind a piece that found no memory: here one is enough. */
struct text {
    char *bytes;
    size_t length, room;
    bool lost;
};

static int append(const char *piece, size_t size, void *context)
{
    struct text *t = context;

    if (!t->lost && t->room - t->length <= size) {
        size_t room = 2 * t->room + size + 256;
        char *more = lip__alloc(room, 1);
        if (more && t->length)
            memcpy(more, t->bytes, t->length);
        lip__free(t->bytes);
        t->bytes = more;
        t->room = room;
        t->lost = !more;
    }
    if (t->lost)
        return -1;
    memcpy(t->bytes + t->length, piece, size);
    t->length += size; /* fresh memory is zero: the text ends here */
    return 0;
}

char *lip__json_done(json_t *root, size_t flags)
{
    struct text t = {.lost = lost || !root};

    if (!t.lost)
        t.lost = json_dump_callback(root, append, &t, flags) || t.lost;
    json_decref(root);
    lost = false;
    if (!t.lost)
        return t.bytes;
    lip__free(t.bytes);
    return NULL;
}
