/* checkpoint.c: named copies of the head on the shelf models/NAME/checkpoints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_private.h"

#define SHELF "checkpoints"
#define DOCUMENT "checkpoint" /* the member of state.json that M/checkpoints/{c} shows */

static bool unknown(struct model *model, const char *name, struct failure *f)
{
    return failure_set(f, 404, "unknown_checkpoint", "model '%s' has no checkpoint \"%.128s\"", model->name, name);
}

json_t *checkpoint_document(struct model *model, const char *name)
{
    json_t *state = shelf_state(model, SHELF, name), *document = json_incref(json_object_get(state, DOCUMENT));

    json_decref(state);
    return document;
}

/* The newest first; of one second, the higher revision. */
static int newest_first(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    const char *s = json_string_value(json_object_get(x, "created_at")), *t = json_string_value(json_object_get(y, "created_at"));
    json_int_t i = json_integer_value(json_object_get(x, "state_revision"));
    json_int_t j = json_integer_value(json_object_get(y, "state_revision"));
    int order = strcmp(t ? t : "", s ? s : "");

    return order ? order : (j > i) - (j < i);
}

json_t *checkpoint_list(struct model *model)
{
    json_t *names = shelf_names(model, SHELF), *list = json_array(), *one, *name;
    size_t n = json_array_size(names), have = 0, i;
    json_t **all = malloc((n + 1) * sizeof *all);

    json_array_foreach(names, i, name)
        if (all && (one = checkpoint_document(model, json_string_value(name))))
            all[have++] = one;
    if (have)
        qsort(all, have, sizeof *all, newest_first);
    for (i = 0; i < have; i++)
        json_array_append_new(list, all[i]);
    if (!all) {
        json_decref(list);
        list = NULL;
    }
    free(all);
    json_decref(names);
    return list;
}

json_t *checkpoint_make(struct model *model, const char *name, const char *job, struct failure *f)
{
    char own[40], created[TIME_MAX];
    struct image image = {0};
    struct facts facts;
    struct view view;
    json_t *document = NULL, *taken;
    size_t bytes = 0;

    pthread_mutex_lock(&model->lock);
    facts = model->facts;
    pthread_mutex_unlock(&model->lock);
    view = model_view(model, &facts);
    if (!name) {
        snprintf(own, sizeof own, "r%llu", (unsigned long long)facts.state_revision);
        name = own;
    }
    if ((taken = checkpoint_document(model, name))) {
        json_decref(taken);
        failure_set(f, 409, "already_exists", "model '%s' has a checkpoint \"%.128s\" already", model->name, name);
        return NULL;
    }
    time_text(created);
    if (image_make(model, &view, true, true, &image, f)) {
        for (int i = 0; i < PARTS; i++)
            bytes += image.size[i];
        document = json_pack("{s:s, s:I, s:I, s:I, s:s?, s:s}", "name", name, "step",
                             (json_int_t)(model->trainer ? lip_trainer_steps(model->trainer) : 0), "state_revision",
                             (json_int_t)facts.state_revision, "bytes", (json_int_t)bytes, "job", job, "created_at", created);
        if (!document || json_object_set(image.state, DOCUMENT, document))
            failure_set(f, 503, "out_of_memory", "out of memory for a checkpoint");
        else
            shelf_add(model, SHELF, name, &image, f);
    }
    image_clear(&image);
    if (f->status) {
        json_decref(document);
        document = NULL;
    }
    return document;
}

/* Whether the weights of one definition can stand in the place of the other's. */
static bool same_variables(const lip_model *a, const lip_model *b)
{
    bool same = lip_model_variables(a) == lip_model_variables(b);

    for (size_t i = 0; same && i < lip_model_variables(a); i++) {
        const lip_variable *v = lip_model_variable(a, i), *w = lip_model_variable(b, i);
        same = !strcmp(v->name, w->name) && v->shape.rank == w->shape.rank &&
               !memcmp(v->shape.dim, w->shape.dim, v->shape.rank * sizeof *v->shape.dim);
    }
    return same;
}

bool checkpoint_restore(struct model *model, const char *name, json_t **document, struct failure *f)
{
    struct model *from = model_new(model->store, model->name);
    struct recipe *recipe = NULL;
    lip_trainer *trainer = NULL;
    lip_error err = {0};
    bool kept = true, ok = false;

    if (!(*document = checkpoint_document(model, name))) {
        unknown(model, name, f);
    } else if (!from) {
        failure_set(f, 503, "out_of_memory", "out of memory for a checkpoint");
    } else if (!shelf_load(from, model, SHELF, name, f)) {
        ;
    } else if (!same_variables(lip_state_model(from->state), lip_state_model(model->state))) {
        failure_set(f, 422, "bad_weights", "checkpoint \"%.128s\" is of another definition: its variables differ from the model's",
                    name);
    } else if (!from->recipe && model->recipe &&
               recipe_make(lip_state_model(from->state), model->recipe->config, &recipe, &trainer, &err)) {
        failure_lip(f, &err);
    } else {
        if (from->recipe) {
            recipe = from->recipe;
            trainer = from->trainer;
            from->recipe = NULL;
            from->trainer = NULL;
        } else {
            kept = false;
        }
        if ((ok = model_redefine(model, from->state, recipe, trainer, kept, f))) {
            from->state = NULL;
            recipe = NULL;
            trainer = NULL;
        }
    }
    recipe_put(recipe);
    lip_trainer_free(trainer);
    model_free(from);
    if (!ok) {
        json_decref(*document);
        *document = NULL;
    }
    return ok;
}

bool checkpoint_remove(struct model *model, const char *name, struct failure *f)
{
    json_t *document = checkpoint_document(model, name);

    if (!document)
        return unknown(model, name, f);
    json_decref(document);
    return shelf_remove(model, SHELF, name, f);
}
