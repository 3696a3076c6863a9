/* gradients.c: how answers change with their inputs: the gradient of the score, and a step along it that changes the answer. */
#include "example.h"

int main(void)
{
    enum { N = 64 };
    float x[2 * N], label[N], y[N], dx[2 * N], moved[2 * N];
    const float *inputs[] = {x};
    float *gradients[] = {dx};
    double value[N], steepest = 0;
    int crossed = 0;
    lip_gradient what;
    lip_snapshot *snapshot;
    lip_model *model;
    lip_state *state;
    lip_workspace *ws = lip_workspace_new();

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 200);
    MUST(lip_state_publish(state, &snapshot, &err));
    moons(N, x, label);
    memset(&what, 0, sizeof what); /* the margin of the predicted class: here the score itself */
    MUST(lip_gradients(snapshot, &what, N, inputs, value, gradients, &err));
    for (int i = 0; i < N; i++) { /* as far as a score of slope 1 needs, and half as far again */
        double slope = hypot((double)dx[2 * i], (double)dx[2 * i + 1]);

        for (int j = 0; j < 2; j++)
            moved[2 * i + j] = slope > 0 ? (float)(x[2 * i + j] - 1.5 * value[i] * dx[2 * i + j] / slope) : x[2 * i + j];
        steepest = fmax(steepest, slope);
    }
    MUST(lip_predict(snapshot, ws, N, moved, y, &err));
    for (int i = 0; i < N; i++)
        crossed += (y[i] > 0) != (value[i] > 0);
    printf("the steepest gradient has norm %.6f; %d of %d answers changed by a step along theirs\n", steepest, crossed, N);
    lip_workspace_free(ws);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
    return !(steepest <= 1.0001 && crossed > N / 2);
}
