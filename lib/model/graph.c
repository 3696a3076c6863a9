/* graph.c: a model's layers get their shapes, numbers and shares of k here, and become a list of steps.
 *
 * The definition stays as it was read, a tree of graphs; nested models are laid out flat, one step behind the other in
 * topological order, with values that flow between them.
 */
#include "model/model.h"
#include "model/slots.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Nested models that use nested models several times grow like a power. */
#define MAX_STEPS 65536

void lip__graph_free(struct lip__graph *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_entries; i++) {
        lip__layer_free(g->entry[i].layer);
        lip__graph_free(g->entry[i].graph);
        lip__free(g->entry[i].pointer);
        for (size_t u = 0; u < g->entry[i].n_uses; u++)
            lip__free(g->entry[i].use[u].from);
        lip__free(g->entry[i].use);
    }
    lip__free(g->output);
    lip__free(g->input);
    lip__free(g->order);
    lip__free(g->entry);
    lip__free(g->name);
    lip__free(g);
}

static lip_err warn(lip_model *m, const char *layer)
{
    char text[256];
    char **more = lip__alloc(m->n_warnings + 1, sizeof *more);

    snprintf(text, sizeof text, "%s model contains a layer which is not a 1-Lipschitz layer: %.180s", m->graph->class_name, layer);
    char *copy = lip__strdup(text);
    if (!more || !copy) {
        lip__free(more);
        lip__free(copy);
        return LIP_ENOMEM;
    }
    if (m->n_warnings)
        memcpy(more, m->warning, m->n_warnings * sizeof *more);
    lip__free(m->warning);
    m->warning = more;
    m->warning[m->n_warnings++] = copy;
    return LIP_OK;
}

/* Each direct Lipschitz layer gets the n-th root of k; a nested deel-lip Sequential counts as one and splits its share again
 * (semantics.md 16.2). */
