/* export.c: vanilla_export, a model without deel-lip's dense and convolution layers (semantics.md 16.4). */
#include "model/model.h"

#include <math.h>
#include <string.h>

static const struct lip__field *field_named(const struct lip__class *cls, const char *name)
{
    for (const struct lip__field *f = cls->fields; f->name; f++)
        if (!strcmp(f->name, name))
            return f;
    return NULL;
}

static lip_layer *clone(const lip_layer *l, const struct lip__kind *kind);

/* One option from one object to another; objects of a different class keep their defaults. */
static bool copy_field(const struct lip__field *f, const void *from, const struct lip__field *g, void *to)
{
    const char *src = (const char *)from + f->offset;
    char *dst = (char *)to + g->offset;

    switch (f->type) {
    case LIP__INT:
        memcpy(dst, src, sizeof(long));
        return true;
    case LIP__FLOAT:
        memcpy(dst, src, sizeof(double));
        return true;
    case LIP__BOOL:
        memcpy(dst, src, sizeof(bool));
        return true;
    case LIP__PAIR:
        memcpy(dst, src, 2 * sizeof(size_t));
        return true;
    case LIP__INTS:
        memcpy(dst, src, sizeof(struct lip__ints));
        return true;
    case LIP__EDGES:
        memcpy(dst, src, 4 * sizeof(size_t));
        return true;
    case LIP__CHOICE:
        *(const char **)dst = *(const char *const *)src;
        return true;
    case LIP__STRING: {
        char *text = *(char *const *)src;
        lip__free(*(char **)dst);
        *(char **)dst = text ? lip__strdup(text) : NULL;
        return !text || *(char **)dst;
    }
    case LIP__ACTIVATION: {
        const lip_layer *slot = *(lip_layer *const *)src;
        lip__layer_free(*(lip_layer **)dst);
        *(lip_layer **)dst = slot ? clone(slot, slot->kind) : NULL;
        return !slot || *(lip_layer **)dst;
    }
    case LIP__AXES:
        memcpy(dst, src, (LIP_MAX_RANK + 1) * sizeof(long));
        return true;
    case LIP__OBJECT: /* initializers: the weights come with the export, so the Keras defaults do */
    case LIP__FLOATS: /* schedules and callbacks have them, layers do not */
    case LIP__NULL:
    case LIP__ANY:
    case LIP__FIXED:
        return true;
    }
    return true;
}

/* A new layer of `kind` with the options that both kinds have; NULL: out of memory. */
static lip_layer *clone(const lip_layer *l, const struct lip__kind *kind)
{
    lip_layer *c = lip__layer_new(kind);

    if (!c)
        return NULL;
    for (const struct lip__field *g = kind->cls.fields; g->name; g++) {
        const struct lip__field *f = field_named(&l->kind->cls, g->name);
        if (f && f->type == g->type && !copy_field(f, l, g, c)) {
            lip__layer_free(c);
            return NULL;
        }
    }
    c->name = lip__strdup(l->name);
    c->trainable = l->trainable;
    c->has_batch_shape = l->has_batch_shape;
    c->in_slot = l->in_slot;
    c->path = l->path;
    c->in = l->in;
    c->out = l->out;
    if (!c->name) {
        lip__layer_free(c);
        return NULL;
    }
    return c;
}

static void *duplicate(const void *array, size_t n, size_t size)
{
    void *copy = lip__alloc(n, size);

    if (copy)
        memcpy(copy, array, n * size);
    return copy;
}

static bool copy_entry(const struct lip__entry *e, struct lip__entry *c);

/* The same graph with vanilla layers; NULL: out of memory. A deel-lip Sequential becomes Keras's own. */
static struct lip__graph *clone_graph(const struct lip__graph *g)
{
    struct lip__graph *c = lip__alloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->class_name = g->class_name;
    c->name = lip__strdup(g->name);
    c->path = g->path;
    c->k = NAN;
    c->shape = g->shape;
    c->n_inputs = g->n_inputs;
    c->n_outputs = g->n_outputs;
    c->order = duplicate(g->order, g->n_entries, sizeof *g->order);
    c->input = g->n_inputs ? duplicate(g->input, g->n_inputs, sizeof *g->input) : NULL;
    c->output = duplicate(g->output, g->n_outputs, sizeof *g->output);
    c->entry = lip__alloc(g->n_entries, sizeof *c->entry);
    bool whole = c->name && c->order && (c->input || !g->n_inputs) && c->output && c->entry;
    while (whole && c->n_entries < g->n_entries) {
        whole = copy_entry(&g->entry[c->n_entries], &c->entry[c->n_entries]);
        c->n_entries++;
    }
    if (whole)
        return c;
    lip__graph_free(c);
    return NULL;
}

static bool copy_entry(const struct lip__entry *e, struct lip__entry *c)
{
    if (e->layer)
        c->layer = clone(e->layer, e->layer->kind->vanilla ? e->layer->kind->vanilla : e->layer->kind);
    else
        c->graph = clone_graph(e->graph);
    c->pointer = lip__strdup(e->pointer);
    c->n_from = e->n_from;
    c->node = e->node;
    c->from = e->n_from ? duplicate(e->from, e->n_from, sizeof *e->from) : NULL;
    return (c->layer || c->graph) && c->pointer && (c->from || !e->n_from);
}

lip_err lip_model_vanilla(const lip_model *m, lip_model **vanilla, lip_error *err)
{
    struct lip__graph *graph = clone_graph(m->graph);

    return graph ? lip__model_assemble(graph, false, vanilla, err) : lip__nomem(err, 0);
}

lip_err lip_snapshot_vanilla(const lip_snapshot *p, const lip_model *vanilla, lip_state **state, lip_error *err)
{
    const lip_model *m = p->model;
    lip_named *tensors = lip__alloc(m->n_variables + 1, sizeof *tensors);
    lip_state *s = NULL;
    size_t n = 0;
    lip_err rc;

    if (!tensors)
        return lip__nomem(err, m->n_variables * sizeof *tensors);
    for (size_t i = 0; i < m->n_steps; i++)
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            if (m->step[i].read[r] != LIP__NOWHERE) {
                const lip_variable *v = &m->variable[m->step[i].train[r]];
                tensors[n++] = (lip_named){v->name, v->shape, p->data[m->step[i].read[r]]};
            }
    rc = lip_state_new(vanilla, 0, &s, err);
    if (rc == LIP_OK)
        rc = lip_state_load(s, tensors, n, false, NULL, NULL, err);
    lip__free(tensors);
    if (rc != LIP_OK) {
        lip_state_free(s);
        return rc;
    }
    *state = s;
    return LIP_OK;
}
