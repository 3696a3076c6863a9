/* gradients.h: how answers change with their inputs: what attacks, saliency and explanations need.
 *
 * Of the function that inference computes (training=False), at the weights of a snapshot.
 * Source: reverse accumulation through the layers, whose slopes at corners are TensorFlow's (semantics.md 9, 18.4).
 */
#ifndef ONELIP_GRADIENTS_H
#define ONELIP_GRADIENTS_H

#include <stddef.h>
#include <stdint.h>

#include <onelip/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lip_gradient_of {
    LIP_OF_MARGIN,  /* the predicted or true class less the best other; of an output of one number that number */
    LIP_OF_OUTPUT,  /* one number of an output */
    LIP_OF_PRODUCT, /* <cotangent, output>: the vector-Jacobian product */
    LIP_OF_LOSS     /* each sample's loss, times its weight */
} lip_gradient_of;

typedef struct lip_gradient {
    lip_gradient_of of;
    size_t output;           /* which output of the model, of all but LOSS */
    size_t index;            /* OUTPUT: row-major in one sample of it */
    const int64_t *label;    /* MARGIN: n true classes; NULL: the predicted one, the first of equal ones */
    const float *cotangent;  /* PRODUCT: n samples of the output's shape */
    const lip_trainer *loss; /* LOSS: whose losses; of the same model, only read */
    const lip_batch *batch;  /* LOSS: labels and sample weights; its n and inputs count, not those below */
} lip_gradient;

/* lip_gradients: of n samples, one array x[i] for each input of the model.
 *
 * value  n, out: what was asked for, of each sample, in double from float32 outputs
 * dx     of each input, n samples of its shape, out: the gradient of the sum of all values. A sample's value depends on its
 *        own input alone, so that is its own gradient; in losses of the KR family also through the class counts, which are
 *        those of the batch. With LOSS the sum leaves out the mean over the batch, and regularizers.
 *
 * A maximum that several classes reach counts as the first one's; other kinks are those of the layers.
 * Returns  LIP_OK; LIP_ERANGE (output, index, label); LIP_ESHAPE, LIP_ELABELS, LIP_ENONFINITE (LOSS: the batch);
 *          LIP_EWEIGHTS (a trainer of another model); LIP_ENOMEM. Not finite inputs pass through as in arithmetic.
 * Memory   about three times all activations of 256 samples, or with LOSS of the batch, while it runs. Threads: safe on distinct outputs. */
lip_err lip_gradients(const lip_snapshot *snapshot, const lip_gradient *what, size_t n, const float *const *x, double *value,
                      float *const *dx, lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
