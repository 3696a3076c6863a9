/* norm.h: make one matrix 1-Lipschitz, and the exact gradient of doing so.
 *
 * Matrices are row-major (m, n) float32 that the caller owns. A convolution kernel (kh, kw, cin, f) is
 * the matrix (kh*kw*cin, f). Formulas and the order of the float32 products are deel-lip's: semantics.md
 * calls them 1.2 to 1.7.
 */
#ifndef ONELIP_NORM_H
#define ONELIP_NORM_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How hard to orthogonalise. eps_bjorck <= 0 or NAN stands for deel-lip's None: no Bjorck iteration. */
typedef struct lip_rko_options {
    double eps_spectral;  /* > 0: stop the power iteration below this change of u; also added to sigma */
    double eps_bjorck;    /* stop Bjorck below this Frobenius change; <= 0 or NAN: skip Bjorck */
    double beta_bjorck;   /* 0 < beta <= 0.5; NAN: skip Bjorck */
    long maxiter_spectral; /* <= 0: none */
    long maxiter_bjorck;   /* <= 0: none */
} lip_rko_options;

#define LIP_RKO_DEFAULTS ((lip_rko_options){1e-3, 1e-3, 0.5, 10, 15})

/* What happened. */
typedef struct lip_rko_info {
    int power_iterations;
    int bjorck_iterations; /* that ran, or that the result stands for: form "polynomial" estimates them, to within one */
    double sigma;      /* ||u W'||, without eps */
    double residual;   /* ||W_J - W_(J-1)||_F of the last Bjorck step (form "polynomial": estimated); 0 when none ran */
    bool redrawn;      /* u had collapsed and was drawn anew (D09) */
    bool rescaled;     /* u had missed the dominant direction so far that Bjorck would have diverged; u was turned (D08) */
    const char *form;  /* how the loop was computed: "plain", "polynomial", "rational" or "eigen" */
} lip_rko_info;

/* lip_rko_scratch: floats of scratch that lip_rko needs for (m, n) and these options; with `keep` also
 * what lip_rko_backward reads back. Threads: safe. */
size_t lip_rko_scratch(size_t m, size_t n, const lip_rko_options *o, bool keep);

/* lip_rko: reshaped kernel orthogonalisation.
 *
 *     u, sigma <- power iteration of w from u;  W0 = w / (sigma + eps_spectral)
 *     W_(j+1) = (1 + beta) W_j - beta W_j W_j' W_j;   wbar = coef W_J
 *
 * w       (m, n)   the raw kernel, finite
 * coef             the factor L*k
 * u       (n)      in: where the power iteration starts; u_new (n) out: where it ended. May be the same array.
 * wbar    (m, n)   out; not w
 * scratch          lip_rko_scratch floats. With keep it holds the iterates for lip_rko_backward until
 *                  the caller reuses it.
 * info             out, may be NULL
 *
 * Guards: |u| < 0.5 after normalisation is normalised without deel-lip's floor, or drawn from a fixed generator where it
 * has no direction; where W0's norm exceeds sqrt(3), as Lanczos steps see it, the power iteration starts again from the
 * dominant direction. Where neither applies the result is deel-lip's. Large kernels at beta 1/2 use forms of the loop on
 * the Gram matrix: wbar to 1e-6, the gradient to 3e-6 of its norm.
 * A zero kernel gives wbar = 0, as deel-lip; callers that cannot use one refuse it.
 * Returns  LIP_OK; LIP_ENONFINITE when w is not finite; LIP_ERANGE on options; LIP_ENUMERIC when float32 overflows.
 * Memory   none but scratch. Threads: safe on distinct outputs.
 * Source   deel-lip; Bjorck and Bowie 1971; Anil, Lucas and Grosse, ICML 2019.
 */
lip_err lip_rko(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u,
                float *u_new, float *wbar, float *scratch, bool keep, lip_rko_info *info, lip_error *err);

