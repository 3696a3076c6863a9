/* group_sort.c: sort each run of n neighbouring channels into ascending order, times k.
 *
 *     y[.., g n + i] = k * (i-th smallest of x[.., g n .. g n + n-1])
 *
 * Sorting only permutes: where no two values of a run are equal the Jacobian is k times a permutation matrix, so gradients
 * keep their norm and the layer is exactly k-Lipschitz. Equal values keep their order, as in deel-lip, with one exception
 * that TensorFlow's minimum and maximum bring for n = 2: both outputs are copies of the first, and it gets both gradients.
 *
 * Source: Anil, Lucas and Grosse, "Sorting Out Lipschitz Function Approximation", ICML 2019; deel-lip.
 */
#include <stdint.h>
#include <string.h>

#include "layers/family.h"

struct group_sort {
    lip_layer base;
    long n; /* 0: all channels; build resolves it, and get_config reports what it found */
    const char *data_format;
};

enum { RUN = 16 }; /* runs of this length are ranked, then merged */

static size_t channels(const lip_layer *l)
{
    return l->in.dim[l->in.rank - 1];
}

static size_t group(const lip_layer *l)
{
    return (size_t)((const struct group_sort *)l)->n;
}

static lip_err check(lip_layer *l, lip_error *err)
{
    const struct group_sort *g = (const struct group_sort *)l;

    if (g->data_format && !strcmp(g->data_format, "channels_first"))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "data_format is \"channels_first\"; it sorts the last axis only");
    if (g->n < 0)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "n is %ld, needs an integer >= 1, or null for all channels", g->n);
    return LIP_OK;
}

/* deel-lip's constructor does the same, whatever n was given. */
static lip_err check_2(lip_layer *l, lip_error *err)
{
    ((struct group_sort *)l)->n = 2;
    return check(l, err);
}

static lip_err check_full(lip_layer *l, lip_error *err)
{
    ((struct group_sort *)l)->n = 0;
    return check(l, err);
}

static lip_err build(lip_layer *l, lip_error *err)
{
    struct group_sort *g = (struct group_sort *)l;

    if (!l->in.rank)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape [], needs at least one axis beside the batch");
    if (!g->n || (size_t)g->n > channels(l))
        g->n = (long)channels(l);
    if (channels(l) % group(l))
        return lip__layer_fail(l, err, LIP_ESHAPE, "n has to be a divisor of the number of channels; n is %ld, channels are %zu",
                               g->n, channels(l));
    return LIP_OK;
}

/* ---- runs of two ------------------------------------------------------------------------------------ */

/* A NaN makes both outputs NaN. */
LIP__CLONES static void sort_pairs(const float *restrict x, size_t pairs, float k, float *restrict y)
{
    for (size_t i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        float low = b < a ? b : a, high = b > a ? b : a;
        y[2 * i] = k * (b != b ? b : low);
        y[2 * i + 1] = k * (b != b ? b : high);
    }
}

LIP__CLONES static void unsort_pairs(const float *restrict x, size_t pairs, float k, const float *restrict dy,
                                     float *restrict dx)
{
    for (size_t i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1], low = k * dy[2 * i], high = k * dy[2 * i + 1];
        float tie = low + high;
        dx[2 * i] = a == b ? tie : b < a ? high : low;
        dx[2 * i + 1] = a == b ? 0 : b < a ? low : high;
    }
}

/* ---- runs of any length ----------------------------------------------------------------------------- */

/* A whole number in the order of the float: sign and magnitude become two's complement. -0 counts as 0, a NaN as more than
 * infinity, so that every value has its place. Comparing whole numbers leaves no branch to guess. */
static int32_t key(float x)
{
    int32_t bits;

    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 & INT32_MAX);
}

/* order <- first, first + 1, ... by ascending key, equal ones in their order: each pair is compared once. */
static inline __attribute__((always_inline)) void rank(const int32_t *k, size_t first, size_t n, uint32_t *order)
{
    uint32_t place[RUN] = {0};

    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            uint32_t later = k[j] < k[i];
            place[i] += later;
            place[j] += 1 - later;
        }
    for (size_t i = 0; i < n; i++)
        order[place[i]] = (uint32_t)(first + i);
}

/* Short groups come often: with their length known there is no loop left. */
LIP__CLONES static void rank_run(const int32_t *k, size_t first, size_t n, uint32_t *order)
{
    if (n == 4)
        rank(k, first, 4, order);
    else if (n == 8)
        rank(k, first, 8, order);
    else
        rank(k, first, n, order);
}

