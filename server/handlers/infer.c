/* infer.c: the forward pass over the wire, alone or with the requests that wait beside it (batch.h).
 *
 * A batch holds one counted snapshot from the first byte it computes to the last it writes, so an answer belongs to one
 * weights_revision, and training goes on meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "common.h"
#include "courtesy.h"
#include "handlers.h"
#include "metrics.h"
#include "settings.h"
#include "store_private.h"

/* A request that was read, until its reply is filled. */
struct infer {
    struct batch_item item;
    struct ctx *ctx;
    const struct request *rq;
    struct reply *rp;
    struct model *model;
    struct published *now; /* it was checked against this one */
    const float **x;             /* of each input of the model */
    float **owned;               /* x[i], where it is not the body's */
    struct codec_result *result; /* those that are wanted */
    size_t *output, results;     /* which output of the model each is */
    uint64_t start_ns, parsed_ns;
    char *id;     /* NULL: none was given */
};

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Reserved parameters of the request. */
static bool read_parameters(const struct codec_body *body, uint64_t *priority, uint64_t *timeout_us, uint64_t *min_revision,
                            struct reply *rp)
{
    const struct {
        const char *name;
        uint64_t *value;
    } ours[] = {{"priority", priority}, {"timeout", timeout_us}, {"min_revision", min_revision}};
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)body->parameters, key, v) {
        char pointer[200];
        snprintf(pointer, sizeof pointer, "/parameters/%.100s", key);
        if (!strncmp(key, "triton_", 7)) {
            reply_at(rp, 400, "bad_parameter", pointer, "parameter '%.100s' is reserved", key);
            return false;
        }
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
            if (strcmp(key, ours[i].name) != 0)
                continue;
            if (!json_is_integer(v) || json_integer_value(v) < 0) {
                reply_at(rp, 400, "bad_parameter", pointer, "parameter '%s' needs an integer that is not negative", key);
                return false;
            }
            *ours[i].value = (uint64_t)json_integer_value(v);
        }
    }
    return true;
}

static void count_failure(const struct infer *job)
{
    const char *reason = job->rp->status == 504 || job->rp->status == 429 ? "REJECTED"
                         : job->rp->status == 499                         ? "CANCELED"
                         : job->rp->status >= 500                         ? "BACKEND"
                                                                          : "OTHER";
    char labels[LABELS_MAX], failure[LABELS_MAX + 32];

    if (!job->now)
        return;
    labels_of(labels, job->model->name, job->now->version);
    snprintf(failure, sizeof failure, "%s,reason=\"%s\"", labels, reason);
    metrics_add(job->ctx->metrics, "nv_inference_request_failure", failure, 1);
    stats_failure(job->now->stats, now_ns() - job->rq->start_ns);
}

static void too_late(struct reply *rp, const struct ctx *ctx)
{
    reply_error(rp, ctx->config->triton_status ? 503 : 504, "deadline_exceeded", NULL, "Request timeout expired");
}

/* Give the item its place in the queue's order. false: there is none. */
static bool admit(struct infer *job, uint64_t priority, uint64_t timeout_us)
{
    uint64_t end = job->rq->start_ns + (uint64_t)(job->ctx->config->request_timeout_seconds * 1e9), retry;

    if (timeout_us && timeout_us < 1000000000000u && job->rq->start_ns + timeout_us * 1000 < end)
        end = job->rq->start_ns + timeout_us * 1000;
    if (job->parsed_ns >= end) {
        too_late(job->rp, job->ctx);
        return false;
    }
    if (!batcher_admit(&job->model->batcher, &job->item, priority, timeout_us, job->parsed_ns, end, &retry))
        return true;
    reply_header(job->rp, "Retry-After", "%llu", (unsigned long long)retry);
    reply_error(job->rp, job->ctx->config->triton_status ? 503 : 429, "queue_full", NULL, "Exceeds maximum queue size");
    return false;
}

/* One allocation for what there is of each input and output. */
static bool reserve(struct infer *job, const lip_model *m)
{
    size_t in = lip_model_inputs(m), out = lip_model_outputs(m);
    char *memory = calloc(1, in * (sizeof *job->x + sizeof *job->owned) + out * (sizeof *job->result + sizeof *job->output));

    if (!memory) {
        reply_no_memory(job->rp);
        return false;
    }
    job->result = (struct codec_result *)(void *)memory;
    job->output = (size_t *)(void *)(job->result + out);
    job->x = (const float **)(void *)(job->output + out);
    job->owned = (float **)(void *)(job->x + in);
    return true;
}

