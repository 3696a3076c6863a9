/* descent.c: multipliers by descent.
 *
 * With L = s^2 the value g'Q'g behind a link is, with p = diag(a + alpha b) M g, w = diag(delta b) M g,
 * y = N^-1 (s (Q p)_U + w / s) and e = p + s y in front of it, e'Q e + …, so g becomes e, and
 *
 *     d g'Q'g / d log L_i = 2 s_i y_i ((Q e)_i - y_i / s_i).
 *
 * Steps are Adam's; where N loses its factor the step is halved towards the best so far. What stands still behind a
 * link is left out of all matrices, in the proof, too: the links' parts are those of the numbers that move on. Source:
 * certify.md C3 and C4.
 */
#include "bounds/descent.h"

#include <string.h>

#include "bounds/factor.h"
#include "tensor/gemm.h"

#define RATE      0.1
#define PAIR_RATE 0.2  /* of few steps for one pair: it has to get on */
#define LEAST     1e-3 /* rate that still moves something */

struct lip__descent_layer {
    const struct lip__link *link;
    double *alpha, *delta;             /* of all its numbers */
    double *l, *best;                  /* log L of all; NAN where it has none */
    size_t *row, *u, n_u;              /* numbers that move on; among those the ones with delta > 0 */
    struct lip__link part;             /* of those rows and the next one's, of the last layer all columns */
    size_t m, n;                       /* rows of it, columns that are looked at */
    const double *matrix;              /* (m, n) */
    double *v, *q, *t, *c, *h;         /* diag(a + alpha b) M, Q (m, m), Q V, N's factor (u, u), C^-1 H (u, n) */
    double *gradient, *first, *second; /* n_u each: Adam's, too */
};

static bool layer_open(const struct lip__link *link, struct lip__descent_layer *l)
{
    size_t m = link->m, n = link->n;
    double **rows[] = {&l->alpha, &l->delta,  &l->l,      &l->best,  &l->gradient,
                       &l->first, &l->second, &l->part.a, &l->part.b};
    double **wide[] = {&l->part.matrix, &l->v, &l->t, &l->h}, **square[] = {&l->q, &l->c};
    bool whole = true;

    l->link = link;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        whole = (*rows[i] = lip__alloc(m, sizeof(double))) && whole;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        whole = (*wide[i] = lip__alloc(m, n * sizeof(double))) && whole;
    for (size_t i = 0; i < sizeof square / sizeof *square; i++)
        whole = (*square[i] = lip__alloc(m, m * sizeof(double))) && whole;
    whole = (l->row = lip__alloc(m, sizeof *l->row)) && whole;
    whole = (l->u = lip__alloc(m, sizeof *l->u)) && whole;
    return whole;
}

static void layer_close(struct lip__descent_layer *l)
{
    double *all[] = {l->alpha,  l->delta,       l->l, l->best, l->gradient, l->first, l->second, l->part.a,
                     l->part.b, l->part.matrix, l->v, l->t,    l->h,        l->q,     l->c};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lip__free(all[i]);
    lip__free(l->u);
    lip__free(l->row);
}

lip_err lip__descent_open(const struct lip__chain *c, const double *gram, struct lip__descent *d, lip_error *err)
{
    size_t widest = lip__chain_widest(c), n = c->n_links ? c->link[c->n_links - 1].n : 0;
    double **rows[] = {&d->g, &d->p, &d->e, &d->y, &d->column};
    bool whole;

    *d = (struct lip__descent){.chain = c, .gram = gram};
    d->layer = lip__alloc(c->n_links, sizeof *d->layer);
    whole = d->layer != NULL;
    for (size_t k = 0; whole && k < c->n_links; k++)
        whole = layer_open(&c->link[k], &d->layer[k]);
    whole = (d->base = lip__alloc(c->n_links ? c->link[0].n : 0, (c->n_links ? c->link[0].n : 0) * sizeof(double))) &&
            whole;
    whole = (d->last = lip__alloc(n, n * sizeof(double))) && whole;
    whole = (d->vectors = lip__alloc(n, n * sizeof(double))) && whole;
    whole = (d->values = lip__alloc(n, sizeof(double))) && whole;
    whole = (d->work = lip__alloc(lip__eigen_work(n), sizeof(double))) && whole;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        whole = (*rows[i] = lip__alloc(widest, sizeof(double))) && whole;
    return whole ? LIP_OK : lip__nomem(err, 6 * widest * widest * sizeof(double));
}

void lip__descent_close(struct lip__descent *d)
{
    double *all[] = {d->base, d->last, d->vectors, d->values, d->work, d->g, d->p, d->e, d->y, d->column};

    for (size_t k = 0; d->layer && k < d->chain->n_links; k++)
        layer_close(&d->layer[k]);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lip__free(all[i]);
    lip__free(d->layer);
}

void lip__descent_forget(struct lip__descent *d)
{
    for (size_t k = 0; k < d->chain->n_links; k++)
        for (size_t i = 0; i < d->chain->link[k].m; i++)
            d->layer[k].best[i] = NAN;
}

