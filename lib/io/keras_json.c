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

#include "model/model.h"

#define POINTER 160

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

/* Appends ", name" to a list in text[size]. */
static void append(char *text, size_t size, const char *name)
{
    size_t n = strlen(text);

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
    return x <= f->max && (f->flags & LIP__OPEN_MIN ? x > f->min : x >= f->min);
}

static void range_text(const struct lip__field *f, char *text, size_t size)
{
    const char *sign = f->flags & LIP__OPEN_MIN ? ">" : ">=";

    if (isinf(f->min) && isinf(f->max))
        snprintf(text, size, "any");
    else if (isinf(f->max))
        snprintf(text, size, "%s %g", sign, f->min);
    else
        snprintf(text, size, "%s %g and <= %g", sign, f->min, f->max);
}

static lip_err misfit(const struct lip__field *f, const json_t *v, const char *what, const char *wanted, const char *pointer,
                      lip_error *err)
{
    char range[96], *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    lip_err rc;

    range_text(f, range, sizeof range);
    rc = lip__fail_at(err, LIP_EDEFINITION, pointer, "%.160s: %s is %.60s, needs %s%s%s%s", what, f->name,
                      found ? found : json_kind(v), wanted, !strcmp(range, "any") ? "" : " ", !strcmp(range, "any") ? "" : range,
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
    lip_err rc = lip__fail_at(err, LIP_EUNSUPPORTED, pointer, "%.160s: %s is %.60s; only %.60s is built in", what, f->name,
                              found ? found : json_kind(v), f->choices);
    free(found);
    return rc;
}

static lip_err read_slot(const json_t *v, const lip_layer *owner, lip_layer **slot, const char *what, const char *pointer,
                         lip_error *err);

static lip_err read_field(const json_t *v, const struct lip__field *f, void *object, const char *what, const char *pointer,
                          lip_error *err)
{
    char *at = (char *)object + f->offset;
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
            memset(at, 0, 2 * sizeof(size_t));
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
        lip__object_free(*(struct lip__object **)at);
        *(struct lip__object **)at = NULL;
        if (json_is_null(v))
            return LIP_OK;
        return lip__object_read(v, f->of, f->name, false, pointer, (struct lip__object **)at, err);
    case LIP__ACTIVATION:
        return read_slot(v, object, (lip_layer **)at, what, pointer, err);
    case LIP__NULL:
        if (json_is_null(v))
            return LIP_OK;
        return lip__fail_at(err, LIP_EOPTION, pointer, "%.160s: %s is %s; only null is built in", what, f->name, json_kind(v));
    case LIP__FIXED:
        return read_fixed(v, f, what, pointer, err);
    }
    return LIP_OK;
}

/* Keys without a default must be there. config: NULL where there is none. */
static lip_err missing(const json_t *config, const struct lip__class *cls, const char *what, const char *pointer,
                       lip_error *err)
{
    for (const struct lip__field *f = cls->fields; f->name; f++)
        if ((f->type == LIP__INT || f->type == LIP__FLOAT) && isnan(f->def) && !(f->flags & LIP__NONE_OK) &&
            !json_object_get(config, f->name))
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.160s: %s is missing, needs %s", what, f->name,
                                f->type == LIP__INT ? "an integer" : "a number");
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
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.160s: config is %s, needs an object", what, json_kind(config));
    json_object_foreach((json_t *)config, key, v)
    {
        const struct lip__field *f = cls->fields;
        while (f->name && strcmp(f->name, key))
            f++;
        join(at, pointer, key);
        if (!f->name && !listed(key, also)) {
            char list[420] = "";
            for (f = cls->fields; f->name; f++)
                append(list, sizeof list, f->name);
            return lip__fail_at(err, LIP_EOPTION, at, "%.120s: unknown option \"%.60s\"; accepted: %s", what, key, list);
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
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.100s is %s, needs an object with class_name and config", what,
                            json_kind(json));
    if (!json_is_string(class_name))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "class_name"), "%.100s: class_name is %s, needs a string",
                            what, class_name ? json_kind(class_name) : "missing");
    json_object_foreach((json_t *)json, key, v)
        if (!listed(key, bookkeeping))
            return lip__fail_at(err, LIP_EOPTION, join(at, pointer, key),
                                "%.100s: unknown key \"%.60s\" beside class_name and config", what, key);
    *name = bare(json_string_value(class_name));
    *config = json_object_get(json, "config");
    return LIP_OK;
}

