/* bench_norm.c: orthogonalisation, forward and gradient: the plain loop as deel-lip stops it, the plain loop to its cap, and
 * what lip_rko chooses. Results are compared before times are printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <onelip/onelip.h>

#include "../unit/norm_reference.h"
#include "bench.h"
#include "norm/rko.h"
#include "tensor/gemm.h"

enum { ROUNDS = 15 };

struct job {
    size_t m, n;
    const float *w, *u, *g;
    float *u_new, *wbar, *dw, *scratch;
    lip_rko_options options;
    enum lip__form form;
    lip_rko_info info;
};

static void *need(size_t floats)
{
    void *memory = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);

    if (!memory)
        exit(EXIT_FAILURE);
    return memory;
}

static void both_ways(void *ctx)
{
    struct job *j = ctx;
    lip_error err = {0};

    if (lip_rko(j->w, j->m, j->n, 1, &j->options, j->u, j->u_new, j->wbar, j->scratch, true, &j->info, &err) ||
        lip_rko_backward(j->w, j->m, j->n, 1, &j->options, &j->info, j->u_new, j->g, j->dw, j->scratch, &err)) {
        fprintf(stderr, "bench_norm: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
}

static struct job new_job(size_t m, size_t n, const float *w, const float *u, const float *g, enum lip__form form)
{
    struct job j = {.m = m, .n = n, .w = w, .u = u, .g = g, .options = LIP_RKO_DEFAULTS, .form = form};

    lip__rko_form = form;
    j.u_new = need(n);
    j.wbar = need(m * n);
    j.dw = need(m * n);
    j.scratch = need(lip_rko_scratch(m, n, &j.options, true));
    return j;
}

/* One thread: its own time, which neighbours on the machine do not lengthen; more: the wall's. */
static double now_ms(void)
{
    struct timespec t;

    clock_gettime(lip_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The fastest of some runs of each, in turn. */
static void race(struct job *const *job, size_t jobs, double *best)
{
    for (size_t i = 0; i < jobs; i++)
        best[i] = HUGE_VAL;
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < jobs; i++) {
            double start;
            lip__rko_form = job[i]->form;
            start = now_ms();
            both_ways(job[i]);
            best[i] = fmin(best[i], now_ms() - start);
        }
}

static void job_free(struct job *j)
{
    free(j->u_new), free(j->wbar), free(j->dw), free(j->scratch);
}

static double apart(const float *x, const float *y, size_t n)
{
    return lip__distance(x, y, n) / lip__norm(y, n);
}

static bool compare(size_t m, size_t n, double s_min, size_t threads, double least_early, double least_full)
{
    bool good;

    size_t k = m < n ? m : n;
    double *s = ref_new(k), best[3];
    float *w = need(m * n), *u = need(n), *g = need(m * n);
    lip_random random = {1, 1, 0};
    struct job early, full, chosen;

    for (size_t i = 0; i < k; i++)
        s[i] = s_min + (1 - s_min) * (double)i / (double)(k - 1);
    ref_kernel(m, n, s, 1, w);
    lip_random_normal(&random, u, n);
    lip_random_normal(&random, g, m * n);
    early = new_job(m, n, w, u, g, LIP__PLAIN);
    full = new_job(m, n, w, u, g, LIP__PLAIN);
    full.options.eps_bjorck = 1e-30;
    chosen = new_job(m, n, w, u, g, LIP__AUTO);
    both_ways(&early); /* a u that has converged, as in training */
    memcpy(u, early.u_new, n * sizeof *u);

    race((struct job *const[]){&early, &full, &chosen}, 3, best);
    printf("%4zux%-4zu s_min %-5g threads %zu  early stop %2d its %7.2f ms  15 its %7.2f ms  %-10s %6.2f ms  %4.1fx %5.1fx\n", m, n,
           s_min, threads, early.info.bjorck_iterations, best[0], best[1], chosen.info.form, best[2], best[0] / best[2],
           best[1] / best[2]);
    good = threads > 1 || (best[0] >= least_early * best[2] && best[1] >= least_full * best[2]);
    if (!good)
        printf("     missed: at least %gx and %gx were wanted\n", least_early, least_full);
    if (apart(chosen.wbar, early.wbar, m * n) > 1e-6 || apart(chosen.dw, early.dw, m * n) > 3e-6) {
        fprintf(stderr, "bench_norm: the forms disagree\n");
        exit(EXIT_FAILURE);
    }
    job_free(&early), job_free(&full), job_free(&chosen);
    free(s), free(w), free(u), free(g);
    return good;
}

int main(void)
{
    static const struct {
        size_t m, n;
        double s_min, early, full; /* so many times as fast on one thread, at least */
    } cases[] = {{784, 256, 0.95, 0, 0}, {784, 256, 0.55, 3, 8}, {784, 256, 0.4, 0, 0}, {784, 256, 0.1, 0, 0}, {576, 128, 0.55, 4, 10},
                 {128, 576, 0.6, 0, 0},  {256, 128, 0.55, 0, 0}, {256, 256, 0.55, 0, 0}, {256, 256, 0.004, 0, 0}};
    bool missed = false;

    bench_cpu();
    printf("blas core %s; fastest of %d, forward and gradient\n", lip__blas_core(), ROUNDS);
    for (size_t threads = 1; threads <= 2; threads++) {
        lip_set_threads(threads, NULL);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            missed |= !compare(cases[i].m, cases[i].n, cases[i].s_min, threads, cases[i].early, cases[i].full);
    }
    lip_set_threads(1, NULL);
    return missed ? EXIT_FAILURE : 0;
}