void lip__descent_take(struct lip__descent *d, size_t k, const struct lip__shape *s, bool fresh)
{
    struct lip__descent_layer *l = &d->layer[k];

    for (size_t i = 0; i < l->link->m; i++) {
        l->alpha[i] = s->alpha[i];
        l->delta[i] = s->delta[i];
        if (s->delta[i] > 0 && (fresh || isnan(l->best[i])))
            l->best[i] = 2 * log(s->s[i]);
    }
}

/* ---- numbers that move on --------------------------------------------------------------------------------------- */

static void choose_rows(struct lip__descent_layer *l)
{
    const struct lip__link *link = l->link;

    l->m = l->n_u = 0;
    for (size_t i = 0; i < link->m; i++) {
        if (l->delta[i] > 0)
            l->u[l->n_u++] = l->m;
        if (l->delta[i] > 0 || link->a[i] + l->alpha[i] * link->b[i] != 0) {
            l->part.a[l->m] = link->a[i];
            l->part.b[l->m] = link->b[i];
            l->row[l->m++] = i;
        }
    }
}

/* next: NULL of the last. */
static void choose_columns(struct lip__descent_layer *l, const struct lip__descent_layer *next)
{
    const struct lip__link *link = l->link;
    double *to = l->part.matrix;

    l->part.m = l->m;
    l->part.n = next ? next->m : link->n;
    l->part.off = link->off;
    for (size_t i = 0; i < l->m; i++) {
        const double *from = link->matrix + l->row[i] * link->n;

        for (size_t j = 0; j < l->part.n; j++)
            *to++ = from[next ? next->row[j] : j];
    }
}

/* Every layer's part, the last one's matrix behind `direction` where there is one. */
static void gather(struct lip__descent *d, const double *direction)
{
    size_t links = d->chain->n_links, m;

    for (size_t k = 0; k < links; k++)
        choose_rows(&d->layer[k]);
    for (size_t k = 0; k < links; k++) {
        struct lip__descent_layer *l = &d->layer[k];

        choose_columns(l, k + 1 < links ? l + 1 : NULL);
        l->matrix = l->part.matrix;
        l->n = l->part.n;
        if (k + 1 == links && direction) {
            lip__dgemm(false, false, l->m, 1, l->n, 1, l->matrix, l->n, direction, 1, 0, d->column, 1);
            l->matrix = d->column;
            l->n = 1;
        }
        for (size_t i = 0; i < l->m; i++) {
            double slope = l->part.a[i] + l->alpha[l->row[i]] * l->part.b[i];

            for (size_t j = 0; j < l->n; j++)
                l->v[i * l->n + j] = slope * l->matrix[i * l->n + j];
        }
    }
    m = d->layer->m;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < m; j++)
            d->layer->q[i * m + j] = d->gram[d->layer->row[i] * d->chain->n + d->layer->row[j]];
}

/* ---- values and gradients --------------------------------------------------------------------------------------- */

/* t = Q V, to = V'Q V. */
static void through(const struct lip__descent_layer *l, double *to)
{
    lip__dgemm(false, false, l->m, l->n, l->m, 1, l->q, l->m, l->v, l->n, 0, l->t, l->n);
    lip__dgemm(true, false, l->n, l->n, l->m, 1, l->v, l->n, l->t, l->n, 0, to, l->n);
}

/* log L, and s, of the i-th of those in U. */
static double *log_of(struct lip__descent_layer *l, size_t i)
{
    return &l->l[l->row[l->u[i]]];
}

static double root_of(struct lip__descent_layer *l, size_t i)
{
    return exp(*log_of(l, i) / 2);
}

/* next += what U adds. false: N has no factor. */
static bool add_moving(struct lip__descent_layer *l, double *s, double *next)
{
    size_t n = l->n;

    for (size_t i = 0; i < l->n_u; i++)
        s[i] = root_of(l, i);
    for (size_t i = 0; i < l->n_u; i++) {
        size_t row = l->u[i];
        double w = l->delta[l->row[row]] * l->part.b[row] / s[i];

        for (size_t j = 0; j < n; j++)
            l->h[i * n + j] = s[i] * l->t[row * n + j] + w * l->matrix[row * n + j];
        for (size_t j = 0; j <= i; j++)
            l->c[i * l->n_u + j] = (i == j ? 2 : 0) - s[i] * l->q[row * l->m + l->u[j]] * s[j];
    }
    if (!lip__cholesky(l->n_u, l->c))
        return false;
    lip__substitute(l->n_u, n, l->c, l->h, false);
    lip__dgemm(true, false, n, n, l->n_u, 1, l->h, n, l->h, n, 1, next, n);
    return true;
}