lip_err lip__object_read(const json_t *json, const struct lip__class *const *of, const char *what, bool any_case,
                         const char *pointer, struct lip__object **object, lip_error *err)
{
    const json_t *config = NULL;
    const char *name;
    char at[POINTER], text[128];
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
        char list[420] = "";
        for (cls = of; *cls; cls++)
            append(list, sizeof list, (*cls)->name);
        return lip__fail_at(err, LIP_EOPTION, json_is_string(json) ? pointer : join(at, pointer, "class_name"),
                            "unknown %.60s \"%.60s\"; accepted: %s", what, name, list);
    }
    o = lip__object_new(*cls);
    if (!o)
        return lip__nomem(err, (*cls)->size);
    snprintf(text, sizeof text, "%.60s %.60s", what, (*cls)->name);
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
    return json_pack("{s:s, s:s, s:o, s:s?}", "module", cls->module, "class_name", cls->name, "config", config,
                     "registered_name", cls->package ? name : NULL);
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
        return json_pack("[I, I]", (json_int_t)((const size_t *)at)[0], (json_int_t)((const size_t *)at)[1]);
    case LIP__CHOICE:
        return *(const char *const *)at ? json_string(*(const char *const *)at) : json_null();
    case LIP__STRING:
        return *(char *const *)at ? json_string(*(char *const *)at) : json_null();
    case LIP__OBJECT: {
        const struct lip__object *o = *(struct lip__object *const *)at;
        return o ? lip__object_write(o, legacy) : json_null();
    }
    case LIP__ACTIVATION: {
        const lip_layer *slot = *(lip_layer *const *)at;
        const char *identifier = slot ? lip__activation_identifier(slot) : "linear";
        return identifier ? json_string(identifier) : write_layer(slot, legacy);
    }
    case LIP__NULL:
        return json_null();
    case LIP__FIXED:
        return json_loads(f->choices, JSON_DECODE_ANY, NULL);
    }
    return NULL;
}

static bool is_default(const struct lip__field *f, const void *object)
{
    const char *at = (const char *)object + f->offset;

    return f->type == LIP__FLOAT ? *(const double *)at == f->def : f->type == LIP__INT ? (double)*(const long *)at == f->def : false;
}

lip_err lip__fields_write(json_t *config, const struct lip__class *cls, const void *object, bool legacy)
{
    for (const struct lip__field *f = cls->fields; f->name; f++) {
        if (f->flags & LIP__NOT_KERAS && is_default(f, object))
            continue;
        /* An object without a name of its own goes by its class's. */
        bool nameless = f->type == LIP__STRING && !strcmp(f->name, "name") && !*(char *const *)((const char *)object + f->offset);
        if (json_object_set_new(config, f->name, nameless ? json_string(cls->name) : write_field(f, object, legacy)))
            return LIP_ENOMEM;
    }
    return LIP_OK;
}

static json_t *write_shape(const lip_shape *shape)
{
    json_t *a = json_array();

    json_array_append_new(a, json_null());
    for (size_t i = 0; i < shape->rank; i++)
        json_array_append_new(a, json_integer((json_int_t)shape->dim[i]));
    return a;
}

/* The name a layer was given: a slot's layer is "<owner>/<name>" inside, and plain in Keras. */
static const char *own_name(const lip_layer *l)
{
    const char *slash = strrchr(l->name, '/');

    return slash && l->in_slot ? slash + 1 : l->name;
}

static json_t *write_config(const lip_layer *l, bool legacy)
{
    json_t *config = json_object();

    if (lip_layer_is_input(l)) {
        json_object_set_new(config, "batch_input_shape", write_shape(&l->in));
        json_object_set_new(config, "dtype", json_string("float32"));
        json_object_set_new(config, "sparse", json_false());
        json_object_set_new(config, "ragged", json_false());
        json_object_set_new(config, "name", json_string(l->name));
        return config;
    }
    json_object_set_new(config, "name", json_string(own_name(l)));
    json_object_set_new(config, "trainable", json_boolean(l->trainable));
    json_object_set_new(config, "dtype", json_string("float32"));
    if (l->has_batch_shape)
        json_object_set_new(config, "batch_input_shape", write_shape(&l->in));
    if (config && lip__fields_write(config, &l->kind->cls, l, legacy) != LIP_OK) {
        json_decref(config);
        return NULL;
    }
    return config;
}

static json_t *write_layer(const lip_layer *l, bool legacy)
{
    json_t *entry = wrap(&l->kind->cls, write_config(l, legacy), legacy);

    if (entry && !legacy && !lip_layer_is_input(l))
        json_object_set_new(entry, "build_config", json_pack("{s:o}", "input_shape", write_shape(&l->in)));
    return entry;
}

static char *dump(json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL, *copy = text ? lip__strdup(text) : NULL;

    free(text);
    json_decref(json);
    return copy;
}

char *lip_layer_config(const lip_layer *layer)
{
    return dump(write_config(layer, false));
}

