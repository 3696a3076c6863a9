/* wasserstein.c: plans that move one sample to another, and what a network proves of their cost (certify.md C8).
 *
 * Weights are made whole numbers: with g the greatest common divisor of n and m every point of p supplies m/g units, every
 * point of q takes n/g. For n = m that is an assignment. Units are sent one source at a time along the shortest path in
 * reduced costs (a row of the matrix forwards, what was sent before backwards), so what is sent is always the cheapest plan
 * for its sources; if time is up, the rest goes wherever there is room, which is dear but a plan.
 *
 * Both samples in the order of a score, filled from one end, are another plan, which needs no matrix.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <onelip/wasserstein.h>

#include "bounds/certifier.h"
#include "bounds/enclose.h"

#define MOST_PAIRS ((size_t)1 << 24)
#define NOWHERE    ((size_t)-1)

/* ---- lengths ---------------------------------------------------------------------------------------------------- */

enum { LANES = 8 }; /* sums side by side, which a processor adds at once */

/* At least |a - b|: each difference and each step of the sums has a rounding. */
static double length(const float *a, const float *b, size_t d)
{
    double lane[LANES] = {0}, sum = 0;
    size_t whole = d - d % LANES;

    for (size_t i = 0; i < whole; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            double x = (double)a[i + k] - b[i + k];

            lane[k] += x * x;
        }
    for (size_t i = whole; i < d; i++) {
        double x = (double)a[i] - b[i];

        lane[i - whole] += x * x;
    }
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    return sum > 0 ? lip__up(sqrt(sum * lip__lift(d + LANES)) * (1 + 4 * LIP__U)) + LIP__TINY : 0;
}

struct pairs {
    size_t m, d;
    const float *p, *q;
    double *cost; /* (n, m) */
    uint64_t deadline; /* 0: none */
    atomic_bool late;
};

static void row_of_costs(void *ctx, size_t i, size_t thread)
{
    struct pairs *c = ctx;

    (void)thread;
    if (lip__late(c->deadline))
        atomic_store(&c->late, true);
    for (size_t j = 0; j < c->m && !atomic_load(&c->late); j++)
        c->cost[i * c->m + j] = length(c->p + i * c->d, c->q + j * c->d, c->d);
}

/* ---- a plan in the order of a score ------------------------------------------------------------------------------ */

struct ranked {
    double score;
    size_t at;
};

static int ascending(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return x->score != y->score ? (x->score > y->score) - (x->score < y->score) : (x->at > y->at) - (x->at < y->at);
}

/* *cost: at least the sum of units times lengths. */
static lip_err sorted(size_t n, const float *p, size_t m, const float *q, size_t d, const double *score, size_t supply,
                      size_t demand, double *cost, lip_error *err)
{
    struct ranked *a = lip__alloc(n + m, sizeof *a), *b = a ? a + n : NULL;
    size_t i = 0, j = 0, left = supply, room = demand;

    if (!a)
        return lip__nomem(err, (n + m) * sizeof *a);
    for (size_t k = 0; k < n + m; k++)
        a[k] = (struct ranked){score ? score[k] : k < n ? p[k * d] : q[(k - n) * d], k < n ? k : k - n};
    qsort(a, n, sizeof *a, ascending);
    qsort(b, m, sizeof *b, ascending);
    *cost = 0;
    while (i < n && j < m) {
        size_t units = left < room ? left : room;

        *cost += (double)units * length(p + a[i].at * d, q + b[j].at * d, d);
        left -= units;
        room -= units;
        if (left == 0) {
            i++;
            left = supply;
        }
        if (room == 0) {
            j++;
            room = demand;
        }
    }
    *cost *= lip__lift(n + m);
    lip__free(a);
    return LIP_OK;
}

/* ---- the cheapest plan --------------------------------------------------------------------------------------------- */

