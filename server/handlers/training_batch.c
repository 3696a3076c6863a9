/* training_batch.c: infer's body with labels, weights and cotangents, as a batch. */
#include "training_batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void batch_clear(struct batch *b)
{
    codec_clear_body(&b->body);
    for (size_t i = 0; b->owned && i < b->inputs; i++)
        free(b->owned[i]);
    for (size_t i = 0; b->y && i < b->outputs; i++)
        free(b->y[i]);
    free(b->owned);
    free(b->x);
    free(b->y);
    free(b->labels);
    free(b->weight);
    free(b->cotangent);
    lip_certifier_free(b->certifier);
}

/* NaN and Inf: which input, and where. */
static bool all_finite(struct batch *b, const char *name, const float *x, size_t n, struct reply *rp)
{
    const struct codec_tensor *t = codec_find(&b->body, name);
    char pointer[48];
    size_t at = 0;

    while (x && at < n && isfinite(x[at]))
        at++;
    if (!x || at == n)
        return true;
    snprintf(pointer, sizeof pointer, "/inputs/%zu", t ? t->index : 0);
    reply_at(rp, 422, "nonfinite", pointer, "input '%s' holds %s at element %zu", name,
             isnan(x[at]) ? "NaN" : "an infinity", at);
    return false;
}

static bool batch_axis(const struct codec_tensor *t, const char *model, size_t n, struct reply *rp)
{
    char pointer[64];

    snprintf(pointer, sizeof pointer, "/inputs/%zu/shape", t->index);
    if (t->shape.rank && t->shape.dim[0] == n)
        return true;
    reply_at(rp, 400, "shape_mismatch", pointer,
             "input '%s' batch size does not match other inputs for '%s': %zu samples, got %zu", t->name, model, n,
             t->shape.rank ? t->shape.dim[0] : 1);
    return false;
}

/* "y_true", or "y_true:<output>" of several. */
static void label_name(const lip_model *m, size_t output, char *name, size_t size)
{
    if (lip_model_outputs(m) == 1)
        snprintf(name, size, "y_true");
    else
        snprintf(name, size, "y_true:%s", lip_model_output_name(m, output));
}

enum { NAME_MAX_ = 512 };

static bool wants(const lip_model *m, const json_t *losses, size_t output)
{
    bool by_output = json_is_object(losses) && !json_object_get(losses, "class_name");

    return losses && (!by_output || json_object_get(losses, lip_model_output_name(m, output)));
}

bool batch_labelled(struct batch *b, const char *model, const lip_model *m, const json_t *losses, struct reply *rp)
{
    for (size_t i = 0; i < b->outputs; i++) {
        char name[NAME_MAX_];

        label_name(m, i, name, sizeof name);
        if (!wants(m, losses, i) || (!b->body.raw && codec_find(&b->body, name)))
            continue;
        reply_at(rp, 400, "missing_input", "/inputs",
                 "expected %zu inputs but got %zu inputs for model '%s': missing required input(s) ['%s']",
                 b->inputs + b->outputs, b->body.n_inputs, model, name);
        return false;
    }
    return true;
}

static bool read_labels(struct batch *b, const char *model, const lip_model *m, unsigned what, const json_t *losses,
                        struct reply *rp)
{
    if (what & BATCH_LABELS && !batch_labelled(b, model, m, losses, rp))
        return false;
    for (size_t i = 0; i < b->outputs; i++) {
        char name[NAME_MAX_];
        struct codec_tensor *t;

        label_name(m, i, name, sizeof name);
        if (!(t = codec_find(&b->body, name)))
            continue;
        if (!batch_axis(t, model, b->batch.n, rp) || !(b->y[i] = codec_floats(t, rp)) ||
            (what & BATCH_FINITE && !all_finite(b, name, b->y[i], t->count, rp)))
            return false;
        b->labels[i] = (lip_label_set){t->shape, b->y[i]};
    }
    if (b->outputs == 1) {
        b->batch.y = b->labels[0].data;
        b->batch.y_shape = b->labels[0].shape;
    } else {
        b->batch.labels = b->labels;
    }
    return true;
}

