/* models.c: create, replace, list, describe, delete. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "intake.h"
#include "jobs.h"
#include "settings.h"

/* ---- reading the request ------------------------------------------------------------------------------------- */

static bool read_seed(const char *text, uint64_t *seed)
{
    char *end;
    *seed = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && strlen(text) <= 19;
}

/* Options as query parameters: for bodies that are the definition itself, or a file. */
static bool read_query(const struct request *rq, bool file, struct wish *w, struct reply *rp)
{
    static const char *const all[] = {"filename", "dry_run", "strict", "seed", "coefficient", NULL};
    const char *seed = request_query(rq, "seed");

    if (!codec_queries(rq, rp, file ? all : all + 1) || !codec_query_bool(rq, rp, "dry_run", &w->dry_run) ||
        !codec_query_bool(rq, rp, "strict", &w->strict) ||
        !wish_coefficient(request_query(rq, "coefficient"), "", w, rp))
        return false;
    if (seed && !read_seed(seed, &w->seed)) {
        reply_error(rp, 400, "bad_parameter", NULL, "seed is \"%.40s\", needs an integer from 0", seed);
        return false;
    }
    return true;
}

/* The document of a model that is not stored: of a dry run. */
static json_t *dry_document(const char *name, const struct draft *d)
{
    const lip_model *m = lip_state_model(d->state);
    json_t *warnings = json_array();
    size_t parameters = 0;

    for (size_t i = 0; i < lip_model_layers(m); i++)
        parameters += lip_layer_parameters(lip_model_layer(m, i));
    for (size_t i = 0; i < lip_model_warnings(m); i++)
        json_array_append_new(warnings, json_pack("{s:s, s:s}", "code", "definition", "text", lip_model_warning(m, i)));
    return json_pack("{s:s, s:[], s:s, s:o, s:o, s:s, s:o, s:s, s:I, s:s, s:O, s:s, s:b, s:o}", "name", name, "versions",
                     "platform", "onelip_keras_json", "inputs", tensors_json(m, true), "outputs", tensors_json(m, false), "state",
                     "UNKNOWN", "k_coef_lip",
                     codec_real_or_null(lip_model_k(m)), "coefficient", coefficient_word(m), "trainable_parameters",
                     (json_int_t)parameters, "description", d->description, "tags", d->tags, "source", "json", "dry_run", 1,
                     "warnings", warnings);
}

struct asked {
    const struct request *rq;
    struct reply *rp;
};

static bool allowed(void *ctx, struct model *present)
{
    struct asked *a = ctx;
    return (!present || not_a_jobs(present, a->rp)) && precondition(a->rq, present, NULL, a->rp);
}

/* What the request wants, as a draft. body: of JSON; w borrows from it. */
static bool read_draft(struct ctx *ctx, const struct request *rq, bool named, json_t **body, struct wish *w, struct draft *draft,
                       struct reply *rp)
{
    wish_begin(w);
    if (!read_query(rq, !named, w, rp))
        return false;
    if (!named && intake_is_file(rq->body, rq->bytes))
        return intake_file(rq->body, rq->bytes, w, draft, rp);
    if ((long)rq->bytes > ctx->config->max_body_bytes) { /* an upload's limit is for files */
        reply_error(rp, 413, "too_large", NULL, "the body is larger than %ld bytes", (long)ctx->config->max_body_bytes);
        return false;
    }
    return (*body = codec_document(rq, rp)) && wish_read(*body, named, w, rp);
}

static void create(struct ctx *ctx, const struct request *rq, struct reply *rp, bool replace)
{
    struct asked asked = {rq, rp};
    struct draft draft = {0};
    struct failure f = {0};
    struct model *model = NULL, *present = NULL;
    json_t *body = NULL;
    struct wish wish;
    const char *name;
    bool created = false;

    if (!read_draft(ctx, rq, !replace, &body, &wish, &draft, rp))
        goto done;
    name = replace ? rq->param[0] : wish.name;
    if (replace && !store_name_ok(name)) { /* "stats", which routes take for a word of their own */
        reply_error(rp, 400, "bad_name", NULL, "\"%.140s\" is no name for a model", name);
        goto done;
    }
    if (!replace && (present = store_get(ctx->store, name))) { /* said before any work is done; store_create decides */
        reply_error(rp, 409, "already_exists", NULL, "a model named '%s' already exists", name);
        goto done;
    }
    if (!draft.state && !intake_json(&wish, &draft, rp))
        goto done;
    if (wish.dry_run) {
        reply_json(rp, 200, dry_document(name, &draft));
        goto done;
    }
    if (!(model = store_create(ctx->store, name, &draft, replace, allowed, &asked, &created, &f))) {
        reply_failure(rp, &f);
        goto done;
    }
    if (created)
        reply_header(rp, "Location", "/v2/models/%s", name);
    reply_state(rp, model);
    reply_json(rp, created ? 201 : 200, model_document(model, model, NULL));
done:
    store_put(present);
    store_put(model);
    draft_clear(&draft);
    json_decref(body);
}

