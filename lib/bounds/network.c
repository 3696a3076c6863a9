/* network.c: what is proved of a layer, and of a model as the product of its layers. */
#include <string.h>

#include "bounds/chain.h"

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
static lip_err slot_lower(const struct lip__chain *c, double single, double *lower, lip_error *err)
{
    const struct lip__stage *inner = &c->stage[0], *slot = &c->stage[1];
    double whole, one;
    lip_err rc;

    if (inner->kind == LIP__STAGE_COPY)
        *lower = slot->norm.lower;
    else if (slot->kind == LIP__STAGE_SORT || slot->kind == LIP__STAGE_COPY) /* a permutation almost everywhere */
        *lower = lip__times_down(inner->norm.lower, slot->norm.lower);
    else {
        if ((rc = lip__chain_secant(c, &whole, &one, err)) != LIP_OK)
            return rc;
        *lower = fmax(whole, single);
    }
    return LIP_OK;
}

/* c: the steps of one layer. */
static lip_err layer_bound(const struct lip__chain *c, size_t index, lip_layer_bound *b, lip_error *err)
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
    if (c->n > 1 && (rc = slot_lower(c, fmax(0, one.lower), &b->lower, err)) != LIP_OK)
        return rc;
    if (b->per_output) {
        b->output_lower = one.lower;
        b->output_upper = one.upper;
    }
    b->sound_claim = b->per_output ? judge(b->claimed, b->output_lower, b->output_upper)
                                   : judge(b->claimed, b->lower, b->upper);
    return LIP_OK;
}

/* Steps of one layer: its own and its slot's. */
static size_t steps_of(const lip_model *m, size_t layer, size_t *first)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n_steps; i++)
        if (m->step[i].top == layer && n++ == 0)
            *first = i;
    return n;
}

lip_err lip_bound_layer(const lip_snapshot *snapshot, size_t layer, lip_layer_bound *bound, lip_error *err)
{
    struct lip__chain c;
    size_t first = 0, n = steps_of(snapshot->model, layer, &first);
    lip_err rc;

    if (n == 0)
        return lip__fail(err, LIP_ERANGE, "bound: layer %zu has no arithmetic", layer);
    rc = lip__chain_open(snapshot, first, n, &c, err);
    if (!rc)
        rc = layer_bound(&c, layer, bound, err);
    lip__chain_close(&c);
    return rc;
}

/* ---- the network ----------------------------------------------------------------------------------------- */

/* The whole chain's claim. Where the last layer claims something for each output alone, so does the network. */
static int judge_network(const lip_layer_bound *layers, size_t n, double claimed, double upper, double whole,
                         double single)
{
    double each = 1;

    if (n == 0 || !layers[n - 1].per_output)
        return judge(claimed, whole, upper);
    for (size_t i = 0; i + 1 < n; i++)
        each = lip__times_up(each, layers[i].upper);
    return judge(claimed, single, lip__times_up(each, layers[n - 1].output_upper));
}

/* One step behind the other, from the one input to the one output. */
static bool is_chain(const lip_model *m)
{
    bool chain = m->n_inputs == 1 && m->n_outputs == 1 && m->output_value[0] == m->step[m->n_steps - 1].out;

    for (size_t i = 0; i < m->n_steps; i++)
        chain = chain && m->step[i].n_from == 1 && m->step[i].from[0] == (i ? m->step[i - 1].out : 0);
    return chain;
}

static double plus_up(double a, double b)
{
    return nextafter(a + b, INFINITY);
}

static double norm_up(double a, double b)
{
    return nextafter(sqrt(plus_up(lip__times_up(a, a), lip__times_up(b, b))), INFINITY);
}

static double upper_of(const lip_layer_bound *layers, size_t n, const lip_layer *layer)
{
    for (size_t i = 0; i < n; i++)
        if (layers[i].layer == layer)
            return layers[i].upper;
    return NAN;
}

/* What joins constants L_i of the same inputs: a sum of the maps has at most their sum, maps side by side the root of the
 * sum of their squares. Of a product of maps nothing is known. */
static double join(const struct lip__step *s, const double *constant)
{
    const char *name = s->layer->kind->cls.name;
    bool beside = !strcmp(name, "Concatenate"), mean = !strcmp(name, "Average");
    double all = 0;

    if (!strcmp(name, "Multiply"))
        return NAN;
    for (size_t i = 0; i < s->n_from; i++)
        all = beside ? norm_up(all, constant[s->from[i]]) : plus_up(all, constant[s->from[i]]);
    return mean ? nextafter(all / (double)s->n_from, INFINITY) : all;
}

/* The constant of every value in turn, of the map from all inputs side by side to all outputs side by side. */
static lip_err network_upper(const lip_model *m, const lip_layer_bound *layers, size_t n, double *upper, lip_error *err)
{
    double *constant = lip__alloc(m->n_values, sizeof *constant);

    if (!constant)
        return lip__nomem(err, m->n_values * sizeof *constant);
    for (size_t v = 0; v < m->n_inputs; v++)
        constant[v] = 1;
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct lip__step *s = &m->step[i];
        bool slot = s->layer != m->layer[s->top]; /* counted in its owner's bound */
        constant[s->out] = s->layer->kind->merge ? join(s, constant)
                           : slot                ? constant[s->from[0]]
                                                 : lip__times_up(constant[s->from[0]], upper_of(layers, n, s->layer));
    }
    *upper = m->n_outputs == 1 ? constant[m->output_value[0]] : 0;
    for (size_t i = 0; i < m->n_outputs && m->n_outputs > 1; i++)
        *upper = norm_up(*upper, constant[m->output_value[i]]);
    lip__free(constant);
    return LIP_OK;
}

lip_err lip_bound_network(const lip_snapshot *snapshot, double input_norm, lip_layer_bound *layers, size_t *n,
                          lip_network_bound *network, lip_error *err)
{
    const lip_model *m = snapshot->model;
    double inputs = (double)lip_shape_count(&m->input[0]), single;
    struct lip__chain c;
    lip_err rc;

    *n = 0;
    *network = (lip_network_bound){.claimed = lip_model_claimed(m), .upper = 1, .tightness = NAN, .method = "product",
                                   .lower_method = "secant", .deviation = NAN, .sound_claim = -1,
                                   .input_norm = input_norm > 0 ? input_norm : sqrt(inputs)};
    rc = lip__chain_open(snapshot, 0, m->n_steps, &c, err);
    for (size_t i = 0; !rc && i < m->n_layers; i++) {
        struct lip__chain part = c;

        part.n = steps_of(m, i, &part.first);
        if (part.n == 0)
            continue;
        part.stage = c.stage + part.first;
        rc = layer_bound(&part, i, &layers[*n], err);
        ++*n;
    }
    if (!rc)
        rc = network_upper(m, layers, *n, &network->upper, err);
    if (!rc && !is_chain(m)) { /* no lower bound and no deviation of graphs yet */
        network->lower_method = "none";
        network->sound_claim = judge(network->claimed, 0, network->upper);
        lip__chain_close(&c);
        return LIP_OK;
    }
    if (!rc)
        rc = lip__chain_secant(&c, &network->lower, &single, err);
    if (!rc)
        rc = lip__chain_deviation(&c, network->input_norm, &network->deviation, err);
    if (!rc) {
        network->deviation = isfinite(network->deviation) ? lip__times_up(2, network->deviation) : NAN;
        if (network->lower > 0)
            network->tightness = network->upper / network->lower;
        network->sound_claim =
            judge_network(layers, *n, network->claimed, network->upper, network->lower, single);
    }
    lip__chain_close(&c);
    return rc;
}
