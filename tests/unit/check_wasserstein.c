/* check_wasserstein.c: plans against every permutation and what is known exactly; networks never say more than a plan costs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/onelip.h>

#include "base/base.h"
#include "check_main.h"
#include "models.h"

#define OK(call) ck_assert_msg((call) == LIP_OK, "%s: %s", #call, err.text)

static lip_random noise;

static double apart(const float *a, const float *b, size_t d)
{
    double sum = 0;

    for (size_t i = 0; i < d; i++)
        sum += pow((double)a[i] - b[i], 2);
    return sqrt(sum);
}

/* The cheapest of all assignments of n points. */
static double best_of_all(size_t n, const float *p, const float *q, size_t d, size_t at, unsigned used)
{
    double best = INFINITY;

    if (at == n)
        return 0;
    for (size_t j = 0; j < n; j++)
        if (!(used >> j & 1))
            best = fmin(best, apart(p + at * d, q + j * d, d) + best_of_all(n, p, q, d, at + 1, used | 1u << j));
    return best;
}

START_TEST(a_plan_is_the_cheapest_of_all)
{
    enum { N = 6, D = 3 };
    float p[N * D], q[N * D];
    lip_transport t;
    lip_error err = {0};

    noise = (lip_random){.seed = 8, .stream = (uint64_t)_i};
    lip_random_normal(&noise, p, N * D);
    lip_random_normal(&noise, q, N * D);
    OK(lip_transport_cost(N, p, N, q, D, NULL, 0, &t, &err));
    /* The oracle and the plan add the same six lengths in double; the plan's are rounded up. */
    double least = best_of_all(N, p, q, D, 0, 0) / N;
    ck_assert_double_ge(t.cost, least * (1 - 1e-15));
    ck_assert_double_le(t.cost, least * (1 + 1e-13));
    ck_assert(t.optimal);
    ck_assert_str_eq(t.method, "assignment");
}
END_TEST

/* Samples of different sizes: the same plan as of each repeated until they are equally many. */
START_TEST(weights_count_like_repetitions)
{
    enum { N = 4, OTHER = 6, D = 2, ALL = 12 };
    float p[N * D], q[OTHER * D], pp[ALL * D], qq[ALL * D];
    lip_transport t, repeated;
    lip_error err = {0};

    noise = (lip_random){.seed = 9, .stream = (uint64_t)_i};
    lip_random_normal(&noise, p, N * D);
    lip_random_normal(&noise, q, OTHER * D);
    for (size_t i = 0; i < ALL; i++) {
        memcpy(pp + i * D, p + i % N * D, D * sizeof *p);
        memcpy(qq + i * D, q + i % OTHER * D, D * sizeof *q);
    }
    OK(lip_transport_cost(N, p, OTHER, q, D, NULL, 0, &t, &err));
    OK(lip_transport_cost(ALL, pp, ALL, qq, D, NULL, 0, &repeated, &err));
    ck_assert_double_eq_tol(t.cost, repeated.cost, 1e-12);
    ck_assert(t.optimal && repeated.optimal);
    ck_assert_str_eq(t.method, "transport");
}
END_TEST

START_TEST(what_is_known_exactly)
{
    enum { N = 300 };
    static float line[N], other[N], cloud[N * 5], moved[N * 5];
    const float shift[] = {3, 0, -4, 0, 0}, one[] = {1, 2}, two[] = {4, 6};
    lip_transport t;
    lip_error err = {0};
    double sum = 0;

    noise = (lip_random){.seed = 10};
    lip_random_normal(&noise, cloud, N * 5);
    for (size_t i = 0; i < N * 5; i++)
        moved[i] = (cloud[i] = roundf(cloud[i] * 1024) / 1024) + shift[i % 5];
    OK(lip_transport_cost(N, cloud, N, moved, 5, NULL, 0, &t, &err));
    ck_assert_double_eq_tol(t.cost, 5, 1e-12); /* a cloud that was shifted */
    OK(lip_transport_cost(N, cloud, N, cloud, 5, NULL, 0, &t, &err));
    ck_assert_double_le(t.cost, 1e-100);
    OK(lip_transport_cost(1, one, 1, two, 2, NULL, 0, &t, &err)); /* two Diracs */
    ck_assert_double_eq_tol(t.cost, 5, 1e-13); /* up by what some twenty roundings could have lost */
    ck_assert(t.optimal);

    lip_random_normal(&noise, line, N); /* on a line: in order */
    lip_random_uniform(&noise, other, N);
    OK(lip_transport_cost(N, line, N, other, 1, NULL, 0, &t, &err));
    for (size_t k = 0; k < 2; k++) { /* insertion sort of both */
        float *x = k ? other : line;

        for (size_t i = 1; i < N; i++)
            for (size_t j = i; j > 0 && x[j] < x[j - 1]; j--) {
                float swap = x[j];
                x[j] = x[j - 1];
                x[j - 1] = swap;
            }
    }
    for (size_t i = 0; i < N; i++)
        sum += fabs((double)line[i] - other[i]);
    ck_assert_double_eq_tol(t.cost, sum / N, 1e-12);
}
END_TEST

