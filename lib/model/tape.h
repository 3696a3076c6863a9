/* tape.h: a forward pass that is remembered, and the way back through it. */
#ifndef LIP_TAPE_H
#define LIP_TAPE_H

#include "model/model.h"

/* One pass of n samples. The caller fills the first group; lip__tape_reserve makes the second. */
struct lip__tape {
    const lip_model *model;
    const float *const *data; /* where each variable is */
    const float *const *x;    /* the inputs */
    size_t n;
    float *gradient; /* of the trained group, overwritten where a variable is trainable; NULL: of no variable */
    float *const *dx; /* gradients of the inputs, one array each; NULL: of no input */
    const struct lip__training *training; /* a pass of a training step; NULL: inference */

    float *memory; /* one allocation for what follows */
    size_t size;
    float *area, *spare;         /* the threads' scratch; one value of the whole batch */
    float **half; /* two of each kernel, for a layer with a factor */
    float **activation, **delta; /* of each value: what it is and its gradient. Entries of inputs stay NULL. */
    bool *born;                  /* the value's gradient has been written in this pass */
    bool *found;                 /* the variable's has */
    float *again;                /* the gradient of a variable that another step has left one of: where layers are shared */
    float *slots_scratch;
};

/* lip__tape_new: the arrays over values. _reserve: memory for a batch of n, contents lost; nothing is allocated when one as
 * large was seen. factors: layers with factors among them. _clear: all of it. Return LIP_OK or LIP_ENOMEM. */
lip_err lip__tape_new(struct lip__tape *tape, const lip_model *model, lip_error *err);
lip_err lip__tape_reserve(struct lip__tape *tape, size_t n, bool factors, lip_error *err);
void lip__tape_clear(struct lip__tape *tape);

/* lip__tape_output: what output i is. */
const float *lip__tape_output(const struct lip__tape *tape, size_t i);

void lip__tape_forward(struct lip__tape *tape);

/* lip__tape_begin: no gradient has been seen. lip__tape_seed: where the gradient of output i, n rows, is to be written; then
 * lip__tape_seeded, which adds it to what another output that is the same value has left. NULL: the output is an input that
 * nobody asks about. */
void lip__tape_begin(struct lip__tape *tape);
float *lip__tape_seed(struct lip__tape *tape, size_t i);
void lip__tape_seeded(struct lip__tape *tape, size_t i);

/* lip__tape_backward: from the seeds to whatever learns and to the inputs. penalties: gradients of activity regularizers
 * are added on the way. */
void lip__tape_backward(struct lip__tape *tape, bool penalties);

#endif
