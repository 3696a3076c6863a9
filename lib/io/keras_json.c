/* keras_json.c: models and their parts to and from Keras's JSON.
 *
 * Every configurable thing is read and written by its class's table of fields, so that the accepted keys, the text of an
 * error and get_config's order are one list. Both dialects of semantics.md 20 are read; the "deel-lip>" prefix is optional.
 */
#include "io/keras_json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json_text.h"
#include "model/model.h"

#define POINTER 160
#define WITHIN 256 /* who and what an error is about: layer "d1" (SpectralDense): kernel_regularizer */

/* Bookkeeping that Keras writes beside class_name and config, and that says nothing about the numbers. */
static const char *const bookkeeping[] = {"class_name", "config", "module", "registered_name", "build_config",
                                          "shared_object_id", "__passive_serialization__", "keras_version", "backend",
                                          "compile_config", "name", "inbound_nodes", NULL};

static bool listed(const char *name, const char *const *list)
{
    for (; list && *list; list++)
        if (!strcmp(*list, name))
            return true;
    return false;
}

static const char *json_kind(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return "null";
    }
}

/* base/key, with ~ and / escaped as RFC 6901 wants. */
static const char *join(char *out, const char *base, const char *key)
{
    size_t n = (size_t)snprintf(out, POINTER, "%s/", base);

    for (; *key && n + 3 < POINTER; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n < POINTER ? n : POINTER - 1] = '\0';
    return out;
}

/* Appends ", name" to a list in text[size], or ", ..." when that is too long, and nothing more then. */
static void append(char *text, size_t size, const char *name)
{
    size_t n = strlen(text);

    if (n >= 3 && !strcmp(text + n - 3, "..."))
        return;
    if (n + strlen(name) + sizeof ", , ..." > size)
        name = "...";
    snprintf(text + n, size - n, "%s%s", n ? ", " : "", name);
}

static const char *bare(const char *name)
{
    const char *mark = strchr(name, '>');

    return mark ? mark + 1 : name;
}

/* ---- reading values ------------------------------------------------------------------------------- */

/* A number, also as Keras 2.12 writes some: {"class_name": "__numpy__", "config": {"value": 0.0}}, and infinity as text. */
static bool number(const json_t *v, double *x)
{
    if (json_is_object(v) && json_is_string(json_object_get(v, "class_name")) &&
        !strcmp(json_string_value(json_object_get(v, "class_name")), "__numpy__"))
        v = json_object_get(json_object_get(v, "config"), "value");
    if (json_is_number(v)) {
        *x = json_number_value(v);
        return true;
    }
    if (json_is_string(v)) {
        const char *text = json_string_value(v);
        if (!strcmp(text, "Infinity") || !strcmp(text, "-Infinity")) {
            *x = text[0] == '-' ? -INFINITY : INFINITY;
            return true;
        }
    }
    return false;
}

static bool in_range(const struct lip__field *f, double x)
{
    return (f->flags & LIP__OPEN_MAX ? x < f->max : x <= f->max) && (f->flags & LIP__OPEN_MIN ? x > f->min : x >= f->min);
}

/* " >= 1 and < 2"; "" where any number will do, or the value is no number. */
static const char *range_text(const struct lip__field *f, char *text, size_t size)
{
    int n = 0;

    *text = '\0';
    if (f->type != LIP__INT && f->type != LIP__FLOAT && f->type != LIP__PAIR && f->type != LIP__INTS && f->type != LIP__FLOATS &&
        f->type != LIP__EDGES)
        return text;
    if (!isinf(f->min))
        n = snprintf(text, size, " %s %.10g", f->flags & LIP__OPEN_MIN ? ">" : ">=", f->min);
    if (!isinf(f->max))
        snprintf(text + n, size - (size_t)n, "%s %s %.10g", n ? " and" : "", f->flags & LIP__OPEN_MAX ? "<" : "<=", f->max);
    return text;
}

static lip_err misfit(const struct lip__field *f, const json_t *v, const char *what, const char *wanted, const char *pointer,
                      lip_error *err)
{
    char range[96], *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    lip_err rc = lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s: %s is %.60s, needs %s%s%s", what, f->name,
                              found ? found : json_kind(v), wanted, range_text(f, range, sizeof range),
                              f->flags & LIP__NONE_OK ? " or null" : "");

    free(found);
    return rc;
}

static lip_err read_int(const json_t *v, const struct lip__field *f, long *x, const char *what, const char *pointer,
                        lip_error *err)
{
    double d;

    if (!number(v, &d) || d != floor(d) || fabs(d) > 1e15 || !in_range(f, d))
        return misfit(f, v, what, "an integer", pointer, err);
    *x = (long)d;
    return LIP_OK;
}

static lip_err read_pair(const json_t *v, const struct lip__field *f, size_t *x, const char *what, const char *pointer,
                         lip_error *err)
{
    long a, b;

    if (json_is_array(v) && json_array_size(v) != 2)
        return misfit(f, v, what, "an integer or two of them", pointer, err);
    for (int i = 0; i < 2; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        if (json_is_object(e) || json_is_array(e))
            return misfit(f, v, what, "an integer or two of them", pointer, err);
        lip_err rc = read_int(e, f, i ? &b : &a, what, pointer, err);
        if (rc != LIP_OK)
            return rc;
    }
    x[0] = (size_t)a;
    x[1] = (size_t)b;
    return LIP_OK;
}

static lip_err read_ints(const json_t *v, const struct lip__field *f, struct lip__ints *x, const char *what,
                         const char *pointer, lip_error *err)
{
    struct lip__ints list = {.n = json_array_size(v)};

    if (!json_is_array(v) || list.n > LIP_MAX_RANK)
        return misfit(f, v, what, "a list of at most 8 integers, each", pointer, err);
    for (size_t i = 0; i < list.n; i++) {
        lip_err rc = read_int(json_array_get(v, i), f, &list.v[i], what, pointer, err);
        if (rc != LIP_OK)
            return rc;
    }
    *x = list;
    return LIP_OK;
}

/* 1, [1, 2] or [[1, 1], [2, 2]]. */
static lip_err read_floats(const json_t *v, const struct lip__field *f, struct lip__floats *x, const char *what,
                           const char *pointer, lip_error *err)
{
    size_t n = json_array_size(v);

    if (f->flags & LIP__NUMPY) { /* a row, perhaps of a matrix of one */
        v = json_is_object(v) ? json_object_get(json_object_get(v, "config"), "value") : v;
        v = json_array_size(v) == 1 && json_is_array(json_array_get(v, 0)) ? json_array_get(v, 0) : v;
        n = json_array_size(v);
    }
    if (!json_is_array(v) || n == 0 || n > LIP__MAX_FLOATS)
        return misfit(f, v, what, "a list of numbers", pointer, err);
    lip__free(x->v);
    x->n = 0;
    if (!(x->v = lip__alloc(n, sizeof *x->v)))
        return lip__nomem(err, n * sizeof *x->v);
    for (x->n = 0; x->n < n; x->n++)
        if (!number(json_array_get(v, x->n), &x->v[x->n]) || !in_range(f, x->v[x->n]))
            return misfit(f, v, what, "a list of numbers", pointer, err);
    return LIP_OK;
}

static lip_err read_strings(const json_t *v, const struct lip__field *f, struct lip__strings *x, const char *what,
                            const char *pointer, lip_error *err)
{
    size_t n = json_is_string(v) ? 1 : json_array_size(v);

    for (size_t i = 0; json_is_array(v) && i < n; i++)
        if (!json_is_string(json_array_get(v, i)))
            return misfit(f, v, what, "a list of strings", pointer, err);
    if (n == 0 || n > LIP__MAX_FLOATS)
        return misfit(f, v, what, "a list of strings", pointer, err);
    lip__strings_clear(x);
    if (!(x->v = lip__alloc(n, sizeof *x->v)))
        return lip__nomem(err, n * sizeof *x->v);
    for (; x->n < n; x->n++)
        if (!(x->v[x->n] = lip__strdup(json_string_value(json_is_string(v) ? v : json_array_get(v, x->n)))))
            return lip__nomem(err, n);
    return LIP_OK;
}

static lip_err read_edges(const json_t *v, const struct lip__field *f, size_t *x, const char *what, const char *pointer,
                          lip_error *err)
{
    size_t edges[4];

    if (json_is_array(v) && json_array_size(v) != 2)
        return misfit(f, v, what, "an integer, two, or two pairs of them", pointer, err);
    for (size_t i = 0; i < 2; i++) {
        lip_err rc = read_pair(json_is_array(v) ? json_array_get(v, i) : v, f, edges + 2 * i, what, pointer, err);
        if (rc != LIP_OK)
            return rc;
    }
    memcpy(x, edges, sizeof edges);
    return LIP_OK;
}

