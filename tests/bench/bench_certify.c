/* bench_certify.c: reports and certificates of models trained on Fashion-MNIST, as certify.md's tables have them.
 *
 * Each figure that has a target is printed beside it; where one misses it the exit status is 1. The data is Debian's
 * dataset-fashion-mnist; without it nothing is measured but reports of a body of wide convolutions. ONELIP_BENCH_CACHE:
 * a folder for trained weights. ONELIP_BENCH_ONLY: relu, hkr, cnn or body. */
#include <math.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "bench.h"

enum { PIXELS = 784, CLASSES = 10, TRAIN = 60000, ALL = 10000, TEST = 1000, BATCH = 256 };

#define FOLDER "/usr/share/datasets/fashion-mnist/"
#define DENSE(class_, units, name)                                                                                     \
    "{\"class_name\":\"" class_ "\",\"config\":{\"units\":" units ",\"name\":\"" name "\"}}"
#define BARE(class_, name) "{\"class_name\":\"" class_ "\",\"config\":{\"name\":\"" name "\"}}"
#define CONV(filters, name)                                                                                            \
    "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":" filters ",\"kernel_size\":3,\"name\":\"" name "\"}}"
#define POOL(name)    BARE("ScaledL2NormPooling2D", name)
#define MODEL(layers) "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[" layers "]}}"
#define INPUT(shape)                                                                                                   \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null," shape "],\"name\":\"x\"}},"
#define HKR                                                                                                            \
    "{\"optimizer\":\"adam\",\"loss\":{\"class_name\":\"MulticlassHKR\",\"config\":{\"alpha\":50.0,\"min_margin\":0."  \
    "35}}}"
#define CE "{\"optimizer\":\"adam\",\"loss\":{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":1.0}}}"

static const struct subject {
    const char *name, *definition, *run;
    int epochs;
    double rate;
} subjects[] = {
    {"relu",
     MODEL(INPUT("784") DENSE("Dense", "256", "d1") "," BARE("ReLU", "r1") "," DENSE("Dense", "128", "d2") "," BARE(
         "ReLU", "r2") "," DENSE("Dense", "10", "y")),
     CE, 6, 1e-3},
    {"hkr",
     MODEL(INPUT("784") DENSE("SpectralDense", "256", "d1") "," BARE("GroupSort2", "s1") "," DENSE(
         "SpectralDense", "128", "d2") "," BARE("GroupSort2", "s2") "," DENSE("FrobeniusDense", "10", "y")),
     HKR, 10, 2e-3},
    {"cnn",
     MODEL(INPUT("28,28,1") CONV("16", "c1") "," BARE("GroupSort2", "s1") "," POOL("p1") "," CONV("32", "c2") "," BARE(
         "GroupSort2",
         "s2") "," POOL("p2") "," BARE("Flatten", "f") "," DENSE("SpectralDense", "64",
                                                                 "d1") "," BARE("GroupSort2",
                                                                                "s3") "," DENSE("FrobeniusDense", "10",
                                                                                                "y")),
     HKR, 2, 1e-3},
};

static void must(lip_err rc, const char *what, const lip_error *err)
{
    if (rc) {
        fprintf(stderr, "bench_certify: %s: %s\n", what, err->text);
        exit(1);
    }
}

static bool missed;

/* What was reached, and what should be: at least, or at most. */
static void figure(const char *name, const char *what, double got, bool most, double target)
{
    bool good = most ? got <= target : got >= target;

    printf("%s: %-58s %8.4g, wanted at %s %.4g: %s\n", name, what, got, most ? "most" : "least", target,
           good ? "reached" : "MISSED");
    missed = missed || !good;
}

