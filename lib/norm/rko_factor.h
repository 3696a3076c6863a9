/* rko_factor.h: an effective kernel that is not multiplied out. For a batch with fewer rows than the kernel, (x w) q costs less
 * than x (w q), and its gradient less still. */
#ifndef LIP_RKO_FACTOR_H
#define LIP_RKO_FACTOR_H

#include <onelip/norm.h>

/* wbar = alpha w q for m > n, else alpha q w; k = min(m, n). */
struct lip__factor {
    const float *q; /* (k, k), symmetric, in the scratch that lip__rko filled. NULL: wbar itself was computed */
    float alpha;
    /* What lip__rko_backward needs to know of D = dL/dwbar, for whoever used the factor to tell: w'D for m > n, else w D', is
     * left' right, of (rows, k) each. */
    size_t rows;
    const float *left, *right;
};

/* lip__rko, lip__rko_backward: lip_rko and both lip_rko_backward, which they are with factor NULL. lip__rko fills a factor in
 * and leaves wbar as it was, or sets factor->q to NULL and computes wbar. Then lip__rko_backward takes alpha D q, or alpha q D,
 * in g beside left and right.
 * u: NULL, or where the power iteration had started, to go back through it as well. */
lip_err lip__rko(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u, float *u_new,
                 float *wbar, float *scratch, bool keep, lip_rko_info *info, struct lip__factor *factor, lip_error *err);
lip_err lip__rko_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const lip_rko_info *info,
                          const float *u, const float *u_new, const float *g, float *dw, float *scratch,
                          const struct lip__factor *factor, lip_error *err);

/* lip__factor_times: wbar (m, n), multiplied out. */
void lip__factor_times(const float *w, size_t m, size_t n, float alpha, const float *q, float *wbar);

#endif
