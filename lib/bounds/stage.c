/* stage.c: the steps of a model over the reals: what they are, what they are worth, what computing them loses. */
#include "bounds/stage.h"

#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "layers/family.h"
#include "tensor/gemm.h"

/* ---- what a step is ----------------------------------------------------------------------------------- */

/* An option of a layer by the name that its class's table has for it. */
static const void *option(const lip_layer *l, const char *name)
{
    for (const struct lip__field *f = l->kind->cls.fields; f->name; f++)
        if (!strcmp(f->name, name))
            return (const char *)l + f->offset;
    return NULL;
}

static bool is(const lip_layer *l, const char *class_name)
{
    return !strcmp(l->kind->cls.name, class_name);
}

static void open_conv(struct lip__stage *s)
{
    const struct lip__conv *c = (const struct lip__conv *)s->layer;
    const lip_layer *l = s->layer;
    const lip_shape *image = s->adjoint ? &l->out : &l->in, *result = s->adjoint ? &l->in : &l->out;

    s->kind = LIP__STAGE_CONV;
    s->conv = (struct lip__convolution){.g = {.h = image->dim[0],
                                              .w = image->dim[1],
                                              .c = image->dim[2],
                                              .kh = c->kernel[0],
                                              .kw = c->kernel[1],
                                              .sh = c->strides[0],
                                              .sw = c->strides[1]},
                                        .f = result->dim[2]};
    lip__windows_set(&s->conv.g, !(c->padding && !strcmp(c->padding, "valid")));
    s->m = lip__window_size(&s->conv.g);
    s->n = s->conv.f;
    s->width = l->out.dim[2];
    s->rows = s->out / s->width;
}

/* Rows or columns that a padded image has before the image. */
static size_t edge(const lip_layer *l, const struct lip__windows *padded, int axis)
{
    return ((axis ? padded->w : padded->h) - l->in.dim[axis]) / 2;
}

/* Zeros around the image are a convolution's; where the image goes on otherwise only its constant is known. */
static void open_padded(struct lip__stage *s)
{
    struct lip__windows g = lip__pad_windows(s->layer);
    size_t down = edge(s->layer, &g, 0), across = edge(s->layer, &g, 1);
    bool zeros = (!down || lip__pad_source(s->layer, 0, 0) >= s->layer->in.dim[0]) &&
                 (!across || lip__pad_source(s->layer, 1, 0) >= s->layer->in.dim[1]);

    open_conv(s);
    s->conv.g = g;
    s->conv.g.h = s->layer->in.dim[0];
    s->conv.g.w = s->layer->in.dim[1];
    s->conv.g.top += down;
    s->conv.g.left += across;
    if (!zeros)
        s->kind = LIP__STAGE_UNKNOWN;
}

/* How often a place of the image is met along one axis, at most: by windows, and by each place that shows it. */
static lip_err meetings(const struct lip__stage *s, int axis, size_t *most, lip_error *err)
{
    struct lip__windows g = lip__pad_windows(s->layer);
    size_t n = s->layer->in.dim[axis], windows = axis ? g.ow : g.oh, step = axis ? g.sw : g.sh, size = axis ? g.kw : g.kh;
    size_t *count = lip__alloc(n, sizeof *count);

    if (!count)
        return lip__nomem(err, n * sizeof *count);
    *most = 0;
    for (size_t i = 0; i < windows; i++)
        for (size_t a = 0; a < size; a++) {
            size_t at = lip__pad_source(s->layer, axis, i * step + a);
            if (at < n && ++count[at] > *most)
                *most = count[at];
        }
    lip__free(count);
    return LIP_OK;
}

/* ||W|| sqrt(nu nu) (certify.md C2). */
static lip_err prove_padded(struct lip__stage *s, lip_error *err)
{
    lip_interval reshaped;
    size_t down, across;
    lip_err rc;

    if ((rc = meetings(s, 0, &down, err)) != LIP_OK || (rc = meetings(s, 1, &across, err)) != LIP_OK ||
        (rc = lip__enclose(s->kernel, s->m, s->n, &reshaped, NULL, err)) != LIP_OK)
        return rc;
    s->gain = s->norm.upper = lip__times_up(reshaped.upper, lip__up(sqrt((double)down * (double)across)));
    s->method = "nu_enclosure";
    return LIP_OK;
}

