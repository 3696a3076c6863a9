/* forward.c: the forward pass, in blocks of samples.
 *
 * A block goes through all layers on one thread, so that its activations stay in that core's cache; blocks run in
 * parallel. Activations alternate between two buffers of the thread's area.
 */
#include "model/model.h"

#include "tensor/gemm.h"

/* The activations of a block should stay in a core's second-level cache, beside the kernels that pass through. */
#define BLOCK_FLOATS (size_t)131072
#define BLOCK_SAMPLES (size_t)256

/* A thread with less arithmetic than this saves less than waking it costs. */
#define PARALLEL_FLOPS 1e6

lip_workspace *lip_workspace_new(void)
{
    return lip__alloc(1, sizeof(lip_workspace));
}

void lip_workspace_free(lip_workspace *ws)
{
    if (!ws)
        return;
    lip__free(ws->memory);
    lip__free(ws);
}

void lip_workspace_serial(lip_workspace *ws, bool serial)
{
    ws->serial = serial;
}

lip_err lip__workspace_reserve(lip_workspace *ws, size_t floats, lip_error *err)
{
    if (ws->size >= floats)
        return LIP_OK;
    lip__free(ws->memory);
    ws->size = 0;
    ws->memory = lip__alloc(floats, sizeof *ws->memory);
    if (!ws->memory)
        return lip__nomem(err, floats * sizeof *ws->memory);
    ws->size = floats;
    return LIP_OK;
}

/* Blocks are of one size, and each thread that is worth its while has as many. */
static size_t block_size(const lip_model *m, size_t n, size_t threads)
{
    size_t most = BLOCK_FLOATS / m->widest, blocks;
    double worth = m->flops * (double)n / PARALLEL_FLOPS;

    if (most > BLOCK_SAMPLES)
        most = BLOCK_SAMPLES;
    if (most < 1)
        most = 1;
    if (worth < (double)threads)
        threads = worth < 1 ? 1 : (size_t)worth;
    blocks = (n + most - 1) / most;
    blocks = (blocks + threads - 1) / threads * threads;
    return blocks ? (n + blocks - 1) / blocks : 1;
}

size_t lip__block_size(const lip_model *m, size_t n)
{
    return block_size(m, n, lip_threads());
}

size_t lip__run_area(const lip_model *m, size_t block)
{
    size_t area = m->packed_scratch;

    for (size_t i = 0; i < m->n_slots; i++)
        area += lip__round(block * m->slot[i]);
    return area;
}

/* Where samples first.. of a value live. */
static float *locate(const struct lip__run *run, float *const *buffer, size_t value, size_t first)
{
    const struct lip__value *v = &run->model->value[value];

    if (v->producer == LIP__NOWHERE)
        return (float *)run->x[v->input] + first * v->size;
    if (run->keep)
        return run->keep[value] + first * v->size;
    return v->output != LIP__NOWHERE ? run->y[v->output] + first * v->size : buffer[v->slot];
}

struct lip__pass lip__step_pass(const struct lip__step *s, const float *const *data, const struct lip__training *training,
                                size_t first, size_t n, const float **w, float **moved)
{
    for (size_t r = 0; r < LIP__MAX_READ; r++) {
        w[r] = s->read[r] == LIP__NOWHERE ? NULL : data[s->read[r]];
        moved[r] = training && s->read[r] != LIP__NOWHERE ? training->moved[s->read[r]] : NULL;
    }
    struct lip__pass pass = {.n = n, .first = first, .training = training, .w = w, .moved = moved,
                             .stats = training ? training->stats + s->stats : NULL};
    if (training && training->factor && s->kernel != LIP__NOWHERE && training->factor[s->kernel].q) {
        pass.factor = &training->factor[s->kernel];
        for (int i = 0; i < 2; i++)
            pass.half[i] = training->half[2 * s->kernel + i] + first * s->layer->kind->half(s->layer);
    }
    return pass;
}

