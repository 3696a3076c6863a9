/* example.h: what the examples share: a small model, and an end with words when a call fails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

static const char definition[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":1.0,\"layers\":["
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":32,\"name\":\"d1\"}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s1\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":32,\"name\":\"d2\"}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s2\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":1,\"name\":\"y\"}}]}}";

static lip_error err;

#define MUST(call)                                                                          \
    do {                                                                                    \
        lip_err code_ = (call);                                                             \
        if (code_ != LIP_OK) {                                                              \
            fprintf(stderr, "%s: %s: %s %s\n", #call, lip_err_name(code_), err.pointer, err.text); \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

/* n points of two half moons, side by side, and on which one each lies: 1 or -1. */
static void moons(size_t n, float *x, float *y)
{
    lip_random random = {1, 2, 0};
    float noise[3];

    for (size_t i = 0; i < n; i++) {
        lip_random_uniform(&random, noise, 3);
        double angle = 3.14159265358979 * noise[0];

        y[i] = i % 2 ? 1 : -1;
        x[2 * i] = (float)(i % 2 ? cos(angle) : 1 - cos(angle)) + 0.1f * (noise[1] - 0.5f);
        x[2 * i + 1] = (float)(i % 2 ? sin(angle) : 0.5 - sin(angle)) + 0.1f * (noise[2] - 0.5f);
    }
}

/* A state of the model, trained on the moons. */
static lip_state *trained(const lip_model *model, int steps)
{
    static const char training[] = "{\"optimizer\":{\"class_name\":\"Adam\",\"config\":{\"learning_rate\":0.01}},"
                                   "\"loss\":{\"class_name\":\"HKR\",\"config\":{\"alpha\":10.0,\"min_margin\":0.3}},"
                                   "\"metrics\":[\"accuracy\"]}";
    enum { N = 256 };
    static float x[2 * N], y[N];
    lip_trainer *trainer;
    lip_state *state;
    lip_step_report report;
    lip_batch batch;

    moons(N, x, y);
    memset(&batch, 0, sizeof batch);
    batch.n = N;
    batch.x = x;
    batch.y = y;
    batch.y_shape.rank = 1;
    batch.y_shape.dim[0] = N;
    MUST(lip_state_new(model, 42, &state, &err));
    MUST(lip_trainer_new(model, training, strlen(training), &trainer, &err));
    for (int i = 1; i <= steps; i++) {
        MUST(lip_train_step(trainer, state, &batch, NULL, &report, &err));
        if (i % 100 == 0)
            printf("step %d: loss %.4f, accuracy %.3f\n", i, report.loss, report.metrics[1].value);
    }
    lip_trainer_free(trainer);
    return state;
}
