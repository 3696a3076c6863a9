/* frobenius.c: a matrix, or each of its columns, divided by its Euclidean norm.
 *
 *     wbar = c w/|w|,   dw = (c/|w|) (g - (w/|w|) <w/|w|, g>)
 *
 * Columns are summed row by row, COLUMNS of them at a time, so that memory is read in order and nothing is allocated.
 *
 * Source: deel-lip; semantics.md 4.2.
 */
#include <math.h>

#include <onelip/norm.h>

#include "base/base.h"
#include "tensor/gemm.h"

enum { COLUMNS = 64 };

static lip_err check(const float *w, size_t m, size_t n, lip_error *err)
{
    size_t at;

    if (lip__all_finite(w, m * n, &at))
        return LIP_OK;
    return lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
}

static lip_err zero(lip_error *err)
{
    return lip__fail(err, LIP_EZERO, "kernel: its norm is zero, so it has no direction to keep");
}

/* dot[j] = <x_j, y_j> of the columns from .. from + count - 1. */
static void column_dots(const float *x, const float *y, size_t m, size_t n, size_t from, size_t count, double *dot)
{
    for (size_t j = 0; j < count; j++)
        dot[j] = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < count; j++)
            dot[j] += (double)x[i * n + from + j] * y[i * n + from + j];
}

static size_t columns_from(size_t from, size_t n)
{
    return n - from < COLUMNS ? n - from : COLUMNS;
}

lip_err lip_frobenius(const float *w, size_t m, size_t n, double coef, bool columns, float *wbar, lip_error *err)
{
    double norm[COLUMNS];
    lip_err rc = check(w, m, n, err);

    if (rc)
        return rc;
    if (!columns) {
        double whole = lip__norm(w, m * n);
        if (whole == 0)
            return zero(err);
        for (size_t i = 0; i < m * n; i++)
            wbar[i] = (float)(coef * (w[i] / whole));
        return LIP_OK;
    }
    for (int writing = 0; writing < 2; writing++) /* first look at all columns, so that an error changes nothing */
        for (size_t from = 0; from < n; from += COLUMNS) {
            size_t count = columns_from(from, n);
            column_dots(w, w, m, n, from, count, norm);
            for (size_t j = 0; j < count; j++)
                if (norm[j] == 0)
                    return lip__fail(err, LIP_EZERO, "kernel: column %zu is zero, so it has no direction to keep",
                                     from + j);
            if (!writing)
                continue;
            for (size_t j = 0; j < count; j++)
                norm[j] = sqrt(norm[j]);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < count; j++)
                    wbar[i * n + from + j] = (float)(coef * (w[i * n + from + j] / norm[j]));
        }
    return LIP_OK;
}

lip_err lip_frobenius_backward(const float *w, size_t m, size_t n, double coef, bool columns, const float *g, float *dw,
                               lip_error *err)
{
    double square[COLUMNS], along[COLUMNS];

    if (!columns) {
        double norm = lip__norm(w, m * n), dot = lip__dot(w, g, m * n);
        if (norm == 0)
            return zero(err);
        for (size_t i = 0; i < m * n; i++)
            dw[i] = (float)(coef / norm * (g[i] - w[i] * (dot / (norm * norm))));
        return LIP_OK;
    }
    for (size_t from = 0; from < n; from += COLUMNS) {
        size_t count = columns_from(from, n);
        column_dots(w, w, m, n, from, count, square);
        column_dots(w, g, m, n, from, count, along);
        for (size_t j = 0; j < count; j++)
            if (square[j] == 0)
                return zero(err);
        for (size_t j = 0; j < count; j++) {
            along[j] /= square[j];
            square[j] = coef / sqrt(square[j]);
        }
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < count; j++) {
                size_t at = i * n + from + j;
                dw[at] = (float)(square[j] * (g[at] - w[at] * along[j]));
            }
    }
    return LIP_OK;
}
