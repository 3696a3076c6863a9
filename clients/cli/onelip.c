/* onelip.c: the command line: a table of subcommands, each a call or a loop of calls.
 *
 * Results go to stdout, everything else to stderr. A progress bar is drawn only on a terminal.
 */
#include <argp.h>
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <onelip/random.h>

#include "http.h"
#include "idx.h"

struct options {
    const char *url, *images, *labels;
    long steps, batch;
    unsigned long long seed;
    double scale;
    bool quiet;
    char **word; /* the subcommand and what it takes */
    int words;
};

struct command {
    const char *name, *takes, *help;
    int words; /* that it takes */
    int (*run)(const struct options *o, struct server *s);
};

/* ---- printing ---------------------------------------------------------------------------------------- */

static int print_json(json_t *json)
{
    int rc = json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));

    putchar('\n');
    json_decref(json);
    return rc ? EXIT_SERVER : EXIT_OK;
}

static int get_and_print(struct server *s, const char *path)
{
    json_t *answer = NULL;
    int rc = server_call(s, "GET", path, NULL, &answer);

    return rc == EXIT_OK ? print_json(answer) : rc;
}

/* "/v2/models/NAME" + rest, what a name may not hold percent-encoded: refusing it is the server's business. */
static const char *model_path(char *path, size_t size, const char *name, const char *rest)
{
    size_t n = (size_t)snprintf(path, size, "/v2/models/");

    for (; *name && n + 4 + strlen(rest) < size; name++)
        n += (size_t)snprintf(path + n, size - n, isalnum((unsigned char)*name) || strchr("._-", *name) ? "%c" : "%%%02X",
                              (unsigned char)*name);
    snprintf(path + n, size - n, "%s", rest);
    return path;
}

static int health(const struct options *o, struct server *s)
{
    (void)o;
    return get_and_print(s, "/v2/health/ready");
}

static int list(const struct options *o, struct server *s)
{
    json_t *answer = NULL, *name;
    size_t i;
    int rc = server_call(s, "GET", "/v2/models", NULL, &answer);

    (void)o;
    json_array_foreach(json_object_get(answer, "models"), i, name)
        puts(json_string_value(name));
    json_decref(answer);
    return rc;
}

static int show(const struct options *o, struct server *s)
{
    char path[512];

    return get_and_print(s, model_path(path, sizeof path, o->word[1], ""));
}

static int lipschitz(const struct options *o, struct server *s)
{
    char path[512];

    return get_and_print(s, model_path(path, sizeof path, o->word[1], "/lipschitz"));
}

/* ---- data --------------------------------------------------------------------------------------------- */

/* Images, labels and what the model calls its input. */
struct data {
    struct idx images, labels;
    char input[300], shape[128]; /* "28,28,1" */
    unsigned char *body;
    size_t room;
};

static void data_clear(struct data *d)
{
    free(d->body);
    idx_clear(&d->labels);
    idx_clear(&d->images);
}

static int no_memory(size_t samples)
{
    fprintf(stderr, "onelip: out of memory for %zu samples\n", samples);
    return EXIT_DATA;
}

/* The model's input: its name, and its shape when its size is that of an image. */
static int ask_input(struct data *d, const struct options *o, struct server *s)
{
    char path[512];
    json_t *answer = NULL, *size;
    size_t i, count = 1;
    int rc = server_call(s, "GET", model_path(path, sizeof path, o->word[1], ""), NULL, &answer);

    if (rc != EXIT_OK)
        return rc;
    const json_t *input = json_array_get(json_object_get(answer, "inputs"), 0);
    const char *name = json_string_value(json_object_get(input, "name"));
    snprintf(d->input, sizeof d->input, "%s", name ? name : "");
    json_array_foreach(json_object_get(input, "shape"), i, size) {
        size_t n = strlen(d->shape);
        if (i == 0)
            continue;
        count *= (size_t)json_integer_value(size);
        snprintf(d->shape + n, sizeof d->shape - n, "%s%lld", i > 1 ? "," : "", (long long)json_integer_value(size));
    }
    json_decref(answer);
    if (name && count == d->images.item)
        return EXIT_OK;
    fprintf(stderr, "onelip: an image of %s has %zu numbers, the input \"%s\" of %s takes %zu\n", o->images, d->images.item,
            d->input, o->word[1], count);
    return EXIT_DATA;
}

