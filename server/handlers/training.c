/* training.c: GET, PUT and PATCH of the training resource. */
#include "training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "handlers.h"
#include "text.h"

/* Members that are one of a few words: the default first. */
static const struct {
    const char *name, *word[5];
} choices[] = {
    {"publish", {"step", "epoch", "job", "never"}},
    {"kernels", {"fresh", "deel_lip"}},
    {"on_nonfinite", {"error", "skip"}},
    {"durability", {"checkpoint", "sync"}},
};
enum { CHOICES = sizeof choices / sizeof *choices };

static bool choose(json_t *config, size_t i, const char *pointer, struct reply *rp)
{
    const json_t *v = json_object_get(config, choices[i].name);
    const char *said = json_string_value(v);
    char at[200], list[80] = "";

    if (!v)
        return json_object_set_new(config, choices[i].name, json_string(choices[i].word[0])) == 0;
    for (const char *const *word = choices[i].word; *word; word++) {
        size_t n = strlen(list);
        if (said && !strcmp(said, *word))
            return true;
        snprintf(list + n, sizeof list - n, "%s\"%s\"", n ? ", " : "", *word);
    }
    snprintf(at, sizeof at, "%s/%s", pointer, choices[i].name);
    reply_at(rp, 422, "bad_definition", at, "%s needs one of %s%s%.60s", choices[i].name, list, said ? ", not " : "",
             said ? said : "");
    return false;
}

bool training_make(const lip_model *model, const json_t *object, const char *pointer, struct recipe **recipe,
                   lip_trainer **trainer, struct reply *rp)
{
    static const char *const members[] = {"optimizer", "loss", "metrics", "callbacks", "publish", "kernels", "on_nonfinite",
                                          "durability", "telemetry_every", "loss_weights", NULL};
    json_t *config, *v;
    lip_error err = {0};
    bool ok = false;

    if (!json_is_object(object)) {
        reply_at(rp, 422, "bad_definition", pointer, "training needs to be an object");
        return false;
    }
    if (!codec_members(rp, object, pointer, members))
        return false;
    if (!(config = json_copy((json_t *)object))) {
        reply_no_memory(rp);
        return false;
    }
    for (size_t i = 0; i < CHOICES; i++)
        if (!choose(config, i, pointer, rp))
            goto done;
    if (!json_object_get(config, "metrics"))
        json_object_set_new(config, "metrics", json_array());
    v = json_object_get(config, "telemetry_every");
    if (!v)
        json_object_set_new(config, "telemetry_every", json_integer(0));
    else if (!json_is_integer(v) || json_integer_value(v) < 0) {
        char at[200];
        snprintf(at, sizeof at, "%s/telemetry_every", pointer);
        reply_at(rp, 422, "bad_definition", at, "telemetry_every needs an integer that is not negative");
        goto done;
    }
    if (recipe_make(model, config, recipe, trainer, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, pointer);
    else
        ok = true;
done:
    if (!ok && !rp->status)
        reply_no_memory(rp);
    json_decref(config);
    return ok;
}

/* The resource as it is shown. Under `writing`, which its state belongs to. */
static json_t *shown(struct model *model, bool with_revision)
{
    json_t *json = json_deep_copy(model->recipe->config);
    json_t *state = json_pack("{s:I, s:o, s:s, s:I, s:I}", "step", (json_int_t)lip_trainer_steps(model->trainer),
                              "learning_rate", codec_real(lip_trainer_learning_rate(model->trainer)), "optimizer_state",
                              model->optimizer_kept ? "kept" : "reset", "bytes",
                              (json_int_t)lip_trainer_bytes(model->trainer), "unpublished_steps",
                              (json_int_t)model->unpublished);

    if (!json || !state || json_object_set_new(json, "state", state)) {
        json_decref(json);
        return NULL;
    }
    if (with_revision)
        json_object_set_new(json, "state_revision", json_integer((json_int_t)model->facts.state_revision));
    return json;
}

/* The optimizer's slots, and what losses and callbacks remember, between two steps: with the ETag of that state. */
static void show_state(struct model *model, struct reply *rp)
{
    size_t size;
    void *bytes = save_optimizer(model->trainer, &size), *copy = bytes ? malloc(size ? size : 1) : NULL;

    if (!copy) {
        reply_no_memory(rp);
    } else {
        memcpy(copy, bytes, size);
        reply_state(rp, model);
        reply_bytes(rp, 200, "application/x-safetensors", copy, size);
    }
    lip_free(bytes);
}

/* The tag of what GET shows: writes may be conditional on it. */
static void training_tag(struct model *model, const struct request *rq, char etag[ETAG_MAX])
{
    json_t *json = model->recipe ? shown(model, true) : NULL;
    char *text = json ? document_text(json) : NULL;

    (void)rq;
    if (text)
        codec_hash_of(etag, text, strlen(text));
    free(text);
    json_decref(json);
}

/* GET /v2/models/{m}/training */
void handle_training_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"state", NULL};
    bool state = false;
    struct model *model;
    struct published *now = NULL;
    json_t *json = NULL;
    char *text;

    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "state", &state) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_now(model, rp))) {
        model_lock(model);
        if (!model->recipe)
            reply_error(rp, 404, "training_not_configured", NULL, "training of model '%s' is not configured; PUT it first",
                        model->name);
        else if (state)
            show_state(model, rp);
        else if (!(json = shown(model, true)))
            reply_no_memory(rp);
        pthread_mutex_unlock(&model->writing);
    }
    if (json) {
        text = document_text(json);
        if (!text)
            reply_no_memory(rp);
        else if (codec_hash_etag(rq, rp, text, strlen(text)))
            free(text);
        else
            reply_bytes(rp, 200, "application/json", text, strlen(text));
    }
    json_decref(json);
    published_put(now);
    store_put(model);
}

