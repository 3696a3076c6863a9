/* lipsdp.c: multipliers by descent, in plain double; shape.c proves what comes out.
 *
 * With L = s^2 the largest eigenvalue of the last shape is g'Q'g for its eigenvector g. One link back, p = diag(a) M g, w = diag(b) M
 * g, y = N^-1 (s (Q p)_U + w / s) and e = p + s y, g'Q'g = e'Q e + …, so g becomes e, and
 *
 *     d g'Q'g / d log L_i = 2 s_i y_i ((Q e)_i - y_i / s_i).
 *
 * Steps are Adam's; where N loses its factor the step is halved towards the best so far. Source: certify.md C4.
 */
#include "bounds/lipsdp.h"

#include <string.h>

#include "bounds/factor.h"
#include "tensor/gemm.h"

enum { STEPS = 250 };
#define RATE  0.1
#define LEAST 1e-3 /* rate that still moves something */

/* One link of the forward pass. */
struct layer {
    const struct lip__link *link;
    double *q, *c, *h;          /* (m, m), its N's factor (u, u), C^-1 H (u, n) */
    size_t *u, n_u;
    double *l, *best, *gradient, *first, *second; /* m each: log L, and Adam's */
};

struct descent {
    const struct lip__chain *chain;
    const double *gram;
    struct layer *layer;
    double *last, *vectors, *values, *work, *t, *v, *g, *p, *e; /* the last shape; scratch */
};

static lip_err descent_open(const struct lip__chain *c, const double *gram, struct descent *d, lip_error *err)
{
    size_t widest = lip__chain_widest(c), n = c->n_links ? c->link[c->n_links - 1].n : 0;
    bool whole;

    *d = (struct descent){.chain = c, .gram = gram};
    d->layer = lip__alloc(c->n_links, sizeof *d->layer);
    whole = d->layer != NULL;
    for (size_t k = 0; whole && k < c->n_links; k++) {
        struct layer *l = &d->layer[k];
        size_t m = c->link[k].m;

        l->link = &c->link[k];
        whole = (l->q = lip__alloc(m, m * sizeof(double))) && (l->c = lip__alloc(m, m * sizeof(double))) &&
                (l->h = lip__alloc(m, l->link->n * sizeof(double))) && (l->u = lip__alloc(m, sizeof(size_t))) &&
                (l->l = lip__alloc(5 * m, sizeof(double)));
        if (!whole)
            break;
        l->best = l->l + m;
        l->gradient = l->best + m;
        l->first = l->gradient + m;
        l->second = l->first + m;
        for (size_t i = 0; i < m; i++)
            if (l->link->b[i] != 0)
                l->u[l->n_u++] = i;
    }
    whole = (d->last = lip__alloc(n, n * sizeof(double))) && whole;
    whole = (d->vectors = lip__alloc(n, n * sizeof(double))) && whole;
    whole = (d->values = lip__alloc(n, sizeof(double))) && whole;
    whole = (d->work = lip__alloc(lip__eigen_work(n), sizeof(double))) && whole;
    whole = (d->t = lip__alloc(widest, widest * sizeof(double))) && whole;
    whole = (d->v = lip__alloc(widest, widest * sizeof(double))) && whole;
    whole = (d->g = lip__alloc(3 * widest, sizeof(double))) && whole;
    d->p = d->g + widest;
    d->e = d->p + widest;
    return whole ? LIP_OK : lip__nomem(err, 2 * widest * widest * sizeof(double));
}

static void descent_close(struct descent *d)
{
    for (size_t k = 0; d->layer && k < d->chain->n_links; k++) {
        lip__free(d->layer[k].l);
        lip__free(d->layer[k].u);
        lip__free(d->layer[k].h);
        lip__free(d->layer[k].c);
        lip__free(d->layer[k].q);
    }
    lip__free(d->g);
    lip__free(d->v);
    lip__free(d->t);
    lip__free(d->work);
    lip__free(d->values);
    lip__free(d->vectors);
    lip__free(d->last);
    lip__free(d->layer);
}