/* The bytes behind the header of an IDX file; NULL. */
static unsigned char *read_idx(const char *path, size_t header, size_t count)
{
    unsigned char *all = malloc(header + count);
    char command[256];
    FILE *f;
    size_t got;

    snprintf(command, sizeof command, "gzip -dc %s 2>/dev/null", path);
    f = popen(command, "r");
    got = f ? fread(all, 1, header + count, f) : 0;
    if (f)
        pclose(f);
    if (got < header + count) {
        free(all);
        return NULL;
    }
    memmove(all, all + header, count);
    return all;
}

static float *images(const char *path, size_t n)
{
    unsigned char *bytes = read_idx(path, 16, n * PIXELS);
    float *x = bytes ? malloc(n * PIXELS * sizeof *x) : NULL;

    for (size_t i = 0; x && i < n * PIXELS; i++)
        x[i] = (float)bytes[i] / 255;
    free(bytes);
    return x;
}

static void train(const struct subject *s, lip_state *state, const float *x, const unsigned char *label)
{
    lip_trainer *trainer;
    lip_error err = {0};
    lip_step_report report;
    float *batch = malloc(BATCH * PIXELS * sizeof *batch), y[BATCH];
    size_t steps = (size_t)s->epochs * (TRAIN / BATCH), at = 0;

    must(lip_trainer_new(lip_state_model(state), s->run, strlen(s->run), &trainer, &err), "trainer", &err);
    for (size_t step = 0; step < steps; step++) {
        lip_batch b = {.n = BATCH, .x = batch, .y_shape = {1, {BATCH}}, .y = y};
        lip_step_options o = {.learning_rate = s->rate * 0.5 * (1 + cos(M_PI * (double)step / (double)steps))};

        for (size_t i = 0; i < BATCH; i++) {
            at = (at + 7919) % TRAIN; /* a prime: every image once in each epoch */
            memcpy(batch + i * PIXELS, x + at * PIXELS, PIXELS * sizeof *batch);
            y[i] = label[at];
        }
        must(lip_train_step(trainer, state, &b, &o, &report, &err), "step", &err);
    }
    printf("%s: trained to a loss of %.4g\n", s->name, report.loss);
    lip_trainer_free(trainer);
    free(batch);
}

static bool load(lip_state *state, const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = 0;
    void *bytes;
    lip_safetensors *file;
    lip_error err = {0};

    if (!f)
        return false;
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    bytes = malloc((size_t)size);
    if (fread(bytes, 1, (size_t)size, f) != (size_t)size)
        exit(1);
    fclose(f);
    must(lip_safetensors_read(bytes, (size_t)size, &file, &err), path, &err);
    must(lip_state_load(state, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, &err),
         path, &err);
    lip_safetensors_free(file);
    free(bytes);
    return true;
}

static double seconds(uint64_t since)
{
    return (double)(bench_now() - since) / 1e9;
}

/* product: of all layers but the last. */
static void report(const struct subject *s, const lip_snapshot *snapshot, const float *x, double *product)
{
    lip_layer_bound layers[16];
    lip_network_bound network;
    lip_error err = {0};
    size_t n;

    for (int i = 0; i < 2; i++) {
        lip_bound_options o = {.methods = i ? 0 : 1u << LIP_PRODUCT, .max_seconds = 10, .n_points = 256, .points = x};
        uint64_t start = bench_now();
        double took;

        must(lip_bound_network(snapshot, &o, layers, &n, &network, &err), "report", &err);
        took = seconds(start);
        printf("%s: %s report in %.3f s: [%.5g, %.5g] by %s, ratio %.4g, %scomplete;", s->name, i ? "whole" : "product",
               took, network.lower, network.upper, network.method, network.tightness, network.complete ? "" : "in");
        for (int m = 0; m < LIP_BOUND_METHODS; m++)
            printf(" %s %.5g", lip_bound_method_name((lip_bound_method)m), network.by[m]);
        printf("\n");
        *product = network.by[LIP_PRODUCT] / layers[n - 1].upper;
        if (!i)
            figure(s->name, "seconds of a report by the product", took, true, !strcmp(s->name, "cnn") ? 1 : 0.5);
        else
            figure(s->name, "seconds of a report in max_seconds=10", took, true, 11);
    }
    if (!strcmp(s->name, "relu"))
        figure(s->name, "upper over lower with max_seconds=10", network.tightness, true, 1.3);
}

