/* pairs.c: how fast two outputs can part.
 *
 * For a map of constant L, <e_c - e_j, f> has at most sqrt(2) L. If the last step is x W + b behind a map of constant
 * B, it has at most |w_c - w_j| B, which for neurons that each have norm 1 is anything from 0 to 2 B: deel-lip takes
 * the 2.
 *
 * Against other norms of the input than the Euclidean one the first step's matrix tells more than sqrt(d): for |x|_1 <=
 * 1 the image is at most as long as the longest row, for |x|_inf <= 1 at most
 *
 *     min( sqrt(d) ||W||, sum_i |row_i|, sqrt(sum_ij |<row_i, row_j>|) ).
 *
 * Source: certify.md C5.
 */
#include "bounds/pairs.h"

#include "bounds/shape.h"
#include "tensor/gemm.h"

enum { MOST_ROWS = 2048 }; /* of which all inner products are formed */

/* |(matrix + E)(e_c - e_j)|, or |(matrix + E) e_c|. */
static double parted(const struct lip__term *t, size_t n, size_t c, size_t j)
{
    double sum = 0;

    for (size_t i = 0; i < t->rows; i++) {
        double d = t->matrix[i * n + c] - (c == j ? 0 : t->matrix[i * n + j]);

        sum += d * d;
    }
    return lip__up(lip__up(sqrt(sum * lip__lift(t->rows)) * (1 + 8 * LIP__U)) + LIP__TINY + 1.5 * t->off);
}

/* The stage that makes the output, if it is a matrix that sees the sample once. */
static const struct lip__stage *last_matrix(const struct lip__map *map)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].value == map->output[0])
            return map->stage[i].kind == LIP__STAGE_MATRIX && map->stage[i].rows == 1 ? &map->stage[i] : NULL;
    return NULL;
}

lip_err lip__head_open(const struct lip__map *map, const double *constant, struct lip__head *head, lip_error *err)
{
    size_t n = lip__map_outputs(map);
    const struct lip__stage *last = last_matrix(map);
    const struct lip__term own = {.rows = last ? last->m : 0, .matrix = last ? last->kernel : NULL};

    *head = (struct lip__head){.stage = last, .classes = n};
    if (n <= SIZE_MAX / n / sizeof(double)) {
        head->pair = lip__alloc(n * n, sizeof *head->pair);
        head->last = lip__alloc(n * n, sizeof *head->last);
    }
    head->column = lip__alloc(n, sizeof *head->column);
    head->single = lip__alloc(n, sizeof *head->single);
    if (!head->pair || !head->last || !head->column || !head->single)
        return lip__nomem(err, 2 * n * n * sizeof(double));
    for (size_t c = 0; c < n; c++) {
        head->column[c] = head->stage ? parted(&own, n, c, c) : 1;
        head->single[c] = head->pair[c * n + c] = INFINITY;
        for (size_t j = 0; j < c; j++) {
            head->last[c * n + j] = head->last[j * n + c] = head->stage ? parted(&own, n, c, j) : lip__up(sqrt(2));
            head->pair[c * n + j] = head->pair[j * n + c] = INFINITY;
        }
        if (n > 1)
            head->pair[c * n + c] = 0;
    }
    if (n == 1)
        head->last[0] = head->column[0];
    lip__head_multiply(map, constant, head);
    return LIP_OK;
}

/* Outputs c and j, or with j = c that one alone, part by `constant` at most. */
static void lower(struct lip__head *head, size_t c, size_t j, double constant)
{
    size_t n = head->classes;

    if (c == j)
        head->single[c] = fmin(head->single[c], constant);
    if (c != j || n == 1)
        head->pair[c * n + j] = head->pair[j * n + c] = fmin(head->pair[c * n + j], constant);
}

void lip__head_multiply(const struct lip__map *map, const double *constant, struct lip__head *head)
{
    size_t n = head->classes;
    double whole = lip__map_constant(map, constant), body = head->stage ? constant[head->stage->from[0]] : INFINITY;

    for (size_t c = 0; c < n; c++)
        for (size_t j = 0; j <= c; j++) {
            double last = c == j ? head->column[c] : head->last[c * n + j];

            lower(head, c, j, c == j ? whole : lip__times_up(lip__up(sqrt(2)), whole));
            if (head->stage)
                lower(head, c, j, lip__times_up(last, body));
        }
}

void lip__head_shape(struct lip__head *head, const double *q, double base)
{
    for (size_t c = 0; c < head->classes; c++)
        for (size_t j = 0; j <= c; j++)
            lower(head, c, j, lip__times_up(base, lip__shape_pair(head->classes, q, c, j)));
}

void lip__head_sum(struct lip__head *head, const struct lip__term *term, size_t n)
{
    for (size_t c = 0; c < head->classes; c++)
        for (size_t j = 0; j <= c; j++) {
            double sum = 0;

            for (size_t i = 0; i < n; i++)
                sum = lip__up(sum + lip__times_up(term[i].constant, parted(&term[i], head->classes, c, j)));
            lower(head, c, j, sum);
        }
}

