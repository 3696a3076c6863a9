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

struct timing {
    uint64_t count, ns;
};

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
    uint64_t requests, inferences, executions, total_ns, queue_ns, input_ns, infer_ns, output_ns;
};

void stats_success(struct stats *s, const struct stats_request *r);
void stats_execution(struct stats *s, const struct stats_request *r); /* its total and queue are not used */
void stats_failure(struct stats *s, uint64_t total_ns);
void stats_totals(struct stats *s, struct stats_totals *totals);
void stats_step(struct stats *s, const lip_step_report *r, uint64_t publish_ns, uint64_t total_ns);

/* stats_json: one entry of "model_stats". bytes: memory that the model takes. NULL: out of memory. Threads: safe. */
json_t *stats_json(struct stats *s, const char *name, const char *version, size_t bytes);

#endif