/* log of the value, its vector in g; INFINITY. base: V'Q V of the first layer, and its t. */
static double forward(struct lip__descent *d, bool direction)
{
    size_t links = d->chain->n_links, n = d->layer[links - 1].n;
    double value;

    for (size_t k = 0; k < links; k++) {
        struct lip__descent_layer *l = &d->layer[k];
        double *next = k + 1 < links ? d->layer[k + 1].q : d->last;

        if (k)
            through(l, next);
        else
            memcpy(next, d->base, l->n * l->n * sizeof *next);
        if (!add_moving(l, d->y, next))
            return INFINITY;
    }
    if (direction) {
        d->g[0] = 1;
        value = d->last[0];
    } else {
        memcpy(d->vectors, d->last, n * n * sizeof *d->last);
        if (lip__eigen_in(n, d->vectors, d->values, d->work))
            return INFINITY;
        memcpy(d->g, d->vectors + (n - 1) * n, n * sizeof *d->g);
        value = d->values[n - 1];
    }
    return value > 0 ? log(value) : INFINITY;
}

static void backward(struct lip__descent *d, double value)
{
    for (size_t k = d->chain->n_links; k-- > 0;) {
        struct lip__descent_layer *l = &d->layer[k];
        size_t m = l->m, n = l->n;

        lip__dgemm(false, false, m, 1, n, 1, l->v, n, d->g, 1, 0, d->e, 1);
        lip__dgemm(false, false, l->n_u, 1, n, 1, l->h, n, d->g, 1, 0, d->y, 1); /* C^-1 H g */
        lip__substitute(l->n_u, 1, l->c, d->y, true);
        for (size_t i = 0; i < l->n_u; i++)
            d->e[l->u[i]] += root_of(l, i) * d->y[i];
        lip__dgemm(false, false, m, 1, m, 1, l->q, m, d->e, 1, 0, d->p, 1); /* Q e */
        for (size_t i = 0; i < l->n_u; i++) {
            double s = root_of(l, i);

            l->gradient[i] = 2 * s * d->y[i] * (d->p[l->u[i]] - d->y[i] / s) / exp(value);
        }
        memcpy(d->g, d->e, m * sizeof *d->g);
    }
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static void step(struct lip__descent *d, size_t count, double rate)
{
    double c1 = 1 - pow(0.9, (double)count), c2 = 1 - pow(0.99, (double)count);

    for (size_t k = 0; k < d->chain->n_links; k++) {
        struct lip__descent_layer *l = &d->layer[k];

        for (size_t i = 0; i < l->n_u; i++) {
            l->first[i] += 0.1 * (l->gradient[i] - l->first[i]);
            l->second[i] += 0.01 * (l->gradient[i] * l->gradient[i] - l->second[i]);
            *log_of(l, i) -= rate * l->first[i] / c1 / (sqrt(l->second[i] / c2) + 1e-12);
        }
    }
}

/* l between the best and where it is: half way. */
static void retreat(struct lip__descent *d)
{
    for (size_t k = 0; k < d->chain->n_links; k++)
        for (size_t i = 0; i < d->chain->link[k].m; i++)
            d->layer[k].l[i] = (d->layer[k].l[i] + d->layer[k].best[i]) / 2;
}

static void copy(const struct lip__descent *d, bool keep)
{
    for (size_t k = 0; k < d->chain->n_links; k++) {
        const struct lip__descent_layer *l = &d->layer[k];

        memcpy(keep ? l->best : l->l, keep ? l->l : l->best, l->link->m * sizeof *l->l);
    }
}

bool lip__descend(struct lip__descent *d, const double *direction, size_t steps, uint64_t deadline)
{
    double best, rate = direction ? PAIR_RATE : RATE, value;
    int since = 0;

    gather(d, direction);
    for (size_t k = 0; k < d->chain->n_links; k++) {
        memset(d->layer[k].first, 0, d->layer[k].n_u * sizeof(double));
        memset(d->layer[k].second, 0, d->layer[k].n_u * sizeof(double));
    }
    through(d->layer, d->base);
    copy(d, false);
    value = best = forward(d, direction);
    for (size_t count = 1; isfinite(value) && count <= steps && rate > LEAST; count++) {
        if (lip__late(deadline))
            return false;
        backward(d, value);
        step(d, count, rate);
        value = forward(d, direction);
        for (int tries = 0; !isfinite(value) && tries < 20; tries++) {
            retreat(d);
            value = forward(d, direction);
        }
        since = value < best - 1e-4 ? 0 : since + 1;
        if (value < best) {
            best = value;
            copy(d, true);
        }
        if (since >= 8) {
            rate /= 2;
            since = 0;
        }
    }
    return isfinite(best);
}

bool lip__descent_prove(const struct lip__descent *d, uint64_t deadline, struct lip__shape *s)
{
    bool proved = false;

    for (double shrink = 1; !proved && shrink > 0.9 && !(shrink < 1 && lip__late(deadline)); shrink -= 0.01) {
        memcpy(s->q, d->layer->q, d->layer->m * d->layer->m * sizeof *s->q);
        proved = true;
        for (size_t k = 0; proved && k < d->chain->n_links; k++) {
            const struct lip__descent_layer *l = &d->layer[k];

            for (size_t i = 0; i < l->m; i++) {
                s->alpha[i] = l->alpha[l->row[i]];
                s->delta[i] = l->delta[l->row[i]];
                s->s[i] = s->delta[i] > 0 ? shrink * exp(l->best[l->row[i]] / 2) : 1;
            }
            proved = lip__shape_advance(&l->part, s, true);
        }
    }
    return proved;
}
