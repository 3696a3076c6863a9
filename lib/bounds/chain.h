/* chain.h: dense layers one behind the other in one form: pre-activations z, functions of one number, matrices.
 *
 *     z_1 = v A + …,   z_{k+1} = phi_k(z_k) M_k + …,   phi(z) = a z + b psi(z),   psi has slopes in [0, 1]
 *
 * v a value of the model, the last z its output; what does not depend on v is left out. psi is max(z, 0), or of smooth
 * functions unknown. GroupSort2 is such a step in sums and differences of its pairs, (y1, y2) = (s - |t|, s + |t|) / 2;
 * MaxMin is one whose numbers stand there twice, max(-z, 0) = max(z, 0) - z; so columns of M and A are already those
 * combinations.
 */
#ifndef LIP_CHAIN_H
#define LIP_CHAIN_H

#include "bounds/map.h"

/* What makes the numbers of a link from a value of the model. */
enum lip__basis {
    LIP__PLAIN,
    LIP__PAIRS, /* sum and difference of neighbours */
    LIP__TWICE  /* all of them, then again */
};

struct lip__link {
    size_t m, n;
    double *matrix; /* M (m, n) */
    double off;     /* the Frobenius norm of its rounding errors, at most */
    double *a, *b;  /* m each */
    bool known;     /* psi is max(z, 0) */
    size_t value;   /* z before its change of basis */
    enum lip__basis basis;
};

struct lip__chain {
    size_t start; /* v */
    size_t in, n; /* A is (in, n) */
    double *first, off;
    struct lip__link *link;
    size_t n_links;
};

/* lip__chain_open: the longest chain that ends with the value `end`; n_links 0 and first NULL where there is none, or
 * one wider than `widest`. covered (by stage of the map; may be NULL): set for all that it has. Returns LIP_OK,
 * LIP_ENOMEM. Memory: lip__chain_close, on failure too. */
lip_err lip__chain_open(const struct lip__map *map, size_t end, size_t widest, bool *covered, struct lip__chain *chain,
                        lip_error *err);
void lip__chain_close(struct lip__chain *chain);

/* lip__chain_centre: z (m) of a link from the value (in its own basis), each rounded by at most 1 unit. Returns by how
 * much more than the value z can be off: the error's factor. */
double lip__chain_centre(const struct lip__link *link, const double *value, double *z);

size_t lip__chain_widest(const struct lip__chain *chain);

/* lip__chain_flops: operations that a shape's way through all links takes, about. */
double lip__chain_flops(const struct lip__chain *chain);

#endif
