/* layer.h: what a kind of layer is, and what every layer has.
 *
 * To add a kind: its file, its line in kinds.def, its line in lib/local.mk, its golden vector.
 */
#ifndef LIP_LAYER_H
#define LIP_LAYER_H

#include <stdbool.h>
#include <stddef.h>

#include <onelip/model.h>
#include <onelip/norm.h>
#include <onelip/random.h>

#include "base/base.h"
#include "norm/rko_factor.h"

/* ---- configurable things ------------------------------------------------------------------------
 * Layers, losses, optimizers, metrics and initializers are all {"class_name", "config"} in Keras's JSON.
 * A class is its name and the table of its config keys, in Keras's order of emission; io/keras_json.c reads
 * and writes objects by that table and nothing else. */

enum lip__type {
    LIP__INT,       /* long */
    LIP__FLOAT,     /* double */
    LIP__BOOL,      /* bool */
    LIP__PAIR,      /* size_t[2]; an int stands for two equal ones */
    LIP__INTS,      /* struct lip__ints: a list of at most LIP_MAX_RANK; no default */
    LIP__FLOATS,    /* struct lip__floats, owned: a list of numbers; no default */
    LIP__STRINGS,   /* struct lip__strings, owned: a string or a list of them; no default */
    LIP__EDGES,     /* size_t[4]: top, bottom, left, right; an int or a pair (rows, columns) stand for equal ones */
    LIP__CHOICE,    /* const char *, one of `choices`, kept in the spelling of the table */
    LIP__STRING,    /* char *, owned: names. def NAN: required */
    LIP__OBJECT,    /* struct lip__object *, owned, of the classes in `of`; null is NULL */
    LIP__ACTIVATION,/* lip_layer *, owned: identifier, layer object or null; NULL is linear */
    LIP__NULL,      /* nothing is stored: only null is accepted now */
    LIP__AXES,      /* long[LIP_MAX_RANK + 1]: how many, then they; minus how many where a bare number stood */
    LIP__ANY,       /* nothing is stored, anything is accepted, null is written */
    LIP__FIXED      /* nothing is stored: only `def` (written as `choices`, a JSON text) is accepted */
};

enum { LIP__NONE_OK = 1, /* null (None) is accepted; stored as NAN, 0 or {0, 0}; of a PAIR that may be {0, 0}: {SIZE_MAX, SIZE_MAX} */
       LIP__OPEN_MIN = 2, /* min itself is out of range */
       LIP__OPEN_MAX = 256, /* max itself is */
       LIP__ANY_CASE = 4, /* choices in any case */
       LIP__HIDDEN = 16, /* has its default and no key: neither read nor written */
       LIP__CALL = 64, /* an argument of the call: in the node of a functional model, not in the config */
       LIP__NOT_KERAS = 8, /* a key of ours: not written for Keras unless it differs from its default */
       LIP__NUMPY = 128, /* of FLOATS: a row, as Keras writes arrays: {"class_name": "__numpy__", …} */
       LIP__BARE = 32 /* of an OBJECT: a number stands for of[0] with that in its first field, and def is one */ };

struct lip__ints {
    size_t n;
    long v[LIP_MAX_RANK];
};

#define LIP__MAX_FLOATS (size_t)4096
struct lip__floats {
    size_t n;
    double *v;
};

struct lip__strings {
    size_t n;
    char **v;
};

void lip__strings_clear(struct lip__strings *list);

struct lip__class;

struct lip__field {
    const char *name;
    enum lip__type type;
    size_t offset;            /* in the object's struct */
    double def, min, max;     /* default; range. PAIR: each element. INT without default: def NAN = required */
    const char *choices;      /* CHOICE: "same|valid"; the first is the default unless def indexes another */
    const struct lip__class *const *of; /* OBJECT: NULL-terminated list of classes; the default is of[def], NAN: null */
    unsigned flags;
};

struct lip__class {
    const char *name;    /* Keras's class name */
    const char *aliases; /* further identifiers, "|"-separated: "orthogonal|OrthogonalV2" */
    const char *module;  /* of the v3 dialect: "deel.lip.layers.dense" */
    const char *package; /* "deel-lip" or NULL: registered_name is package>name or null */
    size_t size;         /* of the struct, which begins with a lip_layer or lip__object */
    const struct lip__field *fields; /* ends with a NULL name */
};

/* A loss, optimizer, metric or initializer: its class, then what its fields say. */
struct lip__object {
    const struct lip__class *cls;
};

/* lip__object_new: with every default. lip__object_free: and the objects in it. A layer is made by
 * lip__layer_new, not by this. */
