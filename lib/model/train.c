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

/* Floats of one variable that one task of the update takes; nobody is woken for less. */
#define CHUNK (size_t)16384

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
                                                      m->variable[v].trainable, 0, true};
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

/* A double in three floats, exactly; infinity too. */
static void split(double x, float *three)
{
    three[0] = (float)x;
    three[1] = isfinite(three[0]) ? (float)(x - three[0]) : 0;
    three[2] = isfinite(three[0]) ? (float)(x - three[0] - three[1]) : 0;
}

static double joined(const float *three)
{
    return (double)three[0] + three[1] + three[2];
}

/* The losses as this step leaves them. */
static void keep_losses(lip_trainer *t)
{
    pthread_mutex_lock(&t->judge.lock);
    for (size_t h = 0; h < t->model->n_outputs; h++)
        if (t->judge.head[h].loss)
            *(struct lip__loss *)t->judge.head[h].loss = t->now[h];
    pthread_mutex_unlock(&t->judge.lock);
}

static size_t memory_size(const lip_trainer *t)
{
    return t->model->n_outputs + 3 * t->n_callbacks;
}

void lip__trainer_remember(lip_trainer *t)
{
    float *at = t->memory;

    for (size_t h = 0; h < t->model->n_outputs; h++, at += 3)
        split(t->judge.head[h].loss ? ((const struct lip__loss *)t->judge.head[h].loss)->mean : 0, at);
    for (size_t i = 0; i < 3 * t->n_callbacks; i++, at += 3)
        split(t->remembered[i / 3][i % 3], at);
}

static lip_err name_tensors(lip_trainer *t, lip_error *err);
static void recall(lip_trainer *t, const float *memory);

lip_err lip__trainer_make(const lip_model *m, struct lip__object *optimizer, struct lip__judge *judge,
                          struct lip__object **callbacks, size_t n, lip_trainer **trainer, lip_error *err)
{
    lip_trainer *t = lip__alloc(1, sizeof *t);
    lip_err rc = LIP_OK;

    if (!t) {
        for (size_t i = 0; i < n; i++)
            lip__object_free(callbacks[i]);
        lip__object_free(optimizer);
        lip__judge_clear(judge);
        return lip__nomem(err, sizeof *t);
    }
    t->model = lip_model_get(m);
    t->optimizer = optimizer;
    t->judge = *judge;
    pthread_mutex_init(&t->judge.lock, NULL);
    t->n_callbacks = n;
    memcpy(t->callback, callbacks, n * sizeof *callbacks);
    t->slots = lip__slots(optimizer);
    t->slot_now = lip__alloc(t->slots * m->trained + 1, sizeof *t->slot_now);
    t->slot_next = lip__alloc(t->slots * m->trained + 1, sizeof *t->slot_next);
    t->gradient = lip__alloc(m->trained + 1, sizeof *t->gradient);
    t->carried = lip__alloc(carried_size(m) + 1, sizeof *t->carried);
    t->wbar = lip__alloc(m->arena - m->carried + 1, sizeof *t->wbar);
    t->factor = lip__alloc(m->n_kernels + 1, sizeof *t->factor);
    t->info = lip__alloc(m->n_kernels + 1, sizeof *t->info);
    t->told = lip__alloc(m->n_kernels + 1, sizeof *t->told);
    t->scratch = lip__alloc(m->n_kernels + 1, sizeof *t->scratch);
    t->data = lip__alloc(m->n_variables + 1, sizeof *t->data);
    t->stats = lip__alloc(m->stats + 1, sizeof *t->stats);
    t->moved = lip__alloc(m->n_variables + 1, sizeof *t->moved);
    t->now = lip__alloc(m->n_outputs, sizeof *t->now);
    t->each = lip__alloc(m->n_outputs, sizeof *t->each);
    t->output = lip__alloc(m->n_outputs, sizeof *t->output);
    t->memory = lip__alloc(3 * memory_size(t), sizeof *t->memory);
    if (!t->slot_now || !t->slot_next || !t->gradient || !t->carried || !t->wbar || !t->factor || !t->info || !t->told || !t->scratch ||
        !t->data || !t->stats || !t->moved || !t->now || !t->each || !t->output || !t->memory)
        rc = lip__nomem(err, (2 * t->slots + 1) * m->trained * sizeof(float));
    for (size_t i = 0; rc == LIP_OK && i < m->n_kernels; i++) {
        size_t need = lip__kernel_scratch(&m->kernel[i], true);
        t->scratch[i] = lip__alloc(need + 1, sizeof **t->scratch);
        if (!t->scratch[i])
            rc = lip__nomem(err, need * sizeof **t->scratch);
    }
    if (rc == LIP_OK)
        rc = lip__tape_new(&t->tape, m, err);
    if (rc == LIP_OK)
        rc = lip__optimizer_check(optimizer, err);
    if (rc == LIP_OK)
        rc = lip__judge_check(&t->judge, err);
    if (rc == LIP_OK)
        rc = lip__callbacks_check(t, err);
    if (rc == LIP_OK)
        rc = plan_update(t, err);
    if (rc == LIP_OK)
        rc = name_tensors(t, err);
    if (rc != LIP_OK) {
        lip_trainer_free(t);
        return rc;
    }
    lip__callbacks_begin(t);
    lip__trainer_remember(t);
    *trainer = t;
    return LIP_OK;
}

