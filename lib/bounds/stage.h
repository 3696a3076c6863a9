/* stage.h: one step of a model as a map over the reals, with what its evaluation in floating point can lose.
 *
 * The map of a step is the one its definition means: exact products and sums of the float32 weights served, k as the
 * definition has it. Computed with unit roundoff u from an input x^ that is e away from the real one, a step's
 * result is
 *
 *     L e + gamma_n(u) (A |x^| + B) + sqrt(outputs) n eta
 *
 * or less away from the real one: L its constant, A the norm of |W|, B the norm of what is added, n how many roundings
 * a single output sees, eta what one underflow loses. A step that joins several tensors has e and |x^| of all of them:
 * their sum, their mean, or the root of the sum of their squares. Source: certify.md C1, in norms; Higham's gamma holds
 * for any order of summation.
 */
#ifndef LIP_STAGE_H
#define LIP_STAGE_H

#include "bounds/conv.h"
#include "model/model.h"

enum lip__shape_of {
    LIP__STAGE_MATRIX,
    LIP__STAGE_CONV,
    LIP__STAGE_ADJOINT,   /* of a convolution from what it makes to what it reads */
    LIP__STAGE_SCALE,     /* scale x + number */
    LIP__STAGE_AFFINE,    /* kernel x + bias, both for each place along an axis: of numbers i those of place i / step % n */
    LIP__STAGE_SORT,
    LIP__STAGE_RELU,      /* x, below 0 slope x, at most `most` */
    LIP__STAGE_SCALAR,    /* a smooth function of each number */
    LIP__STAGE_MAX_MIN,
    LIP__STAGE_HOUSEHOLDER,
    LIP__STAGE_SOFTMAX,   /* of `group` numbers, `step` apart; or its logarithm */
    LIP__STAGE_AVERAGE,   /* of windows, whole or cut off at the image's edges */
    LIP__STAGE_L2,
    LIP__STAGE_MAXIMUM,
    LIP__STAGE_COPY,
    LIP__STAGE_MOVE,      /* each number to another place; zeros between them */
    LIP__STAGE_SUM,
    LIP__STAGE_DIFFERENCE,
    LIP__STAGE_MEAN,
    LIP__STAGE_BESIDE,
    LIP__STAGE_UNKNOWN
};

struct lip__stage {
    const lip_layer *layer;
    size_t top; /* index of the definition's layer */
    enum lip__shape_of kind;
    const size_t *from;    /* the model's values that it reads */
    size_t n_from, value;  /* and the one it makes */
    const float *weight[LIP__MAX_READ]; /* what its layer reads; the snapshot's */
    size_t in, out;        /* numbers per sample; in: of the first that it reads */
    double *kernel, *bias; /* widened; NULL: none. RELU: slopes, one for each place */
    struct lip__convolution conv; /* its arrays belong to the stage */
    size_t rows, m, n; /* MATRIX: samples of x are (rows, m), y (rows, n) */
    struct lip__windows windows; /* AVERAGE, L2, MAXIMUM */
    double scale;                /* of AVERAGE a sum's, 0: one over the pixels of the window that there are; of L2; SCALE */
    size_t group, step;
    double slope, most;  /* RELU; most NAN: none */
    double (*function)(double x, double number), number; /* SCALAR */
    double least, steepest; /* RELU, SCALAR: all slopes are between */
    size_t *place;          /* MOVE: where each output comes from; `in`: nowhere, a 0 */
    /* what is proved of it */
    lip_interval norm; /* of the linear part, or of the whole; upper NAN: no rule */
    double gain;       /* L: norm.upper, but 1 for steps that join */
    double *sigma;     /* MATRIX, CONV, ADJOINT: singular values of the reshaped kernel, estimates, descending */
    size_t n_sigma;
    const char *method;
    double absolute, added; /* A and B */
    size_t roundings;       /* n */
    bool coarse;            /* a deadline cut something off */
    bool squares;           /* eta stands under a root, and the square of the input must not overflow */
};

/* How numbers are kept and summed. Sums round by u each; results are stored with `store`, operands (weights, and what is
 * multiplied) are rounded by `operand` first. 0: not rounded at all. */
struct lip__arithmetic {
    double u, eta, most;
    double store, store_eta;
    double operand, operand_eta;
};
extern const struct lip__arithmetic lip__float64, lip__float32;

/* lip__stage_open: step `index` of a snapshot, weights widened, nothing proved yet. Returns LIP_OK, LIP_ENOMEM,
 * LIP_ENONFINITE naming the tensor. Memory: lip__stage_close, on failure too. */
lip_err lip__stage_open(const lip_snapshot *snapshot, size_t index, struct lip__stage *stage, lip_error *err);
void lip__stage_close(struct lip__stage *stage);

/* lip__stage_prove: fills the second half. What would not be done by the deadline (base.h) is left out: norm is wider then. */
lip_err lip__stage_prove(struct lip__stage *stage, uint64_t deadline, lip_error *err);

/* lip__stage_flops: what that takes, about; lip__stage_pass: what computing it for one sample does. */
double lip__stage_flops(const struct lip__stage *stage);
double lip__stage_pass(const struct lip__stage *stage);

/* lip__stage_value: y from what it reads, in double, for n samples. scratch: lip__stage_scratch doubles. Not for
 * UNKNOWN. */
size_t lip__stage_scratch(const struct lip__stage *stage);
void lip__stage_value(const struct lip__stage *stage, size_t n, const double *const *x, double *y, double *scratch);

/* lip__stage_joined: a norm, an error or a constant of all that a stage reads, from those of each; rounded up. of: by
 * the model's values. */
double lip__stage_joined(const struct lip__stage *stage, const double *of);

/* lip__stage_error: the bound above; size and e joined. INFINITY where something could overflow `most`. */
double lip__stage_error(const struct lip__stage *stage, const struct lip__arithmetic *arithmetic, double size, double e);

#endif
