/* distributions.c: Keras's initializers that draw each number by itself, or none at all.
 *
 *     Constant(value)                       Identity(gain)
 *     RandomUniform(minval, maxval)         RandomNormal(mean, stddev)
 *     TruncatedNormal(mean, stddev)         a normal number is drawn again beyond two deviations
 *     VarianceScaling(scale, mode, distribution) and the cases of it that have names: He*, Lecun*, GlorotNormal
 *
 * Source: Keras 2.15, semantics.md 18.1; Glorot and Bengio, AISTATS 2010; He et al., ICCV 2015.
 */
#include "layers/distributions.h"

#include <math.h>
#include <string.h>

static const double largest_seed = 9007199254740992; /* 2^53: what JSON's numbers hold exactly */

struct seeded {
    struct lip__object base;
    long seed; /* 0: none */
    double a, b; /* bounds, or mean and deviation, or scale; value or gain */
    const char *mode, *distribution;
};

#define A LIP__FIELD(seeded, a)
#define B LIP__FIELD(seeded, b)
#define NUMBER(name_, offset_, def_) \
    {.name = name_, .type = LIP__FLOAT, .offset = offset_, .def = def_, .min = -INFINITY, .max = INFINITY}
#define SEED                                                                                                        \
    {.name = "seed", .type = LIP__INT, .offset = LIP__FIELD(seeded, seed), .def = NAN, .max = largest_seed,         \
     .flags = LIP__NONE_OK}
#define END {.name = NULL}

static lip_random own_random(const struct seeded *s, const lip_random *random)
{
    return s->seed ? (lip_random){.seed = (uint64_t)s->seed, .stream = random->stream} : *random;
}

static void uniform(lip_random *r, float *x, size_t n, double low, double high)
{
    lip_random_uniform(r, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(low + (high - low) * x[i]);
}

static void normal(lip_random *r, float *x, size_t n, double mean, double deviation)
{
    lip_random_normal(r, x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(mean + deviation * x[i]);
}

/* What lies beyond two deviations is drawn again, from the numbers that follow. */
static void truncated(lip_random *r, float *x, size_t n, double mean, double deviation)
{
    lip_random_normal(r, x, n);
    for (size_t i = 0; i < n; i++) {
        while (!(fabsf(x[i]) <= 2))
            lip_random_normal(r, &x[i], 1);
        x[i] = (float)(mean + deviation * x[i]);
    }
}

static lip_err fill_constant(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    (void)random, (void)err;
    for (size_t i = lip_shape_count(shape); i--;)
        x[i] = (float)((const struct seeded *)self)->a;
    return LIP_OK;
}

static lip_err fill_identity(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    (void)random;
    if (shape->rank != 2)
        return lip__fail(err, LIP_EDEFINITION, "Identity: the variable has %zu axes, needs 2", shape->rank);
    for (size_t i = 0; i < shape->dim[0]; i++)
        for (size_t j = 0; j < shape->dim[1]; j++)
            x[i * shape->dim[1] + j] = i == j ? (float)((const struct seeded *)self)->a : 0;
    return LIP_OK;
}

static lip_err fill_uniform(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    const struct seeded *s = (const struct seeded *)self;
    lip_random own = own_random(s, random);

    (void)err;
    uniform(&own, x, lip_shape_count(shape), s->a, s->b);
    return LIP_OK;
}

static lip_err fill_normal(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    const struct seeded *s = (const struct seeded *)self;
    lip_random own = own_random(s, random);

    (void)err;
    normal(&own, x, lip_shape_count(shape), s->a, s->b);
    return LIP_OK;
}

static lip_err fill_truncated(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x,
                              lip_error *err)
{
    const struct seeded *s = (const struct seeded *)self;
    lip_random own = own_random(s, random);

    (void)err;
    truncated(&own, x, lip_shape_count(shape), s->a, s->b);
    return LIP_OK;
}

void lip__fans(const lip_shape *shape, double *in, double *out)
{
    size_t rank = shape->rank;
    double field = 1; /* of a convolution: the positions of its window */

    if (rank < 2) {
        *in = *out = rank ? (double)shape->dim[0] : 1;
        return;
    }
    for (size_t i = 0; i + 2 < rank; i++)
        field *= (double)shape->dim[i];
    *in = field * (double)shape->dim[rank - 2];
    *out = field * (double)shape->dim[rank - 1];
}

/* The standard deviation of a normal distribution cut at two deviations. */
#define TRUNCATED_DEVIATION 0.87962566103423978

static void scaled(const lip_shape *shape, lip_random *own, float *x, double scale, const char *mode, const char *distribution)
{
    size_t n = lip_shape_count(shape);
    double in, out, fan, variance;

    lip__fans(shape, &in, &out);
    fan = !strcmp(mode, "fan_in") ? in : !strcmp(mode, "fan_out") ? out : (in + out) / 2;
    variance = scale / fmax(1, fan);
    if (!strcmp(distribution, "uniform"))
        uniform(own, x, n, -sqrt(3 * variance), sqrt(3 * variance));
    else if (!strcmp(distribution, "untruncated_normal"))
        normal(own, x, n, 0, sqrt(variance));
    else
        truncated(own, x, n, 0, sqrt(variance) / TRUNCATED_DEVIATION);
}

static lip_err fill_scaled(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x, lip_error *err)
{
    const struct seeded *s = (const struct seeded *)self;
    lip_random own = own_random(s, random);

    (void)err;
    scaled(shape, &own, x, s->a, s->mode, s->distribution);
    return LIP_OK;
}

#define CLASS(name_, text_, aliases_, fields_, fill_)                                                                     \
    const struct lip__initializer_class lip__##name_ = {.cls = {.name = text_, .aliases = aliases_,                      \
                                                                .module = "keras.initializers",                          \
                                                                .size = sizeof(struct seeded), .fields = fields_},       \
                                                        .fill = fill_}

