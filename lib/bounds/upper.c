/* upper.c: each method finds parts of a map of which it knows more than the product of their layers; the map's constant
 * is then the product with those shortcuts. */
#include "bounds/upper.h"

#include <string.h>

#include "bounds/liplt.h"
#include "bounds/lipsdp.h"
#include "bounds/rescaled.h"
#include "bounds/stack.h"

enum { WIDEST_SUMS = 2048, WIDEST_SHAPES = 1024 };

struct search {
    const struct lip__map *map;
    const struct lip__limit *limit; /* NULL: what costs little only */
    double *of;                     /* constants of all values by all that is known so far */
    struct lip__head *head;         /* NULL: not wanted */
    lip_network_bound *network;
    bool *covered;                                /* by stage: of one method */
    bool *spared;                                 /* by stage: left to shapes, where operations are counted */
    struct lip__shortcut *cut[LIP_BOUND_METHODS]; /* room for all stages */
    size_t n[LIP_BOUND_METHODS];
    double *scratch; /* as of */
};

static void add(struct search *s, lip_bound_method method, size_t from, size_t to, double constant)
{
    if (isfinite(constant))
        s->cut[method][s->n[method]++] = (struct lip__shortcut){from, to, constant};
}

/* A share of the time that is left. */
static struct lip__limit time_of(const struct search *s, double share)
{
    return (struct lip__limit){lip__part_of(s->limit->deadline, share), s->limit->flops};
}

/* Lower and upper agree. */
static bool settled(const struct search *s)
{
    double upper = INFINITY;

    for (int m = 0; m < LIP_BOUND_METHODS; m++)
        upper = fmin(upper, s->network->by[m]); /* fmin drops a NAN */
    return s->network->lower * (1 + LIP_CLAIM_TOLERANCE) >= upper;
}

/* The head, where this stage makes the outputs. */
static struct lip__head *head_of(const struct search *s, size_t stage)
{
    return s->map->n_outputs == 1 && s->map->output[0] == s->map->stage[stage].value ? s->head : NULL;
}

/* ---- each method ------------------------------------------------------------------------------------------------ */

static lip_err rescale(struct search *s, size_t stage, lip_error *err)
{
    struct lip__limit limit = time_of(s, 0.25);
    size_t from;
    double upper;
    bool complete, enough = settled(s);
    lip_err rc = lip__rescaled(s->map, stage, s->covered, enough ? NULL : &limit, s->of, head_of(s, stage), &from,
                               &upper, &complete, err);

    s->network->complete = s->network->complete && (complete || enough);
    if (!rc && from != LIP__NOWHERE)
        add(s, LIP_RESCALED, from, s->map->stage[stage].value, upper);
    return rc;
}

static lip_err sum_chain(struct search *s, size_t stage, lip_error *err)
{
    struct lip__limit limit = time_of(s, 0.25);
    struct lip__chain chain;
    double upper;
    bool complete = true;
    lip_err rc = lip__chain_open(s->map, s->map->stage[stage].value, WIDEST_SUMS, s->covered, &chain, err);

    if (!rc && chain.n_links &&
        !(rc = lip__liplt(&chain, &limit, head_of(s, stage), s->of[chain.start], &upper, &complete, err)))
        add(s, LIP_LIPLT, chain.start, s->map->stage[stage].value, upper);
    s->network->complete = s->network->complete && complete;
    lip__chain_close(&chain);
    return rc;
}

/* By one of the ways of stack.h. */
static lip_err whole_stack(struct search *s, size_t stage, lip_bound_method method, double share, lip_error *err)
{
    struct lip__limit limit = time_of(s, share);
    struct lip__stack stack;
    double upper;
    bool complete;
    lip_err rc = lip__stack_open(s->map, stage, s->covered, &stack, err);

    if (!rc && stack.n > 1 &&
        !(rc = (method == LIP_LIPLT ? lip__stack_sums : lip__stack_fourier)(&stack, &limit, &upper, &complete, err))) {
        s->network->complete = s->network->complete && complete;
        add(s, method, stack.from, stack.to, upper);
    }
    lip__stack_close(&stack);
    return rc;
}

static lip_err liplt(struct search *s, size_t stage, lip_error *err)
{
    return s->map->stage[stage].kind == LIP__STAGE_CONV ? whole_stack(s, stage, LIP_LIPLT, 0.25, err)
                                                        : sum_chain(s, stage, err);
}

static lip_err fourier(struct search *s, size_t stage, lip_error *err)
{
    return s->map->stage[stage].kind == LIP__STAGE_CONV ? whole_stack(s, stage, LIP_FOURIER, 0.5, err) : LIP_OK;
}

/* With the multipliers of one pass, then with those of a descent. */
static lip_err shape_chain(struct search *s, const struct lip__chain *chain, size_t stage, lip_error *err)
{
    size_t n = chain->link[chain->n_links - 1].n;
    double *gram = lip__alloc(chain->n, chain->n * sizeof *gram), *q = lip__alloc(n, n * sizeof *q), best = INFINITY;
    bool found = true, complete, descends = s->limit != NULL;
    struct lip__head *head = head_of(s, stage);
    lip_err rc = gram && q ? LIP_OK : lip__nomem(err, (chain->n * chain->n + n * n) * sizeof *q);

    if (!rc)
        lip__shape_first(chain, gram);
    for (int descend = 0; !rc && found && descend <= descends && !(descend && settled(s)); descend++) {
        struct lip__limit limit = descend ? time_of(s, 0.5) : (struct lip__limit){0};
        lip_interval norm;

        rc = lip__lipsdp(chain, gram, descend ? &limit : NULL, q, &found, &complete, err);
        if (rc || !found || (rc = lip__enclose(q, n, n, &norm, NULL, err)))
            break;
        best = fmin(best, lip__up(sqrt(norm.upper)));
        s->network->complete = s->network->complete && complete;
        if (head && isfinite(s->of[chain->start]))
            lip__head_shape(head, q, s->of[chain->start]);
    }
    if (!rc)
        add(s, LIP_LIPSDP, chain->start, s->map->stage[stage].value, best);
    lip__free(q);
    lip__free(gram);
    return rc;
}

