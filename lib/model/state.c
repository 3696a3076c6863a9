/* state.c: the head of a model: its variables, how they start, change and are published.
 *
 * Every change is prepared in the other arena and swapped in when it is whole, so that an error changes nothing.
 */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/slots.h"
#include "tensor/gemm.h"

void lip__state_changed(lip_state *s)
{
    static _Atomic uint64_t last;

    s->generation = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

float *lip__state_next(lip_state *s)
{
    if (!s->next)
        s->next = lip__alloc(s->model->arena + 1, sizeof *s->next);
    return s->next;
}

bool lip__state_factors(lip_state *s)
{
    if (!s->q)
        s->q = lip__alloc(s->model->q + 1, sizeof *s->q);
    if (!s->alpha)
        s->alpha = lip__alloc(s->model->n_kernels + 1, sizeof *s->alpha);
    return s->q && s->alpha;
}

void lip__state_settle(const lip_state *s)
{
    const lip_model *m = s->model;

    for (size_t i = 0; i < m->n_kernels && s->alpha; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        if (s->alpha[i] != 0)
            lip__factor_times(s->now + m->offset[k->kernel], k->m, k->n, s->alpha[i], s->q + k->factor, s->now + m->offset[k->wbar]);
        s->alpha[i] = 0;
    }
}

static void swap(lip_state *s)
{
    float *now = s->now;

    s->now = s->next;
    s->next = now;
}

size_t lip__kernel_scratch(const struct lip__kernel *k, bool keep)
{
    return lip__round(k->layer->kind->reparam->scratch(k->layer, k->m, k->n, keep));
}

lip_err lip__kernel_effective(const lip_model *model, const struct lip__kernel *k, const float *kernel, const float *u,
                              float *u_new, float *sigma, float *wbar, float *scratch, bool keep, lip_rko_info *info,
                              struct lip__factor *factor, lip_error *err)
{
    const char *name = model->variable[k->kernel].name;
    lip_error why = {0};
    lip_err rc = k->layer->kind->reparam->forward(k->layer, kernel, k->m, k->n, u, u_new, wbar, scratch, keep, info, factor,
                                                  &why);

    if (rc != LIP_OK) { /* a normalizer calls its argument "kernel: ", and name says so already */
        const char *text = why.text[0] ? why.text : lip_err_text(rc);
        return lip__fail(err, rc, "%.100s: %.500s", name, text + (strncmp(text, "kernel: ", 8) ? 0 : 8));
    }
    if (k->u != LIP__NOWHERE) {
        if (info->sigma == 0)
            return lip__fail(err, LIP_EZERO, "%.100s is zero, and a zero kernel cannot be normalised", name);
        if (sigma)
            *sigma = (float)info->sigma;
    }
    if (!(factor && factor->q) && !lip__all_finite(wbar, k->m * k->n, NULL))
        return lip__fail(err, LIP_ENONFINITE, "%.100s: its effective kernel is not finite", name);
    return LIP_OK;
}

/* What computing an effective kernel needs, for the largest kernel: scratch, a wbar, a u. */
struct bench {
    float *memory, *scratch, *wbar, *u;
};

static lip_err bench_init(struct bench *b, const lip_model *m, lip_error *err)
{
    size_t scratch = 0, wbar = 0, u = 0;

    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        size_t need = lip__kernel_scratch(k, false), count = lip__round(k->m * k->n);
        scratch = need > scratch ? need : scratch;
        wbar = count > wbar ? count : wbar;
        u = lip__round(k->n) > u ? lip__round(k->n) : u;
    }
    b->memory = lip__alloc(scratch + wbar + u + 1, sizeof *b->memory);
    if (!b->memory)
        return lip__nomem(err, (scratch + wbar + u) * sizeof *b->memory);
    b->scratch = b->memory;
    b->wbar = b->scratch + scratch;
    b->u = b->wbar + wbar;
    return LIP_OK;
}

static lip_err compute(const lip_model *m, const struct lip__kernel *k, const float *arena, struct bench *b, float *sigma,
                       float *wbar, lip_rko_info *info, lip_error *err)
{
    const float *u = k->u == LIP__NOWHERE ? NULL : arena + m->offset[k->u];

    return lip__kernel_effective(m, k, arena + m->offset[k->kernel], u, b->u, sigma, wbar, b->scratch, false, info, NULL,
                                 err);
}