struct plan {
    size_t n, m;
    double *cost;           /* (n, m) */
    uint32_t *flow;         /* (n, m) */
    size_t *supply, *room;  /* units left at each row; that each column still takes */
    double *u, *v;          /* prices: cost - u - v >= 0, = 0 where something flows */
    double *distance;       /* of columns */
    double *reached;        /* of rows */
    size_t *row_of, *column_of; /* how a column was reached, and a row: by what flows into that column */
    bool *row_done, *column_done;
    size_t *stack;
};

static void plan_close(struct plan *s)
{
    lip__free(s->cost);
    lip__free(s->flow);
    lip__free(s->supply);
    lip__free(s->room);
    lip__free(s->u);
    lip__free(s->v);
    lip__free(s->distance);
    lip__free(s->reached);
    lip__free(s->row_of);
    lip__free(s->column_of);
    lip__free(s->row_done);
    lip__free(s->column_done);
    lip__free(s->stack);
}

static lip_err plan_open(struct plan *s, size_t n, size_t m, lip_error *err)
{
    *s = (struct plan){.n = n, .m = m};
    if ((s->cost = lip__alloc(n, m * sizeof *s->cost)) && (s->flow = lip__alloc(n, m * sizeof *s->flow)) &&
        (s->supply = lip__alloc(n, sizeof *s->supply)) && (s->room = lip__alloc(m, sizeof *s->room)) &&
        (s->u = lip__alloc(n, sizeof *s->u)) && (s->v = lip__alloc(m, sizeof *s->v)) &&
        (s->distance = lip__alloc(m, sizeof *s->distance)) && (s->reached = lip__alloc(n, sizeof *s->reached)) &&
        (s->row_of = lip__alloc(m, sizeof *s->row_of)) && (s->column_of = lip__alloc(n, sizeof *s->column_of)) &&
        (s->row_done = lip__alloc(n, sizeof *s->row_done)) && (s->column_done = lip__alloc(m, sizeof *s->column_done)) &&
        (s->stack = lip__alloc(n, sizeof *s->stack)))
        return LIP_OK;
    return lip__nomem(err, n * m * (sizeof *s->cost + sizeof *s->flow));
}

/* Row i was reached at this distance: what columns cost from there. */
static void relax(struct plan *s, size_t i, double distance)
{
    const double *cost = s->cost + i * s->m, base = distance - s->u[i];

    for (size_t j = 0; j < s->m; j++) {
        double through = base + cost[j] - s->v[j];

        if (through < s->distance[j] && !s->column_done[j]) {
            s->distance[j] = through;
            s->row_of[j] = i;
        }
    }
}

/* The nearest column with room from row `start`. Dijkstra on columns; rows with flow into a done column are as near. */
static size_t search(struct plan *s, size_t start, double *far)
{
    size_t waiting = 0;

    for (size_t j = 0; j < s->m; j++)
        s->distance[j] = INFINITY;
    memset(s->column_done, 0, s->m * sizeof *s->column_done);
    memset(s->row_done, 0, s->n * sizeof *s->row_done);
    s->stack[waiting++] = start;
    s->row_done[start] = true;
    s->reached[start] = 0;
    s->column_of[start] = NOWHERE;
    for (;;) {
        size_t nearest = NOWHERE;

        while (waiting > 0) {
            size_t i = s->stack[--waiting];

            relax(s, i, s->reached[i]);
        }
        for (size_t j = 0; j < s->m; j++)
            if (!s->column_done[j] && (nearest == NOWHERE || s->distance[j] < s->distance[nearest] ||
                                       (s->distance[j] == s->distance[nearest] && s->room[j] > 0 && s->room[nearest] == 0)))
                nearest = j;
        *far = s->distance[nearest];
        if (s->room[nearest] > 0)
            return nearest;
        s->column_done[nearest] = true;
        for (size_t i = 0; i < s->n; i++)
            if (s->flow[i * s->m + nearest] && !s->row_done[i]) {
                s->row_done[i] = true;
                s->reached[i] = *far;
                s->column_of[i] = nearest;
                s->stack[waiting++] = i;
            }
    }
}

