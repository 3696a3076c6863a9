/* fields.c: the memory of configurable objects: defaults from a table of fields, and the way back.
 *
 * Values of a LIP__CHOICE are strings of their own, taken out of "same|valid" once and kept for the life of the
 * process, so that they can be compared with strcmp and copied as pointers.
 */
#include <assert.h>
#include <math.h>
#include <pthread.h>
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
        ((size_t *)value)[0] = ((size_t *)value)[1] = both;
        break;
    case LIP__INTS:
        memset(value, 0, sizeof(struct lip__ints));
        break;
    case LIP__FLOATS:
        memset(value, 0, sizeof(struct lip__floats));
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
