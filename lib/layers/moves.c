/* moves.c: Keras's Reshape, Permute and ZeroPadding2D: numbers move, none changes, so each is exactly 1-Lipschitz. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "layers/family.h"

struct moves {
    lip_layer base;
    struct lip__ints list; /* target_shape, dims */
    size_t edges[4];       /* top, bottom, left, right */
    const char *data_format;
};

static const struct moves *moves(const lip_layer *l)
{
    return (const struct moves *)l;
}

static const char *list_text(const struct lip__ints *list, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "[");

    for (size_t i = 0; i < list->n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%ld", i ? "," : "", list->v[i]);
    if (at < size)
        snprintf(text + at, size - at, "]");
    return text;
}

/* ---- Reshape ---------------------------------------------------------------------------------------------- */

static lip_err reshape(lip_layer *l, lip_error *err)
{
    const struct lip__ints *list = &moves(l)->list;
    size_t all = lip_shape_count(&l->in), known = 1, open = list->n;
    char wanted[200], found[128];

    list_text(list, wanted, sizeof wanted);
    l->out.rank = list->n;
    for (size_t i = 0; i < list->n; i++) {
        if (list->v[i] == -1 && open < list->n)
            return lip__layer_fail(l, err, LIP_EDEFINITION, "target_shape %s has more than one -1", wanted);
        if (list->v[i] != -1 && list->v[i] < 1)
            return lip__layer_fail(l, err, LIP_EDEFINITION, "target_shape is %s, needs integers >= 1 and at most one -1",
                                   wanted);
        if (list->v[i] == -1)
            open = i;
        else if (__builtin_mul_overflow(known, (size_t)list->v[i], &known))
            known = SIZE_MAX;
        l->out.dim[i] = list->v[i] == -1 ? 1 : (size_t)list->v[i];
    }
    if (open < list->n ? known > all || all % known : known != all)
        return lip__layer_fail(l, err, LIP_ESHAPE, "target_shape %s does not hold its input %s", wanted,
                               lip_shape_text(lip_layer_input_shape(l), found, sizeof found));
    if (open < list->n)
        l->out.dim[open] = all / known;
    return LIP_OK;
}

static void copy(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    memcpy(y, x, p->n * lip_shape_count(&l->in) * sizeof *y);
}

static void copy_back(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                      float *dx)
{
    (void)x, (void)y;
    copy(l, p, dy, dx);
}

/* ---- Permute: axis i of the output is axis dims[i] of the input, counted from 1 -------------------------------- */

static lip_err order(lip_layer *l, lip_error *err)
{
    const struct lip__ints *list = &moves(l)->list;
    unsigned seen = 0;
    char text[200];

    for (size_t i = 0; i < list->n; i++)
        if (list->v[i] >= 1 && list->v[i] <= (long)l->in.rank)
            seen |= 1u << (list->v[i] - 1);
    if (list->n != l->in.rank || seen != (1u << l->in.rank) - 1)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "dims %s is no order of the axes 1 to %zu",
                               list_text(list, text, sizeof text), l->in.rank);
    for (size_t i = 0; i < list->n; i++)
        l->out.dim[i] = l->in.dim[list->v[i] - 1];
    return LIP_OK;
}

/* By how much the axes go round: dims [k+1, .., rank, 1, .., k]; 0: they do something else. */
static size_t rotation(const lip_layer *l)
{
    const struct lip__ints *list = &moves(l)->list;
    size_t by = (size_t)list->v[0] - 1;

    for (size_t i = 0; i < list->n; i++)
        if ((size_t)list->v[i] != (i + by) % list->n + 1)
            return 0;
    return by;
}

/* to (columns, rows) <- from (rows, columns). */
static void transpose(size_t rows, size_t columns, const float *from, float *to)
{
    enum { TILE = 16 };

    for (size_t i0 = 0; i0 < rows; i0 += TILE)
        for (size_t j0 = 0; j0 < columns; j0 += TILE)
            for (size_t j = j0; j < j0 + TILE && j < columns; j++)
                for (size_t i = i0; i < i0 + TILE && i < rows; i++)
                    to[j * rows + i] = from[i * columns + j];
}

/* Walks the outputs of n samples in their order; `in` is where each comes from. */
static void permute(const lip_layer *l, size_t n, const float *from, float *to, bool back)
{
    size_t rank = l->out.rank, per = lip_shape_count(&l->in), step[LIP_MAX_RANK], stride = 1, of_input[LIP_MAX_RANK];

    if (rotation(l)) {
        size_t rows = 1;
        for (size_t d = 0; d < rotation(l); d++)
            rows *= l->in.dim[d];
        for (size_t s = 0; s < n; s++)
            transpose(back ? per / rows : rows, back ? rows : per / rows, from + s * per, to + s * per);
        return;
    }
    for (size_t d = rank; d-- > 0; stride *= l->in.dim[d])
        of_input[d] = stride;
    for (size_t d = 0; d < rank; d++)
        step[d] = of_input[moves(l)->list.v[d] - 1];
    for (size_t s = 0; s < n; s++, from += per, to += per) {
        size_t at[LIP_MAX_RANK] = {0}, in = 0;
        for (size_t out = 0; out < per; out++) {
            to[back ? in : out] = from[back ? out : in];
            for (size_t d = rank; d-- > 0;) { /* count up */
                in += step[d];
                if (++at[d] < l->out.dim[d])
                    break;
                in -= at[d] * step[d];
                at[d] = 0;
            }
        }
    }
}

