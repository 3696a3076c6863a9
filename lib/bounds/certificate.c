/* certificate.c: radii.
 *
 * Let z^ be the logits computed in double at x, c the class that is answered, m_j = z^_c - z^_j, L_j the constant of
 * the pair, E64_j how far computed differences may be from the real ones at x, and E_j(R) the same for the served
 * arithmetic anywhere within R of x. For any x' within r <= R of x the served margin is at least
 *
 *     m_j - E64_j - L_j r - E_j(R),   so with R = min_j m_j / L_j   the radius is   min_j (m_j - E64_j - E_j(R)) / L_j.
 *
 * Activations are bounded by what they are at x, not by products of norms: |h(x')| <= |h^(x)| + e + L R. For a matrix
 * as last step E_j = |w_c - w_j| D + gamma ((|w_c| + |w_j|)(|h| + D) + |b_c| + |b_j|) + 2 n eta, D the error in front
 * of it; for others sqrt(2) times the error of the vector. An answer rounded to float32 once loses u (|y_c| + |y_j|)
 * more.
 *
 * Source: certify.md C1 and C5; Murray, "Sound certification of neural networks in floating point" for the recursion.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "bounds/certifier.h"
#include "bounds/upper.h"
#include "tensor/gemm.h"

enum { BLOCK = 32, TRIES = 7, FEW_TRIES = 3, PAIRS = 3, STEPS = 6, WIDEST_STRETCH = 256 };
#define EFFORT      2e9 /* operations of each of bound.h's methods, about */
#define EFFORT_DEEP 1e9 /* and of a sample's descents */
#define AHEAD       1.1 /* how much further those are likely to come */

/* ---- what is proved of a snapshot ---------------------------------------------------------------------------- */

static lip_err uncovered(const struct lip__map *map, lip_error *err)
{
    for (size_t i = 0; i < map->n; i++)
        if (isnan(map->stage[i].gain) || map->stage[i].kind == LIP__STAGE_UNKNOWN)
            return lip__fail(err, LIP_EBOUND, "no rule bounds layer \"%s\" (%s)",
                             lip_layer_name(map->snapshot->model->layer[map->stage[i].top]),
                             lip_layer_class(map->stage[i].layer));
    return LIP_OK;
}

static bool is_disjoint(const struct lip_certifier *c)
{
    for (size_t i = 0; i < c->map.n; i++)
        if (c->map.stage[i].value == c->map.output[0])
            return lip_layer_per_output(c->map.snapshot->model->layer[c->map.stage[i].top]);
    return false;
}

static void describe(struct lip_certifier *c)
{
    double claimed = lip_model_claimed(c->map.snapshot->model);
    bool disjoint = is_disjoint(c);

    c->name = c->head.classes == 1 ? "scalar" : disjoint ? "disjoint" : "joint";
    c->factor = c->head.classes == 1 ? claimed : claimed * (disjoint ? 2 : sqrt(2));
}

/* The stretch at one point: where it is the bound, there is nothing to look for. What nobody has to believe. */
static lip_err stretch(const struct lip__map *map, double *most, lip_error *err)
{
    size_t in = lip__map_inputs(map), out = lip__map_outputs(map), few = in < out ? in : out;
    double *j, *x, *sigma;
    lip_err rc;

    *most = 0;
    if (out > WIDEST_STRETCH)
        return LIP_OK;
    j = lip__alloc(in, out * sizeof *j);
    x = lip__alloc(in, sizeof *x);
    sigma = lip__alloc(few, sizeof *sigma);
    rc = j && x && sigma ? LIP_OK : lip__nomem(err, in * out * sizeof *j);
    for (size_t i = 0; !rc && i < in; i++)
        x[i] = 0.5 + 0.5 * sin((double)(3 * i + 1));
    if (!rc)
        rc = lip__map_jacobian(map, x, j, err);
    for (size_t i = 0; !rc && i < in * out; i++)
        if (!isfinite(j[i]))
            memset(j, 0, in * out * sizeof *j);
    if (!rc && !lip__singular_values(out, in, j, sigma))
        *most = sigma[0];
    lip__free(sigma);
    lip__free(x);
    lip__free(j);
    return rc;
}

