/* chain.c: from steps of a model to chain.h's form. */
#include "bounds/chain.h"

#include <string.h>

/* ---- which steps -------------------------------------------------------------------------------------------- */

static const struct lip__stage *maker(const struct lip__map *map, size_t value)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].value == value)
            return &map->stage[i];
    return NULL;
}

static bool is_matrix(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_MATRIX && s->rows == 1;
}

static bool activates(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_RELU || s->kind == LIP__STAGE_SCALAR || s->kind == LIP__STAGE_COPY ||
           (s->kind == LIP__STAGE_SORT && s->group == 2) ||
           (s->kind == LIP__STAGE_MAX_MIN && s->in == s->layer->in.dim[s->layer->in.rank - 1]);
}

/* Steps from value `end` back, as far as they fit: matrices with at most one activation in front of each. Returns how many, in
 * order; the first and the last are matrices. */
static size_t walk(const struct lip__map *map, size_t end, size_t widest, const struct lip__stage **step, size_t most)
{
    const struct lip__stage *s = maker(map, end);
    size_t n = 0, skip = 0;

    while (s && n < most && s->out <= widest && (is_matrix(s) || activates(s))) {
        if (s->kind != LIP__STAGE_COPY) {
            if (n == 0 ? !is_matrix(s) : !is_matrix(s) && !is_matrix(step[n - 1]))
                break;
            step[n++] = s;
        }
        s = maker(map, s->from[0]);
    }
    for (size_t i = 0; i < n / 2; i++) {
        const struct lip__stage *swap = step[i];

        step[i] = step[n - 1 - i];
        step[n - 1 - i] = swap;
    }
    if (n && !is_matrix(step[0])) /* an activation in front of all matrices has nothing to read */
        skip = 1;
    memmove(step, step + skip, (n - skip) * sizeof *step);
    return n - skip;
}

/* ---- their form ----------------------------------------------------------------------------------------------- */

static enum lip__basis basis_of(const struct lip__stage *activation)
{
    return !activation                               ? LIP__PLAIN
           : activation->kind == LIP__STAGE_SORT     ? LIP__PAIRS
           : activation->kind == LIP__STAGE_MAX_MIN ? LIP__TWICE
                                                     : LIP__PLAIN;
}

static size_t width(enum lip__basis basis, size_t n)
{
    return basis == LIP__TWICE ? 2 * n : n;
}

/* Columns of w (m, n) in a basis: to (m, width). */
static void change_columns(enum lip__basis basis, size_t m, size_t n, const double *w, double *to)
{
    size_t wide = width(basis, n);

    for (size_t i = 0; i < m; i++, w += n, to += wide)
        for (size_t j = 0; j < n; j++) {
            if (basis == LIP__PAIRS)
                to[j] = j % 2 ? w[j] - w[j - 1] : w[j] + w[j + 1];
            else
                to[j] = w[j];
            if (basis == LIP__TWICE)
                to[n + j] = w[j];
        }
}

/* Rows of w (outputs of the activation, n) as those of psi's numbers: to (width, n). PAIRS: the halves. TWICE: as they are, as
 * the second number is the negative part. */
static void change_rows(enum lip__basis basis, double k, size_t m, size_t n, const double *w, double *to)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double here = w[i * n + j];

            if (basis == LIP__PAIRS && i % 2)
                to[i * n + j] = k * (here - w[(i - 1) * n + j]) / 2;
            else if (basis == LIP__PAIRS)
                to[i * n + j] = k * (here + w[(i + 1) * n + j]) / 2;
            else
                to[i * n + j] = k * here;
        }
}

/* phi of each number. */
static void functions(const struct lip__stage *s, struct lip__link *link)
{
    link->known = true;
    for (size_t i = 0; i < link->m; i++) {
        if (!s) { /* two matrices in a row */
            link->a[i] = 1;
            link->b[i] = 0;
        } else if (s->kind == LIP__STAGE_SORT) { /* the sum as it is, the difference's absolute value */
            link->a[i] = i % 2 ? -1 : 1;
            link->b[i] = i % 2 ? 2 : 0;
        } else if (s->kind == LIP__STAGE_MAX_MIN) {
            link->a[i] = i < link->m / 2 ? 0 : -1;
            link->b[i] = 1;
        } else if (s->kind == LIP__STAGE_RELU && isnan(s->most)) {
            link->a[i] = s->kernel ? s->kernel[i] : s->slope;
            link->b[i] = 1 - link->a[i];
        } else {
            link->a[i] = s->least;
            link->b[i] = lip__up(s->steepest - s->least);
            link->known = false;
        }
    }
}

