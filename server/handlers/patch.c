/* patch.c: changes of a model's description, of its coefficient, and of its layers' k and trainable flags.
 *
 * A changed k, coefficient or flag is another definition, which takes the weights over.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

/* A k that a layer may have; else 422 at pointer. */
static bool good_k(const json_t *v, const char *pointer, struct reply *rp)
{
    if (json_is_number(v) && json_number_value(v) > 0 && isfinite(json_number_value(v)))
        return true;
    reply_at(rp, 422, "bad_definition", pointer, "k_coef_lip needs a number above 0");
    return false;
}

/* ---- taking the weights over -------------------------------------------------------------------------------- */

/* The optimizer's slots in the trainer of another definition with the same variables. false: they do not fit, and the new
 * trainer starts anew. */
static bool carry_slots(const lip_trainer *from, lip_trainer *to)
{
    size_t n = lip_trainer_tensors(from);
    lip_named *tensors = calloc(n + 1, sizeof *tensors);
    lip_error ignored = {0};
    bool ok = false;

    for (size_t i = 0; tensors && i < n; i++)
        tensors[i] = lip_trainer_tensor(from, i);
    if (tensors)
        ok = !lip_trainer_load(to, lip_trainer_steps(from), tensors, n, &ignored);
    free(tensors);
    return ok;
}

bool redefine_head(struct model *model, lip_state *moved, struct reply *rp)
{
    struct recipe *recipe = NULL;
    lip_trainer *trainer = NULL;
    lip_error err = {0};
    struct failure f = {0};
    bool kept = false, ok = false;

    if (model->recipe && recipe_make(lip_state_model(moved), model->recipe->config, &recipe, &trainer, &err)) {
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    } else {
        kept = trainer && carry_slots(model->trainer, trainer);
        if ((ok = model_redefine(model, moved, recipe, trainer, kept, &f))) {
            moved = NULL;
            recipe = NULL;
            trainer = NULL;
        } else {
            reply_failure(rp, &f);
        }
    }
    lip_state_free(moved);
    lip_trainer_free(trainer);
    recipe_put(recipe);
    return ok;
}

