/* layer.c: what all kinds have in common: the list of kinds, a layer's life, and its public face. */
#include "layers/layer.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define KIND(name) extern const struct lip__kind lip__##name;
#include "layers/kinds.def"
#undef KIND

#define KIND(name) &lip__##name,
static const struct lip__kind *const kinds[] = {
#include "layers/kinds.def"
    NULL};
#undef KIND

/* No array may need more bytes than this, so that products of two sizes stay far from overflow and BLAS's int suffices. */
#define MAX_BYTES ((size_t)INT32_MAX)

const struct lip__kind *const *lip__kinds(void)
{
    return kinds;
}

const struct lip__kind *lip__kind_find(const char *name)
{
    for (const struct lip__kind *const *k = kinds; *k; k++)
        if (!strcmp((*k)->cls.name, name))
            return *k;
    return NULL;
}

lip_err lip__layer_fail(const lip_layer *layer, lip_error *err, lip_err code, const char *format, ...)
{
    char text[480];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (layer->name)
        return lip__fail(err, code, "layer \"%.80s\" (%s): %s", layer->name, layer->kind->cls.name, text);
    return lip__fail(err, code, "layer %s: %s", layer->kind->cls.name, text);
}

/* ---- life ------------------------------------------------------------------------------------------ */

/* Whether every object that has a default was made. */
static bool complete(const lip_layer *layer)
{
    for (const struct lip__field *f = layer->kind->cls.fields; f->name; f++)
        if (f->type == LIP__OBJECT && !isnan(f->def) && !*(void *const *)((const char *)layer + f->offset))
            return false;
    return true;
}

lip_layer *lip__layer_new(const struct lip__kind *kind)
{
    lip_layer *layer = lip__alloc(1, kind->cls.size);

    if (!layer)
        return NULL;
    layer->kind = kind;
    layer->trainable = true;
    layer->k = layer->coef = 1;
    lip__fields_default(&kind->cls, layer);
    if (complete(layer))
        return layer;
    lip__layer_free(layer);
    return NULL;
}

void lip__layer_free(lip_layer *layer)
{
    if (!layer)
        return;
    lip__fields_clear(&layer->kind->cls, layer); /* an activation too: every slot is in a table */
    lip__free(layer->merged);
    lip__free(layer->name);
    lip__free(layer);
}

lip_layer *lip__layer_copy(const lip_layer *l, const struct lip__kind *kind)
{
    lip_layer *c = lip__layer_new(kind);

    if (!c)
        return NULL;
    if (!lip__fields_copy(&l->kind->cls, l, &kind->cls, c) || !(c->name = lip__strdup(l->name))) {
        lip__layer_free(c);
        return NULL;
    }
    c->trainable = l->trainable;
    c->has_batch_shape = l->has_batch_shape;
    c->in_slot = l->in_slot;
    c->path = l->path;
    c->in = c->out = *lip_layer_input_shape(l); /* of an InputLayer; whoever builds the others replaces it */
    return c;
}

void lip__declare(lip_layer *layer, const char *name, lip_role role, const lip_shape *shape,
                  const struct lip__object *initializer, const struct lip__object *regularizer,
                  const struct lip__object *constraint)
{
    assert(layer->n_declared < sizeof layer->declared / sizeof *layer->declared);
    layer->declared[layer->n_declared++] = (struct lip__declared){name, role, *shape, initializer, regularizer, constraint};
}

/* A None is NAN where the table allows it; anything else that is not finite would spoil every number behind it. */
static lip_err check_numbers(const lip_layer *layer, lip_error *err)
{
    for (const struct lip__field *f = layer->kind->cls.fields; f->name; f++) {
        double x;
        if (f->type != LIP__FLOAT)
            continue;
        memcpy(&x, (const char *)layer + f->offset, sizeof x);
        if (!isfinite(x) && !(isnan(x) && f->flags & LIP__NONE_OK))
            return lip__layer_fail(layer, err, LIP_EDEFINITION, "%s is %g, needs a finite number", f->name, x);
    }
    return LIP_OK;
}

static lip_err check_shapes(const lip_layer *layer, lip_error *err)
{
    char text[128];

    for (size_t i = 0; i < layer->n_declared; i++)
        if (lip_shape_check(&layer->declared[i].shape, sizeof(float), MAX_BYTES, NULL))
            return lip__layer_fail(layer, err, LIP_ESHAPE, "%s of shape %s needs more than %zu bytes",
                                   layer->declared[i].name,
                                   lip_shape_text(&layer->declared[i].shape, text, sizeof text), MAX_BYTES);
    if (lip_shape_check(&layer->out, sizeof(float), MAX_BYTES, NULL))
        return lip__layer_fail(layer, err, LIP_ESHAPE, "its output of shape %s needs more than %zu bytes",
                               lip_shape_text(&layer->out, text, sizeof text), MAX_BYTES);
    return LIP_OK;
}

lip_shape lip__turned(const lip_shape *shape, bool to_last)
{
    lip_shape turned = *shape;

    for (size_t i = 0; i < shape->rank; i++)
        turned.dim[i] = shape->dim[(i + (to_last ? 1 : shape->rank - 1)) % shape->rank];
    return turned;
}

