/* chain.c: lower bounds from secants, and the rounding of float32 inference (certify.md C1, C4). */
#include "bounds/chain.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#include <onelip/random.h>

#define FLOAT_U 0x1p-24
#define FLOAT_ETA 0x1p-149
#define DOUBLE_ETA 0x1p-1074
#define DOUBLE_MOST 1e300

lip_err lip__chain_open(const lip_snapshot *snapshot, size_t first, size_t n, struct lip__chain *chain, lip_error *err)
{
    lip_err rc = LIP_OK;

    *chain = (struct lip__chain){.snapshot = snapshot, .first = first, .n = n};
    chain->stage = lip__alloc(n, sizeof *chain->stage);
    if (n && !chain->stage)
        return lip__nomem(err, n * sizeof *chain->stage);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = lip__stage_open(snapshot, first + i, &chain->stage[i], err);
        if (!rc)
            rc = lip__stage_prove(&chain->stage[i], err);
    }
    return rc;
}

void lip__chain_close(struct lip__chain *chain)
{
    for (size_t i = 0; chain->stage && i < chain->n; i++)
        lip__stage_close(&chain->stage[i]);
    lip__free(chain->stage);
    chain->stage = NULL;
}

bool lip__chain_known(const struct lip__chain *chain)
{
    for (size_t i = 0; i < chain->n; i++)
        if (chain->stage[i].kind == LIP__STAGE_UNKNOWN)
            return false;
    return chain->n > 0;
}

static size_t widest(const struct lip__chain *c)
{
    size_t most = c->stage[0].in;

    for (size_t i = 0; i < c->n; i++)
        if (c->stage[i].out > most)
            most = c->stage[i].out;
    return most;
}

static size_t scratch_size(const struct lip__chain *c)
{
    size_t most = 1;

    for (size_t i = 0; i < c->n; i++)
        if (lip__stage_scratch(&c->stage[i]) > most)
            most = lip__stage_scratch(&c->stage[i]);
    return most;
}

static size_t outputs(const struct lip__chain *c)
{
    return c->stage[c->n - 1].out;
}

/* ---- the map in double ----------------------------------------------------------------------------------- */

/* One thread's arrays: two activations, scratch. */
struct room {
    double *a, *b, *scratch;
};

static bool room_open(const struct lip__chain *c, struct room *r)
{
    size_t size = widest(c);

    *r = (struct room){lip__alloc(size, sizeof(double)), lip__alloc(size, sizeof(double)),
                       lip__alloc(scratch_size(c), sizeof(double))};
    return r->a && r->b && r->scratch;
}

static void room_close(struct room *r)
{
    lip__free(r->scratch);
    lip__free(r->b);
    lip__free(r->a);
}

/* y = f(x); error, where not NULL: how far from the real f(x) it may be. */
static void value(const struct lip__chain *c, struct room *r, const double *x, double *y, double *error)
{
    double e = 0;

    for (size_t i = 0; i < c->n; i++) {
        const struct lip__stage *s = &c->stage[i];
        double *to = i + 1 == c->n ? y : i % 2 ? r->a : r->b;

        if (error)
            e = lip__stage_error(s, LIP__U, DOUBLE_ETA, DOUBLE_MOST, lip__norm_up(x, s->in), e);
        lip__stage_value(s, x, to, r->scratch);
        x = to;
    }
    if (error)
        *error = e;
}

/* ---- secants ---------------------------------------------------------------------------------------------- */

enum { STARTS = 4, PROBES = 5, REFINEMENTS = 12 };

struct search {
    const struct lip__chain *c;
    struct room room;
    size_t in, out;
    float **keep, *cotangent[2], *scratch; /* the float32 pass: every activation, two gradients */
    double *x, *v, *y, *moved, *y_moved, *best_x, *best_v;
};