/* What a layer that only moves numbers does with their numbers, which float32 holds up to 2^24. */
static lip_err open_move(struct lip__stage *s, lip_error *err)
{
    const lip_layer *l = s->layer;
    size_t need = l->kind->scratch ? l->kind->scratch(l) : 0;
    float *x, *y, *scratch;

    if (s->in >= (size_t)1 << 24)
        return LIP_OK;
    x = lip__alloc(s->in, sizeof *x);
    y = lip__alloc(s->out, sizeof *y);
    scratch = lip__alloc(need + 1, sizeof *scratch);
    s->source = lip__alloc(s->out, sizeof *s->source);
    if (x && y && scratch && s->source) {
        struct lip__pass pass = {.n = 1, .scratch = scratch};
        for (size_t i = 0; i < s->in; i++)
            x[i] = (float)(i + 1);
        l->kind->forward(l, &pass, x, y);
        for (size_t i = 0; i < s->out; i++)
            s->source[i] = y[i] > 0 ? (size_t)y[i] - 1 : s->in;
        s->kind = LIP__STAGE_MOVE;
    }
    lip__free(scratch);
    lip__free(y);
    lip__free(x);
    return s->kind == LIP__STAGE_MOVE ? LIP_OK : lip__nomem(err, (s->in + s->out) * sizeof *x);
}

static void open_matrix(struct lip__stage *s)
{
    s->kind = LIP__STAGE_MATRIX;
    s->m = s->layer->in.dim[s->layer->in.rank - 1];
    s->n = s->layer->out.dim[s->layer->out.rank - 1];
    s->rows = s->in / s->m;
    s->width = s->n;
}

/* ReLU with options; one whose threshold makes it jump has no rule. */
static void open_relu(struct lip__stage *s)
{
    const lip_layer *l = s->layer;

    s->slope = 0;
    s->most = NAN;
    if (is(l, "ReLU")) {
        if (*(const double *)option(l, "threshold") != 0)
            return;
        s->slope = *(const double *)option(l, "negative_slope");
        s->most = *(const double *)option(l, "max_value");
    }
    s->kind = LIP__STAGE_RELU;
}

static void classify(struct lip__stage *s)
{
    const lip_layer *l = s->layer;

    s->kind = LIP__STAGE_UNKNOWN;
    s->adjoint = l->kind->op == LIP__ADJOINT;
    if (l->kind->op == LIP__CONV || l->kind->op == LIP__ADJOINT)
        open_conv(s);
    else if (l->kind->op == LIP__PADDED)
        open_padded(s);
    else if (l->kind->op == LIP__MATRIX)
        open_matrix(s);
    else if (l->kind->merge)
        s->kind = is(l, "Add")           ? LIP__STAGE_SUM
                  : is(l, "Subtract")    ? LIP__STAGE_DIFFERENCE
                  : is(l, "Average")     ? LIP__STAGE_MEAN
                  : is(l, "Concatenate") ? LIP__STAGE_BESIDE
                                         : LIP__STAGE_UNKNOWN;
    else if (is(l, "GroupSort") || is(l, "GroupSort2")) {
        s->kind = LIP__STAGE_SORT;
        s->group = (size_t) * (const long *)option(l, "n");
    } else if (is(l, "relu") || is(l, "ReLU"))
        open_relu(s);
    else if (is(l, "ScaledAveragePooling2D") || is(l, "ScaledL2NormPooling2D")) {
        s->kind = is(l, "ScaledL2NormPooling2D") ? LIP__STAGE_L2 : LIP__STAGE_AVERAGE;
        memcpy(s->pool, option(l, "pool_size"), sizeof s->pool);
    } else if (is(l, "Flatten") || is(l, "Activation") || is(l, "InputLayer"))
        s->kind = LIP__STAGE_COPY;
}

static lip_err widen(const lip_snapshot *snapshot, size_t variable, size_t count, double **wide, lip_error *err)
{
    const float *x;
    size_t at;

    if (variable == LIP__NOWHERE || !(x = snapshot->data[variable]))
        return LIP_OK;
    if (!lip__all_finite(x, count, &at))
        return lip__fail(err, LIP_ENONFINITE, "%s: element %zu is %g", snapshot->model->variable[variable].name, at,
                         (double)x[at]);
    *wide = lip__widen(x, count);
    return *wide ? LIP_OK : lip__nomem(err, count * sizeof **wide);
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
                                 .method = "none",
                                 .norm = {0, NAN},
                                 .gain = NAN,
                                 .weighed = NAN};
    classify(stage);
    if (stage->kind == LIP__STAGE_UNKNOWN && step->layer->kind->flags & LIP__MOVES)
        return open_move(stage, err);
    if (stage->kind == LIP__STAGE_UNKNOWN && step->layer->kind->weighed) {
        const float *w[LIP__MAX_READ];
        for (size_t r = 0; r < LIP__MAX_READ; r++)
            w[r] = step->read[r] == LIP__NOWHERE ? NULL : snapshot->data[step->read[r]];
        stage->weighed = step->layer->kind->weighed(step->layer, w);
    }
    if (!stage->m)
        return LIP_OK;
    rc = widen(snapshot, step->read[0], stage->m * stage->n, &stage->kernel, err);
    if (!rc)
        rc = widen(snapshot, step->read[1], stage->width, &stage->bias, err);
    stage->conv.kernel = stage->kernel;
    return rc;
}

