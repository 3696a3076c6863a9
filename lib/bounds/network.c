/* network.c: what is proved of a layer, and of a model as the product of its layers. */
#include <float.h>
#include <string.h>

#include "bounds/pairs.h"
#include "bounds/secant.h"
#include "bounds/upper.h"

enum { TRIES = 400 };
#define SHARE 0.95 /* of max_seconds, so that what nothing interrupts ends in time */

/* ---- a layer ------------------------------------------------------------------------------------------- */

/* true, false or undecided: an interval against a claim. */
static int judge(double claimed, double lower, double upper)
{
    double limit = claimed * (1 + LIP_CLAIM_TOLERANCE);

    if (isnan(claimed))
        return -1;
    return upper <= limit ? 1 : lower > limit ? 0 : -1;
}

/* The largest column norm of the effective kernel, enclosed: the norm of one output before its activation. */
static void columns(const struct lip__stage *s, lip_interval *norm)
{
    *norm = (lip_interval){0, 0};
    for (size_t j = 0; j < s->n; j++) {
        double sum = 0;

        for (size_t i = 0; i < s->m; i++)
            sum += s->kernel[i * s->n + j] * s->kernel[i * s->n + j];
        norm->lower = fmax(norm->lower, sqrt(sum / lip__lift(s->m)) * (1 - 4 * LIP__U));
        norm->upper = fmax(norm->upper, lip__up(sqrt(sum * lip__lift(s->m)) * (1 + 4 * LIP__U)));
    }
}

/* Figures of W / (coef k) that need no proof. */
static void describe(const struct lip__stage *s, lip_layer_bound *b)
{
    double unit = lip__layer_coefficient(s->layer), defect = 0, square = 0, top = s->sigma[0];

    for (size_t i = 0; i < s->n_sigma; i++) {
        double r = s->sigma[i] / unit;

        defect += (r * r - 1) * (r * r - 1);
        square += s->sigma[i] / top * (s->sigma[i] / top);
    }
    if (s->kind == LIP__STAGE_MATRIX)
        b->sigma_min = s->sigma[s->n_sigma - 1];
    if (unit > 0)
        b->defect = sqrt(defect);
    if (top > 0)
        b->stable_rank = square;
}

/* Lower bound of a layer with something in its activation slot. */
static lip_err slot_lower(const struct lip__map *c, double single, uint64_t deadline, double *lower, lip_error *err)
{
    const struct lip__stage *inner = &c->stage[0], *slot = &c->stage[1];
    struct lip__below below;
    lip_err rc;

    if (inner->kind == LIP__STAGE_COPY)
        *lower = slot->norm.lower;
    else if (slot->kind == LIP__STAGE_SORT || slot->kind == LIP__STAGE_MAX_MIN ||
             slot->kind == LIP__STAGE_COPY) /* isometric almost everywhere */
        *lower = lip__times_down(inner->norm.lower, slot->norm.lower);
    else {
        if ((rc = lip__secant(c, &(struct lip__effort){.tries = 0, .deadline = deadline}, &below, err)) != LIP_OK)
            return rc;
        *lower = fmax(below.whole, single);
    }
    return LIP_OK;
}

/* c: the steps of one layer. lower: search for a lower bound where there is no formula, else it is NAN there. */
static lip_err layer_bound(const struct lip__map *c, size_t index, bool lower, uint64_t deadline, lip_layer_bound *b,
                           lip_error *err)
{
    const struct lip__stage *s = &c->stage[0];
    lip_interval one = {NAN, NAN};
    lip_err rc;

    *b = (lip_layer_bound){.layer = c->snapshot->model->layer[index],
                           .claimed = lip_layer_claimed(c->snapshot->model->layer[index]),
                           .per_output = lip_layer_per_output(c->snapshot->model->layer[index]),
                           .lower = s->norm.lower,
                           .upper = s->norm.upper,
                           .output_lower = NAN,
                           .output_upper = NAN,
                           .method = s->method,
                           .sigma_min = NAN,
                           .defect = NAN,
                           .stable_rank = NAN,
                           .effective = lip_snapshot_effective(c->snapshot, index),
                           .stored_distance = lip_snapshot_stored_distance(c->snapshot, index)};
    if (s->sigma && s->n_sigma)
        describe(s, b);
    if (s->kind == LIP__STAGE_MATRIX)
        columns(s, &one);
    for (size_t i = 1; i < c->n; i++) {
        one.lower = lip__times_down(one.lower, c->stage[i].norm.lower);
        one.upper = lip__times_up(one.upper, c->stage[i].norm.upper);
        b->upper = lip__times_up(b->upper, c->stage[i].norm.upper);
        if (isnan(b->upper))
            b->method = "none";
    }
    if (c->n > 1 && !lower)
        b->lower = NAN;
    else if (c->n > 1 && (rc = slot_lower(c, fmax(0, one.lower), deadline, &b->lower, err)) != LIP_OK)
        return rc;
    if (b->per_output) {
        b->output_lower = one.lower;
        b->output_upper = one.upper;
    }
    b->sound_claim =
        b->per_output ? judge(b->claimed, b->output_lower, b->output_upper) : judge(b->claimed, b->lower, b->upper);
    return LIP_OK;
}

