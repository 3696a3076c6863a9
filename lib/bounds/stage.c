/* stage.c: the steps of a model over the reals: what they are, what they are worth, what computing them loses. */
#include "bounds/stage.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "layers/family.h"

/* ---- what a step is ----------------------------------------------------------------------------------- */

/* An option of a layer by the name that its class's table has for it. */
static const void *option(const lip_layer *l, const char *name)
{
    for (const struct lip__field *f = l->kind->cls.fields; f->name; f++)
        if (!strcmp(f->name, name))
            return (const char *)l + f->offset;
    return NULL;
}

static double number(const lip_layer *l, const char *name)
{
    return *(const double *)option(l, name);
}

/* With zeros in its gaps and between its groups a kernel is one without; none larger than this is made. */
#define MOST_NUMBERS ((size_t)1 << 24)

static bool has_gaps(const lip_layer *l)
{
    const struct lip__conv *c = (const struct lip__conv *)l;

    return l->kind->op != LIP__MATRIX && l->kind->op != LIP__ANALYTIC && (c->groups > 1 || c->dilation[0] > 1 || c->dilation[1] > 1);
}

static lip_err open_conv(struct lip__stage *s, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)s->layer;
    const lip_layer *l = s->layer;
    bool adjoint = l->kind->op == LIP__ADJOINT;
    const size_t *image = adjoint ? l->out.dim : l->in.dim;

    (void)err;
    s->kind = adjoint ? LIP__STAGE_ADJOINT : LIP__STAGE_CONV;
    s->conv = (struct lip__convolution){.g = {.h = image[0],
                                              .w = image[1],
                                              .c = image[2],
                                              .kh = lip__reach(c->kernel[0], c->dilation[0]),
                                              .kw = lip__reach(c->kernel[1], c->dilation[1]),
                                              .sh = c->strides[0],
                                              .sw = c->strides[1]},
                                        .f = adjoint ? l->in.dim[2] : (size_t)c->filters};
    lip__windows_set(&s->conv.g, !(c->padding && !strcmp(c->padding, "valid")));
    s->m = lip__window_size(&s->conv.g);
    s->n = s->conv.f;
    if (has_gaps(l) && s->m > MOST_NUMBERS / s->n) {
        s->kind = LIP__STAGE_UNKNOWN;
        s->m = 0;
    }
    s->rows = adjoint ? image[0] * image[1] : s->conv.g.oh * s->conv.g.ow;
    return LIP_OK;
}

/* Zeros around the image are the convolution's own; any other continuation says where its pixels come from. */
static lip_err open_padded(struct lip__stage *s, lip_error *err)
{
    const lip_layer *l = s->layer;
    const char *padding = ((const struct lip__conv *)l)->padding;
    struct lip__convolution *k = &s->conv;
    lip_err rc = open_conv(s, err);

    if (!padding || !strcmp(padding, "same") || !strcmp(padding, "valid"))
        return rc;
    k->g = lip__pad_windows(l);
    k->g.kh = lip__reach(k->g.kh, k->g.dh);
    k->g.kw = lip__reach(k->g.kw, k->g.dw);
    k->g.dh = k->g.dw = 1;
    s->rows = k->g.oh * k->g.ow;
    if (!strcmp(padding, "constant")) {
        k->g.top = (k->g.h - l->in.dim[0]) / 2;
        k->g.left = (k->g.w - l->in.dim[1]) / 2;
        k->g.h = l->in.dim[0];
        k->g.w = l->in.dim[1];
        return LIP_OK;
    }
    k->h = l->in.dim[0];
    k->w = l->in.dim[1];
    k->circular = !strcmp(padding, "circular") && k->h % k->g.sh == 0 && k->w % k->g.sw == 0;
    k->row = lip__alloc(k->g.h, sizeof *k->row);
    k->column = lip__alloc(k->g.w, sizeof *k->column);
    if (!k->row || !k->column)
        return lip__nomem(err, (k->g.h + k->g.w) * sizeof *k->row);
    for (size_t i = 0; i < k->g.h; i++)
        k->row[i] = lip__pad_source(l, 0, i);
    for (size_t j = 0; j < k->g.w; j++)
        k->column[j] = lip__pad_source(l, 1, j);
    return LIP_OK;
}