/* The least constants of values and of pairs, all against the l2 norm. */
static lip_err tighten(struct lip_certifier *c, bool quick, struct lip__head *head, lip_error *err)
{
    static const struct lip__limit limit = {.flops = EFFORT};
    lip_network_bound network = {.complete = true};
    lip_err rc;

    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        network.by[i] = NAN;
    network.by[LIP_PRODUCT] = lip__map_constant(&c->map, c->constant);
    rc = quick ? LIP_OK : stretch(&c->map, &network.lower, err);
    return rc ? rc
              : lip__upper(&c->map, (1u << LIP_BOUND_METHODS) - 1, quick ? NULL : &limit, c->constant, head, &network,
                           err);
}

static lip_err prove(struct lip_certifier *c, const lip_certifier_options *options, lip_error *err)
{
    const lip_model *m = c->map.snapshot->model;
    struct lip__head against_l2 = {0};
    double ratio;
    lip_err rc;

    if (m->n_inputs != 1 || m->n_outputs != 1)
        return lip__fail(err, LIP_EUNSUPPORTED, "certificates of %zu inputs and %zu outputs are not built in",
                         m->n_inputs, m->n_outputs);
    if ((rc = lip__map_open(c->map.snapshot, 0, &c->map, err)) || (rc = uncovered(&c->map, err)))
        return rc;
    c->constant = lip__alloc(m->n_values, sizeof *c->constant);
    if (!c->constant)
        return lip__nomem(err, m->n_values * sizeof *c->constant);
    c->norm = options->norm;
    c->to_l2 = options->norm == LIP_LINF ? lip__up(sqrt((double)lip__map_inputs(&c->map))) : 1;
    lip__map_constants(&c->map, c->constant);
    c->upper = lip__map_constant(&c->map, c->constant);
    /* Products against another norm begin with the first step's; what is known better is known against l2. */
    if (!(rc = lip__head_open(&c->map, c->constant, &c->head, err)) &&
        !(rc = lip__head_measure(&c->map, options->norm, &c->head, &ratio, err)) &&
        !(rc = lip__head_open(&c->map, c->constant, &against_l2, err)) &&
        !(rc = tighten(c, options->quick, &against_l2, err))) {
        lip__head_least(&c->head, &against_l2, c->to_l2);
        c->upper =
            fmin(lip__times_up(c->upper, ratio), lip__times_up(lip__map_constant(&c->map, c->constant), c->to_l2));
        describe(c);
        rc = lip__local_open(&c->map, c->constant, &c->local, err);
    }
    lip__head_close(&against_l2);
    return rc;
}

lip_err lip_certifier_new(const lip_snapshot *snapshot, const lip_certifier_options *options, lip_certifier **certifier,
                          lip_error *err)
{
    static const lip_certifier_options defaults = {.norm = LIP_L2};
    struct lip_certifier *c = lip__alloc(1, sizeof *c);
    lip_err rc;

    *certifier = NULL;
    if (!c)
        return lip__nomem(err, sizeof *c);
    c->map.snapshot = lip_snapshot_get(snapshot);
    rc = prove(c, options ? options : &defaults, err);
    if (rc)
        lip_certifier_free(c);
    else
        *certifier = c;
    return rc;
}

void lip_certifier_free(lip_certifier *c)
{
    if (!c)
        return;
    lip__local_close(&c->local);
    lip__head_close(&c->head);
    lip__free(c->constant);
    lip__map_close(&c->map);
    lip_snapshot_put(c->map.snapshot);
    lip__free(c);
}

const struct lip__map *lip__certifier_map(const lip_certifier *c)
{
    return &c->map;
}

size_t lip_certifier_classes(const lip_certifier *c)
{
    return c->head.classes;
}

const double *lip_certifier_pairs(const lip_certifier *c)
{
    return c->head.pair;
}

const double *lip_certifier_outputs(const lip_certifier *c)
{
    return c->head.single;
}

double lip_certifier_upper(const lip_certifier *c)
{
    return c->upper;
}

const char *lip_certifier_head(const lip_certifier *c)
{
    return c->name;
}

double lip_certifier_factor(const lip_certifier *c)
{
    return c->factor;
}

/* ---- one sample ------------------------------------------------------------------------------------------------ */

struct place { /* one thread's */
    struct lip__room room;
    double *x, *size, *near, *error_64, *error, *left;
    struct lip__shape shape; /* with `local` */
    struct lip__descent descent;
    double *z, *constant, *direction; /* constants of pairs with the answer in the ball that is looked at */
};

