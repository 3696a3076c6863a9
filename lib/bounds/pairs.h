/* pairs.h: constants of the difference of two outputs. */
#ifndef LIP_PAIRS_H
#define LIP_PAIRS_H

#include <onelip/certify.h>

#include "bounds/map.h"

/* The last step as a certificate sees it. */
struct lip__head {
    const struct lip__stage *stage; /* a MATRIX that makes the outputs; NULL: something else does */
    size_t classes;
    double *pair;   /* (classes, classes): against the inputs' l2 norm */
    double *last;   /* the same of the last step alone; with stage NULL sqrt(2) */
    double *single; /* of each output alone, against the inputs' l2 norm */
    double *column; /* norms of the columns of stage's matrix */
};

/* lip__head_open: constant: lip__map_constants of the map. One output: pair[0] is its constant. Returns LIP_OK,
 * LIP_ENOMEM. Memory: lip__head_close, on failure too. */
lip_err lip__head_open(const struct lip__map *map, const double *constant, struct lip__head *head, lip_error *err);
void lip__head_close(struct lip__head *head);

/* lip__certifier_map: all steps of a certifier's model, proved. Lives as long as the certifier. */
const struct lip__map *lip__certifier_map(const lip_certifier *certifier);

/* lip__head_measure: pair and single against the inputs' `norm` instead. *ratio: at most how much larger other constants that
 * were multiplied through the first step are per unit of that norm. */
lip_err lip__head_measure(const struct lip__map *map, lip_norm norm, struct lip__head *head, double *ratio, lip_error *err);

#endif
