#include "jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "courtesy.h"
#include "ctx.h"
#include "files.h"
#include "handlers/common.h"
#include "kept.h"
#include "log.h"
#include "once.h"
#include "settings.h"
#include "text.h"

enum { RUNNERS = 2, FINISHED_MAX = 1000, EVENTS = 1024 };
#define RESULTS "jobs" /* folder of the state directory */

struct jobs {
    struct ctx *ctx;
    struct history *history;
    struct once *once;
    int results;
    pthread_mutex_t lock;
    pthread_cond_t work, quiet; /* something to run; a run has ended */
    struct job **job;           /* in the order of their ids, that is of their making */
    size_t n, capacity, running;
    bool stop;
    char last_id[JOB_ID_MAX];
    pthread_t runner[RUNNERS];
    size_t n_runners;
};

static const char *const status_names[] = {"queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"};

static bool finished(enum job_status status)
{
    return status >= JOB_SUCCEEDED;
}

/* Has a thread of its own just now. */
static bool active(enum job_status status)
{
    return status == JOB_RUNNING || status == JOB_PAUSING || status == JOB_CANCELLING;
}

/* ---- kinds ------------------------------------------------------------------------------------------------------ */

static bool check_request(struct ctx *ctx, struct job *job, json_t *request, struct reply *rp);
static enum job_end run_request(struct ctx *ctx, struct job *job, struct reply *rp, struct failure *f);

static const struct job_type
    job_evaluate = {"evaluate", false, true, true, "/v2/models/{m}/evaluate", check_request, run_request, NULL},
    job_certify = {"certify", false, true, true, "/v2/models/{m}/certify", check_request, run_request, NULL},
    job_async = {"", false, false, false, NULL, NULL, run_request, NULL};

/* Those that POST /v2/jobs makes. */
static const struct job_type *const types[] = {&job_train, &job_evaluate, &job_certify};
enum { TYPES = sizeof types / sizeof *types };

static const struct job_type *type_named(const char *name)
{
    for (size_t i = 0; name && i < TYPES; i++)
        if (!strcmp(types[i]->name, name))
            return types[i];
    return NULL;
}

/* ---- jobs and their documents ------------------------------------------------------------------------------------ */

static void drop_aside(struct job *job)
{
    void *aside = job_take_aside(job);

    if (aside)
        job->aside_free(aside);
}

void job_put(struct job *job)
{
    if (!job || atomic_fetch_sub(&job->refs, 1) != 1)
        return;
    json_decref(job->request);
    json_decref(job->metrics);
    json_decref(job->internal);
    free(job->captured);
    free(job->result);
    feed_put(job->feed);
    drop_aside(job);
    free(job);
}

/* Ids sort by time: 48 bits of milliseconds and 80 of chance in Crockford's alphabet, always above the one before. */
static void draw_id(struct jobs *jobs, char id[JOB_ID_MAX])
{
    static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    unsigned char chance[16] = {0};
    struct timespec now;
    uint64_t ms;
    char *at = id + 4;

    clock_gettime(CLOCK_REALTIME, &now);
    ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (getrandom(chance, sizeof chance, 0) != sizeof chance)
        memcpy(chance, &now, sizeof now < sizeof chance ? sizeof now : sizeof chance);
    memcpy(id, "job_", 4);
    for (int i = 45; i >= 0; i -= 5)
        *at++ = letters[ms >> i & 31];
    for (int i = 0; i < 16; i++)
        *at++ = letters[chance[i] & 31];
    *at = 0;
    if (strcmp(id, jobs->last_id) <= 0) { /* the same millisecond, or the clock was put back: count on */
        memcpy(id, jobs->last_id, JOB_ID_MAX);
        for (at = id + 4 + 26; at-- > id + 4;) {
            const char *letter = strchr(letters, *at);
            if (letter[1]) {
                *at = letter[1];
                break;
            }
            *at = letters[0];
        }
    }
    memcpy(jobs->last_id, id, JOB_ID_MAX);
}

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