/* Prices after a search, so that reduced costs stay >= 0 and vanish along the path. */
static void price(struct plan *s, double far)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->row_done[i] && s->reached[i] < far)
            s->u[i] += far - s->reached[i];
    for (size_t j = 0; j < s->m; j++)
        if (s->column_done[j])
            s->v[j] -= far - s->distance[j];
}

/* As many units as the path from row `start` to column `end` carries. */
static void send(struct plan *s, size_t start, size_t end)
{
    size_t units = s->supply[start] < s->room[end] ? s->supply[start] : s->room[end];

    for (size_t j = end, i = s->row_of[j]; i != start; i = s->row_of[j]) {
        j = s->column_of[i];
        units = s->flow[i * s->m + j] < units ? s->flow[i * s->m + j] : units;
    }
    for (size_t j = end;;) {
        size_t i = s->row_of[j];

        s->flow[i * s->m + j] += (uint32_t)units;
        if (i == start)
            break;
        j = s->column_of[i];
        s->flow[i * s->m + j] -= (uint32_t)units;
    }
    s->supply[start] -= units;
    s->room[end] -= units;
}

/* What is left goes to the nearest column with room. */
static void fill(struct plan *s)
{
    for (size_t i = 0; i < s->n; i++)
        while (s->supply[i] > 0) {
            size_t best = NOWHERE, units;

            for (size_t j = 0; j < s->m; j++)
                if (s->room[j] > 0 && (best == NOWHERE || s->cost[i * s->m + j] < s->cost[i * s->m + best]))
                    best = j;
            units = s->supply[i] < s->room[best] ? s->supply[i] : s->room[best];
            s->flow[i * s->m + best] += (uint32_t)units;
            s->supply[i] -= units;
            s->room[best] -= units;
        }
}

