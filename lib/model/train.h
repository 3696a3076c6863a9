/* train.h: what a trainer is made of. */
#ifndef LIP_TRAIN_PRIVATE_H
#define LIP_TRAIN_PRIVATE_H

#include <stdio.h>

#include <onelip/train.h>

#include "losses/metric.h"
#include "model/model.h"
#include "optim/optimizer.h"

/* A piece of one trained variable, for the update. */
struct lip__chunk {
    size_t at, n;
    bool trainable;
};

struct lip_trainer {
    const lip_model *model;
    struct lip__object *optimizer, *loss, *metric[LIP_MAX_METRICS - 1];
    char *metric_name[LIP_MAX_METRICS - 1];
    size_t n_metrics;
    uint64_t steps;

    size_t slots;
    float *slot_now, *slot_next; /* slots * model->trained floats: what the optimizer remembers, and its next state */
    float *gradient;             /* model->trained floats */
    float *carried;              /* u and sigma as this step's forward leaves them */
    float *wbar;                 /* effective kernels of this step */
    float **scratch;             /* of each kernel: its iterates, for the backward pass */
    lip_rko_info *info;
    lip_step_layer *told;
    uint64_t ready;              /* the generation that carried, wbar, scratch and info belong to; 0: none */

    const float **data;          /* where the forward pass finds each variable */
    float *batch;                /* one allocation for what follows */
    size_t batch_size;
    float *area, **activation, **delta, *spare, *labels, *slots_scratch; /* activation, delta: of each value, of the whole batch */
    bool *born; /* the value's delta has been written in this pass */
    double *loss_scratch;
    size_t loss_size;
    struct lip__chunk *chunk;
    size_t n_chunks;
    size_t *clip_at, *clip_n, n_clipped; /* where the gradients of the trainable variables are */
    struct lip__slot_tensor {
        char *name;
        size_t variable, slot;
    } *tensor;
    size_t n_tensors;
};

/* lip__trainer_make: takes the objects and names over, on failure too; not the arrays that hold them. */
lip_err lip__trainer_make(const lip_model *model, struct lip__object *optimizer, struct lip__object *loss,
                          struct lip__object **metrics, char **metric_names, size_t n_metrics, lip_trainer **trainer,
                          lip_error *err);

#endif