struct lip__object *lip__object_new(const struct lip__class *cls);
struct lip__object *lip__object_bare(const struct lip__class *cls, double x); /* with x in its first field */
void lip__object_free(struct lip__object *object);
void lip__fields_default(const struct lip__class *cls, void *object); /* returns with OBJECTs NULL when memory ran out */
void lip__fields_clear(const struct lip__class *cls, void *object);
/* lip__fields_copy: the options that both classes have, from one object to another with its defaults; objects in them (initializers
 * and the like) only between objects of one class. false: out of memory. */
bool lip__fields_copy(const struct lip__class *cls, const void *from, const struct lip__class *to_cls, void *to);
/* lip__field_choice: the value to store for `text` in a LIP__CHOICE: the table's spelling, a string that lives as long
 * as the process; NULL: none of the choices. (A default of NAN stores NULL.) */
const char *lip__field_choice(const struct lip__field *field, const char *text);
size_t lip__pair_none(const struct lip__field *field); /* what null is stored as, twice */

/* ---- initializers: lib/layers/initializers.c ------------------------------------------------------ */

struct lip__initializer_class {
    struct lip__class cls;
    lip_err (*fill)(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err);
};
extern const struct lip__class *const lip__initializers[]; /* NULL-terminated; [0] is SpectralInitializer,
                                                              [1] glorot_uniform, [2] zeros, [3] ones, [4] orthogonal */
lip_err lip__initialize(const struct lip__object *initializer, const lip_shape *shape, lip_random *random, float *x,
                        lip_error *err);

/* ---- layers ---------------------------------------------------------------------------------------- */

/* How bounds/ treats a layer's linear part. */
enum lip__operator {
    LIP__ANALYTIC, /* kind->constant says it all */
    LIP__MATRIX,   /* x -> x W, W the effective kernel */
    LIP__CONV,     /* 'same' or 'valid' convolution with the effective kernel */
    LIP__ADJOINT,  /* of the convolution from `out` to `in` with the effective kernel (kh, kw, filters, channels) */
    LIP__PADDED    /* 'valid' convolution of an image that goes on past its edges: family.h */
};

enum { LIP__LIPSCHITZ = 1,  /* deel-lip's LipschitzLayer: takes its share of a Sequential's k */
       LIP__CONDENSABLE = 2,/* has wbar */
       LIP__INPUT = 4,
       LIP__ACTIVATES = 8, /* may stand in an activation slot */
       LIP__MOVES = 32, /* numbers go to other places, or nowhere, and zeros come in; none changes */
       LIP__POINTWISE = 16 /* each number by itself, without variables: any order of the axes will do */ };

/* A forward and backward pass of a training step; inference has none. */
struct lip__training {
    uint64_t seed, step;
    float *stats;         /* model->stats floats: what observe left, of each step */
    float *const *moved;  /* of each variable whose role is LIP_MOVING: where its next value goes; it holds the present one */
    struct lip__factor *factor; /* of each kernel; NULL: there are none */
    float *const *half;   /* of each kernel: see lip__pass */
};

struct lip__pass {
    size_t n;                /* samples of this call */
    size_t first;            /* place of its first one in the batch */
    const struct lip__training *training; /* NULL: inference */
    float *stats;            /* training: kind->stats floats */
    float *const *moved;     /* observe: of each of w that is LIP_MOVING */
    struct lip__factor *factor; /* NULL, or what makes an effective kernel of w[0], which is the raw one then */
    float *half[2];          /* then: kind->half floats a sample that forward leaves for gradient, and gradient for backward */
    const float *const *w;   /* what the forward pass reads: [0] effective kernel, [1] bias (NULL: none), ... */
    const float *packed;     /* forward: what kind->pack made of w; NULL: nothing */
    float *const *dw;        /* gradient(): where to put dL/dw, overwritten; NULL entries are not wanted */
    bool alone;              /* no other part of the batch is at work: a product may use the pool */
    bool backwards;          /* by turns: see lip__gemv_packed */
    float *scratch;          /* kind->scratch floats of this thread, 64-byte aligned */
};

struct lip__kind {
    struct lip__class cls;
    unsigned flags;
    enum lip__operator op;
    const struct lip__kind *vanilla; /* what vanilla_export makes of it; NULL: stays what it is */

