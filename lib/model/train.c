/* train.c: one training step, all or nothing.
 *
 *     effective kernels (unless the last step left them ready) -> forward -> loss -> backward -> update -> effective kernels
 *
 * The update writes the state's other arena and the optimizer's other slots; both are swapped in at the very end, so an
 * error anywhere leaves the state and the optimizer as they were.
 */
#include "model/train.h"

#include <math.h>
#include <string.h>

#include "model/slots.h"
#include "tensor/gemm.h"

/* Floats of one variable that one task of the update takes. */
#define CHUNK (size_t)16384

static const struct lip__loss_class *loss_class(const lip_trainer *t)
{
    return (const struct lip__loss_class *)t->loss->cls;
}

static size_t carried_size(const lip_model *m)
{
    return m->carried - m->trained;
}

/* Where u and sigma of a kernel go in the trainer's own copy. */
static float *carried_at(const lip_trainer *t, size_t variable)
{
    return variable == LIP__NOWHERE ? NULL : t->carried + (t->model->offset[variable] - t->model->trained);
}

static float *wbar_at(const lip_trainer *t, const struct lip__kernel *k)
{
    return t->wbar + (t->model->offset[k->wbar] - t->model->carried);
}

/* Chunks of the trained variables, so that the update spreads over threads. */
static lip_err plan_update(lip_trainer *t, lip_error *err)
{
    const lip_model *m = t->model;
    size_t n = 0;

    for (int fill = 0; fill < 2; fill++) {
        n = 0;
        for (size_t v = 0; v < m->n_variables; v++) {
            if (!lip__trains(m->variable[v].role))
                continue;
            size_t count = lip_shape_count(&m->variable[v].shape);
            for (size_t at = 0; at < count; at += CHUNK, n++)
                if (fill)
                    t->chunk[n] = (struct lip__chunk){m->offset[v] + at, count - at < CHUNK ? count - at : CHUNK,
                                                      m->variable[v].trainable};
        }
        if (!fill && !(t->chunk = lip__alloc(n + 1, sizeof *t->chunk)))
            return lip__nomem(err, n * sizeof *t->chunk);
    }
    t->n_chunks = n;
    t->clip_at = lip__alloc(m->n_variables + 1, sizeof *t->clip_at);
    t->clip_n = lip__alloc(m->n_variables + 1, sizeof *t->clip_n);
    if (!t->clip_at || !t->clip_n)
        return lip__nomem(err, m->n_variables * sizeof *t->clip_n);
    for (size_t v = 0; v < m->n_variables; v++)
        if (lip__trains(m->variable[v].role) && m->variable[v].trainable) {
            t->clip_at[t->n_clipped] = m->offset[v];
            t->clip_n[t->n_clipped++] = lip_shape_count(&m->variable[v].shape);
        }
    return LIP_OK;
}

static lip_err name_tensors(lip_trainer *t, lip_error *err);