void lip_trainer_free(lip_trainer *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->scratch && i < t->model->n_kernels; i++)
        lip__free(t->scratch[i]);
    lip__tape_clear(&t->tape);
    lip__free(t->labels);
    lip__free(t->loss_scratch);
    lip__free(t->memory);
    lip__free(t->output);
    lip__free(t->each);
    lip__free(t->now);
    lip__free(t->moved);
    lip__free(t->stats);
    lip__free(t->data);
    lip__free(t->scratch);
    lip__free(t->told);
    lip__free(t->info);
    lip__free(t->factor);
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
    for (size_t i = 0; i < t->n_callbacks; i++)
        lip__object_free(t->callback[i]);
    lip__judge_clear(&t->judge);
    lip__object_free(t->optimizer);
    lip_model_put(t->model);
    lip__free(t);
}

bool lip_trainer_same_optimizer(const lip_trainer *a, const lip_trainer *b)
{
    if (a->model != b->model || a->optimizer->cls != b->optimizer->cls || a->slots != b->slots)
        return false;
    for (size_t i = 0; i < a->slots; i++) /* two slots may be velocity and momentum, or velocity and average gradient */
        if (strcmp(lip__slot_name(a->optimizer, i), lip__slot_name(b->optimizer, i)) != 0)
            return false;
    return true;
}

void lip_trainer_adopt(lip_trainer *to, const lip_trainer *from)
{
    memcpy(to->slot_now, from->slot_now, to->slots * to->model->trained * sizeof *to->slot_now);
    to->steps = from->steps;
}

