/* judge.c: labels, losses and metrics of a model's outputs. */
#include "model/judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

lip_err lip__judge_new(struct lip__judge *j, const lip_model *m, lip_error *err)
{
    *j = (struct lip__judge){.model = m};
    pthread_mutex_init(&j->lock, NULL);
    j->head = lip__alloc(m->n_outputs, sizeof *j->head);
    j->metric = lip__alloc(LIP_MAX_METRICS, sizeof *j->metric);
    return j->head && j->metric ? LIP_OK : lip__nomem(err, LIP_MAX_METRICS * sizeof *j->metric);
}

void lip__judge_clear(struct lip__judge *j)
{
    for (size_t i = 0; j->head && i < j->model->n_outputs; i++) {
        lip__object_free(j->head[i].loss);
        lip__free(j->head[i].told);
    }
    for (size_t i = 0; i < j->n_metrics; i++) {
        lip__object_free(j->metric[i].metric);
        lip__free(j->metric[i].name);
    }
    lip__free(j->metric);
    lip__free(j->head);
    if (j->model)
        pthread_mutex_destroy(&j->lock);
    *j = (struct lip__judge){0};
}

static const struct lip__loss_class *class_of(const struct lip__head *h)
{
    return (const struct lip__loss_class *)h->loss->cls;
}

static lip_err set_head(struct lip__judge *j, size_t i, lip_error *err)
{
    struct lip__head *h = &j->head[i];
    const lip_shape *s = &j->model->output[i];
    size_t size = lip_shape_count(s);
    char found[96];

    h->c = s->rank ? s->dim[s->rank - 1] : 1;
    h->rows = size / h->c;
    j->n_losses++;
    if (s->rank != 1 && !class_of(h)->pixels)
        return lip__fail(err, LIP_ESHAPE, "the model's output \"%.100s\" has shape %s per sample; %.60s needs one axis",
                         j->model->output_name[i], lip_shape_text(s, found, sizeof found), h->loss->cls->name);
    if (h->c < 2 && (class_of(h)->one_hot || class_of(h)->indices))
        return lip__fail(err, LIP_ESHAPE,
                         "the model's output \"%.100s\" has one number per sample; %.60s needs one for each class",
                         j->model->output_name[i], h->loss->cls->name);
    if (j->model->value[j->model->output_value[i]].producer == LIP__NOWHERE)
        return lip__fail(err, LIP_EUNSUPPORTED, "the model's output \"%.100s\" is its input: nothing can be trained",
                         j->model->output_name[i]);
    if (j->model->n_outputs > 1) {
        size_t length = strlen(j->model->output_name[i]) + sizeof "_loss";
        if (!h->told && !(h->told = lip__alloc(length, 1)))
            return lip__nomem(err, length);
        snprintf(h->told, length, "%s_loss", j->model->output_name[i]);
    }
    lip__loss_begin(h->loss);
    return LIP_OK;
}

lip_err lip__judge_check(struct lip__judge *j, lip_error *err)
{
    const lip_model *m = j->model;
    lip_err rc = LIP_OK;

    for (size_t i = 0; rc == LIP_OK && i < m->n_outputs; i++)
        if (j->head[i].loss)
            rc = set_head(j, i, err);
    for (size_t i = 0; rc == LIP_OK && i < j->n_metrics; i++) {
        lip__metric_begin(j->metric[i].metric);
        rc = lip__metric_check(j->metric[i].metric, j->head[j->metric[i].head].c, m->n_inputs == 1 && m->n_outputs == 1,
                               err);
    }
    if (rc == LIP_OK && 1 + (m->n_outputs > 1 ? j->n_losses : 0) + j->n_metrics > LIP_MAX_METRICS)
        rc = lip__fail_at(err, LIP_EDEFINITION, "/metrics", "%zu losses and %zu metrics; %d figures in all can be told",
                          j->n_losses, j->n_metrics, LIP_MAX_METRICS);
    return rc;
}

bool lip__judge_needs_pairs(const struct lip__judge *j)
{
    for (size_t i = 0; i < j->n_metrics; i++)
        if (lip__metric_needs_pairs(j->metric[i].metric))
            return true;
    return false;
}

/* ---- labels ----------------------------------------------------------------------------------------- */

/* Twice the output's size: as the loss wants them, and room for the form that a metric wants. */
static size_t half(const struct lip__head *h, size_t n)
{
    return lip__round(n * h->rows * h->c);
}

size_t lip__judge_labels_size(const struct lip__judge *j, size_t n)
{
    size_t floats = 0;

    for (size_t i = 0; i < j->model->n_outputs; i++)
        floats += j->head[i].loss ? 2 * half(&j->head[i], n) : 0;
    return floats;
}

