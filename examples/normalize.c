/* normalize.c: deel-lip's normalizers on arrays of one's own: a matrix made orthogonal, in two parts and in one, with its gradient. */
#include "example.h"

int main(void)
{
    enum { M = 4, N = 3 };
    const lip_rko_options options = LIP_RKO_DEFAULTS;
    const float start[N] = {1, 1, 1};
    float w[M * N], u[N] = {1, 1, 1}, parts[M * N], whole[M * N], gradient[M * N], ones[M * N], worst = 0;
    float *scratch = (float *)malloc(lip_rko_scratch(M, N, &options, true) * sizeof *scratch);
    float *work = (float *)malloc((lip_bjorck_scratch(M, N) + lip_spectral_normalization_scratch(M, N)) * sizeof *work);
    lip_random random = {7, 1, 0};
    lip_power_info power;
    lip_bjorck_info bjorck;
    lip_rko_info info;
    lip_interval norm;

    lip_random_normal(&random, w, M * N);
    for (int i = 0; i < M * N; i++)
        ones[i] = 1;
    MUST(lip_spectral_normalization(w, M, N, 1e-3, 10, u, parts, work, &power, &err));
    MUST(lip_bjorck(parts, M, N, 1e-3, 0.5, 15, parts, work, &bjorck, &err));
    MUST(lip_rko(w, M, N, 1, &options, start, u, whole, scratch, true, &info, &err));
    MUST(lip_rko_backward(w, M, N, 1, &options, &info, u, ones, gradient, scratch, &err));
    for (int i = 0; i < M * N; i++)
        worst = fmaxf(worst, fabsf(whole[i] - parts[i]));
    MUST(lip_bound_matrix(whole, M, N, &norm, NULL, &err));
    printf("sigma %.6g, %d and %d iterations; its norm is now between %.9g and %.9g\n", info.sigma, power.iterations,
           bjorck.iterations, norm.lower, norm.upper);
    printf("in parts and in one: %.2g apart; d(sum)/dw[0] = %.6g\n", (double)worst, (double)gradient[0]);
    free(work);
    free(scratch);
    return worst > 1e-5f;
}
