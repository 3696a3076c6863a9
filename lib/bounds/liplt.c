/* liplt.c: phi(z) = (a + b/2) z + (b/2) chi(z) with |chi(z) - chi(z')| <= |z - z'|, so with B_k = diag(a_k + b_k/2) M_k
 * and C_k = diag(b_k/2) M_k the chain is a sum of a linear map and of one branch from each z_k, and the constants L_k
 * of z_k obey
 *
 *     L_{k+1} <= ||A B_1 … B_k|| + sum_{j<=k} ||C_j B_{j+1} … B_k|| L_j.
 *
 * Products are formed in double; what they can be off by is bounded in Frobenius norms and added to their norms.
 *
 * Source: "LipLT", Fazlyab et al., 2310.00116.
 */
#include "bounds/liplt.h"

#include <string.h>

#include "tensor/gemm.h"

/* A product so far (rows, n), and the Frobenius norm of its error. */
struct branch {
    double *matrix, off;
    size_t rows, n;
};

static double norm_of(const double *x, size_t n)
{
    return lip__norm_up(x, n);
}

/* to (m, n) <- diag(a + share b) M, or with `branch` diag(share b) M. Returns the Frobenius norm of its error. */
static double weigh(const struct lip__link *link, bool branch, double *to)
{
    double largest = 0, matrix = norm_of(link->matrix, link->m * link->n);

    for (size_t i = 0; i < link->m; i++) {
        double factor = (branch ? 0 : link->a[i]) + link->b[i] / 2;

        largest = fmax(largest, fabs(link->a[i]) + fabs(link->b[i]));
        for (size_t j = 0; j < link->n; j++)
            to[i * link->n + j] = factor * link->matrix[i * link->n + j];
    }
    return largest * (4 * LIP__U * matrix + link->off) * (1 + 16 * LIP__U);
}

/* b <- b B of the link. */
static lip_err extend(struct branch *b, const double *matrix, double off, size_t n, lip_error *err)
{
    double *next = lip__alloc(b->rows * n, sizeof *next), left = norm_of(b->matrix, b->rows * b->n);
    double right = norm_of(matrix, b->n * n);

    if (!next)
        return lip__nomem(err, b->rows * n * sizeof *next);
    lip__dgemm(false, false, b->rows, n, b->n, 1, b->matrix, b->n, matrix, n, 0, next, n);
    b->off = (lip__gamma(b->n + 2) * left * right + b->off * (right + off) + left * off) * (1 + 16 * LIP__U);
    lip__free(b->matrix);
    b->matrix = next;
    b->n = n;
    return LIP_OK;
}

/* Each branch's norm, where it is larger than what is there. */
static lip_err measure(const struct branch *b, size_t n, double *norms, lip_error *err)
{
    lip_err rc = LIP_OK;

    for (size_t i = 0; !rc && i < n; i++) {
        lip_interval norm;

        if (lip__up(norm_of(b[i].matrix, b[i].rows * b[i].n) + b[i].off) <= norms[i])
            continue;
        rc = lip__enclose(b[i].matrix, b[i].rows, b[i].n, &norm, NULL, err);
        norms[i] = fmax(norms[i], lip__up(norm.upper + b[i].off));
    }
    return rc;
}

static lip_err add_link(const struct lip__link *link, struct branch *b, size_t count, lip_error *err)
{
    double *matrix = lip__alloc(link->m * link->n, sizeof *matrix), off;
    struct branch *own = &b[count];
    lip_err rc = matrix ? LIP_OK : lip__nomem(err, link->m * link->n * sizeof *matrix);

    if (!rc) {
        off = weigh(link, false, matrix);
        for (size_t i = 0; !rc && i < count; i++)
            rc = extend(&b[i], matrix, off, link->n, err);
    }
    if (!rc) {
        *own = (struct branch){.rows = link->m, .n = link->n};
        own->matrix = lip__alloc(link->m * link->n, sizeof *own->matrix);
        if (own->matrix)
            own->off = weigh(link, true, own->matrix);
        else
            rc = lip__nomem(err, link->m * link->n * sizeof *own->matrix);
    }
    lip__free(matrix);
    return rc;
}

