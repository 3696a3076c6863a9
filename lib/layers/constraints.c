/* constraints.c: what is done to a raw variable after each optimizer step.
 *
 *     MaxNorm, MinMaxNorm, UnitNorm    scale the norm along axes (semantics.md 18.3); e = 1e-7 is in the divisor
 *     NonNeg                           w [w >= 0]
 *     WeightClipConstraint             clip each element to [-c, c]
 *     AutoWeightClipConstraint         the same with c = 1 / (sqrt(elements) scale)
 *     FrobeniusConstraint              w / (||w|| + eps)
 *     RadialConstraint                 kernels (n, n, c, f): rings around the centre hold one number, see below
 *     SpectralConstraint               the reshaped kernel orthogonalisation of w, from its own u, or from a drawn one each time
 *
 * Source: Keras 2.15, deel-lip (semantics.md 11 and 18.3).
 */
#include "layers/slots.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/gemm.h"

#define KERAS_EPSILON 1e-7
#define END {.name = NULL}

static size_t as_matrix(const lip_shape *shape, size_t *n)
{
    size_t count = lip_shape_count(shape);

    *n = shape->rank ? shape->dim[shape->rank - 1] : 1;
    return *n ? count / *n : 0;
}

/* ---- norms along axes --------------------------------------------------------------------------------- */

struct norms {
    struct lip__object base;
    double least, most, rate; /* MaxNorm: 0 .. most, rate 1; UnitNorm: most NAN */
    long axes[LIP_MAX_RANK + 1]; /* LIP__AXES */
};

static lip_err axes_check(const struct lip__object *self, const lip_shape *shape, lip_error *err)
{
    const struct norms *c = (const struct norms *)self;

    for (long i = 1; i <= labs(c->axes[0]); i++)
        if (c->axes[i] >= (long)shape->rank || c->axes[i] < -(long)shape->rank)
            return lip__fail(err, LIP_EDEFINITION, "%s: axis %ld of a variable of %zu axes", self->cls->name, c->axes[i], shape->rank);
    return LIP_OK;
}

static size_t axes_scratch(const struct lip__object *self, const lip_shape *shape)
{
    (void)self;
    return 2 * lip_shape_count(shape); /* sums of squares in double, one for each position of the other axes at most */
}

/* The position among the axes that are kept. */
static size_t kept(const lip_shape *shape, const bool *summed, size_t flat)
{
    size_t at = 0, stride = 1;

    for (size_t d = shape->rank; d-- > 0;) {
        size_t i = flat % shape->dim[d];
        flat /= shape->dim[d];
        if (summed[d])
            continue;
        at += i * stride;
        stride *= shape->dim[d];
    }
    return at;
}

static lip_err norms_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    const struct norms *c = (const struct norms *)self;
    size_t n = lip_shape_count(shape);
    bool summed[LIP_MAX_RANK] = {false};
    double *square = (double *)(void *)scratch;

    (void)err;
    for (long i = 1; i <= labs(c->axes[0]); i++)
        summed[c->axes[i] < 0 ? c->axes[i] + (long)shape->rank : c->axes[i]] = true;
    memset(square, 0, n * sizeof *square);
    for (size_t i = 0; i < n; i++)
        square[kept(shape, summed, i)] += (double)w[i] * w[i];
    for (size_t i = 0; i < n; i++) {
        double norm = sqrt(square[kept(shape, summed, i)]);
        double wanted = isnan(c->most) ? 1 : c->rate * fmin(fmax(norm, c->least), c->most) + (1 - c->rate) * norm;
        w[i] = (float)(w[i] * wanted / (KERAS_EPSILON + norm));
    }
    return LIP_OK;
}

#define AXES {.name = "axis", .type = LIP__AXES, .offset = LIP__FIELD(norms, axes), .def = 0}
#define BOUND(name_, member_, def_) \
    {.name = name_, .type = LIP__FLOAT, .offset = LIP__FIELD(norms, member_), .def = def_, .min = -INFINITY, .max = INFINITY}
/* What a class does not let choose stands in its table under a name that no JSON has. */
#define HIDDEN(member_, def_) \
    {.name = "", .type = LIP__FLOAT, .offset = LIP__FIELD(norms, member_), .def = def_, .flags = LIP__HIDDEN}

static const struct lip__field max_fields[] = {BOUND("max_value", most, 2), AXES, HIDDEN(least, 0), HIDDEN(rate, 1), END};
static const struct lip__field unit_fields[] = {AXES, HIDDEN(most, NAN), END};
static const struct lip__field min_max_fields[] = {BOUND("min_value", least, 0), BOUND("max_value", most, 1), BOUND("rate", rate, 1),
                                                   AXES, END};

