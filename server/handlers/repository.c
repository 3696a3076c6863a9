/* repository.c: Triton's model repository extension. */
#include "repository.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "settings.h"

/* ---- the index ------------------------------------------------------------------------------------------------------- */

static void index_entry(json_t *list, struct model *model, bool only_ready)
{
    char why[512], version[VERSION_MAX];
    enum model_stage stage = model_stage(model, why, sizeof why);
    json_t *entry;

    if (stage != MODEL_READY && only_ready)
        return;
    pthread_mutex_lock(&model->lock);
    memcpy(version, model->facts.version, sizeof version);
    pthread_mutex_unlock(&model->lock);
    entry = json_pack("{s:s}", "name", model->name);
    if (entry && *version)
        json_object_set_new(entry, "version", json_string(version));
    if (entry && (*version || stage != MODEL_UNLOADED)) /* of what was never loaded there is the name only */
        json_object_update_new(entry, json_pack("{s:s, s:o}", "state", stage_word(stage), "reason", text_json(why)));
    json_array_append_new(list, entry);
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

/* ---- loading and unloading ---------------------------------------------------------------------------------------------- */

static bool allowed(struct ctx *ctx, struct reply *rp)
{
    if (!strcmp(ctx->config->model_control_mode, "explicit"))
        return true;
    reply_error(rp, ctx->config->triton_status ? 400 : 403, "load_disabled", NULL,
                "explicit model load / unload is not allowed if polling is enabled");
    return false;
}

/* The request's "parameters"; *body is to be freed. NULL: none, or the reply says what is wrong. */
static const json_t *read_parameters(const struct request *rq, json_t **body, struct reply *rp)
{
    const json_t *parameters;

    if (!(*body = codec_document(rq, rp)))
        return NULL;
    parameters = json_object_get(*body, "parameters");
    if (!parameters || json_is_object(parameters))
        return parameters;
    reply_at(rp, 400, "bad_parameter", "/parameters", "parameters needs an object");
    return NULL;
}

/* The parameter "config", a ModelConfig in a string. false: said. */
static bool read_config(const char *name, const json_t *text, struct knobs **config, struct reply *rp)
{
    json_t *json = json_is_string(text) ? json_loads(json_string_value(text), JSON_REJECT_DUPLICATES, NULL) : NULL;
    struct knobs_fault fault = {.status = 400, .code = "bad_parameter", .text = "it is no JSON object in a string"};

    *config = json_is_object(json) ? knobs_make(json, &fault) : NULL;
    json_decref(json);
    if (*config)
        return true;
    reply_at(rp, fault.status, fault.code, "/parameters/config", "failed to load '%s', config%s: %s", name, fault.pointer,
             fault.text);
    return false;
}

/* The parameters "file:…" without that prefix; NULL in *files: there are none. false: said. */
static bool read_files(const char *name, const json_t *parameters, json_t **files, struct reply *rp)
{
    const json_t *value;
    const char *key;

    *files = NULL;
    json_object_foreach((json_t *)parameters, key, value) {
        if (strncmp(key, "file:", 5))
            continue;
        if (!json_is_string(value)) {
            reply_at(rp, 400, "bad_parameter", "/parameters", "failed to load '%s', %.140s needs base64 in a string", name, key);
            return false;
        }
        if (!*files)
            *files = json_object();
        if (json_object_set(*files, key + 5, (json_t *)value)) {
            reply_no_memory(rp);
            return false;
        }
    }
    if (!*files || json_object_get(parameters, "config"))
        return true;
    reply_at(rp, 400, "bad_parameter", "/parameters", "failed to load '%s', files need a config parameter beside them", name);
    return false;
}

/* As Triton says it: what is wrong with a model's files is 400. */
static void failed(struct reply *rp, const char *verb, const char *name, const struct failure *f)
{
    bool files = f->status == 400 || f->status == 404 || !strcmp(f->code, "unavailable");

    if (f->status == 503 && !files)
        reply_header(rp, "Retry-After", "1");
    reply_error(rp, files ? 400 : f->status, files ? "bad_request" : f->code, NULL, "failed to %s '%s', %s", verb, name, f->text);
}

/* POST /v2/repository/models/{m}/load  {"parameters":{"config":"{…}","file:1/model.json":"base64"}}  ->  {"name","load":true} */
void handle_model_load(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    const char *name = rq->param[0];
    struct failure f = {0};
    struct knobs *config = NULL;
    json_t *body = NULL, *files = NULL;
    const json_t *parameters, *text;

    if (!allowed(ctx, rp))
        return;
    parameters = read_parameters(rq, &body, rp);
    text = json_object_get(parameters, "config");
    if (rp->status || (text && !read_config(name, text, &config, rp)) || !read_files(name, parameters, &files, rp))
        ;
    else if (!store_name_ok(name)) /* "stats" */
        reply_error(rp, 400, "bad_name", NULL, "failed to load '%s', it is no name for a model", name);
    else if (repository_load(ctx->repository, name, config, files, &f))
        reply_json(rp, 200, json_pack("{s:s, s:b}", "name", name, "load", 1));
    else
        failed(rp, "load", name, &f);
    knobs_put(config);
    json_decref(files);
    json_decref(body);
}

/* POST /v2/repository/models/{m}/unload  {"parameters":{"unload_dependents":false}}  ->  {"name","unload":true} */
void handle_model_unload(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    const char *name = rq->param[0];
    struct failure f = {0};
    json_t *body = NULL;
    const json_t *dependents;

    if (!allowed(ctx, rp))
        return;
    dependents = json_object_get(read_parameters(rq, &body, rp), "unload_dependents"); /* nothing here depends on a model */
    if (dependents && !json_is_boolean(dependents))
        reply_at(rp, 400, "bad_parameter", "/parameters/unload_dependents", "unload_dependents needs true or false");
    if (rp->status)
        ;
    else if (repository_unload(ctx->repository, name, &f))
        reply_json(rp, 200, json_pack("{s:s, s:b}", "name", name, "unload", 1));
    else
        failed(rp, "unload", name, &f);
    json_decref(body);
}
