/* train.h: what a trainer is made of. */
#ifndef LIP_TRAIN_PRIVATE_H
#define LIP_TRAIN_PRIVATE_H

#include <stdio.h>

#include <onelip/train.h>

#include "model/callbacks.h"
#include "model/judge.h"
#include "model/tape.h"
#include "optim/optimizer.h"

/* A piece of one trained variable, for the update. */
struct lip__chunk {
    size_t at, n;
    bool trainable;
    double norm; /* of its gradient */
    bool finite; /* after the update */
};

struct lip_trainer {
    const lip_model *model;
    struct lip__object *optimizer;
    struct lip__judge judge;
    uint64_t steps;

    size_t slots;
    float *slot_now, *slot_next; /* slots * model->trained floats: what the optimizer remembers, and its next state */
    float *gradient;             /* model->trained floats */
    float *carried;              /* u and sigma as this step's forward leaves them */
    float *wbar;                 /* effective kernels of this step */
    struct lip__factor *factor;  /* of each kernel: q set, what stands for its wbar */
    float *stats, **moved;       /* of lip__training */
    float **scratch;             /* of each kernel: its iterates, for the backward pass */
    lip_rko_info *info;
    lip_step_layer *told;
    uint64_t ready;              /* the generation that carried, wbar, scratch and info belong to; 0: none */

    const float **data;          /* where the forward pass finds each variable */
    struct lip__tape tape;
    float *labels;
    size_t labels_size;
    double *loss_scratch;
    size_t loss_size;
    struct lip__loss *now;       /* of each output: its loss as this step uses it */
    double *each;                /* of each output: its loss's value */
    const float **output;        /* of each output: what the forward pass made */
    struct lip__object *callback[LIP_MAX_CALLBACKS];
    size_t n_callbacks;
    double remembered[LIP_MAX_CALLBACKS][3]; /* a counter, or the best figure, epochs without one, whether there was one */
    float *memory;               /* doubles that losses and callbacks remember, in three floats each: a tensor of the state */
    struct lip__chunk *chunk;
    size_t n_chunks;
    size_t *clip_at, *clip_n, n_clipped; /* where the gradients of the trainable variables are */
    struct lip__slot_tensor {
        char *name;
        size_t variable, slot;
    } *tensor;
    size_t n_tensors;
};

/* lip__trainer_make: takes the optimizer, the judge and the callbacks (LIP_MAX_CALLBACKS, the first n set) over, on failure
 * too. */
lip_err lip__trainer_make(const lip_model *model, struct lip__object *optimizer, struct lip__judge *judge,
                          struct lip__object **callbacks, size_t n, lip_trainer **trainer, lip_error *err);

/* lip__trainer_remember: memory as losses and callbacks are now. */
void lip__trainer_remember(lip_trainer *trainer);

/* What callbacks do to a trainer; callbacks.c. _check: their options against losses and model. _begin: nothing has happened
 * yet. _set: what schedulers set in the losses of the step that is `ahead` of the next. _stepped: a step was made. _condense:
 * whether kernels are condensed after each step. _remember: whether one has something to remember. */
lip_err lip__callbacks_check(const lip_trainer *trainer, lip_error *err);
void lip__callbacks_begin(lip_trainer *trainer);
void lip__callbacks_set(const lip_trainer *trainer, double ahead, struct lip__loss *now);
void lip__callbacks_stepped(lip_trainer *trainer);
bool lip__callbacks_condense(const lip_trainer *trainer);
bool lip__callbacks_remember(const lip_trainer *trainer);

#endif
