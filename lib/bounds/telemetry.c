/* telemetry.c: figures of C1, C2 and C5 for a model that is being trained. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/telemetry.h>

#include "bounds/pairs.h"
#include "tensor/gemm.h"

/* ---- bounds ------------------------------------------------------------------------------------------------ */

static lip_err bounds(const struct lip__map *map, lip_telemetry *t, lip_error *err)
{
    const lip_model *m = map->snapshot->model;
    double *constant = lip__alloc(m->n_values, sizeof *constant);
    size_t n, kept = 0;
    lip_err rc;

    t->layer = lip__alloc(m->n_layers, sizeof *t->layer);
    if (!constant || !t->layer) {
        lip__free(constant);
        return lip__nomem(err, m->n_layers * sizeof *t->layer);
    }
    rc = lip__map_layers(map, false, 0, t->layer, &n, err);
    if (!rc) {
        lip__map_constants(map, constant);
        t->upper = lip__map_constant(map, constant);
        for (size_t i = 0; i < n; i++)
            if (!isnan(t->layer[i].stable_rank))
                t->layer[kept++] = t->layer[i];
        t->n_layers = kept;
    }
    lip__free(constant);
    return rc;
}

/* ---- certificates ------------------------------------------------------------------------------------------- */

static lip_err certificates(const lip_certifier *c, lip_workspace *ws, const lip_batch *batch, lip_telemetry *t, lip_error *err)
{
    const lip_certify_options options = {.arithmetic = LIP_FLOAT64};
    size_t classes = lip_certifier_classes(c), n = batch->n;
    float *y = lip__alloc(n, classes * sizeof *y);
    int64_t *label = lip__alloc(n, sizeof *label);
    double *radius = lip__alloc(n, sizeof *radius), epsilon = LIP_TELEMETRY_EPSILON, sum = 0;
    lip_error why = {0};
    lip_err rc = LIP_OK;

    if (!y || !label || !radius)
        rc = lip__nomem(err, n * classes * sizeof *y);
    else if (!lip_labels(n, classes, &batch->y_shape, batch->y, label, NULL)) {
        rc = lip_certify(c, ws, &options, n, batch->inputs ? batch->inputs[0] : batch->x, label,
                         &(lip_certificates){.y = y, .radius = radius}, &why);
        if (!rc) {
            lip_provable_accuracy(n, radius, 1, &epsilon, &t->provable_accuracy);
            for (size_t i = 0; i < n; i++)
                sum += radius[i];
            t->mean_radius = sum / (double)n;
        }
        if (rc)
            rc = rc == LIP_ELABELS ? LIP_OK : lip__fail(err, rc, "%s", why.text);
    }
    lip__free(radius);
    lip__free(label);
    lip__free(y);
    return rc;
}

/* ---- Jacobians ------------------------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sample i of the batch, its inputs side by side. */
static void gather(const lip_model *m, const lip_batch *batch, size_t i, double *x)
{
    for (size_t k = 0; k < m->n_inputs; k++) {
        size_t size = m->value[k].size;
        const float *from = (batch->inputs ? batch->inputs[k] : batch->x) + i * size;

        for (size_t j = 0; j < size; j++)
            *x++ = from[j];
    }
}

static lip_err jacobians(const struct lip__map *map, const lip_batch *batch, lip_telemetry *t, lip_error *err)
{
    size_t in = lip__map_inputs(map), out = lip__map_outputs(map), few = in < out ? in : out, n = 0;
    size_t probes = batch->n < LIP_TELEMETRY_PROBES ? batch->n : LIP_TELEMETRY_PROBES;
    double *x, *j, *sigma;
    lip_err rc = LIP_OK;
    bool known = true;

    if (out > LIP_TELEMETRY_WIDEST || probes == 0)
        return LIP_OK;
    x = lip__alloc(in, sizeof *x);
    j = lip__alloc(in * out, sizeof *j);
    sigma = lip__alloc(probes * few, sizeof *sigma);
    if (!x || !j || !sigma)
        rc = lip__nomem(err, in * out * sizeof *j);
    for (size_t i = 0; !rc && known && i < probes; i++, n += few) {
        gather(map->snapshot->model, batch, i, x);
        rc = lip__map_jacobian(map, x, j, err);
        for (size_t e = 0; !rc && e < in * out; e++)
            known = known && isfinite(j[e]);
        known = !rc && known && lip__singular_values(out, in, j, sigma + n) == 0;
    }
    if (!rc && known) {
        qsort(sigma, n, sizeof *sigma, ascending);
        t->jacobian_min = sigma[0];
        t->jacobian_median = n % 2 ? sigma[n / 2] : (sigma[n / 2 - 1] + sigma[n / 2]) / 2;
        t->jacobian_max = sigma[n - 1];
    }
    lip__free(sigma);
    lip__free(j);
    lip__free(x);
    return rc;
}

/* ---- all ---------------------------------------------------------------------------------------------------------- */

lip_err lip_telemetry_take(const lip_snapshot *snapshot, lip_workspace *ws, const lip_batch *batch, lip_telemetry *t,
                           lip_error *err)
{
    lip_certifier *c = NULL;
    struct lip__map own = {0};
    const struct lip__map *map;
    lip_error why = {0};
    lip_err rc;

    *t = (lip_telemetry){.claimed = lip_model_claimed(snapshot->model),
                         .upper = NAN,
                         .provable_accuracy = NAN,
                         .mean_radius = NAN,
                         .jacobian_min = NAN,
                         .jacobian_median = NAN,
                         .jacobian_max = NAN};
    rc = lip_certifier_new(snapshot, &(lip_certifier_options){.norm = LIP_L2, .quick = true}, &c, &why);
    if (rc == LIP_EBOUND || rc == LIP_EUNSUPPORTED) /* no certificates, but layers */
        rc = lip__map_open(snapshot, 0, &own, err);
    else if (rc)
        return lip__fail(err, rc, "%s", why.text);
    map = c ? lip__certifier_map(c) : &own;
    if (!rc)
        rc = bounds(map, t, err);
    if (!rc && c && batch->n)
        rc = certificates(c, ws, batch, t, err);
    if (!rc)
        rc = jacobians(map, batch, t, err);
    lip__map_close(&own);
    lip_certifier_free(c);
    return rc;
}

void lip_telemetry_clear(lip_telemetry *t)
{
    lip__free(t->layer);
    *t = (lip_telemetry){0};
}