size_t lip__judge_scratch(const struct lip__judge *j, size_t n)
{
    size_t most = 0;

    for (size_t i = 0; i < j->model->n_outputs; i++) {
        const struct lip__head *h = &j->head[i];
        size_t need = 4 * h->c + 6 * n * h->rows;
        if (h->loss && need > most)
            most = need;
    }
    return most;
}

static size_t labels_at(const struct lip__judge *j, size_t head, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < head; i++)
        at += j->head[i].loss ? 2 * half(&j->head[i], n) : 0;
    return at;
}

static lip_label_set given(const lip_batch *b, size_t head)
{
    return b->labels ? b->labels[head] : (lip_label_set){b->y_shape, b->y};
}

/* [n, the output's axes but the last], with or without a 1 behind: one number a row. */
static bool is_column(const lip_shape *s, size_t n, const lip_shape *out)
{
    size_t axes = out->rank ? out->rank : 1;

    if (s->rank < axes || s->rank > axes + 1 || s->dim[0] != n || (s->rank == axes + 1 && s->dim[axes] != 1))
        return false;
    for (size_t i = 1; i < axes; i++)
        if (s->dim[i] != out->dim[i - 1])
            return false;
    return true;
}

static bool is_full(const lip_shape *s, size_t n, const lip_shape *out)
{
    if (s->rank != out->rank + 1 || s->dim[0] != n)
        return false;
    for (size_t i = 0; i < out->rank; i++)
        if (s->dim[i + 1] != out->dim[i])
            return false;
    return true;
}

static lip_err check_indices(const struct lip__head *h, size_t n, const float *y, lip_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!(y[i] >= 0 && y[i] < (float)h->c && y[i] == floorf(y[i])))
            return lip__fail(err, LIP_ELABELS, "y_true: sample %zu has class %g; %.60s needs an integer from 0 to %zu",
                             i / h->rows, (double)y[i], h->loss->cls->name, h->c - 1);
    return LIP_OK;
}

static void expand(const float *index, size_t n, size_t c, float *rows)
{
    memset(rows, 0, n * c * sizeof *rows);
    for (size_t i = 0; i < n; i++)
        rows[i * c + (size_t)index[i]] = 1;
}

static lip_err prepare_labels(const struct lip__judge *j, size_t head, const lip_batch *b, float *out, lip_error *err)
{
    const struct lip__head *h = &j->head[head];
    const struct lip__loss_class *loss = class_of(h);
    const lip_label_set y = given(b, head);
    size_t n = b->n * h->rows, at, count = lip_shape_count(&y.shape);
    bool column = y.data && is_column(&y.shape, b->n, &j->model->output[head]);
    bool full = y.data && is_full(&y.shape, b->n, &j->model->output[head]);
    char found[96];
    lip_err rc;

    if (!y.data)
        return lip__fail(err, LIP_ESHAPE, "y_true is missing");
    if (!(column && (h->c == 1 || loss->indices || loss->one_hot)) && !(full && !loss->indices)) {
        char wanted[96];
        lip_shape whole = {.rank = 1, .dim = {b->n}};

        for (size_t i = 0; i < j->model->output[head].rank && !loss->indices && whole.rank < LIP_MAX_RANK; i++)
            whole.dim[whole.rank++] = j->model->output[head].dim[i];
        return lip__fail(err, LIP_ESHAPE, "y_true has shape %s; %.60s on an output of %zu needs %s%s",
                         lip_shape_text(&y.shape, found, sizeof found), loss->cls.name, h->c,
                         loss->one_hot && h->c > 1 ? "class indices or " : "",
                         lip_shape_text(&whole, wanted, sizeof wanted));
    }
    if (!lip__all_finite(y.data, count, &at))
        return lip__fail(err, LIP_ENONFINITE, "y_true holds %g at element %zu", (double)y.data[at], at);
    if ((loss->indices || (column && h->c > 1)) && (rc = check_indices(h, n, y.data, err)) != LIP_OK)
        return rc;
    if (column && h->c > 1 && !loss->indices)
        expand(y.data, n, h->c, out);
    else
        memcpy(out, y.data, count * sizeof *out);
    return loss->check ? loss->check(h->loss, n, h->c, out, err) : LIP_OK;
}

static lip_err check_weights(const lip_batch *b, lip_error *err)
{
    for (size_t i = 0; b->sample_weight && i < b->n; i++)
        if (!(b->sample_weight[i] >= 0) || !isfinite(b->sample_weight[i]))
            return lip__fail(err, isfinite(b->sample_weight[i]) ? LIP_ELABELS : LIP_ENONFINITE,
                             "sample_weight: sample %zu has %g, needs a finite number >= 0", i,
                             (double)b->sample_weight[i]);
    return LIP_OK;
}

