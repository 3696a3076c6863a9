/* graph.c: a model owns its layers in order; here they get their shapes, numbers and shares of k. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static lip_err warn(lip_model *m, const char *layer)
{
    char text[256];
    char **more = lip__alloc(m->n_warnings + 1, sizeof *more);

    snprintf(text, sizeof text, "Sequential model contains a layer which is not a 1-Lipschitz layer: %.180s", layer);
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

/* Each direct Lipschitz layer gets the n-th root of k (semantics.md 16.2). */
static lip_err share_k(lip_model *m, lip_error *err)
{
    size_t n = 0;

    if (!(m->k > 0) || !isfinite(m->k))
        return lip__fail_at(err, LIP_EDEFINITION, "/config/k_coef_lip",
                            "model \"%.100s\": k_coef_lip is %g, needs a finite number > 0", m->name, m->k);
    for (size_t i = 0; i < m->n_layers; i++)
        n += lip_layer_is_lipschitz(m->layer[i]);
    for (size_t i = 0; i < m->n_layers; i++)
        if (lip_layer_is_lipschitz(m->layer[i]))
            m->layer[i]->k = pow(m->k, 1.0 / (double)n);
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

static void add_kernel(lip_model *m, size_t top, const lip_layer *l, size_t kernel, size_t wbar)
{
    const lip_shape *shape = &m->variable[kernel].shape;
    struct lip__kernel *k = &m->kernel[m->n_kernels++];

    *k = (struct lip__kernel){.layer = l, .top = top, .kernel = kernel, .wbar = wbar};
    k->u = find(m, l, LIP_U, NULL);
    k->sigma = find(m, l, LIP_SIGMA, NULL);
    k->n = shape->dim[shape->rank - 1];
    k->m = lip_shape_count(shape) / k->n;
}

static void add_step(lip_model *m, size_t top, const lip_layer *l)
{
    struct lip__step *s = &m->step[m->n_steps++];
    size_t wbar = find(m, l, LIP_WBAR, NULL), n = 0;

    s->layer = l;
    s->top = top;
    for (size_t i = 0; i < LIP__MAX_READ; i++)
        s->read[i] = s->train[i] = LIP__NOWHERE;
    for (size_t d = 0; d < l->n_declared; d++) {
        const struct lip__declared *v = &l->declared[d];
        if (!lip__trains(v->role))
            continue;
        s->train[n] = find(m, l, v->role, v->name);
        s->read[n] = v->role == LIP_KERNEL && wbar != LIP__NOWHERE ? wbar : s->train[n];
        if (s->read[n] == wbar && wbar != LIP__NOWHERE)
            add_kernel(m, top, l, s->train[n], wbar);
        n++;
    }
    s->in = lip_shape_count(&l->in);
    s->out = lip_shape_count(&l->out);
    if (s->in > m->widest)
        m->widest = s->in;
    if (s->out > m->widest)
        m->widest = s->out;
    size_t scratch = l->kind->scratch ? lip__round(l->kind->scratch(l)) : 0;
    if (scratch > m->scratch)
        m->scratch = scratch;
    m->flops += l->kind->flops ? l->kind->flops(l) : 2.0 * (double)s->out;
}

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

static lip_err check_names(const lip_model *m, lip_error *err)
{
    for (size_t i = 0; i < m->n_layers; i++)
        for (size_t j = 0; j < i; j++)
            if (!strcmp(m->layer[i]->name, m->layer[j]->name)) {
                char pointer[64];
                snprintf(pointer, sizeof pointer, "/config/layers/%zu/config/name", i);
                return lip__fail_at(err, LIP_EDEFINITION, pointer,
                                    "two layers are named \"%.100s\", each needs a name of its own", m->layer[i]->name);
            }
    return LIP_OK;
}

/* Shapes from front to back; layers that claim no constant earn a warning, or with strict an error. */
static lip_err shape_layers(lip_model *m, bool strict, lip_error *err)
{
    const lip_shape *shape = &m->input;
    lip_err rc;

    for (size_t i = 0; i < m->n_layers; i++) {
        lip_layer *l = m->layer[i];
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/config/layers/%zu/config", i);
        if ((rc = lip__layer_build(l, shape, err)) != LIP_OK) {
            if (err && !err->pointer[0])
                memcpy(err->pointer, pointer, strlen(pointer) + 1);
            return rc;
        }
        shape = &(l->activation ? l->activation : l)->out;
        if (lip_layer_is_input(l) || !isnan(lip_layer_claimed(l)))
            continue;
        if (strict)
            return lip__fail_at(err, LIP_EDEFINITION, pointer,
                                "layer \"%.100s\" (%s) is not a 1-Lipschitz layer, and strict was asked for", l->name,
                                lip_layer_class(l));
        if (warn(m, l->name) != LIP_OK)
            return lip__nomem(err, 0);
    }
    m->output = *shape;
    return LIP_OK;
}

static lip_err number_layers(lip_model *m, lip_error *err)
{
    size_t declared = 0, steps = 0;
    lip_err rc;

    for (size_t i = 0; i < m->n_layers; i++) {
        const lip_layer *l = m->layer[i];
        declared += l->n_declared + (l->activation ? l->activation->n_declared : 0);
        steps += 1 + (l->activation != NULL);
    }
    m->step = lip__alloc(steps + 1, sizeof *m->step);
    m->kernel = lip__alloc(steps + 1, sizeof *m->kernel);
    m->variable = lip__alloc(declared + 1, sizeof *m->variable);
    m->offset = lip__alloc(declared + 1, sizeof *m->offset);
    if (!m->step || !m->kernel || !m->variable || !m->offset)
        return lip__nomem(err, (declared + steps) * sizeof *m->step);
    for (size_t i = 0; i < m->n_layers; i++) {
        lip_layer *l = m->layer[i];
        l->var = m->n_variables;
        /* Keras's order: what trains first, an activation's own behind its owner's (semantics.md 3.2). */
        for (int trained = 1; trained >= 0; trained--)
            if ((rc = number(m, l, l, trained, err)) != LIP_OK ||
                (l->activation && (rc = number(m, l, l->activation, trained, err)) != LIP_OK))
                return rc;
        l->n_vars = m->n_variables - l->var;
        if (lip_layer_is_input(l))
            continue;
        add_step(m, i, l);
        if (l->activation)
            add_step(m, i, l->activation);
    }
    place(m);
    return LIP_OK;
}

static void free_model(lip_model *m)
{
    for (size_t i = 0; i < m->n_layers; i++)
        lip__layer_free(m->layer[i]);
    for (size_t v = 0; v < m->n_variables; v++)
        lip__free((void *)m->variable[v].name);
    for (size_t i = 0; i < m->n_warnings; i++)
        lip__free(m->warning[i]);
    lip__free(m->warning);
    lip__free(m->offset);
    lip__free(m->variable);
    lip__free(m->kernel);
    lip__free(m->step);
    lip__free(m->layer);
    lip__free(m->input_name);
    lip__free(m->name);
    lip__free(m);
}

/* Keras's name of the input: the InputLayer's, else "<first layer>_input". */
static char *name_input(const lip_layer *first)
{
    static const char suffix[] = "_input";
    size_t length = strlen(first->name);

    if (lip_layer_is_input(first))
        return lip__strdup(first->name);
    char *name = lip__alloc(length + sizeof suffix, 1);
    if (name) {
        memcpy(name, first->name, length);
        memcpy(name + length, suffix, sizeof suffix);
    }
    return name;
}

lip_err lip__model_assemble(char *name, bool deel, double k, lip_layer **layers, size_t n_layers, const lip_shape *input,
                            bool strict, lip_model **model, lip_error *err)
{
    lip_model *m = lip__alloc(1, sizeof *m);
    lip_err rc = LIP_OK;

    if (!m) {
        for (size_t i = 0; i < n_layers; i++)
            lip__layer_free(layers[i]);
        lip__free(layers);
        lip__free(name);
        return lip__nomem(err, sizeof *m);
    }
    atomic_init(&m->refs, 1);
    m->name = name;
    m->deel = deel;
    m->k = k;
    m->layer = layers;
    m->n_layers = n_layers;
    m->input = *input;
    m->widest = lip_shape_count(input);
    for (size_t i = 0; i < n_layers; i++)
        layers[i]->index = i;
    m->input_name = name_input(layers[0]);
    if (!m->input_name)
        rc = lip__nomem(err, 0);
    if (rc == LIP_OK)
        rc = check_names(m, err);
    if (rc == LIP_OK && deel)
        rc = share_k(m, err);
    if (rc == LIP_OK)
        rc = shape_layers(m, strict, err);
    if (rc == LIP_OK)
        rc = number_layers(m, err);
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
    return m->name;
}

double lip_model_k(const lip_model *m)
{
    return m->deel ? m->k : NAN;
}

double lip_model_claimed(const lip_model *m)
{
    double claimed = 1;

    for (size_t i = 0; i < m->n_layers; i++)
        if (!lip_layer_is_input(m->layer[i]))
            claimed *= lip_layer_claimed(m->layer[i]);
    return claimed;
}

size_t lip_model_inputs(const lip_model *m)
{
    (void)m;
    return 1;
}

size_t lip_model_outputs(const lip_model *m)
{
    (void)m;
    return 1;
}

const char *lip_model_input_name(const lip_model *m, size_t i)
{
    (void)i;
    return m->input_name;
}

const char *lip_model_output_name(const lip_model *m, size_t i)
{
    (void)i;
    return m->layer[m->n_layers - 1]->name;
}

const lip_shape *lip_model_input_shape(const lip_model *m, size_t i)
{
    (void)i;
    return &m->input;
}

const lip_shape *lip_model_output_shape(const lip_model *m, size_t i)
{
    (void)i;
    return &m->output;
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
