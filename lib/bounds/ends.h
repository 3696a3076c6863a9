/* ends.h: the ends of a large convolution's spectrum. */
#ifndef LIP_ENDS_H
#define LIP_ENDS_H

#include "bounds/conv.h"

/* lip__conv_ends: estimates of the `ends` largest singular values of the operator (inputs or outputs, whichever are
 * fewer), and of as many of the smallest; value: 2 ends, descending, for ends at most half of their number. Values that
 * repeat are found up to four times each. Returns LIP_OK; LIP_EUNSUPPORTED where that takes too long or too much
 * memory; LIP_ENUMERIC; LIP_ENOMEM. */
lip_err lip__conv_ends(const struct lip__convolution *k, size_t ends, double *value, lip_error *err);

#endif
