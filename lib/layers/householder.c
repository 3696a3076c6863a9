/* householder.c: reflect pairs of channels (i, i + C/2) at a learnt line.
 *
 *     z1 sin(theta/2) - z2 cos(theta/2) <= 0:  (a, b) = (z1, z2), else
 *     a = z1 cos(theta) + z2 sin(theta),   b = z1 sin(theta) - z2 cos(theta)
 *
 * Both sides are isometries that agree on the line between them, so the layer is exactly 1-Lipschitz. deel-lip stores and
 * counts k, and never multiplies by it; nor does this. The choice of side is not differentiated.
 *
 * Source: Singla, Singla and Feizi, ICLR 2022; deel-lip.
 */
#include <string.h>

#include "layers/family.h"

struct householder {
    lip_layer base;
    const char *data_format;
    struct lip__object *theta_initializer; /* NULL: pi/2, which sorts the pair */
};

static size_t channels(const lip_layer *l)
{
    return l->in.dim[l->in.rank - 1];
}

/* ---- the initial angle when none is given ---------------------------------------------------------------- */

static lip_err quarter_turn(const struct lip__object *self, const lip_shape *shape, lip_random *random, float *x,
                            lip_error *err)
{
    (void)self, (void)random, (void)err;
    for (size_t i = 0; i < lip_shape_count(shape); i++)
        x[i] = 1.57079632679489662f;
    return LIP_OK;
}

static const struct lip__field no_fields[] = {{.name = NULL}};
static const struct lip__initializer_class quarter_turn_class = {
    .cls = {.name = "QuarterTurn", .module = "", .size = sizeof(struct lip__object), .fields = no_fields},
    .fill = quarter_turn,
};
static const struct lip__object quarter_turns = {&quarter_turn_class.cls};

/* ---- the layer ---------------------------------------------------------------------------------------------- */

static lip_err check(lip_layer *l, lip_error *err)
{
    const struct householder *h = (const struct householder *)l;

    if (h->data_format && !strcmp(h->data_format, "channels_first"))
        return lip__layer_fail(l, err, LIP_EDEFINITION, "data_format is \"channels_first\"; it pairs the last axis only");
    return LIP_OK;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    const struct householder *h = (const struct householder *)l;

    if (!l->in.rank)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape [], needs at least one axis beside the batch");
    if (channels(l) % 2)
        return lip__layer_fail(l, err, LIP_ESHAPE, "2 has to be a divisor of the number of channels, which is %zu", channels(l));
    lip__declare(l, "theta", LIP_OTHER, &LIP__SHAPE(channels(l) / 2), h->theta_initializer ? h->theta_initializer : &quarter_turns,
                 NULL, NULL);
    return LIP_OK;
}

/* sin and cos of theta and of theta/2, (4, C/2). */
static const float *angles(const lip_layer *l, const struct lip__pass *p)
{
    size_t half = channels(l) / 2;
    float *a = p->scratch;

    for (size_t j = 0; j < half; j++) {
        a[j] = sinf(p->w[0][j]);
        a[half + j] = cosf(p->w[0][j]);
        a[2 * half + j] = sinf(p->w[0][j] / 2);
        a[3 * half + j] = cosf(p->w[0][j] / 2);
    }
    return a;
}

static size_t scratch(const lip_layer *l)
{
    return 3 * channels(l); /* the angles, and the gradient in double */
}

LIP__CLONES static void reflect(size_t rows, size_t half, const float *restrict a, const float *restrict x,
                                float *restrict y)
{
    for (size_t i = 0; i < rows; i++, x += 2 * half, y += 2 * half)
        for (size_t j = 0; j < half; j++) {
            float z1 = x[j], z2 = x[half + j], one = z1 * a[half + j] + z2 * a[j], two = z1 * a[j] - z2 * a[half + j];
            bool other_side = z1 * a[2 * half + j] - z2 * a[3 * half + j] > 0;
            y[j] = other_side ? one : z1;
            y[half + j] = other_side ? two : z2;
        }
}

/* A reflection is its own adjoint. */
LIP__CLONES static void reflect_back(size_t rows, size_t half, const float *restrict a, const float *restrict x,
                                     const float *restrict dy, float *restrict dx)
{
    for (size_t i = 0; i < rows; i++, x += 2 * half, dy += 2 * half, dx += 2 * half)
        for (size_t j = 0; j < half; j++) {
            float d1 = dy[j], d2 = dy[half + j], one = d1 * a[half + j] + d2 * a[j], two = d1 * a[j] - d2 * a[half + j];
            bool other_side = x[j] * a[2 * half + j] - x[half + j] * a[3 * half + j] > 0;
            dx[j] = other_side ? one : d1;
            dx[half + j] = other_side ? two : d2;
        }
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t half = channels(l) / 2, rows = p->n * (lip_shape_count(&l->in) / channels(l));

    reflect(rows, half, angles(l, p), x, y);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    size_t half = channels(l) / 2, rows = p->n * (lip_shape_count(&l->in) / channels(l));

    (void)y;
    reflect_back(rows, half, angles(l, p), x, dy, dx);
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t half = channels(l) / 2, rows = p->n * (lip_shape_count(&l->in) / channels(l));
    const float *a = angles(l, p);
    double *sum = (double *)(p->scratch + 4 * half);

    if (!p->dw[0])
        return;
    memset(sum, 0, half * sizeof *sum);
    for (size_t i = 0; i < rows; i++, x += 2 * half, dy += 2 * half)
        for (size_t j = 0; j < half; j++) {
            float z1 = x[j], z2 = x[half + j], sine = a[j], cosine = a[half + j];
            if (z1 * a[2 * half + j] - z2 * a[3 * half + j] > 0)
                sum[j] += dy[j] * (z2 * cosine - z1 * sine) + dy[half + j] * (z1 * cosine + z2 * sine);
        }
    for (size_t j = 0; j < half; j++)
        p->dw[0][j] = (float)sum[j];
}

static const struct lip__field fields[] = {
    LIP__K_FIELD,
    {"data_format", LIP__CHOICE, LIP__FIELD(householder, data_format), .choices = "channels_last|channels_first"},
    {"theta_initializer", LIP__OBJECT, LIP__FIELD(householder, theta_initializer), .def = NAN, .of = lip__initializers},
    {.name = NULL},
};

const struct lip__kind lip__householder = {
    .cls = {.name = "Householder", .module = "deel.lip.layers.activations", .package = "deel-lip",
            .size = sizeof(struct householder), .fields = fields},
    .flags = LIP__LIPSCHITZ | LIP__ACTIVATES,
    .check = check,
    .build = build,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .scratch = scratch,
    .constant = lip__one,
};