static lip_err lipsdp(struct search *s, size_t stage, lip_error *err)
{
    struct lip__chain chain;
    lip_err rc = lip__chain_open(s->map, s->map->stage[stage].value, WIDEST_SHAPES, s->covered, &chain, err);
    double first = 2 * (double)chain.in * (double)chain.n * (double)chain.n; /* what nothing can interrupt */

    if (!rc && chain.n_links && s->limit && !lip__affordable(s->limit->deadline, first))
        s->network->complete = false;
    else if (!rc && chain.n_links)
        rc = shape_chain(s, &chain, stage, err);
    lip__chain_close(&chain);
    return rc;
}

static bool linear(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_MATRIX || s->kind == LIP__STAGE_CONV || s->kind == LIP__STAGE_ADJOINT;
}

/* Of dense layers one behind the other norms and sums of norms hardly ever tell more than shapes: where operations are
 * counted those that a chain has are spared. */
static lip_err spare(struct search *s, lip_error *err)
{
    lip_err rc = LIP_OK;

    for (size_t i = s->map->n; !rc && i-- > 0;) {
        struct lip__chain chain;

        if (!linear(&s->map->stage[i]) || s->spared[i])
            continue;
        rc = lip__chain_open(s->map, s->map->stage[i].value, WIDEST_SHAPES, s->spared, &chain, err);
        if (!rc && !chain.n_links)
            s->spared[i] = false;
        lip__chain_close(&chain);
    }
    return rc;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

/* One method on every linear step that none of its longer parts has had. */
static lip_err apply(struct search *s, lip_bound_method method, lip_err (*part)(struct search *, size_t, lip_error *),
                     lip_error *err)
{
    lip_err rc = LIP_OK;

    memset(s->covered, 0, s->map->n * sizeof *s->covered);
    for (size_t i = s->map->n; !rc && i-- > 0;) {
        if (linear(&s->map->stage[i]) && !s->covered[i] && (method == LIP_LIPSDP || !s->spared[i]))
            rc = part(s, i, err);
    }
    if (!rc && s->n[method])
        s->network->by[method] = lip__map_shortened(s->map, s->cut[method], s->n[method], s->scratch);
    return rc;
}

/* Constants of all values by all methods so far. */
static lip_err combine(struct search *s, double *together, lip_error *err)
{
    struct lip__shortcut *all = lip__alloc(s->map->n, LIP_BOUND_METHODS * sizeof *all);
    size_t n = 0;

    if (!all)
        return lip__nomem(err, s->map->n * LIP_BOUND_METHODS * sizeof *all);
    for (int m = 0; m < LIP_BOUND_METHODS; m++) {
        memcpy(all + n, s->cut[m], s->n[m] * sizeof *all);
        n += s->n[m];
    }
    *together = lip__map_shortened(s->map, all, n, s->of);
    lip__free(all);
    return LIP_OK;
}

/* What all of them together say, where that is less than what the best one does, is its own: of other parts of the map
 * others may know more. */
static void credit(lip_network_bound *network, double together)
{
    int best = LIP_PRODUCT;

    for (int m = 0; m < LIP_BOUND_METHODS; m++)
        if (network->by[m] < network->by[best])
            best = m;
    if (best != LIP_PRODUCT && together < network->by[best])
        network->by[best] = together;
}

lip_err lip__upper(const struct lip__map *map, unsigned methods, const struct lip__limit *limit, double *of,
                   struct lip__head *head, lip_network_bound *network, lip_error *err)
{
    static const struct {
        lip_bound_method method;
        lip_err (*part)(struct search *, size_t, lip_error *);
    } order[] = {{LIP_FOURIER, fourier}, {LIP_RESCALED, rescale}, {LIP_LIPLT, liplt}, {LIP_LIPSDP, lipsdp}};
    struct search s = {.map = map, .limit = limit, .of = of, .head = head, .network = network};
    double together = INFINITY;
    lip_err rc = LIP_OK;

    if (map->n == 0)
        return LIP_OK;
    s.covered = lip__alloc(map->n, sizeof *s.covered);
    s.spared = lip__alloc(map->n, sizeof *s.spared);
    s.scratch = lip__alloc(map->snapshot->model->n_values, sizeof *s.scratch);
    s.cut[0] = lip__alloc(map->n, LIP_BOUND_METHODS * sizeof *s.cut[0]);
    for (int m = 1; s.cut[0] && m < LIP_BOUND_METHODS; m++)
        s.cut[m] = s.cut[0] + (size_t)m * map->n;
    if (!s.covered || !s.spared || !s.scratch || !s.cut[0])
        rc = lip__nomem(err, map->n * LIP_BOUND_METHODS * sizeof *s.cut[0]);
    if (!rc && limit && limit->flops > 0)
        rc = spare(&s, err);
    for (size_t i = 0; !rc && i < sizeof order / sizeof *order; i++)
        if ((methods & 1u << order[i].method) && (limit || order[i].method == LIP_LIPSDP)) {
            rc = apply(&s, order[i].method, order[i].part, err);
            if (!rc)
                rc = combine(&s, &together, err);
        }
    if (!rc)
        credit(network, together);
    if (!rc && head)
        lip__head_multiply(map, of, head);
    lip__free(s.cut[0]);
    lip__free(s.scratch);
    lip__free(s.spared);
    lip__free(s.covered);
    return rc;
}
