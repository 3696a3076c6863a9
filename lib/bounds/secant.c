/* secant.c: points where a map stretches most, by climbing.
 *
 * Where the map is linear around x its stretch is the norm of the Jacobian there, so what is climbed is |J(x)|, piece
 * by piece. A move is kept where |J(x)'u| for the best u so far says that it may be better, and |J(x)| that it is. Two
 * kinds of moves: noise, of a size that adapts to its success; and along J(x + h v)'u - J(x - h v)'u, in which
 * direction the secant between x - h v and x + h v grows, for any h. Several outputs' Jacobian is formed whole where
 * they are few, else power iteration finds its norm.
 *
 * Source: certify.md C4, lower bounds (ii) and (iii).
 */
#include "bounds/secant.h"

#include <string.h>

#include <onelip/random.h>

#include "bounds/tangent.h"
#include "tensor/gemm.h"

enum {
    STARTS = 6,
    PROBES = 6,
    REFINEMENTS = 12,
    MOST_POINTS = 64,
    FEW = 16,
    MOST_PAIRS = 4,
    PULLS = 12,
    FIRST = 5 /* passes until somebody asks how late it is */,
    FINISH = 3 /* steps that what was found still has to be proved in */
};

struct search {
    const struct lip__map *map;
    struct lip__pace pace; /* a step computes the map a few times */
    bool cut;              /* it was late */
    struct lip__room room;
    size_t in, out;
    struct lip__tangent tangent;
    lip_random random;
    double *x, *v, *u, *y, *moved, *y_moved, *best_x, *best_v, *best_u, *size, *error;
    double *end[2], *pull[2], *kept[2]; /* a pair of points, where they are drawn to, the best so far */
    double *jacobian, *gram, *work;     /* few outputs */
    double best, scale;                 /* the stretch at best_x; how far noise moves */
};

static lip_err search_open(const struct lip__map *map, uint64_t deadline, struct search *s)
{
    const lip_model *m = map->snapshot->model;
    size_t in = lip__map_inputs(map), out = lip__map_outputs(map);
    double **of_inputs[] = {&s->x,      &s->v,       &s->moved,   &s->best_x,  &s->best_v, &s->end[0],
                            &s->end[1], &s->pull[0], &s->pull[1], &s->kept[0], &s->kept[1]};
    double **of_outputs[] = {&s->u, &s->best_u, &s->y, &s->y_moved};
    bool whole = true;

    *s = (struct search){.map = map, .pace = {.deadline = deadline}, .in = in, .out = out, .random = {.seed = 5}};
    if (lip__room_open(map, 1, &s->room, NULL) || lip__tangent_open(map, &s->tangent, NULL))
        return LIP_ENOMEM;
    for (size_t i = 0; i < sizeof of_inputs / sizeof *of_inputs; i++)
        whole = (*of_inputs[i] = lip__alloc(in, sizeof(double))) && whole;
    for (size_t i = 0; i < sizeof of_outputs / sizeof *of_outputs; i++)
        whole = (*of_outputs[i] = lip__alloc(out, sizeof(double))) && whole;
    if (out <= FEW) {
        whole = (s->jacobian = lip__alloc(out, in * sizeof(double))) && whole;
        whole = (s->gram = lip__alloc(out, out * sizeof(double))) && whole;
        whole = (s->work = lip__alloc(lip__eigen_work(out), sizeof(double))) && whole;
    }
    whole = (s->size = lip__alloc(m->n_values, sizeof(double))) && whole;
    whole = (s->error = lip__alloc(m->n_values, sizeof(double))) && whole;
    return whole ? LIP_OK : LIP_ENOMEM;
}

static void search_close(struct search *s)
{
    double *all[] = {s->x,      s->v,      s->u,       s->y,       s->moved,    s->y_moved, s->best_x,
                     s->best_v, s->best_u, s->size,    s->error,   s->jacobian, s->gram,    s->work,
                     s->end[0], s->end[1], s->pull[0], s->pull[1], s->kept[0],  s->kept[1]};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lip__free(all[i]);
    lip__tangent_close(&s->tangent);
    lip__room_close(s->map, &s->room);
}

static bool late(struct search *s, unsigned steps)
{
    s->cut = s->cut || lip__pace_late(&s->pace, steps);
    return s->cut;
}

/* ---- vectors ------------------------------------------------------------------------------------------------- */

static double length_of(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* x to length 1. Returns what it was. */
static double normalise(double *x, size_t n)
{
    double length = length_of(x, n);

    for (size_t i = 0; i < n && length > 0; i++)
        x[i] /= length;
    return length;
}

static void draw(struct search *s, double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g;

        lip_random_normal(&s->random, &g, 1);
        x[i] = g;
    }
}

