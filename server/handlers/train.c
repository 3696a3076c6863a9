/* train.c: one training step, and evaluation. Both take infer's body with y_true and sample_weight. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "figures.h"
#include "jobs.h"
#include "handlers.h"
#include "train.h"
#include "metrics.h"
#include "settings.h"
#include "store_private.h"
#include "training.h"
#include "training_batch.h"
#include "text.h"

enum { DATASET_BODY_MAX = 65536 }; /* a body that names a dataset is small */
enum { DRY_SAMPLES = 64 };         /* that a dry run looks at */

json_t *metrics_json(const lip_metric *metrics, size_t n)
{
    json_t *json = json_object();
    for (size_t i = 0; i < n; i++)
        json_object_set_new(json, metrics[i].name, codec_real(metrics[i].value));
    return json;
}

/* ---- train_step ----------------------------------------------------------------------------------------------- */

/* What a step that must be on disk goes back to when it cannot get there. */
struct before {
    lip_state *state;
    lip_named *tensors;
    float *slots;
    size_t n;
    uint64_t steps;
};

static void before_clear(struct before *b)
{
    lip_state_free(b->state);
    free(b->tensors);
    free(b->slots);
}

static bool before_take(struct model *model, struct before *b, struct reply *rp)
{
    size_t total = 0;
    lip_error err = {0};

    b->n = lip_trainer_tensors(model->trainer);
    b->steps = lip_trainer_steps(model->trainer);
    for (size_t i = 0; i < b->n; i++) {
        lip_named t = lip_trainer_tensor(model->trainer, i);
        total += lip_shape_count(&t.shape);
    }
    b->tensors = calloc(b->n + 1, sizeof *b->tensors);
    b->slots = malloc((total + 1) * sizeof *b->slots);
    if (!b->tensors || !b->slots || lip_state_copy(model->state, &b->state, &err)) {
        reply_no_memory(rp);
        return false;
    }
    total = 0;
    for (size_t i = 0; i < b->n; i++) {
        size_t count;
        b->tensors[i] = lip_trainer_tensor(model->trainer, i);
        count = lip_shape_count(&b->tensors[i].shape);
        memcpy(b->slots + total, b->tensors[i].data, count * sizeof *b->slots);
        b->tensors[i].data = b->slots + total;
        total += count;
    }
    return true;
}

static void before_restore(struct model *model, struct before *b)
{
    lip_error err = {0};

    lip_state_free(model->state);
    model->state = b->state;
    b->state = NULL;
    if (lip_trainer_load(model->trainer, b->steps, b->tensors, b->n, &err))
        log_error("model %s: the optimizer could not be taken back to step %llu: %s", model->name,
                  (unsigned long long)b->steps, err.text);
}

static bool read_learning_rate(const struct codec_body *body, double *rate, struct reply *rp)
{
    const json_t *v = json_object_get(body->parameters, "learning_rate");

    *rate = NAN;
    if (!v)
        return true;
    if (!json_is_number(v) || json_number_value(v) < 0) {
        reply_at(rp, 400, "bad_parameter", "/parameters/learning_rate", "learning_rate needs a number that is not negative");
        return false;
    }
    *rate = json_number_value(v);
    return true;
}

static json_t *step_parameters(const struct facts *facts, const lip_step_report *r, uint64_t publish_ns)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I}", "step", (json_int_t)r->step, "state_revision",
                     (json_int_t)facts->state_revision, "weights_revision", (json_int_t)facts->weights_revision,
                     "checkpointed_revision", (json_int_t)facts->checkpointed_revision, "learning_rate",
                     codec_real(r->learning_rate), "gradient_norm", codec_real(r->gradient_norm), "skipped", r->skipped,
                     "orthogonalize_ns", (json_int_t)r->orthogonalize_ns, "forward_ns", (json_int_t)r->forward_ns, "backward_ns",
                     (json_int_t)r->backward_ns, "update_ns", (json_int_t)r->update_ns, "publish_ns", (json_int_t)publish_ns);
}

