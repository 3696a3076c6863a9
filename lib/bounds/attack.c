/* attack.c: points near a sample that are answered differently.
 *
 * With m the margin over class j and g its gradient at a point p, the boundary, were it flat, would have its nearest point
 * to x at x + (m(p) + <g, x - p>) / |g|_* v downhill, v the direction in which a ball of the norm reaches furthest along -g.
 * From x that step is repeated, a little too long, until the answer changes; bisection between x and that point finds the
 * boundary on the way; from there the same formula proposes points that are nearer and no longer on that way. What is kept
 * is only ever a float32 point whose answer was computed and is different. Samples go side by side, some tens at once.
 *
 * Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool", CVPR 2016, for the step.
 */
#include <stdlib.h>
#include <string.h>

#include "bounds/certifier.h"
#include "bounds/tangent.h"

enum { STEPS = 40, NARROWINGS = 16, MOST_TARGETS = 4, BLOCK = 32 };

struct victim { /* a sample */
    const float *x;
    double *p, *g, *near; /* a point, a gradient there, the end of the way from x */
    float *y, *best;      /* the answers at p; the nearest point so far */
    size_t c, target[MOST_TARGETS], n_targets;
    double least[MOST_TARGETS]; /* no point of that target's is nearer */
    double nearest, distance;   /* of this target, of all */
    double least_margin;        /* at x, over all others */
    double rounding;            /* what float32 may add to the margins at p, if it is float32's answer that counts */
    double inside, outside, middle, margin_inside, margin_outside; /* shares of the way from x */
    bool other, over; /* p's answer is another; there is nothing left to do for this target */
};

struct attacker { /* one thread's */
    struct lip__room room;
    struct lip__tangent tangent;
    struct victim victim[BLOCK];
    double *numbers, *points, *slopes, *dy; /* of all victims; of those at work, side by side */
    double *sizes;                          /* for lip__float32_rounding */
    float *floats;
};

struct job {
    const struct lip_certifier *c;
    lip_arithmetic arithmetic;
    size_t steps, in, n, block;
    double scale;
    const float *x;
    double *radius;
    float *point;
    struct attacker *attacker;
};

static lip_err attacker_open(const struct lip_certifier *c, size_t n, struct attacker *a, lip_error *err)
{
    size_t in = lip__map_inputs(&c->map), classes = c->head.classes;
    lip_err rc = lip__room_open(&c->map, n, &a->room, err);

    if (!rc)
        rc = lip__tangent_open_many(&c->map, n, &a->tangent, err);
    a->numbers = lip__alloc(n, 3 * in * sizeof(double));
    a->points = lip__alloc(n, in * sizeof(double));
    a->slopes = lip__alloc(n, in * sizeof(double));
    a->dy = lip__alloc(n, classes * sizeof(double));
    a->sizes = lip__alloc(4 * c->map.snapshot->model->n_values + classes, sizeof(double));
    a->floats = lip__alloc(n, (in + classes) * sizeof(float));
    if (!rc && (!a->numbers || !a->points || !a->slopes || !a->dy || !a->sizes || !a->floats))
        rc = lip__nomem(err, n * 5 * in * sizeof(double));
    for (size_t i = 0; !rc && i < n; i++) {
        struct victim *v = &a->victim[i];

        v->p = a->numbers + 3 * in * i;
        v->g = v->p + in;
        v->near = v->g + in;
        v->best = a->floats + (in + classes) * i;
        v->y = v->best + in;
    }
    return rc;
}

static void attacker_close(const struct lip_certifier *c, struct attacker *a)
{
    lip__free(a->floats);
    lip__free(a->sizes);
    lip__free(a->dy);
    lip__free(a->slopes);
    lip__free(a->points);
    lip__free(a->numbers);
    lip__tangent_close(&a->tangent);
    lip__room_close(&c->map, &a->room);
}

static float largest(const float *y, size_t n)
{
    float most = 0;

    for (size_t j = 0; j < n; j++)
        most = fmaxf(most, fabsf(y[j]));
    return most;
}

/* Whether the answer at p, sample r of the room, is another than c: in float32 by more than any order of summation can turn back. */
static bool flips(const struct job *job, struct attacker *a, size_t r, struct victim *v)
{
    const struct lip_certifier *c = job->c;
    size_t classes = c->head.classes, got = lip__answer(v->y, classes);
    const double *z = a->room.value[c->map.output[0]] + r * classes;

    v->rounding = 0;
    if (job->arithmetic == LIP_FLOAT64)
        return got != v->c;
    v->rounding = lip__float32_rounding(c, &a->room, r, got, a->sizes);
    return got != v->c && (classes == 1 ? fabs(z[0]) : lip__down(z[got] - z[v->c])) > v->rounding;
}