void lip__stage_close(struct lip__stage *stage)
{
    lip__free(stage->source);
    lip__free(stage->sigma);
    lip__free(stage->bias);
    lip__free(stage->kernel);
    stage->sigma = stage->bias = stage->kernel = NULL;
    stage->source = NULL;
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

static lip_err prove_kernel(struct lip__stage *s, lip_error *err)
{
    double *work = lip__alloc(2 * s->n + s->m, sizeof *work);
    lip_interval reshaped;
    lip_err rc;

    s->n_sigma = s->m < s->n ? s->m : s->n;
    s->sigma = lip__alloc(s->n_sigma, sizeof *s->sigma);
    if (!work || !s->sigma) {
        lip__free(work);
        return lip__nomem(err, (2 * s->n + s->m) * sizeof *work);
    }
    rc = lip__enclose(s->kernel, s->m, s->n, &reshaped, s->sigma, err);
    s->roundings = (s->adjoint ? s->conv.g.kh * s->conv.g.kw * s->n : s->m) + 2;
    if (s->adjoint) /* of another matrix than the one that is constrained */
        s->n_sigma = 0;
    if (!rc && s->kind == LIP__STAGE_MATRIX) {
        s->norm = reshaped;
        s->method = "enclosure";
        s->absolute = lip__abs_norm(s->m, s->n, s->kernel, work);
    } else if (!rc) {
        rc = lip__conv_enclose(&s->conv, &reshaped, &s->norm, &s->method, err);
        if (!rc)
            rc = lip__conv_abs_norm(&s->conv, &s->absolute, err);
    }
    if (s->bias)
        s->added = lip__up(lip__norm_up(s->bias, s->width) * lip__up(sqrt((double)s->rows)));
    lip__free(work);
    return rc;
}

lip_err lip__stage_prove(struct lip__stage *s, lip_error *err)
{
    double k = s->layer->k;
    size_t pool = s->pool[0] * s->pool[1];
    lip_err rc;

    switch (s->kind) {
    case LIP__STAGE_MATRIX:
    case LIP__STAGE_CONV:
        rc = prove_kernel(s, err);
        s->gain = s->norm.upper;
        return rc;
    case LIP__STAGE_SORT:
        analytic(s, k, k == 1 ? 0 : 3);
        break;
    case LIP__STAGE_RELU:
        analytic(s, fmax(1, s->slope), s->slope == 0 && isnan(s->most) ? 0 : 4);
        if (s->most == 0) /* nothing passes above 0 */
            s->norm.lower = s->slope;
        if (!isnan(s->most))
            s->added = lip__up(s->most * lip__up(sqrt((double)s->out)));
        break;
    case LIP__STAGE_AVERAGE:
        analytic(s, k, pool + 4);
        break;
    case LIP__STAGE_L2:
        analytic(s, k, pool + 4);
        s->squares = true;
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
        s->absolute = s->added = NAN;
        if (s->layer->kind->op == LIP__PADDED)
            return prove_padded(s, err);
        s->gain = s->norm.upper = !isnan(s->weighed)             ? s->weighed
                                  : s->layer->kind->constant ? s->layer->kind->constant(s->layer)
                                                             : NAN;
        s->method = isnan(s->norm.upper) ? "none" : "analytic";
        break;
    }
    return LIP_OK;
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

    if (s->kind == LIP__STAGE_UNKNOWN || !(n * how->u < 0.5) || !(out * (1 + gamma) < how->most / 2))
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

/* ---- its value ------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* One row of windows of one image: y (windows, channels). */
static void pool_row(const struct lip__stage *s, const double *x, double *y)
{
    size_t c = s->layer->in.dim[2], width = s->layer->in.dim[1] * c, windows = s->layer->out.dim[1];
    double k = s->layer->k, root = sqrt((double)(s->pool[0] * s->pool[1]));
    bool norm = s->kind == LIP__STAGE_L2;

    memset(y, 0, windows * c * sizeof *y);
    for (size_t a = 0; a < s->pool[0]; a++)
        for (size_t j = 0; j < windows * s->pool[1]; j++) {
            const double *from = x + a * width + j * c;
            double *to = y + j / s->pool[1] * c;

            for (size_t i = 0; i < c; i++)
                to[i] += norm ? from[i] * from[i] : from[i];
        }
    for (size_t i = 0; i < windows * c; i++)
        y[i] = norm ? k * sqrt(y[i]) : k * y[i] / root;
}

static void pool_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    size_t rows = s->layer->out.dim[0], row = s->out / rows, step = s->pool[0] * (s->in / s->layer->in.dim[0]);

    for (size_t i = 0; i < n * rows; i++)
        pool_row(s, x + i / rows * s->in + i % rows * step, y + i * row);
}

static void sort_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    memcpy(y, x, n * s->out * sizeof *y);
    for (size_t i = 0; i < n * s->out; i += s->group)
        if (s->group == 2) {
            y[i] = fmin(x[i], x[i + 1]);
            y[i + 1] = fmax(x[i], x[i + 1]);
        } else
            qsort(y + i, s->group, sizeof *y, ascending);
    for (size_t i = 0; i < n * s->out; i++)
        y[i] *= s->layer->k;
}