static lip_err read_axes(const json_t *v, const struct lip__field *f, long *x, const char *what, const char *pointer,
                         lip_error *err)
{
    size_t n = json_array_size(v);

    if (json_is_integer(v) ? llabs(json_integer_value(v)) > LIP_MAX_RANK : n < 1 || n > LIP_MAX_RANK)
        return misfit(f, v, what, "an axis or a list of them", pointer, err);
    x[0] = json_is_integer(v) ? -1 : (long)n;
    x[1] = (long)json_integer_value(v);
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_integer(e) || llabs(json_integer_value(e)) > LIP_MAX_RANK)
            return misfit(f, v, what, "an axis or a list of them", pointer, err);
        x[i + 1] = (long)json_integer_value(e);
    }
    return LIP_OK;
}

static lip_err read_choice(const json_t *v, const struct lip__field *f, const char **x, const char *what, const char *pointer,
                           lip_error *err)
{
    const char *found = json_is_string(v) ? lip__field_choice(f, json_string_value(v)) : NULL;
    char list[200];

    if (!found) {
        snprintf(list, sizeof list, "one of %.180s", f->choices);
        return misfit(f, v, what, list, pointer, err);
    }
    *x = found;
    return LIP_OK;
}

static lip_err read_fixed(const json_t *v, const struct lip__field *f, const char *what, const char *pointer, lip_error *err)
{
    json_t *wanted = json_loads(f->choices, JSON_DECODE_ANY, NULL);
    bool same = json_equal(wanted, v) || (json_is_number(wanted) && json_is_number(v) &&
                                          json_number_value(wanted) == json_number_value(v));

    /* A pair may come as one number: dilation_rate 1 is [1, 1]. */
    if (!same && json_is_array(wanted) && json_is_number(v)) {
        size_t i;
        json_t *e;
        same = json_array_size(wanted) > 0;
        json_array_foreach(wanted, i, e)
            same = same && json_number_value(e) == json_number_value(v);
    }
    json_decref(wanted);
    if (same)
        return LIP_OK;
    char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    lip_err rc = lip__fail_at(err, LIP_EUNSUPPORTED, pointer, "%.200s: %s is %.60s; only %.60s is built in", what, f->name,
                              found ? found : json_kind(v), f->choices);
    free(found);
    return rc;
}

static lip_err read_slot(const json_t *v, const lip_layer *owner, lip_layer **slot, const char *what, const char *pointer,
                         lip_error *err);

/* A number in place of an object. */
static lip_err read_bare(const json_t *v, const struct lip__field *f, struct lip__object **object, const char *what,
                         const char *pointer, lip_error *err)
{
    const struct lip__field *first = &f->of[0]->fields[0];
    double d;

    if (!number(v, &d) || !in_range(first, d))
        return misfit(first, v, what, "a schedule or a number", pointer, err);
    lip__object_free(*object);
    *object = lip__object_bare(f->of[0], d);
    return *object ? LIP_OK : lip__nomem(err, f->of[0]->size);
}

static lip_err read_field(const json_t *v, const struct lip__field *f, void *object, const char *what, const char *pointer,
                          lip_error *err)
{
    char *at = (char *)object + f->offset, within[WITHIN];
    double d;

    if (json_is_null(v) && f->flags & LIP__NONE_OK) {
        switch (f->type) {
        case LIP__INT:
            *(long *)at = 0;
            return LIP_OK;
        case LIP__FLOAT:
            *(double *)at = NAN;
            return LIP_OK;
        case LIP__PAIR:
            ((size_t *)at)[0] = ((size_t *)at)[1] = lip__pair_none(f);
            return LIP_OK;
        case LIP__INTS:
            memset(at, 0, sizeof(struct lip__ints));
            return LIP_OK;
        case LIP__FLOATS:
            lip__free(((struct lip__floats *)(void *)at)->v);
            memset(at, 0, sizeof(struct lip__floats));
            return LIP_OK;
        case LIP__STRING:
            lip__free(*(char **)at);
            *(char **)at = NULL;
            return LIP_OK;
        default:
            break;
        }
    }
    switch (f->type) {
    case LIP__INT:
        return read_int(v, f, (long *)at, what, pointer, err);
    case LIP__FLOAT:
        if (!number(v, &d) || !in_range(f, d))
            return misfit(f, v, what, "a number", pointer, err);
        *(double *)at = d;
        return LIP_OK;
    case LIP__BOOL:
        if (!json_is_boolean(v))
            return misfit(f, v, what, "true or false", pointer, err);
        *(bool *)at = json_is_true(v);
        return LIP_OK;
    case LIP__PAIR:
        return read_pair(v, f, (size_t *)at, what, pointer, err);
    case LIP__INTS:
        return read_ints(v, f, (struct lip__ints *)at, what, pointer, err);
    case LIP__FLOATS:
        return read_floats(v, f, (struct lip__floats *)at, what, pointer, err);
    case LIP__STRINGS:
        return read_strings(v, f, (struct lip__strings *)at, what, pointer, err);
    case LIP__EDGES:
        return read_edges(v, f, (size_t *)at, what, pointer, err);
    case LIP__CHOICE:
        if (json_is_null(v) && !strcmp(f->name, "data_format"))
            return LIP_OK; /* Keras: null is its default */
        return read_choice(v, f, (const char **)at, what, pointer, err);
    case LIP__STRING:
        if (!json_is_string(v))
            return misfit(f, v, what, "a string", pointer, err);
        lip__free(*(char **)at);
        *(char **)at = lip__strdup(json_string_value(v));
        return *(char **)at ? LIP_OK : lip__nomem(err, json_string_length(v));
    case LIP__OBJECT:
        if (f->flags & LIP__BARE && !json_is_object(v)) /* the object that is there may be of another class */
            return read_bare(v, f, (struct lip__object **)at, what, pointer, err);
        lip__object_free(*(struct lip__object **)at);
        *(struct lip__object **)at = NULL;
        if (json_is_null(v))
            return LIP_OK;
        snprintf(within, sizeof within, "%.200s: %.40s", what, f->name);
        return lip__object_read(v, f->of, within, false, pointer, (struct lip__object **)at, err);
    case LIP__ACTIVATION:
        return read_slot(v, object, (lip_layer **)at, what, pointer, err);
    case LIP__AXES:
        return read_axes(v, f, (long *)at, what, pointer, err);
    case LIP__ANY:
        return LIP_OK;
    case LIP__NULL:
        if (json_is_null(v))
            return LIP_OK;
        return lip__fail_at(err, LIP_EOPTION, pointer, "%.200s: %s is %s; only null is built in", what, f->name, json_kind(v));
    case LIP__FIXED:
        return read_fixed(v, f, what, pointer, err);
    }
    return LIP_OK;
}

/* Keys without a default must be there. config: NULL where there is none. */
static lip_err missing(const json_t *config, const struct lip__class *cls, const char *what, const char *pointer,
                       lip_error *err)
{
    static const char *const needs[] = {[LIP__INT] = "an integer",       [LIP__FLOAT] = "a number",
                                        [LIP__STRING] = "a string",      [LIP__FLOATS] = "a list of numbers",
                                        [LIP__STRINGS] = "a list of strings", [LIP__FIXED] = NULL};

    for (const struct lip__field *f = cls->fields; f->name; f++)
        if (needs[f->type] && (isnan(f->def) || f->type == LIP__FLOATS || f->type == LIP__STRINGS) &&
            !(f->flags & (LIP__NONE_OK | LIP__HIDDEN)) && !json_object_get(config, f->name))
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s: %s is missing, needs %s", what, f->name, needs[f->type]);
    return LIP_OK;
}