/* The margin of its class over class j at p, or over all others where j is c. */
static double margin_of(const struct job *job, const struct victim *v, size_t j)
{
    size_t classes = job->c->head.classes;
    double least = INFINITY;

    if (classes == 1)
        return v->c ? v->y[0] : -v->y[0];
    for (size_t k = 0; k < classes; k++)
        if (k != v->c && (j == v->c || k == j))
            least = fmin(least, (double)v->y[v->c] - v->y[k]);
    return least;
}

/* The outputs at p, rounded to float32 first, of n victims. */
static void answers(const struct job *job, struct attacker *a, struct victim *const *list, size_t n)
{
    const struct lip_certifier *c = job->c;
    size_t out = c->map.output[0], classes = c->head.classes;

    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < job->in; i++)
            a->points[r * job->in + i] = list[r]->p[i] = (float)list[r]->p[i];
    lip__map_value(&c->map, &a->room, n, a->points);
    for (size_t r = 0; r < n; r++) {
        for (size_t j = 0; j < classes; j++)
            list[r]->y[j] = (float)a->room.value[out][r * classes + j];
        list[r]->other = flips(job, a, r, list[r]);
    }
}

/* Gradients of the margins over each one's target t at p. */
static void slopes(const struct job *job, struct attacker *a, struct victim *const *list, size_t n, size_t t)
{
    size_t classes = job->c->head.classes;

    memset(a->dy, 0, n * classes * sizeof *a->dy);
    for (size_t r = 0; r < n; r++) {
        memcpy(a->points + r * job->in, list[r]->p, job->in * sizeof *a->points);
        if (classes == 1) {
            a->dy[r] = list[r]->c ? 1 : -1;
        } else {
            a->dy[r * classes + list[r]->c] = 1;
            a->dy[r * classes + list[r]->target[t]] = -1;
        }
    }
    lip__tangent_at_many(&a->tangent, n, a->points);
    lip__tangent_back_many(&a->tangent, n, a->dy, a->slopes);
    for (size_t r = 0; r < n; r++)
        memcpy(list[r]->g, a->slopes + r * job->in, job->in * sizeof *a->slopes);
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
static bool project(const struct job *job, struct victim *a, const float *x, double margin, double goal)
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

/* Where on its way the margin, were it straight between the ends, is 0: now a little beyond, now a little before, so that both
 * ends close in. */
static double guess(const struct victim *v, int round)
{
    double width = v->outside - v->inside, share = v->margin_inside / (v->margin_inside - v->margin_outside);

    share += round % 2 ? -0.01 : 0.01;
    return v->inside + width * (round % 4 == 3 || !(share > 0.001) || !(share < 0.999) ? 0.5 : share);
}

static bool closed(const struct victim *v)
{
    return v->outside - v->inside <= 1e-5 * v->outside;
}

/* p of each, whose answer is another, moved towards x as far as another answer is found. */
static void approach(const struct job *job, struct attacker *a, struct victim *const *list, size_t n)
{
    struct victim *open[BLOCK];
    size_t left = n;

    for (size_t r = 0; r < n; r++) {
        struct victim *v = open[r] = list[r];

        memcpy(v->near, v->p, job->in * sizeof *v->near);
        v->inside = 0;
        v->outside = 1;
        v->margin_inside = v->least_margin;
        v->margin_outside = margin_of(job, v, v->c);
    }
    for (int round = 0; round < NARROWINGS && left > 0; round++) {
        size_t still = 0;

        for (size_t r = 0; r < left; r++) {
            struct victim *v = open[r];

            v->middle = guess(v, round);
            for (size_t k = 0; k < job->in; k++)
                v->p[k] = v->x[k] + v->middle * (v->near[k] - v->x[k]);
        }
        answers(job, a, open, left);
        for (size_t r = 0; r < left; r++) {
            struct victim *v = open[r];

            if (v->other) {
                v->outside = v->middle;
                v->margin_outside = margin_of(job, v, v->c);
            } else {
                v->inside = v->middle;
                v->margin_inside = margin_of(job, v, v->c);
            }
            if (!closed(v))
                open[still++] = v;
        }
        left = still;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t k = 0; k < job->in; k++)
            list[r]->p[k] = list[r]->x[k] + list[r]->outside * (list[r]->near[k] - list[r]->x[k]);
    answers(job, a, list, n);
}

/* Classes from the nearest on, by margin over the constant of their pair, which no point is nearer than. */
static void targets(const struct job *job, struct victim *v)
{
    size_t classes = job->c->head.classes;

    v->n_targets = classes == 1;
    v->target[0] = 0;
    v->least[0] = 0;
    for (size_t j = 0; j < classes && classes > 1; j++) {
        double least = ((double)v->y[v->c] - v->y[j]) / job->c->head.pair[v->c * classes + j];
        size_t at = v->n_targets;

        if (j == v->c)
            continue;
        while (at > 0 && least < v->least[at - 1])
            at--;
        if (at == MOST_TARGETS)
            continue;
        v->n_targets += v->n_targets < MOST_TARGETS;
        for (size_t k = v->n_targets - 1; k > at; k--) {
            v->least[k] = v->least[k - 1];
            v->target[k] = v->target[k - 1];
        }
        v->least[at] = least;
        v->target[at] = j;
    }
}

/* p lies where approach left it; its answer, computed among others than before, may be c again by the last bit. */
static void count(const struct job *job, struct victim *v)
{
    double d = distance(job, v->x, v->p);

    if (v->other && d < v->distance) {
        v->distance = d;
        for (size_t i = 0; i < job->in; i++)
            v->best[i] = (float)v->p[i];
    }
    v->over = d > v->nearest * (1 - 1e-4);
    v->nearest = d;
}

/* Those of n that go on. */
static size_t still(struct victim **list, size_t n)
{
    size_t left = 0;

    for (size_t r = 0; r < n; r++)
        if (!list[r]->over)
            list[left++] = list[r];
    return left;
}

/* Steps of all towards their target t until the answer changes; then nearer ones. */
static void attack_target(const struct job *job, struct attacker *a, struct victim **list, size_t n, size_t t)
{
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < job->in; i++)
            list[r]->p[i] = list[r]->x[i];
        list[r]->nearest = INFINITY;
        list[r]->over = false;
    }
    answers(job, a, list, n);
    for (size_t step = 0; step < job->steps && n > 0; step++) {
        struct victim *moved[BLOCK];
        size_t flipped = 0;

        slopes(job, a, list, n, t);
        for (size_t r = 0; r < n; r++) {
            struct victim *v = list[r];
            double margin = margin_of(job, v, v->target[t]);
            double beyond = 0.02 * fabs(margin) + 0x1p-16 * largest(v->y, job->c->head.classes) + 2 * v->rounding;

            v->over = !project(job, v, isinf(v->nearest) ? NULL : v->x, margin, -beyond);
        }
        n = still(list, n);
        answers(job, a, list, n);
        for (size_t r = 0; r < n; r++)
            if (list[r]->other)
                moved[flipped++] = list[r];
        approach(job, a, moved, flipped);
        for (size_t r = 0; r < flipped; r++)
            count(job, moved[r]);
        n = still(list, n);
    }
}

