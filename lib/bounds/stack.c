/* stack.c: shapes and sums of norms of convolutions, frequency by frequency.
 *
 * Let x be what a stack reads, laid out on an N-periodic grid large enough for each of its convolutions (embed.c), K_i
 * those as periodic operators, m_i the masks of their images, phi_i the functions behind them. The stack is the part of
 * K_n m phi_{n-1} K_{n-1} … K_1 x that its last image shows. For each place and channel m_i phi_i is a function whose
 * secants have slopes between least and most, 0 among them. Shapes of the whole grid that are the same at every place
 * are block diagonal in frequencies, and so are multipliers that do not depend on the place, with the same block
 * everywhere: shape.h's step holds frequency by frequency, complex matrices standing there as real ones of twice the
 * size. Frequencies (a, b) and (-a, -b) are conjugate and need one of the two.
 *
 * Source: certify.md C4.
 */
#include "bounds/stack.h"

#include <string.h>

#include "bounds/embed.h"
#include "bounds/liplt.h"
#include "bounds/shape.h"

enum { POWER = 12 };
#define MOST_NUMBERS 3e7 /* of all shapes */
#define MOST_FLOPS   2e10
#define SLACK        (1 + 0x1p-48) /* rates of AFFINE are off by a few roundings */

/* ---- which stages ----------------------------------------------------------------------------------------------- */

static size_t maker_of(const struct lip__map *map, size_t value)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].value == value)
            return i;
    return map->n;
}

static bool convolves(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_CONV && !s->conv.row;
}

/* An interval times [a, b]. */
static void widen(double *least, double *most, double a, double b)
{
    double p = *least * a, q = *least * b, r = *most * a, s = *most * b;

    *least = fmin(fmin(p, q), fmin(r, s));
    *most = fmax(fmax(p, q), fmax(r, s));
    *least *= *least < 0 ? SLACK : 2 - SLACK;
    *most *= *most > 0 ? SLACK : 2 - SLACK;
}

/* Slopes of a stage that works on each number, multiplied into those of c channels; false: it is none. */
static bool passes(const struct lip__stage *s, size_t c, double *least, double *most)
{
    bool by_channel = s->kind == LIP__STAGE_AFFINE && s->step == 1 && s->n == c;

    if (s->n_from != 1 || !(by_channel || s->kind == LIP__STAGE_RELU || s->kind == LIP__STAGE_SCALAR ||
                            s->kind == LIP__STAGE_SCALE || s->kind == LIP__STAGE_COPY))
        return false;
    for (size_t j = 0; j < c && s->kind != LIP__STAGE_COPY; j++) {
        double a = by_channel ? s->kernel[j] : s->kind == LIP__STAGE_SCALE ? s->scale : s->least;
        double b = by_channel ? s->kernel[j] : s->kind == LIP__STAGE_SCALE ? s->scale : s->steepest;

        widen(&least[j], &most[j], a, b);
    }
    return true;
}

/* Stages from `stage` back, a convolution; those that convolve go to stack->conv, last first, slopes of what stands in
 * front of each to stack->least and most. */
static lip_err walk(const struct lip__map *map, size_t stage, bool *covered, struct lip__stack *stack, lip_error *err)
{
    while (stage < map->n && convolves(&map->stage[stage])) {
        const struct lip__stage *s = &map->stage[stage];
        size_t c = s->conv.g.c, at = maker_of(map, s->from[0]);
        double *least = lip__alloc(c, sizeof *least), *most = lip__alloc(c, sizeof *most);

        stack->least[stack->n] = least;
        stack->most[stack->n] = most;
        stack->conv[stack->n++] = s;
        covered[stage] = true;
        stack->from = s->from[0];
        if (!least || !most)
            return lip__nomem(err, c * sizeof *least);
        for (size_t j = 0; j < c; j++)
            least[j] = most[j] = 1;
        if (s->conv.g.sh != 1 || s->conv.g.sw != 1)
            return LIP_OK;
        while (at < map->n && passes(&map->stage[at], c, least, most))
            at = maker_of(map, map->stage[at].from[0]);
        for (size_t j = 0; j < c; j++) {
            least[j] = fmin(0, least[j]);
            most[j] = fmax(0, most[j]);
        }
        stage = at;
    }
    return LIP_OK;
}

