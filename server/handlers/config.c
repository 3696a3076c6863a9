/* config.c: Triton's ModelConfig, of a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

json_t *json_merge(const json_t *target, const json_t *patch)
{
    json_t *json, *value;
    const char *key;

    if (!json_is_object(patch))
        return json_deep_copy(patch);
    json = json_is_object(target) ? json_deep_copy(target) : json_object();
    json_object_foreach((json_t *)patch, key, value) {
        if (json_is_null(value))
            json_object_del(json, key);
        else
            json_object_set_new(json, key, json_merge(json_object_get(json, key), value));
    }
    return json;
}

struct knobs *config_make(const json_t *object, const char *pointer, struct reply *rp)
{
    struct knobs_fault fault;
    struct knobs *knobs = knobs_make(object, &fault);
    char at[300];

    if (knobs)
        return knobs;
    snprintf(at, sizeof at, "%s%s", pointer, fault.pointer);
    if (fault.status == 503)
        reply_no_memory(rp);
    else
        reply_at(rp, fault.status, fault.code, at, "%s", fault.text);
    return NULL;
}

static json_t *tensors(const lip_model *m, bool input)
{
    size_t n = input ? lip_model_inputs(m) : lip_model_outputs(m);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", input ? lip_model_input_name(m, i) : lip_model_output_name(m, i),
                                              "data_type", "TYPE_FP32", "dims",
                                              codec_shape(input ? lip_model_input_shape(m, i) : lip_model_output_shape(m, i), NULL)));
    return list;
}

/* What was told, with what the model itself decides. NULL: out of memory. */
static json_t *document(struct model *model, const lip_model *m)
{
    struct knobs *knobs = model_knobs(model);
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:{s:{s:i}}, s:{}}", "name", model->name, "platform",
                             "onelip_keras_json", "backend", "onelip", "max_batch_size", (json_int_t)knobs->max_batch_size, "input",
                             tensors(m, true), "output", tensors(m, false), "version_policy", "latest", "num_versions", 1, "parameters");

    if (json && json_object_update(json, knobs->told)) {
        json_decref(json);
        json = NULL;
    }
    knobs_put(knobs);
    return json;
}

/* GET /v2/models/{m}/config  ->  Triton's ModelConfig */
void handle_config_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp);
    struct published *now = model ? find_now(model, rp) : NULL;

    if (now)
        reply_json_tagged(rq, rp, document(model, lip_snapshot_model(now->snapshot)));
    published_put(now);
    store_put(model);
}

/* PATCH /v2/models/{m}/config  a merge-patch  ->  the whole ModelConfig, in force at once */
void handle_config_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    json_t *body = NULL, *present = NULL, *merged = NULL;
    struct model *head = NULL;
    struct published *now = NULL;
    struct knobs *knobs = NULL;
    struct failure f = {0};

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)) || !(head = find_unfrozen(ctx, rq, rp)))
        goto done;
    pthread_mutex_lock(&head->writing);
    if ((now = find_now(head, rp))) {
        const lip_model *m = lip_snapshot_model(now->snapshot);
        if (!(present = document(head, m)) || !(merged = json_merge(head->knobs->told, body)))
            reply_no_memory(rp);
        else if (codec_precondition_json(rq, rp, present) && (knobs = config_make(merged, "", rp))) {
            if (!model_tune(head, knobs, &f)) {
                reply_failure(rp, &f);
            } else {
                knobs = NULL;
                reply_json_tagged(rq, rp, document(head, m));
            }
        }
    }
    pthread_mutex_unlock(&head->writing);
done:
    knobs_put(knobs);
    published_put(now);
    store_put(head);
    json_decref(merged);
    json_decref(present);
    json_decref(body);
}