/* Steps of one layer, of its first use: its own and its slot's. */
static size_t steps_of(const lip_model *m, size_t layer, size_t *first)
{
    size_t i = 0, n = 0;

    while (i < m->n_steps && (m->step[i].top != layer || m->step[i].turns))
        i++;
    *first = i;
    while (i + n < m->n_steps && m->step[i + n].top == layer && !m->step[i + n].turns &&
           (n == 0 || m->step[i + n].layer != m->layer[layer]))
        n++;
    return n;
}

lip_err lip_bound_layer(const lip_snapshot *snapshot, size_t layer, lip_layer_bound *bound, lip_error *err)
{
    struct lip__map c;
    size_t first = 0, n = steps_of(snapshot->model, layer, &first);
    lip_err rc;

    if (n == 0)
        return lip__fail(err, LIP_ERANGE, "bound: layer %zu has no arithmetic", layer);
    rc = lip__map_part(snapshot, first, n, &c, err);
    if (!rc)
        rc = layer_bound(&c, layer, true, 0, bound, err);
    lip__map_close(&c);
    return rc;
}

lip_err lip__map_layers(const struct lip__map *map, bool lower, uint64_t deadline, lip_layer_bound *layers, size_t *n,
                        lip_error *err)
{
    const lip_model *m = map->snapshot->model;
    lip_err rc = LIP_OK;

    *n = 0;
    for (size_t i = 0, first = 0; !rc && i < m->n_layers; i++) {
        size_t steps = steps_of(m, i, &first);
        struct lip__map part;

        if (steps == 0)
            continue;
        part = lip__map_of(map, first, steps);
        rc = layer_bound(&part, i, lower, lip__part_of(deadline, 1 / (double)(m->n_layers - i)), &layers[*n], err);
        ++*n;
    }
    return rc;
}

/* ---- the network ----------------------------------------------------------------------------------------- */

/* The network's claim. Where the layer that makes the output claims something for each neuron alone, so does the
 * network: a single output's constant is that of the layer's input times the neuron's norm. */
static int judge_network(const struct lip__map *c, const double *constant, double claimed, double upper, double whole,
                         double single, const lip_layer_bound *layers, size_t n)
{
    const lip_model *m = c->snapshot->model;

    for (size_t i = 0; i < c->n && c->n_outputs == 1; i++) {
        const struct lip__stage *s = &c->stage[i];

        for (size_t j = 0; s->value == c->output[0] && j < n; j++)
            if (layers[j].layer == m->layer[s->top] && layers[j].per_output) {
                size_t first = 0;

                steps_of(m, s->top, &first);
                return judge(claimed, single, lip__times_up(constant[c->stage[first].from[0]], layers[j].output_upper));
            }
    }
    return judge(claimed, whole, upper);
}

const char *lip_bound_method_name(lip_bound_method method)
{
    static const char *const names[] = {"product", "rescaled", "lipsdp", "liplt", "fourier"};

    return (unsigned)method < LIP_BOUND_METHODS ? names[method] : "none";
}

/* The lower bound: some moves of the best point, or as many as there is time for; none yet. */
static lip_err bound_below(const struct lip__map *c, const lip_bound_options *o, uint64_t deadline, size_t tries,
                           lip_network_bound *network, double *single, lip_error *err)
{
    struct lip__effort effort = {
        .deadline = deadline, .tries = tries, .n_points = o->n_points, .points = o->points, .enough = network->upper};
    struct lip__below below;
    lip_err rc = lip__secant(c, &effort, &below, err);

    network->complete = network->complete && below.complete;
    *single = fmax(*single, below.single);
    if (!rc && !(below.whole < network->lower)) {
        network->lower = below.whole;
        network->lower_method = below.method;
    }
    return rc;
}

/* The smallest of what the methods say. */
static void choose(lip_network_bound *network)
{
    network->upper = NAN;
    network->method = "none";
    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        if (!isnan(network->by[i]) && !(network->by[i] >= network->upper)) {
            network->upper = network->by[i];
            network->method = lip_bound_method_name((lip_bound_method)i);
        }
}

/* Constants of pairs of outputs as they are in the head; NAN where there is none. */
static void tell_pairs(const struct lip__head *head, size_t n, double *pairs)
{
    for (size_t i = 0; i < n * n; i++)
        pairs[i] = head->pair ? head->pair[i] : NAN;
}