/* Which outputs the request wants: a result's rank stands for its number until its shape is known. */
static bool choose(struct infer *job, const struct codec_body *body, const lip_model *m)
{
    job->results = lip_model_outputs(m);
    for (size_t i = 0; i < job->results; i++)
        job->result[i] = (struct codec_result){.name = lip_model_output_name(m, i), .shape = {.rank = i}, .type = CODEC_FP32};
    if (!codec_choose(body, job->model->name, job->result, &job->results, job->rp))
        return false;
    for (size_t i = 0; i < job->results; i++)
        job->output[i] = job->result[i].shape.rank;
    return true;
}

/* The document goes away here, on the thread that read it: what stays is in the job and in the request's body. */
static bool read_request(struct infer *job)
{
    const lip_model *m = lip_snapshot_model(job->now->snapshot);
    struct reply *rp = job->rp;
    const char *name = job->model->name;
    uint64_t priority = 0, timeout_us = 0;
    struct codec_body body;
    bool good, cast;
    long most;

    pthread_mutex_lock(&job->model->lock);
    most = job->model->knobs->max_batch_size;
    cast = job->model->knobs->cast_inputs;
    pthread_mutex_unlock(&job->model->lock);
    if (!reserve(job, m))
        return false;
    good = codec_read_body(job->rq, name, NULL, &body, rp) &&
           read_parameters(&body, &priority, &timeout_us, &job->item.min_revision, rp) &&
           codec_inputs(&body, name, m, NULL, cast, &job->item.rows, job->x, job->owned, rp) && choose(job, &body, m);
    if (good && job->item.rows > (size_t)most) {
        reply_error(rp, 400, "batch_too_large", NULL, "inference request batch-size must be <= %ld for '%s'", most, name);
        good = false;
    }
    if (good && body.id && !(job->id = strdup(body.id))) {
        reply_no_memory(rp);
        good = false;
    }
    codec_clear_body(&body);
    job->item.most = (size_t)most;
    job->item.flops = lip_model_flops(m);
    job->parsed_ns = now_ns();
    return good && admit(job, priority, timeout_us);
}

/* ---- computing ------------------------------------------------------------------------------------------------ */

static struct infer *job_of(struct batch_item *item)
{
    return (struct infer *)item;
}

static struct infer *next_of(const struct infer *job)
{
    return (struct infer *)job->item.next;
}

static void fail_all(struct infer *batch, const lip_error *err)
{
    for (struct infer *job = batch; job; job = next_of(job)) {
        if (err)
            reply_lip_error(job->rp, err, ABOUT_TENSORS, NULL);
        else
            reply_no_memory(job->rp);
        count_failure(job);
    }
}

/* Numbers in one sample of all inputs, and of all outputs. */
static size_t width(const lip_model *m, bool inputs)
{
    size_t n = inputs ? lip_model_inputs(m) : lip_model_outputs(m), sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += lip_shape_count(inputs ? lip_model_input_shape(m, i) : lip_model_output_shape(m, i));
    return sum;
}

/* The samples of all, one behind the other, input by input; those of a single request are where they are. */
static void gather(struct infer *batch, const lip_model *m, float *room, const float **x)
{
    for (size_t i = 0; i < lip_model_inputs(m); i++) {
        size_t each = lip_shape_count(lip_model_input_shape(m, i));

        x[i] = next_of(batch) ? room : batch->x[i];
        for (struct infer *job = batch; next_of(batch) && job; job = next_of(job)) {
            memcpy(room, job->x[i], job->item.rows * each * sizeof *room);
            room += job->item.rows * each;
        }
    }
}

/* Where the n samples of each output go. */
static void place(const lip_model *m, size_t n, float *room, float **y)
{
    for (size_t i = 0; i < lip_model_outputs(m); i++) {
        y[i] = room;
        room += n * lip_shape_count(lip_model_output_shape(m, i));
    }
}

/* Passes shorter than this stay on one thread: there is another one for the other requests. */
#define SERIAL_NS 500e3

