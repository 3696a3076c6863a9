#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common.h"
#include "handlers.h"

static const struct {
    const char *total, *summary;
} times[STATS_SUMMARIES] = {
    [STATS_REQUEST] = {"nv_inference_request_duration_us", "nv_inference_request_summary_us"},
    [STATS_QUEUE] = {"nv_inference_queue_duration_us", "nv_inference_queue_summary_us"},
    [STATS_INPUT] = {"nv_inference_compute_input_duration_us", "nv_inference_compute_input_summary_us"},
    [STATS_INFER] = {"nv_inference_compute_infer_duration_us", "nv_inference_compute_infer_summary_us"},
    [STATS_OUTPUT] = {"nv_inference_compute_output_duration_us", "nv_inference_compute_output_summary_us"},
};
static const char *const cache[] = {"nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model", "nv_cache_hit_duration_per_model",
                                    "nv_cache_miss_duration_per_model"};

static const char *const reasons[] = {"REJECTED", "CANCELED", "BACKEND", "OTHER"}; /* Triton's, of failures */

/* What the statistics extension counts, under Triton's names. */
static void show_model(struct metrics *metrics, struct model *model)
{
    struct published *now = model_now(model);
    struct stats_totals t;
    char labels[LABELS_MAX], failure[LABELS_MAX + 32];

    if (!now)
        return;
    labels_of(labels, model->name, now->version);
    stats_totals(now->stats, &t);
    metrics_set(metrics, "nv_inference_request_success", labels, (double)t.requests);
    metrics_set(metrics, "nv_inference_count", labels, (double)t.inferences);
    metrics_set(metrics, "nv_inference_exec_count", labels, (double)t.executions);
    metrics_set(metrics, "nv_inference_pending_request_count", labels, (double)model->batcher.pending);
    for (size_t i = 0; i < STATS_SUMMARIES; i++) {
        double us[METRICS_QUANTILES];
        for (size_t q = 0; q < METRICS_QUANTILES; q++)
            us[q] = t.quantile_ns[i][q] / 1e3;
        metrics_set(metrics, times[i].total, labels, (double)t.ns[i] / 1e3);
        metrics_quantiles(metrics, times[i].summary, labels, us, (double)t.ns[i] / 1e3, t.requests);
    }
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) { /* the first one is a change from 0 */
        snprintf(failure, sizeof failure, "%s,reason=\"%s\"", labels, reasons[i]);
        metrics_add(metrics, "nv_inference_request_failure", failure, 0);
    }
    for (size_t i = 0; i < sizeof cache / sizeof *cache; i++)
        metrics_set(metrics, cache[i], labels, 0);
    metrics_set(metrics, "onelip_publish_total", labels, (double)t.published);
    metrics_set(metrics, "onelip_publish_coalesced_total", labels, (double)t.coalesced);
    metrics_set(metrics, "onelip_weights_revision", labels, (double)now->weights_revision);
    published_put(now);
}

/* GET /metrics  ->  Prometheus's text format */
void handle_metrics(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    size_t bytes, n = 0;
    struct model **all = store_list(ctx->store, &n);
    char *text;

    (void)rq;
    for (size_t i = 0; all && i < n; i++) {
        size_t frozen = 0;
        struct model **versions = model_versions(all[i], &frozen);
        for (size_t k = 0; versions && k < frozen; k++) {
            show_model(ctx->metrics, versions[k]);
            store_put(versions[k]);
        }
        free(versions);
        show_model(ctx->metrics, all[i]);
        store_put(all[i]);
    }
    free(all);
    metrics_set(ctx->metrics, "onelip_snapshots_live", "", (double)published_live());
    if ((text = metrics_text(ctx->metrics, &bytes)))
        reply_bytes(rp, 200, "text/plain; version=0.0.4; charset=utf-8", text, bytes);
    else
        reply_no_memory(rp);
}
