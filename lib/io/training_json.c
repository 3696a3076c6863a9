/* training_json.c: what a training run is made of, to and from Keras's JSON. */
#include "io/json_text.h"
#include "io/keras_json.h"

#include <math.h>
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
    *rc =
        lip__fail_at(err, LIP_EDEFINITION, pointer, "%s is missing, needs a name or {\"class_name\", \"config\"}", key);
    return NULL;
}

/* ---- losses ------------------------------------------------------------------------------------------- */

/* An object that is neither {"class_name", …} nor empty holds one entry for each output. */
static bool by_output(const json_t *v)
{
    return json_is_object(v) && !json_object_get(v, "class_name");
}

static size_t find_output(const lip_model *m, const char *name)
{
    size_t i = 0;

    while (i < m->n_outputs && strcmp(m->output_name[i], name))
        i++;
    return i;
}

static lip_err unknown_output(const lip_model *m, const char *name, const char *what, lip_error *err)
{
    char pointer[160], list[300] = "";

    for (size_t i = 0; i < m->n_outputs && strlen(list) < 200; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.60s", i ? ", " : "", m->output_name[i]);
    snprintf(pointer, sizeof pointer, "/%s/%.120s", what, name);
    return lip__fail_at(err, LIP_EOPTION, pointer, "%s: the model has no output \"%.60s\"; it has %s", what, name,
                        list);
}

static lip_err read_losses(const json_t *v, struct lip__judge *j, lip_error *err)
{
    const lip_model *m = j->model;
    const char *key;
    char pointer[160];
    json_t *one;
    lip_err rc = LIP_OK;

    for (size_t i = 0; i < m->n_outputs; i++)
        j->head[i].weight = 1;
    if (json_is_array(v)) {
        if (json_array_size(v) != m->n_outputs)
            return lip__fail_at(err, LIP_EDEFINITION, "/loss", "loss has %zu entries, the model %zu outputs",
                                json_array_size(v), m->n_outputs);
        for (size_t i = 0; rc == LIP_OK && i < m->n_outputs; i++) {
            snprintf(pointer, sizeof pointer, "/loss/%zu", i);
            one = json_array_get(v, i);
            if (!json_is_null(one))
                rc = lip__object_read(one, lip__losses, "loss", false, pointer, &j->head[i].loss, err);
        }
        return rc;
    }
    if (!by_output(v)) { /* the same for every output, as in Keras */
        for (size_t i = 0; rc == LIP_OK && i < m->n_outputs; i++)
            rc = lip__object_read(v, lip__losses, "loss", false, "/loss", &j->head[i].loss, err);
        return rc;
    }
    json_object_foreach((json_t *)v, key, one)
    {
        size_t i = find_output(m, key);
        if (i == m->n_outputs)
            return unknown_output(m, key, "loss", err);
        snprintf(pointer, sizeof pointer, "/loss/%.120s", key);
        if (!json_is_null(one) &&
            (rc = lip__object_read(one, lip__losses, "loss", false, pointer, &j->head[i].loss, err)) != LIP_OK)
            return rc;
    }
    for (size_t i = 0; i < m->n_outputs; i++)
        if (j->head[i].loss)
            return LIP_OK;
    return lip__fail_at(err, LIP_EDEFINITION, "/loss", "loss names no output");
}

static lip_err set_weight(struct lip__head *h, const json_t *v, const char *pointer, lip_error *err)
{
    if (!json_is_number(v) || !(fabs(json_number_value(v)) <= 1e30))
        return lip__fail_at(err, LIP_EDEFINITION, pointer, "a loss's weight needs to be a number");
    h->weight = json_number_value(v);
    return LIP_OK;
}

static lip_err read_weights(const json_t *v, struct lip__judge *j, lip_error *err)
{
    const lip_model *m = j->model;
    const char *key;
    char pointer[160];
    json_t *one;
    lip_err rc = LIP_OK;

    if (!v || json_is_null(v))
        return LIP_OK;
    if (!json_is_object(v) && !(json_is_array(v) && json_array_size(v) == m->n_outputs))
        return lip__fail_at(err, LIP_EDEFINITION, "/loss_weights",
                            "loss_weights needs an object of numbers by output, or a list of one for each");
    for (size_t i = 0; rc == LIP_OK && i < json_array_size(v); i++) {
        snprintf(pointer, sizeof pointer, "/loss_weights/%zu", i);
        rc = set_weight(&j->head[i], json_array_get(v, i), pointer, err);
    }
    json_object_foreach((json_t *)v, key, one)
    {
        size_t i = find_output(m, key);
        if (i == m->n_outputs)
            return unknown_output(m, key, "loss_weights", err);
        snprintf(pointer, sizeof pointer, "/loss_weights/%.120s", key);
        if ((rc = set_weight(&j->head[i], one, pointer, err)) != LIP_OK)
            return rc;
    }
    return rc;
}

/* ---- metrics ------------------------------------------------------------------------------------------ */

/* The key under which a metric is told: its string, or its `name`; of several outputs the output's name comes first. */
static char *metric_name(const struct lip__judge *j, const json_t *v, const struct lip__told *told)
{
    const json_t *name = json_object_get(json_object_get(v, "config"), "name");
    const char *text = json_is_string(v)      ? json_string_value(v)
                       : json_is_string(name) ? json_string_value(name)
                                              : told->metric->cls->name;
    const char *output = j->model->n_outputs > 1 ? j->model->output_name[told->head] : "";
    size_t size = strlen(output) + strlen(text) + 2;
    char *key = lip__alloc(size, 1);

    if (key)
        snprintf(key, size, "%s%s%s", output, *output ? "_" : "", text);
    return key;
}

static lip_err read_metric(const json_t *v, struct lip__judge *j, size_t head, const char *pointer, lip_error *err)
{
    struct lip__told *told = &j->metric[j->n_metrics];
    lip_err rc;

    if (j->n_metrics == LIP_MAX_METRICS)
        return lip__fail_at(err, LIP_EDEFINITION, "/metrics", "metrics needs at most %d entries", LIP_MAX_METRICS - 1);
    if ((rc = lip__object_read(v, lip__metrics, "metric", false, pointer, &told->metric, err)) != LIP_OK)
        return rc;
    told->head = head;
    j->n_metrics++;
    told->name = metric_name(j, v, told);
    return told->name ? LIP_OK : lip__nomem(err, 0);
}

/* A list for each output that has a loss, or lists by output. */
static lip_err read_metrics(const json_t *v, struct lip__judge *j, lip_error *err)
{
    const lip_model *m = j->model;
    const char *key;
    char pointer[160];
    json_t *list, *one;
    size_t i;
    lip_err rc = LIP_OK;

    if (!v || json_is_null(v))
        return LIP_OK;
    if (json_is_array(v)) {
        for (size_t h = 0; h < m->n_outputs; h++)
            json_array_foreach((json_t *)v, i, one)
            {
                snprintf(pointer, sizeof pointer, "/metrics/%zu", i);
                if (j->head[h].loss && (rc = read_metric(one, j, h, pointer, err)) != LIP_OK)
                    return rc;
            }
        return LIP_OK;
    }
    if (!json_is_object(v))
        return lip__fail_at(err, LIP_EDEFINITION, "/metrics", "metrics needs a list, or lists by output");
    json_object_foreach((json_t *)v, key, list)
    {
        size_t h = find_output(m, key);
        snprintf(pointer, sizeof pointer, "/metrics/%.120s", key);
        if (h == m->n_outputs)
            return unknown_output(m, key, "metrics", err);
        if (!j->head[h].loss)
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "output \"%.100s\" has no loss and so no labels", key);
        if (!json_is_array(list))
            return lip__fail_at(err, LIP_EDEFINITION, pointer, "the metrics of one output are a list");
        json_array_foreach(list, i, one)
        {
            snprintf(pointer, sizeof pointer, "/metrics/%.100s/%zu", key, i);
            if ((rc = read_metric(one, j, h, pointer, err)) != LIP_OK)
                return rc;
        }
    }
    return rc;
}

