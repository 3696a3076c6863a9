/* served.h: a model of a definition with its state and snapshot, for tests of what is served. */
#ifndef TESTS_SERVED_H
#define TESTS_SERVED_H

#include <check.h>
#include <math.h>
#include <string.h>

#include <onelip/onelip.h>

#define OK(call) ck_assert_msg((call) == LIP_OK, "%s: %s", #call, err.text)

struct served {
    lip_model *model;
    lip_state *state;
    lip_snapshot *snapshot;
    lip_workspace *ws;
    size_t in, out;
};

static inline void serve(struct served *s, const char *json, uint64_t seed)
{
    lip_error err = {0};

    OK(lip_model_read(json, strlen(json), false, &s->model, &err));
    OK(lip_state_new(s->model, seed, &s->state, &err));
    OK(lip_state_publish(s->state, &s->snapshot, &err));
    s->ws = lip_workspace_new();
    s->in = lip_shape_count(lip_model_input_shape(s->model, 0));
    s->out = lip_shape_count(lip_model_output_shape(s->model, 0));
}

/* One variable replaced, and published. */
static inline void put(struct served *s, const char *name, const float *data)
{
    size_t i = lip_model_find_variable(s->model, name);
    lip_error err = {0};

    ck_assert_uint_lt(i, lip_model_variables(s->model));
    OK(lip_state_load(s->state, &(lip_named){name, lip_model_variable(s->model, i)->shape, data}, 1, true, NULL, NULL, &err));
    lip_snapshot_put(s->snapshot);
    OK(lip_state_publish(s->state, &s->snapshot, &err));
}

static inline void stop(struct served *s)
{
    lip_workspace_free(s->ws);
    lip_snapshot_put(s->snapshot);
    lip_state_free(s->state);
    lip_model_put(s->model);
}

/* The class that an answer names; of one output whether it is positive. */
static inline size_t best_of(const float *y, size_t n)
{
    size_t best = 0;

    if (n == 1)
        return y[0] > 0;
    for (size_t j = 1; j < n; j++)
        if (y[j] > y[best])
            best = j;
    return best;
}

/* The distance of x and z; of l2 not below it. */
static inline double length_of(const float *x, const float *z, size_t n, lip_norm norm)
{
    double sum = 0;

    for (size_t k = 0; k < n; k++) {
        double d = fabs((double)x[k] - z[k]);

        sum = norm == LIP_L2 ? sum + d * d : norm == LIP_L1 ? sum + d : fmax(sum, d);
    }
    return norm == LIP_L2 ? sqrt(sum) * (1 + 1e-15) : sum;
}

/* moved: x plus `radius` along v, cut back until it is inside the ball. */
static inline void move(const float *x, const double *v, size_t n, double radius, lip_norm norm, float *moved)
{
    double length = 0;

    for (size_t k = 0; k < n; k++)
        length = norm == LIP_L2   ? length + v[k] * v[k]
                 : norm == LIP_L1 ? length + fabs(v[k])
                                  : fmax(length, fabs(v[k]));
    length = norm == LIP_L2 ? sqrt(length) : length;
    length = length > 0 ? length : 1; /* where the map is flat */
    for (double cut = 1, step = 1e-7;; cut -= step, step *= 2) {
        for (size_t k = 0; k < n; k++)
            moved[k] = (float)(x[k] + fmax(0, cut) * radius * v[k] / length);
        if (length_of(x, moved, n, norm) <= radius)
            return;
    }
}

#endif