struct job {
    const struct lip_certifier *c;
    const lip_certify_options *options;
    size_t n, in;
    const float *x;
    const int64_t *label;
    const lip_certificates *out;
    double scale;
    struct place *place;
};

/* How far the computed difference of outputs c and j may be from the real one, or with j = c output c itself. error: of
 * each value; size: of each computed one. */
static double difference_error(const struct lip_certifier *p, size_t c, size_t j, const struct lip__arithmetic *how,
                               const double *error, const double *size)
{
    const struct lip__head *h = &p->head;
    double n, gamma, reach, last = c == j ? h->column[c] : h->last[c * h->classes + j];

    if (!h->stage)
        return lip__times_up(c == j ? 1 : lip__up(sqrt(2)), error[p->map.output[0]]);
    n = (double)h->stage->roundings;
    gamma = n * how->u / (1 - n * how->u) * (1 + 0x1p-40);
    reach = (h->column[c] + (c == j ? 0 : h->column[j])) * size[h->stage->from[0]];
    if (h->stage->bias)
        reach += fabs(h->stage->bias[c]) + (c == j ? 0 : fabs(h->stage->bias[j]));
    return (last * error[h->stage->from[0]] + gamma * reach + 2 * n * how->eta) * (1 + 0x1p-40);
}

/* What the one rounding to float32 can cost at points where the outputs are at most that large. */
static double storage(double a, double b)
{
    return (fabs(a) + fabs(b)) * 0x1p-24 * (1 + 0x1p-40) + 0x1p-149;
}

/* Margin of class c over j in double; of one output its distance from 0 on side c. */
static double margin_over(const double *z, size_t classes, size_t c, size_t j)
{
    return classes == 1 ? (c ? z[0] : -z[0]) : z[c] - z[j];
}

/* The norm of every value computed in double for sample r, and how far it may be from the real one. */
static void measure(const struct lip_certifier *p, const struct lip__room *room, size_t r, double *size,
                    double *error_64)
{
    const lip_model *m = p->map.snapshot->model;

    for (size_t i = 0; i < m->n_values; i++)
        size[i] = room->value[i] ? lip__norm_up(room->value[i] + r * m->value[i].size, m->value[i].size) : 0;
    lip__map_error(&p->map, &lip__float64, size, true, error_64);
}

/* What is left of each margin of class c over j once all rounding anywhere within `reach` of the sample is taken off;
 * of c itself nothing that counts. Returns why nothing can be said, or NULL. */
static const char *leftovers(const struct job *job, struct place *at, const double *z, size_t c, double reach)
{
    const struct lip_certifier *p = job->c;
    const struct lip__map *map = &p->map;
    const lip_model *m = map->snapshot->model;
    size_t classes = p->head.classes, out = map->output[0];
    bool single = job->options->arithmetic == LIP_FLOAT32;
    const struct lip__arithmetic *how = single ? &lip__float32 : &lip__float64;
    double far = lip__times_up(reach, p->to_l2);

    for (size_t i = 0; i < m->n_values; i++) /* the real values near x, then the computed ones */
        at->near[i] = (at->size[i] + at->error_64[i] + p->constant[i] * far) * (1 + 8 * LIP__U);
    lip__map_error(map, how, at->near, false, at->error);
    if (!isfinite(at->error[out]) || !(at->near[out] + at->error[out] < FLT_MAX / 2))
        return "an output could overflow within the ball";
    for (size_t i = 0; i < m->n_values; i++)
        at->near[i] = lip__up(at->near[i] + at->error[i]);
    for (size_t j = 0; j < classes; j++) {
        size_t other = classes == 1 ? 0 : j, own = classes == 1 ? 0 : c;
        double margin, e_64, e, grow;

        at->left[j] = INFINITY;
        if (j == c && classes > 1)
            continue;
        margin = margin_over(z, classes, c, j) * (1 - 2 * LIP__U);
        e_64 = difference_error(p, own, other, &lip__float64, at->error_64, at->size);
        e = difference_error(p, own, other, how, at->error, at->near);
        if (!single) {
            grow = at->error_64[out] + at->error[out] + p->constant[out] * far;
            e += storage(fabs(z[own]) + grow, classes == 1 ? 0 : fabs(z[other]) + grow);
        }
        at->left[j] = lip__down(margin - lip__up(e_64 + e));
    }
    return NULL;
}

