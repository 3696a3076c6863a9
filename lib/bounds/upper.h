/* upper.h: what the methods of certify.md C4 say about a map. */
#ifndef LIP_UPPER_H
#define LIP_UPPER_H

#include "bounds/pairs.h"

/* lip__upper: network->by of all methods wanted, from the product that is there; network->complete false where time was
 * up.
 *
 * limit    of all of them together, deadline and operations of each; NULL: multipliers of one pass only, which cost as
 * little as a product of       lip__map_constants of the map, lowered where shortcuts lead head     lowered where a
 * method says more about outputs; NULL: not wanted Methods that go on and on stop once network->lower is as near as
 * LIP_CLAIM_TOLERANCE. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__upper(const struct lip__map *map, unsigned methods, const struct lip__limit *limit, double *of,
                   struct lip__head *head, lip_network_bound *network, lip_error *err);

#endif
