/* metrics.c: series by name and labels in one hash table, under one lock.
 *
 * Source: Prometheus, "Exposition formats", text format 0.0.4.
 */
#include "metrics.h"

#include <assert.h>
#include <dirent.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 1024 /* of the hash table; chains beyond */

enum kind { COUNTER, GAUGE, HISTOGRAM, SUMMARY };
static const char *const kind_names[] = {"counter", "gauge", "histogram", "summary"};

/* Upper bounds of buckets; the one of +Inf goes without saying. Or a summary's quantiles. */
struct buckets {
    size_t n;
    double upto[20];
};
static const struct buckets NO_BUCKETS __attribute__((unused)) = {0, {0}};
static const struct buckets SECONDS __attribute__((unused)) = {
    18, {50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}};
static const struct buckets FIRST_MS __attribute__((unused)) = {4, {100, 500, 2000, 5000}}; /* Triton's */
static const struct buckets QUANTILES __attribute__((unused)) = {METRICS_QUANTILES, {0}}; /* metrics_quantile */
const double metrics_quantile[METRICS_QUANTILES] = {0.5, 0.9, 0.95, 0.99, 0.999};
static const struct buckets COUNTS __attribute__((unused)) = {
    13, {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384}};

struct family {
    const char *name;
    enum kind kind;
    const struct buckets *buckets;
    const char *help;
};
static const struct family families[] = {
#define METRIC(name, kind, buckets, help) {#name, kind, &buckets, help},
#include "metrics.def"
#undef METRIC
};
enum { FAMILIES = sizeof families / sizeof *families };

struct series {
    struct series *chain; /* in its slot */
    struct series *next;  /* in its family */
    const struct family *family;
    char *labels;
    double value;              /* a histogram's or summary's sum */
    double (*read)(void *arg); /* of a watched gauge */
    void *arg;
    uint64_t count;            /* a histogram's or summary's */
    double bucket[];           /* how many were in it; what the quantile is */
};

struct metrics {
    pthread_mutex_t lock;
    struct series *slot[SLOTS];
    struct series *first[FAMILIES], **last[FAMILIES];
    double started; /* since the epoch */
    unsigned long long cpu_total, cpu_idle; /* of the machine, when it was last asked */
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);
    pthread_mutexattr_t recursive; /* for metrics_hold */
    struct timespec now;

    if (!m)
        return NULL;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&m->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    for (size_t i = 0; i < FAMILIES; i++)
        m->last[i] = &m->first[i];
    clock_gettime(CLOCK_REALTIME, &now);
    m->started = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    return m;
}

static void series_free(struct series *s)
{
    free(s->labels);
    free(s);
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < FAMILIES; i++)
        for (struct series *s = m->first[i], *next; s; s = next) {
            next = s->next;
            series_free(s);
        }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* FNV-1a, over the name and the labels */
static size_t slot_of(const char *name, const char *labels)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    for (; *labels; labels++)
        hash = (hash ^ (unsigned char)*labels) * 0x100000001b3u;
    return (hash ^ hash >> 32) % SLOTS;
}

static const struct family *family_named(const char *name)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (!strcmp(families[i].name, name))
            return &families[i];
    assert(!"a metric that metrics.def does not list");
    return NULL;
}

static struct series *series_new(struct metrics *m, const char *name, const char *labels)
{
    const struct family *f = family_named(name);
    struct series *s = f ? calloc(1, sizeof *s + f->buckets->n * sizeof *s->bucket) : NULL;

    if (!s || !(s->labels = strdup(labels))) {
        free(s);
        return NULL;
    }
    s->family = f;
    *m->last[f - families] = s;
    m->last[f - families] = &s->next;
    return s;
}

/* The series, made if need be; NULL: out of memory. The lock is held. */
static struct series *find(struct metrics *m, const char *name, const char *labels)
{
    struct series **at = &m->slot[slot_of(name, labels)];

    while (*at && (strcmp((*at)->family->name, name) || strcmp((*at)->labels, labels)))
        at = &(*at)->chain;
    if (!*at)
        *at = series_new(m, name, labels);
    return *at;
}

void metrics_hold(struct metrics *m)
{
    pthread_mutex_lock(&m->lock);
}

