/* attack.c: points near a sample that are answered differently.
 *
 * With m the margin over class j and g its gradient at a point p, the boundary, were it flat, would have its nearest point
 * to x at x + (m(p) + <g, x - p>) / |g|_* v downhill, v the direction in which a ball of the norm reaches furthest along -g.
 * From x that step is repeated, a little too long, until the answer changes; bisection between x and that point finds the
 * boundary on the way; from there the same formula proposes points that are nearer and no longer on that way. What is kept
 * is only ever a float32 point whose answer was computed and is different.
 *
 * Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool", CVPR 2016, for the step.
 */
#include <stdlib.h>
#include <string.h>

#include "bounds/certifier.h"
#include "bounds/tangent.h"

enum { STEPS = 40, HALVINGS = 16, MOST_TARGETS = 4 };

struct attacker { /* one thread's */
    struct lip__room room;
    struct lip__tangent tangent;
    double *p, *g, *dy, *near; /* a point, a gradient there, a cotangent, the bisection's end */
    float *y, *best;
};

struct job {
    const struct lip_certifier *c;
    lip_arithmetic arithmetic;
    size_t steps, in;
    double scale;
    const float *x;
    double *radius;
    float *point;
    struct attacker *attacker;
};

static lip_err attacker_open(const struct lip_certifier *c, struct attacker *a, lip_error *err)
{
    size_t in = lip__map_inputs(&c->map), classes = c->head.classes;
    lip_err rc = lip__room_open(&c->map, 1, &a->room, err);

    if (!rc)
        rc = lip__tangent_open(&c->map, &a->tangent, err);
    a->p = lip__alloc(in, sizeof *a->p);
    a->g = lip__alloc(in, sizeof *a->g);
    a->near = lip__alloc(in, sizeof *a->near);
    a->dy = lip__alloc(classes, sizeof *a->dy);
    a->y = lip__alloc(classes, sizeof *a->y);
    a->best = lip__alloc(in, sizeof *a->best);
    if (!rc && (!a->p || !a->g || !a->near || !a->dy || !a->y || !a->best))
        rc = lip__nomem(err, 3 * in * sizeof(double));
    return rc;
}

static void attacker_close(const struct lip_certifier *c, struct attacker *a)
{
    lip__free(a->best);
    lip__free(a->y);
    lip__free(a->dy);
    lip__free(a->near);
    lip__free(a->g);
    lip__free(a->p);
    lip__tangent_close(&a->tangent);
    lip__room_close(&c->map, &a->room);
}

/* a->y <- the outputs at p, which is rounded to float32 first. Returns the answer. */
static size_t answer_at(const struct job *job, struct attacker *a, double *p)
{
    const struct lip_certifier *c = job->c;
    size_t out = c->map.output[0], classes = c->head.classes;

    for (size_t i = 0; i < job->in; i++)
        p[i] = (float)p[i];
    if (job->arithmetic == LIP_FLOAT32) {
        lip__tangent_at(&a->tangent, p);
        memcpy(a->y, a->tangent.keep[out], classes * sizeof *a->y);
    } else {
        lip__map_value(&c->map, &a->room, 1, p);
        for (size_t j = 0; j < classes; j++)
            a->y[j] = (float)a->room.value[out][j];
    }
    return lip__answer(a->y, classes);
}

static float largest(const float *y, size_t n)
{
    float most = 0;

    for (size_t j = 0; j < n; j++)
        most = fmaxf(most, fabsf(y[j]));
    return most;
}

/* Whether the answer at p is another than c, and in float32 by more than another order of summation would turn back. */
static bool flips(const struct job *job, struct attacker *a, double *p, size_t c)
{
    size_t classes = job->c->head.classes, got = answer_at(job, a, p);
    float lead;

    if (got == c || job->arithmetic == LIP_FLOAT64)
        return got != c;
    lead = classes == 1 ? fabsf(a->y[0]) : a->y[got] - a->y[c];
    return lead > 0x1p-18f * largest(a->y, classes);
}

/* The margin of class c over j at p as just answered, and its gradient. */
static double slope(const struct job *job, struct attacker *a, size_t c, size_t j)
{
    size_t classes = job->c->head.classes;
    double margin = classes == 1 ? (c ? a->y[0] : -a->y[0]) : (double)a->y[c] - a->y[j];

    if (job->arithmetic == LIP_FLOAT64)
        lip__tangent_at(&a->tangent, a->p);
    memset(a->dy, 0, classes * sizeof *a->dy);
    if (classes == 1)
        a->dy[0] = c ? 1 : -1;
    else {
        a->dy[c] = 1;
        a->dy[j] = -1;
    }
    lip__tangent_back(&a->tangent, a->dy, a->g);
    return margin;
}

/* Upper bound of the distance from x in the certifier's norm. */
static double distance(const struct job *job, const float *x, const double *p)
{
    double sum = 0;

    for (size_t i = 0; i < job->in; i++) {
        double d = fabs(p[i] - x[i]) * (1 + 2 * LIP__U);

        sum = job->c->norm == LIP_L2 ? sum + d * d : job->c->norm == LIP_L1 ? sum + d : fmax(sum, d);
    }
    sum *= lip__lift(job->in);
    return job->c->norm == LIP_L2 ? lip__up(sqrt(sum)) : sum;
}

/* p <- the nearest point to x, or to p itself where x is NULL, on the plane where the margin, as linear as at p, is `goal`.
 * False where it is flat. */
