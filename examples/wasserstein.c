/* wasserstein.c: the distance of two samples, between what a 1-Lipschitz network proves and what it costs to move one to the other. */
#include "example.h"

int main(void)
{
    enum { N = 256 };
    float x[2 * N], label[N], p[2 * N], q[2 * N];
    size_t n = 0, m = 0;
    lip_wasserstein bound;
    lip_certifier *certifier;
    lip_snapshot *snapshot;
    lip_model *model;
    lip_state *state;

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 300);
    MUST(lip_state_publish(state, &snapshot, &err));
    moons(N, x, label);
    for (int i = 0; i < N; i++)
        memcpy(label[i] > 0 ? p + 2 * n++ : q + 2 * m++, x + 2 * i, 2 * sizeof *x);
    MUST(lip_certifier_new(snapshot, NULL, &certifier, &err));
    MUST(lip_wasserstein_bound(certifier, 0, 0, n, p, m, q, &bound, &err));
    printf("the moons are between %.6f and %.6f apart (%s, %s)\n", bound.lower, bound.upper, bound.primal.method,
           bound.primal.optimal ? "optimal" : "not optimal");
    lip_certifier_free(certifier);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
    return !(0 < bound.lower && bound.lower <= bound.upper && bound.primal.optimal);
}
