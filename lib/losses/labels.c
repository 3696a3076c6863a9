/* labels.c: labels against the convention of a loss.
 *
 * deel-lip reads y > 0 in most places and y == 1 in KR, so 0/1 and -1/+1 both work and anything else means two
 * things at once (D50, D57). What is refused here would train silently on the wrong labels there.
 */
#include <math.h>

#include "losses/family.h"

static lip_err labels_finite(size_t n, size_t c, const float *y, lip_error *err)
{
    size_t at;

    if (lip__all_finite(y, n * c, &at))
        return LIP_OK;
    return lip__fail(err, LIP_ENONFINITE, "y_true: row %zu, column %zu is %g; labels must be finite", at / c, at % c,
                     (double)y[at]);
}

/* Every entry 0 or 1, or every entry -1 or 1. */
static lip_err two_values(size_t n, size_t c, const float *y, lip_error *err)
{
    float other = 1; /* the batch's negative label, once seen */

    for (size_t i = 0; i < n * c; i++) {
        if (y[i] == 1)
            continue;
        if (y[i] != 0 && y[i] != -1)
            return lip__fail(err, LIP_ELABELS, "y_true: row %zu, column %zu is %g; wanted 0 and 1, or -1 and 1", i / c,
                             i % c, (double)y[i]);
        if (other == 1)
            other = y[i];
        else if (y[i] != other)
            return lip__fail(err, LIP_ELABELS,
                             "y_true: row %zu, column %zu is %g, a row before has %g; wanted 0 and 1, or -1 and 1, not "
                             "both",
                             i / c, i % c, (double)y[i], (double)other);
    }
    return LIP_OK;
}

lip_err lip__labels_binary(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err)
{
    lip_err rc = labels_finite(n, c, y, err);

    if (rc || ((const struct lip__loss *)self)->multi_gpu)
        return rc;
    return two_values(n, c, y, err);
}

lip_err lip__labels_one_hot(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err)
{
    lip_err rc = labels_finite(n, c, y, err);

    if (rc || ((const struct lip__loss *)self)->multi_gpu)
        return rc;
    rc = two_values(n, c, y, err);
    for (size_t i = 0; !rc && i < n; i++) {
        size_t positive = 0;

        for (size_t j = 0; j < c; j++)
            positive += y[i * c + j] > 0;
        if (positive != 1)
            rc = lip__fail(err, LIP_ELABELS, "y_true: row %zu marks %zu classes of %zu; wanted exactly one (one-hot)",
                           i, positive, c);
    }
    return rc;
}

lip_err lip__labels_distribution(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err)
{
    lip_err rc = labels_finite(n, c, y, err);

    (void)self;
    for (size_t i = 0; !rc && i < n; i++) {
        double sum = 0;

        for (size_t j = 0; !rc && j < c; j++) {
            if (y[i * c + j] < 0)
                rc = lip__fail(err, LIP_ELABELS,
                               "y_true: row %zu, column %zu is %g; wanted one-hot rows of 0 and 1, or probabilities", i,
                               j, (double)y[i * c + j]);
            sum += y[i * c + j];
        }
        if (!rc && fabs(sum - 1) > 1e-3)
            rc = lip__fail(err, LIP_ELABELS,
                           "y_true: row %zu sums to %g; wanted 1: one-hot rows of 0 and 1, or probabilities", i, sum);
    }
    return rc;
}

lip_err lip__labels_share(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err)
{
    lip_err rc = labels_finite(n, c, y, err);

    (void)self;
    for (size_t i = 0; !rc && i < n * c; i++)
        if (y[i] < 0 || y[i] > 1)
            rc = lip__fail(err, LIP_ELABELS, "y_true: row %zu, column %zu is %g; wanted 0, 1 or a probability", i / c,
                           i % c, (double)y[i]);
    return rc;
}

lip_err lip__labels_index(const struct lip__object *self, size_t n, size_t c, const float *y, lip_error *err)
{
    lip_err rc = labels_finite(n, 1, y, err);

    (void)self;
    for (size_t i = 0; !rc && i < n; i++)
        if (y[i] < 0 || y[i] >= (float)c || y[i] != floorf(y[i]))
            rc = lip__fail(err, LIP_ELABELS, "y_true: row %zu is %g; wanted a class index from 0 to %zu", i,
                           (double)y[i], c - 1);
    return rc;
}