static double uniform(struct search *s)
{
    float x;

    lip_random_uniform(&s->random, &x, 1);
    return x;
}

/* ---- values and stretches --------------------------------------------------------------------------------------- */

/* y = f(x); error, where not NULL: how far from the real f(x) it may be. */
static void value(struct search *s, const double *x, double *y, double *error)
{
    lip__map_value(s->map, &s->room, 1, x);
    for (size_t i = 0; i < s->map->n_outputs; i++) {
        size_t size = lip__map_size(s->map, s->map->output[i]);

        memcpy(y, s->room.value[s->map->output[i]], size * sizeof *y);
        y += size;
    }
    if (!error)
        return;
    lip__map_norms(s->map, &s->room, 0, s->size);
    lip__map_error(s->map, &lip__float64, s->size, true, s->error);
    *error = lip__map_output_error(s->map, s->error);
}

/* moved = x + h v and its image. */
static void move(struct search *s, double h, double *error)
{
    for (size_t j = 0; j < s->in; j++)
        s->moved[j] = s->x[j] + h * s->v[j];
    value(s, s->moved, s->y_moved, error);
}

/* The largest singular value of J(x), u and v with it: v = J'u of length 1. x, u and v are the search's. */
static double by_jacobian(struct search *s)
{
    size_t n = s->out;
    double values[FEW];

    for (size_t j = 0; j < n; j++) {
        if (j && late(s, FINISH))
            return 0;
        memset(s->u, 0, n * sizeof *s->u);
        s->u[j] = 1;
        lip__tangent_back(&s->tangent, s->u, s->jacobian + j * s->in);
    }
    lip__dgemm(false, true, n, n, s->in, 1, s->jacobian, s->in, s->jacobian, s->in, 0, s->gram, n);
    if (lip__eigen_in(n, s->gram, values, s->work))
        return 0;
    memcpy(s->u, s->gram + (n - 1) * n, n * sizeof *s->u);
    lip__dgemm(true, false, s->in, 1, n, 1, s->jacobian, s->in, s->u, 1, 0, s->v, 1);
    return normalise(s->v, s->in);
}

/* The same by power iteration from v, with differences of f in double for J v. */
static double by_power(struct search *s, int steps)
{
    double stretch = 0, before, h = 1e-5 * (1 + length_of(s->x, s->in));

    value(s, s->x, s->y, NULL);
    do {
        before = stretch;
        move(s, h, NULL);
        for (size_t j = 0; j < s->out; j++)
            s->u[j] = s->y_moved[j] - s->y[j];
        if (!(normalise(s->u, s->out) > 0))
            return 0;
        lip__tangent_back(&s->tangent, s->u, s->v);
        stretch = normalise(s->v, s->in);
    } while (--steps > 0 && fabs(stretch - before) > 1e-12 * stretch && stretch > 0 && !late(s, FINISH));
    return stretch;
}

static double stretch_at(struct search *s, int steps)
{
    double stretch;

    lip__tangent_at(&s->tangent, s->x);
    stretch = s->jacobian ? by_jacobian(s) : by_power(s, steps);
    return isfinite(stretch) ? stretch : 0;
}

/* x, u and v become the best where their stretch is. */
static bool keep(struct search *s, double stretch)
{
    if (!(stretch > s->best))
        return false;
    s->best = stretch;
    memcpy(s->best_x, s->x, s->in * sizeof *s->x);
    memcpy(s->best_v, s->v, s->in * sizeof *s->v);
    memcpy(s->best_u, s->u, s->out * sizeof *s->u);
    return true;
}

/* ---- climbing --------------------------------------------------------------------------------------------------- */

/* Where to start: noise of several sizes, all positive or not. */
static void start(struct search *s, int which)
{
    draw(s, s->x, s->in);
    for (size_t j = 0; j < s->in && which % 2 == 0; j++)
        s->x[j] = uniform(s);
    for (size_t j = 0; j < s->in && which >= 3; j++)
        s->x[j] /= 16;
    draw(s, s->v, s->in);
    normalise(s->v, s->in);
}

static void noise(struct search *s)
{
    draw(s, s->x, s->in);
    for (size_t j = 0; j < s->in; j++)
        s->x[j] = s->best_x[j] + s->scale * s->x[j] / sqrt((double)s->in);
}

/* Along the growth of a secant around the best point. */
static void climb(struct search *s)
{
    double h = s->scale * pow(10, 2 * uniform(s) - 1), step = s->scale * pow(10, 2 * uniform(s) - 1), length;

    for (int side = 0; side < 2; side++) {
        double *g = side ? s->moved : s->v;

        for (size_t j = 0; j < s->in; j++)
            s->x[j] = s->best_x[j] + (side ? -h : h) * s->best_v[j];
        lip__tangent_at(&s->tangent, s->x);
        lip__tangent_back(&s->tangent, s->best_u, g);
    }
    for (size_t j = 0; j < s->in; j++)
        s->v[j] -= s->moved[j];
    length = length_of(s->v, s->in);
    for (size_t j = 0; j < s->in; j++)
        s->x[j] = s->best_x[j] + (length > 0 ? step * s->v[j] / length : 0);
}

