/* lipsdp.h: global shapes of a chain's outputs: certify.md C4. */
#ifndef LIP_LIPSDP_H
#define LIP_LIPSDP_H

#include <stdint.h>

#include "bounds/shape.h"

/* lip__lipsdp: q (n, n), a shape of the chain's last numbers, proved: with the multipliers of one pass, or with those that a descent
 * on their logarithms finds until `deadline` (lip__now_ns; 0: a fixed number of steps; 1: none). *complete: it was not cut off.
 * *found false: nothing was proved. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__lipsdp(const struct lip__chain *chain, const double *gram, uint64_t deadline, double *q, bool *found, bool *complete,
                    lip_error *err);

#endif
