/* stats.h: one version's counts and times, as Triton's statistics extension has them. Cumulative, never reset. */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include <jansson.h>
#include <onelip/train.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics.h"
#include "summary.h"

struct timing {
    uint64_t count, ns;
};

enum { STATS_REQUEST, STATS_QUEUE, STATS_INPUT, STATS_INFER, STATS_OUTPUT, STATS_SUMMARIES };

#define STATS_BATCHES 64 /* different batch sizes that are told apart; later ones count in the totals only */

struct stats {
    atomic_uint refs;
    pthread_mutex_t lock;
    uint64_t last_ms; /* of the last inference, since the epoch */
    uint64_t inferences, executions;
    struct timing success, fail, queue, input, infer, output;
    struct {
        size_t size;
        struct timing input, infer, output;
    } batch[STATS_BATCHES];
    size_t n_batches;
    struct summary *summary; /* STATS_SUMMARIES; NULL before the first inference */
    uint64_t published, coalesced;
    struct timing steps, orthogonalize, forward, backward, update, publish;
};

/* Times of one inference request, in ns; or of one execution: of all its requests' reading and writing, and of its pass. */
struct stats_request {
    uint64_t total, queue, input, infer, output;
    size_t samples;
};

struct stats *stats_new(void); /* with one reference; NULL: out of memory */
struct stats *stats_get(struct stats *s);
void stats_put(struct stats *s);

/* For metrics. */
struct stats_totals {
    uint64_t requests, inferences, executions, published, coalesced, ns[STATS_SUMMARIES];
    double quantile_ns[STATS_SUMMARIES][METRICS_QUANTILES]; /* of the last minute or two; NaN: there was no inference */
};

void stats_success(struct stats *s, const struct stats_request *r);
void stats_execution(struct stats *s, const struct stats_request *r); /* its total and queue are not used */
void stats_failure(struct stats *s, uint64_t total_ns);
void stats_totals(struct stats *s, struct stats_totals *totals);
void stats_published(struct stats *s, bool published); /* a state, or a step whose state a later one stands for */
void stats_step(struct stats *s, const lip_step_report *r, uint64_t publish_ns, uint64_t total_ns);

/* stats_json: one entry of "model_stats". bytes: memory that the model takes. NULL: out of memory. Threads: safe. */
json_t *stats_json(struct stats *s, const char *name, const char *version, size_t bytes);

#endif
