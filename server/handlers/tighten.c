/* tighten.c: every layer scaled to its proven norm. */
#include <stdlib.h>

#include "common.h"
#include "handlers.h"

static json_t *layers_json(const lip_tightening *layers, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", layers[i].layer, "coef_lip_before",
                                              codec_real(layers[i].coef_before), "coef_lip_after", codec_real(layers[i].coef_after),
                                              "upper_before", codec_real(layers[i].upper_before), "upper_after",
                                              codec_real(layers[i].upper_after)));
    return list;
}

static void tighten(struct model *model, struct reply *rp)
{
    lip_tightening *layers = calloc(lip_model_layers(lip_state_model(model->state)) + 1, sizeof *layers);
    lip_state *tightened = NULL;
    lip_error err = {0};
    json_t *list = NULL;
    size_t n = 0;

    if (!layers) {
        reply_no_memory(rp);
    } else if (lip_tighten(model->state, &tightened, layers, &n, &err)) {
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    } else {
        list = layers_json(layers, n); /* names are the tightened state's */
        if (redefine_head(model, tightened, rp)) {
            reply_state(rp, model);
            reply_json(rp, 200,
                       json_pack("{s:s, s:s, s:I, s:I, s:O}", "model_name", model->name, "model_version", model->facts.version,
                                 "state_revision", (json_int_t)model->facts.state_revision, "weights_revision",
                                 (json_int_t)model->facts.weights_revision, "layers", list));
        }
    }
    json_decref(list);
    free(layers);
}

/* POST /v2/models/{m}/tighten {}  ->  each layer's coef_lip so that its proven bound is its claim, published */
void handle_tighten(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct model *model;
    json_t *body;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (codec_members(rp, body, "", none) && (model = write_begin(ctx, rq, rp))) {
        if (!rq->dry)
            tighten(model, rp);
        write_end(model);
    }
    json_decref(body);
}
