/* map.c: models and layers as maps over the reals, and the rounding of float32 inference (certify.md C1). */
#include "bounds/map.h"

#include <stdint.h>
#include <string.h>

#include "bounds/tangent.h"

/* ---- maps ------------------------------------------------------------------------------------------------ */

static lip_err open_stages(const lip_snapshot *snapshot, uint64_t deadline, struct lip__map *map, lip_error *err)
{
    double left = 0;
    lip_err rc = lip__arithmetic_holds(err);

    if (rc)
        return rc;
    map->stage = lip__alloc(map->n, sizeof *map->stage);
    if (map->n && !map->stage)
        return lip__nomem(err, map->n * sizeof *map->stage);
    for (size_t i = 0; i < map->n && !rc; i++) {
        rc = lip__stage_open(snapshot, map->first + i, &map->stage[i], err);
        left += lip__stage_flops(&map->stage[i]);
    }
    for (size_t i = 0; i < map->n && !rc; i++) {
        double own = lip__stage_flops(&map->stage[i]);

        rc = lip__stage_prove(&map->stage[i], left > 0 ? lip__part_of(deadline, own / left) : deadline, err);
        left -= own;
    }
    return rc;
}

lip_err lip__map_open(const lip_snapshot *snapshot, uint64_t deadline, struct lip__map *map, lip_error *err)
{
    const lip_model *m = snapshot->model;

    *map = (struct lip__map){.snapshot = snapshot,
                             .n = m->n_steps,
                             .n_inputs = m->n_inputs,
                             .output = m->output_value,
                             .n_outputs = m->n_outputs};
    return open_stages(snapshot, deadline, map, err);
}

lip_err lip__map_part(const lip_snapshot *snapshot, size_t first, size_t n, struct lip__map *map, lip_error *err)
{
    *map = (struct lip__map){.snapshot = snapshot, .first = first, .n = n};
    lip_err rc = open_stages(snapshot, 0, map, err);
    struct lip__stage *stage = map->stage;

    if (!rc)
        *map = lip__map_of(map, first, n);
    map->stage = stage;
    return rc;
}

struct lip__map lip__map_of(const struct lip__map *whole, size_t first, size_t n)
{
    struct lip__stage *stage = whole->stage + (first - whole->first);

    return (struct lip__map){.snapshot = whole->snapshot,
                             .first = first,
                             .n = n,
                             .stage = stage,
                             .input = stage[0].from,
                             .n_inputs = stage[0].n_from,
                             .output = &stage[n - 1].value,
                             .n_outputs = 1};
}

void lip__map_close(struct lip__map *map)
{
    for (size_t i = 0; map->stage && i < map->n; i++)
        lip__stage_close(&map->stage[i]);
    lip__free(map->stage);
    map->stage = NULL;
}

size_t lip__map_input(const struct lip__map *map, size_t i)
{
    return map->input ? map->input[i] : i;
}

size_t lip__map_size(const struct lip__map *map, size_t value)
{
    return map->snapshot->model->value[value].size;
}

size_t lip__map_inputs(const struct lip__map *map)
{
    size_t all = 0;

    for (size_t i = 0; i < map->n_inputs; i++)
        all += lip__map_size(map, lip__map_input(map, i));
    return all;
}

size_t lip__map_outputs(const struct lip__map *map)
{
    size_t all = 0;

    for (size_t i = 0; i < map->n_outputs; i++)
        all += lip__map_size(map, map->output[i]);
    return all;
}

bool lip__map_whole(const struct lip__map *map)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].coarse)
            return false;
    return true;
}

bool lip__map_known(const struct lip__map *map)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].kind == LIP__STAGE_UNKNOWN)
            return false;
    return map->n > 0;
}

/* ---- values, constants, errors ------------------------------------------------------------------------------ */

lip_err lip__room_open(const struct lip__map *map, size_t n, struct lip__room *room, lip_error *err)
{
    size_t n_values = map->snapshot->model->n_values, scratch = 1, widest = 0;
    bool whole;

    *room = (struct lip__room){.n = n, .value = lip__alloc(n_values, sizeof *room->value)};
    for (size_t i = 0; i < map->n; i++)
        if (lip__stage_scratch(&map->stage[i]) > scratch)
            scratch = lip__stage_scratch(&map->stage[i]);
    room->scratch = lip__alloc(scratch, sizeof(double));
    whole = room->value && room->scratch;
    for (size_t i = 0; whole && i < map->n_inputs + map->n; i++) {
        size_t value = i < map->n_inputs ? lip__map_input(map, i) : map->stage[i - map->n_inputs].value;

        widest = lip__map_size(map, value);
        if (!room->value[value])
            whole = (room->value[value] = lip__alloc(n, widest * sizeof(double)));
    }
    return whole ? LIP_OK : lip__nomem(err, (n * widest + scratch) * sizeof(double));
}

void lip__room_close(const struct lip__map *map, struct lip__room *room)
{
    for (size_t i = 0; room->value && i < map->snapshot->model->n_values; i++)
        lip__free(room->value[i]);
    lip__free(room->value);
    lip__free(room->scratch);
}

/* What stage s reads, by its place in `value`. */
static const double *const *sources(const struct lip__stage *s, double *const *value, const double **x)
{
    for (size_t j = 0; j < s->n_from; j++)
        x[j] = value[s->from[j]];
    return x;
}