static bool try_move(struct search *s, bool along)
{
    double promise;

    if (along)
        climb(s);
    else
        noise(s);
    lip__tangent_at(&s->tangent, s->x);
    lip__tangent_back(&s->tangent, s->best_u, s->v);
    promise = normalise(s->v, s->in);
    if (!(promise > 0.99 * s->best))
        return false;
    return keep(s, stretch_at(s, PROBES));
}

/* ---- proof ----------------------------------------------------------------------------------------------------- */

/* Both bounds, from the pair x, x + h v. */
static void prove(struct search *s, double h, double *whole, double *single)
{
    double error, error_moved, distance, most = 0, total;

    value(s, s->x, s->y, &error);
    move(s, h, &error_moved);
    for (size_t j = 0; j < s->in; j++)
        s->moved[j] -= s->x[j]; /* one rounding each, counted with the norm's */
    distance = lip__norm_up(s->moved, s->in) * (1 + 4 * LIP__U);
    for (size_t j = 0; j < s->out; j++) {
        s->y_moved[j] -= s->y[j];
        most = fmax(most, fabs(s->y_moved[j]));
    }
    total = lip__norm_down(s->y_moved, s->out) * (1 - 4 * LIP__U);
    error = lip__up(error + error_moved);
    if (!(distance > 0) || !isfinite(error) || !isfinite(distance))
        return;
    *whole = fmax(*whole, lip__down(total - error) / distance * (1 - 4 * LIP__U));
    *single = fmax(*single, lip__down(most * (1 - 4 * LIP__U) - error) / distance * (1 - 4 * LIP__U));
}

/* The best point, with v once more: of the vector, then of each of a few outputs. */
static void prove_best(struct search *s, double *whole, double *single)
{
    double unit = 1 + length_of(s->best_x, s->in);

    memcpy(s->x, s->best_x, s->in * sizeof *s->x);
    memcpy(s->v, s->best_v, s->in * sizeof *s->v);
    if (!late(s, FINISH))
        stretch_at(s, REFINEMENTS);
    prove(s, 1e-6 * unit, whole, single);
    for (double h = 1e-7; h < 1e2 && !late(s, 1); h *= 10) {
        prove(s, h * unit, whole, single);
        if (!late(s, 1))
            prove(s, -h * unit, whole, single);
    }
    for (size_t j = 0; s->jacobian && j < s->out && !late(s, 1); j++) {
        memcpy(s->v, s->jacobian + j * s->in, s->in * sizeof *s->v);
        if (normalise(s->v, s->in) > *single)
            for (double h = 1e-6; h < 1 && !late(s, 1); h *= 10)
                prove(s, h * unit, whole, single);
    }
}

/* ---- pairs ------------------------------------------------------------------------------------------------------ */

/* |f(a) - f(b)| / |a - b| of both ends, what its logarithm grows with at each of them in pull. */
static double stretch_of_pair(struct search *s)
{
    double length = 0, moved;

    value(s, s->end[0], s->y, NULL);
    value(s, s->end[1], s->y_moved, NULL);
    for (size_t j = 0; j < s->out; j++)
        s->u[j] = s->y[j] - s->y_moved[j];
    moved = normalise(s->u, s->out);
    for (size_t j = 0; j < s->in; j++) {
        s->v[j] = s->end[0][j] - s->end[1][j];
        length += s->v[j] * s->v[j];
    }
    if (!(moved > 0) || !(length > 0) || !isfinite(moved / length))
        return 0;
    for (int side = 0; side < 2; side++) {
        double sign = side ? -1 : 1;

        lip__tangent_at(&s->tangent, s->end[side]);
        lip__tangent_back(&s->tangent, s->u, s->pull[side]);
        for (size_t j = 0; j < s->in; j++)
            s->pull[side][j] = sign * (s->pull[side][j] / moved - s->v[j] / length);
    }
    return moved / sqrt(length);
}

/* Both ends moved where the pair stretches more, by shares of their distance; the best of them stay. */
static void stretch_pair(struct search *s)
{
    double best = 0, scale = 0.3;

    for (int i = 0; i < PULLS && !(i && late(s, FINISH)); i++) {
        double now = stretch_of_pair(s), distance = length_of(s->v, s->in);
        double pull = hypot(length_of(s->pull[0], s->in), length_of(s->pull[1], s->in));

        if (now > best) {
            best = now;
            for (int side = 0; side < 2; side++)
                memcpy(s->kept[side], s->end[side], s->in * sizeof *s->x);
        } else {
            scale /= 3;
        }
        if (!(pull > 0) || !isfinite(pull))
            break;
        for (int side = 0; side < 2; side++)
            for (size_t j = 0; j < s->in; j++)
                s->end[side][j] = s->kept[side][j] + scale * distance / pull * s->pull[side][j];
    }
}

