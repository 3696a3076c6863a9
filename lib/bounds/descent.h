/* descent.h: multipliers for shapes (shape.h) by descent, in plain double: where to look; shape.c proves what comes
 * out. */
#ifndef LIP_DESCENT_H
#define LIP_DESCENT_H

#include "bounds/shape.h"

struct lip__descent_layer;

/* What one thread needs for a chain. */
struct lip__descent {
    const struct lip__chain *chain;
    const double *gram;               /* of its start */
    struct lip__descent_layer *layer; /* one of each link */
    double *base, *last, *vectors, *values, *work, *g, *p, *e, *y, *column;
};

/* lip__descent_open: gram: lip__shape_first's, which lives as long. Returns LIP_OK, LIP_ENOMEM. Memory:
 * lip__descent_close, on failure too. */
lip_err lip__descent_open(const struct lip__chain *chain, const double *gram, struct lip__descent *d, lip_error *err);
void lip__descent_close(struct lip__descent *d);

/* lip__descent_take: slopes of link k as they are in the shape, and its multipliers, where `fresh` all of them, else
 * those of numbers that had none. lip__descent_forget: none has any. */
void lip__descent_take(struct lip__descent *d, size_t k, const struct lip__shape *shape, bool fresh);
void lip__descent_forget(struct lip__descent *d);

/* lip__descend: better multipliers for the slopes that were taken, for the largest eigenvalue of the last shape Q, or
 * with `direction` g (the last link's n) for g'Q g, in at most so many steps; never worse ones. false: the deadline
 * (base.h) came first, or there is nothing to begin with. */
bool lip__descend(struct lip__descent *d, const double *direction, size_t steps, uint64_t deadline);

/* lip__descent_prove: shape->q becomes a shape of the last numbers with these multipliers, or with somewhat smaller
 * ones, for the slopes that the last descent knew. false: nothing was proved by the deadline. */
bool lip__descent_prove(const struct lip__descent *d, uint64_t deadline, struct lip__shape *shape);

#endif
