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

#include "cli.h"

struct command {
    const char *name, *takes, *help;
    int words; /* that it takes */
    int (*run)(const struct options *o, struct server *s);
};

/* ---- printing ---------------------------------------------------------------------------------------- */

int print_json(json_t *json)
{
    int rc = json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));

    putchar('\n');
    json_decref(json);
    return rc ? EXIT_SERVER : EXIT_OK;
}

int get_and_print(struct server *s, const char *path)
{
    json_t *answer = NULL;
    int rc = server_call(s, "GET", path, NULL, &answer);

    return rc == EXIT_OK ? print_json(answer) : rc;
}

void add_name(char *path, size_t size, const char *name)
{
    size_t n = strlen(path);

    for (; *name && n + 4 < size; name++)
        n += (size_t)snprintf(path + n, size - n, isalnum((unsigned char)*name) || strchr("._-", *name) ? "%c" : "%%%02X",
                              (unsigned char)*name);
}

const char *model_path(char *path, size_t size, const char *name, const char *rest)
{
    snprintf(path, size, "/v2/models/");
    add_name(path, size - strlen(rest), name);
    snprintf(path + strlen(path), size - strlen(path), "%s", rest);
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

void progress_line(const struct options *o, long step, long steps, bool line, const char *rest)
{
    bool bar = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    char filled[31];
    int n = steps > 0 ? (int)(30 * step / steps) : 0;

    if (o->quiet || (!bar && !line))
        return;
    memset(filled, '#', (size_t)n);
    memset(filled + n, '.', (size_t)(30 - n));
    filled[30] = '\0';
    if (bar)
        fprintf(stderr, "\r[%s] ", filled);
    fprintf(stderr, "step %ld of %ld%s%s", step, steps, rest, bar && step < steps ? "  " : "\n");
}

/* Elsewhere a line every hundred steps. */
static void progress(const struct options *o, long step, double loss, double accuracy, double start)
{
    double rate = (double)step / (seconds() - start);
    char rest[128], right[32] = "";

    if (!isnan(accuracy))
        snprintf(right, sizeof right, "  accuracy %.4f", accuracy);
    snprintf(rest, sizeof rest, "  loss %.4f%s  %.1f steps/s", loss, right, rate);
    progress_line(o, step, o->steps, step % 100 == 0 || step == o->steps, rest);
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
        rc = data_body(d, o, r->sample + r->at, (size_t)o->batch, NULL, &body);
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

static int evaluate_dataset(const struct options *o, struct server *s)
{
    json_t *job = NULL, *result = NULL;
    int rc = run_job(o, s, json_pack("{s:s, s:s, s:s}", "type", "evaluate", "model", o->word[1], "dataset", o->dataset), &job, &result);

    if (rc == EXIT_OK)
        rc = print_json(json_pack("{s:s, s:O, s:O}", "model_name", o->word[1], "samples",
                                  json_object_get(json_object_get(result, "parameters"), "samples"), "metrics",
                                  json_object_get(result, "metrics")));
    json_decref(result);
    json_decref(job);
    return rc;
}

/* Means over all images, each batch weighing as many samples as it has. */
static int evaluate(const struct options *o, struct server *s)
{
    if (o->dataset)
        return evaluate_dataset(o, s);
    struct data d;
    size_t *sample = calloc((size_t)o->batch, sizeof *sample), done = 0, all = 0;
    json_t *means = json_object();
    char path[512];
    int rc = data_open(&d, o, s);

    model_path(path, sizeof path, o->word[1], "/evaluate");
    if (rc == EXIT_OK && (!sample || !means))
        rc = no_memory((size_t)o->batch);
    if (rc == EXIT_OK)
        all = data_samples(&d, o);
    while (rc == EXIT_OK && done < all) {
        size_t n = all - done < (size_t)o->batch ? all - done : (size_t)o->batch;
        struct body body;
        json_t *answer = NULL, *value;
        const char *name;
        for (size_t i = 0; i < n; i++)
            sample[i] = done + i;
        rc = data_body(&d, o, sample, n, NULL, &body);
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
    {"singular-values", "MODEL LAYER", "the spectrum of a layer", 2, singular_values},
    {"tighten", "MODEL", "scale every layer to its proven norm", 1, tighten},
    {"train", "MODEL", "train on IDX files, one train_step a batch", 1, train},
    {"evaluate", "MODEL", "loss and metrics over IDX files or a dataset", 1, evaluate},
    {"certify", "MODEL", "provable accuracy over IDX files or a dataset", 1, certify},
    {"wasserstein", "MODEL", "the distance of two classes of images, enclosed", 1, wasserstein},
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

enum {
    OPTION_IMAGES = 256, OPTION_LABELS, OPTION_STEPS, OPTION_BATCH, OPTION_SEED, OPTION_SCALE, OPTION_SAMPLES, OPTION_DATASET,
    OPTION_EPSILONS, OPTION_NORM, OPTION_ARITHMETIC, OPTION_ATTACK, OPTION_NO_LOCAL, OPTION_METHOD, OPTION_MAX_SECONDS,
    OPTION_INPUT_NORM, OPTION_PAIRS, OPTION_OF, OPTION_CLASSES, OPTION_INDEX
};

static const struct argp_option argp_options[] = {
    {"url", 'u', "URL", 0, "http://HOST:PORT or unix:PATH; default $ONELIP_URL, else http://127.0.0.1:8000", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {"images", OPTION_IMAGES, "FILE", 0, "IDX file of images, plain or gzip", 1},
    {"labels", OPTION_LABELS, "FILE", 0, "IDX file of labels, plain or gzip", 1},
    {"steps", OPTION_STEPS, "N", 0, "training steps (1000)", 1},
    {"batch", OPTION_BATCH, "N", 0, "samples a request (128)", 1},
    {"seed", OPTION_SEED, "N", 0, "of the order of the samples (1)", 1},
    {"scale", OPTION_SCALE, "X", 0, "what a pixel is multiplied by (1/255)", 1},
    {"samples", OPTION_SAMPLES, "N", 0, "only the first N images; wasserstein: of each class", 1},
    {"dataset", OPTION_DATASET, "NAME", 0, "a dataset of the server's instead of files, as a job", 1},
    {"epsilons", OPTION_EPSILONS, "LIST", 0, "certify: distances, like 36/255,0.5 (36/255,72/255,108/255,1)", 2},
    {"norm", OPTION_NORM, "NORM", 0, "certify: l2, l1 or linf (l2)", 2},
    {"arithmetic", OPTION_ARITHMETIC, "A", 0, "certify: float64, or float32 for what infer answers (float64)", 2},
    {"attack", OPTION_ATTACK, NULL, 0, "certify: attack every sample, too", 2},
    {"no-local", OPTION_NO_LOCAL, NULL, 0, "certify: leave the look at each ball out", 2},
    {"method", OPTION_METHOD, "M", 0, "lipschitz: auto, product, rescaled, lipsdp, liplt or fourier (auto)", 2},
    {"max-seconds", OPTION_MAX_SECONDS, "X", 0, "lipschitz, wasserstein: how long to look for better bounds (10)", 2},
    {"input-norm", OPTION_INPUT_NORM, "X", 0, "lipschitz: of the inputs whose rounding is bounded", 2},
    {"pairs", OPTION_PAIRS, NULL, 0, "lipschitz: the bound of every pair of outputs, too", 2},
    {"count", 'k', "N", 0, "singular-values: N from each end (all, where that is quick)", 2},
    {"of", OPTION_OF, "WHAT", 0, "singular-values: layer, or kernel (layer)", 2},
    {"classes", OPTION_CLASSES, "A,B", 0, "wasserstein: whose images are compared", 2},
    {"index", OPTION_INDEX, "N", 0, "wasserstein: the output that tells them apart", 2},
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

/* The text of a positive number. */
static const char *positive(struct argp_state *state, const char *name, const char *text)
{
    char *end;
    double x = strtod(text, &end);

    if (*end || end == text || !(x > 0) || !isfinite(x))
        argp_error(state, "--%s is \"%s\", needs a number above 0", name, text);
    return text;
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
    case OPTION_SAMPLES:
        o->samples = whole(state, "samples", arg, 1);
        return 0;
    case OPTION_ATTACK:
        o->attack = true;
        return 0;
    case OPTION_NO_LOCAL:
        o->no_local = true;
        return 0;
    case OPTION_PAIRS:
        o->pairs = true;
        return 0;
    case OPTION_DATASET:
        o->dataset = arg;
        return 0;
    case OPTION_EPSILONS:
        o->epsilons = arg;
        return 0;
    case OPTION_NORM:
        o->norm = arg;
        return 0;
    case OPTION_ARITHMETIC:
        o->arithmetic = arg;
        return 0;
    case OPTION_METHOD:
        o->method = arg;
        return 0;
    case OPTION_OF:
        o->of = arg;
        return 0;
    case OPTION_CLASSES:
        o->classes = arg;
        return 0;
    case OPTION_MAX_SECONDS:
        o->max_seconds = positive(state, "max-seconds", arg);
        return 0;
    case OPTION_INPUT_NORM:
        o->input_norm = positive(state, "input-norm", arg);
        return 0;
    case 'k':
        whole(state, "count", o->k = arg, 1);
        return 0;
    case OPTION_INDEX:
        whole(state, "index", o->index = arg, 0);
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
        fprintf(f, "  %-27s %s\n", usage, commands[i].help);
    }
    fputs("\nExit status: 0 done, 2 wrong usage, 3 not found, 4 refused, 5 the server said no, 6 no server, 7 bad data files.", f);
    fclose(f);
    return out;
}

const char *argp_program_version = PACKAGE_STRING;

int main(int argc, char **argv)
{
    static const struct argp argp = {argp_options, parse, "COMMAND [MODEL [LAYER]]", "onelip talks to onelipd.\v\n", NULL, help, NULL};
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
