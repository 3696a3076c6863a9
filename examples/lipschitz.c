/* lipschitz.c: what is proven of the weights: an interval for every layer and for the network, and deel-lip's own figures. */
#include "example.h"

int main(void)
{
    lip_layer_bound layers[16];
    lip_layer_sv sv[16];
    lip_network_bound network;
    lip_snapshot *snapshot;
    lip_model *model;
    lip_state *state;
    const float x[] = {0, 1};
    double estimate;
    size_t n;

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 200);
    MUST(lip_state_publish(state, &snapshot, &err));
    MUST(lip_bound_network(snapshot, NULL, layers, &n, &network, &err));
    for (size_t i = 0; i < n; i++)
        printf("%-3s claims %g, is between %.9g and %.9g (%s)\n", lip_layer_name(layers[i].layer), layers[i].claimed, layers[i].lower,
               layers[i].upper, layers[i].method);
    printf("the network is between %.6g (%s) and %.6g (%s)\n", network.lower, network.lower_method, network.upper, network.method);
    MUST(lip_compute_model_sv(snapshot, sv, &n, &err));
    for (size_t i = 0; i < n; i++)
        printf("%-3s singular values %.6g to %.6g\n", lip_layer_name(sv[i].layer), sv[i].least, sv[i].most);
    MUST(lip_evaluate_lip_const(snapshot, 1, x, &estimate, &err));
    printf("at (0, 1) the slope is %.6g\n", estimate);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
    return !(network.lower <= network.upper && estimate <= network.upper * 1.0001);
}
