/* infer.c: the forward pass over the wire.
 *
 * A reader holds one counted snapshot from the first byte it looks at to the last it writes, so an answer belongs to one
 * weights_revision, and training goes on meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "metrics.h"
#include "settings.h"
#include "store_private.h"

/* What the HTTP thread may spend on one request itself: a hand-off to a worker costs 45 us. */
#define INLINE_NS 300e3
#define FLOPS_PER_NS 8.0     /* of one core, small batches */
#define INLINE_BYTES (96 << 10)

bool infer_is_small(struct ctx *ctx, const struct request *rq)
{
    struct model *model = rq->bytes <= INLINE_BYTES ? store_get(ctx->store, rq->param[0]) : NULL;
    struct published *now = model ? model_now(model) : NULL;
    bool small = false;

    if (now) {
        const lip_model *m = lip_snapshot_model(now->snapshot);
        /* A sample takes at least 4 bytes for each number, as bytes and, nearly always, as text. */
        double each = 4.0 * (double)lip_shape_count(lip_model_input_shape(m, 0));
        double samples = (double)rq->bytes / (each > 1 ? each : 1) + 1;
        small = samples * lip_model_flops(m) / FLOPS_PER_NS + 10.0 * (double)rq->bytes <= INLINE_NS * 2 &&
                samples * lip_model_flops(m) / FLOPS_PER_NS <= INLINE_NS;
    }
    published_put(now);
    store_put(model);
    return small;
}

/* Reserved parameters of the request. */
static bool read_parameters(const struct codec_body *body, const struct published *now, const struct request *rq,
                            double default_timeout, struct reply *rp)
{
    static const char *const unsigned_ones[] = {"priority", "timeout", "min_revision"};
    double limit = default_timeout * 1e9;
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)body->parameters, key, v) {
        char pointer[200];
        snprintf(pointer, sizeof pointer, "/parameters/%.100s", key);
        if (!strncmp(key, "triton_", 7)) {
            reply_at(rp, 400, "bad_parameter", pointer, "parameter '%.100s' is reserved", key);
            return false;
        }
        for (size_t i = 0; i < sizeof unsigned_ones / sizeof *unsigned_ones; i++)
            if (!strcmp(key, unsigned_ones[i]) && (!json_is_integer(v) || json_integer_value(v) < 0)) {
                reply_at(rp, 400, "bad_parameter", pointer, "parameter '%s' needs an integer that is not negative", key);
                return false;
            }
    }
    v = json_object_get(body->parameters, "min_revision");
    if (v && (uint64_t)json_integer_value(v) > now->weights_revision) {
        reply_at(rp, 501, "unsupported", "/parameters/min_revision",
                 "waiting for a revision is not built in; weights_revision is %llu", (unsigned long long)now->weights_revision);
        return false;
    }
    v = json_object_get(body->parameters, "timeout");
    if (json_integer_value(v) > 0 && (double)json_integer_value(v) * 1e3 < limit)
        limit = (double)json_integer_value(v) * 1e3;
    if ((double)(now_ns() - rq->start_ns) > limit) {
        reply_error(rp, 504, "deadline_exceeded", NULL, "Request timeout expired");
        return false;
    }
    return true;
}

static float *forward(const struct published *now, size_t n, const float *x, struct codec_result *result, struct reply *rp)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    const lip_shape *shape = lip_model_output_shape(m, 0);
    lip_workspace *ws = thread_workspace();
    lip_error err = {0};
    size_t count;
    float *y = NULL;

    result->shape.rank = shape->rank + 1;
    result->shape.dim[0] = n;
    memcpy(result->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim);
    if (!ws || __builtin_mul_overflow(n, lip_shape_count(shape), &count) || count > SIZE_MAX / 8 ||
        posix_memalign((void **)&y, 64, count * sizeof *y + 64)) {
        reply_no_memory(rp);
        return NULL;
    }
    if (lip_predict(now->snapshot, ws, n, x, y, &err)) {
        reply_lip_error(rp, &err, ABOUT_TENSORS, NULL);
        free(y);
        return NULL;
    }
    result->data = y;
    return y;
}

struct times {
    uint64_t start, parsed, computed, done;
    size_t samples;
};