static json_t *step_layers(const lip_step_report *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n_layers; i++) {
        const lip_step_layer *l = &r->layers[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:o, s:o}", "name", l->name, "form", l->form,
                                              "power_iterations", l->power_iterations, "bjorck_iterations", l->bjorck_iterations,
                                              "residual", codec_real_or_null(l->residual), "sigma",
                                              codec_real_or_null(l->sigma)));
    }
    return list;
}

void count_step(struct ctx *ctx, const char *model, const char *version, const lip_step_report *r, uint64_t ns)
{
    char labels[LABELS_MAX], layer[LABELS_MAX + MODEL_NAME_MAX + 32];

    labels_of(labels, model, version);
    metrics_hold(ctx->metrics);
    metrics_add(ctx->metrics, "onelip_train_steps_total", labels, 1);
    if (!r->skipped)
        metrics_set(ctx->metrics, "onelip_train_loss", labels, r->loss);
    metrics_observe(ctx->metrics, "onelip_train_step_duration_seconds", labels, (double)ns / 1e9);
    for (size_t i = 0; i < r->n_layers; i++) {
        metrics_observe(ctx->metrics, "onelip_bjorck_iterations", labels, r->layers[i].bjorck_iterations);
        if (strlen(r->layers[i].name) > MODEL_NAME_MAX || strpbrk(r->layers[i].name, "\"\\\n"))
            continue;
        snprintf(layer, sizeof layer, "%s,layer=\"%s\"", labels, r->layers[i].name);
        metrics_set(ctx->metrics, "onelip_layer_sigma", layer, r->layers[i].sigma);
    }
    metrics_release(ctx->metrics);
}

lip_err step_bound(const struct model *model, lip_batch *batch, lip_certifier **certifier, lip_error *err)
{
    lip_snapshot *snapshot = NULL;
    lip_err rc;

    *certifier = NULL;
    if (!lip_trainer_needs_pairs(model->trainer))
        return LIP_OK;
    if ((rc = lip_state_publish(model->state, &snapshot, err)))
        return rc;
    if (!(rc = lip_certifier_new(snapshot, &(lip_certifier_options){.quick = true}, certifier, err)))
        batch->pairs = lip_certifier_pairs(*certifier);
    lip_snapshot_put(snapshot);
    return rc;
}

json_t *sigmas_json(const struct model *model, bool epoch)
{
    lip_sigmas *list;
    lip_error err = {0};
    json_t *json = NULL;
    size_t n;

    if (lip_trainer_sigmas(model->trainer, model->state, epoch, &list, &n, &err)) {
        log_warning("model %s: %s", model->name, err.text);
        return NULL;
    }
    if (n)
        json = json_object();
    for (size_t i = 0; json && i < n; i++) {
        char key[512];
        json_t *values = json_array();

        snprintf(key, sizeof key, "%.400s_%s_sigmas", list[i].layer, list[i].target);
        for (size_t k = 0; k < list[i].n; k++)
            json_array_append_new(values, codec_real_or_null(list[i].sigma[k]));
        json_object_set_new(json, key, values);
    }
    lip_sigmas_free(list, n);
    return json;
}

json_t *step_telemetry(const struct model *model, const lip_batch *batch, const lip_step_report *r)
{
    uint64_t every = model->recipe->telemetry_every;
    json_t *json = NULL, *sigmas = sigmas_json(model, false);
    lip_snapshot *snapshot = NULL;
    lip_error err = {0};

    if (every && !r->skipped && r->step % every == 0) {
        if (lip_state_publish(model->state, &snapshot, &err) || !(json = telemetry_json(snapshot, batch, &err)))
            log_warning("model %s: no telemetry of step %llu: %s", model->name, (unsigned long long)r->step, err.text);
        lip_snapshot_put(snapshot);
    }
    if (sigmas && !json)
        json = json_object();
    if (sigmas)
        json_object_set_new(json, "sigmas", sigmas);
    return json;
}