/* Constants of pairs with class c from the shape of the outputs, where they are smaller than what is known. */
static void lower_constants(const struct job *job, struct place *at, size_t c)
{
    const struct lip_certifier *p = job->c;
    size_t classes = p->head.classes, own = classes == 1 ? 0 : c;
    double scale = lip__times_up(p->local.base, p->to_l2);

    for (size_t j = 0; j < classes; j++)
        at->constant[j] = fmin(at->constant[j], lip__times_up(scale, lip__shape_pair(classes, at->shape.q, own, j)));
}

/* The largest radius that what is left of the margins and the constants allow; which pair decides. */
static double least_of(const struct job *job, const struct place *at, size_t c, size_t *decides)
{
    size_t classes = job->c->head.classes;
    double radius = INFINITY;

    for (size_t j = 0; j < classes; j++)
        if (j != c || classes == 1) {
            double most = at->left[j] / at->constant[j] * (1 - 4 * LIP__U);

            if (!(most >= radius)) {
                radius = most;
                *decides = j;
            }
        }
    return radius;
}

/* Multipliers for the pair that decides, then for the one that does after that. */
static double deepen(const struct job *job, struct place *at, size_t c, double radius, size_t decides)
{
    size_t classes = job->c->head.classes, before = classes;

    for (int tries = 0; tries < PAIRS && decides != before; tries++) {
        memset(at->direction, 0, classes * sizeof *at->direction);
        at->direction[decides] = -1;
        at->direction[classes == 1 ? 0 : c] = 1;
        if (!lip__descend(&at->descent, at->direction, tries ? STEPS / 2 : STEPS, 0) ||
            !lip__descent_prove(&at->descent, 0, &at->shape))
            break;
        lower_constants(job, at, c);
        before = decides;
        radius = least_of(job, at, c, &decides);
    }
    return radius;
}

/* The largest radius that the constants within `reach` of sample r allow, if they hold that far. 0: nothing was proved.
 */
static double allowed(const struct job *job, struct place *at, size_t r, const double *z, size_t c, double reach,
                      bool deep)
{
    const struct lip_certifier *p = job->c;
    size_t classes = p->head.classes, decides = 0;
    double radius;

    if (leftovers(job, at, z, c, reach) ||
        !lip__local_advance(&p->local, &at->room, r, at->error_64, lip__times_up(reach, p->to_l2), &at->shape,
                            &at->descent, at->z))
        return 0;
    memcpy(at->constant, p->head.pair + (classes == 1 ? 0 : c * classes), classes * sizeof *at->constant);
    lower_constants(job, at, c);
    radius = least_of(job, at, c, &decides);
    return deep ? deepen(job, at, c, radius, decides) : radius;
}

/* A larger radius from the ball alone: *radius is raised to one that its own constants allow. They grow with it, so
 * what they allow falls; the two are equal somewhere between the radius so far and what is allowed there, which secants
 * find. first: where to look to begin with, *radius or above. */
static bool widen(const struct job *job, struct place *at, size_t r, const double *z, size_t c, double first, int tries,
                  bool deep, double *radius)
{
    double low = *radius, high = allowed(job, at, r, z, c, first, deep), over_low = first - low, over_high = 0,
           start = low;

    if (high > first) {
        over_low = high - first;
        low = *radius = first;
    } else if (first > low && low > 0) {
        over_high = high - first;
        high = first;
    } else
        return false;
    while (tries-- > 0 && high - low > 0.01 * low) {
        /* At first nothing may be known of the far end but that it is too far. */
        double guess =
                   over_high < 0 ? low + (high - low) * over_low / (over_low - over_high) : low + 0.6 * (high - low),
               most;

        guess = fmin(fmax(guess, low + 0.1 * (high - low)), high - 0.02 * (high - low));
        most = allowed(job, at, r, z, c, guess, deep);
        if (most > guess) {
            low = *radius = guess;
            over_low = most - guess;
            high = deep && over_high == 0 ? most : fmin(high, most); /* better multipliers may allow more than before */
        } else {
            high = guess;
            over_high = most - guess;
        }
    }
    return *radius > start;
}

/* By the ball alone, then with multipliers of the sample's own where the smallest ball's constants say that there is
 * something to gain: of layers that keep all lengths they are those of the whole space. */