static void answer(struct ctx *ctx, const struct request *rq, struct reply *rp, struct model *model, struct published *now,
                   struct times *t)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct codec_body body;
    struct codec_result result = {.name = lip_model_output_name(m, 0)};
    const float *x = NULL;
    float *owned = NULL, *y = NULL;
    size_t n = 1;
    char etag[ETAG_MAX];
    struct facts facts;
    json_t *parameters;

    pthread_mutex_lock(&model->lock);
    facts.max_batch_size = model->facts.max_batch_size;
    pthread_mutex_unlock(&model->lock);
    if (!codec_read_body(rq, model->name, NULL, &body, rp) ||
        !read_parameters(&body, now, rq, ctx->config->request_timeout_seconds, rp) ||
        !codec_features(&body, model->name, m, NULL, &t->samples, &x, &owned, rp) ||
        !codec_choose(&body, model->name, &result, &n, rp))
        goto done;
    if (t->samples > (size_t)facts.max_batch_size) {
        reply_error(rp, 400, "batch_too_large", NULL, "inference request batch-size must be <= %ld for '%s'",
                    facts.max_batch_size, model->name);
        goto done;
    }
    t->parsed = now_ns();
    if (!(y = forward(now, t->samples, x, &result, rp)))
        goto done;
    t->computed = now_ns();
    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_header(rp, "ETag", "%s", etag);
    reply_weights_revision(rp, now->weights_revision);
    parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
    codec_answer(rp, model->name, now->version, body.id, parameters, NULL, &result, n);
    json_decref(parameters);
done:
    codec_clear_body(&body);
    free(owned);
    free(y);
}

static void count(struct ctx *ctx, const struct request *rq, const struct reply *rp, const char *model,
                  const struct published *now, const struct times *t)
{
    char labels[LABELS_MAX], failure[LABELS_MAX + 32];

    labels_of(labels, model, now->version);
    if (rp->status != 200) {
        snprintf(failure, sizeof failure, "%s,reason=\"%s\"", labels,
                 rp->status == 504 || rp->status == 429 ? "REJECTED" : rp->status >= 500 ? "BACKEND" : "OTHER");
        metrics_add(ctx->metrics, "nv_inference_request_failure", failure, 1);
        stats_failure(now->stats, t->done - rq->start_ns);
        return;
    }
    stats_success(now->stats, &(struct stats_request){.total = t->done - rq->start_ns,
                                                     .queue = t->start - rq->start_ns,
                                                     .input = t->parsed - t->start,
                                                     .infer = t->computed - t->parsed,
                                                     .output = t->done - t->computed,
                                                     .samples = t->samples});
    metrics_add(ctx->metrics, "nv_inference_request_success", labels, 1);
    metrics_add(ctx->metrics, "nv_inference_count", labels, (double)t->samples);
    metrics_add(ctx->metrics, "nv_inference_exec_count", labels, 1);
    metrics_add(ctx->metrics, "nv_inference_request_duration_us", labels, (double)(t->done - rq->start_ns) / 1e3);
    metrics_add(ctx->metrics, "nv_inference_queue_duration_us", labels, (double)(t->start - rq->start_ns) / 1e3);
    metrics_add(ctx->metrics, "nv_inference_compute_input_duration_us", labels, (double)(t->parsed - t->start) / 1e3);
    metrics_add(ctx->metrics, "nv_inference_compute_infer_duration_us", labels, (double)(t->computed - t->parsed) / 1e3);
    metrics_add(ctx->metrics, "nv_inference_compute_output_duration_us", labels, (double)(t->done - t->computed) / 1e3);
}

/* POST /v2/models/{m}/infer  {"inputs":[tensor, …]}  ->  {"model_name", "outputs":[tensor, …]} */
void handle_infer(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct times t = {.start = now_ns()};
    struct model *model = find_model(ctx, rq, rp);
    struct published *now;

    if (!model)
        return;
    if ((now = find_now(model, rp)))
        answer(ctx, rq, rp, model, now, &t);
    t.done = now_ns();
    if (rp->status == 200) {
        rp->parse_ns = t.parsed - t.start;
        rp->compute_ns = t.computed - t.parsed;
        rp->serialize_ns = t.done - t.computed;
    }
    if (now)
        count(ctx, rq, rp, model->name, now, &t);
    published_put(now);
    store_put(model);
}
