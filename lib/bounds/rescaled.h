/* rescaled.h: products of norms with neurons scaled so that they are small: certify.md C4. */
#ifndef LIP_RESCALED_H
#define LIP_RESCALED_H

#include "bounds/pairs.h"

/* lip__rescaled: a path of matrices and convolutions that ends with `stage`, as far back as what stands between them
 * commutes with positive factors of channels: *upper at least the constant from the value *from to the stage's. *from
 * LIP__NOWHERE: there is no such path of two or more. covered (by stage of the map): set for all that it has. limit
 * NULL: the factors that balance, no descent. *complete: nothing was cut off. head: lowered where the path makes the
 * outputs; of: constants of the map's values. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__rescaled(const struct lip__map *map, size_t stage, bool *covered, const struct lip__limit *limit,
                      const double *of, struct lip__head *head, size_t *from, double *upper, bool *complete,
                      lip_error *err);

#endif
