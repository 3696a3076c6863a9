/* check_metrics.c: the text that Prometheus reads. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "check_main.h"
#include "metrics.h"
#include "summary.h"

static char *text_of(struct metrics *m)
{
    size_t bytes;
    char *text = metrics_text(m, &bytes);

    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(strlen(text), bytes);
    return text;
}

static void has(struct metrics *m, const char *line, bool wanted)
{
    char *text = text_of(m);

    ck_assert_msg(!strstr(text, line) == !wanted, "%s is%s in\n%s", line, wanted ? " not" : "", text);
    free(text);
}

START_TEST(counters_and_gauges)
{
    struct metrics *m = metrics_new();

    has(m, "onelip_rejected_total", false);
    metrics_add(m, "onelip_rejected_total", "reason=\"slow\"", 1);
    metrics_add(m, "onelip_rejected_total", "reason=\"slow\"", 2);
    metrics_add(m, "onelip_rejected_total", "reason=\"other\"", 0.5);
    metrics_set(m, "onelip_queue_depth", "", 0.1);
    has(m, "\n# TYPE onelip_rejected_total counter\nonelip_rejected_total{reason=\"slow\"} 3\n", true);
    has(m, "\nonelip_rejected_total{reason=\"other\"} 0.5\n", true);
    has(m, "\n# TYPE onelip_queue_depth gauge\nonelip_queue_depth 0.1\n", true);
    has(m, "\nprocess_cpu_seconds_total ", true);
    metrics_free(m);
}
END_TEST

START_TEST(histograms_add_up)
{
    static const char labels[] = "method=\"GET\",route=\"/\",code=\"200\"";
    struct metrics *m = metrics_new();

    metrics_observe(m, "onelip_request_duration_seconds", labels, 0.001); /* on a bound: inside */
    metrics_observe(m, "onelip_request_duration_seconds", labels, 0.5);
    metrics_observe(m, "onelip_request_duration_seconds", labels, 1000);
    has(m, "{method=\"GET\",route=\"/\",code=\"200\",le=\"0.0005\"} 0\n", true);
    has(m, "{method=\"GET\",route=\"/\",code=\"200\",le=\"0.001\"} 1\n", true);
    has(m, "{method=\"GET\",route=\"/\",code=\"200\",le=\"30\"} 2\n", true);
    has(m, "{method=\"GET\",route=\"/\",code=\"200\",le=\"+Inf\"} 3\n", true);
    has(m, "onelip_request_duration_seconds_sum{method=\"GET\",route=\"/\",code=\"200\"} 1000.501\n", true);
    has(m, "onelip_request_duration_seconds_count{method=\"GET\",route=\"/\",code=\"200\"} 3\n", true);
    metrics_free(m);
}
END_TEST

START_TEST(summaries_are_told)
{
    static const double us[METRICS_QUANTILES] = {1, 2, 3, 4.5, NAN};
    struct metrics *m = metrics_new();

    metrics_quantiles(m, "nv_inference_queue_summary_us", "model=\"a\"", us, 100, 7);
    has(m, "\n# TYPE nv_inference_queue_summary_us summary\nnv_inference_queue_summary_us{model=\"a\",quantile=\"0.5\"} 1\n", true);
    has(m, "{model=\"a\",quantile=\"0.99\"} 4.5\nnv_inference_queue_summary_us{model=\"a\",quantile=\"0.999\"} NaN\n", true);
    has(m, "nv_inference_queue_summary_us_sum{model=\"a\"} 100\nnv_inference_queue_summary_us_count{model=\"a\"} 7\n", true);
    metrics_free(m);
}
END_TEST

/* Durations 1..1000 times a power of ten: each quantile within half a bucket, and of the last two minutes only. */
START_TEST(quantiles_are_within_three_per_cent)
{
    static struct summary s;

    ck_assert(isnan(summary_quantile(&s, 1, 0.5)));
    for (uint64_t unit = 1; unit < 10000000000; unit *= 10) {
        uint64_t now = unit * 1000000;
        for (uint64_t i = 1; i <= 1000; i++)
            summary_add(&s, now + i, i * unit);
        for (double q = 0.001; q < 1; q += 0.037) {
            double exact = ceil(q * 1000) * (double)unit;
            ck_assert_double_le(fabs(summary_quantile(&s, now + 2000, q) / exact - 1), 0.0313);
        }
        ck_assert_double_le(fabs(summary_quantile(&s, now + 2000, 1) / (1000.0 * (double)unit) - 1), 0.0313);
        ck_assert(!isnan(summary_quantile(&s, now + 70000, 0.5)));
        ck_assert(isnan(summary_quantile(&s, now + 200000, 0.5)));
    }
    summary_add(&s, 1, 0);
    summary_add(&s, 1, UINT64_MAX);
    ck_assert_double_le(summary_quantile(&s, 1, 0.5), 1.1);
    ck_assert_double_ge(summary_quantile(&s, 1, 1), 2e12);
}
END_TEST

static double seven(void *arg)
{
    return *(double *)arg;
}

START_TEST(watched_gauges_are_read_when_asked)
{
    struct metrics *m = metrics_new();
    double value = 7;

    metrics_watch(m, "onelip_connections", seven, &value);
    has(m, "\nonelip_connections 7\n", true);
    value = 8;
    has(m, "\nonelip_connections 8\n", true);
    metrics_free(m);
}
END_TEST

START_TEST(a_deleted_model_leaves_no_series)
{
    struct metrics *m = metrics_new();

    metrics_add(m, "onelip_rejected_total", "model=\"a\",x=\"1\"", 1);
    metrics_add(m, "onelip_rejected_total", "model=\"ab\",x=\"1\"", 1);
    metrics_add(m, "onelip_rejected_total", "model=\"a\",x=\"2\"", 1);
    metrics_drop(m, "model=\"a\"");
    has(m, "model=\"a\"", false);
    has(m, "model=\"ab\"", true);
    metrics_add(m, "onelip_rejected_total", "model=\"a\",x=\"2\"", 5); /* and may come again, from zero */
    has(m, "{model=\"a\",x=\"2\"} 5\n", true);
    metrics_free(m);
}
END_TEST

static void *add_many(void *m)
{
    for (int i = 0; i < 5000; i++)
        metrics_add(m, "onelip_rejected_total", i % 2 ? "reason=\"a\"" : "reason=\"b\"", 1);
    return NULL;
}

START_TEST(threads_lose_nothing)
{
    struct metrics *m = metrics_new();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, add_many, m), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    has(m, "{reason=\"a\"} 10000\n", true);
    has(m, "{reason=\"b\"} 10000\n", true);
    metrics_free(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("metrics");
    TCase *every = tcase_create("metrics");

    tcase_add_test(every, counters_and_gauges);
    tcase_add_test(every, histograms_add_up);
    tcase_add_test(every, summaries_are_told);
    tcase_add_test(every, quantiles_are_within_three_per_cent);
    tcase_add_test(every, watched_gauges_are_read_when_asked);
    tcase_add_test(every, a_deleted_model_leaves_no_series);
    tcase_add_test(every, threads_lose_nothing);
    suite_add_tcase(s, every);
    return s;
}

CHECK_MAIN(suite)
