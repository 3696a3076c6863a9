/* train_job.c: epochs of training steps over a dataset.
 *
 * The head's lock is held for one step at a time, so whoever waits for it comes next. After every step the position (epoch,
 * batch, sums of the epoch's figures) is in model->positions, which every save of the model writes with the weights: a run that is
 * interrupted, by a crash too, finds the two together and goes on bit for bit. The order of the samples needs no place on
 * disk: it follows from the seed and the number of the epoch. What the end of an epoch does to the head (callbacks, checkpoints,
 * going back to the best) is several saves: the position says which part is done, so none of it is done twice.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "batches.h"
#include "ctx.h"
#include "figures.h"
#include "handlers/common.h"
#include "handlers/train.h"
#include "handlers/training.h"
#include "jobs.h"
#include "store_private.h"

#define TELL_NS ((uint64_t)EVENTS_COALESCE_MS * 1000000u)
enum { EPOCHS_MAX = 1000000, BATCH_MAX = 65536, KEEP_MAX = 1000, GIVE_WAY_US = 50, GIVE_WAY_MOST = 400 };

/* ---- what a request asks for ------------------------------------------------------------------------------------- */

struct plan {
    const char *dataset, *validation; /* validation NULL: none of its own */
    const json_t *training;           /* merge-patch, or NULL */
    uint64_t epochs, first, batch, seed, checkpoint_every, keep; /* checkpoint_every 0: never */
    double split;
    bool shuffle;
};

/* From a request that was checked. */
static struct plan plan_of(const json_t *request)
{
    const json_t *every = json_object_get(request, "checkpoint_every");

    return (struct plan){.dataset = json_string_value(json_object_get(request, "dataset")),
                         .validation = json_string_value(json_object_get(request, "validation_dataset")),
                         .training = json_object_get(request, "training"),
                         .epochs = (uint64_t)json_integer_value(json_object_get(request, "epochs")),
                         .first = (uint64_t)json_integer_value(json_object_get(request, "initial_epoch")),
                         .batch = (uint64_t)json_integer_value(json_object_get(request, "batch_size")),
                         .seed = (uint64_t)json_integer_value(json_object_get(request, "seed")),
                         .keep = (uint64_t)json_integer_value(json_object_get(request, "keep_checkpoints")),
                         .checkpoint_every = json_is_integer(every) ? (uint64_t)json_integer_value(every)
                                             : json_string_value(every) && !strcmp(json_string_value(every), "epoch") ? 1 : 0,
                         .split = json_number_value(json_object_get(request, "validation_split")),
                         .shuffle = json_is_true(json_object_get(request, "shuffle"))};
}

/* An integer with a default, which is written into the request. */
static bool integer(json_t *request, const char *name, json_int_t least, json_int_t most, json_int_t standard, struct reply *rp)
{
    const json_t *v = json_object_get(request, name);
    char pointer[64];

    if (!v)
        return json_object_set_new(request, name, json_integer(standard)) == 0;
    if (json_is_integer(v) && json_integer_value(v) >= least && json_integer_value(v) <= most)
        return true;
    snprintf(pointer, sizeof pointer, "/%s", name);
    reply_at(rp, 400, "bad_parameter", pointer, "%s needs an integer from %lld to %lld", name, (long long)least, (long long)most);
    return false;
}

static bool wrong(struct reply *rp, const char *pointer, const char *text)
{
    reply_at(rp, 400, "bad_parameter", pointer, "%s", text);
    return false;
}