/* lip_rko_backward: dL/dw from dL/dwbar through every iteration that ran, u held constant (1.7).
 *
 * g (m, n) = dL/dwbar; dw (m, n) out, may be g itself. scratch: the array that lip_rko filled with keep,
 * for the same w, options and coef; info: what lip_rko said.
 * Returns LIP_OK; LIP_ENOMEM. Threads: safe on distinct scratch. */
lip_err lip_rko_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o,
                         const lip_rko_info *info, const float *u_new, const float *g, float *dw, float *scratch,
                         lip_error *err);

/* lip_rko_backward_through: the same with u not held constant: the gradient also goes back through every step of the power
 * iteration, as in deel-lip with STOP_GRAD_SPECTRAL false. u (n): where the iteration had started; where lip_rko had to start
 * again (info redrawn, rescaled) u counts as constant all the same.
 * Returns LIP_OK or LIP_ENOMEM. Memory: (power iterations + 2) n + 2 m floats while it runs. Threads: safe. */
lip_err lip_rko_backward_through(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o,
                                 const lip_rko_info *info, const float *u, const float *u_new, const float *g, float *dw,
                                 float *scratch, lip_error *err);

/* ---- its parts, one by one ------------------------------------------------------------------------------- */

/* A linear map and its adjoint, as functions; neither may change what it reads. */
typedef struct lip_linear {
    size_t inputs, outputs;
    void (*apply)(void *ctx, const float *x, float *y);   /* y (outputs) <- A x (inputs) */
    void (*adjoint)(void *ctx, const float *y, float *x); /* x <- A* y: the true adjoint, or sigma means nothing */
    void *ctx;
} lip_linear;

typedef struct lip_power_info {
    int iterations;
    double sigma;  /* |A u|: from below, how much of the norm u has found; without eps */
    bool redrawn;  /* u had no direction or was shorter than deel-lip's floor; see lip_rko */
} lip_power_info;

/* lip_power_iteration: u <- A*A u / |A*A u| until it changes by less than eps, maxiter times at most (1.3).
 *
 * u        (inputs)  in: where to start, 0: a fixed vector; out: where it ended, of length 1
 * scratch            lip_power_iteration_scratch floats
 * info               out, may be NULL
 *
 * Returns  LIP_OK; LIP_ERANGE for eps; LIP_ENONFINITE when a product is not finite. Memory: scratch. Threads: as the map's. */
lip_err lip_power_iteration(const lip_linear *a, double eps, long maxiter, float *u, float *scratch, lip_power_info *info,
                            lip_error *err);
size_t lip_power_iteration_scratch(const lip_linear *a);

/* lip_spectral_normalization: wbar = w / (sigma + eps), sigma from a power iteration from u (1.4). w, wbar (m, n), which may be
 * one array; u (n) in and out. scratch: lip_spectral_normalization_scratch floats. Returns as lip_power_iteration.
 * Memory: scratch. Threads: safe on distinct u, wbar and scratch. */
lip_err lip_spectral_normalization(const float *w, size_t m, size_t n, double eps, long maxiter, float *u, float *wbar,
                                   float *scratch, lip_power_info *info, lip_error *err);
size_t lip_spectral_normalization_scratch(size_t m, size_t n);

typedef struct lip_bjorck_info {
    int iterations;
    double residual; /* Frobenius norm of the last change; 0 when nothing ran */
} lip_bjorck_info;

/* lip_bjorck: W <- (1 + beta) W - beta W W'W until it changes by less than eps, maxiter times at most (1.5). w, wbar (m, n), which
 * may be one array; scratch: lip_bjorck_scratch floats. eps > 0, 0 < beta <= 0.5.
 * Returns LIP_OK; LIP_ERANGE on options; LIP_ENONFINITE when w is not finite; LIP_ENUMERIC when it diverged, which a norm
 * below sqrt(3) excludes; wbar is then as it was. Memory: scratch. Threads: safe on distinct wbar and scratch.
 * Source: Bjorck and Bowie 1971. */
lip_err lip_bjorck(const float *w, size_t m, size_t n, double eps, double beta, long maxiter, float *wbar, float *scratch,
                   lip_bjorck_info *info, lip_error *err);
