/* tangent.c: the float32 pass of a map and its adjoint, layer by layer. */
#include "bounds/tangent.h"

#include <string.h>

lip_err lip__tangent_open(const struct lip__map *map, struct lip__tangent *t, lip_error *err)
{
    return lip__tangent_open_many(map, 1, t, err);
}

lip_err lip__tangent_open_many(const struct lip__map *map, size_t n, struct lip__tangent *t, lip_error *err)
{
    const lip_model *m = map->snapshot->model;
    bool whole;

    *t = (struct lip__tangent){.map = map};
    t->keep = lip__alloc(m->n_values, sizeof *t->keep);
    t->cotangent = lip__alloc(m->n_values, sizeof *t->cotangent);
    whole = t->keep && t->cotangent;
    for (size_t i = 0; whole && i < map->n_inputs + map->n; i++) {
        size_t value = i < map->n_inputs ? lip__map_input(map, i) : map->stage[i - map->n_inputs].value;

        if (!t->keep[value])
            whole = (t->keep[value] = lip__alloc(n, m->value[value].size * sizeof(float))) &&
                    (t->cotangent[value] = lip__alloc(n, m->value[value].size * sizeof(float)));
    }
    whole = (t->spare = lip__alloc(n, m->widest * sizeof(float))) && whole;
    whole = (t->scratch = lip__alloc(m->scratch + 16, sizeof(float))) && whole;
    return whole ? LIP_OK : lip__nomem(err, 2 * n * m->widest * sizeof(float));
}

void lip__tangent_close(struct lip__tangent *t)
{
    for (size_t i = 0; t->map && i < t->map->snapshot->model->n_values; i++) {
        if (t->keep)
            lip__free(t->keep[i]);
        if (t->cotangent)
            lip__free(t->cotangent[i]);
    }
    lip__free(t->scratch);
    lip__free(t->spare);
    lip__free(t->cotangent);
    lip__free(t->keep);
}

static struct lip__pass pass_of(const struct lip__tangent *t, size_t n, size_t i, const float **w, const float **x)
{
    const lip_snapshot *snapshot = t->map->snapshot;
    const struct lip__step *step = &snapshot->model->step[t->map->first + i];

    for (size_t r = 0; r < LIP__MAX_READ; r++)
        w[r] = step->read[r] == LIP__NOWHERE ? NULL : snapshot->data[step->read[r]];
    for (size_t j = 0; j < step->n_from; j++)
        x[j] = t->keep[step->from[j]];
    return (struct lip__pass){.n = n, .w = w, .scratch = t->scratch};
}

void lip__tangent_at(struct lip__tangent *t, const double *x)
{
    lip__tangent_at_many(t, 1, x);
}

void lip__tangent_at_many(struct lip__tangent *t, size_t n, const double *x)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < t->map->n_inputs; i++) {
            size_t v = lip__map_input(t->map, i), size = lip__map_size(t->map, v);

            for (size_t j = 0; j < size; j++)
                t->keep[v][r * size + j] = (float)*x++;
        }
    for (size_t i = 0; i < t->map->n; i++) {
        const float *w[LIP__MAX_READ], *read[LIP__MAX_JOINED];
        struct lip__pass pass = pass_of(t, n, i, w, read);
        const lip_layer *l = t->map->stage[i].layer;
        float *y = t->keep[t->map->stage[i].value];

        if (l->kind->merge)
            l->kind->merge(l, &pass, read, y);
        else
            l->kind->forward(l, &pass, read[0], y);
    }
}

static void backward(struct lip__tangent *t, size_t n)
{
    for (size_t i = t->map->n; i-- > 0;) {
        const struct lip__stage *stage = &t->map->stage[i];
        const float *w[LIP__MAX_READ], *read[LIP__MAX_JOINED], *dy = t->cotangent[stage->value];
        struct lip__pass pass = pass_of(t, n, i, w, read);
        const lip_layer *l = stage->layer;

        for (size_t j = 0; j < stage->n_from; j++) {
            float *to = t->cotangent[stage->from[j]];

            if (l->kind->merge)
                l->kind->unmerge(l, &pass, read, dy, j, t->spare);
            else
                l->kind->backward(l, &pass, read[0], t->keep[stage->value], dy, t->spare);
            for (size_t k = 0; k < n * lip__map_size(t->map, stage->from[j]); k++)
                to[k] += t->spare[k];
        }
    }
}

void lip__tangent_back(struct lip__tangent *t, const double *dy, double *dx)
{
    lip__tangent_back_many(t, 1, dy, dx);
}

void lip__tangent_back_many(struct lip__tangent *t, size_t n, const double *dy, double *dx)
{
    const struct lip__map *map = t->map;

    for (size_t i = 0; i < map->snapshot->model->n_values; i++)
        if (t->cotangent[i])
            memset(t->cotangent[i], 0, n * lip__map_size(map, i) * sizeof(float));
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < map->n_outputs; i++) {
            size_t v = map->output[i], size = lip__map_size(map, v);

            for (size_t j = 0; j < size; j++)
                t->cotangent[v][r * size + j] += (float)*dy++;
        }
    backward(t, n);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < map->n_inputs; i++) {
            size_t v = lip__map_input(map, i), size = lip__map_size(map, v);

            for (size_t j = 0; j < size; j++)
                *dx++ = t->cotangent[v][r * size + j];
        }
}
