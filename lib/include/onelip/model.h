/* model.h: models, their weights, and the forward pass.
 *
 * Three nouns keep threads apart:
 *
 *   lip_model     the definition: layers, shapes, names. Immutable once made, counted, shared freely.
 *   lip_state     the head: every variable of one model (kernel, bias, u, sigma, wbar). One owner at a time.
 *   lip_snapshot  what a state published: the effective kernels and biases that a forward pass reads.
 *                 Immutable, counted, shared freely; holds a reference to its model.
 *
 * A lip_workspace is one thread's scratch for forward passes. Weights are named "<layer>/<variable>":
 * d1/kernel, d1/bias, d1/u, d1/sigma, d1/wbar, in Keras's layout and order.
 *
 * Source: deel-lip 1.5.1 and Keras 2.15, layer by layer (semantics.md 2 to 9, 16, 18 to 20).
 */
#ifndef ONELIP_MODEL_H
#define ONELIP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <onelip/error.h>
#include <onelip/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_model lip_model;
typedef struct lip_layer lip_layer;
typedef struct lip_state lip_state;
typedef struct lip_snapshot lip_snapshot;
typedef struct lip_workspace lip_workspace;

/* ---- definitions ------------------------------------------------------------------------------- */

/* lip_model_read: a model from Keras's own JSON (Sequential; the v3 and the legacy dialect, with or without
 * the "deel-lip>" prefix; omitted keys take their defaults).
 *
 * json    bytes bytes of UTF-8; need not end in NUL
 * strict  refuse what only earns a warning: layers that are not 1-Lipschitz
 *
 * Returns  LIP_OK and *model with one reference; LIP_EJSON, LIP_EDEFINITION, LIP_ECLASS, LIP_EOPTION,
 *          LIP_EUNSUPPORTED, LIP_ESHAPE, LIP_ENOMEM. err->pointer then
 *          says where in the document, err->text lists what is accepted where a name is unknown.
 * Memory   lip_model_put. Threads: safe. */
lip_err lip_model_read(const char *json, size_t bytes, bool strict, lip_model **model, lip_error *err);

/* lip_model_get / lip_model_put: one more reference; one less. put(NULL) is fine. Threads: safe. */
lip_model *lip_model_get(const lip_model *model);
void lip_model_put(const lip_model *model);

/* lip_model_definition: the canonical Keras JSON, every key written out; reading it gives the same model.
 * legacy: the dialect of Keras <= 2.12, else that of 2.13 to 2.15. NULL when out of memory.
 * Memory: the caller calls lip_free. Threads: safe. */
char *lip_model_definition(const lip_model *model, bool legacy);

/* lip_free: give back a string or array that a function of this library returned. */
void lip_free(void *memory);

/* lip_model_vanilla: deel-lip's vanilla_export of the definition: Spectral* and Frobenius* become Dense and
 * Conv2D, a Sequential becomes Keras's own. Names are kept. See lip_snapshot_vanilla for the weights.
 * Returns LIP_OK or LIP_ENOMEM. Memory: lip_model_put. Threads: safe. */
lip_err lip_model_vanilla(const lip_model *model, lip_model **vanilla, lip_error *err);

/* Which factor turns the norm of a convolution's reshaped kernel into that of the convolution. LIP_DEEL_LIP: deel-lip's, with
 * stride 1 an average over the image, with which a layer may exceed its k (defects.md D01, D03). LIP_SOUND: the largest number of
 * windows that share a pixel, with which it cannot. In a definition it is the config key "coefficient" of the outermost model,
 * "deel_lip" or "sound"; Keras ignores it. */
typedef enum lip_coefficient { LIP_DEEL_LIP, LIP_SOUND } lip_coefficient;
lip_coefficient lip_model_coefficient(const lip_model *model);