static bool by_ball(const struct job *job, struct place *at, size_t r, const double *z, size_t c, double reach,
                    double *radius)
{
    const struct lip__chain *chain = &job->c->local.chain;
    bool deep = lip__chain_flops(chain) * FEW_TRIES < EFFORT_DEEP, wider;
    double small = 1e-3 * reach;

    if (!job->options->local || !chain->n_links)
        return false;
    lip__descent_forget(&at->descent);
    wider = widen(job, at, r, z, c, *radius > 0 ? *radius : small, deep ? FEW_TRIES : TRIES, false, radius);
    if (deep && *radius > 0 && (wider || allowed(job, at, r, z, c, small, false) > AHEAD * *radius))
        wider = widen(job, at, r, z, c, AHEAD * *radius, FEW_TRIES, true, radius) || wider;
    return wider;
}

/* The radius of sample r, whose answer is class c. */
static double radius_of(const struct job *job, struct place *at, size_t r, const double *z, size_t c,
                        const char **method, const char **reason)
{
    const struct lip_certifier *p = job->c;
    size_t classes = p->head.classes;
    double reach = INFINITY, radius = INFINITY;

    *method = "none";
    for (size_t j = 0; j < classes; j++)
        if (j != c || classes == 1)
            reach =
                fmin(reach, lip__up(margin_over(z, classes, c, j) / p->head.pair[classes == 1 ? 0 : c * classes + j]));
    if (!(reach > 0) || !isfinite(reach)) {
        *reason = isfinite(z[c < classes ? c : 0]) ? "two answers are equal, or the constants are 0"
                                                   : "the answer is not finite";
        return 0;
    }
    measure(p, &at->room, r, at->size, at->error_64);
    if ((*reason = leftovers(job, at, z, c, reach)) != NULL)
        return 0;
    for (size_t j = 0; j < classes; j++)
        if (j != c || classes == 1)
            radius = fmin(radius, at->left[j] / p->head.pair[classes == 1 ? 0 : c * classes + j] * (1 - 4 * LIP__U));
    radius = fmax(0, radius);
    *method = radius == 0 ? "none" : classes == 1 ? "norm" : "pair";
    if (by_ball(job, at, r, z, c, reach, &radius))
        *method = "local";
    if (!(radius > 0))
        *reason = "rounding could change the answer at any distance";
    return radius;
}

double lip__float32_rounding(const struct lip_certifier *p, const struct lip__room *room, size_t r, size_t c,
                             double *numbers)
{
    static const lip_certify_options single = {.arithmetic = LIP_FLOAT32};
    const struct job job = {.c = p, .options = &single};
    size_t values = p->map.snapshot->model->n_values, classes = p->head.classes;
    const double *z = room->value[p->map.output[0]] + r * classes;
    struct place at = {.size = numbers,
                       .near = numbers + values,
                       .error_64 = numbers + 2 * values,
                       .error = numbers + 3 * values,
                       .left = numbers + 4 * values};
    double most = 0;

    measure(p, room, r, at.size, at.error_64);
    if (leftovers(&job, &at, z, c, 0))
        return INFINITY;
    for (size_t j = 0; j < classes; j++)
        if (j != c || classes == 1)
            most = fmax(most, lip__up(margin_over(z, classes, c, j) - at.left[j]));
    return most;
}

size_t lip__answer(const float *y, size_t classes)
{
    size_t best = 0;

    if (classes == 1)
        return y[0] > 0;
    for (size_t j = 1; j < classes; j++)
        if (y[j] > y[best])
            best = j;
    return best;
}

/* Of a wrong answer: the smallest margin over its constant, below 0. */
static double shortfall(const struct lip_certifier *p, const double *z, size_t c)
{
    size_t classes = p->head.classes;
    double least = INFINITY;

    for (size_t j = 0; j < classes; j++)
        if (j != c || classes == 1)
            least = fmin(least, margin_over(z, classes, c, j) / p->head.pair[classes == 1 ? 0 : c * classes + j]);
    return least < 0 ? least : 0;
}

