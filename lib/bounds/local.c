/* local.c: psi = max(z, 0) between where it was and at most `reach` further.
 *
 * Its secants from z > 0 have slopes from z / reach on, where it comes to its corner, up to 1; from z < 0 slopes up to
 * 1 - |z| / reach; numbers that stay on their side have slope 1 or 0. z is known up to `off`.
 */
#include "bounds/local.h"

#include <string.h>

enum { WIDEST = 1024 };

lip_err lip__local_open(const struct lip__map *map, const double *constant, struct lip__local *l, lip_error *err)
{
    lip_err rc;

    *l = (struct lip__local){.gram = NULL};
    if (map->n_outputs != 1)
        return LIP_OK;
    rc = lip__chain_open(map, map->output[0], WIDEST, NULL, &l->chain, err);
    if (rc || !l->chain.n_links)
        return rc;
    l->base = constant[l->chain.start];
    l->gram = lip__alloc(l->chain.n, l->chain.n * sizeof *l->gram);
    if (!l->gram)
        return lip__nomem(err, l->chain.n * l->chain.n * sizeof *l->gram);
    lip__shape_first(&l->chain, l->gram);
    return LIP_OK;
}

void lip__local_close(struct lip__local *l)
{
    lip__free(l->gram);
    lip__chain_close(&l->chain);
}

static void secant(double z, double off, double reach, double *alpha, double *delta)
{
    double low = lip__down(z - off), high = lip__up(z + off), beta = 1;

    *alpha = *delta = 0;
    if (lip__up(high + reach) <= 0)
        return;
    if (lip__down(low - reach) >= 0) {
        *alpha = 1;
        return;
    }
    if (low > 0)
        *alpha = fmin(1, lip__down(low / reach));
    if (high < 0)
        beta = fmin(1, lip__up(1 + lip__up(high / reach)));
    *delta = lip__up(fmax(0, beta - *alpha));
}

bool lip__local_advance(const struct lip__local *l, const struct lip__room *room, size_t sample, const double *error,
                        double r, struct lip__shape *shape, struct lip__descent *descent, double *z)
{
    double far = lip__times_up(l->base, r);

    memcpy(shape->q, l->gram, l->chain.n * l->chain.n * sizeof *shape->q);
    for (size_t k = 0; k < l->chain.n_links; k++) {
        const struct lip__link *link = &l->chain.link[k];
        size_t size = link->basis == LIP__TWICE ? link->m / 2 : link->m;
        const double *value = room->value[link->value] + sample * size;
        double off = lip__chain_centre(link, value, z) * error[link->value];

        lip__shape_global(link, shape);
        for (size_t i = 0; link->known && i < link->m; i++)
            if (link->b[i] != 0)
                secant(z[i], (off + 2 * LIP__U * fabs(z[i])) * (1 + 8 * LIP__U),
                       lip__up(far * lip__up(sqrt(shape->q[i * link->m + i]))), &shape->alpha[i], &shape->delta[i]);
        if (!lip__shape_advance(link, shape, false))
            return false;
        lip__descent_take(descent, k, shape, false);
    }
    return true;
}