/* deterministic: each sample by itself, so that nothing depends on its neighbours. x and y are used up then. */
static lip_err forward(const struct published *now, bool deterministic, bool serial, size_t n, const float **x, float **y,
                       lip_error *err)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    lip_workspace *ws = thread_workspace();
    lip_err rc = LIP_OK;

    if (!ws)
        return LIP_ENOMEM;
    lip_workspace_serial(ws, serial);
    if (!deterministic)
        return lip_predict_graph(now->snapshot, ws, n, x, y, err);
    for (size_t s = 0; s < n && !rc; s++) {
        rc = lip_predict_graph(now->snapshot, ws, 1, x, y, err);
        for (size_t i = 0; i < lip_model_inputs(m); i++)
            x[i] += lip_shape_count(lip_model_input_shape(m, i));
        for (size_t i = 0; i < lip_model_outputs(m); i++)
            y[i] += lip_shape_count(lip_model_output_shape(m, i));
    }
    return rc;
}

/* y: of each output, from this job's first sample on. */
static void answer(struct infer *job, const struct published *now, float *const *y)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    json_t *parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
    char etag[ETAG_MAX];

    for (size_t i = 0; i < job->results; i++) {
        const lip_shape *shape = lip_model_output_shape(m, job->output[i]);
        struct codec_result *r = &job->result[i];

        r->shape.rank = shape->rank + 1;
        r->shape.dim[0] = job->item.rows;
        memcpy(r->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim);
        r->data = y[job->output[i]];
    }
    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_text(job->rp, "ETag", etag);
    reply_weights_revision(job->rp, now->weights_revision);
    codec_answer(job->rp, job->model->name, now->version, job->id, parameters, NULL, job->result, job->results);
    json_decref(parameters);
}

static void count_success(struct infer *job, struct stats *stats, const char *labels, uint64_t begun, uint64_t computed,
                          uint64_t *output_ns)
{
    uint64_t done = now_ns();
    struct stats_request times = {.total = done - job->rq->start_ns,
                                  .queue = job->start_ns - job->rq->start_ns + (begun - job->parsed_ns),
                                  .input = job->parsed_ns - job->start_ns,
                                  .infer = computed - begun,
                                  .output = done - *output_ns,
                                  .samples = job->item.rows};

    job->rp->queue_ns = times.queue;
    job->rp->parse_ns = times.input;
    job->rp->compute_ns = times.infer;
    job->rp->serialize_ns = times.output;
    stats_success(stats, &times);
    metrics_observe(job->ctx->metrics, "nv_inference_first_response_histogram_ms", labels, (double)times.total * 1e-6);
    courtesy_served(done);
    *output_ns = done;
}

/* Whether two snapshots read and write the same shapes. */
static bool same_shapes(const struct published *a, const struct published *b)
{
    const lip_model *m = lip_snapshot_model(a->snapshot), *n = lip_snapshot_model(b->snapshot);

    if (m == n)
        return true;
    if (lip_model_inputs(m) != lip_model_inputs(n) || lip_model_outputs(m) != lip_model_outputs(n))
        return false;
    for (size_t i = 0; i < lip_model_inputs(m); i++)
        if (!lip_shape_equal(lip_model_input_shape(m, i), lip_model_input_shape(n, i)))
            return false;
    for (size_t i = 0; i < lip_model_outputs(m); i++)
        if (!lip_shape_equal(lip_model_output_shape(m, i), lip_model_output_shape(n, i)))
            return false;
    return true;
}

/* What is published now; what the first of the batch was checked against when the model was replaced since by one of other
 * shapes, or went away. */
static struct published *newest(const struct infer *job)
{
    struct published *now = model_now(job->model);

    if (now && same_shapes(now, job->now))
        return now;
    published_put(now);
    atomic_fetch_add(&job->now->refs, 1);
    return job->now;
}