static void certify_sample(const struct job *job, struct place *at, size_t i, size_t r)
{
    const struct lip_certifier *p = job->c;
    const lip_certificates *out = job->out;
    size_t classes = p->head.classes, got, truth;
    const double *z = at->room.value[p->map.output[0]] + r * classes;
    const char *method = "none", *reason = "the answer is not the label";
    double margin = INFINITY, radius = 0;

    for (size_t j = 0; j < classes && job->options->arithmetic == LIP_FLOAT64; j++)
        out->y[i * classes + j] = (float)z[j];
    got = lip__answer(out->y + i * classes, classes);
    truth = job->label ? (size_t)job->label[i] : got;
    for (size_t j = 0; j < classes; j++)
        if (j != truth || classes == 1)
            margin = fmin(margin, margin_over(z, classes, truth, j));
    if (got == truth)
        radius = radius_of(job, at, r, z, got, &method, &reason);
    else if (job->options->negative_robustness)
        radius = shortfall(p, z, truth);
    if (out->predicted)
        out->predicted[i] = (int64_t)got;
    if (out->margin)
        out->margin[i] = margin;
    if (out->radius)
        out->radius[i] = radius > 0 ? lip__down(radius / job->scale) : radius / job->scale;
    if (out->method)
        out->method[i] = method;
    if (out->reason)
        out->reason[i] = radius > 0 ? NULL : reason;
}