static int data_open(struct data *d, const struct options *o, struct server *s)
{
    memset(d, 0, sizeof *d);
    if (!o->images || !o->labels) {
        fprintf(stderr, "onelip: %s needs --images and --labels; see onelip --help\n", o->word[0]);
        return EXIT_USAGE;
    }
    if (idx_read(&d->images, o->images) || idx_read(&d->labels, o->labels))
        return EXIT_DATA;
    if (d->labels.item != 1 || d->labels.dim[0] != d->images.dim[0]) {
        fprintf(stderr, "onelip: %s has %zu images and %s %zu labels\n", o->images, d->images.dim[0], o->labels,
                d->labels.dim[0]);
        return EXIT_DATA;
    }
    return ask_input(d, o, s);
}

/* A request of n samples in the binary extension: a JSON header, float32 pixels, INT64 labels, little-endian. */
static int make_body(struct data *d, const struct options *o, const size_t *sample, size_t n, struct body *body)
{
    size_t pixels = n * d->images.item * sizeof(float), labels = n * sizeof(int64_t), room = 1024 + pixels + labels;

    if (d->room < room) {
        free(d->body);
        d->room = 0;
        d->body = malloc(room);
        if (!d->body)
            return no_memory(n);
        d->room = room;
    }
    json_t *head = json_pack("{s:[{s:s, s:s, s:s, s:{s:I}}, {s:s, s:[I], s:s, s:{s:I}}]}", "inputs", "name", d->input, "shape",
                             "@", "datatype", "FP32", "parameters", "binary_data_size", (json_int_t)pixels, "name", "y_true",
                             "shape", (json_int_t)n, "datatype", "INT64", "parameters", "binary_data_size", (json_int_t)labels);
    char shape[160];
    snprintf(shape, sizeof shape, "[%zu,%s]", n, d->shape);
    json_t *dims = json_loads(shape, 0, NULL);
    json_object_set_new(json_array_get(json_object_get(head, "inputs"), 0), "shape", dims);
    body->json = json_dumpb(head, (char *)d->body, 1024, JSON_COMPACT);
    json_decref(head);
    if (!dims || !body->json || body->json > 1024) {
        fprintf(stderr, "onelip: the input's name or shape is too long\n");
        return EXIT_DATA;
    }
    unsigned char *at = d->body + body->json;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d->images.item; j++, at += sizeof(float)) {
            float x = (float)(d->images.data[sample[i] * d->images.item + j] * o->scale);
            memcpy(at, &x, sizeof x);
        }
    for (size_t i = 0; i < n; i++, at += sizeof(int64_t)) {
        int64_t y = d->labels.data[sample[i]];
        memcpy(at, &y, sizeof y);
    }
    body->data = d->body;
    body->bytes = body->json + pixels + labels;
    return EXIT_OK;
}

/* ---- training ------------------------------------------------------------------------------------------ */

/* Sample numbers in an order drawn anew for each epoch (Fisher and Yates). */
struct order {
    size_t *sample, n, at;
    lip_random random;
};

