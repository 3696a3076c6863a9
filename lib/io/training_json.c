/* training_json.c: what a training run is made of, to and from Keras's JSON. */
#include "io/keras_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/train.h"

static const json_t *wanted(const json_t *root, const char *key, lip_err *rc, lip_error *err)
{
    const json_t *v = json_object_get(root, key);
    char pointer[32];

    if (v && !json_is_null(v))
        return v;
    snprintf(pointer, sizeof pointer, "/%s", key);
    *rc = lip__fail_at(err, LIP_EDEFINITION, pointer, "%s is missing, needs a name or {\"class_name\", \"config\"}", key);
    return NULL;
}

/* The key under which a metric is told: its string, or its `name`. */
static char *metric_name(const json_t *v, const struct lip__object *metric)
{
    const json_t *name = json_object_get(json_object_get(v, "config"), "name");

    return lip__strdup(json_is_string(v) ? json_string_value(v) : json_is_string(name) ? json_string_value(name) : metric->cls->name);
}

static lip_err read_metrics(const json_t *list, struct lip__object **metrics, char **names, size_t *n, lip_error *err)
{
    size_t i;
    json_t *v;
    lip_err rc;

    if (!list || json_is_null(list))
        return LIP_OK;
    if (!json_is_array(list) || json_array_size(list) > LIP_MAX_METRICS - 1)
        return lip__fail_at(err, LIP_EDEFINITION, "/metrics", "metrics needs a list of at most %d", LIP_MAX_METRICS - 1);
    json_array_foreach((json_t *)list, i, v)
    {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/metrics/%zu", i);
        if ((rc = lip__object_read(v, lip__metrics, "metric", false, pointer, &metrics[i], err)) != LIP_OK)
            return rc;
        names[i] = metric_name(v, metrics[i]);
        *n = i + 1;
        if (!names[i])
            return lip__nomem(err, 0);
    }
    return LIP_OK;
}

lip_err lip_trainer_new(const lip_model *model, const char *json, size_t bytes, lip_trainer **trainer, lip_error *err)
{
    struct lip__object *optimizer = NULL, *loss = NULL, *metrics[LIP_MAX_METRICS] = {NULL};
    char *names[LIP_MAX_METRICS] = {NULL};
    size_t n = 0;
    json_error_t why;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why);
    const json_t *v;
    lip_err rc = LIP_OK;

    if (!json_is_object(root)) {
        rc = root ? lip__fail(err, LIP_EDEFINITION, "training needs an object")
                  : lip__fail(err, LIP_EJSON, "line %d, column %d: %.200s", why.line, why.column, why.text);
        json_decref(root);
        return rc;
    }
    if ((v = wanted(root, "optimizer", &rc, err)))
        rc = lip__object_read(v, lip__optimizers, "optimizer", true, "/optimizer", &optimizer, err);
    if (rc == LIP_OK && (v = wanted(root, "loss", &rc, err)))
        rc = lip__object_read(v, lip__losses, "loss", false, "/loss", &loss, err);
    if (rc == LIP_OK)
        rc = read_metrics(json_object_get(root, "metrics"), metrics, names, &n, err);
    json_decref(root);
    if (rc == LIP_OK)
        return lip__trainer_make(model, optimizer, loss, metrics, names, n, trainer, err);
    for (size_t i = 0; i < LIP_MAX_METRICS; i++) {
        lip__object_free(metrics[i]);
        lip__free(names[i]);
    }
    lip__object_free(loss);
    lip__object_free(optimizer);
    return rc;
}

/* {"class_name", "config"}: neither module nor registered_name help a reader of this resource. */
static json_t *plain(const struct lip__object *object)
{
    return lip__object_write(object, true);
}

char *lip_trainer_config(const lip_trainer *t)
{
    json_t *metrics = json_array();

    for (size_t i = 0; i < t->n_metrics; i++) {
        const char *name = t->metric_name[i];
        bool identifier = !strcmp(name, t->metric[i]->cls->name);
        json_array_append_new(metrics, identifier ? json_string(name) : plain(t->metric[i]));
    }
    json_t *root = json_pack("{s:o, s:o, s:o}", "optimizer", plain(t->optimizer), "loss", plain(t->loss), "metrics", metrics);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL, *copy = text ? lip__strdup(text) : NULL;

    free(text);
    json_decref(root);
    return copy;
}