static bool check_members(json_t *request, struct reply *rp)
{
    static const char *const members[] = {"type", "model", "resume", "metadata", "dataset", "validation_dataset", "validation_split",
                                          "epochs", "initial_epoch", "batch_size", "shuffle", "seed", "training",
                                          "checkpoint_every", "keep_checkpoints", NULL};
    const json_t *v;
    uint64_t chance = 0;

    if (!codec_members(rp, request, "", members))
        return false;
    if (!json_is_string(json_object_get(request, "dataset")))
        return wrong(rp, "/dataset", "dataset needs the name of a dataset");
    if ((v = json_object_get(request, "validation_dataset")) && !json_is_string(v))
        return wrong(rp, "/validation_dataset", "validation_dataset needs the name of a dataset");
    if ((v = json_object_get(request, "validation_split")) &&
        (!json_is_number(v) || json_number_value(v) < 0 || json_number_value(v) >= 1))
        return wrong(rp, "/validation_split", "validation_split needs a number from 0 to below 1");
    if (v && json_number_value(v) > 0 && json_object_get(request, "validation_dataset"))
        return wrong(rp, "/validation_split", "there is a validation_dataset already");
    if ((v = json_object_get(request, "shuffle")) && !json_is_boolean(v))
        return wrong(rp, "/shuffle", "shuffle needs true or false");
    if (!v)
        json_object_set_new(request, "shuffle", json_true());
    if ((v = json_object_get(request, "training")) && !json_is_object(v))
        return wrong(rp, "/training", "training needs to be an object, a merge-patch of the training resource");
    v = json_object_get(request, "checkpoint_every");
    if (v && !json_is_integer(v) &&
        (!json_is_string(v) || (strcmp(json_string_value(v), "epoch") && strcmp(json_string_value(v), "never"))))
        return wrong(rp, "/checkpoint_every", "checkpoint_every needs \"epoch\", \"never\" or a number of epochs");
    if (json_is_integer(v) && (json_integer_value(v) < 1 || json_integer_value(v) > EPOCHS_MAX))
        return wrong(rp, "/checkpoint_every", "checkpoint_every needs at least one epoch");
    if (!v)
        json_object_set_new(request, "checkpoint_every", json_string("epoch"));
    if (getrandom(&chance, sizeof chance, 0) != sizeof chance)
        chance = now_ns();
    if (!integer(request, "epochs", 1, EPOCHS_MAX, 1, rp) || !integer(request, "initial_epoch", 0, EPOCHS_MAX, 0, rp) ||
        !integer(request, "batch_size", 1, BATCH_MAX, 32, rp) || !integer(request, "keep_checkpoints", 0, KEEP_MAX, 3, rp) ||
        !integer(request, "seed", 0, ((json_int_t)1 << 53) - 1, (json_int_t)(chance >> 11), rp))
        return false;
    if (json_integer_value(json_object_get(request, "initial_epoch")) >= json_integer_value(json_object_get(request, "epochs")))
        return wrong(rp, "/initial_epoch", "initial_epoch needs to be below epochs");
    return true;
}

/* How many of n samples are trained on; the rest, at the end, validates. */
static size_t trained_on(size_t n, double split)
{
    return split > 0 ? (size_t)((double)n * (1 - split)) : n;
}

static uint64_t steps_of(const struct plan *p, size_t samples)
{
    return (samples + p->batch - 1) / p->batch;
}

/* ---- checks before it is a job ---------------------------------------------------------------------------------------- */

static void say(struct reply *rp, const struct failure *f, const char *pointer)
{
    reply_at(rp, f->status, f->code, pointer, "%s", f->text);
}

/* The dataset against the model and, by its first batch, against the loss. */
static bool check_data(struct ctx *ctx, const char *name, const char *pointer, struct published *now, const struct recipe *recipe,
                       const struct plan *p, uint64_t *samples, char id[17], struct reply *rp)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct dataset *d = dataset_get(ctx->datasets, name);
    size_t rows[64], n = sizeof rows / sizeof *rows;
    lip_metric metrics[LIP_MAX_METRICS];
    lip_workspace *ws = thread_workspace();
    struct batches b = {0};
    struct failure f = {0};
    lip_error err = {0};
    lip_batch batch;
    size_t n_metrics;

    if (!d) {
        reply_at(rp, 404, "unknown_dataset", pointer, "there is no dataset '%.140s'", name);
        return false;
    }
    if (n > p->batch)
        n = p->batch;
    if (n > d->samples)
        n = d->samples;
    for (size_t i = 0; i < n; i++)
        rows[i] = i;
    *samples = d->samples;
    memcpy(id, d->id, sizeof d->id);
    if (!ws)
        reply_no_memory(rp);
    else if (!batches_open(&b, d, m, true, n, &f) || !batches_read(&b, rows, n, &batch, &f) || !batches_classes(&b, m, &f))
        say(rp, &f, pointer);
    else if (!lip_trainer_needs_pairs(recipe->judge) &&
             lip_evaluate(recipe->judge, now->snapshot, ws, &batch, metrics, &n_metrics, &err))
        reply_lip_error(rp, &err, ABOUT_TENSORS, pointer);
    batches_close(&b);
    dataset_put(d);
    return !rp->status;
}

static bool check_with(struct ctx *ctx, struct job *job, struct model *model, struct published *now, const struct recipe *recipe,
                       const struct plan *p, struct reply *rp)
{
    char data[17] = "", validation[17] = "";
    struct recipe *patched = NULL;
    lip_trainer *trainer = NULL;
    json_t *config = NULL;
    uint64_t samples, others;
    size_t n;
    bool ok = false;

    (void)model;
    if (p->training) {
        if (!(config = training_merge(recipe->config, p->training)))
            reply_no_memory(rp);
        else if (!training_make(lip_snapshot_model(now->snapshot), config, "/training", &patched, &trainer, rp))
            goto done;
        recipe = patched;
    }
    if (rp->status || !check_data(ctx, p->dataset, "/dataset", now, recipe, p, &samples, data, rp) ||
        (p->validation && !check_data(ctx, p->validation, "/validation_dataset", now, recipe, p, &others, validation, rp)))
        goto done;
    n = trained_on(samples, p->split);
    if (!n || (p->split > 0 && n == samples)) {
        reply_at(rp, 400, "bad_parameter", "/validation_split", "%zu samples leave nothing on one side of the split", (size_t)samples);
        goto done;
    }
    job->epochs = p->epochs;
    job->epoch = p->first;
    job->total_steps = (p->epochs - p->first) * steps_of(p, n);
    job->internal = json_pack("{s:s, s:s}", "dataset", data, "validation_dataset", validation);
    ok = job->internal != NULL;
    if (!ok)
        reply_no_memory(rp);
done:
    recipe_put(patched);
    lip_trainer_free(trainer);
    json_decref(config);
    return ok;
}