/* A pair from each two points, or from random ones: proved, and both ends tried as places of large derivatives. */
static void try_pair(struct search *s, struct lip__below *below)
{
    double whole = 0;

    stretch_pair(s);
    memcpy(s->x, s->kept[0], s->in * sizeof *s->x);
    for (size_t j = 0; j < s->in; j++)
        s->v[j] = s->kept[1][j] - s->kept[0][j];
    prove(s, 1, &whole, &below->single);
    if (whole > below->whole) {
        below->whole = whole;
        below->method = "secant";
    }
    for (int side = 0; side < 2 && !late(s, FINISH); side++) {
        memcpy(s->x, s->kept[side], s->in * sizeof *s->x);
        draw(s, s->v, s->in);
        normalise(s->v, s->in);
        keep(s, stretch_at(s, PROBES));
    }
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

static void prove_point(struct search *s, struct lip__below *below)
{
    double whole = 0;

    prove_best(s, &whole, &below->single);
    if (whole >= below->whole && whole > 0) {
        below->whole = whole;
        below->method = "jacobian";
    }
}

static bool enough(const struct lip__effort *e, double lower)
{
    return e->enough > 0 && lower * (1 + LIP_CLAIM_TOLERANCE) >= e->enough;
}

/* Moves of the best point. */
static void climb_on(struct search *s, const struct lip__effort *e, struct lip__below *below)
{
    double proven = 0;

    s->scale = 0.3 * (1e-3 + length_of(s->best_x, s->in));
    for (size_t tries = 0; tries < e->tries; tries++) {
        if (late(s, FINISH))
            return;
        if (enough(e, s->best) && s->best > proven) {
            proven = s->best;
            prove_point(s, below);
            if (enough(e, below->whole))
                return;
        }
        if (try_move(s, tries % 2))
            s->scale *= 1.5;
        else if (s->scale > 1e-4 * length_of(s->best_x, s->in))
            s->scale *= 0.98;
        else /* again with large steps */
            s->scale = 0.3 * (1e-3 + length_of(s->best_x, s->in));
    }
}

static void take_point(struct search *s, const struct lip__effort *e, size_t points, size_t i, double *to)
{
    for (size_t j = 0; j < s->in; j++)
        to[j] = e->points[i * (e->n_points / points) * s->in + j];
}

static void search(struct search *s, const struct lip__effort *e, struct lip__below *below)
{
    size_t points = e->n_points < MOST_POINTS ? e->n_points : MOST_POINTS, pairs = e->tries ? MOST_PAIRS : 1;

    for (int which = 0; which < STARTS && !(which && late(s, FINISH)); which++) {
        start(s, which);
        keep(s, stretch_at(s, PROBES));
    }
    for (size_t i = 0; i < points && !late(s, FINISH); i++) {
        take_point(s, e, points, i, s->x);
        draw(s, s->v, s->in);
        normalise(s->v, s->in);
        keep(s, stretch_at(s, PROBES));
    }
    for (size_t i = 0; i < pairs && !late(s, FINISH); i++) {
        for (int side = 0; side < 2; side++) {
            start(s, (int)i);
            if (points > 1)
                take_point(s, e, points, (2 * i + (size_t)side) % points, s->x);
            memcpy(s->end[side], s->x, s->in * sizeof *s->x);
        }
        try_pair(s, below);
    }
    if (!(s->best > 0))
        return;
    prove_point(s, below);
    if (e->tries && !enough(e, below->whole) && !late(s, FINISH)) {
        climb_on(s, e, below);
        prove_point(s, below);
    }
}

lip_err lip__secant(const struct lip__map *map, const struct lip__effort *effort, struct lip__below *below,
                    lip_error *err)
{
    struct search s;
    double pass = 0;
    lip_err rc = LIP_OK;

    *below = (struct lip__below){.method = "none", .complete = true};
    for (size_t i = 0; i < map->n; i++)
        pass += lip__stage_pass(&map->stage[i]);
    if (!lip__map_known(map))
        return LIP_OK;
    if (!lip__affordable(effort->deadline, FIRST * pass)) {
        below->complete = false;
        return LIP_OK;
    }
    if (search_open(map, effort->deadline, &s))
        rc = lip__nomem(err, (s.in + s.out) * sizeof(double));
    else {
        late(&s, 0);
        search(&s, effort, below);
        below->complete = !s.cut;
    }
    search_close(&s);
    return rc;
}
