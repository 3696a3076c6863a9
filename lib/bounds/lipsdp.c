/* lipsdp.c: shapes for numbers of which nothing is known. Source: certify.md C4. */
#include "bounds/lipsdp.h"

#include <string.h>

#include "bounds/descent.h"

enum { STEPS = 250 };

/* One pass with the multipliers that shape.c chooses. */
static bool begin(struct lip__descent *d, struct lip__shape *s)
{
    const struct lip__chain *c = d->chain;

    memcpy(s->q, d->gram, c->n * c->n * sizeof *d->gram);
    for (size_t k = 0; k < c->n_links; k++) {
        lip__shape_global(&c->link[k], s);
        if (!lip__shape_advance(&c->link[k], s, false))
            return false;
        lip__descent_take(d, k, s, true);
    }
    return true;
}

lip_err lip__lipsdp(const struct lip__chain *chain, const double *gram, const struct lip__limit *limit, double *q,
                    bool *found, bool *complete, lip_error *err)
{
    size_t n = chain->link[chain->n_links - 1].n,
           steps = limit ? lip__within(limit, lip__chain_flops(chain), STEPS) : 0;
    struct lip__descent d = {0};
    struct lip__shape s = {0};
    lip_err rc = lip__shape_open(lip__chain_widest(chain), &s, err);

    if (!rc)
        rc = lip__descent_open(chain, gram, &d, err);
    *found = !rc && begin(&d, &s);
    *complete = true;
    if (*found) {
        memcpy(q, s.q, n * n * sizeof *q);
        if (steps) {
            *complete = lip__descend(&d, NULL, steps, limit->deadline);
            if (lip__descent_prove(&d, limit->deadline, &s))
                memcpy(q, s.q, n * n * sizeof *q);
        }
    }
    lip__shape_close(&s);
    lip__descent_close(&d);
    return rc;
}
