/* metrics.h: counters, gauges and histograms; one line each in metrics.def: name, kind, buckets, help. Threads: safe. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct metrics;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

/* metrics_add / _set / _observe: labels is the text inside the braces ("model=\"a\",version=\"1\"") or "". Unknown names
 * are an assert. Counters grow, gauges are set, histograms observe, summaries are told. Without memory for a new series it stays away. */
void metrics_add(struct metrics *m, const char *name, const char *labels, double by);
void metrics_set(struct metrics *m, const char *name, const char *labels, double value);
void metrics_observe(struct metrics *m, const char *name, const char *labels, double value);
/* metrics_hold, metrics_release: around several calls of this thread, which then take the lock once. */
void metrics_hold(struct metrics *m);
void metrics_release(struct metrics *m);
/* metrics_series: the series of these labels, made if need be, for series_observe: as metrics_observe, without looking for it.
 * It lives until metrics_drop of its labels. NULL: out of memory. */
struct series;
struct series *metrics_series(struct metrics *m, const char *name, const char *labels);
void series_observe(struct metrics *m, struct series *s, double value);
/* metrics_quantiles: a summary: the values at metrics_quantile[], and the sum and count of all since the start. */
#define METRICS_QUANTILES 5
extern const double metrics_quantile[METRICS_QUANTILES];
void metrics_quantiles(struct metrics *m, const char *name, const char *labels, const double *values, double sum, uint64_t count);
/* metrics_watch: a gauge without labels that is read when somebody asks; read must not call metrics_*. */
void metrics_watch(struct metrics *m, const char *name, double (*read)(void *arg), void *arg);
void metrics_drop(struct metrics *m, const char *labels_prefix); /* forget the series of a deleted model */
char *metrics_text(struct metrics *m, size_t *bytes); /* Prometheus text exposition; free(); NULL: out of memory */

#endif
