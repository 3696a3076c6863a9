/* map.h: stages in order, each behind those that it reads: a model, or the part of it that is one layer with its
 * activation.
 */
#ifndef LIP_MAP_H
#define LIP_MAP_H

#include <onelip/bound.h>

#include "bounds/stage.h"

struct lip__map {
    const lip_snapshot *snapshot;
    size_t first, n;              /* steps of the model */
    struct lip__stage *stage;     /* n, proved */
    const size_t *input, *output; /* values of the model, side by side x and y; input NULL: the first ones */
    size_t n_inputs, n_outputs;
};

/* lip__map_open: all steps of a model, proved. lip__map_part: the n steps from `first` on, of which each reads the one
 * in front of it, proved. deadline (base.h): of all proofs together, which are coarser where it is short. Return as
 * lip__stage_open and lip__stage_prove. Memory: lip__map_close, on failure too. */
lip_err lip__map_open(const lip_snapshot *snapshot, uint64_t deadline, struct lip__map *map, lip_error *err);
lip_err lip__map_part(const lip_snapshot *snapshot, size_t first, size_t n, struct lip__map *map, lip_error *err);
void lip__map_close(struct lip__map *map);

/* lip__map_of: a part of a whole map, which keeps owning the stages. */
struct lip__map lip__map_of(const struct lip__map *whole, size_t first, size_t n);

size_t lip__map_input(const struct lip__map *map, size_t i);    /* the value that is input i */
size_t lip__map_size(const struct lip__map *map, size_t value); /* numbers of one sample */
size_t lip__map_inputs(const struct lip__map *map);             /* numbers per sample */
size_t lip__map_outputs(const struct lip__map *map);

/* lip__map_whole: the deadline cut off no proof. */
bool lip__map_whole(const struct lip__map *map);

/* lip__map_known: every stage's arithmetic is known, so it can be computed and its rounding bounded. */
bool lip__map_known(const struct lip__map *map);

/* Arrays for computing a map in double: one for each value of the model, for up to n samples. */
struct lip__room {
    size_t n;
    double **value; /* of each value of the model; NULL: not of this map */
    double *scratch;
};

lip_err lip__room_open(const struct lip__map *map, size_t n, struct lip__room *room, lip_error *err);
void lip__room_close(const struct lip__map *map, struct lip__room *room);

/* lip__map_value: room's values of n samples x (n, inputs). */
void lip__map_value(const struct lip__map *map, struct lip__room *room, size_t n, const double *x);

/* lip__map_constants: a Lipschitz constant of every value, from the inputs side by side; NAN: no rule. of: n_values. */
void lip__map_constants(const struct lip__map *map, double *of);
/* lip__map_constant: the map's, from those. */
double lip__map_constant(const struct lip__map *map, const double *of);

/* A part of a map for which something better is known: a constant of value `to` against value `from`. */
struct lip__shortcut {
    size_t from, to;
    double constant;
};

/* lip__map_shortened: the map's constant where n shortcuts count too. of: n_values, out. */
double lip__map_shortened(const struct lip__map *map, const struct lip__shortcut *cut, size_t n, double *of);

/* lip__map_error: how far values computed in an arithmetic may be from the real ones. size: a bound of the norm of each
 * real value; with `computed`, of each computed one. error: n_values, out. */
void lip__map_error(const struct lip__map *map, const struct lip__arithmetic *arithmetic, const double *size,
                    bool computed, double *error);

/* lip__map_norms: norms of sample r of every value in the room, rounded up; size: n_values. lip__map_output_error: of
 * all outputs side by side, from each value's. */
void lip__map_norms(const struct lip__map *map, const struct lip__room *room, size_t r, double *size);
double lip__map_output_error(const struct lip__map *map, const double *error);

/* lip__map_jacobian: j (outputs, inputs), each side by side: the derivative at x (inputs), computed in float32. Returns
 * LIP_OK, LIP_ENOMEM. */
lip_err lip__map_jacobian(const struct lip__map *map, const double *x, double *j, lip_error *err);

/* lip__map_layers: lip_bound_layer for every layer with arithmetic, from a whole map. lower: search for a lower bound
 * where there is no formula for it, until the deadline (base.h); else it is NAN there. layers: room for
 * lip_model_layers; *n are filled. */
lip_err lip__map_layers(const struct lip__map *map, bool lower, uint64_t deadline, lip_layer_bound *layers, size_t *n,
                        lip_error *err);

/* lip__map_deviation: how far the computed result may be from the real one for inputs of norm up to input_norm.
 * INFINITY where something could overflow or a stage is unknown. */
lip_err lip__map_deviation(const struct lip__map *map, const struct lip__arithmetic *arithmetic, double input_norm,
                           double *deviation, lip_error *err);

#endif
