/* certifier.h: what is proved of a snapshot, for certificate.c and attack.c. */
#ifndef LIP_CERTIFIER_H
#define LIP_CERTIFIER_H

#include "bounds/local.h"
#include "bounds/pairs.h"

struct lip_certifier {
    struct lip__map map;
    lip_norm norm;
    struct lip__head head; /* pair and single against that norm */
    double *constant;      /* of every value, against the l2 norm */
    struct lip__local local;
    double upper;
    double to_l2; /* the l2 norm per unit of the norm, at most */
    double factor;
    const char *name;
};

/* lip__answer: the class that outputs y stand for; of one output whether it is positive. */
size_t lip__answer(const float *y, size_t classes);

/* lip__float32_rounding: how far the margins of class c over others that float32 computes, summed in whatever order, may be from
 * those in a room, computed in double, at sample r. INFINITY where a number could overflow.
 *
 * numbers  4 of each value and one of each class, scratch */
double lip__float32_rounding(const struct lip_certifier *c, const struct lip__room *room, size_t r, size_t class, double *numbers);

/* lip__input_scale: of options, checked. Returns LIP_OK, LIP_ERANGE. */
lip_err lip__input_scale(const lip_certify_options *options, double *scale, lip_error *err);

#endif