static bool read_weights(struct batch *b, const char *model, unsigned what, struct reply *rp)
{
    const struct codec_tensor *t = codec_find(&b->body, "sample_weight");
    char pointer[64];

    if (!t)
        return true;
    if (!batch_axis(t, model, b->batch.n, rp))
        return false;
    if (t->count != b->batch.n) {
        snprintf(pointer, sizeof pointer, "/inputs/%zu/shape", t->index);
        reply_at(rp, 400, "shape_mismatch", pointer, "sample_weight needs one number per sample, %zu, got %zu",
                 b->batch.n, t->count);
        return false;
    }
    b->batch.sample_weight = b->weight = codec_floats(t, rp);
    return b->weight && (!(what & BATCH_FINITE) || all_finite(b, "sample_weight", b->weight, b->batch.n, rp));
}

/* The names that may come beside the model's inputs. */
static char **other_names(const lip_model *m, unsigned what)
{
    size_t outputs = lip_model_outputs(m), n = 0;
    char **names = calloc(outputs + 3, sizeof *names);

    for (size_t i = 0; names && i < outputs; i++) {
        char name[NAME_MAX_];
        label_name(m, i, name, sizeof name);
        names[n++] = strdup(name);
    }
    if (names)
        names[n++] = strdup("sample_weight");
    if (names && what & BATCH_COTANGENT)
        names[n++] = strdup("cotangent");
    return names;
}

static void free_names(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

bool batch_read(const struct request *rq, const char *model, const lip_model *m, const char *const *members,
                unsigned what, const json_t *losses, struct batch *b, struct reply *rp)
{
    char **others;
    bool ok;

    b->inputs = lip_model_inputs(m);
    b->outputs = lip_model_outputs(m);
    b->x = calloc(b->inputs, sizeof *b->x);
    b->owned = calloc(b->inputs, sizeof *b->owned);
    b->y = calloc(b->outputs, sizeof *b->y);
    b->labels = calloc(b->outputs, sizeof *b->labels);
    if (!b->x || !b->owned || !b->y || !b->labels) {
        reply_no_memory(rp);
        return false;
    }
    if (!codec_read_body(rq, model, members, &b->body, rp))
        return false;
    if (b->body.raw && what & BATCH_LABELS) {
        reply_error(rp, 400, "bad_request", NULL, "a raw binary request holds one input, but y_true is needed as well");
        return false;
    }
    if (!(others = other_names(m, what))) {
        reply_no_memory(rp);
        return false;
    }
    ok = codec_inputs(&b->body, model, m, (const char *const *)others, what & BATCH_CAST, &b->batch.n, b->x, b->owned, rp);
    free_names(others);
    if (!ok)
        return false;
    b->batch.x = b->x[0];
    b->batch.inputs = b->x;
    if (b->batch.n == 0) {
        reply_at(rp, 400, "shape_mismatch", "/inputs", "the batch needs at least one sample");
        return false;
    }
    for (size_t i = 0; what & BATCH_FINITE && i < b->inputs; i++)
        if (!all_finite(b, lip_model_input_name(m, i), b->x[i],
                        b->batch.n * lip_shape_count(lip_model_input_shape(m, i)), rp))
            return false;
    return b->body.raw || (read_labels(b, model, m, what, losses, rp) && read_weights(b, model, what, rp));
}

bool batch_bound(struct batch *b, const lip_trainer *trainer, const lip_snapshot *snapshot, struct reply *rp)
{
    lip_error err = {0};

    if (!lip_trainer_needs_pairs(trainer))
        return true;
    if (lip_certifier_new(snapshot, NULL, &b->certifier, &err)) {
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
        return false;
    }
    b->batch.pairs = lip_certifier_pairs(b->certifier);
    return true;
}

struct published *find_judged(struct model *model, struct recipe **recipe, struct reply *rp)
{
    struct published *now = NULL;

    *recipe = NULL;
    do { /* they may be of two definitions when a PUT comes between: then take both again */
        published_put(now);
        recipe_put(*recipe);
        now = find_now(model, rp);
        *recipe = now ? model_recipe(model) : NULL;
    } while (*recipe && (*recipe)->model != lip_snapshot_model(now->snapshot));
    return now;
}