static lip_err read_callbacks(const json_t *v, struct lip__object **callbacks, size_t *n, lip_error *err)
{
    char pointer[64];
    json_t *one;
    size_t i;
    lip_err rc;

    if (!v || json_is_null(v))
        return LIP_OK;
    if (!json_is_array(v) || json_array_size(v) > LIP_MAX_CALLBACKS)
        return lip__fail_at(err, LIP_EDEFINITION, "/callbacks", "callbacks needs a list of at most %d",
                            LIP_MAX_CALLBACKS);
    json_array_foreach((json_t *)v, i, one)
    {
        snprintf(pointer, sizeof pointer, "/callbacks/%zu", i);
        if ((rc = lip__object_read(one, lip__callbacks, "callback", false, pointer, &callbacks[i], err)) != LIP_OK)
            return rc;
        *n = i + 1;
    }
    return LIP_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

static lip_err read_all(const json_t *root, struct lip__object **optimizer, struct lip__judge *judge,
                        struct lip__object **callbacks, size_t *n, lip_error *err)
{
    const json_t *v;
    lip_err rc = LIP_OK;

    if ((v = wanted(root, "optimizer", &rc, err)))
        rc = lip__object_read(v, lip__optimizers, "optimizer", true, "/optimizer", optimizer, err);
    if (rc == LIP_OK && (v = wanted(root, "loss", &rc, err)))
        rc = read_losses(v, judge, err);
    if (rc == LIP_OK)
        rc = read_weights(json_object_get(root, "loss_weights"), judge, err);
    if (rc == LIP_OK)
        rc = read_metrics(json_object_get(root, "metrics"), judge, err);
    if (rc == LIP_OK)
        rc = read_callbacks(json_object_get(root, "callbacks"), callbacks, n, err);
    return rc;
}

lip_err lip_trainer_new(const lip_model *model, const char *json, size_t bytes, lip_trainer **trainer, lip_error *err)
{
    struct lip__object *optimizer = NULL, *callbacks[LIP_MAX_CALLBACKS] = {NULL};
    struct lip__judge judge = {0};
    size_t n = 0;
    json_error_t why;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why);
    lip_err rc = LIP_OK;

    if (!json_is_object(root)) {
        rc = root ? lip__fail(err, LIP_EDEFINITION, "training needs an object")
                  : lip__fail(err, LIP_EJSON, "line %d, column %d: %.200s", why.line, why.column, why.text);
        json_decref(root);
        return rc;
    }
    rc = lip__judge_new(&judge, model, err);
    if (rc == LIP_OK)
        rc = read_all(root, &optimizer, &judge, callbacks, &n, err);
    json_decref(root);
    if (rc == LIP_OK)
        return lip__trainer_make(model, optimizer, &judge, callbacks, n, trainer, err);
    for (size_t i = 0; i < n; i++)
        lip__object_free(callbacks[i]);
    lip__judge_clear(&judge);
    lip__object_free(optimizer);
    return rc;
}