static bool channels_first(const lip_layer *layer)
{
    for (const struct lip__field *f = layer->kind->cls.fields; f->name; f++)
        if (!strcmp(f->name, "data_format")) {
            const char *format = *(const char *const *)(const void *)((const char *)layer + f->offset);
            return format && !strcmp(format, "channels_first");
        }
    return false;
}

lip_err lip__layer_build(lip_layer *layer, const lip_shape *in, lip_error *err)
{
    char text[128];
    lip_err rc;

    layer->first = channels_first(layer);
    layer->given = *in;
    layer->in = layer->first ? lip__turned(in, true) : *in;
    layer->out = layer->in;
    layer->n_declared = 0;
    if (in->rank > LIP_MAX_RANK || !lip_shape_count(in) || lip_shape_check(in, sizeof(float), MAX_BYTES, NULL))
        return lip__layer_fail(layer, err, LIP_ESHAPE,
                               "its input has shape %s, needs at most %d axes, none of them 0, and at most %zu bytes",
                               lip_shape_text(in, text, sizeof text), LIP_MAX_RANK, MAX_BYTES);
    if ((rc = check_numbers(layer, err)) || (layer->kind->check && (rc = layer->kind->check(layer, err))) ||
        (layer->kind->build && (rc = layer->kind->build(layer, err))) || (rc = check_shapes(layer, err)))
        return rc;
    if (layer->own_coef > 0)
        layer->coef = layer->own_coef;
    layer->made = layer->first ? lip__turned(&layer->out, false) : layer->out;
    return layer->activation ? lip__layer_build(layer->activation, &layer->made, err) : LIP_OK;
}

lip_err lip__layer_join(lip_layer *layer, const lip_shape *in, size_t n, lip_error *err)
{
    if (!layer->kind->join && n == 1)
        return lip__layer_build(layer, in, err);
    if (!layer->kind->join)
        return lip__layer_fail(layer, err, LIP_EDEFINITION, "it has %zu inputs, takes one", n);
    if (n < 2)
        return lip__layer_fail(layer, err, LIP_EDEFINITION, "it has %zu input%s, needs at least two", n, n == 1 ? "" : "s");
    lip__free(layer->merged);
    layer->merged = lip__alloc(n, sizeof *layer->merged);
    if (!layer->merged)
        return lip__nomem(err, n * sizeof *layer->merged);
    memcpy(layer->merged, in, n * sizeof *in);
    layer->n_merged = n;
    layer->in = in[0];
    layer->n_declared = 0;
    lip_err rc = layer->kind->join(layer, err);
    return rc == LIP_OK ? check_shapes(layer, err) : rc;
}

double lip__layer_coefficient(const lip_layer *layer)
{
    return layer->coef * layer->k;
}

/* ---- what model.h says of a layer ------------------------------------------------------------------- */

const char *lip_layer_name(const lip_layer *layer)
{
    return layer->name;
}

const char *lip_layer_class(const lip_layer *layer)
{
    return layer->kind->cls.name;
}

size_t lip_layer_index(const lip_layer *layer)
{
    return layer->index;
}

const lip_shape *lip_layer_input_shape(const lip_layer *layer)
{
    return layer->first ? &layer->given : &layer->in;
}

static const lip_shape *made_by(const lip_layer *layer)
{
    return layer->first ? &layer->made : &layer->out;
}

const lip_shape *lip_layer_output_shape(const lip_layer *layer)
{
    return made_by(layer->activation ? layer->activation : layer);
}

bool lip_layer_trainable(const lip_layer *layer)
{
    return layer->trainable;
}

bool lip_layer_is_input(const lip_layer *layer)
{
    return layer->kind->flags & LIP__INPUT;
}

bool lip_layer_is_lipschitz(const lip_layer *layer)
{
    return layer->kind->flags & LIP__LIPSCHITZ;
}

double lip_layer_k(const lip_layer *layer)
{
    return lip_layer_is_lipschitz(layer) ? layer->k : NAN;
}

double lip_layer_coef(const lip_layer *layer)
{
    return lip_layer_is_lipschitz(layer) ? layer->coef : NAN;
}

double lip_layer_claimed(const lip_layer *layer)
{
    return layer->kind->claimed ? layer->kind->claimed(layer) : lip_layer_k(layer);
}

bool lip_layer_per_output(const lip_layer *layer)
{
    return layer->kind->per_output && layer->kind->per_output(layer);
}

bool lip_layer_has_effective(const lip_layer *layer)
{
    return layer->kind->reparam;
}

size_t lip_layer_parameters(const lip_layer *layer)
{
    size_t count = 0;

    for (size_t i = 0; i < layer->n_declared && layer->trainable; i++) {
        lip_role role = layer->declared[i].role;
        if (role == LIP_KERNEL || role == LIP_BIAS || role == LIP_OTHER)
            count += lip_shape_count(&layer->declared[i].shape);
    }
    return count;
}

size_t lip_layer_first_variable(const lip_layer *layer)
{
    return layer->var;
}

size_t lip_layer_variables(const lip_layer *layer)
{
    return layer->n_vars;
}
