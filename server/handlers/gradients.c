/* gradients.c: gradients with respect to the inputs, of the weights that infer serves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "training_batch.h"
#include "handlers.h"
#include "store_private.h"

struct asked {
    lip_gradient g;
    int64_t *label;
    double *value;
    float **dx;
};

static void asked_clear(struct asked *a, size_t inputs)
{
    for (size_t i = 0; a->dx && i < inputs; i++)
        free(a->dx[i]);
    free(a->dx);
    free(a->value);
    free(a->label);
}

static bool read_of(const struct codec_body *body, lip_gradient *g, struct reply *rp)
{
    static const char *const words[] = {"margin", "output", "product", "loss"};
    const json_t *of = json_object_get(body->parameters, "of");
    const char *word = of ? json_string_value(of) : words[0];

    for (int i = 0; word && i < 4; i++)
        if (!strcmp(word, words[i])) {
            g->of = (lip_gradient_of)i;
            return true;
        }
    reply_at(rp, 400, "bad_parameter", "/parameters/of",
             "of needs one of \"margin\", \"output\", \"loss\" and \"product\"");
    return false;
}

/* parameters.output by name, parameters.index; index is needed by `output`, and only there. */
static bool read_which(const struct codec_body *body, const lip_model *m, lip_gradient *g, struct reply *rp)
{
    const json_t *output = json_object_get(body->parameters, "output"),
                 *index = json_object_get(body->parameters, "index");
    const char *name = json_string_value(output);

    if (output) {
        while (name && g->output < lip_model_outputs(m) && strcmp(lip_model_output_name(m, g->output), name))
            g->output++;
        if (!name || g->output == lip_model_outputs(m)) {
            reply_at(rp, 400, "unknown_output", "/parameters/output",
                     "output needs the name of an output; '%.100s' is none", name ? name : "");
            return false;
        }
    } else if (lip_model_outputs(m) > 1 && g->of != LIP_OF_LOSS) {
        reply_at(rp, 400, "bad_parameter", "/parameters/output",
                 "the model has %zu outputs: output needs the name of one", lip_model_outputs(m));
        return false;
    }
    if (!index != (g->of != LIP_OF_OUTPUT) || (index && (!json_is_integer(index) || json_integer_value(index) < 0))) {
        reply_at(rp, 400, "bad_parameter", "/parameters/index",
                 g->of == LIP_OF_OUTPUT ? "index needs an integer that is not negative"
                                        : "index goes with of \"output\" only");
        return false;
    }
    g->index = (size_t)json_integer_value(index);
    return true;
}

static bool read_cotangent(struct batch *b, const lip_model *m, lip_gradient *g, struct reply *rp)
{
    const struct codec_tensor *t = codec_find(&b->body, "cotangent");
    const lip_shape *shape = lip_model_output_shape(m, g->output);
    char pointer[64];

    if (g->of != LIP_OF_PRODUCT || !t) {
        if (g->of == LIP_OF_PRODUCT || t)
            reply_at(rp, 400, t ? "unknown_input" : "missing_input", "/inputs",
                     t ? "cotangent goes with of \"product\" only"
                       : "of \"product\" needs an input cotangent of the output's shape");
        return g->of != LIP_OF_PRODUCT && !t;
    }
    snprintf(pointer, sizeof pointer, "/inputs/%zu/shape", t->index);
    if (t->shape.rank != shape->rank + 1 || t->shape.dim[0] != b->batch.n ||
        memcmp(t->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim)) {
        char got[96];
        reply_at(rp, 400, "shape_mismatch", pointer,
                 "cotangent has shape %s, needs one number for each of output '%.100s'",
                 lip_shape_text(&t->shape, got, sizeof got), lip_model_output_name(m, g->output));
        return false;
    }
    g->cotangent = b->cotangent = codec_floats(t, rp);
    return g->cotangent != NULL;
}

/* Labels of a margin as classes. */
static bool read_classes(struct batch *b, const lip_model *m, struct asked *a, struct reply *rp)
{
    const lip_label_set *y = &b->labels[a->g.output];
    lip_error err = {0};

    if (a->g.of != LIP_OF_MARGIN || !y->data)
        return true;
    if (!(a->label = calloc(b->batch.n, sizeof *a->label))) {
        reply_no_memory(rp);
        return false;
    }
    if (lip_labels(b->batch.n, lip_shape_count(lip_model_output_shape(m, a->g.output)), &y->shape, y->data, a->label,
                   &err)) {
        reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
        return false;
    }
    a->g.label = a->label;
    return true;
}