/* Another definition in place of the present one, which is taken over; keep: effective kernels stay as they are. Under `writing`. */
static bool redefine(struct model *model, lip_model *m, bool keep, struct reply *rp)
{
    lip_state *moved = NULL;
    lip_error err = {0};
    bool ok = false;

    if (lip_state_move(model->state, m, keep, &moved, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    else
        ok = redefine_head(model, moved, rp);
    lip_model_put(m);
    return ok;
}

/* ---- PATCH M -------------------------------------------------------------------------------------------------- */

static bool check_patch(const json_t *body, struct reply *rp)
{
    static const char *const members[] = {"description", "tags", "k_coef_lip", "coefficient", NULL};
    const json_t *v;

    if (!codec_members(rp, body, "", members))
        return false;
    if ((v = json_object_get(body, "description")) && !json_is_string(v) && !json_is_null(v)) {
        reply_at(rp, 400, "bad_parameter", "/description", "description needs a string");
        return false;
    }
    if ((v = json_object_get(body, "tags")) && !json_is_object(v) && !json_is_null(v)) {
        reply_at(rp, 400, "bad_parameter", "/tags", "tags needs an object");
        return false;
    }
    if ((v = json_object_get(body, "coefficient")) && !coefficient_of(json_string_value(v), &(lip_coefficient){0})) {
        reply_at(rp, 400, "bad_parameter", "/coefficient", "coefficient needs \"deel_lip\" or \"sound\"");
        return false;
    }
    return !(v = json_object_get(body, "k_coef_lip")) || good_k(v, "/k_coef_lip", rp);
}

/* The new k, shared among the layers as at creation, and the new coefficient. */
static bool patch_constants(struct model *model, const json_t *k, const char *word, struct reply *rp)
{
    lip_model *m = lip_model_get(lip_state_model(model->state)), *next;
    lip_coefficient coefficient = lip_model_coefficient(m);
    lip_error err = {0};
    lip_err rc = LIP_OK;

    if (word)
        coefficient_of(word, &coefficient);
    if (k && !(rc = lip_model_with_k(m, NULL, json_number_value(k), &next, &err))) {
        lip_model_put(m);
        m = next;
    }
    if (!rc && coefficient != lip_model_coefficient(m) && !(rc = lip_model_with_coefficient(m, coefficient, &next, &err))) {
        lip_model_put(m);
        m = next;
    }
    if (!rc && m != lip_state_model(model->state))
        return redefine(model, m, false, rp);
    lip_model_put(m);
    if (rc == LIP_EUNSUPPORTED)
        reply_at(rp, 501, "unsupported", "/k_coef_lip", "%s; PATCH its layers", err.text);
    else if (rc)
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    return !rc;
}

static bool patch_description(struct model *model, const json_t *body, struct reply *rp)
{
    const json_t *text = json_object_get(body, "description"), *tags = json_object_get(body, "tags");
    char *description = strdup(text                        ? json_is_null(text) ? "" : json_string_value(text)
                               : model->facts.description ? model->facts.description
                                                          : "");
    json_t *merged = tags ? json_is_null(tags) ? json_object() : json_merge(model->facts.tags, tags) : json_deep_copy(model->facts.tags);
    struct failure f = {0};

    if (!merged)
        merged = json_object();
    if (!description || !merged) {
        reply_no_memory(rp);
    } else if (!model_describe(model, description, merged, &f)) {
        reply_failure(rp, &f);
    } else {
        return true;
    }
    free(description);
    json_decref(merged);
    return false;
}

/* PATCH /v2/models/{m}  {"description", "tags", "k_coef_lip", "coefficient"}  ->  the model document */
void handle_model_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    const char *word;
    json_t *body, *k;
    struct model *model = NULL;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (check_patch(body, rp) && (model = write_begin(ctx, rq, rp))) {
        k = json_object_get(body, "k_coef_lip");
        word = json_string_value(json_object_get(body, "coefficient"));
        bool describes = json_object_get(body, "description") || json_object_get(body, "tags");

        if (((!k && !word) || patch_constants(model, k, word, rp)) && (!describes || patch_description(model, body, rp))) {
            reply_state(rp, model);
            reply_json(rp, 200, model_document(model, model, NULL));
        }
        write_end(model);
    }
    json_decref(body);
}

/* ---- PATCH M/layers/{l} ------------------------------------------------------------------------------------------ */

static bool patch_layer(struct model *model, const char *name, const json_t *body, struct reply *rp)
{
    lip_model *m = lip_model_get(lip_state_model(model->state)), *next;
    const json_t *k = json_object_get(body, "k_coef_lip"), *trainable = json_object_get(body, "trainable");
    const lip_layer *l = lip_model_find_layer(m, name);
    lip_error err = {0};
    lip_err rc = LIP_OK;

    if (!l) {
        reply_error(rp, 404, "unknown_layer", NULL, "model '%s' has no layer \"%.200s\"", model->name, name);
        rc = LIP_ERANGE;
    } else if (k && isnan(lip_layer_k(l))) {
        reply_at(rp, 422, "bad_definition", "/k_coef_lip", "layer \"%.200s\" (%s) has no k_coef_lip", name, lip_layer_class(l));
        rc = LIP_EDEFINITION;
    } else if ((k && (rc = lip_model_with_k(m, name, json_number_value(k), &next, &err)))) {
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    } else {
        if (k) {
            lip_model_put(m);
            m = next;
        }
        if (trainable && (rc = lip_model_with_trainable(m, name, json_is_true(trainable), &next, &err))) {
            reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
        } else if (trainable) {
            lip_model_put(m);
            m = next;
        }
        if (!rc && m != lip_state_model(model->state))
            return redefine(model, m, k == NULL, rp);
    }
    lip_model_put(m);
    return !rc;
}

/* The tag of what GET shows, which is what is served. */
static void weights_tag(struct model *model, const struct request *rq, char etag[ETAG_MAX])
{
    (void)rq;
    etag_of(etag, model->facts.epoch, model->facts.version, model->facts.weights_revision, NULL);
}

/* PATCH /v2/models/{m}/layers/{l} and layers/{l}/{inner}  {"k_coef_lip", "trainable"}  ->  the layer */
void handle_layer_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL}, *const members[] = {"k_coef_lip", "trainable", NULL};
    struct model *model = NULL;
    struct published *now;
    json_t *body, *v;
    char name[LAYER_NAME_MAX];

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    v = json_object_get(body, "trainable");
    if (!codec_members(rp, body, "", members)) {
        json_decref(body);
        return;
    }
    if (v && !json_is_boolean(v))
        reply_at(rp, 422, "bad_definition", "/trainable", "trainable needs true or false");
    else if ((!(v = json_object_get(body, "k_coef_lip")) || good_k(v, "/k_coef_lip", rp)) &&
             (model = write_begin_as(ctx, rq, weights_tag, rp))) {
        if (patch_layer(model, layer_of_path(rq, name), body, rp) && (now = model_now(model))) {
            reply_state(rp, model);
            reply_json(rp, 200, layer_document(now, name));
            published_put(now);
        }
        write_end(model);
    }
    json_decref(body);
}