static void initialize_role(lip_role role, lip_random *random, float *x, size_t n)
{
    if (role == LIP_U)
        lip_random_normal(random, x, n);
    else
        for (size_t i = 0; i < n; i++)
            x[i] = role == LIP_SIGMA;
}

static lip_err initialize(lip_state *s, uint64_t seed, lip_error *err)
{
    const lip_model *m = s->model;

    for (size_t v = 0; v < m->n_variables; v++) {
        const lip_variable *var = &m->variable[v];
        const struct lip__object *initializer = lip__declared_of(m, v)->initializer;
        lip_random random = {seed, lip_random_stream(var->name), 0};
        float *x = s->now + m->offset[v];
        if (!initializer) {
            initialize_role(var->role, &random, x, lip_shape_count(&var->shape));
            continue;
        }
        lip_error why = {0};
        lip_err rc = lip__initialize(initializer, &var->shape, &random, x, &why);
        if (rc != LIP_OK)
            return lip__fail(err, rc, "%.100s: %.400s", var->name, why.text);
    }
    return LIP_OK;
}

lip_err lip_state_new(const lip_model *model, uint64_t seed, lip_state **state, lip_error *err)
{
    lip_state *s = lip__alloc(1, sizeof *s);
    lip_err rc;

    if (!s)
        return lip__nomem(err, sizeof *s);
    s->model = lip_model_get(model);
    lip__state_changed(s);
    s->now = lip__alloc(model->arena + 1, sizeof *s->now);
    s->effective = lip__alloc(model->n_layers, sizeof *s->effective);
    s->distance = lip__alloc(model->n_layers, sizeof *s->distance);
    if (!s->now || !s->effective || !s->distance)
        rc = lip__nomem(err, model->arena * sizeof *s->now);
    else if ((rc = initialize(s, seed, err)) == LIP_OK)
        rc = lip_state_refresh(s, NULL, NULL, err);
    if (rc != LIP_OK) {
        lip_state_free(s);
        return rc;
    }
    *state = s;
    return LIP_OK;
}

lip_err lip_state_copy(const lip_state *s, lip_state **copy, lip_error *err)
{
    const lip_model *m = s->model;
    lip_state *c = lip__alloc(1, sizeof *c);

    if (!c)
        return lip__nomem(err, sizeof *c);
    lip__state_settle(s);
    c->model = lip_model_get(m);
    c->generation = s->generation; /* the same numbers */
    c->now = lip__alloc(m->arena + 1, sizeof *c->now);
    c->effective = lip__alloc(m->n_layers, sizeof *c->effective);
    c->distance = lip__alloc(m->n_layers, sizeof *c->distance);
    if (!c->now || !c->effective || !c->distance) {
        lip_state_free(c);
        return lip__nomem(err, m->arena * sizeof *c->now);
    }
    memcpy(c->now, s->now, m->arena * sizeof *c->now);
    memcpy(c->effective, s->effective, m->n_layers * sizeof *c->effective);
    memcpy(c->distance, s->distance, m->n_layers * sizeof *c->distance);
    *copy = c;
    return LIP_OK;
}

void lip_state_mark(lip_state *s, size_t layer, lip_effective effective)
{
    if (s->effective[layer] == LIP_NONE)
        return;
    s->effective[layer] = effective;
    if (effective == LIP_COMPUTED)
        s->distance[layer] = 0;
}

void lip_state_free(lip_state *s)
{
    if (!s)
        return;
    lip__free(s->alpha);
    lip__free(s->q);
    lip__free(s->distance);
    lip__free(s->effective);
    lip__free(s->next);
    lip__free(s->now);
    lip_model_put(s->model);
    lip__free(s);
}

const lip_model *lip_state_model(const lip_state *s)
{
    return s->model;
}

const float *lip_state_data(const lip_state *s, size_t variable)
{
    if (s->model->variable[variable].role == LIP_WBAR)
        lip__state_settle(s);
    return s->now + s->model->offset[variable];
}

lip_effective lip_state_effective(const lip_state *s, size_t layer)
{
    return s->effective[layer];
}

/* ||a - b|| / ||b||; 0 for two zeros. */
static double relative(const float *a, const float *b, size_t n)
{
    double distance = lip__distance(a, b, n), size = lip__norm(b, n);

    return distance == 0 ? 0 : distance / size;
}

