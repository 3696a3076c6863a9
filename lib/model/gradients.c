/* gradients.c: gradients with respect to the inputs, by the way back through one forward pass. */
#include <string.h>

#include <onelip/gradients.h>

#include "model/tape.h"
#include "model/train.h"
#include "tensor/gemm.h"

/* Samples whose activations are held at once. */
#define BLOCK (size_t)256

static lip_err check(const lip_model *m, const lip_gradient *g, size_t n, lip_error *err)
{
    size_t size;

    if (g->of == LIP_OF_LOSS)
        return g->loss->model == m ? LIP_OK : lip__fail(err, LIP_EWEIGHTS, "the loss is another model's");
    if (g->output >= m->n_outputs)
        return lip__fail(err, LIP_ERANGE, "output is %zu, the model has %zu", g->output, m->n_outputs);
    size = lip_shape_count(&m->output[g->output]);
    if (g->of == LIP_OF_OUTPUT && g->index >= size)
        return lip__fail(err, LIP_ERANGE, "index is %zu, a sample of output \"%.100s\" has %zu numbers", g->index,
                         m->output_name[g->output], size);
    for (size_t i = 0; g->of == LIP_OF_MARGIN && g->label && i < n; i++)
        if (g->label[i] < 0 || (uint64_t)g->label[i] >= (size > 1 ? size : 2))
            return lip__fail(err, LIP_ERANGE, "sample %zu has class %lld; output \"%.100s\" has classes 0 to %zu", i,
                             (long long)g->label[i], m->output_name[g->output], size > 1 ? size - 1 : 1);
    return LIP_OK;
}

/* Value and slope of the margin in one sample's c numbers y. */
static double margin(const float *y, size_t c, const int64_t *label, float *slope)
{
    size_t own = label ? (size_t)*label : lip__argmax(y, c), best = own == 0;

    memset(slope, 0, c * sizeof *slope);
    for (size_t j = 0; j < c; j++)
        if (j != own && y[j] > y[best])
            best = j;
    slope[own] = 1;
    slope[best] = -1;
    return (double)y[own] - y[best];
}

static void seed(const lip_gradient *g, struct lip__tape *t, size_t first, double *value)
{
    const float *y = lip__tape_output(t, g->output);
    size_t c = lip_shape_count(&t->model->output[g->output]);
    float *dy = lip__tape_seed(t, g->output);

    for (size_t i = 0; i < t->n; i++, y += c, dy += c) {
        if (g->of == LIP_OF_PRODUCT) {
            memcpy(dy, g->cotangent + (first + i) * c, c * sizeof *dy);
            value[i] = lip__dot(dy, y, c);
        } else if (g->of == LIP_OF_MARGIN && c > 1) {
            value[i] = margin(y, c, g->label ? &g->label[first + i] : NULL, dy);
        } else {
            size_t index = g->of == LIP_OF_OUTPUT ? g->index : 0;
            memset(dy, 0, c * sizeof *dy);
            dy[index] = 1;
            value[i] = y[index];
        }
    }
    lip__tape_seeded(t, g->output);
}

/* The losses with reduction "sum": weights stay, the mean over the batch goes. */
static lip_err seed_losses(const lip_gradient *g, struct lip__tape *t, double *value, lip_error *err)
{
    const struct lip__judge *j = &g->loss->judge;
    const lip_batch *b = g->batch;
    size_t outputs = t->model->n_outputs, most = 1;
    float *labels = lip__alloc(lip__judge_labels_size(j, b->n) + 1, sizeof *labels), *each;
    double *scratch = lip__alloc(lip__judge_scratch(j, b->n) + 1, sizeof *scratch);
    struct lip__loss *now = lip__alloc(outputs, sizeof *now);
    lip_err rc = LIP_OK;

    for (size_t h = 0; h < outputs; h++)
        if (j->head[h].rows > most)
            most = j->head[h].rows;
    each = lip__alloc(b->n * most + 1, sizeof *each);
    if (!labels || !scratch || !now || !each)
        rc = lip__nomem(err, b->n * most * sizeof *each);
    if (rc == LIP_OK)
        rc = lip__judge_batch(j, b, labels, err);
    if (rc == LIP_OK) {
        lip__judge_now(j, now);
        memset(value, 0, b->n * sizeof *value);
        for (size_t h = 0; h < outputs; h++) {
            const struct lip__head *head = &j->head[h];
            if (!head->loss)
                continue;
            now[h].reduction = "sum";
            lip__judge_loss(j, now, b, labels, h, lip__tape_output(t, h), lip__tape_seed(t, h), each, NULL, scratch);
            lip__tape_seeded(t, h);
            for (size_t i = 0; i < b->n * head->rows; i++) {
                size_t sample = i / head->rows;
                value[sample] += head->weight * each[i] * (b->sample_weight ? b->sample_weight[sample] : 1.0);
            }
        }
    }
    lip__free(each);
    lip__free(now);
    lip__free(scratch);
    lip__free(labels);
    return rc;
}

/* One forward pass and the way back, for t->n samples from number `first` on. */
static lip_err pass(const lip_gradient *g, struct lip__tape *t, size_t first, double *value, lip_error *err)
{
    lip_err rc = LIP_OK;

    lip__tape_forward(t);
    lip__tape_begin(t);
    if (g->of == LIP_OF_LOSS)
        rc = seed_losses(g, t, value, err);
    else
        seed(g, t, first, value);
    if (rc == LIP_OK)
        lip__tape_backward(t, false);
    return rc;
}

lip_err lip_gradients(const lip_snapshot *p, const lip_gradient *g, size_t n, const float *const *x, double *value,
                      float *const *dx, lip_error *err)
{
    const lip_model *m = p->model;
    const float **from = lip__alloc(m->n_inputs, sizeof *from);
    float **to = lip__alloc(m->n_inputs, sizeof *to);
    struct lip__tape t = {0};
    lip_err rc = from && to ? LIP_OK : lip__nomem(err, m->n_inputs * sizeof *to);
    size_t block = BLOCK;

    if (g->of == LIP_OF_LOSS) { /* its samples need each other */
        block = n = g->batch->n;
        x = g->batch->inputs ? g->batch->inputs : &g->batch->x;
    }
    if (rc == LIP_OK)
        rc = check(m, g, n, err);
    if (rc == LIP_OK)
        rc = lip__tape_new(&t, m, err);
    for (size_t first = 0; rc == LIP_OK && first < n; first += block) {
        if ((rc = lip__tape_reserve(&t, n - first < block ? n - first : block, false, err)) != LIP_OK)
            break;
        for (size_t i = 0; i < m->n_inputs; i++) {
            from[i] = x[i] + first * m->value[i].size;
            to[i] = dx[i] + first * m->value[i].size;
        }
        t.data = p->data;
        t.x = from;
        t.dx = to;
        rc = pass(g, &t, first, value + first, err);
    }
    lip__tape_clear(&t);
    lip__free(to);
    lip__free(from);
    return rc;
}
