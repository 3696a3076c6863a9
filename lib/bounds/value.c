/* value.c: the steps of a model in double. */
#include <stdlib.h>
#include <string.h>

#include "bounds/stage.h"
#include "tensor/gemm.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* One window: pixels from (top, left) of x on, y of the channels. */
static void window_value(const struct lip__stage *s, size_t top, size_t left, const double *x, double *y)
{
    const struct lip__windows *g = &s->windows;
    size_t i0 = top < g->top ? g->top - top : 0, j0 = left < g->left ? g->left - left : 0, seen = 0;

    for (size_t i = i0; i < g->kh && top + i - g->top < g->h; i++)
        for (size_t j = j0; j < g->kw && left + j - g->left < g->w; j++, seen++) {
            const double *pixel = x + ((top + i - g->top) * g->w + left + j - g->left) * g->c;

            for (size_t c = 0; c < g->c; c++)
                if (s->kind == LIP__STAGE_MAXIMUM)
                    y[c] = !seen || pixel[c] > y[c] ? pixel[c] : y[c];
                else
                    y[c] = (seen ? y[c] : 0) + (s->kind == LIP__STAGE_L2 ? pixel[c] * pixel[c] : pixel[c]);
        }
    for (size_t c = 0; c < g->c && s->kind != LIP__STAGE_MAXIMUM; c++)
        y[c] = s->kind == LIP__STAGE_L2 ? s->scale * sqrt(y[c]) : s->scale == 0 ? y[c] / (double)seen : s->scale * y[c];
}

static void windows_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    const struct lip__windows *g = &s->windows;

    for (size_t i = 0; i < n; i++, x += s->in)
        for (size_t p = 0; p < g->oh; p++)
            for (size_t r = 0; r < g->ow; r++, y += g->c)
                window_value(s, p * g->sh, r * g->sw, x, y);
}

/* One number. */
static double rectified(const struct lip__stage *s, size_t i, double x)
{
    return x < 0 ? (s->kernel ? s->kernel[i % s->n] : s->slope) * x : x > s->most ? s->most : x;
}

static void max_min_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    size_t c = s->layer->in.dim[s->layer->in.rank - 1], rows = n * (s->in / c);
    double k = s->layer->k;

    for (size_t r = 0; r < rows; r++, x += c, y += 2 * c)
        for (size_t i = 0; i < c; i++) {
            y[i] = k * fmax(x[i], 0);
            y[c + i] = k * fmax(-x[i], 0);
        }
}

static void householder_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    size_t half = s->n, rows = n * (s->in / (2 * half));

    for (size_t r = 0; r < rows; r++, x += 2 * half, y += 2 * half)
        for (size_t j = 0; j < half; j++) {
            double theta = s->kernel[j], a = x[j], b = x[half + j];
            bool other_side = a * sin(theta / 2) - b * cos(theta / 2) > 0;

            y[j] = other_side ? a * cos(theta) + b * sin(theta) : a;
            y[half + j] = other_side ? a * sin(theta) - b * cos(theta) : b;
        }
}

/* One run of numbers. */
static void softmax_run(const struct lip__stage *s, bool logarithm, const double *x, double *y)
{
    size_t c = s->group, step = s->step;
    double most = x[0], sum = 0;

    for (size_t i = 1; i < c; i++)
        most = fmax(most, x[i * step]);
    for (size_t i = 0; i < c; i++)
        sum += exp(x[i * step] - most);
    for (size_t i = 0; i < c; i++)
        y[i * step] = logarithm ? x[i * step] - most - log(sum) : exp(x[i * step] - most) / sum;
}

static void softmax_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    bool logarithm = !strcmp(s->layer->kind->cls.name, "log_softmax");

    for (size_t block = 0; block < n * s->in; block += s->group * s->step)
        for (size_t i = block; i < block + s->step; i++)
            softmax_run(s, logarithm, x + i, y + i);
}

static void affine_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    for (size_t i = 0; i < n * s->out; i++)
        y[i] = s->kernel[i / s->step % s->n] * x[i];
}

static void move_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++, x += s->in, y += s->out)
        for (size_t j = 0; j < s->out; j++)
            y[j] = s->place[j] < s->in ? x[s->place[j]] : 0;
}

static void sort_value(const struct lip__stage *s, size_t n, const double *x, double *y)
{
    double k = s->layer->k;

    for (size_t i = 0; i < n * s->out && s->group == 2; i += 2) {
        bool turned = x[i] > x[i + 1];
        double low = turned ? x[i + 1] : x[i], high = turned ? x[i] : x[i + 1];

        y[i] = k * low;
        y[i + 1] = k * high;
    }
    if (s->group == 2)
        return;
    memcpy(y, x, n * s->out * sizeof *y);
    for (size_t i = 0; i < n * s->out; i += s->group)
        qsort(y + i, s->group, sizeof *y, ascending);
    for (size_t i = 0; i < n * s->out; i++)
        y[i] *= k;
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
    size_t axis = 0, inner = 1, begin = 0, all;

    while (axis + 1 < l->out.rank && l->merged[0].dim[axis] == l->out.dim[axis]) /* only along its own axis is it longer */
        axis++;
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

/* The bias of every channel, where channels lie side by side or `step` apart. */
static void add_bias(const struct lip__stage *s, size_t n, double *y)
{
    size_t channels = s->kind == LIP__STAGE_ADJOINT ? s->conv.g.c : s->n;

    for (size_t i = 0; i < n * s->out; i += channels * s->step)
        for (size_t c = 0; c < channels; c++)
            for (size_t j = 0; j < s->step; j++)
                y[i + c * s->step + j] += s->bias[c];
}

size_t lip__stage_scratch(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_CONV || s->kind == LIP__STAGE_ADJOINT ? lip__conv_panel(&s->conv) : 0;
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
            lip__conv_apply(&s->conv, first + i * s->in, y + i * s->out, scratch);
        break;
    case LIP__STAGE_ADJOINT:
        for (size_t i = 0; i < n; i++)
            lip__double_conv_adjoint(&s->conv, first + i * s->in, y + i * s->out, scratch);
        break;
    case LIP__STAGE_SCALE:
        for (size_t i = 0; i < n * s->out; i++)
            y[i] = s->scale * first[i] + s->number;
        break;
    case LIP__STAGE_AFFINE:
        affine_value(s, n, first, y);
        break;
    case LIP__STAGE_SORT:
        sort_value(s, n, first, y);
        break;
    case LIP__STAGE_RELU:
        for (size_t i = 0; i < n * s->out; i++)
            y[i] = rectified(s, i, first[i]);
        break;
    case LIP__STAGE_SCALAR:
        for (size_t i = 0; i < n * s->out; i++)
            y[i] = s->function(first[i], s->number);
        break;
    case LIP__STAGE_MAX_MIN:
        max_min_value(s, n, first, y);
        break;
    case LIP__STAGE_HOUSEHOLDER:
        householder_value(s, n, first, y);
        break;
    case LIP__STAGE_SOFTMAX:
        softmax_value(s, n, first, y);
        break;
    case LIP__STAGE_MOVE:
        move_value(s, n, first, y);
        break;
    case LIP__STAGE_AVERAGE:
    case LIP__STAGE_L2:
    case LIP__STAGE_MAXIMUM:
        windows_value(s, n, first, y);
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
    if (s->bias)
        add_bias(s, n, y);
}