/* The same definition with something changed: a new model; lip_state_move takes weights over to it.
 *
 * lip_model_with_k            set_klip_factor. layer NULL: k of the whole Sequential, whose direct Lipschitz layers get its
 *                             n-th root; else of the layer of that name (nested: "outer/inner"), whose own k it then is:
 *                             Sequentials around it no longer share theirs, so that their other layers keep what they had.
 * lip_model_with_coefficient  the other factor for convolutions and their transposes.
 *                             Factors that were set are forgotten.
 * lip_model_with_coef         coef_lip of one layer with an effective kernel, in place of the factor that its shapes give; 0: that
 *                             one again. In a definition it is the layer's config key "coef_lip"; Keras does not know it.
 * lip_model_with_trainable    whether the layer's variables learn.
 *
 * Return LIP_OK and *changed with one reference; LIP_ERANGE no such layer; LIP_EDEFINITION k is not a finite number > 0, or the
 * layer has none; LIP_EUNSUPPORTED the model is no Sequential; LIP_ENOMEM. Memory: lip_model_put. Threads: safe. */
lip_err lip_model_with_k(const lip_model *model, const char *layer, double k, lip_model **changed, lip_error *err);
lip_err lip_model_with_coefficient(const lip_model *model, lip_coefficient coefficient, lip_model **changed, lip_error *err);
lip_err lip_model_with_coef(const lip_model *model, const char *layer, double coef, lip_model **changed, lip_error *err);
lip_err lip_model_with_trainable(const lip_model *model, const char *layer, bool trainable, lip_model **changed, lip_error *err);

const char *lip_model_name(const lip_model *model);
double lip_model_k(const lip_model *model); /* k_coef_lip of a deel-lip Sequential; NAN for Keras's own */
double lip_model_claimed(const lip_model *model); /* product of the layers' claims; NAN as soon as one claims nothing */

/* Inputs and outputs as the Open Inference Protocol names them; shapes without the batch axis. */
size_t lip_model_inputs(const lip_model *model);
size_t lip_model_outputs(const lip_model *model);
const char *lip_model_input_name(const lip_model *model, size_t i);
const char *lip_model_output_name(const lip_model *model, size_t i);
const lip_shape *lip_model_input_shape(const lip_model *model, size_t i);
const lip_shape *lip_model_output_shape(const lip_model *model, size_t i);

/* What is accepted but worth knowing ("layer x is not 1-Lipschitz"). */
size_t lip_model_warnings(const lip_model *model);
const char *lip_model_warning(const lip_model *model, size_t i);

/* lip_model_flops: multiplications and additions of one sample's forward pass, for scheduling. */
double lip_model_flops(const lip_model *model);

/* ---- layers: in the definition's order, InputLayer included -------------------------------------- */

size_t lip_model_layers(const lip_model *model);
const lip_layer *lip_model_layer(const lip_model *model, size_t i);
const lip_layer *lip_model_find_layer(const lip_model *model, const char *name); /* NULL: none */

const char *lip_layer_name(const lip_layer *layer);
const char *lip_layer_class(const lip_layer *layer); /* "SpectralDense" */
size_t lip_layer_index(const lip_layer *layer);      /* place in the definition's "layers" */
const lip_shape *lip_layer_input_shape(const lip_layer *layer);
const lip_shape *lip_layer_output_shape(const lip_layer *layer);
bool lip_layer_trainable(const lip_layer *layer);
bool lip_layer_is_input(const lip_layer *layer);
bool lip_layer_is_lipschitz(const lip_layer *layer); /* deel-lip's LipschitzLayer: has k and a factor */
double lip_layer_k(const lip_layer *layer);       /* k_coef_lip; NAN where the class has none */
double lip_layer_coef(const lip_layer *layer);    /* coef_lip; NAN where the class has none */
double lip_layer_claimed(const lip_layer *layer); /* what deel-lip claims: k, 1, or NAN for nothing */
bool lip_layer_per_output(const lip_layer *layer); /* the claim holds for each output alone (disjoint neurons) */
bool lip_layer_has_effective(const lip_layer *layer); /* has a wbar */
size_t lip_layer_parameters(const lip_layer *layer); /* elements of its trainable variables */
size_t lip_layer_first_variable(const lip_layer *layer);
size_t lip_layer_variables(const lip_layer *layer);
char *lip_layer_config(const lip_layer *layer); /* its config as JSON; lip_free */

/* ---- variables: model order, trainable ones of a layer before the others ------------------------- */

/* LIP_OTHER: trained, but no kernel and no bias. LIP_MOVING: averages that training moves and inference reads. */
typedef enum lip_role { LIP_KERNEL, LIP_BIAS, LIP_U, LIP_SIGMA, LIP_WBAR, LIP_OTHER, LIP_MOVING } lip_role;

