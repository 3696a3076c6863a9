/* tighten.c: factors of layers from their proven norms, in place of deel-lip's from their shapes.
 *
 * An effective kernel is its factor times something that does not depend on it, so the factor that makes the bound the claim is
 * the present one times claim / bound; what float32 rounds on the way is settled by looking again.
 */
#include <math.h>
#include <string.h>

#include <onelip/bound.h>

#include "base/base.h"
#include "model/model.h"

enum { TRIES = 8 };

/* The bound that a layer's claim is about; NAN: claims nothing, or has no kernel to scale. */
static lip_err upper_of(const lip_snapshot *snapshot, size_t layer, double *claimed, double *upper, lip_error *err)
{
    lip_layer_bound b;
    lip_err rc;

    *claimed = *upper = NAN;
    if (!lip_layer_has_effective(lip_model_layer(lip_snapshot_model(snapshot), layer)))
        return LIP_OK;
    rc = lip_bound_layer(snapshot, layer, &b, err);
    if (!rc) {
        *claimed = b.claimed;
        *upper = b.per_output ? b.output_upper : b.upper;
    }
    return rc;
}

/* The state with effective kernels computed, published. */
static lip_err computed(const lip_state *state, lip_snapshot **snapshot, lip_error *err)
{
    lip_state *copy = NULL;
    lip_err rc = lip_state_copy(state, &copy, err);

    if (!rc)
        rc = lip_state_refresh(copy, NULL, NULL, err);
    if (!rc)
        rc = lip_state_publish(copy, snapshot, err);
    lip_state_free(copy);
    return rc;
}

/* One factor changed; *m is exchanged. */
static lip_err set(lip_model **m, const char *layer, double coef, lip_error *err)
{
    lip_model *next;
    lip_err rc = lip_model_with_coef(*m, layer, coef, &next, err);

    if (!rc) {
        lip_model_put(*m);
        *m = next;
    }
    return rc;
}

/* Factors of all layers of *m from their bounds in the snapshot; *again: one was beyond its claim. */
static lip_err scale(const lip_snapshot *snapshot, lip_model **m, bool *again, lip_error *err)
{
    const lip_model *of = lip_snapshot_model(snapshot);
    lip_err rc = LIP_OK;

    *again = false;
    for (size_t i = 0; !rc && i < lip_model_layers(of); i++) {
        const lip_layer *l = lip_model_layer(of, i);
        double claimed, upper;

        rc = upper_of(snapshot, i, &claimed, &upper, err);
        /* Never nearer than rounding can tell: no change within a few units of float32 below the claim. */
        if (rc || isnan(claimed) || !(upper > 0) || !isfinite(upper) || (upper <= claimed && upper > claimed * (1 - 0x1p-20)))
            continue;
        *again = true;
        rc = set(m, lip_layer_name(l), lip_layer_coef(l) * (claimed / upper) * (1 - 0x1p-23), err);
    }
    return rc;
}

static lip_err describe(const lip_state *before, const lip_state *after, const lip_snapshot *was, const lip_snapshot *is,
                        lip_tightening *layers, size_t *n, lip_error *err)
{
    const lip_model *old = lip_state_model(before), *new = lip_state_model(after);
    lip_err rc = LIP_OK;

    *n = 0;
    for (size_t i = 0; !rc && i < lip_model_layers(old); i++) {
        lip_tightening t = {.layer = lip_layer_name(lip_model_layer(new, i)),
                            .coef_before = lip_layer_coef(lip_model_layer(old, i)),
                            .coef_after = lip_layer_coef(lip_model_layer(new, i))};
        double claimed;

        if (!(rc = upper_of(was, i, &claimed, &t.upper_before, err)) && !isnan(claimed) &&
            !(rc = upper_of(is, i, &claimed, &t.upper_after, err)))
            layers[(*n)++] = t;
    }
    return rc;
}

lip_err lip_tighten(const lip_state *state, lip_state **tightened, lip_tightening *layers, size_t *n, lip_error *err)
{
    lip_model *m = lip_model_get(lip_state_model(state));
    lip_snapshot *was = NULL, *is = NULL;
    lip_state *s = NULL;
    size_t count = 0;
    bool again = true;
    lip_err rc = lip_state_publish(state, &was, err);

    if (!rc)
        rc = computed(state, &is, err);
    for (int i = 0; !rc && again; i++) {
        if ((rc = scale(is, &m, &again, err)) || (!again && s))
            break;
        if (i == TRIES) {
            rc = lip__fail(err, LIP_ENUMERIC, "no factor was found in %d tries that makes every bound its claim", TRIES);
            break;
        }
        lip_state_free(s);
        lip_snapshot_put(is);
        s = NULL;
        is = NULL;
        if (!(rc = lip_state_move(state, m, false, &s, err)))
            rc = lip_state_publish(s, &is, err);
    }
    if (!rc && layers)
        rc = describe(state, s, was, is, layers, &count, err);
    if (n)
        *n = count;
    if (rc)
        lip_state_free(s);
    else
        *tightened = s;
    lip_snapshot_put(is);
    lip_snapshot_put(was);
    lip_model_put(m);
    return rc;
}