/* {"class_name", "config"}: neither module nor registered_name help a reader of this resource. */
static json_t *plain(const struct lip__object *object)
{
    return lip__object_write(object, true);
}

/* One loss, or, of several outputs, those that there are by output. */
static json_t *write_losses(const struct lip__judge *j)
{
    json_t *losses;

    if (j->model->n_outputs == 1)
        return plain(j->head[0].loss);
    losses = json_object();
    for (size_t i = 0; i < j->model->n_outputs; i++)
        if (j->head[i].loss)
            lip__json_set(losses, j->model->output_name[i], plain(j->head[i].loss));
    return losses;
}

/* Null where every weight is 1. */
static json_t *write_weights(const struct lip__judge *j)
{
    json_t *weights = json_object();
    bool all = true;

    for (size_t i = 0; i < j->model->n_outputs; i++)
        if (j->head[i].loss) {
            lip__json_set(weights, j->model->output_name[i], json_real(j->head[i].weight));
            all &= j->head[i].weight == 1;
        }
    if (!all)
        return weights;
    json_decref(weights);
    return json_null();
}

/* A metric of which nothing but the name was said is that name again. */
static json_t *write_metric(const struct lip__told *told, const char *name)
{
    struct lip__object *fresh = lip__object_new(told->metric->cls);
    json_t *is = plain(told->metric), *would = fresh ? plain(fresh) : NULL, *all = NULL;

    lip__object_free(fresh);
    if (json_equal(is, would))
        all = json_string(name);
    json_decref(would);
    if (!all)
        return is;
    json_decref(is);
    return all;
}

static json_t *write_metrics(const struct lip__judge *j)
{
    bool one = j->model->n_outputs == 1;
    json_t *metrics = one ? json_array() : json_object();

    for (size_t i = 0; i < j->n_metrics; i++) {
        const struct lip__told *told = &j->metric[i];
        const char *output = j->model->output_name[told->head];
        json_t *list = one ? metrics : json_object_get(metrics, output);

        if (!list) {
            lip__json_set(metrics, output, json_array());
            list = json_object_get(metrics, output);
        }
        lip__json_add(list, write_metric(told, told->name + (one ? 0 : strlen(output) + 1)));
    }
    return metrics;
}

char *lip_trainer_config(const lip_trainer *t)
{
    json_t *callbacks = json_array();

    for (size_t i = 0; i < t->n_callbacks; i++)
        lip__json_add(callbacks, plain(t->callback[i]));
    json_t *root = json_pack("{s:o, s:o, s:o, s:o, s:o}", "optimizer", plain(t->optimizer), "loss",
                             write_losses(&t->judge), "loss_weights", write_weights(&t->judge), "metrics",
                             write_metrics(&t->judge), "callbacks", callbacks);
    return lip__json_done(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
}