/* Computes every effective kernel anew, and with `condense` puts it in the kernel's place, with its u and sigma. */
static lip_err renew(lip_state *s, bool condense, lip_change *changes, size_t *n, lip_error *err)
{
    const lip_model *m = s->model;
    float *next = lip__state_next(s);
    struct bench b = {0};
    lip_err rc;

    if (!next)
        return lip__nomem(err, m->arena * sizeof *next);
    if ((rc = bench_init(&b, m, err)) != LIP_OK)
        return rc;
    lip__state_settle(s);
    memcpy(next, s->now, m->arena * sizeof *next);
    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        float *kernel = next + m->offset[k->kernel], *wbar = next + m->offset[k->wbar];
        float *sigma = condense && k->sigma != LIP__NOWHERE ? next + m->offset[k->sigma] : NULL;
        lip_rko_info info = {0};
        if ((rc = compute(m, k, next, &b, sigma, wbar, &info, err)) != LIP_OK)
            goto done;
        double moved = condense ? relative(kernel, wbar, k->m * k->n) : relative(wbar, s->now + m->offset[k->wbar], k->m * k->n);
        if (changes)
            changes[i] = (lip_change){k->layer->name, moved, info.sigma, info.residual, info.power_iterations, info.bjorck_iterations};
        if (condense)
            memcpy(kernel, wbar, k->m * k->n * sizeof *kernel);
        if (condense && k->u != LIP__NOWHERE)
            memcpy(next + m->offset[k->u], b.u, k->n * sizeof *b.u);
    }
    swap(s);
    if (condense)
        lip__state_changed(s);
    for (size_t i = 0; i < m->n_kernels; i++) {
        s->effective[m->kernel[i].top] = LIP_COMPUTED;
        s->distance[m->kernel[i].top] = 0;
    }
    if (n)
        *n = m->n_kernels;
done:
    lip__free(b.memory);
    return rc;
}

lip_err lip_state_refresh(lip_state *s, lip_change *changes, size_t *n, lip_error *err)
{
    return renew(s, false, changes, n, err);
}

lip_err lip_state_condense(lip_state *s, lip_change *changes, size_t *n, lip_error *err)
{
    return renew(s, true, changes, n, err);
}

/* ---- loading ------------------------------------------------------------------------------------- */

struct listener {
    void (*problem)(void *ctx, const char *list, const char *name, const char *text);
    void *ctx;
    size_t count;
    char first[400]; /* for the error's text */
};

static void tell(struct listener *l, const char *list, const char *name, const char *text)
{
    if (!l->count++)
        snprintf(l->first, sizeof l->first, "\"%.120s\": %.240s", name, text);
    if (l->problem)
        l->problem(l->ctx, list, name, text);
}

static const lip_named *lookup(const lip_named *tensors, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(tensors[i].name, name))
            return &tensors[i];
    return NULL;
}

static void check_tensors(const lip_model *m, const lip_named *tensors, size_t n, bool partial, struct listener *l)
{
    char found[96], wanted[96], text[256];

    for (size_t i = 0; i < n; i++) {
        size_t v = lip_model_find_variable(m, tensors[i].name);
        if (v == m->n_variables) {
            tell(l, "unexpected", tensors[i].name, "the model has no such variable");
        } else if (lookup(tensors, i, tensors[i].name)) {
            tell(l, "unexpected", tensors[i].name, "comes twice");
        } else if (!lip_shape_equal(&tensors[i].shape, &m->variable[v].shape)) {
            snprintf(text, sizeof text, "shape %s, needs %s", lip_shape_text(&tensors[i].shape, found, sizeof found),
                     lip_shape_text(&m->variable[v].shape, wanted, sizeof wanted));
            tell(l, "shape", tensors[i].name, text);
        }
    }
    for (size_t v = 0; v < m->n_variables && !partial; v++) {
        lip_role role = m->variable[v].role;
        if (role != LIP_U && role != LIP_SIGMA && role != LIP_WBAR && !lookup(tensors, n, m->variable[v].name))
            tell(l, "missing", m->variable[v].name, "the file lacks it");
    }
}