/* Four convolutions of 64 filters on 64x64: nothing that takes long may overrun the time. */
static void body(void)
{
    static const char json[] = MODEL(INPUT("64,64,3") CONV("64", "c1") "," BARE("ReLU", "r1") "," CONV(
        "64", "c2") "," BARE("ReLU", "r2") "," CONV("64", "c3") "," BARE("ReLU", "r3") "," CONV("64", "c4"));
    static const double most[] = {0.5, 2, 5};
    lip_layer_bound layers[16];
    lip_network_bound network;
    lip_error err = {0};
    lip_model *model;
    lip_state *state;
    lip_snapshot *snapshot;
    size_t n;

    must(lip_model_read(json, strlen(json), false, &model, &err), "model", &err);
    must(lip_state_new(model, 1, &state, &err), "state", &err);
    must(lip_state_publish(state, &snapshot, &err), "publish", &err);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        uint64_t start = bench_now();
        char what[64];

        must(lip_bound_network(snapshot, &(lip_bound_options){.max_seconds = most[i]}, layers, &n, &network, &err),
             "report", &err);
        snprintf(what, sizeof what, "seconds of a report in max_seconds=%g", most[i]);
        figure("body", what, seconds(start), true, 1.1 * most[i]);
        printf("body: [%.5g, %.5g] by %s, %scomplete\n", network.lower, network.upper, network.method,
               network.complete ? "" : "in");
    }
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
}

static const double epsilon[] = {36 / 255.0, 72 / 255.0, 108 / 255.0, 0.5, 1};

/* Of all test images: what rounding takes, and how much more is certified at 0.5 than by deel-lip's factor. */
static void everything(const struct subject *s, const lip_certifier *c, lip_arithmetic arithmetic, const float *x,
                       const int64_t *truth)
{
    lip_workspace *ws = lip_workspace_new();
    lip_error err = {0};
    double *radius = malloc(3 * ALL * sizeof *radius), *margin = radius + ALL, *theirs = margin + ALL, ours_at[5],
           theirs_at[5];
    float *y = malloc(ALL * CLASSES * sizeof *y);
    size_t lost[5] = {0}, right = 0, most_lost = 0;

    must(lip_certify(c, ws, &(lip_certify_options){.arithmetic = arithmetic}, ALL, x, truth,
                     &(lip_certificates){.y = y, .radius = radius, .margin = margin}, &err),
         "certify", &err);
    for (size_t i = 0; i < ALL; i++) {
        const float *row = y + i * CLASSES;
        double real = INFINITY;

        theirs[i] = fmax(0, margin[i] / lip_certifier_factor(c));
        right += margin[i] > 0;
        for (size_t j = 0; j < CLASSES; j++)
            if ((int64_t)j != truth[i])
                real = fmin(real,
                            ((double)row[truth[i]] - row[j]) / lip_certifier_pairs(c)[(size_t)truth[i] * CLASSES + j]);
        for (int e = 0; e < 5; e++)
            lost[e] += real > epsilon[e] && radius[i] <= epsilon[e];
    }
    lip_provable_accuracy(ALL, radius, 5, epsilon, ours_at);
    lip_provable_accuracy(ALL, theirs, 5, epsilon, theirs_at);
    printf("%s: of %d images %.4f right; certified %.4f %.4f %.4f %.4f %.4f, reference %.4f %.4f %.4f %.4f %.4f, %.4f "
           "times as many at 0.5; "
           "lost to rounding %zu %zu %zu %zu %zu\n",
           s->name, ALL, (double)right / ALL, ours_at[0], ours_at[1], ours_at[2], ours_at[3], ours_at[4], theirs_at[0],
           theirs_at[1], theirs_at[2], theirs_at[3], theirs_at[4], ours_at[3] / theirs_at[3], lost[0], lost[1], lost[2],
           lost[3], lost[4]);
    for (int e = 0; e < 5 && arithmetic == LIP_FLOAT64; e++)
        if (lost[e] > most_lost)
            most_lost = lost[e];
    if (arithmetic == LIP_FLOAT64)
        figure(s->name, "certificates of 10,000 lost to rounding at any epsilon", (double)most_lost, true, 1);
    if (arithmetic == LIP_FLOAT64 && !strcmp(s->name, "hkr"))
        figure(s->name, "times as many certified at 0.5 as by deel-lip's factor", ours_at[3] / theirs_at[3], false,
               1.25);
    free(y);
    free(radius);
    lip_workspace_free(ws);
}

