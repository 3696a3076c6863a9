/* health.c: is it alive, is it ready, what is it. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "settings.h"

/* GET /v2/health/live  ->  {"live":true,"ready":…}: KServe's client reads both members from both paths. */
void handle_live(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)rq;
    reply_json(rp, 200, json_pack("{s:b, s:b}", "live", 1, "ready", ctx->ready && !ctx->draining));
}

/* GET /v2/health/ready */
void handle_ready(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    bool ready = ctx->ready && !ctx->draining;
    json_t *json = json_pack("{s:b, s:b}", "live", 1, "ready", ready);

    (void)rq;
    if (json && !ready) {
        json_object_set_new(json, "reason", json_string(ctx->draining ? "draining" : "loading"));
        reply_header(rp, "Retry-After", "1");
    }
    reply_json(rp, ready ? 200 : 503, json);
}

/* GET /v2  ->  the server's metadata; only extensions that are there. */
void handle_server(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    (void)rq;
    reply_json(rp, 200,
               json_pack("{s:s, s:s, s:[s, s, s, s, s, s, s, s, s]}", "name", ctx->config->id, "version", PACKAGE_VERSION,
                         "extensions", "model_configuration", "binary_tensor_data", "parameters", "statistics", "onelip_training",
                         "onelip_lipschitz", "onelip_condense", "onelip_export", "onelip_weights"));
}

/* GET /v2/models/{m}/ready */
void handle_model_ready(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp);
    enum model_stage stage;
    char why[512];

    if (!model)
        return;
    stage = model_stage(model, why, sizeof why);
    if (stage == MODEL_READY && !ctx->draining)
        reply_json(rp, 200, json_pack("{s:s, s:b}", "name", model->name, "ready", 1));
    else {
        const char *reason = stage == MODEL_UNAVAILABLE ? "unavailable" : ctx->draining ? "draining" : "loading";
        reply_json(rp, 503, json_pack("{s:s, s:b, s:s, s:o}", "name", model->name, "ready", 0, "reason", reason, "error",
                                      text_json(why[0] ? why : reason)));
    }
    store_put(model);
}

static void index_entry(json_t *list, struct model *model, bool only_ready)
{
    char why[512], version[VERSION_MAX];
    enum model_stage stage = model_stage(model, why, sizeof why);

    if (stage != MODEL_READY && only_ready)
        return;
    pthread_mutex_lock(&model->lock);
    memcpy(version, model->facts.version, sizeof version);
    pthread_mutex_unlock(&model->lock);
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "name", model->name, "version", version, "state",
                                          stage == MODEL_READY     ? "READY"
                                          : stage == MODEL_LOADING ? "LOADING"
                                                                   : "UNAVAILABLE",
                                          "reason", text_json(why)));
}

/* POST (or GET) /v2/repository/index  {"ready":true}  ->  [{"name","version","state","reason"}, …] */
void handle_repository_index(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    json_t *body = strcmp(rq->method, "POST") ? json_object() : codec_document(rq, rp), *list = json_array();
    const json_t *ready = json_object_get(body, "ready");
    bool only_ready = json_is_true(ready);
    size_t n = 0;
    struct model **all;

    if (ready && !json_is_boolean(ready)) {
        reply_at(rp, 400, "bad_parameter", "/ready", "ready needs true or false");
        json_decref(body);
        json_decref(list);
        return;
    }
    all = body ? store_list(ctx->store, &n) : NULL;
    for (size_t i = 0; all && i < n; i++) {
        size_t frozen = 0;
        struct model **versions = model_versions(all[i], &frozen);

        for (size_t k = 0; versions && k < frozen; k++) {
            index_entry(list, versions[k], only_ready);
            store_put(versions[k]);
        }
        free(versions);
        index_entry(list, all[i], only_ready);
        store_put(all[i]);
    }
    if (body)
        reply_json(rp, 200, all ? json_incref(list) : NULL);
    free(all);
    json_decref(list);
    json_decref(body);
}
