/* recipe.c: the training resource as an immutable object, and its trainer. */
#include <stdlib.h>
#include <string.h>

#include "store_private.h"
#include "text.h"

static lip_err nomem(lip_error *err)
{
    err->code = LIP_ENOMEM;
    return LIP_ENOMEM;
}

static lip_err trainer(const lip_model *model, json_t *what, lip_trainer **made, lip_error *err)
{
    char *text = document_text(what);
    lip_err rc = text ? lip_trainer_new(model, text, strlen(text), made, err) : nomem(err);

    free(text);
    json_decref(what);
    return rc;
}

static bool is(const json_t *config, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(config, key));
    return text && !strcmp(text, value);
}

lip_err recipe_make(const lip_model *model, const json_t *config, struct recipe **recipe, lip_trainer **made,
                    lip_error *err)
{
    struct recipe *r = calloc(1, sizeof *r);
    json_t *optimizer = json_object_get(config, "optimizer"), *loss = json_object_get(config, "loss");
    json_t *metrics = json_object_get(config, "metrics"), *weights = json_object_get(config, "loss_weights"), *canonical = NULL;
    json_t *callbacks = json_object_get(config, "callbacks");
    lip_trainer *t = NULL;
    lip_err rc = LIP_OK;
    char *text = NULL;

    if (!r)
        return nomem(err);
    atomic_init(&r->refs, 1);
    if ((rc = trainer(model, json_pack("{s:O?, s:O?, s:O?, s:O?, s:O?}", "optimizer", optimizer, "loss", loss, "loss_weights", weights,
                                       "metrics", metrics, "callbacks", callbacks),
                      &t, err)) ||
        /* A judge steps nothing: an optimizer without slots keeps it small. */
        (rc = trainer(model, json_pack("{s:s, s:O?, s:O?, s:O?}", "optimizer", "sgd", "loss", loss, "loss_weights", weights, "metrics",
                                       metrics),
                      &r->judge, err)))
        goto done;
    if (!(text = lip_trainer_config(t)) || !(canonical = json_loads(text, 0, NULL)) ||
        !(r->config = json_deep_copy(config)) || json_object_update(r->config, canonical)) {
        rc = nomem(err);
        goto done;
    }
    r->publish_step = is(config, "publish", "step");
    r->publish_epoch = is(config, "publish", "epoch");
    r->publish_job = is(config, "publish", "job");
    r->lagging = is(config, "kernels", "deel_lip");
    r->skip_nonfinite = is(config, "on_nonfinite", "skip");
    r->sync = is(config, "durability", "sync");
    r->telemetry_every = (uint64_t)json_integer_value(json_object_get(config, "telemetry_every"));
    r->model = lip_model_get(model);
    *recipe = r;
    *made = t;
    r = NULL;
    t = NULL;
done:
    lip_free(text);
    json_decref(canonical);
    lip_trainer_free(t);
    recipe_put(r);
    return rc;
}

lip_err recipe_twin(const struct recipe *recipe, const lip_trainer *trainer, struct recipe **twin, lip_error *err)
{
    lip_trainer *unused = NULL;
    lip_err rc = recipe_make(recipe->model, recipe->config, twin, &unused, err);

    if (!rc && trainer)
        lip_trainer_follow((*twin)->judge, trainer);
    lip_trainer_free(unused);
    return rc;
}

void recipe_put(struct recipe *recipe)
{
    if (!recipe || atomic_fetch_sub(&recipe->refs, 1) != 1)
        return;
    lip_trainer_free(recipe->judge);
    lip_model_put(recipe->model);
    json_decref(recipe->config);
    free(recipe);
}