/* Under the lock. */
static json_t *document(const struct job *job)
{
    json_t *json = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:o, s:o, s:{s:I, s:I, s:I, s:I}}", "id", job->id, "object", "job", "type",
                             job->kind, "model", text_or_null(job->model), "status", status_names[job->status], "created_at",
                             job->created_at, "started_at", text_or_null(job->started_at), "finished_at",
                             text_or_null(job->finished_at), "progress", "step", (json_int_t)job->step, "total_steps",
                             (json_int_t)job->total_steps, "epoch", (json_int_t)job->epoch, "epochs", (json_int_t)job->epochs);
    json_t *metadata = json_deep_copy(json_object_get(job->request, "metadata"));

    if (!json)
        return NULL;
    json_object_set_new(json, "metrics", job->metrics ? json_deep_copy(job->metrics) : json_object());
    json_object_set_new(json, "weights_revision",
                        job->weights_revision ? json_integer((json_int_t)job->weights_revision) : json_null());
    json_object_set_new(json, "error",
                        job->error.status ? json_pack("{s:s, s:o}", "code", job->error.code, "text", text_json(job->error.text))
                                          : json_null());
    json_object_set_new(json, "result",
                        job->result ? json_sprintf("%s/v2/jobs/%s/result", job->jobs->ctx->config->api_prefix, job->id) : json_null());
    json_object_set_new(json, "metadata", metadata ? metadata : json_object());
    return json;
}

json_t *job_json(struct job *job)
{
    json_t *json;

    pthread_mutex_lock(&job->jobs->lock);
    json = document(job);
    pthread_mutex_unlock(&job->jobs->lock);
    return json;
}

/* The job as it is now into the history. Not under the lock: a disk may take its time. */
static bool save(struct job *job, struct failure *f)
{
    json_t *json;
    char *text;
    bool ok;

    pthread_mutex_lock(&job->jobs->lock);
    if ((json = document(job))) {
        json_object_set_new(json, "request", json_deep_copy(job->request));
        if (job->internal)
            json_object_set_new(json, "internal", json_deep_copy(job->internal));
        if (job->result)
            json_object_set_new(json, "kept", json_string(job->result));
        if (job->error.status)
            json_object_set_new(json, "error_status", json_integer(job->error.status));
    }
    pthread_mutex_unlock(&job->jobs->lock);
    text = document_text(json);
    json_decref(json);
    ok = text ? history_put(job->jobs->history, HISTORY_JOBS, job->id, text, NULL, 0, f)
              : failure_set(f, 503, "out_of_memory", "out of memory for a job");
    free(text);
    return ok;
}

