/* bound.h: proven bounds of what a snapshot computes.
 *
 * Every `upper` here is a theorem about the float32 numbers in the snapshot: rounding of the proof's own
 * arithmetic is counted in and results are rounded outward. It is a bound for the operator over the reals; the
 * rounding of float32 inference is `deviation`'s. A power iteration yields lower figures only.
 *
 * Proofs need a thread that rounds to nearest and keeps subnormal numbers: in another one everything here and in certify.h is
 * LIP_ENUMERIC. Of sums only their number of terms is taken for granted, not their order, nor whether products are fused into them; that
 * covers blocks, tiles and threads, not products that are saved (Winograd, Strassen) or transformed (Fourier).
 * Source: certify.md C1, C2 and C4, and the papers named below.
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
    const char *method; /* "enclosure"; convolutions and their adjoints (C2): "nu_enclosure" reshaped kernel times sqrt(nu_h nu_w),
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

/* Ways to bound a network from above; each is sound, the smallest counts (certify.md C4). Beyond the product each looks for parts of
 * the graph that it knows more about, anywhere in it, and is NAN where there is none.
 *
 * product   constants of the layers, multiplied along the graph
 * rescaled  the same with channels scaled so that the product is least: paths of dense and convolutional layers with ReLU and its
 *           like, sorting and pooling between them. A descent on the logarithms of the factors
 * lipsdp    multipliers of LipSDP by descent on their logarithms, proved by Cholesky: dense layers one behind the other and what
 *           activates them (ReLU and its like, GroupSort2, MaxMin, smooth functions)
 * liplt     sums over the norms of composed linear parts (2310.00116): the same layers, and convolutions of stride 1 one behind
 *           the other (the first of any stride) with functions of one number between them, composed frequency by frequency
 * fourier   a shape matrix for each frequency of such convolutions
 *
 * The smallest of them, but the product, is given what the others know of other parts. */
typedef enum lip_bound_method {
    LIP_PRODUCT,
    LIP_RESCALED,
    LIP_LIPSDP,
    LIP_LIPLT,
    LIP_FOURIER,
    LIP_BOUND_METHODS
} lip_bound_method;

const char *lip_bound_method_name(lip_bound_method method); /* "product", … */

/* Zeros are the defaults. */
typedef struct lip_bound_options {
    double input_norm;    /* of inputs whose rounding is bounded; <= 0: sqrt of the number of inputs */
    double max_seconds;   /* of all of it; <= 0: as long as it takes, and then the same result every time */
    unsigned methods;     /* bits 1u << LIP_RESCALED, …; 0: all. The product is always there */
    double *pairs;        /* out, or NULL: (outputs, outputs), as lip_certifier_pairs; NAN where no rule covers a layer */
    size_t n_points;      /* inputs near which to look for the lower bound, beside random ones: data of the user's */
    const float *points;  /* (n_points, inputs side by side) */
} lip_bound_options;

typedef struct lip_network_bound {
    double claimed, lower, upper; /* claimed, upper: NAN where a layer has none */
    double tightness;             /* upper / lower; NAN */
    int sound_claim;
    const char *method;                /* of upper: lip_bound_method_name, "none" */
    const char *lower_method; /* "jacobian": along the singular vector of the derivative at a point; "secant": from a search for the
                               * pair of points that stretches most; "none". The map was computed at two points for either, and
                               * rounding taken off */
    double by[LIP_BOUND_METHODS];      /* NAN: does not apply to the model, was not asked for, or had no time */
    bool complete; /* false: max_seconds ended something that could have gone on. Nothing goes on once lower and upper agree to
                    * LIP_CLAIM_TOLERANCE */
    double deviation; /* float32 rounding for inputs of norm up to input_norm (certify.md C1); NAN: unknown */
    double input_norm;
} lip_network_bound;

/* lip_interrupt: whom this thread asks, twenty times a second at most, whether its work that has max_seconds is to end as if they
 * were over. when: true ends it; NULL: nobody is asked, as in the beginning. Threads: each for itself. */
void lip_interrupt(bool (*when)(void *ctx), void *ctx);

/* lip_bound_network: all layers and the network. options: NULL for the defaults. layers: room for lip_model_layers entries; *n filled, InputLayers
 * left out. max_seconds ends everything: what it leaves out makes intervals wider, those of layers too, and never wrong.
 * Returns as lip_bound_layer. Threads: safe. */
lip_err lip_bound_network(const lip_snapshot *snapshot, const lip_bound_options *options, lip_layer_bound *layers,
                          size_t *n, lip_network_bound *network, lip_error *err);

/* What lip_tighten did to one layer. Bounds are upper ones, with per_output those of the largest single output. */
typedef struct lip_tightening {
    const char *layer; /* lives as long as the tightened state */
    double coef_before, coef_after;
    double upper_before, upper_after;
} lip_tightening;