static bool check(struct ctx *ctx, struct job *job, json_t *request, struct reply *rp)
{
    struct model *model;
    struct published *now = NULL;
    struct recipe *recipe = NULL;
    struct plan plan;
    bool ok = false;

    if (!check_members(request, rp))
        return false;
    if (!(model = store_get(ctx->store, job->model))) {
        reply_at(rp, 404, "unknown_model", "/model", "Request for unknown model: '%.128s' is not found", job->model);
        return false;
    }
    if (!is_ours(model, rp)) {
        store_put(model);
        return false;
    }
    plan = plan_of(request);
    do { /* both of one definition */
        published_put(now);
        recipe_put(recipe);
        now = find_now(model, rp);
        recipe = now ? model_recipe(model) : NULL;
    } while (recipe && recipe->model != lip_snapshot_model(now->snapshot));
    if (now && !recipe)
        reply_at(rp, 409, "training_not_configured", "/model",
                 "training of model '%s' is not configured; PUT /v2/models/%s/training first", model->name, model->name);
    else if (now)
        ok = check_with(ctx, job, model, now, recipe, &plan, rp);
    recipe_put(recipe);
    published_put(now);
    store_put(model);
    return ok;
}

/* ---- a run ----------------------------------------------------------------------------------------------------------- */

struct run {
    struct ctx *ctx;
    struct job *job;
    struct model *model;
    struct plan plan;
    struct batches data, validation;
    size_t samples, validated, per_epoch; /* trained on, judged by, steps of an epoch */
    size_t *order;                        /* of the samples, in this epoch */
    uint64_t order_of;                    /* the epoch that order belongs to, plus 1 */

    /* the position */
    uint64_t epoch, batch, step;
    struct figures figures;               /* of the epoch so far */
    bool stopped_early, finished;         /* finished: the moving averages are the weights */
    json_t *due;                          /* NULL, or what an epoch's callbacks still want, and its event */
    json_t *metrics;                      /* of the last epoch that ended; NULL: none has */
    uint64_t told_ns, began_ns, began_step;
};

/* Fisher and Yates with a generator of its own for every epoch. */
static void shuffle(struct run *r)
{
    lip_random random = {.seed = r->plan.seed, .stream = lip_random_stream("shuffle"), .counter = (r->epoch + 1) << 32};

    if (r->order_of == r->epoch + 1)
        return;
    for (size_t i = 0; i < r->samples; i++)
        r->order[i] = i;
    for (size_t i = r->samples; r->plan.shuffle && i > 1; i--) {
        size_t j = (size_t)(lip_random_u64(&random) % i), x = r->order[i - 1]; /* the bias is below 2^-30 */
        r->order[i - 1] = r->order[j];
        r->order[j] = x;
    }
    r->order_of = r->epoch + 1;
}

/* The training resource that the head had before the job's patch; NULL: there was no patch. */
static json_t *position_before(const struct model *model, const char *job)
{
    return json_object_get(position_get(model, job), "before");
}

static bool position_set_before(struct model *model, const char *job, json_t *before)
{
    json_t *position = position_get(model, job);

    return before ? json_object_set(position, "before", before) == 0 : json_object_del(position, "before") == 0;
}

/* Under `writing`, after every change of it. */
static bool put_position(struct run *r)
{
    json_t *before = position_before(r->model, r->job->id);
    json_t *position = json_pack("{s:I, s:I, s:I, s:b, s:b, s:o, s:O*, s:O*, s:O*}", "epoch", (json_int_t)r->epoch, "batch",
                                 (json_int_t)r->batch, "step", (json_int_t)r->step, "stopped_early", r->stopped_early, "finished",
                                 r->finished, "figures", figures_json(&r->figures), "before", before, "due", r->due,
                                 "metrics", r->metrics);

    return position && position_put(r->model, r->job->id, position);
}

/* Under `writing`. */
static void take_position(struct run *r)
{
    const json_t *position = position_get(r->model, r->job->id);

    r->epoch = r->plan.first;
    if (!position)
        return;
    r->epoch = (uint64_t)json_integer_value(json_object_get(position, "epoch"));
    r->batch = (uint64_t)json_integer_value(json_object_get(position, "batch"));
    r->step = (uint64_t)json_integer_value(json_object_get(position, "step"));
    r->stopped_early = json_is_true(json_object_get(position, "stopped_early"));
    r->finished = json_is_true(json_object_get(position, "finished"));
    r->due = json_incref(json_object_get(position, "due"));
    if ((r->metrics = json_incref(json_object_get(position, "metrics"))))
        job_progress(r->job, r->step, r->epoch, 0, json_deep_copy(r->metrics));
    figures_read(&r->figures, json_object_get(position, "figures"));
}

