/* bound.h: proven bounds of what a snapshot computes.
 *
 * Every `upper` here is a theorem about the float32 numbers in the snapshot: rounding of the proof's own
 * arithmetic is counted in and results are rounded outward. It is a bound for the operator over the reals; the
 * rounding of float32 inference is `deviation`'s. A power iteration yields lower figures only.
 */
#ifndef ONELIP_BOUND_H
#define ONELIP_BOUND_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_interval {
    double lower, upper;
} lip_interval;

/* lip_bound_matrix: the spectral norm of a (m, n) float32 row-major matrix, enclosed.
 *
 * lower <= ||a|| <= upper for the exact floats in a. sigma_min (NULL allowed): an estimate, not verified.
 * Returns  LIP_OK; LIP_ENONFINITE; LIP_ENOMEM. When LAPACK fails the enclosure is the wider
 *          [max column norm, min(||a||_F, sqrt(||a||_1 ||a||_inf))].
 * Memory   about 4 min(m,n)^2 + 2 mn doubles while it runs. Threads: safe.
 * Source   Rump, "Verified bounds for singular values, in particular for the spectral norm of a matrix and its
 *          inverse", BIT 51, 2011; certify.md C2. */
lip_err lip_bound_matrix(const float *a, size_t m, size_t n, lip_interval *norm, double *sigma_min, lip_error *err);

typedef struct lip_layer_bound {
    const lip_layer *layer;
    double claimed;                    /* NAN: claims nothing */
    bool per_output;                   /* the claim holds for each output alone */
    double lower, upper;               /* verified; upper NAN: no rule covers the layer */
    double output_lower, output_upper; /* with per_output: the largest single output's norm, enclosed; else NAN */
    int sound_claim;                   /* 1 true, 0 false, -1 undecided or nothing claimed */
    const char *method; /* "enclosure"; convolutions (C2): "nu_enclosure" reshaped kernel times sqrt(nu_h nu_w),
                         * "embedding" frequencies of a periodic one, "matrix"; "analytic"; "none" */
    double sigma_min, defect, stable_rank; /* NAN where they mean nothing; defect = ||W'W - I||_F, W / (coef k) on its
                                            * smaller side */
    lip_effective effective;
    double stored_distance;
} lip_layer_bound;

#define LIP_CLAIM_TOLERANCE 1e-5

/* lip_bound_layer: one layer of a snapshot, its activation slot's constant multiplied in. layer: as in
 * lip_model_layer, not an InputLayer. Returns LIP_OK, LIP_ENONFINITE (naming the tensor), LIP_ENOMEM. Threads: safe. */
lip_err lip_bound_layer(const lip_snapshot *snapshot, size_t layer, lip_layer_bound *bound, lip_error *err);

typedef struct lip_network_bound {
    double claimed, lower, upper; /* claimed, upper: NAN where a layer has none */
    double tightness;             /* upper / lower; NAN */
    int sound_claim;
    const char *method;       /* "product" */
    const char *lower_method; /* "jacobian" or "secant" */
    double deviation;         /* float32 rounding for inputs of norm up to input_norm (certify.md C1); NAN: unknown */
    double input_norm;
} lip_network_bound;

/* lip_bound_network: all layers and the network. layers: room for lip_model_layers entries; *n filled, InputLayers
 * left out. input_norm <= 0: sqrt of the number of inputs. Returns as lip_bound_layer. Threads: safe. */
lip_err lip_bound_network(const lip_snapshot *snapshot, double input_norm, lip_layer_bound *layers, size_t *n,
                          lip_network_bound *network, lip_error *err);

/* A layer's linear part and its singular values. */
typedef struct lip_spectrum {
    const char *kind;       /* "dense", "zero_padded" (a convolution on its image), "pooling" */
    size_t inputs, outputs; /* numbers per sample; of a kernel its rows and columns */
    size_t count;           /* the smaller of the two */
    double *value;          /* count, descending; lip_free */
    lip_interval norm;      /* the largest, proven */
} lip_spectrum;

/* lip_bound_spectrum: all singular values of the effective kernel's operator as inference applies it, or with `kernel` of
 * the reshaped kernel (kh kw c, filters) or matrix itself. Floating-point results, off by about 1e-14 of the largest; only
 * `norm` is proven.
 *
 * layer: as in lip_model_layer. An activation in its slot is left out.
 * Returns  LIP_OK; LIP_ERANGE for a layer that is no linear operator; LIP_EUNSUPPORTED where the convolution's whole matrix is
 *          too large to decompose; LIP_ENONFINITE; LIP_ENUMERIC when LAPACK fails; LIP_ENOMEM.
 * Memory   the matrix and its copy while it runs. Threads: safe. */
lip_err lip_bound_spectrum(const lip_snapshot *snapshot, size_t layer, bool kernel, lip_spectrum *spectrum, lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
