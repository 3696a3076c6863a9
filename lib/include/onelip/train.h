/* train.h: losses, metrics, optimizers, and one training step.
 *
 * A lip_trainer holds what the definition of a training run says (optimizer, loss, metrics) and what it needs
 * between steps (optimizer slots, gradients, activations). It works on one lip_state of the same model.
 * Source: semantics.md 13 to 15, for what deel-lip has; Keras 2.15 for its own losses, metrics, optimizers, schedules and callbacks.
 */
#ifndef ONELIP_TRAIN_H
#define ONELIP_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <onelip/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_trainer lip_trainer;

/* lip_trainer_new: from the JSON object {"optimizer":…, "loss":…, "loss_weights":…, "metrics":[…], "callbacks":[…]}, each a Keras identifier
 * or {"class_name","config"} (optimizer names in any case); other members are the caller's and ignored here.
 * Of a model with several outputs loss may be an object by output name (outputs left out are not trained on), a list, or one
 * loss for all; loss_weights an object or a list; metrics an object of lists, or one list for all. Every loss is a metric too.
 * Outputs of several axes take Keras's own losses: each row along the last axis counts as a sample with its sample's weight.
 * Returns LIP_OK; LIP_EOPTION (unknown loss, optimizer, metric or key: text lists what there is), LIP_EDEFINITION,
 * LIP_EUNSUPPORTED, LIP_ESHAPE (loss against the model's output), LIP_EJSON, LIP_ENOMEM.
 * Memory: lip_trainer_free. Threads: one at a time. */
lip_err lip_trainer_new(const lip_model *model, const char *json, size_t bytes, lip_trainer **trainer, lip_error *err);
void lip_trainer_free(lip_trainer *trainer);

/* lip_trainer_config: {"optimizer":{…},"loss":{…},"metrics":[…]}, every default written out. lip_free. */
char *lip_trainer_config(const lip_trainer *trainer);

/* lip_trainer_same_optimizer: both use the same optimizer class, so its slots may be carried over with
 * lip_trainer_adopt. */
bool lip_trainer_same_optimizer(const lip_trainer *a, const lip_trainer *b);
/* lip_trainer_adopt: take the step count and slots of `from`, where lip_trainer_same_optimizer. Losses and callbacks begin
 * anew. lip_trainer_resume: they go on where those of `from` are, where both have the same losses and callbacks. */
void lip_trainer_adopt(lip_trainer *to, const lip_trainer *from);
void lip_trainer_resume(lip_trainer *to, const lip_trainer *from);

uint64_t lip_trainer_steps(const lip_trainer *trainer);
double lip_trainer_learning_rate(const lip_trainer *trainer);
size_t lip_trainer_bytes(const lip_trainer *trainer); /* of optimizer slots */

/* The optimizer's state as named tensors ("d1/kernel/m"), for checkpoints. lip_trainer_load: all of them, or none is taken.
 * Returns LIP_OK, LIP_EWEIGHTS. Threads: one at a time per trainer. */
size_t lip_trainer_tensors(const lip_trainer *trainer);
lip_named lip_trainer_tensor(const lip_trainer *trainer, size_t i); /* valid until the next step or free */
lip_err lip_trainer_load(lip_trainer *trainer, uint64_t steps, const lip_named *tensors, size_t n, lip_error *err);

/* Labels of one output: its shape ([n, ...]); or class indices of shape [n] or [n,1] where the output is wider than 1,
 * expanded here; the binary losses take (0,1) or (-1,1). */
typedef struct lip_label_set {
    lip_shape shape; /* batch axis included */
    const float *data;
} lip_label_set;

/* A batch. */
typedef struct lip_batch {
    size_t n;
    const float *x;
    lip_shape y_shape; /* batch axis included */
    const float *y;
    const float *sample_weight;  /* n, or NULL */
    const float *const *inputs;  /* one array for each of the model's inputs, instead of x; NULL: there is one, x */
    const lip_label_set *labels; /* of each of the model's outputs, instead of y; data NULL where it has no loss. NULL: y */
    const double *pairs;         /* lip_certifier_pairs of the weights that answer, for lip_trainer_needs_pairs; or NULL */
} lip_batch;

#define LIP_MAX_METRICS 64 /* losses of outputs included */

typedef struct lip_metric {
    const char *name; /* lives as long as the trainer */
    double value;
} lip_metric;

typedef struct lip_step_layer {
    const char *name;
    const char *form; /* "plain" */
    int power_iterations, bjorck_iterations;
    double residual, sigma;
} lip_step_layer;

typedef struct lip_step_report {
    uint64_t step;
    double loss; /* also metrics[0] */
    double learning_rate;
    double gradient_norm;
    bool skipped; /* on_nonfinite skip: nothing changed but the count */
    size_t n_metrics;
    lip_metric metrics[LIP_MAX_METRICS];
    size_t n_layers;
    const lip_step_layer *layers; /* the trainer's, valid until the next step */
    uint64_t orthogonalize_ns, forward_ns, backward_ns, update_ns;
} lip_step_report;

typedef struct lip_step_options {
    double learning_rate; /* NAN: the optimizer's own */
    bool skip_nonfinite;  /* report->skipped instead of LIP_ENONFINITE */
    uint64_t seed;        /* of what is drawn in the step (Dropout); with the number of the step it says all */
    bool through_spectral;/* gradients go through the power iteration too (deel-lip's STOP_GRAD_SPECTRAL false) */
    bool lagging;         /* "kernels": "deel_lip": the published wbar is the step's own forward's (D05) */
} lip_step_options;