static void permute_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    permute(l, p->n, x, y, false);
}

static void permute_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                             float *dx)
{
    (void)x, (void)y;
    permute(l, p->n, dy, dx, true);
}

/* ---- ZeroPadding2D ------------------------------------------------------------------------------------------ */

static lip_err pad_build(lip_layer *l, lip_error *err)
{
    const size_t *e = moves(l)->edges;
    lip_err rc;

    if ((rc = lip__image_check(l, err)) != LIP_OK)
        return rc;
    l->out = LIP__SHAPE(l->in.dim[0] + e[0] + e[1], l->in.dim[1] + e[2] + e[3], l->in.dim[2]);
    return LIP_OK;
}

/* Each row of n images, `width` floats: where it begins in them (inner) and in the padded ones (outer). */
#define EACH_ROW(l, n, inner, outer, width, body)                                                                  \
    do {                                                                                                           \
        const size_t *e_ = moves(l)->edges, c_ = (l)->in.dim[2], width = (l)->in.dim[1] * c_;                      \
        for (size_t s_ = 0; s_ < (n); s_++)                                                                        \
            for (size_t i_ = 0; i_ < (l)->in.dim[0]; i_++) {                                                       \
                size_t inner = (s_ * (l)->in.dim[0] + i_) * width;                                                 \
                size_t outer = ((s_ * (l)->out.dim[0] + i_ + e_[0]) * (l)->out.dim[1] + e_[2]) * c_;               \
                body;                                                                                              \
            }                                                                                                      \
    } while (0)

static void pad_forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    memset(y, 0, p->n * lip_shape_count(&l->out) * sizeof *y);
    EACH_ROW(l, p->n, in, out, width, memcpy(y + out, x + in, width * sizeof *y));
}

static void pad_backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                         float *dx)
{
    (void)x, (void)y;
    EACH_ROW(l, p->n, in, out, width, memcpy(dx + in, dy + out, width * sizeof *dx));
}

/* ---- kinds -------------------------------------------------------------------------------------------------- */

static const struct lip__field reshape_fields[] = {
    {"target_shape", LIP__INTS, LIP__FIELD(moves, list), .def = NAN, .min = -1, .max = INT32_MAX},
    {.name = NULL},
};

static const struct lip__field permute_fields[] = {
    {"dims", LIP__INTS, LIP__FIELD(moves, list), .def = NAN, .min = 1, .max = LIP_MAX_RANK},
    {.name = NULL},
};

static const struct lip__field pad_fields[] = {
    {"padding", LIP__EDGES, LIP__FIELD(moves, edges), .def = 1, .min = 0, .max = UINT16_MAX},
    {"data_format", LIP__CHOICE, LIP__FIELD(moves, data_format), .choices = "channels_last|channels_first"},
    {.name = NULL},
};

const struct lip__kind lip__reshape = {
    .cls = {.name = "Reshape", .module = "keras.layers", .size = sizeof(struct moves), .fields = reshape_fields},
    .flags = LIP__MOVES,
    .build = reshape,
    .forward = copy,
    .backward = copy_back,
    .constant = lip__one,
    .claimed = lip__one,
};

/* deel-lip claims nothing of the other two. */
const struct lip__kind lip__permute = {
    .cls = {.name = "Permute", .module = "keras.layers", .size = sizeof(struct moves), .fields = permute_fields},
    .flags = LIP__MOVES,
    .build = order,
    .forward = permute_forward,
    .backward = permute_backward,
    .constant = lip__one,
};

const struct lip__kind lip__zero_padding2d = {
    .cls = {.name = "ZeroPadding2D", .module = "keras.layers", .size = sizeof(struct moves), .fields = pad_fields},
    .flags = LIP__MOVES,
    .build = pad_build,
    .forward = pad_forward,
    .backward = pad_backward,
    .constant = lip__one,
};

lip_layer *lip__turn_new(const lip_shape *shape, bool to_last)
{
    lip_layer *l = lip__layer_new(&lip__permute);

    if (!l)
        return NULL;
    struct lip__ints *list = &((struct moves *)l)->list;
    list->n = shape->rank;
    for (size_t i = 0; i < shape->rank; i++)
        list->v[i] = (long)((i + (to_last ? 1 : shape->rank - 1)) % shape->rank) + 1;
    l->name = lip__strdup("");
    if (l->name && lip__layer_build(l, shape, NULL) == LIP_OK)
        return l;
    lip__layer_free(l);
    return NULL;
}