static void certify_block(void *ctx, size_t index, size_t thread)
{
    const struct job *job = ctx;
    struct place *at = &job->place[thread];
    size_t first = index * BLOCK, n = job->n - first < BLOCK ? job->n - first : BLOCK;

    for (size_t i = 0; i < n * job->in; i++)
        at->x[i] = job->x[first * job->in + i];
    lip__map_value(&job->c->map, &at->room, n, at->x);
    for (size_t r = 0; r < n; r++)
        certify_sample(job, at, first + r, r);
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static lip_err place_open(const struct lip_certifier *c, size_t n, bool local, struct place *at, lip_error *err)
{
    size_t values = c->map.snapshot->model->n_values, in = lip__map_inputs(&c->map), widest;
    lip_err rc = lip__room_open(&c->map, n, &at->room, err);

    if (rc)
        return rc;
    at->x = lip__alloc(n * in, sizeof(double));
    at->size = lip__alloc(4 * values, sizeof(double));
    at->left = lip__alloc(c->head.classes, sizeof(double));
    if (!at->x || !at->size || !at->left)
        return lip__nomem(err, (n * in + 4 * values) * sizeof(double));
    at->near = at->size + values;
    at->error_64 = at->near + values;
    at->error = at->error_64 + values;
    if (!local || !c->local.chain.n_links)
        return LIP_OK;
    widest = lip__chain_widest(&c->local.chain);
    at->z = lip__alloc(widest, sizeof(double));
    at->constant = lip__alloc(c->head.classes, sizeof(double));
    at->direction = lip__alloc(c->head.classes, sizeof(double));
    if (!at->z || !at->constant || !at->direction)
        return lip__nomem(err, widest * sizeof(double));
    rc = lip__shape_open(widest, &at->shape, err);
    return rc ? rc : lip__descent_open(&c->local.chain, c->local.gram, &at->descent, err);
}

static void place_close(const struct lip_certifier *c, struct place *at)
{
    if (at->descent.chain)
        lip__descent_close(&at->descent);
    lip__shape_close(&at->shape);
    lip__free(at->direction);
    lip__free(at->constant);
    lip__free(at->z);
    lip__free(at->left);
    lip__free(at->size);
    lip__free(at->x);
    lip__room_close(&c->map, &at->room);
}

lip_err lip_labels(size_t n, size_t classes, const lip_shape *shape, const float *y, int64_t *label, lip_error *err)
{
    size_t each = n ? lip_shape_count(shape) / n : 1;
    char text[96];

    if (shape->rank < 1 || shape->dim[0] != n || (each != 1 && each != classes))
        return lip__fail(err, LIP_ESHAPE, "labels have shape %s; wanted [%zu], [%zu,1] or [%zu,%zu]",
                         lip_shape_text(shape, text, sizeof text), n, n, n, classes);
    for (size_t i = 0; i < n; i++) {
        const float *row = y + i * each;
        size_t best = 0, positive = 0;

        for (size_t j = 0; j < each; j++) {
            best = row[j] > row[best] ? j : best;
            positive += row[j] > 0;
        }
        if (each > 1 ? positive != 1 : !isfinite(row[0]) || row[0] != floorf(row[0]) || fabsf(row[0]) > 0x1p24f)
            return lip__fail(err, LIP_ELABELS,
                             each > 1 ? "row %zu of the labels marks %zu classes; wanted exactly one (one-hot)"
                                      : "label %zu of %zu is no whole number",
                             i, each > 1 ? positive : n);
        label[i] = each > 1 ? (int64_t)best : classes == 1 ? row[0] > 0 : (int64_t)row[0];
    }
    return LIP_OK;
}

static lip_err check_labels(const struct lip_certifier *c, size_t n, const int64_t *label, lip_error *err)
{
    int64_t classes = c->head.classes == 1 ? 2 : (int64_t)c->head.classes;

    for (size_t i = 0; label && i < n; i++)
        if (label[i] < 0 || label[i] >= classes)
            return lip__fail(err, LIP_ELABELS, "label %zu is %lld; wanted 0 to %lld", i, (long long)label[i],
                             (long long)classes - 1);
    return LIP_OK;
}

lip_err lip__input_scale(const lip_certify_options *options, double *scale, lip_error *err)
{
    *scale = options->input_scale == 0 ? 1 : options->input_scale;
    return *scale > 0 && isfinite(*scale)
               ? LIP_OK
               : lip__fail(err, LIP_ERANGE, "input_scale is %g, needs a finite number above 0", *scale);
}

lip_err lip_certify(const lip_certifier *c, lip_workspace *ws, const lip_certify_options *options, size_t n,
                    const float *x, const int64_t *label, const lip_certificates *out, lip_error *err)
{
    size_t threads = lip_threads(), open = 0;
    struct job job = {
        .c = c, .options = options, .n = n, .in = lip__map_inputs(&c->map), .x = x, .label = label, .out = out};
    lip_err rc = lip__arithmetic_holds(err);

    if (!rc)
        rc = check_labels(c, n, label, err);
    if (!rc)
        rc = lip__input_scale(options, &job.scale, err);
    if (rc || n == 0)
        return rc;
    if (options->arithmetic == LIP_FLOAT32 && (rc = lip_predict(c->map.snapshot, ws, n, x, out->y, err)) != LIP_OK)
        return rc;
    job.place = lip__alloc(threads, sizeof *job.place);
    if (!job.place)
        return lip__nomem(err, threads * sizeof *job.place);
    while (!rc && open < threads)
        rc = place_open(c, n < BLOCK ? n : BLOCK, options->local, &job.place[open++], err);
    if (!rc)
        lip__parallel((n + BLOCK - 1) / BLOCK, certify_block, &job);
    while (open-- > 0)
        place_close(c, &job.place[open]);
    lip__free(job.place);
    return rc;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static void values_of(const struct lip_certifier *c, struct place *at, size_t n, const float *x, double *y,
                      double *error)
{
    size_t in = lip__map_inputs(&c->map), classes = c->head.classes;

    for (size_t i = 0; i < n * in; i++)
        at->x[i] = x[i];
    lip__map_value(&c->map, &at->room, n, at->x);
    memcpy(y, at->room.value[c->map.output[0]], n * classes * sizeof *y);
    for (size_t r = 0; error && r < n; r++) {
        measure(c, &at->room, r, at->size, at->error_64);
        for (size_t j = 0; j < classes; j++)
            error[r * classes + j] = difference_error(c, j, j, &lip__float64, at->error_64, at->size);
    }
}

lip_err lip_certifier_value(const lip_certifier *c, size_t n, const float *x, double *y, double *error, lip_error *err)
{
    size_t in = lip__map_inputs(&c->map), classes = c->head.classes;
    struct place at = {0};
    lip_err rc = lip__arithmetic_holds(err);

    if (!rc && n)
        rc = place_open(c, n < BLOCK ? n : BLOCK, false, &at, err);

    for (size_t i = 0; !rc && i < n; i += BLOCK)
        values_of(c, &at, n - i < BLOCK ? n - i : BLOCK, x + i * in, y + i * classes,
                  error ? error + i * classes : NULL);
    place_close(c, &at);
    return rc;
}

/* ---- many of them ----------------------------------------------------------------------------------------------- */

void lip_provable_accuracy(size_t n, const double *radius, size_t n_epsilons, const double *epsilon, double *accuracy)
{
    for (size_t e = 0; e < n_epsilons; e++) {
        size_t above = 0;

        for (size_t i = 0; i < n; i++)
            above += radius[i] > epsilon[e];
        accuracy[e] = n ? (double)above / (double)n : 0;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void lip_provable_curve(size_t n, const double *radius, double *r, double *share)
{
    memmove(r, radius, n * sizeof *r);
    if (n)
        qsort(r, n, sizeof *r, ascending);
    for (size_t i = 0; i < n; i++) /* equal radii have one share */
        share[i] = i && r[i] == r[i - 1] ? share[i - 1] : (double)(n - i) / (double)n;
}