/* One forward pass for requests whose shapes are the same. The statistics are complete before a client sees its answer. */
static void compute(struct infer *batch)
{
    struct published *now = newest(batch);
    const lip_model *m = lip_snapshot_model(now->snapshot);
    size_t in = width(m, true), out = width(m, false), n = 0, count;
    struct batcher *b = &batch->model->batcher;
    struct stats_request sum = {0};
    uint64_t begun = now_ns(), computed, at;
    char labels[LABELS_MAX];
    struct batch_config config;
    lip_error err = {0};
    const float *one_x, **x = &one_x;
    float *room = NULL, *one_y, **y = &one_y, *first;
    bool serial;
    lip_err rc;

    for (struct infer *job = batch; job; job = next_of(job)) {
        n += job->item.rows;
        sum.input += job->parsed_ns - job->start_ns;
    }
    if (!next_of(batch))
        in = 0; /* it need not be moved */
    batcher_config(b, &config);
    serial = batcher_ns(b, n, batch->item.flops) <= SERIAL_NS;
    if (__builtin_mul_overflow(n, in + out, &count) || count > SIZE_MAX / 8 ||
        posix_memalign((void **)&room, 64, count * sizeof *room + 128)) {
        fail_all(batch, NULL);
        goto done;
    }
    if ((lip_model_inputs(m) > 1 && !(x = calloc(lip_model_inputs(m), sizeof *x))) ||
        (lip_model_outputs(m) > 1 && !(y = calloc(lip_model_outputs(m), sizeof *y)))) {
        fail_all(batch, NULL);
        goto done;
    }
    first = room + (n * in + 15) / 16 * 16;
    gather(batch, m, room, x);
    place(m, n, first, y);
    if ((rc = forward(now, config.deterministic, serial, n, x, y, &err))) {
        fail_all(batch, rc == LIP_ENOMEM ? NULL : &err);
        goto done;
    }
    at = computed = now_ns();
    batcher_took(b, n, computed - begun);
    place(m, n, first, y);
    labels_of(labels, batch->model->name, now->version);
    for (struct infer *job = batch; job; job = next_of(job)) {
        answer(job, now, y);
        count_success(job, now->stats, labels, begun, computed, &at);
        for (size_t i = 0; i < lip_model_outputs(m); i++)
            y[i] += job->item.rows * lip_shape_count(lip_model_output_shape(m, i));
    }
    sum.infer = computed - begun;
    sum.output = at - computed;
    sum.samples = n;
    stats_execution(now->stats, &sum);
    metrics_observe(batch->ctx->metrics, "onelip_batch_size", labels, (double)n);
done:
    if (x != &one_x)
        free(x);
    if (y != &one_y)
        free(y);
    free(room);
    published_put(now);
}

static void run(struct batch_item *batch)
{
    bool same = true;

    for (struct batch_item *i = batch->next; i; i = i->next)
        same &= same_shapes(job_of(i)->now, job_of(batch)->now);
    if (same) {
        compute(job_of(batch));
        return;
    }
    for (struct batch_item *i = batch, *next; i; i = next) {
        next = i->next;
        i->next = NULL;
        compute(job_of(i));
        i->next = next;
    }
}

static void drop(struct batch_item *item, int status)
{
    struct infer *job = job_of(item);

    if (status == 499)
        reply_bytes(job->rp, 499, NULL, NULL, 0);
    else
        too_late(job->rp, job->ctx);
    job->rp->queue_ns = now_ns() - job->rq->start_ns;
    count_failure(job);
}

static void forget(struct batch_item *item)
{
    struct infer *job = job_of(item);

    free(job->id);
    for (size_t i = 0; job->owned && i < lip_model_inputs(lip_snapshot_model(job->now->snapshot)); i++)
        free(job->owned[i]);
    free(job->result);
    published_put(job->now);
    store_put(job->model);
    free(job);
}

static const struct batch_work work = {run, drop, forget};

/* POST /v2/models/{m}/infer  {"inputs":[tensor, …]}  ->  {"model_name", "outputs":[tensor, …]} */
struct batch_item *handle_infer(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp);
    struct infer *job;

    if (!model)
        return NULL;
    if (!(job = calloc(1, sizeof *job))) {
        reply_no_memory(rp);
        store_put(model);
        return NULL;
    }
    job->item.work = &work;
    job->ctx = ctx;
    job->rq = rq;
    job->rp = rp;
    job->model = model;
    job->start_ns = now_ns();
    if ((job->now = find_now(model, rp)) && read_request(job))
        return &job->item;
    count_failure(job);
    forget(&job->item);
    return NULL;
}