/* POST /v2/models  {"name", "definition", …}  ->  201, the model document */
void handle_model_create(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    create(ctx, rq, rp, false);
}

/* PUT /v2/models/{m}  the same without "name", Keras's JSON itself, or a file  ->  201 or 200, the model document */
void handle_model_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    create(ctx, rq, rp, true);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* GET /v2/models  ->  {"models":[…]}, or with ?detail=true a list of model documents */
void handle_models_list(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    bool detail = false, more = false;
    const char *after = request_query(rq, "after"), *last = NULL;
    size_t most;
    json_t *list = json_array(), *json;
    struct model **all;
    size_t n = 0;

    if (!codec_query_bool(rq, rp, "detail", &detail) || !page_limit(rq, rp, &most)) {
        json_decref(list);
        return;
    }
    all = store_list(ctx->store, &n);
    for (size_t i = 0; all && i < n; i++) {
        if (!detail) {
            json_array_append_new(list, json_string(all[i]->name));
        } else if (!after || strcmp(all[i]->name, after) > 0) {
            if ((more = json_array_size(list) == most))
                break;
            json_array_append_new(list, model_document(all[i], all[i], NULL));
            last = all[i]->name;
        }
    }
    if (!detail)
        json = json_pack("{s:o}", "models", list);
    else {
        json = json_pack("{s:s, s:o, s:b, s:n}", "object", "list", "data", list, "has_more", more, "next");
        if (json && more)
            json_object_set_new(json, "next", page_next(rq, last, most));
    }
    for (size_t i = 0; all && i < n; i++)
        store_put(all[i]);
    free(all);
    reply_json_tagged(rq, rp, json);
}

/* GET /v2/models/{m}  ->  the model document */
void handle_model_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp), *head = model ? find_head(ctx, rq, rp) : NULL;
    json_t *json;
    char etag[ETAG_MAX];

    if (!head) {
        store_put(model);
        return;
    }
    json = model_document(head, model, etag); /* the tag of the document that was made, whatever has happened since */
    if (json && etag[0])
        reply_weights_revision(rp, (uint64_t)json_integer_value(json_object_get(json, "weights_revision")));
    if (json && etag[0] && codec_not_modified(rq, rp, etag))
        json_decref(json);
    else
        reply_json(rp, 200, json);
    store_put(head);
    store_put(model);
}

/* GET /v2/models/{m}/definition?dialect=v3|legacy  ->  canonical Keras JSON */
void handle_definition(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"dialect", NULL};
    const char *dialect = request_query(rq, "dialect");
    struct model *model;
    struct published *now = NULL;
    char *text = NULL, *copy;

    if (!codec_queries(rq, rp, names) || !(model = find_model(ctx, rq, rp)))
        return;
    if (dialect && strcmp(dialect, "v3") && strcmp(dialect, "legacy"))
        reply_error(rp, 400, "bad_parameter", NULL, "dialect is \"%.40s\", needs v3 or legacy", dialect);
    else if ((now = find_now(model, rp))) {
        text = lip_model_definition(lip_snapshot_model(now->snapshot), dialect && !strcmp(dialect, "legacy"));
        copy = text ? strdup(text) : NULL;
        if (!copy)
            reply_no_memory(rp);
        else if (codec_hash_etag(rq, rp, copy, strlen(copy)))
            free(copy);
        else
            reply_bytes(rp, 200, "application/json", copy, strlen(copy));
    }
    lip_free(text);
    published_put(now);
    store_put(model);
}

/* DELETE /v2/models/{m}?force=  ->  204 */
void handle_model_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"force", NULL};
    struct asked asked = {rq, rp};
    struct failure f = {0};
    struct model *model;
    bool force = false;

    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "force", &force) || !(model = find_model(ctx, rq, rp)))
        return;
    if (force)
        jobs_cancel_on(ctx->jobs, model->name);
    if (jobs_work_on(ctx->jobs, model->name))
        reply_error(rp, 409, "in_use", NULL, "a job works on model '%s'; ?force=true cancels it", model->name);
    else if (store_delete(ctx->store, model, allowed, &asked, &f))
        reply_bytes(rp, 204, "application/json", NULL, 0);
    else
        reply_failure(rp, &f);
    store_put(model);
}