lip_err lip__fields_read(const json_t *config, const struct lip__class *cls, void *object, const char *const *also,
                         const char *what, const char *pointer, lip_error *err)
{
    const char *key;
    json_t *v;
    char at[POINTER];
    lip_err rc;

    if (!json_is_object(config))
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s: config is %s, needs an object", what, json_kind(config));
    json_object_foreach((json_t *)config, key, v)
    {
        const struct lip__field *f = cls->fields;
        while (f->name && (f->flags & (LIP__HIDDEN | LIP__CALL) || strcmp(f->name, key)))
            f++;
        join(at, pointer, key);
        if (!f->name && !listed(key, also)) {
            char list[480] = "";
            for (f = cls->fields; f->name; f++)
                if (!(f->flags & (LIP__HIDDEN | LIP__CALL)))
                    append(list, sizeof list, f->name);
            return lip__fail_at(err, LIP_EOPTION, at, "%.200s: unknown option \"%.60s\"; accepted: %s", what, key, list);
        }
        if (f->name && (rc = read_field(v, f, object, what, at, err)) != LIP_OK)
            return rc;
    }
    return missing(config, cls, what, pointer, err);
}

/* ---- objects -------------------------------------------------------------------------------------- */

static bool same_name(const char *a, size_t n, const char *b, bool any_case)
{
    return strlen(b) == n && !(any_case ? strncasecmp(a, b, n) : strncmp(a, b, n));
}

static bool answers_to(const struct lip__class *cls, const char *name, bool any_case)
{
    if (same_name(cls->name, strlen(cls->name), name, any_case))
        return true;
    for (const char *at = cls->aliases; at && *at;) {
        const char *end = strchr(at, '|');
        if (same_name(at, end ? (size_t)(end - at) : strlen(at), name, any_case))
            return true;
        at = end ? end + 1 : NULL;
    }
    return false;
}

/* {"class_name", "config", bookkeeping}: the name and the config, NULL where it is absent. */
static lip_err take_apart(const json_t *json, const char *what, const char *pointer, const char **name, const json_t **config,
                          lip_error *err)
{
    const json_t *class_name = json_object_get(json, "class_name");
    const char *key;
    json_t *v;
    char at[POINTER];

    if (!json_is_object(json))
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s is %s, needs an object with class_name and config", what,
                            json_kind(json));
    if (!json_is_string(class_name))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "class_name"), "%.200s: class_name is %s, needs a string",
                            what, class_name ? json_kind(class_name) : "missing");
    json_object_foreach((json_t *)json, key, v)
        if (!listed(key, bookkeeping))
            return lip__fail_at(err, LIP_EOPTION, join(at, pointer, key),
                                "%.200s: unknown key \"%.60s\" beside class_name and config", what, key);
    *name = bare(json_string_value(class_name));
    *config = json_object_get(json, "config");
    return LIP_OK;
}

lip_err lip__object_read(const json_t *json, const struct lip__class *const *of, const char *what, bool any_case,
                         const char *pointer, struct lip__object **object, lip_error *err)
{
    const json_t *config = NULL;
    const char *name;
    char at[POINTER], text[WITHIN];
    struct lip__object *o;
    lip_err rc;

    if (json_is_string(json))
        name = bare(json_string_value(json));
    else if ((rc = take_apart(json, what, pointer, &name, &config, err)) != LIP_OK)
        return rc;
    const struct lip__class *const *cls = of;
    while (*cls && !answers_to(*cls, name, any_case))
        cls++;
    if (!*cls) {
        char list[520] = "";
        for (cls = of; *cls; cls++)
            append(list, sizeof list, (*cls)->name);
        return lip__fail_at(err, LIP_EOPTION, json_is_string(json) ? pointer : join(at, pointer, "class_name"),
                            "%.200s is \"%.60s\", needs one of %s", what, name, list);
    }
    o = lip__object_new(*cls);
    if (!o)
        return lip__nomem(err, (*cls)->size);
    snprintf(text, sizeof text, "%.200s %.40s", what, (*cls)->name);
    if (config && !json_is_null(config))
        rc = lip__fields_read(config, *cls, o, NULL, text, join(at, pointer, "config"), err);
    else
        rc = missing(NULL, *cls, text, pointer, err);
    if (rc != LIP_OK) {
        lip__object_free(o);
        return rc;
    }
    *object = o;
    return LIP_OK;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static json_t *wrap(const struct lip__class *cls, json_t *config, bool legacy)
{
    char name[128];

    if (!config)
        return NULL;
    snprintf(name, sizeof name, "%s%s%s", cls->package ? cls->package : "", cls->package ? ">" : "", cls->name);
    if (legacy)
        return json_pack("{s:s, s:o}", "class_name", name, "config", config);
    /* Keras registers what its public modules do not have under its bare name. */
    return json_pack("{s:s, s:s, s:o, s:s?}", "module", cls->module, "class_name", cls->name, "config", config, "registered_name",
                     cls->package || !strncmp(cls->module, "keras.src.", 10) ? name : NULL);
}

json_t *lip__object_write(const struct lip__object *object, bool legacy)
{
    json_t *config = json_object();

    if (!config || lip__fields_write(config, object->cls, object, legacy) != LIP_OK) {
        json_decref(config);
        return NULL;
    }
    return wrap(object->cls, config, legacy);
}

static json_t *real(double x)
{
    return isnan(x) ? json_null() : isinf(x) ? json_string(x < 0 ? "-Infinity" : "Infinity") : json_real(x);
}

static json_t *write_layer(const lip_layer *l, bool legacy);

static json_t *write_field(const struct lip__field *f, const void *object, bool legacy)
{
    const char *at = (const char *)object + f->offset;

    switch (f->type) {
    case LIP__INT:
        return f->flags & LIP__NONE_OK && *(const long *)at == 0 ? json_null() : json_integer(*(const long *)at);
    case LIP__FLOAT:
        return real(*(const double *)at);
    case LIP__BOOL:
        return json_boolean(*(const bool *)at);
    case LIP__PAIR:
        if (f->flags & LIP__NONE_OK && *(const size_t *)at == lip__pair_none(f))
            return json_null();
        return json_pack("[I, I]", (json_int_t)((const size_t *)at)[0], (json_int_t)((const size_t *)at)[1]);
    case LIP__INTS: {
        const struct lip__ints *list = (const struct lip__ints *)at;
        if (f->flags & LIP__NONE_OK && !list->n)
            return json_null();
        json_t *array = json_array();
        for (size_t i = 0; array && i < list->n; i++)
            if (lip__json_add(array, json_integer(list->v[i]))) {
                json_decref(array);
                array = NULL;
            }
        return array;
    }
    case LIP__FLOATS: {
        const struct lip__floats *list = (const struct lip__floats *)(const void *)at;
        if (f->flags & LIP__NONE_OK && !list->n)
            return json_null();
        json_t *array = json_array();
        for (size_t i = 0; array && i < list->n; i++)
            if (lip__json_add(array, real(list->v[i]))) {
                json_decref(array);
                array = NULL;
            }
        return array;
    }
    case LIP__STRINGS: {
        const struct lip__strings *list = (const struct lip__strings *)(const void *)at;
        json_t *array = json_array();
        for (size_t i = 0; array && i < list->n; i++)
            if (lip__json_add(array, json_string(list->v[i]))) {
                json_decref(array);
                array = NULL;
            }
        if (f->flags & LIP__NUMPY)
            return json_pack("{s:s, s:{s:[o], s:s}}", "class_name", "__numpy__", "config", "value", array, "dtype", "float32");
        return array;
    }
    case LIP__EDGES: {
        const size_t *e = (const size_t *)at;
        return json_pack("[[I, I], [I, I]]", (json_int_t)e[0], (json_int_t)e[1], (json_int_t)e[2], (json_int_t)e[3]);
    }
    case LIP__CHOICE:
        return *(const char *const *)at ? json_string(*(const char *const *)at) : json_null();
    case LIP__STRING:
        return *(char *const *)at ? json_string(*(char *const *)at) : json_null();
    case LIP__OBJECT: {
        const struct lip__object *o = *(struct lip__object *const *)at;
        if (o && f->flags & LIP__BARE && o->cls == f->of[0])
            return real(*(const double *)(const void *)((const char *)o + o->cls->fields[0].offset));
        return o ? lip__object_write(o, legacy) : json_null();
    }
    case LIP__ACTIVATION: {
        const lip_layer *slot = *(lip_layer *const *)at;
        const char *identifier = slot ? lip__activation_identifier(slot) : "linear";
        return identifier ? json_string(identifier) : write_layer(slot, legacy);
    }
    case LIP__AXES: {
        const long *axes = (const long *)(const void *)at;
        json_t *list = axes[0] < 0 ? json_integer(axes[1]) : json_array();
        for (long i = 0; i < axes[0]; i++)
            lip__json_add(list, json_integer(axes[i + 1]));
        return list;
    }
    case LIP__NULL:
    case LIP__ANY:
        return json_null();
    case LIP__FIXED:
        return json_loads(f->choices, JSON_DECODE_ANY, NULL);
    }
    return NULL;
}

static bool is_default(const struct lip__field *f, const void *object)
{
    const char *at = (const char *)object + f->offset, *word;

    switch (f->type) {
    case LIP__FLOAT:
        return *(const double *)(const void *)at == f->def;
    case LIP__INT:
        return (double)*(const long *)(const void *)at == f->def;
    case LIP__CHOICE: /* none of them has another default than the first */
        word = *(const char *const *)(const void *)at;
        return word && !strncmp(word, f->choices, strcspn(f->choices, "|"));
    default:
        return false;
    }
}

lip_err lip__fields_write(json_t *config, const struct lip__class *cls, const void *object, bool legacy)
{
    for (const struct lip__field *f = cls->fields; f->name; f++) {
        if (f->flags & (LIP__HIDDEN | LIP__CALL) || (f->flags & LIP__NOT_KERAS && is_default(f, object)))
            continue;
        /* A string that was not given is its default; an object without a name goes by its class's. */
        const char *unsaid = f->type == LIP__STRING && !*(char *const *)((const char *)object + f->offset)
                                 ? f->choices ? f->choices : !strcmp(f->name, "name") ? cls->name : NULL
                                 : NULL;
        if (lip__json_set(config, f->name, unsaid ? json_string(unsaid) : write_field(f, object, legacy)))
            return LIP_ENOMEM;
    }
    return LIP_OK;
}

static json_t *write_shape(const lip_shape *shape)
{
    json_t *a = json_array();

    lip__json_add(a, json_null());
    for (size_t i = 0; i < shape->rank; i++)
        lip__json_add(a, json_integer((json_int_t)shape->dim[i]));
    return a;
}

/* The name that the definition gave, without what is around it. */
static const char *own_name(const lip_layer *l)
{
    return l->name + l->path;
}

static json_t *write_config(const lip_layer *l, bool legacy)
{
    json_t *config = json_object();

    if (lip_layer_is_input(l)) {
        lip__json_set(config, "batch_input_shape", write_shape(lip_layer_input_shape(l)));
        lip__json_set(config, "dtype", json_string("float32"));
        lip__json_set(config, "sparse", json_false());
        lip__json_set(config, "ragged", json_false());
        lip__json_set(config, "name", json_string(own_name(l)));
        return config;
    }
    lip__json_set(config, "name", json_string(own_name(l)));
    lip__json_set(config, "trainable", json_boolean(l->trainable));
    lip__json_set(config, "dtype", json_string("float32"));
    if (l->has_batch_shape)
        lip__json_set(config, "batch_input_shape", write_shape(lip_layer_input_shape(l)));
    if (config && lip__fields_write(config, &l->kind->cls, l, legacy) != LIP_OK) {
        json_decref(config);
        return NULL;
    }
    return config;
}

static json_t *write_built(const lip_layer *l)
{
    json_t *list = json_array();

    if (!l->n_merged) {
        json_decref(list);
        return write_shape(lip_layer_input_shape(l));
    }
    for (size_t i = 0; i < l->n_merged; i++)
        lip__json_add(list, write_shape(&l->merged[i]));
    return list;
}

static json_t *write_layer(const lip_layer *l, bool legacy)
{
    json_t *entry = wrap(&l->kind->cls, write_config(l, legacy), legacy);

    if (entry && !legacy && !lip_layer_is_input(l))
        lip__json_set(entry, "build_config", json_pack("{s:o}", "input_shape", write_built(l)));
    return entry;
}

static char *dump(json_t *json)
{
    return lip__json_done(json, JSON_COMPACT);
}

char *lip_layer_config(const lip_layer *layer)
{
    return dump(write_config(layer, false));
}

static const char *entry_name(const struct lip__entry *e)
{
    return e->layer ? own_name(e->layer) : e->graph->name + e->graph->path;
}

/* Arguments of the call that makes a node: {} of most layers. */
static json_t *write_call(const lip_layer *l, bool legacy)
{
    json_t *arguments = json_object();

    for (const struct lip__field *f = l ? l->kind->cls.fields : NULL; f && f->name; f++)
        if (f->flags & LIP__CALL && lip__json_set(arguments, f->name, write_field(f, l, legacy)) == 0)
            lip__json_set(arguments, "name", json_null()); /* as TensorFlow's functions have it */
    return arguments;
}

/* Keras's nodes of a layer, one for each use: [[[source, node, tensor, {}], …], …]; of a TFOpLambda [[source, node, tensor, {…}]]. */
static json_t *write_nodes(const struct lip__graph *g, const struct lip__entry *e, bool legacy)
{
    json_t *nodes = json_array();

    for (size_t u = 0; u < e->n_uses; u++) {
        json_t *node = json_array();
        for (size_t i = 0; i < e->use[u].n_from; i++) {
            const struct lip__source *from = &e->use[u].from[i];
            const struct lip__entry *source = &g->entry[from->entry];
            lip__json_add(node, json_pack("[s, I, I, o]", entry_name(source), (json_int_t)(source->node + from->use),
                                                  (json_int_t)from->tensor, write_call(e->layer, legacy)));
        }
        json_t *only = json_array_get(node, 0);
        if (json_object_size(json_array_get(only, 3))) {
            json_array_append(nodes, only);
            json_decref(node);
        } else {
            lip__json_add(nodes, node);
        }
    }
    return nodes;
}

static json_t *write_ends(const struct lip__graph *g, const struct lip__source *ends, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        const struct lip__entry *e = &g->entry[ends[i].entry];
        lip__json_add(list, json_pack("[s, I, I]", entry_name(e), (json_int_t)(e->node + ends[i].use),
                                              (json_int_t)ends[i].tensor));
    }
    return list;
}

