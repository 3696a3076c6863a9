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
               json_pack("{s:s, s:s, s:[s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s]}", "name", ctx->config->id, "version",
                         PACKAGE_VERSION, "extensions", "model_repository", "model_repository(unload_dependents)",
                         "schedule_policy", "model_configuration", "binary_tensor_data", "parameters", "statistics", "logging",
                         "onelip_training", "onelip_jobs", "onelip_datasets", "onelip_lipschitz", "onelip_certificate",
                         "onelip_wasserstein", "onelip_condense", "onelip_export", "onelip_weights"));
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
        const char *reason = stage == MODEL_UNAVAILABLE ? "unavailable"
                             : stage == MODEL_UNLOADED  ? "unloaded"
                             : ctx->draining            ? "draining"
                                                        : "loading";
        reply_json(rp, 503, json_pack("{s:s, s:b, s:s, s:o}", "name", model->name, "ready", 0, "reason", reason, "error",
                                      text_json(why[0] ? why : reason)));
    }
    store_put(model);
}
