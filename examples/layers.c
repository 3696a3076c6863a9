/* layers.c: what layers say of themselves, another k and another factor for the same weights, and condense: the effective kernel
 * becomes the kernel. */
#include "example.h"

/* The first answer of what is published. */
static float answer(const lip_state *state)
{
    const float x[] = {0, 1};
    lip_workspace *ws = lip_workspace_new();
    lip_snapshot *snapshot;
    float y;

    MUST(lip_state_publish(state, &snapshot, &err));
    MUST(lip_predict(snapshot, ws, 1, x, &y, &err));
    lip_snapshot_put(snapshot);
    lip_workspace_free(ws);
    return y;
}

int main(void)
{
    lip_change changes[8];
    lip_model *model, *doubled;
    lip_state *state, *moved;
    size_t n;

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 100);
    for (size_t i = 0; i < lip_model_layers(model); i++) {
        const lip_layer *layer = lip_model_layer(model, i);
        if (lip_layer_is_lipschitz(layer))
            printf("%-3s %-14s k %g, factor %g, %zu parameters\n", lip_layer_name(layer), lip_layer_class(layer), lip_layer_k(layer),
                   lip_layer_coef(layer), lip_layer_parameters(layer));
    }
    /* k = 32 of the whole, five layers of which each gets its fifth root: 2. */
    MUST(lip_model_with_k(model, NULL, 32, &doubled, &err));
    MUST(lip_state_move(state, doubled, false, &moved, &err));
    float before = answer(state), after = answer(moved);
    printf("f(0, 1) is %g, and with k = 32 %g\n", (double)before, (double)after);
    MUST(lip_state_condense(state, changes, &n, &err));
    for (size_t i = 0; i < n; i++)
        printf("%s: condensed, %.2g of it moved, sigma was %g\n", changes[i].layer, changes[i].distance, changes[i].sigma);
    float condensed = answer(state);
    printf("f(0, 1) is %g\n", (double)condensed);
    double each = lip_layer_k(lip_model_layer(doubled, 1));
    lip_state_free(moved);
    lip_state_free(state);
    lip_model_put(doubled);
    lip_model_put(model);
    return !(fabs(each - 2) < 1e-9 && after != before && fabsf(condensed - before) <= 1e-5f);
}