static bool arrives(const lip_model *m, size_t variable, const lip_named *tensors, size_t n)
{
    return variable != LIP__NOWHERE && lookup(tensors, n, m->variable[variable].name);
}

/* The effective kernel of one layer after a load: kept as it came, computed, or untouched. */
static lip_err settle(lip_state *s, const struct lip__kernel *k, const lip_named *tensors, size_t n, bool partial,
                      struct bench *b, lip_effective *effective, double *distance, lip_error *err)
{
    const lip_model *m = s->model;
    bool stored = arrives(m, k->wbar, tensors, n);
    bool touched = stored || arrives(m, k->kernel, tensors, n) || arrives(m, k->u, tensors, n) || !partial;
    float *wbar = s->next + m->offset[k->wbar];
    lip_rko_info info = {0};
    lip_err rc;

    *effective = s->effective[k->top];
    *distance = s->distance[k->top];
    if (!touched)
        return LIP_OK;
    if ((rc = compute(m, k, s->next, b, NULL, b->wbar, &info, err)) != LIP_OK)
        return rc;
    *effective = stored ? LIP_STORED : LIP_COMPUTED;
    *distance = stored ? relative(wbar, b->wbar, k->m * k->n) : 0;
    if (!stored)
        memcpy(wbar, b->wbar, k->m * k->n * sizeof *wbar);
    return LIP_OK;
}

lip_err lip_state_load(lip_state *s, const lip_named *tensors, size_t n, bool partial,
                       void (*problem)(void *ctx, const char *list, const char *name, const char *text), void *ctx,
                       lip_error *err)
{
    const lip_model *m = s->model;
    struct listener listener = {.problem = problem, .ctx = ctx};
    float *next = lip__state_next(s);
    struct bench b = {0};
    lip_effective *effective = lip__alloc(m->n_kernels + 1, sizeof *effective);
    double *distance = lip__alloc(m->n_kernels + 1, sizeof *distance);
    lip_err rc;
    size_t at;

    if (!next || !effective || !distance) {
        rc = lip__nomem(err, m->arena * sizeof *next);
        goto done;
    }
    check_tensors(m, tensors, n, partial, &listener);
    if (listener.count) {
        rc = lip__fail(err, LIP_EWEIGHTS, "weights do not fit the model in %zu place%s; the first is %s", listener.count,
                       listener.count == 1 ? "" : "s", listener.first);
        goto done;
    }
    lip__state_settle(s);
    memcpy(next, s->now, m->arena * sizeof *next);
    for (size_t i = 0; i < n; i++) {
        size_t count = lip_shape_count(&tensors[i].shape);
        if (!lip__all_finite(tensors[i].data, count, &at)) {
            rc = lip__fail(err, LIP_ENONFINITE, "tensor \"%.120s\" holds %g at element %zu", tensors[i].name,
                           (double)tensors[i].data[at], at);
            goto done;
        }
        memcpy(next + m->offset[lip_model_find_variable(m, tensors[i].name)], tensors[i].data, count * sizeof *next);
    }
    if ((rc = bench_init(&b, m, err)) != LIP_OK)
        goto done;
    for (size_t i = 0; i < m->n_kernels; i++)
        if ((rc = settle(s, &m->kernel[i], tensors, n, partial, &b, &effective[i], &distance[i], err)) != LIP_OK)
            goto done;
    swap(s);
    lip__state_changed(s);
    for (size_t i = 0; i < m->n_kernels; i++) {
        s->effective[m->kernel[i].top] = effective[i];
        s->distance[m->kernel[i].top] = distance[i];
    }
done:
    lip__free(b.memory);
    lip__free(distance);
    lip__free(effective);
    return rc;
}

/* ---- snapshots ------------------------------------------------------------------------------------- */

/* Floats of what a step reads first, packed by its layer. */
static size_t packed_size(const struct lip__step *s)
{
    return s->layer->kind->packed && s->read[0] != LIP__NOWHERE ? lip__round(s->layer->kind->packed(s->layer)) : 0;
}