lip_err lip__stack_open(const struct lip__map *map, size_t stage, bool *covered, struct lip__stack *stack,
                        lip_error *err)
{
    lip_err rc;

    *stack = (struct lip__stack){.to = map->stage[stage].value};
    stack->conv = lip__alloc(map->n, sizeof *stack->conv);
    stack->least = lip__alloc(map->n, sizeof *stack->least);
    stack->most = lip__alloc(map->n, sizeof *stack->most);
    if (!stack->conv || !stack->least || !stack->most)
        return lip__nomem(err, map->n * sizeof *stack->conv);
    rc = walk(map, stage, covered, stack, err);
    for (size_t i = 0; i < stack->n / 2; i++) { /* first to last */
        size_t j = stack->n - 1 - i;
        const struct lip__stage *conv = stack->conv[i];
        double *least = stack->least[i], *most = stack->most[i];

        stack->conv[i] = stack->conv[j];
        stack->least[i] = stack->least[j];
        stack->most[i] = stack->most[j];
        stack->conv[j] = conv;
        stack->least[j] = least;
        stack->most[j] = most;
    }
    for (size_t i = 0; !rc && i < stack->n; i++) {
        size_t rows, columns;

        lip__frequencies_period(&stack->conv[i]->conv, &rows, &columns);
        stack->rows = rows > stack->rows ? rows : stack->rows;
        stack->columns = columns > stack->columns ? columns : stack->columns;
    }
    return rc;
}

void lip__stack_close(struct lip__stack *stack)
{
    for (size_t i = 0; i < stack->n; i++) {
        lip__free(stack->least[i]);
        lip__free(stack->most[i]);
    }
    lip__free(stack->most);
    lip__free(stack->least);
    lip__free(stack->conv);
}

/* ---- the chain of one frequency --------------------------------------------------------------------------------- */

struct spectral {
    const struct lip__stack *stack;
    struct lip__frequencies *f; /* of each convolution */
    struct lip__chain chain;
    size_t many; /* frequencies */
    struct lip__pace pace;
};

static lip_err spectral_open(const struct lip__stack *stack, uint64_t deadline, struct spectral *s, lip_error *err)
{
    struct lip__chain *c = &s->chain;
    lip_err rc = LIP_OK;
    bool whole;

    *s = (struct spectral){
        .stack = stack, .many = stack->rows * (stack->columns / 2 + 1), .pace = {.deadline = deadline}};
    s->f = lip__alloc(stack->n, sizeof *s->f);
    c->link = lip__alloc(stack->n, sizeof *c->link);
    if (!s->f || !c->link)
        return lip__nomem(err, stack->n * sizeof *s->f);
    for (size_t i = 0; !rc && i < stack->n; i++)
        rc = lip__frequencies_open(&stack->conv[i]->conv, stack->rows, stack->columns, &s->f[i], err);
    if (rc)
        return rc;
    c->in = 2 * s->f[0].m;
    c->n = 2 * s->f[0].n;
    c->off = 1.5 * s->f[0].error; /* the real form has every entry twice */
    c->first = lip__alloc(c->in * c->n, sizeof *c->first);
    whole = c->first != NULL;
    for (size_t i = 1; whole && i < stack->n; i++) {
        struct lip__link *l = &c->link[c->n_links++];
        size_t half = s->f[i].m;

        l->m = 2 * half;
        l->n = 2 * s->f[i].n;
        l->off = 1.5 * s->f[i].error;
        l->matrix = lip__alloc(l->m * l->n, sizeof *l->matrix);
        l->a = lip__alloc(l->m, sizeof *l->a);
        l->b = lip__alloc(l->m, sizeof *l->b);
        whole = l->matrix && l->a && l->b;
        for (size_t j = 0; whole && j < l->m; j++) {
            l->a[j] = stack->least[i][j % half];
            l->b[j] = lip__up(stack->most[i][j % half] - l->a[j]);
        }
    }
    return whole ? LIP_OK : lip__nomem(err, c->in * c->n * sizeof *c->first);
}

