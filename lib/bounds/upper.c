/* upper.c: each method finds parts of a map of which it knows more than the product of their layers; the map's constant is then
 * the product with those shortcuts. */
#include "bounds/upper.h"

#include <string.h>

#include "bounds/liplt.h"
#include "bounds/lipsdp.h"
#include "bounds/rescaled.h"
#include "bounds/stack.h"

enum { WIDEST_SUMS = 2048, WIDEST_SHAPES = 1024 };

struct search {
    const struct lip__map *map;
    const double *constant;
    uint64_t deadline;
    double *pairs;
    lip_network_bound *network;
    bool *covered;                            /* by stage: of one method */
    struct lip__shortcut *cut[LIP_BOUND_METHODS]; /* room for all stages */
    size_t n[LIP_BOUND_METHODS];
    double *of;
};

static void add(struct search *s, lip_bound_method method, size_t from, size_t to, double constant)
{
    if (isfinite(constant))
        s->cut[method][s->n[method]++] = (struct lip__shortcut){from, to, constant};
}

/* A point in time that is a share of what is left from now; 0: no deadline. */
static uint64_t share_of_time(const struct search *s, uint64_t divisor)
{
    uint64_t now = lip__now_ns();

    return s->deadline > now ? now + (s->deadline - now) / divisor : s->deadline;
}

/* Lower and upper agree. */
static bool settled(const struct search *s)
{
    double upper = INFINITY;

    for (int m = 0; m < LIP_BOUND_METHODS; m++)
        upper = fmin(upper, s->network->by[m]); /* fmin drops a NAN */
    return s->network->lower * (1 + LIP_CLAIM_TOLERANCE) >= upper;
}

/* ---- each method ------------------------------------------------------------------------------------------------- */

static lip_err rescale(struct search *s, size_t stage, lip_error *err)
{
    size_t from;
    double upper;
    bool complete, enough = settled(s);
    lip_err rc = lip__rescaled(s->map, stage, s->covered, enough ? 1 : share_of_time(s, 4), &from, &upper, &complete, err);

    s->network->complete = s->network->complete && (complete || enough);
    if (!rc && from != LIP__NOWHERE)
        add(s, LIP_RESCALED, from, s->map->stage[stage].value, upper);
    return rc;
}

static lip_err sum_chain(struct search *s, size_t stage, lip_error *err)
{
    struct lip__chain chain;
    double upper;
    lip_err rc = lip__chain_open(s->map, s->map->stage[stage].value, WIDEST_SUMS, s->covered, &chain, err);

    if (!rc && chain.n_links && !(rc = lip__liplt(&chain, &upper, err)))
        add(s, LIP_LIPLT, chain.start, s->map->stage[stage].value, upper);
    lip__chain_close(&chain);
    return rc;
}

static lip_err sum_stack(struct search *s, size_t stage, lip_error *err)
{
    struct lip__stack stack;
    double upper;
    bool complete;
    lip_err rc = lip__stack_open(s->map, stage, s->covered, &stack, err);

    if (!rc && stack.n > 1 && !(rc = lip__stack_sums(&stack, share_of_time(s, 4), &upper, &complete, err))) {
        s->network->complete = s->network->complete && complete;
        add(s, LIP_LIPLT, stack.from, stack.to, upper);
    }
    lip__stack_close(&stack);
    return rc;
}

static lip_err liplt(struct search *s, size_t stage, lip_error *err)
{
    return s->map->stage[stage].kind == LIP__STAGE_CONV ? sum_stack(s, stage, err) : sum_chain(s, stage, err);
}

static lip_err fourier(struct search *s, size_t stage, lip_error *err)
{
    struct lip__stack stack;
    double upper;
    bool complete;
    lip_err rc = LIP_OK;

    if (s->map->stage[stage].kind != LIP__STAGE_CONV)
        return LIP_OK;
    rc = lip__stack_open(s->map, stage, s->covered, &stack, err);
    if (!rc && stack.n > 1 && !(rc = lip__stack_fourier(&stack, share_of_time(s, 2), &upper, &complete, err))) {
        s->network->complete = s->network->complete && complete;
        add(s, LIP_FOURIER, stack.from, stack.to, upper);
    }
    lip__stack_close(&stack);
    return rc;
}

/* Constants of pairs of outputs from a shape of theirs (n, n). */
static void lower_pairs(double *pairs, size_t n, const double *q, double base)
{
    for (size_t i = 0; i < n * n; i++)
        if (i / n != i % n || n == 1)
            pairs[i] = fmin(pairs[i], lip__times_up(base, lip__shape_pair(n, q, i / n, i % n)));
}