/* Another training resource, with the optimizer's state while its class stays. Under `writing`. */
static bool retrain(struct model *model, const json_t *config, struct failure *f)
{
    struct recipe *recipe = NULL;
    lip_trainer *trainer = NULL;
    lip_error err = {0};
    bool kept;

    if (recipe_make(lip_state_model(model->state), config, &recipe, &trainer, &err))
        return failure_lip(f, &err);
    if ((kept = lip_trainer_same_optimizer(model->trainer, trainer)))
        lip_trainer_adopt(trainer, model->trainer);
    if (model_train(model, recipe, trainer, kept, f))
        return true;
    recipe_put(recipe);
    lip_trainer_free(trainer);
    return false;
}

/* The head is the job's from here on, trained as the job says. Under `writing`. */
static bool enter(struct run *r, struct failure *f)
{
    struct model *model = r->model;
    json_t *before, *after;
    bool fresh = !position_get(model, r->job->id), ok;

    if (model->gone)
        return failure_set(f, 404, "unknown_model", "model '%s' was deleted", model->name);
    if (!model->state)
        return failure_set(f, 404, "unknown_model", "model '%s' is not loaded", model->name);
    if (model->served_only)
        return failure_set(f, 403, "read_only", "model '%s' is served from files that are never written", model->name);
    if (!model->recipe)
        return failure_set(f, 409, "training_not_configured", "training of model '%s' is not configured", model->name);
    take_position(r);
    model->job = r->job->id;
    if (fresh)
        lip_trainer_begin(model->trainer);
    if (!r->plan.training || position_before(model, r->job->id))
        return put_position(r) || failure_set(f, 503, "out_of_memory", "out of memory for a job");
    before = json_deep_copy(model->recipe->config);
    after = training_merge(before, r->plan.training);
    ok = before && after && put_position(r) && position_set_before(model, r->job->id, before);
    if (!ok)
        failure_set(f, 503, "out_of_memory", "out of memory for a job");
    else if (!(ok = retrain(model, after, f)))
        position_set_before(model, r->job->id, NULL);
    json_decref(after);
    json_decref(before);
    return ok;
}

/* The head is everybody's again, trained as it was before. Under `writing`. */
static bool leave(struct model *model, const char *id, struct failure *f)
{
    json_t *before = json_incref(position_before(model, id));
    bool ok = true;

    if (before && !model->gone && model->recipe) {
        position_set_before(model, id, NULL);
        if (!(ok = retrain(model, before, f)))
            position_set_before(model, id, before); /* the next start, or the job's end, tries again */
    }
    json_decref(before);
    if (model->job && !strcmp(model->job, id))
        model->job = NULL;
    return ok;
}

/* Whoever waits for the head comes first. */
static void give_way(struct model *model)
{
    for (int i = 0; i < GIVE_WAY_MOST && atomic_load(&model->wanting); i++)
        usleep(GIVE_WAY_US);
}

/* ---- figures ---------------------------------------------------------------------------------------------------------- */

/* telemetry is taken over; NULL: none is due. */
static void tell_step(struct run *r, const lip_step_report *report, uint64_t revision, uint64_t now, json_t *telemetry)
{
    double seconds = (double)(now - r->began_ns) * 1e-9, samples = (double)((r->step - r->began_step) * r->plan.batch);

    job_progress(r->job, r->step, r->epoch, revision, metrics_json(report->metrics, report->n_metrics));
    job_tell(r->job,
             json_pack("{s:s, s:I, s:I, s:o, s:o, s:I, s:o, s:o*}", "type", "metrics", "step", (json_int_t)r->step, "epoch",
                       (json_int_t)r->epoch + 1, "metrics", metrics_json(report->metrics, report->n_metrics), "learning_rate",
                       codec_real(report->learning_rate), "weights_revision", (json_int_t)revision, "samples_per_second",
                       codec_real(seconds > 0 ? floor(samples / seconds) : 0), "telemetry", telemetry),
             !telemetry);
    r->told_ns = now;
}

/* ---- one step ----------------------------------------------------------------------------------------------------------- */

static size_t rows_of(const struct run *r, const size_t **rows)
{
    size_t from = r->batch * r->plan.batch;

    *rows = r->order + from;
    return r->samples - from < r->plan.batch ? r->samples - from : r->plan.batch;
}

