/* condense.c: kernels replaced by, or effective kernels recomputed from, what they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

enum { PROBE = 256 };

/* PROBE samples of each input or output, one behind the other; NULL: out of memory. */
static float **probe_room(const lip_model *m, bool inputs)
{
    size_t n = inputs ? lip_model_inputs(m) : lip_model_outputs(m), sum = 0;
    float **all = calloc(n, sizeof *all);

    for (size_t i = 0; i < n; i++)
        sum += lip_shape_count(inputs ? lip_model_input_shape(m, i) : lip_model_output_shape(m, i));
    if (!all || !(all[0] = calloc(PROBE * sum + 1, sizeof **all))) {
        free(all);
        return NULL;
    }
    for (size_t i = 1; i < n; i++)
        all[i] = all[i - 1] + PROBE * lip_shape_count(inputs ? lip_model_input_shape(m, i - 1) : lip_model_output_shape(m, i - 1));
    return all;
}

static void probe_free(float **all)
{
    if (all)
        free(all[0]);
    free(all);
}

/* How far the outputs moved: the largest |f_new(x) - f_old(x)| over PROBE points of the unit cube, the same ones always. */
static bool output_change(const lip_snapshot *old, const lip_snapshot *new, double *most, lip_error *err)
{
    const lip_model *m = lip_snapshot_model(old);
    float **x = probe_room(m, true), **a = probe_room(m, false), **b = probe_room(m, false);
    lip_workspace *ws = thread_workspace();
    lip_random random = {.stream = lip_random_stream("condense probe")};
    bool ok = false;

    if (!x || !a || !b || !ws) {
        err->code = LIP_ENOMEM;
    } else {
        for (size_t i = 0; i < lip_model_inputs(m); i++)
            lip_random_uniform(&random, x[i], PROBE * lip_shape_count(lip_model_input_shape(m, i)));
        ok = !lip_predict_graph(old, ws, PROBE, (const float *const *)x, a, err) &&
             !lip_predict_graph(new, ws, PROBE, (const float *const *)x, b, err);
    }
    *most = 0;
    for (size_t i = 0; ok && i < lip_model_outputs(m); i++)
        for (size_t j = 0; j < PROBE * lip_shape_count(lip_model_output_shape(m, i)); j++)
            *most = fmax(*most, fabs((double)b[i][j] - (double)a[i][j]));
    probe_free(x);
    probe_free(a);
    probe_free(b);
    return ok;
}

/* One change of every layer, tried on a copy: on disk and published, or nothing has happened. */
static void change(struct ctx *ctx, const struct request *rq, struct reply *rp, bool condense)
{
    static const char *const none[] = {NULL};
    struct model *model = NULL;
    struct published *before = NULL, *after = NULL;
    lip_state *changed = NULL;
    lip_change *changes = NULL;
    lip_error err = {0};
    struct failure f = {0};
    json_t *body = NULL, *json;
    double moved = 0;
    size_t n = 0;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)) || !codec_members(rp, body, "", none) ||
        !(model = write_begin(ctx, rq, rp)))
        goto done;
    changes = calloc(lip_model_layers(lip_state_model(model->state)) + 1, sizeof *changes);
    before = model_now(model);
    if (!changes || !before) {
        reply_no_memory(rp);
    } else if (lip_state_copy(model->state, &changed, &err) ||
               (condense ? lip_state_condense(changed, changes, &n, &err) : lip_state_refresh(changed, changes, &n, &err))) {
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    } else if (!model_replace_state(model, changed, &f)) {
        reply_failure(rp, &f);
    } else {
        changed = NULL;
        json = json_pack("{s:s, s:s, s:I, s:I, s:o}", "model_name", model->name, "model_version", model->facts.version, "state_revision",
                         (json_int_t)model->facts.state_revision, "weights_revision", (json_int_t)model->facts.weights_revision,
                         "layers", changes_json(changes, n, condense ? "kernel_distance" : "change", condense));
        if (condense && json) {
            after = model_now(model);
            if (after && output_change(before->snapshot, after->snapshot, &moved, &err))
                json_object_set_new(json, "max_abs_output_change", codec_real(moved));
            else
                json_object_set_new(json, "max_abs_output_change", json_null());
            json_object_set_new(json, "probe_samples", json_integer(PROBE));
        }
        reply_state(rp, model);
        reply_json(rp, 200, json);
    }
done:
    published_put(before);
    published_put(after);
    lip_state_free(changed);
    free(changes);
    if (model)
        write_end(model);
    json_decref(body);
}

/* POST /v2/models/{m}/condense {}  ->  kernel <- effective kernel */
void handle_condense(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    change(ctx, rq, rp, true);
}

/* POST /v2/models/{m}/refresh {}  ->  effective kernels recomputed and published */
void handle_refresh(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    change(ctx, rq, rp, false);
}