START_TEST(stopping_early_is_dearer_but_a_plan)
{
    enum { N = 400, M = 300, D = 6 };
    static float p[N * D], q[M * D];
    lip_transport whole, part;
    lip_error err = {0};

    noise = (lip_random){.seed = 11};
    lip_random_normal(&noise, p, N * D);
    lip_random_normal(&noise, q, M * D);
    OK(lip_transport_cost(N, p, M, q, D, NULL, 0, &whole, &err));
    OK(lip_transport_cost(N, p, M, q, D, NULL, 1e-9, &part, &err));
    ck_assert(whole.optimal && !part.optimal);
    ck_assert_double_ge(part.cost, whole.cost);
    ck_assert_double_le(part.cost, 4 * whole.cost);
    for (double seconds = 1e-4; seconds < 1; seconds *= 2) { /* some end among the lengths, some among the paths */
        OK(lip_transport_cost(N, p, M, q, D, NULL, seconds, &part, &err));
        ck_assert_double_ge(part.cost, whole.cost);
        ck_assert_double_le(part.cost, 4 * whole.cost);
        ck_assert(!part.optimal || part.cost == whole.cost);
    }
}
END_TEST

START_TEST(the_interval_holds)
{
    enum { N = 40, M = 30 };
    float p[N * 6], q[M * 6];
    lip_model *model;
    lip_state *state;
    lip_snapshot *snapshot;
    lip_certifier *c;
    lip_wasserstein w, back;
    lip_error err = {0};

    OK(lip_model_read(MLP, strlen(MLP), false, &model, &err));
    OK(lip_state_new(model, 3, &state, &err));
    OK(lip_state_publish(state, &snapshot, &err));
    OK(lip_certifier_new(snapshot, NULL, &c, &err));
    noise = (lip_random){.seed = 12};
    for (int apart_ = 0; apart_ < 3; apart_++) {
        lip_random_normal(&noise, p, N * 6);
        lip_random_normal(&noise, q, M * 6);
        for (size_t i = 0; i < N * 6; i++)
            p[i] += (float)apart_;
        for (size_t output = 0; output < 3; output++) {
            OK(lip_wasserstein_bound(c, output, 0, N, p, M, q, &w, &err));
            OK(lip_wasserstein_bound(c, output, 0, M, q, N, p, &back, &err));
            ck_assert_double_ge(w.lower, 0);
            ck_assert_double_le(w.lower, w.upper);
            ck_assert_double_eq_tol(w.lower, back.lower, 1e-12);
            ck_assert_double_eq_tol(w.upper, back.upper, 1e-11);
            ck_assert(w.network_upper == lip_certifier_outputs(c)[output]);
        }
    }
    ck_assert_double_gt(w.lower, 0);
    ck_assert_int_eq(lip_wasserstein_bound(c, 3, 0, N, p, M, q, &w, &err), LIP_ERANGE);
    ck_assert_str_eq(err.text, "output 3 of a model with 3");
    err = (lip_error){0};
    ck_assert_int_eq(lip_wasserstein_bound(c, 0, 0, 0, p, M, q, &w, &err), LIP_ESHAPE);
    err = (lip_error){0};
    p[5] = NAN;
    ck_assert_int_eq(lip_transport_cost(N, p, M, q, 6, NULL, 0, &w.primal, &err), LIP_ENONFINITE);
    ck_assert_int_eq(lip_transport_cost(N, p, 0, q, 6, NULL, 0, &w.primal, NULL), LIP_ESHAPE);
    lip_certifier_free(c);
    lip_snapshot_put(snapshot);
    lip_state_free(state);
    lip_model_put(model);
}
END_TEST

static int allowed;

static int fail_later(void)
{
    return allowed-- <= 0;
}

START_TEST(every_allocation_may_fail)
{
    const float p[] = {0, 1, 2, 3, 4, 5}, q[] = {1, 0, 3, 9};
    lip_transport t;
    lip_err rc;
    int n = 0;

    lip__alloc_hook = fail_later;
    do {
        lip_error err = {0};

        allowed = n++;
        rc = lip_transport_cost(3, p, 2, q, 2, NULL, 0, &t, &err);
        ck_assert(rc == LIP_OK || rc == LIP_ENOMEM);
    } while (rc != LIP_OK && n < 100);
    lip__alloc_hook = NULL;
    ck_assert_int_eq(rc, LIP_OK);
    ck_assert_int_gt(n, 10);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("wasserstein");
    TCase *all = tcase_create("all");

    tcase_add_loop_test(all, a_plan_is_the_cheapest_of_all, 0, 12);
    tcase_add_loop_test(all, weights_count_like_repetitions, 0, 12);
    tcase_add_test(all, what_is_known_exactly);
    tcase_add_test(all, stopping_early_is_dearer_but_a_plan);
    tcase_add_test(all, the_interval_holds);
    tcase_add_test(all, every_allocation_may_fail);
    suite_add_tcase(s, all);
    return s;
}

CHECK_MAIN(suite)