static void run_block(void *ctx, size_t index, size_t thread)
{
    const struct lip__run *run = ctx;
    const lip_model *m = run->model;
    size_t first = index * run->block, n = run->n - first < run->block ? run->n - first : run->block;
    float *area = run->memory + thread * run->area, *buffer[LIP__MAX_SLOT], *at = area + m->packed_scratch; /* of a run without keep */

    for (size_t i = 0; i < m->n_slots; i++) {
        buffer[i] = at;
        at += lip__round(run->block * m->slot[i]);
    }
    for (size_t i = run->from; i < (run->to ? run->to : m->n_steps); i++) {
        const struct lip__step *s = &m->step[i];
        const float *w[LIP__MAX_READ], *x[LIP__MAX_JOINED];
        float *moved[LIP__MAX_READ];
        for (size_t j = 0; j < s->n_from; j++)
            x[j] = locate(run, buffer, s->from[j], first);
        float *y = locate(run, buffer, s->out, first);
        struct lip__pass pass = lip__step_pass(s, run->data, run->training, first, n, w, moved);
        pass.scratch = area;
        pass.alone = run->alone;
        pass.backwards = run->backwards;
        pass.packed = run->packed && s->read[0] != LIP__NOWHERE ? run->packed[s->read[0]] : NULL;
        if (s->layer->kind->merge)
            s->layer->kind->merge(s->layer, &pass, x, y);
        else
            s->layer->kind->forward(s->layer, &pass, x[0], y);
    }
}

/* The whole batch, for a layer that wants to see it before its first sample goes on. */
static void observe(const struct lip__run *run, size_t step)
{
    const struct lip__step *s = &run->model->step[step];
    const float *w[LIP__MAX_READ];
    float *moved[LIP__MAX_READ];
    struct lip__pass pass = lip__step_pass(s, run->data, run->training, 0, run->n, w, moved);

    pass.scratch = run->memory;
    s->layer->kind->observe(s->layer, &pass, locate(run, NULL, s->from[0], 0));
}

void lip__run(const struct lip__run *run)
{
    const lip_model *m = run->model;
    struct lip__run part = *run;

    part.to = run->to ? run->to : m->n_steps;
    for (size_t end = part.to; run->training && part.from < end;) {
        for (part.to = part.from + 1; part.to < end && !m->step[part.to].layer->kind->observe;)
            part.to++;
        if (m->step[part.from].layer->kind->observe)
            observe(run, part.from);
        lip__parallel((run->n + run->block - 1) / run->block, run_block, &part);
        part.from = part.to;
    }
    if (!run->training)
        lip__parallel((run->n + run->block - 1) / run->block, run_block, &part);
}

lip_err lip_predict_graph(const lip_snapshot *snapshot, lip_workspace *ws, size_t n, const float *const *x, float *const *y,
                          lip_error *err)
{
    const lip_model *m = snapshot->model;
    struct lip__run run = {.model = m, .data = snapshot->data, .packed = snapshot->packed, .n = n, .x = x, .y = y};
    size_t threads = ws->serial ? 1 : lip_threads();
    lip_err rc;

    if (n == 0)
        return LIP_OK;
    run.block = block_size(m, n, threads);
    run.area = lip__run_area(m, run.block);
    if ((rc = lip__workspace_reserve(ws, threads * run.area, err)) != LIP_OK)
        return rc;
    run.memory = ws->memory;
    run.alone = threads > 1 && run.block >= n;
    run.backwards = ws->backwards = !ws->backwards;
    if (threads > 1)
        lip__run(&run);
    else
        for (size_t i = 0; i * run.block < n; i++)
            run_block(&run, i, 0);
    return LIP_OK;
}

lip_err lip_predict(const lip_snapshot *snapshot, lip_workspace *ws, size_t n, const float *x, float *y, lip_error *err)
{
    const lip_model *m = snapshot->model;

    if (m->n_inputs != 1 || m->n_outputs != 1)
        return lip__fail(err, LIP_ESHAPE, "the model has %zu inputs and %zu outputs; lip_predict_graph takes several",
                         m->n_inputs, m->n_outputs);
    return lip_predict_graph(snapshot, ws, n, &x, &y, err);
}