/* ---- callbacks -------------------------------------------------------------------------------------
 *
 * "callbacks" of lip_trainer_new's JSON: LossParamScheduler (before each step), CondenseCallback (on_batch: after each step),
 * and for whoever runs epochs: CondenseCallback (on_epoch), LossParamLog, EarlyStopping, ModelCheckpoint, MonitorCallback.
 * What they count and their best figures are part of lip_trainer_tensors. */

#define LIP_MAX_CALLBACKS 16
#define LIP_MAX_LOGGED 16

typedef struct lip_logged {
    const char *loss, *parameter;
    double value;
} lip_logged;

/* What is to be done at the end of an epoch. */
typedef struct lip_epoch {
    bool condensed;      /* the kernels were condensed: publish the state */
    bool keep;           /* keep these weights: they are the best that EarlyStopping has seen */
    bool stop;           /* end the run */
    bool restore;        /* and go back to the weights that were kept last */
    bool checkpoint;     /* ModelCheckpoint asks for one */
    const char *missing; /* a figure that is monitored and was not among the metrics; NULL */
    size_t n_logged;
    lip_logged logged[LIP_MAX_LOGGED]; /* of LossParamLog */
} lip_epoch;

/* lip_trainer_begin: a run of epochs begins: EarlyStopping and ModelCheckpoint have seen nothing. */
void lip_trainer_begin(lip_trainer *trainer);

/* lip_trainer_averages: the optimizer keeps a moving average of the weights, which lip_trainer_finish makes them. */
bool lip_trainer_averages(const lip_trainer *trainer);

/* lip_trainer_epoch: the callbacks' turn at the end of epoch number `epoch`, counted from 0.
 *
 * metrics  n figures of the epoch by name, those of validation as "val_loss"; what the names mean is the caller's
 * told     out: what to do, in this order; its strings live as long as the trainer
 * Returns  LIP_OK, or what lip_state_condense returns; on error nothing has changed but the counts of earlier callbacks.
 * Threads: one at a time per trainer and state. */
lip_err lip_trainer_epoch(lip_trainer *trainer, lip_state *state, uint64_t epoch, const lip_metric *metrics, size_t n,
                          lip_epoch *told, lip_error *err);

/* lip_trainer_finish: the end of a run: with use_ema the weights become their moving average, as Keras's fit() ends.
 * Returns LIP_OK; LIP_ENOMEM, LIP_EZERO, LIP_ENONFINITE, the state unchanged. Threads: one at a time per trainer and state. */
lip_err lip_trainer_finish(lip_trainer *trainer, lip_state *state, lip_error *err);

/* What a MonitorCallback looks at: "<layer>_<target>_sigmas". */
typedef struct lip_sigmas {
    const char *layer, *target;
    size_t n;
    double *sigma; /* descending; one for "max": of a kernel with a sigma that of the last forward pass in training */
} lip_sigmas;

/* lip_trainer_sigmas: of all MonitorCallbacks that are due after a step, or with `epoch` after an epoch. No such: n 0.
 * Returns LIP_OK, LIP_ENOMEM, LIP_ENUMERIC. Memory: lip_sigmas_free. Threads: as reading trainer and state. */
lip_err lip_trainer_sigmas(const lip_trainer *trainer, const lip_state *state, bool epoch, lip_sigmas **list, size_t *n,
                           lip_error *err);
void lip_sigmas_free(lip_sigmas *list, size_t n);

/* lip_train_step: one step, all or nothing.
 *
 * The training-mode forward computes effective kernels from kernel and u (unless the last step left them ready),
 * then loss, gradients, update; u and sigma advance. Afterwards the state's effective kernels are those of the
 * updated kernels, ready for lip_state_publish and for the next step (lagging: those of this step's forward).
 * Returns LIP_OK; LIP_ESHAPE, LIP_ELABELS, LIP_ENONFINITE (data, loss, gradient or updated weights), LIP_EZERO,
 * LIP_ENOMEM. On error the state and the optimizer are unchanged.
 * Memory  none allocated once a batch of this size was seen. Threads: one at a time per trainer and state. */
lip_err lip_train_step(lip_trainer *trainer, lip_state *state, const lip_batch *batch, const lip_step_options *options,
                       lip_step_report *report, lip_error *err);

/* lip_trainer_needs_pairs: a metric judges by the proven constants of the weights (lip_certifier_pairs), which the batch
 * has to bring: LIP_EBOUND without them. True for deel-lip's provable metrics whose lip_const is null. */
bool lip_trainer_needs_pairs(const lip_trainer *trainer);

/* lip_trainer_follow: the losses of `judge` (same model, made from the same training) take over the numbers that those of
 * `from` have now: running means, and parameters that a callback moves. For a trainer that only evaluates, which other
 * threads may do meanwhile; nobody steps `from` meanwhile. */
void lip_trainer_follow(lip_trainer *judge, const lip_trainer *from);

/* lip_evaluate: loss and metrics of a published snapshot, inference mode; changes nothing. metrics[0] is loss.
 * metrics: LIP_MAX_METRICS entries; with several outputs each loss follows, then the metrics. A running mean counts this
 * batch in and is not kept. Errors as lip_train_step. Threads: safe on distinct ws. */
lip_err lip_evaluate(const lip_trainer *trainer, const lip_snapshot *snapshot, lip_workspace *ws, const lip_batch *batch,
                     lip_metric *metrics, size_t *n_metrics, lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