void lip__head_least(struct lip__head *head, const struct lip__head *other, double ratio)
{
    for (size_t c = 0; c < head->classes; c++)
        for (size_t j = 0; j <= c; j++)
            lower(head, c, j, lip__times_up(ratio, c == j ? other->single[c] : other->pair[c * head->classes + j]));
}

void lip__head_close(struct lip__head *head)
{
    lip__free(head->single);
    lip__free(head->column);
    lip__free(head->last);
    lip__free(head->pair);
    *head = (struct lip__head){0};
}

/* The only step that reads the input, if it is a matrix that sees the sample once. */
static const struct lip__stage *first_matrix(const struct lip__map *map)
{
    const struct lip__stage *only = NULL;

    for (size_t i = 0; i < map->n; i++)
        for (size_t j = 0; j < map->stage[i].n_from; j++)
            if (map->stage[i].from[j] == 0) {
                if (only)
                    return NULL;
                only = &map->stage[i];
            }
    return only && only->kind == LIP__STAGE_MATRIX && only->rows == 1 ? only : NULL;
}

/* sqrt(sum_ij |<row_i, row_j>|). */
static lip_err inner_products(const struct lip__stage *s, double *norm, lip_error *err)
{
    size_t m = s->m, n = s->n;
    double *g = lip__alloc(m * m, sizeof *g), *ones = lip__alloc(2 * (m + n) + n, sizeof *ones), *sums = ones + m;
    double *rows = sums + m, total = 0, error = 0;

    if (!g || !ones) {
        lip__free(ones);
        lip__free(g);
        return lip__nomem(err, m * m * sizeof *g);
    }
    for (size_t i = 0; i < m; i++)
        ones[i] = 1;
    lip__dgemm(false, true, m, m, n, 1, s->kernel, n, s->kernel, n, 0, g, m);
    lip__abs_times(m, m, g, ones, sums);
    for (size_t i = 0; i < m; i++)
        total += sums[i];
    lip__abs_times_transposed(m, n, s->kernel, ones, rows); /* |W|'1: the error is gamma_n | |W|'1 |^2 */
    error = lip__norm_up(rows, n);
    *norm = lip__up(sqrt((total + lip__gamma(n + 1) * error * error) * lip__lift(m)) * (1 + 4 * LIP__U)) + LIP__TINY;
    lip__free(ones);
    lip__free(g);
    return LIP_OK;
}

/* At most how much longer an output of the first step may be, per unit of the inputs' `norm`, than its constant says
 * per unit of their l2 norm. */
static lip_err norm_ratio(const struct lip__map *map, lip_norm norm, double *ratio, lip_error *err)
{
    const struct lip__stage *s = first_matrix(map);
    double longest = 0, sum = 0, products = INFINITY, root = lip__up(sqrt((double)lip__map_inputs(map)));
    lip_err rc = LIP_OK;

    *ratio = norm == LIP_LINF ? root : 1;
    if (norm == LIP_L2 || !s || !(s->norm.upper > 0))
        return LIP_OK;
    for (size_t i = 0; i < s->m; i++) {
        double row = lip__norm_up(s->kernel + i * s->n, s->n);

        longest = fmax(longest, row);
        sum += row;
    }
    sum *= lip__lift(s->m);
    if (norm == LIP_LINF && s->m <= MOST_ROWS)
        rc = inner_products(s, &products, err);
    if (norm == LIP_L1)
        *ratio = fmin(1, lip__up(longest / s->norm.upper));
    else
        *ratio = fmin(root, lip__up(fmin(sum, products) / s->norm.upper));
    return rc;
}

/* The dual norm of column c less column j, or with j = c of column c. */
static double dual_norm(const struct lip__stage *s, lip_norm norm, size_t c, size_t j)
{
    double most = 0, sum = 0;

    for (size_t i = 0; i < s->m; i++) {
        double d = fabs(s->kernel[i * s->n + c] - (c == j ? 0 : s->kernel[i * s->n + j]));

        most = fmax(most, d);
        sum += d;
    }
    return (norm == LIP_L1 ? most : sum) * lip__lift(s->m) + LIP__TINY;
}

lip_err lip__head_measure(const struct lip__map *map, lip_norm norm, struct lip__head *head, double *ratio,
                          lip_error *err)
{
    size_t n = head->classes;
    lip_err rc = norm_ratio(map, norm, ratio, err);

    if (rc || norm == LIP_L2)
        return rc;
    /* Constants of pairs are products through the first step, unless that step makes the outputs itself. */
    if (head->stage && first_matrix(map) == head->stage) {
        for (size_t i = 0; i < n * n; i++)
            head->pair[i] = i / n == i % n && n > 1 ? 0 : dual_norm(head->stage, norm, i / n, i % n);
        for (size_t c = 0; c < n; c++)
            head->single[c] = dual_norm(head->stage, norm, c, c);
        return LIP_OK;
    }
    for (size_t i = 0; i < n * n; i++)
        head->pair[i] = lip__times_up(head->pair[i], *ratio);
    for (size_t c = 0; c < n; c++)
        head->single[c] = lip__times_up(head->single[c], *ratio);
    return LIP_OK;
}