#define NORMS(name_, text_, aliases_, fields_)                                                                           \
    static const struct lip__constraint_class name_ = {.cls = {.name = text_, .aliases = aliases_,                      \
                                                               .module = "keras.constraints",                           \
                                                               .size = sizeof(struct norms), .fields = fields_},        \
                                                       .check = axes_check,                                             \
                                                       .scratch = axes_scratch,                                         \
                                                       .apply = norms_apply}
NORMS(max_norm, "MaxNorm", "max_norm|maxnorm", max_fields);
NORMS(unit_norm, "UnitNorm", "unit_norm|unitnorm", unit_fields);
NORMS(min_max_norm, "MinMaxNorm", "min_max_norm", min_max_fields);

/* ---- element by element --------------------------------------------------------------------------------- */

struct clip {
    struct lip__object base;
    double c; /* c, scale or eps */
};

#define CLIP(name_, def_) \
    {.name = name_, .type = LIP__FLOAT, .offset = LIP__FIELD(clip, c), .def = def_, .min = 0, .max = INFINITY, .flags = LIP__OPEN_MIN}

static void clamp(float *w, size_t n, float c)
{
    for (size_t i = 0; i < n; i++)
        w[i] = w[i] > c ? c : w[i] < -c ? -c : w[i];
}

static lip_err clip_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    (void)scratch, (void)err;
    clamp(w, lip_shape_count(shape), (float)((const struct clip *)self)->c);
    return LIP_OK;
}

static lip_err auto_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    size_t n = lip_shape_count(shape);

    (void)scratch, (void)err;
    clamp(w, n, (float)(1 / (sqrt((double)n) * ((const struct clip *)self)->c)));
    return LIP_OK;
}

static lip_err positive_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    (void)self, (void)scratch, (void)err;
    for (size_t i = lip_shape_count(shape); i--;)
        w[i] = w[i] >= 0 ? w[i] : 0;
    return LIP_OK;
}

static lip_err frobenius_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    size_t n = lip_shape_count(shape);
    double norm = lip__norm(w, n) + ((const struct clip *)self)->c;

    (void)scratch, (void)err;
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(w[i] / norm);
    return LIP_OK;
}

static const struct lip__field clip_fields[] = {CLIP("c", 2), END};
static const struct lip__field auto_fields[] = {CLIP("scale", 1), END};
static const struct lip__field frobenius_fields[] = {CLIP("eps", 1e-7), END};
static const struct lip__field no_fields[] = {END};

#define PLAIN(name_, text_, aliases_, module_, package_, fields_, apply_)                                                \
    static const struct lip__constraint_class name_ = {.cls = {.name = text_, .aliases = aliases_, .module = module_,   \
                                                               .package = package_, .size = sizeof(struct clip),        \
                                                               .fields = fields_},                                      \
                                                       .apply = apply_}
PLAIN(non_neg, "NonNeg", "non_neg|nonneg", "keras.constraints", NULL, no_fields, positive_apply);
PLAIN(weight_clip, "WeightClipConstraint", NULL, "deel.lip.constraints", "deel-lip", clip_fields, clip_apply);
PLAIN(auto_clip, "AutoWeightClipConstraint", NULL, "deel.lip.constraints", "deel-lip", auto_fields, auto_apply);
PLAIN(frobenius, "FrobeniusConstraint", NULL, "deel.lip.constraints", "deel-lip", frobenius_fields, frobenius_apply);

/* ---- RadialConstraint --------------------------------------------------------------------------------------- */

static lip_err radial_check(const struct lip__object *self, const lip_shape *shape, lip_error *err)
{
    char text[128];

    if (shape->rank == 4 && shape->dim[0] == shape->dim[1] && shape->dim[0] > 1)
        return LIP_OK;
    return lip__fail(err, LIP_EDEFINITION, "%s: a variable of shape %s; needs a square kernel, two pixels wide or more",
                     self->cls->name, lip_shape_text(shape, text, sizeof text));
}

static size_t radial_scratch(const struct lip__object *self, const lip_shape *shape)
{
    (void)self;
    return shape->dim[0];
}

/* How many rings lie between a place along one axis and the centre, which is two places wide where n is even. */
static size_t ring(size_t n, size_t i)
{
    size_t c = n / 2;

    return i >= c ? i - c : n % 2 ? c - i : c - 1 - i;
}

/* Ring r > 0 gets what stands r places down the diagonal from the centre, or r - 1 where n is odd; the centre what stands one
 * place up. That is what Keras computes, if not what it says. */
