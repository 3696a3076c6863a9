/* chain.h: stages one behind the other: a model, or the part of it that is one layer with its activation. */
#ifndef LIP_CHAIN_H
#define LIP_CHAIN_H

#include "bounds/stage.h"

struct lip__chain {
    const lip_snapshot *snapshot;
    size_t first, n;          /* steps of the model */
    struct lip__stage *stage; /* n, proved */
};

/* lip__chain_open: steps first .. first + n - 1, proved. Returns as lip__stage_open and lip__stage_prove. Memory:
 * lip__chain_close, on failure too. */
lip_err lip__chain_open(const lip_snapshot *snapshot, size_t first, size_t n, struct lip__chain *chain, lip_error *err);
void lip__chain_close(struct lip__chain *chain);

/* lip__chain_known: every stage's arithmetic is known, so it can be computed and its rounding bounded. */
bool lip__chain_known(const struct lip__chain *chain);

/* lip__chain_secant: lower bounds of the Lipschitz constant from pairs of points near which the map stretches most.
 *
 * Points and directions come from power iterations on the Jacobian in float32 and are not trusted. The quotient is: the
 * map is computed in double at both points, what that can be wrong by is taken off the numerator, and the denominator is
 * rounded up. whole: of the vector of outputs; single: of one output, the largest. 0 where nothing was found.
 * Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__chain_secant(const struct lip__chain *chain, double *whole, double *single, lip_error *err);

/* lip__chain_deviation: how far the float32 result may be from the real one for inputs of norm up to input_norm.
 * INFINITY where something could overflow or a stage is unknown. */
lip_err lip__chain_deviation(const struct lip__chain *chain, double input_norm, double *deviation, lip_error *err);

#endif