    /* After the fields were read: checks that concern several of them. NULL: none. */
    lip_err (*check)(lip_layer *, lip_error *);
    /* The input shape is known: check it, set out, coef and declare variables with lip__declare. */
    lip_err (*build)(lip_layer *, lip_error *);
    /* effective kernel <- kernel, u. NULL: the kernel is used as it is. See lip__reparam below. */
    const struct lip__reparam *reparam;
    /* Kinds that see the whole batch in training, one thread: before forward, and before gradient and backward. What they find
     * out goes to pass->stats, kind->stats floats. NULL: none. */
    size_t (*stats)(const lip_layer *);
    void (*observe)(const lip_layer *, const struct lip__pass *, const float *x);
    void (*observe_back)(const lip_layer *, const struct lip__pass *, const float *x, const float *dy);
    /* n samples, one thread. x and y do not overlap. */
    void (*forward)(const lip_layer *, const struct lip__pass *, const float *x, float *y);
    /* Kinds whose forward has a quicker form for w that stay as they are, as a snapshot's do: floats of it, 0: none on this
     * machine; and that form, made of w; and forward's scratch then, NULL: as any other. Belongs to w[0]. NULL: none. */
    size_t (*packed)(const lip_layer *);
    void (*pack)(const lip_layer *, const float *const *w, float *packed);
    size_t (*packed_scratch)(const lip_layer *);
    /* Kinds that join several tensors have these three instead of build, forward and backward: out from the shapes in
     * layer->merged; y from all x; dx of input `which`. */
    lip_err (*join)(lip_layer *, lip_error *);
    void (*merge)(const lip_layer *, const struct lip__pass *, const float *const *x, float *y);
    void (*unmerge)(const lip_layer *, const struct lip__pass *, const float *const *x, const float *dy, size_t which,
                    float *dx);
    /* dx from dy; x and y as in forward. n samples, one thread. dx may be dy only if `inplace`. */
    void (*backward)(const lip_layer *, const struct lip__pass *, const float *x, const float *y, const float *dy, float *dx);
    /* dw over all n samples; may use lip__parallel, has lip_threads() scratches one behind the other. NULL: no variables. */
    void (*gradient)(const lip_layer *, const struct lip__pass *, const float *x, const float *dy);
    size_t (*scratch)(const lip_layer *); /* floats per thread, any of the three; NULL: 0 */
    size_t (*half)(const lip_layer *); /* NULL: takes no factor */
    double (*constant)(const lip_layer *); /* proven Lipschitz constant of an ANALYTIC kind (k included); NAN, NULL: none */
    double (*weighed)(const lip_layer *, const float *const *w); /* the same of a kind where it depends on w, as forward
                                                                    reads them */
    double (*claimed)(const lip_layer *);  /* what deel-lip claims (16.1); NULL: k for LIP__LIPSCHITZ, NAN for others */
    double (*flops)(const lip_layer *);    /* per sample; NULL: a few per output */
    bool (*per_output)(const lip_layer *); /* NULL: false */
};

/* Every kind's own struct begins with this. */
struct lip_layer {
    const struct lip__kind *kind;
    char *name;
    bool trainable;
    double k;    /* k_coef_lip; 1 for kinds without one */
    double coef; /* coef_lip, set by build; 1 for kinds without one */
    double own_coef; /* what coef is to be instead; 0: what build sets */
    lip_shape in, out;     /* without the batch axis, as the arithmetic has them */
    bool first;            /* data_format is channels_first. The arithmetic puts channels last all the same, */
    lip_shape given, made; /* and these are `in` and `out` as the definition has them */
    lip_shape *merged;     /* of a kind that joins: the shapes of its inputs */
    size_t n_merged;
    struct lip__object *kernel_regularizer, *bias_regularizer, *activity_regularizer; /* slots; NULL: none. Owned. */
    struct lip__object *kernel_constraint, *bias_constraint;
    lip_layer *activation; /* the activation slot, named "<layer>/<its own name>"; NULL: linear. Owned. */
    size_t index;          /* place in the definition */
    size_t var, n_vars;    /* its variables among the model's (the activation's excluded) */
    struct lip__declared { /* what build declared, before the model numbers it */
        const char *name;
        lip_role role;
        lip_shape shape;
        const struct lip__object *initializer; /* NULL: role's own (u normal, sigma one, wbar computed) */
        const struct lip__object *regularizer, *constraint; /* NULL: none */
    } declared[6];
    size_t n_declared;
    bool has_batch_shape; /* its config carried batch_input_shape */
    bool in_slot;         /* it is the activation of another layer */
    bool sound;           /* the model's coefficient: coef is to make the claim true */
    size_t path;          /* characters of its name that belong to the models and layers around it */
};

lip_layer *lip__layer_new(const struct lip__kind *kind); /* defaults set; NULL: out of memory */
void lip__layer_free(lip_layer *layer);
/* lip__layer_copy: a new layer of `kind`, named like this one and with its options; not built. NULL: out of memory. */
lip_layer *lip__layer_copy(const lip_layer *layer, const struct lip__kind *kind);
void lip__declare(lip_layer *layer, const char *name, lip_role role, const lip_shape *shape,
                  const struct lip__object *initializer, const struct lip__object *regularizer,
                  const struct lip__object *constraint);
