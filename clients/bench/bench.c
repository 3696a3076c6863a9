/* bench.c: onelip-bench, the load generator: options, the request, windows until they agree, reports.
 *
 * Names and procedure are perf_analyzer's: windows of a fixed length until throughput and latency of three in a row agree.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define HEALTH_CONNECTIONS 4 /* a late answer holds up none of the next requests */

enum { EXIT_OK = 0, EXIT_FOUND = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 6 };

struct range {
    double first, last, step;
};

struct options {
    const char *model, *version, *url, *key, *export_file, *csv_file, *input_data;
    struct range concurrency, rate;
    size_t batch;
    bool open, poisson, binary_in, binary_out, verify, json;
    double interval_ms, stability, percentile, warmup_ms, health_ms, tolerance, threshold_ms;
    unsigned max_trials, connections;
    bool count_windows, bisect;
    uint64_t window_requests;
    uint64_t timeout_us, priority, seed;
};

static const char usage[] =
    "usage: onelip-bench -m MODEL [options]\n"
    "  -m MODEL, -x VERSION              what to ask (version: the head)\n"
    "  -u URL                            HOST:PORT, http://HOST:PORT or unix:PATH (127.0.0.1:8000)\n"
    "  -b N                              samples in a request (1)\n"
    "  --concurrency-range N[:N[:STEP]]  closed loop: this many requests at a time (1)\n"
    "  --request-rate-range R[:R[:STEP]] open loop: this many requests a second\n"
    "  --request-distribution D          poisson or constant (poisson)\n"
    "  --connections N                   open loop: at most as many connections (64)\n"
    "  --input-tensor-format F           binary or json (binary)\n"
    "  --output-tensor-format F          binary or json (binary)\n"
    "  --input-data D                    random or zero (random)\n"
    "  --measurement-mode M              time_windows or count_windows (time_windows)\n"
    "  -p MS, --measurement-interval MS  length of a window (5000)\n"
    "  --measurement-request-count N     count_windows: answers in a window (50)\n"
    "  -s P, --stability-percentage P    windows agree within this (10)\n"
    "  -r N, --max-trials N              windows at most (10)\n"
    "  --percentile P                    the latency that must be stable, instead of the mean\n"
    "  -l MS, --latency-threshold MS     go up the range until this latency is passed\n"
    "  --binary-search                   look for the highest that keeps it, by halves; STEP is how near\n"
    "  --warmup-interval MS              before the first window (1000)\n"
    "  --timeout US, --priority N        of each request\n"
    "  --health-interval MS              ask for readiness meanwhile\n"
    "  --verify                          answers of one revision are alike, no connection sees one go back\n"
    "  --tolerance T                     of --verify (1e-4)\n"
    "  --api-key KEY                     sent as a bearer token\n"
    "  --seed N                          of data and arrivals (1)\n"
    "  --json                            the report as JSON on standard output\n"
    "  --profile-export-file FILE        and into this file\n"
    "  -f FILE, --latency-report-file FILE   a line of CSV for each step\n";