lip_err lip_state_publish(const lip_state *s, lip_snapshot **snapshot, lip_error *err)
{
    const lip_model *m = s->model;
    lip_snapshot *p = lip__alloc(1, sizeof *p);
    size_t size = 0;

    if (!p)
        return lip__nomem(err, sizeof *p);
    lip__state_settle(s);
    atomic_init(&p->refs, 1);
    p->model = lip_model_get(m);
    for (size_t i = 0; i < m->n_steps; i++) {
        size += packed_size(&m->step[i]);
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            if (m->step[i].read[r] != LIP__NOWHERE)
                size += lip__round(lip_shape_count(&m->variable[m->step[i].read[r]].shape));
    }
    p->memory = lip__alloc(size + 1, sizeof *p->memory);
    p->data = lip__alloc(m->n_variables + 1, sizeof *p->data);
    p->packed = lip__alloc(m->n_variables + 1, sizeof *p->packed);
    p->effective = lip__alloc(m->n_layers, sizeof *p->effective);
    p->distance = lip__alloc(m->n_layers, sizeof *p->distance);
    if (!p->memory || !p->data || !p->packed || !p->effective || !p->distance) {
        lip_snapshot_put(p);
        return lip__nomem(err, size * sizeof *p->memory);
    }
    float *at = p->memory;
    for (size_t i = 0; i < m->n_steps; i++)
        for (size_t r = 0; r < LIP__MAX_READ; r++) {
            size_t v = m->step[i].read[r];
            if (v == LIP__NOWHERE || p->data[v])
                continue;
            size_t count = lip_shape_count(&m->variable[v].shape);
            memcpy(at, s->now + m->offset[v], count * sizeof *at);
            p->data[v] = at;
            at += lip__round(count);
        }
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct lip__step *step = &m->step[i];
        const float *w[LIP__MAX_READ];
        if (!packed_size(step) || p->packed[step->read[0]])
            continue;
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            w[r] = step->read[r] == LIP__NOWHERE ? NULL : p->data[step->read[r]];
        step->layer->kind->pack(step->layer, w, at);
        p->packed[step->read[0]] = at;
        at += packed_size(step);
    }
    memcpy(p->effective, s->effective, m->n_layers * sizeof *p->effective);
    memcpy(p->distance, s->distance, m->n_layers * sizeof *p->distance);
    float *scratch = lip__alloc(lip__slots_scratch(m, 0) + 1, sizeof *scratch);
    if (!scratch) {
        lip_snapshot_put(p);
        return lip__nomem(err, lip__slots_scratch(m, 0) * sizeof *scratch);
    }
    p->penalty = lip__slots_penalty(m, s->now, NULL, scratch);
    lip__free(scratch);
    *snapshot = p;
    return LIP_OK;
}

lip_snapshot *lip_snapshot_get(const lip_snapshot *snapshot)
{
    lip_snapshot *p = (lip_snapshot *)snapshot;

    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void lip_snapshot_put(const lip_snapshot *snapshot)
{
    lip_snapshot *p = (lip_snapshot *)snapshot;

    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    lip__free(p->distance);
    lip__free(p->effective);
    lip__free(p->packed);
    lip__free(p->data);
    lip__free(p->memory);
    lip_model_put(p->model);
    lip__free(p);
}

const lip_model *lip_snapshot_model(const lip_snapshot *p)
{
    return p->model;
}

/* What the layer's own step reads that is of one of these roles. */
static const float *read_of(const lip_snapshot *p, size_t layer, lip_role role, lip_role other)
{
    const lip_model *m = p->model;

    for (size_t i = 0; i < m->n_steps; i++)
        for (size_t r = 0; r < LIP__MAX_READ && m->step[i].layer == m->layer[layer]; r++) {
            size_t v = m->step[i].read[r];
            if (v != LIP__NOWHERE && (m->variable[v].role == role || m->variable[v].role == other))
                return p->data[v];
        }
    return NULL;
}

const float *lip_snapshot_kernel(const lip_snapshot *p, size_t layer)
{
    return read_of(p, layer, LIP_WBAR, LIP_KERNEL);
}

const float *lip_snapshot_bias(const lip_snapshot *p, size_t layer)
{
    return read_of(p, layer, LIP_BIAS, LIP_BIAS);
}

const float *lip_snapshot_data(const lip_snapshot *p, size_t variable)
{
    return p->data[variable];
}

lip_effective lip_snapshot_effective(const lip_snapshot *p, size_t layer)
{
    return p->effective[layer];
}

double lip_snapshot_stored_distance(const lip_snapshot *p, size_t layer)
{
    return p->distance[layer];
}
