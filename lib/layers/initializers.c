/* initializers.c: how variables begin.
 *
 *     zeros, ones
 *     what distributions.c draws
 *     orthogonal            gain Q diag(sign R) of a normal matrix's QR factorisation, transposed where it is wide
 *     SpectralInitializer   the reshaped kernel orthogonalisation of another initializer's kernel
 *
 * The numbers are ours, from Philox; the distributions are Keras's. A `seed` takes the place of the model's.
 *
 * Source: Keras 2.15 and deel-lip, semantics.md 10 and 18.1; Saxe, McClelland and Ganguli, ICLR 2014.
 */
#include <math.h>
#include <string.h>

#include <onelip/norm.h>

#include "layers/distributions.h"
#include "layers/layer.h"
#include "tensor/gemm.h"

static const double largest_seed = 9007199254740992; /* 2^53: what JSON's numbers hold exactly */

struct seeded { /* every random initializer begins with this */
    struct lip__object base;
    long seed; /* 0: none */
};

static lip_random own_random(const struct lip__object *self, const lip_random *random)
{
    lip_random own = *random;

    if (((const struct seeded *)self)->seed)
        own = (lip_random){.seed = (uint64_t)((const struct seeded *)self)->seed, .stream = random->stream};
    return own;
}

/* The matrix that a kernel of this shape is: (all but the last axis, the last). */
static void as_matrix(const lip_shape *shape, size_t *m, size_t *n)
{
    *n = shape->rank ? shape->dim[shape->rank - 1] : 1;
    *m = 1;
    for (size_t i = 0; i + 1 < shape->rank; i++)
        *m *= shape->dim[i];
}

/* ---- constants ------------------------------------------------------------------------------------ */

static const struct lip__field no_fields[] = {{.name = NULL}};

static lip_err fill_zeros(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    (void)self, (void)random, (void)err;
    for (size_t i = lip_shape_count(shape); i--;)
        x[i] = 0;
    return LIP_OK;
}

static lip_err fill_ones(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    (void)self, (void)random, (void)err;
    for (size_t i = lip_shape_count(shape); i--;)
        x[i] = 1;
    return LIP_OK;
}

static const struct lip__initializer_class zeros = {
    .cls = {.name = "Zeros",
            .aliases = "zeros|ZerosV2|zero",
            .module = "keras.initializers",
            .size = sizeof(struct lip__object),
            .fields = no_fields},
    .fill = fill_zeros,
};

static const struct lip__initializer_class ones = {
    .cls = {.name = "Ones",
            .aliases = "ones|OnesV2|one",
            .module = "keras.initializers",
            .size = sizeof(struct lip__object),
            .fields = no_fields},
    .fill = fill_ones,
};

/* ---- orthogonal ----------------------------------------------------------------------------------- */

struct orthogonal {
    struct seeded base;
    double gain;
};

/* q (tall, thin) orthonormal columns times the signs of R's diagonal, in float, to the kernel's own orientation. */
static void place(const double *q, const double *diag, size_t tall, size_t thin, bool wide, double gain, float *x)
{
    for (size_t i = 0; i < tall; i++)
        for (size_t j = 0; j < thin; j++)
            x[wide ? j * tall + i : i * thin + j] = (float)(gain * copysign(q[i * thin + j], q[i * thin + j] * diag[j]));
}

static lip_err fill_orthogonal(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x,
                               lip_error *err)
{
    lip_random own = own_random(self, random);
    size_t m, n, tall, thin;
    double *q, *diag;
    lip_err rc = LIP_OK;
    int info;

    as_matrix(shape, &m, &n);
    if (!m || !n)
        return LIP_OK;
    tall = m < n ? n : m;
    thin = m < n ? m : n;
    q = lip__alloc(m * n, sizeof *q);
    diag = lip__alloc(thin, sizeof *diag);
    if (!q || !diag) {
        rc = lip__nomem(err, (m * n + thin) * sizeof *q);
        goto done;
    }
    lip_random_normal(&own, x, m * n); /* x is long enough, and is written over below */
    for (size_t i = 0; i < m * n; i++)
        q[i] = x[i];
    info = lip__qr(tall, thin, q, diag);
    if (info)
        rc = info == -1 ? lip__nomem(err, m * n * sizeof *q) : lip__fail(err, LIP_ENUMERIC, "orthogonal: QR failed");
    else
        place(q, diag, tall, thin, m < n, ((const struct orthogonal *)self)->gain, x);
done:
    lip__free(diag);
    lip__free(q);
    return rc;
}

