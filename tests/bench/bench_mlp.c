/* bench_mlp.c: the multilayer perceptron 784-256-128-10, forward and one training step, beside the machine's sgemm.
 *
 * Results are checked before they are timed: a forward pass against a plain loop in double, and that the step lowers
 * the loss. */
#include <math.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "bench.h"
#include "tensor/gemm.h"
#include "tensor/tile.h"

static const char definition[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":1.0,\"layers\":["
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,784],\"name\":\"x\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":256,\"name\":\"d1\"}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s1\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":128,\"name\":\"d2\"}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s2\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":10,\"name\":\"y\"}}]}}";
static const char run[] = "{\"optimizer\":\"adam\",\"loss\":{\"class_name\":\"TauCategoricalCrossentropy\",\"config\":{\"tau\":10}}}";

struct work {
    lip_state *state;
    lip_trainer *trainer;
    lip_snapshot *snapshot;
    lip_workspace *ws;
    lip_batch batch;
    float *x, *y, *labels;
    size_t n;
    double loss;
};

static void die(const char *what, const lip_error *err)
{
    fprintf(stderr, "bench_mlp: %s: %s\n", what, err->text);
    exit(1);
}

static void forward(void *ctx)
{
    struct work *w = ctx;
    lip_error err = {0};

    if (lip_predict(w->snapshot, w->ws, w->n, w->x, w->y, &err))
        die("forward", &err);
}

static void step(void *ctx)
{
    struct work *w = ctx;
    lip_step_report report;
    lip_error err = {0};

    w->batch.n = w->n;
    w->batch.y_shape.dim[0] = w->n;
    if (lip_train_step(w->trainer, w->state, &w->batch, NULL, &report, &err))
        die("step", &err);
    w->loss = report.loss;
}

static void sgemm(void *ctx)
{
    struct work *w = ctx;
    const float *k = lip_snapshot_kernel(w->snapshot, 1);

    lip__gemm(false, false, 256, 256, 784, 1, w->x, 784, k, 256, 0, w->y, 256);
}

/* The largest difference between the forward pass and plain loops in double. */
static double check(struct work *w)
{
    static const size_t width[] = {784, 256, 128, 10};
    double a[784], b[784], worst = 0;

    w->n = 5;
    forward(w);
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 784; j++)
            a[j] = w->x[i * 784 + j];
        for (size_t l = 0; l < 3; l++) {
            const float *k = lip_snapshot_kernel(w->snapshot, 1 + 2 * l), *bias = lip_snapshot_bias(w->snapshot, 1 + 2 * l);
            for (size_t o = 0; o < width[l + 1]; o++) {
                b[o] = bias[o];
                for (size_t j = 0; j < width[l]; j++)
                    b[o] += a[j] * k[j * width[l + 1] + o];
            }
            for (size_t o = 0; o < width[l + 1]; o += 2) {
                a[o] = l < 2 ? fmin(b[o], b[o + 1]) : b[o];
                a[o + 1] = l < 2 ? fmax(b[o], b[o + 1]) : b[o + 1];
            }
        }
        for (size_t o = 0; o < 10; o++)
            worst = fmax(worst, fabs(a[o] - w->y[i * 10 + o]));
    }
    return worst;
}

int main(void)
{
    static const size_t batches[] = {1, 64, 256};
    lip_model *model = NULL;
    struct work w = {0};
    lip_random random = {1, 1, 0};
    lip_error err = {0};

    if (lip_model_read(definition, sizeof definition - 1, true, &model, &err) || lip_state_new(model, 1, &w.state, &err) ||
        lip_state_condense(w.state, NULL, NULL, &err) || lip_state_publish(w.state, &w.snapshot, &err) ||
        lip_trainer_new(model, run, sizeof run - 1, &w.trainer, &err))
        die("set-up", &err);
    w.ws = lip_workspace_new();
    w.x = malloc(256 * 784 * sizeof *w.x);
    w.y = malloc(256 * 256 * sizeof *w.y);
    w.labels = malloc(256 * sizeof *w.labels);
    lip_random_uniform(&random, w.x, 256 * 784);
    for (size_t i = 0; i < 256; i++)
        w.labels[i] = (float)(i % 10);
    w.batch = (lip_batch){.x = w.x, .y_shape = {1, {256}}, .y = w.labels};
    double worst = check(&w);
    if (!(worst < 2e-5)) {
        fprintf(stderr, "bench_mlp: the forward pass is off by %g\n", worst);
        return 1;
    }
    bench_cpu();
    printf("blas %s\n", lip__blas_core());
    lip__vector_unit_use(lip__vector_units()); /* none: OpenBLAS */
    double rate = 2.0 * 256 * 256 * 784 / bench_median(sgemm, &w);
    lip__vector_unit_use(lip__vector_units() - 1);
    printf("sgemm 256x256x784, 1 thread: %.1f GF/s\n", rate);
    for (size_t threads = 1; threads <= 2; threads++) {
        if (lip_set_threads(threads, &err))
            die("threads", &err);
        for (size_t b = 0; b < 3; b++) {
            w.n = batches[b];
            double ns = bench_median(forward, &w);
            printf("forward batch %3zu, %zu thread%s: %8.1f us, %6.1f GF/s\n", w.n, threads, threads > 1 ? "s" : " ", ns / 1e3,
                   (double)w.n * lip_model_flops(model) / ns);
        }
        w.n = 64;
        step(&w);
        double first = w.loss;
        for (int i = 0; i < 20; i++)
            step(&w);
        double ns = bench_median(step, &w);
        printf("step    batch  64, %zu thread%s: %8.2f ms\n", threads, threads > 1 ? "s" : " ", ns / 1e6);
        if (!(w.loss < first)) {
            fprintf(stderr, "bench_mlp: the loss went from %g to %g\n", first, w.loss);
            return 1;
        }
    }
    return 0;
}
