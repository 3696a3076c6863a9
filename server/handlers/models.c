/* models.c: create, replace, list, describe, delete. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common.h"
#include "handlers.h"
#include "jobs.h"
#include "training.h"

/* What a request to create or replace says, besides the definition. */
struct wish {
    const char *name;       /* POST: borrowed from the body */
    const json_t *definition;
    const char *at;         /* the definition's pointer from the top of the body */
    const json_t *training; /* NULL: none */
    const char *description;
    json_t *tags; /* borrowed; NULL: none */
    const char *coefficient; /* NULL: the definition's own */
    const json_t *config; /* NULL: none */
    uint64_t seed;
    bool strict, dry_run;
};

/* ---- reading the request ------------------------------------------------------------------------------------- */

static bool read_seed(const char *text, uint64_t *seed)
{
    char *end;
    *seed = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && strlen(text) <= 19;
}

static bool read_coefficient(const char *word, const char *pointer, struct wish *w, struct reply *rp)
{
    if (word && !coefficient_of(word, &(lip_coefficient){0})) {
        reply_at(rp, 400, "bad_parameter", pointer, "coefficient is \"%.60s\", needs \"deel_lip\" or \"sound\"", word);
        return false;
    }
    if (word)
        w->coefficient = word;
    return true;
}

/* Options as query parameters: for bodies that are the definition itself. */
static bool read_query(const struct request *rq, struct wish *w, struct reply *rp)
{
    static const char *const names[] = {"dry_run", "strict", "seed", "coefficient", "filename", NULL};
    const char *seed = request_query(rq, "seed");

    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "dry_run", &w->dry_run) ||
        !codec_query_bool(rq, rp, "strict", &w->strict) ||
        !read_coefficient(request_query(rq, "coefficient"), "", w, rp))
        return false;
    if (seed && !read_seed(seed, &w->seed)) {
        reply_error(rp, 400, "bad_parameter", NULL, "seed is \"%.40s\", needs an integer from 0", seed);
        return false;
    }
    return true;
}

static bool wrong(struct reply *rp, const char *pointer, const char *what)
{
    reply_at(rp, 400, "bad_parameter", pointer, "%s", what);
    return false;
}

static bool read_wish(const struct request *rq, const json_t *body, bool named, struct wish *w, struct reply *rp)
{
    static const char *const members[] = {"name", "definition", "coefficient", "seed", "strict", "description",
                                          "tags", "training", "config", NULL};
    const json_t *v;

    *w = (struct wish){0};
    if (getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed)
        w->seed = 0;
    if (!read_query(rq, w, rp))
        return false;
    if (!named && json_object_get(body, "class_name")) {
        w->definition = body;
        w->at = "";
        return true;
    }
    if (!codec_members(rp, body, "", named ? members : members + 1))
        return false;
    w->at = "/definition";
    w->definition = json_object_get(body, "definition");
    if (named && !(w->name = json_string_value(json_object_get(body, "name")))) {
        reply_at(rp, 400, "bad_name", "/name", "the body needs a \"name\"");
        return false;
    }
    if (named && !store_name_ok(w->name)) {
        reply_at(rp, 400, "bad_name", "/name",
                 "\"%.140s\" is no name for a model: it needs 1 to 128 of A-Z a-z 0-9 _ . -, not \".\" or \"-\" first, "
                 "and not \"stats\"",
                 w->name);
        return false;
    }
    if (!json_is_object(w->definition)) {
        reply_at(rp, 422, "bad_definition", "/definition", "the body needs a \"definition\", Keras's JSON of a model");
        return false;
    }
    if ((v = json_object_get(body, "coefficient")) &&
        !read_coefficient(json_string_value(v) ? json_string_value(v) : "not a string", "/coefficient", w, rp))
        return false;
    if ((v = json_object_get(body, "seed")) && !json_is_null(v)) {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return wrong(rp, "/seed", "seed needs an integer from 0");
        w->seed = (uint64_t)json_integer_value(v);
    }
    if ((v = json_object_get(body, "strict"))) {
        if (!json_is_boolean(v))
            return wrong(rp, "/strict", "strict needs true or false");
        w->strict = json_is_true(v);
    }
    if ((v = json_object_get(body, "description"))) {
        if (!json_is_string(v))
            return wrong(rp, "/description", "description needs a string");
        w->description = json_string_value(v);
    }
    if ((v = json_object_get(body, "tags"))) {
        if (!json_is_object(v))
            return wrong(rp, "/tags", "tags needs an object");
        w->tags = (json_t *)v;
    }
    w->config = json_object_get(body, "config");
    w->training = json_object_get(body, "training");
    return true;
}

/* ---- making it ------------------------------------------------------------------------------------------------- */

/* The definition with the coefficient that the request wants. */
static lip_err read_model(const struct wish *w, const char *text, lip_model **model, lip_error *err)
{
    lip_model *own = NULL;
    lip_coefficient coefficient;
    lip_err rc = lip_model_read(text, strlen(text), w->strict, &own, err);

    if (rc || !coefficient_of(w->coefficient, &coefficient) || coefficient == lip_model_coefficient(own)) {
        *model = own;
        return rc;
    }
    rc = lip_model_with_coefficient(own, coefficient, model, err);
    lip_model_put(own);
    return rc;
}

static bool make(const struct wish *w, struct draft *d, struct reply *rp)
{
    char *text = json_dumps(w->definition, JSON_COMPACT | JSON_REAL_PRECISION(17));
    lip_model *model = NULL;
    lip_error err = {0};
    bool ok = false;

    d->tags = w->tags ? json_deep_copy(w->tags) : json_object();
    d->description = strdup(w->description ? w->description : "");
    if (!text || !d->tags || !d->description)
        reply_no_memory(rp);
    else if (read_model(w, text, &model, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, w->at);
    else if (lip_state_new(model, w->seed, &d->state, &err) || lip_state_publish(d->state, &d->snapshot, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, w->at);
    else
        ok = (!w->training || training_make(model, w->training, "/training", &d->recipe, &d->trainer, rp)) &&
             (!w->config || (d->knobs = config_make(w->config, "/config", rp)));
    lip_model_put(model);
    free(text);
    return ok;
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
    return (!present || not_a_jobs(present, a->rp)) && precondition(a->rq, present, a->rp);
}

static void create(struct ctx *ctx, const struct request *rq, struct reply *rp, bool replace)
{
    json_t *body = codec_document(rq, rp);
    struct draft draft = {0};
    struct failure f = {0};
    struct asked asked = {rq, rp};
    struct model *model = NULL, *present = NULL;
    struct wish wish;
    const char *name;
    bool created = false;

    if (!body || !read_wish(rq, body, !replace, &wish, rp))
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
    if (!make(&wish, &draft, rp))
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

/* PUT /v2/models/{m}  the same without "name", or Keras's JSON itself  ->  201 or 200, the model document */
void handle_model_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    if (rq->bytes >= 4 && (!memcmp(rq->body, "PK\3\4", 4) || !memcmp(rq->body, "\211HDF", 4))) {
        reply_error(rp, 501, "unsupported", NULL, "reading .keras, .h5 and onelip files is not built in; Keras's JSON is");
        return;
    }
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
    reply_json(rp, 200, json);
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
