/* liplt.h: a chain's constant as a sum of norms of products: certify.md C4. */
#ifndef LIP_LIPLT_H
#define LIP_LIPLT_H

#include "bounds/chain.h"
#include "bounds/pairs.h"

/* lip__liplt_norms: norms (links + 1, links + 1) of the products of linear parts, row k those that end with link k,
 * each raised to what this chain has; 0 to begin with. lip__liplt_sum: from them, which it uses up, the constant of the
 * last numbers against the start. Return LIP_OK, LIP_ENOMEM. */
lip_err lip__liplt_norms(const struct lip__chain *chain, double *norms, lip_error *err);
double lip__liplt_sum(size_t links, double *norms);

/* lip__liplt: *upper at least the constant of the chain's last numbers against its start; INFINITY where nothing is
 * proved, *complete false: because of the limit's deadline. head: lowered, or NULL where the last numbers are not the
 * outputs; the start moves by base |dx| at most. Returns LIP_OK, LIP_ENOMEM. */
lip_err lip__liplt(const struct lip__chain *chain, const struct lip__limit *limit, struct lip__head *head, double base,
                   double *upper, bool *complete, lip_error *err);

#endif