lip_err lip__trainer_make(const lip_model *m, struct lip__object *optimizer, struct lip__object *loss,
                          struct lip__object **metrics, char **metric_names, size_t n_metrics, lip_trainer **trainer,
                          lip_error *err)
{
    lip_trainer *t = lip__alloc(1, sizeof *t);
    lip_err rc = LIP_OK;

    if (!t) {
        lip__object_free(optimizer);
        lip__object_free(loss);
        for (size_t i = 0; i < n_metrics; i++) {
            lip__object_free(metrics[i]);
            lip__free(metric_names[i]);
        }
        return lip__nomem(err, sizeof *t);
    }
    t->model = lip_model_get(m);
    t->optimizer = optimizer;
    t->loss = loss;
    t->n_metrics = n_metrics;
    for (size_t i = 0; i < n_metrics; i++) {
        t->metric[i] = metrics[i];
        t->metric_name[i] = metric_names[i];
    }
    t->slots = lip__slots(optimizer);
    t->slot_now = lip__alloc(t->slots * m->trained + 1, sizeof *t->slot_now);
    t->slot_next = lip__alloc(t->slots * m->trained + 1, sizeof *t->slot_next);
    t->gradient = lip__alloc(m->trained + 1, sizeof *t->gradient);
    t->carried = lip__alloc(carried_size(m) + 1, sizeof *t->carried);
    t->wbar = lip__alloc(m->arena - m->carried + 1, sizeof *t->wbar);
    t->info = lip__alloc(m->n_kernels + 1, sizeof *t->info);
    t->told = lip__alloc(m->n_kernels + 1, sizeof *t->told);
    t->scratch = lip__alloc(m->n_kernels + 1, sizeof *t->scratch);
    t->data = lip__alloc(m->n_variables + 1, sizeof *t->data);
    t->activation = lip__alloc(m->n_values, sizeof *t->activation);
    t->delta = lip__alloc(m->n_values, sizeof *t->delta);
    t->born = lip__alloc(m->n_values, sizeof *t->born);
    if (!t->slot_now || !t->slot_next || !t->gradient || !t->carried || !t->wbar || !t->info || !t->told || !t->scratch ||
        !t->data || !t->activation || !t->delta || !t->born)
        rc = lip__nomem(err, (2 * t->slots + 1) * m->trained * sizeof(float));
    for (size_t i = 0; rc == LIP_OK && i < m->n_kernels; i++) {
        size_t need = lip__kernel_scratch(&m->kernel[i], true);
        t->scratch[i] = lip__alloc(need + 1, sizeof **t->scratch);
        if (!t->scratch[i])
            rc = lip__nomem(err, need * sizeof **t->scratch);
    }
    if (rc == LIP_OK)
        rc = lip__optimizer_check(optimizer, err);
    if (rc == LIP_OK)
        rc = plan_update(t, err);
    if (rc == LIP_OK)
        rc = name_tensors(t, err);
    if (rc == LIP_OK && m->n_outputs != 1)
        rc = lip__fail(err, LIP_EUNSUPPORTED, "the model has %zu outputs; training one output is built in", m->n_outputs);
    if (rc == LIP_OK && m->output[0].rank != 1) {
        char found[96];
        rc = lip__fail(err, LIP_ESHAPE, "the model's output \"%.100s\" has shape %s per sample; losses need one axis",
                       m->output_name[0], lip_shape_text(&m->output[0], found, sizeof found));
    }
    if (rc != LIP_OK) {
        lip_trainer_free(t);
        return rc;
    }
    *trainer = t;
    return LIP_OK;
}

void lip_trainer_free(lip_trainer *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->scratch && i < t->model->n_kernels; i++)
        lip__free(t->scratch[i]);
    for (size_t i = 0; i < t->n_metrics; i++) {
        lip__object_free(t->metric[i]);
        lip__free(t->metric_name[i]);
    }
    lip__free(t->batch);
    lip__free(t->loss_scratch);
    lip__free(t->born);
    lip__free(t->delta);
    lip__free(t->activation);
    lip__free(t->data);
    lip__free(t->scratch);
    lip__free(t->told);
    lip__free(t->info);
    lip__free(t->wbar);
    lip__free(t->carried);
    lip__free(t->gradient);
    lip__free(t->slot_next);
    lip__free(t->slot_now);
    for (size_t i = 0; i < t->n_tensors; i++)
        lip__free(t->tensor[i].name);
    lip__free(t->tensor);
    lip__free(t->chunk);
    lip__free(t->clip_at);
    lip__free(t->clip_n);
    lip__object_free(t->loss);
    lip__object_free(t->optimizer);
    lip_model_put(t->model);
    lip__free(t);
}

bool lip_trainer_same_optimizer(const lip_trainer *a, const lip_trainer *b)
{
    return a->model == b->model && a->optimizer->cls == b->optimizer->cls && a->slots == b->slots;
}

void lip_trainer_adopt(lip_trainer *to, const lip_trainer *from)
{
    memcpy(to->slot_now, from->slot_now, to->slots * to->model->trained * sizeof *to->slot_now);
    to->steps = from->steps;
}

uint64_t lip_trainer_steps(const lip_trainer *t)
{
    return t->steps;
}

double lip_trainer_learning_rate(const lip_trainer *t)
{
    return lip__schedule_rate(((const struct lip__optimizer *)t->optimizer)->schedule, t->steps);
}

/* ---- the optimizer's state as named tensors -------------------------------------------------------- */