static lip_err share_k(struct lip__graph *g, lip_error *err)
{
    size_t n = 0;
    lip_err rc;

    if (g->deel && (!(g->k > 0) || !isfinite(g->k)))
        return lip__fail_at(err, LIP_EDEFINITION, "/config/k_coef_lip",
                            "model \"%.100s\": k_coef_lip is %g, needs a finite number > 0", g->name, g->k);
    for (size_t i = 0; i < g->n_entries; i++)
        n += g->entry[i].layer ? lip_layer_is_lipschitz(g->entry[i].layer) : g->entry[i].graph->deel;
    for (size_t i = 0; i < g->n_entries; i++) {
        struct lip__entry *e = &g->entry[i];
        if (g->deel && e->layer && lip_layer_is_lipschitz(e->layer))
            e->layer->k = pow(g->k, 1.0 / (double)n);
        if (g->deel && e->graph && e->graph->deel)
            e->graph->k = pow(g->k, 1.0 / (double)n);
        if (e->graph && (rc = share_k(e->graph, err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

/* The declared variables of `l` that train, or those that do not, as the next numbers of the model. */
static lip_err number(lip_model *m, const lip_layer *top, lip_layer *l, bool trained, lip_error *err)
{
    for (size_t d = 0; d < l->n_declared; d++) {
        const struct lip__declared *v = &l->declared[d];
        if (lip__trains(v->role) != trained)
            continue;
        size_t size = strlen(l->name) + strlen(v->name) + 2;
        char *name = lip__alloc(size, 1);
        if (!name)
            return lip__nomem(err, size);
        snprintf(name, size, "%s/%s", l->name, v->name);
        m->variable[m->n_variables++] =
            (lip_variable){name, top, v->role, trained && top->trainable && l->trainable, v->shape};
    }
    return LIP_OK;
}

/* The variable of `l` with this role, and with this name unless that is NULL. */
static size_t find(const lip_model *m, const lip_layer *l, lip_role role, const char *name)
{
    size_t length = strlen(l->name);

    for (size_t v = 0; v < m->n_variables; v++) {
        const char *full = m->variable[v].name;
        if (m->variable[v].role == role && !strncmp(full, l->name, length) && full[length] == '/' &&
            !strchr(full + length + 1, '/') && (!name || !strcmp(full + length + 1, name)))
            return v;
    }
    return LIP__NOWHERE;
}

const struct lip__declared *lip__declared_of(const lip_model *m, size_t variable)
{
    const lip_variable *v = &m->variable[variable];
    const char *name = strrchr(v->name, '/') + 1;
    size_t owner = (size_t)(name - v->name) - 1;

    for (const lip_layer *l = v->layer; l; l = l == v->layer ? v->layer->activation : NULL)
        for (size_t d = 0; d < l->n_declared && strlen(l->name) == owner && !strncmp(l->name, v->name, owner); d++)
            if (!strcmp(l->declared[d].name, name))
                return &l->declared[d];
    return NULL;
}

/* Another use of the layer has made it known. */
static bool has_kernel(const lip_model *m, size_t wbar)
{
    for (size_t i = 0; i < m->n_kernels; i++)
        if (m->kernel[i].wbar == wbar)
            return true;
    return false;
}

static void add_kernel(lip_model *m, size_t top, const lip_layer *l, size_t kernel, size_t wbar)
{
    const lip_shape *shape = &m->variable[kernel].shape;
    struct lip__kernel *k = &m->kernel[m->n_kernels++];

    *k = (struct lip__kernel){.layer = l, .top = top, .kernel = kernel, .wbar = wbar};
    k->u = find(m, l, LIP_U, NULL);
    k->sigma = find(m, l, LIP_SIGMA, NULL);
    k->n = k->u != LIP__NOWHERE ? lip_shape_count(&m->variable[k->u].shape) : shape->dim[shape->rank - 1];
    k->m = lip_shape_count(shape) / k->n;
    k->factor = LIP__NOWHERE;
    if (l->kind->half && m->variable[kernel].trainable && !m->shared) {
        k->factor = m->q;
        m->q += lip__round(k->m < k->n ? k->m * k->m : k->n * k->n);
        k->half = l->kind->half(l);
    }
}

/* ---- laying out ---------------------------------------------------------------------------------------- */

/* The model while it is laid out; the arrays of values and steps have room.
 *
 * Layers with data_format channels_first compute with channels last. What they make stays so, `turned`, as long as only
 * such layers and pointwise ones read it; whoever else does reads its twin, made by a Permute when it is first asked for. */
struct layout {
    lip_model *m;
    struct held {
        lip_shape shape; /* as the definition has it */
        bool turned;     /* the numbers lie with the first axis last */
        size_t twin;     /* the value that holds the same the other way; LIP__NOWHERE: none yet */
    } *held;             /* of each value */
    bool *laid; /* of each layer: it has got its shape */
    bool strict;
};

/* times: how often the graph is used. */
static void count(const struct lip__graph *g, bool top, size_t times, size_t *layers, size_t *steps)
{
    for (size_t i = 0; i < g->n_entries; i++) {
        const lip_layer *l = g->entry[i].layer;
        if (!l) {
            count(g->entry[i].graph, false, times * g->entry[i].n_uses, layers, steps);
            continue;
        }
        *layers += top || !lip_layer_is_input(l);
        *steps += 4 * times * g->entry[i].n_uses; /* its own and its slot's, each with a turn */
    }
}

static void list_layers(lip_model *m, const struct lip__graph *g, bool top)
{
    for (size_t i = 0; i < g->n_entries; i++) {
        lip_layer *l = g->entry[i].layer;
        if (!l) {
            list_layers(m, g->entry[i].graph, false);
        } else {
            l->index = i;
            if (top || !lip_layer_is_input(l))
                m->layer[m->n_layers++] = l;
        }
    }
}

static size_t add_value(struct layout *w, const lip_shape *shape, size_t producer)
{
    size_t v = w->m->n_values++;

    w->held[v] = (struct held){.shape = *shape, .twin = LIP__NOWHERE};
    w->m->value[v] = (struct lip__value){.size = lip_shape_count(shape), .producer = producer, .output = LIP__NOWHERE,
                                         .last = producer == LIP__NOWHERE ? 0 : producer};
    if (w->m->value[v].size > w->m->widest)
        w->m->widest = w->m->value[v].size;
    return v;
}

static lip_err add_step(struct layout *w, const lip_layer *l, size_t top, const size_t *from, size_t n_from,
                        const lip_shape *shape, size_t *out, lip_error *err)
{
    lip_model *m = w->m;
    struct lip__step *s = &m->step[m->n_steps];

    *s = (struct lip__step){.layer = l, .top = top, .n_from = n_from};
    s->from = lip__alloc(n_from, sizeof *s->from);
    if (!s->from)
        return lip__nomem(err, n_from * sizeof *s->from);
    for (size_t i = 0; i < n_from; i++) {
        s->from[i] = from[i];
        m->value[from[i]].last = m->n_steps;
    }
    s->out = *out = add_value(w, shape, m->n_steps);
    m->n_steps++;
    return LIP_OK;
}

/* *value <- the same numbers turned as wanted. between: it stands between layers, not between one and its slot. */
static lip_err turn(struct layout *w, size_t *value, bool turned, size_t top, bool between, lip_error *err)
{
    lip_model *m = w->m;
    size_t v = *value;
    lip_shape shape = w->held[v].shape, now = w->held[v].turned ? lip__turned(&shape, true) : shape;
    lip_err rc;

    if (w->held[v].turned == turned || shape.rank < 2)
        return LIP_OK;
    if (w->held[v].twin == LIP__NOWHERE) {
        lip_layer *l = m->turn[m->n_turns] = lip__turn_new(&now, turned);
        if (!l)
            return lip__nomem(err, sizeof *l);
        m->n_turns++;
        if ((rc = add_step(w, l, top, &v, 1, &shape, value, err)) != LIP_OK)
            return rc;
        m->step[m->n_steps - 1].turns = between;
        w->held[v].twin = *value;
        w->held[*value].twin = v;
        w->held[*value].turned = turned;
    }
    *value = w->held[v].twin;
    return LIP_OK;
}

/* The step of a layer or of the one in its slot, behind the turns that it needs. */
static lip_err lay_step(struct layout *w, const lip_layer *l, size_t top, const size_t *from, size_t n_from, size_t *out,
                        lip_error *err)
{
    size_t read[LIP__MAX_JOINED];
    bool any = l->kind->flags & LIP__POINTWISE, turned = any && w->held[from[0]].turned;
    lip_err rc = LIP_OK;

    for (size_t i = 0; i < n_from && rc == LIP_OK; i++) {
        read[i] = from[i];
        if (!any)
            rc = turn(w, &read[i], l->first, top, !l->in_slot, err);
    }
    if (rc == LIP_OK)
        rc = add_step(w, l, top, read, n_from, l->first ? &l->made : &l->out, out, err);
    if (rc == LIP_OK)
        w->held[*out].turned = turned || (l->first && l->out.rank > 1);
    return rc;
}

static size_t layer_number(const lip_model *m, const lip_layer *l)
{
    size_t i = 0;

    while (m->layer[i] != l)
        i++;
    return i;
}

/* A layer's shapes are those of its first use; others need the same. */
static lip_err same_shapes(const lip_layer *l, const lip_shape *in, size_t n, lip_error *err)
{
    char found[96], before[96];

    for (size_t i = 0; i < n; i++) {
        const lip_shape *had = l->n_merged > i ? &l->merged[i] : lip_layer_input_shape(l);
        if (!lip_shape_equal(&in[i], had) || (l->n_merged ? l->n_merged : 1) != n)
            return lip__layer_fail(l, err, LIP_EUNSUPPORTED, "it is used on shapes %s and %s; sharing a layer needs one shape",
                                   lip_shape_text(had, before, sizeof before), lip_shape_text(&in[i], found, sizeof found));
    }
    return LIP_OK;
}

static lip_err shape_layer(struct layout *w, lip_layer *l, size_t top, const lip_shape *in, size_t n, lip_error *err)
{
    lip_err rc;

    if (w->laid[top]) {
        w->m->shared = true;
        return same_shapes(l, in, n, err);
    }
    w->laid[top] = true;
    l->sound = w->m->graph->sound;
    if ((rc = lip__layer_join(l, in, n, err)) != LIP_OK || !isnan(lip_layer_claimed(l)))
        return rc;
    if (w->strict)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "it is not a 1-Lipschitz layer, and strict was asked for");
    return warn(w->m, l->name) == LIP_OK ? LIP_OK : lip__nomem(err, 0);
}

static lip_err lay_layer(struct layout *w, struct lip__entry *e, const size_t *from, size_t n_from, size_t *out, lip_error *err)
{
    lip_layer *l = e->layer;
    lip_shape in[LIP__MAX_JOINED];
    size_t top = layer_number(w->m, l);
    char pointer[sizeof err->pointer];
    lip_err rc;

    for (size_t i = 0; i < n_from; i++)
        in[i] = w->held[from[i]].shape;
    snprintf(pointer, sizeof pointer, "%s/config", e->pointer);
    rc = shape_layer(w, l, top, in, n_from, err);
    if (rc == LIP_OK)
        rc = lay_step(w, l, top, from, n_from, out, err);
    if (rc == LIP_OK && l->activation) {
        size_t linear = *out;
        rc = lay_step(w, l->activation, top, &linear, 1, out, err);
    }
    if (rc != LIP_OK && err && !err->pointer[0])
        memcpy(err->pointer, pointer, strlen(pointer) + 1);
    return rc;
}

/* The entry of an InputLayer: what it hands on is the graph's own input. */
static lip_err lay_input(struct layout *w, const struct lip__graph *g, size_t entry, const size_t *inputs, size_t *out,
                         lip_error *err)
{
    const lip_layer *l = g->entry[entry].layer;
    size_t i = 0;
    char found[96], wanted[96];

    while (g->input[i] != entry)
        i++;
    *out = inputs[i];
    if (lip_shape_equal(&l->in, &w->held[*out].shape))
        return LIP_OK;
    return lip__fail_at(err, LIP_ESHAPE, g->entry[entry].pointer, "layer \"%.100s\" is given shape %s, needs %s", l->name,
                        lip_shape_text(&w->held[*out].shape, found, sizeof found), lip_shape_text(&l->in, wanted, sizeof wanted));
}

static lip_err lay_graph(struct layout *w, const struct lip__graph *g, const size_t *inputs, size_t *outputs, lip_error *err);

static lip_err lay_entry(struct layout *w, const struct lip__graph *g, const struct lip__source *at, const size_t *inputs,
                         size_t **made, lip_error *err)
{
    struct lip__entry *e = &g->entry[at->entry];
    const struct lip__use *use = e->n_uses ? &e->use[at->use] : NULL;
    size_t from[LIP__MAX_JOINED], n = e->graph ? e->graph->n_outputs : 1, uses = e->n_uses ? e->n_uses : 1;

    if (!made[at->entry] && !(made[at->entry] = lip__alloc(n * uses, sizeof **made)))
        return lip__nomem(err, n * uses * sizeof **made);
    size_t *out = made[at->entry] + n * at->use;
    if (e->layer && lip_layer_is_input(e->layer))
        return lay_input(w, g, at->entry, inputs, out, err);
    if (e->graph && use->n_from != (e->graph->n_inputs ? e->graph->n_inputs : 1))
        return lip__fail_at(err, LIP_EDEFINITION, e->pointer, "model \"%.100s\" has %zu inputs and is given %zu",
                            e->graph->name, e->graph->n_inputs, use->n_from);
    for (size_t i = 0; i < use->n_from; i++) {
        const struct lip__source *s = &use->from[i];
        size_t outputs = s->entry == LIP__NOWHERE ? 0 : g->entry[s->entry].graph ? g->entry[s->entry].graph->n_outputs : 1;
        from[i] = s->entry == LIP__NOWHERE ? inputs[0] : made[s->entry][s->use * outputs + s->tensor];
    }
    return e->layer ? lay_layer(w, e, from, use->n_from, out, err) : lay_graph(w, e->graph, from, out, err);
}

static lip_err lay_graph(struct layout *w, const struct lip__graph *g, const size_t *inputs, size_t *outputs, lip_error *err)
{
    size_t **made = lip__alloc(g->n_entries, sizeof *made);
    lip_err rc = LIP_OK;

    if (!made)
        return lip__nomem(err, g->n_entries * sizeof *made);
    for (size_t i = 0; i < g->n_order && rc == LIP_OK; i++)
        rc = lay_entry(w, g, &g->order[i], inputs, made, err);
    for (size_t i = 0; i < g->n_outputs && rc == LIP_OK; i++) {
        const struct lip__entry *e = &g->entry[g->output[i].entry];
        outputs[i] = made[g->output[i].entry][g->output[i].use * (e->graph ? e->graph->n_outputs : 1) + g->output[i].tensor];
    }
    for (size_t i = 0; i < g->n_entries; i++)
        lip__free(made[i]);
    lip__free(made);
    return rc;
}

/* ---- inputs and outputs --------------------------------------------------------------------------------- */

/* "outer/inner" + suffix */
static char *glue(const char *name, const char *suffix)
{
    size_t length = strlen(name), more = strlen(suffix);
    char *text = lip__alloc(length + more + 1, 1);

    if (text) {
        memcpy(text, name, length);
        memcpy(text + length, suffix, more + 1);
    }
    return text;
}

/* A Sequential without an InputLayer starts with a layer or a model that knows its shape. */
static const char *first_name(const struct lip__graph *g)
{
    return g->entry[0].layer ? g->entry[0].layer->name : g->entry[0].graph->name;
}

static lip_err open_inputs(struct layout *w, lip_error *err)
{
    lip_model *m = w->m;
    const struct lip__graph *g = m->graph;

    m->n_inputs = g->n_inputs ? g->n_inputs : 1;
    m->input = lip__alloc(m->n_inputs, sizeof *m->input);
    m->input_name = lip__alloc(m->n_inputs, sizeof *m->input_name);
    if (!m->input || !m->input_name)
        return lip__nomem(err, m->n_inputs * sizeof *m->input);
    for (size_t i = 0; i < m->n_inputs; i++) {
        const lip_layer *l = g->n_inputs ? g->entry[g->input[i]].layer : NULL;
        lip_err rc;
        m->input[i] = l ? l->in : g->shape;
        m->input_name[i] = l ? lip__strdup(l->name) : glue(first_name(g), "_input");
        if (!m->input_name[i])
            return lip__nomem(err, 0);
        if ((rc = lip_shape_check(&m->input[i], sizeof(float), (size_t)1 << 31, err)) != LIP_OK)
            return rc;
        add_value(w, &m->input[i], LIP__NOWHERE);
        m->value[i].input = i;
    }
    return LIP_OK;
}

static lip_err name_outputs(struct layout *w, lip_error *err)
{
    lip_model *m = w->m;
    const struct lip__graph *g = m->graph;

    m->output_name = lip__alloc(m->n_outputs, sizeof *m->output_name);
    m->output = lip__alloc(m->n_outputs, sizeof *m->output);
    if (!m->output || !m->output_name)
        return lip__nomem(err, m->n_outputs * sizeof *m->output);
    for (size_t i = 0; i < m->n_outputs; i++) {
        const struct lip__entry *e = &g->entry[g->output[i].entry];
        lip_err rc;
        if ((rc = turn(w, &m->output_value[i], false, m->n_steps ? m->step[m->n_steps - 1].top : 0, true, err)) != LIP_OK)
            return rc;
        size_t v = m->output_value[i];
        if (m->value[v].producer == LIP__NOWHERE || m->value[v].output != LIP__NOWHERE)
            return lip__fail_at(err, LIP_EUNSUPPORTED, "/config/output_layers",
                                "output %zu is an input or another output; each needs a layer of its own", i);
        m->value[v].output = i;
        m->output[i] = w->held[v].shape;
        m->output_name[i] = lip__strdup(e->layer ? e->layer->name : e->graph->name);
        if (!m->output_name[i])
            return lip__nomem(err, 0);
    }
    return LIP_OK;
}

/* Buffers for the values of a block: a value takes the smallest free one that holds it, or the largest, which then grows.
 * A chain needs two. */
static lip_err share_buffers(lip_model *m, lip_error *err)
{
    bool *taken = lip__alloc(m->n_values + 1, sizeof *taken);

    m->slot = lip__alloc(m->n_values + 1, sizeof *m->slot);
    if (!m->slot || !taken) {
        lip__free(taken);
        return lip__nomem(err, m->n_values * sizeof *m->slot);
    }
    for (size_t s = 0; s < m->n_steps; s++) {
        struct lip__value *v = &m->value[m->step[s].out];
        size_t best = m->n_slots;
        for (size_t i = 0; i < m->n_slots && v->output == LIP__NOWHERE; i++) {
            bool fits = m->slot[i] >= v->size, better = best == m->n_slots || (m->slot[best] < v->size ? m->slot[i] > m->slot[best]
                                                                                   : fits && m->slot[i] < m->slot[best]);
            if (!taken[i] && better)
                best = i;
        }
        if (v->output == LIP__NOWHERE) {
            v->slot = best;
            m->n_slots += best == m->n_slots;
            m->slot[best] = m->slot[best] < v->size ? v->size : m->slot[best];
            taken[best] = true;
        }
        for (size_t i = 0; i < m->step[s].n_from; i++) {
            const struct lip__value *x = &m->value[m->step[s].from[i]];
            if (x->producer != LIP__NOWHERE && x->output == LIP__NOWHERE && x->last == s)
                taken[x->slot] = false;
        }
        if (v->output == LIP__NOWHERE && v->last == s) /* nobody reads it */
            taken[v->slot] = false;
    }
    lip__free(taken);
    if (m->n_slots > LIP__MAX_SLOT)
        return lip__fail(err, LIP_EUNSUPPORTED, "the graph has %zu branches open at once, %d are built in", m->n_slots,
                         LIP__MAX_SLOT);
    return LIP_OK;
}

/* ---- variables -------------------------------------------------------------------------------------------- */

/* Offsets: trained variables, then carried ones, then effective kernels. */
static void place(lip_model *m)
{
    size_t *end[3] = {&m->trained, &m->carried, &m->arena}, at = 0;

    for (int group = 0; group < 3; group++) {
        for (size_t v = 0; v < m->n_variables; v++) {
            lip_role role = m->variable[v].role;
            if ((lip__trains(role) ? 0 : role == LIP_WBAR ? 2 : 1) != group)
                continue;
            m->offset[v] = at;
            at += lip__round(lip_shape_count(&m->variable[v].shape));
        }
        *end[group] = at;
    }
}

/* What a step reads, once the variables are numbered. */
static void bind(lip_model *m, struct lip__step *s)
{
    const lip_layer *l = s->layer;
    size_t wbar = find(m, l, LIP_WBAR, NULL), n = 0;

    s->kernel = LIP__NOWHERE;
    for (size_t i = 0; i < LIP__MAX_READ; i++)
        s->read[i] = s->train[i] = LIP__NOWHERE;
    for (size_t d = 0; d < l->n_declared; d++) {
        const struct lip__declared *v = &l->declared[d];
        if (!lip__reads(v->role))
            continue;
        s->train[n] = find(m, l, v->role, v->name);
        s->read[n] = v->role == LIP_KERNEL && wbar != LIP__NOWHERE ? wbar : s->train[n];
        if (!lip__trains(v->role))
            s->train[n] = LIP__NOWHERE;
        if (wbar != LIP__NOWHERE && s->read[n] == wbar && !has_kernel(m, wbar)) {
            s->kernel = m->n_kernels;
            add_kernel(m, s->top, l, s->train[n], wbar);
        }
        n++;
    }
    size_t scratch = l->kind->scratch ? lip__round(l->kind->scratch(l)) : 0;
    size_t packed = l->kind->packed_scratch ? lip__round(l->kind->packed_scratch(l)) : scratch;
    m->scratch = scratch > m->scratch ? scratch : m->scratch;
    m->packed_scratch = packed > m->packed_scratch ? packed : m->packed_scratch;
    s->stats = m->stats;
    m->stats += l->kind->stats ? lip__round(l->kind->stats(l)) : 0;
    m->flops += l->kind->flops ? l->kind->flops(l) : 2.0 * (double)lip_shape_count(&l->out);
}

/* Whether what a step makes depends on something that trains. */
static void find_learners(lip_model *m)
{
    for (size_t s = 0; s < m->n_steps; s++) {
        struct lip__value *out = &m->value[m->step[s].out];
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            out->learns |= m->step[s].train[r] != LIP__NOWHERE && m->variable[m->step[s].train[r]].trainable;
        for (size_t i = 0; i < m->step[s].n_from; i++)
            out->learns |= m->value[m->step[s].from[i]].learns;
    }
}

static lip_err number_layers(lip_model *m, lip_error *err)
{
    size_t declared = 0;
    lip_err rc;

    for (size_t i = 0; i < m->n_layers; i++)
        declared += m->layer[i]->n_declared + (m->layer[i]->activation ? m->layer[i]->activation->n_declared : 0);
    m->kernel = lip__alloc(m->n_steps + 1, sizeof *m->kernel);
    m->variable = lip__alloc(declared + 1, sizeof *m->variable);
    m->offset = lip__alloc(declared + 1, sizeof *m->offset);
    if (!m->kernel || !m->variable || !m->offset)
        return lip__nomem(err, declared * sizeof *m->variable);
    for (size_t i = 0; i < m->n_layers; i++) {
        lip_layer *l = m->layer[i];
        l->var = m->n_variables;
        /* Keras's order: what trains first, an activation's own behind its owner's (semantics.md 3.2). */
        for (int trained = 1; trained >= 0; trained--)
            if ((rc = number(m, l, l, trained, err)) != LIP_OK ||
                (l->activation && (rc = number(m, l, l->activation, trained, err)) != LIP_OK))
                return rc;
        l->n_vars = m->n_variables - l->var;
    }
    for (size_t s = 0; s < m->n_steps; s++)
        bind(m, &m->step[s]);
    place(m);
    find_learners(m);
    return LIP_OK;
}

static lip_err check_names(const struct lip__graph *g, lip_error *err)
{
    lip_err rc;

    for (size_t i = 0; i < g->n_entries; i++) {
        const char *a = g->entry[i].layer ? g->entry[i].layer->name : g->entry[i].graph->name;
        for (size_t j = 0; j < i; j++) {
            const char *b = g->entry[j].layer ? g->entry[j].layer->name : g->entry[j].graph->name;
            char pointer[sizeof err->pointer];
            if (strcmp(a, b))
                continue;
            snprintf(pointer, sizeof pointer, "%s/config/name", g->entry[i].pointer);
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "two layers are named \"%.100s\", each needs a name of its own",
                                a);
        }
        if (g->entry[i].graph && (rc = check_names(g->entry[i].graph, err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

/* ---- a model's life --------------------------------------------------------------------------------------- */

static void free_names(char **name, size_t n)
{
    for (size_t i = 0; name && i < n; i++)
        lip__free(name[i]);
    lip__free(name);
}

static void free_model(lip_model *m)
{
    for (size_t v = 0; v < m->n_variables; v++)
        lip__free((void *)m->variable[v].name);
    for (size_t s = 0; s < m->n_steps; s++)
        lip__free(m->step[s].from);
    free_names(m->warning, m->n_warnings);
    free_names(m->input_name, m->n_inputs);
    free_names(m->output_name, m->n_outputs);
    lip__free(m->offset);
    lip__free(m->variable);
    lip__free(m->kernel);
    lip__free(m->output_value);
    lip__free(m->output);
    lip__free(m->input);
    lip__free(m->slot);
    lip__free(m->value);
    lip__free(m->step);
    lip__free(m->layer);
    for (size_t i = 0; i < m->n_turns; i++)
        lip__layer_free(m->turn[i]);
    lip__free(m->turn);
    lip__graph_free(m->graph);
    lip__free(m);
}

static lip_err build(lip_model *m, bool strict, lip_error *err)
{
    struct layout w = {.m = m, .strict = strict};
    size_t layers = 0, steps = 0, values = 0, *inputs = NULL;
    lip_err rc;

    if ((rc = check_names(m->graph, err)) != LIP_OK || (rc = share_k(m->graph, err)) != LIP_OK)
        return rc;
    count(m->graph, true, 1, &layers, &steps);
    if (steps > MAX_STEPS)
        return lip__fail(err, LIP_EDEFINITION, "the model is used in itself so often that it has more than %d steps", MAX_STEPS);
    steps += m->graph->n_inputs + 1;
    values = steps + m->graph->n_inputs + 1;
    m->n_outputs = m->graph->n_outputs;
    m->layer = lip__alloc(layers, sizeof *m->layer);
    m->step = lip__alloc(steps + 1, sizeof *m->step);
    m->value = lip__alloc(values, sizeof *m->value);
    m->output_value = lip__alloc(m->n_outputs, sizeof *m->output_value);
    m->turn = lip__alloc(steps, sizeof *m->turn);
    w.held = lip__alloc(values, sizeof *w.held);
    w.laid = lip__alloc(layers, sizeof *w.laid);
    inputs = lip__alloc(m->graph->n_inputs + 1, sizeof *inputs);
    if (!m->layer || !m->step || !m->value || !m->output_value || !m->turn || !w.held || !w.laid || !inputs)
        rc = lip__nomem(err, values * sizeof *m->value);
    for (size_t i = 0; rc == LIP_OK && i <= m->graph->n_inputs; i++)
        inputs[i] = i;
    if (rc == LIP_OK) {
        list_layers(m, m->graph, true);
        rc = open_inputs(&w, err);
    }
    if (rc == LIP_OK)
        rc = lay_graph(&w, m->graph, inputs, m->output_value, err);
    if (rc == LIP_OK)
        rc = name_outputs(&w, err);
    if (rc == LIP_OK)
        rc = share_buffers(m, err);
    if (rc == LIP_OK)
        rc = number_layers(m, err);
    if (rc == LIP_OK)
        rc = lip__slots_check(m, err);
    lip__free(inputs);
    lip__free(w.laid);
    lip__free(w.held);
    return rc;
}

lip_err lip__model_assemble(struct lip__graph *graph, bool strict, lip_model **model, lip_error *err)
{
    lip_model *m = lip__alloc(1, sizeof *m);
    lip_err rc;

    if (!m) {
        lip__graph_free(graph);
        return lip__nomem(err, sizeof *m);
    }
    atomic_init(&m->refs, 1);
    m->graph = graph;
    rc = build(m, strict, err);
    if (rc != LIP_OK) {
        free_model(m);
        return rc;
    }
    *model = m;
    return LIP_OK;
}

lip_model *lip_model_get(const lip_model *model)
{
    lip_model *m = (lip_model *)model;

    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void lip_model_put(const lip_model *model)
{
    lip_model *m = (lip_model *)model;

    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        free_model(m);
}

const char *lip_model_name(const lip_model *m)
{
    return m->graph->name;
}

double lip_model_k(const lip_model *m)
{
    return m->graph->deel ? m->graph->k : NAN;
}

lip_coefficient lip_model_coefficient(const lip_model *m)
{
    return m->graph->sound ? LIP_SOUND : LIP_DEEL_LIP;
}

double lip_model_claimed(const lip_model *m)
{
    double claimed = 1;

    for (size_t i = 0; i < m->n_steps; i++) /* a shared layer counts as often as it is used */
        if (m->step[i].layer == m->layer[m->step[i].top])
            claimed *= lip_layer_claimed(m->step[i].layer);
    return claimed;
}

size_t lip_model_inputs(const lip_model *m)
{
    return m->n_inputs;
}

size_t lip_model_outputs(const lip_model *m)
{
    return m->n_outputs;
}

const char *lip_model_input_name(const lip_model *m, size_t i)
{
    return m->input_name[i];
}

const char *lip_model_output_name(const lip_model *m, size_t i)
{
    return m->output_name[i];
}

const lip_shape *lip_model_input_shape(const lip_model *m, size_t i)
{
    return &m->input[i];
}

const lip_shape *lip_model_output_shape(const lip_model *m, size_t i)
{
    return &m->output[i];
}

size_t lip_model_warnings(const lip_model *m)
{
    return m->n_warnings;
}

const char *lip_model_warning(const lip_model *m, size_t i)
{
    return m->warning[i];
}

double lip_model_flops(const lip_model *m)
{
    return m->flops;
}

size_t lip_model_layers(const lip_model *m)
{
    return m->n_layers;
}

const lip_layer *lip_model_layer(const lip_model *m, size_t i)
{
    return m->layer[i];
}

const lip_layer *lip_model_find_layer(const lip_model *m, const char *name)
{
    for (size_t i = 0; i < m->n_layers; i++)
        if (!strcmp(m->layer[i]->name, name))
            return m->layer[i];
    return NULL;
}

size_t lip_model_variables(const lip_model *m)
{
    return m->n_variables;
}

const lip_variable *lip_model_variable(const lip_model *m, size_t i)
{
    return &m->variable[i];
}

size_t lip_model_find_variable(const lip_model *m, const char *name)
{
    size_t v = 0;

    while (v < m->n_variables && strcmp(m->variable[v].name, name))
        v++;
    return v;
}