/* "HKR" of "deel-lip>HKR"; NULL: the object is of no class. */
static const char *class_of(const json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "class_name")), *behind = name ? strchr(name, '>') : NULL;

    return behind ? behind + 1 : name;
}

/* Whether a patch is of the object that is there: of the same class, or both of none. */
static bool is_patch_of(const json_t *present, const json_t *patch)
{
    const char *is = class_of(present), *wanted = class_of(patch);

    return !wanted ? !is == !json_object_get(patch, "config") : is && !strcmp(is, wanted);
}

json_t *training_merge(const json_t *present, const json_t *patch)
{
    json_t *json, *value;
    const char *key;

    if (!json_is_object(patch))
        return json_deep_copy(patch);
    json = json_is_object(present) && is_patch_of(present, patch) ? json_deep_copy(present) : json_object();
    json_object_foreach((json_t *)patch, key, value) {
        if (json_is_null(value))
            json_object_del(json, key);
        else
            json_object_set_new(json, key, training_merge(json_object_get(json, key), value));
    }
    return json;
}

static bool same_member(const json_t *a, const json_t *b, const char *key)
{
    return json_equal(json_object_get(a, key), json_object_get(b, key));
}

static void put(struct ctx *ctx, const struct request *rq, struct reply *rp, bool patch)
{
    static const char *const none[] = {NULL};
    struct model *model = NULL;
    struct recipe *recipe = NULL;
    lip_trainer *trainer = NULL;
    struct failure f = {0};
    json_t *body = NULL, *whole = NULL;
    bool kept;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)) || !(model = write_begin_as(ctx, rq, training_tag, rp)))
        goto done;
    if (patch && !model->recipe) {
        reply_error(rp, 404, "training_not_configured", NULL, "training of model '%s' is not configured; PUT it first",
                    model->name);
        goto done;
    }
    whole = patch ? training_merge(model->recipe->config, body) : json_incref(body);
    if (!whole || !training_make(lip_state_model(model->state), whole, "", &recipe, &trainer, rp)) {
        if (!whole)
            reply_no_memory(rp);
        goto done;
    }
    kept = model->trainer && lip_trainer_same_optimizer(model->trainer, trainer);
    if (kept)
        lip_trainer_adopt(trainer, model->trainer);
    if (model->trainer && same_member(model->recipe->config, recipe->config, "loss") &&
        same_member(model->recipe->config, recipe->config, "callbacks"))
        lip_trainer_resume(trainer, model->trainer);
    if (!model_train(model, recipe, trainer, kept, &f)) {
        reply_failure(rp, &f);
        goto done;
    }
    recipe = NULL;
    trainer = NULL;
    reply_state(rp, model);
    reply_json(rp, 200, shown(model, true));
done:
    if (model)
        write_end(model);
    recipe_put(recipe);
    lip_trainer_free(trainer);
    json_decref(whole);
    json_decref(body);
}

/* PUT /v2/models/{m}/training  ->  200, the same with every default, its state, state_revision */
void handle_training_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    put(ctx, rq, rp, false);
}

/* PATCH /v2/models/{m}/training */
void handle_training_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    put(ctx, rq, rp, true);
}