void metrics_release(struct metrics *m)
{
    pthread_mutex_unlock(&m->lock);
}

void metrics_add(struct metrics *m, const char *name, const char *labels, double by)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    if ((s = find(m, name, labels)))
        s->value += by;
    pthread_mutex_unlock(&m->lock);
}

void metrics_set(struct metrics *m, const char *name, const char *labels, double value)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    if ((s = find(m, name, labels)))
        s->value = value;
    pthread_mutex_unlock(&m->lock);
}

/* The lock is held. */
static void observe(struct series *s, double value)
{
    const struct buckets *b = s->family->buckets;
    size_t i = 0;

    assert(s->family->kind == HISTOGRAM);
    while (i < b->n && value > b->upto[i])
        i++;
    if (i < b->n)
        s->bucket[i]++;
    s->count++;
    s->value += value;
}

void metrics_observe(struct metrics *m, const char *name, const char *labels, double value)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    if ((s = find(m, name, labels)))
        observe(s, value);
    pthread_mutex_unlock(&m->lock);
}

struct series *metrics_series(struct metrics *m, const char *name, const char *labels)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    s = find(m, name, labels);
    pthread_mutex_unlock(&m->lock);
    return s;
}

void series_observe(struct metrics *m, struct series *s, double value)
{
    pthread_mutex_lock(&m->lock);
    observe(s, value);
    pthread_mutex_unlock(&m->lock);
}

void metrics_quantiles(struct metrics *m, const char *name, const char *labels, const double *values, double sum, uint64_t count)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    if ((s = find(m, name, labels))) {
        memcpy(s->bucket, values, s->family->buckets->n * sizeof *s->bucket);
        s->value = sum;
        s->count = count;
    }
    pthread_mutex_unlock(&m->lock);
}

void metrics_watch(struct metrics *m, const char *name, double (*read)(void *arg), void *arg)
{
    struct series *s;

    pthread_mutex_lock(&m->lock);
    if ((s = find(m, name, ""))) {
        s->read = read;
        s->arg = arg;
    }
    pthread_mutex_unlock(&m->lock);
}

static void unchain(struct metrics *m, struct series *s)
{
    struct series **at = &m->slot[slot_of(s->family->name, s->labels)];

    while (*at != s)
        at = &(*at)->chain;
    *at = s->chain;
}

void metrics_drop(struct metrics *m, const char *labels_prefix)
{
    size_t length = strlen(labels_prefix);

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < FAMILIES; i++) {
        struct series **at = &m->first[i];

        while (*at) {
            struct series *s = *at;

            if (!strncmp(s->labels, labels_prefix, length)) {
                unchain(m, s);
                *at = s->next;
                series_free(s);
            } else {
                at = &s->next;
            }
        }
        m->last[i] = at;
    }
    pthread_mutex_unlock(&m->lock);
}

