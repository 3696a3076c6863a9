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

/* Below this much arithmetic waking another thread costs more than it saves. */
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

size_t lip__block_size(const lip_model *m, size_t n)
{
    size_t threads = lip_threads(), block = BLOCK_FLOATS / m->widest;

    if (block > BLOCK_SAMPLES)
        block = BLOCK_SAMPLES;
    if (block < 1)
        block = 1;
    if (threads > 1 && m->flops * (double)n >= PARALLEL_FLOPS && n < block * threads)
        block = (n + threads - 1) / threads;
    return block < 1 ? 1 : block;
}

static void run_block(void *ctx, size_t index, size_t thread)
{
    const struct lip__run *run = ctx;
    const lip_model *m = run->model;
    size_t first = index * run->block, n = run->n - first < run->block ? run->n - first : run->block;
    float *area = run->memory + thread * run->area;
    float *buffer[2] = {area + m->scratch, area + m->scratch + lip__round(run->block * m->widest)};
    const float *x = run->x + first * m->step[0].in;

    for (size_t i = 0; i < m->n_steps; i++) {
        const struct lip__step *s = &m->step[i];
        const float *w[LIP__MAX_READ];
        float *y = run->keep ? run->keep[i] + first * s->out : i + 1 == m->n_steps ? run->y + first * s->out : buffer[i & 1];
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            w[r] = s->read[r] == LIP__NOWHERE ? NULL : run->data[s->read[r]];
        struct lip__pass pass = {.n = n, .w = w, .scratch = area};
        s->layer->kind->forward(s->layer, &pass, x, y);
        x = y;
    }
}

void lip__run(const struct lip__run *run)
{
    lip__parallel((run->n + run->block - 1) / run->block, run_block, (void *)run);
}

lip_err lip_predict(const lip_snapshot *snapshot, lip_workspace *ws, size_t n, const float *x, float *y, lip_error *err)
{
    const lip_model *m = snapshot->model;
    struct lip__run run = {.model = m, .data = snapshot->data, .n = n, .x = x, .y = y};
    lip_err rc;

    if (n == 0)
        return LIP_OK;
    run.block = lip__block_size(m, n);
    run.area = m->scratch + 2 * lip__round(run.block * m->widest);
    if ((rc = lip__workspace_reserve(ws, lip_threads() * run.area, err)) != LIP_OK)
        return rc;
    run.memory = ws->memory;
    lip__run(&run);
    return LIP_OK;
}