/* With the multipliers of one pass, then with those of a descent. */
static lip_err shape_chain(struct search *s, const struct lip__chain *chain, size_t to, lip_error *err)
{
    size_t n = chain->link[chain->n_links - 1].n;
    double *gram = lip__alloc(chain->n, chain->n * sizeof *gram), *q = lip__alloc(n, n * sizeof *q), best = INFINITY;
    bool found = true, complete, last = s->map->n_outputs == 1 && s->map->output[0] == to;
    lip_err rc = gram && q ? LIP_OK : lip__nomem(err, (chain->n * chain->n + n * n) * sizeof *q);

    if (!rc)
        lip__shape_first(chain, gram);
    for (int descend = 0; !rc && found && descend < 2 && !(descend && settled(s)); descend++) {
        lip_interval norm;

        rc = lip__lipsdp(chain, gram, descend ? share_of_time(s, 2) : 1, q, &found, &complete, err);
        if (rc || !found || (rc = lip__enclose(q, n, n, &norm, NULL, err)))
            break;
        best = fmin(best, lip__up(sqrt(norm.upper)));
        s->network->complete = s->network->complete && complete;
        if (s->pairs && last && isfinite(s->constant[chain->start]))
            lower_pairs(s->pairs, n, q, s->constant[chain->start]);
    }
    if (!rc)
        add(s, LIP_LIPSDP, chain->start, to, best);
    lip__free(q);
    lip__free(gram);
    return rc;
}

static lip_err lipsdp(struct search *s, size_t stage, lip_error *err)
{
    size_t to = s->map->stage[stage].value;
    struct lip__chain chain;
    lip_err rc = lip__chain_open(s->map, to, WIDEST_SHAPES, s->covered, &chain, err);

    if (!rc && chain.n_links)
        rc = shape_chain(s, &chain, to, err);
    lip__chain_close(&chain);
    return rc;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

/* One method on every linear step that none of its longer parts has had. */
static lip_err apply(struct search *s, lip_bound_method method, lip_err (*part)(struct search *, size_t, lip_error *), lip_error *err)
{
    lip_err rc = LIP_OK;

    memset(s->covered, 0, s->map->n * sizeof *s->covered);
    for (size_t i = s->map->n; !rc && i-- > 0;) {
        enum lip__shape_of kind = s->map->stage[i].kind;

        if (!s->covered[i] && (kind == LIP__STAGE_MATRIX || kind == LIP__STAGE_CONV || kind == LIP__STAGE_ADJOINT))
            rc = part(s, i, err);
    }
    if (!rc && s->n[method])
        s->network->by[method] = lip__map_shortened(s->map, s->cut[method], s->n[method], s->of);
    return rc;
}

/* What all of them together say, where that is less than what the best one does, is its own: of other parts of the map others may
 * know more. */
static lip_err combine(struct search *s, lip_error *err)
{
    struct lip__shortcut *all = lip__alloc(s->map->n, LIP_BOUND_METHODS * sizeof *all);
    size_t n = 0;
    int best = LIP_PRODUCT;
    double together;

    if (!all)
        return lip__nomem(err, s->map->n * LIP_BOUND_METHODS * sizeof *all);
    for (int m = 0; m < LIP_BOUND_METHODS; m++) {
        memcpy(all + n, s->cut[m], s->n[m] * sizeof *all);
        n += s->n[m];
        if (s->network->by[m] < s->network->by[best])
            best = m;
    }
    together = lip__map_shortened(s->map, all, n, s->of);
    if (best != LIP_PRODUCT && together < s->network->by[best])
        s->network->by[best] = together;
    lip__free(all);
    return LIP_OK;
}

lip_err lip__upper(const struct lip__map *map, const double *constant, unsigned methods, uint64_t deadline, double *pairs,
                   lip_network_bound *network, lip_error *err)
{
    static const struct {
        lip_bound_method method;
        lip_err (*part)(struct search *, size_t, lip_error *);
    } order[] = {{LIP_RESCALED, rescale}, {LIP_LIPLT, liplt}, {LIP_FOURIER, fourier}, {LIP_LIPSDP, lipsdp}};
    struct search s = {.map = map, .constant = constant, .deadline = deadline, .pairs = pairs, .network = network};
    lip_err rc = LIP_OK;

    if (map->n == 0)
        return LIP_OK;
    s.covered = lip__alloc(map->n, sizeof *s.covered);
    s.of = lip__alloc(map->snapshot->model->n_values, sizeof *s.of);
    s.cut[0] = lip__alloc(map->n, LIP_BOUND_METHODS * sizeof *s.cut[0]);
    for (int m = 1; s.cut[0] && m < LIP_BOUND_METHODS; m++)
        s.cut[m] = s.cut[0] + (size_t)m * map->n;
    if (!s.covered || !s.of || !s.cut[0])
        rc = lip__nomem(err, map->n * LIP_BOUND_METHODS * sizeof *s.cut[0]);
    for (size_t i = 0; !rc && i < sizeof order / sizeof *order; i++)
        if (methods & 1u << order[i].method)
            rc = apply(&s, order[i].method, order[i].part, err);
    if (!rc)
        rc = combine(&s, err);
    lip__free(s.cut[0]);
    lip__free(s.of);
    lip__free(s.covered);
    return rc;
}