static bool reserve(const struct batch *b, const lip_model *m, struct asked *a, struct reply *rp)
{
    bool ok = (a->value = calloc(b->batch.n, sizeof *a->value)) && (a->dx = calloc(b->inputs, sizeof *a->dx));

    for (size_t i = 0; ok && i < b->inputs; i++)
        ok = (a->dx[i] = calloc(b->batch.n * lip_shape_count(lip_model_input_shape(m, i)) + 1, sizeof **a->dx)) != NULL;
    if (!ok)
        reply_no_memory(rp);
    return ok;
}

static void answer(struct reply *rp, const struct model *model, const struct published *now, const struct batch *b,
                   const struct asked *a)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct codec_result *results = calloc(b->inputs + 1, sizeof *results);
    size_t n = b->inputs + 1;
    char etag[ETAG_MAX];
    json_t *parameters;

    if (!results) {
        reply_no_memory(rp);
        return;
    }
    results[0] =
        (struct codec_result){.name = "value", .shape = {1, {b->batch.n}}, .data = a->value, .type = CODEC_FP64};
    for (size_t i = 0; i < b->inputs; i++) {
        const lip_shape *shape = lip_model_input_shape(m, i);
        struct codec_result *r = &results[i + 1];
        *r = (struct codec_result){.name = lip_model_input_name(m, i), .data = a->dx[i], .type = CODEC_FP32};
        r->shape.rank = shape->rank + 1;
        r->shape.dim[0] = b->batch.n;
        memcpy(r->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim);
    }
    if (codec_choose(&b->body, model->name, results, &n, rp)) {
        etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
        reply_text(rp, "ETag", etag);
        reply_weights_revision(rp, now->weights_revision);
        parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
        codec_answer(rp, model->name, now->version, b->body.id, parameters, NULL, results, n);
        json_decref(parameters);
    }
    free(results);
}

/* recipe: NULL where training is not configured. */
static void gradients(struct ctx *ctx, const struct request *rq, struct reply *rp, struct model *model, struct published *now,
                      const struct recipe *recipe)
{
    static const char *const members[] = {"id", "model_name", "model_version", "parameters", "inputs", "outputs", NULL};
    static const char *const extra[] = {"of", "index", "output", NULL};
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct batch b = {0};
    struct asked a = {0};
    lip_error err = {0};
    uint64_t start, deadline;

    if (!batch_read(rq, model->name, m, members, BATCH_COTANGENT | (model_casts(model) ? BATCH_CAST : 0), NULL, &b, rp) ||
        !native_parameters(ctx, rq, &b.body, extra, &deadline, rp) || !read_of(&b.body, &a.g, rp) || !read_which(&b.body, m, &a.g, rp) ||
        !read_cotangent(&b, m, &a.g, rp) || !read_classes(&b, m, &a, rp))
        goto done;
    if (a.g.of == LIP_OF_LOSS && !recipe) {
        reply_error(rp, 409, "training_not_configured", NULL,
                    "training of model '%s' is not configured: there is no loss", model->name);
        goto done;
    }
    if (a.g.of == LIP_OF_LOSS && !batch_labelled(&b, model->name, m, json_object_get(recipe->config, "loss"), rp))
        goto done;
    if (!reserve(&b, m, &a, rp))
        goto done;
    if (a.g.of == LIP_OF_LOSS) {
        a.g.loss = recipe->judge;
        a.g.batch = &b.batch;
    }
    start = now_ns();
    if (lip_gradients(now->snapshot, &a.g, b.batch.n, b.x, a.value, a.dx, &err)) {
        if (err.code == LIP_ERANGE) /* index or label: neither is a tensor's shape */
            reply_at(rp, a.g.of == LIP_OF_MARGIN ? 422 : 400, a.g.of == LIP_OF_MARGIN ? "bad_labels" : "bad_parameter",
                     a.g.of == LIP_OF_MARGIN ? "/inputs" : "/parameters/index", "%s", err.text);
        else
            reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
        goto done;
    }
    rp->compute_ns = now_ns() - start;
    answer(rp, model, now, &b, &a);
done:
    asked_clear(&a, b.inputs);
    batch_clear(&b);
}

/* POST /v2/models/{m}/gradients  infer's body, maybe y_true or cotangent  ->  "value" and each input's gradient */
void handle_gradients(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct published *now;
    struct recipe *recipe;
    struct model *model;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_judged(model, &recipe, rp)))
        gradients(ctx, rq, rp, model, now, recipe);
    recipe_put(recipe);
    published_put(now);
    store_put(model);
}
