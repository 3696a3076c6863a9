/* patch.c: changes of a model's description and of its layers' k and trainable flags.
 *
 * A changed k or flag is a changed definition: it is edited as Keras's JSON, read again, and takes the weights over.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

/* ---- editing the definition ------------------------------------------------------------------------------- */

static json_t *definition_of(const lip_model *m)
{
    char *text = lip_model_definition(m, false);
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;

    lip_free(text);
    return json;
}

/* Each layer's own k, in place of the Sequential's, which would overwrite it. */
static void spell_out(json_t *definition, const lip_model *m)
{
    json_t *config = json_object_get(definition, "config"), *one;
    size_t i;

    json_object_del(config, "k_coef_lip");
    json_array_foreach(json_object_get(config, "layers"), i, one) {
        json_t *c = json_object_get(one, "config");
        const char *name = json_string_value(json_object_get(c, "name"));
        const lip_layer *l = name ? lip_model_find_layer(m, name) : NULL;
        if (l && json_object_get(c, "k_coef_lip") && !isnan(lip_layer_k(l)))
            json_object_set_new(c, "k_coef_lip", json_real(lip_layer_k(l)));
    }
}

/* The config of a layer of the definition's own list; NULL: none of that name. */
static json_t *config_of(json_t *definition, const char *name)
{
    json_t *one, *c;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(definition, "config"), "layers"), i, one) {
        c = json_object_get(one, "config");
        const char *its = json_string_value(json_object_get(c, "name"));
        if (its && !strcmp(its, name))
            return c;
    }
    return NULL;
}

/* A k that a layer may have; else 422 at pointer. */
static bool good_k(const json_t *v, const char *pointer, struct reply *rp)
{
    if (json_is_number(v) && json_number_value(v) > 0 && isfinite(json_number_value(v)))
        return true;
    reply_at(rp, 422, "bad_definition", pointer, "k_coef_lip needs a number above 0");
    return false;
}

/* ---- taking the weights over -------------------------------------------------------------------------------- */

/* The present head's variables in a state of another definition with the same variables. keep: effective kernels too. */
static lip_err carry_state(const lip_state *from, const lip_model *m, bool keep, lip_state **state, lip_error *err)
{
    const lip_model *old = lip_state_model(from);
    size_t n = lip_model_variables(old), used = 0;
    lip_named *tensors = calloc(n + 1, sizeof *tensors);
    lip_err rc = LIP_ENOMEM;

    if (!tensors) {
        err->code = rc;
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        const lip_variable *v = lip_model_variable(old, i);
        if (keep || v->role != LIP_WBAR)
            tensors[used++] = (lip_named){v->name, v->shape, lip_state_data(from, i)};
    }
    if (!(rc = lip_state_new(m, 0, state, err)) && !(rc = lip_state_load(*state, tensors, used, false, NULL, NULL, err)))
        for (size_t i = 0; keep && i < lip_model_layers(m); i++)
            lip_state_mark(*state, i, lip_state_effective(from, i));
    free(tensors);
    return rc;
}

/* The optimizer's slots likewise. false: they do not fit, and the new trainer starts anew. */
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

/* The edited definition in place of the present one; keep: effective kernels stay as they are. Under `writing`. */
static bool redefine(struct model *model, const json_t *definition, bool keep, struct reply *rp)
{
    char *text = json_dumps(definition, JSON_COMPACT | JSON_REAL_PRECISION(17));
    struct recipe *recipe = NULL;
    lip_trainer *trainer = NULL;
    lip_state *state = NULL;
    lip_model *m = NULL;
    lip_error err = {0};
    struct failure f = {0};
    bool kept = false, ok = false;

    if (!text) {
        reply_no_memory(rp);
    } else if (lip_model_read(text, strlen(text), false, &m, &err) || carry_state(model->state, m, keep, &state, &err) ||
               (model->recipe && recipe_make(m, model->recipe->config, &recipe, &trainer, &err))) {
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    } else {
        kept = trainer && carry_slots(model->trainer, trainer);
        if ((ok = model_redefine(model, state, recipe, trainer, kept, &f))) {
            state = NULL;
            recipe = NULL;
            trainer = NULL;
        } else {
            reply_failure(rp, &f);
        }
    }
    lip_state_free(state);
    lip_trainer_free(trainer);
    recipe_put(recipe);
    lip_model_put(m);
    free(text);
    return ok;
}

/* ---- PATCH M -------------------------------------------------------------------------------------------------- */

/* RFC 7396. */
static json_t *merge(const json_t *target, const json_t *patch)
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
            json_object_set_new(json, key, merge(json_object_get(json, key), value));
    }
    return json;
}

