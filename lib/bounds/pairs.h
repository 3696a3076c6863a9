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

/* Whatever lowers pair and single from here on takes what is proved of the outputs z, behind dx of the inputs. */

/* lip__head_multiply: by constants of all values. */
void lip__head_multiply(const struct lip__map *map, const double *constant, struct lip__head *head);

/* lip__head_shape: by a shape q (classes, classes) of theirs against something that moves by base |dx| at most. */
void lip__head_shape(struct lip__head *head, const double *q, double base);

/* lip__head_sum: by |z'g| <= sum constant |(matrix + E) g| |dx| for every g, |E| <= off in the Frobenius norm. */
struct lip__term {
    size_t rows; /* of matrix (rows, classes) */
    const double *matrix;
    double off, constant;
};
void lip__head_sum(struct lip__head *head, const struct lip__term *term, size_t n);

/* lip__head_least: by another head of the same model, a length of 1 in this one's norm being at most `ratio` in the
 * other's. */
void lip__head_least(struct lip__head *head, const struct lip__head *other, double ratio);

/* lip__certifier_map: all steps of a certifier's model, proved. Lives as long as the certifier. */
const struct lip__map *lip__certifier_map(const lip_certifier *certifier);

/* lip__head_measure: pair and single against the inputs' `norm` instead. *ratio: at most how much larger other
 * constants that were multiplied through the first step are per unit of that norm. */
lip_err lip__head_measure(const struct lip__map *map, lip_norm norm, struct lip__head *head, double *ratio,
                          lip_error *err);

#endif