static json_t *write_graph(const struct lip__graph *g, bool legacy);

/* What a nested model was built on, where its InputLayers tell. */
static json_t *write_model_built(const struct lip__graph *g)
{
    json_t *list;

    if (g->n_inputs == 1)
        return write_shape(&g->entry[g->input[0]].layer->in);
    list = json_array();
    for (size_t i = 0; i < g->n_inputs; i++)
        lip__json_add(list, write_shape(&g->entry[g->input[i]].layer->in));
    return list;
}

static json_t *write_entry(const struct lip__graph *g, const struct lip__entry *e, bool legacy)
{
    json_t *entry = e->layer ? write_layer(e->layer, legacy) : write_graph(e->graph, legacy);

    if (entry && e->graph && e->graph->n_inputs && !legacy)
        lip__json_set(entry, "build_config", json_pack("{s:o}", "input_shape", write_model_built(e->graph)));
    if (entry && strcmp(g->class_name, "Sequential")) {
        lip__json_set(entry, "name", json_string(entry_name(e)));
        lip__json_set(entry, "inbound_nodes", write_nodes(g, e, legacy));
    }
    return entry;
}

/* The config of a graph; NULL: out of memory. */
static json_t *write_graph_config(const struct lip__graph *g, bool legacy)
{
    bool sequential = !strcmp(g->class_name, "Sequential");
    json_t *layers = json_array(), *config = json_object();

    lip__json_set(config, "name", json_string(g->name + g->path));
    if (!sequential)
        lip__json_set(config, "trainable", json_true());
    for (size_t i = 0; i < g->n_entries; i++)
        if (lip__json_add(layers, write_entry(g, &g->entry[i], legacy))) {
            json_decref(layers);
            json_decref(config);
            return NULL;
        }
    lip__json_set(config, "layers", layers);
    if (g->deel)
        lip__json_set(config, "k_coef_lip", json_real(g->k));
    if (g->sound)
        lip__json_set(config, "coefficient", json_string("sound"));
    if (!sequential) {
        struct lip__source input[LIP__MAX_JOINED] = {{0}};
        for (size_t i = 0; i < g->n_inputs; i++)
            input[i].entry = g->input[i];
        lip__json_set(config, "input_layers", write_ends(g, input, g->n_inputs));
        lip__json_set(config, "output_layers", write_ends(g, g->output, g->n_outputs));
    }
    return config;
}

/* A nested model, as an entry of its owner's layers. */
static json_t *write_graph(const struct lip__graph *g, bool legacy)
{
    bool lipschitz = g->deel || !strcmp(g->class_name, "Model"), functional = !strcmp(g->class_name, "Functional");
    struct lip__class cls = {.name = g->class_name,
                             .module = lipschitz ? "deel.lip.model" : functional ? "keras.src.engine.functional" : "keras",
                             .package = lipschitz ? "deel-lip" : NULL};

    return wrap(&cls, write_graph_config(g, legacy), legacy);
}

