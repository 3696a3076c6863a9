/* tangent.h: a map's float32 pass at one point, and its adjoint there: where to look, never what to believe. */
#ifndef LIP_TANGENT_H
#define LIP_TANGENT_H

#include "bounds/map.h"

struct lip__tangent {
    const struct lip__map *map;
    float **keep, **cotangent; /* of each value of the model, sample behind sample; NULL: not of this map */
    float *spare, *scratch;
};

/* lip__tangent_open: for one sample; lip__tangent_open_many: for up to n at once. Returns LIP_OK, LIP_ENOMEM. Memory:
 * lip__tangent_close, on failure too. One thread. */
lip_err lip__tangent_open(const struct lip__map *map, struct lip__tangent *t, lip_error *err);
lip_err lip__tangent_open_many(const struct lip__map *map, size_t n, struct lip__tangent *t, lip_error *err);
void lip__tangent_close(struct lip__tangent *t);

/* lip__tangent_at: every value at x (inputs side by side, rounded to float32), as lip_predict computes them for one sample;
 * `keep` holds them. lip__tangent_back: dx = J' dy there; dy: outputs side by side. */
void lip__tangent_at(struct lip__tangent *t, const double *x);
void lip__tangent_back(struct lip__tangent *t, const double *dy, double *dx);

/* The same of n samples, one behind the other. */
void lip__tangent_at_many(struct lip__tangent *t, size_t n, const double *x);
void lip__tangent_back_many(struct lip__tangent *t, size_t n, const double *dy, double *dx);

#endif