/* h and c of a link from its q and l; then the next shape. false: N has no factor. */
static bool forward_link(struct descent *d, struct layer *l, double *next)
{
    const struct lip__link *link = l->link;
    size_t m = link->m, n = link->n;

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            d->v[i * n + j] = link->a[i] * link->matrix[i * n + j];
    lip__dgemm(false, false, m, n, m, 1, l->q, m, d->v, n, 0, d->t, n);
    for (size_t i = 0; i < l->n_u; i++) {
        size_t row = l->u[i];
        double s = exp(l->l[row] / 2);

        for (size_t j = 0; j < n; j++)
            l->h[i * n + j] = s * d->t[row * n + j] + link->b[row] / s * link->matrix[row * n + j];
        for (size_t j = 0; j <= i; j++)
            l->c[i * l->n_u + j] = (i == j ? 2 : 0) - s * l->q[row * m + l->u[j]] * exp(l->l[l->u[j]] / 2);
    }
    if (!lip__cholesky(l->n_u, l->c))
        return false;
    lip__substitute(l->n_u, n, l->c, l->h, false);
    lip__dgemm(true, false, n, n, m, 1, d->v, n, d->t, n, 0, next, n);
    lip__dgemm(true, false, n, n, l->n_u, 1, l->h, n, l->h, n, 1, next, n);
    return true;
}

/* log of the largest eigenvalue of the last shape, its vector in g; INFINITY. */
static double forward(struct descent *d)
{
    size_t links = d->chain->n_links, n = d->chain->link[links - 1].n;

    memcpy(d->layer[0].q, d->gram, d->chain->n * d->chain->n * sizeof *d->gram);
    for (size_t k = 0; k < links; k++)
        if (!forward_link(d, &d->layer[k], k + 1 < links ? d->layer[k + 1].q : d->last))
            return INFINITY;
    memcpy(d->vectors, d->last, n * n * sizeof *d->last);
    if (lip__eigen_in(n, d->vectors, d->values, d->work) || !(d->values[n - 1] > 0))
        return INFINITY;
    memcpy(d->g, d->vectors + (n - 1) * n, n * sizeof *d->g);
    return log(d->values[n - 1]);
}

static void backward(struct descent *d)
{
    double top = d->values[d->chain->link[d->chain->n_links - 1].n - 1];

    for (size_t k = d->chain->n_links; k-- > 0;) {
        struct layer *l = &d->layer[k];
        const struct lip__link *link = l->link;
        size_t m = link->m, n = link->n;
        double *y = d->t;

        /* p = M g, then e = diag(a) p + s y. */
        lip__dgemm(false, false, m, 1, n, 1, link->matrix, n, d->g, 1, 0, d->p, 1);
        lip__dgemm(false, false, l->n_u, 1, n, 1, l->h, n, d->g, 1, 0, y, 1); /* C^-1 H g */
        lip__substitute(l->n_u, 1, l->c, y, true);
        for (size_t i = 0; i < m; i++)
            d->e[i] = link->a[i] * d->p[i];
        for (size_t i = 0; i < l->n_u; i++)
            d->e[l->u[i]] += exp(l->l[l->u[i]] / 2) * y[i];
        lip__dgemm(false, false, m, 1, m, 1, l->q, m, d->e, 1, 0, d->p, 1); /* Q e */
        memset(l->gradient, 0, m * sizeof *l->gradient);
        for (size_t i = 0; i < l->n_u; i++) {
            double s = exp(l->l[l->u[i]] / 2);

            l->gradient[l->u[i]] = 2 * s * y[i] * (d->p[l->u[i]] - y[i] / s) / top;
        }
        memcpy(d->g, d->e, m * sizeof *d->g);
    }
}

static void step(struct descent *d, int count, double rate)
{
    double c1 = 1 - pow(0.9, count), c2 = 1 - pow(0.99, count);

    for (size_t k = 0; k < d->chain->n_links; k++) {
        struct layer *l = &d->layer[k];

        for (size_t i = 0; i < l->link->m; i++) {
            l->first[i] += 0.1 * (l->gradient[i] - l->first[i]);
            l->second[i] += 0.01 * (l->gradient[i] * l->gradient[i] - l->second[i]);
            l->l[i] -= rate * l->first[i] / c1 / (sqrt(l->second[i] / c2) + 1e-12);
        }
    }
}