lip_err lip__judge_batch(const struct lip__judge *j, const lip_batch *b, float *labels, lip_error *err)
{
    const lip_model *m = j->model;
    size_t at;
    lip_err rc = LIP_OK;

    if (b->n == 0)
        return lip__fail(err, LIP_ESHAPE, "the batch is empty, needs at least one sample");
    if (m->n_inputs > 1 && !b->inputs)
        return lip__fail(err, LIP_ESHAPE, "the model has %zu inputs, the batch one", m->n_inputs);
    if (j->n_losses > 0 && m->n_outputs > 1 && !b->labels)
        return lip__fail(err, LIP_ESHAPE, "the model has %zu outputs, the batch labels of one", m->n_outputs);
    for (size_t i = 0; i < m->n_inputs; i++) {
        const float *x = b->inputs ? b->inputs[i] : b->x;
        size_t size = m->value[i].size;
        if (!lip__all_finite(x, b->n * size, &at))
            return lip__fail(err, LIP_ENONFINITE, "input \"%.100s\" holds %g in sample %zu", m->input_name[i],
                             (double)x[at], at / size);
    }
    if ((rc = check_weights(b, err)) != LIP_OK)
        return rc;
    for (size_t h = 0; rc == LIP_OK && h < m->n_outputs; h++) {
        lip_error why = {0};
        if (!j->head[h].loss)
            continue;
        rc = prepare_labels(j, h, b, labels + labels_at(j, h, b->n), &why);
        if (rc != LIP_OK && m->n_outputs > 1)
            return lip__fail(err, rc, "output \"%.100s\": %.500s", m->output_name[h], why.text);
        if (rc != LIP_OK)
            return lip__fail(err, rc, "%.600s", why.text);
    }
    return rc;
}

/* ---- losses ----------------------------------------------------------------------------------------- */

void lip__judge_now(const struct lip__judge *j, struct lip__loss *now)
{
    pthread_mutex_lock((pthread_mutex_t *)&j->lock);
    for (size_t h = 0; h < j->model->n_outputs; h++)
        if (j->head[h].loss)
            now[h] = *(const struct lip__loss *)j->head[h].loss;
    pthread_mutex_unlock((pthread_mutex_t *)&j->lock);
}

double lip__judge_loss(const struct lip__judge *j, const struct lip__loss *now, const lip_batch *b, const float *labels,
                       size_t head, const float *p, float *dp, float *per_sample, double *mean, double *scratch)
{
    const struct lip__head *h = &j->head[head];

    if (h->weight == 0 && dp) { /* told, but not trained on */
        memset(dp, 0, b->n * h->rows * h->c * sizeof *dp);
        dp = NULL;
    }
    return lip__loss(&now[head].base, &(struct lip__scored){.n = b->n * h->rows,
                                                            .c = h->c,
                                                            .rows = h->rows,
                                                            .y = labels + labels_at(j, head, b->n),
                                                            .p = p,
                                                            .sample_weight = b->sample_weight,
                                                            .weight = h->weight,
                                                            .dp = dp,
                                                            .per_sample = per_sample,
                                                            .mean = mean,
                                                            .scratch = scratch});
}

/* ---- metrics ---------------------------------------------------------------------------------------- */

/* The labels as this metric wants them: the loss's own, or the other form in the room behind. */
static void fit_labels(const struct lip__head *h, enum lip__labels_wanted wanted, size_t n, float *own, float *other,
                       struct lip__judged *judged)
{
    bool indices = class_of(h)->indices;

    judged->y = own;
    judged->indices = indices;
    if (wanted == LIP__ROWS && indices) {
        expand(own, n, h->c, other);
        judged->y = other;
        judged->indices = false;
    } else if (wanted == LIP__INDICES && !indices) {
        for (size_t i = 0; i < n; i++)
            other[i] = (float)lip__argmax(own + i * h->c, h->c);
        judged->y = other;
        judged->indices = true;
    }
}

size_t lip__judge_tell(const struct lip__judge *j, double loss, const double *each, const lip_batch *b, float *labels,
                       const float *const *p, lip_metric *metrics, double *scratch)
{
    size_t n = 0;

    metrics[n++] = (lip_metric){"loss", loss};
    for (size_t h = 0; h < j->model->n_outputs; h++)
        if (j->head[h].told)
            metrics[n++] = (lip_metric){j->head[h].told, each[h]};
    for (size_t i = 0; i < j->n_metrics; i++) {
        const struct lip__told *told = &j->metric[i];
        const struct lip__head *h = &j->head[told->head];
        float *own = labels + labels_at(j, told->head, b->n);
        struct lip__judged judged = {
            .loss = h->loss, .n = b->n * h->rows, .c = h->c, .p = p[told->head], .pairs = b->pairs, .scratch = scratch};

        fit_labels(h, lip__metric_labels(told->metric), judged.n, own, own + half(h, b->n), &judged);
        metrics[n++] = (lip_metric){told->name, lip__metric(told->metric, &judged)};
    }
    return n;
}