/* Under `writing`. */
static bool step_head(struct run *r, lip_batch *batch, lip_step_report *report, uint64_t *revision, json_t **told,
                      struct failure *f)
{
    struct model *model = r->model;
    const struct recipe *recipe = model->recipe;
    bool publish = recipe->publish_step || (recipe->publish_epoch && r->batch + 1 == r->per_epoch);
    lip_step_options options = step_options(recipe);
    uint64_t start = now_ns(), stepped;
    lip_certifier *certifier = NULL;
    lip_error err = {0};
    lip_err rc;

    if (step_bound(model, batch, &certifier, &err))
        return failure_step(f, &err);
    if (!model_before_step(model, publish, false, f)) {
        lip_certifier_free(certifier);
        return false;
    }
    rc = lip_train_step(model->trainer, model->state, batch, &options, report, &err);
    lip_certifier_free(certifier);
    if (rc) {
        model_unstep(model);
        return failure_step(f, &err);
    }
    stepped = now_ns();
    if (!model_stepped(model, publish, false, f)) {
        model_unstep(model);
        return false;
    }
    if (!report->skipped)
        figures_add(&r->figures, report->metrics, report->n_metrics, batch->n);
    r->batch++;
    r->step++;
    if (!put_position(r))
        return failure_set(f, 503, "out_of_memory", "out of memory for a job");
    *revision = model->facts.weights_revision;
    *told = step_telemetry(model, batch, report);
    count_step(r->ctx, model->name, model->facts.version, report, now_ns() - start);
    stats_step(model->stats, report, now_ns() - stepped, now_ns() - start);
    return true;
}

static bool step(struct run *r, struct failure *f)
{
    lip_step_report report = {0};
    json_t *told = NULL;
    uint64_t revision = 0, now;
    const size_t *rows;
    lip_batch batch;
    size_t n;
    bool ok;

    shuffle(r);
    n = rows_of(r, &rows);
    if (!batches_read(&r->data, rows, n, &batch, f))
        return false;
    give_way(r->model);
    pthread_mutex_lock(&r->model->writing);
    ok = r->model->gone ? failure_set(f, 404, "unknown_model", "model '%s' was deleted", r->model->name)
                        : step_head(r, &batch, &report, &revision, &told, f);
    if (ok && ((now = now_ns()) - r->told_ns > TELL_NS || r->batch == r->per_epoch || told))
        tell_step(r, &report, revision, now, told);
    pthread_mutex_unlock(&r->model->writing);
    return ok;
}

/* ---- the end of an epoch --------------------------------------------------------------------------------------------------- */

/* Named copies of the head: those of this job, beyond the newest `keep`, go. Under `writing`. */
static void prune(struct run *r)
{
    json_t *list = checkpoint_list(r->model), *one;
    uint64_t n = 0;
    size_t i;

    json_array_foreach(list, i, one) {
        const char *name = json_string_value(json_object_get(one, "name")), *job = json_string_value(json_object_get(one, "job"));
        struct failure f = {0};
        if (job && !strcmp(job, r->job->id) && ++n > r->plan.keep && !checkpoint_remove(r->model, name, &f))
            log_warning("job %s: %s", r->job->id, f.text);
    }
    json_decref(list);
}

/* Under `writing`. */
static bool keep_checkpoint(struct run *r, struct failure *f)
{
    char name[MODEL_NAME_MAX + 1];
    struct failure why = {0};
    json_t *document;

    if (!r->plan.keep || !r->plan.checkpoint_every || (r->epoch + 1) % r->plan.checkpoint_every)
        return true;
    snprintf(name, sizeof name, "%s-e%llu", r->job->id, (unsigned long long)r->epoch + 1);
    if (!(document = checkpoint_make(r->model, name, r->job->id, &why)) && why.status == 409) /* from before a crash */
        return true;
    if (!document) {
        *f = why;
        return false;
    }
    job_tell(r->job, json_pack("{s:s, s:s, s:I, s:I}", "type", "checkpoint", "name", name, "epoch", (json_int_t)r->epoch + 1,
                               "step", (json_int_t)r->step),
             false);
    json_decref(document);
    prune(r);
    return true;
}

static bool goes_on(void *job)
{
    return job_asked(job) == JOB_DONE;
}

/* Figures of the validation samples, by the weights as they are, as val_loss and so on. */
static bool validate(struct run *r, const lip_trainer *judge, const lip_snapshot *head, json_t *json, struct failure *f)
{
    bool own = r->validation.dataset != NULL;
    struct figures figures = {0};

    return !r->validated || (figures_judge(&figures, judge, head, own ? &r->validation : &r->data, own ? 0 : r->samples, r->validated,
                                           goes_on, r->job, f) &&
                             figures_into(&figures, "val_", json));
}

