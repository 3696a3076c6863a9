/* trainer.c: onelip's side of bench_training.py, which says what FOLDER has in it and what is read and written.
 *
 *     trainer FOLDER BATCH THREADS
 */
#include <math.h>

#include <onelip/onelip.h>

#include "bench.h"
#include "tensor/gemm.h"

enum { MOST_TENSORS = 32, MOST_NAME = 64 };

struct net {
    lip_model *model;
    lip_state *state;
    lip_trainer *trainer;
    float *x, *labels;
    size_t size, samples, batch, next;
    lip_step_report report;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "trainer: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* A whole file of the folder, with a 0 behind it. */
static char *content(const char *folder, const char *name, size_t *size)
{
    char path[4096], *text;
    FILE *f;
    long length;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) || (length = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) || !(text = malloc((size_t)length + 1)) ||
        fread(text, 1, (size_t)length, f) != (size_t)length)
        die(path, "cannot be read");
    fclose(f);
    text[length] = 0;
    *size = (size_t)length;
    return text;
}

/* manifest: a line for each tensor: its name, its axes. */
static void load_weights(struct net *net, const char *folder)
{
    static char name[MOST_TENSORS][MOST_NAME];
    lip_named tensor[MOST_TENSORS];
    lip_error err = {0};
    size_t n = 0, size;
    char *text = content(folder, "manifest", &size), *rest, *line;

    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++) {
        char file[MOST_NAME + 8], *at = strchr(line, ' ');
        if (n == MOST_TENSORS || !at || at - line >= MOST_NAME)
            die("manifest", line);
        snprintf(name[n], sizeof name[n], "%.*s", (int)(at - line), line);
        tensor[n] = (lip_named){.name = name[n]};
        while (*at && tensor[n].shape.rank < LIP_MAX_RANK)
            tensor[n].shape.dim[tensor[n].shape.rank++] = strtoul(at, &at, 10);
        snprintf(file, sizeof file, "%s.f32", name[n]);
        *strchr(file, '/') = '.';
        tensor[n].data = (float *)(void *)content(folder, file, &size);
        if (size != lip_shape_count(&tensor[n].shape) * sizeof(float))
            die(file, "has another size");
    }
    if (lip_state_load(net->state, tensor, n, true, NULL, NULL, &err))
        die("weights", err.text);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)tensor[i].data);
    free(text);
}

static struct net start(const char *folder, size_t batch, size_t threads)
{
    struct net net = {.batch = batch};
    lip_error err = {0};
    size_t definition, run, pixels, labels;
    char *text = content(folder, "definition.json", &definition), *settings = content(folder, "training.json", &run);

    if (lip_set_threads(threads, &err) || lip_model_read(text, definition, true, &net.model, &err) ||
        lip_state_new(net.model, 1, &net.state, &err) || lip_trainer_new(net.model, settings, run, &net.trainer, &err))
        die("set-up", err.text);
    load_weights(&net, folder);
    net.x = (float *)(void *)content(folder, "x.f32", &pixels);
    net.labels = (float *)(void *)content(folder, "y.f32", &labels);
    net.samples = labels / sizeof(float) / batch * batch;
    net.size = pixels / (labels / sizeof(float)) / sizeof(float);
    free(text), free(settings);
    return net;
}

static double step(struct net *net)
{
    lip_batch batch = {.n = net->batch, .x = net->x + net->next * net->size, .y_shape = {1, {net->batch}},
                       .y = net->labels + net->next};
    lip_error err = {0};
    uint64_t begin = bench_now();

    if (lip_train_step(net->trainer, net->state, &batch, NULL, &net->report, &err))
        die("step", err.text);
    net->next = (net->next + net->batch) % net->samples;
    return (double)(bench_now() - begin) / 1e6;
}

int main(int argc, char **argv)
{
    size_t threads = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    struct net net;
    long steps;

    if (!threads)
        die("usage", "trainer FOLDER BATCH THREADS");
    net = start(argv[1], strtoul(argv[2], NULL, 10), threads);
    printf("{\"about\": \"OpenBLAS core %s\"}\n", lip__blas_core());
    fflush(stdout);
    while (scanf("%ld", &steps) == 1) {
        double ns[4] = {0};
        printf("{\"loss\": [");
        double *ms = calloc((size_t)steps, sizeof *ms);
        for (long i = 0; ms && i < steps; i++) {
            ms[i] = step(&net);
            ns[0] += net.report.orthogonalize_ns, ns[1] += net.report.forward_ns;
            ns[2] += net.report.backward_ns, ns[3] += net.report.update_ns;
            printf("%s%.9g", i ? ", " : "", net.report.loss);
        }
        printf("], \"ms\": [");
        for (long i = 0; ms && i < steps; i++)
            printf("%s%.6f", i ? ", " : "", ms[i]);
        printf("], \"phases\": {\"orthogonalize\": %.4f, \"forward\": %.4f, \"backward\": %.4f, \"update\": %.4f}, \"layers\": [",
               ns[0] / 1e6 / (double)steps, ns[1] / 1e6 / (double)steps, ns[2] / 1e6 / (double)steps, ns[3] / 1e6 / (double)steps);
        for (size_t i = 0; i < net.report.n_layers; i++)
            printf("%s\"%s %s %d/%d\"", i ? ", " : "", net.report.layers[i].name, net.report.layers[i].form,
                   net.report.layers[i].power_iterations, net.report.layers[i].bjorck_iterations);
        printf("]}\n");
        fflush(stdout);
        free(ms);
    }
    lip_trainer_free(net.trainer), lip_state_free(net.state), lip_model_put(net.model);
    free(net.x), free(net.labels);
    return 0;
}