lip_step_options step_options(const struct recipe *recipe)
{
    return (lip_step_options){.learning_rate = NAN, .skip_nonfinite = recipe->skip_nonfinite, .lagging = recipe->lagging};
}

/* Under `writing`. */
static void step(struct ctx *ctx, struct model *model, struct batch *b, struct reply *rp)
{
    const struct recipe *recipe = model->recipe;
    lip_step_options options = step_options(recipe);
    lip_step_report report = {0};
    struct before before = {0};
    struct failure f = {0};
    lip_error err = {0};
    struct facts facts;
    uint64_t start = now_ns(), stepped, publish_ns;
    json_t *parameters, *more, *told;

    if (!read_learning_rate(&b->body, &options.learning_rate, rp) || (recipe->sync && !before_take(model, &before, rp)))
        goto done;
    if (step_bound(model, &b->batch, &b->certifier, &err)) {
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
        goto done;
    }
    if (!model_before_step(model, recipe->publish_step, recipe->sync, &f)) {
        reply_failure(rp, &f);
        goto done;
    }
    if (lip_train_step(model->trainer, model->state, &b->batch, &options, &report, &err)) {
        model_unstep(model);
        reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
        goto done;
    }
    stepped = now_ns();
    if (!model_stepped(model, recipe->publish_step, recipe->sync, &f)) {
        before_restore(model, &before);
        model_unstep(model);
        reply_failure(rp, &f);
        goto done;
    }
    pthread_mutex_lock(&model->lock);
    facts = model->facts;
    pthread_mutex_unlock(&model->lock);
    publish_ns = now_ns() - stepped;
    parameters = step_parameters(&facts, &report, publish_ns);
    more = json_pack("{s:o, s:o}", "metrics", metrics_json(report.metrics, report.n_metrics), "layers", step_layers(&report));
    if (more && (told = step_telemetry(model, &b->batch, &report)))
        json_object_set_new(more, "telemetry", told);
    reply_state(rp, model);
    rp->compute_ns = now_ns() - start;
    count_step(ctx, model->name, model->facts.version, &report, rp->compute_ns);
    stats_step(model->stats, &report, publish_ns, rp->compute_ns);
    codec_answer(rp, model->name, model->facts.version, b->body.id, parameters, more, NULL, 0);
    json_decref(parameters);
    json_decref(more);
done:
    before_clear(&before);
}

/* POST /v2/models/{m}/train_step  infer's body with y_true  ->  {"parameters", "metrics", "layers", "outputs":[]} */
void handle_train_step(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const members[] = {"id", "model_name", "model_version", "parameters", "inputs", "outputs", NULL};
    static const char *const none[] = {NULL}, *const rates[] = {"learning_rate", NULL};
    struct batch batch = {0};
    struct model *model;
    uint64_t deadline;

    if (!codec_queries(rq, rp, none) || !(model = write_begin(ctx, rq, rp)))
        return;
    if (!model->recipe)
        reply_error(rp, 409, "training_not_configured", NULL, "training of model '%s' is not configured; PUT /v2/models/%s/training first",
                    model->name, model->name);
    else if (batch_read(rq, model->name, lip_state_model(model->state), members,
                        BATCH_LABELS | (model_casts(model) ? BATCH_CAST : 0) | (model->recipe->skip_nonfinite ? 0 : BATCH_FINITE),
                        json_object_get(model->recipe->config, "loss"), &batch, rp) &&
             native_parameters(ctx, rq, &batch.body, rates, &deadline, rp))
        step(ctx, model, &batch, rp);
    batch_clear(&batch);
    write_end(model);
}

/* ---- evaluate -------------------------------------------------------------------------------------------------- */