char *lip_model_definition(const lip_model *m, bool legacy)
{
    json_t *layers = json_array(), *config = json_object();

    for (size_t i = 0; i < m->n_layers; i++)
        if (json_array_append_new(layers, write_layer(m->layer[i], legacy))) {
            json_decref(layers);
            json_decref(config);
            return NULL;
        }
    json_object_set_new(config, "name", json_string(m->name));
    json_object_set_new(config, "layers", layers);
    if (m->deel)
        json_object_set_new(config, "k_coef_lip", json_real(m->k));
    return dump(json_pack("{s:s, s:o, s:s, s:s}", "class_name", "Sequential", "config", config, "keras_version",
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
                                "%.160s: name needs 1 to 256 characters without control characters", what);
        l->name = lip__strdup(json_string_value(name));
        if (!l->name)
            return lip__nomem(err, json_string_length(name));
    }
    if (trainable && !json_is_boolean(trainable))
        return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, "trainable"), "%.160s: trainable is %s, needs true or false",
                            what, json_kind(trainable));
    l->trainable = !trainable || json_is_true(trainable);
    if (json_is_object(dtype))
        dtype = json_object_get(json_object_get(dtype, "config"), "name");
    if (dtype && !json_is_null(dtype) && (!json_is_string(dtype) || strcmp(json_string_value(dtype), "float32")))
        return lip__fail_at(err, LIP_EUNSUPPORTED, join(at, pointer, "dtype"), "%.160s: dtype is %.40s; only float32 is built in",
                            what, json_is_string(dtype) ? json_string_value(dtype) : json_kind(dtype));
    return LIP_OK;
}

/* A shape with or without the batch axis: null or a number, then static sizes. */
static lip_err read_shape(const json_t *v, bool batch, lip_shape *shape, const char *what, const char *pointer, lip_error *err)
{
    size_t skip = batch ? 1 : 0, size = json_array_size(v);

    if (!json_is_array(v) || size < skip || size - skip > LIP_MAX_RANK)
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "%.160s: the input shape is %s, needs a list of at most %d sizes%s",
                            what, json_kind(v), LIP_MAX_RANK, batch ? " behind the batch axis" : "");
    shape->rank = size - skip;
    for (size_t i = skip; i < size; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d) || json_integer_value(d) < 1 || json_integer_value(d) > 1 << 24) {
            char at[POINTER], index[24];
            snprintf(index, sizeof index, "%zu", i);
            return lip__fail_at(err, LIP_EDEFINITION, join(at, pointer, index),
                                "%.160s: size %zu of the input shape needs an integer from 1 to 16777216, not %s", what, i,
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
    if (!built)
        return LIP_OK;
    *found = true;
    return read_shape(built, true, shape, what, join(at, join(where, pointer, "build_config"), "input_shape"), err);
}

static lip_err unknown_layer(const char *name, const char *pointer, lip_error *err)
{
    static const char *const later[] = {"Sequential", "Functional", "Model", NULL};
    char list[420] = "", at[POINTER];

    if (listed(name, later))
        return lip__fail_at(err, LIP_EUNSUPPORTED, join(at, pointer, "class_name"),
                            "a %.20s inside a Sequential is not built in", name);
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
    if (json_is_string(v)) {
        kind = lip__activation_find(json_string_value(v), &known);
        if (!known)
            return lip__fail_at(err, LIP_EOPTION, pointer,
                                "%.160s: unknown activation \"%.60s\"; built in: %s, and layer objects", what,
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
            rc = lip__fail_at(err, LIP_EOPTION, pointer, "%.160s: a %.60s cannot be an activation", what, l->kind->cls.name);
            lip__layer_free(l);
            return rc;
        }
    }
    l->in_slot = true;
    *slot = l;
    return LIP_OK;
}

/* ---- reading models ------------------------------------------------------------------------------- */

/* The layer in a slot is called "<owner>/<its own name>". */
static lip_err name_slot(lip_layer *owner, lip_error *err)
{
    lip_layer *slot = owner->activation;
    char own[128];

    if (!slot)
        return LIP_OK;
    if (slot->name)
        snprintf(own, sizeof own, "%.120s", slot->name);
    else
        snake_case(slot->kind->cls.name, own, sizeof own);
    size_t size = strlen(owner->name) + strlen(own) + 2;
    char *name = lip__alloc(size, 1);
    if (!name)
        return lip__nomem(err, size);
    snprintf(name, size, "%s/%s", owner->name, own);
    lip__free(slot->name);
    slot->name = name;
    return LIP_OK;
}

static lip_err read_layers(const json_t *list, lip_layer **layers, size_t *n, lip_shape *input, lip_error *err)
{
    struct names names = {0};
    bool shaped = false;
    size_t i;
    json_t *entry;
    lip_err rc;

    json_array_foreach((json_t *)list, i, entry)
    {
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/config/layers/%zu", i);
        if ((rc = read_layer(entry, pointer, &layers[i], err)) != LIP_OK)
            return rc;
        lip_layer *l = layers[i];
        *n = i + 1;
        if (!l->name && !(l->name = make_name(&names, l->kind)))
            return lip__nomem(err, 0);
        if ((rc = name_slot(l, err)) != LIP_OK)
            return rc;
        if (i > 0 && lip_layer_is_input(l))
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "an InputLayer must come first in a Sequential");
        if (i > 0)
            continue;
        const json_t *config = json_object_get(entry, "config");
        if ((rc = find_shape(entry, config, input, &shaped, l->name, pointer, err)) != LIP_OK)
            return rc;
        l->has_batch_shape = shaped && !lip_layer_is_input(l);
        if (!shaped)
            return lip__fail_at(err, LIP_EDEFINITION, pointer,
                                "layer \"%.100s\" comes first and carries no input shape: needs an InputLayer in front, or "
                                "batch_input_shape or input_shape in its config", l->name);
    }
    return LIP_OK;
}