/* All of it, of a map that is proved. of: room for constants of all values. */
static lip_err bound_map(const struct lip__map *c, const lip_bound_options *o, unsigned methods, uint64_t deadline,
                         double *of, lip_layer_bound *layers, size_t *n, lip_network_bound *network, lip_error *err)
{
    const struct lip__limit half = {lip__part_of(deadline, 0.6), 0};
    bool more = methods != 1u << LIP_PRODUCT;
    struct lip__head head = {0};
    double single = 0;
    uint64_t searches = lip__part_of(deadline, 0.2);
    lip_err rc = lip__map_layers(c, true, searches, layers, n, err);

    network->complete = network->complete && !lip__late(searches);
    if (!rc)
        rc = lip__map_deviation(c, &lip__float32, network->input_norm, &network->deviation, err);
    if (!rc) {
        lip__map_constants(c, of);
        network->by[LIP_PRODUCT] = lip__map_constant(c, of);
        if (o->pairs && !isnan(network->by[LIP_PRODUCT]) && c->n_outputs == 1)
            rc = lip__head_open(c, of, &head, err);
    }
    if (!rc)
        rc = bound_below(c, o, lip__part_of(deadline, 0.2), 0, network, &single, err);
    if (!rc && more)
        rc = lip__upper(c, methods, &half, of, head.pair ? &head : NULL, network, err);
    if (!rc)
        choose(network);
    if (!rc && more && !(network->lower * (1 + LIP_CLAIM_TOLERANCE) >= network->upper))
        rc = bound_below(c, o, deadline, deadline ? 100 * TRIES : TRIES, network, &single,
                         err); /* with the time that is left */
    if (!rc) {
        if (o->pairs)
            tell_pairs(&head, lip__map_outputs(c), o->pairs);
        network->sound_claim =
            judge_network(c, of, network->claimed, network->upper, network->lower, single, layers, *n);
    }
    lip__head_close(&head);
    return rc;
}

lip_err lip_bound_network(const lip_snapshot *snapshot, const lip_bound_options *options, lip_layer_bound *layers,
                          size_t *n, lip_network_bound *network, lip_error *err)
{
    static const lip_bound_options defaults = {.input_norm = 0};
    const lip_model *m = snapshot->model;
    const lip_bound_options *o = options ? options : &defaults;
    uint64_t deadline = o->max_seconds > 0 ? lip__now_ns() + (uint64_t)(fmin(o->max_seconds, 1e9) * SHARE * 1e9) : 0;
    double *of = lip__alloc(m->n_values, sizeof *of);
    struct lip__map c = {0};
    lip_err rc =
        of ? lip__map_open(snapshot, lip__part_of(deadline, 0.5), &c, err) : lip__nomem(err, m->n_values * sizeof *of);

    *n = 0;
    *network = (lip_network_bound){.claimed = lip_model_claimed(m),
                                   .upper = NAN,
                                   .tightness = NAN,
                                   .method = "none",
                                   .lower_method = "none",
                                   .complete = !rc && lip__map_whole(&c),
                                   .deviation = NAN,
                                   .sound_claim = -1};
    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        network->by[i] = NAN;
    if (!rc) {
        network->input_norm = o->input_norm > 0 ? o->input_norm : sqrt((double)lip__map_inputs(&c));
        rc = bound_map(&c, o, o->methods ? o->methods : (1u << LIP_BOUND_METHODS) - 1, deadline, of, layers, n, network,
                       err);
    }
    if (!rc) {
        network->deviation = isfinite(network->deviation) ? lip__times_up(2, network->deviation) : NAN;
        if (network->lower > 0)
            network->tightness = network->upper / network->lower;
        if (lip__map_whole(&c) && network->lower * (1 + LIP_CLAIM_TOLERANCE) >=
                                      network->upper) /* what was cut off has nothing left to find */
            network->complete = true;
    }
    lip__map_close(&c);
    lip__free(of);
    return rc;
}

/* ---- other arithmetics ------------------------------------------------------------------------------------- */

lip_err lip_bound_transfer(const lip_snapshot *snapshot, lip_format format, double input_norm, double *deviation,
                           lip_error *err)
{
    static const struct lip__arithmetic formats[] = {
        [LIP_FP32] = {.u = 0x1p-24, .eta = 0x1p-149, .most = FLT_MAX},
        [LIP_TF32] = {.u = 0x1p-24, .eta = 0x1p-149, .most = FLT_MAX, .operand = 0x1p-11, .operand_eta = 0x1p-137},
        [LIP_BF16] = {.u = 0x1p-24,
                      .eta = 0x1p-149,
                      .most = FLT_MAX,
                      .store = 0x1p-8,
                      .store_eta = 0x1p-134,
                      .operand = 0x1p-8,
                      .operand_eta = 0x1p-134},
        [LIP_FP16] = {.u = 0x1p-24,
                      .eta = 0x1p-149,
                      .most = 65504,
                      .store = 0x1p-11,
                      .store_eta = 0x1p-25,
                      .operand = 0x1p-11,
                      .operand_eta = 0x1p-25},
    };
    struct lip__map c;
    lip_err rc = lip__map_open(snapshot, 0, &c, err);

    *deviation = NAN;
    if (!rc)
        rc = lip__map_deviation(&c, &formats[format], input_norm > 0 ? input_norm : sqrt((double)lip__map_inputs(&c)),
                                deviation, err);
    if (!isfinite(*deviation))
        *deviation = NAN;
    lip__map_close(&c);
    return rc;
}
