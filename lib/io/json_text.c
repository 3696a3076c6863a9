/* json_text.c: JSON in one piece, or not at all. */
#include "io/json_text.h"

#include <langinfo.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
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

/* The number at `from`, n characters of jansson's 17 digits, with the fewest that read back as it; into to, which may be from. */
static size_t shorten(const char *from, size_t n, char *to)
{
    double x = strtod(from, NULL);
    char number[40];

    for (int digits = 15; digits < 17; digits++) {
        snprintf(number, sizeof number - 2, "%.*g", digits, x);
        if (strtod(number, NULL) != x)
            continue;
        if (!strpbrk(number, ".e"))
            strcat(number, ".0"); /* it stays a real one */
        if (strlen(number) >= n)
            break;
        return (size_t)(stpcpy(to, number) - to);
    }
    memmove(to, from, n);
    return n;
}

/* jansson writes 0.99 as 0.98999999999999999. */
static void shorten_all(char *text)
{
    char *to = text;

    if (strcmp(nl_langinfo(RADIXCHAR), "."))
        return; /* strtod reads something else */
    for (const char *from = text; *from;) {
        size_t n = 1;

        if (*from == '"') {
            while (from[n] != '"')
                n += from[n] == '\\' ? 2 : 1;
            n++;
        } else if (*from == '-' || (*from >= '0' && *from <= '9')) {
            n = strspn(from, "+-0123456789.eE");
            if (n > 15 && (memchr(from, '.', n) || memchr(from, 'e', n))) {
                to += shorten(from, n, to);
                from += n;
                continue;
            }
        }
        memmove(to, from, n);
        to += n;
        from += n;
    }
    *to = '\0';
}

char *lip__json_done(json_t *root, size_t flags)
{
    struct text t = {.lost = lost || !root};

    if (!t.lost)
        t.lost = json_dump_callback(root, append, &t, flags) || t.lost;
    json_decref(root);
    lost = false;
    if (!t.lost) {
        shorten_all(t.bytes);
        return t.bytes;
    }
    lip__free(t.bytes);
    return NULL;
}
