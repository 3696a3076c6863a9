/* fields.c: the memory of configurable objects: defaults from a table of fields, and the way back.
 *
 * Values of a LIP__CHOICE are strings of their own, taken out of "same|valid" once and kept for the life of the
 * process, so that they can be compared with strcmp and copied as pointers.
 */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "layers/layer.h"

/* The one string that equals text[0..length-1]. */
static const char *interned(const char *text, size_t length)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char words[4096]; /* each ends in NUL; all choices of all tables are a few hundred bytes */
    static size_t used;
    const char *found = NULL;

    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < used && !found; at += strlen(words + at) + 1)
        if (!strncmp(words + at, text, length) && !words[at + length])
            found = words + at;
    if (!found) {
        assert(used + length + 1 <= sizeof words);
        found = memcpy(words + used, text, length);
        used += length + 1;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static const char *word_end(const char *word)
{
    return word + strcspn(word, "|");
}

const char *lip__field_choice(const struct lip__field *field, const char *text)
{
    size_t length = strlen(text);

    for (const char *word = field->choices;; word = word_end(word) + 1) {
        size_t size = (size_t)(word_end(word) - word);
        if (size == length && !(field->flags & LIP__ANY_CASE ? strncasecmp : strncmp)(word, text, length))
            return interned(word, size);
        if (!*word_end(word))
            return NULL;
    }
}

static const char *default_choice(const struct lip__field *field)
{
    const char *word = field->choices;

    if (isnan(field->def))
        return NULL;
    for (int skip = (int)field->def; skip; skip--)
        word = word_end(word) + 1;
    return interned(word, (size_t)(word_end(word) - word));
}

static void *at(void *object, const struct lip__field *field)
{
    return (char *)object + field->offset;
}

size_t lip__pair_none(const struct lip__field *field)
{
    return field->min > 0 ? 0 : SIZE_MAX;
}

static void set_default(const struct lip__field *field, void *value)
{
    bool none = isnan(field->def);
    size_t both = none ? 0 : (size_t)field->def;

    switch (field->type) {
    case LIP__INT:
        *(long *)value = none ? 0 : (long)field->def;
        break;
    case LIP__FLOAT:
        *(double *)value = field->def;
        break;
    case LIP__BOOL:
        *(bool *)value = !none && field->def != 0;
        break;
    case LIP__PAIR:
        ((size_t *)value)[0] = ((size_t *)value)[1] = none ? lip__pair_none(field) : both;
        break;
    case LIP__INTS:
        memset(value, 0, sizeof(struct lip__ints));
        break;
    case LIP__FLOATS:
        memset(value, 0, sizeof(struct lip__floats));
        break;
    case LIP__STRINGS:
        memset(value, 0, sizeof(struct lip__strings));
        break;
    case LIP__EDGES:
        for (size_t i = 0; i < 4; i++)
            ((size_t *)value)[i] = both;
        break;
    case LIP__CHOICE:
        *(const char **)value = default_choice(field);
        break;
    case LIP__OBJECT:
        *(struct lip__object **)value = none                      ? NULL
                                        : field->flags & LIP__BARE ? lip__object_bare(field->of[0], field->def)
                                                                   : lip__object_new(field->of[(size_t)field->def]);
        break;
    case LIP__STRING:
        *(char **)value = NULL;
        break;
    case LIP__ACTIVATION:
        *(lip_layer **)value = NULL;
        break;
    case LIP__AXES:
        ((long *)value)[0] = -1;
        ((long *)value)[1] = (long)field->def;
        break;
    case LIP__NULL:
    case LIP__ANY:
    case LIP__FIXED:
        break;
    }
}

void lip__fields_default(const struct lip__class *cls, void *object)
{
    for (const struct lip__field *field = cls->fields; field->name; field++)
        set_default(field, at(object, field));
}

void lip__strings_clear(struct lip__strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        lip__free(list->v[i]);
    lip__free(list->v);
    *list = (struct lip__strings){0};
}

void lip__fields_clear(const struct lip__class *cls, void *object)
{
    for (const struct lip__field *field = cls->fields; field->name; field++) {
        void *value = at(object, field);
        if (field->type == LIP__OBJECT) {
            lip__object_free(*(struct lip__object **)value);
            *(struct lip__object **)value = NULL;
        } else if (field->type == LIP__STRING) {
            lip__free(*(char **)value);
            *(char **)value = NULL;
        } else if (field->type == LIP__FLOATS) {
            lip__free(((struct lip__floats *)value)->v);
            memset(value, 0, sizeof(struct lip__floats));
        } else if (field->type == LIP__STRINGS) {
            lip__strings_clear(value);
        } else if (field->type == LIP__ACTIVATION) {
            lip__layer_free(*(lip_layer **)value);
            *(lip_layer **)value = NULL;
        }
    }
}

/* Whether each object that has a default is there. */
static bool complete(const struct lip__class *cls, void *object)
{
    for (const struct lip__field *field = cls->fields; field->name; field++)
        if (field->type == LIP__OBJECT && !isnan(field->def) && !*(struct lip__object **)at(object, field))
            return false;
    return true;
}

struct lip__object *lip__object_new(const struct lip__class *cls)
{
    struct lip__object *object = lip__alloc(1, cls->size);

    if (!object)
        return NULL;
    object->cls = cls;
    lip__fields_default(cls, object);
    if (complete(cls, object))
        return object;
    lip__object_free(object);
    return NULL;
}

struct lip__object *lip__object_bare(const struct lip__class *cls, double x)
{
    struct lip__object *object = lip__object_new(cls);

    if (object)
        *(double *)at(object, &cls->fields[0]) = x;
    return object;
}

void lip__object_free(struct lip__object *object)
{
    if (!object)
        return;
    lip__fields_clear(object->cls, object);
    lip__free(object);
}

/* ---- copies ---------------------------------------------------------------------------------------------- */

static struct lip__object *copy_object(const struct lip__object *object)
{
    struct lip__object *copy = lip__object_new(object->cls);

    if (copy && lip__fields_copy(object->cls, object, object->cls, copy))
        return copy;
    lip__object_free(copy);
    return NULL;
}

/* The memory that a field of this type takes in its object, where a copy of it is a copy of the bytes; else 0. */
static size_t plain_size(const struct lip__field *field)
{
    switch (field->type) {
    case LIP__INT:
        return sizeof(long);
    case LIP__FLOAT:
        return sizeof(double);
    case LIP__BOOL:
        return sizeof(bool);
    case LIP__PAIR:
        return 2 * sizeof(size_t);
    case LIP__INTS:
        return sizeof(struct lip__ints);
    case LIP__EDGES:
        return 4 * sizeof(size_t);
    case LIP__CHOICE:
        return sizeof(const char *);
    case LIP__AXES:
        return (LIP_MAX_RANK + 1) * sizeof(long);
    default:
        return 0;
    }
}

static bool copy_owned(const struct lip__field *field, const void *from, void *to, bool objects)
{
    if (field->type == LIP__STRING) {
        const char *text = *(char *const *)from;
        lip__free(*(char **)to);
        *(char **)to = text ? lip__strdup(text) : NULL;
        return !text || *(char **)to;
    }
    if (field->type == LIP__FLOATS) {
        const struct lip__floats *list = from;
        struct lip__floats copy = {list->n, list->n ? lip__alloc(list->n, sizeof *copy.v) : NULL};
        if (list->n && !copy.v)
            return false;
        if (list->n)
            memcpy(copy.v, list->v, list->n * sizeof *copy.v);
        lip__free(((struct lip__floats *)to)->v);
        *(struct lip__floats *)to = copy;
        return true;
    }
    if (field->type == LIP__STRINGS) {
        const struct lip__strings *list = from;
        struct lip__strings *copy = to;
        lip__strings_clear(copy);
        if (list->n && !(copy->v = lip__alloc(list->n, sizeof *copy->v)))
            return false;
        for (; copy->n < list->n; copy->n++)
            if (!(copy->v[copy->n] = lip__strdup(list->v[copy->n])))
                return false;
        return true;
    }
    if (field->type == LIP__OBJECT && objects) {
        const struct lip__object *object = *(struct lip__object *const *)from;
        lip__object_free(*(struct lip__object **)to);
        *(struct lip__object **)to = object ? copy_object(object) : NULL;
        return !object || *(struct lip__object **)to;
    }
    if (field->type == LIP__ACTIVATION) {
        const lip_layer *slot = *(lip_layer *const *)from;
        lip__layer_free(*(lip_layer **)to);
        *(lip_layer **)to = slot ? lip__layer_copy(slot, slot->kind) : NULL;
        return !slot || *(lip_layer **)to;
    }
    return true;
}

bool lip__fields_copy(const struct lip__class *cls, const void *from, const struct lip__class *to_cls, void *to)
{
    for (const struct lip__field *g = to_cls->fields; g->name; g++) {
        const struct lip__field *f = cls == to_cls ? g : cls->fields;
        while (f->name && strcmp(f->name, g->name))
            f++;
        if (!f->name || f->type != g->type)
            continue;
        const char *source = (const char *)from + f->offset;
        size_t size = plain_size(f);
        if (size)
            memcpy(at(to, g), source, size);
        else if (!copy_owned(f, source, at(to, g), cls == to_cls))
            return false;
    }
    return true;
}