static lip_err open_matrix(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_MATRIX;
    s->m = s->layer->in.dim[s->layer->in.rank - 1];
    s->n = s->layer->out.dim[s->layer->out.rank - 1];
    s->rows = s->in / s->m;
    return LIP_OK;
}

static lip_err open_sort(struct lip__stage *s, lip_error *err)
{
    const long *group = option(s->layer, "n");

    (void)err;
    s->kind = LIP__STAGE_SORT;
    s->group = group ? (size_t)*group : s->layer->in.dim[s->layer->in.rank - 1];
    return LIP_OK;
}

/* Slopes between a and b. */
static void rectify(struct lip__stage *s, double slope, double most)
{
    s->kind = LIP__STAGE_RELU;
    s->slope = slope;
    s->most = most;
    s->least = isnan(most) ? fmin(slope, 1) : fmin(slope, 0);
    s->steepest = fmax(slope, 1);
}

static lip_err open_relu(struct lip__stage *s, lip_error *err)
{
    (void)err;
    rectify(s, 0, NAN);
    return LIP_OK;
}

static lip_err open_relu6(struct lip__stage *s, lip_error *err)
{
    (void)err;
    rectify(s, 0, 6);
    return LIP_OK;
}

/* One whose threshold makes it jump has no rule. */
static lip_err open_relu_layer(struct lip__stage *s, lip_error *err)
{
    (void)err;
    if (number(s->layer, "threshold") == 0)
        rectify(s, (float)number(s->layer, "negative_slope"), (float)number(s->layer, "max_value"));
    return LIP_OK;
}

static lip_err open_leaky(struct lip__stage *s, lip_error *err)
{
    (void)err;
    rectify(s, option(s->layer, "alpha") ? (float)number(s->layer, "alpha") : 0.2f, NAN);
    return LIP_OK;
}

static lip_err open_threshold(struct lip__stage *s, lip_error *err)
{
    (void)err;
    if (number(s->layer, "theta") == 0)
        rectify(s, 0, NAN);
    return LIP_OK;
}

/* A slope is what the layer makes of -1, but for its sign; one for each place, also where the layer's places share some. */
static lip_err open_prelu(struct lip__stage *s, lip_error *err)
{
    float *x = lip__alloc(2 * s->in, sizeof *x);
    lip_err rc = LIP_OK;

    rectify(s, 0, NAN);
    s->kernel = lip__alloc(s->in, sizeof *s->kernel);
    if (!x || !s->kernel) {
        rc = lip__nomem(err, 2 * s->in * sizeof *x);
    } else {
        for (size_t i = 0; i < s->in; i++)
            x[i] = -1;
        s->layer->kind->forward(s->layer, &(struct lip__pass){.n = 1, .w = s->weight}, x, x + s->in);
        s->m = 1;
        s->n = s->in;
        for (size_t i = 0; i < s->in; i++) {
            s->kernel[i] = -x[s->in + i];
            s->least = fmin(s->least, s->kernel[i]);
            s->steepest = fmax(s->steepest, fabs(s->kernel[i]));
        }
    }
    lip__free(x);
    return rc;
}

/* ---- smooth functions: with a C library that is right to 4 units in the last place each is computed to 32 roundings of |x| + 2 */

static double sigmoid(double x, double a)
{
    (void)a;
    return 1 / (1 + exp(-x));
}

static double hard_sigmoid(double x, double a)
{
    double y = 0.2f * x + 0.5;

    (void)a;
    return y < 0 ? 0 : y > 1 ? 1 : y;
}

static double hyperbolic(double x, double a)
{
    (void)a;
    return tanh(x);
}

static double elu(double x, double a)
{
    return x > 0 ? x : a * expm1(x);
}

static double selu(double x, double a)
{
    return 1.05070098735548f * (x > 0 ? x : a * expm1(x));
}

