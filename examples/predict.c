/* predict.c: the model of a safetensors file, read back and asked. A snapshot is immutable: any number of threads may share it,
 * each with a workspace of its own. */
#include "example.h"

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "moons.safetensors";
    const float x[] = {0, 1, 1, -0.5f};
    FILE *file = fopen(path, "rb");
    static char bytes[1 << 20];
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    lip_safetensors *tensors;
    lip_snapshot *snapshot;
    lip_workspace *ws = lip_workspace_new();
    lip_model *model;
    lip_state *state;
    const char *json;
    float y[2];

    if (!file) {
        perror(path);
        return 1;
    }
    fclose(file);
    MUST(lip_safetensors_read(bytes, size, &tensors, &err));
    json = lip_safetensors_metadata(tensors, "definition");
    MUST(lip_model_read(json, strlen(json), true, &model, &err));
    MUST(lip_state_new(model, 1, &state, &err));
    MUST(lip_state_load(state, lip_safetensors_tensors(tensors), lip_safetensors_count(tensors), false, NULL, NULL, &err));
    MUST(lip_state_publish(state, &snapshot, &err));
    MUST(lip_predict(snapshot, ws, 2, x, y, &err));
    printf("f(0, 1) = %g, f(1, -0.5) = %g\n", (double)y[0], (double)y[1]);
    lip_workspace_free(ws);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
    lip_safetensors_free(tensors);
    return !(y[0] > 0 && y[1] < 0);
}
