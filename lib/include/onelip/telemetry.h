/* telemetry.h: whether the constraint is real, told while a model trains.
 *
 * Every figure can be computed again from the saved weights: bounds are lip_bound_layer's, radii lip_certify's with a quick certifier.
 */
#ifndef ONELIP_TELEMETRY_H
#define ONELIP_TELEMETRY_H

#include <onelip/bound.h>
#include <onelip/train.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LIP_TELEMETRY_EPSILON (36.0 / 255)
#define LIP_TELEMETRY_PROBES  4 /* samples whose Jacobians are looked at */
#define LIP_TELEMETRY_WIDEST  64 /* outputs beyond which none is */

typedef struct lip_telemetry {
    double claimed, upper;    /* of the network, upper the product of the layers'; NAN: none */
    double provable_accuracy; /* the share of the batch that is right, and stays so within LIP_TELEMETRY_EPSILON */
    double mean_radius;       /* of the batch, wrong answers counting 0; both NAN where there is no certificate */
    double jacobian_min, jacobian_median, jacobian_max; /* singular values of the first samples' Jacobians; NAN: too wide */
    size_t n_layers;
    lip_layer_bound *layer; /* those with a kernel; lower is NAN where it would take a search */
} lip_telemetry;

/* lip_telemetry_take: of a snapshot and the batch that was trained on. Labels that are not lip_labels's leave the figures
 * of certificates NAN.
 *
 * Returns  LIP_OK; LIP_ENONFINITE naming the tensor; LIP_ENOMEM.
 * Memory   lip_telemetry_clear, on failure too. Threads: safe on distinct ws.
 * Source   certify.md C9. */
lip_err lip_telemetry_take(const lip_snapshot *snapshot, lip_workspace *ws, const lip_batch *batch, lip_telemetry *telemetry,
                           lip_error *err);
void lip_telemetry_clear(lip_telemetry *telemetry);

#ifdef __cplusplus
}
#endif
#endif