typedef struct lip_variable {
    const char *name; /* "d1/kernel" */
    const lip_layer *layer;
    lip_role role;
    bool trainable;  /* the variable is of a trainable kind and its layer's trainable is true */
    lip_shape shape; /* Keras's */
} lip_variable;

size_t lip_model_variables(const lip_model *model);
const lip_variable *lip_model_variable(const lip_model *model, size_t i);
size_t lip_model_find_variable(const lip_model *model, const char *name); /* count of variables: none */

/* ---- state --------------------------------------------------------------------------------------- */

/* lip_state_new: variables drawn by the model's initializers (u ~ N(0,1), sigma = 1), each from its own
 * stream of `seed`; effective kernels computed. Returns LIP_OK, LIP_ENOMEM, LIP_EZERO, LIP_ENONFINITE.
 * Memory: lip_state_free; holds a reference to the model. Threads: one owner at a time, also for reading: what training left as
 * a factor becomes an effective kernel when somebody asks for it. */
lip_err lip_state_new(const lip_model *model, uint64_t seed, lip_state **state, lip_error *err);
void lip_state_free(lip_state *state);
const lip_model *lip_state_model(const lip_state *state);
const float *lip_state_data(const lip_state *state, size_t variable);

/* A tensor by name, as files and requests bring them: float32, row-major. */
typedef struct lip_named {
    const char *name;
    lip_shape shape;
    const float *data;
} lip_named;

/* lip_state_load: write weights by name, all or nothing. u, sigma and wbar may be missing: u and sigma then
 * stay as they are; a wbar that arrives is stored as it is, a missing one is computed.
 * partial: any subset may come (one tensor over the wire); else every kernel, bias must.
 * problem(ctx, list, name, text) is called for each name in "missing", "unexpected" and "shape"; may be NULL.
 * Returns LIP_OK, LIP_EWEIGHTS, LIP_ENONFINITE, LIP_EZERO; the state is unchanged on error. */
lip_err lip_state_load(lip_state *state, const lip_named *tensors, size_t n, bool partial,
                       void (*problem)(void *ctx, const char *list, const char *name, const char *text), void *ctx,
                       lip_error *err);

/* How a layer's effective kernel came about. */
typedef enum lip_effective { LIP_NONE, LIP_COMPUTED, LIP_STORED } lip_effective;
lip_effective lip_state_effective(const lip_state *state, size_t layer);

/* lip_state_copy: an independent copy of every variable and of how each effective kernel came about, so that a change
 * can be tried and dropped. Returns LIP_OK or LIP_ENOMEM. Memory: lip_state_free. Threads: as reading the state. */
lip_err lip_state_copy(const lip_state *state, lip_state **copy, lip_error *err);

/* lip_state_move: a state of another model with the same variables, with this one's numbers. keep: effective kernels too, and how
 * they came about; else they are computed. Returns LIP_OK, LIP_EWEIGHTS, LIP_EZERO, LIP_ENOMEM. Memory: lip_state_free. Threads:
 * as reading the state. */
lip_err lip_state_move(const lip_state *state, const lip_model *model, bool keep, lip_state **moved, lip_error *err);

/* lip_state_mark: say how the effective kernel of one layer came about. For whoever loads a file of its own in which a
 * computed kernel was kept bit for bit. No effect on layers without one. Threads: one owner at a time. */
void lip_state_mark(lip_state *state, size_t layer, lip_effective effective);

/* What recomputing did to one layer. distance: of refresh, ||new wbar - old||_F / ||old||_F; of condense,
 * ||old kernel - new||_F / ||new||_F. */
typedef struct lip_change {
    const char *layer;
    double distance;
    double sigma;
    double residual;
    int power_iterations;
    int bjorck_iterations;
} lip_change;

/* lip_state_refresh: recompute every effective kernel from kernel and u. Nothing else changes: u and sigma
 * stay. lip_state_condense: kernel <- effective kernel computed from it, u and sigma with it; that array becomes
 * the effective kernel. changes: room for lip_model_layers entries, or NULL; *n says how many were filled.
 * Return LIP_OK, LIP_EZERO, LIP_ENONFINITE; unchanged on error. */