size_t lip_bjorck_scratch(size_t m, size_t n);

/* A convolution as an operator on one image: kernels (kh, kw, channels, filters), images (height, width, channels), results
 * (oh, ow, filters), channels last. */
typedef struct lip_conv_operator {
    size_t height, width, channels, filters;
    size_t kernel[2], strides[2];
    bool circular;   /* the image goes round at its edges; else zeros around it, TensorFlow's 'same' */
    bool transposed; /* from results to images: deel-lip's conv_first False */
} lip_conv_operator;

/* lip_conv_operator_size: numbers that the operator takes and gives, and floats of scratch, 64-byte aligned, for the two below.
 * Returns LIP_OK, LIP_ESHAPE. Memory: none. Threads: safe. */
lip_err lip_conv_operator_size(const lip_conv_operator *o, size_t *inputs, size_t *outputs, size_t *scratch, lip_error *err);

/* lip_conv_operator_apply: y <- the operator, or its adjoint, of x. With circular edges, too, and even kernels, the adjoint is
 * the true one (deel-lip's is not: D88).
 * Returns LIP_OK; LIP_ESHAPE as lip_conv_operator_size. Memory: none. Threads: safe on distinct y and scratch. */
lip_err lip_conv_operator_apply(const lip_conv_operator *o, const float *kernel, bool adjoint, const float *x, float *y, float *scratch,
                                lip_error *err);

/* lip_spectral_normalization_conv: wbar = kernel / (sigma + eps), sigma the operator's from a power iteration from u (inputs) (1.8);
 * wbar may be kernel. Where deel-lip adds noise to u on each call (D87) this does not: the same call gives the same numbers.
 * Returns as lip_power_iteration; LIP_ESHAPE. Memory: scratch. Threads: safe on distinct u, wbar and scratch. */
lip_err lip_spectral_normalization_conv(const lip_conv_operator *o, const float *kernel, double eps, long maxiter, float *u, float *wbar,
                                        float *scratch, lip_power_info *info, lip_error *err);

/* ---- Frobenius norms, factors ------------------------------------------------------------------------------ */

/* lip_frobenius: wbar = coef w / ||w||_F, or each column by its own norm when `columns` (4.2).
 * Returns LIP_EZERO when a norm is 0 (deel-lip: NaN), LIP_ENONFINITE. wbar may be w. Memory: none. Threads: safe on distinct wbar. */
lip_err lip_frobenius(const float *w, size_t m, size_t n, double coef, bool columns, float *wbar, lip_error *err);

/* lip_frobenius_backward: dw from g = dL/dwbar, all (m, n); dw may be g.
 * Returns LIP_EZERO, LIP_ENONFINITE as lip_frobenius. Memory: none. Threads: safe on distinct dw. */
lip_err lip_frobenius_backward(const float *w, size_t m, size_t n, double coef, bool columns, const float *g,
                               float *dw, lip_error *err);

/* lip_conv_factor: deel-lip's correction factor of a 'same' convolution (5.1): kernel (kh, kw), strides
 * (s0, s1), image (h, w). NAN where the formula has none (D02). Threads: safe. */
double lip_conv_factor(size_t kh, size_t kw, size_t s0, size_t s1, size_t h, size_t w);

/* lip_conv_nu: the largest number of windows of a 'same' convolution that contain one pixel, along one
 * axis of n pixels: kernel q, stride s. ||conv|| <= ||reshaped kernel|| sqrt(nu_h nu_w). Threads: safe.
 * Source: certify.md C2: ||y||^2 = sum_i ||W' patch_i||^2 <= ||W||^2 sum_j nu_j |x_j|^2. */
size_t lip_conv_nu(size_t n, size_t q, size_t s);

/* lip_conv_transpose_nu: the same of a transposed 'same' convolution of n pixels (to n s) whose kernel is reshaped as
 * (kh kw channels, filters), as deel-lip does: how many outputs one pixel reaches. Threads: safe. */
size_t lip_conv_transpose_nu(size_t n, size_t q, size_t s);

#ifdef __cplusplus
}
#endif
#endif