/* The fewest digits that read back as the same number. */
static void print_value(FILE *out, double value)
{
    char text[32];

    if (!isfinite(value)) {
        fputs(isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf", out);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, out);
}

static void print_line(FILE *out, const char *name, const char *suffix, const char *labels, const char *more, double value)
{
    fprintf(out, "%s%s", name, suffix);
    if (*labels || *more)
        fprintf(out, "{%s%s%s}", labels, *labels && *more ? "," : "", more);
    fputc(' ', out);
    print_value(out, value);
    fputc('\n', out);
}

static void print_histogram(FILE *out, const struct series *s)
{
    const struct buckets *b = s->family->buckets;
    double below = 0;
    char le[40];

    for (size_t i = 0; i < b->n; i++) {
        below += s->bucket[i];
        snprintf(le, sizeof le, "le=\"%g\"", b->upto[i]);
        print_line(out, s->family->name, "_bucket", s->labels, le, below);
    }
    print_line(out, s->family->name, "_bucket", s->labels, "le=\"+Inf\"", (double)s->count);
    print_line(out, s->family->name, "_sum", s->labels, "", s->value);
    print_line(out, s->family->name, "_count", s->labels, "", (double)s->count);
}

static void print_summary(FILE *out, const struct series *s)
{
    const struct buckets *b = s->family->buckets;
    char quantile[40];

    for (size_t i = 0; i < b->n; i++) {
        snprintf(quantile, sizeof quantile, "quantile=\"%g\"", metrics_quantile[i]);
        print_line(out, s->family->name, "", s->labels, quantile, s->bucket[i]);
    }
    print_line(out, s->family->name, "_sum", s->labels, "", s->value);
    print_line(out, s->family->name, "_count", s->labels, "", (double)s->count);
}

static size_t open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n = 0;

    if (!folder)
        return 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n - 1; /* the folder's own */
}

/* What the system says about this process. /proc/self is there also under ProcSubset=pid. */
static void observe_process(struct metrics *m)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long long size = 0, resident = 0;
    struct rusage used;
    struct rlimit files;
    double page = (double)sysconf(_SC_PAGESIZE);

    if (statm) {
        if (fscanf(statm, "%llu %llu", &size, &resident) != 2)
            size = resident = 0;
        fclose(statm);
    }
    if (!getrusage(RUSAGE_SELF, &used))
        metrics_set(m, "process_cpu_seconds_total", "",
                    (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                        (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
    metrics_set(m, "process_resident_memory_bytes", "", (double)resident * page);
    metrics_set(m, "process_virtual_memory_bytes", "", (double)size * page);
#ifdef __GLIBC__
    struct mallinfo2 heap = mallinfo2();
    metrics_set(m, "onelip_heap_bytes", "", (double)heap.uordblks + (double)heap.hblkhd);
#endif
    metrics_set(m, "process_start_time_seconds", "", m->started);
    metrics_set(m, "process_open_fds", "", (double)open_fds());
    if (!getrlimit(RLIMIT_NOFILE, &files))
        metrics_set(m, "process_max_fds", "", files.rlim_cur == RLIM_INFINITY ? INFINITY : (double)files.rlim_cur);
}

/* The share of all processors' time that was used since this was last asked; the first time, since the machine started. */
static void observe_processors(struct metrics *m)
{
    FILE *stat = fopen("/proc/stat", "r");
    unsigned long long t[8] = {0}, total = 0, idle;

    if (!stat)
        return;
    if (fscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) >= 4) {
        for (size_t i = 0; i < sizeof t / sizeof *t; i++)
            total += t[i];
        idle = t[3] + t[4];
        pthread_mutex_lock(&m->lock);
        double all = (double)(total - m->cpu_total), used = all - (double)(idle - m->cpu_idle);
        m->cpu_total = total;
        m->cpu_idle = idle;
        pthread_mutex_unlock(&m->lock);
        if (all > 0)
            metrics_set(m, "nv_cpu_utilization", "", used < 0 ? 0 : used / all);
    }
    fclose(stat);
}

static void observe_memory(struct metrics *m)
{
    FILE *info = fopen("/proc/meminfo", "r");
    unsigned long long total = 0, available = 0;
    char line[128];

    while (info && fgets(line, sizeof line, info))
        if (!sscanf(line, "MemTotal: %llu kB", &total))
            sscanf(line, "MemAvailable: %llu kB", &available);
    if (info)
        fclose(info);
    if (!total)
        return;
    metrics_set(m, "nv_cpu_memory_total_bytes", "", (double)total * 1024);
    metrics_set(m, "nv_cpu_memory_used_bytes", "", (double)(total - available) * 1024);
}

char *metrics_text(struct metrics *m, size_t *bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    bool failed;

    if (!out)
        return NULL;
    observe_process(m);
    observe_processors(m);
    observe_memory(m);
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < FAMILIES; i++) {
        const struct family *f = &families[i];

        if (!m->first[i])
            continue;
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, kind_names[f->kind]);
        for (struct series *s = m->first[i]; s; s = s->next)
            if (f->kind == HISTOGRAM)
                print_histogram(out, s);
            else if (f->kind == SUMMARY)
                print_summary(out, s);
            else
                print_line(out, f->name, "", s->labels, "", s->read ? s->read(s->arg) : s->value);
    }
    pthread_mutex_unlock(&m->lock);
    failed = ferror(out) != 0;
    if (fclose(out) || failed) {
        free(text);
        return NULL;
    }
    return text;
}
