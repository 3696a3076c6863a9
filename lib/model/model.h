/* model.h: what models, states, snapshots and workspaces are made of.
 *
 * Variables live in one arena, in three groups, so that an optimizer sees one long array:
 *
 *     [ trained: kernels, biases, … | carried: u, sigma | effective: wbar ]
 *
 * Each variable starts on a 64-byte boundary.
 */
#ifndef LIP_MODEL_PRIVATE_H
#define LIP_MODEL_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <onelip/model.h>

#include "layers/layer.h"

#define LIP__MAX_READ 6
#define LIP__NOWHERE ((size_t)-1)
#define LIP__MAX_SLOT 128 /* values of one block alive at once */

/* What a definition says, as it says it: a Sequential or a functional graph, nested ones inside. Names are whole paths,
 * "outer/inner"; `path` characters of one belong to the owner. */
struct lip__graph {
    const char *class_name; /* "Sequential", "Functional", "Model" */
    char *name;
    size_t path;
    bool deel; /* deel-lip's Sequential: the definition has k_coef_lip */
    bool sound; /* of the outermost: the definition's coefficient is "sound" */
    double k;
    struct lip__entry {
        lip_layer *layer; /* one of the two; owned */
        struct lip__graph *graph;
        char *pointer; /* where it stands in the document */
        struct lip__use {
            struct lip__source {
                size_t entry, use, tensor; /* an entry of the same graph, which of its uses, and which output of that */
            } *from;                       /* entry LIP__NOWHERE: the graph's own input */
            size_t n_from;
        } *use;        /* one, unless the layer or model is shared */
        size_t n_uses;
        size_t node;   /* Keras's number of the first use: a nested model's making of itself may count as 0 */
    } *entry;
    size_t n_entries;
    struct lip__source *order; /* uses of entries, each behind those that it reads */
    size_t n_order;
    size_t *input;  /* entries that are InputLayers, in the definition's order of inputs */
    struct lip__source *output;
    size_t n_inputs, n_outputs;
    lip_shape shape; /* of the input of a Sequential without an InputLayer; rank 0 while unknown */
};

void lip__graph_free(struct lip__graph *graph);

/* A tensor that flows through the graph. */
struct lip__value {
    size_t size;     /* floats per sample */
    size_t producer; /* a step; LIP__NOWHERE: an input of the model */
    size_t input;    /* which one, then */
    size_t output;   /* which output of the model it is; LIP__NOWHERE: none */
    size_t last;     /* the last step that reads it */
    size_t slot;     /* which buffer of a block holds it */
    bool learns;     /* a variable in front of it trains */
};

/* One layer's arithmetic, or that of the layer in an activation slot. */
struct lip__step {
    const lip_layer *layer;
    size_t top;                 /* the layer it belongs to: an index into lip_model.layer */
    bool turns;                 /* it only turns what one layer hands to others, and belongs to none */
    size_t read[LIP__MAX_READ]; /* variables that forward reads: wbar in place of kernel; LIP__NOWHERE: none */
    size_t train[LIP__MAX_READ];/* where their gradients belong: kernel in place of wbar */
    size_t stats;               /* where its layer's statistics lie in a training pass's, in floats */
    size_t *from, n_from;       /* values */
    size_t out;                 /* a value */
    size_t kernel;              /* whose wbar it reads; LIP__NOWHERE: none */
};

/* A kernel that is reparametrised: indices of its variables. */
struct lip__kernel {
    const lip_layer *layer;
    size_t top;
    size_t kernel, u, sigma, wbar; /* u, sigma: LIP__NOWHERE for Frobenius */
    size_t m, n;                   /* the kernel as a matrix */
    size_t factor;                 /* where a factor's q goes among lip_state.q; LIP__NOWHERE: the layer takes none */
    size_t half;                   /* floats that a sample leaves with a factor */
};

struct lip_model {
    _Atomic size_t refs;
    struct lip__graph *graph;
    lip_layer **turn; /* nameless ones between channels_first and the others */
    size_t n_turns;
    lip_layer **layer; /* all of them, in the definition's order, without the InputLayers of nested models */
    size_t n_layers;
    struct lip__step *step; /* each behind those that it reads */
    size_t n_steps;
    struct lip__value *value; /* the inputs come first */
    size_t n_values;
    size_t *slot; /* sizes of a block's buffers, in floats per sample */
    size_t n_slots;
    lip_shape *input, *output;
    char **input_name, **output_name;
    size_t n_inputs, n_outputs;
    size_t *output_value;
    struct lip__kernel *kernel;
    size_t n_kernels;
    lip_variable *variable;
    size_t *offset; /* of each variable, in floats */
    size_t n_variables;
    size_t trained, carried, arena; /* ends of the groups, in floats */
    size_t widest;  /* largest value of one sample, in floats */
    size_t scratch; /* floats a step needs per thread, a multiple of 16 */
    size_t packed_scratch; /* and in a snapshot's forward pass, where kernels are packed */
    bool shared;    /* a layer is used more than once */
    size_t stats;   /* floats that layers' statistics of a batch take */
    size_t q;       /* floats of all factors */
    double flops;
    char **warning;
    size_t n_warnings;
};

