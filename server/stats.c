#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

struct stats *stats_new(void)
{
    struct stats *s = calloc(1, sizeof *s);

    if (s) {
        atomic_init(&s->refs, 1);
        pthread_mutex_init(&s->lock, NULL);
    }
    return s;
}

struct stats *stats_get(struct stats *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void stats_put(struct stats *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->summary);
    free(s);
}

static void add(struct timing *t, uint64_t ns)
{
    t->count++;
    t->ns += ns;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void stats_success(struct stats *s, const struct stats_request *r)
{
    const uint64_t ns[STATS_SUMMARIES] = {r->total, r->queue, r->input, r->infer, r->output};

    pthread_mutex_lock(&s->lock);
    s->last_ms = now_ms();
    if (!s->summary)
        s->summary = calloc(STATS_SUMMARIES, sizeof *s->summary);
    for (size_t i = 0; s->summary && i < STATS_SUMMARIES; i++)
        summary_add(&s->summary[i], s->last_ms, ns[i]);
    s->inferences += r->samples;
    add(&s->success, r->total);
    add(&s->queue, r->queue);
    add(&s->input, r->input);
    add(&s->infer, r->infer);
    add(&s->output, r->output);
    pthread_mutex_unlock(&s->lock);
}

void stats_execution(struct stats *s, const struct stats_request *r)
{
    size_t i = 0;

    pthread_mutex_lock(&s->lock);
    s->executions++;
    while (i < s->n_batches && s->batch[i].size != r->samples)
        i++;
    if (i == s->n_batches && i < STATS_BATCHES)
        s->batch[s->n_batches++].size = r->samples;
    if (i < STATS_BATCHES) {
        add(&s->batch[i].input, r->input);
        add(&s->batch[i].infer, r->infer);
        add(&s->batch[i].output, r->output);
    }
    pthread_mutex_unlock(&s->lock);
}

void stats_failure(struct stats *s, uint64_t total_ns)
{
    pthread_mutex_lock(&s->lock);
    add(&s->fail, total_ns);
    pthread_mutex_unlock(&s->lock);
}

void stats_totals(struct stats *s, struct stats_totals *t)
{
    pthread_mutex_lock(&s->lock);
    *t = (struct stats_totals){.requests = s->success.count,
                               .inferences = s->inferences,
                               .executions = s->executions,
                               .published = s->published,
                               .coalesced = s->coalesced,
                               .ns = {s->success.ns, s->queue.ns, s->input.ns, s->infer.ns, s->output.ns}};
    for (size_t i = 0; i < STATS_SUMMARIES; i++)
        for (size_t q = 0; q < METRICS_QUANTILES; q++)
            t->quantile_ns[i][q] = s->summary ? summary_quantile(&s->summary[i], now_ms(), metrics_quantile[q]) : NAN;
    pthread_mutex_unlock(&s->lock);
}

void stats_published(struct stats *s, bool published)
{
    pthread_mutex_lock(&s->lock);
    *(published ? &s->published : &s->coalesced) += 1;
    pthread_mutex_unlock(&s->lock);
}

void stats_step(struct stats *s, const lip_step_report *r, uint64_t publish_ns, uint64_t total_ns)
{
    pthread_mutex_lock(&s->lock);
    add(&s->steps, total_ns);
    add(&s->orthogonalize, r->orthogonalize_ns);
    add(&s->forward, r->forward_ns);
    add(&s->backward, r->backward_ns);
    add(&s->update, r->update_ns);
    add(&s->publish, publish_ns);
    pthread_mutex_unlock(&s->lock);
}

static json_t *timing(const struct timing *t)
{
    return json_pack("{s:I, s:I}", "count", (json_int_t)t->count, "ns", (json_int_t)t->ns);
}

json_t *stats_json(struct stats *s, const char *name, const char *version, size_t bytes)
{
    static const struct timing none;
    json_t *batches = json_array(), *json;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_batches; i++)
        json_array_append_new(batches, json_pack("{s:I, s:o, s:o, s:o}", "batch_size", (json_int_t)s->batch[i].size,
                                                 "compute_input", timing(&s->batch[i].input), "compute_infer",
                                                 timing(&s->batch[i].infer), "compute_output", timing(&s->batch[i].output)));
    json = json_pack("{s:s, s:s, s:I, s:I, s:I, s:{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}, s:{}, s:o, s:[{s:s, s:i, s:I}], "
                     "s:{s:o, s:o, s:o, s:o, s:o, s:o}}",
                     "name", name, "version", version, "last_inference", (json_int_t)s->last_ms, "inference_count",
                     (json_int_t)s->inferences, "execution_count", (json_int_t)s->executions, "inference_stats", "success",
                     timing(&s->success), "fail", timing(&s->fail), "queue", timing(&s->queue), "compute_input",
                     timing(&s->input), "compute_infer", timing(&s->infer), "compute_output", timing(&s->output), "cache_hit",
                     timing(&none), "cache_miss", timing(&none), "response_stats", "batch_stats", batches, "memory_usage", "type",
                     "CPU", "id", 0, "byte_size", (json_int_t)bytes, "training_stats", "steps", timing(&s->steps),
                     "orthogonalize", timing(&s->orthogonalize), "forward", timing(&s->forward), "backward",
                     timing(&s->backward), "update", timing(&s->update), "publish", timing(&s->publish));
    pthread_mutex_unlock(&s->lock);
    return json;
}
