/* schedules.c: Keras's learning-rate schedules, t being the steps made before this one.
 *
 *     ExponentialDecay        r a^(t/T)
 *     InverseTimeDecay        r / (1 + a t/T)
 *     PiecewiseConstantDecay  the value behind the last boundary below t
 *     PolynomialDecay         (r - e)(1 - min(t, T)/T)^p + e;  cycle: T grows to its next multiple that reaches t
 *     CosineDecay             r ((1 - a)(1 + cos(pi min(t, T)/T))/2 + a), after a linear warm-up
 *     CosineDecayRestarts     the same, starting again after T, T q, T q^2, ... at r s, r s^2, ...
 *
 * staircase rounds t/T down. Source: Keras 2.15, learning_rate_schedule.py; Loshchilov and Hutter, ICLR 2017.
 */
#include <math.h>
#include <stdint.h>

#include "optim/schedule.h"

struct decay {
    struct lip__object base;
    double rate, steps, decay, end, power, target, warm, t_mul, m_mul;
    bool staircase, cycle;
    struct lip__floats boundaries, values;
    char *name;
};

#define D(self) ((const struct decay *)(self))

static double constant(const struct lip__object *self, double t)
{
    (void)t;
    return D(self)->rate;
}

static double fraction(const struct decay *d, double t)
{
    return d->staircase ? floor(t / d->steps) : t / d->steps;
}

static double exponential(const struct lip__object *self, double t)
{
    return D(self)->rate * pow(D(self)->decay, fraction(D(self), t));
}

static double inverse_time(const struct lip__object *self, double t)
{
    return D(self)->rate / (1 + D(self)->decay * fraction(D(self), t));
}

static double piecewise(const struct lip__object *self, double t)
{
    const struct decay *d = D(self);
    size_t i = 0;

    while (i < d->boundaries.n && t > trunc(d->boundaries.v[i])) /* Keras casts them to the step's type, an integer */
        i++;
    return d->values.v[i];
}

static double polynomial(const struct lip__object *self, double t)
{
    const struct decay *d = D(self);
    double steps = d->steps;

    if (d->cycle)
        steps *= t > 0 ? ceil(t / steps) : 1;
    else
        t = fmin(t, steps);
    return (d->rate - d->end) * pow(1 - t / steps, d->power) + d->end;
}

static double falling(double alpha, double part)
{
    return (1 - alpha) * 0.5 * (1 + cos(M_PI * part)) + alpha;
}

static double cosine(const struct lip__object *self, double t)
{
    const struct decay *d = D(self);

    if (isnan(d->target))
        return d->rate * falling(d->decay, fmin(t, d->steps) / d->steps);
    if (t < d->warm)
        return d->rate + (d->target - d->rate) * t / d->warm;
    return d->target * falling(d->decay, fmin(t - d->warm, d->steps) / d->steps);
}

static double restarts(const struct lip__object *self, double t)
{
    const struct decay *d = D(self);
    double q = d->t_mul, part = t / d->steps, period = 1, before = floor(part);

    if (q != 1) { /* 1 + q + ... + q^(i-1) = (q^i - 1)/(q - 1) */
        before = floor(log1p(part * (q - 1)) / log(q) + 1e-12);
        period = pow(q, before);
        part -= (period - 1) / (q - 1);
    } else {
        part -= before;
    }
    return d->rate * ((1 - d->decay) * 0.5 * pow(d->m_mul, before) * (1 + cos(M_PI * part / period)) + d->decay);
}

#define AT "/optimizer/config/learning_rate"

static lip_err check_piecewise(const struct lip__object *self, lip_error *err)
{
    const struct decay *d = D(self);

    if (d->values.n != d->boundaries.n + 1)
        return lip__fail_at(err, LIP_EDEFINITION, AT,
                            "PiecewiseConstantDecay has %zu boundaries and %zu values, needs one value more",
                            d->boundaries.n, d->values.n);
    for (size_t i = 1; i < d->boundaries.n; i++)
        if (d->boundaries.v[i] <= d->boundaries.v[i - 1])
            return lip__fail_at(err, LIP_EDEFINITION, AT, "PiecewiseConstantDecay: boundary %g does not rise above %g",
                                d->boundaries.v[i], d->boundaries.v[i - 1]);
    for (size_t i = 0; i < d->values.n; i++)
        if (d->values.v[i] < 0)
            return lip__fail_at(err, LIP_EDEFINITION, AT, "PiecewiseConstantDecay: value %g, needs numbers >= 0",
                                d->values.v[i]);
    return LIP_OK;
}