/* l between the best and where it is: half way. */
static void retreat(struct descent *d)
{
    for (size_t k = 0; k < d->chain->n_links; k++)
        for (size_t i = 0; i < d->layer[k].link->m; i++)
            d->layer[k].l[i] = (d->layer[k].l[i] + d->layer[k].best[i]) / 2;
}

static void keep(struct descent *d)
{
    for (size_t k = 0; k < d->chain->n_links; k++)
        memcpy(d->layer[k].best, d->layer[k].l, d->layer[k].link->m * sizeof *d->layer[k].l);
}

/* Multipliers of one pass, as shape.c chooses them; their logarithms here. */
static bool begin(struct descent *d, struct lip__shape *s)
{
    memcpy(s->q, d->gram, d->chain->n * d->chain->n * sizeof *d->gram);
    for (size_t k = 0; k < d->chain->n_links; k++) {
        struct layer *l = &d->layer[k];

        lip__shape_global(l->link, s);
        if (!lip__shape_advance(l->link, s, false))
            return false;
        for (size_t i = 0; i < l->n_u; i++)
            l->l[l->u[i]] = l->best[l->u[i]] = 2 * log(s->s[l->u[i]]);
    }
    return true;
}

/* The proof with the best multipliers, times `shrink`. */
static bool prove(const struct descent *d, struct lip__shape *s, double shrink)
{
    memcpy(s->q, d->gram, d->chain->n * d->chain->n * sizeof *d->gram);
    for (size_t k = 0; k < d->chain->n_links; k++) {
        const struct layer *l = &d->layer[k];

        lip__shape_global(l->link, s);
        for (size_t i = 0; i < l->n_u; i++)
            s->s[l->u[i]] = shrink * exp(l->best[l->u[i]] / 2);
        if (!lip__shape_advance(l->link, s, true))
            return false;
    }
    return true;
}

/* Of one step, about. */
static double flops(const struct lip__chain *c)
{
    double sum = 0;

    for (size_t k = 0; k < c->n_links; k++) {
        double m = (double)c->link[k].m, n = (double)c->link[k].n;

        sum += 3 * m * m * n + m * m * m / 3 + 4 * m * n * n;
    }
    return sum;
}

static void descend(struct descent *d, const struct lip__limit *limit, bool *complete)
{
    size_t steps = lip__within(limit, flops(d->chain), STEPS), count;
    double best, rate = RATE, value;
    int since = 0;

    if (steps == 0)
        return;
    value = best = forward(d);
    keep(d);
    for (count = 1; count <= steps && rate > LEAST; count++) {
        if (lip__late(limit->deadline)) {
            *complete = false;
            return;
        }
        if (isfinite(value))
            backward(d);
        step(d, (int)count, rate);
        value = forward(d);
        for (int tries = 0; !isfinite(value) && tries < 20; tries++) {
            retreat(d);
            value = forward(d);
        }
        since = value < best - 1e-4 ? 0 : since + 1;
        if (value < best) {
            best = value;
            keep(d);
        }
        if (since >= 8) {
            rate /= 2;
            since = 0;
        }
    }
}

lip_err lip__lipsdp(const struct lip__chain *chain, const double *gram, const struct lip__limit *limit, double *q, bool *found,
                    bool *complete, lip_error *err)
{
    size_t n = chain->link[chain->n_links - 1].n;
    struct descent d;
    struct lip__shape s = {0};
    lip_err rc = descent_open(chain, gram, &d, err);

    *found = false;
    *complete = true;
    if (!rc)
        rc = lip__shape_open(lip__chain_widest(chain), &s, err);
    if (!rc && begin(&d, &s)) {
        *found = true;
        memcpy(q, s.q, n * n * sizeof *q);
        if (limit)
            descend(&d, limit, complete);
        for (double shrink = 1; limit && shrink > 0.9 && !(shrink < 1 && lip__late(limit->deadline)); shrink -= 0.01)
            if (prove(&d, &s, shrink)) {
                memcpy(q, s.q, n * n * sizeof *q);
                break;
            }
    }
    lip__shape_close(&s);
    descent_close(&d);
    return rc;
}