/* "d1/kernel/m" for each trained variable and slot. */
static lip_err name_tensors(lip_trainer *t, lip_error *err)
{
    const lip_model *m = t->model;

    t->tensor = lip__alloc(m->n_variables * t->slots + 1, sizeof *t->tensor);
    if (!t->tensor)
        return lip__nomem(err, m->n_variables * t->slots * sizeof *t->tensor);
    for (size_t v = 0; v < m->n_variables; v++)
        for (size_t slot = 0; slot < t->slots && lip__trains(m->variable[v].role); slot++) {
            const char *variable = m->variable[v].name, *name = lip__slot_name(t->optimizer, slot);
            size_t size = strlen(variable) + strlen(name) + 2;
            char *text = lip__alloc(size, 1);
            if (!text)
                return lip__nomem(err, size);
            snprintf(text, size, "%s/%s", variable, name);
            t->tensor[t->n_tensors++] = (struct lip__slot_tensor){text, v, slot};
        }
    return LIP_OK;
}

size_t lip_trainer_tensors(const lip_trainer *t)
{
    return t->n_tensors;
}

size_t lip_trainer_bytes(const lip_trainer *t)
{
    size_t bytes = 0;

    for (size_t i = 0; i < t->n_tensors; i++)
        bytes += lip_shape_count(&t->model->variable[t->tensor[i].variable].shape) * sizeof(float);
    return bytes;
}

lip_named lip_trainer_tensor(const lip_trainer *t, size_t i)
{
    const lip_model *m = t->model;
    const struct lip__slot_tensor *tensor = &t->tensor[i];

    return (lip_named){tensor->name, m->variable[tensor->variable].shape,
                       t->slot_now + tensor->slot * m->trained + m->offset[tensor->variable]};
}

lip_err lip_trainer_load(lip_trainer *t, uint64_t steps, const lip_named *tensors, size_t n, lip_error *err)
{
    size_t wanted = lip_trainer_tensors(t);

    if (n != wanted)
        return lip__fail(err, LIP_EWEIGHTS, "the optimizer's state has %zu tensors, needs %zu", n, wanted);
    for (size_t i = 0; i < wanted; i++) {
        lip_named mine = lip_trainer_tensor(t, i);
        size_t j = 0;
        while (j < n && strcmp(tensors[j].name, mine.name))
            j++;
        if (j == n || !lip_shape_equal(&tensors[j].shape, &mine.shape))
            return lip__fail(err, LIP_EWEIGHTS, "the optimizer's state lacks \"%.200s\" or has it in another shape", mine.name);
        memcpy(t->slot_next + (mine.data - t->slot_now), tensors[j].data, lip_shape_count(&mine.shape) * sizeof(float));
    }
    float *now = t->slot_now;
    t->slot_now = t->slot_next;
    t->slot_next = now;
    t->steps = steps;
    return LIP_OK;
}

/* ---- labels ----------------------------------------------------------------------------------------- */

static lip_err check_index(const lip_trainer *t, size_t i, float y, size_t c, lip_error *err)
{
    if (y >= 0 && y < (float)c && y == floorf(y))
        return LIP_OK;
    return lip__fail(err, LIP_ELABELS, "y_true: sample %zu has class %g; %.60s needs an integer from 0 to %zu", i, (double)y,
                     t->loss->cls->name, c - 1);
}

/* The labels as the loss wants them, in `out` (n * c floats). */
static lip_err prepare_labels(const lip_trainer *t, const lip_batch *b, float *out, lip_error *err)
{
    const struct lip__loss_class *loss = loss_class(t);
    size_t n = b->n, c = t->model->output[0].dim[0], at, count = lip_shape_count(&b->y_shape);
    const lip_shape *s = &b->y_shape;
    bool column = (s->rank == 1 || (s->rank == 2 && s->dim[1] == 1)) && s->dim[0] == n;
    bool full = s->rank == 2 && s->dim[0] == n && s->dim[1] == c;
    char found[96];
    lip_err rc = LIP_OK;

    if (!(column && (c == 1 || loss->indices || loss->one_hot)) && !(full && !loss->indices))
        return lip__fail(err, LIP_ESHAPE, "y_true has shape %s; %.60s on an output of %zu needs %s%s[%zu%s%s]",
                         lip_shape_text(s, found, sizeof found), loss->cls.name, c,
                         loss->one_hot && c > 1 ? "class indices or " : "", "", n, loss->indices ? "" : ",",
                         loss->indices ? "" : c == 1 ? "1" : "classes");
    if (!lip__all_finite(b->y, count, &at))
        return lip__fail(err, LIP_ENONFINITE, "y_true holds %g at element %zu", (double)b->y[at], at);
    if (loss->indices || (column && c > 1)) {
        for (size_t i = 0; i < n; i++)
            if ((rc = check_index(t, i, b->y[i], c, err)) != LIP_OK)
                return rc;
    }
    if (column && c > 1 && !loss->indices) {
        memset(out, 0, n * c * sizeof *out);
        for (size_t i = 0; i < n; i++)
            out[i * c + (size_t)b->y[i]] = 1;
    } else {
        memcpy(out, b->y, count * sizeof *out);
    }
    return loss->check ? loss->check(t->loss, n, c, out, err) : LIP_OK;
}