char *lip_model_definition(const lip_model *m, bool legacy)
{
    json_t *config = write_graph_config(m->graph, legacy);

    if (!config)
        return NULL;
    return dump(json_pack("{s:s, s:o, s:s, s:s}", "class_name", m->graph->class_name, "config", config, "keras_version",
                          legacy ? "2.12.0" : "2.15.0", "backend", "tensorflow"));
}

/* ---- reading layers ------------------------------------------------------------------------------- */

/* What every layer's config may hold besides its own keys. */
static const char *const common_keys[] = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape",
                                          "shape", NULL};
static const char *const input_keys[] = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape",
                                         "shape", "sparse", "ragged", NULL};

/* "SpectralConv2D" -> "spectral_conv2d", as Keras names layers (semantics.md 20). */
static void snake_case(const char *name, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; name[i] && n + 2 < size; i++) {
        bool upper = isupper((unsigned char)name[i]);
        bool run = upper && islower((unsigned char)name[i + 1]);
        bool edge = i > 0 && upper && (islower((unsigned char)name[i - 1]));
        if (i > 0 && (run || edge))
            out[n++] = '_';
        out[n++] = (char)tolower((unsigned char)name[i]);
    }
    out[n] = '\0';
}

/* Keras's default names count per class within one definition. */
struct names {
    struct {
        const struct lip__kind *kind;
        size_t count;
    } seen[64];
    size_t sequentials, models;
};

static char *make_name(struct names *names, const struct lip__kind *kind)
{
    char base[96], text[128];
    size_t i = 0;

    while (i < 63 && names->seen[i].kind && names->seen[i].kind != kind)
        i++;
    names->seen[i].kind = kind;
    size_t count = names->seen[i].count++;
    snake_case(kind->cls.name, base, sizeof base);
    if (kind->flags & LIP__INPUT)
        snprintf(text, sizeof text, "input_%zu", count + 1);
    else if (count)
        snprintf(text, sizeof text, "%s_%zu", base, count);
    else
        snprintf(text, sizeof text, "%s", base);
    return lip__strdup(text);
}

/* "sequential", "model_1": Keras's default names of models. */
static char *make_graph_name(struct names *names, bool sequential)
{
    size_t *count = sequential ? &names->sequentials : &names->models;
    char text[64];

    (*count)++;
    if (*count > 1)
        snprintf(text, sizeof text, "%s_%zu", sequential ? "sequential" : "model", *count - 1);
    else
        snprintf(text, sizeof text, "%s", sequential ? "sequential" : "model");
    return lip__strdup(text);
}

static bool good_name(const char *name, size_t length)
{
    if (!length || length > 256 || strlen(name) != length)
        return false;
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7f)
            return false;
    return true;
}

/* name, trainable, dtype. */
static lip_err read_common(lip_layer *l, const json_t *config, const char *what, const char *pointer, lip_error *err)
{
    const json_t *name = json_object_get(config, "name"), *trainable = json_object_get(config, "trainable"),
                 *dtype = json_object_get(config, "dtype");
    char at[POINTER];

    if (name && !json_is_null(name)) {
        if (!json_is_string(name) || !good_name(json_string_value(name), json_string_length(name)))
            return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "name"),
                                "%.200s: name needs 1 to 256 characters without control characters", what);
        l->name = lip__strdup(json_string_value(name));
        if (!l->name)
            return lip__nomem(err, json_string_length(name));
    }
    if (trainable && !json_is_boolean(trainable))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "trainable"), "%.200s: trainable is %s, needs true or false",
                            what, json_kind(trainable));
    l->trainable = !trainable || json_is_true(trainable);
    if (json_is_object(dtype))
        dtype = json_object_get(json_object_get(dtype, "config"), "name");
    if (dtype && !json_is_null(dtype) && (!json_is_string(dtype) || strcmp(json_string_value(dtype), "float32")))
        return lip__fail_at(err, LIP_EUNSUPPORTED, join(at, pointer, "dtype"), "%.200s: dtype is %.40s; only float32 is built in",
                            what, json_is_string(dtype) ? json_string_value(dtype) : json_kind(dtype));
    return LIP_OK;
}

/* A shape with or without the batch axis: null or a number, then static sizes. */
static lip_err read_shape(const json_t *v, bool batch, lip_shape *shape, const char *what, const char *pointer, lip_error *err)
{
    size_t skip = batch ? 1 : 0, size = json_array_size(v);

    if (!json_is_array(v) || size < skip || size - skip > LIP_MAX_RANK)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s: the input shape is %s, needs a list of at most %d sizes%s",
                            what, json_kind(v), LIP_MAX_RANK, batch ? " behind the batch axis" : "");
    shape->rank = size - skip;
    for (size_t i = skip; i < size; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d) || json_integer_value(d) < 1 || json_integer_value(d) > 1 << 24) {
            char at[POINTER], index[24];
            snprintf(index, sizeof index, "%zu", i);
            return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, index),
                                "%.200s: size %zu of the input shape needs an integer from 1 to 16777216, not %s", what, i,
                                json_is_integer(d) ? "one outside" : json_kind(d));
        }
        shape->dim[i - skip] = (size_t)json_integer_value(d);
    }
    return lip_shape_check(shape, sizeof(float), (size_t)1 << 31, err);
}

/* The input shape that a layer entry carries; *found says whether it does. */
static lip_err find_shape(const json_t *entry, const json_t *config, lip_shape *shape, bool *found, const char *what,
                          const char *pointer, lip_error *err)
{
    static const struct {
        const char *key;
        bool batch;
    } keys[] = {{"batch_input_shape", true}, {"batch_shape", true}, {"input_shape", false}, {"shape", false}};
    char at[POINTER], where[POINTER];

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *v = json_object_get(config, keys[i].key);
        if (!v || json_is_null(v))
            continue;
        *found = true;
        return read_shape(v, keys[i].batch, shape, what, join(at, join(where, pointer, "config"), keys[i].key), err);
    }
    const json_t *built = json_object_get(json_object_get(entry, "build_config"), "input_shape");
    /* Of a layer that joins several, it is a list of shapes. */
    if (!built || json_is_array(json_array_get(built, 0)))
        return LIP_OK;
    *found = true;
    return read_shape(built, true, shape, what, join(at, join(where, pointer, "build_config"), "input_shape"), err);
}

static bool has_shape_key(const json_t *config)
{
    for (const char *const *key = common_keys + 3; *key; key++)
        if (json_object_get(config, *key))
            return true;
    return false;
}

static lip_err unknown_layer(const char *name, const char *pointer, lip_error *err)
{
    char list[420] = "", at[POINTER];

    for (const struct lip__kind *const *k = lip__kinds(); *k; k++)
        append(list, sizeof list, (*k)->cls.name);
    return lip__fail_at(err, LIP_ECLASS, join(at, pointer, "class_name"), "unknown layer class \"%.60s\"; built in: %s", name,
                        list);
}

/* One entry of "layers", or the object in an activation slot. */
static lip_err read_layer(const json_t *entry, const char *pointer, lip_layer **layer, lip_error *err)
{
    const json_t *config = NULL;
    const char *name;
    char what[160], at[POINTER];
    json_t *empty = NULL;
    lip_layer *l = NULL;
    lip_err rc;

    if ((rc = take_apart(entry, "a layer", pointer, &name, &config, err)) != LIP_OK)
        return rc;
    const struct lip__kind *kind = lip__kind_find(name);
    if (!kind)
        return unknown_layer(name, pointer, err);
    join(at, pointer, "config");
    if (!config || json_is_null(config))
        config = empty = json_object();
    if (!json_is_object(config))
        return lip__fail_at(err, LIP_EDEFINITION, at, "layer %.60s: config is %s, needs an object", name, json_kind(config));
    l = lip__layer_new(kind);
    if (!l) {
        json_decref(empty);
        return lip__nomem(err, kind->cls.size);
    }
    const json_t *given = json_object_get(config, "name");
    if (json_is_string(given))
        snprintf(what, sizeof what, "layer \"%.80s\" (%.60s)", json_string_value(given), name);
    else
        snprintf(what, sizeof what, "layer %.60s", name);
    rc = read_common(l, config, what, at, err);
    if (rc == LIP_OK)
        rc = lip__fields_read(config, &kind->cls, l, kind->flags & LIP__INPUT ? input_keys : common_keys, what, at, err);
    if (rc == LIP_OK && kind->check) {
        rc = kind->check(l, err);
        if (rc != LIP_OK && err && !err->pointer[0])
            snprintf(err->pointer, sizeof err->pointer, "%s", at);
    }
    json_decref(empty);
    if (rc != LIP_OK) {
        lip__layer_free(l);
        return rc;
    }
    *layer = l;
    return LIP_OK;
}