static void save_or_say(struct job *job)
{
    struct failure f = {0};

    if (!save(job, &f))
        log_error("job %s: %s", job->id, f.text);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static size_t place(const struct jobs *jobs, const char *id)
{
    size_t low = 0, high = jobs->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(jobs->job[middle]->id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct job *job_get(struct jobs *jobs, const char *id)
{
    struct job *job = NULL;
    size_t i;

    pthread_mutex_lock(&jobs->lock);
    if ((i = place(jobs, id)) < jobs->n && !strcmp(jobs->job[i]->id, id)) {
        job = jobs->job[i];
        atomic_fetch_add(&job->refs, 1);
    }
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

bool job_is_finished(struct job *job)
{
    bool is;

    pthread_mutex_lock(&job->jobs->lock);
    is = finished(job->status);
    pthread_mutex_unlock(&job->jobs->lock);
    return is;
}

/* Under the lock. Takes the caller's reference over on success. */
static bool insert(struct jobs *jobs, struct job *job)
{
    size_t i = place(jobs, job->id);

    if (jobs->n == jobs->capacity) {
        size_t more = 2 * jobs->capacity + 16;
        struct job **table = realloc(jobs->job, more * sizeof *table);
        if (!table)
            return false;
        jobs->job = table;
        jobs->capacity = more;
    }
    memmove(jobs->job + i + 1, jobs->job + i, (jobs->n++ - i) * sizeof *jobs->job);
    jobs->job[i] = job;
    return true;
}

/* Under the lock. The table's reference is the caller's now. */
static void take_out(struct jobs *jobs, size_t i)
{
    memmove(jobs->job + i, jobs->job + i + 1, (--jobs->n - i) * sizeof *jobs->job);
}

static struct job *job_new(struct jobs *jobs, const struct job_type *type, const char *kind, const char *model)
{
    struct job *job = calloc(1, sizeof *job);

    if (!job || !(job->feed = feed_new(jobs->ctx->events, EVENTS))) {
        free(job);
        return NULL;
    }
    atomic_init(&job->refs, 1);
    job->jobs = jobs;
    job->type = type;
    snprintf(job->kind, sizeof job->kind, "%s", kind);
    snprintf(job->model, sizeof job->model, "%s", model ? model : "");
    time_text(job->created_at);
    return job;
}

json_t *jobs_list(struct jobs *jobs, const char *status, const char *model, const char *type)
{
    json_t *list = json_array();

    pthread_mutex_lock(&jobs->lock);
    for (size_t i = jobs->n; list && i-- > 0;) {
        const struct job *job = jobs->job[i];
        if ((status && strcmp(status, status_names[job->status]) != 0) || (model && strcmp(model, job->model) != 0) ||
            (type && strcmp(type, job->kind) != 0))
            continue;
        if (json_array_append_new(list, document(job))) {
            json_decref(list);
            list = NULL;
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    return list;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static bool result_keep(struct job *job, const struct reply *rp, struct failure *f)
{
    char *text = kept_text(rp);
    int error = text ? file_replace(job->jobs->results, job->id, rp->body ? rp->body : "", rp->bytes) : ENOMEM;

    if (error) {
        free(text);
        return failure_errno(f, error, "the job's result");
    }
    pthread_mutex_lock(&job->jobs->lock);
    free(job->result);
    job->result = text;
    pthread_mutex_unlock(&job->jobs->lock);
    return true;
}

void job_answer(struct job *job, struct reply *rp)
{
    char *text;
    void *bytes = NULL;
    size_t size;
    int error = 0;

    pthread_mutex_lock(&job->jobs->lock);
    text = job->result ? strdup(job->result) : NULL;
    pthread_mutex_unlock(&job->jobs->lock);
    if (!text)
        reply_error(rp, 404, "not_found", NULL, "job '%s' has no result yet", job->id);
    else if ((error = file_read(job->jobs->results, job->id, (size_t)1 << 40, &bytes, &size)))
        reply_error(rp, error == ENOMEM ? 503 : 500, error == ENOMEM ? "out_of_memory" : "internal", NULL,
                    "the result of job '%s': %s", job->id, strerror(error));
    else if (!kept_reply(text, bytes, size, rp))
        reply_error(rp, 503, "out_of_memory", NULL, "out of memory");
    free(bytes);
    free(text);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

void job_tell(struct job *job, json_t *data, bool latest)
{
    json_t *also = json_copy(data);
    const char *type = json_string_value(json_object_get(data, "type"));
    char key[100];

    if (also && type) {
        snprintf(key, sizeof key, "%s %s", type, job->id);
        json_object_set_new(also, "job", json_string(job->id));
        feed_tell(events_all(job->jobs->ctx->events), *job->model ? job->model : NULL, latest ? key : NULL, also);
        also = NULL;
    }
    json_decref(also);
    feed_tell(job->feed, NULL, latest ? type : NULL, data);
}

static void tell_status(struct job *job)
{
    json_t *json;

    pthread_mutex_lock(&job->jobs->lock);
    json = json_pack("{s:s, s:s, s:o}", "type", "status", "status", status_names[job->status], "weights_revision",
                     job->weights_revision ? json_integer((json_int_t)job->weights_revision) : json_null());
    if (job->error.status)
        json_object_set_new(json, "error", json_pack("{s:s, s:o}", "code", job->error.code, "text", text_json(job->error.text)));
    pthread_mutex_unlock(&job->jobs->lock);
    job_tell(job, json, false);
}

static void tell_jobs(struct job *job, const char *action)
{
    feed_tell(events_all(job->jobs->ctx->events), *job->model ? job->model : NULL, NULL,
              json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "job", "action", action, "job", job->id, "kind", job->kind, "model",
                        job->model));
}

void job_progress(struct job *job, uint64_t step, uint64_t epoch, uint64_t weights_revision, json_t *metrics)
{
    json_t *old = metrics;

    pthread_mutex_lock(&job->jobs->lock);
    job->step = step;
    job->epoch = epoch;
    if (weights_revision)
        job->weights_revision = weights_revision;
    if (metrics) {
        old = job->metrics;
        job->metrics = metrics;
    }
    pthread_mutex_unlock(&job->jobs->lock);
    json_decref(old);
}

json_t *job_metrics(struct job *job)
{
    json_t *metrics;

    pthread_mutex_lock(&job->jobs->lock);
    metrics = job->metrics ? json_deep_copy(job->metrics) : json_object();
    pthread_mutex_unlock(&job->jobs->lock);
    return metrics;
}

void job_set_aside(struct job *job, void *aside, void (*aside_free)(void *aside))
{
    job->aside = aside;
    job->aside_free = aside_free;
}

void *job_take_aside(struct job *job)
{
    void *aside = job->aside;

    job->aside = NULL;
    return aside;
}

enum job_end job_asked(struct job *job)
{
    enum job_end asked = JOB_DONE;

    if (!atomic_load(&job->asked))
        return JOB_DONE;
    pthread_mutex_lock(&job->jobs->lock);
    if (job->status == JOB_CANCELLING)
        asked = JOB_DROPPED;
    else if (job->status == JOB_PAUSING)
        asked = JOB_SET_ASIDE;
    else if (job->jobs->stop)
        asked = JOB_STOPPED;
    pthread_mutex_unlock(&job->jobs->lock);
    return asked;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Under the lock: the oldest queued job that may run now. */
static struct job *next_job(struct jobs *jobs)
{
    for (size_t i = 0; i < jobs->n; i++) {
        struct job *job = jobs->job[i];
        bool free = job->status == JOB_QUEUED;
        for (size_t j = 0; free && job->type->writes && j < jobs->n; j++) {
            const struct job *other = jobs->job[j];
            free = !(other->type->writes && active(other->status) && !strcmp(other->model, job->model));
        }
        if (free)
            return job;
    }
    return NULL;
}

/* A failure that the handler's reply holds. */
static void failure_of(const struct reply *rp, struct failure *f)
{
    const char *text = json_string_value(json_object_get(rp->problem, "error"));

    failure_set(f, rp->status ? rp->status : 500, rp->code ? rp->code : "internal", "%s", text ? text : "the job gave no answer");
}

/* Old finished jobs go, so that the history stays bounded. */
static void bound_history(struct jobs *jobs)
{
    for (;;) {
        struct job *oldest = NULL;
        struct failure f = {0};
        size_t n = 0;

        pthread_mutex_lock(&jobs->lock);
        for (size_t i = jobs->n; i-- > 0;)
            if (finished(jobs->job[i]->status) && ++n)
                oldest = jobs->job[i];
        if (n > FINISHED_MAX)
            atomic_fetch_add(&oldest->refs, 1);
        pthread_mutex_unlock(&jobs->lock);
        if (n <= FINISHED_MAX)
            return;
        if (!job_forget(oldest, &f)) {
            log_error("job %s: %s", oldest->id, f.text);
            job_put(oldest);
            return;
        }
        job_put(oldest);
    }
}

/* The job's last word. */
static void settle(struct job *job, enum job_status status, const struct failure *f)
{
    struct jobs *jobs = job->jobs;

    pthread_mutex_lock(&jobs->lock);
    job->status = status;
    if (f && f->status)
        job->error = *f;
    time_text(job->finished_at);
    pthread_mutex_unlock(&jobs->lock);
    drop_aside(job);
    save_or_say(job);
    if (job->type->settled)
        job->type->settled(jobs->ctx, job);
    tell_status(job);
    feed_end(job->feed);
    pthread_mutex_lock(&jobs->lock);
    pthread_cond_broadcast(&jobs->quiet);
    pthread_mutex_unlock(&jobs->lock);
    bound_history(jobs);
}

static void run(struct job *job)
{
    struct jobs *jobs = job->jobs;
    struct reply rp = {0};
    struct failure f = {0};
    enum job_end end;
    bool cancelled;

    save_or_say(job);
    tell_status(job);
    end = job->type->run(jobs->ctx, job, &rp, &f);
    if (end == JOB_DONE && rp.status && rp.status < 400 && !result_keep(job, &rp, &f))
        end = JOB_ERROR;
    if (end == JOB_DONE && rp.status >= 400)
        end = JOB_ERROR;
    if (end == JOB_ERROR && !f.status)
        failure_of(&rp, &f);
    reply_clear(&rp);
    switch (end) {
    case JOB_DONE:
        settle(job, JOB_SUCCEEDED, NULL);
        break;
    case JOB_ERROR:
        log_warning("job %s: %s", job->id, f.text);
        settle(job, JOB_FAILED, &f);
        break;
    case JOB_DROPPED:
        settle(job, JOB_CANCELLED, NULL);
        break;
    case JOB_SET_ASIDE:
        pthread_mutex_lock(&jobs->lock);
        cancelled = job->status == JOB_CANCELLING;
        if (!cancelled)
            job->status = job->status == JOB_PAUSING ? JOB_PAUSED : JOB_QUEUED; /* else it was resumed meanwhile */
        pthread_mutex_unlock(&jobs->lock);
        if (cancelled) {
            settle(job, JOB_CANCELLED, NULL);
        } else {
            save_or_say(job);
            tell_status(job);
        }
        break;
    case JOB_STOPPED:
        pthread_mutex_lock(&jobs->lock);
        job->stopped = true;
        pthread_mutex_unlock(&jobs->lock);
        save_or_say(job);
        break;
    }
}

static void *runner(void *arg)
{
    struct jobs *jobs = arg;

    courtesy_begin();
    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        struct job *job = jobs->stop ? NULL : next_job(jobs);

        if (job) {
            atomic_fetch_add(&job->refs, 1);
            job->status = JOB_RUNNING;
            atomic_store(&job->asked, false);
            if (!*job->started_at)
                time_text(job->started_at);
            jobs->running++;
            pthread_mutex_unlock(&jobs->lock);
            run(job);
            job_put(job);
            pthread_mutex_lock(&jobs->lock);
            jobs->running--;
            pthread_cond_broadcast(&jobs->work); /* another of the same model */
            pthread_cond_broadcast(&jobs->quiet);
        } else if (jobs->stop) {
            break;
        } else {
            pthread_cond_wait(&jobs->work, &jobs->lock);
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* ---- control ----------------------------------------------------------------------------------------------------- */

bool job_control(struct job *job, enum job_control what, struct failure *f)
{
    struct jobs *jobs = job->jobs;
    enum job_status before;
    bool ok = true, drop = false, changed;

    pthread_mutex_lock(&jobs->lock);
    before = job->status;
    if (what == JOB_CANCEL && (before == JOB_QUEUED || before == JOB_PAUSED)) {
        job->status = JOB_CANCELLING; /* nobody runs it, and nobody takes it up now */
        drop = true;
    } else if (what == JOB_CANCEL && active(before)) {
        job->status = JOB_CANCELLING;
    } else if (what != JOB_CANCEL && finished(before)) {
        ok = failure_set(f, 409, "job_finished", "job '%s' has finished: %s", job->id, status_names[before]);
    } else if (what == JOB_PAUSE && before == JOB_QUEUED) {
        job->status = JOB_PAUSED;
    } else if (what == JOB_PAUSE && before == JOB_RUNNING && !job->type->pauses) {
        ok = failure_set(f, 501, "unsupported", "jobs of type %s cannot be paused while they run", job->kind);
    } else if (what == JOB_PAUSE && before == JOB_RUNNING) {
        job->status = JOB_PAUSING;
    } else if (what == JOB_RESUME && before == JOB_PAUSED) {
        job->status = JOB_QUEUED;
    } else if (what == JOB_RESUME && before == JOB_PAUSING) {
        job->status = JOB_RUNNING;
    }
    atomic_store(&job->asked, true);
    pthread_cond_broadcast(&jobs->work);
    changed = before != job->status;
    pthread_mutex_unlock(&jobs->lock);
    if (drop) {
        settle(job, JOB_CANCELLED, NULL);
    } else if (changed) {
        save_or_say(job);
        tell_status(job);
    }
    return ok;
}

bool job_forget(struct job *job, struct failure *f)
{
    struct jobs *jobs = job->jobs;
    struct job *of_table = NULL;
    size_t i;

    pthread_mutex_lock(&jobs->lock);
    if (!finished(job->status))
        failure_set(f, 409, "in_use", "job '%s' has not finished; cancel it first", job->id);
    pthread_mutex_unlock(&jobs->lock);
    if (f->status || !history_remove(jobs->history, HISTORY_JOBS, job->id, f))
        return false;
    pthread_mutex_lock(&jobs->lock);
    if ((i = place(jobs, job->id)) < jobs->n && jobs->job[i] == job) {
        of_table = job;
        take_out(jobs, i);
    }
    pthread_mutex_unlock(&jobs->lock);
    if (of_table) {
        unlinkat(jobs->results, job->id, 0);
        tell_jobs(job, "deleted");
    }
    job_put(of_table);
    return true;
}

bool jobs_use_dataset(struct jobs *jobs, const char *dataset)
{
    static const char *const members[] = {"dataset", "validation_dataset"};
    bool used = false;

    pthread_mutex_lock(&jobs->lock);
    for (size_t i = 0; !used && i < jobs->n; i++)
        for (int j = 0; !used && !finished(jobs->job[i]->status) && j < 2; j++) {
            const char *name = json_string_value(json_object_get(jobs->job[i]->request, members[j]));
            used = name && !strcmp(name, dataset);
        }
    pthread_mutex_unlock(&jobs->lock);
    return used;
}

/* Under the lock: a job of the model that is not finished, but for `but` that is skipped. */
static struct job *of_model(struct jobs *jobs, const char *model)
{
    for (size_t i = 0; i < jobs->n; i++)
        if (!finished(jobs->job[i]->status) && jobs->job[i]->type->writes && !strcmp(jobs->job[i]->model, model))
            return jobs->job[i];
    return NULL;
}

bool jobs_work_on(struct jobs *jobs, const char *model)
{
    bool some;

    pthread_mutex_lock(&jobs->lock);
    some = of_model(jobs, model) != NULL;
    pthread_mutex_unlock(&jobs->lock);
    return some;
}

void jobs_cancel_on(struct jobs *jobs, const char *model)
{
    struct job *job;

    pthread_mutex_lock(&jobs->lock);
    while ((job = of_model(jobs, model))) {
        struct failure ignored = {0};
        bool runs = active(job->status);

        atomic_fetch_add(&job->refs, 1);
        if (!runs || job->status != JOB_CANCELLING) {
            pthread_mutex_unlock(&jobs->lock);
            job_control(job, JOB_CANCEL, &ignored);
            pthread_mutex_lock(&jobs->lock);
        } else {
            pthread_cond_wait(&jobs->quiet, &jobs->lock);
        }
        pthread_mutex_unlock(&jobs->lock);
        job_put(job);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
}

/* ---- making jobs ------------------------------------------------------------------------------------------------- */

/* On disk, in the table, told, and the reply filled. Takes the job over. */
static void submit(struct jobs *jobs, struct job *job, struct reply *rp)
{
    struct failure f = {0};
    bool ok = false;

    pthread_mutex_lock(&jobs->lock);
    if (jobs->stop) {
        reply_header(rp, "Retry-After", "1");
        failure_set(&f, 503, "draining", "the server is stopping");
    }
    draw_id(jobs, job->id);
    pthread_mutex_unlock(&jobs->lock);
    if (!f.status && save(job, &f)) {
        atomic_fetch_add(&job->refs, 1);
        tell_jobs(job, "created");
        tell_status(job);
        pthread_mutex_lock(&jobs->lock);
        if ((ok = insert(jobs, job)))
            pthread_cond_signal(&jobs->work);
        pthread_mutex_unlock(&jobs->lock);
        if (!ok) {
            history_remove(jobs->history, HISTORY_JOBS, job->id, &f);
            job_put(job);
            f = (struct failure){0};
            failure_set(&f, 503, "out_of_memory", "out of memory for a job");
        }
    }
    if (ok) {
        reply_header(rp, "Location", "/v2/jobs/%s", job->id);
        reply_json(rp, 202, job_json(job));
    } else {
        reply_failure(rp, &f);
    }
    job_put(job);
}

static bool common_members(const json_t *body, struct reply *rp)
{
    const json_t *resume = json_object_get(body, "resume"), *metadata = json_object_get(body, "metadata");
    const char *word = json_string_value(resume);

    if (resume && (!word || (strcmp(word, "auto") && strcmp(word, "never")))) {
        reply_at(rp, 400, "bad_parameter", "/resume", "resume needs \"auto\" or \"never\"");
        return false;
    }
    if (metadata && !json_is_object(metadata)) {
        reply_at(rp, 400, "bad_parameter", "/metadata", "metadata needs to be an object");
        return false;
    }
    return true;
}

void jobs_create(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    const struct job_type *type;
    struct job *job = NULL;
    const char *model;
    json_t *body;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    type = type_named(json_string_value(json_object_get(body, "type")));
    model = json_string_value(json_object_get(body, "model"));
    if (!type)
        reply_at(rp, 400, "bad_parameter", "/type", "type needs one of \"train\", \"evaluate\" and \"certify\"");
    else if (!model)
        reply_at(rp, 400, "bad_parameter", "/model", "model needs the name of a model");
    else if (!(job = job_new(ctx->jobs, type, type->name, model)))
        reply_no_memory(rp);
    else if (common_members(body, rp)) {
        job->request = json_incref(body);
        if (type->check(ctx, job, body, rp)) {
            submit(ctx->jobs, job, rp);
            job = NULL;
        }
    }
    job_put(job);
    json_decref(body);
}

/* ---- requests as jobs -------------------------------------------------------------------------------------------- */

/* The last part of a route: "lipschitz". */
static const char *kind_of(const struct route *route)
{
    return strrchr(route->template, '/') + 1;
}

/* What is wrong with a request is said at once, by its handler. false: it is, or there is nothing to do (304). */
static bool dry_run(struct ctx *ctx, const struct request *rq, struct job *job, struct reply *rp)
{
    struct request dry = *rq;
    struct reply said = {0};
    bool fine;

    dry.job = job;
    dry.dry = true;
    rq->route->handle(ctx, &dry, &said);
    if (!(fine = said.status < 300)) {
        reply_clear(rp);
        *rp = said;
    } else {
        reply_clear(&said);
    }
    return fine;
}

void jobs_respond_async(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct job *job;

    if (!dry_run(ctx, rq, NULL, rp))
        return;
    job = job_new(ctx->jobs, &job_async, kind_of(rq->route), rq->param[0]);
    if (job && (job->captured = request_capture(rq)) && (job->request = json_object())) {
        reply_header(rp, "Preference-Applied", "respond-async");
        submit(ctx->jobs, job, rp);
    } else {
        reply_no_memory(rp);
        job_put(job);
    }
}

/* evaluate and certify: what the handler takes, less what is the job's own. */
static json_t *body_of(const json_t *request)
{
    static const char *const own[] = {"type", "model", "resume", "metadata"};
    json_t *body = json_deep_copy(request);

    for (size_t i = 0; body && i < sizeof own / sizeof *own; i++)
        json_object_del(body, own[i]);
    return body;
}

static const struct route *route_of(const struct job_type *type)
{
    const struct route *route = routes;

    while (route->method && (strcmp(route->method, "POST") || strcmp(route->template, type->template)))
        route++;
    return route->method ? route : NULL;
}

static bool check_request(struct ctx *ctx, struct job *job, json_t *request, struct reply *rp)
{
    const char *dataset = json_string_value(json_object_get(request, "dataset"));
    struct model *model = store_get(ctx->store, job->model);
    struct dataset *d = dataset ? dataset_get(ctx->datasets, dataset) : NULL;
    bool ok = false;

    if (!model)
        reply_at(rp, 404, "unknown_model", "/model", "Request for unknown model: '%s' is not found", job->model);
    else if (!dataset)
        reply_at(rp, 400, "bad_parameter", "/dataset", "dataset needs the name of a dataset");
    else if (!d)
        reply_at(rp, 404, "unknown_dataset", "/dataset", "there is no dataset '%.140s'", dataset);
    else
        ok = true;
    if (ok) {
        struct captured *captured = request_make("POST", route_of(job->type), job->model, body_of(request));
        struct request rq;

        if (!captured) {
            reply_no_memory(rp);
            ok = false;
        } else {
            request_of(captured, &rq);
            ok = dry_run(ctx, &rq, job, rp);
        }
        free(captured);
    }
    dataset_put(d);
    store_put(model);
    return ok;
}

static enum job_end run_request(struct ctx *ctx, struct job *job, struct reply *rp, struct failure *f)
{
    struct captured *made = job->captured ? NULL : request_make("POST", route_of(job->type), job->model, body_of(job->request));
    struct request rq;
    enum job_end asked;

    if (!job->captured && !made) {
        failure_set(f, 503, "out_of_memory", "out of memory for a job");
        return JOB_ERROR;
    }
    request_of(job->captured ? job->captured : made, &rq);
    rq.job = job;
    rq.route->handle(ctx, &rq, rp);
    free(made);
    asked = job_asked(job);
    return asked == JOB_DROPPED || (asked != JOB_DONE && rp->status >= 400) ? asked : JOB_DONE; /* else it was done already */
}

/* ---- start and end ----------------------------------------------------------------------------------------------- */

struct once *jobs_once(struct jobs *jobs)
{
    return jobs->once;
}

static enum job_status status_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof status_names / sizeof *status_names; i++)
        if (!strcmp(status_names[i], name))
            return (enum job_status)i;
    return JOB_FAILED;
}

static void copy(char *to, size_t size, const json_t *json)
{
    snprintf(to, size, "%s", json_string_value(json) ? json_string_value(json) : "");
}

/* One row of the history. */
static void load(void *ctx, const char *name, const char *text, const void *bytes, size_t size)
{
    struct jobs *jobs = ctx;
    json_t *json = text ? json_loads(text, 0, NULL) : NULL, *progress = json_object_get(json, "progress");
    const json_t *error = json_object_get(json, "error"), *code = json_object_get(error, "code");
    const char *kind = json_string_value(json_object_get(json, "type"));
    const struct job_type *type = type_named(kind);
    struct job *job = NULL;

    (void)bytes;
    (void)size;
    if (!name || !kind || strlen(name) >= JOB_ID_MAX || strncmp(name, "job_", 4) ||
        !(job = job_new(jobs, type ? type : &job_async, kind, json_string_value(json_object_get(json, "model"))))) {
        log_error("a job of the history cannot be read");
        json_decref(json);
        return;
    }
    snprintf(job->id, sizeof job->id, "%s", name);
    snprintf(jobs->last_id, sizeof jobs->last_id, "%s", name);
    job->status = status_named(json_string_value(json_object_get(json, "status")));
    copy(job->created_at, sizeof job->created_at, json_object_get(json, "created_at"));
    copy(job->started_at, sizeof job->started_at, json_object_get(json, "started_at"));
    copy(job->finished_at, sizeof job->finished_at, json_object_get(json, "finished_at"));
    job->step = (uint64_t)json_integer_value(json_object_get(progress, "step"));
    job->total_steps = (uint64_t)json_integer_value(json_object_get(progress, "total_steps"));
    job->epoch = (uint64_t)json_integer_value(json_object_get(progress, "epoch"));
    job->epochs = (uint64_t)json_integer_value(json_object_get(progress, "epochs"));
    job->weights_revision = (uint64_t)json_integer_value(json_object_get(json, "weights_revision"));
    job->metrics = json_incref(json_object_get(json, "metrics"));
    job->request = json_incref(json_object_get(json, "request"));
    job->internal = json_incref(json_object_get(json, "internal"));
    if (json_is_string(code)) {
        const char *known = text_forever(json_string_value(code));
        failure_set(&job->error, (int)json_integer_value(json_object_get(json, "error_status")), known ? known : "internal", "%s",
                    json_string_value(json_object_get(error, "text")));
    }
    if (json_string_value(json_object_get(json, "kept")))
        job->result = strdup(json_string_value(json_object_get(json, "kept")));
    if (!job->request || !insert(jobs, job)) {
        log_error("job %s: its row of the history is damaged", name);
        job_put(job);
    }
    json_decref(json);
}

/* What a start makes of a job that was not finished. */
static void take_up(struct job *job)
{
    const char *resume = json_string_value(json_object_get(job->request, "resume"));
    bool went = active(job->status), never = resume && !strcmp(resume, "never");
    struct failure f = {0};

    if (finished(job->status)) {
        feed_end(job->feed);
        if (job->type->settled)
            job->type->settled(job->jobs->ctx, job); /* a crash may have come between */
        return;
    }
    if (job->status == JOB_CANCELLING) {
        settle(job, JOB_CANCELLED, NULL);
    } else if (!job->type->restarts || (went && never)) {
        failure_set(&f, 500, "interrupted", "the daemon stopped while the job was %s", status_names[job->status]);
        settle(job, JOB_FAILED, &f);
    } else {
        job->status = job->status == JOB_PAUSED || job->status == JOB_PAUSING ? JOB_PAUSED : JOB_QUEUED;
        tell_status(job);
    }
}

struct jobs *jobs_open(struct ctx *ctx, const char *state_dir, char *why, size_t size)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    int state = store_folder(ctx->store);
    struct failure f = {0};

    if (!jobs) {
        snprintf(why, size, "out of memory");
        return NULL;
    }
    jobs->ctx = ctx;
    jobs->results = -1;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->work, NULL);
    pthread_cond_init(&jobs->quiet, NULL);
    if (state_dir && !history_kept())
        folder_remove(state, RESULTS);
    if (state_dir && ((mkdirat(state, RESULTS, 0700) && errno != EEXIST) ||
        (jobs->results = openat(state, RESULTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0))
        snprintf(why, size, "jobs of the state directory: %s", strerror(errno));
    else if (!(jobs->history = history_open(state_dir, why, size)))
        ;
    else if (!(jobs->once = once_open(jobs->history, ctx->store)))
        snprintf(why, size, "out of memory");
    else if (!history_each(jobs->history, HISTORY_JOBS, load, jobs, &f))
        snprintf(why, size, "%s", f.text);
    else
        return jobs;
    jobs_close(jobs);
    return NULL;
}

/* Without a history, or after it was taken away, nobody else would. */
static void forget_lost(struct ctx *ctx)
{
    size_t n;
    struct model **all = store_list(ctx->store, &n);

    for (size_t i = 0; all && i < n; i++) {
        train_job_forget(ctx, all[i]);
        store_put(all[i]);
    }
    free(all);
}

bool jobs_start(struct jobs *jobs)
{
    /* Nobody else is here yet but requests that make new ones: those stay behind what was there. */
    for (size_t i = 0;; i++) {
        struct job *job;

        pthread_mutex_lock(&jobs->lock);
        job = i < jobs->n ? jobs->job[i] : NULL;
        if (job)
            atomic_fetch_add(&job->refs, 1);
        pthread_mutex_unlock(&jobs->lock);
        if (!job)
            break;
        take_up(job);
        job_put(job);
    }
    forget_lost(jobs->ctx);
    for (; jobs->n_runners < RUNNERS; jobs->n_runners++)
        if (pthread_create(&jobs->runner[jobs->n_runners], NULL, runner, jobs))
            return jobs->n_runners > 0;
    return true;
}

bool jobs_stop(struct jobs *jobs)
{
    bool none;

    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    for (size_t i = 0; i < jobs->n; i++)
        atomic_store(&jobs->job[i]->asked, true);
    pthread_cond_broadcast(&jobs->work);
    none = !jobs->running;
    pthread_mutex_unlock(&jobs->lock);
    return none;
}

void jobs_close(struct jobs *jobs)
{
    if (!jobs)
        return;
    jobs_stop(jobs);
    for (size_t i = 0; i < jobs->n_runners; i++)
        pthread_join(jobs->runner[i], NULL);
    for (size_t i = 0; i < jobs->n; i++)
        job_put(jobs->job[i]);
    free(jobs->job);
    once_close(jobs->once);
    history_close(jobs->history);
    if (jobs->results >= 0)
        close(jobs->results);
    pthread_cond_destroy(&jobs->quiet);
    pthread_cond_destroy(&jobs->work);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}