/* The weights as they are, and who judges them. */
static bool look(struct run *r, lip_snapshot **head, struct recipe **recipe, struct failure *f)
{
    struct model *model = r->model;
    lip_error err = {0};
    bool ok;

    model_lock(model);
    if ((ok = !model->gone && model->recipe)) {
        lip_trainer_follow(model->recipe->judge, model->trainer);
        *recipe = model->recipe;
        atomic_fetch_add(&model->recipe->refs, 1);
        if (lip_state_publish(model->state, head, &err))
            ok = failure_lip(f, &err);
    } else {
        failure_set(f, 404, "unknown_model", "model '%s' was deleted", model->name);
    }
    pthread_mutex_unlock(&model->writing);
    return ok;
}

/* A checkpoint of the head beyond those that go with the epochs. Under `writing`. */
static bool extra_checkpoint(struct run *r, const char *name, struct failure *f)
{
    struct failure why = {0};
    json_t *document;

    if (!checkpoint_remove(r->model, name, &why) && why.status != 404) {
        *f = why;
        return false;
    }
    document = checkpoint_make(r->model, name, NULL, f);
    json_decref(document);
    return document != NULL;
}

/* What the callbacks of the training resource say and want at the end of an epoch is now r->due, and the head what they made of
 * it: a change of its own, on disk and published. Takes event over. Under `writing`. */
static bool callbacks(struct run *r, json_t *event, struct failure *f)
{
    struct model *model = r->model;
    const json_t *metrics = json_object_get(event, "metrics");
    lip_metric list[2 * LIP_MAX_METRICS];
    lip_state *changed = NULL;
    json_t *value;
    lip_epoch told;
    lip_error err = {0};
    const char *key;
    size_t n = 0;
    bool ok;

    json_object_foreach((json_t *)metrics, key, value)
        if (n < sizeof list / sizeof *list)
            list[n++] = (lip_metric){key, json_is_number(value) ? json_number_value(value) : NAN};
    if (lip_state_copy(model->state, &changed, &err) ||
        lip_trainer_epoch(model->trainer, changed, r->epoch, list, n, &told, &err)) {
        lip_state_free(changed);
        json_decref(event);
        return failure_step(f, &err);
    }
    if (told.missing)
        log_warning("job %s: a callback looks at \"%s\", which is not among the epoch's metrics", r->job->id, told.missing);
    r->stopped_early |= told.stop;
    for (size_t i = 0; i < told.n_logged; i++) {
        if (!json_object_get(event, "logged"))
            json_object_set_new(event, "logged", json_array());
        json_array_append_new(json_object_get(event, "logged"),
                              json_pack("{s:s, s:s, s:o}", "loss", told.logged[i].loss, "parameter", told.logged[i].parameter,
                                        "value", codec_real(told.logged[i].value)));
    }
    r->due = json_pack("{s:b, s:b, s:b, s:o}", "keep", told.keep, "checkpoint", told.checkpoint, "restore", told.restore, "event", event);
    ok = (r->due && put_position(r)) || failure_set(f, 503, "out_of_memory", "out of memory for a job");
    ok = ok && (!told.condensed || model_replace_state(model, changed, f));
    if (!told.condensed || !ok)
        lip_state_free(changed);
    return ok;
}

static bool is_due(const struct run *r, const char *what)
{
    return json_is_true(json_object_get(r->due, what));
}

/* The rest of what is due. Copies of the head may be made again after a crash, as long as it has not gone back. Under `writing`. */
static bool follow_up(struct run *r, struct failure *f)
{
    static const char *const wants[] = {"keep", "checkpoint", "restore"};
    char best[MODEL_NAME_MAX + 1], name[MODEL_NAME_MAX + 1];
    json_t *document = NULL, *sigmas;
    bool ok;

    if ((sigmas = sigmas_json(r->model, true)))
        json_object_set_new(json_object_get(r->due, "event"), "telemetry", json_pack("{s:o}", "sigmas", sigmas));
    snprintf(best, sizeof best, "%s-best", r->job->id);
    snprintf(name, sizeof name, "%s-c%llu", r->job->id, (unsigned long long)r->epoch + 1);
    ok = (!is_due(r, "keep") || extra_checkpoint(r, best, f)) && (!is_due(r, "checkpoint") || extra_checkpoint(r, name, f));
    if (ok && is_due(r, "restore")) {
        for (size_t i = 0; i < sizeof wants / sizeof *wants; i++)
            json_object_set_new(r->due, wants[i], json_false());
        ok = checkpoint_restore(r->model, best, &document, f);
    }
    json_decref(document);
    return ok && keep_checkpoint(r, f);
}

/* The end of an epoch, told when it is on disk. event: taken over; NULL: its callbacks were called before a crash. */
static bool turn(struct run *r, json_t *event, uint64_t *revision, json_t **told, struct failure *f)
{
    struct model *model = r->model;
    bool ok;

    model_lock(model);
    if (model->gone) {
        ok = failure_set(f, 404, "unknown_model", "model '%s' was deleted", model->name);
        json_decref(event);
    } else if ((ok = (!event || callbacks(r, event, f)) && follow_up(r, f))) {
        *told = json_deep_copy(json_object_get(r->due, "event"));
        json_decref(r->metrics);
        r->metrics = json_deep_copy(json_object_get(*told, "metrics"));
        json_decref(r->due);
        r->due = NULL;
        r->epoch++;
        r->batch = 0;
        r->figures = (struct figures){0};
        *revision = model->facts.weights_revision;
        ok = put_position(r) || failure_set(f, 503, "out_of_memory", "out of memory for a job");
    }
    pthread_mutex_unlock(&model->writing);
    return ok && model_checkpoint(model, f);
}