static void shuffle(struct order *r)
{
    for (size_t i = r->n; i > 1; i--) {
        size_t j = (size_t)(lip_random_u64(&r->random) % i), t = r->sample[i - 1];
        r->sample[i - 1] = r->sample[j];
        r->sample[j] = t;
    }
    r->at = 0;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A bar on a terminal, a line every hundred steps elsewhere. */
static void progress(const struct options *o, long step, double loss, double accuracy, double start)
{
    bool bar = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    double rate = (double)step / (seconds() - start);
    char filled[31];
    int n = (int)(30 * step / o->steps);

    if (o->quiet || (!bar && step % 100 && step != o->steps))
        return;
    memset(filled, '#', (size_t)n);
    memset(filled + n, '.', (size_t)(30 - n));
    filled[30] = '\0';
    if (bar)
        fprintf(stderr, "\r[%s] ", filled);
    fprintf(stderr, "step %ld of %ld  loss %.4f", step, o->steps, loss);
    if (!isnan(accuracy))
        fprintf(stderr, "  accuracy %.4f", accuracy);
    fprintf(stderr, "  %.1f steps/s%s", rate, bar && step < o->steps ? "  " : "\n");
}

/* Smoothed over about fifty steps, so that a reader sees the trend. */
static double smooth(double mean, double x)
{
    return isnan(mean) ? x : isnan(x) ? mean : 0.98 * mean + 0.02 * x;
}

static double metric(const json_t *answer, const char *name)
{
    const json_t *v = json_object_get(json_object_get(answer, "metrics"), name);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int train_steps(const struct options *o, struct server *s, struct data *d, struct order *r)
{
    double loss = NAN, accuracy = NAN, start = seconds();
    char path[512];

    model_path(path, sizeof path, o->word[1], "/train_step");
    for (long step = 1; step <= o->steps; step++) {
        struct body body;
        json_t *answer = NULL;
        int rc;
        if (r->at + (size_t)o->batch > r->n)
            shuffle(r);
        rc = make_body(d, o, r->sample + r->at, (size_t)o->batch, &body);
        r->at += (size_t)o->batch;
        if (rc == EXIT_OK)
            rc = server_call(s, "POST", path, &body, &answer);
        if (rc != EXIT_OK)
            return rc;
        loss = smooth(loss, metric(answer, "loss"));
        accuracy = smooth(accuracy, metric(answer, "accuracy"));
        json_decref(answer);
        progress(o, step, loss, accuracy, start);
    }
    return EXIT_OK;
}

static int train(const struct options *o, struct server *s)
{
    struct data d;
    struct order r = {.random = {o->seed, lip_random_stream("shuffle"), 0}};
    int rc = data_open(&d, o, s);

    if (rc == EXIT_OK && (size_t)o->batch > d.images.dim[0]) {
        fprintf(stderr, "onelip: --batch %ld is more than the %zu images there are\n", o->batch, d.images.dim[0]);
        rc = EXIT_USAGE;
    }
    if (rc == EXIT_OK) {
        r.n = d.images.dim[0];
        r.sample = calloc(r.n, sizeof *r.sample);
        rc = r.sample ? EXIT_OK : no_memory(r.n);
    }
    for (size_t i = 0; rc == EXIT_OK && i < r.n; i++)
        r.sample[i] = i;
    if (rc == EXIT_OK) {
        shuffle(&r);
        rc = train_steps(o, s, &d, &r);
    }
    free(r.sample);
    data_clear(&d);
    return rc;
}

/* Means over all images, each batch weighing as many samples as it has. */
static int evaluate(const struct options *o, struct server *s)
{
    struct data d;
    size_t *sample = calloc((size_t)o->batch, sizeof *sample), done = 0;
    json_t *means = json_object();
    char path[512];
    int rc = data_open(&d, o, s);

    model_path(path, sizeof path, o->word[1], "/evaluate");
    if (rc == EXIT_OK && (!sample || !means))
        rc = no_memory((size_t)o->batch);
    while (rc == EXIT_OK && done < d.images.dim[0]) {
        size_t n = d.images.dim[0] - done < (size_t)o->batch ? d.images.dim[0] - done : (size_t)o->batch;
        struct body body;
        json_t *answer = NULL, *value;
        const char *name;
        for (size_t i = 0; i < n; i++)
            sample[i] = done + i;
        rc = make_body(&d, o, sample, n, &body);
        if (rc == EXIT_OK)
            rc = server_call(s, "POST", path, &body, &answer);
        json_object_foreach(json_object_get(answer, "metrics"), name, value) {
            double mean = json_number_value(json_object_get(means, name));
            mean += (json_number_value(value) - mean) * (double)n / (double)(done + n);
            json_object_set_new(means, name, json_real(mean));
        }
        json_decref(answer);
        done += n;
    }
    if (rc == EXIT_OK) {
        json_t *result = json_pack("{s:s, s:I, s:O}", "model_name", o->word[1], "samples", (json_int_t)done, "metrics", means);
        rc = print_json(result);
    }
    json_decref(means);
    free(sample);
    data_clear(&d);
    return rc;
}

/* ---- the command line ------------------------------------------------------------------------------------ */

static const struct command commands[] = {
    {"health", "", "whether the server is ready", 0, health},
    {"ls", "", "the names of the models", 0, list},
    {"show", "MODEL", "the model document", 1, show},
    {"lipschitz", "MODEL", "the Lipschitz report", 1, lipschitz},
    {"train", "MODEL", "train on IDX files, one train_step a batch", 1, train},
    {"evaluate", "MODEL", "loss and metrics over IDX files", 1, evaluate},
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

enum { OPTION_IMAGES = 256, OPTION_LABELS, OPTION_STEPS, OPTION_BATCH, OPTION_SEED, OPTION_SCALE };

static const struct argp_option argp_options[] = {
    {"url", 'u', "URL", 0, "http://HOST:PORT or unix:PATH; default $ONELIP_URL, else http://127.0.0.1:8000", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {"images", OPTION_IMAGES, "FILE", 0, "IDX file of images, plain or gzip", 1},
    {"labels", OPTION_LABELS, "FILE", 0, "IDX file of labels, plain or gzip", 1},
    {"steps", OPTION_STEPS, "N", 0, "training steps (1000)", 1},
    {"batch", OPTION_BATCH, "N", 0, "samples a request (128)", 1},
    {"seed", OPTION_SEED, "N", 0, "of the order of the samples (1)", 1},
    {"scale", OPTION_SCALE, "X", 0, "what a pixel is multiplied by (1/255)", 1},
    {0},
};

static long whole(struct argp_state *state, const char *name, const char *text, long least)
{
    char *end;
    long x = strtol(text, &end, 10);

    if (*end || end == text || x < least || x > 1000000000)
        argp_error(state, "--%s is \"%s\", needs an integer from %ld to 1000000000", name, text, least);
    return x;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    char *end;

    switch (key) {
    case 'u':
        o->url = arg;
        return 0;
    case 'q':
        o->quiet = true;
        return 0;
    case OPTION_IMAGES:
        o->images = arg;
        return 0;
    case OPTION_LABELS:
        o->labels = arg;
        return 0;
    case OPTION_STEPS:
        o->steps = whole(state, "steps", arg, 1);
        return 0;
    case OPTION_BATCH:
        o->batch = whole(state, "batch", arg, 1);
        return 0;
    case OPTION_SEED:
        o->seed = (unsigned long long)whole(state, "seed", arg, 0);
        return 0;
    case OPTION_SCALE:
        o->scale = strtod(arg, &end);
        if (*end || end == arg || !isfinite(o->scale))
            argp_error(state, "--scale is \"%s\", needs a finite number", arg);
        return 0;
    case ARGP_KEY_ARGS:
        o->word = state->argv + state->next;
        o->words = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a command is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The list of commands goes behind the options. */
static char *help(int key, const char *text, void *input)
{
    char *out = NULL;
    size_t size = 0;
    FILE *f;

    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC || !(f = open_memstream(&out, &size)))
        return (char *)text;
    fputs("Commands:\n", f);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "%s %s", commands[i].name, commands[i].takes);
        fprintf(f, "  %-18s %s\n", usage, commands[i].help);
    }
    fputs("\nExit status: 0 done, 2 wrong usage, 3 not found, 4 refused, 5 the server said no, 6 no server, 7 bad data files.", f);
    fclose(f);
    return out;
}

const char *argp_program_version = PACKAGE_STRING;

int main(int argc, char **argv)
{
    static const struct argp argp = {argp_options, parse, "COMMAND [MODEL]", "onelip talks to onelipd.\v\n", NULL, help, NULL};
    const char *url = getenv("ONELIP_URL");
    struct options o = {.url = url && *url ? url : "http://127.0.0.1:8000", .steps = 1000, .batch = 128, .seed = 1,
                        .scale = 1.0 / 255};
    size_t i = 0;

    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    while (i < N_COMMANDS && strcmp(commands[i].name, o.word[0]))
        i++;
    if (i == N_COMMANDS || o.words != 1 + commands[i].words) {
        fprintf(stderr, "onelip: %s\n", i == N_COMMANDS ? "no such command; onelip --help lists them" : "wrong number of words; see onelip --help");
        return EXIT_USAGE;
    }
    struct server *s = server_open(o.url);
    if (!s) {
        fprintf(stderr, "onelip: out of memory\n");
        return EXIT_SERVER;
    }
    int rc = commands[i].run(&o, s);
    server_close(s);
    return rc;
}