static lip_err open_link(const struct lip__stage *activation, const struct lip__stage *matrix, enum lip__basis next,
                         struct lip__link *link, lip_error *err)
{
    size_t rows = matrix->m, n = matrix->n;
    double k = activation && (activation->kind == LIP__STAGE_SORT || activation->kind == LIP__STAGE_MAX_MIN)
                   ? activation->layer->k
                   : 1;
    double *turned = lip__alloc(rows * n, sizeof *turned);

    link->basis = basis_of(activation);
    link->m = rows; /* of MaxMin the outputs are as many as the numbers that stand there twice */
    link->n = width(next, n);
    link->value = activation ? activation->from[0] : matrix->from[0];
    link->matrix = lip__alloc(link->m * link->n, sizeof *link->matrix);
    link->a = lip__alloc(link->m, sizeof *link->a);
    link->b = lip__alloc(link->m, sizeof *link->b);
    if (!turned || !link->matrix || !link->a || !link->b) {
        lip__free(turned);
        return lip__nomem(err, link->m * link->n * sizeof *link->matrix);
    }
    functions(activation, link);
    change_rows(link->basis, k, rows, n, matrix->kernel, turned);
    change_columns(next, rows, n, turned, link->matrix);
    /* At most 5 roundings of sums that are each at most k times four entries. */
    link->off = 32 * LIP__U * (1 + fabs(k)) * lip__norm_up(matrix->kernel, rows * n);
    lip__free(turned);
    return LIP_OK;
}

static lip_err fill(const struct lip__stage *const *step, size_t n, struct lip__chain *c, lip_error *err)
{
    size_t at = 1;
    enum lip__basis basis = basis_of(n > 1 && !is_matrix(step[1]) ? step[1] : NULL);
    lip_err rc = LIP_OK;

    c->start = step[0]->from[0];
    c->in = step[0]->m;
    c->n = width(basis, step[0]->n);
    c->first = lip__alloc(c->in * c->n, sizeof *c->first);
    c->link = lip__alloc(n, sizeof *c->link);
    if (!c->first || !c->link)
        return lip__nomem(err, c->in * c->n * sizeof *c->first);
    change_columns(basis, c->in, step[0]->n, step[0]->kernel, c->first);
    c->off = 8 * LIP__U * lip__norm_up(step[0]->kernel, step[0]->m * step[0]->n);
    while (!rc && at < n) {
        const struct lip__stage *activation = is_matrix(step[at]) ? NULL : step[at++];
        enum lip__basis next = basis_of(at + 1 < n && !is_matrix(step[at + 1]) ? step[at + 1] : NULL);

        rc = open_link(activation, step[at++], next, &c->link[c->n_links++], err);
    }
    return rc;
}

lip_err lip__chain_open(const struct lip__map *map, size_t end, size_t widest, bool *covered, struct lip__chain *chain,
                        lip_error *err)
{
    const struct lip__stage **step;
    size_t n;
    lip_err rc = LIP_OK;

    *chain = (struct lip__chain){.start = LIP__NOWHERE};
    if (map->n == 0)
        return LIP_OK;
    step = lip__alloc(map->n, sizeof *step);
    if (!step)
        return lip__nomem(err, map->n * sizeof *step);
    n = walk(map, end, widest, step, map->n);
    for (size_t i = 0; covered && i < n; i++)
        covered[step[i] - map->stage] = true;
    if (n)
        rc = fill(step, n, chain, err);
    lip__free(step);
    return rc;
}

void lip__chain_close(struct lip__chain *c)
{
    for (size_t i = 0; i < c->n_links; i++) {
        lip__free(c->link[i].b);
        lip__free(c->link[i].a);
        lip__free(c->link[i].matrix);
    }
    lip__free(c->link);
    lip__free(c->first);
    *c = (struct lip__chain){.start = LIP__NOWHERE};
}

double lip__chain_centre(const struct lip__link *link, const double *value, double *z)
{
    size_t n = link->basis == LIP__TWICE ? link->m / 2 : link->m;

    change_columns(link->basis, 1, n, value, z);
    return link->basis == LIP__PAIRS ? 1.5 : 1; /* |d1| + |d2| <= sqrt(2) |d|, and a rounding */
}

size_t lip__chain_widest(const struct lip__chain *c)
{
    size_t most = c->n;

    for (size_t i = 0; i < c->n_links; i++)
        most = c->link[i].n > most ? c->link[i].n : most;
    return most;
}

double lip__chain_flops(const struct lip__chain *c)
{
    double sum = 0;

    for (size_t k = 0; k < c->n_links; k++) {
        double m = (double)c->link[k].m, n = (double)c->link[k].n;

        sum += 3 * m * m * n + m * m * m / 3 + 4 * m * n * n;
    }
    return sum;
}