static void spectral_close(struct spectral *s)
{
    for (size_t i = 0; s->f && i < s->stack->n; i++)
        lip__frequencies_close(&s->f[i]);
    lip__free(s->f);
    lip__chain_close(&s->chain);
}

/* Matrix i of frequency `which`, where the chain has it. */
static void set_matrix(struct spectral *s, size_t i, size_t which)
{
    size_t width = s->stack->columns / 2 + 1;

    lip__frequencies_at(&s->f[i], which / width, which % width);
    lip__frequencies_real(&s->f[i], i ? s->chain.link[i - 1].matrix : s->chain.first);
}

static bool late(struct spectral *s)
{
    return lip__pace_late(&s->pace, 1);
}

static double flops(const struct spectral *s)
{
    double first = 2.0 * (double)s->chain.in * (double)s->chain.n * (double)s->chain.n;

    return (first + lip__chain_flops(&s->chain)) * (double)s->many;
}

/* ---- shapes ----------------------------------------------------------------------------------------------------- */

/* About the largest eigenvalue of s Q s, (m, m), by a few steps from x. */
static double stretch(const double *q, const double *s, size_t m, double *x, double *y)
{
    double length = 0;

    for (size_t i = 0; i < m; i++)
        x[i] = 1 + 0.5 * sin((double)(3 * i + 1));
    for (int step = 0; step < POWER; step++) {
        double square = 0;

        for (size_t i = 0; i < m; i++) {
            y[i] = 0;
            for (size_t j = 0; j < m; j++)
                y[i] += q[i * m + j] * s[j] * x[j];
            y[i] *= s[i];
            square += y[i] * y[i];
        }
        length = sqrt(square);
        for (size_t i = 0; i < m && length > 0; i++)
            x[i] = y[i] / length;
    }
    return length;
}

/* Whether it takes at most so many of its own limit and of the caller's. */
static bool fits(const struct spectral *s, const struct lip__limit *limit, size_t times)
{
    return flops(s) * (double)times <= MOST_FLOPS && lip__within(limit, flops(s), times) == times;
}

/* shape->s for a link: one for each channel, squares in proportion to 1 over the largest row sum of any frequency's Q,
 * and such that the largest eigenvalue of any s Q s is about `scale`. Whether that is below 2 the step proves. */
static void share(struct spectral *of, const struct lip__link *link, const double *q, double scale,
                  struct lip__shape *shape)
{
    size_t m = link->m, half = m / 2, many = of->many;
    double *s = shape->s, most = 0;

    memset(s, 0, m * sizeof *s);
    for (size_t i = 0; i < many * m; i++) {
        double sum = 0;

        for (size_t j = 0; j < m; j++)
            sum += fabs(q[i * m + j]);
        s[i % m % half] = fmax(s[i % m % half], sum);
    }
    for (size_t i = 0; i < half; i++)
        s[i] = s[half + i] = s[i] > 0 ? sqrt(1 / s[i]) : 1;
    for (size_t w = 0; w < many && !late(of); w++)
        most = fmax(most, stretch(q + w * m * m, s, m, shape->t, shape->h));
    for (size_t i = 0; i < m && most > 0; i++)
        s[i] *= sqrt(scale / most);
}