/* What the product of all layers but the last, times distances of the last one's columns, certifies of the same
 * answers. */
static double by_product(const lip_snapshot *snapshot, double product, size_t n, const float *y, const int64_t *truth,
                         double at)
{
    size_t last = lip_model_layers(lip_snapshot_model(snapshot)) - 1, m = 128, above = 0;
    const float *w = lip_snapshot_kernel(snapshot, last);

    for (size_t i = 0; i < n; i++) {
        const float *row = y + i * CLASSES;
        size_t c = (size_t)truth[i];
        double least = INFINITY;

        for (size_t j = 0; j < CLASSES; j++) {
            double square = 0;

            for (size_t k = 0; k < m; k++)
                square += ((double)w[k * CLASSES + c] - w[k * CLASSES + j]) *
                          ((double)w[k * CLASSES + c] - w[k * CLASSES + j]);
            if (j != c)
                least = fmin(least, ((double)row[c] - row[j]) / (product * sqrt(square)));
        }
        above += least > at;
    }
    return (double)above / (double)n;
}

static void certificates(const struct subject *s, const lip_snapshot *snapshot, double product, const float *x,
                         const unsigned char *label)
{
    lip_workspace *ws = lip_workspace_new();
    lip_error err = {0};
    static int64_t truth[ALL];
    double radius[TEST], accuracy[5], mean, exact[TEST];
    float *y = malloc(TEST * CLASSES * sizeof *y);
    const char *method[TEST];
    double margin[TEST];

    for (size_t i = 0; i < ALL; i++)
        truth[i] = label[i];
    for (int way = 0; way < 5; way++) {
        static const char *const names[] = {"quick", "global", "local", "global float32", "attack"};
        lip_certifier *c;
        lip_certify_options o = {.local = way == 2, .arithmetic = way == 3 ? LIP_FLOAT32 : LIP_FLOAT64};
        lip_certificates out = {.y = y, .radius = radius, .method = method, .margin = margin};
        size_t count = way == 4 ? 200 : TEST, local = 0;
        uint64_t start = bench_now();
        double built, took;

        must(lip_certifier_new(snapshot, &(lip_certifier_options){.quick = way == 0}, &c, &err), "certifier", &err);
        built = seconds(start);
        start = bench_now();
        must(lip_certify(c, ws, &o, count, x, truth, &out, &err), "certify", &err);
        if (way == 0) { /* deel-lip's own figure for the same answers */
            double factor = lip_certifier_factor(c);

            for (size_t i = 0; i < count; i++)
                exact[i] = fmax(0, margin[i] / factor);
            lip_provable_accuracy(count, exact, 5, epsilon, accuracy);
            printf("%s: reference %.3f %.3f %.3f %.3f %.3f\n", s->name, accuracy[0], accuracy[1], accuracy[2],
                   accuracy[3], accuracy[4]);
            start = bench_now();
            must(lip_certify(c, ws, &o, count, x, truth, &out, &err), "certify", &err);
        }
        if (way == 4) {
            start = bench_now();
            must(lip_attack(c, &o, 0, count, x, exact, NULL, &err), "attack", &err);
            for (size_t i = 0; i < count; i++) {
                if (radius[i] > exact[i]) {
                    fprintf(stderr, "bench_certify: an attack at %g succeeded inside %g\n", exact[i], radius[i]);
                    exit(1);
                }
                radius[i] = radius[i] > 0 || margin[i] > 0 ? exact[i] : 0;
            }
        }
        took = seconds(start);
        lip_provable_accuracy(count, radius, 5, epsilon, accuracy);
        mean = 0;
        for (size_t i = 0; i < count; i++) {
            mean += isfinite(radius[i]) ? radius[i] / (double)count : 0;
            local += way == 2 && !strcmp(method[i], "local");
        }
        printf("%s: %-14s %.3f %.3f %.3f %.3f %.3f mean %.4f, certifier %.3f s, %zu in %.3f s = %.2f ms each", s->name,
               names[way], accuracy[0], accuracy[1], accuracy[2], accuracy[3], accuracy[4], mean, built, count, took,
               1e3 * took / (double)count);
        printf(way == 2 ? ", %zu local\n" : "\n", local);
        if (way == 1)
            figure(s->name, "seconds of 1,000 with global constants, those included", built + took, true, 0.5);
        if (way == 2)
            figure(s->name, "ms of each local one", 1e3 * took / (double)count, true, 30);
        if (way == 2 && !strcmp(s->name, "relu")) {
            figure(s->name, "certified at 72/255 of 1,000", accuracy[1], false, 0.65);
            printf("%s: by the product %.3f\n", s->name, by_product(snapshot, product, count, y, truth, epsilon[1]));
        }
        if (way == 1 || way == 3)
            everything(s, c, o.arithmetic, x, truth);
        lip_certifier_free(c);
    }
    free(y);
    lip_workspace_free(ws);
}