static void sum_value(const struct lip__stage *s, size_t n, const double *const *x, double *y)
{
    for (size_t i = 0; i < n * s->out; i++) {
        y[i] = x[0][i];
        for (size_t j = 1; j < s->n_from; j++)
            y[i] += s->kind == LIP__STAGE_DIFFERENCE ? -x[j][i] : x[j][i];
        if (s->kind == LIP__STAGE_MEAN)
            y[i] /= (double)s->n_from;
    }
}

/* Along an axis: of each tensor a run of its samples' trailing dimensions. */
static void beside_value(const struct lip__stage *s, size_t n, const double *const *x, double *y)
{
    const lip_layer *l = s->layer;
    long named = *(const long *)option(l, "axis"), rank = (long)l->out.rank;
    size_t axis = (size_t)(named < 0 ? named + rank : named - 1), inner = 1, begin = 0, all;

    for (size_t d = axis + 1; d < l->out.rank; d++)
        inner *= l->out.dim[d];
    all = l->out.dim[axis] * inner;
    for (size_t i = 0; i < s->n_from; i++) {
        size_t mine = l->merged[i].dim[axis] * inner;

        for (size_t r = 0; r < n * s->out / all; r++)
            memcpy(y + r * all + begin, x[i] + r * mine, mine * sizeof *y);
        begin += mine;
    }
}

size_t lip__stage_scratch(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_CONV ? lip__conv_panel(&s->conv) : 0;
}

void lip__stage_value(const struct lip__stage *s, size_t n, const double *const *x, double *y, double *scratch)
{
    const double *first = x[0];

    switch (s->kind) {
    case LIP__STAGE_MATRIX:
        lip__dgemm(false, false, n * s->rows, s->n, s->m, 1, first, s->m, s->kernel, s->n, 0, y, s->n);
        break;
    case LIP__STAGE_CONV:
        for (size_t i = 0; i < n; i++)
            (s->adjoint ? lip__double_conv_adjoint : lip__conv_apply)(&s->conv, first + i * s->in, y + i * s->out, scratch);
        break;
    case LIP__STAGE_MOVE:
        for (size_t i = 0; i < n * s->out; i++) {
            size_t at = s->source[i % s->out];
            y[i] = at < s->in ? first[i / s->out * s->in + at] : 0;
        }
        break;
    case LIP__STAGE_SORT:
        sort_value(s, n, first, y);
        break;
    case LIP__STAGE_RELU:
        for (size_t i = 0; i < n * s->out; i++)
            y[i] = first[i] < 0 ? s->slope * first[i] : first[i] > s->most ? s->most : first[i];
        break;
    case LIP__STAGE_AVERAGE:
    case LIP__STAGE_L2:
        pool_value(s, n, first, y);
        break;
    case LIP__STAGE_SUM:
    case LIP__STAGE_DIFFERENCE:
    case LIP__STAGE_MEAN:
        sum_value(s, n, x, y);
        break;
    case LIP__STAGE_BESIDE:
        beside_value(s, n, x, y);
        break;
    case LIP__STAGE_COPY:
    case LIP__STAGE_UNKNOWN:
        memcpy(y, first, n * s->out * sizeof *y);
        break;
    }
    for (size_t i = 0; s->bias && i < n * s->out; i++)
        y[i] += s->bias[i % s->width];
}
