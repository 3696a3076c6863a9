#include "probe.h"

#include <math.h>
#include <onelip/random.h>
#include <stdlib.h>

#include "handlers/common.h"

/* PROBE samples of each input or output, one behind the other; NULL: out of memory. */
static float **probe_room(const lip_model *m, bool inputs)
{
    size_t n = inputs ? lip_model_inputs(m) : lip_model_outputs(m), sum = 0;
    float **all = calloc(n, sizeof *all);

    for (size_t i = 0; i < n; i++)
        sum += lip_shape_count(inputs ? lip_model_input_shape(m, i) : lip_model_output_shape(m, i));
    if (!all || !(all[0] = calloc(PROBE * sum + 1, sizeof **all))) {
        free(all);
        return NULL;
    }
    for (size_t i = 1; i < n; i++)
        all[i] = all[i - 1] + PROBE * lip_shape_count(inputs ? lip_model_input_shape(m, i - 1) : lip_model_output_shape(m, i - 1));
    return all;
}

static void probe_free(float **all)
{
    if (all)
        free(all[0]);
    free(all);
}

bool probe_change(const lip_snapshot *old, const lip_snapshot *new, double *most, double *largest, lip_error *err)
{
    const lip_model *m = lip_snapshot_model(old);
    double reach = 0;
    float **x = probe_room(m, true), **a = probe_room(m, false), **b = probe_room(m, false);
    lip_workspace *ws = thread_workspace();
    lip_random random = {.stream = lip_random_stream("condense probe")};
    bool ok = false;

    if (!x || !a || !b || !ws) {
        err->code = LIP_ENOMEM;
    } else {
        for (size_t i = 0; i < lip_model_inputs(m); i++)
            lip_random_uniform(&random, x[i], PROBE * lip_shape_count(lip_model_input_shape(m, i)));
        ok = !lip_predict_graph(old, ws, PROBE, (const float *const *)x, a, err) &&
             !lip_predict_graph(new, ws, PROBE, (const float *const *)x, b, err);
    }
    *most = 0;
    for (size_t i = 0; ok && i < lip_model_outputs(m); i++)
        for (size_t j = 0; j < PROBE * lip_shape_count(lip_model_output_shape(m, i)); j++) {
            double apart = a[i][j] == b[i][j] ? 0 : fabs((double)b[i][j] - (double)a[i][j]);

            *most = fmax(*most, isnan(apart) ? INFINITY : apart);
            reach = fmax(reach, fabs((double)a[i][j]));
        }
    if (largest)
        *largest = reach;
    probe_free(x);
    probe_free(a);
    probe_free(b);
    return ok;
}