static void merge(const int32_t *k, const uint32_t *left, size_t n_left, const uint32_t *right, size_t n_right,
                  uint32_t *out)
{
    while (n_left && n_right) {
        size_t take = k[*right] < k[*left];
        *out++ = take ? *right : *left;
        right += take, n_right -= take;
        left += 1 - take, n_left -= 1 - take;
    }
    memcpy(out, left, n_left * sizeof *out);
    memcpy(out + n_left, right, n_right * sizeof *out);
}

/* The places of x's values from the smallest up, in scratch of 3 n. */
static const uint32_t *sorted(const float *x, size_t n, float *scratch)
{
    uint32_t *order = (uint32_t *)scratch, *spare = order + n;
    int32_t *k = (int32_t *)(spare + n);

    for (size_t i = 0; i < n; i++)
        k[i] = key(x[i]);
    for (size_t at = 0; at < n; at += RUN)
        rank_run(k + at, at, n - at < RUN ? n - at : RUN, order + at);
    for (size_t run = RUN; run < n; run *= 2) {
        for (size_t at = 0; at < n; at += 2 * run) {
            size_t left = n - at < run ? n - at : run, right = n - at - left < run ? n - at - left : run;
            merge(k, order + at, left, order + at + left, right, spare + at);
        }
        uint32_t *swap = order;
        order = spare;
        spare = swap;
    }
    return order;
}

static size_t scratch(const lip_layer *l)
{
    return 3 * group(l); /* two orders of 32-bit places, and the keys */
}

/* ---- both ------------------------------------------------------------------------------------------- */

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t n = group(l), count = p->n * lip_shape_count(&l->in);
    float k = (float)l->k;

    if (n == 2) {
        sort_pairs(x, count / 2, k, y);
        return;
    }
    for (size_t at = 0; at < count; at += n) {
        const uint32_t *from = sorted(x + at, n, p->scratch);
        for (size_t i = 0; i < n; i++)
            y[at + i] = k * x[at + from[i]];
    }
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    size_t n = group(l), count = p->n * lip_shape_count(&l->in);
    float k = (float)l->k;

    (void)y;
    if (n == 2) {
        unsort_pairs(x, count / 2, k, dy, dx);
        return;
    }
    for (size_t at = 0; at < count; at += n) {
        const uint32_t *from = sorted(x + at, n, p->scratch);
        for (size_t i = 0; i < n; i++)
            dx[at + from[i]] = k * dy[at + i];
    }
}

static double constant(const lip_layer *l)
{
    return l->k;
}

#define FIELDS(default_n)                                                                                               \
    {                                                                                                                   \
        {"n", LIP__INT, LIP__FIELD(group_sort, n), .def = (default_n), .min = 1, .max = INT32_MAX, .flags = LIP__NONE_OK}, \
            LIP__K_FIELD,                                                                                               \
            {"data_format", LIP__CHOICE, LIP__FIELD(group_sort, data_format), .choices = "channels_last|channels_first"}, \
        {                                                                                                               \
            .name = NULL                                                                                                \
        }                                                                                                               \
    }

static const struct lip__field fields[] = FIELDS(NAN);
static const struct lip__field fields_2[] = FIELDS(2);

const struct lip__kind lip__group_sort = {
    .cls = {.name = "GroupSort", .module = "deel.lip.layers.activations", .package = "deel-lip",
            .size = sizeof(struct group_sort), .fields = fields},
    .flags = LIP__LIPSCHITZ | LIP__ACTIVATES,
    .check = check,
    .build = build,
    .forward = forward,
    .backward = backward,
    .scratch = scratch,
    .constant = constant,
};

const struct lip__kind lip__group_sort2 = {
    .cls = {.name = "GroupSort2", .module = "deel.lip.layers.activations", .package = "deel-lip",
            .size = sizeof(struct group_sort), .fields = fields_2},
    .flags = LIP__LIPSCHITZ | LIP__ACTIVATES,
    .check = check_2,
    .build = build,
    .forward = forward,
    .backward = backward,
    .scratch = scratch,
    .constant = constant,
};

const struct lip__kind lip__full_sort = {
    .cls = {.name = "FullSort", .module = "deel.lip.layers.activations", .package = "deel-lip",
            .size = sizeof(struct group_sort), .fields = fields},
    .flags = LIP__LIPSCHITZ | LIP__ACTIVATES,
    .check = check_full,
    .build = build,
    .forward = forward,
    .backward = backward,
    .scratch = scratch,
    .constant = constant,
};
