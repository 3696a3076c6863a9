/* lipsdp.h: global shapes of a chain's outputs: certify.md C4. */
#ifndef LIP_LIPSDP_H
#define LIP_LIPSDP_H

#include "bounds/shape.h"

/* lip__lipsdp: q (n, n), a shape of the chain's last numbers, proved: with the multipliers of one pass (limit NULL), or
 * with those that a descent on their logarithms finds. *complete: it was not cut off. *found false: nothing was proved.
 * Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__lipsdp(const struct lip__chain *chain, const double *gram, const struct lip__limit *limit, double *q,
                    bool *found, bool *complete, lip_error *err);

#endif
