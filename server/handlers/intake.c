/* intake.c: a model out of what PUT M and model repositories hold. */
#include "intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "training.h"
#include "text.h"

/* ---- what is wanted ---------------------------------------------------------------------------------------------- */

void wish_begin(struct wish *w)
{
    *w = (struct wish){0};
    if (getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed)
        w->seed = 0;
}

bool wish_coefficient(const char *word, const char *pointer, struct wish *w, struct reply *rp)
{
    if (word && !coefficient_of(word, &(lip_coefficient){0})) {
        reply_at(rp, 400, "bad_parameter", pointer, "coefficient is \"%.60s\", needs \"deel_lip\" or \"sound\"", word);
        return false;
    }
    if (word)
        w->coefficient = word;
    return true;
}

static bool wrong(struct reply *rp, const char *pointer, const char *what)
{
    reply_at(rp, 400, "bad_parameter", pointer, "%s", what);
    return false;
}

bool wish_read(const json_t *body, bool named, struct wish *w, struct reply *rp)
{
    static const char *const members[] = {"name", "definition", "coefficient", "seed", "strict", "description",
                                          "tags", "training", "config", NULL};
    const json_t *v;

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
        !wish_coefficient(json_string_value(v) ? json_string_value(v) : "not a string", "/coefficient", w, rp))
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

/* The definition with the coefficient that the request wants; *changed: it had another one. */
static lip_err read_model(const struct wish *w, const char *text, lip_model **model, bool *changed, lip_error *err)
{
    lip_model *own = NULL;
    lip_coefficient coefficient;
    lip_err rc = lip_model_read(text, strlen(text), w->strict, &own, err);

    *changed = false;
    if (rc || !coefficient_of(w->coefficient, &coefficient) || coefficient == lip_model_coefficient(own)) {
        *model = own;
        return rc;
    }
    *changed = true;
    rc = lip_model_with_coefficient(own, coefficient, model, err);
    lip_model_put(own);
    return rc;
}

/* What a draft has besides the model. */
static bool begin(const struct wish *w, struct draft *d, struct reply *rp)
{
    d->tags = w->tags ? json_deep_copy(w->tags) : json_object();
    d->description = strdup(w->description ? w->description : "");
    if (d->tags && d->description)
        return true;
    reply_no_memory(rp);
    return false;
}

bool intake_json(const struct wish *w, struct draft *d, struct reply *rp)
{
    char *text = document_text(w->definition);
    lip_model *model = NULL;
    lip_error err = {0};
    bool changed, ok = false;

    if (!text)
        reply_no_memory(rp);
    else if (begin(w, d, rp)) {
        if (read_model(w, text, &model, &changed, &err) || lip_state_new(model, w->seed, &d->state, &err) ||
            lip_state_publish(d->state, &d->snapshot, &err))
            reply_lip_error(rp, &err, ABOUT_DEFINITION, w->at);
        else
            ok = (!w->training || training_make(model, w->training, "/training", &d->recipe, &d->trainer, rp)) &&
                 (!w->config || (d->knobs = config_make(w->config, "/config", rp)));
    }
    lip_model_put(model);
    free(text);
    return ok;
}

/* The file's tensors into a new state; effective kernels of another coefficient are left out, so that they are computed. */
static lip_err fill(lip_state *state, const lip_safetensors *file, bool without_effective, lip_error *err)
{
    const lip_named *all = lip_safetensors_tensors(file);
    size_t n = lip_safetensors_count(file), kept = 0;
    lip_named *some = without_effective ? malloc((n + 1) * sizeof *some) : NULL;
    lip_err rc;

    if (!without_effective)
        return lip_state_load(state, all, n, false, NULL, NULL, err);
    if (!some) {
        err->code = LIP_ENOMEM;
        return LIP_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const char *last = strrchr(all[i].name, '/');
        if (!last || strcmp(last, "/wbar"))
            some[kept++] = all[i];
    }
    rc = lip_state_load(state, some, kept, false, NULL, NULL, err);
    free(some);
    return rc;
}

bool intake_file(const void *bytes, size_t size, const struct wish *w, struct draft *d, struct reply *rp)
{
    lip_safetensors *file = NULL;
    lip_model *model = NULL;
    const char *definition;
    lip_error err = {0};
    bool changed = false, ok = false;

    if (size >= 4 && (!memcmp(bytes, "PK\3\4", 4) || !memcmp(bytes, "\211HDF", 4)))
        reply_error(rp, 501, "unsupported", NULL, "reading .keras, .h5 and onelip files is not built in; Keras's JSON and "
                                                  "safetensors with a definition are");
    else if (lip_safetensors_read(bytes, size, &file, &err))
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    else if (!(definition = lip_safetensors_metadata(file, "definition")))
        reply_error(rp, 422, "bad_file", NULL, "the file's metadata have no \"definition\", Keras's JSON of the model");
    else if (read_model(w, definition, &model, &changed, &err) || lip_state_new(model, w->seed, &d->state, &err))
        reply_lip_error(rp, &err, ABOUT_DEFINITION, NULL);
    else if (fill(d->state, file, changed, &err) || lip_state_publish(d->state, &d->snapshot, &err))
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    else
        ok = begin(w, d, rp);
    lip_model_put(model);
    lip_safetensors_free(file);
    return ok;
}

bool intake_is_file(const void *bytes, size_t size)
{
    const unsigned char *b = bytes;
    uint64_t header = 0;

    if (size >= 4 && (!memcmp(b, "PK\3\4", 4) || !memcmp(b, "\211HDF", 4)))
        return true;
    for (size_t i = 8; size > 8 && i-- > 0;)
        header = header << 8 | b[i];
    return size > 8 && b[8] == '{' && header <= size - 8; /* as JSON the first eight bytes would be a length beyond any file */
}

bool intake_any(const void *bytes, size_t size, struct draft *d, struct reply *rp)
{
    json_error_t error;
    struct wish w;
    json_t *body;
    bool ok;

    wish_begin(&w);
    if (intake_is_file(bytes, size))
        return intake_file(bytes, size, &w, d, rp);
    if (!(body = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error)) || !json_is_object(body)) {
        reply_error(rp, 422, "bad_file", NULL, body ? "it is JSON, but no object" : "it is neither a file of a known kind nor JSON: %s",
                    error.text);
        json_decref(body);
        return false;
    }
    ok = wish_read(body, false, &w, rp) && intake_json(&w, d, rp);
    json_decref(body);
    return ok;
}
