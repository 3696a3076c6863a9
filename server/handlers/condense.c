/* condense.c: kernels replaced by, or effective kernels recomputed from, what they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "probe.h"

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
            if (after && probe_change(before->snapshot, after->snapshot, &moved, NULL, &err))
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