#define NAME {.name = "name", .type = LIP__STRING, .offset = LIP__FIELD(decay, name), .flags = LIP__NONE_OK}
#define NUMBER(key, member, def_, max_)                                                                              \
    {.name = key, .type = LIP__FLOAT, .offset = LIP__FIELD(decay, member), .def = def_, .max = max_}
#define RATE(key, def_) NUMBER(key, rate, def_, 1e30)
#define STEPS(key)                                                                                                   \
    {.name = key,                                                                                                    \
     .type = LIP__FLOAT,                                                                                             \
     .offset = LIP__FIELD(decay, steps),                                                                             \
     .def = NAN,                                                                                                     \
     .max = 1e15,                                                                                                    \
     .flags = LIP__OPEN_MIN}
#define FLAG(key, member) {.name = key, .type = LIP__BOOL, .offset = LIP__FIELD(decay, member)}
#define LIST(key, member)                                                                                            \
    {.name = key, .type = LIP__FLOATS, .offset = LIP__FIELD(decay, member), .min = -INFINITY, .max = 1e30}

static const struct lip__field constant_fields[] = {RATE("learning_rate", NAN), {.name = NULL}};
static const struct lip__field exponential_fields[] = {RATE("initial_learning_rate", NAN),
                                                       STEPS("decay_steps"),
                                                       NUMBER("decay_rate", decay, NAN, 1e30),
                                                       FLAG("staircase", staircase),
                                                       NAME,
                                                       {.name = NULL}};
static const struct lip__field piecewise_fields[] = {
    LIST("boundaries", boundaries), LIST("values", values), NAME, {.name = NULL}};
static const struct lip__field polynomial_fields[] = {RATE("initial_learning_rate", NAN),
                                                      STEPS("decay_steps"),
                                                      NUMBER("end_learning_rate", end, 0.0001, 1e30),
                                                      NUMBER("power", power, 1, 1e6),
                                                      FLAG("cycle", cycle),
                                                      NAME,
                                                      {.name = NULL}};
static const struct lip__field cosine_fields[] = {RATE("initial_learning_rate", NAN),
                                                  STEPS("decay_steps"),
                                                  NUMBER("alpha", decay, 0, 1e30),
                                                  NAME,
                                                  {.name = "warmup_target",
                                                   .type = LIP__FLOAT,
                                                   .offset = LIP__FIELD(decay, target),
                                                   .def = NAN,
                                                   .max = 1e30,
                                                   .flags = LIP__NONE_OK},
                                                  NUMBER("warmup_steps", warm, 0, 1e15),
                                                  {.name = NULL}};
static const struct lip__field restarts_fields[] = {RATE("initial_learning_rate", NAN),
                                                    STEPS("first_decay_steps"),
                                                    {.name = "t_mul",
                                                     .type = LIP__FLOAT,
                                                     .offset = LIP__FIELD(decay, t_mul),
                                                     .def = 2,
                                                     .min = 1, /* below, the periods shrink to nothing */
                                                     .max = 1e6},
                                                    NUMBER("m_mul", m_mul, 1, 1e6),
                                                    NUMBER("alpha", decay, 0, 1e30),
                                                    NAME,
                                                    {.name = NULL}};

#define SCHEDULE(variable, class_name, fields_, rate_, check_)                                                       \
    static const struct lip__schedule_class variable##_class = {                                                     \
        .cls = {.name = class_name,                                                                                  \
                .module = "keras.optimizers.schedules",                                                              \
                .size = sizeof(struct decay),                                                                        \
                .fields = fields_},                                                                                  \
        .rate = rate_,                                                                                               \
        .check = check_}

SCHEDULE(constant, "ConstantSchedule", constant_fields, constant, NULL);
SCHEDULE(exponential, "ExponentialDecay", exponential_fields, exponential, NULL);
SCHEDULE(inverse_time, "InverseTimeDecay", exponential_fields, inverse_time, NULL);
SCHEDULE(piecewise, "PiecewiseConstantDecay", piecewise_fields, piecewise, check_piecewise);
SCHEDULE(polynomial, "PolynomialDecay", polynomial_fields, polynomial, NULL);
SCHEDULE(cosine, "CosineDecay", cosine_fields, cosine, NULL);
SCHEDULE(restarts, "CosineDecayRestarts", restarts_fields, restarts, NULL);

const struct lip__class *const lip__schedules[] = {
    &constant_class.cls,   &exponential_class.cls, &inverse_time_class.cls, &piecewise_class.cls,
    &polynomial_class.cls, &cosine_class.cls,      &restarts_class.cls,     NULL};

double lip__schedule_rate(const struct lip__object *schedule, uint64_t steps)
{
    return ((const struct lip__schedule_class *)schedule->cls)->rate(schedule, (double)steps);
}
