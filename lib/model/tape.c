/* tape.c: the backward pass: each step in turn, in blocks of samples, from the outputs to the inputs. */
#include "model/tape.h"

#include <string.h>

#include "model/slots.h"

enum { FEW = 128 }; /* samples that dense layers take at once */

lip_err lip__tape_new(struct lip__tape *t, const lip_model *m, lip_error *err)
{
    *t = (struct lip__tape){.model = m};
    t->activation = lip__alloc(m->n_values, sizeof *t->activation);
    t->delta = lip__alloc(m->n_values, sizeof *t->delta);
    t->born = lip__alloc(m->n_values, sizeof *t->born);
    t->found = lip__alloc(m->n_variables + 1, sizeof *t->found);
    t->again = lip__alloc(m->shared ? m->trained : 1, sizeof *t->again);
    t->half = lip__alloc(2 * m->n_kernels + 1, sizeof *t->half);
    return t->activation && t->delta && t->born && t->found && t->again && t->half
               ? LIP_OK
               : lip__nomem(err, m->n_values * sizeof *t->delta);
}

void lip__tape_clear(struct lip__tape *t)
{
    lip__free(t->memory);
    lip__free(t->half);
    lip__free(t->again);
    lip__free(t->found);
    lip__free(t->born);
    lip__free(t->delta);
    lip__free(t->activation);
    *t = (struct lip__tape){0};
}

lip_err lip__tape_reserve(struct lip__tape *t, size_t n, bool factors, lip_error *err)
{
    const lip_model *m = t->model;
    size_t total = lip__round(n * m->widest) + lip_threads() * m->scratch + lip__slots_scratch(m, n);
    float *at;

    for (size_t v = m->n_inputs; v < m->n_values; v++)
        total += 2 * lip__round(n * m->value[v].size);
    for (size_t i = 0; i < m->n_kernels && factors; i++)
        total += 2 * lip__round(n * m->kernel[i].half);
    if (t->size < total) {
        lip__free(t->memory);
        t->size = 0;
        t->memory = lip__alloc(total, sizeof *t->memory);
        if (!t->memory)
            return lip__nomem(err, total * sizeof *t->memory);
        t->size = total;
    }
    t->n = n;
    t->area = at = t->memory;
    at += lip_threads() * m->scratch;
    for (size_t v = m->n_inputs; v < m->n_values; v++) {
        size_t size = lip__round(n * m->value[v].size);
        t->activation[v] = at;
        t->delta[v] = at + size;
        at += 2 * size;
    }
    for (size_t i = 0; i < m->n_kernels && factors; i++)
        for (size_t j = 0; j < 2; j++, at += lip__round(n * m->kernel[i].half))
            t->half[2 * i + j] = at;
    t->spare = at;
    t->slots_scratch = at + lip__round(n * m->widest);
    return LIP_OK;
}

static bool is_input(const struct lip__tape *t, size_t value)
{
    return t->model->value[value].producer == LIP__NOWHERE;
}

static const float *what(const struct lip__tape *t, size_t value)
{
    return is_input(t, value) ? t->x[t->model->value[value].input] : t->activation[value];
}

/* Where the gradient of a value goes; NULL: nobody asks for it. */
static float *where(const struct lip__tape *t, size_t value)
{
    const struct lip__value *v = &t->model->value[value];

    if (is_input(t, value))
        return t->dx ? t->dx[v->input] : NULL;
    return t->dx || v->learns ? t->delta[value] : NULL;
}

const float *lip__tape_output(const struct lip__tape *t, size_t i)
{
    return what(t, t->model->output_value[i]);
}

/* Samples of a block. Where a sample meets each weight once, as in dense layers, a block is the batch, and products divide what they
 * read of the weights: a thread that has some of the samples would read all. */
static size_t block_size(const struct lip__tape *t)
{
    const lip_model *m = t->model;
    size_t block = lip__block_size(m, t->n);

    return m->flops < 3 * (double)m->trained && t->n <= FEW ? t->n : block;
}

void lip__tape_forward(struct lip__tape *t)
{
    const lip_model *m = t->model;
    struct lip__run run = {.model = m,
                           .data = t->data,
                           .n = t->n,
                           .block = block_size(t),
                           .x = t->x,
                           .keep = t->activation,
                           .training = t->training,
                           .memory = t->area,
                           .area = m->scratch};

    lip__run(&run);
}

/* ---- backward ------------------------------------------------------------------------------------------- */

void lip__tape_begin(struct lip__tape *t)
{
    memset(t->born, 0, t->model->n_values * sizeof *t->born);
    memset(t->found, 0, t->model->n_variables * sizeof *t->found);
}

float *lip__tape_seed(struct lip__tape *t, size_t i)
{
    size_t v = t->model->output_value[i];

    return where(t, v) && t->born[v] ? t->spare : where(t, v);
}

/* A gradient of this value has come, in its own place or, when it is not the first, in the spare one. */
static void gather(struct lip__tape *t, size_t value)
{
    size_t size = t->n * t->model->value[value].size;
    float *sum = where(t, value);

    for (size_t i = 0; i < size && t->born[value]; i++)
        sum[i] += t->spare[i];
    t->born[value] = true;
}

void lip__tape_seeded(struct lip__tape *t, size_t i)
{
    if (where(t, t->model->output_value[i]))
        gather(t, t->model->output_value[i]);
}

