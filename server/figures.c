#include "figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/common.h"

void figures_add(struct figures *f, const lip_metric *metrics, size_t n, size_t samples)
{
    for (size_t i = 0; i < n; i++) {
        if (i >= f->n) {
            snprintf(f->name[i], sizeof f->name[i], "%s", metrics[i].name);
            f->sum[i] = 0;
            f->n = i + 1;
        }
        f->sum[i] += metrics[i].value * (double)samples;
    }
    f->weight += (double)samples;
}

double figures_mean(const struct figures *f, size_t i)
{
    return f->weight > 0 ? f->sum[i] / f->weight : NAN;
}

bool figures_into(const struct figures *f, const char *prefix, json_t *object)
{
    char name[ARRAY_NAME_MAX + 32];

    for (size_t i = 0; i < f->n; i++) {
        snprintf(name, sizeof name, "%.20s%s", prefix, f->name[i]);
        if (json_object_set_new(object, name, codec_real(figures_mean(f, i))))
            return false;
    }
    return true;
}

json_t *figures_json(const struct figures *f)
{
    json_t *json = json_pack("{s:f, s:[]}", "weight", f->weight, "sums"), *sums = json_object_get(json, "sums");

    for (size_t i = 0; json && i < f->n; i++)
        if (json_array_append_new(sums, json_pack("[s, o]", f->name[i], codec_real(f->sum[i])))) {
            json_decref(json);
            return NULL;
        }
    return json;
}

static double real_of(const json_t *v)
{
    const char *text = json_string_value(v);

    return !text ? json_number_value(v) : !strcmp(text, "NaN") ? NAN : *text == '-' ? -INFINITY : INFINITY;
}

void figures_read(struct figures *f, const json_t *json)
{
    const json_t *sums = json_object_get(json, "sums"), *one;
    size_t i;

    *f = (struct figures){.weight = json_number_value(json_object_get(json, "weight"))};
    json_array_foreach(sums, i, one) {
        const char *name = json_string_value(json_array_get(one, 0));
        if (!name || f->n == LIP_MAX_METRICS)
            continue;
        snprintf(f->name[f->n], sizeof f->name[f->n], "%s", name);
        f->sum[f->n++] = real_of(json_array_get(one, 1));
    }
}

bool failure_step(struct failure *f, const lip_error *err)
{
    static const struct {
        lip_err err;
        int status;
        const char *code;
    } known[] = {{LIP_ELABELS, 422, "bad_labels"},     {LIP_ENONFINITE, 422, "nonfinite"}, {LIP_ESHAPE, 400, "shape_mismatch"},
                 {LIP_EZERO, 422, "zero_kernel"},      {LIP_EBOUND, 422, "no_bound"},      {LIP_EUNSUPPORTED, 501, "unsupported"},
                 {LIP_ENUMERIC, 422, "nonfinite"}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].err == err->code)
            return failure_set(f, known[i].status, known[i].code, "%s", err->text);
    return failure_lip(f, err);
}

bool figures_judge(struct figures *f, const lip_trainer *judge, const lip_snapshot *snapshot, struct batches *b, size_t first,
                   size_t count, bool (*wanted)(void *ctx), void *ctx, struct failure *failure)
{
    lip_workspace *ws = thread_workspace();
    size_t *rows = malloc((b->largest + 1) * sizeof *rows), n_metrics;
    lip_metric metrics[LIP_MAX_METRICS];
    lip_certifier *certifier = NULL;
    lip_error err = {0};
    lip_batch batch;
    bool ok = true;

    if (!ws || !rows)
        ok = failure_set(failure, 503, "out_of_memory", "out of memory for a batch");
    else if (lip_trainer_needs_pairs(judge) && lip_certifier_new(snapshot, NULL, &certifier, &err))
        ok = failure_step(failure, &err);
    for (size_t at = 0, n; ok && at < count; at += n) {
        n = count - at < b->largest ? count - at : b->largest;
        for (size_t i = 0; i < n; i++)
            rows[i] = first + at + i;
        if (!wanted(ctx)) {
            ok = false;
        } else if ((ok = batches_read(b, rows, n, &batch, failure))) {
            if (certifier)
                batch.pairs = lip_certifier_pairs(certifier);
            if (lip_evaluate(judge, snapshot, ws, &batch, metrics, &n_metrics, &err))
                ok = failure_step(failure, &err);
            else
                figures_add(f, metrics, n_metrics, n);
        }
    }
    lip_certifier_free(certifier);
    free(rows);
    return ok;
}