static lip_err read_slot(const json_t *v, const lip_layer *owner, lip_layer **slot, const char *what, const char *pointer,
                         lip_error *err)
{
    const struct lip__kind *kind = NULL;
    lip_layer *l = NULL;
    bool known = true;
    lip_err rc;

    (void)owner;
    lip__layer_free(*slot);
    *slot = NULL;
    if (json_is_null(v))
        return LIP_OK;
    if (!json_is_string(v) && !json_is_object(v))
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.200s: activation is %s, needs a name or a layer", what, json_kind(v));
    if (json_is_string(v)) {
        kind = lip__activation_find(json_string_value(v), &known);
        if (!known)
            return lip__fail_at(err, LIP_EOPTION, pointer,
                                "%.200s: unknown activation \"%.60s\"; built in: %s, and layer objects", what,
                                json_string_value(v), lip__activation_identifiers());
        if (!kind)
            return LIP_OK;
        l = lip__activation_new(json_string_value(v));
        if (!l)
            return lip__nomem(err, kind->cls.size);
    } else {
        if ((rc = read_layer(v, pointer, &l, err)) != LIP_OK)
            return rc;
        if (!(l->kind->flags & LIP__ACTIVATES)) {
            rc = lip__fail_at(err, LIP_EOPTION, pointer, "%.200s: a %.60s cannot be an activation", what, l->kind->cls.name);
            lip__layer_free(l);
            return rc;
        }
    }
    l->in_slot = true;
    *slot = l;
    return LIP_OK;
}

/* ---- reading models ------------------------------------------------------------------------------- */

/* One definition while it is read: default names count over all of it. */
struct reading {
    struct names names;
    int depth;
};

#define MAX_DEPTH 8 /* of nested models */
#define MAX_LAYERS 4096

static bool is_graph(const char *name)
{
    return !strcmp(name, "Sequential") || !strcmp(name, "Functional") || !strcmp(name, "Model");
}

/* Puts what is around a layer in front of its name. */
static lip_err put_path(char **name, size_t *path, const char *owner, lip_error *err)
{
    size_t length = strlen(owner);
    char *text;

    if (!length)
        return LIP_OK;
    text = lip__alloc(length + strlen(*name) + 2, 1);
    if (!text)
        return lip__nomem(err, length);
    snprintf(text, length + strlen(*name) + 2, "%s/%s", owner, *name);
    lip__free(*name);
    *name = text;
    *path = length + 1;
    return LIP_OK;
}

/* The layer in a slot is called "<owner>/<its own name>". */
static lip_err name_slot(lip_layer *owner, lip_error *err)
{
    lip_layer *slot = owner->activation;
    char own[128];

    if (!slot)
        return LIP_OK;
    if (!slot->name) {
        snake_case(slot->kind->cls.name, own, sizeof own);
        slot->name = lip__strdup(own);
    }
    return slot->name ? put_path(&slot->name, &slot->path, owner->name, err) : lip__nomem(err, 0);
}

static lip_err read_graph(struct reading *r, const json_t *json, const char *pointer, const char *owner,
                          struct lip__graph **graph, lip_error *err);

/* A layer's entry: the layer or model itself, named. */
static lip_err read_entry(struct reading *r, const json_t *json, struct lip__graph *g, struct lip__entry *e, lip_error *err)
{
    const json_t *config;
    const char *name, *owner = r->depth > 1 ? g->name : "";
    lip_err rc;

    if ((rc = take_apart(json, "a layer", e->pointer, &name, &config, err)) != LIP_OK)
        return rc;
    if (is_graph(name))
        return read_graph(r, json, e->pointer, owner, &e->graph, err);
    if ((rc = read_layer(json, e->pointer, &e->layer, err)) != LIP_OK)
        return rc;
    lip_layer *l = e->layer;
    bool shaped = false;
    lip_shape shape = {0};
    if (!l->name && json_is_string(json_object_get(json, "name")))
        l->name = lip__strdup(json_string_value(json_object_get(json, "name")));
    if (!l->name && !(l->name = make_name(&r->names, l->kind)))
        return lip__nomem(err, 0);
    if ((rc = find_shape(json, config, &shape, &shaped, l->name, e->pointer, err)) != LIP_OK)
        return rc;
    if (lip_layer_is_input(l) && !shaped)
        return lip__fail_at(err, LIP_EDEFINITION, e->pointer, "layer \"%.100s\" (InputLayer) needs batch_input_shape", l->name);
    l->has_batch_shape = shaped && !lip_layer_is_input(l) && has_shape_key(config);
    l->in = l->out = shape;
    if ((rc = put_path(&l->name, &l->path, owner, err)) != LIP_OK)
        return rc;
    return name_slot(l, err);
}

static lip_err read_entries(struct reading *r, const json_t *list, const char *pointer, struct lip__graph *g, lip_error *err)
{
    size_t i, size = json_array_size(list);
    json_t *json;
    lip_err rc;

    if (size == 0 || size > MAX_LAYERS) {
        char at[POINTER];
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "layers"), "the model has %zu layers, needs 1 to %d", size,
                            MAX_LAYERS);
    }
    g->entry = lip__alloc(size, sizeof *g->entry);
    if (!g->entry)
        return lip__nomem(err, size * sizeof *g->entry);
    json_array_foreach((json_t *)list, i, json)
    {
        char at[POINTER];
        snprintf(at, sizeof at, "%.120s/layers/%zu", pointer, i);
        g->n_entries = i + 1;
        g->entry[i].pointer = lip__strdup(at);
        if (!g->entry[i].pointer)
            return lip__nomem(err, 0);
        if ((rc = read_entry(r, json, g, &g->entry[i], err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

/* Room for `uses` uses of an entry. */
static lip_err set_uses(struct lip__entry *e, size_t uses, lip_error *err)
{
    e->use = lip__alloc(uses + 1, sizeof *e->use);
    e->n_uses = e->use ? uses : 0;
    return e->use ? LIP_OK : lip__nomem(err, uses * sizeof *e->use);
}

static lip_err set_sources(struct lip__use *u, size_t n, lip_error *err)
{
    u->from = lip__alloc(n, sizeof *u->from);
    u->n_from = n;
    return u->from ? LIP_OK : lip__nomem(err, n * sizeof *u->from);
}

/* The input shape that a Sequential without an InputLayer starts with. */
static const lip_shape *first_shape(const struct lip__graph *g)
{
    const struct lip__entry *e = &g->entry[0];

    if (e->layer)
        return &e->layer->in;
    return e->graph->n_inputs ? &e->graph->entry[e->graph->input[0]].layer->in : first_shape(e->graph);
}

static lip_err chain(struct lip__graph *g, bool top, lip_error *err)
{
    lip_err rc;

    g->order = lip__alloc(g->n_entries, sizeof *g->order);
    if (!g->order)
        return lip__nomem(err, g->n_entries * sizeof *g->order);
    for (size_t i = 0; i < g->n_entries; i++) {
        struct lip__entry *e = &g->entry[i];
        bool input = e->layer && lip_layer_is_input(e->layer);
        g->order[g->n_order++] = (struct lip__source){.entry = i};
        if (input && i > 0)
            return lip__fail_at(err, LIP_EDEFINITION, e->pointer, "an InputLayer must come first in a Sequential");
        if (input)
            continue;
        if ((rc = set_uses(e, 1, err)) != LIP_OK || (rc = set_sources(&e->use[0], 1, err)) != LIP_OK)
            return rc;
        e->use[0].from[0].entry = i ? i - 1 : LIP__NOWHERE;
    }
    const struct lip__entry *first = &g->entry[0];
    if (first->layer && lip_layer_is_input(first->layer)) {
        if (g->n_entries == 1)
            return lip__fail_at(err, LIP_EDEFINITION, first->pointer, "the model has an InputLayer and nothing behind it");
        g->n_inputs = 1;
        g->input = lip__alloc(1, sizeof *g->input);
        if (!g->input)
            return lip__nomem(err, sizeof *g->input);
    } else {
        g->shape = *first_shape(g);
        if (top && !g->shape.rank)
            return lip__fail_at(err, LIP_EDEFINITION, first->pointer,
                                "layer \"%.100s\" comes first and carries no input shape: needs an InputLayer in front, or "
                                "batch_input_shape or input_shape in its config",
                                first->layer ? first->layer->name : first->graph->name);
    }
    g->n_outputs = 1;
    g->output = lip__alloc(1, sizeof *g->output);
    if (!g->output)
        return lip__nomem(err, sizeof *g->output);
    g->output[0].entry = g->n_entries - 1;
    return LIP_OK;
}

/* The entry of this name; n_entries: none has it. */
static size_t find_entry(const struct lip__graph *g, const char *name)
{
    size_t i = 0;

    while (i < g->n_entries && strcmp(entry_name(&g->entry[i]), name))
        i++;
    return i;
}

/* Arguments of the call: those that the layer takes, and "name". */
static lip_err read_call(lip_layer *l, const json_t *arguments, const char *pointer, lip_error *err)
{
    const char *key;
    json_t *v;
    lip_err rc;

    if (json_is_object(arguments))
        json_object_foreach((json_t *)arguments, key, v) {
            const struct lip__field *f = l ? l->kind->cls.fields : NULL;
            while (f && f->name && (!(f->flags & LIP__CALL) || strcmp(f->name, key)))
                f++;
            if (f && f->name && (rc = read_field(v, f, l, l->name, pointer, err)) != LIP_OK)
                return rc;
            if (!(f && f->name) && (strcmp(key, "name") || !json_is_null(v)))
                return lip__fail_at(err, LIP_EUNSUPPORTED, pointer, "the layer call argument \"%.60s\" is not built in", key);
        }
    return LIP_OK;
}

/* [name, node, tensor, …] -> a source. */
static lip_err read_source(struct lip__graph *g, const json_t *v, const char *pointer, struct lip__source *source,
                           lip_error *err)
{
    const json_t *name = json_array_get(v, 0), *node = json_array_get(v, 1), *tensor = json_array_get(v, 2);

    if (!json_is_string(name) || !json_is_integer(node) || !json_is_integer(tensor))
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "a source needs [layer name, node, tensor], not %s", json_kind(v));
    size_t i = find_entry(g, json_string_value(name));
    if (i == g->n_entries)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "no layer is named \"%.100s\"", json_string_value(name));
    const struct lip__entry *e = &g->entry[i];
    size_t outputs = e->graph ? e->graph->n_outputs : 1, uses = e->n_uses ? e->n_uses : 1;
    json_int_t use = json_integer_value(node) - (json_int_t)e->node, out = json_integer_value(tensor);
    if (use < 0 || (size_t)use >= uses)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "layer \"%.100s\" is used %zu time%s, and has no node %lld",
                            json_string_value(name), uses, uses == 1 ? "" : "s", (long long)json_integer_value(node));
    if (out < 0 || (size_t)out >= outputs)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "layer \"%.100s\" has %zu outputs, not one number %lld",
                            json_string_value(name), outputs, (long long)out);
    *source = (struct lip__source){i, (size_t)use, (size_t)out};
    return LIP_OK;
}