void lip_trainer_resume(lip_trainer *to, const lip_trainer *from)
{
    if (to->model == from->model && to->n_callbacks == from->n_callbacks)
        recall(to, from->memory);
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

/* Behind the slots: what losses and callbacks remember between steps. */
static bool has_memory(const lip_trainer *t)
{
    for (size_t h = 0; h < t->model->n_outputs; h++)
        if (t->judge.head[h].loss && ((const struct lip__loss_class *)t->judge.head[h].loss->cls)->advance)
            return true;
    return lip__callbacks_remember(t);
}

size_t lip_trainer_tensors(const lip_trainer *t)
{
    return t->n_tensors + has_memory(t);
}

size_t lip_trainer_bytes(const lip_trainer *t)
{
    size_t bytes = 0;

    for (size_t i = 0; i < lip_trainer_tensors(t); i++) {
        lip_named tensor = lip_trainer_tensor(t, i);
        bytes += lip_shape_count(&tensor.shape) * sizeof(float);
    }
    return bytes;
}

lip_named lip_trainer_tensor(const lip_trainer *t, size_t i)
{
    const lip_model *m = t->model;
    const struct lip__slot_tensor *tensor = &t->tensor[i];

    if (i == t->n_tensors)
        return (lip_named){"training/memory", {2, {memory_size(t), 3}}, t->memory};
    return (lip_named){tensor->name, m->variable[tensor->variable].shape,
                       t->slot_now + tensor->slot * m->trained + m->offset[tensor->variable]};
}

static void recall(lip_trainer *t, const float *memory)
{
    const float *at = memory;

    lip__judge_now(&t->judge, t->now);
    for (size_t h = 0; h < t->model->n_outputs; h++, at += 3)
        t->now[h].mean = joined(at);
    for (size_t i = 0; i < 3 * t->n_callbacks; i++, at += 3)
        t->remembered[i / 3][i % 3] = joined(at);
    lip__callbacks_set(t, -1, t->now); /* as the last step left them, if there was one */
    keep_losses(t);
    lip__trainer_remember(t);
}

lip_err lip_trainer_load(lip_trainer *t, uint64_t steps, const lip_named *tensors, size_t n, lip_error *err)
{
    size_t wanted = lip_trainer_tensors(t);
    const float *memory = NULL;

    if (n != wanted)
        return lip__fail(err, LIP_EWEIGHTS, "the optimizer's state has %zu tensors, needs %zu", n, wanted);
    for (size_t i = 0; i < wanted; i++) {
        lip_named mine = lip_trainer_tensor(t, i);
        size_t j = 0;
        while (j < n && strcmp(tensors[j].name, mine.name))
            j++;
        if (j == n || !lip_shape_equal(&tensors[j].shape, &mine.shape))
            return lip__fail(err, LIP_EWEIGHTS, "the optimizer's state lacks \"%.200s\" or has it in another shape", mine.name);
        if (i == t->n_tensors)
            memory = tensors[j].data;
        else
            memcpy(t->slot_next + (mine.data - t->slot_now), tensors[j].data, lip_shape_count(&mine.shape) * sizeof(float));
    }
    float *now = t->slot_now;
    t->slot_now = t->slot_next;
    t->slot_next = now;
    t->steps = steps;
    if (memory)
        recall(t, memory);
    return LIP_OK;
}

/* ---- the step --------------------------------------------------------------------------------------- */

/* Whether a batch of n rows a factor is cheaper than wbar, even if wbar is asked for after the step. */
static bool factor_pays(const struct lip__kernel *k, size_t n)
{
    size_t longer = k->m > k->n ? k->m : k->n, shorter = k->m > k->n ? k->n : k->m;

    return k->factor != LIP__NOWHERE && n <= longer / 2 && n * (k->half / shorter) <= longer / 2;
}

/* Memory for a batch of n: the tape, labels, the threads' scratch. */
static lip_err reserve(lip_trainer *t, size_t n, lip_error *err)
{
    size_t labels = lip__judge_labels_size(&t->judge, n), scratch = lip__judge_scratch(&t->judge, n);
    bool factors = false;

    if (t->labels_size < labels) {
        lip__free(t->labels);
        t->labels_size = 0;
        if (!(t->labels = lip__alloc(labels, sizeof *t->labels)))
            return lip__nomem(err, labels * sizeof *t->labels);
        t->labels_size = labels;
    }
    if (t->loss_size < scratch) {
        lip__free(t->loss_scratch);
        t->loss_size = 0;
        if (!(t->loss_scratch = lip__alloc(scratch, sizeof *t->loss_scratch)))
            return lip__nomem(err, scratch * sizeof *t->loss_scratch);
        t->loss_size = scratch;
    }
    for (size_t i = 0; i < t->model->n_kernels; i++)
        factors |= factor_pays(&t->model->kernel[i], n);
    return lip__tape_reserve(&t->tape, n, factors, err);
}

/* The effective kernels of `arena` into the trainer's own, as factors where it may be, with what the backward pass will need. */
static lip_err orthogonalize(lip_trainer *t, const float *arena, bool factors, lip_error *err)
{
    const lip_model *m = t->model;
    lip_err rc;

    t->ready = 0;
    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        const float *u = k->u == LIP__NOWHERE ? NULL : arena + m->offset[k->u];
        struct lip__factor *factor = factors && factor_pays(k, t->tape.n) ? &t->factor[i] : NULL;
        t->info[i] = (lip_rko_info){.form = "plain"};
        t->factor[i].q = NULL;
        if ((rc = lip__kernel_effective(m, k, arena + m->offset[k->kernel], u, carried_at(t, k->u), carried_at(t, k->sigma),
                                        wbar_at(t, k), t->scratch[i], true, &t->info[i], factor, err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

/* A batch for which factors that an earlier step left are no good. */
static void settle(lip_trainer *t, const float *arena, size_t n)
{
    const lip_model *m = t->model;

    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        if (!t->factor[i].q || factor_pays(k, n))
            continue;
        lip__factor_times(arena + m->offset[k->kernel], k->m, k->n, t->factor[i].alpha, t->factor[i].q, wbar_at(t, k));
        t->factor[i].q = NULL;
    }
}

static const float *const *inputs_of(const lip_batch *b)
{
    return b->inputs ? b->inputs : &b->x;
}

static void forward(lip_trainer *t, const float *arena, const lip_batch *b)
{
    const lip_model *m = t->model;

    for (size_t v = 0; v < m->n_variables; v++) {
        t->data[v] = m->offset[v] < m->carried ? arena + m->offset[v] : t->wbar + (m->offset[v] - m->carried);
        t->moved[v] = m->variable[v].role == LIP_MOVING ? carried_at(t, v) : NULL;
        if (t->moved[v]) /* averages start from the present ones */
            memcpy(t->moved[v], arena + m->offset[v], lip_shape_count(&m->variable[v].shape) * sizeof *arena);
    }
    for (size_t i = 0; i < m->n_kernels; i++)
        if (t->factor[i].q)
            t->data[m->kernel[i].wbar] = arena + m->offset[m->kernel[i].kernel];
    t->tape.data = t->data;
    t->tape.x = inputs_of(b);
    t->tape.gradient = t->gradient;
    lip__tape_forward(&t->tape);
    for (size_t i = 0; i < m->n_outputs; i++)
        t->output[i] = lip__tape_output(&t->tape, i);
}

/* The losses of all outputs, and where their gradients go back from. */
static double losses(lip_trainer *t, const lip_batch *b)
{
    double sum = 0;

    lip__tape_begin(&t->tape);
    for (size_t h = 0; h < t->model->n_outputs; h++) {
        if (!t->judge.head[h].loss)
            continue;
        t->each[h] = lip__judge_loss(&t->judge, t->now, b, t->labels, h, t->output[h], lip__tape_seed(&t->tape, h), NULL,
                                     &t->now[h].mean, t->loss_scratch);
        lip__tape_seeded(&t->tape, h);
        sum += t->judge.head[h].weight * t->each[h];
    }
    return sum;
}

/* dL/dkernel from dL/dwbar, in place. */
static lip_err backward_kernels(lip_trainer *t, const float *arena, bool through, lip_error *err)
{
    const lip_model *m = t->model;
    lip_err rc;

    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        float *g = t->gradient + m->offset[k->kernel];
        if (!m->variable[k->kernel].trainable)
            continue;
        const float *u = through && k->u != LIP__NOWHERE ? arena + m->offset[k->u] : NULL;
        if ((rc = k->layer->kind->reparam->backward(k->layer, arena + m->offset[k->kernel], k->m, k->n, &t->info[i], u,
                                                    carried_at(t, k->u), g, g, t->scratch[i], &t->factor[i], err)) != LIP_OK)
            return rc;
    }
    return LIP_OK;
}

static void for_chunks(const lip_trainer *t, void (*task)(void *, size_t, size_t), void *ctx)
{
    if (t->model->trained > CHUNK)
        lip__parallel(t->n_chunks, task, ctx);
    else
        for (size_t i = 0; i < t->n_chunks; i++)
            task(ctx, i, 0);
}

static void norm_of_chunk(void *ctx, size_t i, size_t thread)
{
    const lip_trainer *t = ctx;
    struct lip__chunk *chunk = &t->chunk[i];

    (void)thread;
    chunk->norm = chunk->trainable ? lip__norm(t->gradient + chunk->at, chunk->n) : 0;
}

static double gradient_norm(lip_trainer *t)
{
    double sum = 0;

    for_chunks(t, norm_of_chunk, t);
    for (size_t i = 0; i < t->n_chunks; i++)
        sum += t->chunk[i].norm * t->chunk[i].norm;
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
    struct lip__chunk *chunk = &t->chunk[index];
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
        chunk->finite = lip__all_finite(u->next + at, chunk->n, NULL); /* while it is in this thread's cache */
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

/* What was computed from the kernels of this arena becomes them; the next step computes its own again. */
static void condense(lip_trainer *t, float *arena)
{
    const lip_model *m = t->model;

    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        memcpy(arena + m->offset[k->kernel], wbar_at(t, k), k->m * k->n * sizeof *arena);
    }
    memcpy(arena + m->trained, t->carried, carried_size(m) * sizeof *arena);
}

/* Not where the state is to have wbar of other kernels than its own, or wbar as its kernels. */
static bool factors_wanted(const lip_trainer *t, bool lagging)
{
    return !lagging && !lip__callbacks_condense(t);
}

/* Whether the updated weights are; *at: the first that is not. */
static bool all_finite(const lip_trainer *t, const float *next, size_t *at)
{
    bool finite = !lip__slots_constrained(t->model); /* constraints came after the update */

    for (size_t i = 0; i < t->n_chunks; i++)
        finite &= t->chunk[i].finite;
    return finite || lip__all_finite(next, t->model->trained, at);
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
    for_chunks(t, update_chunk, &update);
    memcpy(s->next + m->trained, t->carried, carried_size(m) * sizeof *s->next);
    if ((rc = lip__slots_constrain(m, s->next, t->tape.slots_scratch, err)) != LIP_OK)
        return rc;
    if (!all_finite(t, s->next, &at))
        return lip__fail(err, LIP_ENONFINITE, "the updated weights are not finite (%g); the learning rate is %g",
                         (double)s->next[at], learning_rate);
    if (lagging)
        memcpy(s->next + m->carried, t->wbar, (m->arena - m->carried) * sizeof *s->next);
    report->update_ns = lip__now_ns() - start;
    if (!lagging || lip__callbacks_condense(t)) {
        start = lip__now_ns();
        rc = orthogonalize(t, s->next, factors_wanted(t, lagging), err);
        for (size_t i = 0; i < m->n_kernels && !lagging; i++)
            if (!t->factor[i].q)
                memcpy(s->next + m->offset[m->kernel[i].wbar], wbar_at(t, &m->kernel[i]),
                       m->kernel[i].m * m->kernel[i].n * sizeof *s->next);
        if (lip__callbacks_condense(t))
            condense(t, s->next);
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
    keep_losses(t);
    lip__callbacks_stepped(t);
    lip__trainer_remember(t);
    lip__state_changed(s);
    t->ready = factors_wanted(t, lagging) ? s->generation : 0;
    for (size_t i = 0; i < t->model->n_kernels; i++) {
        const struct lip__kernel *k = &t->model->kernel[i];
        size_t side = k->m < k->n ? k->m : k->n;
        s->alpha[i] = t->ready && t->factor[i].q ? t->factor[i].alpha : 0;
        if (s->alpha[i] != 0)
            memcpy(s->q + k->factor, t->factor[i].q, side * side * sizeof *s->q);
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
static lip_err differentiate(lip_trainer *t, const lip_state *s, const lip_batch *b, const lip_step_options *o,
                             lip_step_report *report, lip_error *err)
{
    const struct lip__training training = {.seed = o->seed, .step = t->steps + 1, .stats = t->stats, .moved = t->moved,
                                           .factor = t->factor, .half = t->tape.half};
    struct lip__tape *tape = &t->tape;
    uint64_t start = lip__now_ns(), then;
    lip_err rc;

    if (t->ready != s->generation) {
        if ((rc = orthogonalize(t, s->now, factors_wanted(t, o->lagging), err)) != LIP_OK)
            return rc;
        t->ready = s->generation;
    }
    settle(t, s->now, b->n);
    report->orthogonalize_ns = lip__now_ns() - start;
    tell_layers(t, report);
    start = lip__now_ns();
    tape->training = &training;
    forward(t, s->now, b);
    report->loss = losses(t, b) + lip__slots_penalty(t->model, s->now, NULL, tape->slots_scratch);
    for (size_t i = 0; i < t->model->n_steps; i++)
        report->loss += lip__slots_activity_penalty(t->model, i, b->n, tape->activation[t->model->step[i].out], NULL,
                                                    tape->slots_scratch);
    report->n_metrics = lip__judge_tell(&t->judge, report->loss, t->each, b, t->labels, t->output, report->metrics,
                                        t->loss_scratch);
    then = lip__now_ns();
    report->forward_ns = then - start;
    if (!isfinite(report->loss))
        return lip__fail(err, LIP_ENONFINITE, "the loss is %g", isnan(report->loss) ? NAN : report->loss);
    lip__tape_backward(tape, true);
    tape->training = NULL;
    rc = backward_kernels(t, s->now, o->through_spectral, err);
    lip__slots_penalty(t->model, s->now, t->gradient, tape->slots_scratch);
    report->gradient_norm = gradient_norm(t);
    report->backward_ns = lip__now_ns() - then;
    if (rc == LIP_OK && !isfinite(report->gradient_norm))
        rc = lip__fail(err, LIP_ENONFINITE, "the gradient is not finite");
    return rc;
}

static lip_err train_step(lip_trainer *t, lip_state *s, const lip_batch *b, const lip_step_options *options,
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
    if (!lip__state_next(s) || !lip__state_factors(s))
        return lip__nomem(err, t->model->arena * sizeof(float));
    if (t->steps == 0)
        begin_average(t, s);
    lip__judge_now(&t->judge, t->now);
    lip__callbacks_set(t, 0, t->now);
    rc = reserve(t, b->n, &why);
    if (rc == LIP_OK)
        rc = lip__judge_batch(&t->judge, b, t->labels, &why);
    if (rc == LIP_OK && !b->pairs && lip__judge_needs_pairs(&t->judge))
        rc = lip__fail(&why, LIP_EBOUND, "a metric needs the proven constants of the weights, and there are none");
    if (rc == LIP_OK)
        rc = differentiate(t, s, b, o, report, &why);
    if (rc == LIP_OK)
        rc = prepare(t, s, o->lagging, report->learning_rate, report, &why);
    if (rc == LIP_ENONFINITE && o->skip_nonfinite) {
        report->skipped = true;
        report->step = ++t->steps;
        lip__callbacks_stepped(t);
        lip__trainer_remember(t);
        return LIP_OK;
    }
    if (rc != LIP_OK)
        return lip__fail(err, rc, "%.600s", why.text);
    commit(t, s, o->lagging);
    report->step = t->steps;
    return LIP_OK;
}

lip_err lip_train_step(lip_trainer *t, lip_state *s, const lip_batch *b, const lip_step_options *options,
                       lip_step_report *report, lip_error *err)
{
    bool before = lip__patient(true);
    lip_err rc = train_step(t, s, b, options, report, err);

    lip__patient(before);
    return rc;
}

/* The penalties of activities need what every layer made. */
static lip_err activities(const lip_snapshot *p, const lip_batch *b, double *penalty, lip_error *err)
{
    const lip_model *m = p->model;
    size_t total = lip_threads() * m->packed_scratch + lip__slots_scratch(m, b->n);
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
    at = memory + lip_threads() * m->packed_scratch;
    for (size_t v = m->n_inputs; v < m->n_values; v++) {
        keep[v] = at;
        at += lip__round(b->n * m->value[v].size);
    }
    struct lip__run run = {.model = m, .data = p->data, .packed = p->packed, .n = b->n, .block = lip__block_size(m, b->n),
                           .x = inputs_of(b), .keep = keep, .memory = memory, .area = m->packed_scratch};
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
    const struct lip__judge *j = &t->judge;
    size_t outputs = t->model->n_outputs, n = b->n;
    float *labels = NULL, **out = NULL;
    double *scratch = NULL, *each = NULL, penalty = 0, loss = 0;
    struct lip__loss *now = NULL;
    lip_err rc = LIP_OK;

    if (p->model != t->model)
        return lip__fail(err, LIP_EWEIGHTS, "the snapshot is another model's");
    if (!b->pairs && lip__judge_needs_pairs(j))
        return lip__fail(err, LIP_EBOUND, "a metric needs the proven constants of the weights, and there are none");
    labels = lip__alloc(lip__judge_labels_size(j, n) + 1, sizeof *labels);
    scratch = lip__alloc(lip__judge_scratch(j, n) + 1, sizeof *scratch);
    now = lip__alloc(outputs, sizeof *now);
    each = lip__alloc(outputs, sizeof *each);
    out = lip__alloc(outputs, sizeof *out);
    for (size_t i = 0; out && i < outputs; i++)
        if (!(out[i] = lip__alloc(n * lip_shape_count(&t->model->output[i]) + 1, sizeof **out)))
            rc = lip__nomem(err, n * sizeof **out);
    if (!labels || !scratch || !now || !each || !out)
        rc = lip__nomem(err, n * sizeof *labels);
    if (rc == LIP_OK)
        rc = lip__judge_batch(j, b, labels, err);
    if (rc == LIP_OK)
        rc = lip_predict_graph(p, ws, n, inputs_of(b), out, err);
    if (rc == LIP_OK)
        rc = activities(p, b, &penalty, err);
    if (rc == LIP_OK) {
        lip__judge_now(j, now);
        for (size_t h = 0; h < outputs; h++)
            if (j->head[h].loss) {
                each[h] = lip__judge_loss(j, now, b, labels, h, out[h], NULL, NULL, NULL, scratch);
                loss += j->head[h].weight * each[h];
            }
        *n_metrics = lip__judge_tell(j, loss + p->penalty + penalty, each, b, labels, (const float *const *)out, metrics, scratch);
    }
    for (size_t i = 0; out && i < outputs; i++)
        lip__free(out[i]);
    lip__free(out);
    lip__free(each);
    lip__free(now);
    lip__free(scratch);
    lip__free(labels);
    return rc;
}

bool lip_trainer_needs_pairs(const lip_trainer *t)
{
    return lip__judge_needs_pairs(&t->judge);
}

void lip_trainer_follow(lip_trainer *judge, const lip_trainer *from)
{
    size_t n = judge->model->n_outputs;

    if (judge->model != from->model)
        return;
    for (size_t h = 0; h < n; h++) {
        struct lip__loss *to = (struct lip__loss *)judge->judge.head[h].loss, *mine = (struct lip__loss *)from->judge.head[h].loss;
        if (!to || !mine || to->base.cls != mine->base.cls)
            continue;
        pthread_mutex_lock((pthread_mutex_t *)&from->judge.lock);
        struct lip__loss copy = *mine;
        pthread_mutex_unlock((pthread_mutex_t *)&from->judge.lock);
        pthread_mutex_lock(&judge->judge.lock);
        /* What steps and callbacks change. The rest, such as which labels fit, is the same, and is read without the lock. */
        to->alpha = copy.alpha;
        to->min_margin = copy.min_margin;
        to->tau = copy.tau;
        to->alpha_mean = copy.alpha_mean;
        to->temperature = copy.temperature;
        to->penalty = copy.penalty;
        to->label_smoothing = copy.label_smoothing;
        to->mean = copy.mean;
        pthread_mutex_unlock(&judge->judge.lock);
    }
}