/* The event of an epoch: means of its steps, and figures of the validation samples. */
static bool judge(struct run *r, json_t **event, struct failure *f)
{
    lip_snapshot *head = NULL;
    struct recipe *recipe = NULL;
    json_t *metrics = json_object();
    bool ok = figures_into(&r->figures, "", metrics) && look(r, &head, &recipe, f) && validate(r, recipe->judge, head, metrics, f);

    recipe_put(recipe);
    lip_snapshot_put(head);
    *event = ok ? json_pack("{s:s, s:I, s:O}", "type", "epoch", "epoch", (json_int_t)r->epoch + 1, "metrics", metrics) : NULL;
    json_decref(metrics);
    return ok && (*event || failure_set(f, 503, "out_of_memory", "out of memory for a job"));
}

static bool end_epoch(struct run *r, struct failure *f)
{
    json_t *event = NULL, *told = NULL;
    uint64_t revision = 0;

    if ((!r->due && !judge(r, &event, f)) || !turn(r, event, &revision, &told, f)) {
        json_decref(told);
        return false;
    }
    job_progress(r->job, r->step, r->epoch, revision, json_deep_copy(json_object_get(told, "metrics")));
    json_object_set_new(told, "step", json_integer((json_int_t)r->step));
    json_object_set_new(told, "weights_revision", json_integer((json_int_t)revision));
    job_tell(r->job, told, false);
    return true;
}

/* ---- the whole of it ----------------------------------------------------------------------------------------------------------- */

/* A dataset by its name, which must still be the one that the job was made for. */
static struct dataset *same_dataset(struct run *r, const char *name, const char *member, struct failure *f)
{
    struct dataset *d = dataset_get(r->ctx->datasets, name);
    const char *id = json_string_value(json_object_get(r->job->internal, member));

    if (d && !d->damage && id && strcmp(d->id, id) != 0) {
        dataset_put(d);
        d = NULL;
    }
    if (!d)
        failure_set(f, 404, "unknown_dataset", "dataset '%s' is not there any more, or is another one now", name);
    return d;
}

static bool open_data(struct run *r, const char *name, const char *member, struct batches *b, const lip_model *m, struct failure *f)
{
    struct dataset *d = same_dataset(r, name, member, f);
    bool ok = d && batches_open(b, d, m, true, r->plan.batch, f);

    dataset_put(d);
    return ok;
}

static bool prepare(struct run *r, struct failure *f)
{
    struct published *now = model_now(r->model);
    const lip_model *m = now ? lip_snapshot_model(now->snapshot) : NULL;
    bool ok = m ? open_data(r, r->plan.dataset, "dataset", &r->data, m, f) &&
                      (!r->plan.validation || open_data(r, r->plan.validation, "validation_dataset", &r->validation, m, f))
                : failure_set(f, 503, "unavailable", "model '%s' is unavailable", r->model->name);

    published_put(now);
    if (!ok)
        return false;
    r->samples = trained_on(r->data.dataset->samples, r->plan.split);
    r->validated = r->plan.validation ? r->validation.dataset->samples : r->data.dataset->samples - r->samples;
    r->per_epoch = steps_of(&r->plan, r->samples);
    if (!(r->order = malloc((r->samples + 1) * sizeof *r->order)))
        return failure_set(f, 503, "out_of_memory", "out of memory for the order of %zu samples", r->samples);
    model_lock(r->model);
    ok = enter(r, f);
    pthread_mutex_unlock(&r->model->writing);
    if (ok && r->batch > r->per_epoch)
        ok = failure_set(f, 422, "bad_file", "the job's position lies behind the end of its dataset");
    return ok;
}

static lip_err average(struct model *model, lip_state *changed, lip_error *err)
{
    return lip_trainer_finish(model->trainer, changed, err);
}

static lip_err refresh(struct model *model, lip_state *changed, lip_error *err)
{
    (void)model;
    return lip_state_refresh(changed, NULL, NULL, err);
}

/* A changed copy becomes the head, on disk and published. Under `writing`. */
static bool change_head(struct model *model, lip_err (*change)(struct model *, lip_state *, lip_error *), struct failure *f)
{
    lip_state *changed = NULL;
    lip_error err = {0};
    bool ok = (!lip_state_copy(model->state, &changed, &err) && !change(model, changed, &err)) || failure_step(f, &err);

    if (ok && (ok = model_replace_state(model, changed, f)))
        changed = NULL;
    lip_state_free(changed);
    return ok;
}