static int give_up(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int give_up(int status, const char *format, ...)
{
    va_list args;

    fputs("onelip-bench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

/* ---- options -------------------------------------------------------------------------------------------------- */

static bool read_number(const char *text, double least, double most, double *x)
{
    char *end;

    errno = 0;
    *x = strtod(text, &end);
    return end != text && !*end && !errno && *x >= least && *x <= most;
}

/* "4", "1:8", "1:8:2" */
static bool read_range(const char *text, double most, struct range *r)
{
    char *end;

    r->first = r->last = strtod(text, &end);
    r->step = 1;
    if (end == text || (*end && *end != ':'))
        return false;
    if (*end) {
        text = end + 1;
        r->last = strtod(text, &end);
        if (end == text || (*end && *end != ':'))
            return false;
        r->step = *end ? strtod(end + 1, &end) : 1;
    }
    return !*end && r->first > 0 && r->last >= r->first && r->last <= most && r->step > 0;
}

static bool read_choice(const char *text, const char *yes, const char *no, bool *value)
{
    *value = !strcmp(text, yes);
    return *value || !strcmp(text, no);
}

enum { EXPORT = 256, CONCURRENCY, RATE, MODE, COUNT, BINARY_SEARCH, DISTRIBUTION, CONNECTIONS, INPUT_FORMAT, OUTPUT_FORMAT, INPUT_DATA, PERCENTILE, WARMUP, TIMEOUT,
       PRIORITY, HEALTH, VERIFY, TOLERANCE, API_KEY, SEED, JSON };

static const struct option names[] = {{"concurrency-range", 1, NULL, CONCURRENCY},
                                      {"request-rate-range", 1, NULL, RATE},
                                      {"request-distribution", 1, NULL, DISTRIBUTION},
                                      {"connections", 1, NULL, CONNECTIONS},
                                      {"input-tensor-format", 1, NULL, INPUT_FORMAT},
                                      {"output-tensor-format", 1, NULL, OUTPUT_FORMAT},
                                      {"input-data", 1, NULL, INPUT_DATA},
                                      {"measurement-interval", 1, NULL, 'p'},
                                      {"stability-percentage", 1, NULL, 's'},
                                      {"max-trials", 1, NULL, 'r'},
                                      {"percentile", 1, NULL, PERCENTILE},
                                      {"warmup-interval", 1, NULL, WARMUP},
                                      {"timeout", 1, NULL, TIMEOUT},
                                      {"priority", 1, NULL, PRIORITY},
                                      {"health-interval", 1, NULL, HEALTH},
                                      {"verify", 0, NULL, VERIFY},
                                      {"tolerance", 1, NULL, TOLERANCE},
                                      {"api-key", 1, NULL, API_KEY},
                                      {"seed", 1, NULL, SEED},
                                      {"json", 0, NULL, JSON},
                                      {"profile-export-file", 1, NULL, EXPORT},
                                      {"latency-report-file", 1, NULL, 'f'},
                                      {"latency-threshold", 1, NULL, 'l'},
                                      {"binary-search", 0, NULL, BINARY_SEARCH},
                                      {"measurement-mode", 1, NULL, MODE},
                                      {"measurement-request-count", 1, NULL, COUNT},
                                      {"help", 0, NULL, 'h'},
                                      {0}};

/* One option. false: its value is wrong. */
static bool read_option(struct options *o, int which, const char *value)
{
    double x = 0;

    switch (which) {
    case 'm': o->model = value; return *value != '\0';
    case 'x': o->version = value; return *value != '\0';
    case 'u': o->url = value; return true;
    case 'f': o->csv_file = value; return true;
    case EXPORT: o->export_file = value; return true;
    case 'l': return read_number(value, 0.001, 1e7, &o->threshold_ms);
    case BINARY_SEARCH: return o->bisect = true;
    case MODE: return read_choice(value, "count_windows", "time_windows", &o->count_windows);
    case API_KEY: o->key = value; return !strpbrk(value, "\r\n");
    case JSON: return o->json = true;
    case VERIFY: return o->verify = true;
    case CONCURRENCY: return read_range(value, 4096, &o->concurrency);
    case RATE: return o->open = read_range(value, 1e7, &o->rate);
    case DISTRIBUTION: return read_choice(value, "poisson", "constant", &o->poisson);
    case INPUT_FORMAT: return read_choice(value, "binary", "json", &o->binary_in);
    case OUTPUT_FORMAT: return read_choice(value, "binary", "json", &o->binary_out);
    case INPUT_DATA: o->input_data = value; return !strcmp(value, "random") || !strcmp(value, "zero");
    case 's': return read_number(value, 0, 100, &o->stability);
    case 'p': return read_number(value, 1, 1e7, &o->interval_ms);
    case PERCENTILE: return read_number(value, 1, 100, &o->percentile);
    case WARMUP: return read_number(value, 0, 1e7, &o->warmup_ms);
    case HEALTH: return read_number(value, 0.1, 1e7, &o->health_ms);
    case TOLERANCE: return read_number(value, 0, 1, &o->tolerance);
    default: break;
    }
    if (!read_number(value, 0, 9e15, &x) || x != floor(x))
        return false;
    switch (which) {
    case 'b': o->batch = (size_t)x; return x >= 1 && x <= 65536;
    case 'r': o->max_trials = (unsigned)x; return x >= 1 && x <= 10000;
    case CONNECTIONS: o->connections = (unsigned)x; return x >= 1 && x <= 4096;
    case COUNT: o->window_requests = (uint64_t)x; return x >= 1;
    case TIMEOUT: o->timeout_us = (uint64_t)x; return true;
    case PRIORITY: o->priority = (uint64_t)x; return true;
    case SEED: o->seed = (uint64_t)x; return true;
    default: return false;
    }
}

/* EXIT_OK, or what to end with; -1: help was asked for. */
static int read_options(int argc, char **argv, struct options *o)
{
    int which, index = -1;

    *o = (struct options){.url = "127.0.0.1:8000", .input_data = "random", .concurrency = {1, 1, 1}, .batch = 1, .poisson = true,
                          .binary_in = true, .binary_out = true, .interval_ms = 5000, .stability = 10, .warmup_ms = 1000,
                          .tolerance = 1e-4, .max_trials = 10, .connections = 64, .window_requests = 50, .seed = 1};
    while ((which = getopt_long(argc, argv, "m:x:u:b:p:s:r:f:l:h", names, &index)) != -1) {
        if (which == 'h')
            return -1;
        if (which == '?')
            return EXIT_USAGE;
        if (!read_option(o, which, optarg))
            return give_up(EXIT_USAGE, "\"%s\" is not what %s%s takes", optarg, which < 256 ? "-" : "--",
                           which < 256 ? (char[]){(char)which, 0} : names[index].name);
    }
    if (optind < argc)
        return give_up(EXIT_USAGE, "\"%s\" is no option", argv[optind]);
    if (!o->model)
        return give_up(EXIT_USAGE, "which model? -m MODEL");
    if (o->bisect && o->threshold_ms <= 0)
        return give_up(EXIT_USAGE, "--binary-search needs --latency-threshold");
    return EXIT_OK;
}

/* ---- the server ----------------------------------------------------------------------------------------------- */

struct target {
    struct address *address;
    struct wire wire; /* for metadata and statistics */
    char *path;       /* /v2/models/m[/versions/v] */
    const char *key;
};

static char *http_request(const struct target *t, const char *method, const char *path, const char *more, const char *body,
                          size_t body_bytes, size_t *bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);

    if (!out)
        return NULL;
    fprintf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", method, path, address_host(t->address), more);
    if (t->key)
        fprintf(out, "Authorization: Bearer %s\r\n", t->key);
    if (body)
        fprintf(out, "Content-Length: %zu\r\n", body_bytes);
    fputs("\r\n", out);
    if (body)
        fwrite(body, 1, body_bytes, out);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

/* GET path; NULL after a line on stderr. */
static json_t *get(struct target *t, const char *path)
{
    size_t bytes;
    char *request = http_request(t, "GET", path, "", NULL, 0, &bytes), why[200] = "out of memory";
    json_t *json = NULL;

    if (!request || !wire_call(&t->wire, t->address, request, bytes, 30, why, sizeof why))
        give_up(0, "%s: %s", path, why);
    else if (t->wire.status != 200)
        give_up(0, "%s: status %d: %.*s", path, t->wire.status, (int)t->wire.body_bytes, wire_body(&t->wire));
    else if (!(json = json_loadb(wire_body(&t->wire), t->wire.body_bytes, 0, NULL)))
        give_up(0, "%s: no JSON", path);
    if (t->wire.fd >= 0 && t->wire.close)
        wire_close(&t->wire);
    free(request);
    return json;
}

/* The body of one inference for the model's metadata. NULL: why was said. */
static char *make_body(const struct options *o, const json_t *metadata, size_t *json_bytes, size_t *bytes)
{
    const json_t *input = json_array_get(json_object_get(metadata, "inputs"), 0), *shape = json_object_get(input, "shape"), *dim;
    const char *name = json_string_value(json_object_get(input, "name")), *type = json_string_value(json_object_get(input, "datatype"));
    json_t *all = json_array(), *parameters = json_object(), *tensor, *body;
    size_t count = o->batch, i;
    char *head, *text = NULL;
    float *x;
    FILE *out;

    if (!name || !type || strcmp(type, "FP32") || json_array_size(json_object_get(metadata, "inputs")) != 1) {
        give_up(0, "the model needs one input of type FP32");
        return NULL;
    }
    json_array_foreach((json_t *)shape, i, dim) {
        json_int_t n = i ? json_integer_value(dim) : (json_int_t)o->batch;
        if (n < 1) {
            give_up(0, "axis %zu of the input has no size", i);
            return NULL;
        }
        count *= i ? (size_t)n : 1;
        json_array_append_new(all, json_integer(n));
    }
    if (o->timeout_us)
        json_object_set_new(parameters, "timeout", json_integer((json_int_t)o->timeout_us));
    if (o->priority)
        json_object_set_new(parameters, "priority", json_integer((json_int_t)o->priority));
    if (!(x = malloc(count * sizeof *x)))
        return NULL;
    srand48((long)o->seed);
    for (i = 0; i < count; i++)
        x[i] = strcmp(o->input_data, "zero") ? (float)(2 * drand48() - 1) : 0.0f;
    tensor = json_pack("{s:s, s:s, s:o}", "name", name, "datatype", type, "shape", all);
    if (o->binary_in)
        json_object_set_new(tensor, "parameters", json_pack("{s:I}", "binary_data_size", (json_int_t)(count * sizeof *x)));
    else
        json_object_set_new(tensor, "data", json_string("@")); /* the numbers come in its place */
    json_object_set_new(parameters, "binary_data_output", json_boolean(o->binary_out));
    body = json_pack("{s:[o], s:o}", "inputs", tensor, "parameters", parameters);
    head = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    out = head ? open_memstream(&text, bytes) : NULL;
    if (out && o->binary_in) {
        *json_bytes = strlen(head);
        fputs(head, out);
        fwrite(x, sizeof *x, count, out);
    } else if (out) {
        char *at = strstr(head, "\"@\"");
        *json_bytes = 0;
        fwrite(head, 1, (size_t)(at - head), out);
        for (i = 0; i < count; i++)
            fprintf(out, "%s%.9g", i ? "," : "[", (double)x[i]);
        fprintf(out, "]%s", at + 3);
    }
    if (out && fclose(out))
        text = NULL;
    free(head);
    free(x);
    return text;
}

#define COUNT_PIECE_NS 100000000ull /* how often a window that counts looks whether it has enough */
#define COUNT_MOST_SECONDS 600

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* Of the statistics extension. */
struct served {
    double inferences, executions, requests, ns[4]; /* queue, input, infer, output */
};
static const char *const part_names[4] = {"queue", "compute_input", "compute_infer", "compute_output"};

static bool read_served(struct target *t, struct served *s)
{
    char path[400];
    json_t *json, *model, *times;

    snprintf(path, sizeof path, "%s/stats", t->path);
    if (!(json = get(t, path)))
        return false;
    model = json_array_get(json_object_get(json, "model_stats"), 0);
    times = json_object_get(model, "inference_stats");
    s->inferences = json_number_value(json_object_get(model, "inference_count"));
    s->executions = json_number_value(json_object_get(model, "execution_count"));
    s->requests = json_number_value(json_object_get(json_object_get(times, "success"), "count"));
    for (int i = 0; i < 4; i++)
        s->ns[i] = json_number_value(json_object_get(json_object_get(times, part_names[i]), "ns"));
    json_decref(json);
    return true;
}

static double rate_of(const struct tally *t)
{
    return t->seconds > 0 ? (double)t->ok / t->seconds : 0;
}

static double latency_of(const struct options *o, const struct tally *t)
{
    return o->percentile > 0 ? histogram_percentile(&t->latency, o->percentile) : histogram_mean(&t->latency);
}

static bool agree(double a, double b, double c, double percent)
{
    double mean = (a + b + c) / 3;

    return fabs(a - mean) <= mean * percent / 100 && fabs(b - mean) <= mean * percent / 100 && fabs(c - mean) <= mean * percent / 100;
}

/* Health requests, by the clock and in a thread of their own: what they wait for is the server, not our loop over all others. */
struct pulse {
    struct load *load; /* NULL: none are sent */
    uint64_t ns;
    struct tally tally;
};

static void *beat(void *pulse)
{
    struct pulse *p = pulse;

    load_run(p->load, p->ns, &p->tally);
    return NULL;
}

/* load_run, and the health requests of the same time. */
static bool run_both(struct load *l, struct pulse *p, uint64_t ns, struct tally *t)
{
    pthread_t thread;
    bool beats, good;

    memset(&p->tally, 0, sizeof p->tally);
    p->ns = ns;
    beats = p->load && !pthread_create(&thread, NULL, beat, p);
    good = load_run(l, ns, t);
    if (beats)
        pthread_join(thread, NULL);
    histogram_merge(&t->health, &p->tally.latency);
    histogram_merge(&t->health, &p->tally.refused);
    return good;
}

/* One window: for as long as it is, or until so many answers have come. */
static bool run_window(const struct options *o, struct load *l, struct pulse *p, struct tally *window)
{
    uint64_t piece = o->count_windows ? COUNT_PIECE_NS : (uint64_t)(o->interval_ms * 1e6);

    do {
        if (!run_both(l, p, piece, window))
            return false;
    } while (o->count_windows && window->ok < o->window_requests && window->seconds < COUNT_MOST_SECONDS);
    return true;
}

/* Windows until three agree; *t is the sum of the last three. health: what is asked beside plan, or NULL.
 * false: the server cannot be reached. */
static bool measure(const struct options *o, struct target *target, const struct plan *plan, const struct plan *health,
                    struct tally *t, struct served *s, bool *stable)
{
    static struct tally window[3], warm;
    static struct pulse pulse;
    struct served before[3], after = {0};
    struct load *l = load_new(plan);
    unsigned n = 0;
    bool good;

    pulse.load = health ? load_new(health) : NULL;
    good = l && (pulse.load || !health);
    *stable = false;
    memset(&warm, 0, sizeof warm);
    memset(t, 0, sizeof *t);
    if (good && o->warmup_ms > 0)
        good = run_both(l, &pulse, (uint64_t)(o->warmup_ms * 1e6), &warm);
    while (good && n < o->max_trials && !*stable) {
        memset(&window[n % 3], 0, sizeof *window);
        good = read_served(target, &before[n % 3]) && run_window(o, l, &pulse, &window[n % 3]);
        n++;
        *stable = n >= 3 && window[0].ok && agree(rate_of(&window[0]), rate_of(&window[1]), rate_of(&window[2]), o->stability) &&
                  agree(latency_of(o, &window[0]), latency_of(o, &window[1]), latency_of(o, &window[2]), o->stability);
    }
    good = good && read_served(target, &after);
    for (unsigned i = n < 3 ? 0 : n - 3; i < n; i++)
        tally_merge(t, &window[i % 3]);
    t->regressions += warm.regressions;
    t->mixed += warm.mixed;
    if (good && n) {
        const struct served *from = &before[n < 3 ? 0 : n % 3];
        *s = (struct served){after.inferences - from->inferences, after.executions - from->executions,
                             after.requests - from->requests, {0}};
        for (int i = 0; i < 4; i++)
            s->ns[i] = after.ns[i] - from->ns[i];
    }
    load_free(l);
    load_free(pulse.load);
    return good;
}

/* ---- reports ------------------------------------------------------------------------------------------------------ */

static const double percentiles[] = {50, 90, 95, 99, 99.9};
static const char *const percentile_names[] = {"p50", "p90", "p95", "p99", "p99.9"};

static json_t *histogram_json(const struct histogram *h)
{
    json_t *json = json_pack("{s:I, s:f, s:f}", "count", (json_int_t)h->count, "mean", histogram_mean(h) * 1e-3, "std",
                             histogram_deviation(h) * 1e-3);

    for (size_t i = 0; i < 5; i++)
        json_object_set_new(json, percentile_names[i], json_real(histogram_percentile(h, percentiles[i]) * 1e-3));
    json_object_set_new(json, "max", json_real((double)h->most * 1e-3));
    return json;
}

static json_t *report_json(const struct options *o, double value, const struct tally *t, const struct served *s, bool stable)
{
    json_t *server = json_pack("{s:f, s:f}", "inference_count", s->inferences, "execution_count", s->executions);
    json_t *json = json_pack("{s:s, s:f, s:b, s:f, s:f, s:f, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:I}", "mode",
                             o->open ? "request_rate" : "concurrency", "value", value, "stable", stable, "seconds", t->seconds,
                             "requests_per_second", rate_of(t), "inferences_per_second", rate_of(t) * (double)o->batch,
                             "latency_us", histogram_json(&t->latency), "refused_us", histogram_json(&t->refused), "answers",
                             "200", (json_int_t)t->ok, "429", (json_int_t)t->queue_full, "503", (json_int_t)t->unavailable, "504",
                             (json_int_t)t->late, "other", (json_int_t)t->other, "broken", (json_int_t)t->broken, "behind",
                             (json_int_t)t->behind);

    for (int i = 0; i < 4; i++)
        json_object_set_new(server, part_names[i], json_real(s->requests > 0 ? s->ns[i] / s->requests * 1e-3 : 0));
    json_object_set_new(json, "server_us", server);
    if (o->health_ms > 0)
        json_object_set_new(json, "health_us", histogram_json(&t->health));
    if (o->verify)
        json_object_set_new(json, "verify", json_pack("{s:I, s:I, s:I}", "revisions", (json_int_t)t->revisions, "regressions",
                                                      (json_int_t)t->regressions, "mixed", (json_int_t)t->mixed));
    return json;
}

static void print_report(const struct options *o, double value, const struct tally *t, const struct served *s, bool stable)
{
    double per = s->requests > 0 ? 1e-3 / s->requests : 0;

    printf(o->open ? "Request rate: %g\n" : "Request concurrency: %g\n", value);
    printf("  Client:\n    Request count: %llu\n    Throughput: %.1f infer/sec\n    Avg latency: %.0f usec (standard deviation %.0f usec)\n",
           (unsigned long long)t->ok, rate_of(t) * (double)o->batch, histogram_mean(&t->latency) * 1e-3,
           histogram_deviation(&t->latency) * 1e-3);
    for (size_t i = 0; i < 5; i++)
        printf("    %s latency: %.0f usec\n", percentile_names[i], histogram_percentile(&t->latency, percentiles[i]) * 1e-3);
    printf("    Max latency: %.0f usec\n", (double)t->latency.most * 1e-3);
    if (t->queue_full + t->unavailable + t->late + t->other + t->broken + t->behind)
        printf("    Not answered: 429 %llu (p99 %.0f usec), 503 %llu, 504 %llu, other %llu, broken %llu, not sent in time %llu\n",
               (unsigned long long)t->queue_full, histogram_percentile(&t->refused, 99) * 1e-3,
               (unsigned long long)t->unavailable, (unsigned long long)t->late, (unsigned long long)t->other,
               (unsigned long long)t->broken, (unsigned long long)t->behind);
    if (o->health_ms > 0)
        printf("    Health: p50 %.0f usec, p99 %.0f usec, max %.0f usec\n", histogram_percentile(&t->health, 50) * 1e-3,
               histogram_percentile(&t->health, 99) * 1e-3, (double)t->health.most * 1e-3);
    if (o->verify)
        printf("    Revisions: %llu seen, %llu went back, %llu answers mixed\n", (unsigned long long)t->revisions,
               (unsigned long long)t->regressions, (unsigned long long)t->mixed);
    printf("  Server:\n    Inference count: %.0f\n    Execution count: %.0f\n    Successful request count: %.0f\n"
           "    Avg request: queue %.0f usec + compute input %.0f usec + compute infer %.0f usec + compute output %.0f usec\n",
           s->inferences, s->executions, s->requests, s->ns[0] * per, s->ns[1] * per, s->ns[2] * per, s->ns[3] * per);
    if (!stable)
        printf("  The windows did not agree within %g %%.\n", o->stability);
    putchar('\n');
    fflush(stdout);
}

static bool write_file(const char *path, const json_t *json)
{
    return !path || !json_dump_file(json, path, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
}

/* What has been measured so far, and where it is told. */
struct session {
    const struct options *o;
    struct target *target;
    const struct plan *plan, *health;
    json_t *experiments;
    FILE *csv;
    int status;
};

/* perf_analyzer's columns, of what is measured here; microseconds. */
static void csv_head(const struct session *x)
{
    if (x->csv)
        fprintf(x->csv, "%s,Inferences/Second,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,"
                        "Server Compute Output,Avg latency,p50 latency,p90 latency,p95 latency,p99 latency\n",
                x->o->open ? "Request Rate" : "Concurrency");
}

static void csv_line(const struct session *x, double value, const struct tally *t, const struct served *s)
{
    double per = s->requests > 0 ? 1e-3 / s->requests : 0, mean = histogram_mean(&t->latency) * 1e-3, rest = mean;

    if (!x->csv)
        return;
    for (int i = 0; i < 4; i++)
        rest -= s->ns[i] * per;
    fprintf(x->csv, "%g,%.1f,%.0f", value, rate_of(t) * (double)x->o->batch, fmax(rest, 0));
    for (int i = 0; i < 4; i++)
        fprintf(x->csv, ",%.0f", s->ns[i] * per);
    fprintf(x->csv, ",%.0f", mean);
    for (size_t i = 0; i < 4; i++)
        fprintf(x->csv, ",%.0f", histogram_percentile(&t->latency, percentiles[i]) * 1e-3);
    fputc('\n', x->csv);
}

/* One step of the range. false: its latency is beyond the threshold, some were not answered, or the server is gone. */
static bool experiment(struct session *x, double value)
{
    static struct tally t;
    const struct options *o = x->o;
    struct plan plan = *x->plan;
    struct served s = {0};
    bool stable;

    plan.rate = value;
    plan.connections = o->open ? o->connections : (unsigned)value;
    if (!measure(o, x->target, &plan, x->health, &t, &s, &stable)) {
        x->status = give_up(EXIT_UNREACHABLE, "the server does not answer any more");
        return false;
    }
    if (!o->json)
        print_report(o, value, &t, &s, stable);
    csv_line(x, value, &t, &s);
    json_array_append_new(x->experiments, report_json(o, value, &t, &s, stable));
    if (t.regressions || t.mixed)
        x->status = EXIT_FOUND;
    return o->threshold_ms <= 0 || (t.ok && !(t.queue_full + t.unavailable + t.late + t.other + t.broken) &&
                                    latency_of(o, &t) <= o->threshold_ms * 1e6);
}

/* The highest value of the range that keeps the threshold, to within a step: its ends, then halves. */
static void bisect(struct session *x, const struct range *r)
{
    double low = r->first, high = r->last;

    if (!experiment(x, low) || experiment(x, high))
        return;
    while (high - low > r->step && x->status != EXIT_UNREACHABLE) {
        double middle = x->o->open ? (low + high) / 2 : floor((low + high) / 2);

        if (experiment(x, middle))
            low = middle;
        else
            high = middle;
    }
}

/* Every step of the range, or those that are needed. */
static int run(const struct options *o, struct target *target, const struct plan *every, const struct plan *health)
{
    const struct range *r = o->open ? &o->rate : &o->concurrency;
    struct session x = {.o = o, .target = target, .plan = every, .health = health, .experiments = json_array()};
    json_t *all;
    int status;

    if (o->csv_file && !(x.csv = fopen(o->csv_file, "w")))
        return give_up(EXIT_USAGE, "%s: %s", o->csv_file, strerror(errno));
    csv_head(&x);
    if (o->bisect)
        bisect(&x, r);
    else
        for (double value = r->first; value <= r->last * (1 + 1e-12) && experiment(&x, value); value += r->step)
            continue;
    status = x.status;
    if (x.csv && fclose(x.csv))
        status = give_up(EXIT_USAGE, "%s: %s", o->csv_file, strerror(errno));
    all = json_pack("{s:s, s:I, s:o}", "model", o->model, "batch_size", (json_int_t)o->batch, "experiments", x.experiments);
    if (o->json) {
        json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    if (!write_file(o->export_file, all))
        status = give_up(EXIT_USAGE, "%s: %s", o->export_file, strerror(errno));
    json_decref(all);
    return status;
}

int main(int argc, char **argv)
{
    struct options o;
    struct target target = {.wire = {.fd = -1}};
    struct plan plan = {0}, pulse = {0};
    char why[300], framing[80] = "";
    size_t body_bytes, json_bytes = 0, bytes, health_bytes;
    char *body = NULL, *request = NULL, *health = NULL, path[400];
    json_t *metadata = NULL;
    int status = read_options(argc, argv, &o);

    if (status) {
        fputs(usage, status < 0 ? stdout : stderr);
        return status < 0 ? EXIT_OK : status;
    }
    signal(SIGPIPE, SIG_IGN);
    target.key = o.key;
    if (!(target.address = address_read(o.url, why, sizeof why)))
        return give_up(EXIT_USAGE, "%s", why);
    if (asprintf(&target.path, o.version ? "/v2/models/%s/versions/%s" : "/v2/models/%s", o.model, o.version) < 0)
        return give_up(EXIT_USAGE, "out of memory");
    snprintf(path, sizeof path, "%s/infer", target.path);
    status = EXIT_UNREACHABLE;
    if ((metadata = get(&target, target.path)) && (body = make_body(&o, metadata, &json_bytes, &body_bytes))) {
        if (o.binary_in)
            snprintf(framing, sizeof framing, "Inference-Header-Content-Length: %zu\r\n", json_bytes);
        request = http_request(&target, "POST", path, framing, body, body_bytes, &bytes);
        health = http_request(&target, "GET", "/v2/health/ready", "", NULL, 0, &health_bytes);
        plan = (struct plan){.address = target.address, .request = request, .request_bytes = bytes, .open = o.open,
                             .poisson = o.poisson, .verify = o.verify, .tolerance = o.tolerance, .seed = o.seed};
        if (o.health_ms > 0)
            pulse = (struct plan){.address = target.address, .request = health, .request_bytes = health_bytes, .open = true,
                                  .rate = 1e3 / o.health_ms, .connections = HEALTH_CONNECTIONS};
        status = request && health ? run(&o, &target, &plan, pulse.open ? &pulse : NULL)
                                   : give_up(EXIT_USAGE, "out of memory");
    }
    json_decref(metadata);
    free(body);
    free(request);
    free(health);
    free(target.path);
    wire_free(&target.wire);
    address_free(target.address);
    return status;
}
