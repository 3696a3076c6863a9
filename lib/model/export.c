/* export.c: models made of others: vanilla_export, which is without deel-lip's dense and convolution layers (semantics.md
 * 16.4), and the same definition with another k, another coefficient, or another layer frozen. */
#include "model/model.h"

#include <math.h>
#include <string.h>

static void *duplicate(const void *array, size_t n, size_t size)
{
    void *copy = lip__alloc(n, size);

    if (copy)
        memcpy(copy, array, n * size);
    return copy;
}

static bool copy_entry(const struct lip__entry *e, bool vanilla, struct lip__entry *c);

/* The same graph, with vanilla layers if so asked: a deel-lip Sequential then becomes Keras's own. NULL: out of memory. */
static struct lip__graph *copy_graph(const struct lip__graph *g, bool vanilla)
{
    struct lip__graph *c = lip__alloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->class_name = g->class_name;
    c->name = lip__strdup(g->name);
    c->path = g->path;
    c->deel = g->deel && !vanilla;
    c->sound = g->sound && !vanilla;
    c->k = vanilla ? NAN : g->k;
    c->shape = g->shape;
    c->n_inputs = g->n_inputs;
    c->n_outputs = g->n_outputs;
    c->n_order = g->n_order;
    c->order = duplicate(g->order, g->n_order, sizeof *g->order);
    c->input = g->n_inputs ? duplicate(g->input, g->n_inputs, sizeof *g->input) : NULL;
    c->output = duplicate(g->output, g->n_outputs, sizeof *g->output);
    c->entry = lip__alloc(g->n_entries, sizeof *c->entry);
    bool whole = c->name && c->order && (c->input || !g->n_inputs) && c->output && c->entry;
    while (whole && c->n_entries < g->n_entries) {
        whole = copy_entry(&g->entry[c->n_entries], vanilla, &c->entry[c->n_entries]);
        c->n_entries++;
    }
    if (whole)
        return c;
    lip__graph_free(c);
    return NULL;
}

static bool copy_entry(const struct lip__entry *e, bool vanilla, struct lip__entry *c)
{
    if (e->layer)
        c->layer = lip__layer_copy(e->layer, vanilla && e->layer->kind->vanilla ? e->layer->kind->vanilla : e->layer->kind);
    else
        c->graph = copy_graph(e->graph, vanilla);
    c->pointer = lip__strdup(e->pointer);
    c->node = e->node;
    c->use = lip__alloc(e->n_uses + 1, sizeof *c->use);
    if (!c->use)
        return false;
    for (; c->n_uses < e->n_uses; c->n_uses++) {
        const struct lip__use *u = &e->use[c->n_uses];
        c->use[c->n_uses] = (struct lip__use){duplicate(u->from, u->n_from, sizeof *u->from), u->n_from};
        if (!c->use[c->n_uses].from)
            return false;
    }
    return (c->layer || c->graph) && c->pointer;
}

lip_err lip_model_vanilla(const lip_model *m, lip_model **vanilla, lip_error *err)
{
    struct lip__graph *graph = copy_graph(m->graph, true);

    return graph ? lip__model_assemble(graph, false, vanilla, err) : lip__nomem(err, 0);
}

/* A new state of `m` with these numbers. */
static lip_err make_state(const lip_model *m, const lip_named *tensors, size_t n, lip_state **state, lip_error *err)
{
    lip_state *s = NULL;
    lip_err rc = lip_state_new(m, 0, &s, err);

    if (rc == LIP_OK)
        rc = lip_state_load(s, tensors, n, false, NULL, NULL, err);
    if (rc != LIP_OK) {
        lip_state_free(s);
        return rc;
    }
    *state = s;
    return LIP_OK;
}

lip_err lip_snapshot_vanilla(const lip_snapshot *p, const lip_model *vanilla, lip_state **state, lip_error *err)
{
    const lip_model *m = p->model;
    lip_named *tensors = lip__alloc(m->n_variables + 1, sizeof *tensors);
    size_t n = 0;

    if (!tensors)
        return lip__nomem(err, m->n_variables * sizeof *tensors);
    for (size_t i = 0; i < m->n_steps; i++)
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            if (m->step[i].read[r] != LIP__NOWHERE) {
                bool kernel = m->step[i].train[r] != LIP__NOWHERE; /* its effective one goes where the raw one was */
                const lip_variable *v = &m->variable[kernel ? m->step[i].train[r] : m->step[i].read[r]];
                bool again = false; /* another use of a shared layer */
                for (size_t j = 0; j < n; j++)
                    again |= tensors[j].name == v->name;
                if (!again)
                    tensors[n++] = (lip_named){v->name, v->shape, p->data[m->step[i].read[r]]};
            }
    lip_err rc = make_state(vanilla, tensors, n, state, err);
    lip__free(tensors);
    return rc;
}

/* ---- the same with other constants ----------------------------------------------------------------------- */

