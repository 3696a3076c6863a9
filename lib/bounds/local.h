/* local.h: constants of pairs of outputs in one ball: certify.md C3. */
#ifndef LIP_LOCAL_H
#define LIP_LOCAL_H

#include "bounds/descent.h"

struct lip__local {
    struct lip__chain chain; /* no links: nothing to gain */
    double *gram;            /* of its start */
    double base;             /* how far the start moves per unit of the inputs' l2 norm, at most */
};

/* lip__local_open: constant: lip__map_constants of the map. Returns LIP_OK, LIP_ENOMEM. Memory: lip__local_close, on
 * failure too. */
lip_err lip__local_open(const struct lip__map *map, const double *constant, struct lip__local *local, lip_error *err);
void lip__local_close(struct lip__local *local);

/* lip__local_advance: shape->q becomes one of the outputs, for inputs within l2 distance r of those that made the
 * room's sample; error: of each value (lip__map_error). descent: takes the slopes there, for better multipliers. false:
 * nothing was proved. z: scratch, as many as the chain's widest numbers. Constants of pairs are base times
 * lip__shape_pair. */
bool lip__local_advance(const struct lip__local *local, const struct lip__room *room, size_t sample,
                        const double *error, double r, struct lip__shape *shape, struct lip__descent *descent,
                        double *z);

#endif
