/* certify.c: for each answer the distance within which it provably stays, and from the other side the nearest point found where it
 * does not. */
#include "example.h"

int main(void)
{
    enum { N = 8 };
    const lip_certify_options options = {LIP_FLOAT64, false, true, 1.0};
    const double epsilon[] = {0.05, 0.1, 0.2};
    float x[2 * N], y[N], answer[N];
    double radius[N], attacked[N], share[3];
    lip_certificates out;
    lip_certifier *certifier;
    lip_snapshot *snapshot;
    lip_workspace *ws = lip_workspace_new();
    lip_model *model;
    lip_state *state;

    moons(N, x, y);
    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 500);
    MUST(lip_state_publish(state, &snapshot, &err));
    MUST(lip_certifier_new(snapshot, NULL, &certifier, &err));
    memset(&out, 0, sizeof out);
    out.y = answer;
    out.radius = radius;
    MUST(lip_certify(certifier, ws, &options, N, x, NULL, &out, &err));
    MUST(lip_attack(certifier, &options, 0, N, x, attacked, NULL, &err));
    for (size_t i = 0; i < N; i++) {
        printf("f(%.2f, %.2f) = %.3f keeps its sign within %.4f and loses it within %.4f\n", (double)x[2 * i], (double)x[2 * i + 1],
               (double)answer[i], radius[i], attacked[i]);
        if (!(radius[i] <= attacked[i]))
            return 1;
    }
    lip_provable_accuracy(N, radius, 3, epsilon, share);
    printf("certified at %g, %g, %g: %g, %g, %g\n", epsilon[0], epsilon[1], epsilon[2], share[0], share[1], share[2]);
    lip_certifier_free(certifier);
    lip_workspace_free(ws);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
    return 0;
}