/* Keras writes a node of one source also as the source itself. */
static bool is_bare(const json_t *node)
{
    return json_is_string(json_array_get(node, 0));
}

/* Nodes of a nested model count from 0, or from 1 where it was made by a call itself: the smallest that is spoken of. */
static void note_node(struct lip__graph *g, const json_t *source)
{
    const char *name = json_string_value(json_array_get(source, 0));
    const json_t *node = json_array_get(source, 1);
    size_t i = name ? find_entry(g, name) : g->n_entries;

    if (i == g->n_entries || !g->entry[i].graph || !json_is_integer(node) || json_integer_value(node) < 0)
        return;
    struct lip__entry *e = &g->entry[i];
    size_t most = e->n_uses > 1 ? 1 : LIP__NOWHERE, found = (size_t)json_integer_value(node);
    found = found < most ? found : most;
    e->node = e->node < found ? e->node : found;
}

static void note_nodes(struct lip__graph *g, const json_t *config)
{
    const json_t *list = json_object_get(config, "layers"), *ends = json_object_get(config, "output_layers");
    size_t i, j, k;
    json_t *layer, *node, *source;

    for (i = 0; i < g->n_entries; i++)
        g->entry[i].node = g->entry[i].graph ? LIP__NOWHERE : 0;
    json_array_foreach((json_t *)list, i, layer)
        json_array_foreach(json_object_get(layer, "inbound_nodes"), j, node) {
            if (is_bare(node))
                note_node(g, node);
            else
                json_array_foreach(node, k, source)
                    note_node(g, source);
        }
    if (is_bare(ends))
        note_node(g, ends);
    else
        json_array_foreach((json_t *)ends, i, source)
            note_node(g, source);
    for (i = 0; i < g->n_entries; i++)
        if (g->entry[i].node == LIP__NOWHERE)
            g->entry[i].node = 0;
}