static const struct lip__field value_fields[] = {NUMBER("value", A, 0), END};
static const struct lip__field gain_fields[] = {NUMBER("gain", A, 1), END};
static const struct lip__field uniform_fields[] = {NUMBER("minval", A, -0.05), NUMBER("maxval", B, 0.05), SEED, END};
static const struct lip__field normal_fields[] = {NUMBER("mean", A, 0), NUMBER("stddev", B, 0.05), SEED, END};
static const struct lip__field scaling_fields[] = {
    {.name = "scale", .type = LIP__FLOAT, .offset = A, .def = 1, .max = INFINITY, .flags = LIP__OPEN_MIN},
    {.name = "mode", .type = LIP__CHOICE, .offset = LIP__FIELD(seeded, mode), .choices = "fan_in|fan_out|fan_avg"},
    {.name = "distribution", .type = LIP__CHOICE, .offset = LIP__FIELD(seeded, distribution),
     .choices = "truncated_normal|untruncated_normal|uniform"},
    SEED,
    END,
};
static const struct lip__field seed_fields[] = {SEED, END};

CLASS(constant, "Constant", "constant|ConstantV2", value_fields, fill_constant);
CLASS(identity, "Identity", "identity|IdentityV2", gain_fields, fill_identity);
CLASS(random_uniform, "RandomUniform", "random_uniform|uniform|RandomUniformV2", uniform_fields, fill_uniform);
CLASS(random_normal, "RandomNormal", "random_normal|normal|RandomNormalV2", normal_fields, fill_normal);
CLASS(truncated_normal, "TruncatedNormal", "truncated_normal|TruncatedNormalV2", normal_fields, fill_truncated);
CLASS(variance_scaling, "VarianceScaling", "variance_scaling|VarianceScalingV2", scaling_fields, fill_scaled);

/* The cases of VarianceScaling with a name and nothing to choose but the seed. */
#define NAMED(name_, text_, aliases_, scale_, mode_, distribution_)                                                       \
    static lip_err fill_##name_(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x,    \
                                lip_error *err)                                                                          \
    {                                                                                                                    \
        lip_random own = own_random((const struct seeded *)self, random);                                               \
        (void)err;                                                                                                       \
        scaled(shape, &own, x, scale_, mode_, distribution_);                                                            \
        return LIP_OK;                                                                                                   \
    }                                                                                                                    \
    CLASS(name_, text_, aliases_, seed_fields, fill_##name_)

NAMED(glorot_uniform, "GlorotUniform", "glorot_uniform|GlorotUniformV2", 1, "fan_avg", "uniform");
NAMED(glorot_normal, "GlorotNormal", "glorot_normal|GlorotNormalV2", 1, "fan_avg", "truncated_normal");
NAMED(he_uniform, "HeUniform", "he_uniform|HeUniformV2", 2, "fan_in", "uniform");
NAMED(he_normal, "HeNormal", "he_normal|HeNormalV2", 2, "fan_in", "truncated_normal");
NAMED(lecun_uniform, "LecunUniform", "lecun_uniform|LecunUniformV2", 1, "fan_in", "uniform");
NAMED(lecun_normal, "LecunNormal", "lecun_normal|LecunNormalV2", 1, "fan_in", "truncated_normal");