/* All shapes once through the links, in q (many, widest^2) and back. Returns the largest norm, INFINITY. */
static lip_err recursion(struct spectral *s, struct lip__shape *shape, double *q, double *next, double scale,
                         double *upper, lip_error *err)
{
    const struct lip__chain *c = &s->chain;
    size_t n = c->n;
    double most = 0;

    for (size_t w = 0; w < s->many; w++) {
        if (late(s))
            return LIP_OK;
        set_matrix(s, 0, w);
        lip__shape_first(c, q + w * n * n);
    }
    for (size_t k = 0; k < c->n_links; k++) {
        const struct lip__link *link = &c->link[k];
        double *swap = q;

        share(s, link, q, scale, shape);
        for (size_t w = 0; w < s->many; w++) {
            if (late(s))
                return LIP_OK;
            set_matrix(s, k + 1, w);
            memcpy(shape->q, q + w * link->m * link->m, link->m * link->m * sizeof *q);
            lip__shape_global(link, shape);
            if (!lip__shape_advance(link, shape, true))
                return LIP_OK;
            n = link->n;
            memcpy(next + w * n * n, shape->q, n * n * sizeof *q);
        }
        q = next;
        next = swap;
    }
    for (size_t w = 0; w < s->many; w++) {
        lip_interval norm;
        double frobenius = lip__norm_up(q + w * n * n, n * n);
        lip_err rc;

        if (frobenius <= most)
            continue;
        if (late(s))
            return LIP_OK;
        if ((rc = lip__enclose(q + w * n * n, n, n, &norm, NULL, err)) != LIP_OK)
            return rc;
        most = fmax(most, norm.upper);
    }
    *upper = fmin(*upper, lip__up(sqrt(most)));
    return LIP_OK;
}

lip_err lip__stack_fourier(const struct lip__stack *stack, const struct lip__limit *limit, double *upper,
                           bool *complete, lip_error *err)
{
    static const double scales[] = {1, 0.7};
    struct lip__shape shape = {0};
    struct spectral s;
    double *q = NULL, *next = NULL;
    size_t widest;
    lip_err rc = spectral_open(stack, limit->deadline, &s, err);

    *upper = INFINITY;
    *complete = true;
    if (rc)
        goto done;
    widest = lip__chain_widest(&s.chain);
    if (!fits(&s, limit, sizeof scales / sizeof *scales) || 2.0 * (double)(s.many * widest * widest) > MOST_NUMBERS)
        goto done;
    q = lip__alloc(s.many * widest, widest * sizeof *q);
    next = lip__alloc(s.many * widest, widest * sizeof *next);
    rc = q && next ? lip__shape_open(widest, &shape, err) : lip__nomem(err, s.many * widest * widest * sizeof *q);
    for (size_t i = 0; !rc && i < sizeof scales / sizeof *scales && !late(&s); i++)
        rc = recursion(&s, &shape, q, next, scales[i], upper, err);
    *complete = !late(&s);
done:
    lip__shape_close(&shape);
    lip__free(next);
    lip__free(q);
    spectral_close(&s);
    return rc;
}

/* ---- sums of norms ---------------------------------------------------------------------------------------------- */

lip_err lip__stack_sums(const struct lip__stack *stack, const struct lip__limit *limit, double *upper, bool *complete,
                        lip_error *err)
{
    struct spectral s;
    double *norms = lip__alloc((stack->n + 1) * (stack->n + 1), sizeof *norms);
    lip_err rc = spectral_open(stack, limit->deadline, &s, err);

    *upper = INFINITY;
    *complete = true;
    if (!rc && !norms)
        rc = lip__nomem(err, (stack->n + 1) * (stack->n + 1) * sizeof *norms);
    if (!rc && fits(&s, limit, stack->n)) {
        for (size_t w = 0; !rc && w < s.many && *complete; w++) {
            for (size_t i = 0; i < stack->n; i++)
                set_matrix(&s, i, w);
            rc = lip__liplt_norms(&s.chain, norms, err);
            *complete = !late(&s);
        }
        if (*complete)
            *upper = lip__liplt_sum(s.chain.n_links, norms);
    }
    lip__free(norms);
    spectral_close(&s);
    return rc;
}