static const struct lip__field orthogonal_fields[] = {
    {.name = "gain", .type = LIP__FLOAT, .offset = LIP__FIELD(orthogonal, gain), .def = 1, .min = -INFINITY, .max = INFINITY},
    {.name = "seed", .type = LIP__INT, .offset = LIP__FIELD(orthogonal, base.seed), .def = NAN, .max = largest_seed,
     .flags = LIP__NONE_OK},
    {.name = NULL},
};

static const struct lip__initializer_class orthogonal = {
    .cls = {.name = "Orthogonal",
            .aliases = "orthogonal|OrthogonalV2",
            .module = "keras.initializers",
            .size = sizeof(struct orthogonal),
            .fields = orthogonal_fields},
    .fill = fill_orthogonal,
};

/* ---- SpectralInitializer -------------------------------------------------------------------------- */

enum { ORTHOGONAL = 4 }; /* its place in lip__initializers */

struct spectral {
    struct lip__object base;
    double eps_spectral, eps_bjorck, beta_bjorck, k;
    struct lip__object *base_initializer;
};

static lip_err fill_spectral(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x,
                             lip_error *err)
{
    const struct spectral *s = (const struct spectral *)self;
    lip_rko_options o = LIP_RKO_DEFAULTS;
    size_t m, n, floats;
    float *w = NULL, *u = NULL, *scratch = NULL;
    lip_err rc;

    o.eps_spectral = s->eps_spectral;
    o.eps_bjorck = s->eps_bjorck;
    o.beta_bjorck = s->beta_bjorck;
    as_matrix(shape, &m, &n);
    if (!s->base_initializer)
        return lip__fail(err, LIP_EDEFINITION, "SpectralInitializer: base_initializer is null, needs an initializer");
    if (!m || !n)
        return LIP_OK;
    floats = lip_rko_scratch(m, n, &o, false);
    w = lip__alloc(m * n, sizeof *w);
    u = lip__alloc(n, sizeof *u);
    scratch = lip__alloc(floats, sizeof *scratch);
    if (!w || !u || !scratch) {
        rc = lip__nomem(err, (m * n + n + floats) * sizeof *w);
        goto done;
    }
    rc = lip__initialize(s->base_initializer, shape, random, w, err);
    lip_random_uniform(random, u, n);
    if (!rc)
        rc = lip_rko(w, m, n, s->k, &o, u, u, x, scratch, false, NULL, err);
done:
    lip__free(scratch);
    lip__free(u);
    lip__free(w);
    return rc;
}

static const struct lip__field spectral_fields[] = {
    {.name = "eps_spectral", .type = LIP__FLOAT, .offset = LIP__FIELD(spectral, eps_spectral), .def = 1e-3, .max = INFINITY,
     .flags = LIP__OPEN_MIN},
    {.name = "eps_bjorck", .type = LIP__FLOAT, .offset = LIP__FIELD(spectral, eps_bjorck), .def = 1e-3, .max = INFINITY,
     .flags = LIP__OPEN_MIN | LIP__NONE_OK},
    {.name = "beta_bjorck", .type = LIP__FLOAT, .offset = LIP__FIELD(spectral, beta_bjorck), .def = 0.5, .max = 0.5,
     .flags = LIP__OPEN_MIN | LIP__NONE_OK},
    {.name = "k_coef_lip", .type = LIP__FLOAT, .offset = LIP__FIELD(spectral, k), .def = 1, .max = INFINITY,
     .flags = LIP__OPEN_MIN},
    {.name = "base_initializer", .type = LIP__OBJECT, .offset = LIP__FIELD(spectral, base_initializer), .def = ORTHOGONAL,
     .of = lip__initializers},
    {.name = NULL},
};

static const struct lip__initializer_class spectral = {
    .cls = {.name = "SpectralInitializer",
            .module = "deel.lip.initializers",
            .package = "deel-lip",
            .size = sizeof(struct spectral),
            .fields = spectral_fields},
    .fill = fill_spectral,
};

/* ---- all of them ---------------------------------------------------------------------------------- */

const struct lip__class *const lip__initializers[] = {
    &spectral.cls,           &lip__glorot_uniform.cls,   &zeros.cls,                 &ones.cls,
    &orthogonal.cls,         &lip__constant.cls,         &lip__identity.cls,         &lip__random_uniform.cls,
    &lip__random_normal.cls, &lip__truncated_normal.cls, &lip__variance_scaling.cls, &lip__glorot_normal.cls,
    &lip__he_uniform.cls,    &lip__he_normal.cls,        &lip__lecun_uniform.cls,    &lip__lecun_normal.cls,
    NULL,
};

lip_err lip__initialize(const struct lip__object *initializer, const lip_shape *shape, lip_random *random, float *x,
                        lip_error *err)
{
    return ((const struct lip__initializer_class *)initializer->cls)->fill(initializer, shape, random, x, err);
}