void lip__map_value(const struct lip__map *map, struct lip__room *room, size_t n, const double *x)
{
    size_t all = lip__map_inputs(map), at = 0;
    const double *read[LIP__MAX_JOINED];

    for (size_t i = 0; i < map->n_inputs; i++) {
        size_t size = lip__map_size(map, lip__map_input(map, i));

        for (size_t r = 0; r < n; r++)
            memcpy(room->value[lip__map_input(map, i)] + r * size, x + r * all + at, size * sizeof *x);
        at += size;
    }
    for (size_t i = 0; i < map->n; i++) {
        const struct lip__stage *s = &map->stage[i];

        lip__stage_value(s, n, sources(s, room->value, read), room->value[s->value], room->scratch);
    }
}

void lip__map_constants(const struct lip__map *map, double *of)
{
    lip__map_shortened(map, NULL, 0, of);
}

double lip__map_constant(const struct lip__map *map, const double *of)
{
    double all = of[map->output[0]];

    for (size_t i = 1; i < map->n_outputs; i++) {
        double next = of[map->output[i]];

        all = lip__up(sqrt(lip__up(lip__up(all * all) + lip__up(next * next))));
    }
    return all;
}

double lip__map_shortened(const struct lip__map *map, const struct lip__shortcut *cut, size_t n, double *of)
{
    for (size_t i = 0; i < map->n_inputs; i++)
        of[lip__map_input(map, i)] = 1;
    for (size_t i = 0; i < map->n; i++) {
        const struct lip__stage *s = &map->stage[i];

        of[s->value] = lip__times_up(s->gain, lip__stage_joined(s, of));
        for (size_t j = 0; j < n; j++)
            if (cut[j].to == s->value) /* fmin drops a NAN */
                of[s->value] = fmin(of[s->value], lip__times_up(cut[j].constant, of[cut[j].from]));
    }
    return lip__map_constant(map, of);
}

void lip__map_error(const struct lip__map *map, const struct lip__arithmetic *how, const double *size, bool computed,
                    double *error)
{
    for (size_t i = 0; i < map->n_inputs; i++) {
        size_t v = lip__map_input(map, i);

        error[v] =
            (how->store * size[v] + lip__up(sqrt((double)lip__map_size(map, v))) * how->store_eta) * (1 + 8 * LIP__U);
    }
    for (size_t i = 0; i < map->n; i++) {
        const struct lip__stage *s = &map->stage[i];
        double e = lip__stage_joined(s, error), all = lip__stage_joined(s, size);

        error[s->value] = lip__stage_error(s, how, computed ? all : lip__up(all + e), e);
    }
}

void lip__map_norms(const struct lip__map *map, const struct lip__room *room, size_t r, double *size)
{
    for (size_t i = 0; i < map->snapshot->model->n_values; i++)
        if (room->value[i])
            size[i] = lip__norm_up(room->value[i] + r * lip__map_size(map, i), lip__map_size(map, i));
}

double lip__map_output_error(const struct lip__map *map, const double *error)
{
    return lip__map_constant(map, error); /* the same root of a sum of squares */
}

/* ---- derivatives ------------------------------------------------------------------------------------------- */

lip_err lip__map_jacobian(const struct lip__map *map, const double *x, double *jacobian, lip_error *err)
{
    size_t in = lip__map_inputs(map), out = lip__map_outputs(map);
    double *dy = lip__alloc(out, sizeof *dy);
    struct lip__tangent t = {0};
    lip_err rc = dy ? lip__tangent_open(map, &t, err) : lip__nomem(err, out * sizeof *dy);

    if (!rc)
        lip__tangent_at(&t, x);
    for (size_t j = 0; !rc && j < out; j++) {
        dy[j] = 1;
        lip__tangent_back(&t, dy, jacobian + j * in);
        dy[j] = 0;
    }
    lip__tangent_close(&t);
    lip__free(dy);
    return rc;
}

/* ---- deviation --------------------------------------------------------------------------------------------- */

/* Norms of the real values for any input of norm R: the smaller of two bounds, by the constants from stage to stage,
 * and by their product from the value at 0. */
static void reach(const struct lip__map *map, double input_norm, const double *at_zero, const double *error_at_zero,
                  const double *constant, double *size)
{
    for (size_t i = 0; i < map->n_inputs; i++)
        size[lip__map_input(map, i)] = lip__up(input_norm);
    for (size_t i = 0; i < map->n; i++) {
        const struct lip__stage *s = &map->stage[i];
        size_t v = s->value;

        size[v] = fmin((s->gain * lip__stage_joined(s, size) + s->added) * (1 + 8 * LIP__U),
                       (at_zero[v] + error_at_zero[v] + constant[v] * lip__up(input_norm)) * (1 + 8 * LIP__U));
    }
}

lip_err lip__map_deviation(const struct lip__map *map, const struct lip__arithmetic *how, double input_norm,
                           double *deviation, lip_error *err)
{
    size_t n = map->snapshot->model->n_values;
    struct lip__room room = {0};
    double *numbers = lip__alloc(4 * n, sizeof *numbers), *zeros = lip__alloc(lip__map_inputs(map), sizeof *zeros);
    double *at_zero = numbers, *error = numbers + n, *constant = numbers + 2 * n, *size = numbers + 3 * n, all;
    lip_err rc = numbers && zeros ? lip__room_open(map, 1, &room, err) : lip__nomem(err, 4 * n * sizeof *numbers);

    *deviation = INFINITY;
    if (!rc && lip__map_known(map)) {
        lip__map_value(map, &room, 1, zeros);
        lip__map_norms(map, &room, 0, at_zero);
        lip__map_error(map, &lip__float64, at_zero, true, error);
        lip__map_constants(map, constant);
        reach(map, input_norm, at_zero, error, constant, size);
        lip__map_error(map, how, size, false, error);
        all = lip__map_output_error(map, error);
        *deviation = isfinite(all) ? all : INFINITY;
    }
    lip__room_close(map, &room);
    lip__free(zeros);
    lip__free(numbers);
    return rc;
}