/* lip__model_assemble: what a reader of definitions calls at the end: shapes, numbers, shares of k. Takes the graph over, on
 * failure too. */
lip_err lip__model_assemble(struct lip__graph *graph, bool strict, lip_model **model, lip_error *err);

struct lip_state {
    const lip_model *model;
    float *now, *next;        /* arenas; next is where a change is prepared, and swapped in when it is whole */
    lip_effective *effective; /* of each layer */
    double *distance;         /* stored from computed, of each layer */
    uint64_t generation;      /* of kernels and u, unique in the process: what a trainer prepared belongs to one */
    float *q, *alpha;         /* of each kernel: alpha 0, or the factor that stands for wbar until somebody asks for it */
};

void lip__state_changed(lip_state *state); /* a new generation */

/* Kernels, biases and the like: what an optimizer updates. */
static inline bool lip__trains(lip_role role)
{
    return role == LIP_KERNEL || role == LIP_BIAS || role == LIP_OTHER;
}

/* What a forward pass reads under its own name: those, and what only training moves. */
static inline bool lip__reads(lip_role role)
{
    return lip__trains(role) || role == LIP_MOVING;
}

/* lip__declared_of: what the layer said of a variable. */
const struct lip__declared *lip__declared_of(const lip_model *model, size_t variable);

/* lip__state_next: the other arena, made at the first call; NULL: out of memory. */
float *lip__state_next(lip_state *state);

/* lip__state_factors: memory for q and alpha, made at the first call. lip__state_settle: every wbar is in its place, and no
 * factor is left. Whoever reads a wbar of `now` calls it. */
bool lip__state_factors(lip_state *state);
void lip__state_settle(const lip_state *state);

struct lip_snapshot {
    _Atomic size_t refs;
    const lip_model *model;
    float *memory;
    const float **data; /* of each variable; NULL: not read by inference */
    const float **packed; /* the same as its layer packed it; NULL: not packed */
    lip_effective *effective;
    double *distance;
    double penalty; /* of the raw variables it was published from: part of the loss */
};

struct lip_workspace {
    float *memory;
    size_t size; /* floats */
    bool serial;
    bool backwards; /* the last pass */
};

/* lip__workspace_reserve: at least `floats`, contents lost. */
lip_err lip__workspace_reserve(lip_workspace *ws, size_t floats, lip_error *err);

/* lip__round: to a whole number of cache lines. */
static inline size_t lip__round(size_t floats)
{
    return (floats + 15) & ~(size_t)15;
}

/* A forward pass in blocks of samples, each a task for lip__parallel that takes its block through all steps. With `keep`,
 * value v is left in keep[v] (of the whole batch); else values share the buffers of the thread's area and outputs go to y. */
struct lip__run {
    const lip_model *model;
    const float *const *data; /* of each variable */
    const float *const *packed; /* of each variable; NULL: none at all */
    size_t n, block;          /* samples, and samples per block */
    const float *const *x;    /* of each input */
    float *const *y;          /* of each output */
    bool alone, backwards;    /* see lip__pass */
    float *const *keep;
    const struct lip__training *training; /* NULL: inference; else `keep` too */
    size_t from, to; /* steps of this run; both 0: all */
    float *memory; /* lip_threads() areas, one behind the other */
    size_t area;   /* floats of one */
};
size_t lip__block_size(const lip_model *model, size_t n);
size_t lip__run_area(const lip_model *model, size_t block); /* floats, for a run without keep */
void lip__run(const struct lip__run *run);

/* lip__step_pass: what a step's layer is handed for samples first.. of a batch, scratch left out. w, moved: LIP__MAX_READ. */
struct lip__pass lip__step_pass(const struct lip__step *step, const float *const *data, const struct lip__training *training,
                                size_t first, size_t n, const float **w, float **moved);

/* lip__kernel_effective: wbar of one kernel from kernel and u. u_new, sigma: out, NULL for Frobenius. scratch: the
 * reparametrisation's. factor: NULL, or what may come instead of wbar. Returns LIP_OK, LIP_EZERO for a zero kernel, LIP_ENONFINITE; the text names the variable. */
lip_err lip__kernel_effective(const lip_model *model, const struct lip__kernel *k, const float *kernel, const float *u,
                              float *u_new, float *sigma, float *wbar, float *scratch, bool keep, lip_rko_info *info,
                              struct lip__factor *factor, lip_error *err);
size_t lip__kernel_scratch(const struct lip__kernel *k, bool keep); /* a multiple of 16 */

#endif