static lip_err check_weights(const lip_batch *b, lip_error *err)
{
    for (size_t i = 0; b->sample_weight && i < b->n; i++)
        if (!(b->sample_weight[i] >= 0) || !isfinite(b->sample_weight[i]))
            return lip__fail(err, isfinite(b->sample_weight[i]) ? LIP_ELABELS : LIP_ENONFINITE,
                             "sample_weight: sample %zu has %g, needs a finite number >= 0", i, (double)b->sample_weight[i]);
    return LIP_OK;
}

static lip_err check_batch(const lip_model *m, const lip_batch *b, lip_error *err)
{
    size_t at;

    if (b->n == 0)
        return lip__fail(err, LIP_ESHAPE, "the batch is empty, needs at least one sample");
    if (m->n_inputs > 1 && !b->inputs)
        return lip__fail(err, LIP_ESHAPE, "the model has %zu inputs, the batch one", m->n_inputs);
    for (size_t i = 0; i < m->n_inputs; i++) {
        const float *x = b->inputs ? b->inputs[i] : b->x;
        size_t size = m->value[i].size;
        if (!lip__all_finite(x, b->n * size, &at))
            return lip__fail(err, LIP_ENONFINITE, "input \"%.100s\" holds %g in sample %zu", m->input_name[i], (double)x[at],
                             at / size);
    }
    return check_weights(b, err);
}

static size_t fill_metrics(const lip_trainer *t, double loss, size_t n, const float *y, const float *p, lip_metric *metrics)
{
    size_t c = t->model->output[0].dim[0];

    metrics[0] = (lip_metric){"loss", loss};
    for (size_t i = 0; i < t->n_metrics; i++) {
        const struct lip__metric_class *cls = (const struct lip__metric_class *)t->metric[i]->cls;
        metrics[i + 1] = (lip_metric){t->metric_name[i], cls->value(t->metric[i], loss_class(t), n, c, y, p)};
    }
    return 1 + t->n_metrics;
}

/* ---- the step --------------------------------------------------------------------------------------- */

/* Memory for a batch of n: every value and its gradient, labels, the threads' scratch. */
static lip_err reserve(lip_trainer *t, size_t n, lip_error *err)
{
    const lip_model *m = t->model;
    size_t c = m->output[0].dim[0], total = lip__round(n * m->widest) + lip__round(n * c) + lip_threads() * m->scratch +
           lip__slots_scratch(m, n);

    for (size_t v = m->n_inputs; v < m->n_values; v++)
        total += 2 * lip__round(n * m->value[v].size);
    if (t->batch_size < total) {
        lip__free(t->batch);
        t->batch_size = 0;
        t->batch = lip__alloc(total, sizeof *t->batch);
        if (!t->batch)
            return lip__nomem(err, total * sizeof *t->batch);
        t->batch_size = total;
    }
    if (t->loss_size < 4 * c + 6 * n) {
        lip__free(t->loss_scratch);
        t->loss_size = 0;
        t->loss_scratch = lip__alloc(4 * c + 6 * n, sizeof *t->loss_scratch);
        if (!t->loss_scratch)
            return lip__nomem(err, (4 * c + 6 * n) * sizeof *t->loss_scratch);
        t->loss_size = 4 * c + 6 * n;
    }
    float *at = t->batch;
    t->area = at;
    at += lip_threads() * m->scratch;
    for (size_t v = m->n_inputs; v < m->n_values; v++) {
        size_t size = lip__round(n * m->value[v].size);
        t->activation[v] = at;
        t->delta[v] = at + size;
        at += 2 * size;
    }
    t->spare = at;
    t->labels = at + lip__round(n * m->widest);
    t->slots_scratch = t->labels + lip__round(n * c);
    return LIP_OK;
}

