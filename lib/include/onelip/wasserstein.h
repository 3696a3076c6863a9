/* wasserstein.h: the Wasserstein-1 distance of two samples, from both sides.
 *
 * From below by Kantorovich and Rubinstein's duality: a function of constant L separates the means by at most L times the
 * distance. From above by the cost of any plan that moves one sample to the other.
 */
#ifndef ONELIP_WASSERSTEIN_H
#define ONELIP_WASSERSTEIN_H

#include <onelip/certify.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lip_transport {
    double cost;        /* of a feasible plan, rounded up: at least the distance of the two samples */
    bool optimal;       /* no plan is cheaper, but for rounding */
    const char *method; /* "assignment" (as many points on both sides), "transport", "sorted" */
} lip_transport;

/* lip_transport_cost: moves p (n, d), each point weighing 1/n, to q (m, d), each weighing 1/m; the cost of a move is its
 * Euclidean length.
 *
 * score        NULL, or n values for p and m for q behind them: both samples in this order are a first plan
 * max_seconds  <= 0: until the plan is optimal. Else the cheapest found then.
 * n, m, d      at least 1. Beyond about 16 million pairs only the sorted plan is made.
 * Returns  LIP_OK; LIP_ESHAPE for an empty sample; LIP_ENONFINITE for points that are not; LIP_ENOMEM.
 * Memory   12 n m bytes while it runs. Threads: safe.
 * Source   shortest augmenting paths: Jonker and Volgenant, Computing 38, 1987; Crouse, "On implementing 2D rectangular
 *          assignment algorithms", 2016. */
lip_err lip_transport_cost(size_t n, const float *p, size_t m, const float *q, size_t d, const double *score,
                           double max_seconds, lip_transport *transport, lip_error *err);

typedef struct lip_wasserstein {
    double lower, upper;
    double network_upper; /* the proven constant of the function that separates the samples */
    lip_transport primal;
} lip_wasserstein;

/* lip_wasserstein_bound: the distance of the empirical distributions of p (n samples of the model's input shape) and q (m),
 * measured by l2: [(|mean f(p) - mean f(q)| - rounding) / constant of f, cost of a plan], f one output of the model.
 *
 * certifier    against LIP_L2
 * output       which, row-major over the sample's output
 * max_seconds  as lip_transport_cost
 * Returns  as lip_transport_cost; LIP_ERANGE for an output that is not there. Threads: safe. Source: certify.md C8. */
lip_err lip_wasserstein_bound(const lip_certifier *certifier, size_t output, double max_seconds, size_t n, const float *p,
                              size_t m, const float *q, lip_wasserstein *bound, lip_error *err);

#ifdef __cplusplus
}
#endif
#endif