static double softplus(double x, double a)
{
    (void)a;
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double softsign(double x, double a)
{
    (void)a;
    return x / (1 + fabs(x));
}

static double swish(double x, double a)
{
    return x * sigmoid(x, a);
}

static double gelu(double x, double a)
{
    (void)a;
    return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

static double mish(double x, double a)
{
    return x * tanh(softplus(x, a));
}

/* Slopes as activation.c has them, the least ones by f'(x) + f'(-x) = 1 for swish and gelu. */
static const struct {
    const char *name;
    double (*function)(double, double);
    double number, least, steepest;
} smooth[] = {
    {"elu", elu, 1, 0, 1},
    {"selu", selu, 1.67326324235438f, 0, 1.75810},
    {"sigmoid", sigmoid, 0, 0, 0.25},
    {"hard_sigmoid", hard_sigmoid, 0, 0, 0.20000001},
    {"tanh", hyperbolic, 0, 0, 1},
    {"softplus", softplus, 0, 0, 1},
    {"softsign", softsign, 0, 0, 1},
    {"swish", swish, 0, -0.09984, 1.09984},
    {"silu", swish, 0, -0.09984, 1.09984},
    {"gelu", gelu, 0, -0.12891, 1.12891},
    {"mish", mish, 0, -0.12, 1.08850},
};

static lip_err open_smooth(struct lip__stage *s, lip_error *err)
{
    (void)err;
    for (size_t i = 0; i < sizeof smooth / sizeof *smooth; i++)
        if (!strcmp(s->layer->kind->cls.name, smooth[i].name)) {
            s->kind = LIP__STAGE_SCALAR;
            s->function = smooth[i].function;
            s->number = smooth[i].number;
            s->least = smooth[i].least;
            s->steepest = smooth[i].steepest;
        }
    return LIP_OK;
}

static lip_err open_elu(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_SCALAR;
    s->function = elu;
    s->number = (float)number(s->layer, "alpha");
    s->least = fmin(0, s->number);
    s->steepest = fmax(1, s->number);
    return LIP_OK;
}

/* ---- the others ------------------------------------------------------------------------------------------------ */

static lip_err open_max_min(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_MAX_MIN;
    return LIP_OK;
}

static lip_err open_householder(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_HOUSEHOLDER;
    s->m = 1;
    s->n = s->layer->in.dim[s->layer->in.rank - 1] / 2;
    return LIP_OK;
}

/* Numbers that are one step along an axis apart, axis 0 being the batch. */
static size_t step_of(const lip_shape *shape, long axis)
{
    size_t step = 1;

    for (long d = axis < 0 ? axis + (long)shape->rank + 1 : axis; d < (long)shape->rank; d++)
        step *= shape->dim[d];
    return step;
}

/* The layer names an axis, the functions are of the last one. */
static lip_err open_softmax(struct lip__stage *s, lip_error *err)
{
    const long *named = option(s->layer, "axis"), axis = named ? *named : -1;
    const lip_shape *shape = &s->layer->in;

    (void)err;
    s->kind = LIP__STAGE_SOFTMAX;
    s->group = shape->dim[axis < 0 ? (size_t)(axis + (long)shape->rank) : (size_t)axis - 1];
    s->step = step_of(shape, axis);
    return LIP_OK;
}

/* BatchNormalization as inference has it: a rate and an offset for each place along its axis. What it makes of a number
 * is the layer's own word; here only what its variables mean. */
static lip_err open_normalization(struct lip__stage *s, lip_error *err)
{
    bool scale = *(const bool *)option(s->layer, "scale"), center = *(const bool *)option(s->layer, "center");
    const float *const *w = s->weight, *gamma = scale ? w[0] : NULL, *beta = center ? w[scale] : NULL;
    const float *mean = w[scale + center], *variance = w[scale + center + 1];
    long axis = ((const long *)option(s->layer, "axis"))[1];
    const lip_shape *shape = &s->layer->in;
    double epsilon = lip__normalization_epsilon(s->layer);

    s->n = shape->dim[axis < 0 ? (size_t)(axis + (long)shape->rank) : (size_t)axis - 1];
    s->step = step_of(shape, axis);
    s->kernel = lip__alloc(s->n, sizeof *s->kernel);
    s->bias = lip__alloc(2 * s->n, sizeof *s->bias);
    if (!s->kernel || !s->bias)
        return lip__nomem(err, 2 * s->n * sizeof *s->bias);
    for (size_t j = 0; j < s->n; j++) {
        double b = beta ? beta[j] : 0, root = sqrt(variance[j] + epsilon), rate = (gamma ? gamma[j] : 1) / root;

        /* Neither a rate nor its reciprocal root may leave the normal float32 numbers, or roundings are no share of it. */
        if (!(root > 4 / FLT_MAX) || (rate != 0 && !(fabs(rate) > 2 * FLT_MIN)) || !(fabs(rate) < FLT_MAX / 2))
            return LIP_OK;
        s->kernel[j] = rate;
        s->bias[j] = b - s->kernel[j] * mean[j];
        s->bias[s->n + j] = fabs(b) + fabs(s->kernel[j] * mean[j]); /* what roundings are a share of */
    }
    s->kind = LIP__STAGE_AFFINE;
    return LIP_OK;
}

/* Windows of pool_size and strides, or the whole image. */
static void open_windows(struct lip__stage *s, enum lip__shape_of kind, double scale)
{
    const lip_layer *l = s->layer;
    const size_t *size = option(l, "pool_size"), *strides = option(l, "strides");
    const char *const *padding = option(l, "padding");
    struct lip__windows *g = &s->windows;

    s->kind = kind;
    s->scale = scale;
    *g = (struct lip__windows){.h = l->in.dim[0], .w = l->in.dim[1], .c = l->in.dim[2]};
    g->kh = size ? size[0] : g->h;
    g->kw = size ? size[1] : g->w;
    g->sh = strides && strides[0] ? strides[0] : g->kh;
    g->sw = strides && strides[1] ? strides[1] : g->kw;
    lip__windows_set(g, padding && *padding && !strcmp(*padding, "same"));
}

static lip_err open_scaled_average(struct lip__stage *s, lip_error *err)
{
    (void)err;
    open_windows(s, LIP__STAGE_AVERAGE, 1);
    s->scale = s->layer->k / sqrt((double)(s->windows.kh * s->windows.kw));
    return LIP_OK;
}

static lip_err open_scaled_norm(struct lip__stage *s, lip_error *err)
{
    (void)err;
    open_windows(s, LIP__STAGE_L2, s->layer->k);
    return LIP_OK;
}

static lip_err open_average(struct lip__stage *s, lip_error *err)
{
    (void)err;
    open_windows(s, LIP__STAGE_AVERAGE, 0);
    return LIP_OK;
}

static lip_err open_maximum(struct lip__stage *s, lip_error *err)
{
    (void)err;
    open_windows(s, LIP__STAGE_MAXIMUM, 1);
    return LIP_OK;
}

static lip_err open_copy(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_COPY;
    return LIP_OK;
}

/* Numbers that are their own places show where each goes. */
static lip_err open_move(struct lip__stage *s, lip_error *err)
{
    const lip_layer *l = s->layer;
    size_t scratch = l->kind->scratch ? l->kind->scratch(l) : 0;
    float *x, *y, *area;
    lip_err rc = LIP_OK;

    if (s->in >= (size_t)1 << 24) /* no longer exact as float32 */
        return LIP_OK;
    x = lip__alloc(s->in, sizeof *x);
    y = lip__alloc(s->out, sizeof *y);
    area = lip__alloc(scratch + 1, sizeof *area);
    s->place = lip__alloc(s->out, sizeof *s->place);
    if (!x || !y || !area || !s->place) {
        rc = lip__nomem(err, s->out * sizeof *s->place);
    } else {
        for (size_t i = 0; i < s->in; i++)
            x[i] = (float)(i + 1);
        l->kind->forward(l, &(struct lip__pass){.n = 1, .scratch = area}, x, y);
        for (size_t i = 0; i < s->out; i++)
            s->place[i] = y[i] > 0 ? (size_t)y[i] - 1 : s->in;
        s->kind = LIP__STAGE_MOVE;
    }
    lip__free(area);
    lip__free(y);
    lip__free(x);
    return rc;
}

static lip_err open_scale(struct lip__stage *s, lip_error *err)
{
    const double *offset = option(s->layer, "offset");

    (void)err;
    s->kind = LIP__STAGE_SCALE;
    s->scale = (float)number(s->layer, option(s->layer, "scale") ? "scale" : "y");
    s->number = offset ? (float)*offset : 0;
    return LIP_OK;
}

static lip_err open_sum(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_SUM;
    return LIP_OK;
}

static lip_err open_difference(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_DIFFERENCE;
    return LIP_OK;
}

static lip_err open_mean(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_MEAN;
    return LIP_OK;
}

static lip_err open_beside(struct lip__stage *s, lip_error *err)
{
    (void)err;
    s->kind = LIP__STAGE_BESIDE;
    return LIP_OK;
}

/* By class name; kinds with a kernel go by their operator. */
static const struct {
    const char *name;
    lip_err (*open)(struct lip__stage *, lip_error *);
} rules[] = {
    {"Activation", open_copy},
    {"Add", open_sum},
    {"Average", open_mean},
    {"AveragePooling2D", open_average},
    {"BatchNormalization", open_normalization},
    {"Concatenate", open_beside},
    {"Dropout", open_copy},
    {"ELU", open_elu},
    {"Flatten", open_copy},
    {"FullSort", open_sort},
    {"GlobalAveragePooling2D", open_average},
    {"GlobalMaxPooling2D", open_maximum},
    {"GroupSort", open_sort},
    {"GroupSort2", open_sort},
    {"Householder", open_householder},
    {"InputLayer", open_copy},
    {"LeakyReLU", open_leaky},
    {"MaxMin", open_max_min},
    {"MaxPooling2D", open_maximum},
    {"PReLU", open_prelu},
    {"ReLU", open_relu_layer},
    {"Rescaling", open_scale},
    {"Reshape", open_copy},
    {"ScaledAveragePooling2D", open_scaled_average},
    {"ScaledGlobalAveragePooling2D", open_scaled_average},
    {"ScaledGlobalL2NormPooling2D", open_scaled_norm},
    {"ScaledL2NormPooling2D", open_scaled_norm},
    {"Softmax", open_softmax},
    {"Subtract", open_difference},
    {"TFOpLambda", open_scale},
    {"ThresholdedReLU", open_threshold},
    {"leaky_relu", open_leaky},
    {"log_softmax", open_softmax},
    {"relu", open_relu},
    {"relu6", open_relu6},
    {"softmax", open_softmax},
};

static lip_err classify(struct lip__stage *s, lip_error *err)
{
    const struct lip__kind *kind = s->layer->kind;

    s->kind = LIP__STAGE_UNKNOWN;
    if (kind->op == LIP__MATRIX)
        return open_matrix(s, err);
    if (kind->op == LIP__PADDED)
        return open_padded(s, err);
    if (kind->op == LIP__CONV || kind->op == LIP__ADJOINT)
        return open_conv(s, err);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(kind->cls.name, rules[i].name))
            return rules[i].open(s, err);
    if (kind->flags & LIP__MOVES)
        return open_move(s, err);
    return open_smooth(s, err);
}

static lip_err widen(const float *x, size_t count, double **wide, lip_error *err)
{
    if (!x || *wide)
        return LIP_OK;
    *wide = lip__widen(x, count);
    return *wide ? LIP_OK : lip__nomem(err, count * sizeof **wide);
}

static bool has_kernel(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_MATRIX || s->kind == LIP__STAGE_CONV || s->kind == LIP__STAGE_ADJOINT;
}

/* Each number of a kernel (kh, kw, c / groups, f) at its place among the zeros. */
static lip_err widen_gaps(struct lip__stage *s, lip_error *err)
{
    const struct lip__conv *c = (const struct lip__conv *)s->layer;
    const struct lip__windows *g = &s->conv.g;
    size_t few = g->c / (size_t)c->groups, filters = s->n / (size_t)c->groups;
    const float *from = s->weight[0];

    s->kernel = lip__alloc(s->m * s->n, sizeof *s->kernel);
    if (!s->kernel)
        return lip__nomem(err, s->m * s->n * sizeof *s->kernel);
    for (size_t a = 0; a < c->kernel[0]; a++)
        for (size_t b = 0; b < c->kernel[1]; b++)
            for (size_t i = 0; i < few; i++)
                for (size_t o = 0; o < s->n; o++, from++) {
                    size_t tap = a * c->dilation[0] * g->kw + b * c->dilation[1];
                    s->kernel[(tap * g->c + o / filters * few + i) * s->n + o] = (double)*from;
                }
    return LIP_OK;
}

/* What the step reads, all of it finite. */
static lip_err gather(const lip_snapshot *snapshot, const struct lip__step *step, struct lip__stage *s, lip_error *err)
{
    for (size_t r = 0; r < LIP__MAX_READ; r++) {
        size_t v = step->read[r], at;

        s->weight[r] = v == LIP__NOWHERE ? NULL : snapshot->data[v];
        if (s->weight[r] && !lip__all_finite(s->weight[r], lip_shape_count(&snapshot->model->variable[v].shape), &at))
            return lip__fail(err, LIP_ENONFINITE, "%s: element %zu is %g", snapshot->model->variable[v].name, at,
                             (double)s->weight[r][at]);
    }
    return LIP_OK;
}

lip_err lip__stage_open(const lip_snapshot *snapshot, size_t index, struct lip__stage *stage, lip_error *err)
{
    const struct lip__step *step = &snapshot->model->step[index];
    lip_err rc;

    *stage = (struct lip__stage){.layer = step->layer,
                                 .top = step->top,
                                 .from = step->from,
                                 .n_from = step->n_from,
                                 .value = step->out,
                                 .in = snapshot->model->value[step->from[0]].size,
                                 .out = snapshot->model->value[step->out].size,
                                 .step = 1,
                                 .method = "none",
                                 .norm = {0, NAN},
                                 .gain = NAN};
    rc = gather(snapshot, step, stage, err);
    if (!rc)
        rc = classify(stage, err);
    if (!rc && stage->m)
        rc = has_gaps(stage->layer) ? widen_gaps(stage, err) : widen(stage->weight[0], stage->m * stage->n, &stage->kernel, err);
    if (!rc && has_kernel(stage))
        rc = widen(stage->weight[1], stage->kind == LIP__STAGE_ADJOINT ? stage->conv.g.c : stage->n, &stage->bias, err);
    stage->conv.kernel = stage->kernel;
    if (!rc && stage->kind == LIP__STAGE_UNKNOWN && step->layer->kind->weighed)
        stage->steepest = step->layer->kind->weighed(step->layer, stage->weight);
    return rc;
}

void lip__stage_close(struct lip__stage *stage)
{
    lip__free(stage->sigma);
    lip__free(stage->place);
    lip__free(stage->conv.column);
    lip__free(stage->conv.row);
    lip__free(stage->bias);
    lip__free(stage->kernel);
    *stage = (struct lip__stage){.kind = LIP__STAGE_UNKNOWN};
}

/* ---- what is proved of it ------------------------------------------------------------------------------ */

/* Layers whose constant is attained: by inputs of one sign, a constant window, any x without ties. */
static void analytic(struct lip__stage *s, double constant, size_t roundings)
{
    s->norm = (lip_interval){constant, constant};
    s->method = "analytic";
    s->gain = s->absolute = constant;
    s->roundings = roundings;
}

/* Layers that join, as one map of all that they read side by side; gain is 1, as lip__stage_joined does the rest. */
static void analytic_join(struct lip__stage *s, size_t roundings)
{
    double constant = s->layer->kind->constant(s->layer);

    analytic(s, 1, roundings);
    s->norm = (lip_interval){constant == 1 ? 1 : lip__down(lip__down(constant)), constant};
}

static lip_err prove_kernel(struct lip__stage *s, uint64_t deadline, lip_error *err)
{
    double *work = lip__alloc(2 * s->n + s->m, sizeof *work);
    lip_interval reshaped;
    bool whole;
    lip_err rc;

    s->n_sigma = s->m < s->n ? s->m : s->n;
    s->sigma = lip__alloc(s->n_sigma, sizeof *s->sigma);
    if (!work || !s->sigma) {
        lip__free(work);
        return lip__nomem(err, (2 * s->n + s->m) * sizeof *work);
    }
    rc = lip__enclose_until(s->kernel, s->m, s->n, deadline, &reshaped, s->sigma, &whole, err);
    if (s->kind == LIP__STAGE_ADJOINT || !whole) /* of another matrix than the one that is constrained; or unknown */
        s->n_sigma = 0;
    s->coarse = !whole;
    /* Of an adjoint each output is a sum over at most all taps and filters. */
    s->roundings = (s->kind == LIP__STAGE_ADJOINT ? s->m / s->conv.g.c * s->n : s->m) + 2;
    if (!rc && s->kind == LIP__STAGE_MATRIX) {
        s->norm = reshaped;
        s->method = "enclosure";
        s->absolute = lip__abs_norm(s->m, s->n, s->kernel, work);
    } else if (!rc) {
        rc = lip__conv_enclose(&s->conv, &reshaped, deadline, &s->norm, &s->method, &whole, err);
        s->coarse = s->coarse || !whole;
        if (!rc)
            rc = lip__conv_abs_norm(&s->conv, &s->absolute, err);
    }
    if (s->bias)
        s->added = lip__up(lip__norm_up(s->bias, s->out / s->rows) * lip__up(sqrt((double)s->rows)));
    lip__free(work);
    return rc;
}

/* Pooling by windows that share or lack pixels: its constant is the kind's own word, its rounding counted here. */
static void prove_windows(struct lip__stage *s)
{
    size_t pixels = s->windows.kh * s->windows.kw;
    double constant = s->layer->kind->constant(s->layer);
    bool apart = s->windows.sh >= s->windows.kh && s->windows.sw >= s->windows.kw;

    analytic(s, constant, s->kind == LIP__STAGE_MAXIMUM ? 0 : pixels + 4);
    s->squares = s->kind == LIP__STAGE_L2;
    if (!apart || (s->kind == LIP__STAGE_AVERAGE && s->scale == 0)) /* attained or not; a pixel that is in a window is */
        s->norm.lower = s->kind == LIP__STAGE_AVERAGE ? fmin(constant, 1 / (double)pixels) : fmin(constant, 1);
}

lip_err lip__stage_prove(struct lip__stage *s, uint64_t deadline, lip_error *err)
{
    const struct lip__kind *kind = s->layer->kind;
    double k = s->layer->k, root = lip__up(sqrt((double)s->out));
    lip_err rc;

    switch (s->kind) {
    case LIP__STAGE_MATRIX:
    case LIP__STAGE_CONV:
    case LIP__STAGE_ADJOINT:
        rc = prove_kernel(s, deadline, err);
        s->gain = s->norm.upper;
        return rc;
    case LIP__STAGE_SCALE:
        analytic(s, fabs(s->scale), 4);
        s->added = lip__up(fabs(s->number) * root);
        break;
    case LIP__STAGE_AFFINE: /* rate: a sum, a root, a quotient; then a difference, a product, a sum, or the like */
        analytic(s, kind->weighed(s->layer, s->weight), 10);
        s->norm.lower *= 1 - 0x1p-46;
        s->added = lip__up(lip__norm_up(s->bias + s->n, s->n) * lip__up(sqrt((double)(s->in / s->n)))) * (1 + 0x1p-46);
        break;
    case LIP__STAGE_SORT:
    case LIP__STAGE_MAX_MIN:
        analytic(s, k, k == 1 ? 0 : 3);
        break;
    case LIP__STAGE_HOUSEHOLDER: /* products by sines and cosines, each off by less than 8 roundings; near the line both sides agree */
        analytic(s, 1, 24);
        s->absolute = 2;
        break;
    case LIP__STAGE_RELU:
        analytic(s, fmax(s->steepest, fabs(s->least)), s->slope == 0 && !s->kernel && isnan(s->most) ? 0 : 4);
        if (s->most == 0) /* nothing passes above 0 */
            s->norm.lower = fabs(s->slope);
        if (!isnan(s->most))
            s->added = lip__up(s->most * root);
        break;
    case LIP__STAGE_SCALAR:
        analytic(s, fmax(s->steepest, fabs(s->least)), 32);
        s->norm.lower = 0; /* steepest is rounded up, and perhaps a limit only */
        s->added = 2 * root;
        break;
    case LIP__STAGE_SOFTMAX: /* sums of at most a row, differences and logarithms of what is at most as large as twice x */
        analytic(s, kind->constant(s->layer), s->group + 32);
        s->norm.lower = 0;
        s->absolute = fmax(4, 2 * s->gain);
        s->added = lip__up(log((double)s->group) + 2) * root;
        break;
    case LIP__STAGE_AVERAGE:
    case LIP__STAGE_L2:
    case LIP__STAGE_MAXIMUM:
        prove_windows(s);
        break;
    case LIP__STAGE_COPY:
    case LIP__STAGE_MOVE:
        analytic(s, 1, 0);
        break;
    case LIP__STAGE_SUM:
    case LIP__STAGE_DIFFERENCE:
    case LIP__STAGE_MEAN:
        analytic_join(s, s->n_from + 2);
        break;
    case LIP__STAGE_BESIDE:
        analytic_join(s, 0);
        break;
    case LIP__STAGE_UNKNOWN: /* the kind's own word for its constant; nothing is known of its rounding */
        s->gain = s->norm.upper = kind->weighed ? s->steepest : kind->constant ? kind->constant(s->layer) : NAN;
        s->method = isnan(s->norm.upper) ? "none" : "analytic";
        s->absolute = s->added = NAN;
        break;
    }
    return LIP_OK;
}

double lip__stage_pass(const struct lip__stage *s)
{
    if (!has_kernel(s))
        return 8.0 * (double)s->out;
    return 2.0 * (double)(s->kind == LIP__STAGE_MATRIX ? s->out : lip__conv_outputs(&s->conv)) * (double)s->m;
}

double lip__stage_flops(const struct lip__stage *s)
{
    double flops = has_kernel(s) ? lip__enclose_flops((double)s->m, (double)s->n) : 0;

    if (has_kernel(s) && s->kind != LIP__STAGE_MATRIX) /* some tens of passes there and back */
        flops += 128 * lip__stage_pass(s);
    return flops;
}

double lip__stage_joined(const struct lip__stage *s, const double *of)
{
    double all = of[s->from[0]];

    for (size_t i = 1; i < s->n_from; i++) {
        double next = of[s->from[i]];

        all = s->kind == LIP__STAGE_BESIDE ? lip__up(sqrt(lip__up(lip__up(all * all) + lip__up(next * next))))
                                           : lip__up(all + next);
    }
    return s->kind == LIP__STAGE_MEAN ? lip__up(all / (double)s->n_from) : all;
}

const struct lip__arithmetic lip__float64 = {.u = LIP__U, .eta = 0x1p-1074, .most = 1e300};
const struct lip__arithmetic lip__float32 = {.u = 0x1p-24, .eta = 0x1p-149, .most = FLT_MAX};

double lip__stage_error(const struct lip__stage *s, const struct lip__arithmetic *how, double size, double e)
{
    double n = (double)s->roundings, gamma = n * how->u / (1 - n * how->u) * (1 + 0x1p-40), under = n * how->eta, root;
    double out = s->absolute * size + s->added, error;

    /* In narrower operands a variance may become 0: what its root does then has no bound. */
    if (s->kind == LIP__STAGE_UNKNOWN || (s->kind == LIP__STAGE_AFFINE && how->operand > 0) || !(n * how->u < 0.5) ||
        !(out * (1 + gamma) < how->most / 2) || (s->kernel && how->operand > 0 && !(s->absolute < how->most / 2)))
        return INFINITY;
    if (s->squares) {
        if (!(size * size * (1 + gamma) < how->most / 2))
            return INFINITY;
        under = lip__up(sqrt(under)) * s->norm.upper + under;
    }
    root = lip__up(sqrt((double)s->out));
    error = s->gain * e + gamma * out + root * under;
    if (s->kernel && how->operand > 0) /* kernel, bias and x each off by that; the square of it counted with the gamma */
        error += how->operand * (2 * s->absolute * size + s->added) * (1 + how->operand + gamma) +
                 how->operand_eta * lip__up(sqrt((double)s->m * (double)s->n)) * lip__up(sqrt((double)s->rows)) * (size + 1) +
                 how->operand_eta * s->absolute * lip__up(sqrt((double)s->in));
    if (how->store > 0 && s->roundings > 0)
        error += how->store * (out + error) + root * how->store_eta;
    return error * (1 + 0x1p-40);
}