/* The effective kernels of `arena` into the trainer's own, with what the backward pass will need. */
static lip_err orthogonalize(lip_trainer *t, const float *arena, lip_error *err)
{
    const lip_model *m = t->model;
    lip_err rc;

    t->ready = 0;
    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        const float *u = k->u == LIP__NOWHERE ? NULL : arena + m->offset[k->u];
        t->info[i] = (lip_rko_info){.form = "plain"};
        if ((rc = lip__kernel_effective(m, k, arena + m->offset[k->kernel], u, carried_at(t, k->u), carried_at(t, k->sigma),
                                        wbar_at(t, k), t->scratch[i], true, &t->info[i], err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

static const float *const *inputs_of(const lip_batch *b)
{
    return b->inputs ? b->inputs : &b->x;
}

static void forward(lip_trainer *t, const float *arena, const lip_batch *b)
{
    const lip_model *m = t->model;
    struct lip__run run = {.model = m, .data = t->data, .n = b->n, .x = inputs_of(b), .keep = t->activation,
                           .memory = t->area, .area = m->scratch};

    for (size_t v = 0; v < m->n_variables; v++)
        t->data[v] = m->offset[v] < m->carried ? arena + m->offset[v] : t->wbar + (m->offset[v] - m->carried);
    run.block = lip__block_size(m, b->n);
    lip__run(&run);
}

/* dx of one input of one step, in blocks of samples. */
struct back {
    const lip_trainer *t;
    const struct lip__step *s;
    const float *const *w, *const *x;
    const float *y, *dy;
    float *dx;
    size_t which, n, block;
};

static void back_block(void *ctx, size_t index, size_t thread)
{
    const struct back *b = ctx;
    const lip_model *m = b->t->model;
    const struct lip__kind *kind = b->s->layer->kind;
    size_t first = index * b->block, n = b->n - first < b->block ? b->n - first : b->block;
    size_t out = m->value[b->s->out].size, in = m->value[b->s->from[b->which]].size;
    struct lip__pass pass = {.n = n, .w = b->w, .scratch = b->t->area + thread * m->scratch};
    const float *x[LIP__MAX_JOINED];

    if (!kind->merge) {
        kind->backward(b->s->layer, &pass, b->x[0] + first * in, b->y + first * out, b->dy + first * out, b->dx + first * in);
        return;
    }
    for (size_t i = 0; i < b->s->n_from; i++)
        x[i] = b->x[i] + first * m->value[b->s->from[i]].size;
    kind->unmerge(b->s->layer, &pass, x, b->dy + first * out, b->which, b->dx + first * in);
}

/* Gradients of the step's variables and of the values it reads; a value that several steps read gathers a sum. */
static void backward_step(lip_trainer *t, const struct lip__step *s, const lip_batch *b)
{
    const lip_model *m = t->model;
    const float *x[LIP__MAX_JOINED], *w[LIP__MAX_READ];
    float *dw[LIP__MAX_READ];
    bool learns = false;

    for (size_t r = 0; r < LIP__MAX_READ; r++) {
        bool trains = s->train[r] != LIP__NOWHERE && m->variable[s->train[r]].trainable;
        w[r] = s->read[r] == LIP__NOWHERE ? NULL : t->data[s->read[r]];
        dw[r] = trains ? t->gradient + m->offset[s->train[r]] : NULL;
        learns |= trains;
    }
    for (size_t i = 0; i < s->n_from; i++)
        x[i] = m->value[s->from[i]].producer == LIP__NOWHERE ? inputs_of(b)[m->value[s->from[i]].input] : t->activation[s->from[i]];
    if (learns) {
        struct lip__pass pass = {.n = b->n, .w = w, .dw = dw, .scratch = t->area};
        s->layer->kind->gradient(s->layer, &pass, x[0], t->delta[s->out]);
    }
    for (size_t i = 0; i < s->n_from; i++) {
        size_t v = s->from[i], size = b->n * m->value[v].size;
        if (!m->value[v].learns)
            continue;
        struct back back = {t, s, w, x, t->activation[s->out], t->delta[s->out], t->born[v] ? t->spare : t->delta[v], i, b->n,
                            lip__block_size(m, b->n)};
        lip__parallel((b->n + back.block - 1) / back.block, back_block, &back);
        for (size_t j = 0; j < size && t->born[v]; j++)
            t->delta[v][j] += t->spare[j];
        t->born[v] = true;
    }
}

/* From dL/doutput back to whatever learns; gradients of effective kernels into t->gradient. */
static void backward(lip_trainer *t, const lip_batch *b)
{
    const lip_model *m = t->model;

    memset(t->born, 0, m->n_values * sizeof *t->born);
    t->born[m->output_value[0]] = true;
    for (size_t i = m->n_steps; i-- > 0;) {
        size_t v = m->step[i].out;
        if (!m->value[v].learns)
            continue;
        if (lip__slots_activity(m, i)) {
            if (!t->born[v])
                memset(t->delta[v], 0, b->n * m->value[v].size * sizeof *t->delta[v]);
            t->born[v] = true;
            lip__slots_activity_penalty(m, i, b->n, t->activation[v], t->delta[v], t->slots_scratch);
        }
        if (t->born[v])
            backward_step(t, &m->step[i], b);
    }
}

/* dL/dkernel from dL/dwbar, in place. */
static lip_err backward_kernels(lip_trainer *t, const float *arena, lip_error *err)
{
    const lip_model *m = t->model;
    lip_err rc;

    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        float *g = t->gradient + m->offset[k->kernel];
        if (!m->variable[k->kernel].trainable)
            continue;
        if ((rc = k->layer->kind->reparam->backward(k->layer, arena + m->offset[k->kernel], k->m, k->n, &t->info[i],
                                                    carried_at(t, k->u), g, g, t->scratch[i], err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

static double gradient_norm(const lip_trainer *t)
{
    double sum = 0;

    for (size_t i = 0; i < t->n_chunks; i++)
        if (t->chunk[i].trainable) {
            double norm = lip__norm(t->gradient + t->chunk[i].at, t->chunk[i].n);
            sum += norm * norm;
        }
    return sqrt(sum);
}

struct update {
    const lip_trainer *t;
    const float *now;
    float *next;
    double learning_rate;
};

static void update_chunk(void *ctx, size_t index, size_t thread)
{
    const struct update *u = ctx;
    const lip_trainer *t = u->t;
    const struct lip__chunk *chunk = &t->chunk[index];
    size_t trained = t->model->trained, at = chunk->at;
    const float *slot[LIP__MAX_SLOTS];
    float *slot_next[LIP__MAX_SLOTS];

    (void)thread;
    for (size_t s = 0; s < t->slots; s++) {
        slot[s] = t->slot_now + s * trained + at;
        slot_next[s] = t->slot_next + s * trained + at;
    }
    if (chunk->trainable) {
        lip__step(t->optimizer, &(struct lip__update){.t = t->steps + 1, .learning_rate = u->learning_rate, .n = chunk->n,
                                                      .w = u->now + at, .g = t->gradient + at, .slot = slot,
                                                      .w_next = u->next + at, .slot_next = slot_next});
        return;
    }
    memcpy(u->next + at, u->now + at, chunk->n * sizeof *u->next);
    for (size_t s = 0; s < t->slots; s++)
        memcpy(slot_next[s], slot[s], chunk->n * sizeof *slot_next[s]);
}

static void tell_layers(lip_trainer *t, lip_step_report *report)
{
    for (size_t i = 0; i < t->model->n_kernels; i++) {
        const lip_rko_info *info = &t->info[i];
        t->told[i] = (lip_step_layer){t->model->kernel[i].layer->name, info->form, info->power_iterations,
                                      info->bjorck_iterations, info->residual, info->sigma};
    }
    report->layers = t->told;
    report->n_layers = t->model->n_kernels;
}

/* The updated kernels into the state's other arena, with u and sigma of this step's forward, and their effective
 * kernels. */
static lip_err prepare(lip_trainer *t, lip_state *s, bool lagging, double learning_rate, lip_step_report *report,
                       lip_error *err)
{
    const lip_model *m = t->model;
    struct update update = {t, s->now, s->next, learning_rate};
    uint64_t start = lip__now_ns();
    size_t at;
    lip_err rc = LIP_OK;

    lip__clip(t->optimizer, t->n_clipped, t->clip_at, t->clip_n, t->gradient);
    lip__parallel(t->n_chunks, update_chunk, &update);
    memcpy(s->next + m->trained, t->carried, carried_size(m) * sizeof *s->next);
    if ((rc = lip__slots_constrain(m, s->next, t->slots_scratch, err)) != LIP_OK)
        return rc;
    if (!lip__all_finite(s->next, m->trained, &at))
        return lip__fail(err, LIP_ENONFINITE, "the updated weights are not finite (%g); the learning rate is %g",
                         (double)s->next[at], learning_rate);
    if (lagging)
        memcpy(s->next + m->carried, t->wbar, (m->arena - m->carried) * sizeof *s->next);
    report->update_ns = lip__now_ns() - start;
    if (!lagging) {
        start = lip__now_ns();
        rc = orthogonalize(t, s->next, err);
        memcpy(s->next + m->carried, t->wbar, (m->arena - m->carried) * sizeof *s->next);
        report->orthogonalize_ns += lip__now_ns() - start;
    }
    return rc;
}

static void commit(lip_trainer *t, lip_state *s, bool lagging)
{
    float *arena = s->now, *slots = t->slot_now;

    s->now = s->next;
    s->next = arena;
    t->slot_now = t->slot_next;
    t->slot_next = slots;
    t->steps++;
    lip__state_changed(s);
    if (!lagging)
        t->ready = s->generation;
    for (size_t i = 0; i < t->model->n_kernels; i++) {
        s->effective[t->model->kernel[i].top] = LIP_COMPUTED;
        s->distance[t->model->kernel[i].top] = 0;
    }
}

/* A moving average starts from the weights of the first step. */
static void begin_average(lip_trainer *t, const lip_state *s)
{
    if (((const struct lip__optimizer *)t->optimizer)->use_ema)
        memcpy(t->slot_now + (t->slots - 1) * t->model->trained, s->now, t->model->trained * sizeof *s->now);
}

/* Everything up to the update; the state is only read. */
static lip_err differentiate(lip_trainer *t, const lip_state *s, const lip_batch *b, lip_step_report *report, lip_error *err)
{
    size_t c = t->model->output[0].dim[0];
    size_t out = t->model->output_value[0];
    uint64_t start = lip__now_ns(), then;
    const float *p;
    lip_err rc;

    if (t->ready != s->generation) {
        if ((rc = orthogonalize(t, s->now, err)) != LIP_OK)
            return rc;
        t->ready = s->generation;
        report->orthogonalize_ns = lip__now_ns() - start;
    }
    tell_layers(t, report);
    start = lip__now_ns();
    forward(t, s->now, b);
    p = t->activation[out];
    report->loss = lip__loss(t->loss, b->n, c, t->labels, p, b->sample_weight, t->delta[out], t->loss_scratch);
    report->loss += lip__slots_penalty(t->model, s->now, NULL, t->slots_scratch);
    for (size_t i = 0; i < t->model->n_steps; i++)
        report->loss += lip__slots_activity_penalty(t->model, i, b->n, t->activation[t->model->step[i].out], NULL, t->slots_scratch);
    report->n_metrics = fill_metrics(t, report->loss, b->n, t->labels, p, report->metrics);
    then = lip__now_ns();
    report->forward_ns = then - start;
    if (!isfinite(report->loss))
        return lip__fail(err, LIP_ENONFINITE, "the loss is %g", report->loss);
    backward(t, b);
    rc = backward_kernels(t, s->now, err);
    lip__slots_penalty(t->model, s->now, t->gradient, t->slots_scratch);
    report->gradient_norm = gradient_norm(t);
    report->backward_ns = lip__now_ns() - then;
    if (rc == LIP_OK && !isfinite(report->gradient_norm))
        rc = lip__fail(err, LIP_ENONFINITE, "the gradient is not finite");
    return rc;
}

lip_err lip_train_step(lip_trainer *t, lip_state *s, const lip_batch *b, const lip_step_options *options,
                       lip_step_report *report, lip_error *err)
{
    static const lip_step_options defaults = {.learning_rate = NAN};
    const lip_step_options *o = options ? options : &defaults;
    lip_error why = {0};
    lip_err rc;

    memset(report, 0, sizeof *report);
    report->learning_rate = isnan(o->learning_rate) ? lip_trainer_learning_rate(t) : o->learning_rate;
    report->step = t->steps;
    if (s->model != t->model)
        return lip__fail(err, LIP_EWEIGHTS, "the state is another model's");
    if (!lip__state_next(s))
        return lip__nomem(err, t->model->arena * sizeof(float));
    if (t->steps == 0)
        begin_average(t, s);
    rc = check_batch(t->model, b, &why);
    if (rc == LIP_OK)
        rc = reserve(t, b->n, &why);
    if (rc == LIP_OK)
        rc = prepare_labels(t, b, t->labels, &why);
    if (rc == LIP_OK)
        rc = differentiate(t, s, b, report, &why);
    if (rc == LIP_OK)
        rc = prepare(t, s, o->lagging, report->learning_rate, report, &why);
    if (rc == LIP_ENONFINITE && o->skip_nonfinite) {
        report->skipped = true;
        report->step = ++t->steps;
        return LIP_OK;
    }
    if (rc != LIP_OK)
        return lip__fail(err, rc, "%.600s", why.text);
    commit(t, s, o->lagging);
    report->step = t->steps;
    return LIP_OK;
}

/* The penalties of activities need what every layer made. */
static lip_err activities(const lip_snapshot *p, const lip_batch *b, double *penalty, lip_error *err)
{
    const lip_model *m = p->model;
    size_t total = lip_threads() * m->scratch + lip__slots_scratch(m, b->n);
    float **keep = NULL, *memory = NULL, *at;
    bool any = false;

    *penalty = 0;
    for (size_t i = 0; i < m->n_steps; i++)
        any |= lip__slots_activity(m, i);
    if (!any)
        return LIP_OK;
    for (size_t v = m->n_inputs; v < m->n_values; v++)
        total += lip__round(b->n * m->value[v].size);
    keep = lip__alloc(m->n_values, sizeof *keep);
    memory = lip__alloc(total + 1, sizeof *memory);
    if (!keep || !memory) {
        lip__free(keep);
        lip__free(memory);
        return lip__nomem(err, total * sizeof *memory);
    }
    at = memory + lip_threads() * m->scratch;
    for (size_t v = m->n_inputs; v < m->n_values; v++) {
        keep[v] = at;
        at += lip__round(b->n * m->value[v].size);
    }
    struct lip__run run = {.model = m, .data = p->data, .n = b->n, .block = lip__block_size(m, b->n), .x = inputs_of(b),
                           .keep = keep, .memory = memory, .area = m->scratch};
    lip__run(&run);
    for (size_t i = 0; i < m->n_steps; i++)
        *penalty += lip__slots_activity_penalty(m, i, b->n, keep[m->step[i].out], NULL, at);
    lip__free(memory);
    lip__free(keep);
    return LIP_OK;
}

lip_err lip_evaluate(const lip_trainer *t, const lip_snapshot *p, lip_workspace *ws, const lip_batch *b, lip_metric *metrics,
                     size_t *n_metrics, lip_error *err)
{
    size_t c = t->model->output[0].dim[0], n = b->n;
    float *y = NULL, *out = NULL;
    double *scratch = NULL, penalty = 0;
    lip_err rc;

    if (p->model != t->model)
        return lip__fail(err, LIP_EWEIGHTS, "the snapshot is another model's");
    if ((rc = check_batch(t->model, b, err)) != LIP_OK)
        return rc;
    y = lip__alloc(n * c, sizeof *y);
    out = lip__alloc(n * c, sizeof *out);
    scratch = lip__alloc(4 * c + 6 * n, sizeof *scratch);
    if (!y || !out || !scratch)
        rc = lip__nomem(err, n * c * sizeof *y);
    if (rc == LIP_OK)
        rc = prepare_labels(t, b, y, err);
    if (rc == LIP_OK)
        rc = lip_predict_graph(p, ws, n, inputs_of(b), &out, err);
    if (rc == LIP_OK)
        rc = activities(p, b, &penalty, err);
    if (rc == LIP_OK)
        *n_metrics = fill_metrics(t, lip__loss(t->loss, n, c, y, out, b->sample_weight, NULL, scratch) + p->penalty + penalty, n, y,
                                  out, metrics);
    lip__free(scratch);
    lip__free(out);
    lip__free(y);
    return rc;
}
