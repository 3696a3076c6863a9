/* stack.h: convolutions one behind the other, all frequencies at once: certify.md C4. */
#ifndef LIP_STACK_H
#define LIP_STACK_H

#include "bounds/chain.h"

/* Convolutions of stride 1 (the first of any) with zeros around their images and functions of one number between them.
 * Each image is a part of one periodic grid, what lies outside of it is taken away by a mask, and a mask is a function
 * with slopes 0 and 1: so frequency by frequency the convolutions are matrices, and the stack is a chain. */
struct lip__stack {
    size_t from, to;                /* values */
    const struct lip__stage **conv; /* n of them */
    size_t n, rows, columns;        /* periods */
    double **least, **most; /* of what stands behind convolution i: slopes for each channel, the mask's 0 counted in */
};

/* lip__stack_open: the longest stack that ends with `stage`; n 0: there is none of two or more. covered (by stage of
 * the map): set for all that it has. Returns LIP_OK, LIP_ENOMEM. Memory: lip__stack_close, on failure too. */
lip_err lip__stack_open(const struct lip__map *map, size_t stage, bool *covered, struct lip__stack *stack,
                        lip_error *err);
void lip__stack_close(struct lip__stack *stack);

/* lip__stack_fourier: *upper at least the constant of the stack, by shapes (shape.h) of every frequency with
 * multipliers that all of them share. lip__stack_sums: by LipLT, with the largest norm that a product has at any
 * frequency. INFINITY: nothing was proved, or it is too much; *complete false: because of the limit's deadline. Return
 * LIP_OK, LIP_ENOMEM. */
lip_err lip__stack_fourier(const struct lip__stack *stack, const struct lip__limit *limit, double *upper,
                           bool *complete, lip_error *err);
lip_err lip__stack_sums(const struct lip__stack *stack, const struct lip__limit *limit, double *upper, bool *complete,
                        lip_error *err);

#endif