/* *cost: at least the sum of units times lengths; INFINITY where time was up before all lengths were known. */
static lip_err cheapest(size_t n, const float *p, size_t m, const float *q, size_t d, size_t supply, size_t demand,
                        uint64_t deadline, double *cost, bool *optimal, lip_error *err)
{
    struct plan s;
    struct pairs pairs = {.m = m, .d = d, .p = p, .q = q, .deadline = deadline};
    size_t terms = 0;
    lip_err rc = plan_open(&s, n, m, err);

    *cost = INFINITY;
    *optimal = true;
    if (!rc) {
        pairs.cost = s.cost;
        lip__parallel(n, row_of_costs, &pairs);
        *optimal = !atomic_load(&pairs.late);
    }
    if (!rc && *optimal) {
        for (size_t i = 0; i < n; i++)
            s.supply[i] = supply;
        for (size_t j = 0; j < m; j++) {
            s.room[j] = demand;
            s.v[j] = INFINITY; /* the cheapest of each column: reduced costs begin at 0 or more */
            for (size_t i = 0; i < n; i++)
                s.v[j] = fmin(s.v[j], s.cost[i * m + j]);
        }
        for (size_t i = 0; i < n && *optimal; i++)
            while (s.supply[i] > 0 && (*optimal = !lip__late(deadline))) {
                double far;
                size_t end = search(&s, i, &far);

                price(&s, far);
                send(&s, i, end);
            }
        fill(&s);
        *cost = 0;
        for (size_t k = 0; k < n * m; k++)
            if (s.flow[k]) {
                *cost += (double)s.flow[k] * s.cost[k];
                terms++;
            }
        *cost *= lip__lift(terms);
    }
    plan_close(&s);
    return rc;
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b) {
        size_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

lip_err lip_transport_cost(size_t n, const float *p, size_t m, const float *q, size_t d, const double *score,
                           double max_seconds, lip_transport *t, lip_error *err)
{
    uint64_t deadline = max_seconds > 0 ? lip__now_ns() + (uint64_t)(fmin(max_seconds, 1e9) * 1e9) : 0;
    size_t g = common_divisor(n, m), supply, demand;
    double cost = INFINITY;
    bool optimal = false;
    lip_err rc;

    if ((rc = lip__arithmetic_holds(err)) != LIP_OK)
        return rc;
    if (n == 0 || m == 0 || d == 0)
        return lip__fail(err, LIP_ESHAPE, "samples of %zu and %zu points of %zu numbers; each needs at least one", n, m, d);
    if (!lip__all_finite(p, n * d, NULL) || !lip__all_finite(q, m * d, NULL))
        return lip__fail(err, LIP_ENONFINITE, "a point holds NaN or an infinity");
    supply = m / g;
    demand = n / g;
    rc = sorted(n, p, m, q, d, score, supply, demand, &t->cost, err);
    t->method = "sorted";
    t->optimal = n == 1 || m == 1; /* there is one plan only */
    if (!rc && !t->optimal && n <= MOST_PAIRS / m) {
        rc = cheapest(n, p, m, q, d, supply, demand, deadline, &cost, &optimal, err);
        if (!rc && (optimal || cost < t->cost))
            *t = (lip_transport){cost, optimal, n == m ? "assignment" : "transport"};
    }
    if (!rc)
        t->cost = lip__up(t->cost / ((double)n * (double)supply) * (1 + 4 * LIP__U));
    return rc;
}

/* ---- the interval ---------------------------------------------------------------------------------------------------- */

/* The mean of one output over a sample, and how far the computed one may be from it. score: n, out. */
static lip_err mean(const lip_certifier *c, size_t output, size_t n, const float *x, double *score, double *value,
                    double *error, lip_error *err)
{
    size_t classes = lip_certifier_classes(c);
    double *y = lip__alloc(n, 2 * classes * sizeof *y), size = 0, sum = 0, off = 0;
    lip_err rc;

    if (!y)
        return lip__nomem(err, n * 2 * classes * sizeof *y);
    rc = lip_certifier_value(c, n, x, y, y + n * classes, err);
    for (size_t i = 0; !rc && i < n; i++) {
        score[i] = y[i * classes + output];
        sum += score[i];
        size += fabs(score[i]);
        off += y[(n + i) * classes + output];
    }
    *value = sum / (double)n;
    *error = (off * lip__lift(n) + lip__gamma(n + 2) * size * lip__lift(n)) / (double)n * (1 + 8 * LIP__U);
    lip__free(y);
    return rc;
}

lip_err lip_wasserstein_bound(const lip_certifier *c, size_t output, double max_seconds, size_t n, const float *p, size_t m,
                              const float *q, lip_wasserstein *w, lip_error *err)
{
    size_t d = lip__map_inputs(&c->map);
    double *score, a, b, off_a, off_b, apart;
    lip_err rc;

    if (output >= lip_certifier_classes(c))
        return lip__fail(err, LIP_ERANGE, "output %zu of a model with %zu", output, lip_certifier_classes(c));
    if (n == 0 || m == 0)
        return lip__fail(err, LIP_ESHAPE, "samples of %zu and %zu points; each needs at least one", n, m);
    score = lip__alloc(n + m, sizeof *score);
    if (!score)
        return lip__nomem(err, (n + m) * sizeof *score);
    rc = mean(c, output, n, p, score, &a, &off_a, err);
    if (!rc)
        rc = mean(c, output, m, q, score + n, &b, &off_b, err);
    if (!rc)
        rc = lip_transport_cost(n, p, m, q, d, score, max_seconds, &w->primal, err);
    if (!rc) {
        w->network_upper = lip_certifier_outputs(c)[output];
        apart = lip__down(fabs(a - b) * (1 - 2 * LIP__U)) - lip__up(off_a + off_b);
        w->lower = apart > 0 ? lip__down(apart / w->network_upper * (1 - 2 * LIP__U)) : 0;
        w->lower = w->lower > 0 ? w->lower : 0;
        w->upper = w->primal.cost;
    }
    lip__free(score);
    return rc;
}
