/* served.h: a model of a definition with its state and snapshot, for tests of what is served. */
#ifndef TESTS_SERVED_H
#define TESTS_SERVED_H

#include <check.h>
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

#endif