/* lip_tighten: every layer with an effective kernel scaled so that its proven bound equals what it claims; from above, as near
 * as float32 comes. A layer that exceeded its claim shrinks, one that fell short of it grows; layers that claim nothing stay.
 *
 * tightened  a state of another definition (lip_model_with_coef) with the same variables and effective kernels computed from them
 * layers     room for lip_model_layers, or NULL; *n (NULL: not wanted) are filled
 * Returns    LIP_OK; LIP_ENONFINITE, LIP_EZERO naming the tensor; LIP_ENOMEM; LIP_ENUMERIC when no factor is found.
 * Memory     lip_state_free. Threads: as reading the state. */
lip_err lip_tighten(const lip_state *state, lip_state **tightened, lip_tightening *layers, size_t *n, lip_error *err);

/* Arithmetics that an exported model may meet: weights and activations stored so, sums of products in float32 in any
 * order (fp16 and bf16 alike; tf32 rounds the operands only). Not Winograd, Strassen or Fourier convolutions. */
typedef enum lip_format { LIP_FP32, LIP_TF32, LIP_BF16, LIP_FP16 } lip_format;

/* lip_bound_transfer: how far the outputs of such an arithmetic, side by side, may be from the real ones for inputs of
 * norm up to input_norm (<= 0: as above); rounding of the weights and of the input counted in. *deviation NAN: something
 * could overflow, or a layer's arithmetic is unknown. Returns as lip_bound_layer. Threads: safe. Source: certify.md C10. */
lip_err lip_bound_transfer(const lip_snapshot *snapshot, lip_format format, double input_norm, double *deviation,
                           lip_error *err);

/* A layer's linear part and its singular values. */
typedef struct lip_spectrum {
    const char *kind;       /* "dense", "zero_padded" (a convolution on its image), "circular", "padded" (otherwise), "pooling" */
    const char *method;     /* "svd", "lanczos", "analytic" */
    size_t inputs, outputs; /* numbers per sample; of a kernel its rows and columns */
    size_t count;           /* the smaller of the two */
    size_t largest;         /* how many are here from the top, and … */
    size_t smallest;        /* … how many from the bottom, without those: count or k of each */
    double *value;          /* largest + smallest, descending; lip_free */
    lip_interval norm;      /* the largest, proven */
} lip_spectrum;

/* lip_bound_spectrum: singular values of the effective kernel's operator as inference applies it, or with `kernel` of
 * the reshaped kernel (kh kw c, filters) or matrix itself. Floating-point results, off by about 1e-14 of the largest; of a
 * convolution too large to decompose by Lanczos steps, about 1e-8 at the top and, with many close together, a lot more at
 * the bottom. Only `norm` is proven.
 *
 * layer: as in lip_model_layer. An activation in its slot is left out. k: how many at each end; 0: all.
 * Returns  LIP_OK; LIP_ERANGE for a layer that is no linear operator; LIP_EUNSUPPORTED where k is 0 and the convolution's
 *          whole matrix is too large to decompose; LIP_ENONFINITE; LIP_ENUMERIC when LAPACK fails; LIP_ENOMEM.
 * Memory   the matrix and its copy while it runs, or about 300 images. Threads: safe. */
lip_err lip_bound_spectrum(const lip_snapshot *snapshot, size_t layer, bool kernel, size_t k, lip_spectrum *spectrum,
                           lip_error *err);

/* ---- deel-lip's tools: figures to look at, none of them a bound ------------------------------------------- */

/* lip_compute_layer_sv: the smallest and the largest singular value of a layer as inference applies it: of its linear part where it
 * has one (lip_bound_spectrum; bias and activation left out, which deel-lip's own tool counts in), 0 and 1 of ReLU, 1 and 1 of
 * sorts (times k), n and n of an Add of n tensors, the extremes of |gamma| / sqrt(variance + epsilon) of BatchNormalization. NAN
 * and NAN of all others. Unlike deel-lip's it condenses nothing.
 * Returns LIP_OK; LIP_ENONFINITE, LIP_ENUMERIC, LIP_ENOMEM. Threads: safe. Source: semantics.md 17.1. */
lip_err lip_compute_layer_sv(const lip_snapshot *snapshot, size_t layer, double *least, double *most, lip_error *err);

typedef struct lip_layer_sv {
    const lip_layer *layer;
    double least, most;
} lip_layer_sv;

/* lip_compute_model_sv: of every layer in order, those of nested models too, InputLayers left out. sv: room for
 * lip_model_layers; *n are filled. Returns as above. Threads: safe. Source: semantics.md 17.2. */
lip_err lip_compute_model_sv(const lip_snapshot *snapshot, lip_layer_sv *sv, size_t *n, lip_error *err);

/* lip_evaluate_lip_const: the largest spectral norm of the Jacobian at n points x (n, inputs side by side), inference mode: from
 * below, what the Lipschitz constant is near those points. Computed in float32, unproven; lip_network_bound has a proven lower.
 * Returns LIP_OK; LIP_ENONFINITE, LIP_ENUMERIC, LIP_ENOMEM. Memory: the Jacobian, while it runs. Threads: safe. Source: 17.3. */
lip_err lip_evaluate_lip_const(const lip_snapshot *snapshot, size_t n, const float *x, double *value, lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
