/* secant.h: lower bounds of a map's Lipschitz constant. */
#ifndef LIP_SECANT_H
#define LIP_SECANT_H

#include <stdint.h>

#include "bounds/map.h"

/* How long to look. */
struct lip__effort {
    uint64_t deadline;   /* lip__now_ns; 0: none, so that the result repeats */
    size_t tries;        /* moves of the best point */
    size_t n_points;     /* where to begin, beside random points */
    const float *points; /* (n_points, inputs side by side) */
};

/* lip__secant: proven lower bounds from pairs of points near which the map stretches most.
 *
 * Points and directions come from derivatives in float32 and are not trusted. The quotient is: the map is computed in double at
 * both points, what that can be wrong by is taken off the numerator, and the denominator is rounded up. whole: of the vector of
 * outputs; single: of one output, the largest. 0 where nothing was found. complete (may be NULL): not cut off.
 * Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__secant(const struct lip__map *map, const struct lip__effort *effort, double *whole, double *single, bool *complete,
                    lip_error *err);

#endif
