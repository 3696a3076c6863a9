/* secant.h: lower bounds of a map's Lipschitz constant. */
#ifndef LIP_SECANT_H
#define LIP_SECANT_H

#include <stdint.h>

#include "bounds/map.h"

/* How long to look. */
struct lip__effort {
    uint64_t deadline; /* lip__now_ns; 0: none, so that the result repeats */
    size_t tries;      /* moves of the best point */
    double enough;   /* a bound from above: once LIP_CLAIM_TOLERANCE is all that is missing nobody looks on; 0: none */
    size_t n_points; /* where to begin, beside random points */
    const float *points; /* (n_points, inputs side by side) */
};

/* What was found. */
struct lip__below {
    double whole, single; /* of the vector of outputs; of one output, the largest. 0: nothing */
    const char
        *method; /* of whole. "jacobian": at one point, along the singular vector of the derivative there; "secant": of
                  * two points that were moved apart and together until they stretched most; "none" */
    bool complete; /* not cut off */
};

/* lip__secant: proven lower bounds from pairs of points near which the map stretches most.
 *
 * Points and directions come from derivatives in float32 and are not trusted. The quotient of a pair is, for a
 * derivative too, whose pair lies close together: the map is computed in double at both points, what that can be wrong
 * by is taken off the numerator, and the denominator is rounded up. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__secant(const struct lip__map *map, const struct lip__effort *effort, struct lip__below *below,
                    lip_error *err);

#endif