static bool project(const struct job *job, struct attacker *a, const float *x, double margin, double goal)
{
    double dual = 0, move = margin - goal;
    size_t steepest = 0;

    for (size_t i = 0; i < job->in; i++) {
        double g = fabs(a->g[i]);

        move += x ? a->g[i] * (x[i] - a->p[i]) : 0;
        dual = job->c->norm == LIP_L2 ? dual + g * g : job->c->norm == LIP_LINF ? dual + g : fmax(dual, g);
        if (g > fabs(a->g[steepest]))
            steepest = i;
    }
    if (!(dual > 0) || !isfinite(dual) || !isfinite(move))
        return false;
    move /= dual; /* for l2 the square stands for |g| and the length of g */
    for (size_t i = 0; i < job->in; i++)
        a->p[i] = (x ? x[i] : a->p[i]) - (job->c->norm == LIP_L2     ? move * a->g[i]
                          : job->c->norm == LIP_LINF ? move * ((a->g[i] > 0) - (a->g[i] < 0))
                          : i == steepest            ? move * ((a->g[i] > 0) - (a->g[i] < 0))
                                                     : 0);
    return true;
}

/* p, whose answer is not c, moved towards x as far as bisection finds another answer than c. */
static void approach(const struct job *job, struct attacker *a, const float *x, size_t c)
{
    double inside = 0, outside = 1; /* share of the way from x */

    memcpy(a->near, a->p, job->in * sizeof *a->near);
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (inside + outside) / 2;

        for (size_t k = 0; k < job->in; k++)
            a->p[k] = x[k] + middle * (a->near[k] - x[k]);
        if (flips(job, a, a->p, c))
            outside = middle;
        else
            inside = middle;
    }
    for (size_t k = 0; k < job->in; k++)
        a->p[k] = x[k] + outside * (a->near[k] - x[k]);
    answer_at(job, a, a->p);
}

/* Classes from the nearest on, by margin over the constant of their pair. */
static size_t targets(const struct job *job, const struct attacker *a, size_t c, size_t *target)
{
    size_t classes = job->c->head.classes, n = 0;
    double value[MOST_TARGETS];

    if (classes == 1) {
        target[0] = 0;
        return 1;
    }
    for (size_t j = 0; j < classes; j++) {
        double v = ((double)a->y[c] - a->y[j]) / job->c->head.pair[c * classes + j];
        size_t at = n;

        if (j == c)
            continue;
        while (at > 0 && v < value[at - 1])
            at--;
        if (at == MOST_TARGETS)
            continue;
        n = n < MOST_TARGETS ? n + 1 : n;
        for (size_t k = n - 1; k > at; k--) {
            value[k] = value[k - 1];
            target[k] = target[k - 1];
        }
        value[at] = v;
        target[at] = j;
    }
    return n;
}

/* Steps towards class j until the answer changes; then nearer ones. */
static void attack_class(const struct job *job, struct attacker *a, const float *x, size_t c, size_t j, double *best)
{
    double nearest = INFINITY;

    for (size_t i = 0; i < job->in; i++)
        a->p[i] = x[i];
    answer_at(job, a, a->p);
    for (size_t step = 0; step < job->steps; step++) {
        double margin = slope(job, a, c, j), beyond = 0.02 * fabs(margin) + 0x1p-16 * largest(a->y, job->c->head.classes), d;

        if (!project(job, a, isinf(nearest) ? NULL : x, margin, -beyond))
            return;
        if (!flips(job, a, a->p, c))
            continue;
        approach(job, a, x, c);
        d = distance(job, x, a->p);
        if (d < *best) {
            *best = d;
            for (size_t i = 0; i < job->in; i++)
                a->best[i] = (float)a->p[i];
        }
        if (d > nearest * (1 - 1e-4))
            return;
        nearest = d;
    }
}

static void attack_sample(void *ctx, size_t index, size_t thread)
{
    const struct job *job = ctx;
    struct attacker *a = &job->attacker[thread];
    const float *x = job->x + index * job->in;
    size_t target[MOST_TARGETS], n, c;
    double best = INFINITY;

    memcpy(a->best, x, job->in * sizeof *x);
    for (size_t i = 0; i < job->in; i++)
        a->p[i] = x[i];
    if (lip__all_finite(x, job->in, NULL)) {
        c = answer_at(job, a, a->p);
        n = targets(job, a, c, target);
        for (size_t t = 0; t < n; t++)
            attack_class(job, a, x, c, target[t], &best);
    }
    job->radius[index] = lip__up(best / job->scale);
    if (job->point)
        memcpy(job->point + index * job->in, a->best, job->in * sizeof *x);
}

lip_err lip_attack(const lip_certifier *c, const lip_certify_options *options, size_t steps, size_t n, const float *x,
                   double *radius, float *point, lip_error *err)
{
    size_t threads = lip_threads(), open = 0;
    struct job job = {.c = c,
                      .arithmetic = options->arithmetic,
                      .steps = steps ? steps : STEPS,
                      .in = lip__map_inputs(&c->map),
                      .x = x,
                      .radius = radius,
                      .point = point};
    lip_err rc = lip__input_scale(options, &job.scale, err);

    if (rc || n == 0)
        return rc;
    job.attacker = lip__alloc(threads, sizeof *job.attacker);
    if (!job.attacker)
        return lip__nomem(err, threads * sizeof *job.attacker);
    while (!rc && open < threads)
        rc = attacker_open(c, &job.attacker[open++], err);
    if (!rc)
        lip__parallel(n, attack_sample, &job);
    while (open-- > 0)
        attacker_close(c, &job.attacker[open]);
    lip__free(job.attacker);
    return rc;
}
