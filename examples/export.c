/* export.c: condense, then plain Keras layers with the same answers: deel-lip's vanilla export. */
#include "example.h"

int main(void)
{
    const float x[] = {0.3f, -0.7f};
    float before, after;
    lip_snapshot *snapshot, *plain;
    lip_workspace *ws = lip_workspace_new();
    lip_model *model, *vanilla;
    lip_state *state, *weights;
    char *json;

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 100);
    MUST(lip_state_condense(state, NULL, NULL, &err)); /* kernels become their effective kernels */
    MUST(lip_state_publish(state, &snapshot, &err));
    MUST(lip_model_vanilla(model, &vanilla, &err));
    MUST(lip_snapshot_vanilla(snapshot, vanilla, &weights, &err));
    MUST(lip_state_publish(weights, &plain, &err));
    MUST(lip_predict(snapshot, ws, 1, x, &before, &err));
    MUST(lip_predict(plain, ws, 1, x, &after, &err));
    json = lip_model_definition(vanilla, false);
    printf("%.120s...\nf = %.9g, exported %.9g\n", json, (double)before, (double)after);
    lip_free(json);
    lip_snapshot_put(plain);
    lip_snapshot_put(snapshot);
    lip_state_free(weights);
    lip_state_free(state);
    lip_workspace_free(ws);
    lip_model_put(vanilla);
    lip_model_put(model);
    return fabsf(before - after) > 1e-6f;
}