/* The layer of this name; visit (NULL: nothing) is called with each graph around it. */
static lip_layer *find_in(struct lip__graph *g, const char *name, void (*visit)(struct lip__graph *))
{
    lip_layer *found = NULL;

    for (size_t i = 0; i < g->n_entries && !found; i++) {
        struct lip__entry *e = &g->entry[i];
        if (e->graph)
            found = find_in(e->graph, name, visit);
        else if (!strcmp(e->layer->name, name))
            found = e->layer;
    }
    if (found && visit)
        visit(g);
    return found;
}

/* Its layers keep the k that they were given as their own. */
static void unshare(struct lip__graph *g)
{
    g->deel = false;
    g->k = NAN;
}

static lip_err change(const lip_model *m, const char *layer, void (*visit)(struct lip__graph *), struct lip__graph **graph,
                      lip_layer **found, lip_error *err)
{
    *graph = copy_graph(m->graph, false);
    if (!*graph)
        return lip__nomem(err, 0);
    if (!layer || (*found = find_in(*graph, layer, visit)))
        return LIP_OK;
    lip__graph_free(*graph);
    return lip__fail(err, LIP_ERANGE, "the model has no layer \"%.200s\"", layer);
}

lip_err lip_model_with_k(const lip_model *m, const char *layer, double k, lip_model **changed, lip_error *err)
{
    struct lip__graph *graph;
    lip_layer *l = NULL;
    lip_err rc;

    if (!(k > 0) || !isfinite(k))
        return lip__fail(err, LIP_EDEFINITION, "k_coef_lip is %g, needs a finite number > 0", k);
    if (!layer && strcmp(m->graph->class_name, "Sequential"))
        return lip__fail(err, LIP_EUNSUPPORTED, "only a Sequential shares k among its layers, not a %s", m->graph->class_name);
    if ((rc = change(m, layer, unshare, &graph, &l, err)) != LIP_OK)
        return rc;
    if (!layer) {
        graph->deel = true;
        graph->k = k;
    } else if (lip_layer_is_lipschitz(l)) {
        l->k = k;
    } else {
        rc = lip__layer_fail(l, err, LIP_EDEFINITION, "it has no k_coef_lip");
        lip__graph_free(graph);
        return rc;
    }
    return lip__model_assemble(graph, false, changed, err);
}

/* Factors are those of shapes again. */
static void forget_coefs(struct lip__graph *g)
{
    for (size_t i = 0; i < g->n_entries; i++)
        if (g->entry[i].graph)
            forget_coefs(g->entry[i].graph);
        else
            g->entry[i].layer->own_coef = 0;
}

lip_err lip_model_with_coefficient(const lip_model *m, lip_coefficient coefficient, lip_model **changed, lip_error *err)
{
    struct lip__graph *graph;
    lip_err rc = change(m, NULL, NULL, &graph, NULL, err);

    if (rc != LIP_OK)
        return rc;
    graph->sound = coefficient == LIP_SOUND;
    forget_coefs(graph);
    return lip__model_assemble(graph, false, changed, err);
}

lip_err lip_model_with_coef(const lip_model *m, const char *layer, double coef, lip_model **changed, lip_error *err)
{
    struct lip__graph *graph;
    lip_layer *l = NULL;
    lip_err rc = coef >= 0 && isfinite(coef) ? change(m, layer, NULL, &graph, &l, err)
                                             : lip__fail(err, LIP_EDEFINITION, "coef_lip is %g, needs a finite number >= 0", coef);

    if (rc != LIP_OK)
        return rc;
    if (!(l->kind->flags & LIP__CONDENSABLE)) {
        rc = lip__layer_fail(l, err, LIP_EDEFINITION, "it has no coef_lip to set");
        lip__graph_free(graph);
        return rc;
    }
    l->own_coef = coef;
    return lip__model_assemble(graph, false, changed, err);
}

lip_err lip_model_with_trainable(const lip_model *m, const char *layer, bool trainable, lip_model **changed, lip_error *err)
{
    struct lip__graph *graph;
    lip_layer *l = NULL;
    lip_err rc = change(m, layer, NULL, &graph, &l, err);

    if (rc != LIP_OK)
        return rc;
    l->trainable = trainable;
    return lip__model_assemble(graph, false, changed, err);
}

lip_err lip_state_move(const lip_state *from, const lip_model *m, bool keep, lip_state **state, lip_error *err)
{
    const lip_model *old = from->model;
    lip_named *tensors = lip__alloc(old->n_variables + 1, sizeof *tensors);
    size_t n = 0;

    if (!tensors)
        return lip__nomem(err, old->n_variables * sizeof *tensors);
    lip__state_settle(from);
    for (size_t v = 0; v < old->n_variables; v++)
        if (keep || old->variable[v].role != LIP_WBAR)
            tensors[n++] = (lip_named){old->variable[v].name, old->variable[v].shape, from->now + old->offset[v]};
    lip_err rc = make_state(m, tensors, n, state, err);
    for (size_t i = 0; rc == LIP_OK && keep && i < m->n_layers && i < old->n_layers; i++)
        lip_state_mark(*state, i, from->effective[i]);
    lip__free(tensors);
    return rc;
}
