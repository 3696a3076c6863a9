/* shape.h: how far a chain's numbers can move, all directions at once: certify.md C3 and C4.
 *
 * A shape Q of z says d'Q^-1 d <= |dv|^2 for every movement d of z that a movement dv of the chain's start can cause. Q
 * = A'A to begin with. In front of a link each number has psi's secant slopes, from where it is, in [alpha, alpha +
 * delta] (0 and 1 where nothing is known of how far it moves); U are those with delta > 0. With V = diag(a + alpha b)
 * M, W = diag(b) M, and any positive scales s on U with N = 2 I - s Q_UU s > 0,
 *
 *     Q' = V'Q V + H' N^-1 H,   H = s (Q V)_U + delta / s W_U
 *
 * is a shape behind it: the S-procedure on 2 psi'S^2 (d_U - psi) >= 0. Larger shapes are shapes, so every rounding is
 * bounded in the Frobenius norm and added as a multiple of I. Nothing else is trusted: N's Cholesky factor by its
 * backward error, N > 0 by row sums or by a factor of N - c I.
 *
 * Source: certify.md C3; Fazlyab et al., "Efficient and Accurate Estimation of Lipschitz Constants for Deep Neural
 * Networks", NeurIPS 2019; Pauli et al. 2401.14033 for sorting; Rump, "Verification of positive definiteness", BIT 46,
 * 2006.
 */
#ifndef LIP_SHAPE_H
#define LIP_SHAPE_H

#include "bounds/chain.h"

/* What one thread needs for chains no wider than `widest`. */
struct lip__shape {
    size_t widest;
    double *q, *next;          /* (n, n) */
    double *v, *h, *c, *t;     /* (n, n) each */
    double *alpha, *delta, *s; /* n each */
    size_t *u, *rows;          /* n each */
};

lip_err lip__shape_open(size_t widest, struct lip__shape *shape, lip_error *err);
void lip__shape_close(struct lip__shape *shape);

/* lip__shape_first: gram (n, n), a shape of z_1. Returns LIP_OK, LIP_ENOMEM (of scratch). */
void lip__shape_first(const struct lip__chain *chain, double *gram);

/* lip__shape_advance: shape->q (m, m) becomes that behind the link, (n, n). alpha and delta, m each, are in shape; s
 * too, or where `own` is false they are chosen here. false: nothing was proved. */
bool lip__shape_advance(const struct lip__link *link, struct lip__shape *shape, bool own);

/* lip__shape_global: alpha = 0 and delta = 1 where psi counts. */
void lip__shape_global(const struct lip__link *link, struct lip__shape *shape);

/* lip__shape_pair: an upper bound of |z_c - z_j| / |dv| from q (n, n); with j = c of |z_c|. */
double lip__shape_pair(size_t n, const double *q, size_t c, size_t j);

#endif