/* Branches as far as the last numbers, b (links + 1), those of norms on the way. */
static lip_err branch(const struct lip__chain *c, double *norms, struct branch *b, lip_error *err)
{
    size_t width = c->n_links + 1;
    lip_err rc;

    b[0] = (struct branch){.off = c->off, .rows = c->in, .n = c->n, .matrix = lip__alloc(c->in * c->n, sizeof(double))};
    if (!b[0].matrix)
        return lip__nomem(err, c->in * c->n * sizeof(double));
    memcpy(b[0].matrix, c->first, c->in * c->n * sizeof(double));
    rc = measure(b, 1, norms, err);
    for (size_t k = 0; !rc && k < c->n_links; k++) {
        rc = add_link(&c->link[k], b, k + 1, err);
        if (!rc)
            rc = measure(b, k + 2, norms + (k + 1) * width, err);
    }
    return rc;
}

static void branches_close(struct branch *b, size_t n)
{
    for (size_t i = 0; b && i < n; i++)
        lip__free(b[i].matrix);
    lip__free(b);
}

lip_err lip__liplt_norms(const struct lip__chain *c, double *norms, lip_error *err)
{
    struct branch *b = lip__alloc(c->n_links + 1, sizeof *b);
    lip_err rc = b ? branch(c, norms, b, err) : lip__nomem(err, (c->n_links + 1) * sizeof *b);

    branches_close(b, c->n_links + 1);
    return rc;
}

double lip__liplt_sum(size_t links, double *norms)
{
    size_t width = links + 1;

    for (size_t k = 0; k < width; k++) /* the first of a row becomes the constant of z_{k+1} */
        for (size_t j = 1; j <= k; j++)
            norms[k * width] = lip__up(norms[k * width] + lip__times_up(norms[k * width + j], norms[(j - 1) * width]));
    return norms[links * width];
}

/* Of all enclosures. */
static double flops(const struct lip__chain *c)
{
    double sum = lip__enclose_flops((double)c->in, (double)c->n);

    for (size_t k = 0; k < c->n_links; k++) {
        sum += lip__enclose_flops((double)c->in, (double)c->link[k].n);
        for (size_t j = 0; j <= k; j++)
            sum += lip__enclose_flops((double)c->link[j].m, (double)c->link[k].n);
    }
    return sum;
}

lip_err lip__liplt(const struct lip__chain *c, const struct lip__limit *limit, struct lip__head *head, double base,
                   double *upper, bool *complete, lip_error *err)
{
    size_t width = c->n_links + 1;
    double *norms;
    struct branch *b;
    struct lip__term *term;
    lip_err rc = LIP_OK;

    *upper = INFINITY;
    *complete = lip__affordable(limit->deadline, flops(c));
    if (!*complete || !lip__within(limit, flops(c), 1))
        return LIP_OK;
    norms = lip__alloc(width * width, sizeof *norms);
    b = lip__alloc(width, sizeof *b);
    term = lip__alloc(width, sizeof *term);
    rc = norms && b && term ? branch(c, norms, b, err) : lip__nomem(err, width * width * sizeof *norms);
    if (!rc) {
        *upper = lip__liplt_sum(c->n_links, norms);
        for (size_t j = 0; j < width; j++)
            term[j] = (struct lip__term){.rows = b[j].rows,
                                         .matrix = b[j].matrix,
                                         .off = b[j].off,
                                         .constant = lip__times_up(base, j ? norms[(j - 1) * width] : 1)};
        if (head && isfinite(base))
            lip__head_sum(head, term, width);
    }
    lip__free(term);
    branches_close(b, width);
    lip__free(norms);
    return rc;
}