static bool check_patch(const json_t *body, struct reply *rp)
{
    static const char *const members[] = {"description", "tags", "k_coef_lip", "coefficient", NULL};
    const json_t *v;
    const char *word;

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
    if ((v = json_object_get(body, "coefficient"))) {
        word = json_string_value(v);
        if (word && !strcmp(word, "sound")) {
            reply_at(rp, 501, "unsupported", "/coefficient", "coefficient \"sound\" is not built in; there is \"deel_lip\"");
            return false;
        }
        if (!word || strcmp(word, "deel_lip")) {
            reply_at(rp, 400, "bad_parameter", "/coefficient", "coefficient needs \"deel_lip\" or \"sound\"");
            return false;
        }
    }
    return !(v = json_object_get(body, "k_coef_lip")) || good_k(v, "/k_coef_lip", rp);
}

/* The new k, shared among the layers as at creation. */
static bool patch_k(struct model *model, const json_t *k, struct reply *rp)
{
    json_t *definition = definition_of(lip_state_model(model->state));
    const char *class_name = json_string_value(json_object_get(definition, "class_name"));
    bool ok = false;

    if (!definition) {
        reply_no_memory(rp);
    } else if (!class_name || strcmp(class_name, "Sequential")) {
        reply_at(rp, 501, "unsupported", "/k_coef_lip", "sharing k among the layers of a %s model is not built in; PATCH its layers",
                 class_name ? class_name : "nameless");
    } else {
        json_object_set_new(json_object_get(definition, "config"), "k_coef_lip", json_real(json_number_value(k)));
        ok = redefine(model, definition, false, rp);
    }
    json_decref(definition);
    return ok;
}

static bool patch_description(struct model *model, const json_t *body, struct reply *rp)
{
    const json_t *text = json_object_get(body, "description"), *tags = json_object_get(body, "tags");
    char *description = strdup(text                        ? json_is_null(text) ? "" : json_string_value(text)
                               : model->facts.description ? model->facts.description
                                                          : "");
    json_t *merged = tags ? json_is_null(tags) ? json_object() : merge(model->facts.tags, tags) : json_deep_copy(model->facts.tags);
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
    json_t *body, *k;
    struct model *model = NULL;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (check_patch(body, rp) && (model = write_begin(ctx, rq, rp))) {
        k = json_object_get(body, "k_coef_lip");
        if ((!k || patch_k(model, k, rp)) && ((!json_object_get(body, "description") && !json_object_get(body, "tags")) ||
                                             patch_description(model, body, rp))) {
            reply_state(rp, model);
            reply_json(rp, 200, model_document(model, NULL));
        }
        write_end(model);
    }
    json_decref(body);
}

/* ---- PATCH M/layers/{l} ------------------------------------------------------------------------------------------ */

static bool patch_layer(struct model *model, const char *name, const json_t *body, struct reply *rp)
{
    const lip_model *m = lip_state_model(model->state);
    const json_t *k = json_object_get(body, "k_coef_lip"), *trainable = json_object_get(body, "trainable");
    json_t *definition = definition_of(m), *config = definition ? config_of(definition, name) : NULL;
    const lip_layer *l = lip_model_find_layer(m, name);
    bool ok = false;

    if (!definition) {
        reply_no_memory(rp);
    } else if (!config || !l) {
        reply_error(rp, 404, "unknown_layer", NULL, "model '%s' has no layer \"%.200s\"", model->name, name);
    } else if (k && (isnan(lip_layer_k(l)) || !json_object_get(config, "k_coef_lip"))) {
        reply_at(rp, 422, "bad_definition", "/k_coef_lip", "layer \"%.200s\" (%s) has no k_coef_lip", name, lip_layer_class(l));
    } else if (!k && !trainable) {
        ok = true;
    } else {
        if (k) {
            spell_out(definition, m);
            json_object_set_new(config, "k_coef_lip", json_real(json_number_value(k)));
        }
        if (trainable)
            json_object_set_new(config, "trainable", json_boolean(json_is_true(trainable)));
        ok = redefine(model, definition, k == NULL, rp);
    }
    json_decref(definition);
    return ok;
}

/* PATCH /v2/models/{m}/layers/{l}  {"k_coef_lip", "trainable"}  ->  the layer */
void handle_layer_patch(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL}, *const members[] = {"k_coef_lip", "trainable", NULL};
    struct model *model = NULL;
    struct published *now;
    json_t *body, *v;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    v = json_object_get(body, "trainable");
    if (!codec_members(rp, body, "", members)) {
        json_decref(body);
        return;
    }
    if (v && !json_is_boolean(v))
        reply_at(rp, 422, "bad_definition", "/trainable", "trainable needs true or false");
    else if ((!(v = json_object_get(body, "k_coef_lip")) || good_k(v, "/k_coef_lip", rp)) && (model = write_begin(ctx, rq, rp))) {
        if (patch_layer(model, rq->param[1], body, rp) && (now = model_now(model))) {
            reply_state(rp, model);
            reply_json(rp, 200, layer_document(now, rq->param[1]));
            published_put(now);
        }
        write_end(model);
    }
    json_decref(body);
}
