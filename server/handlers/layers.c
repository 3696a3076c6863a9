/* layers.c: the inventory of layers, with the effective kernels that are served. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

static json_t *layer_json(const lip_snapshot *snapshot, size_t i, bool config)
{
    const lip_model *m = lip_snapshot_model(snapshot);
    const lip_layer *l = lip_model_layer(m, i);
    lip_effective e = lip_snapshot_effective(snapshot, i);
    json_t *weights = json_array(), *json;

    for (size_t k = 0; k < lip_model_variables(m); k++)
        if (lip_model_variable(m, k)->layer == l ||
            (k >= lip_layer_first_variable(l) && k < lip_layer_first_variable(l) + lip_layer_variables(l)))
            json_array_append_new(weights, json_string(lip_model_variable(m, k)->name));
    json = json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "name", lip_layer_name(l),
                     "class_name", lip_layer_class(l), "index", (json_int_t)lip_layer_index(l), "input_shape",
                     codec_shape(lip_layer_input_shape(l), json_null()), "output_shape",
                     codec_shape(lip_layer_output_shape(l), json_null()), "parameters", (json_int_t)lip_layer_parameters(l),
                     "trainable", lip_layer_trainable(l), "k_coef_lip", codec_real_or_null(lip_layer_k(l)), "coef_lip",
                     codec_real_or_null(lip_layer_coef(l)), "claimed", codec_real_or_null(lip_layer_claimed(l)),
                     "effective_kernel",
                     e == LIP_NONE ? json_null() : json_string(e == LIP_STORED ? "stored" : "computed"), "stored_distance",
                     e == LIP_NONE     ? json_null()
                     : e == LIP_STORED ? codec_real_or_null(lip_snapshot_stored_distance(snapshot, i))
                                       : json_real(0),
                     "weights", weights);
    if (json && config) {
        char *text = lip_layer_config(l);
        json_t *object = text ? json_loads(text, 0, NULL) : NULL;
        if (!object || json_object_set_new(json, "config", object)) {
            json_decref(json);
            json = NULL;
        }
        lip_free(text);
    }
    return json;
}

json_t *layer_document(struct published *now, const char *name)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);

    for (size_t i = 0; i < lip_model_layers(m); i++)
        if (!strcmp(lip_layer_name(lip_model_layer(m, i)), name))
            return layer_json(now->snapshot, i, true);
    return NULL;
}

static bool not_modified(const struct request *rq, struct reply *rp, const struct published *now)
{
    char etag[ETAG_MAX];

    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_weights_revision(rp, now->weights_revision);
    return codec_not_modified(rq, rp, etag);
}

/* GET /v2/models/{m}/layers  ->  a list, whole unless ?limit is given */
void handle_layers(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"limit", "after", NULL};
    const char *limit = request_query(rq, "limit"), *after = request_query(rq, "after");
    struct published *now = NULL;
    struct model *model;
    json_t *list, *json;
    size_t from = 0, most = SIZE_MAX, n;

    if (!codec_queries(rq, rp, names) || !(model = find_model(ctx, rq, rp)))
        return;
    if (limit && !page_limit(rq, rp, &most))
        goto done;
    if (!(now = find_now(model, rp)) || not_modified(rq, rp, now))
        goto done;
    n = lip_model_layers(lip_snapshot_model(now->snapshot));
    if (after) {
        const lip_layer *l = lip_model_find_layer(lip_snapshot_model(now->snapshot), after);
        if (!l) {
            reply_error(rp, 400, "bad_parameter", NULL, "after is \"%.100s\", which is no layer", after);
            goto done;
        }
        while (lip_model_layer(lip_snapshot_model(now->snapshot), from++) != l)
            ;
    }
    list = json_array();
    for (size_t i = from; i < n && i - from < most; i++)
        json_array_append_new(list, layer_json(now->snapshot, i, false));
    json = json_pack("{s:s, s:o, s:b, s:n}", "object", "list", "data", list, "has_more", n - from > most, "next");
    if (json && n - from > most)
        json_object_set_new(json, "next",
                            page_next(rq, lip_layer_name(lip_model_layer(lip_snapshot_model(now->snapshot), from + most - 1)), most));
    reply_json(rp, 200, json);
done:
    published_put(now);
    store_put(model);
}

/* GET /v2/models/{m}/layers/{l} and layers/{l}/{inner}  ->  one layer, with its config */
void handle_layer(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct published *now = NULL;
    struct model *model;
    size_t i;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_now(model, rp)) && find_layer(rq, model->name, lip_snapshot_model(now->snapshot), &i, rp) &&
        !not_modified(rq, rp, now))
        reply_json(rp, 200, layer_json(now->snapshot, i, true));
    published_put(now);
    store_put(model);
}