static lip_err search_open(const struct lip__chain *c, struct search *s)
{
    bool whole;

    *s = (struct search){.c = c, .in = c->stage[0].in, .out = outputs(c)};
    whole = room_open(c, &s->room);
    s->keep = lip__alloc(c->n + 1, sizeof *s->keep);
    for (size_t i = 0; s->keep && i <= c->n; i++)
        whole = (s->keep[i] = lip__alloc(i ? c->stage[i - 1].out : s->in, sizeof(float))) && whole;
    for (int i = 0; i < 2; i++)
        whole = (s->cotangent[i] = lip__alloc(widest(c), sizeof(float))) && whole;
    whole = (s->scratch = lip__alloc(c->snapshot->model->scratch + 16, sizeof(float))) && whole;
    whole = (s->x = lip__alloc(s->in, sizeof(double))) && whole;
    whole = (s->v = lip__alloc(s->in, sizeof(double))) && whole;
    whole = (s->moved = lip__alloc(s->in, sizeof(double))) && whole;
    whole = (s->best_x = lip__alloc(s->in, sizeof(double))) && whole;
    whole = (s->best_v = lip__alloc(s->in, sizeof(double))) && whole;
    whole = (s->y = lip__alloc(s->out, sizeof(double))) && whole;
    whole = (s->y_moved = lip__alloc(s->out, sizeof(double))) && whole;
    return whole && s->keep ? LIP_OK : LIP_ENOMEM;
}

static void search_close(struct search *s)
{
    lip__free(s->y_moved);
    lip__free(s->y);
    lip__free(s->best_v);
    lip__free(s->best_x);
    lip__free(s->moved);
    lip__free(s->v);
    lip__free(s->x);
    lip__free(s->scratch);
    lip__free(s->cotangent[1]);
    lip__free(s->cotangent[0]);
    for (size_t i = 0; s->keep && i <= s->c->n; i++)
        lip__free(s->keep[i]);
    lip__free(s->keep);
    room_close(&s->room);
}

static struct lip__pass pass_of(const struct search *s, size_t i, const float **w)
{
    const lip_snapshot *snapshot = s->c->snapshot;
    const struct lip__step *step = &snapshot->model->step[s->c->first + i];

    for (size_t r = 0; r < LIP__MAX_READ; r++)
        w[r] = step->read[r] == LIP__NOWHERE ? NULL : snapshot->data[step->read[r]];
    return (struct lip__pass){.n = 1, .w = w, .scratch = s->scratch};
}

/* Every activation of x in float32. */
static void linearise(struct search *s)
{
    for (size_t j = 0; j < s->in; j++)
        s->keep[0][j] = (float)s->x[j];
    for (size_t i = 0; i < s->c->n; i++) {
        const float *w[LIP__MAX_READ];
        struct lip__pass pass = pass_of(s, i, w);
        const lip_layer *l = s->c->stage[i].layer;

        l->kind->forward(l, &pass, s->keep[i], s->keep[i + 1]);
    }
}

/* v <- J' of the unit vector along y_moved - y, scaled to length 1. False when it vanishes. */
static bool pull_back(struct search *s)
{
    double length = 0;
    size_t at = 0;

    for (size_t j = 0; j < s->out; j++)
        length += (s->y_moved[j] - s->y[j]) * (s->y_moved[j] - s->y[j]);
    length = sqrt(length);
    for (size_t j = 0; j < s->out; j++)
        s->cotangent[at][j] = (float)((s->y_moved[j] - s->y[j]) / length);
    for (size_t i = s->c->n; i-- > 0; at = !at) {
        const float *w[LIP__MAX_READ];
        struct lip__pass pass = pass_of(s, i, w);
        const lip_layer *l = s->c->stage[i].layer;

        l->kind->backward(l, &pass, s->keep[i], s->keep[i + 1], s->cotangent[at], s->cotangent[!at]);
    }
    length = 0;
    for (size_t j = 0; j < s->in; j++)
        length += (double)s->cotangent[at][j] * s->cotangent[at][j];
    length = sqrt(length);
    if (!(length > 0) || !isfinite(length))
        return false;
    for (size_t j = 0; j < s->in; j++)
        s->v[j] = s->cotangent[at][j] / length;
    return true;
}

/* moved = x + h v and its image. Returns the quotient as computed. */
static double move(struct search *s, double h, double *error)
{
    double up = 0, down = 0;

    for (size_t j = 0; j < s->in; j++)
        s->moved[j] = s->x[j] + h * s->v[j];
    value(s->c, &s->room, s->moved, s->y_moved, error);
    for (size_t j = 0; j < s->in; j++)
        down += (s->moved[j] - s->x[j]) * (s->moved[j] - s->x[j]);
    for (size_t j = 0; j < s->out; j++)
        up += (s->y_moved[j] - s->y[j]) * (s->y_moved[j] - s->y[j]);
    return down > 0 ? sqrt(up / down) : 0;
}