/* dx of one input of one step, in blocks of samples. */
struct back {
    const struct lip__tape *t;
    const struct lip__step *s;
    const float *const *x;
    const float *y, *dy;
    float *dx;
    size_t which, block;
};

static void back_block(void *ctx, size_t index, size_t thread)
{
    const struct back *b = ctx;
    const lip_model *m = b->t->model;
    const struct lip__kind *kind = b->s->layer->kind;
    size_t first = index * b->block, n = b->t->n - first < b->block ? b->t->n - first : b->block;
    size_t out = m->value[b->s->out].size, in = m->value[b->s->from[b->which]].size;
    const float *x[LIP__MAX_JOINED], *w[LIP__MAX_READ];
    float *moved[LIP__MAX_READ];
    struct lip__pass pass = lip__step_pass(b->s, b->t->data, b->t->training, first, n, w, moved);

    pass.scratch = b->t->area + thread * m->scratch;
    if (!kind->merge) {
        kind->backward(b->s->layer, &pass, b->x[0] + first * in, b->y + first * out, b->dy + first * out,
                       b->dx + first * in);
        return;
    }
    for (size_t i = 0; i < b->s->n_from; i++)
        x[i] = b->x[i] + first * m->value[b->s->from[i]].size;
    kind->unmerge(b->s->layer, &pass, x, b->dy + first * out, b->which, b->dx + first * in);
}

/* A layer that is used twice has the sum of both gradients. */
static void add_up(struct lip__tape *t, const struct lip__step *s, float *const *dw)
{
    const lip_model *m = t->model;

    for (size_t r = 0; r < LIP__MAX_READ; r++) {
        size_t v = s->train[r], n = dw[r] ? lip_shape_count(&m->variable[v].shape) : 0;
        for (size_t i = 0; i < n && t->found[v]; i++)
            t->gradient[m->offset[v] + i] += dw[r][i];
        if (dw[r])
            t->found[v] = true;
    }
}

/* Gradients of the step's variables and of the values it reads; a value that several steps read gathers a sum. */
static void backward_step(struct lip__tape *t, const struct lip__step *s)
{
    const lip_model *m = t->model;
    const float *x[LIP__MAX_JOINED], *w[LIP__MAX_READ];
    float *dw[LIP__MAX_READ], *moved[LIP__MAX_READ];
    struct lip__pass pass = lip__step_pass(s, t->data, t->training, 0, t->n, w, moved);
    bool learns = false;

    for (size_t r = 0; r < LIP__MAX_READ; r++) {
        size_t v = s->train[r];
        bool trains = t->gradient && v != LIP__NOWHERE && m->variable[v].trainable;
        dw[r] = trains ? (t->found[v] ? t->again : t->gradient) + m->offset[v] : NULL;
        learns |= trains;
    }
    for (size_t i = 0; i < s->n_from; i++)
        x[i] = what(t, s->from[i]);
    pass.dw = dw;
    pass.scratch = t->area;
    if (t->training && s->layer->kind->observe_back)
        s->layer->kind->observe_back(s->layer, &pass, x[0], t->delta[s->out]);
    if (learns)
        s->layer->kind->gradient(s->layer, &pass, x[0], t->delta[s->out]);
    add_up(t, s, dw);
    for (size_t i = 0; i < s->n_from; i++) {
        float *dx = where(t, s->from[i]);
        if (!dx)
            continue;
        struct back back = {.t = t,
                            .s = s,
                            .x = x,
                            .y = t->activation[s->out],
                            .dy = t->delta[s->out],
                            .dx = t->born[s->from[i]] ? t->spare : dx,
                            .which = i,
                            .block = block_size(t)};
        lip__parallel((t->n + back.block - 1) / back.block, back_block, &back);
        gather(t, s->from[i]);
    }
}

/* No seed reaches the step. */
static void no_gradients(struct lip__tape *t, const struct lip__step *s)
{
    const lip_model *m = t->model;

    for (size_t r = 0; t->gradient && r < LIP__MAX_READ; r++)
        if (s->train[r] != LIP__NOWHERE && !t->found[s->train[r]])
            memset(t->gradient + m->offset[s->train[r]], 0,
                   lip_shape_count(&m->variable[s->train[r]].shape) * sizeof *t->gradient);
}

void lip__tape_backward(struct lip__tape *t, bool penalties)
{
    const lip_model *m = t->model;

    for (size_t i = m->n_steps; i-- > 0;) {
        size_t v = m->step[i].out;
        if (!where(t, v))
            continue;
        if (penalties && lip__slots_activity(m, i)) {
            if (!t->born[v])
                memset(t->delta[v], 0, t->n * m->value[v].size * sizeof *t->delta[v]);
            t->born[v] = true;
            lip__slots_activity_penalty(m, i, t->n, t->activation[v], t->delta[v], t->slots_scratch);
        }
        if (t->born[v])
            backward_step(t, &m->step[i]);
        else
            no_gradients(t, &m->step[i]);
    }
    for (size_t i = 0; i < m->n_inputs && t->dx; i++)
        if (!t->born[i]) /* nothing in front of the seeds reads it */
            memset(t->dx[i], 0, t->n * m->value[i].size * sizeof *t->dx[i]);
}