/* lip__layer_build: kind->check and kind->build on this input shape, then the activation on its output. Checks that every
 * number is finite and every shape fits memory, so that nobody behind it has to. */
lip_err lip__layer_build(lip_layer *layer, const lip_shape *in, lip_error *err);
/* lip__turned: a shape with its first axis last, or with its last one first. */
lip_shape lip__turned(const lip_shape *shape, bool to_last);
/* lip__turn_new: a nameless Permute that turns tensors of this shape so; NULL: out of memory. layers/moves.c. */
lip_layer *lip__turn_new(const lip_shape *shape, bool to_last);
/* lip__layer_join: the same for a layer that joins n tensors. Other kinds take n == 1. */
#define LIP__MAX_JOINED 64
lip_err lip__layer_join(lip_layer *layer, const lip_shape *in, size_t n, lip_error *err);
/* lip__layer_fail: as lip__fail, with 'layer "d1" (SpectralDense): ' in front. */
lip_err lip__layer_fail(const lip_layer *layer, lip_error *err, lip_err code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* LIP__SHAPE: a shape of these dimensions. */
#define LIP__SHAPE(...)                                                                                  \
    ((lip_shape){sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), {__VA_ARGS__}})
double lip__layer_coefficient(const lip_layer *layer); /* L * k */

const struct lip__kind *const *lip__kinds(void); /* NULL-terminated */
const struct lip__kind *lip__kind_find(const char *name); /* bare class name; NULL: unknown */
/* lip__activation_find: Keras's activation strings: "relu" -> the kind of that function, which has no options and is no
 * layer class of its own; "linear" -> NULL with *known true. */
const struct lip__kind *lip__activation_find(const char *identifier, bool *known);
const char *lip__activation_identifier(const lip_layer *activation); /* "relu", or NULL: needs an object */
/* lip__activation_new: the layer that an identifier stands for ("relu"), nameless; NULL: out of memory. The identifier is
 * one that lip__activation_find knows and that is not "linear". */
lip_layer *lip__activation_new(const char *identifier);
const char *lip__activation_identifiers(void); /* "linear, relu, …", for error texts */

/* How a raw kernel becomes an effective one. One for all Spectral kinds, one for Frobenius. The kernel is the matrix
 * (m, n) = (count/last, last); where a u is declared, n is its length, and a kind whose kernel has that axis elsewhere has
 * a reparametrisation of its own that moves it. */
struct lip__reparam {
    bool has_u; /* u (1, last) and sigma (1, 1) exist */
    size_t (*scratch)(const lip_layer *, size_t m, size_t n, bool keep);
    /* factor: NULL, or what may be filled in instead of wbar, as lip__rko does. */
    lip_err (*forward)(const lip_layer *, const float *w, size_t m, size_t n, const float *u, float *u_new, float *wbar,
                       float *scratch, bool keep, lip_rko_info *info, struct lip__factor *factor, lip_error *err);
    /* u: through the power iteration that had started there as well; NULL: u_new is a constant. */
    lip_err (*backward)(const lip_layer *, const float *w, size_t m, size_t n, const lip_rko_info *info, const float *u,
                        const float *u_new, const float *g, float *dw, float *scratch, const struct lip__factor *factor,
                        lip_error *err);
};
extern const struct lip__reparam lip__spectral, lip__frobenius; /* layers/reparam.c */

/* Shared by kinds of one family, so that SpectralDense is Dense with another kernel. */
struct lip__dense {       /* Dense, SpectralDense, FrobeniusDense begin with this */
    lip_layer base;
    long units;
    bool use_bias;
    struct lip__object *kernel_initializer, *bias_initializer;
    lip_rko_options rko;  /* SpectralDense */
    bool disjoint;        /* FrobeniusDense */
};
struct lip__conv {        /* Conv2D, Conv2DTranspose, PadConv2D and what is constrained of them */
    lip_layer base;
    long filters, groups;
    size_t kernel[2], strides[2], dilation[2];
    size_t output_padding[2]; /* of a transposed one; SIZE_MAX: none is given */
    const char *padding, *data_format;
    bool use_bias;
    struct lip__object *kernel_initializer, *bias_initializer;
    lip_rko_options rko;
};
/* The options of a reparametrised layer, wherever its family keeps them. */
const lip_rko_options *lip__layer_rko(const lip_layer *layer);
bool lip__layer_disjoint(const lip_layer *layer);

#define LIP__FIELD(struct_, member) offsetof(struct struct_, member)

#endif