/* Up to `steps` power iterations from x, v; the last quotient. */
static double iterate(struct search *s, int steps, double h)
{
    double stretch = 0, before;

    linearise(s);
    value(s->c, &s->room, s->x, s->y, NULL);
    do {
        before = stretch;
        stretch = move(s, h, NULL);
    } while (--steps > 0 && fabs(stretch - before) > 1e-12 * stretch && pull_back(s));
    return stretch;
}

/* The proof: both bounds, from the pair x, x + h v. */
static void prove(struct search *s, double h, double *whole, double *single)
{
    double error, error_moved, distance, most = 0, total;

    value(s->c, &s->room, s->x, s->y, &error);
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

/* Where to start: noise of several sizes, and pixels. */
static void start(struct search *s, int which)
{
    lip_random random = {.seed = 5, .stream = (uint64_t)which};
    double length = 0;

    for (size_t j = 0; j < s->in; j++) {
        float x, v;

        if (which % 2)
            lip_random_normal(&random, &x, 1);
        else
            lip_random_uniform(&random, &x, 1);
        lip_random_normal(&random, &v, 1);
        s->x[j] = which == 3 ? x / 16 : x;
        s->v[j] = v;
        length += (double)v * v;
    }
    for (size_t j = 0; j < s->in; j++)
        s->v[j] /= sqrt(length);
}

lip_err lip__chain_secant(const struct lip__chain *chain, double *whole, double *single, lip_error *err)
{
    struct search s;
    double best = 0;
    lip_err rc;

    *whole = *single = 0;
    if (!lip__chain_known(chain))
        return LIP_OK;
    rc = search_open(chain, &s);
    if (rc) {
        search_close(&s);
        return lip__nomem(err, widest(chain) * sizeof(double));
    }
    for (int which = 0; which < STARTS; which++) {
        double stretch;

        start(&s, which);
        stretch = iterate(&s, PROBES, 1e-4);
        if (stretch > best) {
            best = stretch;
            memcpy(s.best_x, s.x, s.in * sizeof(double));
            memcpy(s.best_v, s.v, s.in * sizeof(double));
        }
    }
    if (best > 0) {
        memcpy(s.x, s.best_x, s.in * sizeof(double));
        memcpy(s.v, s.best_v, s.in * sizeof(double));
        iterate(&s, REFINEMENTS, 1e-5);
        for (double h = 1e-5; h < 1e4; h *= 10)
            prove(&s, h, whole, single);
    }
    search_close(&s);
    return LIP_OK;
}

/* ---- deviation --------------------------------------------------------------------------------------------- */

/* rho: bound of the real activations for any input of norm R, the smaller of two: by the constants from layer to layer,
 * and by their product from the value at 0. */
lip_err lip__chain_deviation(const struct lip__chain *c, double input_norm, double *deviation, lip_error *err)
{
    struct room room = {0};
    double *x = NULL, *y = NULL, rho = lip__up(input_norm), d = 0, e = 0, product = 1;
    lip_err rc = LIP_OK;

    *deviation = INFINITY;
    if (!lip__chain_known(c))
        return LIP_OK;
    x = lip__alloc(widest(c), sizeof *x);
    y = lip__alloc(widest(c), sizeof *y);
    if (!x || !y || !room_open(c, &room)) {
        rc = lip__nomem(err, widest(c) * sizeof *x);
        goto done;
    }
    for (size_t i = 0; i < c->n; i++) {
        const struct lip__stage *s = &c->stage[i];
        double *swap = x;

        d = lip__stage_error(s, FLOAT_U, FLOAT_ETA, FLT_MAX, lip__up(rho + d), d);
        e = lip__stage_error(s, LIP__U, DOUBLE_ETA, DOUBLE_MOST, lip__norm_up(x, s->in), e);
        lip__stage_value(s, x, y, room.scratch);
        product = lip__times_up(product, s->norm.upper);
        rho = fmin((s->norm.upper * rho + s->added) * (1 + 8 * LIP__U),
                   (lip__norm_up(y, s->out) + e + product * lip__up(input_norm)) * (1 + 8 * LIP__U));
        x = y;
        y = swap;
    }
    *deviation = isfinite(d) && isfinite(rho) ? d : INFINITY;
done:
    room_close(&room);
    lip__free(y);
    lip__free(x);
    return rc;
}