static lip_err read_sequential(const json_t *root, bool strict, lip_model **model, lip_error *err)
{
    static const char *const known[] = {"name", "layers", "k_coef_lip", "trainable", "dtype", "build_input_shape", NULL};
    const json_t *config = json_object_get(root, "config");
    /* Keras up to 2.2 wrote the list itself as the config. */
    const json_t *list = json_is_array(config) ? config : json_object_get(config, "layers");
    const json_t *name = json_object_get(config, "name"), *k = json_object_get(config, "k_coef_lip");
    lip_shape input = {0};
    size_t n = 0, size = json_array_size(list);
    const char *key;
    json_t *v;
    char at[POINTER];
    lip_err rc;

    if (!json_is_array(list))
        return lip__fail_at(err, LIP_EDEFINITION, "/config/layers", "config.layers is %s, needs a list of layers",
                            list ? json_kind(list) : "missing");
    if (json_is_object(config))
        json_object_foreach((json_t *)config, key, v)
            if (!listed(key, known))
                return lip__fail_at(err, LIP_EOPTION, join(at, "/config", key),
                                    "Sequential: unknown option \"%.60s\"; accepted: name, layers, k_coef_lip", key);
    if (k && !json_is_number(k))
        return lip__fail_at(err, LIP_EDEFINITION, "/config/k_coef_lip", "k_coef_lip is %s, needs a number", json_kind(k));
    if (name && !json_is_string(name) && !json_is_null(name))
        return lip__fail_at(err, LIP_EDEFINITION, "/config/name", "name is %s, needs a string", json_kind(name));
    if (size == 0 || size > 4096)
        return lip__fail_at(err, LIP_EDEFINITION, "/config/layers", "the model has %zu layers, needs 1 to 4096", size);
    lip_layer **layers = lip__alloc(size, sizeof *layers);
    char *copy = lip__strdup(json_is_string(name) ? json_string_value(name) : "sequential");
    if (!layers || !copy)
        rc = lip__nomem(err, size * sizeof *layers);
    else
        rc = read_layers(list, layers, &n, &input, err);
    if (rc == LIP_OK && n == 1 && lip_layer_is_input(layers[0]))
        rc = lip__fail_at(err, LIP_EDEFINITION, "/config/layers", "the model has an InputLayer and nothing behind it");
    if (rc == LIP_OK)
        return lip__model_assemble(copy, k != NULL, k ? json_number_value(k) : NAN, layers, n, &input, strict, model, err);
    while (n > 0)
        lip__layer_free(layers[--n]);
    lip__free(layers);
    lip__free(copy);
    return rc;
}

lip_err lip_model_read(const char *json, size_t bytes, bool strict, lip_model **model, lip_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why);
    const json_t *config;
    const char *name;
    lip_err rc;

    if (!root)
        return lip__fail(err, LIP_EJSON, "line %d, column %d: %.200s", why.line, why.column, why.text);
    rc = take_apart(root, "the model", "", &name, &config, err);
    if (rc == LIP_OK && !strcmp(name, "Sequential"))
        rc = read_sequential(root, strict, model, err);
    else if (rc == LIP_OK && (!strcmp(name, "Functional") || !strcmp(name, "Model")))
        rc = lip__fail_at(err, LIP_EUNSUPPORTED, "/class_name", "%.20s graphs are not built in; Sequential is", name);
    else if (rc == LIP_OK)
        rc = lip__fail_at(err, LIP_ECLASS, "/class_name", "unknown model class \"%.60s\"; built in: Sequential", name);
    json_decref(root);
    return rc;
}
