/* use.c: a program outside the tree that knows the installed headers and pkg-config alone: it builds a model, trains, condenses,
 * bounds and saves it, and reads it back. Also compiled as C++. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

static const char definition[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"k_coef_lip\":1.0,\"layers\":["
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"x\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":16,\"name\":\"d1\"}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"sort\"}},"
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":1,\"name\":\"y\"}}]}}";
static const char training[] =
    "{\"optimizer\":{\"class_name\":\"Adam\",\"config\":{\"learning_rate\":0.01}},\"metrics\":[\"accuracy\"],"
    "\"loss\":{\"class_name\":\"HKR\",\"config\":{\"alpha\":10.0,\"min_margin\":0.5}}}";

static lip_error err;

static void must(lip_err rc, const char *what)
{
    if (rc == LIP_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, lip_err_name(rc), err.text);
    exit(1);
}

int main(void)
{
    enum { N = 64 };
    float x[2 * N], y[N], before[N], after[N];
    lip_model *model = NULL;
    lip_state *state = NULL, *again = NULL;
    lip_trainer *trainer = NULL;
    lip_snapshot *snapshot = NULL, *condensed = NULL;
    lip_workspace *ws = lip_workspace_new();
    lip_step_report report;
    lip_layer_bound layers[8];
    lip_network_bound network;
    lip_safetensors *file = NULL;
    lip_random random = {1, 2, 0};
    size_t n, size;

    /* Inside or outside of a circle. */
    lip_random_normal(&random, x, 2 * N);
    for (int i = 0; i < N; i++)
        y[i] = x[2 * i] * x[2 * i] + x[2 * i + 1] * x[2 * i + 1] > 1 ? 1 : -1;
    must(lip_model_read(definition, strlen(definition), true, &model, &err), "model");
    must(lip_state_new(model, 7, &state, &err), "state");
    must(lip_trainer_new(model, training, strlen(training), &trainer, &err), "trainer");

    lip_batch batch;
    memset(&batch, 0, sizeof batch);
    batch.n = N;
    batch.x = x;
    batch.y_shape.rank = 1;
    batch.y_shape.dim[0] = N;
    batch.y = y;
    for (int i = 0; i < 300; i++)
        must(lip_train_step(trainer, state, &batch, NULL, &report, &err), "step");
    if (!(report.metrics[1].value > 0.8)) {
        fprintf(stderr, "accuracy %g after 300 steps\n", report.metrics[1].value);
        return 1;
    }
    must(lip_state_publish(state, &snapshot, &err), "publish");
    must(lip_predict(snapshot, ws, N, x, before, &err), "predict");
    must(lip_bound_network(snapshot, NULL, layers, &n, &network, &err), "bound");
    if (n != 3 || !(network.lower <= network.upper && network.upper < 1.001)) {
        fprintf(stderr, "%zu layers, bound [%g, %g]\n", n, network.lower, network.upper);
        return 1;
    }
    must(lip_state_condense(state, NULL, NULL, &err), "condense");
    must(lip_state_publish(state, &condensed, &err), "publish");
    must(lip_predict(condensed, ws, N, x, after, &err), "predict");
    for (int i = 0; i < N; i++)
        if (fabsf(after[i] - before[i]) > 1e-5f) {
            fprintf(stderr, "condense moved an output from %g to %g\n", (double)before[i], (double)after[i]);
            return 1;
        }
    void *bytes = lip_state_save(state, &size);
    must(bytes ? lip_safetensors_read(bytes, size, &file, &err) : LIP_ENOMEM, "read");
    must(lip_state_new(model, 8, &again, &err), "state");
    must(lip_state_load(again, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, &err), "load");
    if (memcmp(lip_state_data(again, 0), lip_state_data(state, 0), 2 * 16 * sizeof(float)))
        return 1;
    lip_safetensors_free(file);
    lip_free(bytes);
    lip_state_free(again);
    lip_snapshot_put(condensed);
    lip_snapshot_put(snapshot);
    lip_trainer_free(trainer);
    lip_state_free(state);
    lip_workspace_free(ws);
    lip_model_put(model);
    return 0;
}
