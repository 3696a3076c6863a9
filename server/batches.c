#include "batches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "courtesy.h"

static bool is_label(const char *name)
{
    return !strcmp(name, "y_true") || !strncmp(name, "y_true:", 7);
}

/* The only tensor that is neither labels nor weights; NULL when there are several. */
static const struct dataset_tensor *only_input(const struct dataset *d)
{
    const struct dataset_tensor *found = NULL;

    for (size_t i = 0; i < d->n; i++) {
        if (is_label(d->tensor[i].name) || !strcmp(d->tensor[i].name, "sample_weight"))
            continue;
        if (found)
            return NULL;
        found = &d->tensor[i];
    }
    return found;
}

static bool find_inputs(struct batches *b, const lip_model *m, struct failure *f)
{
    const struct dataset *d = b->dataset;

    b->n_inputs = lip_model_inputs(m);
    if (b->n_inputs > BATCH_INPUTS)
        return failure_set(f, 501, "unsupported", "models of more than %d inputs are not trained from datasets", BATCH_INPUTS);
    for (size_t i = 0; i < b->n_inputs; i++) {
        const char *name = lip_model_input_name(m, i);
        const lip_shape *shape = lip_model_input_shape(m, i);
        const struct dataset_tensor *t = dataset_find(d, name);
        size_t wanted = lip_shape_count(shape), row;
        char needs[96], has[96];

        if (!t && b->n_inputs == 1)
            t = only_input(d);
        if (!t)
            return failure_set(f, 400, "missing_input", "dataset '%s' has no tensor \"%.128s\", the model's input", d->name, name);
        if ((row = t->row / codec_type_size(t->type)) != wanted)
            return failure_set(f, 400, "shape_mismatch",
                               "tensor \"%s\" of dataset '%s' has shape %s, %zu numbers a sample; input '%.128s' needs %s, %zu", t->name,
                               d->name, lip_shape_text(&t->shape, has, sizeof has), row, name,
                               lip_shape_text(shape, needs, sizeof needs), wanted);
        b->input[i].tensor = t;
    }
    return true;
}

static bool find_labels(struct batches *b, const lip_model *m, bool labelled, struct failure *f)
{
    const struct dataset *d = b->dataset;
    bool some = false;

    b->n_outputs = lip_model_outputs(m);
    if (b->n_outputs > BATCH_INPUTS)
        return failure_set(f, 501, "unsupported", "models of more than %d outputs are not trained from datasets", BATCH_INPUTS);
    for (size_t i = 0; i < b->n_outputs; i++) {
        char name[ARRAY_NAME_MAX + 16];
        snprintf(name, sizeof name, "y_true:%.128s", lip_model_output_name(m, i));
        b->label[i].tensor = dataset_find(d, name);
        if (!b->label[i].tensor && b->n_outputs == 1)
            b->label[i].tensor = dataset_find(d, "y_true");
        some |= b->label[i].tensor != NULL;
    }
    if (labelled && !some)
        return failure_set(f, 400, "missing_input", "dataset '%s' has no tensor \"y_true\"", d->name);
    b->weight.tensor = dataset_find(d, "sample_weight");
    if (b->weight.tensor && b->weight.tensor->row != codec_type_size(b->weight.tensor->type))
        return failure_set(f, 400, "shape_mismatch", "sample_weight of dataset '%s' needs one number per sample", d->name);
    return true;
}

/* Room for one column of a batch. *raw: the largest one's bytes. */
static bool room(struct batch_column *c, size_t samples, size_t *raw, struct failure *f)
{
    size_t floats;

    if (!c->tensor)
        return true;
    if (__builtin_mul_overflow(c->tensor->row / codec_type_size(c->tensor->type), samples * sizeof(float), &floats) ||
        !(c->x = malloc(floats + 64)))
        return failure_set(f, 503, "out_of_memory", "out of memory for a batch of %zu samples", samples);
    if (c->tensor->row * samples > *raw)
        *raw = c->tensor->row * samples;
    return true;
}

bool batches_open(struct batches *b, struct dataset *dataset, const lip_model *model, bool labelled, size_t largest,
                  struct failure *f)
{
    size_t raw = 1;
    bool ok;

    *b = (struct batches){.dataset = dataset, .largest = largest < dataset->samples ? largest : dataset->samples};
    atomic_fetch_add(&dataset->refs, 1);
    ok = dataset->damage ? failure_set(f, 422, "bad_file", "dataset '%s' is damaged: %s", dataset->name, dataset->damage)
                         : find_inputs(b, model, f) && find_labels(b, model, labelled, f) && room(&b->weight, b->largest, &raw, f);
    for (size_t i = 0; ok && i < b->n_inputs; i++)
        ok = room(&b->input[i], b->largest, &raw, f);
    for (size_t i = 0; ok && i < b->n_outputs; i++)
        ok = room(&b->label[i], b->largest, &raw, f);
    if (ok && !(b->raw = malloc(raw)))
        ok = failure_set(f, 503, "out_of_memory", "out of memory for a batch");
    if (!ok)
        batches_close(b);
    return ok;
}

void batches_close(struct batches *b)
{
    for (size_t i = 0; i < BATCH_INPUTS; i++) {
        free(b->input[i].x);
        free(b->label[i].x);
    }
    free(b->weight.x);
    free(b->raw);
    dataset_put(b->dataset);
    *b = (struct batches){0};
}

bool batches_classes(const struct batches *b, const lip_model *m, struct failure *f)
{
    for (size_t i = 0; i < b->n_outputs; i++) {
        const struct dataset_tensor *t = b->label[i].tensor;
        const lip_shape *shape = lip_model_output_shape(m, i);
        size_t width = shape->rank ? shape->dim[shape->rank - 1] : 1;

        if (t && width > 1 && t->row == codec_type_size(t->type) && lip_shape_count(shape) == width &&
            (t->min < 0 || t->max >= (double)width))
            return failure_set(f, 422, "bad_labels", "tensor \"%s\" has classes from %g to %g, the model's output has %zu", t->name,
                               t->min, t->max, width);
    }
    return true;
}

static bool read_column(struct batches *b, struct batch_column *c, const size_t *rows, size_t n, struct failure *f)
{
    return !c->tensor || dataset_rows(b->dataset, c->tensor, rows, n, b->raw, c->x, f);
}

bool batches_read(struct batches *b, const size_t *rows, size_t n, lip_batch *batch, struct failure *f)
{
    *batch = (lip_batch){.n = n};
    courtesy_rest();
    for (size_t i = 0; i < b->n_inputs; i++) {
        if (!read_column(b, &b->input[i], rows, n, f))
            return false;
        b->inputs[i] = b->input[i].x;
    }
    for (size_t i = 0; i < b->n_outputs; i++) {
        if (!read_column(b, &b->label[i], rows, n, f))
            return false;
        b->labels[i] = (lip_label_set){.data = b->label[i].x};
        if (b->label[i].tensor) {
            b->labels[i].shape = b->label[i].tensor->shape;
            b->labels[i].shape.dim[0] = n;
        }
    }
    if (!read_column(b, &b->weight, rows, n, f))
        return false;
    batch->x = b->inputs[0];
    batch->y = b->labels[0].data;
    batch->y_shape = b->labels[0].shape;
    batch->sample_weight = b->weight.x;
    if (b->n_inputs > 1)
        batch->inputs = b->inputs;
    if (b->n_outputs > 1)
        batch->labels = b->labels;
    return true;
}