/* A run ends with the moving average of its weights where the optimizer keeps one, and published if it is to be so now. */
static bool conclude(struct run *r, struct failure *f)
{
    struct model *model = r->model;
    bool ok = true;

    model_lock(model);
    if (!model->gone && !r->finished && model->trainer && lip_trainer_averages(model->trainer)) {
        r->finished = true;
        ok = (put_position(r) || failure_set(f, 503, "out_of_memory", "out of memory for a job")) && change_head(model, average, f);
    }
    if (ok && model->unpublished && model->recipe && (model->recipe->publish_job || model->recipe->publish_epoch))
        ok = change_head(model, refresh, f);
    pthread_mutex_unlock(&model->writing);
    return ok;
}

/* The job's answer: what became of the model. */
static void answer(struct run *r, struct reply *rp)
{
    struct facts facts;

    pthread_mutex_lock(&r->model->lock);
    facts = r->model->facts;
    pthread_mutex_unlock(&r->model->lock);
    job_progress(r->job, r->step, r->epoch, facts.weights_revision, NULL);
    reply_json(rp, 200,
               json_pack("{s:s, s:s, s:{s:I, s:I, s:I, s:I, s:b}, s:o, s:[]}", "model_name", r->model->name, "model_version",
                         facts.version, "parameters", "steps", (json_int_t)r->step, "epochs", (json_int_t)r->epoch, "state_revision",
                         (json_int_t)facts.state_revision, "weights_revision", (json_int_t)facts.weights_revision, "stopped_early",
                         r->stopped_early, "metrics", job_metrics(r->job), "outputs"));
}

static enum job_end work(struct run *r, struct failure *f)
{
    enum job_end asked = JOB_DONE;

    r->began_ns = now_ns();
    r->began_step = r->step;
    job_progress(r->job, r->step, r->epoch, 0, NULL);
    while (r->due || (r->epoch < r->plan.epochs && !r->stopped_early)) {
        if ((asked = job_asked(r->job)) != JOB_DONE)
            return asked;
        if (!(r->batch < r->per_epoch && !r->due ? step(r, f) : end_epoch(r, f)))
            return f->status ? JOB_ERROR : job_asked(r->job);
    }
    return conclude(r, f) && model_checkpoint(r->model, f) ? JOB_DONE : JOB_ERROR;
}

static enum job_end run(struct ctx *ctx, struct job *job, struct reply *rp, struct failure *f)
{
    struct run *r = calloc(1, sizeof *r);
    enum job_end end = JOB_ERROR;
    struct failure why = {0};

    if (!r || !(r->model = store_get(ctx->store, job->model))) {
        if (r)
            failure_set(f, 404, "unknown_model", "model '%s' is not there any more", job->model);
        else
            failure_set(f, 503, "out_of_memory", "out of memory for a job");
        free(r);
        return JOB_ERROR;
    }
    r->ctx = ctx;
    r->job = job;
    r->plan = plan_of(job->request);
    if (prepare(r, f))
        end = work(r, f);
    if (end != JOB_STOPPED) { /* else the next start takes it up as it is */
        model_lock(r->model);
        if (!leave(r->model, job->id, &why))
            log_warning("job %s: the training resource of before: %s", job->id, why.text);
        pthread_mutex_unlock(&r->model->writing);
    }
    if (end == JOB_DONE)
        answer(r, rp);
    batches_close(&r->data);
    batches_close(&r->validation);
    json_decref(r->due);
    json_decref(r->metrics);
    free(r->order);
    store_put(r->model);
    free(r);
    return end;
}

static void settled(struct ctx *ctx, struct job *job)
{
    struct model *model = store_get(ctx->store, job->model);
    struct failure f = {0};

    if (!model)
        return;
    model_lock(model);
    if (position_get(model, job->id)) {
        if (model->state && !leave(model, job->id, &f))
            log_warning("job %s: the training resource of before: %s", job->id, f.text);
        else
            position_put(model, job->id, NULL);
    }
    pthread_mutex_unlock(&model->writing);
    store_put(model);
}

void train_job_forget(struct ctx *ctx, struct model *model)
{
    json_t *positions, *position;
    const char *id;

    if (store_read_only(ctx->store))
        return;
    model_lock(model);
    positions = json_copy(model->positions);
    json_object_foreach(positions, id, position) {
        struct job *job = job_get(ctx->jobs, id);
        struct failure f = {0};

        if (!job || job_is_finished(job)) {
            if (model->state && !leave(model, id, &f))
                log_warning("model %s: the training resource before job %s: %s", model->name, id, f.text);
            else
                position_put(model, id, NULL);
        }
        job_put(job);
    }
    pthread_mutex_unlock(&model->writing);
    json_decref(positions);
}

const struct job_type job_train = {"train", true, true, true, NULL, check, run, settled};
