/* certify.h: how far an input may move before the answer can change.
 *
 * A radius is a theorem about the floating-point function that answers: rounding, at the input given and everywhere in
 * the ball around it, is subtracted, and radii are rounded down. deel-lip's own figure stands beside it as `reference`.
 * Source: certify.md C1, C3 and C5; the figure of deel-lip: semantics.md 14.
 */
#ifndef ONELIP_CERTIFY_H
#define ONELIP_CERTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <onelip/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lip_norm { LIP_L2, LIP_L1, LIP_LINF } lip_norm;

/* Whose answer is certified: the one that lip_certify itself returns, computed in double and rounded to float32 once;
 * or lip_predict's, whatever its order of summation. */
typedef enum lip_arithmetic { LIP_FLOAT64, LIP_FLOAT32 } lip_arithmetic;

/* What is proved of one snapshot, for any number of inputs. Holds a reference to it. */
typedef struct lip_certifier lip_certifier;

/* Zeros are the defaults. */
typedef struct lip_certifier_options {
    lip_norm norm; /* inputs are measured by it */
    bool quick;    /* constants by products and one pass of multipliers only, without the descents of bound.h's methods, which take
                    * about as long as a thousand certificates */
} lip_certifier_options;

/* lip_certifier_new: constants of all layers and of every pair of outputs, the least of all of bound.h's methods, each of which does a
 * fixed number of operations at most: the same snapshot has the same constants. options: NULL for the defaults.
 *
 * Returns  LIP_OK; LIP_EBOUND naming the layer that no rule covers; LIP_EUNSUPPORTED for several inputs or outputs;
 *          LIP_ENONFINITE naming the tensor; LIP_ENOMEM.
 * Memory   lip_certifier_free; about twice the weights, in double. Threads: safe; one certifier may serve many.
 * Source   certify.md C1, C3, C5; Tsuzuku, Sato and Sugiyama, "Lipschitz-Margin Training", NeurIPS 2018. */
lip_err lip_certifier_new(const lip_snapshot *snapshot, const lip_certifier_options *options, lip_certifier **certifier,
                          lip_error *err);
void lip_certifier_free(lip_certifier *certifier);

size_t lip_certifier_classes(const lip_certifier *certifier); /* outputs; 1: the sign is the answer */

/* lip_certifier_pairs: (classes, classes) upper bounds of |(f_c - f_j)(x) - (f_c - f_j)(z)| / |x - z|; zeros on the
 * diagonal. Of one class: the bound of f itself. Lives as long as the certifier. */
const double *lip_certifier_pairs(const lip_certifier *certifier);

/* lip_certifier_outputs: (classes) upper bounds of |f_c(x) - f_c(z)| / |x - z|. lip_certifier_upper: of |f(x) - f(z)|_2 /
 * |x - z|, all outputs together. */
const double *lip_certifier_outputs(const lip_certifier *certifier);
double lip_certifier_upper(const lip_certifier *certifier);

/* lip_certifier_value: the outputs of n samples in double, unrounded, y (n, classes), and error (n, classes; may be NULL): how
 * far each may be from the real f_c(x). Returns LIP_OK, LIP_ENOMEM. Threads: safe on distinct outputs. */
lip_err lip_certifier_value(const lip_certifier *certifier, size_t n, const float *x, double *y, double *error,
                            lip_error *err);

/* lip_certifier_head: "disjoint" (the claim holds for each output alone), "joint" or "scalar". */
const char *lip_certifier_head(const lip_certifier *certifier);

/* lip_certifier_factor: deel-lip's divisor of margins: 2 L for disjoint neurons, sqrt(2) L, or L for one output, L as
 * claimed. NAN where the model claims nothing. */
double lip_certifier_factor(const lip_certifier *certifier);

/* lip_labels: class numbers from labels as losses take them.
 *
 * shape    of y, the batch axis included: [n] or [n,1] class indices, of one output 0 or -1 for no and 1 for yes; or
 *          [n,classes] one-hot rows
 * label    n, out: of one output 0 or 1. That they are below `classes` is lip_certify's to check.
 * Returns  LIP_OK, LIP_ESHAPE, LIP_ELABELS. Threads: safe. */
lip_err lip_labels(size_t n, size_t classes, const lip_shape *shape, const float *y, int64_t *label, lip_error *err);

/* Zeros are the defaults. */
typedef struct lip_certify_options {
    lip_arithmetic arithmetic;
    bool negative_robustness; /* misclassified samples: margin / constant, negative, instead of 0 */
    bool local;               /* also look at each ball alone (certify.md C3): some 10 ms a sample, never worse */
    double input_scale;       /* one unit of the caller's data is this many of the input's; 0 stands for 1 */
} lip_certify_options;

/* What lip_certify says of n samples. The caller's arrays; all but y may be NULL. */
typedef struct lip_certificates {
    float *y;           /* (n, classes): the answers that are certified */
    int64_t *predicted; /* n */
    double *margin;     /* n: of the true class over the next; of one output its distance from 0 on the true side */
    double *radius;     /* n: for every float32 input closer than that, or just as close, the answer is the predicted class;
                         * in the caller's units, rounded down. 0: `reason` says why */
    const char **method; /* n: "pair" (constants of pairs), "local", "norm" (one output); "none" where the radius is not
                          * above 0 */
    const char **reason; /* n: NULL where the radius is above 0; else a sentence */
} lip_certificates;

/* lip_certify: n samples x of the model's input shape.
 *
 * label    n true classes (of one output: positive or not), or NULL: what is predicted counts as true
 * Returns  LIP_OK; LIP_ELABELS; LIP_ERANGE (input_scale); LIP_ENOMEM. Inputs that are not finite have radius 0.
 * Threads  safe on distinct ws and outputs. */
lip_err lip_certify(const lip_certifier *certifier, lip_workspace *ws, const lip_certify_options *options, size_t n,
                    const float *x, const int64_t *label, const lip_certificates *out, lip_error *err);

/* lip_attack: the other side: for each sample the nearest point found that lip_certify would answer differently, by
 * descent along gradients of the margins, moved back towards x by bisection.
 *
 * steps    gradient steps for each of the nearest classes; 0 stands for 40
 * radius   n out: its distance in the certifier's norm and the caller's units, rounded up; INFINITY where none was found.
 *          The answer that changes is `arithmetic`'s, so a sample's true radius lies between lip_certify's and this.
 * point    (n, inputs) out, may be NULL: that point; x itself where none was found
 * Returns  LIP_OK; LIP_ERANGE (input_scale); LIP_ENOMEM. Threads: safe on distinct outputs. */
lip_err lip_attack(const lip_certifier *certifier, const lip_certify_options *options, size_t steps, size_t n,
                   const float *x, double *radius, float *point, lip_error *err);

/* lip_provable_accuracy: accuracy[i], of n_epsilons, is the share of n radii above epsilon[i]. Threads: safe. */
void lip_provable_accuracy(size_t n, const double *radius, size_t n_epsilons, const double *epsilon, double *accuracy);

/* lip_provable_curve: the whole step function: r (n) ascending, share (n) of the samples whose radius is at least r[i].
 * radius and r may be the same array. Threads: safe. */
void lip_provable_curve(size_t n, const double *radius, double *r, double *share);

#ifdef __cplusplus
}
#endif
#endif