/* A judge with the metrics of the request in place of the recipe's. */
static lip_trainer *another_judge(const lip_model *m, const struct recipe *recipe, const json_t *metrics, struct reply *rp)
{
    json_t *config = json_pack("{s:s, s:o, s:o?, s:O}", "optimizer", "sgd", "loss",
                               json_deep_copy(json_object_get(recipe->config, "loss")), "loss_weights",
                               json_deep_copy(json_object_get(recipe->config, "loss_weights")), "metrics", metrics);
    char *text = document_text(config);
    lip_trainer *judge = NULL;
    lip_error err = {0};

    if (!text)
        reply_no_memory(rp);
    else if (lip_trainer_new(m, text, strlen(text), &judge, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, "");
    else
        lip_trainer_follow(judge, recipe->judge);
    free(text);
    json_decref(config);
    return judge;
}

/* evaluate's answer. parameters and metrics are taken over. */
static void evaluated(struct reply *rp, const struct model *model, const struct published *now, const char *id, size_t samples,
                      json_t *metrics)
{
    json_t *parameters = json_pack("{s:I, s:I}", "weights_revision", (json_int_t)now->weights_revision, "samples",
                                   (json_int_t)samples);
    json_t *more = json_pack("{s:o}", "metrics", metrics);
    char etag[ETAG_MAX];

    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_text(rp, "ETag", etag);
    reply_weights_revision(rp, now->weights_revision);
    codec_answer(rp, model->name, now->version, id, parameters, more, NULL, 0);
    json_decref(parameters);
    json_decref(more);
}

/* The body {"dataset": …} as JSON; NULL: it is another one, or the reply says what is wrong. */
static json_t *dataset_body(const struct request *rq, struct reply *rp)
{
    json_t *body = NULL;

    if (rq->bytes < DATASET_BODY_MAX && memmem(rq->body, rq->bytes, "\"dataset\"", 9) &&
        !request_header(rq, "Inference-Header-Content-Length"))
        body = codec_document(rq, rp);
    if (body && !json_object_get(body, "dataset")) {
        json_decref(body);
        body = NULL;
    }
    return body;
}

/* Whether to go on with a dataset: what a request asks between two batches. */
struct asking {
    const struct request *rq;
    uint64_t deadline;
    struct reply *rp;
};

static bool asks(void *arg)
{
    const struct asking *a = arg;

    if (!a->rq->job || job_asked(a->rq->job) == JOB_DONE)
        return go_on(a->rq, a->deadline, a->rp);
    reply_error(a->rp, 503, "draining", NULL, "the evaluation was given up");
    return false;
}

/* The samples of a dataset instead of inputs. */
static void evaluate_dataset(struct ctx *ctx, const struct request *rq, struct reply *rp, struct model *model,
                             struct published *now, const struct recipe *recipe, const json_t *body)
{
    static const char *const members[] = {"id", "parameters", "metrics", "dataset", "batch_size", NULL};
    const char *name = json_string_value(json_object_get(body, "dataset"));
    const json_t *size = json_object_get(body, "batch_size"), *asked = json_object_get(body, "metrics");
    const lip_model *m = lip_snapshot_model(now->snapshot);
    json_int_t batch = size ? json_integer_value(size) : 256;
    struct figures *figures = calloc(1, sizeof *figures);
    lip_trainer *judge = NULL;
    struct dataset *d = NULL;
    struct batches b = {0};
    struct failure f = {0};
    json_t *metrics = NULL;
    uint64_t start = now_ns();
    struct asking asking = {.rq = rq, .rp = rp};

    if (!codec_members(rp, body, "", members) ||
        !native_parameters(ctx, rq, &(struct codec_body){.parameters = json_object_get(body, "parameters")}, NULL, &asking.deadline, rp))
        goto done;
    if (!name || batch < 1 || batch > 65536) {
        reply_at(rp, 400, "bad_parameter", name ? "/batch_size" : "/dataset",
                 name ? "batch_size needs an integer from 1 to 65536" : "dataset needs the name of a dataset");
        goto done;
    }
    if (!figures) {
        reply_no_memory(rp);
        goto done;
    }
    if (asked && !(judge = another_judge(m, recipe, asked, rp)))
        goto done;
    if (!(d = dataset_get(ctx->datasets, name))) {
        reply_at(rp, 404, "unknown_dataset", "/dataset", "there is no dataset '%.140s'", name);
        goto done;
    }
    if (!batches_open(&b, d, m, true, (size_t)batch, &f) ||
        !figures_judge(figures, judge ? judge : recipe->judge, now->snapshot, &b, 0,
                       rq->dry && d->samples > DRY_SAMPLES ? DRY_SAMPLES : d->samples, asks, &asking, &f)) {
        if (f.status) /* else it was not to go on */
            reply_at(rp, f.status, f.code, "/dataset", "%s", f.text);
        goto done;
    }
    rp->compute_ns = now_ns() - start;
    if ((metrics = json_object()) && figures_into(figures, "", metrics)) {
        evaluated(rp, model, now, json_string_value(json_object_get(body, "id")), d->samples, metrics);
    } else {
        json_decref(metrics);
        reply_no_memory(rp);
    }
done:
    batches_close(&b);
    dataset_put(d);
    lip_trainer_free(judge);
    free(figures);
}

static void evaluate(struct ctx *ctx, const struct request *rq, struct reply *rp, struct model *model, struct published *now,
                     const struct recipe *recipe)
{
    static const char *const members[] = {"id", "model_name", "model_version", "parameters", "inputs", "outputs", "metrics", NULL};
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct batch batch = {0};
    lip_metric metrics[LIP_MAX_METRICS];
    lip_trainer *judge = NULL;
    lip_workspace *ws = thread_workspace();
    lip_error err = {0};
    size_t n = 0;
    const json_t *asked;
    uint64_t start, deadline;

    if (!batch_read(rq, model->name, m, members, BATCH_LABELS | BATCH_FINITE | (model_casts(model) ? BATCH_CAST : 0),
                    json_object_get(recipe->config, "loss"), &batch, rp) ||
        !native_parameters(ctx, rq, &batch.body, NULL, &deadline, rp))
        goto done;
    if ((asked = json_object_get(batch.body.json, "metrics")) && !(judge = another_judge(m, recipe, asked, rp)))
        goto done;
    if (!ws) {
        reply_no_memory(rp);
        goto done;
    }
    if (rq->dry && batch.batch.n > DRY_SAMPLES)
        batch.batch.n = DRY_SAMPLES;
    start = now_ns();
    if (!batch_bound(&batch, judge ? judge : recipe->judge, now->snapshot, rp))
        goto done;
    if (lip_evaluate(judge ? judge : recipe->judge, now->snapshot, ws, &batch.batch, metrics, &n, &err)) {
        reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
        goto done;
    }
    rp->compute_ns = now_ns() - start;
    evaluated(rp, model, now, batch.body.id, batch.batch.n, metrics_json(metrics, n));
done:
    lip_trainer_free(judge);
    batch_clear(&batch);
}

/* POST /v2/models/{m}/evaluate  train_step's body  ->  {"metrics", "outputs":[]}: the weights that infer serves */
void handle_evaluate(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct published *now;
    struct recipe *recipe;
    struct model *model;
    json_t *body;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    now = find_judged(model, &recipe, rp);
    if (now && !recipe)
        reply_error(rp, 409, "training_not_configured", NULL, "training of model '%s' is not configured: there is no loss",
                    model->name);
    else if (now && (body = dataset_body(rq, rp))) {
        evaluate_dataset(ctx, rq, rp, model, now, recipe, body);
        json_decref(body);
    } else if (now && !rp->status) {
        evaluate(ctx, rq, rp, model, now, recipe);
    }
    recipe_put(recipe);
    published_put(now);
    store_put(model);
}