static void attack_block(void *ctx, size_t index, size_t thread)
{
    const struct job *job = ctx;
    struct attacker *a = &job->attacker[thread];
    size_t first = index * job->block, n = job->n - first < job->block ? job->n - first : job->block, all = 0;
    struct victim *list[BLOCK], *there[BLOCK] = {NULL};

    for (size_t i = 0; i < n; i++) {
        struct victim *v = &a->victim[i];

        v->x = job->x + (first + i) * job->in;
        v->c = 0; /* until it is known */
        v->distance = INFINITY;
        memcpy(v->best, v->x, job->in * sizeof *v->best);
        for (size_t k = 0; k < job->in; k++)
            v->p[k] = v->x[k];
        if (lip__all_finite(v->x, job->in, NULL))
            there[all++] = v;
    }
    answers(job, a, there, all);
    for (size_t r = 0; r < all; r++) {
        there[r]->c = lip__answer(there[r]->y, job->c->head.classes);
        there[r]->least_margin = margin_of(job, there[r], there[r]->c);
        targets(job, there[r]);
    }
    for (size_t t = 0; t < MOST_TARGETS; t++) {
        size_t at = 0;

        for (size_t r = 0; r < all; r++)
            if (t < there[r]->n_targets && there[r]->least[t] < there[r]->distance)
                list[at++] = there[r];
        attack_target(job, a, list, at, t);
    }
    for (size_t i = 0; i < n; i++) {
        job->radius[first + i] = lip__up(a->victim[i].distance / job->scale);
        if (job->point)
            memcpy(job->point + (first + i) * job->in, a->victim[i].best, job->in * sizeof *job->point);
    }
}

lip_err lip_attack(const lip_certifier *c, const lip_certify_options *options, size_t steps, size_t n, const float *x,
                   double *radius, float *point, lip_error *err)
{
    size_t threads = lip_threads(), open = 0;
    struct job job = {.c = c,
                      .arithmetic = options->arithmetic,
                      .steps = steps ? steps : STEPS,
                      .in = lip__map_inputs(&c->map),
                      .n = n,
                      .x = x,
                      .radius = radius,
                      .point = point};
    lip_err rc = lip__input_scale(options, &job.scale, err);

    if (rc || n == 0)
        return rc;
    job.block = (n + threads - 1) / threads;
    job.block = job.block < BLOCK ? job.block : BLOCK;
    job.attacker = lip__alloc(threads, sizeof *job.attacker);
    if (!job.attacker)
        return lip__nomem(err, threads * sizeof *job.attacker);
    while (!rc && open < threads)
        rc = attacker_open(c, job.block, &job.attacker[open++], err);
    if (!rc)
        lip__parallel((n + job.block - 1) / job.block, attack_block, &job);
    while (open-- > 0)
        attacker_close(c, &job.attacker[open]);
    lip__free(job.attacker);
    return rc;
}