static lip_err radial_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    size_t n = shape->dim[0], depth = shape->dim[2] * shape->dim[3], c = n / 2;

    (void)self, (void)err;
    for (size_t d = 0; d < depth; d++) {
        for (size_t r = 0; r <= n - 1 - c; r++) {
            size_t at = r ? c + r - n % 2 : c - 1;
            scratch[r] = w[(at * n + at) * depth + d];
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                w[(i * n + j) * depth + d] = scratch[ring(n, i) > ring(n, j) ? ring(n, i) : ring(n, j)];
    }
    return LIP_OK;
}

static const struct lip__constraint_class radial = {
    .cls = {.name = "RadialConstraint", .aliases = "radial_constraint", .module = "keras.constraints",
            .size = sizeof(struct clip), .fields = no_fields},
    .check = radial_check,
    .scratch = radial_scratch,
    .apply = radial_apply,
};

/* ---- SpectralConstraint ----------------------------------------------------------------------------------- */

struct spectral {
    struct lip__object base;
    double k;
    lip_rko_options rko;
    struct lip__floats u; /* none: drawn */
};

static lip_err spectral_check(const struct lip__object *self, const lip_shape *shape, lip_error *err)
{
    const struct spectral *s = (const struct spectral *)self;
    size_t n;

    as_matrix(shape, &n);
    if (!s->u.n || s->u.n == n)
        return LIP_OK;
    return lip__fail(err, LIP_EDEFINITION, "%s: u has %zu numbers, needs %zu", self->cls->name, s->u.n, n);
}

static size_t spectral_scratch(const struct lip__object *self, const lip_shape *shape)
{
    size_t n, m = as_matrix(shape, &n);

    return lip_rko_scratch(m, n, &((const struct spectral *)self)->rko, false) + m * n + n + 32;
}

static lip_err spectral_apply(const struct lip__object *self, const lip_shape *shape, float *w, float *scratch, lip_error *err)
{
    const struct spectral *s = (const struct spectral *)self;
    size_t n, m = as_matrix(shape, &n);
    float *wbar = scratch + ((lip_rko_scratch(m, n, &s->rko, false) + 15) & ~(size_t)15), *u = wbar + m * n;
    lip_random random = {0, lip_random_stream("SpectralConstraint"), 0};
    lip_err rc;

    if (!s->u.n)
        lip_random_uniform(&random, u, n);
    for (size_t i = 0; i < s->u.n; i++)
        u[i] = (float)s->u.v[i];
    if ((rc = lip_rko(w, m, n, s->k, &s->rko, u, u, wbar, scratch, false, NULL, err)) != LIP_OK)
        return rc;
    memcpy(w, wbar, m * n * sizeof *w);
    return LIP_OK;
}

#define RKO(name_, member_, def_, max_, flags_) \
    {.name = name_, .type = LIP__FLOAT, .offset = LIP__FIELD(spectral, member_), .def = def_, .min = 0, .max = max_, .flags = flags_}
#define COUNT(member_, def_) \
    {.name = "", .type = LIP__INT, .offset = LIP__FIELD(spectral, member_), .def = def_, .flags = LIP__HIDDEN}

static const struct lip__field spectral_fields[] = {
    RKO("k_coef_lip", k, 1, INFINITY, LIP__OPEN_MIN),
    RKO("eps_spectral", rko.eps_spectral, 1e-3, INFINITY, LIP__OPEN_MIN),
    RKO("eps_bjorck", rko.eps_bjorck, 1e-3, INFINITY, LIP__OPEN_MIN | LIP__NONE_OK),
    RKO("beta_bjorck", rko.beta_bjorck, 0.5, 0.5, LIP__OPEN_MIN | LIP__NONE_OK),
    {.name = "u", .type = LIP__FLOATS, .offset = LIP__FIELD(spectral, u), .min = -INFINITY, .max = INFINITY,
     .flags = LIP__NUMPY | LIP__NONE_OK},
    COUNT(rko.maxiter_spectral, 10),
    COUNT(rko.maxiter_bjorck, 15),
    END,
};

static const struct lip__constraint_class spectral = {
    .cls = {.name = "SpectralConstraint", .module = "deel.lip.constraints", .package = "deel-lip", .size = sizeof(struct spectral),
            .fields = spectral_fields},
    .check = spectral_check,
    .scratch = spectral_scratch,
    .apply = spectral_apply,
};

const struct lip__class *const lip__constraints[] = {&max_norm.cls, &unit_norm.cls, &min_max_norm.cls, &non_neg.cls, &weight_clip.cls,
                                                     &auto_clip.cls, &frobenius.cls, &radial.cls, &spectral.cls, NULL};
