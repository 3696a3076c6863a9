/* liplt.h: a chain's constant as a sum of norms of products: certify.md C4. */
#ifndef LIP_LIPLT_H
#define LIP_LIPLT_H

#include "bounds/chain.h"

/* lip__liplt: *upper at least the constant of the chain's last numbers against its start; INFINITY where nothing is proved.
 * Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__liplt(const struct lip__chain *chain, double *upper, lip_error *err);

#endif