int main(void)
{
    float *x = images(FOLDER "t10k-images-idx3-ubyte.gz", 10000), *x_train = NULL;
    unsigned char *label = read_idx(FOLDER "t10k-labels-idx1-ubyte.gz", 8, 10000), *label_train = NULL;
    const char *cache = getenv("ONELIP_BENCH_CACHE"), *only = getenv("ONELIP_BENCH_ONLY");

    bench_cpu();
    lip_set_threads(2, NULL);
    if (!only || !strcmp(only, "body"))
        body();
    if (!x || !label) {
        printf("no Fashion-MNIST in " FOLDER "\n");
        return missed;
    }
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        lip_model *model;
        lip_state *state;
        lip_snapshot *snapshot;
        lip_error err = {0};
        char path[512] = "";
        double product;

        if (only && strcmp(only, subjects[i].name))
            continue;
        must(lip_model_read(subjects[i].definition, strlen(subjects[i].definition), false, &model, &err), "model",
             &err);
        must(lip_state_new(model, 1, &state, &err), "state", &err);
        if (cache)
            snprintf(path, sizeof path, "%s/%s.safetensors", cache, subjects[i].name);
        if (!cache || !load(state, path)) {
            size_t size;
            void *bytes;
            FILE *f;

            if (!x_train) {
                x_train = images(FOLDER "train-images-idx3-ubyte.gz", TRAIN);
                label_train = read_idx(FOLDER "train-labels-idx1-ubyte.gz", 8, TRAIN);
            }
            train(&subjects[i], state, x_train, label_train);
            bytes = lip_state_save(state, &size);
            if (cache && (f = fopen(path, "wb"))) {
                fwrite(bytes, 1, size, f);
                fclose(f);
            }
            lip_free(bytes);
        }
        must(lip_state_publish(state, &snapshot, &err), "publish", &err);
        report(&subjects[i], snapshot, x, &product);
        certificates(&subjects[i], snapshot, product, x, label);
        lip_snapshot_put(snapshot);
        lip_state_free(state);
        lip_model_put(model);
    }
    free(label_train);
    free(x_train);
    free(label);
    free(x);
    return missed;
}