lip_err lip_state_refresh(lip_state *state, lip_change *changes, size_t *n, lip_error *err);
lip_err lip_state_condense(lip_state *state, lip_change *changes, size_t *n, lip_error *err);

/* ---- snapshots and the forward pass --------------------------------------------------------------- */

/* lip_state_publish: an immutable copy of what inference reads. Returns LIP_OK, LIP_ENOMEM. Memory: lip_snapshot_put. Threads: as
 * reading the state. */
lip_err lip_state_publish(const lip_state *state, lip_snapshot **snapshot, lip_error *err);
lip_snapshot *lip_snapshot_get(const lip_snapshot *snapshot);
void lip_snapshot_put(const lip_snapshot *snapshot);
const lip_model *lip_snapshot_model(const lip_snapshot *snapshot);
/* lip_snapshot_kernel / _bias: a layer's effective arrays (lip_layer's kernel shape); NULL: it has none. */
const float *lip_snapshot_kernel(const lip_snapshot *snapshot, size_t layer);
const float *lip_snapshot_bias(const lip_snapshot *snapshot, size_t layer);
/* lip_snapshot_data: what inference reads of a variable, wbar in place of a kernel that has one; NULL: it reads it not. */
const float *lip_snapshot_data(const lip_snapshot *snapshot, size_t variable);
lip_effective lip_snapshot_effective(const lip_snapshot *snapshot, size_t layer);
double lip_snapshot_stored_distance(const lip_snapshot *snapshot, size_t layer); /* ||stored - computed||_F / ||computed||_F */

/* lip_snapshot_vanilla: the state of lip_model_vanilla whose kernels are this snapshot's effective ones. Returns LIP_OK,
 * LIP_EWEIGHTS (a vanilla of another model), LIP_ENOMEM. Memory: lip_state_free. Threads: safe. */
lip_err lip_snapshot_vanilla(const lip_snapshot *snapshot, const lip_model *vanilla, lip_state **state, lip_error *err);

/* lip_threads: how many threads forward passes and steps may use, this one included (default 1). One pool
 * for the process; call before other threads use the library. BLAS itself always runs with one thread. Threads of the pool
 * spin for 20 us after work, then sleep; where passes of one sample follow one another at once they share those, too.
 * Returns LIP_OK, LIP_ERANGE (0 or > 256), LIP_ENOMEM. */
lip_err lip_set_threads(size_t n, lip_error *err);
size_t lip_threads(void);

/* lip_set_rest: what the threads of a training step call between two pieces of their work, some tens of microseconds
 * apart; it may sleep. For programs that serve meanwhile and want their cores back for a moment. NULL: nothing. Threads: safe;
 * rest itself is called on several at once. */
void lip_set_rest(void (*rest)(void));

/* lip_workspace_new / _free: scratch that grows to the largest pass it has seen and is then reused: a pass
 * of a size seen before allocates nothing. One thread at a time. */
lip_workspace *lip_workspace_new(void);
void lip_workspace_free(lip_workspace *ws);

/* lip_workspace_serial: whether passes with ws stay on the calling thread; new ones may use all of lip_set_threads. For
 * servers that have a thread for each core already and many small batches. */
void lip_workspace_serial(lip_workspace *ws, bool serial);

/* lip_predict: y = f(x), inference, of a model with one input and one output (else LIP_ESHAPE).
 *
 * x  n samples of the model's input shape;  y  n samples of its output shape; n may be 0
 * Returns  LIP_OK, LIP_ENOMEM. NaN and infinity pass through as they do in arithmetic.
 * Memory   of a chain of layers at most twice the largest activation, of a graph as many as are alive at once, for the samples that
 *          run at once, and one layer's scratch, for each thread, in ws.
 * Threads  safe on distinct ws and y. */
lip_err lip_predict(const lip_snapshot *snapshot, lip_workspace *ws, size_t n, const float *x, float *y, lip_error *err);

/* lip_predict_graph: the same for any number of inputs and outputs: one array each, in the model's order. Returns LIP_OK,
 * LIP_ENOMEM. */
lip_err lip_predict_graph(const lip_snapshot *snapshot, lip_workspace *ws, size_t n, const float *const *x, float *const *y,
                          lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
