/* upper.h: what the methods of certify.md C4 say about a map. */
#ifndef LIP_UPPER_H
#define LIP_UPPER_H

#include <stdint.h>

#include "bounds/map.h"

/* lip__upper: network->by of all methods wanted, from the product that is there; network->complete false where time was up.
 *
 * constant  lip__map_constants of the map
 * deadline  lip__now_ns; 0: none
 * pairs     (outputs, outputs), lowered where a shape of the outputs says less; NULL: not wanted
 * Methods that go on and on stop once network->lower is as near as LIP_CLAIM_TOLERANCE. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__upper(const struct lip__map *map, const double *constant, unsigned methods, uint64_t deadline, double *pairs,
                   lip_network_bound *network, lip_error *err);

#endif