static lip_err read_node(struct lip__graph *g, struct lip__entry *e, struct lip__use *use, const json_t *node, const char *pointer,
                         lip_error *err)
{
    size_t n = is_bare(node) ? 1 : json_array_size(node);
    lip_err rc;

    if (!json_is_array(node) || !n || n > LIP__MAX_JOINED)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "a layer needs inbound nodes of 1 to %d sources", LIP__MAX_JOINED);
    if ((rc = set_sources(use, n, err)) != LIP_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const json_t *source = is_bare(node) ? node : json_array_get(node, i);
        if ((rc = read_source(g, source, pointer, &use->from[i], err)) != LIP_OK ||
            (rc = read_call(e->layer, json_array_get(source, 3), pointer, err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

static lip_err read_nodes(struct lip__graph *g, const json_t *config, lip_error *err)
{
    const json_t *list = json_object_get(config, "layers");
    char at[POINTER];
    size_t i;
    json_t *json;
    lip_err rc;

    json_array_foreach((json_t *)list, i, json) {
        struct lip__entry *e = &g->entry[i];
        size_t uses = json_array_size(json_object_get(json, "inbound_nodes"));
        if (e->layer && lip_layer_is_input(e->layer))
            continue;
        if (!uses || uses > LIP__MAX_JOINED)
            return lip__fail_at(err, LIP_EDEFINITION, join(at, e->pointer, "inbound_nodes"),
                                "a layer needs 1 to %d inbound nodes, found %zu", LIP__MAX_JOINED, uses);
        if (uses > 1 && e->layer) {
            json_t *call = write_call(e->layer, false);
            size_t arguments = json_object_size(call);
            json_decref(call);
            if (arguments)
                return lip__fail_at(err, LIP_EUNSUPPORTED, e->pointer, "sharing a %s is not built in", e->layer->kind->cls.name);
        }
        if ((rc = set_uses(e, uses, err)) != LIP_OK)
            return rc;
    }
    note_nodes(g, config);
    for (i = 0; i < g->n_entries; i++) {
        struct lip__entry *e = &g->entry[i];
        const json_t *nodes = json_object_get(json_array_get(list, i), "inbound_nodes");
        for (size_t u = 0; u < e->n_uses; u++)
            if ((rc = read_node(g, e, &e->use[u], json_array_get(nodes, u), join(at, e->pointer, "inbound_nodes"), err)) != LIP_OK)
                return rc;
    }
    return LIP_OK;
}

/* Each use behind those that it reads; in the definition's order where that leaves a choice. */
static lip_err sort_entries(struct lip__graph *g, const char *pointer, lip_error *err)
{
    size_t all = 0, before = LIP__NOWHERE, **done = lip__alloc(g->n_entries, sizeof *done), *flags = NULL;

    for (size_t i = 0; i < g->n_entries; i++)
        all += g->entry[i].n_uses ? g->entry[i].n_uses : 1;
    flags = lip__alloc(all, sizeof *flags);
    g->order = lip__alloc(all, sizeof *g->order);
    if (!done || !flags || !g->order) {
        lip__free(done);
        lip__free(flags);
        return lip__nomem(err, all * sizeof *g->order);
    }
    for (size_t i = 0, at = 0; i < g->n_entries; i++) {
        done[i] = flags + at;
        at += g->entry[i].n_uses ? g->entry[i].n_uses : 1;
    }
    while (g->n_order < all && g->n_order != before) {
        before = g->n_order;
        for (size_t i = 0; i < g->n_entries; i++)
            for (size_t u = 0; u < (g->entry[i].n_uses ? g->entry[i].n_uses : 1); u++) {
                const struct lip__use *use = g->entry[i].n_uses ? &g->entry[i].use[u] : NULL;
                bool ready = !done[i][u];
                for (size_t j = 0; use && j < use->n_from && ready; j++)
                    ready = done[use->from[j].entry][use->from[j].use];
                if (ready) {
                    done[i][u] = 1;
                    g->order[g->n_order++] = (struct lip__source){.entry = i, .use = u};
                }
            }
    }
    lip__free(done);
    lip__free(flags);
    return g->n_order == all ? LIP_OK
                             : lip__fail_at(err, LIP_EDEFINITION, pointer, "the layers of \"%.100s\" form a cycle", g->name);
}

/* input_layers or output_layers: a list of sources, or one source itself. */
static lip_err read_ends(struct lip__graph *g, const json_t *v, const char *what, const char *pointer,
                         struct lip__source **ends, size_t *n, lip_error *err)
{
    char at[POINTER];
    bool one = json_is_string(json_array_get(v, 0));
    size_t size = one ? 1 : json_array_size(v);
    lip_err rc;

    join(at, pointer, what);
    if (!json_is_array(v) || !size || size > LIP__MAX_JOINED)
        return lip__fail_at(err, LIP_EDEFINITION, at, "%s needs a list of 1 to %d [layer name, node, tensor]", what,
                            LIP__MAX_JOINED);
    *ends = lip__alloc(size, sizeof **ends);
    if (!*ends)
        return lip__nomem(err, size * sizeof **ends);
    *n = size;
    for (size_t i = 0; i < size; i++)
        if ((rc = read_source(g, one ? v : json_array_get(v, i), at, &(*ends)[i], err)) != LIP_OK)
            return rc;
    return LIP_OK;
}

static lip_err wire(struct lip__graph *g, const json_t *config, const char *pointer, lip_error *err)
{
    struct lip__source *inputs = NULL;
    size_t n_inputs = 0, listed_inputs = 0;
    lip_err rc;

    if ((rc = read_nodes(g, config, err)) != LIP_OK || (rc = sort_entries(g, pointer, err)) != LIP_OK ||
        (rc = read_ends(g, json_object_get(config, "output_layers"), "output_layers", pointer, &g->output, &g->n_outputs, err)) != LIP_OK)
        return rc;
    rc = read_ends(g, json_object_get(config, "input_layers"), "input_layers", pointer, &inputs, &n_inputs, err);
    if (rc == LIP_OK && !(g->input = lip__alloc(n_inputs, sizeof *g->input)))
        rc = lip__nomem(err, n_inputs * sizeof *g->input);
    for (size_t i = 0; i < n_inputs && rc == LIP_OK; i++) {
        const lip_layer *l = g->entry[inputs[i].entry].layer;
        for (size_t j = 0; j < i; j++)
            l = inputs[j].entry == inputs[i].entry ? NULL : l;
        if (!l || !lip_layer_is_input(l))
            rc = lip__fail_at(err, LIP_EDEFINITION, pointer, "input_layers: entry %zu needs an InputLayer of its own", i);
        g->input[g->n_inputs++] = inputs[i].entry;
    }
    lip__free(inputs);
    for (size_t i = 0; i < g->n_entries; i++)
        listed_inputs += g->entry[i].layer && lip_layer_is_input(g->entry[i].layer);
    if (rc == LIP_OK && listed_inputs != n_inputs)
        rc = lip__fail_at(err, LIP_EDEFINITION, pointer, "%zu InputLayers, and input_layers names %zu", listed_inputs, n_inputs);
    return rc;
}

static lip_err check_graph_keys(const json_t *config, bool sequential, bool top, const char *pointer, lip_error *err)
{
    static const char *const chain_keys[] = {"name", "layers", "k_coef_lip", "trainable", "dtype", "build_input_shape",
                                             "coefficient", NULL};
    static const char *const graph_keys[] = {"name", "layers", "trainable", "dtype", "input_layers", "output_layers",
                                             "coefficient", NULL};
    const json_t *coefficient = json_object_get(config, "coefficient");
    const char *word = json_string_value(coefficient);
    const json_t *name = json_object_get(config, "name"), *k = json_object_get(config, "k_coef_lip");
    const char *key;
    json_t *v;
    char at[POINTER];

    if (json_is_object(config))
        json_object_foreach((json_t *)config, key, v)
            if (!listed(key, sequential ? chain_keys : graph_keys))
                return lip__fail_at(err, LIP_EOPTION, join(at, pointer, key), "%s: unknown option \"%.60s\"; accepted: %s",
                                    sequential ? "Sequential" : "Functional", key,
                                    sequential ? "name, layers, k_coef_lip" : "name, layers, input_layers, output_layers");
    if (coefficient && (!top || !word || (strcmp(word, "deel_lip") && strcmp(word, "sound"))))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "coefficient"), "coefficient needs \"deel_lip\" or \"sound\""
                            ", of the outermost model only");
    if (k && !json_is_number(k))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "k_coef_lip"), "k_coef_lip is %s, needs a number", json_kind(k));
    if (name && !json_is_null(name) &&
        (!json_is_string(name) || !good_name(json_string_value(name), json_string_length(name))))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "name"),
                            "a model's name needs 1 to 256 characters without control characters");
    return LIP_OK;
}

static lip_err fill_graph(struct reading *r, const json_t *config, const char *pointer, const char *owner, struct lip__graph *g,
                          lip_error *err)
{
    /* Keras up to 2.2 wrote the list of a Sequential itself as its config. */
    const json_t *list = json_is_array(config) ? config : json_object_get(config, "layers");
    const json_t *name = json_object_get(config, "name"), *k = json_object_get(config, "k_coef_lip");
    bool sequential = !strcmp(g->class_name, "Sequential");
    char at[POINTER];
    lip_err rc;

    if (!json_is_array(list))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "layers"), "config.layers is %s, needs a list of layers",
                            list ? json_kind(list) : "missing");
    if ((rc = check_graph_keys(config, sequential, r->depth == 1, pointer, err)) != LIP_OK)
        return rc;
    const char *coefficient = json_string_value(json_object_get(config, "coefficient"));
    g->sound = coefficient && !strcmp(coefficient, "sound");
    g->deel = sequential && k != NULL;
    g->k = g->deel ? json_number_value(k) : NAN;
    g->name = json_is_string(name) ? lip__strdup(json_string_value(name)) : make_graph_name(&r->names, sequential);
    if (!g->name)
        return lip__nomem(err, 0);
    if ((rc = put_path(&g->name, &g->path, owner, err)) != LIP_OK || (rc = read_entries(r, list, pointer, g, err)) != LIP_OK)
        return rc;
    return sequential ? chain(g, r->depth == 1, err) : wire(g, config, pointer, err);
}

static lip_err read_graph(struct reading *r, const json_t *json, const char *pointer, const char *owner,
                          struct lip__graph **graph, lip_error *err)
{
    const json_t *config;
    const char *name;
    char at[POINTER];
    lip_err rc;

    if ((rc = take_apart(json, "the model", pointer, &name, &config, err)) != LIP_OK)
        return rc;
    join(at, pointer, "class_name");
    if (!is_graph(name))
        return lip__fail_at(err, LIP_ECLASS, at, "unknown model class \"%.60s\"; built in: Sequential, Functional, Model", name);
    if (r->depth == MAX_DEPTH)
        return lip__fail_at(err, LIP_EDEFINITION, at, "models are nested deeper than %d", MAX_DEPTH);
    struct lip__graph *g = lip__alloc(1, sizeof *g);
    if (!g)
        return lip__nomem(err, sizeof *g);
    g->class_name = !strcmp(name, "Sequential") ? "Sequential" : !strcmp(name, "Model") ? "Model" : "Functional";
    r->depth++;
    rc = fill_graph(r, config, join(at, pointer, "config"), owner, g, err);
    r->depth--;
    if (rc != LIP_OK) {
        lip__graph_free(g);
        return rc;
    }
    *graph = g;
    return LIP_OK;
}

lip_err lip_model_read(const char *json, size_t bytes, bool strict, lip_model **model, lip_error *err)
{
    struct reading reading = {.depth = 0};
    json_error_t why;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why);
    struct lip__graph *graph = NULL;
    lip_err rc;

    if (!root)
        return lip__fail(err, LIP_EJSON, "line %d, column %d: %.200s", why.line, why.column, why.text);
    rc = read_graph(&reading, root, "", "", &graph, err);
    json_decref(root);
    return rc == LIP_OK ? lip__model_assemble(graph, strict, model, err) : rc;
}
